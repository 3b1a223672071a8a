/* What only the real world has: threads, refusal of io_uring, Unix sockets, system calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/io/io_uring.h"
#include "core/io/mailbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ALARM_S = 400,
    LETTERS = 50000,
    CAPACITY = 64,
    PINGS = 3000,
    CONNECTIONS = 50,
    ASKED = 100,
};

static const struct ipaddr loopback = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}};

static struct io *make_loop(bool forbid_features)
{
    struct io_options options = {
        .name = "test",
        .submit_entries = 256,
        .recv_buffer_count = 256,
        .forbid_features = forbid_features,
    };
    struct io *io = NULL;

    assert_int_equal(io_create(&options, &io), 0);
    return io;
}

/* ---- Threads ------------------------------------------------------------------------------- */

struct letter {
    struct parcel parcel;
    uint64_t number;
};

/* A loop on a thread of its own, which sends back what it gets. */
struct remote {
    struct io *io;
    struct mailbox *back;
    bool forbid_features;
    uint64_t received;
    _Atomic uint32_t stage; /* 1 = the loop is made, 2 = run, 3 = stopped, 4 = may be destroyed */
};

static void wait_for_stage(struct remote *remote, uint32_t stage)
{
    while (atomic_load(&remote->stage) != stage)
        usleep(100);
}

static void *run_remote(void *context)
{
    struct remote *remote = context;

    remote->io = make_loop(remote->forbid_features);
    atomic_store(&remote->stage, 1);
    wait_for_stage(remote, 2);
    io_run(remote->io);
    atomic_store(&remote->stage, 3);
    wait_for_stage(remote, 4);
    io_destroy(remote->io);
    return NULL;
}

static void on_remote_letter(void *context, struct parcel *parcel)
{
    struct remote *remote = context;
    struct letter *letter = container_of(parcel, struct letter, parcel);

    assert_int_equal(letter->number, remote->received);
    letter->number++;
    remote->received++;
    mailbox_post(remote->back, parcel);
}

struct home {
    struct io *io;
    struct mailbox *there;
    uint64_t received;
    uint64_t goal;
    bool posts_again;
};

static void on_home_letter(void *context, struct parcel *parcel)
{
    struct home *home = context;
    struct letter *letter = container_of(parcel, struct letter, parcel);

    home->received++;
    assert_int_equal(letter->number, home->received);
    if (home->received == home->goal)
        io_stop(home->io);
    else if (home->posts_again)
        mailbox_post(home->there, parcel);
}

static void pass_letters(bool forbid_here, bool forbid_there, uint32_t letters, bool one_by_one)
{
    struct letter *mail = calloc(letters, sizeof(*mail));
    struct remote remote = {.forbid_features = forbid_there};
    struct home home = {.io = make_loop(forbid_here), .goal = letters};
    pthread_t thread;

    assert_non_null(mail);
    assert_int_equal(pthread_create(&thread, NULL, run_remote, &remote), 0);
    wait_for_stage(&remote, 1);
    home.there = mailbox_create(CAPACITY, home.io, remote.io);
    home.posts_again = one_by_one;
    remote.back = mailbox_create(CAPACITY, remote.io, home.io);
    mailbox_listen(home.there, on_remote_letter, &remote);
    mailbox_listen(remote.back, on_home_letter, &home);
    atomic_store(&remote.stage, 2);
    for (uint32_t i = 0; i < (one_by_one ? 1 : letters); i++) {
        mail[i].number = i;
        mailbox_post(home.there, &mail[i].parcel);
    }
    io_run(home.io);
    assert_int_equal(home.received, letters);
    io_stop(remote.io);
    wait_for_stage(&remote, 3);
    mailbox_destroy(home.there);
    mailbox_destroy(remote.back);
    io_destroy(home.io);
    atomic_store(&remote.stage, 4);
    assert_int_equal(pthread_join(thread, NULL), 0);
    free(mail);
}

