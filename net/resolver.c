/*
 * One loop of poll(2) over the shards' question mailboxes, libunbound's descriptor and the bell of
 * resolver_stop. libunbound does its work on a thread of its own making and calls back here, from
 * ub_process only. A question in flight is a `struct pending`; all have the same patience, so the
 * list of them in order of arrival is in order of deadlines too.
 */
#include "net/resolver.h"

#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "net/dns_answer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unbound.h>
#include <unistd.h>

#define BACKLOG_RETRY_MS 5    /* while a shard's mailbox has no room for answers */
#define GOODBYE_TRIES    1000 /* the same at the end, before giving up */
#define TAKE_BUDGET      64   /* questions of one shard before the next gets its turn */
#define CLASS_IN         1
#define PREFERENCE_END   0x10000u /* above the largest of an MX record */

struct pending {
    struct list link; /* in flight, or free */
    struct resolver *resolver;
    struct dns_query *query;
    uint64_t deadline_ms;
    uint32_t shard;
    int async_id;
};

struct resolver {
    struct ub_ctx *unbound;
    struct mailbox **questions;
    struct mailbox **answers;
    uint32_t count;
    uint64_t timeout_ms;
    int stop_fd;
    struct list in_flight; /* oldest first */
    struct list free;
    struct pollfd *polls; /* questions …, libunbound, stop */
};

static uint64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- Answers ------------------------------------------------------------------------------- */

static void send_back(struct resolver *resolver, uint32_t shard, struct dns_query *query)
{
    query->parcel.kind = DNS_ANSWER;
    mailbox_post_foreign(resolver->answers[shard], &query->parcel);
}

static void answer_without_data(struct resolver *resolver, uint32_t shard, struct dns_query *query,
                                enum dns_status status)
{
    query->status = (uint8_t)status;
    query->is_secure = false;
    query->ttl_s = 0;
    query->record_count = 0;
    query->data_bytes = 0;
    send_back(resolver, shard, query);
}

static void drop_pending(struct pending *pending)
{
    list_remove(&pending->link);
    list_push_back(&pending->resolver->free, &pending->link);
}

static enum dns_status status_of(int error, const struct ub_result *result)
{
    enum { RCODE_OK = 0, RCODE_NXDOMAIN = 3 };

    if (error != 0 || result == NULL || result->bogus)
        return DNS_FAILURE;
    if (result->nxdomain || result->rcode == RCODE_NXDOMAIN)
        return DNS_NO_NAME;
    if (result->rcode != RCODE_OK)
        return DNS_FAILURE;
    return result->havedata ? DNS_OK : DNS_NO_DATA;
}

static struct slice record_of(const struct ub_result *result, unsigned index)
{
    return slice_of(result->data[index], result->len[index] > 0 ? (size_t)result->len[index] : 0);
}

/* The smallest preference from `from` on; above all of them when there is none. */
static unsigned next_preference(const struct ub_result *result, unsigned from)
{
    unsigned next = PREFERENCE_END;

    for (unsigned i = 0; result->data[i] != NULL; i++) {
        struct slice record = record_of(result, i);
        unsigned preference = record.len >= 2 ? dns_mx_preference(record) : PREFERENCE_END;

        if (preference >= from && preference < next)
            next = preference;
    }
    return next;
}

/* The best ones first: of a thousand, those that find room are those that count (A28). */
static void fill_mx(struct dns_query *query, const struct ub_result *result)
{
    unsigned preference = next_preference(result, 0);

    while (preference < PREFERENCE_END && query->record_count < DNS_RECORD_COUNT_MAX &&
           DNS_DATA_MAX - query->data_bytes > DNS_NAME_MAX) {
        for (unsigned i = 0; result->data[i] != NULL; i++) {
            struct slice record = record_of(result, i);

            if (record.len >= 2 && dns_mx_preference(record) == preference)
                dns_answer_put_wire(query, record);
        }
        preference = next_preference(result, preference + 1);
    }
}

/* Those that begin with a version come first: a domain may have more texts than there is room for,
 * and most of the others prove to somebody whose domain it is. */
static void fill_text(struct dns_query *query, const struct ub_result *result)
{
    for (unsigned others = 0; others < 2; others++) {
        for (unsigned i = 0; result->data[i] != NULL; i++) {
            struct slice record = record_of(result, i);
            bool has_version = record.len > 2 && memcmp(record.data + 1, "v=", 2) == 0;

            if (has_version != (others != 0))
                dns_answer_put_wire(query, record);
        }
    }
}

