/*
 * directives: the one table of every keyword and every section of the configuration language.
 *
 * Parser, defaults, docs/directives.md and tests are derived from it. A row says what a value
 * looks like, which range it has, where the keyword may stand, whether it may be repeated, what a
 * reload does with it, and whether it has an effect. A keyword may have several rows as long as no
 * two of them share a scope. Read-only data; any thread.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/slice.h"

#include <stdint.h>
#include <stdio.h>

/* Where a keyword or a section may stand. tag is "" for the top level of the file. */
enum scope {
    SCOPE_GLOBAL,
    SCOPE_SOURCE,
    SCOPE_DOMAIN,
    SCOPE_VMTA,
    SCOPE_POOL,
    SCOPE_SPOOL,
    SCOPE_ACCT_FILE,
    SCOPE_SMTP_USER,
    SCOPE_SOURCE_GROUP,
    SCOPE_SMTP_LISTENER,
    SCOPE_BOUNCE_PROCESSOR,
    SCOPE_FEEDBACK_LOOP_PROCESSOR,
    SCOPE_DNS,
    SCOPE_PROXY,
    SCOPE_VAULT,
    SCOPE_LIMIT,
    SCOPE_WARMUP,
    SCOPE_PROVIDER,
    SCOPE_LINES, /* every section whose lines are no directives */
    SCOPE_COUNT,
};

#define SCOPE_BIT(scope) (1u << (scope))

/* Upper bounds of the rows that need no tighter one; docs do not mention them. */
#define BOUND_COUNT 1000000000ull
#define BOUND_TIME  (3660ull * 86400000)
#define BOUND_SIZE  (1ull << 50)

/* How a value is written; value.c has one parser for each. */
enum directive_type {
    TYPE_BOOLEAN,
    TYPE_TIME,
    TYPE_TIME_LIST,
    TYPE_SIZE,
    TYPE_RATE,
    TYPE_VOLUME_RATE,
    TYPE_COUNT,
    TYPE_PER_HOUR,
    TYPE_STRING,
    TYPE_NAME,
    TYPE_NAME_LIST,
    TYPE_TEXT,
    TYPE_WORDS,
    TYPE_PATH,
    TYPE_ADDRESS,
    TYPE_ADDRESS_LIST,
    TYPE_ENUM,
    TYPE_ENUM_LIST,
    TYPE_HOST,
    TYPE_DOMAIN_LIST,
    TYPE_IP_PORT,
    TYPE_LISTENER,
    TYPE_SOURCE_HOST,
    TYPE_CIDR_ACCESS,
    TYPE_CIDR_COUNT,
    TYPE_CIDR_RATE,
    TYPE_CIDR_VOLUME_RATE,
    TYPE_CPU_LIST,
    TYPE_ROUTE_LIST,
    TYPE_NO_YES_TIME,
    TYPE_MACRO,
    TYPE_INCLUDE,
    TYPE_COUNT_OF_TYPES,
};

enum directive_flag {
    FLAG_REPEAT = 1,         /* every occurrence counts; else the last one of a section does */
    FLAG_UNLIMITED = 2,      /* "unlimited" and "never" are values too */
    FLAG_ZERO_UNLIMITED = 4, /* 0 means unlimited */
    FLAG_AUTO = 8,           /* "auto" is a value too and reads as 0 */
    FLAG_OURS = 16,          /* not PowerMTA's; times may be given in ms */
    FLAG_SECRET = 32,        /* never shown */
};

/* What becomes of a changed value on reload. */
enum directive_reload {
    RELOAD_LIVE,    /* counts from the next use on */
    RELOAD_DRAIN,   /* counts for new connections; open ones end as they began */
    RELOAD_RESTART, /* counts after a restart */
};

enum directive_effect {
    EFFECT_DONE,
    EFFECT_LATER,   /* accepted, checked, no effect yet */
    EFFECT_IGNORED, /* accepted and ignored for good */
    EFFECT_REFUSED, /* an error that says what to write instead: names that only rumour knows */
    EFFECT_COUNT,
};

