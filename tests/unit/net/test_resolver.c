/*
 * The real resolver behind the real mailboxes: a loop with the DNS module of a shard on this
 * thread, libunbound on its own, and a small authoritative server on loopback that can misbehave.
 */
#include "core/io/io_uring.h"
#include "net/dns_answer.h"
#include "net/resolver.h"

#include "tests/unit/core_base/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define TIMEOUT_MS   4000
#define UDP_MAX      1232
#define MESSAGE_MAX  8192
#define HEADER_BYTES 12
#define QUESTION_AT  "\xc0\x0c" /* a pointer to the name of the question */

/* ---- The server ---------------------------------------------------------------------------- */

struct server {
    int udp_fd;
    int tcp_fd;
    int stop_pipe[2];
    uint16_t port;
    pthread_t thread;
    atomic_uint tcp_count;
};

struct message {
    uint8_t bytes[MESSAGE_MAX];
    size_t len;
};

static void put(struct message *message, const void *bytes, size_t len)
{
    assert_true(message->len + len <= sizeof(message->bytes));
    memcpy(message->bytes + message->len, bytes, len);
    message->len += len;
}

static void put_u16(struct message *message, unsigned value)
{
    uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};

    put(message, bytes, 2);
}

static void set_u16(struct message *message, size_t at, unsigned value)
{
    message->bytes[at] = (uint8_t)(value >> 8);
    message->bytes[at + 1] = (uint8_t)value;
}

static void put_name(struct message *message, const char *name)
{
    while (*name != '\0') {
        size_t len = strcspn(name, ".");
        uint8_t byte = (uint8_t)len;

        put(message, &byte, 1);
        put(message, name, len);
        name += len + (name[len] == '.');
    }
    put(message, "", 1);
}

/* Owner, type, TTL and rdata; owner NULL = the name of the question. Counts the answer. */
static void put_record(struct message *message, const char *owner, unsigned type, unsigned ttl_s,
                       const void *rdata, size_t len)
{
    if (owner == NULL)
        put(message, QUESTION_AT, 2);
    else
        put_name(message, owner);
    put_u16(message, type);
    put_u16(message, 1);
    put_u16(message, ttl_s >> 16);
    put_u16(message, ttl_s & 0xffff);
    put_u16(message, (unsigned)len);
    put(message, rdata, len);
    set_u16(message, 6, (unsigned)(message->bytes[6] << 8 | message->bytes[7]) + 1);
}

static void put_mx(struct message *message, unsigned preference, const char *exchange)
{
    struct message rdata = {.len = 0};

    put_u16(&rdata, preference);
    put_name(&rdata, exchange);
    put_record(message, NULL, DNS_MX, 300, rdata.bytes, rdata.len);
}

static void put_cname(struct message *message, const char *owner, const char *target)
{
    struct message rdata = {.len = 0};

    put_name(&rdata, target);
    put_record(message, owner, 5, 300, rdata.bytes, rdata.len);
}

/* What a negative answer's time to live comes from. */
static void put_soa(struct message *message)
{
    struct message rdata = {.len = 0};

    put_name(&rdata, "ns.example");
    put_name(&rdata, "hostmaster.example");
    for (unsigned i = 0; i < 4; i++)
        put(&rdata, "\0\0\0\1", 4);
    put(&rdata, "\0\0\0\x78", 4);
    put_record(message, "example", 6, 120, rdata.bytes, rdata.len);
    /* It belongs to the authority section. */
    set_u16(message, 6, 0);
    set_u16(message, 8, 1);
}

enum odd {
    ODD_NOTHING,
    ODD_SILENT,
    ODD_ID,
    ODD_QUESTION,
};

static void say(struct message *message, enum dns_type type)
{
    put_record(message, NULL, type, 300,
               type == DNS_A ? "\xc0\0\2\1" : "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1",
               type == DNS_A ? 4 : 16);
}

static enum odd answer_ok(struct message *message, unsigned type)
{
    if (type == DNS_MX) {
        put_mx(message, 20, "MX2.example");
        put_record(message, NULL, DNS_MX, 300, "\0\xa\3mx1\xc0\x0c", 8); /* compressed */
    } else {
        say(message, type);
    }
    return ODD_NOTHING;
}

