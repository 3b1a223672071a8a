/*
 * pot: the owner's book of one limit that several shards draw on.
 *
 * Slots are free or leased to a shard; leased + free = limit, always. A shard that needs slots
 * stands in line with one question at a time; the line is served in order, one slot each while
 * others stand behind. When nothing is free, slots are called back from the shard that has most,
 * as long as it has at least two more than the one that asks, or the one that asks has none:
 * shards that always have work end within one slot of each other, and with fewer slots than shards
 * the slots go round. A limit that is lowered makes `free` negative until enough came back.
 *
 * A prompt pot is for those who cannot wait, such as a connection that stands at the door. All is
 * leased from the start, in equal parts, so that one who finds a slot at hand asks nobody; and who
 * asks is answered: with slots, or with none when none lies idle anywhere. Before the answer is
 * none, each other shard has been polled once for what lies idle there, and has said so. Slots in
 * use are never called back, unless the limit is lowered.
 *
 * Pure: no time, no I/O; its owner's thread. Bounded by the number of shards. Shards of the book
 * are numbers 0 … count-1.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pot_shard {
    uint32_t leased;
    uint32_t wanted;   /* in line: slots it can use at once; 0 = not in line */
    uint32_t recalled; /* called back and not returned yet */
    uint32_t to_tell;  /* of these, not told yet */
    bool is_short;     /* in line, and to be told that nothing is free */
    bool is_polled;    /* has not said yet what lies idle */
    bool to_poll;      /* and has not been asked yet */
};

struct pot {
    uint64_t limit;
    int64_t free;
    struct pot_shard *shards; /* [count] */
    uint16_t *line;           /* ring of [count] shard numbers */
    uint16_t count;
    uint16_t line_first;
    uint16_t line_count;
    uint16_t victim_turn; /* equals are called upon in turn */
    bool is_prompt;
    bool has_polled; /* all others, since the first in line is the first */
};

void pot_init(struct pot *pot, uint64_t limit, uint16_t shard_count);
void pot_init_prompt(struct pot *pot, uint64_t limit, uint16_t shard_count);
/* What a shard has of a prompt pot from the start. */
uint32_t pot_part(uint64_t limit, uint16_t shard_count, uint16_t shard);
void pot_fini(struct pot *pot);
void pot_set_limit(struct pot *pot, uint64_t limit);
/* A shard that is not in line stands in line. wanted >= 1. */
void pot_ask(struct pot *pot, uint16_t shard, uint32_t wanted);
/* A shard returns slots. */
void pot_give(struct pot *pot, uint16_t shard, uint32_t count);
/* The next grant: the shard leaves the line with *ret_count slots; 0 only from a prompt pot. False
 * when there is no answer for anybody yet. */
bool pot_next_grant(struct pot *pot, uint16_t *ret_shard, uint32_t *ret_count);
/*
 * What a shard is to be told now: to give back *ret_count slots more as they come free, or (0) that
 * it stands in line and nothing is free. It counts as told then. False when there is nothing.
 */
bool pot_next_notice(struct pot *pot, uint16_t shard, uint32_t *ret_count);
/* Whether a shard is to be asked now for what lies idle; it counts as asked then. */
bool pot_next_poll(struct pot *pot, uint16_t shard);
/* A shard that was asked returns some of it: one slot at least when any lies idle. */
void pot_on_polled(struct pot *pot, uint16_t shard, uint32_t count);
/* leased + free = limit, and the line is in order. */
bool pot_is_sound(const struct pot *pot);
/* Nothing is leased and nobody is in line. */
bool pot_is_unused(const struct pot *pot);
