/*
 * dkim: what the configuration says about signatures: for each queue how, and whose keys there are.
 *
 * core knows no cryptography: who loads a configuration brings the functions that read a key, and
 * the snapshot holds what they return until it is freed. Without them, and where only the syntax
 * counts, no file is opened and no key is there. Read-only like the snapshot; any thread.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/slice.h"

#define CONF_KEY_WHY_MAX 256u

enum conf_dkim_sign {
    CONF_DKIM_NO,
    CONF_DKIM_YES,
    CONF_DKIM_IF_OPTIONS, /* if the message has x-dkim-options */
};

enum conf_dkim_algorithm {
    CONF_DKIM_RSA_SHA256,
    CONF_DKIM_RSA_SHA1, /* refused */
    CONF_DKIM_ED25519,
};

enum conf_dkim_missing {
    CONF_DKIM_REJECT,
    CONF_DKIM_DEFER,
    CONF_DKIM_SEND, /* unsigned */
};

/* Who makes them (dkim-sign-with). */
enum conf_sign_with {
    CONF_SIGN_AUTO,   /* the helper where it is the faster one */
    CONF_SIGN_DAEMON, /* the daemon itself */
    CONF_SIGN_HELPER, /* the helper, if there is one */
};

/* One signature; the texts live as long as the snapshot, equal ones are not one. */
struct conf_dkim {
    uint32_t sign;            /* enum conf_dkim_sign */
    uint32_t algorithm;       /* enum conf_dkim_algorithm */
    uint32_t body_canon;      /* as enum dkim_canon of core/mail */
    uint32_t header_canon;    /* likewise */
    const char *headers;      /* besides the usual ones, between commas; or NULL */
    const char *closed;       /* dkim-disallow-adding-headers; likewise */
    const char *identity;     /* address, "@domain", "sender-or-from", "strict-from" */
    const char *fallback;     /* likewise, or NULL */
    const char *query_method; /* or NULL */
    uint64_t expire_after_ms; /* CONF_UNLIMITED = never */
    bool add_timestamp;
    bool add_body_limit;
};

struct conf_signing {
    struct conf_dkim each[2]; /* the second one is second-dkim-* */
    uint32_t missing_key;     /* enum conf_dkim_missing */
    /* remove-header: names between commas, or NULL. What a queue takes out must not be signed. */
    const char *removed;
};

struct conf_key_ops {
    /* 0, a key and enum conf_dkim_algorithm; or negative and the reason. */
    int (*load)(const char *path, void **ret_key, uint32_t *ret_algorithm,
                char why[CONF_KEY_WHY_MAX]);
    void (*drop)(void *key);
    void *(*share)(void *key);       /* one more holder, who drops it too */
    uint64_t (*id)(const void *key); /* equal for equal keys alone */
};

/* A domain-key line. */
struct conf_domain_key {
    const char *selector;
    struct slice domain; /* lower case; "*" = any */
    const char *path;
    void *key; /* of conf_key_ops; NULL = not loaded */
    uint32_t algorithm;
    uint64_t id; /* of key; 0 = not loaded */
    /* In its list, of those with the same domain and algorithm, in the file's order: the next one,
     * and of the first one the last. NULL = none. */
    struct conf_domain_key *next;
    struct conf_domain_key *last;
    /* Signs instead of it, see conf_keys_hold; or NULL. */
    const struct conf_domain_key *before;
};

struct conf_key_list {
    struct conf_domain_key *items;
    uint32_t count;
    struct table by_domain; /* and algorithm: the number of the first one */
    uint64_t hash;          /* of all that counts for who signs */
};

/* A part of the configuration where keys stand. */
struct conf_key_place {
    const char *kind; /* of its section; "" = the top level */
    const char *name;
    struct conf_key_list keys;
    struct conf_key_place *next;      /* in the file's order */
    struct conf_key_place *next_list; /* <domain-key-list> */
};

struct conf;

/* Whether any queue has its mail signed. */
bool conf_signs(const struct conf *conf);
/* The part of conf_queue that is about signatures, at less cost. */
void conf_signing(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                  struct conf_signing *ret_signing);
/*
 * The key for the mail of a domain (lower case A-label): of the virtual MTA's own, else of its
 * pool's, else of the top level's; of several the one whose domain is that or above it and
 * longest, "*" last, of equals the first. Only keys for the algorithm, and with that selector
 * unless it is empty. NULL when there is none.
 */
const struct conf_domain_key *conf_domain_key(const struct conf *conf, uint32_t vmta_id,
                                              struct slice domain, uint32_t algorithm,
                                              struct slice selector);
/* The same of a <domain-key-list> alone, which signs only what asks for it. NULL too when there is
 * no such list. */
const struct conf_domain_key *conf_domain_key_listed(const struct conf *conf, struct slice list,
                                                     struct slice domain, uint32_t algorithm,
                                                     struct slice selector);
/* Every place with keys, or NULL. */
const struct conf_key_place *conf_key_places(const struct conf *conf);
/* Whether it is the one of its list that is taken for its domain and algorithm. */
bool conf_key_is_first(const struct conf_key_place *place, const struct conf_domain_key *key);
/* Two virtual MTAs, of any two snapshots, with equal ones sign alike. */
uint64_t conf_keys_hash(const struct conf *conf, uint32_t vmta_id);
/* The same of what a queue says about signatures. */
uint64_t conf_signing_hash(const struct conf_signing *signing);

/* Whether the DNS is known to have the key's record. */
typedef bool conf_key_seen_fn(void *context, const struct conf_domain_key *key);
/*
 * Before `next` is shared: a key that is new, and whose record has not been seen, does not sign
 * yet; the one that signs in the running snapshot for the same domain goes on. Not with
 * dkim-wait-for-record no, and not for "*", which has no record to look for. Returns how many wait.
 */
uint32_t conf_keys_hold(struct conf *next, const struct conf *running, conf_key_seen_fn *is_seen,
                        void *context);
