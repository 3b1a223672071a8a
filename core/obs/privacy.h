/*
 * privacy: how addresses of people are written where they leave: as they are, not at all, or as a
 * keyed hash, so that rows of one person can still be told to belong together.
 *
 * Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

enum privacy_kind {
    PRIVACY_RETAIN,
    PRIVACY_REDACT,
    PRIVACY_SIPHASH,
    PRIVACY_HMAC,
};

#define PRIVACY_KEY_MAX  64
#define PRIVACY_TEXT_MAX 65 /* of a hash in hexadecimal digits, with NUL */

struct privacy {
    enum privacy_kind kind;
    uint8_t key_bytes; /* 0 = none was given: the caller puts a random one there */
    uint8_t key[PRIVACY_KEY_MAX];
};

/* Octets of a key that nobody gave. */
#define PRIVACY_KEY_BYTES 16

/* "retain", "redact", "siphash[-KEY]", "hmac-sha256[-KEY]", the key in hexadecimal digits, or
 * "siphash SECRET", "hmac-sha256 SECRET", "siphash-hexkey KEY" as PowerMTA has them: 0, or
 * E_SYNTAX. A key of siphash has 32 digits, one of hmac-sha256 two to 128; a secret has at most 64
 * octets, and siphash takes the beginning of its SHA-256. */
int privacy_parse(struct slice text, struct privacy *ret_privacy);
/* What stands for the address; its length, 0 where it is left out. Not for PRIVACY_RETAIN. */
size_t privacy_replace(const struct privacy *privacy, struct slice address,
                       char room[PRIVACY_TEXT_MAX]);
