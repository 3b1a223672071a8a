/*
 * dkim_claim: what a DKIM-Signature field says, and the record of its key (RFC 6376 3.5, 3.6.1).
 *
 * The other side of dkim_field.h: the field is somebody else's, so its tags are taken apart and
 * judged before anything is hashed for it. Pure; no allocation, any thread.
 */
#pragma once

#include "core/base/slice.h"
#include "core/mail/dkim_field.h"

#define DKIM_KEY_OCTETS_MAX 1024u /* more than a key of RSA-4096 has */
#define DKIM_NAMES_MAX      1024u /* octets of h= */

/* As RFC 8601 2.7.1 calls what came of a signature. */
enum dkim_result {
    DKIM_NONE,
    DKIM_PASS,
    DKIM_FAIL,
    DKIM_NEUTRAL, /* it cannot be read */
    DKIM_TEMPERROR,
    DKIM_PERMERROR,
};

const char *dkim_result_name(enum dkim_result result);

struct dkim_claim {
    bool is_ed25519; /* else RSA */
    enum dkim_canon header_canon;
    enum dkim_canon body_canon;
    struct slice domain;   /* d=, in the field; so the next two */
    struct slice selector; /* s= */
    struct slice identity; /* i='s part behind the '@'; that of d= when there is no i= */
    bool has_length;
    uint64_t octets;    /* l= */
    uint64_t expires_s; /* x=; 0 = none */
    uint8_t body_hash[DKIM_BODY_HASH];
    size_t signature_bytes;
    uint8_t signature[DKIM_SIGNATURE_MAX];
    struct slice signature_text; /* the value of b=, folds and all: not a part of what is signed */
    char names[DKIM_NAMES_MAX];  /* h=, between commas */
};

/* value: of the field, folds included. NULL; or why it is no signature that could be verified, and
 * what that makes of it. */
const char *dkim_claim_parse(struct slice value, struct dkim_claim *ret_claim,
                             enum dkim_result *ret_result);

/* A key as the DNS has it. */
struct dkim_public_key {
    bool is_ed25519;
    size_t bytes;
    uint8_t octets[DKIM_KEY_OCTETS_MAX];
};

/* Whether the record is a key's that may have made the claim's signature: NULL, or why not. */
const char *dkim_key_parse(struct slice record, const struct dkim_claim *claim,
                           struct dkim_public_key *ret_key);
