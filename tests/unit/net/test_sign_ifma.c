/*
 * The quick verification says what the library says: of signatures that are right, nearly right,
 * out of range and badly encoded.
 */
#include "net/sign_ifma.h"

#include "core/base/mem.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <openssl/bn.h>
#include <openssl/nid.h>

#define OCTETS SIGN_IFMA_OCTETS

static struct rng dice;
static uint32_t right_count, wrong_count;

static RSA *make_rsa(int bits, unsigned exponent)
{
    BIGNUM *e = BN_new();
    RSA *rsa = RSA_new();

    assert_true(BN_set_word(e, exponent) && RSA_generate_key_ex(rsa, bits, e, NULL));
    BN_free(e);
    return rsa;
}

static void put_random(uint8_t *octets, size_t len)
{
    for (size_t i = 0; i < len; i++)
        octets[i] = (uint8_t)rng_u64(&dice);
}

static void compare(RSA *rsa, const struct sign_ifma_key *key, const uint8_t digest[32],
                    const uint8_t signature[OCTETS])
{
    bool is_right = RSA_verify(NID_sha256, digest, 32, signature, OCTETS, rsa) == 1;

    assert_int_equal(sign_ifma_verify(key, digest, signature), is_right);
    right_count += is_right;
    wrong_count += !is_right;
}

static void compare_flipped(RSA *rsa, const struct sign_ifma_key *key, const uint8_t digest[32],
                            uint8_t signature[OCTETS])
{
    uint32_t bit = (uint32_t)rng_below(&dice, OCTETS * 8);
    uint8_t other[32];

    compare(rsa, key, digest, signature);
    signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
    compare(rsa, key, digest, signature);
    signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
    memcpy(other, digest, sizeof(other));
    other[bit % 32] ^= 1;
    compare(rsa, key, other, signature);
}

/* The same number again, as far as it goes into the octets: what is not below the modulus is no
 * signature. */
static void compare_sum(RSA *rsa, const struct sign_ifma_key *key, const uint8_t digest[32],
                        const uint8_t signature[OCTETS])
{
    BIGNUM *sum = BN_bin2bn(signature, OCTETS, NULL);
    uint8_t octets[OCTETS];

    assert_true(BN_add(sum, sum, RSA_get0_n(rsa)));
    if (BN_bn2bin_padded(octets, OCTETS, sum))
        compare(rsa, key, digest, octets);
    BN_free(sum);
}

/* Every octet of the encoding counts. */
static void compare_encodings(RSA *rsa, const struct sign_ifma_key *key, const uint8_t digest[32],
                              const uint8_t signature[OCTETS])
{
    uint8_t encoded[OCTETS], changed[OCTETS], made[OCTETS];
    size_t len;

    assert_true(RSA_verify_raw(rsa, &len, encoded, OCTETS, signature, OCTETS, RSA_NO_PADDING));
    for (uint32_t i = 0; i < OCTETS; i++) {
        memcpy(changed, encoded, OCTETS);
        changed[i] ^= i == 0 ? 1 : (uint8_t)(1 + rng_below(&dice, 255));
        if (RSA_sign_raw(rsa, &len, made, OCTETS, changed, OCTETS, RSA_NO_PADDING))
            compare(rsa, key, digest, made);
    }
}

static void compare_odd(RSA *rsa, const struct sign_ifma_key *key, const uint8_t digest[32])
{
    uint8_t octets[OCTETS] = {0};

    compare(rsa, key, digest, octets);
    octets[OCTETS - 1] = 1;
    compare(rsa, key, digest, octets);
    memset(octets, 0xff, OCTETS);
    compare(rsa, key, digest, octets);
    assert_true(BN_bn2bin_padded(octets, OCTETS, RSA_get0_n(rsa)));
    compare(rsa, key, digest, octets);
    octets[OCTETS - 1]--;
    compare(rsa, key, digest, octets);
    for (uint32_t i = 0; i < 100; i++) {
        put_random(octets, OCTETS);
        compare(rsa, key, digest, octets);
    }
}

static void it_says_what_the_library_says(void **state)
{
    for (uint32_t round = 0; round < 3; round++) {
        RSA *rsa = make_rsa(2048, RSA_F4);
        struct sign_ifma_key *key = sign_ifma_key(rsa);
        uint8_t digest[32], signature[OCTETS];
        unsigned len;

        if (!key) {
            RSA_free(rsa);
            print_message("this processor has no AVX-512 IFMA\n");
            return;
        }
        for (uint32_t i = 0; i < 100; i++) {
            put_random(digest, sizeof(digest));
            assert_true(RSA_sign(NID_sha256, digest, 32, signature, &len, rsa));
            compare_flipped(rsa, key, digest, signature);
            compare_sum(rsa, key, digest, signature);
        }
        compare_encodings(rsa, key, digest, signature);
        compare_odd(rsa, key, digest);
        mem_free(key);
        RSA_free(rsa);
    }
    assert_int_equal(right_count, 300);
    assert_true(wrong_count > 1500);
}

static void other_keys_are_left_to_the_library(void **state)
{
    RSA *rsa[] = {make_rsa(1024, RSA_F4), make_rsa(2048, 3), make_rsa(2047, RSA_F4)};

    for (size_t i = 0; i < sizeof(rsa) / sizeof(rsa[0]); i++) {
        assert_null(sign_ifma_key(rsa[i]));
        RSA_free(rsa[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_what_the_library_says),
        cmocka_unit_test(other_keys_are_left_to_the_library),
    };

    rng_init(&dice, 20261123);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
