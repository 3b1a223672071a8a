/* TLSA records against chains made here: an authority, one between, receivers' certificates. */
#include "net/dane.h"

#include "core/base/must.h"
#include "net/dns.h"
#include "tests/unit/core_base/unit.h"

#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define NOW_S   1800000000
#define LONG_S  4000000000
#define PAST_S  1000000000
#define EE      3
#define TA      2
#define CERT    0
#define KEY     1
#define FULL    0
#define SHA_256 1
#define SHA_512 2

struct paper {
    X509 *x509;
    EVP_PKEY *key;
    struct slice der;
    struct slice spki;
};

static struct paper root, between, host, other, expired, unrelated;

struct wish {
    const char *name;
    int64_t until_s;
    const char *constraints;
};

static void extend(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_nconf_nid(NULL, NULL, nid, value);

    must(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void make(struct paper *paper, const struct wish *wish, const struct paper *issuer)
{
    static long number = 1;
    EC_KEY *curve = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    X509 *x509 = X509_new();
    X509_NAME *name = X509_get_subject_name(x509);
    uint8_t *octets = NULL;
    char alternative[100];
    int len;

    paper->key = EVP_PKEY_new();
    must(EC_KEY_generate_key(curve) == 1 && EVP_PKEY_assign_EC_KEY(paper->key, curve) == 1);
    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), number++);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)wish->name, -1, -1, 0);
    X509_set_issuer_name(x509, issuer != NULL ? X509_get_subject_name(issuer->x509) : name);
    must(ASN1_TIME_set(X509_get_notBefore(x509), 0) != NULL);
    must(ASN1_TIME_set(X509_get_notAfter(x509), wish->until_s) != NULL);
    X509_set_pubkey(x509, paper->key);
    snprintf(alternative, sizeof(alternative), "DNS:%s", wish->name);
    extend(x509, NID_subject_alt_name, alternative);
    extend(x509, NID_basic_constraints, wish->constraints);
    must(X509_sign(x509, issuer != NULL ? issuer->key : paper->key, EVP_sha256()) > 0);
    paper->x509 = x509;
    len = i2d_X509(x509, &octets);
    must(len > 0);
    paper->der = slice_of(octets, (size_t)len);
    octets = NULL;
    len = i2d_PUBKEY(paper->key, &octets);
    must(len > 0);
    paper->spki = slice_of(octets, (size_t)len);
}

static void discard(struct paper *paper)
{
    X509_free(paper->x509);
    EVP_PKEY_free(paper->key);
    OPENSSL_free((void *)(uintptr_t)paper->der.data);
    OPENSSL_free((void *)(uintptr_t)paper->spki.data);
}

static int make_all(void **state)
{
    make(&root, &(struct wish){"root.example", LONG_S, "critical,CA:TRUE"}, NULL);
    make(&between, &(struct wish){"between.example", LONG_S, "critical,CA:TRUE"}, &root);
    make(&host, &(struct wish){"mx.example", LONG_S, "CA:FALSE"}, &between);
    make(&other, &(struct wish){"elsewhere.example", LONG_S, "CA:FALSE"}, &between);
    make(&expired, &(struct wish){"mx.example", PAST_S, "CA:FALSE"}, &between);
    make(&unrelated, &(struct wish){"mx.example", LONG_S, "CA:FALSE"}, NULL);
    return 0;
}

static int discard_all(void **state)
{
    discard(&root);
    discard(&between);
    discard(&host);
    discard(&other);
    discard(&expired);
    discard(&unrelated);
    return 0;
}

/* ---- Records --------------------------------------------------------------------------------- */

struct list_of_records {
    uint8_t data[DNS_DATA_MAX];
    size_t len;
};

static void put(struct list_of_records *list, unsigned usage, unsigned selector, unsigned matching,
                struct slice data)
{
    size_t len = 3 + data.len;
    uint8_t *at = list->data + list->len;

    at[0] = (uint8_t)(len & 0xff);
    at[1] = (uint8_t)(len >> 8);
    at[2] = (uint8_t)usage;
    at[3] = (uint8_t)selector;
    at[4] = (uint8_t)matching;
    memcpy(at + 5, data.data, data.len);
    list->len += 2 + len;
}