static enum odd answer_null_mx(struct message *message, unsigned type)
{
    put_mx(message, 0, "");
    return ODD_NOTHING;
}

static enum odd answer_nxdomain(struct message *message, unsigned type)
{
    message->bytes[3] |= 3;
    put_soa(message);
    return ODD_NOTHING;
}

static enum odd answer_no_data(struct message *message, unsigned type)
{
    put_soa(message);
    return ODD_NOTHING;
}

static enum odd answer_servfail(struct message *message, unsigned type)
{
    message->bytes[3] |= 2;
    return ODD_NOTHING;
}

static enum odd answer_refused(struct message *message, unsigned type)
{
    message->bytes[3] |= 5;
    return ODD_NOTHING;
}

static enum odd answer_nothing(struct message *message, unsigned type)
{
    return ODD_SILENT;
}

static enum odd answer_cname(struct message *message, unsigned type)
{
    put_cname(message, NULL, "ok.example");
    put_record(message, "ok.example", DNS_A, 300, "\xc0\0\2\1", 4);
    return ODD_NOTHING;
}

static enum odd answer_cname_loop(struct message *message, unsigned type)
{
    put_cname(message, NULL, "loop.example");
    return ODD_NOTHING;
}

static enum odd answer_wrong_id(struct message *message, unsigned type)
{
    say(message, type);
    return ODD_ID;
}

static enum odd answer_wrong_question(struct message *message, unsigned type)
{
    say(message, type);
    return ODD_QUESTION;
}

static enum odd answer_many(struct message *message, unsigned type)
{
    for (unsigned i = 0; i < 100; i++) {
        char exchange[64];

        /* The worst first. */
        snprintf(exchange, sizeof(exchange), "mail-exchanger-%u.example", i);
        put_mx(message, 99 - i, exchange);
    }
    return ODD_NOTHING;
}

static enum odd answer_short_rdata(struct message *message, unsigned type)
{
    put_record(message, NULL, DNS_MX, 300, "\0", 1);
    return ODD_NOTHING;
}

static enum odd answer_dotted_label(struct message *message, unsigned type)
{
    put_record(message, NULL, DNS_MX, 300, "\0\1\3a.b\0", 7);
    return ODD_NOTHING;
}

static enum odd answer_cut(struct message *message, unsigned type)
{
    say(message, type);
    message->len -= 3;
    return ODD_NOTHING;
}

/* With a record about somebody else (A29). */
static enum odd answer_with_gift(struct message *message, unsigned type)
{
    say(message, type);
    put_record(message, "victim.example", DNS_A, 300, "\xc0\0\2\x42", 4);
    return ODD_NOTHING;
}

/* The server says that it has validated it. */
static enum odd answer_with_ad(struct message *message, unsigned type)
{
    say(message, type);
    message->bytes[3] |= 0x20;
    return ODD_NOTHING;
}

static const struct {
    const char *name;
    enum odd (*answer)(struct message *message, unsigned type);
} names[] = {
    {"forged.example", answer_ok},
    {"victim.example", answer_ok},
    {"gift.example", answer_with_gift},
    {"ad.example", answer_with_ad},
    {"ok.example", answer_ok},
    {"ok.test", answer_ok},
    {"null.example", answer_null_mx},
    {"gone.example", answer_nxdomain},
    {"nodata.example", answer_no_data},
    {"fail.example", answer_servfail},
    {"refused.example", answer_refused},
    {"silent.example", answer_nothing},
    {"cname.example", answer_cname},
    {"loop.example", answer_cname_loop},
    {"wrongid.example", answer_wrong_id},
    {"wrongquestion.example", answer_wrong_question},
    {"many.example", answer_many},
    {"short.example", answer_short_rdata},
    {"dotted.example", answer_dotted_label},
    {"cut.example", answer_cut},
};

