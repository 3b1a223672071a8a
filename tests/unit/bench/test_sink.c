/* The sink, spoken to by hand. */
#include "bench/process.h"
#include "bench/sink.h"
#include "tests/unit/core_base/unit.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define GREETING    "220 sink.test ESMTP\r\n"
#define PATIENCE_MS 20000
#define HEADERS     "X-Bench-Id: 0000002a/7\r\n\r\n"

struct sink {
    struct sink_options options;
    struct sink_shared *shared;
    struct ledger *ledger;
    pid_t worker;
    int fd; /* of the one client */
};

static int work(void *context)
{
    struct sink *sink = context;

    return sink_work(&sink->options, sink->shared, sink->ledger);
}

static int start(void **state)
{
    struct sink *sink = calloc(1, sizeof(*sink));
    uint32_t pid = (uint32_t)getpid();

    sink->options = (struct sink_options){
        .host_name = "sink.test", .size_max = 1000, .sessions_max = 10, .chunking = true};
    sink->options.address_count = 1;
    sink->options.addresses[0] =
        (struct ipaddr_port){.ip = {IPADDR_V4, {127, 98, (uint8_t)(pid >> 8), (uint8_t)pid}}};
    sink->shared = sink_shared_create();
    sink->ledger = ledger_create(0, 100, 2);
    sink->fd = -1;
    *state = sink;
    return 0;
}

static void run_sink(struct sink *sink, const char *const *rules, uint32_t rule_count)
{
    /* A ring outlives its process for a moment, and its listening socket with it: each worker gets
     * a port of its own. */
    static uint16_t port = 2525;
    struct sockaddr_storage at;
    socklen_t len;

    sink->options.addresses[0].port = port++;
    len = ipaddr_to_sockaddr(&sink->options.addresses[0], (struct sockaddr *)&at);
    sink->options.rules = rules;
    sink->options.rule_count = rule_count;
    sink->worker = process_fork(work, sink);
    assert_true(sink->worker > 0);
    while (__atomic_load_n(&sink->shared->ready, __ATOMIC_ACQUIRE) == 0) {
        assert_int_equal(sink->shared->error, 0);
        process_sleep_ms(2);
    }
    sink->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(sink->fd, (struct sockaddr *)&at, len), 0);
}

static int stop(void **state)
{
    struct sink *sink = *state;

    close(sink->fd);
    process_end(sink->worker, 2000);
    sink_shared_destroy(sink->shared);
    ledger_destroy(sink->ledger);
    free(sink);
    return 0;
}

