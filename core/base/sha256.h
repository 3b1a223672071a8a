/*
 * sha256: SHA-256 (FIPS 180-4) and HMAC with it (RFC 2104).
 *
 * For what is written rarely (hashed addresses, names of things), not for bulk data and not for
 * signing. Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

#define SHA256_BYTES 32

struct sha256 {
    uint32_t state[8];
    uint64_t octets;
    uint8_t block[64];
};

void sha256_init(struct sha256 *hash);
void sha256_put(struct sha256 *hash, struct slice data);
void sha256_end(struct sha256 *hash, uint8_t digest[SHA256_BYTES]);
void hmac_sha256(struct slice key, struct slice data, uint8_t digest[SHA256_BYTES]);
