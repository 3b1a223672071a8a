/*
 * names: the simulated resolver: an actor that answers dns questions from a small made-up zone.
 *
 * d<k>.test has two MX hosts m<a>.test (preference 10) and m<b>.test (20), each with the address of
 * a receiver; domains whose numbers differ by the number of receivers share them. Answers may fail,
 * time out, deny or change at given rates. Stands where libunbound's thread stands in the real
 * world; lives in the product's process. A scenario may answer for itself, or keep silent.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "tests/sim/sim.h"

#define NAMES_DOMAINS_MAX 64 /* those with a higher number are never denied */

#define NAMES_SILENCE_NS (10 * 1000000000ull) /* resolver-timeout */

enum names_say {
    NAMES_BY_ZONE,
    NAMES_ANSWERED,
    NAMES_SILENT, /* DNS_TIMEOUT after NAMES_SILENCE_NS */
};

struct dns_query;

struct names_zone {
    struct sim_world *world;
    uint32_t receiver_count;
    uint32_t failure_rate; /* SERVFAIL about once in so many questions; 0 = never */
    uint64_t failures;
    uint32_t denial_rate; /* NXDOMAIN about once in so many questions for MX; 0 = never. Once a
                             domain: that is never enough to return mail. */
    uint64_t denials;
    bool was_denied[NAMES_DOMAINS_MAX];
    uint32_t change_rate; /* a domain's MX hosts are others about once in so many questions; 0 =
                             never */
    uint64_t changes;
    uint8_t shifts[NAMES_DOMAINS_MAX]; /* by so many a domain's hosts have moved on */
    /* Asked first, when set. status, record_count and data_bytes are 0, ttl_s is drawn. */
    enum names_say (*script)(void *context, struct dns_query *query);
    void *script_context;
    /* Of the present life. */
    struct mailbox *const *answers; /* [shard] */
    struct io *io;
    struct io_timer timer;
    struct list silent; /* oldest first */
};

void names_serve(struct names_zone *zone, struct io *io, struct mailbox *const *questions,
                 struct mailbox *const *answers, uint16_t shard_count);