/* Sleeps have no end of their own here: a lost wake-up would hang until the alarm. */
static void letters_between_threads(void **state)
{
    for (unsigned i = 0; i < 4; i++)
        pass_letters(i & 1, i & 2, LETTERS, false);
}

static void pings_between_sleeping_threads(void **state)
{
    for (unsigned i = 0; i < 4; i++)
        pass_letters(i & 1, i & 2, PINGS, true);
}

struct foreign {
    struct io *io;
    struct mailbox *box;
    struct letter letters[200];
};

/* The first letter meets a loop that sleeps, however the machine shares its processors out. */
static void wait_for_sleep(struct io *io)
{
    struct io_stats stats = {0};

    while (stats.sleeps == 0) {
        usleep(100);
        io_stats_read(io, &stats);
    }
}

static void *post_foreign(void *context)
{
    struct foreign *foreign = context;

    wait_for_sleep(foreign->io);
    for (unsigned i = 0; i < 200; i++) {
        uint32_t kept;

        foreign->letters[i].number = i + 1;
        kept = mailbox_post_foreign(foreign->box, &foreign->letters[i].parcel);
        if (i % 4 == 0)
            usleep(200); /* long enough for the loop to fall asleep */
        assert_int_equal(kept, 0);
    }
    return NULL;
}

static void foreign_thread_wakes_a_sleeper(void **state)
{
    for (unsigned forbid = 0; forbid < 2; forbid++) {
        struct foreign *foreign = calloc(1, sizeof(*foreign));
        struct home home = {.io = make_loop(forbid), .goal = 200};
        struct io_stats stats;
        pthread_t thread;

        assert_non_null(foreign);
        foreign->io = home.io;
        foreign->box = mailbox_create(256, NULL, home.io);
        mailbox_listen(foreign->box, on_home_letter, &home);
        assert_int_equal(pthread_create(&thread, NULL, post_foreign, foreign), 0);
        io_run(home.io);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(home.received, 200);
        io_stats_read(home.io, &stats);
        assert_true(stats.sleeps > 0);
        mailbox_destroy(foreign->box);
        io_destroy(home.io);
        free(foreign);
    }
}

struct asker {
    struct io_timer timer;
    struct io *io;
    struct mailbox *box;
    struct letter letters[ASKED];
    unsigned posted;
    _Atomic unsigned taken;
};

/* A few at a time, once those before are taken: the foreign thread falls asleep in the pauses. */
static void on_ask(struct io_timer *timer)
{
    struct asker *asker = container_of(timer, struct asker, timer);
    bool is_time = atomic_load(&asker->taken) == asker->posted;

    for (unsigned i = 0; i < 3 && is_time && asker->posted < ASKED; i++)
        mailbox_post(asker->box, &asker->letters[asker->posted++].parcel);
    if (asker->posted < ASKED)
        io_timer_arm(asker->io, timer, io_now_ns(asker->io) + 1000000);
}

static void *take_by_poll(void *context)
{
    struct asker *asker = context;
    struct pollfd bell = {.fd = mailbox_wait_fd(asker->box), .events = POLLIN};

    while (asker->taken < ASKED) {
        struct parcel *parcel = mailbox_take_foreign(asker->box);

        if (parcel == NULL)
            poll(&bell, 1, -1);
        else
            assert_ptr_equal(parcel, &asker->letters[asker->taken++].parcel);
    }
    io_stop(asker->io);
    return NULL;
}

static void foreign_thread_is_woken_by_its_descriptor(void **state)
{
    struct asker *asker = calloc(1, sizeof(*asker));
    struct io_stats stats;
    pthread_t thread;

    assert_non_null(asker);
    asker->io = make_loop(false);
    asker->box = mailbox_create(4, asker->io, NULL);
    assert_true(mailbox_wait_fd(asker->box) >= 0);
    io_timer_init(&asker->timer, on_ask);
    io_timer_arm(asker->io, &asker->timer, io_now_ns(asker->io));
    assert_int_equal(pthread_create(&thread, NULL, take_by_poll, asker), 0);
    io_run(asker->io);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(asker->taken, ASKED);
    io_stats_read(asker->io, &stats);
    assert_true(stats.wakes_sent > 0);
    mailbox_destroy(asker->box);
    io_destroy(asker->io);
    free(asker);
}

