#include "core/base/err.h"
#include "core/base/ipaddr.h"

#include "tests/unit/core_base/unit.h"

#include <netinet/in.h>
#include <sys/socket.h>

static struct ipaddr ip_of(const char *text)
{
    struct ipaddr ip = {0};

    assert_int_equal(ipaddr_parse(slice_str(text), &ip), 0);
    return ip;
}

static struct cidr cidr_of(const char *text)
{
    struct cidr block = {0};

    assert_int_equal(cidr_parse(slice_str(text), &block), 0);
    return block;
}

static void parse_and_format(void **state)
{
    static const char *const texts[][2] = {
        {"192.0.2.1", "192.0.2.1"},
        {"0.0.0.0", "0.0.0.0"},
        {"255.255.255.255", "255.255.255.255"},
        {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
        {"::", "::"},
        {"::1", "::1"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        /* Mapped addresses are what they map. */
        {"::ffff:127.0.0.1", "127.0.0.1"},
        {"::FFFF:7f00:1", "127.0.0.1"},
        {"0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"},
    };
    char room[IPADDR_TEXT_MAX];

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct ipaddr ip = ip_of(texts[i][0]);

        assert_int_equal(ipaddr_format(&ip, room), strlen(texts[i][1]));
        assert_string_equal(room, texts[i][1]);
    }
}

static void parse_refuses(void **state)
{
    static const char *const texts[] = {
        "",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4/8",
        "0x1.2.3.4",
        "1:2",
        ":::",
        "1::2::3",
        "fe80::1%eth0",
        "[::1]",
        "::ffff:1.2.3",
        "12345::",
        "localhost",
        "0000000000000000000000000000000000000000000000000000000000000001",
    };
    struct ipaddr ip = ip_of("192.0.2.1");
    struct ipaddr before = ip;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(ipaddr_parse(slice_str(texts[i]), &ip), E_SYNTAX);
    assert_int_equal(ipaddr_parse(slice_of("1.2.3.4\0", 8), &ip), E_SYNTAX);
    assert_memory_equal(&ip, &before, sizeof(ip));
    /* Only the slice is read, not what follows it. */
    assert_int_equal(ipaddr_parse(slice_of("1.2.3.45", 7), &ip), 0);
    assert_int_equal(ip.bytes[3], 4);
}

static void equality_and_hash(void **state)
{
    struct ipaddr a = ip_of("10.0.0.1");
    struct ipaddr b = ip_of("::ffff:10.0.0.1");
    struct ipaddr v6 = ip_of("a00:1::");

    /* The bytes behind an IPv4 address mean nothing. */
    b.bytes[9] = 77;
    assert_true(ipaddr_equal(&a, &b));
    assert_true(ipaddr_hash(&a) == ipaddr_hash(&b));
    assert_false(ipaddr_equal(&a, &v6));
    b = ip_of("10.0.0.2");
    assert_false(ipaddr_equal(&a, &b));
    assert_true(ipaddr_hash(&a) != ipaddr_hash(&b));
}

static void cidr_forms(void **state)
{
    static const struct {
        const char *text;
        const char *ip;
        unsigned bits;
    } cases[] = {
        {"192.0.2.0/24", "192.0.2.0", 24},
        {"192.0.2.7", "192.0.2.7", 32},
        {"2001:db8::1", "2001:db8::1", 128},
        {"10/8", "10.0.0.0", 8},
        {"0/0", "0.0.0.0", 0},
        {"172.16/12", "172.16.0.0", 12},
        {"192.0.2/24", "192.0.2.0", 24},
        {"::/0", "::", 0},
        /* Bits behind the prefix are cleared. */
        {"192.0.2.77/24", "192.0.2.0", 24},
        {"192.0.2.255/25", "192.0.2.128", 25},
        {"2001:db8:ffff::/33", "2001:db8:8000::", 33},
        {"::ffff:10.1.2.3/104", "10.0.0.0", 8},
        {"::ffff:0:0/96", "0.0.0.0", 0},
        {"192.0.2.7/255.255.255.240", "192.0.2.0", 28},
        {"192.0.2.7/255.255.255.255", "192.0.2.7", 32},
        {"192.0.2.7/0.0.0.0", "0.0.0.0", 0},
        {"10/255.0.0.0", "10.0.0.0", 8},
        {"10.200/255.128.0.0", "10.128.0.0", 9},
        {"2001:db8::1/ffff:ffff::", "2001:db8::", 32},
        /* Shorter than the mapped prefix: IPv6, and it holds no IPv4 address. */
        {"::ffff:0:0/80", "::", 80},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cidr block = cidr_of(cases[i].text);
        struct ipaddr ip = ip_of(cases[i].ip);

        assert_true(ipaddr_equal(&block.ip, &ip));
        assert_int_equal(block.prefix_bits, cases[i].bits);
    }
}

static void cidr_refuses(void **state)
{
    static const char *const texts[] = {"",
                                        "/8",
                                        "10",
                                        "10.0.0",
                                        "10/",
                                        "256/8",
                                        "10./8",
                                        ".10/8",
                                        "1.2.3.4./8",
                                        "1.2.3.4.5/8",
                                        "10/-1",
                                        "10/8/8",
                                        "a/8",
                                        "0010/8",
                                        "::1/x",
                                        "10/255.0.0",
                                        "::/255.0.0.0",
                                        "10/ff00::",
                                        "255.0.0.0/255.0.0.0/8"};
    static const char *const masks[] = {"192.0.2.0/255.255.240.255", "10/0.255.255.255",
                                        "10/255.0.0.1", "10/127.0.0.0", "::/ffff:0:1::"};
    struct cidr block = cidr_of("10/8");
    struct cidr before = block;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(cidr_parse(slice_str(texts[i]), &block), E_SYNTAX);
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        assert_int_equal(cidr_parse(slice_str(masks[i]), &block), E_HOLES);
        assert_non_null(strstr(cidr_why(E_HOLES), "holes"));
    }
    assert_int_equal(cidr_parse(slice_str("10/33"), &block), E_RANGE);
    assert_int_equal(cidr_parse(slice_str("::/129"), &block), E_RANGE);
    assert_memory_equal(&block, &before, sizeof(block));
}