static void fill(struct dns_query *query, const struct ub_result *result)
{
    bool is_sorted = query->type == DNS_MX || query->type == DNS_TXT;

    query->is_secure = result->secure != 0;
    query->ttl_s = result->ttl > 0 ? (uint32_t)result->ttl : 0;
    if (query->status == DNS_OK && query->type == DNS_MX)
        fill_mx(query, result);
    if (query->status == DNS_OK && query->type == DNS_TXT)
        fill_text(query, result);
    for (unsigned i = 0; query->status == DNS_OK && !is_sorted && result->data[i] != NULL; i++)
        dns_answer_put_wire(query, record_of(result, i));
    /* All records malformed: the domain's servers are at fault, and may be mended (A28). */
    if (query->status == DNS_OK && query->record_count == 0)
        query->status = DNS_FAILURE;
}

static void on_resolved(void *context, int error, struct ub_result *result)
{
    struct pending *pending = context;
    struct dns_query *query = pending->query;

    query->status = (uint8_t)status_of(error, result);
    query->is_secure = false;
    query->ttl_s = 0;
    query->record_count = 0;
    query->data_bytes = 0;
    if (result != NULL)
        fill(query, result);
    ub_resolve_free(result);
    send_back(pending->resolver, pending->shard, query);
    drop_pending(pending);
}

/* ---- Questions ----------------------------------------------------------------------------- */

static struct pending *take_pending(struct resolver *resolver)
{
    struct list *link = list_pop_front(&resolver->free);
    struct pending *pending;

    if (link != NULL)
        return container_of(link, struct pending, link);
    pending = mem_try_alloc(sizeof(*pending));
    if (pending != NULL)
        list_init(&pending->link);
    return pending;
}

static void ask(struct resolver *resolver, uint32_t shard, struct dns_query *query)
{
    struct pending *pending = take_pending(resolver);

    if (pending == NULL) {
        answer_without_data(resolver, shard, query, DNS_FAILURE);
        return;
    }
    pending->resolver = resolver;
    pending->query = query;
    pending->shard = shard;
    pending->deadline_ms = clock_ms() + resolver->timeout_ms;
    list_push_back(&resolver->in_flight, &pending->link);
    if (ub_resolve_async(resolver->unbound, query->name, query->type, CLASS_IN, pending,
                         on_resolved, &pending->async_id) != 0) {
        answer_without_data(resolver, shard, query, DNS_FAILURE);
        drop_pending(pending);
    }
}

/* True when some mailbox was not emptied. */
static bool take_questions(struct resolver *resolver)
{
    bool has_more = false;

    for (uint32_t i = 0; i < resolver->count; i++) {
        struct parcel *parcel = NULL;
        unsigned taken = 0;

        while (taken < TAKE_BUDGET &&
               (parcel = mailbox_take_foreign(resolver->questions[i])) != NULL) {
            ask(resolver, i, container_of(parcel, struct dns_query, parcel));
            taken++;
        }
        has_more = has_more || parcel != NULL;
    }
    return has_more;
}

/* The oldest question in flight; NULL when there is none. */
static struct pending *oldest(struct resolver *resolver)
{
    if (list_empty(&resolver->in_flight))
        return NULL;
    return container_of(resolver->in_flight.next, struct pending, link);
}

static void give_up(struct pending *pending, enum dns_status status)
{
    struct resolver *resolver = pending->resolver;

    /* libunbound does not call back for it any more. */
    ub_cancel(resolver->unbound, pending->async_id);
    answer_without_data(resolver, pending->shard, pending->query, status);
    drop_pending(pending);
}

static void time_out(struct resolver *resolver)
{
    uint64_t now_ms = clock_ms();
    struct pending *pending;

    while ((pending = oldest(resolver)) != NULL && pending->deadline_ms <= now_ms)
        give_up(pending, DNS_TIMEOUT);
}

/* Answers that found no room: tried again. True while some remain. */
static bool push_backlog(struct resolver *resolver)
{
    bool has_backlog = false;

    for (uint32_t i = 0; i < resolver->count; i++)
        has_backlog = mailbox_post_foreign(resolver->answers[i], NULL) > 0 || has_backlog;
    return has_backlog;
}

