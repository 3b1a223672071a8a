#include "tests/sim/product/audit.h"

#include "shard/place.h"
#include "shard/shard_int.h"

#include <stdlib.h>

/* ---- Queues ---------------------------------------------------------------------------------- */

static struct queue *queue_at(const struct shard *shard, uint32_t index)
{
    return slab_is_live(&shard->queues, index) ? slab_at(&shard->queues, index) : NULL;
}

static bool is_elsewhere(struct shard *const *shards, uint16_t count, uint16_t here,
                         const struct queue *queue)
{
    struct slice domain = names_text(&shards[here]->names, queue->name);

    for (uint16_t i = 0; i < count; i++) {
        const struct queue *other =
            i == here ? NULL : queues_find(shards[i], domain, queue->vmta_id);

        if (other && other->stay == QUEUE_HERE)
            return true;
    }
    return false;
}

/* A queue is where its base says it is. */
static const char *audit_queue(struct shard *const *shards, uint16_t count, uint16_t here,
                               const struct queue *queue)
{
    const struct shard *shard = shards[here];
    struct slice domain = names_text(&shard->names, queue->name);
    uint16_t base = place_base(shard->place, domain, queue->vmta_id);

    if (queue->is_guest != (base != here))
        return "a queue does not know its base";
    if (queue->stay != QUEUE_HERE)
        return queue->connection_count > 0 && !list_empty(&queue->lane_link)
                   ? "a queue that leaves waits for a connection"
                   : NULL;
    if (is_elsewhere(shards, count, here, queue))
        return "a queue has two owners";
    if (base != here && migrate_owner_of(shards[base], domain, queue->vmta_id) != here)
        return "a queue's base does not know its owner";
    /* Nothing goes by a site that is being looked up anew. */
    if (queue->site && !queue->resolving && queue->stays_until_ns == 0 &&
        place_site(shard->place, queue->site->site_hash, queue->vmta_id) != here)
        return "a queue is not where its site is placed";
    return NULL;
}

static bool has_queue(const struct shard *shard, struct slice domain, uint32_t vmta_id,
                      bool when_moving_only)
{
    const struct queue *queue = queues_find((struct shard *)(uintptr_t)shard, domain, vmta_id);

    return queue &&
           (queue->stay == QUEUE_MOVING || (queue->stay == QUEUE_HERE && !when_moving_only));
}

/* What a base says is away is at its owner, or on its way. */
static const char *audit_aways(struct shard *const *shards, const struct shard *base)
{
    for (uint32_t i = 0; i < base->aways.count_grown; i++) {
        const struct away *away = slab_is_live(&base->aways, i) ? slab_at(&base->aways, i) : NULL;
        struct slice domain = away ? names_text(&base->names, away->name) : SLICE_EMPTY;

        if (away && !has_queue(base, domain, away->vmta_id, true) &&
            !has_queue(shards[away->owner], domain, away->vmta_id, false))
            return "a queue that is away is nowhere";
    }
    return NULL;
}

/* ---- Connections ----------------------------------------------------------------------------- */

/* Whether the VMTA that it was opened for has the site's queues here. */
static bool may_be_here(const struct shard *shard, const struct connection *connection)
{
    const struct site *site = connection->lane->site;

    /* Where it should be was full. */
    if (shard->totals.moves_refused > 0)
        return true;
    return place_site(shard->place, site->site_hash, connection->vmta_id) == shard->number;
}

const char *audit_owners(struct shard *const *shards, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        const struct shard *shard = shards[i];
        const char *text = audit_aways(shards, shard);

        for (uint32_t j = 0; j < shard->queues.count_grown && !text; j++) {
            const struct queue *queue = queue_at(shard, j);

            text = queue ? audit_queue(shards, count, i, queue) : NULL;
        }
        if (text)
            return text;
        for (uint32_t j = 0; j < shard->connections.count_grown; j++) {
            const struct connection *connection =
                slab_is_live(&shard->connections, j) ? slab_at(&shard->connections, j) : NULL;

            if (connection && !may_be_here(shard, connection))
                return "a connection stands where its site is not placed";
        }
    }
    return NULL;
}

/* ---- Lanes ----------------------------------------------------------------------------------- */

/* Something will come to it: a turn, a slot, a token, a probe's connection, or the clock. */
static bool is_awaited(const struct lane *lane)
{
    return !list_empty(&lane->serve_link) || !list_empty(&lane->order_link) ||
           !list_empty(&lane->purse_link) || io_timer_is_armed(&lane->connect_timer) ||
           lease_claim_is_in_line(&lane->claim);
}

