#include "net/sign_ifma.h"

#include "core/base/mem.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <openssl/bn.h>

#define LIMBS       SIGN_IFMA_LIMBS
#define LIMB_BITS   52u
#define LIMB_MASK   ((1ull << LIMB_BITS) - 1)
#define LANES       8u
#define VECTORS     5u /* LIMBS / LANES */
#define EXPONENT    65537u
#define SQUARINGS   16u
/* The compiler keeps the vectors in registers only when it sees each of them. */
#define EACH_VECTOR _Pragma("GCC unroll 5") for (unsigned i = 0; i < VECTORS; i++)
#define IFMA        __attribute__((target("avx512f,avx512ifma")))

_Static_assert(LIMBS == LANES * VECTORS, "whole vectors");
/* Two bits of room: then numbers below twice the modulus stay below it when they are multiplied. */
_Static_assert(LIMBS *LIMB_BITS >= SIGN_IFMA_OCTETS * 8 + 2, "room");

static void read_octets(const uint8_t octets[SIGN_IFMA_OCTETS], uint64_t limbs[LIMBS])
{
    uint8_t turned[SIGN_IFMA_OCTETS + sizeof(uint64_t)] = {0};

    for (unsigned i = 0; i < SIGN_IFMA_OCTETS; i++)
        turned[i] = octets[SIGN_IFMA_OCTETS - 1 - i];
    for (unsigned i = 0; i < LIMBS; i++) {
        unsigned bit = LIMB_BITS * i; /* the first or the fifth of an octet */
        uint64_t word;

        memcpy(&word, turned + bit / 8, sizeof(word));
        limbs[i] = word >> bit % 8 & LIMB_MASK;
    }
}

/* Until no limb has more than its bits; one round is nearly always enough. */
IFMA static inline void carry(__m512i number[VECTORS])
{
    const __m512i mask = _mm512_set1_epi64((long long)LIMB_MASK);
    __m512i over[VECTORS];
    unsigned left;

    do {
        left = 0;
        EACH_VECTOR
        {
            over[i] = _mm512_srli_epi64(number[i], LIMB_BITS);
            number[i] = _mm512_and_si512(number[i], mask);
        }
        EACH_VECTOR
        {
            __m512i below = i > 0 ? over[i - 1] : _mm512_setzero_si512();

            number[i] = _mm512_add_epi64(number[i], _mm512_alignr_epi64(over[i], below, LANES - 1));
            left |= _mm512_cmpgt_epu64_mask(number[i], mask);
        }
    } while (left != 0);
}

/*
 * left * right / 2^2080 modulo the key's modulus, below twice the modulus as both factors have to
 * be (Montgomery's multiplication without its last subtraction). In each round a limb of right is
 * multiplied in, so much of the modulus is added that the lowest limb is zero, and all go down by
 * one. The lowest limb is reckoned apart, in `low`, as each round waits for it.
 */
IFMA static void multiply(const struct sign_ifma_key *key, const uint64_t left[LIMBS],
                          const uint64_t right[LIMBS], uint64_t ret_product[LIMBS])
{
    __m512i factor[VECTORS], modulus[VECTORS], sum[VECTORS];
    uint64_t low = 0;

    EACH_VECTOR
    {
        factor[i] = _mm512_loadu_si512(left + LANES * i);
        modulus[i] = _mm512_loadu_si512(key->modulus + LANES * i);
        sum[i] = _mm512_setzero_si512();
    }
    for (unsigned round = 0; round < LIMBS; round++) {
        unsigned __int128 lowest = (unsigned __int128)left[0] * right[round] + low;
        uint64_t times = (uint64_t)lowest * key->inverse & LIMB_MASK;
        __m512i by = _mm512_set1_epi64((long long)right[round]);
        __m512i add = _mm512_set1_epi64((long long)times);

        lowest += (unsigned __int128)key->modulus[0] * times;
        EACH_VECTOR sum[i] = _mm512_madd52lo_epu64(sum[i], factor[i], by);
        EACH_VECTOR sum[i] = _mm512_madd52lo_epu64(sum[i], modulus[i], add);
        EACH_VECTOR
        {
            __m512i above = i + 1 < VECTORS ? sum[i + 1] : _mm512_setzero_si512();

            sum[i] = _mm512_alignr_epi64(above, sum[i], 1);
        }
        low = (uint64_t)(lowest >> LIMB_BITS) +
              (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(sum[0]));
        EACH_VECTOR sum[i] = _mm512_madd52hi_epu64(sum[i], factor[i], by);
        EACH_VECTOR sum[i] = _mm512_madd52hi_epu64(sum[i], modulus[i], add);
    }
    sum[0] = _mm512_mask_set1_epi64(sum[0], 1, (long long)low);
    carry(sum);
    EACH_VECTOR _mm512_storeu_si512(ret_product + LANES * i, sum[i]);
}

