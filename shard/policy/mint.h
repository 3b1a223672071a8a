/*
 * mint: the owner's book of one rate that several shards draw on.
 *
 * It strikes the tokens of the rate (policy/rate.h), each with its time, and gives each to one
 * shard, which uses it within RATE_LATE_NS of that time or not at all. A shard has one batch at a
 * time; with its next question it says how many tokens at the end of the batch it has not used, and
 * what was struck last is struck again. Shards that ask stand in line and have equal parts of what
 * falls due within MINT_AHEAD_NS; so a rate of one an hour goes round, and one of 100,000 a second
 * costs a parcel for hundreds of tokens. First is who has used none for longest. One that could not
 * use a token lets the others try it, and comes first again when the next one falls due, once: it
 * may have had a connection to open for it.
 *
 * Tokens of slow rates are given out earlier, by half a step, up to MINT_EARLY_NS: time enough to
 * open a connection.
 *
 * A mint of octets, or of a rate with a burst, draws on a volume (policy/volume.h) instead: a batch
 * is an amount for now (step 0), enough for what the asker needs first, and all that was not used
 * comes back.
 *
 * Struck = used + lost + outstanding, always; times of tokens ascend by at least the step, over all
 * shards. Pure: no I/O, times are arguments; its owner's thread. Bounded by the number of shards.
 */
#pragma once

#include "shard/policy/rate.h"

/* How far ahead of their time tokens are given out, and how old a fresh one may be. */
#define MINT_AHEAD_NS       5000000ull
/* How far ahead those are that can wait for a connection: so much at most, or not at all. */
#define MINT_EARLY_NS       1000000000ull
#define MINT_EARLY_LEAST_NS 50000000ull

/* Tokens at first_ns, first_ns + step_ns …; step 0: an amount at first_ns. */
struct mint_batch {
    uint64_t first_ns;
    uint64_t step_ns;
    uint32_t count;
};

struct mint_shard {
    struct mint_batch batch; /* given out and not settled */
    uint32_t wanted;         /* in line: tokens it can use; 0 = not in line */
    uint32_t need;           /* of a volume: at least so much, or nothing */
    uint64_t used_at;        /* mint.struck when it came back from using some, or counts as if */
    uint64_t passed;         /* the number of the token that it could not use last; 0 = none */
    bool has_missed;         /* one token, since it used some */
};

struct mint {
    uint64_t step_ns;
    uint64_t struck;           /* of a row: so many tokens, but for those that came back */
    uint64_t next_ns;          /* of the next token to be struck, or would be if it were a row */
    struct volume *volume;     /* octets, or a burst; else NULL */
    struct mint_shard *shards; /* [count] */
    uint16_t *line;            /* ring of [count] shard numbers */
    uint16_t count;
    uint16_t line_first;
    uint16_t line_count;
};

/* What a rate is, with the bound and without (count UINT64_MAX). */
struct mint_limit {
    uint64_t count;
    uint64_t interval_ms;
    uint64_t burst;
    bool is_octets;
};

/* Of a rate with a bound: the step of its row, or of its pace; never 0. */
uint64_t mint_limit_step_ns(const struct mint_limit *limit);
static inline bool mint_limit_is_row(const struct mint_limit *limit)
{
    return !limit->is_octets && limit->burst <= 1;
}

/* step_ns > 0. */
void mint_init(struct mint *mint, uint64_t step_ns, uint16_t shard_count, uint64_t now_ns);
void mint_fini(struct mint *mint);
/* Another step from now on: what was given out under the old one is none of the book's any more,
 * but the time of the last token still counts. */
void mint_change(struct mint *mint, uint64_t step_ns);
/* Of a mint just made or changed: it draws on a volume, or not, as the limit says. */
void mint_set_volume(struct mint *mint, const struct mint_limit *limit, uint64_t now_ns);
/*
 * A shard that is not in line has done with its batch but for the last `unused` tokens, and stands
 * in line for `wanted` more (0 = for none), at least `need` of which must come together.
 */
void mint_ask(struct mint *mint, uint16_t shard, uint32_t wanted, uint32_t need, uint32_t unused);
/* Octets of former batches that were used and do not count. */
void mint_give_back(struct mint *mint, uint64_t amount);
/* Forgetting it would loosen it: what was struck last is not yet past, or in use. */
bool mint_is_owed(const struct mint *mint, uint64_t now_ns);
/* Everybody leaves the line. */
void mint_clear_line(struct mint *mint);
/* The next batch that can be given now: the shard leaves the line. False when there is none. */
bool mint_next_batch(struct mint *mint, uint64_t now_ns, uint16_t *ret_shard,
                     struct mint_batch *ret_batch);
/* When mint_next_batch is to be asked again; UINT64_MAX when nobody stands in line. */
uint64_t mint_due_ns(const struct mint *mint);
