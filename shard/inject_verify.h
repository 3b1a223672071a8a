/*
 * inject_verify: DKIM signatures that a message brings along, verified; private to inject*.c.
 *
 * When the header is known: the first VERIFY_SIGNATURES_MAX signatures are read, their header
 * fields hashed at once, their keys asked for. The body is hashed as it arrives. A message that is
 * complete waits for keys that are not here yet, VERIFY_TIMEOUT_MS at most. What comes of it is
 * told in the Authentication-Results field, in whose text room is left for it; nothing is refused
 * for it. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/text.h"
#include "core/mail/dkim_claim.h"
#include "net/dns.h"
#include "net/sign.h"

#define VERIFY_SIGNATURES_MAX 5u
#define VERIFY_TIMEOUT_MS     20000u
#define VERIFY_COUNT_MAX      4096u /* messages of a shard at once */

struct intake_message;
struct shard;

struct intake_claim {
    struct dns_lookup lookup;
    struct intake_verify *verify;
    bool is_open;   /* its key is asked for */
    uint8_t result; /* enum dkim_result; DKIM_NONE = not known yet */
    uint8_t body;   /* which of the bodies is its */
    const char *why;
    uint32_t offset; /* of its result in the payload */
    uint8_t digest[SIGN_DIGEST_BYTES];
    char domain[DKIM_DOMAIN_MAX + 1];
    struct dkim_claim claim; /* of its texts only the domain's outlives the header */
    struct dkim_public_key key;
};

/* Slab object; about 15 KB, for messages of sources with check-dkim-inbound alone. */
struct intake_verify {
    struct list link; /* among those that have questions out */
    struct intake_message *intake;
    struct io_timer timer;
    uint32_t index;
    uint32_t count;
    uint32_t open_count;
    uint32_t body_count;
    bool is_waiting; /* the message is complete */
    struct sign_hash hashes[VERIFY_SIGNATURES_MAX];
    struct dkim_body bodies[VERIFY_SIGNATURES_MAX];
    struct intake_claim at[VERIFY_SIGNATURES_MAX];
};

/* The header, held, as it came: 0, or E_FULL. */
int inject_verify_begin(struct intake_message *intake, struct slice held, bool is_whole);
/* Octets behind the header. */
void inject_verify_body(struct intake_message *intake, const uint8_t *data, size_t len);
/* The signatures' part of the field whose text begins at the end of the payload. */
void inject_verify_put(struct intake_message *intake, struct text *text);
/* The message is complete: true when it waits, and inject_on_verified follows. */
bool inject_verify_wait(struct intake_message *intake);
void inject_verify_release(struct intake_message *intake);
/* No key is waited for any more. */
void inject_verify_stop(struct shard *shard);
void inject_verify_init(struct shard *shard);
void inject_verify_fini(struct shard *shard);
