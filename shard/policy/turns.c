#include "shard/policy/turns.h"

#include "core/base/must.h"

/* Of the lowest rank between two turns; the others' are quarters of the one below. */
#define LONGEST_STRIDE (1u << 2 * (TURNS_RANKS - 1))

static uint64_t stride_of(uint8_t rank)
{
    return LONGEST_STRIDE >> 2 * rank;
}

/* Behind the clock: what a rank had no use for is lost. */
static uint64_t wait_of(const struct turns *turns, uint8_t rank)
{
    return turns->due[rank] > turns->clock ? turns->due[rank] - turns->clock : 0;
}

uint8_t turns_next(const struct turns *turns, uint32_t mask)
{
    uint8_t next = TURNS_RANKS;

    for (uint8_t rank = TURNS_RANKS; rank-- > 0;)
        if ((mask & 1u << rank) != 0 &&
            (next == TURNS_RANKS || wait_of(turns, rank) < wait_of(turns, next)))
            next = rank;
    must(next < TURNS_RANKS);
    return next;
}

void turns_served(struct turns *turns, uint8_t rank)
{
    turns->clock += wait_of(turns, rank);
    turns->due[rank] = turns->clock + stride_of(rank);
}

void turns_more(struct turns *turns, uint8_t rank)
{
    turns->due[rank] = turns->clock + wait_of(turns, rank) + stride_of(rank);
}

void turns_less(struct turns *turns, uint8_t rank)
{
    uint64_t wait = wait_of(turns, rank), stride = stride_of(rank);

    turns->due[rank] = turns->clock + (wait > stride ? wait - stride : 0);
}

void turns_missed(struct turns *turns, uint8_t rank)
{
    turns->due[rank] = turns->clock;
}
