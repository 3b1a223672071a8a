/*
 * sign: private keys, and signatures made with them.
 *
 * A backend makes signatures of digests, any number at once, so that one may work on several side
 * by side. Every signature is verified here before anybody sees it: a fault in a computation with
 * the remainders of an RSA key would give the key away. Results depend on key and digest alone
 * (PKCS#1 v1.5, Ed25519). A key is shared by counting references; its octets are zeroed with the
 * last one and are in no text that is made here. Any thread; nothing waits.
 */
#pragma once

#include "core/base/slice.h"
#include "core/conf/dkim.h"

#define SIGN_DIGEST_BYTES 32u
#define SIGN_BYTES_MAX    512u /* RSA-4096 */
#define SIGN_WHY_MAX      256u

/* ---- SHA-256, as fast as the library has it ---------------------------------------------------
 */

struct sign_hash {
    _Alignas(16) uint8_t room[128];
};

void sign_hash_init(struct sign_hash *hash);
/* context: a struct sign_hash. In the form that core/mail/dkim_canon.h wants of a sink. */
void sign_hash_put(void *context, const uint8_t *data, size_t len);
void sign_hash_end(struct sign_hash *hash, uint8_t ret_digest[SIGN_DIGEST_BYTES]);

/* ---- Keys -------------------------------------------------------------------------------------
 */

enum sign_kind {
    SIGN_RSA,     /* RSASSA-PKCS1-v1_5 with SHA-256 (RFC 6376 3.3.2) */
    SIGN_ED25519, /* of the digest (RFC 8463 3) */
};

struct sign_key;

/*
 * Text: PEM of PKCS#8 or, for RSA, of PKCS#1; or the base64 of an Ed25519 seed, 32 octets. 0 and
 * one reference; or E_SYNTAX, or E_RANGE for RSA below 1024 bits (RFC 8301 3.2) or above 4096, with
 * the reason in why.
 */
int sign_key_parse(struct slice text, struct sign_key **ret_key, char why[SIGN_WHY_MAX]);
/* The same from a file, which nobody but its owner may read or write (E_REFUSED) and which is a
 * regular one of at most 64 KB. Blocks: for start and reload. */
int sign_key_load(const char *path, struct sign_key **ret_key, char why[SIGN_WHY_MAX]);
/* Counts atomically. NULL is fine for the second. */
struct sign_key *sign_key_ref(struct sign_key *key);
void sign_key_unref(struct sign_key *key);
enum sign_kind sign_key_kind(const struct sign_key *key);
/* What a= calls it. */
const char *sign_key_algorithm(const struct sign_key *key);
/* Of a signature. */
size_t sign_key_bytes(const struct sign_key *key);
/* Names it by its public part, see net/sign_ring.h. */
uint64_t sign_key_id(const struct sign_key *key);
/* The file it was loaded from, or NULL. */
const char *sign_key_path(const struct sign_key *key);
/* From now on no helper is asked for it. Any thread, as the question. */
void sign_key_keep_here(struct sign_key *key);
bool sign_key_is_kept_here(const struct sign_key *key);
/* The value of p= in the key's record: base64 in room, NUL at its end. 0 or E_TOO_LONG. */
int sign_key_public(const struct sign_key *key, char *room, size_t room_bytes);

/* The above for whoever loads a configuration. */
extern const struct conf_key_ops sign_key_ops;

/* ---- Signatures -------------------------------------------------------------------------------
 */

struct sign_job {
    const struct sign_key *key;
    uint8_t digest[SIGN_DIGEST_BYTES];
    uint8_t signature[SIGN_BYTES_MAX]; /* sign_key_bytes of it */
    int status;                        /* 0; E_DAMAGED: it was wrong, and is not here */
    void *owner;                       /* whoever asked, who may say which one */
    uint32_t index;
};

struct sign_backend {
    const char *name;
    /* Fills signature and status of each. */
    void (*run)(struct sign_job *jobs, uint32_t count);
};

extern const struct sign_backend sign_boringssl;

/* Verifies those that have a signature. How many have none then. */
uint32_t sign_check(struct sign_job *jobs, uint32_t count);
/* Signatures a second of the calling thread's processor time, with a key made for it (RSA of 2048
 * bits): bare, without verification. Takes span_ms of processor time and what the key takes. */
uint32_t sign_measure(enum sign_kind kind, uint32_t span_ms);
/* Signs and verifies. How many have no signature. */
uint32_t sign_run(const struct sign_backend *backend, struct sign_job *jobs, uint32_t count);