/* ---- Run, stop, sleep ---------------------------------------------------------------------- */

struct stopper {
    struct io_timer timer;
    struct io *io;
};

struct waiter {
    struct io_timer timer;
    struct io_op op;
    struct io *io;
    int fd;
};

static void on_stop(struct io_timer *timer)
{
    io_stop(container_of(timer, struct stopper, timer)->io);
}

static void run_sleeps_until_its_timer(void **state)
{
    struct stopper stopper = {.io = make_loop(false)};
    struct io_stats before;
    struct io_stats after;
    uint64_t begun_ns;

    io_turn(stopper.io, 0);
    begun_ns = io_now_ns(stopper.io);
    io_timer_init(&stopper.timer, on_stop);
    io_timer_arm(stopper.io, &stopper.timer, begun_ns + 50000000);
    io_stats_read(stopper.io, &before);
    io_run(stopper.io);
    io_stats_read(stopper.io, &after);
    assert_true(io_now_ns(stopper.io) - begun_ns >= 50000000);
    /* It slept in one piece, or nearly so. */
    assert_in_range(after.system_calls - before.system_calls, 1, 10);
    assert_in_range(after.turns - before.turns, 1, 10);
    io_destroy(stopper.io);
}

static void stop_when_done(struct io_op *op, int32_t result)
{
    struct waiter *waiter = container_of(op, struct waiter, op);

    assert_int_equal(result, 0);
    io_stop(waiter->io);
}

static void start_nothing(struct io_timer *timer)
{
    struct waiter *waiter = container_of(timer, struct waiter, timer);

    io_read(waiter->io, &waiter->op, waiter->fd, waiter, 0, 0);
}

/* What needs no kernel must not wait for it: nothing else would end this sleep. */
static void loop_does_not_sleep_on_what_it_finished_itself(void **state)
{
    struct waiter waiter = {.io = make_loop(false)};

    waiter.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(waiter.fd >= 0);
    io_op_init(&waiter.op, stop_when_done);
    io_timer_init(&waiter.timer, start_nothing);
    io_timer_arm(waiter.io, &waiter.timer, io_now_ns(waiter.io));
    io_run(waiter.io);
    assert_false(io_op_in_flight(&waiter.op));
    io_destroy(waiter.io);
    close(waiter.fd);
}

#define HOUR_NS 3600000000000ull

static void keep_result(struct io_op *op, int32_t result)
{
    container_of(op, struct waiter, op)->fd = result;
}

/* A turn that sends, and sleeps with what comes of that in sight: how long. */
static uint64_t sleep_in_sight_ns(struct io *io, int fd, uint64_t nap_ns, uint64_t limit_ns)
{
    struct waiter waiter = {.fd = 0};
    char octet = '.';
    struct iovec piece = {&octet, 1};
    uint64_t begun_ns;

    io_turn(io, 0);
    begun_ns = io_now_ns(io);
    io_op_init(&waiter.op, keep_result);
    io_send(io, &waiter.op, fd, &piece, 1);
    io_nap(io, nap_ns);
    io_turn(io, limit_ns);
    assert_int_equal(waiter.fd, 0);
    io_turn(io, 0);
    assert_int_equal(waiter.fd, 1);
    return io_now_ns(io) - begun_ns;
}

/* Linux 6.12. */
static bool kernel_naps(void)
{
    unsigned major = 0, minor = 0;
    struct utsname name;

    return uname(&name) == 0 && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 12));
}

