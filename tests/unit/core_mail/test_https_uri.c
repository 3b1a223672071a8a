/* Addresses of the Web that strangers name: what is one, and that nothing else is. */
#include "core/mail/https_uri.h"

#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

static void uris_are_read(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {
        {"https://reports.example.com/v1/tlsrpt", "reports.example.com", 443},
        {"HTTPS://A.B", "A.B", 443},
        {"https://a.b?x=y", "a.b", 443},
        {"https://a.b:8443/", "a.b", 8443},
        {"https://a.b:65535?", "a.b", 65535},
        {"https://1-a.x_y.xn--p1ai/%2C%3b/:@/?a/b?c", "1-a.x_y.xn--p1ai", 443},
        {"https://10.0.0.1.x/-._~$&'()*+=", "10.0.0.1.x", 443},
    };
    struct https_uri uri;

    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!https_uri_parse(slice_str(good[i].text), &uri))
            fail_msg("not taken: %s", good[i].text);
        assert_true(slice_equal(uri.host, slice_str(good[i].host)));
        assert_int_equal(uri.port, good[i].port);
    }
}

static void anything_else_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "https",
        "https:",
        "https:/a.b",
        "https://",
        "https:///c",
        " https://a.b",
        "http://a.b/c",
        "httpss://a.b/c",
        "file:///etc/passwd",
        "https://a/c",
        "https://localhost/c",
        "https://a.b./c",
        "https://.a.b/c",
        "https://a..b/c",
        "https://-a.b/c",
        "https://a-.b/c",
        /* All the ways to write an address. */
        "https://127.0.0.1/c",
        "https://127.1/c",
        "https://2130706433/c",
        "https://0x7f.0x1/c",
        "https://a.0x7f000001/c",
        "https://[::1]/c",
        "https://[::1%25eth0]/c",
        /* Whose host one program or another might take to be another. */
        "https://user@a.b/c",
        "https://a.b@c.d/e",
        "https://a.b\\@c.d/e",
        "https://a.b#@c.d/e",
        "https://a.b/c#d",
        "https://a%2eb/c",
        "https://a.b%00/c",
        "https://a.b:/c",
        "https://a.b:0/c",
        "https://a.b:65536/c",
        "https://a.b:-1/c",
        "https://a.b:443:443/c",
        "https://a.b:4 43/c",
        "https://a.b /c",
        /* No octets of an URI, or those that a record has to encode. */
        "https://a.b/c d",
        "https://a.b/c\r\nHost: x.y",
        "https://a.b/\t",
        "https://a.b/\x7f",
        "https://a.b/\xc3\xa4",
        "https://\xc3\xa4.b/",
        "https://a.b/c!10m",
        "https://a.b/c,d",
        "https://a.b/c;d",
        "https://a.b/<c>",
        "https://a.b/\"c",
        "https://a.b/{c}",
        "https://a.b/%",
        "https://a.b/%4",
        "https://a.b/%4g",
        "https://a.b/%%41",
    };
    struct https_uri uri;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (https_uri_parse(slice_str(bad[i]), &uri))
            fail_msg("taken: %s", bad[i]);
    assert_false(https_uri_parse(slice_of("https://a.b/\0", 13), &uri));
    assert_false(https_uri_parse(slice_of("https://a.b\0/", 13), &uri));
}

static void they_are_bounded(void **state)
{
    char text[HTTPS_URI_MAX + 2];
    struct https_uri uri;
    size_t len = (size_t)snprintf(text, sizeof(text), "https://a.b/");

    memset(text + len, 'x', sizeof(text) - len);
    assert_true(https_uri_parse(slice_of(text, HTTPS_URI_MAX), &uri));
    assert_false(https_uri_parse(slice_of(text, HTTPS_URI_MAX + 1), &uri));
    /* A label of 63, a name of 253. */
    memset(text + 8, 'y', sizeof(text) - 8);
    for (unsigned i = 8 + 63; i < 8 + 253; i += 64)
        text[i] = '.';
    assert_true(https_uri_parse(slice_of(text, 8 + 253), &uri));
    assert_false(https_uri_parse(slice_of(text, 8 + 254), &uri));
    text[8 + 63] = 'y';
    assert_false(https_uri_parse(slice_of(text, 8 + 253), &uri));
}

/* Whatever is taken has a host and a port that another reader finds too, in octets that say nothing
 * to a line of HTTP. */
static void any_text_is_read_within_its_bounds(void **state)
{
    static const char *const words[] = {"https://", "a.b", ".", "/", "?", ":", "443", "@",  "%",
                                        "%41",      "#",   " ", "x", "0", "[", "]",   "\\", "\n"};
    struct https_uri uri;
    struct rng rng;
    uint32_t found = 0;

    rng_init(&rng, 7);
    for (uint32_t i = 0; i < 200000; i++) {
        char text[64], *exact;
        size_t len = (size_t)snprintf(text, sizeof(text), "%s%s", words[0],
                                      rng_below(&rng, 8) > 0 ? words[1] : "");

        while (len < sizeof(text) - 10 && rng_below(&rng, 6) > 0)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
                                    words[rng_below(&rng, sizeof(words) / sizeof(words[0]))]);
        exact = malloc(len + 1);
        memcpy(exact, text, len);
        if (https_uri_parse(slice_of(exact, len), &uri)) {
            size_t end = strcspn(text + 8, "/?:");

            found++;
            assert_ptr_equal(uri.host.data, exact + 8);
            assert_int_equal(uri.host.len, end);
            assert_int_equal(strcspn(text, " \n#[]\\"), len);
            assert_true(uri.port == 443 || text[8 + end] == ':');
        }
        free(exact);
    }
    assert_true(found > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uris_are_read),
        cmocka_unit_test(anything_else_is_none),
        cmocka_unit_test(they_are_bounded),
        cmocka_unit_test(any_text_is_read_within_its_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
