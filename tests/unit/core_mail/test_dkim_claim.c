/*
 * What signatures and keys of others say: what is taken from them, and why some are refused.
 */
#include "core/mail/dkim_claim.h"

#include "tests/unit/core_base/unit.h"

#include <string.h>

#define HASH "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
#define REST "; b=AQ ID\r\n\t; bh=" HASH "; "
#define GOOD "v=1; a=rsa-sha256; d=Example.com; s=s1; h=From:To" REST

static void good_claims_are_read(void **state)
{
    static struct dkim_claim claim;
    enum dkim_result result;

    (void)state;
    assert_null(dkim_claim_parse(SLICE_LITERAL(" " GOOD "c=relaxed/simple; l=17; t=5; x=6; "
                                               "i=a@news.example.com; q=dns/txt"),
                                 &claim, &result));
    assert_false(claim.is_ed25519);
    assert_int_equal(claim.header_canon, DKIM_RELAXED);
    assert_int_equal(claim.body_canon, DKIM_SIMPLE);
    assert_true(slice_equal(claim.domain, SLICE_LITERAL("Example.com")));
    assert_true(slice_equal(claim.selector, SLICE_LITERAL("s1")));
    assert_true(slice_equal(claim.identity, SLICE_LITERAL("news.example.com")));
    assert_string_equal(claim.names, "From,To");
    assert_true(claim.has_length && claim.octets == 17 && claim.expires_s == 6);
    assert_memory_equal(claim.body_hash, "12345678901234567890123456789012", DKIM_BODY_HASH);
    assert_int_equal(claim.signature_bytes, 3);
    assert_memory_equal(claim.signature, "\1\2\3", 3);
    assert_true(slice_equal(claim.signature_text, SLICE_LITERAL("AQ ID")));

    assert_null(dkim_claim_parse(SLICE_LITERAL(GOOD "c=relaxed"), &claim, &result));
    assert_int_equal(claim.body_canon, DKIM_SIMPLE);
    assert_false(claim.has_length);
    assert_true(claim.octets == UINT64_MAX);
    assert_true(slice_equal(claim.identity, claim.domain));
}

static void others_are_not(void **state)
{
    static const struct {
        const char *text;
        enum dkim_result result;
    } rows[] = {
        {"", DKIM_NEUTRAL},
        {"v", DKIM_NEUTRAL},
        {"v=2; a=rsa-sha256; d=e.com; s=s; h=From" REST, DKIM_NEUTRAL},
        {"a=rsa-sha256; d=e.com; s=s; h=From" REST, DKIM_NEUTRAL},
        {"v=1; v=1; a=rsa-sha256; d=e.com; s=s; h=From" REST, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha1; d=e.com; s=s; h=From" REST, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; s=s; h=From" REST, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e.com; h=From" REST, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e com; s=s; h=From" REST, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e.com; s=s" REST, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e.com; s=s; h=From:" REST, DKIM_NONE},
        {"v=1; a=rsa-sha256; d=e.com; s=s; h=From::To" REST, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e.com; s=s; h=To" REST, DKIM_PERMERROR},
        {"v=1; a=rsa-sha256; d=e.com; s=s; h=From; b=AQID; bh=AQID", DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e.com; s=s; h=From; b=A!ID; bh=" HASH, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e.com; s=s; h=From; b=AQI; bh=" HASH, DKIM_NEUTRAL},
        {"v=1; a=rsa-sha256; d=e.com; s=s; h=From; b=; bh=" HASH, DKIM_NEUTRAL},
        {GOOD "c=none", DKIM_NEUTRAL},
        {GOOD "l=-1", DKIM_NEUTRAL},
        {GOOD "t=9; x=8", DKIM_NEUTRAL},
        {GOOD "i=@other.com", DKIM_PERMERROR},
        {GOOD "i=@badexample.com", DKIM_PERMERROR},
        {GOOD "i=example.com", DKIM_PERMERROR},
        {GOOD "=x", DKIM_NEUTRAL},
    };
    static struct dkim_claim claim;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum dkim_result result = DKIM_NONE;
        const char *why = dkim_claim_parse(slice_str(rows[i].text), &claim, &result);

        if ((why == NULL) != (rows[i].result == DKIM_NONE) || (why && result != rows[i].result))
            print_error("%s: %s\n", rows[i].text, why ? why : "is good");
        assert_true((why == NULL) == (rows[i].result == DKIM_NONE));
        if (why)
            assert_int_equal(result, rows[i].result);
    }
}

