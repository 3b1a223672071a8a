/*
 * auth: the SASL mechanisms PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195) and EXTERNAL (RFC 4422) as
 * SMTP carries them (RFC 4954), for both sides, and the arithmetic of passwords.
 *
 * Pure functions and small states of their owners'; no I/O. What a client says is decoded and cut
 * apart here; whether it is right is the owner's to find out, with auth_is_same, auth_is_digest and
 * auth_stretch_*. Secrets are wiped with auth_wipe by whoever holds them.
 */
#pragma once

#include "core/base/slice.h"

#include <openssl/sha.h>

enum auth_mechanism {
    AUTH_PLAIN,
    AUTH_LOGIN,
    AUTH_CRAM_MD5,
    AUTH_EXTERNAL, /* the server's side alone: the certificate of the connection proves it */
    AUTH_MECHANISMS,
};

#define AUTH_BIT(mechanism) (1u << (mechanism))
/* Those that tell the password to whoever reads along. */
#define AUTH_IN_THE_CLEAR   (AUTH_BIT(AUTH_PLAIN) | AUTH_BIT(AUTH_LOGIN))
#define AUTH_TEXT_MAX       255 /* octets of a name and of a password: RFC 4616 section 2 */
#define AUTH_CHALLENGE_MAX  128
#define AUTH_DIGEST_BYTES   32 /* of CRAM-MD5, in hexadecimal */
/* Room for a line that a client says: base64 of name, password and two zeros. */
#define AUTH_ANSWER_MAX     1024

/* "PLAIN"; constant. */
const char *auth_mechanism_name(enum auth_mechanism mechanism);
/* AUTH_MECHANISMS when there is none of that name. */
enum auth_mechanism auth_mechanism_named(struct slice name);

/* ---- The server's side ----------------------------------------------------------------------- */

struct auth_server {
    uint8_t mechanism;
    uint8_t step;
    uint8_t user_bytes;
    uint8_t secret_bytes;
    uint8_t challenge_bytes;
    char challenge[AUTH_CHALLENGE_MAX];
    uint8_t user[AUTH_TEXT_MAX];   /* of EXTERNAL perhaps empty: whoever's the certificate is */
    uint8_t secret[AUTH_TEXT_MAX]; /* the password; of CRAM-MD5 the digest */
};

enum auth_progress {
    AUTH_GO_ON,    /* *ret_prompt leaves behind "334 ", and a line of the client's follows */
    AUTH_COMPLETE, /* user and secret are known */
    AUTH_MALFORMED,
    AUTH_CANCELLED,
    AUTH_REFUSED, /* well formed, and cannot be right: another identity is asked for */
};

/* challenge: of CRAM-MD5, at most AUTH_CHALLENGE_MAX octets, of which none came before. */
void auth_server_begin(struct auth_server *server, enum auth_mechanism mechanism,
                       struct slice challenge);
/* The initial response: as it stood behind the mechanism, "=" for an empty one; data NULL when
 * there was none. */
enum auth_progress auth_server_start(struct auth_server *server, struct slice initial,
                                     struct slice *ret_prompt, char room[AUTH_ANSWER_MAX]);
/* A line of the client's, without its end. */
enum auth_progress auth_server_hear(struct auth_server *server, struct slice line,
                                    struct slice *ret_prompt, char room[AUTH_ANSWER_MAX]);

static inline struct slice auth_server_user(const struct auth_server *server)
{
    return slice_of(server->user, server->user_bytes);
}

static inline struct slice auth_server_secret(const struct auth_server *server)
{
    return slice_of(server->secret, server->secret_bytes);
}

/* ---- The client's side ----------------------------------------------------------------------- */

/* The best of the offered mechanisms (bits); AUTH_MECHANISMS when none may be used. may_show: the
 * password may be told to whoever reads along. CRAM-MD5 comes first where it may not. */
enum auth_mechanism auth_client_choose(unsigned offered, bool may_show);
/* What stands behind "AUTH " in the command. Characters written. */
int auth_client_start(enum auth_mechanism mechanism, struct slice user, struct slice password,
                      char room[AUTH_ANSWER_MAX]);
/* The answer to the step-th 334 (from 0), whose text is prompt. Characters written, or E_SYNTAX
 * when the prompt makes no sense. */
int auth_client_answer(enum auth_mechanism mechanism, unsigned step, struct slice prompt,
                       struct slice user, struct slice password, char room[AUTH_ANSWER_MAX]);

/* ---- Secrets --------------------------------------------------------------------------------- */

/* In a time that does not depend on where they differ. */
bool auth_is_same(struct slice a, struct slice b);
/* Whether the digest is what CRAM-MD5 makes of the challenge with that password; likewise. */
bool auth_is_digest(struct slice digest, struct slice challenge, struct slice password);
void auth_wipe(void *secret, size_t bytes);

#define AUTH_KEY_BYTES 32

/* PBKDF2 with HMAC-SHA-256 (RFC 8018 section 5.2), one block, in steps. */
struct auth_stretch {
    SHA256_CTX inner;
    SHA256_CTX outer;
    uint32_t left; /* iterations */
    uint8_t last[AUTH_KEY_BYTES];
    uint8_t key[AUTH_KEY_BYTES]; /* right when left is 0 */
};

/* iterations: at least 1. The first one is made here. */
void auth_stretch_begin(struct auth_stretch *stretch, struct slice password, struct slice salt,
                        uint32_t iterations);
/* Makes at most so many iterations; how many. */
uint32_t auth_stretch_step(struct auth_stretch *stretch, uint32_t count_max);