static void a_nap_is_not_ended_by_a_little(void **state)
{
    struct io *io = make_loop(false);
    bool naps = kernel_naps();
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_true(sleep_in_sight_ns(io, fds[0], 30000000, HOUR_NS) >= (naps ? 30000000 : 0));
    /* It was for one sleep, or this one would not end. */
    io_nap(io, HOUR_NS);
    io_turn(io, 0);
    sleep_in_sight_ns(io, fds[0], 0, HOUR_NS);
    /* What limits a sleep limits a nap. */
    assert_true(sleep_in_sight_ns(io, fds[0], HOUR_NS, 30000000) >= (naps ? 30000000 : 0));
    io_destroy(io);
    close(fds[0]);
    close(fds[1]);
}

static void turn_without_wait_or_work_is_free(void **state)
{
    struct io *io = make_loop(false);
    struct io_stats before;
    struct io_stats after;

    io_turn(io, 0);
    io_turn(io, 0);
    io_stats_read(io, &before);
    for (unsigned i = 0; i < 100; i++)
        io_turn(io, 0);
    io_stats_read(io, &after);
    assert_int_equal(after.turns - before.turns, 100);
    /* The CPU clock may have been read once. */
    assert_in_range(after.system_calls - before.system_calls, 0, 1);
    io_destroy(io);
}

/* ---- Many completions, few system calls ----------------------------------------------------- */

struct talker {
    struct io *io;
    struct io_recv recv;
    struct io_op send;
    struct iovec piece;
    char text[64];
    uint64_t heard;
    bool answers;
};

static void say(struct talker *talker)
{
    talker->piece = (struct iovec){talker->text, sizeof(talker->text)};
    io_send(talker->io, &talker->send, talker->recv.op.fd, &talker->piece, 1);
}

static size_t on_heard(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct talker *talker = container_of(recv, struct talker, recv);

    talker->heard += len;
    if (talker->answers)
        say(talker);
    return len;
}

static void on_silence(struct io_recv *recv, int32_t reason)
{
}

static void on_said(struct io_op *op, int32_t result)
{
    assert_int_equal(result, 64);
}

struct accepted {
    struct io_accept accept;
    int fds[CONNECTIONS];
    unsigned count;
};

static void on_accepted(struct io_accept *accept, int32_t fd)
{
    struct accepted *accepted = container_of(accept, struct accepted, accept);

    if (fd >= 0)
        accepted->fds[accepted->count++] = fd;
}

static void talker_start(struct talker *talker, struct io *io, int fd)
{
    talker->io = io;
    talker->recv.on_data = on_heard;
    talker->recv.on_end = on_silence;
    io_op_init(&talker->send, on_said);
    io_recv_start(io, &talker->recv, fd);
}

static void on_connected(struct io_op *op, int32_t result)
{
    assert_int_equal(result, 0);
}

static void connect_talkers(struct io *io, struct talker *talkers, struct accepted *accepted)
{
    struct ipaddr_port at = {.ip = loopback};
    static struct io_op connects[CONNECTIONS];
    int listener = -1;
    int fds[CONNECTIONS];

    assert_int_equal(io_listen(io, &at, 128, &listener), 0);
    assert_int_equal(io_local_address(io, listener, &at), 0);
    io_accept_start(io, &accepted->accept, listener);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        io_op_init(&connects[i], on_connected);
        assert_int_equal(io_socket_open(io, &loopback, &fds[i]), 0);
        io_connect(io, &connects[i], fds[i], &at);
    }
    while (accepted->count < CONNECTIONS)
        io_turn(io, 1000000);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        talker_start(&talkers[2 * i], io, fds[i]);
        talker_start(&talkers[2 * i + 1], io, accepted->fds[i]);
        talkers[2 * i].answers = true;
        talkers[2 * i + 1].answers = true;
    }
}

