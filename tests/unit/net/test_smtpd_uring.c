/*
 * The SMTP server over io_uring on loopback, with a client in the same loop: messages flow without
 * an allocation, and a client that talks first is dropped before it hears anything (A35).
 */
#include "core/base/mem.h"
#include "core/io/io_uring.h"
#include "net/smtpd.h"
#include "net/stream.h"
#include "tests/unit/core_base/unit.h"
#include "tests/unit/net/fake_intake.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define MESSAGES 20000
#define WAIT_NS  20000000000ull
#define FLIGHT   "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"

static struct io *io;
static struct smtpd *server;
static struct fake_intake fake;
static struct ipaddr_port at;
static int listen_fd;
static bool stopped;

/* The client: what it says next, and how many lines it waits for first. */
struct client {
    struct stream stream;
    struct io_op connect;
    struct iovec iov;
    char in[4096];
    size_t in_bytes;
    uint32_t lines;
    int fd;
    bool ended;
    bool closed;
};

static struct client client;

static size_t on_data(struct stream *stream, const uint8_t *data, size_t len)
{
    assert_true(client.in_bytes + len < sizeof(client.in));
    memcpy(client.in + client.in_bytes, data, len);
    client.in_bytes += len;
    for (size_t i = 0; i < len; i++)
        client.lines += data[i] == '\n';
    return len;
}

static void on_sent(struct stream *stream, int32_t result)
{
}

static void on_end(struct stream *stream, int32_t reason)
{
    client.ended = true;
}

static void on_closed(struct stream *stream)
{
    client.closed = true;
}

static const struct stream_events events = {
    .on_data = on_data,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_closed = on_closed,
};

static void on_connected(struct io_op *op, int32_t result)
{
    assert_int_equal(result, 0);
    stream_open(&client.stream, io, client.fd, &events);
}

/* A turn that may sleep does so after its work, which is what the caller waits for. */
static void turn(uint64_t since_ns)
{
    io_turn(io, 0);
    assert_true(io_now_ns(io) - since_ns < WAIT_NS);
}

static void turns_until(const bool *flag)
{
    uint64_t since_ns = io_now_ns(io);

    while (!*flag)
        turn(since_ns);
}

static void wait_lines(uint32_t count)
{
    uint64_t since_ns = io_now_ns(io);

    while (client.lines < count && !client.ended)
        turn(since_ns);
    assert_int_equal(client.lines, count);
    client.lines = 0;
    client.in_bytes = 0;
}

static void say(const void *bytes, size_t len)
{
    uint64_t since_ns = io_now_ns(io);

    client.iov = (struct iovec){(void *)(uintptr_t)bytes, len};
    stream_send(&client.stream, &client.iov, 1);
    while (stream_is_sending(&client.stream))
        turn(since_ns);
}

static void connect_client(void)
{
    client = (struct client){0};
    assert_int_equal(io_socket_open(io, &at.ip, &client.fd), 0);
    io_op_init(&client.connect, on_connected);
    io_connect(io, &client.connect, client.fd, &at);
}

static void close_client(void)
{
    stream_close(&client.stream);
    turns_until(&client.closed);
}

static void on_stopped(void *context)
{
    stopped = true;
}

static int set_up(void **state)
{
    struct io_options options = {.name = "test"};
    struct smtpd_options smtpd_options = {.host_name = "mx.example", .session_count_max = 10};

    assert_int_equal(io_create(&options, &io), 0);
    fake_intake_init(&fake);
    fake.keep_bodies = false;
    server = smtpd_create(io, &smtpd_options, &fake_intake_ops, &fake);
    at = (struct ipaddr_port){.port = 0};
    assert_int_equal(ipaddr_parse(SLICE_LITERAL("127.0.0.1"), &at.ip), 0);
    assert_int_equal(io_listen(io, &at, 16, &listen_fd), 0);
    assert_int_equal(io_local_address(io, listen_fd, &at), 0);
    return 0;
}

static int tear_down(void **state)
{
    stopped = false;
    smtpd_stop(server, on_stopped, NULL);
    turns_until(&stopped);
    smtpd_destroy(server);
    io_close_now(io, listen_fd);
    fake_intake_fini(&fake);
    io_destroy(io);
    return 0;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void messages_flow_without_an_allocation(void **state)
{
    static char body[2048];
    size_t len = 0;
    uint64_t allocated = 0;
    uint64_t begun_ns = 0;

    assert_int_equal(smtpd_listen(server, listen_fd, NULL), 0);
    while (len + 80 < sizeof(body)) {
        memset(body + len, 'x', 76);
        memcpy(body + len + 76, "\r\n", 2);
        len += 78;
    }
    memcpy(body + len, ".\r\n", 3);
    connect_client();
    wait_lines(1);
    say("EHLO x\r\n", 8);
    wait_lines(8);
    for (unsigned i = 0; i < MESSAGES; i++) {
        /* The first few fill slabs. */
        if (i == 10) {
            allocated = mem_alloc_count();
            begun_ns = cpu_ns();
        }
        say(FLIGHT, strlen(FLIGHT));
        wait_lines(3);
        say(body, len + 3);
        wait_lines(1);
    }
    assert_int_equal(mem_alloc_count(), allocated);
    assert_int_equal(fake.finished, MESSAGES);
    assert_int_equal(fake.written_octets, MESSAGES * len);
    print_message("CPU of client, kernel and server: %.1f us a message\n",
                  (double)(cpu_ns() - begun_ns) / (MESSAGES - 10) / 1000);
    close_client();
}

static void a35_a_client_that_talks_first_hears_nothing(void **state)
{
    uint64_t since_ns = io_now_ns(io);

    connect_client();
    /* Connected by the kernel, but not accepted yet. */
    while (client.stream.io == NULL)
        turn(since_ns);
    say("EHLO x\r\n" FLIGHT, strlen("EHLO x\r\n" FLIGHT));
    assert_int_equal(smtpd_listen(server, listen_fd, NULL), 0);
    turns_until(&client.ended);
    assert_int_equal(client.in_bytes, 0);
    assert_int_equal(fake.begun, 0);
    close_client();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_flow_without_an_allocation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a35_a_client_that_talks_first_hears_nothing, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
