/*
 * snapshot: what a struct conf consists of; private to core/conf.
 *
 * Filled by build.c and its helpers in one thread, then never altered.
 */
#pragma once

#include "core/base/arena.h"
#include "core/base/hash.h"
#include "core/conf/conf.h"
#include "core/conf/pattern.h"
#include "core/conf/provider_table.h"
#include "core/conf/value.h"

#include <stdatomic.h>

#define LAYER_GLOBAL 0
#define LAYER_NONE   UINT32_MAX

/* One keyword of a block, with the place where it stands. */
struct setting {
    const struct directive *row;
    struct value value;
    const char *text; /* as it was written */
    const char *file;
    uint32_t line;
    bool cleared; /* "" was given: the value is the default */
};

/* What one block says: first what has an effect, then the rest, for those who want to see it. */
struct settings {
    const struct setting *items;
    uint32_t count;                              /* of those that have an effect */
    uint32_t all_count;                          /* of all */
    const struct conf_category_list *categories; /* its <bounce-category-patterns>, or NULL */
    struct conf_limit_list *source_limits;       /* [CONF_QUANTITIES], or NULL when it has none */
};

struct vmta_slot {
    struct conf_vmta vmta;
    uint32_t layer;                          /* of its own <domain> blocks, or LAYER_NONE */
    uint32_t pool_layer;                     /* of those of its pool, or LAYER_NONE */
    const struct settings *own;              /* what its section says; NULL for {default} */
    const struct settings *pool;             /* what its last pool says, or NULL */
    const struct settings *connections_from; /* the pool that max-smtp-out comes from, or NULL */
    const struct settings *rate_from;        /* likewise max-smtp-msg-rate */
    const struct settings *volume_from;      /* likewise max-smtp-data-volume-rate */
    bool has_own_connections;
    bool has_own_rate;
    bool has_own_rewrites;
    bool has_own_headers;
    bool has_own_tier; /* or its pool's */
    bool has_own_volume;
    const struct conf_key_list *keys;      /* its own; NULL = none */
    const struct conf_key_list *pool_keys; /* of the last pool that has some; likewise */
    const char *made_by; /* the section whose auto-cold-virtual-mta lines it comes from, or NULL */
};

/* A <source> block by address; parent is the next wider one, or the number of "none". */
struct source_block {
    struct cidr block;
    uint32_t parent;
};

/*
 * Every combination of address block and named source is worked out in advance, once for loopback
 * addresses and once for others, so that looking one up writes nothing. Number 0 stands for "no
 * block" and "no name".
 */
struct source_table {
    struct source_block *blocks; /* [1 … block_count] */
    uint32_t block_count;
    struct table by_block;
    uint64_t prefixes[2][3]; /* bit n: some block of n prefix bits, for IPv4 and IPv6 */
    uint32_t everything;     /* number of the block 0/0, which holds IPv6 too; 0 = none */
    struct slice *names;     /* [1 … name_count] */
    uint32_t name_count;
    struct table by_name;
    struct conf_source *effective; /* [loopback][block][name] */
};

struct conf {
    atomic_uint references;
    struct arena arena;
    struct value *presets; /* defaults by row */
    struct conf_global global;
    struct zone zone; /* of warm-up-time-zone */
    struct conf_queue queue_preset;
    const struct settings *top; /* the top level */
    struct pattern_index domains;
    struct vmta_slot *vmtas;
    uint32_t vmta_count;
    struct table vmta_by_name;
    /* Where each virtual MTA is by its id, CONF_NONE for ids that are not of this snapshot: it is
     * asked for many times a message. Ids are given one after the other (intern.h). */
    uint32_t *vmta_position;
    uint32_t vmta_id_end;
    struct table vmta_by_address; /* its source addresses; the first virtual MTA of each */
    struct conf_pool *pools;
    uint32_t pool_count;
    struct table pool_by_name;
    struct table pool_by_id;
    struct conf_pattern_list *pattern_lists;
    uint32_t pattern_list_count;
    struct provider_table providers;
    struct rollup *rollups;
    uint32_t rollup_count;
    struct table rollup_by_name;
    struct rollup_line *rollup_lines;
    uint32_t rollup_line_count;
    struct conf_reply_list *reply_lists;
    uint32_t reply_list_count;
    struct alias_table *aliases; /* NULL = none */
    struct included_file *included;
    const struct slice *postmasters;
    uint32_t postmaster_count;
    const struct slice *own_names; /* all that host-name says, or the machine's */
    uint32_t own_name_count;
    struct conf_address_list *relay; /* NULL = none */
    struct conf_rewrite_list *rewrite_lists;
    uint32_t rewrite_list_count;
    struct conf_address_list *address_lists;
    uint32_t address_list_count;
    struct conf_regex *regexes; /* of all lists, to be freed */
    struct source_table sources;
    struct conf_source_group *groups;
    uint32_t group_count;
    struct conf_smtp_user *users;
    uint32_t user_count;
    struct table user_by_name;
    uint32_t login_iterations;
    struct conf_acct_file *acct_files;
    uint32_t acct_file_count;
    struct conf_limit *limit_list; /* all, the last one first */
    struct conf_limit **limits;    /* [limit_count], in the order of the file */
    struct conf_limit **limit_blocks;
    struct conf_limit **limit_hosts;
    uint32_t limit_count;
    uint32_t limit_block_count;
    uint32_t limit_host_count;
    struct conf_warmup *warmups; /* in the order of the file */
    uint32_t warmup_count;
    bool has_sender_warmups;
    struct table limit_by_id;
    struct slice noted_headers[CONF_NOTED_HEADERS_MAX]; /* texts of the files' layouts */
    uint32_t noted_header_count;
    struct override_layer *overrides; /* the most general ones first */
    uint32_t override_count;
    const struct conf_key_list *keys; /* of the top level; never NULL */
    struct conf_key_place *key_places;
    struct conf_key_place *key_lists; /* by next_list; also those without keys */
    uint64_t key_lists_hash;
    struct loaded_key *loaded_keys;
    const struct conf_key_ops *key_ops;
    struct loaded_file *loaded_files; /* certificates and authorities */
    const struct conf_tls_ops *tls_ops;
    bool has_certificate_users;
    bool signs; /* some <domain> block or override has mail signed */
    bool keeps_transfers;
    bool uses_mta_sts;     /* some <domain> block or override wants it */
    bool has_ways;         /* some <domain> block hands mail on, see conf_way */
    bool has_backoff_ways; /* likewise, in backoff mode */
};

/* Gathers noted_headers from the accounting files; false when they are too many. */
bool conf_note_headers(struct conf *conf);
uint32_t source_find_block(const struct source_table *sources, const struct ipaddr *ip,
                           unsigned max_bits);
uint32_t source_find_name(const struct source_table *sources, struct slice name);
/* NULL when the snapshot has none of that id. */
const struct vmta_slot *vmta_slot_of(const struct conf *conf, uint32_t id);
/* Each block that says something of the queue, the one that counts last. */
void conf_visit_blocks(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                       pattern_visit_fn *visit, void *context);
/* Position of a VMTA or pool, or TABLE_NONE. */
uint32_t vmta_find(const struct conf *conf, struct slice name);
uint32_t pool_find(const struct conf *conf, struct slice name);