/* 50 connections that play ping-pong: each turn must serve many of them with one enter. */
static void one_enter_serves_many(void **state)
{
    struct talker *talkers = calloc(2 * CONNECTIONS, sizeof(*talkers));
    struct accepted accepted = {.accept.on_accept = on_accepted};
    struct io *io = make_loop(false);
    struct io_stats before;
    struct io_stats after;
    uint64_t calls;
    uint64_t completions;

    assert_non_null(talkers);
    connect_talkers(io, talkers, &accepted);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        say(&talkers[2 * i]);
    for (unsigned i = 0; i < 20; i++)
        io_turn(io, 1000000);
    io_stats_read(io, &before);
    for (unsigned i = 0; i < 2000; i++)
        io_turn(io, 1000000);
    io_stats_read(io, &after);
    calls = after.system_calls - before.system_calls;
    completions = after.completions - before.completions;
    print_message("%.1f completions for each system call\n", (double)completions / (double)calls);
    /* One each turn, and now and then a look at the CPU clock. */
    assert_true(calls <= 2000 + 200);
    assert_true(completions / calls >= 20);
    io_destroy(io);
    free(talkers);
}

/* ---- No descriptors left -------------------------------------------------------------------- */

struct poor {
    struct io_accept accept;
    int32_t results[2];
    unsigned count;
};

static void on_poor_accept(struct io_accept *accept, int32_t fd)
{
    struct poor *poor = container_of(accept, struct poor, accept);

    assert_true(poor->count < 2);
    poor->results[poor->count++] = fd;
}

static void accept_says_when_descriptors_are_short(void **state)
{
    struct poor poor = {.accept.on_accept = on_poor_accept};
    struct ipaddr_port at = {.ip = loopback};
    struct io *io = make_loop(false);
    struct rlimit limit;
    struct rlimit short_limit;
    struct io_op connect;
    int listener = -1;
    int fd = -1;

    assert_int_equal(io_listen(io, &at, 16, &listener), 0);
    assert_int_equal(io_local_address(io, listener, &at), 0);
    assert_int_equal(io_socket_open(io, &loopback, &fd), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    short_limit = limit;
    short_limit.rlim_cur = (rlim_t)fd + 1; /* the socket was the last one */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &short_limit), 0);
    io_accept_start(io, &poor.accept, listener);
    io_op_init(&connect, on_connected);
    io_connect(io, &connect, fd, &at);
    while (poor.count == 0)
        io_turn(io, 1000000);
    assert_int_equal(poor.results[0], -EMFILE);
    assert_false(io_op_in_flight(&poor.accept.op));
    io_accept_stop(io, &poor.accept);
    for (unsigned i = 0; i < 5; i++)
        io_turn(io, 1000000);
    assert_int_equal(poor.count, 1);

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    io_accept_start(io, &poor.accept, listener);
    while (poor.count == 1)
        io_turn(io, 1000000);
    assert_true(poor.results[1] >= 0);
    while (io_op_in_flight(&connect))
        io_turn(io, 1000000);
    io_close_now(io, poor.results[1]);
    io_close_now(io, fd);
    io_destroy(io);
    close(listener);
}

/* More connections at once than the completion queue has room for end the multishot request. */
static void accept_goes_on_after_an_overflow(void **state)
{
    struct io_options options = {.name = "test", .submit_entries = 2, .recv_buffer_count = 8};
    struct accepted accepted = {.accept.on_accept = on_accepted};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct ipaddr_port at = {.ip = loopback};
    struct io *io = NULL;
    int listener = -1;
    int clients[CONNECTIONS];

    assert_int_equal(io_create(&options, &io), 0);
    assert_int_equal(io_listen(io, &at, 128, &listener), 0);
    assert_int_equal(io_local_address(io, listener, &at), 0);
    io_accept_start(io, &accepted.accept, listener);
    to.sin_port = htons(at.port);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(clients[i], (struct sockaddr *)&to, sizeof(to)), 0);
    }
    while (accepted.count < CONNECTIONS)
        io_turn(io, 1000000);
    io_destroy(io);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        close(clients[i]);
        close(accepted.fds[i]);
    }
    close(listener);
}

/* ---- Unix sockets, addresses that are not ours ---------------------------------------------- */

