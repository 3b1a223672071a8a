#include "tests/sim/product/names.h"

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

static void answer(struct names_zone *zone, struct dns_query *query)
{
    unsigned number;

    query->record_count = 0;
    query->data_bytes = 0;
    query->is_secure = false;
    query->ttl_s = (uint32_t)rng_between(sim_rng(zone->world), 30, 3600);
    query->status = DNS_NO_DATA;
    if (zone->failure_rate && rng_one_in(sim_rng(zone->world), zone->failure_rate)) {
        query->status = rng_one_in(sim_rng(zone->world), 2) ? DNS_FAILURE : DNS_TIMEOUT;
        zone->failures++;
    } else if (query->type == DNS_MX && sscanf(query->name, "d%u.test", &number) == 1) {
        if (denies(zone, number)) {
            query->status = DNS_NO_NAME;
            return;
        }
        add_mx(query, 10, number % zone->receiver_count);
        add_mx(query, 20, (number + 1) % zone->receiver_count);
        query->status = DNS_OK;
    } else if (query->type == DNS_A && sscanf(query->name, "m%u.test", &number) == 1) {
        const uint8_t address[4] = {10, 0, (uint8_t)number, 1};

        add_record(query, address, sizeof(address));
        query->status = DNS_OK;
    }
}

static void on_question(void *context, struct parcel *parcel)
{
    struct names_zone *zone = context;
    struct dns_query *query = (struct dns_query *)parcel;

    answer(zone, query);
    parcel->kind = DNS_ANSWER;
    mailbox_post(zone->answers[parcel->from], parcel);
}

void names_serve(struct names_zone *zone, struct mailbox *const *questions,
                 struct mailbox *const *answers, uint16_t shard_count)
{
    zone->answers = answers;
    for (uint16_t i = 0; i < shard_count; i++)
        mailbox_listen(questions[i], on_question, zone);
}