static int wait_ms(struct resolver *resolver, bool has_more, bool has_backlog)
{
    struct pending *pending = oldest(resolver);
    uint64_t now_ms = clock_ms();
    uint64_t ms = UINT64_MAX;

    if (has_more)
        return 0;
    if (has_backlog)
        ms = BACKLOG_RETRY_MS;
    if (pending != NULL) {
        uint64_t left_ms = pending->deadline_ms > now_ms ? pending->deadline_ms - now_ms : 0;

        ms = left_ms < ms ? left_ms : ms;
    }
    if (ms == UINT64_MAX)
        return -1;
    return ms < 60000 ? (int)ms : 60000;
}

static void say_goodbye(struct resolver *resolver)
{
    struct pending *pending;

    while ((pending = oldest(resolver)) != NULL)
        give_up(pending, DNS_FAILURE);
    for (uint32_t i = 0; i < resolver->count; i++) {
        struct parcel *parcel;

        while ((parcel = mailbox_take_foreign(resolver->questions[i])) != NULL)
            answer_without_data(resolver, i, container_of(parcel, struct dns_query, parcel),
                                DNS_FAILURE);
    }
    for (unsigned i = 0; i < GOODBYE_TRIES && push_backlog(resolver); i++)
        poll(NULL, 0, BACKLOG_RETRY_MS);
}

void resolver_run(struct resolver *resolver)
{
    struct pollfd *unbound_poll = &resolver->polls[resolver->count];
    struct pollfd *stop_poll = &resolver->polls[resolver->count + 1];

    for (;;) {
        bool has_more = take_questions(resolver);
        bool has_backlog = push_backlog(resolver);

        if (poll(resolver->polls, resolver->count + 2, wait_ms(resolver, has_more, has_backlog)) <
                0 &&
            errno != EINTR)
            log_error("resolver: poll: %s", err_text(-errno));
        if (stop_poll->revents != 0)
            break;
        if (unbound_poll->revents != 0)
            ub_process(resolver->unbound);
        time_out(resolver);
    }
    say_goodbye(resolver);
}

