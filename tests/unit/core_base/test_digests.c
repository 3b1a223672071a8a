/* The examples that the standards and the authors give. */
#include "core/base/sha256.h"
#include "core/base/siphash.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

static void assert_digest(const uint8_t digest[SHA256_BYTES], const char *wanted)
{
    char text[2 * SHA256_BYTES + 1];

    for (size_t i = 0; i < SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(text, wanted);
}

static void assert_sha256(struct slice text, const char *wanted)
{
    for (size_t part = 1; part <= text.len + 1; part += part < 70 ? 1 : 97) {
        struct slice rest = text;
        uint8_t digest[SHA256_BYTES];
        struct sha256 hash;

        sha256_init(&hash);
        while (rest.len > 0) {
            size_t len = rest.len < part ? rest.len : part;

            sha256_put(&hash, slice_of(rest.data, len));
            rest = slice_after(rest, len);
        }
        sha256_end(&hash, digest);
        assert_digest(digest, wanted);
    }
}

/* FIPS 180-2 appendix B. */
static void sha256_of_the_standard(void **state)
{
    static char many[1000];

    assert_sha256(SLICE_EMPTY, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_sha256(SLICE_LITERAL("abc"),
                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_sha256(SLICE_LITERAL("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(many, 'a', sizeof(many));
    assert_sha256(slice_of(many, sizeof(many)),
                  "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}

/* RFC 4231, cases 2 and 6. */
static void hmac_of_the_standard(void **state)
{
    uint8_t digest[SHA256_BYTES], key[131];

    hmac_sha256(SLICE_LITERAL("Jefe"), SLICE_LITERAL("what do ya want for nothing?"), digest);
    assert_digest(digest, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    hmac_sha256(slice_of(key, sizeof(key)),
                SLICE_LITERAL("Test Using Larger Than Block-Size Key - Hash Key First"), digest);
    assert_digest(digest, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

/* The paper's appendix A, and the first of the authors' vectors. */
static void siphash_of_the_authors(void **state)
{
    uint8_t key[SIPHASH_KEY_BYTES], text[15];

    for (uint8_t i = 0; i < sizeof(key); i++)
        key[i] = i;
    for (uint8_t i = 0; i < sizeof(text); i++)
        text[i] = i;
    assert_true(siphash(key, slice_of(text, 15)) == 0xa129ca6149be45e5ull);
    assert_true(siphash(key, SLICE_EMPTY) == 0x726fdb47dd0e0e31ull);
    assert_true(siphash(key, slice_of(text, 8)) == 0x93f5f5799a932462ull);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_of_the_standard),
        cmocka_unit_test(hmac_of_the_standard),
        cmocka_unit_test(siphash_of_the_authors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
