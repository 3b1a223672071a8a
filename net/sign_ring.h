/*
 * sign_ring: the memory that a shard shares with its signing helper.
 *
 * The shard writes requests and counts them in `asked`; the helper answers them in order and counts
 * them in `answered`. So each count has one writer, and the slots between them are the helper's.
 * Who starts a helper sets both counts to what the shard has asked: nothing of the last one is
 * left. Either side that is about to sleep sets its flag, looks once more, and is then woken by an
 * octet through a pair of sockets. Neither side trusts the other: the helper checks what it loads
 * against the key's id, the shard verifies each signature with the public key.
 *
 * A key is named by sign_ring_key_id of its public part and is read by the helper itself, from the
 * file that a request names; no private key is ever in this memory. Includes nothing of a library
 * for cryptography: the two sides have different ones.
 */
#pragma once

#include "core/base/sha256.h"

#include <stdatomic.h>

#define SIGN_RING_SLOTS     128u /* a power of two */
#define SIGN_RING_PATH_MAX  1024u
#define SIGN_RING_BYTES_MAX 512u /* of a signature */
#define SIGN_RING_KINDS     2u   /* enum sign_kind */
/* What the helper finds open when it starts. */
#define SIGN_RING_MEMORY_FD 3
#define SIGN_RING_BELL_FD   4

enum sign_ring_ask {
    SIGN_RING_SIGN,   /* key_id, digest → signature, len */
    SIGN_RING_LOAD,   /* key_id, path */
    SIGN_RING_FORGET, /* all keys: the configuration has changed */
};

enum sign_ring_status {
    SIGN_RING_DONE,
    SIGN_RING_UNKNOWN_KEY, /* LOAD it first */
    SIGN_RING_FAILED,
};

struct sign_ring_slot {
    uint32_t ask;    /* enum sign_ring_ask */
    uint32_t status; /* enum sign_ring_status; the helper's, as the next two */
    uint32_t len;
    uint8_t signature[SIGN_RING_BYTES_MAX];
    uint64_t key_id;
    uint8_t digest[SHA256_BYTES];
    char path[SIGN_RING_PATH_MAX];
};

struct sign_ring {
    _Alignas(64) _Atomic uint32_t asked;
    _Atomic uint32_t helper_sleeps;
    _Alignas(64) _Atomic uint32_t answered;
    _Atomic uint32_t shard_sleeps;
    /* Signatures a second of the helper's processor time, by enum sign_kind, measured when it
     * starts; 1 = it makes none, 0 = it does not know yet. The last one is written last. */
    _Atomic uint32_t rates[SIGN_RING_KINDS];
    struct sign_ring_slot slots[SIGN_RING_SLOTS];
};

/* Of an RSA key its modulus without leading zeros, of an Ed25519 key its 32 octets. */
static inline uint64_t sign_ring_key_id(struct slice public_part)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;
    uint64_t id;

    sha256_init(&hash);
    sha256_put(&hash, public_part);
    sha256_end(&hash, digest);
    memcpy(&id, digest, sizeof(id));
    return id;
}