static void unix_listener_tells_who_is_there(void **state)
{
    struct accepted accepted = {.accept.on_accept = on_accepted};
    struct io *io = make_loop(false);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char directory[] = "/tmp/ringpost-unix-XXXXXX";
    struct stat about;
    uint32_t uid = 12345;
    int listener = -1;
    int client;

    assert_non_null(mkdtemp(directory));
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/socket", directory);
    /* Twice: the file of an earlier life is replaced. */
    for (unsigned i = 0; i < 2; i++) {
        if (listener >= 0)
            io_close_now(io, listener);
        assert_int_equal(io_listen_unix(io, at.sun_path, &listener), 0);
        assert_int_equal(stat(at.sun_path, &about), 0);
        assert_int_equal(about.st_mode & 0777, 0600);
    }
    io_accept_start(io, &accepted.accept, listener);
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
    while (accepted.count == 0)
        io_turn(io, 1000000);
    assert_int_equal(io_peer_uid(io, accepted.fds[0], &uid), 0);
    assert_int_equal(uid, getuid());
    io_destroy(io);
    close(client);
    unlink(at.sun_path);
    rmdir(directory);
}

static void unix_path_of_a_file_is_not_taken(void **state)
{
    struct io *io = make_loop(false);
    char path[] = "/tmp/ringpost-file-XXXXXX";
    char longer[300];
    int file = mkstemp(path);
    int fd = -1;

    assert_true(file >= 0);
    assert_int_equal(io_listen_unix(io, path, &fd), -EADDRINUSE);
    assert_int_equal(access(path, F_OK), 0);
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = 0;
    assert_int_equal(io_listen_unix(io, longer, &fd), -ENAMETOOLONG);
    close(file);
    unlink(path);
    io_destroy(io);
}

/* The end itself may take its time on the way, where the machine is busy. */
enum { ENOUGH_TURNS = 200, VERY_MANY_TURNS = 20000000 };

struct listener_end {
    struct io_recv recv;
    uint64_t bytes;
    uint64_t ends;
    int32_t reason;
};

static size_t on_early_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    container_of(recv, struct listener_end, recv)->bytes += len;
    return len;
}

static void on_early_end(struct io_recv *recv, int32_t reason)
{
    struct listener_end *end = container_of(recv, struct listener_end, recv);

    end->ends++;
    end->reason = reason;
}

static void say_and_leave(int client)
{
    assert_int_equal(write(client, "show status\n", 12), 12);
    close(client);
}

/* A client that has said everything and gone between two turns, before or after the receive has
 * been armed. */
static void assert_end_is_seen(struct io *io, int listener, const struct sockaddr *at,
                               socklen_t at_bytes, bool is_armed)
{
    struct accepted accepted = {.accept.on_accept = on_accepted};
    struct listener_end end = {.recv = {.on_data = on_early_data, .on_end = on_early_end}};
    int client = socket(at->sa_family, SOCK_STREAM, 0);

    assert_int_equal(connect(client, at, at_bytes), 0);
    if (!is_armed)
        say_and_leave(client);
    io_accept_start(io, &accepted.accept, listener);
    while (accepted.count == 0)
        io_turn(io, 1000000);
    io_recv_start(io, &end.recv, accepted.fds[0]);
    /* None of these turns sleeps: what is there must be found by looking, not by waiting. */
    for (int i = 0; i < ENOUGH_TURNS && is_armed; i++)
        io_turn(io, 0);
    if (is_armed)
        say_and_leave(client);
    for (int i = 0; i < VERY_MANY_TURNS && end.ends == 0; i++)
        io_turn(io, 0);
    assert_int_equal(end.bytes, 12);
    assert_int_equal(end.ends, 1);
    assert_int_equal(end.reason, 0);
    io_accept_stop(io, &accepted.accept);
    for (int i = 0; i < ENOUGH_TURNS; i++)
        io_turn(io, 0);
    io_close_now(io, accepted.fds[0]);
}

