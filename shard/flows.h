/*
 * flows: whose mail waits, told apart by as many numbers as a queued recipient has room for.
 *
 * A flow is a job, or what one sender's domain hands in from one address (envelope_flow). Flows
 * share what is scarce in fair turns (ready.h), so that a password reset does not stand behind a
 * million newsletters. A shard tells FLOW_SLOTS of them apart at a time: each that has recipients
 * here has a slot to itself while there are free ones; then one that is new shares that of the
 * fewest recipients. A slot without recipients is free again. Belongs to the shard's thread;
 * bounded, allocates nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FLOW_SLOTS      32u
#define FLOW_KNOWN      1024u
/* A flow with less than this part of all that is ready here is light. */
#define FLOW_LIGHT_PART 8u

struct flows {
    struct {
        uint32_t id;    /* of the flow that took it */
        uint32_t count; /* recipients */
        uint32_t ready; /* of them */
        bool is_shared; /* others came since it was free */
    } slots[FLOW_SLOTS];
    uint64_t ready; /* of all slots */
    /* Where flows went lately; what was pushed out is looked for among the slots. */
    struct {
        uint32_t id;
        uint8_t slot;
    } known[FLOW_KNOWN];
};

/* The slot of a flow (0 = unknown is one too), which has one recipient more now. */
uint8_t flows_take(struct flows *flows, uint32_t id);
/* A recipient of the slot is gone. */
void flows_release(struct flows *flows, uint8_t slot);
/* One of its recipients may go now, or is on its way. */
static inline void flows_count_ready(struct flows *flows, uint8_t slot, int by)
{
    flows->slots[slot].ready += (uint32_t)by;
    flows->ready += (uint64_t)by;
}
/* Whether its recipients may be of several flows. */
static inline bool flows_is_shared(const struct flows *flows, uint8_t slot)
{
    return flows->slots[slot].is_shared;
}
/* It has so little ready that it may go ahead of others in a line, every other time. */
static inline bool flows_is_light(const struct flows *flows, uint8_t slot)
{
    return flows->slots[slot].ready * (uint64_t)FLOW_LIGHT_PART <= flows->ready;
}