/* What the signature has to become (RFC 8017 9.2). */
static void put_encoded(const uint8_t digest[32], uint8_t encoded[SIGN_IFMA_OCTETS])
{
    static const uint8_t sha256[] = {0x00, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48,
                                     0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
    uint8_t *tail = encoded + SIGN_IFMA_OCTETS - 32;

    memset(encoded, 0xff, SIGN_IFMA_OCTETS);
    encoded[0] = 0;
    encoded[1] = 1;
    memcpy(tail - sizeof(sha256), sha256, sizeof(sha256));
    memcpy(tail, digest, 32);
}

bool sign_ifma_verify(const struct sign_ifma_key *key, const uint8_t digest[32],
                      const uint8_t signature[SIGN_IFMA_OCTETS])
{
    uint64_t number[LIMBS], power[LIMBS], wanted[LIMBS];
    uint8_t encoded[SIGN_IFMA_OCTETS];

    if (memcmp(signature, key->octets, SIGN_IFMA_OCTETS) >= 0)
        return false;
    read_octets(signature, number);
    multiply(key, number, key->entry, power);
    for (unsigned i = 0; i < SQUARINGS; i++)
        multiply(key, power, power, power);
    /* With a factor that is not in Montgomery's form the product is not either. It exceeds the
     * modulus by less than 2^2017, and what is wanted is larger than that: so it is that itself. */
    multiply(key, power, number, power);
    put_encoded(digest, encoded);
    read_octets(encoded, wanted);
    return memcmp(power, wanted, sizeof(power)) == 0;
}

/* 2^4160 modulo the modulus: multiplied by it, a number is multiplied by 2^2080. */
static bool find_entry(const BIGNUM *modulus, uint64_t ret_entry[LIMBS])
{
    uint8_t octets[SIGN_IFMA_OCTETS];
    BN_CTX *context = BN_CTX_new();
    BIGNUM *entry = BN_new();
    bool is_found = context && entry && BN_set_bit(entry, 2 * LIMBS * LIMB_BITS) &&
                    BN_mod(entry, entry, modulus, context) &&
                    BN_bn2bin_padded(octets, sizeof(octets), entry);

    if (is_found)
        read_octets(octets, ret_entry);
    BN_free(entry);
    BN_CTX_free(context);
    return is_found;
}

struct sign_ifma_key *sign_ifma_key(const RSA *rsa)
{
    struct sign_ifma_key *key;

    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512ifma") ||
        RSA_bits(rsa) != SIGN_IFMA_OCTETS * 8 || !BN_is_word(RSA_get0_e(rsa), EXPONENT))
        return NULL;
    key = mem_alloc(sizeof(*key));
    if (!BN_bn2bin_padded(key->octets, sizeof(key->octets), RSA_get0_n(rsa)) ||
        !find_entry(RSA_get0_n(rsa), key->entry)) {
        mem_free(key);
        return NULL;
    }
    read_octets(key->octets, key->modulus);
    /* Newton: each round doubles the bits that are right, of which an odd number has three. */
    key->inverse = key->modulus[0];
    for (unsigned i = 0; i < 5; i++)
        key->inverse *= 2 - key->modulus[0] * key->inverse;
    key->inverse = -key->inverse & LIMB_MASK;
    return key;
}

#else

struct sign_ifma_key *sign_ifma_key(const RSA *rsa)
{
    return NULL;
}

bool sign_ifma_verify(const struct sign_ifma_key *key, const uint8_t digest[32],
                      const uint8_t signature[SIGN_IFMA_OCTETS])
{
    return false;
}

#endif
