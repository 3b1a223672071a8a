/*
 * tidy: memory follows the load down.
 *
 * Objects of a shard live in slabs that grow with what is to be done. Once in TIDY_SPAN_MS, while
 * there is anything to do or to tidy, the memory of blocks that have been empty for that long goes
 * back to the system: a few in one turn, since each takes tens of microseconds. Nobody who holds an
 * object notices. The shard's thread.
 */
#pragma once

#include "core/base/slab.h"
#include "core/io/io.h"

#define TIDY_SPAN_MS   1000
/* While there is more. */
#define TIDY_AGAIN_MS  50
#define TIDY_SLABS_MAX 32

struct shard;

struct tidy {
    struct slab *slabs[TIDY_SLABS_MAX];
    uint32_t slab_count;
    struct io_timer timer;
};

/* After every slab of the shard was made. */
void tidy_init(struct shard *shard);
void tidy_fini(struct shard *shard);
/* Each turn. */
void tidy_turn(struct shard *shard);
