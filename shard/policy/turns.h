/*
 * turns: weighted turns in a line between ranks, for queues of different queue-priority.
 *
 * Twenty points of priority are a rank; of two ranks that both have somebody in line the higher one
 * has four times the turns of the one below it, however many stand for each. Nobody waits for ever,
 * and a rank that had nobody in line for a while is owed nothing for that. Pure; its owner's
 * thread.
 */
#pragma once

#include <stdint.h>

#define TURNS_RANKS  5u
#define TURNS_NORMAL 2u /* of the default priority, 50 */

struct turns {
    uint64_t clock;            /* of the turn before; by it … */
    uint64_t due[TURNS_RANKS]; /* … the next turn of each */
};

/* priority: 0 to 100. */
static inline uint8_t turns_rank(uint64_t priority)
{
    return (uint8_t)(priority < 20 * TURNS_RANKS ? priority / 20 : TURNS_RANKS - 1);
}

/* Whose turn it is of the ranks in the mask (bit n: rank n has somebody in line), which is not 0;
 * of equals the highest. */
uint8_t turns_next(const struct turns *turns, uint32_t mask);
/* The rank has had a turn. */
void turns_served(struct turns *turns, uint8_t rank);
/* It has had one out of its turn: the next one is later by as much. */
void turns_more(struct turns *turns, uint8_t rank);
/* One of those that it has had was not used. */
void turns_less(struct turns *turns, uint8_t rank);
/* It could not use its last one: it may have another now. */
void turns_missed(struct turns *turns, uint8_t rank);
