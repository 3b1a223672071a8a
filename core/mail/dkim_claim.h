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

/* What the DNS says of a key of ours. */
enum dkim_record {
    DKIM_RECORD_MATCHES,
    DKIM_RECORD_OTHER_KEY,
    DKIM_RECORD_REVOKED, /* p= is empty */
    DKIM_RECORD_UNFIT,   /* k=, h= or s= is not for its signatures */
    DKIM_RECORD_BROKEN,  /* it is no key's record, or cannot be read */
    /* What no record says: */
    DKIM_RECORD_MISSING,
    DKIM_RECORD_SEVERAL, /* RFC 6376 3.6.2.2: what verifiers do then is undefined */
    DKIM_RECORD_UNKNOWN, /* it could not be looked up */
    DKIM_RECORD_COUNT,
};

const char *dkim_record_name(enum dkim_record record);

/* Flags of a record (t=), which change no verdict here. */
struct dkim_record_flags {
    bool is_testing; /* y: verifiers treat failures as if there were no signature */
    bool is_strict;  /* s: i= may not be of a domain below d= */
};

/*
 * Whether the record is that of a key: its p= as the DNS should have it, in base64. For RSA both
 * forms are taken that verifiers take, RFC 6376's RSAPublicKey and the usual SubjectPublicKeyInfo.
 * *ret_why: constant, NULL when it matches.
 */
enum dkim_record dkim_record_judge(struct slice record, bool is_ed25519, struct slice public_part,
                                   struct dkim_record_flags *ret_flags, const char **ret_why);
