#include "shard/policy/mint.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/policy/volume.h"

void mint_init(struct mint *mint, uint64_t step_ns, uint16_t shard_count, uint64_t now_ns)
{
    must(step_ns > 0 && shard_count > 0);
    *mint = (struct mint){
        .step_ns = step_ns,
        .next_ns = now_ns + step_ns,
        .shards = mem_alloc(shard_count * sizeof(*mint->shards)),
        .line = mem_alloc(shard_count * sizeof(*mint->line)),
        .count = shard_count,
    };
}

uint64_t mint_limit_step_ns(const struct mint_limit *limit)
{
    uint64_t step_ns = rate_step_ns(limit->count, limit->interval_ms);

    must(limit->count != UINT64_MAX);
    return step_ns > 0 ? step_ns : 1;
}

void mint_set_volume(struct mint *mint, const struct mint_limit *limit, uint64_t now_ns)
{
    uint64_t burst = limit->is_octets ? 0 : limit->burst;

    if (mint_limit_is_row(limit)) {
        mem_free(mint->volume);
        mint->volume = NULL;
    } else if (mint->volume) {
        volume_change(mint->volume, limit->count, limit->interval_ms, burst, now_ns);
    } else {
        mint->volume = mem_alloc(sizeof(*mint->volume));
        volume_init(mint->volume, limit->count, limit->interval_ms, burst, now_ns);
    }
}

void mint_fini(struct mint *mint)
{
    mem_free(mint->volume);
    mem_free(mint->shards);
    mem_free(mint->line);
}

void mint_change(struct mint *mint, uint64_t step_ns)
{
    uint64_t struck_ns = mint->next_ns > mint->step_ns ? mint->next_ns - mint->step_ns : 0;

    must(step_ns > 0);
    mint->next_ns = struck_ns + step_ns;
    mint->step_ns = step_ns;
    for (uint16_t i = 0; i < mint->count; i++)
        mint->shards[i].batch = (struct mint_batch){0};
}

bool mint_is_owed(const struct mint *mint, uint64_t now_ns)
{
    if (mint->volume)
        return volume_is_owed(mint->volume, now_ns);
    /* A batch that was given out may come back, or is used within its time. */
    return mint->next_ns + 2 * RATE_LATE_NS > now_ns;
}

void mint_clear_line(struct mint *mint)
{
    for (uint16_t i = 0; i < mint->count; i++)
        mint->shards[i].wanted = 0;
    mint->line_count = 0;
}

static void take_back(struct mint *mint, const struct mint_batch *batch, uint32_t unused)
{
    uint64_t end_ns = batch->first_ns + batch->count * mint->step_ns;

    if (unused == 0 || unused > batch->count)
        return;
    if (mint->volume && batch->step_ns == 0) {
        volume_give_back(mint->volume, unused, batch->first_ns);
    } else if (!mint->volume && end_ns == mint->next_ns) {
        /* Only what was struck last can be struck again: the times of tokens ascend. */
        mint->next_ns -= unused * mint->step_ns;
        mint->struck -= unused;
    }
}

/* The shard has used some of its batch, or nothing of it; that is still in the book. */
static void note_use(struct mint *mint, struct mint_shard *shard, uint32_t unused)
{
    uint64_t number = mint->struck + 1;
    bool has_used = unused < shard->batch.count, is_new = shard->passed != number;

    if (shard->batch.count == 0)
        return;
    if (!has_used)
        shard->passed = number;
    if (has_used || (is_new && shard->has_missed)) {
        shard->used_at = mint->struck;
        shard->has_missed = false;
    } else {
        shard->has_missed = true;
    }
}

static uint16_t *line_at(const struct mint *mint, uint16_t position)
{
    return &mint->line[(mint->line_first + position) % mint->count];
}

/* Whether one that stands behind another goes ahead of it. */
static bool is_before(const struct mint *mint, uint16_t behind, uint16_t ahead)
{
    const struct mint_shard *one = &mint->shards[behind], *other = &mint->shards[ahead];
    uint64_t number = mint->struck + 1;

    return one->passed != number && (other->passed == number || one->used_at < other->used_at);
}

