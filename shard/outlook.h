/*
 * outlook: whether the resolver is to be believed, as this shard sees it.
 *
 * A breaker whose baseline is what its witnesses are known for: domains that had an MX before
 * (net/dns_outlook.h). When most of them are denied or get no answer it opens: nothing that the DNS
 * says against a domain counts, and every OUTLOOK_POLL_MS the witnesses are asked again, whatever
 * is kept of them. When most are well it closes: denials that are kept in memory count no more, and
 * all queues that rest by the DNS's word are looked up anew, OUTLOOK_RELEASE_MAX queues looked at
 * in a turn and as many lookups at a time as ever (resolve.c). Operators close it by `breaker
 * release resolver/SHARD`, or have the denials believed for a day by `breaker bounce
 * resolver/SHARD`; `*` stands for all shards.
 *
 * Each shard has its own, with its own witnesses, for its thread alone. Costs nothing while the DNS
 * has nothing to say against a domain. Not kept over a restart: witnesses are found anew.
 */
#pragma once

#include "core/io/io.h"
#include "core/mail/verdict.h"
#include "shard/policy/breaker.h"

struct queue;
struct report;
struct shard;

#define OUTLOOK_POLL_MS     5000
#define OUTLOOK_RELEASE_MAX 256u
#define OUTLOOK_REASON_MAX  200
/* The resolver's key in lists and verbs, before the number of the shard. */
#define OUTLOOK_KIND        "resolver"

struct outlook {
    struct io_timer timer;
    enum breaker_state state; /* CLOSED, OPEN or PASSING */
    uint64_t since_us;
    uint64_t until_ns; /* PASSING */
    uint64_t until_us;
    uint64_t held;         /* answers that were not believed since it opened */
    uint32_t release_next; /* the next queue to be looked at; UINT32_MAX = none is to be */
    char reason[OUTLOOK_REASON_MAX];
};

void outlook_init(struct shard *shard);
/* The DNS has nothing good to say of the queue's domain: what is known of others. */
enum dns_outlook outlook_on_denial(struct shard *shard, const struct queue *queue,
                                   const struct verdict *verdict);
/* Whether the queue waits for the resolver to be well again. */
bool outlook_holds(const struct shard *shard, const struct queue *queue);
/* Releases what waited; called each turn. */
void outlook_turn(struct shard *shard);
bool outlook_is_busy(const struct shard *shard);

/* A row of `show orders` while it is not closed. */
void outlook_report(const struct shard *shard, struct report *report);
/* `breaker VERB resolver/SHARD`; other keys are none of its. */
void outlook_on_verb(struct shard *shard, struct report *report);
