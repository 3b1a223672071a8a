#include "shard/tidy.h"

#include "shard/shard_int.h"

/* Of a quarter of a megabyte, in one turn. */
#define BLOCKS_MAX 16

static void on_timer(struct io_timer *timer);

static void add(void *context, struct slab *slab)
{
    struct tidy *tidy = context;

    must(tidy->slab_count < TIDY_SLABS_MAX);
    tidy->slabs[tidy->slab_count++] = slab;
}

void tidy_init(struct shard *shard)
{
    struct slab *const own[] = {
        &shard->home_messages, &shard->home_rcpts, &shard->routes,     &shard->handoffs,
        &shard->queued,        &shard->queues,     &shard->strands,    &shard->outcomes,
        &shard->sites,         &shard->lanes,      &shard->deliveries, &shard->connections,
        &shard->wides,         &shard->feeds,      &shard->intakes,    &shard->pool.messages,
        &shard->checks,        &shard->verifies,
    };

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        add(&shard->tidy, own[i]);
    for (unsigned i = 0; i < MESSAGE_BUFFER_CLASSES; i++)
        add(&shard->tidy, &shard->pool.buffers[i]);
    smtpc_engine_each_slab(shard->smtpc, add, &shard->tidy);
    smtpd_each_slab(shard->smtpd, add, &shard->tidy);
    io_timer_init(&shard->tidy.timer, on_timer);
}

void tidy_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->tidy.timer);
}

static bool is_used(const struct tidy *tidy)
{
    for (uint32_t i = 0; i < tidy->slab_count; i++)
        if (tidy->slabs[i]->count_used > 0)
            return true;
    return false;
}

static void arm(struct shard *shard, uint64_t delay_ms)
{
    io_timer_arm(shard->io, &shard->tidy.timer, io_now_ns(shard->io) + delay_ms * 1000000);
}

void tidy_turn(struct shard *shard)
{
    if (!io_timer_is_armed(&shard->tidy.timer) && !shard->stopping && is_used(&shard->tidy))
        arm(shard, TIDY_SPAN_MS);
}

static void on_timer(struct io_timer *timer)
{
    struct tidy *tidy = container_of(timer, struct tidy, timer);
    struct shard *shard = container_of(tidy, struct shard, tidy);
    uint32_t blocks = BLOCKS_MAX;
    bool is_more = false;

    for (uint32_t i = 0; i < tidy->slab_count; i++) {
        bool has_more;

        blocks -= slab_trim(tidy->slabs[i], blocks, &has_more);
        is_more |= has_more;
    }
    if (is_more && !shard->stopping)
        arm(shard, blocks == 0 ? TIDY_AGAIN_MS : TIDY_SPAN_MS);
}
