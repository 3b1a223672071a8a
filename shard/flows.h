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

#include <stdint.h>

#define FLOW_SLOTS 32u
#define FLOW_KNOWN 1024u

struct flows {
    struct {
        uint32_t id;    /* of the flow that took it */
        uint32_t count; /* recipients */
    } slots[FLOW_SLOTS];
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
