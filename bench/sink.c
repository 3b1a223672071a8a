#include "bench/sink_int.h"

#include "bench/models.h"
#include "bench/process.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io/io_uring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define BACKLOG           4096
#define STOP_LOOK_NS      20000000ull
#define ACCEPT_WAIT_NS    100000000ull
/* A buffer takes a whole message of 2 KB with room to spare; larger ones come in several. */
#define RECV_BUFFERS      1024
#define RECV_BUFFER_BYTES 16384

struct sink_shared *sink_shared_create(void)
{
    void *memory = mmap(NULL, sizeof(struct sink_shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

void sink_shared_destroy(struct sink_shared *shared)
{
    if (shared != NULL)
        munmap(shared, sizeof(*shared));
}

/* ---- Who connects -------------------------------------------------------------------------- */

/* Taken once per connection, so a lock is cheap enough. */
static struct sink_peer *peer_of(struct sink_shared *shared, const struct ipaddr *ip)
{
    uint64_t start = ipaddr_hash(ip) % SINK_PEERS_MAX;
    struct sink_peer *peer = NULL;

    while (__atomic_exchange_n(&shared->peer_lock, 1, __ATOMIC_ACQUIRE) != 0)
        ;
    for (uint64_t i = 0; i < SINK_PEERS_MAX && peer == NULL; i++) {
        struct sink_peer *candidate = &shared->peers[(start + i) % SINK_PEERS_MAX];

        if (!candidate->in_use) {
            candidate->ip = *ip;
            candidate->in_use = true;
        }
        if (ipaddr_equal(&candidate->ip, ip))
            peer = candidate;
    }
    __atomic_store_n(&shared->peer_lock, 0, __ATOMIC_RELEASE);
    return peer;
}

static void count_open(uint64_t *count, uint64_t *count_max)
{
    uint64_t open = __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
    uint64_t most = __atomic_load_n(count_max, __ATOMIC_RELAXED);

    while (open > most && !__atomic_compare_exchange_n(count_max, &most, open, true,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* ---- Connections --------------------------------------------------------------------------- */

struct sink_door {
    struct io_accept accept;
    struct sink_worker *worker;
    int fd;
    bool open;
};

static void on_accept(struct io_accept *accept, int32_t fd)
{
    struct sink_door *door = container_of(accept, struct sink_door, accept);
    struct sink_worker *worker = door->worker;
    struct ipaddr_port client = {0};
    struct ipaddr_port called = {0};
    struct sink_session *session;
    struct sink_peer *peer;
    uint32_t index;

    if (fd < 0) {
        /* Out of descriptors most likely: the timer tries again. */
        door->open = false;
        io_timer_arm(worker->io, &worker->accept_timer, io_now_ns(worker->io) + ACCEPT_WAIT_NS);
        return;
    }
    session = slab_alloc(&worker->sessions, &index);
    if (session == NULL || io_peer_address(worker->io, fd, &client) < 0 ||
        io_local_address(worker->io, fd, &called) < 0 ||
        (peer = peer_of(worker->shared, &client.ip)) == NULL) {
        if (session != NULL)
            slab_free(&worker->sessions, index);
        io_close_now(worker->io, fd);
        return;
    }
    session->worker = worker;
    session->index = index;
    session->fd = fd;
    session->peer = peer;
    session->client = client.ip;
    session->called = called.ip;
    count_open(&peer->open, &peer->open_max);
    sink_count(&peer->connections, 1);
    count_open(&worker->shared->counters.open, &worker->shared->counters.open_max);
    sink_count(&worker->shared->counters.connections, 1);
    sink_session_start(session);
}

static void open_doors(struct sink_worker *worker)
{
    for (uint32_t i = 0; i < worker->options->address_count; i++) {
        struct sink_door *door = &worker->doors[i];

        if (!door->open)
            io_accept_start(worker->io, &door->accept, door->fd);
        door->open = true;
    }
}

static void on_accept_timer(struct io_timer *timer)
{
    open_doors(container_of(timer, struct sink_worker, accept_timer));
}

/* A client that was told 221 may be back before the close is complete: it has one connection then,
 * not two. */
void sink_session_over(struct sink_session *session)
{
    __atomic_fetch_sub(&session->peer->open, 1, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&session->worker->shared->counters.open, 1, __ATOMIC_RELAXED);
}

void sink_session_end(struct sink_session *session)
{
    struct sink_worker *worker = session->worker;

    mem_free(session->rcpts);
    mem_free(session->sender);
    slab_free(&worker->sessions, session->index);
}

/* ---- The worker ---------------------------------------------------------------------------- */

/*
 * Replies leave at the end of the turn, one send a session however many commands it pipelined, and
 * never before the ledger has what they promise.
 */
static void on_turn(struct io_actor *actor)
{
    struct sink_worker *worker = container_of(actor, struct sink_worker, actor);
    int error;
    struct list *node;

    if (list_empty(&worker->talkative))
        return;
    error = ledger_file_flush(&worker->file);
    if (error < 0) {
        log_error("sink: the ledger file cannot be written: %s", err_text(error));
        worker->error = error;
        return;
    }
    while ((node = list_pop_front(&worker->talkative)) != NULL)
        sink_session_flush(container_of(node, struct sink_session, talkative_link));
}

static int load_rules(const struct sink_options *options, struct rules *rules)
{
    unsigned line;
    int error;

    if (options->pace > 1)
        rules_set_pace(rules, options->pace);
    if (options->model != NULL) {
        const struct model *model = model_find(options->model);

        if (model == NULL) {
            log_error("sink: there is no model \"%s\"", options->model);
            return E_UNKNOWN;
        }
        model_add(model, rules);
    }
    for (uint32_t i = 0; i < options->rule_count; i++) {
        error = rules_add(rules, options->rules[i]);
        if (error != 0) {
            log_error("sink: rule \"%s\": %s", options->rules[i], err_text(error));
            return error;
        }
    }
    if (options->rules_file == NULL)
        return 0;
    error = rules_load(rules, options->rules_file, &line);
    if (error != 0)
        log_error("sink: %s:%u: %s", options->rules_file, line, err_text(error));
    return error;
}

int sink_check(const struct sink_options *options)
{
    struct rules *rules = rules_create();
    int error = load_rules(options, rules);

    rules_destroy(rules);
    return error;
}

static int listen_all(struct sink_worker *worker)
{
    for (uint32_t i = 0; i < worker->options->address_count; i++) {
        const struct ipaddr_port *at = &worker->options->addresses[i];
        struct sink_door *door = &worker->doors[i];
        int error = io_listen(worker->io, at, BACKLOG, &door->fd);
        char text[IPADDR_TEXT_MAX];

        if (error < 0) {
            ipaddr_format(&at->ip, text);
            log_error("sink: cannot listen on %s port %u: %s", text, at->port, err_text(error));
            return error;
        }
        door->worker = worker;
        door->accept.on_accept = on_accept;
    }
    open_doors(worker);
    return 0;
}

static void write_ehlo(struct sink_worker *worker)
{
    static const struct {
        uint32_t offer;
        const char *line;
    } lines[] = {
        {RULE_OFFER(PIPELINING), "250-PIPELINING\r\n"},
        {RULE_OFFER(CHUNKING), "250-CHUNKING\r\n"},
        {RULE_OFFER(STARTTLS), "250-STARTTLS\r\n"},
        {RULE_OFFER(ENHANCED), "250-ENHANCEDSTATUSCODES\r\n"},
        {RULE_OFFER(8BITMIME), "250-8BITMIME\r\n"},
    };
    const struct sink_options *options = worker->options;
    uint32_t usual = RULE_OFFER(PIPELINING) | RULE_OFFER(SIZE) | RULE_OFFER(ENHANCED) |
                     RULE_OFFER(8BITMIME) | (options->chunking ? RULE_OFFER(CHUNKING) : 0);
    uint32_t offers = rules_offers(worker->rules, usual);
    char *room = worker->ehlo;
    size_t room_bytes = sizeof(worker->ehlo);
    int used = snprintf(room, room_bytes, "250-%s\r\n", options->host_name);

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if ((offers & lines[i].offer) != 0)
            used += snprintf(room + used, room_bytes - (size_t)used, "%s", lines[i].line);
    }
    /* The last line ends the reply; without SIZE it says what needs no offer. */
    if ((offers & RULE_OFFER(SIZE)) != 0)
        snprintf(room + used, room_bytes - (size_t)used, "250 SIZE %lu", options->size_max);
    else
        snprintf(room + used, room_bytes - (size_t)used, "250 HELP");
    worker->offers = offers;
    worker->lag_ns = rules_lag_ms(worker->rules) * 1000000;
    snprintf(worker->greeting, sizeof(worker->greeting), "220 %s ESMTP", options->host_name);
}

static int worker_open(struct sink_worker *worker)
{
    static const struct io_options io_options = {
        .name = "sink",
        .recv_buffer_count = RECV_BUFFERS,
        .recv_buffer_bytes = RECV_BUFFER_BYTES,
    };
    const struct sink_options *options = worker->options;
    int error = load_rules(options, worker->rules);

    if (error == 0)
        error = ledger_file_open(&worker->file, options->ledger_path, options->ledger_sync);
    if (error == 0 && options->times_path != NULL) {
        worker->times = fopen(options->times_path, "ae");
        error = worker->times == NULL ? -errno : 0;
    }
    if (error == 0)
        error = io_create(&io_options, &worker->io);
    if (error < 0)
        return error;
    slab_init(&worker->sessions, sizeof(struct sink_session), (uint32_t)options->sessions_max);
    worker->start_ns = io_now_ns(worker->io);
    write_ehlo(worker);
    io_timer_init(&worker->accept_timer, on_accept_timer);
    worker->actor.turn = on_turn;
    io_attach(worker->io, &worker->actor);
    return listen_all(worker);
}

static void worker_run(struct sink_worker *worker)
{
    struct sink_shared *shared = worker->shared;
    uint64_t calls = 0;

    while (worker->error == 0 && !process_stop_asked() &&
           __atomic_load_n(&shared->stop, __ATOMIC_RELAXED) == 0) {
        struct io_stats stats;

        io_turn(worker->io, STOP_LOOK_NS);
        io_stats_read(worker->io, &stats);
        stats.system_calls += worker->file.system_calls;
        sink_count(&shared->counters.system_calls, stats.system_calls - calls);
        calls = stats.system_calls;
    }
}

int sink_work(const struct sink_options *options, struct sink_shared *shared, struct ledger *ledger)
{
    struct sink_worker *worker = mem_alloc(sizeof(*worker));
    int error;

    worker->options = options;
    worker->shared = shared;
    worker->ledger = ledger;
    worker->rules = rules_create();
    worker->doors = mem_alloc(options->address_count * sizeof(*worker->doors));
    list_init(&worker->talkative);
    error = worker_open(worker);
    if (error < 0) {
        __atomic_store_n(&shared->error, error, __ATOMIC_RELEASE);
        return error;
    }
    __atomic_fetch_add(&shared->ready, 1, __ATOMIC_RELEASE);
    worker_run(worker);
    /* Loop, sessions and sockets go with the process. */
    ledger_file_close(&worker->file);
    if (worker->times != NULL && fclose(worker->times) != 0 && worker->error == 0)
        worker->error = -errno;
    return worker->error;
}
