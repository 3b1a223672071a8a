#include "core/io/io_loop.h"

#include "core/base/must.h"

#include <stdatomic.h>
#include <string.h>

void io_loop_init(struct io_loop *loop, uint64_t now_ns, uint64_t wall_us, uint64_t seed)
{
    memset(loop, 0, sizeof(*loop));
    wheel_init(&loop->wheel, now_ns);
    list_init(&loop->due_timers);
    list_init(&loop->actors);
    list_init(&loop->inboxes);
    list_init(&loop->outboxes);
    rng_init(&loop->rng, seed);
    loop->now_ns = now_ns;
    loop->wall_us = wall_us;
}

void io_loop_set_clock(struct io_loop *loop, uint64_t now_ns, uint64_t wall_us)
{
    if (now_ns > loop->now_ns)
        loop->now_ns = now_ns;
    loop->wall_us = wall_us;
}

static void run_timers(struct io_loop *loop)
{
    struct list *node;

    wheel_advance(&loop->wheel, loop->now_ns, &loop->due_timers);
    while ((node = list_pop_front(&loop->due_timers)) != NULL) {
        struct io_timer *timer = container_of(node, struct io_timer, node.link);

        timer->on_fire(timer);
    }
}

void io_loop_phases(struct io_loop *loop)
{
    io_loop_count(&loop->stats.turns, 1);
    run_timers(loop);
    io_loop_drain_inboxes(loop);
    list_for_each (node, &loop->actors) {
        struct io_actor *actor = container_of(node, struct io_actor, link);

        actor->turn(actor);
    }
    io_loop_flush_outboxes(loop);
}

bool io_loop_has_work(struct io_loop *loop)
{
    if (atomic_load_explicit(&loop->stop_asked, memory_order_relaxed) != 0)
        return true;
    if (!list_empty(&loop->due_timers) || io_loop_next_timer_ns(loop) <= loop->now_ns)
        return true;
    list_for_each (node, &loop->actors) {
        struct io_actor *actor = container_of(node, struct io_actor, link);

        if (actor->is_busy != NULL && actor->is_busy(actor))
            return true;
    }
    return io_loop_has_parcels(loop);
}

uint64_t io_loop_next_timer_ns(const struct io_loop *loop)
{
    return wheel_next_ns(&loop->wheel);
}

bool io_loop_sleep_begin(struct io_loop *loop)
{
    atomic_store_explicit(&loop->sleeping, 1, memory_order_relaxed);
    /* Pairs with the fence of a producer between its publish and its look at `sleeping`: either
     * it sees the flag and wakes us, or we see what it published. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!io_loop_has_work(loop))
        return true;
    atomic_store_explicit(&loop->sleeping, 0, memory_order_relaxed);
    return false;
}

void io_loop_sleep_end(struct io_loop *loop)
{
    atomic_store_explicit(&loop->sleeping, 0, memory_order_relaxed);
}

void io_loop_rouse(struct io *target, struct io *from)
{
    struct io_loop *loop = io_loop_of(target);

    /* The plain look first: a running consumer must not have its line taken by an exchange. */
    if (atomic_load_explicit(&loop->sleeping, memory_order_relaxed) == 0)
        return;
    if (atomic_exchange_explicit(&loop->sleeping, 0, memory_order_relaxed) == 0)
        return;
    if (from != NULL)
        io_loop_count(&io_loop_of(from)->stats.wakes_sent, 1);
    io_wake(target, from);
}

void io_attach(struct io *io, struct io_actor *actor)
{
    must(actor->turn != NULL);
    list_push_back(&io_loop_of(io)->actors, &actor->link);
}

void io_run(struct io *io)
{
    struct io_loop *loop = io_loop_of(io);

    do {
        io_turn(io, UINT64_MAX);
    } while (atomic_load_explicit(&loop->stop_asked, memory_order_acquire) == 0);
    atomic_store_explicit(&loop->stop_asked, 0, memory_order_relaxed);
}

void io_stop(struct io *io)
{
    atomic_store_explicit(&io_loop_of(io)->stop_asked, 1, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    io_loop_rouse(io, NULL);
}

void io_nap(struct io *io, uint64_t nap_ns)
{
    io_loop_of(io)->nap_ns = nap_ns;
}

uint64_t io_now_ns(const struct io *io)
{
    return ((const struct io_loop *)io)->now_ns;
}

uint64_t io_wall_us(const struct io *io)
{
    return ((const struct io_loop *)io)->wall_us;
}

struct rng *io_rng(struct io *io)
{
    return &io_loop_of(io)->rng;
}

void io_stats_read(const struct io *io, struct io_stats *ret_stats)
{
    const struct io_stats *stats = &((const struct io_loop *)io)->stats;

    ret_stats->turns = __atomic_load_n(&stats->turns, __ATOMIC_RELAXED);
    ret_stats->system_calls = __atomic_load_n(&stats->system_calls, __ATOMIC_RELAXED);
    ret_stats->completions = __atomic_load_n(&stats->completions, __ATOMIC_RELAXED);
    ret_stats->wakes_sent = __atomic_load_n(&stats->wakes_sent, __ATOMIC_RELAXED);
    ret_stats->sleeps = __atomic_load_n(&stats->sleeps, __ATOMIC_RELAXED);
    ret_stats->recv_buffer_shortages =
        __atomic_load_n(&stats->recv_buffer_shortages, __ATOMIC_RELAXED);
    ret_stats->busy_ns = __atomic_load_n(&stats->busy_ns, __ATOMIC_RELAXED);
}

void io_timer_init(struct io_timer *timer, void (*on_fire)(struct io_timer *timer))
{
    wheel_timer_init(&timer->node);
    timer->on_fire = on_fire;
}

void io_timer_arm(struct io *io, struct io_timer *timer, uint64_t at_ns)
{
    wheel_arm(&io_loop_of(io)->wheel, &timer->node, at_ns);
}

void io_timer_stop(struct io *io, struct io_timer *timer)
{
    wheel_stop(&io_loop_of(io)->wheel, &timer->node);
}

void io_op_init(struct io_op *op, void (*done)(struct io_op *op, int32_t result))
{
    memset(op, 0, sizeof(*op));
    list_init(&op->link);
    op->done = done;
}
