/* Where reports about TLS go (RFC 8460 3), and the mail that brings one (5.3). */
#include "core/base/base64.h"
#include "core/base/rng.h"
#include "core/mail/tlsrpt_mail.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

/* ---- Records --------------------------------------------------------------------------------- */

static bool find(struct slice *rua, const char *first, const char *second)
{
    struct slice texts[2] = {slice_str(first), slice_str(second ? second : "")};

    return tlsrpt_record_find(texts, second ? 2 : 1, rua);
}

/* The targets of the record, each followed by a blank; "-" for what is none. */
static const char *addresses(const char *record)
{
    static char found[512];
    enum tlsrpt_scheme scheme;
    struct slice rua, address;
    char room[64];

    found[0] = '\0';
    if (!find(&rua, record, NULL))
        return "no record";
    while (tlsrpt_rua_next(&rua, room, sizeof(room), &scheme, &address)) {
        size_t len = strlen(found);

        assert_int_equal(scheme == TLSRPT_NO_SCHEME, address.len == 0);
        assert_int_equal(scheme == TLSRPT_HTTPS,
                         slice_starts_nocase(address, SLICE_LITERAL("https:")));
        if (address.len == 0)
            address = SLICE_LITERAL("-");
        snprintf(found + len, sizeof(found) - len, "%.*s ", (int)address.len,
                 (const char *)address.data);
    }
    return found;
}

static void records_are_read(void **state)
{
    assert_string_equal(addresses("v=TLSRPTv1;rua=mailto:reports@example.com"),
                        "reports@example.com ");
    assert_string_equal(addresses("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"),
                        "https://reporting.example.com/v1/tlsrpt ");
    assert_string_equal(addresses("v=TLSRPTv1; rua=mailto:a@b,HTTPS://A.b/c%2Cd?e=f,mailto:c@d"),
                        "a@b HTTPS://A.b/c%2Cd?e=f c@d ");
    assert_string_equal(addresses("v=TLSRPTv1; rua=http://a.b/c,ftp://a.b/c,https,https:,a@b"),
                        "- - - - - ");
    assert_string_equal(addresses("v=TLSRPTv1 ;\trua = https://a/b , MAILTO:a%2Bb%40c.test?x=y;"),
                        "- a+b@c.test ");
    assert_string_equal(addresses("v=TLSRPTv1; x=y; rua=mailto:a@b,mailto:c@d; z"), "a@b c@d ");
}

static void what_is_wrong_is_no_record(void **state)
{
    static const char *const wrong[] = {
        "",
        "v=TLSRPTv1",
        "v=TLSRPTv1;",
        "v=TLSRPTv1; rua=",
        "v=TLSRPTv1; rua",
        "v=tlsrptv1; rua=mailto:a@b",
        "v=TLSRPTv2; rua=mailto:a@b",
        "rua=mailto:a@b; v=TLSRPTv1",
        "v=TLSRPTv1; rua=mailto:a@b; rua=mailto:c@d",
        "v=STSv1; id=1",
    };
    struct slice rua;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (find(&rua, wrong[i], NULL))
            fail_msg("taken: %s", wrong[i]);
}

/* RFC 8460 3: others are passed over, of several of ours none counts. */
static void there_is_one_record(void **state)
{
    struct slice rua;

    assert_true(find(&rua, "v=spf1 -all", "v=TLSRPTv1; rua=mailto:a@b"));
    assert_false(find(&rua, "v=TLSRPTv1; rua=mailto:a@b", "v=TLSRPTv1; rua=mailto:a@b"));
}

static void odd_addresses_are_none(void **state)
{
    assert_string_equal(addresses("v=TLSRPTv1; rua=mailto:%4,mailto:%zz,mailto:,mailto:x%0"),
                        "- - - - ");
    assert_string_equal(
        addresses("v=TLSRPTv1; rua=mailto:"
                  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                  "aaa@b,mailto:c@d"),
        "- c@d ");
}

/* Records are strangers' words: whatever they say, each URI is read within its octets (sanitizers
 * watch), and there are no more of them than commas and one. */
