#include "bench/gen_int.h"

#include "bench/process.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/io/io_uring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define NS_PER_S          1000000000ull
#define PS_PER_S          1000000000000.0
#define LOOK_NS           20000000ull
#define OPEN_LOOP_NS      100000ull
#define QUIT_LIMIT_NS     (2 * NS_PER_S)
#define CONNECT_LIMIT_NS  (3 * NS_PER_S)
#define RETRIES_A_SESSION 3
#define RECV_BUFFERS      1024
#define RECV_BYTES        1024 /* replies are short */

struct gen_shared *gen_shared_create(void)
{
    void *memory = mmap(NULL, sizeof(struct gen_shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

void gen_shared_destroy(struct gen_shared *shared)
{
    if (shared != NULL)
        munmap(shared, sizeof(*shared));
}

void gen_options_init(struct gen_options *options)
{
    *options = (struct gen_options){
        .sessions = 100,
        .messages = 100000,
        .rcpts = 1,
        .domains = 100,
        .sizes = {{2048, 1}},
        .size_count = 1,
        .pipelining = GEN_ENVELOPE,
        .give_up_s = 30,
        .run = 1,
    };
}

void gen_fail(struct gen *gen, const char *what, int code)
{
    if (gen->error != 0)
        return;
    log_error("gen: %s: %s", what, err_text(code));
    gen->error = code;
}

/* ---- The schedule -------------------------------------------------------------------------- */

static uint64_t due_of(const struct gen *gen, uint64_t number)
{
    unsigned __int128 picoseconds = gen->interval_ps;

    picoseconds *= number - gen->options->first_number;
    return gen->start_ns + (uint64_t)(picoseconds / 1000);
}

static bool has_numbers(const struct gen *gen)
{
    const struct gen_options *options = gen->options;

    return gen->started && !gen->draining &&
           gen->next_number < options->first_number + options->messages;
}

void gen_put_back(struct gen *gen, uint64_t number, uint64_t due_ns, uint64_t from_ns)
{
    must(gen->retry_count < RETRIES_A_SESSION * gen->options->sessions);
    gen->retries[gen->retry_count++] = (struct gen_retry){
        .number = number,
        .due_ns = due_ns,
        /* In the closed loop a message's time starts anew with each try. */
        .from_ns = gen->interval_ps != 0 ? from_ns : 0,
    };
}

static bool take_retry(struct gen *gen, uint64_t now, uint64_t *ret_number, uint64_t *ret_from_ns)
{
    for (uint32_t i = 0; i < gen->retry_count; i++) {
        if (gen->retries[i].due_ns > now)
            continue;
        *ret_number = gen->retries[i].number;
        *ret_from_ns = gen->retries[i].from_ns;
        gen->retries[i] = gen->retries[--gen->retry_count];
        return true;
    }
    return false;
}

bool gen_take_number(struct gen *gen, uint64_t *ret_number, uint64_t *ret_from_ns)
{
    uint64_t now = io_now_ns(gen->io);

    if (gen->retry_count > 0 && take_retry(gen, now, ret_number, ret_from_ns))
        return true;
    /* Two messages in work a session and these retries always find a place in the table. */
    if (!has_numbers(gen) || gen->retry_count >= gen->options->sessions)
        return false;
    *ret_from_ns = 0;
    if (gen->interval_ps != 0) {
        *ret_from_ns = due_of(gen, gen->next_number);
        if (*ret_from_ns > now)
            return false;
    }
    *ret_number = gen->next_number++;
    __atomic_store_n(&gen->shared->issued, gen->shared->issued + 1, __ATOMIC_RELAXED);
    return true;
}

/* Something an idle session could take now. */
static bool has_due(const struct gen *gen)
{
    uint64_t now = io_now_ns(gen->io);

    for (uint32_t i = 0; i < gen->retry_count; i++) {
        if (gen->retries[i].due_ns <= now)
            return true;
    }
    if (!has_numbers(gen) || gen->retry_count >= gen->options->sessions)
        return false;
    return gen->interval_ps == 0 || due_of(gen, gen->next_number) <= now;
}

const struct message_body *gen_body_of(const struct gen *gen, uint64_t number)
{
    uint32_t variant = (uint32_t)(number % GEN_VARIANTS);
    uint32_t lot = (uint32_t)(number % gen->weight_sum);
    uint32_t size = 0;

    while (lot >= gen->options->sizes[size].weight)
        lot -= gen->options->sizes[size++].weight;
    return &gen->bodies[size][variant];
}

/*
 * One turn. The open loop looks at its sockets every OPEN_LOOP_NS and sleeps in between, whatever
 * arrives meanwhile: being woken for each reply would cost more CPU than all the rest, and take it
 * from the server that shares the machine. Latencies are too long by up to that much, never too
 * short.
 */
static void take_turn(struct gen *gen)
{
    uint64_t spent_ns;

    if (gen->interval_ps == 0 || !has_numbers(gen)) {
        io_turn(gen->io, LOOK_NS);
        return;
    }
    io_turn(gen->io, 0);
    spent_ns = process_now_ns() - io_now_ns(gen->io);
    if (spent_ns < OPEN_LOOP_NS)
        process_sleep_ns(OPEN_LOOP_NS - spent_ns);
}

/* ---- The run ------------------------------------------------------------------------------- */

static void on_turn(struct io_actor *actor)
{
    struct gen *gen = container_of(actor, struct gen, actor);
    struct list *node;
    int error;

    error = ledger_file_flush(&gen->file);
    if (error < 0)
        gen_fail(gen, "the ledger file cannot be written", error);
    while ((node = list_pop_front(&gen->unflushed)) != NULL)
        gen_session_flush(container_of(node, struct gen_session, link));
    /* Each idle session that is asked takes one, so this ends. */
    while (!list_empty(&gen->idle) && has_due(gen)) {
        node = list_pop_front(&gen->idle);
        gen_session_flush(container_of(node, struct gen_session, link));
    }
}

static void look_at_the_clock(struct gen *gen)
{
    const struct gen_options *options = gen->options;
    uint64_t now = io_now_ns(gen->io);

    if (options->seconds > 0 && (double)(now - gen->start_ns) >= options->seconds * NS_PER_S)
        gen->draining = true;
    if (process_stop_asked() || __atomic_load_n(&gen->shared->stop, __ATOMIC_RELAXED) != 0)
        gen->draining = true;
    /* Once time is up, what would have to be sent again is left. */
    if (gen->draining)
        gen->retry_count = 0;
    if (gen->busy_sessions + gen->retry_count > 0 &&
        (double)(now - gen->last_progress_ns) > options->give_up_s * NS_PER_S)
        gen_fail(gen, "no answer for too long", -ETIMEDOUT);
    if (gen->busy_sessions + gen->retry_count == 0)
        gen->last_progress_ns = now;
}

static bool is_finished(const struct gen *gen)
{
    return gen->error != 0 ||
           (!has_numbers(gen) && gen->retry_count == 0 && gen->busy_sessions == 0);
}

/* The clock starts once every session is open, so that neither rate nor schedule includes that. */
static void connect_all(struct gen *gen)
{
    uint64_t limit_ns = io_now_ns(gen->io) + CONNECT_LIMIT_NS;
    uint32_t ready = 0;

    gen->open_sessions = (uint32_t)gen->options->sessions;
    for (uint32_t i = 0; i < gen->options->sessions; i++)
        gen_session_connect(&gen->sessions[i]);
    while (ready < gen->options->sessions && gen->error == 0 && io_now_ns(gen->io) < limit_ns &&
           !process_stop_asked()) {
        io_turn(gen->io, LOOK_NS);
        ready = 0;
        list_for_each (node, &gen->idle)
            ready++;
    }
    gen->started = true;
    /* Not the loop's clock: it was read before that turn slept. */
    gen->start_ns = process_now_ns();
    gen->last_progress_ns = gen->start_ns;
    gen->shared->start_ns = gen->start_ns;
}

static void run(struct gen *gen)
{
    uint64_t limit_ns;

    connect_all(gen);
    while (!is_finished(gen)) {
        take_turn(gen);
        look_at_the_clock(gen);
    }
    gen->quitting = true;
    limit_ns = io_now_ns(gen->io) + QUIT_LIMIT_NS;
    for (uint32_t i = 0; i < gen->options->sessions; i++)
        gen_session_quit(&gen->sessions[i]);
    while (gen->open_sessions > 0 && io_now_ns(gen->io) < limit_ns)
        io_turn(gen->io, LOOK_NS);
}

static void make_bodies(struct gen *gen)
{
    const struct gen_options *options = gen->options;

    for (uint32_t size = 0; size < options->size_count; size++) {
        must(options->sizes[size].weight > 0);
        gen->weight_sum += options->sizes[size].weight;
        for (uint32_t variant = 0; variant < GEN_VARIANTS; variant++)
            message_body_make(&gen->bodies[size][variant], options->sizes[size].bytes,
                              options->dots, size * GEN_VARIANTS + variant);
    }
}

static int open_gen(struct gen *gen)
{
    static const struct io_options io_options = {
        .name = "gen",
        .recv_buffer_count = RECV_BUFFERS,
        .recv_buffer_bytes = RECV_BYTES,
    };
    const struct gen_options *options = gen->options;
    int error = ledger_file_open(&gen->file, options->ledger_path, options->ledger_sync);

    if (error < 0) {
        log_error("gen: %s: %s", options->ledger_path, err_text(error));
        return error;
    }
    error = io_create(&io_options, &gen->io);
    if (error < 0)
        return error;
    /* The open loop sleeps for less than the usual slack of timers. */
    prctl(PR_SET_TIMERSLACK, 1000);
    gen->message = (struct message_options){
        .run = options->run,
        .domains = (uint32_t)options->domains,
        .hot_percent = (uint32_t)options->hot_percent,
        .dots = options->dots,
        .extra_headers = options->extra_headers,
    };
    gen->next_number = options->first_number;
    if (options->rate > 0)
        gen->interval_ps = (uint64_t)(PS_PER_S / options->rate);
    make_bodies(gen);
    gen->sessions = mem_alloc(options->sessions * sizeof(*gen->sessions));
    gen->retries = mem_alloc(RETRIES_A_SESSION * options->sessions * sizeof(*gen->retries));
    for (uint32_t i = 0; i < options->sessions; i++)
        gen_session_init(gen, &gen->sessions[i], i);
    list_init(&gen->idle);
    list_init(&gen->unflushed);
    gen->actor.turn = on_turn;
    io_attach(gen->io, &gen->actor);
    histogram_init(&gen->shared->latency);
    return 0;
}

int gen_run(const struct gen_options *options, struct gen_shared *shared, struct ledger *ledger)
{
    struct gen *gen = mem_alloc(sizeof(*gen));
    struct io_stats stats;
    int error;

    must(options->first_number + options->messages <= ledger->messages);
    must(options->rcpts <= ledger->rcpts);
    gen->options = options;
    gen->shared = shared;
    gen->ledger = ledger;
    error = open_gen(gen);
    if (error < 0)
        return error;
    run(gen);
    io_stats_read(gen->io, &stats);
    shared->system_calls = stats.system_calls + gen->file.system_calls;
    shared->cpu_us = process_own_cpu_us();
    /* Loop, sessions and sockets go with the process. */
    ledger_file_close(&gen->file);
    return gen->error;
}
