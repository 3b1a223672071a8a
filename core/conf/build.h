/*
 * build: turns a parsed tree into a snapshot; private to core/conf.
 *
 * Every part reports what it finds and goes on, so that one run shows all errors. When errors were
 * reported the snapshot is incomplete and only good for being dropped. One thread.
 */
#pragma once

#include "core/conf/limit.h"
#include "core/conf/macro.h"
#include "core/conf/snapshot.h"
#include "core/conf/tree.h"

struct build {
    struct conf *conf;
    const struct tree *tree;
    struct report *report;
    const struct conf_load_options *options;
    struct macro_set macros;
    uint32_t layers;          /* given out so far */
    bool has_source_hosts;    /* of the top level */
    struct ipaddr *addresses; /* of this machine, asked for when the first block needs them */
    uint32_t address_count;
    bool addresses_known;
    struct loaded_key **key_files; /* lists by the hash of the path, while keys are read */
    struct way_block *ways;        /* blocks that hand mail on, the last one first */
};

/* 0, or -errno for what is no fault of the configuration (not reported). */
int build_snapshot(struct conf *conf, const struct tree *tree,
                   const struct conf_load_options *options, struct report *report);

void build_presets(struct build *build);
void build_global(struct build *build);
int build_macros(struct build *build);
/* The <domain> blocks in a section. */
int build_blocks(struct build *build, const struct section *section, uint32_t layer);
int build_vmtas(struct build *build);
/* After build_vmtas. */
void build_proxies(struct build *build);
int build_sources(struct build *build);
/* A name that counts without being named: {auth}, {pickup} or {transmissions-api}. */
bool source_is_built_in(struct slice name);
/* The name of a source that a line gives (or NULL) must be that of one. */
void source_check_name(struct build *build, const char *name, const char *file, unsigned line);
/* The names of an allow-virtual-mta line must be those of virtual MTAs and pools. */
void source_check_ways(struct build *build, const struct entry *entry);
/* Before build_sources. 0, or -ENOMEM. */
int build_groups(struct build *build);
/* The <smtp-user> sections; after build_sources. 0, or -ENOMEM. */
int build_users(struct build *build);
/* Needs the ids of virtual MTAs and pools, hence only for a tree without errors. */
void build_source_effects(struct build *build);
int build_intern(struct build *build);
/* A limit that counts once for each pair of a provider, or its tenant, and a source address. */
const struct conf_limit *build_limit_by_provider(struct build *build, const char *name,
                                                 const char *file, uint32_t line, uint32_t scope,
                                                 enum conf_quantity quantity,
                                                 const struct value *value);
/* The source-ip-max-* lines of a section. */
void build_source_limits(struct build *build, const struct section *section,
                         struct settings *settings);
/* Needs the ids of virtual MTAs. 0, or -ENOMEM. */
int build_limits(struct build *build);
/* The mail that a limit or a warm-up fits, from the texts of its lists. 0, or -ENOMEM. */
int build_limit_fits(struct build *build, struct conf_limit *limit);
/* The <warm-up> sections; as build_limits. */
int build_warmups(struct build *build);
/* A <domain> block was read: keeps note of it when it hands mail on. */
void build_way_note(struct build *build, const struct pattern *pattern, uint32_t layer,
                    const struct settings *settings);
/* Needs the ids of virtual MTAs; reports blocks whose mail would go round in a circle. */
int build_ways(struct build *build);
/* Needs all blocks, and ids. 0, or -ENOMEM. */
int build_rollups(struct build *build);
/* The hosts of a roll-up, for its queue, where that has no route of its own. */
void rollup_apply(const struct conf *conf, struct slice domain, struct conf_queue *queue);
/* Postmasters, our names, and what notices are written with. */
void build_notices(struct build *build);
void build_spools(struct build *build);
void build_acct_files(struct build *build);
/* The <dns> sections, with the file that they name. */
void build_precache(struct build *build);

/* ---- For the parts ------------------------------------------------------------------------- */

/* A name that nothing is called by. An error; where an included file was missing, a warning: it may
 * stand there. */
void build_missing_name(struct build *build, const char *file, unsigned line, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));
/* Why macro_expand or macro_check returned E_SYNTAX, behind the text and a colon. */
void build_macro_error(struct build *build, const char *file, unsigned line, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));

/* The entries of a section that are gathered the same way; those before a "" do not count. */
struct entry_list {
    const struct entry **items;
    uint32_t count;
};

struct entry_list build_entries(struct build *build, const struct section *section,
                                enum directive_store store);
uint32_t build_count_children(const struct section *section, enum scope scope);
/* Writes the field that an entry sets. */
void build_field(struct build *build, const struct entry *entry, void *target);
/* Writes all fields that the entries of a section set; "" writes the default. */
void build_fields(struct build *build, const struct section *section, void *target);
/* The settings of a block: those that write fields or are stored as `also`, then the others. */
const struct settings *build_settings(struct build *build, const struct section *section,
                                      enum directive_store also);
/* True, and why, when it is a setting about where mail is written that cannot be. */
bool build_delivery_why(const struct setting *setting, const char **ret_why);
/* Source addresses of a section, of the lines stored so, or NULL and 0 when it has none. */
const struct conf_source_address *build_source_hosts(struct build *build,
                                                     const struct section *section,
                                                     enum directive_store store, const char *helo,
                                                     uint32_t *ret_count);
