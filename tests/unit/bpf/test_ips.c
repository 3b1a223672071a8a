/*
 * The loader and its program with the real kernel: connections of this very process over loopback,
 * and what is counted for them.
 */
#include "bpf/ips.h"

#include "core/base/err.h"
#include "tests/unit/core_base/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define SKIPPED       77
#define ROWS_MAX      64
#define PAYLOAD_BYTES 20000

static struct ips *ips;
static struct ip_figures rows[ROWS_MAX];

/* ---- Sockets --------------------------------------------------------------------------------- */

struct pair {
    int ours;
    int theirs;
};

static struct sockaddr_in6 address_of(const char *text, uint16_t port, socklen_t *ret_len)
{
    struct ipaddr_port at = {.port = port};
    struct sockaddr_storage room;
    struct sockaddr_in6 result = {0};

    assert_int_equal(ipaddr_parse(slice_str(text), &at.ip), 0);
    *ret_len = ipaddr_to_sockaddr(&at, (struct sockaddr *)&room);
    memcpy(&result, &room, *ret_len);
    return result;
}

/* A socket bound to the address; NULL = to none. */
static int open_socket(const char *source, int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 at;
    socklen_t len;

    assert_true(fd >= 0);
    if (source == NULL)
        return fd;
    at = address_of(source, 0, &len);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    return fd;
}

static int try_connect(int fd, const char *to, uint16_t port)
{
    socklen_t len;
    struct sockaddr_in6 at = address_of(to, port, &len);

    return connect(fd, (struct sockaddr *)&at, len) < 0 ? -errno : 0;
}

static int listen_at(const char *text, int family, uint16_t *ret_port)
{
    int fd = open_socket(text, family);
    struct sockaddr_in6 at;
    socklen_t len = sizeof(at);

    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *ret_port = ntohs(at.sin6_port); /* at the same place in both families */
    return fd;
}

static struct pair connect_pair(const char *source, const char *to, int family)
{
    uint16_t port;
    int listener = listen_at(to, family, &port);
    struct pair pair = {.ours = open_socket(source, family)};

    assert_int_equal(try_connect(pair.ours, to, port), 0);
    pair.theirs = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(pair.theirs >= 0);
    close(listener);
    return pair;
}

static void transfer(int from, int to)
{
    static char octets[PAYLOAD_BYTES];
    size_t got = 0;

    assert_int_equal(send(from, octets, sizeof(octets), MSG_NOSIGNAL), sizeof(octets));
    while (got < sizeof(octets)) {
        ssize_t more = recv(to, octets, sizeof(octets) - got, 0);

        assert_true(more > 0);
        got += (size_t)more;
    }
}

/* ---- Figures --------------------------------------------------------------------------------- */

/* The row of an address as it is now; zeros when there is none. */
static struct ip_figures read_row(const char *text)
{
    struct ipaddr source;
    int count = ips_read(ips, rows, ROWS_MAX);

    assert_int_equal(ipaddr_parse(slice_str(text), &source), 0);
    assert_true(count >= 0);
    for (int i = 0; i < count; i++)
        if (ipaddr_equal(&rows[i].source, &source))
            return rows[i];
    return (struct ip_figures){0};
}

static void an_open_connection_is_counted(void **state)
{
    const char *source = "127.90.1.1";
    struct pair pair = connect_pair(source, "127.90.0.1", AF_INET);
    struct ip_figures row;

    transfer(pair.ours, pair.theirs);
    transfer(pair.theirs, pair.ours);
    transfer(pair.ours, pair.theirs);
    row = read_row(source);
    assert_int_equal(row.counters[IP_CONNECTS], 1);
    assert_int_equal(row.counters[IP_ESTABLISHED], 1);
    assert_int_equal(row.counters[IP_BYTES_SENT], 2 * PAYLOAD_BYTES);
    assert_int_equal(row.counters[IP_BYTES_RECEIVED], PAYLOAD_BYTES);
    assert_int_equal(row.counters[IP_SRTT_SAMPLES], 1);
    assert_true(row.srtt_min_us > 0 && row.srtt_last_us == row.srtt_min_us);
    /* Nothing happened since: nothing is added, not even a look. */
    row = read_row(source);
    assert_int_equal(row.counters[IP_BYTES_SENT], 2 * PAYLOAD_BYTES);
    assert_int_equal(row.counters[IP_SRTT_SAMPLES], 1);
    transfer(pair.ours, pair.theirs);
    close(pair.ours);
    close(pair.theirs);
    row = read_row(source);
    assert_int_equal(row.counters[IP_BYTES_SENT], 3 * PAYLOAD_BYTES);
    assert_int_equal(row.counters[IP_RESETS], 0);
}

static void the_other_end_is_not_counted(void **state)
{
    struct pair pair = connect_pair("127.90.2.1", "127.90.2.2", AF_INET);

    transfer(pair.theirs, pair.ours);
    close(pair.theirs);
    close(pair.ours);
    assert_int_equal(read_row("127.90.2.1").counters[IP_CONNECTS], 1);
    assert_int_equal(read_row("127.90.2.2").source.family, IPADDR_NONE);
}