/* A record that names the certificate in this way. */
static void name_it(struct list_of_records *list, unsigned usage, unsigned selector,
                    unsigned matching, const struct paper *paper)
{
    struct slice shown = selector == KEY ? paper->spki : paper->der;
    uint8_t digest[SHA512_DIGEST_LENGTH];

    if (matching == SHA_256)
        shown = slice_of(SHA256(shown.data, shown.len, digest), SHA256_DIGEST_LENGTH);
    if (matching == SHA_512)
        shown = slice_of(SHA512(shown.data, shown.len, digest), SHA512_DIGEST_LENGTH);
    put(list, usage, selector, matching, shown);
}

static struct slice records_of(const struct list_of_records *list)
{
    return slice_of(list->data, list->len);
}

static bool judge(const struct list_of_records *list, const struct paper *own, const char *name)
{
    const char *names[] = {"nothing.example", name};
    struct slice chain[] = {own->der, between.der, root.der};
    struct dane_peer peer = {
        .chain = chain, .chain_count = 3, .names = names, .name_count = 2, .now_s = NOW_S};

    return dane_judge(records_of(list), &peer) == NULL;
}

static bool judge_one(unsigned usage, unsigned selector, unsigned matching,
                      const struct paper *named, const struct paper *own, const char *name)
{
    struct list_of_records list = {0};

    name_it(&list, usage, selector, matching, named);
    assert_int_equal(dane_worth_of(records_of(&list)), DANE_USABLE);
    return judge(&list, own, name);
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void every_selector_and_matching_names_the_own_certificate(void **state)
{
    for (unsigned selector = 0; selector < 2; selector++)
        for (unsigned matching = 0; matching < 3; matching++) {
            assert_true(judge_one(EE, selector, matching, &host, &host, "mx.example"));
            assert_false(judge_one(EE, selector, matching, &host, &other, "mx.example"));
            /* Usage 3 says nothing of those above. */
            assert_false(judge_one(EE, selector, matching, &between, &host, "mx.example"));
        }
}

static void usage_3_minds_neither_name_nor_date(void **state)
{
    assert_true(judge_one(EE, KEY, SHA_256, &expired, &expired, "mx.example"));
    assert_true(judge_one(EE, CERT, SHA_512, &other, &other, "mx.example"));
    assert_true(judge_one(EE, KEY, SHA_256, &unrelated, &unrelated, "another.example"));
}

static void every_selector_and_matching_names_an_authority(void **state)
{
    for (unsigned selector = 0; selector < 2; selector++)
        for (unsigned matching = 0; matching < 3; matching++) {
            assert_true(judge_one(TA, selector, matching, &between, &host, "mx.example"));
            assert_true(judge_one(TA, selector, matching, &root, &host, "mx.example"));
            /* It stands in the chain and has signed nothing of it. */
            assert_false(judge_one(TA, selector, matching, &root, &unrelated, "mx.example"));
            /* The own certificate is no authority, unless the record is all of it. */
            if (selector == KEY || matching != FULL) {
                assert_false(judge_one(TA, selector, matching, &host, &host, "mx.example"));
                assert_false(
                    judge_one(TA, selector, matching, &unrelated, &unrelated, "mx.example"));
            }
        }
}

static void usage_2_minds_name_and_date(void **state)
{
    assert_false(judge_one(TA, KEY, SHA_256, &root, &host, "another.example"));
    assert_true(judge_one(TA, KEY, SHA_256, &root, &other, "elsewhere.example"));
    assert_false(judge_one(TA, KEY, SHA_256, &root, &other, "mx.example"));
    assert_false(judge_one(TA, KEY, SHA_256, &root, &expired, "mx.example"));
}

static void a_whole_authority_in_a_record_need_not_be_shown(void **state)
{
    const char *names[] = {"mx.example"};
    struct slice chain[] = {host.der};
    struct dane_peer peer = {chain, 1, names, 1, NOW_S};
    struct list_of_records whole = {0}, digest = {0};

    name_it(&whole, TA, CERT, FULL, &between);
    assert_null(dane_judge(records_of(&whole), &peer));
    name_it(&digest, TA, CERT, SHA_256, &between);
    assert_non_null(dane_judge(records_of(&digest), &peer));
    peer.chain_count = 0;
    assert_string_equal(dane_judge(records_of(&whole), &peer), "the receiver shows no certificate");
}

static void one_of_several_is_enough(void **state)
{
    struct list_of_records list = {0};

    name_it(&list, EE, KEY, SHA_256, &unrelated);
    name_it(&list, 0, KEY, SHA_256, &host);
    assert_false(judge(&list, &host, "mx.example"));
    name_it(&list, TA, KEY, SHA_256, &root);
    assert_true(judge(&list, &host, "mx.example"));
    assert_true(judge(&list, &unrelated, "another.example"));
}

static void the_stronger_digest_alone_counts(void **state)
{
    struct list_of_records list = {0};

    name_it(&list, EE, KEY, SHA_256, &host);
    name_it(&list, EE, CERT, SHA_512, &unrelated);
    assert_true(judge(&list, &host, "mx.example"));
    name_it(&list, EE, KEY, SHA_512, &unrelated);
    assert_false(judge(&list, &host, "mx.example"));
    assert_true(judge(&list, &unrelated, "mx.example"));
}

static void what_cannot_be_used_is_known(void **state)
{
    static const struct {
        uint8_t usage, selector, matching, len;
    } rows[] = {{0, 1, 1, 32}, {1, 1, 1, 32}, {4, 1, 1, 32}, {255, 0, 0, 32}, {3, 2, 1, 32},
                {3, 1, 3, 32}, {3, 1, 1, 31}, {3, 1, 2, 32}, {3, 0, 0, 40},   {2, 0, 1, 0}};
    static const uint8_t octets[64] = {1, 2, 3};
    struct list_of_records all = {0};

    assert_int_equal(dane_worth_of(SLICE_EMPTY), DANE_NOTHING);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct list_of_records list = {0};

        put(&list, rows[i].usage, rows[i].selector, rows[i].matching,
            slice_of(octets, rows[i].len));
        put(&all, rows[i].usage, rows[i].selector, rows[i].matching, slice_of(octets, rows[i].len));
        assert_int_equal(dane_worth_of(records_of(&list)), DANE_UNUSABLE);
        assert_false(judge(&list, &host, "mx.example"));
    }
    assert_int_equal(dane_worth_of(records_of(&all)), DANE_UNUSABLE);
    name_it(&all, EE, KEY, SHA_256, &host);
    assert_int_equal(dane_worth_of(records_of(&all)), DANE_USABLE);
    assert_true(judge(&all, &host, "mx.example"));
}

