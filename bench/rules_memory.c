#include "bench/rules_memory.h"

#include "core/base/mem.h"

#include <string.h>

#define ROOM_FIRST 256u
#define NEIGHBOURS 8u /* that a new key may take the place of, once the table is full */

void rules_memory_fini(struct rules_memory *memory)
{
    mem_free(memory->notes);
    memset(memory, 0, sizeof(*memory));
}

/* The place of the key, or the free one where it belongs. */
static struct rules_note *find(struct rules_note *notes, uint32_t room, uint64_t key)
{
    uint32_t at = (uint32_t)(key & (room - 1));

    while (notes[at].key != 0 && notes[at].key != key)
        at = (at + 1) & (room - 1);
    return &notes[at];
}

static void grow(struct rules_memory *memory)
{
    uint32_t room = memory->room == 0 ? ROOM_FIRST : 2 * memory->room;
    struct rules_note *notes = mem_alloc(room * sizeof(*notes));

    for (uint32_t i = 0; i < memory->room; i++) {
        if (memory->notes[i].key != 0)
            *find(notes, room, memory->notes[i].key) = memory->notes[i];
    }
    mem_free(memory->notes);
    memory->notes = notes;
    memory->room = room;
}

/*
 * One that a new key may take over: places from the key's own on, without a gap, so that it is
 * found there again. NULL when its own place is free.
 */
static struct rules_note *oldest_neighbour(struct rules_memory *memory, uint64_t key)
{
    uint32_t at = (uint32_t)(key & (memory->room - 1));
    struct rules_note *oldest = NULL;

    for (uint32_t i = 0; i < NEIGHBOURS && memory->notes[at].key != 0; i++) {
        if (oldest == NULL || memory->notes[at].used_ns < oldest->used_ns)
            oldest = &memory->notes[at];
        at = (at + 1) & (memory->room - 1);
    }
    return oldest;
}

struct rules_note *rules_memory_note(struct rules_memory *memory, uint64_t key, uint64_t now_ns,
                                     bool *ret_is_new)
{
    struct rules_note *note;

    if (key == 0)
        key = 1;
    if (memory->room < RULES_MEMORY_MAX && memory->count >= memory->room / 2)
        grow(memory);
    note = find(memory->notes, memory->room, key);
    *ret_is_new = note->key == 0;
    if (*ret_is_new) {
        struct rules_note *oldest = NULL;

        if (memory->count >= memory->room / 4 * 3)
            oldest = oldest_neighbour(memory, key);
        if (oldest != NULL)
            note = oldest;
        else
            memory->count++;
        *note = (struct rules_note){.key = key};
    }
    note->used_ns = now_ns;
    return note;
}
