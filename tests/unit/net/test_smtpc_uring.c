/*
 * The SMTP client on the real loop, over loopback, against a plain blocking receiver in a process
 * of its own: what the simulator cannot show, and that steady turns allocate nothing.
 */
#include "core/base/mem.h"
#include "core/io/io_uring.h"
#include "net/smtpc.h"

#include "tests/unit/core_base/unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define CONNECTIONS   8
#define MESSAGES      4000
#define WARM_MESSAGES 400
#define BODY_BYTES    2048

/* ---- The receiver -------------------------------------------------------------------------- */

static void serve_message(FILE *in, int fd)
{
    char line[2048];

    while (fgets(line, sizeof(line), in) != NULL && strcmp(line, ".\r\n") != 0)
        ;
    dprintf(fd, "250 2.0.0 taken\r\n");
}

static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument;
    FILE *in = fdopen(dup(fd), "r");
    char line[2048];

    dprintf(fd, "220 test\r\n");
    while (fgets(line, sizeof(line), in) != NULL) {
        if (strncmp(line, "EHLO", 4) == 0) {
            dprintf(fd, "250-test\r\n250-PIPELINING\r\n250 SIZE 1000000\r\n");
        } else if (strncmp(line, "DATA", 4) == 0) {
            dprintf(fd, "354 go\r\n");
            serve_message(in, fd);
        } else if (strncmp(line, "QUIT", 4) == 0) {
            dprintf(fd, "221 bye\r\n");
            break;
        } else {
            dprintf(fd, "250 ok\r\n");
        }
    }
    fclose(in);
    close(fd);
    return NULL;
}

/* A child process that serves until the parent dies or kills it. */
static pid_t start_receiver(uint16_t *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    pid_t child;

    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        return -1;
    *ret_port = ntohs(at.sin_port);
    child = fork();
    if (child != 0) {
        close(fd);
        return child;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        pthread_t thread;
        int peer = accept(fd, NULL, NULL);
        int one = 1;

        /* Three replies to one flight would wait 40 ms for an acknowledgement else. */
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (peer >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)peer) == 0)
            pthread_detach(thread);
    }
}

/* ---- The client ---------------------------------------------------------------------------- */

struct load {
    struct io *io;
    struct smtpc_engine *engine;
    struct smtpc_transaction transaction;
    struct iovec content;
    struct slice rcpt;
    unsigned sent_count;
    unsigned taken_count;
    unsigned open_count;
    uint64_t warm_allocations;
};

static void send_or_quit(struct load *load, struct smtpc *conn)
{
    if (load->sent_count == MESSAGES) {
        smtpc_quit(conn);
        return;
    }
    load->sent_count++;
    smtpc_send(conn, &load->transaction);
}

static void on_ready(struct smtpc *conn, void *context)
{
    send_or_quit(context, conn);
}

static void on_rcpt(struct smtpc *conn, void *context, uint32_t index,
                    const struct verdict *verdict)
{
    struct load *load = context;

    assert_int_equal(verdict->class, VERDICT_SUCCESS);
    load->taken_count++;
    if (load->taken_count == WARM_MESSAGES)
        load->warm_allocations = mem_alloc_count();
    if (load->taken_count == MESSAGES)
        assert_true(mem_alloc_count() == load->warm_allocations);
}

static void on_transaction_done(struct smtpc *conn, void *context, bool may_continue)
{
    assert_true(may_continue);
    send_or_quit(context, conn);
}

/* Where one transaction is sent at most, or nothing fails. */
static void on_returned(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    fail_msg("a transaction came back");
}

static void on_closed(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    struct load *load = context;

    assert_int_equal(verdict->class, VERDICT_SUCCESS);
    load->open_count--;
}

static const struct smtpc_events load_events = {on_ready, on_rcpt, on_transaction_done, on_closed,
                                                on_returned};

static void make_transaction(struct load *load)
{
    static char body[BODY_BYTES];

    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = i % 64 == 62 ? '\r' : (i % 64 == 63 ? '\n' : 'x');
    load->content = (struct iovec){body, sizeof(body)};
    load->rcpt = slice_str("r@example.org");
    load->transaction = (struct smtpc_transaction){
        .sender = slice_str("s@out.example"),
        .rcpts = &load->rcpt,
        .rcpt_count = 1,
        .content = &load->content,
        .content_count = 1,
        .content_bytes = sizeof(body),
    };
}

static void many_messages_over_loopback_without_an_allocation(void **state)
{
    static struct load load;
    struct io_options io_options = {.name = "smtpc test"};
    struct smtpc_options options = {.helo = "out.example"};
    pid_t receiver = start_receiver(&options.target.port);

    if (receiver < 0 || io_create(&io_options, &load.io) < 0) {
        print_message("SKIPPED: no sockets or no io_uring here\n");
        skip();
    }
    assert_int_equal(ipaddr_parse(slice_str("127.0.0.1"), &options.source), 0);
    options.target.ip = options.source;
    make_transaction(&load);
    load.engine = smtpc_engine_create(load.io, CONNECTIONS);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct smtpc *conn = NULL;

        assert_int_equal(smtpc_open(load.engine, &options, &load_events, &load, &conn), 0);
        load.open_count++;
    }
    while (load.open_count > 0)
        io_turn(load.io, 1000000000);
    assert_int_equal(load.taken_count, MESSAGES);
    smtpc_engine_destroy(load.engine);
    io_destroy(load.io);
    kill(receiver, SIGKILL);
    waitpid(receiver, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_messages_over_loopback_without_an_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