static void v6_has_rows_of_its_own(void **state)
{
    struct pair pair = connect_pair("::1", "::1", AF_INET6);
    struct ip_figures row;

    transfer(pair.ours, pair.theirs);
    row = read_row("::1");
    assert_int_equal(row.counters[IP_CONNECTS], 1);
    assert_int_equal(row.counters[IP_BYTES_SENT], PAYLOAD_BYTES);
    close(pair.ours);
    close(pair.theirs);
}

static void who_chose_no_source_is_not_counted(void **state)
{
    struct pair pair = connect_pair(NULL, "127.90.3.1", AF_INET);
    struct sockaddr_in at;
    socklen_t len = sizeof(at);
    char source[INET_ADDRSTRLEN];

    assert_int_equal(getsockname(pair.ours, (struct sockaddr *)&at, &len), 0);
    inet_ntop(AF_INET, &at.sin_addr, source, sizeof(source));
    transfer(pair.ours, pair.theirs);
    close(pair.ours);
    close(pair.theirs);
    assert_int_equal(read_row(source).counters[IP_CONNECTS], 0);
}

static void refusals_and_resets_are_told_apart(void **state)
{
    const struct linger at_once = {.l_onoff = 1};
    const char *source = "127.90.4.1";
    uint16_t port;
    int listener = listen_at("127.90.4.2", AF_INET, &port);
    int refused = open_socket(source, AF_INET);
    struct ip_figures row;
    struct pair pair;

    close(listener);
    assert_int_equal(try_connect(refused, "127.90.4.2", port), -ECONNREFUSED);
    close(refused);
    row = read_row(source);
    assert_int_equal(row.counters[IP_CONNECTS], 1);
    assert_int_equal(row.counters[IP_ESTABLISHED], 0);
    assert_int_equal(row.counters[IP_REFUSED], 1);
    pair = connect_pair(source, "127.90.4.3", AF_INET);
    setsockopt(pair.theirs, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(pair.theirs);
    row = read_row(source);
    assert_int_equal(row.counters[IP_CONNECTS], 2);
    assert_int_equal(row.counters[IP_REFUSED], 1);
    assert_int_equal(row.counters[IP_RESETS], 1);
    assert_int_equal(row.counters[IP_SYN_TIMEOUTS], 0);
    close(pair.ours);
}

static void rows_are_bounded(void **state)
{
    for (int i = 1; i <= 3; i++) {
        char source[32];
        struct pair pair;

        snprintf(source, sizeof(source), "127.90.5.%d", i);
        pair = connect_pair(source, "127.90.5.100", AF_INET);
        close(pair.ours);
        close(pair.theirs);
    }
    assert_int_equal(ips_read(ips, rows, 2), 2);
    assert_int_equal(ips_read(ips, rows, 0), 0);
    assert_int_equal(read_row("127.90.5.3").counters[IP_CONNECTS], 1);
}

/* A process of its own, not in the cgroup: it was forked before. */
static void others_are_not_counted(void **state)
{
    const int *go = *state;
    char octet = 0;

    assert_int_equal(write(go[1], &octet, 1), 1);
    assert_int_equal(read(go[0], &octet, 1), 1);
    assert_int_equal(octet, 'c');
    assert_int_equal(read_row("127.90.6.1").counters[IP_CONNECTS], 0);
}

/* Connects when it is told to, then says so. */
static void start_other(int ret_go[2])
{
    int pair[2];
    char octet = 'c';

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    if (fork() == 0) {
        close(pair[0]);
        if (read(pair[1], &octet, 1) == 1) {
            connect_pair("127.90.6.1", "127.90.6.2", AF_INET);
            octet = 'c';
            if (write(pair[1], &octet, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    close(pair[1]);
    ret_go[0] = pair[0];
    ret_go[1] = pair[0];
}

int main(void)
{
    static int go[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_open_connection_is_counted),
        cmocka_unit_test(the_other_end_is_not_counted),
        cmocka_unit_test(v6_has_rows_of_its_own),
        cmocka_unit_test(who_chose_no_source_is_not_counted),
        cmocka_unit_test(refusals_and_resets_are_told_apart),
        cmocka_unit_test(rows_are_bounded),
        cmocka_unit_test_prestate(others_are_not_counted, go),
    };
    char why[IPS_WHY_MAX] = "", where[512];
    int result, failed;

    start_other(go);
    result = ips_open(&ips, why);
    if (result == -EPERM || result == -EOPNOTSUPP || result == -ENOENT || result == E_NOT_FOUND ||
        result == -EROFS) {
        printf("skipped: %s\n", why);
        return SKIPPED;
    }
    if (result < 0) {
        printf("cannot open: %s\n", why);
        return 1;
    }
    snprintf(where, sizeof(where), "%s", ips_where(ips));
    assert_int_equal(access(where, F_OK), 0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    ips_close(ips);
    if (access(where, F_OK) == 0) {
        printf("%s is still there\n", where);
        return 1;
    }
    return failed;
}
