/*
 * names: interned domain names of one shard, as reference-counted 32-bit ids.
 *
 * A name is stored once however many recipients have it. Bytes do not move while a reference is
 * held, so another shard may read them during a handoff. One thread.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/slab.h"

#define NAMES_BYTES_MAX 255

struct names {
    struct slab entries;
    struct slab bytes[3]; /* 32, 64, 256 octets */
    struct table table;
};

#define NAME_NONE UINT32_MAX

void names_init(struct names *names, uint32_t count_max);
void names_fini(struct names *names);
/* One reference more; NAME_NONE when full or longer than NAMES_BYTES_MAX. */
uint32_t names_get(struct names *names, struct slice name);
void names_ref(struct names *names, uint32_t id);
void names_put(struct names *names, uint32_t id);
struct slice names_text(const struct names *names, uint32_t id);