/* The question's name in text; its end in the message. 0 when it makes no sense. */
static size_t read_question(const uint8_t *bytes, size_t len, char *name)
{
    size_t at = HEADER_BYTES;
    size_t used = 0;

    while (at < len && bytes[at] != 0) {
        if (used > 0)
            name[used++] = '.';
        for (size_t i = 0; i < bytes[at] && at + 1 + i < len && used < 250; i++)
            name[used++] = (char)(bytes[at + 1 + i] | 0x20); /* letters are all that differs */
        at += bytes[at] + 1u;
    }
    name[used] = '\0';
    return at + 5 <= len ? at + 5 : 0;
}

/* False when nothing is to be said. */
static bool answer(const uint8_t *bytes, size_t len, struct message *message)
{
    char name[256];
    size_t end = read_question(bytes, len, name);
    unsigned type = end > 0 ? (unsigned)(bytes[end - 4] << 8 | bytes[end - 3]) : 0;
    enum odd odd = ODD_SILENT;

    if (end == 0)
        return false;
    message->len = 0;
    put(message, bytes, end);
    set_u16(message, 2, 0x8580); /* answer, authoritative, recursion wanted and offered */
    set_u16(message, 4, 1);
    set_u16(message, 6, 0);
    set_u16(message, 8, 0);
    set_u16(message, 10, 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i].name, name) == 0)
            odd = names[i].answer(message, type);
    }
    if (odd == ODD_ID)
        message->bytes[0] ^= 0x55;
    if (odd == ODD_QUESTION)
        message->bytes[HEADER_BYTES + 1] ^= 1;
    return odd != ODD_SILENT;
}

/* What one who cannot see the question sends in front of the answer: guesses of its identifier, and
 * the right one from a port that was not asked (A29). */
static void send_forgeries(struct server *server, const struct sockaddr_in *peer,
                           const struct message *good)
{
    static struct message forged;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    forged = *good;
    forged.bytes[forged.len - 1] = 0x42;
    for (unsigned i = 1; i <= 200; i++) {
        set_u16(&forged, 0, ((unsigned)(good->bytes[0] << 8 | good->bytes[1]) + i * 31) & 0xffff);
        sendto(server->udp_fd, forged.bytes, forged.len, 0, (const struct sockaddr *)peer,
               sizeof(*peer));
    }
    memcpy(forged.bytes, good->bytes, 2);
    sendto(fd, forged.bytes, forged.len, 0, (const struct sockaddr *)peer, sizeof(*peer));
    close(fd);
}

static void serve_udp(struct server *server)
{
    struct sockaddr_in peer;
    socklen_t peer_len = sizeof(peer);
    static struct message message;
    uint8_t bytes[2048];
    ssize_t len =
        recvfrom(server->udp_fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&peer, &peer_len);

    if (len <= 0 || !answer(bytes, (size_t)len, &message))
        return;
    if (memcmp(message.bytes + HEADER_BYTES, "\6forged", 7) == 0)
        send_forgeries(server, &peer, &message);
    if (message.len > UDP_MAX) {
        message.bytes[2] |= 2; /* truncated: ask again by TCP */
        message.len = UDP_MAX / 2;
    }
    sendto(server->udp_fd, message.bytes, message.len, 0, (struct sockaddr *)&peer, peer_len);
}

static void serve_tcp(struct server *server)
{
    static struct message message;
    int fd = accept(server->tcp_fd, NULL, NULL);
    uint8_t bytes[2048];
    ssize_t len;

    if (fd < 0)
        return;
    atomic_fetch_add(&server->tcp_count, 1);
    len = recv(fd, bytes, sizeof(bytes), 0);
    if (len > 2 && answer(bytes + 2, (size_t)len - 2, &message)) {
        uint8_t head[2] = {(uint8_t)(message.len >> 8), (uint8_t)message.len};

        send(fd, head, 2, MSG_NOSIGNAL | MSG_MORE);
        send(fd, message.bytes, message.len, MSG_NOSIGNAL);
    }
    close(fd);
}