/* Whose turn it is stands first, the others as they were. */
static void bring_forward(struct mint *mint)
{
    uint16_t best = 0, shard;

    for (uint16_t i = 1; i < mint->line_count; i++)
        if (is_before(mint, *line_at(mint, i), *line_at(mint, best)))
            best = i;
    shard = *line_at(mint, best);
    for (; best > 0; best--)
        *line_at(mint, best) = *line_at(mint, best - 1u);
    *line_at(mint, 0) = shard;
}

void mint_ask(struct mint *mint, uint16_t shard, uint32_t wanted, uint32_t need, uint32_t unused)
{
    struct mint_shard *asker = &mint->shards[shard];

    must(shard < mint->count && asker->wanted == 0 && need <= wanted);
    take_back(mint, &asker->batch, unused);
    note_use(mint, asker, unused);
    asker->batch.count = 0;
    if (wanted == 0)
        return;
    asker->wanted = wanted;
    asker->need = need > 0 ? need : 1;
    mint->line[(mint->line_first + mint->line_count++) % mint->count] = shard;
}

void mint_give_back(struct mint *mint, uint64_t amount)
{
    if (mint->volume && amount > 0)
        volume_give_back(mint->volume, amount, 0);
}

/* The same of a volume: what the first in line needs, and of the rest its part. */
static bool volume_batch(struct mint *mint, uint64_t now_ns, struct mint_batch *ret_batch)
{
    const struct mint_shard *head = &mint->shards[mint->line[mint->line_first]];
    uint64_t amount;

    if (volume_due_ns(mint->volume, head->need) > now_ns)
        return false;
    amount = volume_allowed(mint->volume, now_ns, MINT_AHEAD_NS) / mint->line_count;
    if (amount < head->need)
        amount = head->need;
    if (amount > head->wanted)
        amount = head->wanted;
    volume_use(mint->volume, amount, now_ns);
    /* If a row comes after it, that counts from here. */
    mint->next_ns = now_ns + mint->step_ns;
    *ret_batch = (struct mint_batch){now_ns, 0, (uint32_t)amount};
    return true;
}

static uint16_t leave_line(struct mint *mint)
{
    uint16_t shard = mint->line[mint->line_first];

    mint->line_first = (uint16_t)((mint->line_first + 1) % mint->count);
    mint->line_count--;
    mint->shards[shard].wanted = 0;
    return shard;
}

static uint64_t ahead_ns(const struct mint *mint)
{
    uint64_t early_ns = mint->step_ns / 2;

    if (early_ns < MINT_EARLY_LEAST_NS)
        return MINT_AHEAD_NS;
    return early_ns < MINT_EARLY_NS ? early_ns : MINT_EARLY_NS;
}

/* The same of a row. */
static bool row_batch(struct mint *mint, uint64_t now_ns, struct mint_batch *ret_batch)
{
    uint64_t floor_ns = now_ns > MINT_AHEAD_NS ? now_ns - MINT_AHEAD_NS : 0;
    uint64_t first_ns = mint->next_ns > floor_ns ? mint->next_ns : floor_ns;
    uint64_t count, part;
    uint32_t wanted;

    if (first_ns > now_ns + ahead_ns(mint))
        return false;
    bring_forward(mint);
    wanted = mint->shards[*line_at(mint, 0)].wanted;
    count = (now_ns + ahead_ns(mint) - first_ns) / mint->step_ns + 1;
    part = count / mint->line_count > 1 ? count / mint->line_count : 1;
    *ret_batch =
        (struct mint_batch){first_ns, mint->step_ns, part < wanted ? (uint32_t)part : wanted};
    mint->next_ns = first_ns + ret_batch->count * mint->step_ns;
    mint->struck += ret_batch->count;
    return true;
}

bool mint_next_batch(struct mint *mint, uint64_t now_ns, uint16_t *ret_shard,
                     struct mint_batch *ret_batch)
{
    struct mint_batch batch;

    if (mint->line_count == 0 ||
        !(mint->volume ? volume_batch(mint, now_ns, &batch) : row_batch(mint, now_ns, &batch)))
        return false;
    *ret_shard = leave_line(mint);
    mint->shards[*ret_shard].batch = batch;
    *ret_batch = batch;
    return true;
}

uint64_t mint_due_ns(const struct mint *mint)
{
    if (mint->line_count == 0)
        return UINT64_MAX;
    if (mint->volume)
        return volume_due_ns(mint->volume, mint->shards[mint->line[mint->line_first]].need);
    return mint->next_ns > ahead_ns(mint) ? mint->next_ns - ahead_ns(mint) : 0;
}