static void cidr_holds(void **state)
{
    static const struct {
        const char *block;
        const char *ip;
        bool inside;
    } cases[] = {
        {"192.0.2.0/24", "192.0.2.255", true},
        {"192.0.2.0/24", "192.0.3.0", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.4/31", "192.0.2.5", true},
        {"192.0.2.4/31", "192.0.2.6", false},
        {"192.0.2.4", "192.0.2.4", true},
        {"192.0.2.4", "192.0.2.5", false},
        {"0/0", "203.0.113.9", true},
        {"127/8", "::ffff:127.0.0.1", true},
        /* Each family has blocks of its own. */
        {"0/0", "2001:db8::1", false},
        {"::/0", "192.0.2.1", false},
        {"::/0", "2001:db8::1", true},
        {"2001:db8::/33", "2001:db8:7fff:ffff::", true},
        {"2001:db8::/33", "2001:db8:8000::", false},
        {"2001:db8::1", "2001:db8::1", true},
        {"2001:db8::1/127", "2001:db8::", true},
    };
    struct ipaddr none = {0};
    struct cidr block = {0};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ipaddr ip = ip_of(cases[i].ip);

        block = cidr_of(cases[i].block);
        assert_true(cidr_contains(&block, &ip) == cases[i].inside);
    }
    block = (struct cidr){0};
    assert_false(cidr_contains(&block, &none));
}