/* What is done with a value that has an effect. */
enum directive_store {
    STORE_NOTHING, /* the parser itself sees to it, or there is no effect */
    /* Written into a field of the section's struct at the row's offset. */
    STORE_BOOL,
    STORE_U16,
    STORE_U32,
    STORE_U64,
    STORE_TEXT,
    STORE_ROUTE,
    STORE_RETRY,
    STORE_RCPT_RETRY,
    STORE_BACKOFF_RETRY,
    STORE_NO_MX,
    STORE_RATE,
    STORE_CERTIFICATE, /* with its key */
    STORE_USER_CERTIFICATE,
    STORE_AUTHORITIES,
    STORE_CIPHERS,
    /* Gathered while the snapshot is built. */
    STORE_HOST_NAME,
    STORE_POSTMASTER,
    STORE_NAME_SERVER,
    STORE_LISTENER,
    STORE_OLD_PORT,
    STORE_OLD_ADDRESS,
    STORE_SPOOL,
    STORE_SOURCE_HOST,
    STORE_SHARD_CPUS,
    STORE_POOL_MEMBER,
    STORE_COLD_MEMBER,
    STORE_AUTO_COLD,
    STORE_DEFAULT_VMTA,
    STORE_LISTENER_SOURCE,
    STORE_LISTENER_AWAITS,
    STORE_PICKUP,
    STORE_PROXY_SOURCE,
    STORE_PROXY_SERVER,
    STORE_PROXY_CLIENT,
    STORE_PROXY_VERSION,
    STORE_SOURCE_LIMIT,
    STORE_HOST_LIMIT,
    STORE_RELAY_DOMAIN,
    STORE_RELAY_ADDRESS,
    STORE_ALIAS,
    STORE_DOMAIN_KEY,
    STORE_PROVIDER,       /* read by provider_build.c */
    STORE_PROVIDER_LIMIT, /* likewise, by tiers */
    STORE_ACCT_FIELDS,
    STORE_ACCT_MAPS,
    STORE_ACCT_FILTER,
    STORE_COUNT,
};

struct directive {
    const char *name;
    enum directive_type type;
    const char *choices; /* of an enumeration: "a|b"; of several words: what each of them is */
    uint64_t min;
    uint64_t max;
    const char *preset; /* the default, in the language itself; NULL when there is none */
    uint32_t scopes;    /* SCOPE_BIT of each */
    unsigned flags;
    enum directive_reload reload;
    enum directive_effect effect;
    const char *reason; /* why it is ignored or refused */
    enum directive_store store;
    uint16_t offset;
    const char *doc;
};

enum section_name {
    SECTION_MAY_HAVE_NAME,
    SECTION_HAS_NAME,
};

struct section_kind {
    const char *tag;
    enum scope scope;     /* of the keywords inside */
    const char *argument; /* what stands behind the tag, for docs */
    enum section_name name;
    uint32_t parents; /* SCOPE_BIT of each scope it may stand in */
    enum directive_effect effect;
    const char *reason;
    const char *doc;
};

uint32_t directive_count(void);
const struct directive *directive_at(uint32_t position);
uint32_t directive_position(const struct directive *row);

/* Finds rows by name; built for one load, since the table itself is constant data. */
struct directive_index {
    struct table table;
};

/* 0, or -ENOMEM. */
int directive_index_init(struct directive_index *index);
void directive_index_fini(struct directive_index *index);
/* NULL when there is none. ASCII case is ignored. */
const struct directive *directive_find(const struct directive_index *index, struct slice name,
                                       enum scope scope);
/* Any row of that name, wherever it may stand. */
const struct directive *directive_find_anywhere(const struct directive_index *index,
                                                struct slice name);
/* The name that the writer may have meant, or NULL when none is near. */
const char *directive_nearest(struct slice name, enum scope scope);

uint32_t section_count(void);
const struct section_kind *section_at(uint32_t position);
uint32_t section_position(const struct section_kind *kind);
const struct section_kind *section_find(struct slice tag);
const char *section_nearest(struct slice tag);
/* "<domain>", or "the top level". */
const char *scope_title(enum scope scope);
/* "boolean", "time", ... and how such a value is written. */
const char *type_title(enum directive_type type);
const char *type_doc(enum directive_type type);
