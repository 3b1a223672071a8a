#include "shard/policy/mint.h"

#include "core/base/mem.h"
#include "core/base/must.h"

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

void mint_fini(struct mint *mint)
{
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

void mint_clear_line(struct mint *mint)
{
    for (uint16_t i = 0; i < mint->count; i++)
        mint->shards[i].wanted = 0;
    mint->line_count = 0;
}

void mint_ask(struct mint *mint, uint16_t shard, uint32_t wanted, uint32_t unused)
{
    struct mint_shard *asker = &mint->shards[shard];
    uint64_t end_ns = asker->batch.first_ns + asker->batch.count * mint->step_ns;

    must(shard < mint->count && asker->wanted == 0);
    /* Only what was struck last can be struck again: the times of tokens ascend. */
    if (unused <= asker->batch.count && end_ns == mint->next_ns)
        mint->next_ns -= unused * mint->step_ns;
    asker->batch.count = 0;
    if (wanted == 0)
        return;
    asker->wanted = wanted;
    mint->line[(mint->line_first + mint->line_count++) % mint->count] = shard;
}

bool mint_next_batch(struct mint *mint, uint64_t now_ns, uint16_t *ret_shard,
                     struct mint_batch *ret_batch)
{
    uint64_t floor_ns = now_ns > MINT_AHEAD_NS ? now_ns - MINT_AHEAD_NS : 0;
    uint64_t first_ns = mint->next_ns > floor_ns ? mint->next_ns : floor_ns;
    uint64_t count, part;
    struct mint_shard *head;
    uint16_t shard;

    if (mint->line_count == 0 || first_ns > now_ns + MINT_AHEAD_NS)
        return false;
    count = (now_ns + MINT_AHEAD_NS - first_ns) / mint->step_ns + 1;
    part = count / mint->line_count > 1 ? count / mint->line_count : 1;
    shard = mint->line[mint->line_first];
    mint->line_first = (uint16_t)((mint->line_first + 1) % mint->count);
    mint->line_count--;
    head = &mint->shards[shard];
    head->batch = (struct mint_batch){first_ns, mint->step_ns,
                                      part < head->wanted ? (uint32_t)part : head->wanted};
    head->wanted = 0;
    mint->next_ns = first_ns + head->batch.count * mint->step_ns;
    *ret_shard = shard;
    *ret_batch = head->batch;
    return true;
}

uint64_t mint_due_ns(const struct mint *mint)
{
    if (mint->line_count == 0)
        return UINT64_MAX;
    return mint->next_ns > MINT_AHEAD_NS ? mint->next_ns - MINT_AHEAD_NS : 0;
}