/* l loopback, n never unicast, p private, - none of them: exactly one each. */
static void classes(void **state)
{
    static const char *const cases[][2] = {
        {"127.0.0.1", "l"},
        {"127.255.255.255", "l"},
        {"::1", "l"},
        {"::ffff:127.1.2.3", "l"},
        {"126.255.255.255", "-"},
        {"128.0.0.1", "-"},
        {"0.0.0.0", "n"},
        {"0.1.2.3", "n"},
        {"1.0.0.0", "-"},
        {"223.255.255.255", "-"},
        {"224.0.0.1", "n"},
        {"240.0.0.1", "n"},
        {"255.255.255.255", "n"},
        {"::", "n"},
        {"::127.0.0.1", "n"},
        {"ff02::1", "n"},
        {"100::1", "n"},
        {"100:0:0:1::", "-"},
        {"10.0.0.1", "p"},
        {"11.0.0.0", "-"},
        {"172.15.255.255", "-"},
        {"172.16.0.0", "p"},
        {"172.31.255.255", "p"},
        {"172.32.0.0", "-"},
        {"192.168.255.255", "p"},
        {"192.167.0.1", "-"},
        {"192.169.0.1", "-"},
        {"100.63.255.255", "-"},
        {"100.64.0.0", "p"},
        {"100.127.255.255", "p"},
        {"100.128.0.0", "-"},
        {"169.254.0.1", "p"},
        {"169.253.0.1", "-"},
        {"fe80::1", "p"},
        {"febf::1", "p"},
        {"fec0::1", "p"},
        {"fc00::1", "p"},
        {"fdff::1", "p"},
        {"fbff::1", "-"},
        {"fe7f::1", "-"},
        {"2001:db8::1", "-"},
        {"64:ff9b::1", "-"},
    };
    struct ipaddr none = {0};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ipaddr ip = ip_of(cases[i][0]);
        char wanted = cases[i][1][0];

        assert_true(ipaddr_is_loopback(&ip) == (wanted == 'l'));
        assert_true(ipaddr_is_never_unicast(&ip) == (wanted == 'n'));
        assert_true(ipaddr_is_private(&ip) == (wanted == 'p'));
    }
    assert_true(ipaddr_is_never_unicast(&none));
    assert_false(ipaddr_is_loopback(&none));
}

static void sockaddr_both_ways(void **state)
{
    static const char *const texts[] = {"192.0.2.1", "2001:db8::1"};
    struct sockaddr_storage room;
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(25)};

    for (int i = 0; i < 2; i++) {
        struct ipaddr_port at = {.ip = ip_of(texts[i]), .port = 2525};
        struct ipaddr_port back = {0};
        unsigned len = ipaddr_to_sockaddr(&at, (struct sockaddr *)&room);

        assert_int_equal(len, i == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        assert_int_equal(room.ss_family, i == 0 ? AF_INET : AF_INET6);
        assert_int_equal(ipaddr_from_sockaddr((struct sockaddr *)&room, &back), 0);
        assert_true(ipaddr_equal(&back.ip, &at.ip));
        assert_int_equal(back.port, 2525);
        assert_int_equal(((struct sockaddr_in *)&room)->sin_port, htons(2525));
    }
    /* A dual-stack listener reports IPv4 peers as mapped ones. */
    mapped.sin6_addr = (struct in6_addr){.s6_addr = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
    {
        struct ipaddr_port at = {0};

        assert_int_equal(ipaddr_from_sockaddr((struct sockaddr *)&mapped, &at), 0);
        assert_true(ipaddr_is_loopback(&at.ip));
        assert_int_equal(at.ip.family, IPADDR_V4);
        room.ss_family = AF_UNIX;
        assert_int_equal(ipaddr_from_sockaddr((struct sockaddr *)&room, &at), E_UNKNOWN);
        assert_int_equal(at.port, 25);
    }
}

static void limits_count_by(void **state)
{
    static const char *const rows[][2] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
        {"2001:db8:1:2::", "2001:db8:1:2::"},
        {"::1", "::"},
    };
    struct ipaddr mapped = {IPADDR_V6, {[10] = 0xff, 0xff, 192, 0, 2, 1}};
    struct ipaddr ipv4 = ip_of("192.0.2.1");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ipaddr ip = ip_of(rows[i][0]), wanted = ip_of(rows[i][1]);
        struct ipaddr key = ipaddr_limit_key(&ip);

        assert_true(ipaddr_equal(&key, &wanted));
    }
    mapped = ipaddr_limit_key(&mapped);
    assert_true(ipaddr_equal(&mapped, &ipv4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_and_format),
        cmocka_unit_test(parse_refuses),
        cmocka_unit_test(equality_and_hash),
        cmocka_unit_test(cidr_forms),
        cmocka_unit_test(cidr_refuses),
        cmocka_unit_test(cidr_holds),
        cmocka_unit_test(classes),
        cmocka_unit_test(limits_count_by),
        cmocka_unit_test(sockaddr_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
