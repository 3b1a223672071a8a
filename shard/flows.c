#include "shard/flows.h"

#include "core/base/must.h"

/* The slot that the flow took, else a free one, else the one of the fewest recipients. */
static uint8_t choose(const struct flows *flows, uint32_t id)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < FLOW_SLOTS; i++) {
        if (flows->slots[i].count > 0 && flows->slots[i].id == id)
            return (uint8_t)i;
        if (flows->slots[i].count < flows->slots[best].count)
            best = i;
    }
    return (uint8_t)best;
}

/* Whether the flow may still be in the slot where it went last: it took it, or shares it. */
static bool is_in(const struct flows *flows, uint8_t slot, uint32_t id)
{
    return flows->slots[slot].count > 0 &&
           (flows->slots[slot].id == id || flows->slots[slot].is_shared);
}

uint8_t flows_take(struct flows *flows, uint32_t id)
{
    uint32_t place = id % FLOW_KNOWN;
    uint8_t slot = flows->known[place].slot;

    if (flows->known[place].id != id || !is_in(flows, slot, id)) {
        slot = choose(flows, id);
        flows->known[place].id = id;
        flows->known[place].slot = slot;
    }
    if (flows->slots[slot].count++ == 0) {
        flows->slots[slot].id = id;
        flows->slots[slot].is_shared = false;
    }
    flows->slots[slot].is_shared |= flows->slots[slot].id != id;
    return slot;
}

void flows_release(struct flows *flows, uint8_t slot)
{
    must(flows->slots[slot].count > 0);
    flows->slots[slot].count--;
}
