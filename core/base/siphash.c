#include "core/base/siphash.h"

static uint64_t turn_left(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static uint64_t word_at(const uint8_t *data, size_t len)
{
    uint64_t word = 0;

    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)data[i] << (8 * i);
    return word;
}

static void mix(uint64_t v[4], unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = turn_left(v[1], 13) ^ v[0];
        v[3] = turn_left(v[3], 16) ^ v[2];
        v[0] = turn_left(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = turn_left(v[1], 17) ^ v[2];
        v[3] = turn_left(v[3], 21) ^ v[0];
        v[2] = turn_left(v[2], 32);
    }
}

static void take_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v, 2);
    v[0] ^= word;
}

uint64_t siphash(const uint8_t key[SIPHASH_KEY_BYTES], struct slice text)
{
    uint64_t low = word_at(key, 8), high = word_at(key + 8, 8);
    uint64_t v[4] = {low ^ 0x736f6d6570736575, high ^ 0x646f72616e646f6d, low ^ 0x6c7967656e657261,
                     high ^ 0x7465646279746573};
    uint64_t last = (uint64_t)text.len << 56;

    for (; text.len >= 8; text = slice_after(text, 8))
        take_word(v, word_at(text.data, 8));
    take_word(v, last | word_at(text.data, text.len));
    v[2] ^= 0xff;
    mix(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
