/* What a proxy is told, octet by octet. */
#include "net/proxy_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void check(unsigned version, const char *source, const char *target, const void *wanted,
                  size_t len)
{
    uint8_t room[PROXY_HEADER_BYTES_MAX];
    struct ipaddr_port to = {.port = 25};
    struct ipaddr from;

    assert_int_equal(ipaddr_parse(slice_str(source), &from), 0);
    assert_int_equal(ipaddr_parse(slice_str(target), &to.ip), 0);
    assert_int_equal(proxy_header_write(version, &from, &to, room), len);
    assert_memory_equal(room, wanted, len);
}

static void headers(void **state)
{
    static const char v1[] = "PROXY TCP4 192.0.2.1 198.51.100.7 0 25\r\n";
    static const char v1_6[] = "PROXY TCP6 2001:db8::1 2001:db8::2 0 25\r\n";
    static const char v2[] =
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\0\0\0\x19";
    static const char v2_6[] = "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"
                               "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
                               "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x19";

    check(1, "192.0.2.1", "198.51.100.7", v1, sizeof(v1) - 1);
    check(1, "2001:db8::1", "2001:db8::2", v1_6, sizeof(v1_6) - 1);
    check(2, "192.0.2.1", "198.51.100.7", v2, sizeof(v2) - 1);
    check(2, "2001:db8::1", "2001:db8::2", v2_6, sizeof(v2_6) - 1);
    /* The longest one has room. */
    check(1, "2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:7777",
          "PROXY TCP6 2001:db8:1111:2222:3333:4444:5555:6666 "
          "2001:db8:1111:2222:3333:4444:5555:7777 0 25\r\n",
          95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
