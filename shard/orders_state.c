/* Standing orders: what begins and ends them, replies and operators, and their place in the log. */
#include "core/base/err.h"
#include "core/base/wire.h"
#include "shard/orders_int.h"

#include <stdio.h>

#define STOPS_MAX 5 /* a stop is doubled four times */

/* ---- The log --------------------------------------------------------------------------------- */

bool orders_persist(struct shard *shard, struct order *order, bool is_end, struct report *report)
{
    const struct order_facts *facts = &order->facts;
    char room[REPORT_NAME_MAX + 80], address[IPADDR_TEXT_MAX];
    uint8_t bytes[32 + ORDER_REASON_MAX];
    struct text key = text_in(room, sizeof(room));
    struct slice value = SLICE_EMPTY;
    struct wire_writer w;

    snprintf(address, sizeof(address), "-");
    if (!order_is_of_mail(facts->kind))
        ipaddr_format(&facts->source, address);
    text_put_str(&key, ORDER_LOG_KEY);
    text_put_str(&key, order_kind_text(facts->kind));
    text_put_char(&key, '/');
    text_put_str(&key, address);
    text_put_char(&key, '/');
    text_put_str(&key, facts->who);
    if (!is_end) {
        wire_writer_init(&w, bytes, sizeof(bytes));
        wire_put_u64(&w, facts->since_us);
        wire_put_u64(&w, facts->until_us);
        wire_put_u64(&w, facts->asked_ms);
        wire_put_u16(&w, facts->stops);
        wire_put_bytes(&w, facts->reason, strlen(facts->reason));
        value = slice_of(bytes, wire_written(&w));
    }
    if (!queues_persist_order(shard, text_slice(&key), value, is_end ? order->index : NONE, report))
        return false;
    order->ends_open += is_end;
    return true;
}

void orders_recover(struct shard *shard, struct slice name, struct slice value)
{
    struct order_facts facts = {0};
    uint64_t now_us = io_wall_us(shard->io);
    size_t slash = slice_find(name, '/');
    struct slice kind = slice_of(name.data, slash), address = slice_after(name, slash + 1), reason;
    struct wire_reader r;
    struct order *order;

    while (facts.kind < ORDER_KIND_COUNT &&
           !slice_equal(kind, slice_str(order_kind_text(facts.kind))))
        facts.kind++;
    slash = slice_find(address, '/');
    if (value.len < 26 || facts.kind == ORDER_KIND_COUNT || slash >= address.len ||
        (!order_is_of_mail(facts.kind) &&
         ipaddr_parse(slice_of(address.data, slash), &facts.source) < 0))
        return;
    address = slice_after(address, slash + 1);
    snprintf(facts.who, sizeof(facts.who), "%.*s", (int)address.len, (const char *)address.data);
    wire_reader_init(&r, value.data, value.len);
    facts.since_us = wire_get_u64(&r);
    facts.until_us = wire_get_u64(&r);
    facts.asked_ms = wire_get_u64(&r);
    facts.stops = (uint8_t)wire_get_u16(&r);
    reason = slice_after(value, 26);
    snprintf(facts.reason, sizeof(facts.reason), "%.*s", (int)reason.len,
             (const char *)reason.data);
    facts.since_ns = io_now_ns(shard->io);
    facts.until_ns = io_now_ns(shard->io);
    if (facts.until_us > now_us)
        facts.until_ns += (facts.until_us - now_us) * 1000;
    order = orders_obtain(shard, &facts);
    if (!order)
        return;
    orders_obey(shard, order, &facts);
    order->is_logged = true;
    shard->orders.recovered += orders_is_owner(shard, order);
}

/* ---- What makes them ------------------------------------------------------------------------- */

void orders_set_times(struct shard *shard, struct order_facts *facts, uint64_t for_ms)
{
    facts->since_ns = io_now_ns(shard->io);
    facts->since_us = io_wall_us(shard->io);
    if (for_ms == CONF_UNLIMITED)
        return;
    facts->until_ns = facts->since_ns + for_ms * 1000000;
    facts->until_us = facts->since_us + for_ms * 1000;
}

bool orders_put_in_force(struct shard *shard, const struct order_facts *facts)
{
    struct order *order = orders_obtain(shard, facts);

    if (!order)
        return false;
    orders_obey(shard, order, facts);
    order->must_tell = true;
    orders_tell_owner(shard, order);
    return true;
}

bool orders_disable_source(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                           uint64_t for_ms, const char *reason)
{
    struct order_facts facts = {.kind = ORDER_SOURCE_OFF, .source = *source};

    if (orders_forbid(shard, queue, source))
        return false;
    orders_set_times(shard, &facts, for_ms);
    queues_name(shard, queue, facts.who, sizeof(facts.who));
    snprintf(facts.reason, sizeof(facts.reason), "%s", reason);
    return orders_put_in_force(shard, &facts);
}

