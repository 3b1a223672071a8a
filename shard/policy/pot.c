#include "shard/policy/pot.h"

#include "core/base/mem.h"
#include "core/base/must.h"

void pot_init(struct pot *pot, uint64_t limit, uint16_t shard_count)
{
    must(shard_count > 0 && limit <= INT32_MAX);
    *pot = (struct pot){
        .limit = limit,
        .free = (int64_t)limit,
        .shards = mem_alloc(shard_count * sizeof(struct pot_shard)),
        .line = mem_alloc(shard_count * sizeof(uint16_t)),
        .count = shard_count,
    };
}

uint32_t pot_part(uint64_t limit, uint16_t shard_count, uint16_t shard)
{
    return (uint32_t)(limit / shard_count) + (shard < limit % shard_count);
}

void pot_init_prompt(struct pot *pot, uint64_t limit, uint16_t shard_count)
{
    pot_init(pot, limit, shard_count);
    pot->is_prompt = true;
    pot->free = 0;
    for (uint16_t i = 0; i < shard_count; i++)
        pot->shards[i].leased = pot_part(limit, shard_count, i);
}

void pot_fini(struct pot *pot)
{
    mem_free(pot->shards);
    mem_free(pot->line);
}

static uint16_t line_at(const struct pot *pot, uint16_t position)
{
    return pot->line[(pot->line_first + position) % pot->count];
}

/* ---- Calling back ---------------------------------------------------------------------------- */

/* What a shard will be left with when all that was called back has come. */
static uint32_t kept(const struct pot_shard *shard)
{
    return shard->leased - shard->recalled;
}

/* Who has most; of equals the next in turn. */
static uint16_t pick_victim(const struct pot *pot)
{
    uint16_t best = pot->victim_turn;

    for (uint16_t i = 0; i < pot->count; i++) {
        uint16_t at = (uint16_t)((pot->victim_turn + i) % pot->count);

        if (kept(&pot->shards[at]) > kept(&pot->shards[best]))
            best = at;
    }
    return best;
}

static bool recall_one(struct pot *pot)
{
    uint16_t at = pick_victim(pot);
    struct pot_shard *victim = &pot->shards[at];

    if (kept(victim) == 0)
        return false;
    victim->recalled++;
    victim->to_tell++;
    pot->victim_turn = (uint16_t)((at + 1) % pot->count);
    return true;
}

/* Slots that are on their way back. */
static uint64_t coming(const struct pot *pot)
{
    uint64_t sum = 0;

    for (uint16_t i = 0; i < pot->count; i++)
        sum += pot->shards[i].recalled;
    return sum;
}

/* Calls back what those in line are entitled to, one slot for each at a time. */
static void recall_for_line(struct pot *pot)
{
    int64_t expected = pot->free + (int64_t)coming(pot);

    /* A limit that was lowered. */
    for (; expected < 0 && recall_one(pot); expected++)
        continue;
    for (uint16_t i = 0; i < pot->line_count && !pot->is_prompt; i++) {
        struct pot_shard *asker = &pot->shards[line_at(pot, i)];
        uint32_t most = kept(&pot->shards[pick_victim(pot)]);
        uint32_t has = kept(asker);

        if (expected > 0) {
            expected--;
            continue;
        }
        if (most >= has + 2 || (has == 0 && asker->leased == 0 && most > 0))
            recall_one(pot);
    }
}

/* ---- The line -------------------------------------------------------------------------------- */

void pot_set_limit(struct pot *pot, uint64_t limit)
{
    must(limit <= INT32_MAX);
    pot->free += (int64_t)limit - (int64_t)pot->limit;
    pot->limit = limit;
    recall_for_line(pot);
}

void pot_ask(struct pot *pot, uint16_t shard, uint32_t wanted)
{
    must(shard < pot->count && pot->shards[shard].wanted == 0 && wanted > 0);
    pot->shards[shard].wanted = wanted;
    pot->line[(pot->line_first + pot->line_count++) % pot->count] = shard;
    /* What is free may be just enough for those who stand before it. */
    if (pot->free < pot->line_count && !pot->is_prompt) {
        pot->shards[shard].is_short = true;
        recall_for_line(pot);
    }
}