/* Found on kernel 6.18: a multishot receive took the data of a Unix socket and missed the end. */
static void end_that_comes_with_the_data_is_seen(void **state)
{
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char directory[] = "/tmp/ringpost-unix-XXXXXX";
    struct ipaddr_port at = {.ip = loopback};
    int listener = -1;
    struct io *io = make_loop(false);

    assert_int_equal(io_listen(io, &at, 128, &listener), 0);
    assert_int_equal(io_local_address(io, listener, &at), 0);
    port.sin_port = htons(at.port);
    assert_end_is_seen(io, listener, (struct sockaddr *)&port, sizeof(port), false);
    assert_end_is_seen(io, listener, (struct sockaddr *)&port, sizeof(port), true);
    io_destroy(io);
    close(listener);

    assert_non_null(mkdtemp(directory));
    snprintf(path.sun_path, sizeof(path.sun_path), "%s/socket", directory);
    io = make_loop(false);
    assert_int_equal(io_listen_unix(io, path.sun_path, &listener), 0);
    assert_end_is_seen(io, listener, (struct sockaddr *)&path, sizeof(path), false);
    assert_end_is_seen(io, listener, (struct sockaddr *)&path, sizeof(path), true);
    io_destroy(io);
    close(listener);
    unlink(path.sun_path);
    rmdir(directory);
}

static void source_must_be_ours(void **state)
{
    struct ipaddr source = {.family = IPADDR_V4, .bytes = {192, 0, 2, 77}};
    struct io *io = make_loop(false);
    int fd = -1;

    assert_int_equal(io_socket_open(io, &source, &fd), -EADDRNOTAVAIL);
    assert_int_equal(fd, -1);
    io_destroy(io);
}

/* ---- Where io_uring is blocked -------------------------------------------------------------- */

static char logged[LOG_LINE_MAX];

static void keep_line(void *context, enum log_level level, const char *text)
{
    snprintf(logged, sizeof(logged), "%s", text);
}

/* Makes io_uring_setup fail for this process. */
static void block_io_uring(int code)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(77);
}

static int create_while_blocked(int code, const char *expected)
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        struct io_options options = {.name = "blocked"};
        struct io *io = NULL;

        block_io_uring(code);
        log_set_sink(keep_line, NULL);
        _exit(io_create(&options, &io) == -code && io == NULL && strstr(logged, expected) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void refusal_names_its_cause(void **state)
{
    int blocked = create_while_blocked(EPERM, "kernel.io_uring_disabled");

    if (blocked == 77)
        skip();
    assert_int_equal(blocked, 0);
    assert_int_equal(create_while_blocked(ENOSYS, "no io_uring"), 0);
    /* Not the flags' fault, though that is how an old kernel refuses them. */
    assert_int_equal(create_while_blocked(EINVAL, "cannot set up io_uring"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusal_names_its_cause),
        cmocka_unit_test(run_sleeps_until_its_timer),
        cmocka_unit_test(loop_does_not_sleep_on_what_it_finished_itself),
        cmocka_unit_test(a_nap_is_not_ended_by_a_little),
        cmocka_unit_test(turn_without_wait_or_work_is_free),
        cmocka_unit_test(one_enter_serves_many),
        cmocka_unit_test(accept_says_when_descriptors_are_short),
        cmocka_unit_test(accept_goes_on_after_an_overflow),
        cmocka_unit_test(unix_listener_tells_who_is_there),
        cmocka_unit_test(unix_path_of_a_file_is_not_taken),
        cmocka_unit_test(end_that_comes_with_the_data_is_seen),
        cmocka_unit_test(source_must_be_ours),
        cmocka_unit_test(letters_between_threads),
        cmocka_unit_test(pings_between_sleeping_threads),
        cmocka_unit_test(foreign_thread_wakes_a_sleeper),
        cmocka_unit_test(foreign_thread_is_woken_by_its_descriptor),
    };

    alarm(ALARM_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