bool orders_stop(struct shard *shard, const struct order_facts *wanted, uint64_t began_ns,
                 uint64_t for_ms)
{
    struct order_facts facts = *wanted;
    struct order_key key = orders_key_of(&facts);
    struct order *present = orders_find(shard, &key);

    if (!orders_is_in_force(shard, present))
        present = NULL;
    /* What was under way when the stop began says nothing new. */
    if (present && began_ns <= present->facts.since_ns)
        return false;
    facts.asked_ms = for_ms;
    if (present)
        facts.stops = present->has_delivered ? 0 : present->facts.stops;
    facts.stops += facts.stops < STOPS_MAX;
    /* What is doubled is the line's own time: the stop before may have been another line's. */
    orders_set_times(shard, &facts, for_ms << (facts.stops - 1));
    if (present && facts.until_ns <= present->facts.until_ns)
        return false;
    return orders_put_in_force(shard, &facts);
}

/* ---- Operators ------------------------------------------------------------------------------- */

/* The queue that the report names; its name in facts->who. False when there is no such virtual MTA.
 */
static bool name_queue(const struct shard *shard, const struct report *report,
                       struct order_facts *facts)
{
    const struct conf_vmta *vmta = conf_vmta_named(shard->conf, slice_str(report->vmta_pattern));

    if (!vmta)
        return false;
    snprintf(facts->who, sizeof(facts->who), "%s/%s", report->domain_pattern, vmta->name);
    return true;
}

void orders_on_disable(struct shard *shard, struct report *report)
{
    struct order_facts facts = {.kind = ORDER_SOURCE_OFF, .source = report->source};
    struct order_key key;
    struct order *order;

    if (!name_queue(shard, report, &facts))
        return;
    key = orders_key_of(&facts);
    if (orders_hash_of(&key) % shard->count != shard->number)
        return;
    orders_set_times(shard, &facts, report->for_ms);
    snprintf(facts.reason, sizeof(facts.reason), "set by an operator");
    order = orders_obtain(shard, &facts);
    if (!order) {
        report->result = E_FULL;
        return;
    }
    orders_obey(shard, order, &facts);
    orders_announce(shard, order, report);
    report->affected++;
}

/* `enable` with the kind where a virtual MTA goes. */
static bool is_meant_mail(const struct report *report, const struct order_facts *facts)
{
    const char *kind = facts->kind == ORDER_JOB_STOP ? "job" : "sender-domain";
    struct slice who = slice_str(facts->who);
    struct slice value = slice_after(who, slice_find(who, '/') + 1);

    return strcmp(report->vmta_pattern, kind) == 0 &&
           (strcmp(report->domain_pattern, "*") == 0 ||
            (facts->kind == ORDER_JOB_STOP
                 ? slice_equal(value, slice_str(report->domain_pattern))
                 : slice_equal_nocase(value, slice_str(report->domain_pattern))));
}

static bool is_meant(const struct report *report, const struct order_facts *facts)
{
    struct slice who = slice_str(facts->who);
    size_t slash = slice_find(who, '/');
    bool any_domain = strcmp(report->domain_pattern, "*") == 0;
    bool any_vmta = strcmp(report->vmta_pattern, "*") == 0;

    if (!ipaddr_equal(&report->source, &facts->source))
        return false;
    if (order_is_of_mail(facts->kind))
        return is_meant_mail(report, facts);
    if (facts->kind != ORDER_SOURCE_OFF)
        return any_domain && any_vmta;
    return (any_domain ||
            slice_equal_nocase(slice_of(who.data, slash), slice_str(report->domain_pattern))) &&
           (any_vmta ||
            slice_equal_nocase(slice_after(who, slash + 1), slice_str(report->vmta_pattern)));
}

void orders_on_enable(struct shard *shard, struct report *report)
{
    for (uint32_t i = 0; i < shard->orders.slab.count_grown; i++) {
        struct order *order =
            slab_is_live(&shard->orders.slab, i) ? slab_at(&shard->orders.slab, i) : NULL;

        if (!order || order->is_over || !orders_is_owner(shard, order) ||
            !is_meant(report, &order->facts))
            continue;
        orders_loosen(shard, order, report);
        report->affected++;
    }
}

void orders_report(const struct shard *shard, struct report *report)
{
    for (uint32_t i = 0; i < shard->orders.slab.count_grown; i++) {
        const struct order *order =
            slab_is_live(&shard->orders.slab, i) ? slab_at(&shard->orders.slab, i) : NULL;
        struct order_row *row;

        if (!order || order->is_over || !orders_is_owner(shard, order))
            continue;
        row = report_row_add(report, sizeof(*row));
        if (!row)
            return;
        row->kind = order_kind_text(order->facts.kind);
        row->source = order->facts.source;
        row->since_us = order->facts.since_us;
        row->until_us = order->facts.until_us;
        row->is_probe =
            order_is_probed(order->facts.kind) && order->facts.until_ns <= io_now_ns(shard->io);
        row->allowed = order->allowed;
        row->lent = order->lent;
        snprintf(row->who, sizeof(row->who), "%s", order->facts.who);
        snprintf(row->reason, sizeof(row->reason), "%s", order->facts.reason);
    }
}