static void keys(void **state)
{
    static const struct {
        const char *record;
        bool is_below; /* i= is below d= */
        bool is_good;
    } rows[] = {
        {"v=DKIM1; k=rsa; p=AQID", false, true},
        {"p=AQ ID", false, true},
        {"v=DKIM1; h=sha1:sha256; s=email; t=y; p=AQID", true, true},
        {"v=DKIM1; s=*; t=s; p=AQID", false, true},
        {"v=DKIM1; t=y:s; p=AQID", true, false},
        {"v=DKIM1; p=", false, false},
        {"v=DKIM1", false, false},
        {"v=DKIM2; p=AQID", false, false},
        {"v=spf1 -all", false, false},
        {"k=ed25519; p=AQID", false, false},
        {"k=dsa; p=AQID", false, false},
        {"h=sha1; p=AQID", false, false},
        {"s=other; p=AQID", false, false},
        {"p=A*ID", false, false},
        {"", false, false},
    };
    static struct dkim_claim claim;
    static struct dkim_public_key key;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *why;

        claim.domain = SLICE_LITERAL("e.com");
        claim.identity = rows[i].is_below ? SLICE_LITERAL("x.e.com") : SLICE_LITERAL("E.com");
        why = dkim_key_parse(slice_str(rows[i].record), &claim, &key);
        if ((why == NULL) != rows[i].is_good)
            print_error("%s: %s\n", rows[i].record, why ? why : "is good");
        assert_true((why == NULL) == rows[i].is_good);
        if (why == NULL)
            assert_int_equal(key.bytes, 3);
    }
}

#define SPKI                                                                                       \
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC5D9NVam/UTLft4V37qcr4zDitLafAlAFELWPlkvJb"             \
    "5vKPJmyGnEXqb5v5uc6ji/G3zjYeo7fJJWyjnEXNoO6fL0n3Ax3/gHTV8DEFqTu+mM/2ucN4JUTmnHSw"             \
    "A7HH+Cg8yV3/X5n+EVaBXlbpv9EfjpM08E4TdFZM98tjw87l9QIDAQAB"
#define RAW                                                                                        \
    "MIGJAoGBALkP01Vqb9RMt+3hXfupyvjMOK0tp8CUAUQtY+WS8lvm8o8mbIacRepvm/m5zqOL8bfONh6j"             \
    "t8klbKOcRc2g7p8vSfcDHf+AdNXwMQWpO76Yz/a5w3glROacdLADscf4KDzJXf9fmf4RVoFeVum/0R+O"             \
    "kzTwThN0Vkz3y2PDzuX1AgMBAAE="
#define ED "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

static void records_of_our_keys(void **state)
{
    static const struct {
        const char *record, *ours;
        bool is_ed25519;
        enum dkim_record result;
        bool is_testing, is_strict;
    } rows[] = {
        {"v=DKIM1; k=rsa; p=" SPKI, SPKI, false, DKIM_RECORD_MATCHES, false, false},
        {"p=" SPKI, SPKI, false, DKIM_RECORD_MATCHES, false, false},
        {"v=DKIM1; p=" RAW, SPKI, false, DKIM_RECORD_MATCHES, false, false},
        {"v=DKIM1; t=y:s; p=" SPKI ";", SPKI, false, DKIM_RECORD_MATCHES, true, true},
        {"v=DKIM1; k=ed25519; p=" ED, ED, true, DKIM_RECORD_MATCHES, false, false},
        {"v=DKIM1; h=sha1 : sha256; s=*; p=" SPKI, SPKI, false, DKIM_RECORD_MATCHES, false, false},
        {"v=DKIM1; k=ed25519; p=A" ED, ED, true, DKIM_RECORD_OTHER_KEY, false, false},
        {"v=DKIM1; p=AQAB", SPKI, false, DKIM_RECORD_OTHER_KEY, false, false},
        {"v=DKIM1; p=A*AB", SPKI, false, DKIM_RECORD_OTHER_KEY, false, false},
        {"v=DKIM1; p=", SPKI, false, DKIM_RECORD_REVOKED, false, false},
        {"v=DKIM1; k=ed25519; p=" ED, SPKI, false, DKIM_RECORD_UNFIT, false, false},
        {"v=DKIM1; p=" ED, ED, true, DKIM_RECORD_UNFIT, false, false},
        {"v=DKIM1; h=sha1; p=" SPKI, SPKI, false, DKIM_RECORD_UNFIT, false, false},
        {"v=DKIM1; s=tlsrpt; p=" SPKI, SPKI, false, DKIM_RECORD_UNFIT, false, false},
        {"v=spf1 -all", SPKI, false, DKIM_RECORD_BROKEN, false, false},
        {"k=rsa; v=DKIM1; p=" SPKI, SPKI, false, DKIM_RECORD_BROKEN, false, false},
        {"nonsense", SPKI, false, DKIM_RECORD_BROKEN, false, false},
        {"", SPKI, false, DKIM_RECORD_BROKEN, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dkim_record_flags flags;
        const char *why;

        assert_int_equal(dkim_record_judge(slice_str(rows[i].record), rows[i].is_ed25519,
                                           slice_str(rows[i].ours), &flags, &why),
                         rows[i].result);
        assert_true((why == NULL) == (rows[i].result == DKIM_RECORD_MATCHES));
        assert_int_equal(flags.is_testing, rows[i].is_testing);
        assert_int_equal(flags.is_strict, rows[i].is_strict);
    }
    for (int i = 0; i < DKIM_RECORD_COUNT; i++)
        assert_non_null(dkim_record_name((enum dkim_record)i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_claims_are_read),
        cmocka_unit_test(others_are_not),
        cmocka_unit_test(keys),
        cmocka_unit_test(records_of_our_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