static void any_text_is_read_within_its_bounds(void **state)
{
    static const char *const words[] = {"v=TLSRPTv1", ";",      "rua=",        "mailto:", ",", "%",
                                        "%4",         "%41",    "?",           " ",       "=", "a",
                                        "@",          "https:", "https://a.b", "/",       ":1"};
    struct rng rng;
    uint32_t found = 0, posts = 0;

    rng_init(&rng, 5);
    for (uint32_t i = 0; i < 200000; i++) {
        char text[128], *exact;
        size_t len = 0, commas = 0, uris = 0;
        struct slice record, rua, address;
        enum tlsrpt_scheme scheme;
        char room[16];

        if (rng_below(&rng, 2) == 0)
            len = (size_t)snprintf(text, sizeof(text), "v=TLSRPTv1;rua=");
        while (len < sizeof(text) - 16 && rng_below(&rng, 20) > 0)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
                                    words[rng_below(&rng, sizeof(words) / sizeof(words[0]))]);
        exact = malloc(len + 1);
        memcpy(exact, text, len);
        record = slice_of(exact, len);
        if (tlsrpt_record_find(&record, 1, &rua)) {
            found++;
            for (size_t k = 0; k < rua.len; k++)
                commas += rua.data[k] == ',';
            while (tlsrpt_rua_next(&rua, room, sizeof(room), &scheme, &address)) {
                assert_true(scheme == TLSRPT_HTTPS || address.len <= sizeof(room));
                posts += scheme == TLSRPT_HTTPS;
                uris++;
            }
            assert_true(uris <= commas + 1);
        }
        free(exact);
    }
    assert_true(found > 10000 && posts > 1000);
}

/* ---- Mail ------------------------------------------------------------------------------------ */

static struct tlsrpt_mail mail_of(struct slice content)
{
    return (struct tlsrpt_mail){
        .from = SLICE_LITERAL("tlsrpt@mail.sender.example.com"),
        .to = SLICE_LITERAL("mts-sts-tlsrpt@example.net"),
        .domain = SLICE_LITERAL("example.net"),
        .organization = SLICE_LITERAL("Sender\r\nX-Forged: yes \xc3\xa4"),
        .report_id = SLICE_LITERAL("735ff.e317+bf22029@mailexample.com"),
        .host = SLICE_LITERAL("mta.sender.example.com"),
        .id = SLICE_LITERAL("0123456789abc"),
        .now_us = 1470182400000000,
        .from_s = 1470009600,
        .until_s = 1470096000,
        .content = content,
    };
}

static char *write_mail(const struct tlsrpt_mail *mail)
{
    size_t size = tlsrpt_mail_bytes_max(mail);
    char *room = malloc(size + 1);
    struct text text = text_in(room, size + 1);

    tlsrpt_mail_write(mail, &text);
    assert_false(text.is_cut);
    text_end(&text);
    return room;
}

static void assert_has(const char *text, const char *part)
{
    assert_non_null(text);
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}

static void the_mail_is_as_the_rfc_has_it(void **state)
{
    struct tlsrpt_mail mail = mail_of(SLICE_LITERAL("gzip"));
    char *text = write_mail(&mail);

    assert_has(text, "\r\nSubject: Report Domain: example.net\r\n"
                     " Submitter: mail.sender.example.com\r\n"
                     " Report-ID: <735ff.e317+bf22029@mailexample.com>\r\n");
    assert_has(text, "\r\nTLS-Report-Domain: example.net\r\n");
    assert_has(text, "\r\nTLS-Report-Submitter: mail.sender.example.com\r\n");
    assert_has(text, "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; "
                     "report-type=\"tlsrpt\";\r\n boundary=\"tlsrpt=_0123456789abc\"\r\n\r\n");
    assert_has(text, "\r\nContent-Type: application/tlsrpt+gzip\r\n");
    assert_has(text, " filename=\"mail.sender.example.com!example.net!1470009600!1470096000"
                     ".json.gz\"\r\n\r\nZ3ppcA==\r\n\r\n--tlsrpt=_0123456789abc--\r\n");
    assert_null(strstr(text, "\r\nX-Forged"));
    assert_has(text, "Sender  X-Forged: yes ??");
    free(text);
}

static void any_content_comes_back(void **state)
{
    static uint8_t content[5000], back[5000];

    for (size_t i = 0; i < sizeof(content); i++)
        content[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t len = 0; len < sizeof(content); len += len < 200 ? 1 : 977) {
        struct tlsrpt_mail mail = mail_of(slice_of(content, len));
        char *text = write_mail(&mail), *at = strstr(text, ".json.gz\"\r\n\r\n") + 13;
        char *end = strstr(at, "\r\n--"), joined[8000];
        size_t used = 0;

        for (; at < end; at++)
            if (*at != '\r' && *at != '\n')
                joined[used++] = *at;
        assert_int_equal(base64_decode(slice_of(joined, used), back, sizeof(back)), len);
        assert_memory_equal(back, content, len);
        assert_null(strstr(text, "\r\n."));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read),
        cmocka_unit_test(what_is_wrong_is_no_record),
        cmocka_unit_test(there_is_one_record),
        cmocka_unit_test(odd_addresses_are_none),
        cmocka_unit_test(any_text_is_read_within_its_bounds),
        cmocka_unit_test(the_mail_is_as_the_rfc_has_it),
        cmocka_unit_test(any_content_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
