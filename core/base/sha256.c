#include "core/base/sha256.h"

#define BLOCK_BYTES 64u

/* FIPS 180-4 4.2.2: the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_words[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn_right(uint32_t word, unsigned bits)
{
    return word >> bits | word << (32 - bits);
}

static void spread_block(const uint8_t block[BLOCK_BYTES], uint32_t words[64])
{
    for (unsigned i = 0; i < 16; i++)
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                   (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t low = words[i - 15], high = words[i - 2];

        words[i] = words[i - 16] + words[i - 7] +
                   (turn_right(low, 7) ^ turn_right(low, 18) ^ low >> 3) +
                   (turn_right(high, 17) ^ turn_right(high, 19) ^ high >> 10);
    }
}

/* FIPS 180-4 6.2.2; the eight working variables are s[0] to s[7]. */
static void take_block(struct sha256 *hash, const uint8_t block[BLOCK_BYTES])
{
    uint32_t words[64];
    uint32_t s[8];

    spread_block(block, words);
    memcpy(s, hash->state, sizeof(s));
    for (unsigned i = 0; i < 64; i++) {
        uint32_t first = s[7] +
                         (turn_right(s[4], 6) ^ turn_right(s[4], 11) ^ turn_right(s[4], 25)) +
                         ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_words[i] + words[i];
        uint32_t second = (turn_right(s[0], 2) ^ turn_right(s[0], 13) ^ turn_right(s[0], 22)) +
                          ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

        memmove(s + 1, s, 7 * sizeof(*s));
        s[4] += first;
        s[0] = first + second;
    }
    for (unsigned i = 0; i < 8; i++)
        hash->state[i] += s[i];
}

void sha256_init(struct sha256 *hash)
{
    /* FIPS 180-4 5.3.3: the fractional parts of the square roots of the first eight primes. */
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memcpy(hash->state, start, sizeof(start));
    hash->octets = 0;
}

void sha256_put(struct sha256 *hash, struct slice data)
{
    while (data.len > 0) {
        size_t used = hash->octets % BLOCK_BYTES;
        size_t part = data.len < BLOCK_BYTES - used ? data.len : BLOCK_BYTES - used;

        memcpy(hash->block + used, data.data, part);
        hash->octets += part;
        if (used + part == BLOCK_BYTES)
            take_block(hash, hash->block);
        data = slice_after(data, part);
    }
}

void sha256_end(struct sha256 *hash, uint8_t digest[SHA256_BYTES])
{
    uint64_t bits = hash->octets * 8;
    uint8_t tail[BLOCK_BYTES + 8] = {0x80};
    /* One bit, zeros up to the last eight octets of a block, the length in bits. */
    size_t fill = (2 * BLOCK_BYTES - 8 - 1 - hash->octets % BLOCK_BYTES) % BLOCK_BYTES + 1;

    for (unsigned i = 0; i < 8; i++)
        tail[fill + i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_put(hash, slice_of(tail, fill + 8));
    for (unsigned i = 0; i < SHA256_BYTES; i++)
        digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

void hmac_sha256(struct slice key, struct slice data, uint8_t digest[SHA256_BYTES])
{
    uint8_t inner[BLOCK_BYTES] = {0}, outer[BLOCK_BYTES];
    struct sha256 hash;

    if (key.len > BLOCK_BYTES) {
        sha256_init(&hash);
        sha256_put(&hash, key);
        sha256_end(&hash, inner);
    } else if (key.len > 0) {
        memcpy(inner, key.data, key.len);
    }
    for (unsigned i = 0; i < BLOCK_BYTES; i++) {
        outer[i] = inner[i] ^ 0x5c;
        inner[i] ^= 0x36;
    }
    sha256_init(&hash);
    sha256_put(&hash, slice_of(inner, sizeof(inner)));
    sha256_put(&hash, data);
    sha256_end(&hash, digest);
    sha256_init(&hash);
    sha256_put(&hash, slice_of(outer, sizeof(outer)));
    sha256_put(&hash, slice_of(digest, SHA256_BYTES));
    sha256_end(&hash, digest);
}