const char *audit_lanes(struct shard *const *shards, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < shards[i]->lanes.count_grown && !shards[i]->stopping; j++) {
            const struct lane *lane =
                slab_is_live(&shards[i]->lanes, j) ? slab_at(&shards[i]->lanes, j) : NULL;

            if (lane && lane->open_count == 0 && !list_empty(&lane->waiting) && !is_awaited(lane))
                return "queues stand in line where nothing will serve them";
        }
    return NULL;
}

/* ---- Recipients ------------------------------------------------------------------------------ */

/* How often each recipient at home in a shard was seen. */
struct sightings {
    uint8_t *counts[SHARD_COUNT_MAX];
};

static void see(struct sightings *sightings, struct shard *const *shards, uint16_t home,
                uint32_t rcpt)
{
    must(rcpt < shards[home]->home_rcpts.count_grown);
    if (sightings->counts[home][rcpt] < UINT8_MAX)
        sightings->counts[home][rcpt]++;
}

static void see_owned(struct sightings *sightings, struct shard *const *shards, uint16_t number)
{
    const struct shard *shard = shards[number];

    for (uint32_t i = 0; i < shard->queued.count_grown; i++)
        if (slab_is_live(&shard->queued, i)) {
            const struct queued *queued = slab_at(&shard->queued, i);

            see(sightings, shards, queued->home, queued->home_rcpt);
        }
    for (uint32_t i = 0; i < shard->handoffs.count_grown; i++)
        if (slab_is_live(&shard->handoffs, i)) {
            const struct handoff *handoff = slab_at(&shard->handoffs, i);

            if (handoff->parcel.kind != SHARD_HANDOFF_RETURN)
                see(sightings, shards, handoff->home, handoff->home_rcpt);
        }
}

static bool is_open(const struct shard *home, uint32_t rcpt)
{
    return slab_is_live(&home->home_rcpts, rcpt) &&
           !((const struct home_rcpt *)slab_at(&home->home_rcpts, rcpt))->is_final;
}

/* A final outcome that home has not seen yet stands for its recipient; one that it has seen may be
 * held back while the message moves. */
static void see_outcomes(struct sightings *sightings, struct shard *const *shards, uint16_t number)
{
    const struct shard *shard = shards[number];

    for (uint32_t i = 0; i < shard->outcomes.count_grown; i++)
        if (slab_is_live(&shard->outcomes, i)) {
            const struct outcome_parcel *outcome = slab_at(&shard->outcomes, i);

            if (outcome->is_final && outcome->request.parcel.kind == SHARD_OUTCOME &&
                is_open(shards[outcome->home], outcome->home_rcpt))
                see(sightings, shards, outcome->home, outcome->home_rcpt);
        }
}

/* Recipients that home has not handed out yet. */
static void see_waiting(struct sightings *sightings, struct shard *const *shards, uint16_t number)
{
    const struct shard *shard = shards[number];
    uint32_t message = shard->handoff_head;

    while (message != NONE) {
        const struct home_message *home = slab_at(&shard->home_messages, message);
        uint32_t index = home->handoff_rcpt;

        while (index != NONE) {
            const struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, index);

            if (!rcpt->is_final)
                see(sightings, shards, number, index);
            index = rcpt->next;
        }
        message = home->handoff_next;
    }
}

static const char *judge(const struct sightings *sightings, struct shard *const *shards,
                         uint16_t number)
{
    const struct shard *shard = shards[number];

    for (uint32_t i = 0; i < shard->home_rcpts.count_grown; i++) {
        uint8_t seen = sightings->counts[number][i];

        if (seen == 0 && is_open(shard, i))
            return "a recipient is nowhere";
        if (seen > 1)
            return "a recipient is in two places";
        if (seen > 0 && !is_open(shard, i))
            return "a recipient that is done is queued";
    }
    return NULL;
}

/* What a shard says that it has at home is what there is. */
static bool is_counted(const struct shard *shard)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < shard->home_rcpts.count_grown; i++)
        count += is_open(shard, i);
    for (const struct list *link = shard->unregistered.next; link != &shard->unregistered;
         link = link->next)
        count += container_of(link, const struct message, append.link)->envelope.rcpt_count;
    return count == shard->rcpts_open;
}

const char *audit_recipients(struct shard *const *shards, uint16_t count)
{
    struct sightings *sightings = calloc(1, sizeof(*sightings));
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++)
        sightings->counts[i] = calloc(shards[i]->home_rcpts.count_grown + 1, 1);
    for (uint16_t i = 0; i < count; i++) {
        see_owned(sightings, shards, i);
        see_outcomes(sightings, shards, i);
        see_waiting(sightings, shards, i);
    }
    for (uint16_t i = 0; i < count && !text; i++)
        text = is_counted(shards[i]) ? judge(sightings, shards, i)
                                     : "a recipient at home is not counted";
    for (uint16_t i = 0; i < count; i++)
        free(sightings->counts[i]);
    free(sightings);
    return text;
}
