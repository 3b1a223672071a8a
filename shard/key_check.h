/*
 * key_check: looks up what the DNS says of DKIM keys, and judges it (RFC 6376 3.6).
 *
 * A check has a row for each key; KEY_CHECK_OPEN_MAX lookups are under way at once, by the resolver
 * that mail goes by. It holds all that it needs itself, so the configuration may change meanwhile.
 * Belongs to the thread of its loop; nothing waits. What came of it is a value: nothing is decided
 * here.
 */
#pragma once

#include "core/io/io.h"
#include "core/mail/dkim_claim.h"
#include "net/dns.h"
#include "net/sign.h"

#define KEY_CHECK_OPEN_MAX 32u
#define KEY_CHECK_WHY_MAX  96u

struct key_row {
    char *selector;
    char *domain; /* "*": any, so there is no record to look up */
    char *place;  /* "virtual-mta a"; empty = the top level */
    char *before; /* the selector that signs instead, or NULL */
    struct sign_key *key;
    uint64_t id;   /* of selector, domain and key, see key_check_id */
    bool is_first; /* of its place, for its domain and algorithm */
    /* The result; DKIM_RECORD_UNKNOWN until then. */
    enum dkim_record record;
    struct dkim_record_flags flags;
    char why[KEY_CHECK_WHY_MAX]; /* empty when it matches */
};

struct key_check;

struct key_check *key_check_new(struct io *io, struct dns *dns);
/* domain: instead of the key's own, unless it is empty. */
void key_check_add(struct key_check *check, const struct conf_key_place *place,
                   const struct conf_domain_key *key, struct slice domain);
/* done comes once, not from inside; it may free the check. What is open after timeout_ms is not
 * known. */
void key_check_start(struct key_check *check, uint32_t timeout_ms,
                     void (*done)(struct key_check *check, void *context), void *context);
/* Also while it is under way. NULL is fine. */
void key_check_free(struct key_check *check);
struct key_row *key_check_rows(struct key_check *check, uint32_t *ret_count);
/* Names what is looked up, and the key it is to have. */
uint64_t key_check_id(const struct conf_domain_key *key);
