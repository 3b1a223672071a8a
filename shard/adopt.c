/*
 * A new snapshot of the configuration takes the place of the old one.
 *
 * The pointer changes between two parcels. Tables that follow from the whole snapshot change with
 * it; queues, of which there may be a million, derive their settings anew over the next turns.
 * Until the last of them has, the old snapshot is kept: settings point into it. Connections are
 * looked at last, when every queue stands in the right line.
 */
#include "core/base/mem.h"
#include "core/conf/provider.h"
#include "core/conf/rollup.h"
#include "shard/pickup.h"
#include "shard/place.h"
#include "shard/planted.h"
#include "shard/provider.h"
#include "shard/rollup.h"
#include "shard/shard_int.h"
#include "shard/signing.h"

#define QUEUES_PER_TURN 1024

static void grow_pool_turns(struct shard *shard)
{
    uint32_t count = conf_pool_count(shard->conf) + 1;

    if (count <= shard->pool_turn_count)
        return;
    mem_free(shard->pool_turns);
    shard->pool_turns = mem_alloc(count * sizeof(*shard->pool_turns));
    shard->pool_turn_count = count;
}

static void take(struct shard *shard)
{
    struct published *published = shard->wiring.published;

    /* Nothing newer is published before this shard has sent the order back. */
    must(!shard->conf_before);
    shard->conf_before = shard->conf;
    shard->conf = conf_ref(atomic_load_explicit(&published->conf, memory_order_acquire));
    shard->version = atomic_load_explicit(&published->version, memory_order_acquire);
    shard->adopt_cursor = 0;
    contexts_drop(shard);
    place_update(shard->place, shard->conf);
    mail_slots_adopt(shard);
    rates_adopt(shard);
    grow_pool_turns(shard);
    lease_adopt(shard);
    resolve_adopt(shard);
    pickup_adopt(shard->pickup);
    precache_start(shard);
    signing_adopt(shard);
    smtpd_set_host_name(shard->smtpd, conf_global(shard->conf)->host_name);
}

void adopt_look(struct shard *shard, const struct parcel *parcel)
{
    bool is_overlooked = planted("shard/newer-version-overlooked") && parcel->kind != RELOAD_ORDER;

    if ((int32_t)(parcel->stamp - shard->version) > 0 && !is_overlooked)
        take(shard);
}

void adopt_on_order(struct shard *shard, struct parcel *order)
{
    must(!shard->reload_order);
    adopt_look(shard, order);
    shard->reload_order = order;
}

/* ---- Queues ---------------------------------------------------------------------------------- */

static bool has_family(const struct conf_vmta *vmta, uint8_t family)
{
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++)
        if (vmta->addresses[i].ip.family == family)
            return true;
    return false;
}

/* Whether what the queue's site was chosen by has changed. */
static bool goes_elsewhere(const struct shard *shard, const struct queue *queue,
                           const struct conf_queue *before)
{
    const struct conf_queue *settings = &queue->settings;
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct conf_vmta *vmta_before = conf_vmta(shard->conf_before, queue->vmta_id);

    return settings->route_hash != before->route_hash ||
           settings->default_port != before->default_port ||
           settings->prefer_ipv6 != before->prefer_ipv6 ||
           tls_out_heeds_tlsa(settings) != tls_out_heeds_tlsa(before) ||
           tls_out_heeds_sts(settings) != tls_out_heeds_sts(before) ||
           has_family(vmta, IPADDR_V4) != has_family(vmta_before, IPADDR_V4) ||
           has_family(vmta, IPADDR_V6) != has_family(vmta_before, IPADDR_V6);
}

static void derive(struct shard *shard, struct queue *queue)
{
    if (queue->site != NULL)
        provider_set(shard, queue->site);
    conf_queue_at(shard->conf, names_text(&shard->names, queue->name), queue->vmta_id,
                  provider_of_queue(queue), &queue->settings);
    queue->sign_rules = signing_rules(shard->conf, &queue->settings.signing, queue->vmta_id);
    modes_apply(shard, queue);
}

static void take_settings(struct shard *shard, struct queue *queue)
{
    struct conf_queue before = queue->settings;

    derive(shard, queue);
    queue->has_vmta = conf_vmta(shard->conf, queue->vmta_id) != NULL;
    rates_adopt_queue(shard, queue);
    if (queue->reason == WAIT_WARMUP)
        queue->rest_until_ns = 0;
    if (goes_elsewhere(shard, queue, &before))
        queue->site_until_ns = 0;
    rollup_end(shard, queue);
    migrate_hand_on(shard, queue, queues_hand_on(shard, queue));
}

void adopt_ahead(struct shard *shard, struct queue *queue)
{
    if (shard->conf_before)
        take_settings(shard, queue);
}

void adopt_settings(struct shard *shard, struct queue *queue)
{
    if (shard->conf_before) {
        take_settings(shard, queue);
        return;
    }
    derive(shard, queue);
    rates_adopt_queue(shard, queue);
    migrate_hand_on(shard, queue, queues_hand_on(shard, queue));
}

static void adopt_queue(struct shard *shard, struct queue *queue)
{
    take_settings(shard, queue);
    if (queue->reason == WAIT_VMTA || queue->reason == WAIT_SOURCE)
        queue->rest_until_ns = 0;
    if (!list_empty(&queue->lane_link) && !lane_serves(shard, queue->lane, queue))
        lane_leave(queue);
    mail_slots_adopt_queue(shard, queue);
    queues_reconsider(shard, queue);
}

void adopt_turn(struct shard *shard)
{
    uint32_t budget = QUEUES_PER_TURN;

    for (; shard->conf_before && shard->adopt_cursor < shard->queues.count_grown && budget > 0;
         shard->adopt_cursor++, budget--)
        if (slab_is_live(&shard->queues, shard->adopt_cursor) &&
            !planted("shard/settings-of-a-freed-snapshot"))
            adopt_queue(shard, slab_at(&shard->queues, shard->adopt_cursor));
    if (budget == 0)
        return;
    if (shard->conf_before) {
        site_adopt(shard);
        contexts_drop(shard); /* queues may have wanted some by its terms */
        conf_unref(shard->conf_before);
        shard->conf_before = NULL;
    }
    if (shard->reload_order) {
        mailbox_post(shard->wiring.to_control, shard->reload_order);
        shard->reload_order = NULL;
    }
}