static void say(struct sink *sink, const char *text)
{
    assert_int_equal(send(sink->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Exactly this text comes next. */
static void hear(struct sink *sink, const char *text)
{
    char room[4096] = "";
    size_t wanted = strlen(text);
    size_t used = 0;

    while (used < wanted) {
        struct pollfd poll_fd = {.fd = sink->fd, .events = POLLIN};
        ssize_t len = 0;

        if (poll(&poll_fd, 1, PATIENCE_MS) == 1)
            len = read(sink->fd, room + used, wanted - used);
        if (len <= 0)
            fail_msg("heard \"%s\" instead of \"%s\"", room, text);
        used += (size_t)len;
    }
    assert_string_equal(room, text);
}

static void hear_nothing(struct sink *sink, int ms)
{
    struct pollfd poll_fd = {.fd = sink->fd, .events = POLLIN};

    assert_int_equal(poll(&poll_fd, 1, ms), 0);
}

static void hear_the_end(struct sink *sink)
{
    struct pollfd poll_fd = {.fd = sink->fd, .events = POLLIN};
    char byte;

    assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
    assert_true(read(sink->fd, &byte, 1) <= 0);
}

static void open_transaction(struct sink *sink)
{
    say(sink, "MAIL FROM:<a@sender.test>\r\nRCPT TO:<0.7@d0.test>\r\n");
    hear(sink, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
}

static void commands_in_the_wrong_order(void **state)
{
    struct sink *sink = *state;

    run_sink(sink, NULL, 0);
    hear(sink, GREETING);
    say(sink, "EHLO x\r\n");
    hear(sink, "250-sink.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n"
               "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SIZE 1000\r\n");
    say(sink, "RCPT TO:<0.7@d0.test>\r\nDATA\r\nFOO\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n"
              "DATA\r\nBDAT 3 LAST\r\nabcRSET\r\nNOOP\r\n");
    hear(sink, "503 5.5.1 MAIL comes first\r\n503 5.5.1 RCPT comes first\r\n"
               "500 5.5.2 Unknown command\r\n250 2.1.0 Ok\r\n503 5.5.1 A transaction is open\r\n"
               "503 5.5.1 RCPT comes first\r\n503 5.5.1 RCPT comes first\r\n250 2.0.0 Ok\r\n"
               "250 2.0.0 Ok\r\n");
    say(sink, "QUIT\r\n");
    hear(sink, "221 2.0.0 Bye\r\n");
    hear_the_end(sink);
    assert_int_equal(sink->shared->counters.messages, 0);
}

/* One octet at a time, so that every boundary is met. */
static void slow_typing(void **state)
{
    static const char text[] = "MAIL FROM:<a@sender.test>\r\nRCPT TO:<0.7@d0.test>\r\n"
                               "RCPT TO:<1.7@d1.test>\r\nDATA\r\n" HEADERS "..\r\nx.\r\n\r\n.\r\n";
    struct sink *sink = *state;
    int one = 1;

    run_sink(sink, NULL, 0);
    setsockopt(sink->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    hear(sink, GREETING);
    for (size_t i = 0; text[i] != '\0'; i++) {
        char octet[2] = {text[i], '\0'};

        say(sink, octet);
    }
    hear(sink, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n354 Go ahead\r\n250 2.0.0 Ok\r\n");
    assert_int_equal(sink->shared->counters.messages, 1);
    assert_int_equal(sink->shared->counters.bytes, strlen(HEADERS) + 9);
    assert_int_equal(sink->ledger->run, 0x2a);
    assert_int_equal(sink->ledger->arrived[14], 1);
    assert_int_equal(sink->ledger->arrived[15], 1);
}

static void chunks(void **state)
{
    struct sink *sink = *state;

    run_sink(sink, NULL, 0);
    hear(sink, GREETING);
    open_transaction(sink);
    /* Octets are octets: a dot on a line of its own ends nothing. */
    say(sink, "BDAT 26\r\n" HEADERS "BDAT 5\r\n\r\n.\r\nBDAT 0 LAST\r\nNOOP\r\n");
    hear(sink, "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n");
    assert_int_equal(sink->shared->counters.messages, 1);
    assert_int_equal(sink->shared->counters.bytes, 31);
    assert_int_equal(sink->ledger->arrived[14], 1);
    open_transaction(sink);
    say(sink, "BDAT 26 LAST\r\n" HEADERS);
    hear(sink, "250 2.0.0 Ok\r\n");
    assert_int_equal(sink->ledger->arrived[14], 2);
    say(sink, "BDAT x LAST\r\n");
    hear(sink, "421 4.5.0 Bad chunk\r\n");
    hear_the_end(sink);
}

static void what_is_too_big(void **state)
{
    struct sink *sink = *state;
    char line[81];

    run_sink(sink, NULL, 0);
    hear(sink, GREETING);
    open_transaction(sink);
    say(sink, "DATA\r\n" HEADERS);
    memset(line, 'x', 78);
    memcpy(line + 78, "\r\n", 3);
    for (int i = 0; i < 20; i++)
        say(sink, line);
    say(sink, ".\r\n");
    hear(sink, "354 Go ahead\r\n552 5.3.4 Too big\r\n");
    assert_int_equal(sink->ledger->arrived[14], 0);
    assert_int_equal(sink->ledger->refused[14], 1);
    open_transaction(sink);
}

/* More replies at once than one buffer holds. */
static void a_long_flight(void **state)
{
    struct sink *sink = *state;
    int count = 2000;

    run_sink(sink, NULL, 0);
    hear(sink, GREETING);
    for (int i = 0; i < count; i++)
        say(sink, "NOOP\r\n");
    for (int i = 0; i < count; i++)
        hear(sink, "250 2.0.0 Ok\r\n");
}

/* The client closes its side behind the last command: the replies still come. */
static void half_closed(void **state)
{
    struct sink *sink = *state;

    run_sink(sink, NULL, 0);
    hear(sink, GREETING);
    say(sink, "NOOP\r\nNOOP\r\n");
    shutdown(sink->fd, SHUT_WR);
    hear(sink, "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n");
    hear_the_end(sink);
}

static void mixed_up_and_foreign_mail(void **state)
{
    struct sink *sink = *state;
    const struct sink_counters *counters = &sink->shared->counters;

    run_sink(sink, NULL, 0);
    hear(sink, GREETING);
    say(sink, "MAIL FROM:<a@b>\r\nRCPT TO:<0.8@d0.test>\r\nRCPT TO:<0.7@d0.test>\r\n"
              "RCPT TO:<someone@d0.test>\r\nDATA\r\n" HEADERS ".\r\n");
    hear(sink, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n354 Go ahead\r\n"
               "250 2.0.0 Ok\r\n");
    assert_int_equal(counters->mixed_up, 1);
    assert_int_equal(counters->foreign, 1);
    assert_int_equal(sink->ledger->arrived[14], 1);
    assert_int_equal(sink->ledger->arrived[16], 0);
    open_transaction(sink);
    say(sink, "DATA\r\nSubject: no id\r\n\r\n.\r\n");
    hear(sink, "354 Go ahead\r\n250 2.0.0 Ok\r\n");
    assert_int_equal(counters->foreign, 2);
    open_transaction(sink);
    say(sink, "DATA\r\nX-Bench-Id: 0000002b/7\r\n\r\n.\r\n");
    hear(sink, "354 Go ahead\r\n250 2.0.0 Ok\r\n");
    assert_int_equal(counters->other_run, 1);
    assert_int_equal(sink->ledger->arrived[14], 1);
}

static void delays_hold_the_client_up(void **state)
{
    static const char *const rules[] = {"mail delay=150", "quit delay=100"};
    struct sink *sink = *state;
    uint64_t start_ns;

    run_sink(sink, rules, 2);
    hear(sink, GREETING);
    start_ns = process_now_ns();
    say(sink, "MAIL FROM:<a@b>\r\nNOOP\r\n");
    hear_nothing(sink, 50);
    hear(sink, "250 2.1.0 Ok\r\n250 2.0.0 Ok\r\n");
    assert_true(process_now_ns() - start_ns >= 150000000);
    /* It leaves while its reply is being delayed. */
    say(sink, "QUIT\r\n");
    shutdown(sink->fd, SHUT_WR);
    hear_the_end(sink);
}

static void misbehaviour(void **state)
{
    static const char *const rules[] = {
        "mail first=1 451 4.3.0 Not now",
        "rcpt to=*@d9.test hang",
        "ehlo first=1 drop",
    };
    struct sink *sink = *state;

    run_sink(sink, rules, 3);
    hear(sink, GREETING);
    say(sink, "MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n");
    hear(sink, "451 4.3.0 Not now\r\n250 2.1.0 Ok\r\n");
    /* What came before the drop is still answered. */
    say(sink, "NOOP\r\nEHLO x\r\nNOOP\r\n");
    hear(sink, "250 2.0.0 Ok\r\n");
    hear_the_end(sink);
    close(sink->fd);
    process_end(sink->worker, 2000);
    sink->shared->ready = 0;
    sink->shared->counters.open = 0;
    run_sink(sink, rules + 1, 1);
    hear(sink, GREETING);
    say(sink, "MAIL FROM:<a@b>\r\nRCPT TO:<x@d9.test>\r\nNOOP\r\n");
    hear(sink, "250 2.1.0 Ok\r\n");
    hear_nothing(sink, 200);
    assert_int_equal(sink->shared->counters.open, 1);
    shutdown(sink->fd, SHUT_RDWR);
    for (int i = 0; i < 100 && sink->shared->counters.open > 0; i++)
        process_sleep_ms(10);
    assert_int_equal(sink->shared->counters.open, 0);
    assert_int_equal(sink->shared->counters.dropped, 1);
}

/* A reply that takes a message is cut: taken it is, and the client cannot know. */
static void cut_replies(void **state)
{
    static const char *const rules[] = {"dot cut=2"};
    struct sink *sink = *state;

    run_sink(sink, rules, 1);
    hear(sink, GREETING);
    open_transaction(sink);
    say(sink, "DATA\r\n" HEADERS ".\r\n");
    hear(sink, "354 Go ahead\r\n25");
    hear_the_end(sink);
    assert_int_equal(sink->ledger->arrived[14], 1);
    assert_int_equal(sink->shared->counters.messages, 1);
}

static void nothing_of_a_reply(void **state)
{
    static const char *const rules[] = {"dot cut=0 451 4.3.0 Not taken"};
    struct sink *sink = *state;

    run_sink(sink, rules, 1);
    hear(sink, GREETING);
    open_transaction(sink);
    say(sink, "DATA\r\n" HEADERS ".\r\n");
    hear(sink, "354 Go ahead\r\n");
    hear_the_end(sink);
    assert_int_equal(sink->ledger->arrived[14], 0);
}

/* The second message is taken and answered, and then there is silence. */
static void a_cap_without_a_word(void **state)
{
    static const char *const rules[] = {"dot messages=1 close"};
    struct sink *sink = *state;

    run_sink(sink, rules, 1);
    hear(sink, GREETING);
    open_transaction(sink);
    say(sink, "DATA\r\n" HEADERS ".\r\n");
    hear(sink, "354 Go ahead\r\n250 2.0.0 Ok\r\n");
    open_transaction(sink);
    say(sink, "DATA\r\n" HEADERS ".\r\nMAIL FROM:<a@b>\r\n");
    hear(sink, "354 Go ahead\r\n250 2.0.0 Ok\r\n");
    hear_the_end(sink);
    assert_int_equal(sink->ledger->arrived[14], 2);
}

static void content_that_breaks_off(void **state)
{
    static const char *const rules[] = {"content messages=1 drop"};
    struct sink *sink = *state;

    run_sink(sink, rules, 1);
    hear(sink, GREETING);
    open_transaction(sink);
    say(sink, "DATA\r\n" HEADERS ".\r\n");
    hear(sink, "354 Go ahead\r\n250 2.0.0 Ok\r\n");
    open_transaction(sink);
    say(sink, "BDAT 26 LAST\r\nX");
    hear_the_end(sink);
    assert_int_equal(sink->ledger->arrived[14], 1);
}

static void garbage_and_floods(void **state)
{
    static const char *const rules[] = {
        "connect say 2x0 \\x01\\r\\nwhat",
        "mail sender=bad@b say 250 2.1.0 not really",
        "rcpt flood",
        "offer starttls",
        "starttls first=1 220 2.0.0 Go ahead",
    };
    char line[] = "250-and so on, and so on, and so on, and so on, and so on\r\n";
    struct sink *sink = *state;

    run_sink(sink, rules, 5);
    hear(sink, "2x0 \x01\r\nwhat\r\n");
    say(sink, "EHLO x\r\nSTARTTLS\r\nSTARTTLS\r\n");
    hear(sink, "250-sink.test\r\n250-STARTTLS\r\n250 HELP\r\n220 2.0.0 Go ahead\r\n"
               "454 4.7.0 TLS not available\r\n");
    /* What is said takes nothing: no transaction is open. */
    say(sink, "MAIL FROM:<bad@b>\r\nRCPT TO:<0.7@d0.test>\r\nMAIL FROM:<good@b>\r\n"
              "RCPT TO:<0.7@d0.test>\r\nNOOP\r\n");
    hear(sink, "250 2.1.0 not really\r\n503 5.5.1 MAIL comes first\r\n250 2.1.0 Ok\r\n");
    for (size_t i = 0; i < (1 << 20) / strlen(line); i++)
        hear(sink, line);
    hear_nothing(sink, 100);
}

/* Each flight's replies come late together, and the flights do not wait for each other. */
static void a_long_way(void **state)
{
    static const char *const rules[] = {"lag 500"};
    struct sink *sink = *state;
    uint64_t start_ns;
    uint64_t took_ns;

    run_sink(sink, rules, 1);
    hear(sink, GREETING);
    start_ns = process_now_ns();
    for (int i = 0; i < 20; i++) {
        say(sink, "MAIL FROM:<a@b>\r\nRSET\r\n");
        process_sleep_ms(5);
    }
    for (int i = 0; i < 20; i++)
        hear(sink, "250 2.1.0 Ok\r\n250 2.0.0 Ok\r\n");
    took_ns = process_now_ns() - start_ns;
    assert_true(took_ns >= 500000000);
    /* One after the other they would take 10 s. */
    assert_true(took_ns < 5000000000);
    say(sink, "QUIT\r\n");
    hear(sink, "221 2.0.0 Bye\r\n");
    hear_the_end(sink);
}

/* A model's long times pass at the pace asked for. */
static void a_greylister(void **state)
{
    struct sink *sink = *state;

    sink->options.model = "greylister";
    sink->options.pace = 1000; /* 300 ms instead of 300 s */
    run_sink(sink, NULL, 0);
    hear(sink, GREETING);
    say(sink, "MAIL FROM:<a@b>\r\nRCPT TO:<0.7@d0.test>\r\n");
    hear(sink, "250 2.1.0 Ok\r\n450 4.7.1 Greylisted, come back in five minutes\r\n");
    process_sleep_ms(400);
    say(sink, "RCPT TO:<0.7@d0.test>\r\nRCPT TO:<1.7@d0.test>\r\n");
    hear(sink, "250 2.1.5 Ok\r\n450 4.7.1 Greylisted, come back in five minutes\r\n");
}

#define with_sink(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_sink(commands_in_the_wrong_order),
        with_sink(slow_typing),
        with_sink(chunks),
        with_sink(what_is_too_big),
        with_sink(a_long_flight),
        with_sink(half_closed),
        with_sink(mixed_up_and_foreign_mail),
        with_sink(delays_hold_the_client_up),
        with_sink(misbehaviour),
        with_sink(cut_replies),
        with_sink(nothing_of_a_reply),
        with_sink(a_cap_without_a_word),
        with_sink(content_that_breaks_off),
        with_sink(garbage_and_floods),
        with_sink(a_long_way),
        with_sink(a_greylister),
    };

    process_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
