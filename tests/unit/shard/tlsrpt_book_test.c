/* Books of TLS reports: sums and details, their bounds, and the JSON of RFC 8460 appendix B. */
#include "core/base/mem.h"
#include "shard/tlsrpt_json.h"
#include "tests/unit/core_base/unit.h"

#include <jansson.h>
#include <stdio.h>
#include <zlib.h>

static struct tlsrpt_book book;

static int open_book(void **state)
{
    json_set_alloc_funcs(mem_try_alloc, mem_free);
    tlsrpt_book_init(&book, 16892, 1459468800);
    return 0;
}

static int close_book(void **state)
{
    tlsrpt_book_fini(&book);
    assert_int_equal(book.policy_count, 0);
    assert_int_equal(book.detail_count, 0);
    return 0;
}

static struct tlsrpt_count failure_of(const char *domain, const char *host)
{
    return (struct tlsrpt_count){
        .result = TLSRPT_EXPIRED, .domain = slice_str(domain), .host = slice_str(host), .count = 1};
}

/* ---- JSON ------------------------------------------------------------------------------------ */

#define STS "version: STSv1\r\nmode: testing\r\nmx: *.mail.company-y.example\r\nmax_age: 86400\r\n"

static void put(enum tlsrpt_result result, const char *source, const char *host, const char *reason,
                uint64_t number)
{
    struct tlsrpt_count count = {.type = TLSRPT_STS,
                                 .result = (uint8_t)result,
                                 .domain = SLICE_LITERAL("company-y.example"),
                                 .policy = SLICE_LITERAL(STS),
                                 .host = slice_str(host),
                                 .reason = slice_str(reason),
                                 .count = number};

    if (source)
        assert_int_equal(ipaddr_parse(slice_str(source), &count.source), 0);
    tlsrpt_book_add(&book, &count);
}

