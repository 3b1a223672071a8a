/*
 * dkim: what the configuration says about signatures: for each queue how, and whose keys there are.
 *
 * core knows no cryptography: who loads a configuration brings the functions that read a key, and
 * the snapshot holds what they return until it is freed. Without them, and where only the syntax
 * counts, no file is opened and no key is there. Read-only like the snapshot; any thread.
 */
#pragma once

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
};

/* A domain-key line. */
struct conf_domain_key {
    const char *selector;
    struct slice domain; /* lower case; "*" = any */
    const char *path;
    void *key; /* of conf_key_ops; NULL = not loaded */
    uint32_t algorithm;
};

struct conf_key_list {
    const struct conf_domain_key *items;
    uint32_t count;
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
