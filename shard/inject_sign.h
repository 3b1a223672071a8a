/*
 * inject_sign: DKIM signatures of a message that is being accepted; private to inject*.c.
 *
 * When the header is known: whose signatures, over which fields, hashed at once, and a field for
 * each with room for what is not known yet. The body is hashed in both canonical forms that are
 * wanted as it arrives. When the message is complete it waits in a line of the shard until the
 * signer takes it, and goes on to the log when its fields are filled in. A message has the
 * signatures that any of its recipients' queues wants, each once. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/list.h"
#include "core/mail/dkim_field.h"
#include "core/mail/header_scan.h"
#include "net/signer.h"

#define INTAKE_SIGNATURES_MAX 8u

struct intake_message;
struct shard;

struct intake_signature {
    struct sign_key *key;    /* a reference */
    struct sign_hash header; /* of the fields that are signed */
    uint32_t offset;         /* of its field in the payload */
    uint32_t open_bytes;     /* of the field up to b= */
    uint8_t header_canon;
    uint8_t body_canon;
    struct dkim_places places;
};

/* Slab object. */
struct intake_signing {
    struct list link; /* in the line */
    struct intake_message *intake;
    uint32_t index;
    uint32_t count;
    uint32_t open; /* signatures that are being made */
    bool wants[2]; /* by enum dkim_canon */
    struct sign_hash hashes[2];
    struct dkim_body bodies[2];
    struct intake_signature at[INTAKE_SIGNATURES_MAX];
};

/* What a header says about its own signing (x-dkim-options, x-dkim-key). */
struct inject_sign_wish {
    bool has_options;
    struct slice selector; /* empty: it does not say; so the next two */
    struct slice domain;
    struct slice identity;
    struct slice query;
    struct sign_key *key; /* or NULL */
};

/* What dkim_options says, unfolded, into *wish. NULL, or why it cannot be. */
const char *inject_sign_wish_parse(struct slice options, struct inject_sign_wish *wish);
/*
 * The content has begun with its prefix, and the header follows: held, but for the cuts. 0, or
 * negative as inject_chunks_write; E_REFUSED with the intake's refusal.
 */
int inject_sign_begin(struct intake_message *intake, struct slice held,
                      const struct header_facts *facts, const struct inject_sign_wish *wish);
/* Octets behind the header. */
void inject_sign_body(struct intake_message *intake, const uint8_t *data, size_t len);
/* The message is complete: true when it waits, and inject_finish_signed follows. */
bool inject_sign_wait(struct intake_message *intake);
void inject_sign_release(struct intake_message *intake);
void inject_sign_init(struct shard *shard);
void inject_sign_fini(struct shard *shard);
