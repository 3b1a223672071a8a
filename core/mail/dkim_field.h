/*
 * dkim_field: which header fields a signature covers, and the text of its own field.
 *
 * Fields are counted from the bottom (RFC 6376 5.4.2), so that what is added above a signed message
 * leaves its signatures whole. A name that is listed once more than the message has it (5.4, last
 * part) says that there is none besides: to add one breaks the signature.
 *
 * The text's length depends on everything but the hash, the body's length and the signature
 * itself, so that room for it can be left in front of a body that is still arriving. b= stands
 * last: the text up to it is what is hashed. Pure; any thread.
 */
#pragma once

#include "core/base/text.h"
#include "core/mail/dkim_canon.h"

#define DKIM_PICKS_MAX     192u /* names in h=, repetitions included */
#define DKIM_NO_FIELD      UINT32_MAX
#define DKIM_BODY_HASH     32u  /* SHA-256 */
#define DKIM_SIGNATURE_MAX 512u /* octets of an RSA-4096 signature */
#define DKIM_DOMAIN_MAX    253u
#define DKIM_TEXT_MAX      16384u /* of the whole field: more than any of these bounds can make */

/* A field of the message: its name, and all its octets with the last CRLF, as they go out. */
struct dkim_field {
    struct slice name;
    struct slice octets;
};

struct dkim_pick {
    struct slice name;
    uint32_t field; /* DKIM_NO_FIELD = listed to say that there is none */
};

struct dkim_picks {
    uint32_t count;
    struct dkim_pick at[DKIM_PICKS_MAX];
};

/* RFC 6376 5.4.1 and RFC 8058 4: what is signed without being asked for, names between commas. */
extern const char dkim_usual_names[];

/* h= exactly as the names stand in the list. False when they are too many. */
bool dkim_pick_listed(const struct dkim_field *fields, uint32_t field_count, const char *names,
                      struct dkim_picks *ret_picks);
/*
 * Every field of the usual names and of `more` that is there; From, and the names in `closed`,
 * once more than that. Both may be NULL. False when From cannot be among them for want of room;
 * of other names as many as have room are taken.
 */
bool dkim_pick_usual(const struct dkim_field *fields, uint32_t field_count, const char *more,
                     const char *closed, struct dkim_picks *ret_picks);
/* Takes every pick of these names (between commas) out again, but for From, which must be signed.
 */
void dkim_picks_drop(struct dkim_picks *picks, const char *names);
/* The picked fields to the sink, in the order of h=. */
void dkim_picks_put(const struct dkim_picks *picks, const struct dkim_field *fields,
                    enum dkim_canon canon, const struct dkim_sink *sink);

struct dkim_signature {
    const char *algorithm; /* a= */
    enum dkim_canon header_canon;
    enum dkim_canon body_canon;
    struct slice domain;   /* d=, lower case A-label */
    struct slice selector; /* s= */
    struct slice identity; /* i=: "[LOCAL]@DOMAIN"; empty = none */
    struct slice query;    /* q=; empty = none */
    bool has_time;         /* t= */
    bool has_length;       /* l=, with leading zeros: its place is kept before it is known */
    uint64_t time_s;       /* Unix time */
    uint64_t expires_s;    /* x=; 0 = none */
    size_t signature_bytes;
    const struct dkim_picks *picks;
};

/* Why there can be no such signature: NULL, or a constant text (RFC 6376 3.5, 3.6.1). */
const char *dkim_signature_check(const struct dkim_signature *signature);
/* Where in the text stands what is known last. */
struct dkim_places {
    uint32_t length;    /* of l='s ten digits; 0 = there is no l= */
    uint32_t body_hash; /* of bh='s value */
};

/* The field up to "b=", without CRLF: what RFC 6376 3.7 hashes last. places: or NULL. */
void dkim_signature_open(const struct dkim_signature *signature,
                         const uint8_t body_hash[DKIM_BODY_HASH], uint64_t body_octets,
                         struct text *text, struct dkim_places *ret_places);
/* Writes the hash and the length into such a text. */
void dkim_signature_fill(const struct dkim_places *places, const uint8_t body_hash[DKIM_BODY_HASH],
                         uint64_t body_octets, char *text);
/* The value of b=, folded, and the last CRLF. */
void dkim_signature_close(struct slice octets, struct text *text);