void pot_give(struct pot *pot, uint16_t shard, uint32_t count)
{
    struct pot_shard *giver = &pot->shards[shard];

    must(shard < pot->count && count <= giver->leased);
    giver->leased -= count;
    giver->recalled -= count < giver->recalled ? count : giver->recalled;
    if (giver->to_tell > giver->recalled)
        giver->to_tell = giver->recalled;
    pot->free += count;
}

/* Nothing is free: true when everybody else has said so too, since the first in line stands there.
 */
static bool has_asked_around(struct pot *pot)
{
    bool is_over = true;

    /* Answers to the poll before come first: they may be older than the question. */
    for (uint16_t i = 0; i < pot->count; i++)
        is_over &= !pot->shards[i].is_polled;
    if (!is_over || pot->has_polled)
        return is_over;
    pot->has_polled = true;
    for (uint16_t i = 0; i < pot->count; i++) {
        struct pot_shard *other = &pot->shards[i];

        if (i == line_at(pot, 0) || other->leased == 0)
            continue;
        other->is_polled = other->to_poll = true;
        is_over = false;
    }
    return is_over;
}

bool pot_next_grant(struct pot *pot, uint16_t *ret_shard, uint32_t *ret_count)
{
    uint64_t free = pot->free > 0 ? (uint64_t)pot->free : 0;
    struct pot_shard *first;
    uint32_t count;

    if (pot->line_count == 0)
        return false;
    if (free == 0 && pot->is_prompt && !has_asked_around(pot))
        return false;
    if (free == 0 && !pot->is_prompt) {
        /* Who was not entitled when it asked may be by now. */
        recall_for_line(pot);
        return false;
    }
    *ret_shard = line_at(pot, 0);
    first = &pot->shards[*ret_shard];
    count = pot->line_count > 1 ? 1 : first->wanted;
    if (count > free)
        count = (uint32_t)free;
    pot->has_polled = false;
    pot->line_first = (uint16_t)((pot->line_first + 1) % pot->count);
    pot->line_count--;
    first->wanted = 0;
    first->is_short = false;
    first->leased += count;
    pot->free -= count;
    *ret_count = count;
    return true;
}

bool pot_next_notice(struct pot *pot, uint16_t shard, uint32_t *ret_count)
{
    struct pot_shard *at = &pot->shards[shard];

    if (at->to_tell == 0 && !at->is_short)
        return false;
    *ret_count = at->to_tell;
    if (at->to_tell == 0)
        at->is_short = false;
    at->to_tell = 0;
    return true;
}

bool pot_next_poll(struct pot *pot, uint16_t shard)
{
    struct pot_shard *at = &pot->shards[shard];
    bool is_due = at->to_poll;

    at->to_poll = false;
    return is_due;
}

void pot_on_polled(struct pot *pot, uint16_t shard, uint32_t count)
{
    must(pot->shards[shard].is_polled && !pot->shards[shard].to_poll);
    pot->shards[shard].is_polled = false;
    pot_give(pot, shard, count);
}

bool pot_is_sound(const struct pot *pot)
{
    int64_t sum = pot->free;
    uint16_t in_line = 0;

    for (uint16_t i = 0; i < pot->count; i++) {
        const struct pot_shard *shard = &pot->shards[i];

        sum += shard->leased;
        in_line += shard->wanted > 0;
        if (shard->recalled > shard->leased || shard->to_tell > shard->recalled)
            return false;
    }
    return sum == (int64_t)pot->limit && in_line == pot->line_count;
}

bool pot_is_unused(const struct pot *pot)
{
    for (uint16_t i = 0; i < pot->count; i++)
        if (pot->shards[i].leased > 0)
            return false;
    return pot->line_count == 0;
}
