/* xoshiro256** by Blackman and Vigna, its state filled by splitmix64 as its authors advise. */
#include "core/base/rng.h"

#include "core/base/must.h"

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

void rng_init(struct rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        rng->state[i] = z ^ (z >> 31);
    }
}

uint64_t rng_u64(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    unsigned __int128 product;

    must(bound >= 1);
    product = (unsigned __int128)rng_u64(rng) * bound;
    if ((uint64_t)product < bound) {
        /* The lowest 2^64 mod bound products would favour some answers: draw again for those. */
        uint64_t uneven = -bound % bound;

        while ((uint64_t)product < uneven)
            product = (unsigned __int128)rng_u64(rng) * bound;
    }
    return (uint64_t)(product >> 64);
}

uint64_t rng_between(struct rng *rng, uint64_t low, uint64_t high)
{
    must(low <= high);
    /* The full range has 2^64 answers, a bound that does not fit. */
    if (high - low == UINT64_MAX)
        return rng_u64(rng);
    return low + rng_below(rng, high - low + 1);
}

bool rng_one_in(struct rng *rng, uint64_t odds)
{
    return rng_below(rng, odds) == 0;
}