void resolver_stop(struct resolver *resolver)
{
    uint64_t one = 1;

    while (write(resolver->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* ---- Making and unmaking ------------------------------------------------------------------- */

static int set_options(struct resolver *resolver)
{
    static const char *const options[][2] = {
        {"use-syslog:", "no"},
        {"num-queries-per-thread:", "4096"},
        {"outgoing-range:", "4096"},
        {"msg-cache-size:", "16m"},
        {"rrset-cache-size:", "32m"},
        /* The shards keep answers for an hour, and denials for five minutes, themselves. Here they
         * live shorter, so that asking again is asking others again: that a name server lies, or
         * does no more, must show within a minute. */
        {"cache-max-ttl:", "60"},
        {"cache-max-negative-ttl:", "10"},
        /* The shards draw among equals; here an answer is one answer. */
        {"rrset-roundrobin:", "no"},
        /* A name server that was away is asked again at once, not after a quarter of an hour. */
        {"infra-host-ttl:", "5"},
        {"infra-keep-probing:", "yes"},
        {"infra-cache-max-rtt:", "2000"},
        /* Resolvers on the same machine are common, and libunbound would never ask them. */
        {"do-not-query-localhost:", "no"},
        /* Reverse names of injectors in private networks stand with their owner's servers. */
        {"unblock-lan-zones:", "yes"},
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        int error = ub_ctx_set_option(resolver->unbound, options[i][0], options[i][1]);

        if (error != 0) {
            log_error("resolver: %s %s: %s", options[i][0], options[i][1], ub_strerror(error));
            return E_REFUSED;
        }
    }
    return 0;
}

/* Larger answers than 1232 octets are lost as fragments on some paths; TCP then. */
static int set_edns(struct resolver *resolver, uint32_t bytes)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", bytes > 0 ? bytes : 1232);
    return ub_ctx_set_option(resolver->unbound, "edns-buffer-size:", text) == 0 ? 0 : E_REFUSED;
}

static int set_servers(struct resolver *resolver, const struct resolver_options *options)
{
    int error = 0;

    if (options->name_server_count == 0)
        error = ub_ctx_resolvconf(resolver->unbound, NULL);
    for (uint32_t i = 0; error == 0 && i < options->name_server_count; i++)
        error = ub_ctx_set_fwd(resolver->unbound, options->name_servers[i]);
    if (error != 0) {
        log_error("resolver: name servers: %s", ub_strerror(error));
        return E_REFUSED;
    }
    if (options->trust_anchor_file != NULL && access(options->trust_anchor_file, R_OK) < 0) {
        log_error("resolver: %s: %s", options->trust_anchor_file, err_text(-errno));
        return E_REFUSED;
    }
    if (options->trust_anchor_file != NULL)
        error = ub_ctx_add_ta_file(resolver->unbound, options->trust_anchor_file);
    else
        error = ub_ctx_set_option(resolver->unbound, "module-config:", "iterator");
    if (error != 0) {
        log_error("resolver: trust anchor: %s", ub_strerror(error));
        return E_REFUSED;
    }
    return 0;
}

/* The first call that uses the settings: what is wrong with them shows here. */
static int settle(struct resolver *resolver)
{
    /* RFC 6761 keeps "test." for tests, and those of our users look it up in servers of theirs, as
     * they do the names of this machine; libunbound would answer by itself that there is nothing.
     */
    int error = ub_ctx_zone_remove(resolver->unbound, "test.");

    if (error == 0)
        error = ub_ctx_zone_remove(resolver->unbound, "127.in-addr.arpa.");
    if (error != 0) {
        log_error("resolver: settings: %s", ub_strerror(error));
        return E_REFUSED;
    }
    return 0;
}

static int open_unbound(struct resolver *resolver, const struct resolver_options *options)
{
    int rc;

    resolver->unbound = ub_ctx_create();
    if (resolver->unbound == NULL)
        return -ENOMEM;
    /* Before anything that makes up the context's mind, or libunbound would fork. */
    if (ub_ctx_async(resolver->unbound, 1) != 0)
        return E_REFUSED;
    rc = set_options(resolver);
    if (rc == 0)
        rc = set_edns(resolver, options->edns_udp_bytes);
    if (rc == 0)
        rc = set_servers(resolver, options);
    return rc < 0 ? rc : settle(resolver);
}

static void set_polls(struct resolver *resolver)
{
    for (uint32_t i = 0; i < resolver->count; i++)
        resolver->polls[i] =
            (struct pollfd){.fd = mailbox_wait_fd(resolver->questions[i]), .events = POLLIN};
    resolver->polls[resolver->count] =
        (struct pollfd){.fd = ub_fd(resolver->unbound), .events = POLLIN};
    resolver->polls[resolver->count + 1] =
        (struct pollfd){.fd = resolver->stop_fd, .events = POLLIN};
}

int resolver_create(const struct resolver_options *options, struct mailbox *const *questions,
                    struct mailbox *const *answers, uint32_t count, struct resolver **ret_resolver)
{
    struct resolver *resolver = mem_alloc(sizeof(*resolver));
    int rc;

    resolver->count = count;
    resolver->timeout_ms = options->timeout_ms;
    resolver->questions = mem_alloc(count * sizeof(struct mailbox *));
    resolver->answers = mem_alloc(count * sizeof(struct mailbox *));
    resolver->polls = mem_alloc((count + 2) * sizeof(struct pollfd));
    for (uint32_t i = 0; i < count; i++) {
        resolver->questions[i] = questions[i];
        resolver->answers[i] = answers[i];
    }
    list_init(&resolver->in_flight);
    list_init(&resolver->free);
    resolver->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = resolver->stop_fd < 0 ? -errno : open_unbound(resolver, options);
    if (rc < 0) {
        resolver_destroy(resolver);
        return rc;
    }
    set_polls(resolver);
    *ret_resolver = resolver;
    return 0;
}

void resolver_destroy(struct resolver *resolver)
{
    struct list *link;

    if (resolver == NULL)
        return;
    if (resolver->unbound != NULL)
        ub_ctx_delete(resolver->unbound);
    if (resolver->stop_fd >= 0)
        close(resolver->stop_fd);
    while ((link = list_pop_front(&resolver->free)) != NULL)
        mem_free(container_of(link, struct pending, link));
    mem_free(resolver->questions);
    mem_free(resolver->answers);
    mem_free(resolver->polls);
    mem_free(resolver);
}