static void *serve(void *argument)
{
    struct server *server = argument;
    struct pollfd polls[] = {{.fd = server->udp_fd, .events = POLLIN},
                             {.fd = server->tcp_fd, .events = POLLIN},
                             {.fd = server->stop_pipe[0], .events = POLLIN}};

    while (poll(polls, 3, -1) >= 0 && polls[2].revents == 0) {
        if (polls[0].revents != 0)
            serve_udp(server);
        if (polls[1].revents != 0)
            serve_tcp(server);
    }
    return NULL;
}

static bool start_server(struct server *server)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    memset(server, 0, sizeof(*server));
    server->tcp_fd = socket(AF_INET, SOCK_STREAM, 0);
    server->udp_fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (server->tcp_fd < 0 || server->udp_fd < 0 || pipe(server->stop_pipe) < 0 ||
        bind(server->tcp_fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        listen(server->tcp_fd, 8) < 0 ||
        getsockname(server->tcp_fd, (struct sockaddr *)&at, &len) < 0 ||
        bind(server->udp_fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        return false;
    server->port = ntohs(at.sin_port);
    return pthread_create(&server->thread, NULL, serve, server) == 0;
}

static void stop_server(struct server *server)
{
    assert_int_equal(write(server->stop_pipe[1], "x", 1), 1);
    pthread_join(server->thread, NULL);
    close(server->udp_fd);
    close(server->tcp_fd);
    close(server->stop_pipe[0]);
    close(server->stop_pipe[1]);
}

/* ---- The shard's side ---------------------------------------------------------------------- */

#define ASKERS 300

struct asker {
    struct dns_lookup lookup;
    struct bench *bench;
    unsigned told;
    struct dns_query answer;
};

struct bench {
    struct server server;
    struct io *io;
    struct mailbox *questions;
    struct mailbox *answers;
    struct resolver *resolver;
    pthread_t thread;
    struct dns *dns;
    unsigned open_count;
    struct asker askers[ASKERS];
};

static void *run_resolver(void *argument)
{
    resolver_run(argument);
    return NULL;
}

static void on_answer(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct asker *asker = container_of(lookup, struct asker, lookup);

    asker->told++;
    asker->answer = *answer;
    asker->bench->open_count--;
}

static struct bench bench;

/* False where this machine lets us have no sockets or no io_uring. */
static bool start(uint32_t in_flight_max)
{
    struct io_options io_options = {.name = "resolver test"};
    struct resolver_options options = {.timeout_ms = TIMEOUT_MS, .name_server_count = 1};
    char address[32];
    const char *const servers[] = {address};

    memset(&bench, 0, sizeof(bench));
    if (!start_server(&bench.server) || io_create(&io_options, &bench.io) < 0) {
        print_message("SKIPPED: no sockets or no io_uring here\n");
        return false;
    }
    snprintf(address, sizeof(address), "127.0.0.1@%u", bench.server.port);
    options.name_servers = servers;
    bench.questions = mailbox_create(64, bench.io, NULL);
    bench.answers = mailbox_create(64, NULL, bench.io);
    assert_int_equal(
        resolver_create(&options, &bench.questions, &bench.answers, 1, &bench.resolver), 0);
    assert_int_equal(pthread_create(&bench.thread, NULL, run_resolver, bench.resolver), 0);
    bench.dns = dns_create(bench.io, bench.questions, bench.answers, 0, 1024, in_flight_max);
    for (unsigned i = 0; i < ASKERS; i++) {
        bench.askers[i].bench = &bench;
        bench.askers[i].lookup.on_answer = on_answer;
    }
    return true;
}

static void ask(unsigned number, const char *name, enum dns_type type)
{
    bench.open_count++;
    dns_ask(bench.dns, &bench.askers[number].lookup, slice_str(name), type);
}

static void wait_for_all(void)
{
    for (unsigned i = 0; i < 10000 && bench.open_count > 0; i++)
        io_turn(bench.io, 10000000);
    assert_int_equal(bench.open_count, 0);
}

static void stop(void)
{
    resolver_stop(bench.resolver);
    pthread_join(bench.thread, NULL);
    for (unsigned i = 0; i < 10; i++)
        io_turn(bench.io, 1000000);
    resolver_destroy(bench.resolver);
    dns_destroy(bench.dns);
    mailbox_destroy(bench.questions);
    mailbox_destroy(bench.answers);
    io_destroy(bench.io);
    stop_server(&bench.server);
}

static void answers_and_their_kinds(void **state)
{
    static const struct {
        const char *name;
        enum dns_type type;
        enum dns_status status;
        unsigned records;
    } rows[] = {
        {"ok.example", DNS_A, DNS_OK, 1},
        {"ok.example", DNS_AAAA, DNS_OK, 1},
        {"ok.example", DNS_MX, DNS_OK, 2},
        {"ok.test", DNS_A, DNS_OK, 1},
        {"null.example", DNS_MX, DNS_OK, 1},
        {"gone.example", DNS_MX, DNS_NO_NAME, 0},
        {"nodata.example", DNS_MX, DNS_NO_DATA, 0},
        {"cname.example", DNS_A, DNS_OK, 1},
        {"many.example", DNS_MX, DNS_OK, DNS_RECORD_COUNT_MAX}, /* through TCP, then cut (A28) */
        /* Temporary, all of them (A28, A29). */
        {"fail.example", DNS_MX, DNS_FAILURE, 0},
        {"refused.example", DNS_MX, DNS_FAILURE, 0},
        {"loop.example", DNS_A, DNS_FAILURE, 0},
        {"silent.example", DNS_A, DNS_TIMEOUT, 0},
        {"wrongid.example", DNS_A, DNS_TIMEOUT, 0},
        {"wrongquestion.example", DNS_A, DNS_TIMEOUT, 0},
        {"dotted.example", DNS_MX, DNS_FAILURE, 0},
    };

    if (!start(64))
        skip();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ask(i, rows[i].name, rows[i].type);
    /* What libunbound makes of these is its own business, if it is temporary. */
    ask(100, "short.example", DNS_MX);
    ask(101, "cut.example", DNS_A);
    wait_for_all();
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct dns_query *answer = &bench.askers[i].answer;
        /* An answer that is thrown away is a timeout, or a failure if libunbound gives up first. */
        bool is_same = answer->status == rows[i].status ||
                       (rows[i].status == DNS_TIMEOUT && answer->status == DNS_FAILURE) ||
                       (rows[i].status == DNS_FAILURE && answer->status == DNS_TIMEOUT);

        if (!is_same || answer->record_count != rows[i].records)
            print_error("%s: status %u, %u records\n", rows[i].name, answer->status,
                        answer->record_count);
        assert_true(is_same);
        assert_int_equal(answer->record_count, rows[i].records);
        assert_false(answer->is_secure);
    }
    for (unsigned i = 100; i < 102; i++)
        assert_true(bench.askers[i].answer.status == DNS_FAILURE ||
                    bench.askers[i].answer.status == DNS_TIMEOUT);
    assert_true(atomic_load(&bench.server.tcp_count) > 0);
    stop();
}

static void mx_records_come_in_normal_form(void **state)
{
    uint16_t cursor = 0;
    unsigned seen = 0;
    struct slice rdata;

    if (!start(4))
        skip();
    ask(0, "ok.example", DNS_MX);
    ask(1, "null.example", DNS_MX);
    wait_for_all();
    while (dns_record_next(&bench.askers[0].answer, &cursor, &rdata)) {
        bool is_first = dns_mx_preference(rdata) == 10;

        assert_true(slice_equal(dns_mx_exchange(rdata),
                                slice_str(is_first ? "mx1.ok.example" : "mx2.example")));
        seen++;
    }
    assert_int_equal(seen, 2);
    cursor = 0;
    assert_true(dns_record_next(&bench.askers[1].answer, &cursor, &rdata));
    assert_int_equal(dns_mx_exchange(rdata).len, 0);
    stop();
}

static uint8_t last_octet(const struct asker *asker)
{
    uint16_t cursor = 0;
    struct slice rdata = SLICE_EMPTY;

    assert_int_equal(asker->answer.status, DNS_OK);
    assert_int_equal(asker->answer.record_count, 1);
    assert_true(dns_record_next(&asker->answer, &cursor, &rdata));
    return rdata.data[rdata.len - 1];
}

static void a29_forged_answers_are_not_taken(void **state)
{
    if (!start(4))
        skip();
    ask(0, "forged.example", DNS_A);
    ask(1, "gift.example", DNS_A);
    ask(2, "ad.example", DNS_A);
    wait_for_all();
    assert_int_equal(last_octet(&bench.askers[0]), 1);
    assert_int_equal(last_octet(&bench.askers[1]), 1);
    /* Nobody here has validated anything. */
    assert_int_equal(last_octet(&bench.askers[2]), 1);
    assert_false(bench.askers[2].answer.is_secure);
    ask(3, "victim.example", DNS_A);
    wait_for_all();
    assert_int_equal(last_octet(&bench.askers[3]), 1);
    stop();
}

/* Of a hundred hosts those that find room are the best ones. */
static void a28_the_best_of_many_are_kept(void **state)
{
    uint16_t cursor = 0;
    unsigned next = 0;
    struct slice rdata;

    if (!start(4))
        skip();
    ask(0, "many.example", DNS_MX);
    wait_for_all();
    while (dns_record_next(&bench.askers[0].answer, &cursor, &rdata))
        assert_int_equal(dns_mx_preference(rdata), next++);
    assert_int_equal(next, DNS_RECORD_COUNT_MAX);
    stop();
}

static void silence_ends_at_its_time(void **state)
{
    uint64_t started_ns;
    uint64_t lasted_ms;

    if (!start(4))
        skip();
    io_turn(bench.io, 0);
    started_ns = io_now_ns(bench.io);
    ask(0, "silent.example", DNS_A);
    wait_for_all();
    lasted_ms = (io_now_ns(bench.io) - started_ns) / 1000000;
    /* Later by as much as the machine is busy. */
    assert_true(lasted_ms >= TIMEOUT_MS - 10);
    assert_int_equal(bench.askers[0].answer.status, DNS_TIMEOUT);
    stop();
}

/* More questions than a mailbox or the limit holds: all are answered. */
static void many_questions_at_once(void **state)
{
    if (!start(200))
        skip();
    for (unsigned i = 0; i < ASKERS; i++) {
        char name[64];

        snprintf(name, sizeof(name), i % 3 == 0 ? "ok.example" : "n%u.loop.example", i);
        ask(i, name, i % 2 == 0 ? DNS_A : DNS_AAAA);
    }
    wait_for_all();
    for (unsigned i = 0; i < ASKERS; i++) {
        assert_int_equal(bench.askers[i].told, 1);
        if (i % 3 == 0)
            assert_int_equal(bench.askers[i].answer.status, DNS_OK);
    }
    stop();
}

/* A stop while questions are out answers them. */
static void a_stop_answers_what_is_open(void **state)
{
    if (!start(64))
        skip();
    for (unsigned i = 0; i < 20; i++) {
        char name[64];

        snprintf(name, sizeof(name), "s%u.silent.example", i);
        ask(i, name, DNS_A);
    }
    io_turn(bench.io, 0);
    stop();
    assert_int_equal(bench.open_count, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(bench.askers[i].answer.status, DNS_FAILURE);
}

static void wrong_settings_are_refused(void **state)
{
    static const char *const servers[] = {"not an address"};
    struct resolver_options options = {.name_servers = servers, .name_server_count = 1};
    struct resolver *resolver = NULL;

    assert_true(resolver_create(&options, NULL, NULL, 0, &resolver) < 0);
    assert_null(resolver);
    options.name_server_count = 0;
    options.trust_anchor_file = "/nonexistent/anchor";
    assert_true(resolver_create(&options, NULL, NULL, 0, &resolver) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_and_their_kinds),
        cmocka_unit_test(mx_records_come_in_normal_form),
        cmocka_unit_test(a29_forged_answers_are_not_taken),
        cmocka_unit_test(a28_the_best_of_many_are_kept),
        cmocka_unit_test(silence_ends_at_its_time),
        cmocka_unit_test(many_questions_at_once),
        cmocka_unit_test(a_stop_answers_what_is_open),
        cmocka_unit_test(wrong_settings_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
