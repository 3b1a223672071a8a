#include "tests/sim/product/names.h"

#include "core/base/mem.h"
#include "net/dns.h"

#include <stdio.h>

static void add_record(struct dns_query *query, const void *data, uint16_t len)
{
    uint8_t *at = query->data + query->data_bytes;

    at[0] = (uint8_t)len;
    at[1] = (uint8_t)(len >> 8);
    memcpy(at + 2, data, len);
    query->data_bytes = (uint16_t)(query->data_bytes + 2 + len);
    query->record_count++;
}

static void add_mx(struct dns_query *query, uint8_t preference, unsigned host)
{
    char record[64] = {0, (char)preference};
    int len = snprintf(record + 2, sizeof(record) - 2, "m%u.test", host);

    add_record(query, record, (uint16_t)(2 + len));
}

static bool denies(struct names_zone *zone, unsigned number)
{
    if (zone->denial_rate == 0 || number >= NAMES_DOMAINS_MAX || zone->was_denied[number] ||
        !rng_one_in(sim_rng(zone->world), zone->denial_rate))
        return false;
    zone->was_denied[number] = true;
    zone->denials++;
    return true;
}

/* By how much the domain's hosts differ from those it had in the beginning. */
static unsigned shift_of(struct names_zone *zone, unsigned number)
{
    if (number >= NAMES_DOMAINS_MAX)
        return 0;
    if (zone->change_rate && rng_one_in(sim_rng(zone->world), zone->change_rate)) {
        zone->shifts[number]++;
        zone->changes++;
    }
    return zone->shifts[number];
}

static void answer_by_zone(struct names_zone *zone, struct dns_query *query)
{
    unsigned number;

    query->status = DNS_NO_DATA;
    if (zone->failure_rate && rng_one_in(sim_rng(zone->world), zone->failure_rate)) {
        query->status = rng_one_in(sim_rng(zone->world), 2) ? DNS_FAILURE : DNS_TIMEOUT;
        zone->failures++;
    } else if (query->type == DNS_MX && sscanf(query->name, "d%u.test", &number) == 1) {
        if (denies(zone, number)) {
            query->status = DNS_NO_NAME;
            return;
        }
        number += shift_of(zone, number);
        add_mx(query, 10, number % zone->receiver_count);
        add_mx(query, 20, (number + 1) % zone->receiver_count);
        query->status = DNS_OK;
    } else if (query->type == DNS_A && sscanf(query->name, "m%u.test", &number) == 1) {
        const uint8_t address[4] = {10, 0, (uint8_t)number, 1};

        add_record(query, address, sizeof(address));
        query->status = DNS_OK;
    }
}

/* A question that is not answered. */
struct silent {
    struct list link;
    struct dns_query *query;
    uint64_t due_ns;
};

static void send_back(struct names_zone *zone, struct dns_query *query)
{
    query->parcel.kind = DNS_ANSWER;
    mailbox_post(zone->answers[query->parcel.from], &query->parcel);
}

static void on_timer(struct io_timer *timer)
{
    struct names_zone *zone = container_of(timer, struct names_zone, timer);

    while (!list_empty(&zone->silent)) {
        struct silent *silent = container_of(zone->silent.next, struct silent, link);

        if (silent->due_ns > io_now_ns(zone->io)) {
            io_timer_arm(zone->io, &zone->timer, silent->due_ns);
            return;
        }
        list_remove(&silent->link);
        silent->query->status = DNS_TIMEOUT;
        send_back(zone, silent->query);
        mem_free(silent);
    }
}

static void keep_silent(struct names_zone *zone, struct dns_query *query)
{
    struct silent *silent = mem_alloc(sizeof(*silent));

    silent->query = query;
    silent->due_ns = io_now_ns(zone->io) + NAMES_SILENCE_NS;
    list_push_back(&zone->silent, &silent->link);
    if (!io_timer_is_armed(&zone->timer))
        io_timer_arm(zone->io, &zone->timer, silent->due_ns);
}

static void on_question(void *context, struct parcel *parcel)
{
    struct names_zone *zone = context;
    struct dns_query *query = (struct dns_query *)parcel;

    enum names_say say = NAMES_BY_ZONE;

    query->status = 0;
    query->record_count = 0;
    query->data_bytes = 0;
    query->is_secure = false;
    query->ttl_s = (uint32_t)rng_between(sim_rng(zone->world), 30, 3600);
    if (zone->script)
        say = zone->script(zone->script_context, query);
    if (say == NAMES_SILENT) {
        keep_silent(zone, query);
        return;
    }
    if (say == NAMES_BY_ZONE)
        answer_by_zone(zone, query);
    send_back(zone, query);
}

void names_serve(struct names_zone *zone, struct io *io, struct mailbox *const *questions,
                 struct mailbox *const *answers, uint16_t shard_count)
{
    zone->answers = answers;
    zone->io = io;
    list_init(&zone->silent);
    io_timer_init(&zone->timer, on_timer);
    for (uint16_t i = 0; i < shard_count; i++)
        mailbox_listen(questions[i], on_question, zone);
}
