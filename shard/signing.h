/*
 * signing: the DKIM signatures of a message that comes to be here, by injection or as a notice.
 *
 * When the header is known: whose signatures, over which fields, hashed at once, and a field for
 * each with room for what is not known yet. The body is hashed in both canonical forms that are
 * wanted as it arrives. A complete message waits in a line of the shard until the signer takes it;
 * its fields are filled in then. A message has the signatures that any of its recipients' queues
 * wants, each once. The same machine signs again what is about to leave (resign.h); its fields are
 * then in a copy of the header. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/list.h"
#include "core/mail/dkim_field.h"
#include "core/mail/header_scan.h"
#include "net/signer.h"
#include "queue/signatures.h"

#define SIGNING_COUNT_MAX  8u
#define SIGNING_PREFIX_MAX 98304u

struct message;
struct shard;
struct sign_room;

struct signing_field {
    struct sign_key *key;    /* a reference */
    struct sign_hash header; /* of the fields that are signed */
    uint32_t offset;         /* of its field in the payload */
    uint32_t open_bytes;     /* of the field up to b= */
    uint8_t header_canon;
    uint8_t body_canon;
    struct dkim_places places;
};

/* Slab object. */
struct signing {
    struct list link; /* in the line */
    struct shard *shard;
    struct message *message;
    uint8_t *octets; /* where the fields are, at their offsets; NULL = in the message */
    void (*done)(struct signing *signing); /* all are made, or is_damaged */
    void *owner;
    uint32_t index;
    uint32_t count;
    uint32_t open; /* signatures that are being made */
    bool is_damaged;
    bool wants[2]; /* by enum dkim_canon */
    struct sign_hash hashes[2];
    struct dkim_body bodies[2];
    bool are_known[2]; /* by an older signature, so the body is not needed */
    uint8_t known[2][SIGN_DIGEST_BYTES];
    struct signing_field at[SIGNING_COUNT_MAX];
};

/* What a header says about its own signing (x-dkim-options, x-dkim-key). */
struct signing_wish {
    bool has_options;
    struct slice selector; /* empty: it does not say; so the next ones */
    struct slice domain;
    struct slice identity;
    struct slice query;
    struct slice list;    /* whose keys alone are asked */
    struct sign_key *key; /* or NULL */
};

/* While signatures are chosen. The caller fills in the first part. */
struct signing_choice {
    struct shard *shard;
    uint32_t vmta_id;
    uint64_t message_id;
    uint64_t wall_us;
    const struct signing_wish *wish;
    bool is_own;  /* written here: without a key it goes unsigned, there is nobody to be refused */
    bool is_late; /* it is about to leave: without a key it is put off where it would be refused */
    /* Of E_REFUSED. */
    uint16_t refusal_code;
    const char *refusal; /* constant */
    /* signing's: */
    struct sign_room *room;
    uint32_t key_vmta_id;     /* whose keys are asked: the virtual MTA that a recipient leaves by */
    char missing_domain[256]; /* for the log */
};

/* What dkim_options says, unfolded, into *wish. NULL, or why it cannot be. */
const char *signing_wish_parse(struct slice options, struct signing_wish *wish);
/* False when there is no memory. */
bool signing_choice_init(struct signing_choice *choice);
/* SIGNING_PREFIX_MAX octets that stay until the next message is looked at, for fields that are not
 * in memory in one piece. */
uint8_t *signing_prefix_room(struct signing_choice *choice);
/* Fields in the order in which they leave, but for the cuts (NULL = none). False: too many. */
bool signing_add_fields(struct signing_choice *choice, struct slice octets,
                        const struct header_facts *cuts);
bool signing_add_field(struct signing_choice *choice, const struct dkim_field *field);
/* What the queues of all recipients (encoded as in struct envelope) want: how many signatures, or
 * E_REFUSED. */
int signing_choose(struct signing_choice *choice, struct slice rcpts);
/* The same for one queue alone, of that virtual MTA. */
int signing_choose_for(struct signing_choice *choice, const struct conf_signing *signing,
                       uint32_t vmta_id);
/* What was chosen, as far as there is room for it. */
void signing_record(const struct signing_choice *choice, struct signatures *signatures);
/* Writes it into the envelope of a message that is in the making, where that has room. */
void signing_note(const struct signing_choice *choice, struct message *message);
/* Names all that the configuration says of signatures for a queue. */
uint64_t signing_rules(const struct conf *conf, const struct conf_signing *signing,
                       uint32_t vmta_id);
/* Room for what signing_record will say of a message with so many recipients, with what it has said
 * itself: encoded into room (of SIGNATURES_BYTES_MAX and the options). Empty when it brings its own
 * key, with which nobody could sign again. */
struct slice signing_reserve(const struct signing_wish *wish, struct slice options,
                             uint32_t rcpt_count, uint8_t *room, size_t room_bytes);
/* NULL when there is no memory. */
struct signing *signing_new(struct shard *shard, struct message *message,
                            void (*done)(struct signing *signing), void *owner);
/*
 * The next of the chosen signatures. Its field is to stand at that offset of the payload; *ret_text
 * is valid until the next call. 0; or negative, E_REFUSED as above.
 */
int signing_begin(struct signing_choice *choice, struct signing *signing, uint32_t offset,
                  struct slice *ret_text);
/* What the body's hash and length are in that form, instead of the body. */
void signing_know_body(struct signing *signing, enum dkim_canon canon,
                       const uint8_t hash[SIGN_DIGEST_BYTES], uint64_t octets);
/* Octets behind the header, as they are stored. */
void signing_body(struct signing *signing, const uint8_t *data, size_t len);
/* The message is complete; done follows, from another turn. It counts as being appended. */
void signing_make(struct signing *signing);
/* Not while signatures are being made. */
void signing_free(struct signing *signing);
/* Has signed what waits, as much as a turn may. */
void signing_turn(struct shard *shard);
bool signing_is_busy(const struct shard *shard);
/* A new configuration holds. */
void signing_adopt(struct shard *shard);
void signing_init(struct shard *shard);
void signing_fini(struct shard *shard);
