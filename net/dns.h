/*
 * dns: lookups for one shard: questions travel to a resolver by mailbox, answers are cached by TTL.
 *
 * The resolver is an actor elsewhere: libunbound's thread in the real world (net/resolver.h), a
 * scripted one in the simulator. This module coalesces equal questions in flight, keeps answers
 * for their TTL (clamped to 30 s … 1 h; denials 5 min at most, failures 5 s) in a bounded cache and
 * never blocks. Hostile answers are bounded and checked here and in mx.h (A28, A29).
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "core/mail/verdict.h"

#define DNS_NAME_MAX         255
#define DNS_RECORD_COUNT_MAX 64   /* further records of an answer are left out */
#define DNS_DATA_MAX         4096 /* of all records of an answer */

/* An answer without records is kept at most so long by this module, and for seconds by the
 * resolver: who waits for twice that long gets another one. RFC 2308 section 5 leaves it to us. */
#define DNS_DENIAL_KEPT_MAX_S 300

enum dns_type {
    DNS_A = 1,
    DNS_CNAME = 5,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_TLSA = 52,
};

enum dns_status {
    DNS_OK,      /* at least one record */
    DNS_NO_DATA, /* the name exists, the type does not */
    DNS_NO_NAME, /* NXDOMAIN */
    DNS_FAILURE, /* SERVFAIL, bogus, malformed: temporary */
    DNS_TIMEOUT, /* temporary */
};

enum dns_parcel_kind {
    DNS_QUESTION = 0x200, /* struct dns_query to the resolver */
    DNS_ANSWER,           /* the same struct on its way back */
};

/* A question that turns into its answer. Owned by the asking shard, lent to the resolver. */
struct dns_query {
    struct parcel parcel;
    /* question */
    char name[DNS_NAME_MAX + 1]; /* lower case, no trailing dot, NUL-terminated */
    uint16_t type;               /* enum dns_type */
    /* answer */
    uint8_t status; /* enum dns_status */
    bool is_secure; /* validated by DNSSEC */
    uint32_t ttl_s;
    uint16_t record_count;
    uint16_t data_bytes;
    /* Records: u16 length (little-endian), then rdata. A: 4 octets, AAAA: 16. MX: u16 preference
     * (big-endian, as on the wire), then the exchange in text, lower case, no trailing dot; "" =
     * the root (null MX, RFC 7505). PTR and CNAME: the name in the same form. TXT: its strings
     * joined. TLSA: as on the wire (RFC 6698 2.1). */
    uint8_t data[DNS_DATA_MAX];
    /* owner's */
    uint32_t slot;
    uint32_t asker;
};

struct dns;

/*
 * actor: goes into parcel.from of every question. At most cache_count_max names are known at a
 * time, asked or answered; at most in_flight_max are with the resolver.
 */
struct dns *dns_create(struct io *io, struct mailbox *questions, struct mailbox *answers,
                       uint16_t actor, uint32_t cache_count_max, uint32_t in_flight_max);
/* The resolver must have ended, or have sent everything back. */
void dns_destroy(struct dns *dns);

/* A waiting lookup, embedded in its owner. */
struct dns_lookup {
    struct list link;
    /* answer is valid during the call only. */
    void (*on_answer)(struct dns_lookup *lookup, const struct dns_query *answer);
};

/* Answers later, never from inside. Names longer than DNS_NAME_MAX or with odd bytes answer
 * DNS_NO_NAME. When too many questions are in flight the lookup waits its turn; when every name
 * known is still waited for, it is answered DNS_FAILURE. The answer's ttl_s is what is left of it.
 */
void dns_ask(struct dns *dns, struct dns_lookup *lookup, struct slice name, enum dns_type type);
/* The lookup will not be called. Safe when it is not waiting, and on one of zeroes. */
void dns_forget(struct dns *dns, struct dns_lookup *lookup);

/*
 * Whether lookups of other domains than this one (empty: of any) succeed. Domains known to be good
 * that were not looked up for 30 s are asked again, so a call a moment later knows what this one
 * did not.
 */
enum dns_outlook dns_outlook(struct dns *dns, struct slice domain);
/* Asks the domains known to be good again now, all but those that are being asked. */
void dns_ask_witnesses(struct dns *dns);
/* Denials that are kept count no more: who asks for such a name makes a question. */
void dns_doubt_denials(struct dns *dns);

/* Next record of an answer; start with *cursor = 0. */
bool dns_record_next(const struct dns_query *answer, uint16_t *cursor, struct slice *ret_rdata);
/* The same of the data of an answer that somebody keeps. */
bool dns_records_next(struct slice data, uint16_t *cursor, struct slice *ret_rdata);