/* Every cut and every flipped octet of a certificate: an answer, and no false yes. */
static void broken_certificates_match_nothing(void **state)
{
    const char *names[] = {"mx.example"};
    struct list_of_records list = {0};
    uint8_t octets[2048];

    must(host.der.len <= sizeof(octets));
    name_it(&list, EE, CERT, SHA_256, &host);
    name_it(&list, TA, CERT, SHA_256, &root);
    for (size_t at = 0; at < host.der.len; at++) {
        struct slice chain[] = {slice_of(octets, host.der.len), between.der, root.der};
        struct dane_peer peer = {chain, 3, names, 1, NOW_S};

        memcpy(octets, host.der.data, host.der.len);
        octets[at] ^= 0x41;
        assert_non_null(dane_judge(records_of(&list), &peer));
        octets[at] ^= 0x41;
        chain[0].len = at;
        assert_non_null(dane_judge(records_of(&list), &peer));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_selector_and_matching_names_the_own_certificate),
        cmocka_unit_test(usage_3_minds_neither_name_nor_date),
        cmocka_unit_test(every_selector_and_matching_names_an_authority),
        cmocka_unit_test(usage_2_minds_name_and_date),
        cmocka_unit_test(a_whole_authority_in_a_record_need_not_be_shown),
        cmocka_unit_test(one_of_several_is_enough),
        cmocka_unit_test(the_stronger_digest_alone_counts),
        cmocka_unit_test(what_cannot_be_used_is_known),
        cmocka_unit_test(broken_certificates_match_nothing),
    };

    return cmocka_run_group_tests(tests, make_all, discard_all);
}