static const char *text_at(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static int64_t number_at(json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static json_t *report_of(const char *domain, bool has_details)
{
    struct tlsrpt_report report = {.organization = "Company-X",
                                   .contact = "sts-reporting@company-x.example",
                                   .id = "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
                                   .from_s = 1459468800,
                                   .until_s = 1459555200,
                                   .domain = tlsrpt_book_find(&book, slice_str(domain)),
                                   .has_details = has_details};
    char *text = tlsrpt_json(&report);
    json_t *tree = json_loads(text, 0, NULL);

    assert_non_null(tree);
    mem_free(text);
    return tree;
}

static void check_policy(json_t *policy)
{
    static const char *const lines[] = {"version: STSv1", "mode: testing",
                                        "mx: *.mail.company-y.example", "max_age: 86400"};
    json_t *strings = json_object_get(policy, "policy-string");

    assert_string_equal(text_at(policy, "policy-type"), "sts");
    assert_string_equal(text_at(policy, "policy-domain"), "company-y.example");
    assert_int_equal(json_array_size(strings), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(json_string_value(json_array_get(strings, i)), lines[i]);
    strings = json_object_get(policy, "mx-host");
    assert_int_equal(json_array_size(strings), 1);
    assert_string_equal(json_string_value(json_array_get(strings, 0)), "*.mail.company-y.example");
}

static void the_example_of_the_rfc(void **state)
{
    json_t *tree, *policy, *details, *detail;

    put(TLSRPT_SUCCESS, NULL, "", "", 5326);
    put(TLSRPT_EXPIRED, "2001:db8:abcd:12::1", "mx1.mail.company-y.example", "", 100);
    put(TLSRPT_NO_STARTTLS, "2001:db8:abcd:13::1", "mx2.mail.company-y.example", "", 200);
    put(TLSRPT_FAILURE, "198.51.100.62", "mx-backup.mail.company-y.example",
        "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED", 3);
    tree = report_of("company-y.example", true);
    assert_string_equal(text_at(tree, "organization-name"), "Company-X");
    assert_string_equal(text_at(tree, "contact-info"), "sts-reporting@company-x.example");
    assert_string_equal(text_at(tree, "report-id"), "5065427c-23d3-47ca-b6e0-946ea0e8c4be");
    detail = json_object_get(tree, "date-range");
    assert_string_equal(text_at(detail, "start-datetime"), "2016-04-01T00:00:00Z");
    assert_string_equal(text_at(detail, "end-datetime"), "2016-04-01T23:59:59Z");
    assert_int_equal(json_array_size(json_object_get(tree, "policies")), 1);
    policy = json_array_get(json_object_get(tree, "policies"), 0);
    check_policy(json_object_get(policy, "policy"));
    detail = json_object_get(policy, "summary");
    assert_int_equal(number_at(detail, "total-successful-session-count"), 5326);
    assert_int_equal(number_at(detail, "total-failure-session-count"), 303);
    details = json_object_get(policy, "failure-details");
    assert_int_equal(json_array_size(details), 3);
    detail = json_array_get(details, 0);
    assert_string_equal(text_at(detail, "result-type"), "certificate-expired");
    assert_string_equal(text_at(detail, "sending-mta-ip"), "2001:db8:abcd:12::1");
    assert_string_equal(text_at(detail, "receiving-mx-hostname"), "mx1.mail.company-y.example");
    assert_int_equal(number_at(detail, "failed-session-count"), 100);
    assert_null(json_object_get(detail, "failure-reason-code"));
    detail = json_array_get(details, 2);
    assert_string_equal(text_at(detail, "failure-reason-code"),
                        "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED");
    json_decref(tree);
    tree = report_of("company-y.example", false);
    assert_null(
        json_object_get(json_array_get(json_object_get(tree, "policies"), 0), "failure-details"));
    json_decref(tree);
}

static void strange_octets_are_text(void **state)
{
    struct tlsrpt_count count = failure_of("x.test", "mx\xff\"\\\n.test");
    json_t *tree;

    tlsrpt_book_add(&book, &count);
    tree = report_of("x.test", true);
    json_decref(tree);
}

static void gzip_is_undone(void **state)
{
    static uint8_t octets[100000], back[100000];
    size_t len;
    uint8_t *packed;
    z_stream z = {0};

    for (size_t i = 0; i < sizeof(octets); i++)
        octets[i] = (uint8_t)(i % 251 + i / 1000);
    packed = tlsrpt_gzip(slice_of(octets, sizeof(octets)), &len);
    assert_non_null(packed);
    assert_int_equal(packed[0] << 8 | packed[1], 0x1f8b);
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    z.next_in = packed;
    z.avail_in = (unsigned)len;
    z.next_out = back;
    z.avail_out = sizeof(back);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.total_out, sizeof(back));
    assert_memory_equal(back, octets, sizeof(back));
    inflateEnd(&z);
    mem_free(packed);
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

static void details_beyond_the_bound_are_one_for_each_result(void **state)
{
    const struct tlsrpt_policy *policy;
    uint64_t sum = 0, rest = 0;
    uint32_t details = 0;
    char host[32];

    for (unsigned i = 0; i < 500; i++) {
        struct tlsrpt_count count;

        snprintf(host, sizeof(host), "mx%u.test", i);
        count = failure_of("a.test", host);
        count.result = i % 2 ? TLSRPT_EXPIRED : TLSRPT_NO_STARTTLS;
        tlsrpt_book_add(&book, &count);
    }
    policy = tlsrpt_book_find(&book, SLICE_LITERAL("a.test"))->policies;
    assert_null(policy->next);
    for (const struct tlsrpt_detail *detail = policy->details; detail; detail = detail->next) {
        sum += detail->count;
        rest += detail->host.len == 0 ? detail->count : 0;
        details++;
    }
    assert_int_equal(policy->failures, 500);
    assert_int_equal(sum, 500);
    assert_int_equal(details, TLSRPT_DETAILS_EACH_POLICY + 2);
    assert_int_equal(rest, 500 - TLSRPT_DETAILS_EACH_POLICY);
}

static void policies_beyond_the_bound_are_one_for_each_type(void **state)
{
    const struct tlsrpt_domain *domain;
    uint64_t sum = 0;
    char text[32];

    for (unsigned i = 0; i < 100; i++) {
        struct tlsrpt_count count = {.type = i % 2 ? TLSRPT_TLSA : TLSRPT_STS,
                                     .domain = SLICE_LITERAL("a.test"),
                                     .host = SLICE_LITERAL("mx.test"),
                                     .count = 1};

        snprintf(text, sizeof(text), "3 1 1 %02x", i);
        count.policy = slice_str(text);
        tlsrpt_book_add(&book, &count);
    }
    domain = tlsrpt_book_find(&book, SLICE_LITERAL("a.test"));
    assert_int_equal(domain->policy_count, TLSRPT_POLICIES_EACH_DOMAIN + 2);
    for (const struct tlsrpt_policy *policy = domain->policies; policy; policy = policy->next)
        sum += policy->successes;
    assert_int_equal(sum, 100);
}

static void domains_beyond_the_bound_are_counted(void **state)
{
    char name[32];

    for (unsigned i = 0; i < TLSRPT_DOMAINS_MAX + 10; i++) {
        struct tlsrpt_count count;

        snprintf(name, sizeof(name), "%u.test", i);
        count = failure_of(name, "mx.test");
        tlsrpt_book_add(&book, &count);
    }
    assert_int_equal(book.domains.count_used, TLSRPT_DOMAINS_MAX);
    assert_int_equal(book.left_out, 10);
    tlsrpt_book_drop(&book, tlsrpt_book_find(&book, SLICE_LITERAL("7.test")));
    assert_null(tlsrpt_book_find(&book, SLICE_LITERAL("7.test")));
    assert_non_null(tlsrpt_book_find(&book, SLICE_LITERAL("8.test")));
}

/* ---- The walk -------------------------------------------------------------------------------- */

static void add_to(void *context, const struct tlsrpt_count *count)
{
    tlsrpt_book_add(context, count);
}

static json_t *tree_of(const struct tlsrpt_book *of, const char *domain)
{
    struct tlsrpt_report report = {.organization = "",
                                   .contact = "",
                                   .id = "",
                                   .domain = tlsrpt_book_find(of, slice_str(domain)),
                                   .has_details = true};
    char *text = tlsrpt_json(&report);
    json_t *tree = json_loads(text, 0, NULL);

    mem_free(text);
    return tree;
}

static uint64_t sum_of(const struct tlsrpt_book *of, const char *domain)
{
    json_t *tree = tree_of(of, domain), *policy;
    uint64_t sum = 0;
    size_t i;

    json_array_foreach(json_object_get(tree, "policies"), i, policy)
    {
        json_t *summary = json_object_get(policy, "summary");

        sum = sum * 31 + (uint64_t)number_at(summary, "total-successful-session-count") * 1000 +
              (uint64_t)number_at(summary, "total-failure-session-count");
        sum += json_array_size(json_object_get(policy, "failure-details")) * 7;
    }
    json_decref(tree);
    return sum;
}

/* Aggregated ones among them. */
static void a_walk_makes_the_same_again(void **state)
{
    struct tlsrpt_book second;
    char text[32], host[32];

    for (unsigned i = 0; i < 3000; i++) {
        struct tlsrpt_count count = failure_of("a.test", "");

        snprintf(text, sizeof(text), "3 1 1 %02x", i % 20);
        snprintf(host, sizeof(host), "mx%u.test", i % 20 < 15 ? i % 20 : i);
        count.type = (uint8_t)(i % 3);
        count.result = (uint8_t)(i % 5);
        count.policy = slice_str(text);
        count.host = slice_str(host);
        tlsrpt_book_add(&book, &count);
    }
    tlsrpt_book_init(&second, 0, 0);
    tlsrpt_domain_walk(tlsrpt_book_find(&book, SLICE_LITERAL("a.test")), add_to, &second);
    assert_int_equal(book.policy_count, second.policy_count);
    assert_int_equal(book.detail_count, second.detail_count);
    assert_int_equal(sum_of(&book, "a.test"), sum_of(&second, "a.test"));
    tlsrpt_book_fini(&second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_book, close_book)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_example_of_the_rfc),
        TEST(strange_octets_are_text),
        TEST(gzip_is_undone),
        TEST(details_beyond_the_bound_are_one_for_each_result),
        TEST(policies_beyond_the_bound_are_one_for_each_type),
        TEST(domains_beyond_the_bound_are_counted),
        TEST(a_walk_makes_the_same_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
