#include "tests/unit/net/fake_dns.h"

#include "core/base/must.h"
#include "net/dns_answer.h"

#include <stdlib.h>

static void put_record(struct dns_query *query, const struct fake_record *record)
{
    uint8_t bytes[DNS_NAME_MAX + 3];
    struct ipaddr ip;

    if (query->type == DNS_MX) {
        char *exchange = NULL;
        unsigned long preference = strtoul(record->data, &exchange, 10);
        size_t len = strlen(exchange + 1);

        bytes[0] = (uint8_t)(preference >> 8);
        bytes[1] = (uint8_t)preference;
        memcpy(bytes + 2, exchange + 1, len);
        must(dns_answer_put(query, slice_of(bytes, strcmp(exchange, " .") == 0 ? 2 : 2 + len)));
        return;
    }
    if (query->type == DNS_TXT || query->type == DNS_PTR || query->type == DNS_CNAME) {
        must(dns_answer_put(query, slice_str(record->data)));
        return;
    }
    if (query->type == DNS_TLSA) {
        /* "311" and whatever the data is to be. */
        size_t len = strlen(record->data);

        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(record->data[i] - (i < 3 ? '0' : 0));
        must(dns_answer_put(query, slice_of(bytes, len)));
        return;
    }
    must(ipaddr_parse(slice_str(record->data), &ip) == 0);
    must(dns_answer_put(query, slice_of(ip.bytes, query->type == DNS_A ? 4 : 16)));
}

void fake_dns_fill(const struct fake_record *records, struct dns_query *query)
{
    query->status = DNS_NO_NAME;
    query->is_secure = false;
    query->ttl_s = 300;
    query->record_count = 0;
    query->data_bytes = 0;
    for (const struct fake_record *record = records; record->name != NULL; record++) {
        if (strcmp(record->name, query->name) != 0)
            continue;
        if (query->status == DNS_NO_NAME)
            query->status = DNS_NO_DATA;
        if (query->status == DNS_NO_DATA || record->type == (enum dns_type)query->type)
            query->is_secure = record->is_secure;
        if (record->type != (enum dns_type)query->type)
            continue;
        query->status = record->data != NULL ? (uint8_t)DNS_OK : (uint8_t)record->status;
        query->ttl_s = record->ttl_s != 0 ? record->ttl_s : 300;
        if (record->data != NULL)
            put_record(query, record);
    }
}

static void answer(struct fake_dns *fake, struct dns_query *query)
{
    fake_dns_fill(fake->records, query);
    fake->held_count--;
    query->parcel.kind = DNS_ANSWER;
    mailbox_post(fake->answers, &query->parcel);
}

/* A question that is not answered yet. */
struct waiting {
    struct list link;
    struct dns_query *query;
};

void fake_dns_release(struct fake_dns *fake)
{
    struct list *link;

    while ((link = list_pop_front(&fake->waiting)) != NULL) {
        struct waiting *waiting = container_of(link, struct waiting, link);

        answer(fake, waiting->query);
        free(waiting);
    }
}

static void on_timer(struct io_timer *timer)
{
    struct fake_dns *fake = container_of(timer, struct fake_dns, timer);

    if (!fake->holds)
        fake_dns_release(fake);
}

static void on_question(void *context, struct parcel *parcel)
{
    struct fake_dns *fake = context;
    struct waiting *waiting = malloc(sizeof(*waiting));

    must(parcel->kind == DNS_QUESTION);
    fake->asked_count++;
    fake->held_count++;
    if (fake->held_count > fake->held_max)
        fake->held_max = fake->held_count;
    waiting->query = container_of(parcel, struct dns_query, parcel);
    list_init(&waiting->link);
    list_push_back(&fake->waiting, &waiting->link);
    if (!io_timer_is_armed(&fake->timer))
        io_timer_arm(fake->io, &fake->timer, io_now_ns(fake->io) + fake->delay_ns);
}

void fake_dns_init(struct fake_dns *fake, struct sim_world *world, struct sim_process *process,
                   struct io *client, const struct fake_record *records)
{
    *fake = (struct fake_dns){.records = records};
    list_init(&fake->waiting);
    io_timer_init(&fake->timer, on_timer);
    sim_io_create(world, process, &fake->io);
    sim_enter(process);
    fake->questions = mailbox_create(16, client, fake->io);
    fake->answers = mailbox_create(16, fake->io, client);
    mailbox_listen(fake->questions, on_question, fake);
    sim_leave(process);
}

void fake_dns_fini(struct fake_dns *fake)
{
    struct list *link;

    io_timer_stop(fake->io, &fake->timer);
    while ((link = list_pop_front(&fake->waiting)) != NULL)
        free(container_of(link, struct waiting, link));
    mailbox_destroy(fake->questions);
    mailbox_destroy(fake->answers);
}
