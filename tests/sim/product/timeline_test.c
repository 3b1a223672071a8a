/*
 * Golden timelines: what the product does when a receiver misbehaves in one exact way, told line by
 * line by the receivers of the simulated world, and compared with a text that people have read
 * (tests/sim/golden/NAME.txt). The rules of a case stand at the head of its text, so that the
 * end-to-end tests play the same ones by the real sink.
 *
 *   timeline_test DIRECTORY           compares every case
 *   timeline_test DIRECTORY write     writes the texts anew
 * A NAME behind that: this case alone.
 *
 * A is the best MX, B the second; s1 and s2 are our addresses. Times are whole seconds, and after
 * a hundred of them tens of minutes: retries are spread by a tenth.
 */
#include "bench/rules.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/planted.h"
#include "shard/shard_int.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/sim_peer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS  1000000000ull
#define TEXT_BYTES 16384

struct timeline_case {
    const char *name;
    const char *what;
    const char *rules[2][3]; /* of A and B */
    bool is_down[2];         /* nobody listens … */
    uint32_t outage_minutes; /* … until then; 0 = for ever */
    uint32_t messages;
    uint32_t source_count;
    uint32_t out_max;      /* max-smtp-out; 0 = 1 */
    bool by_route;         /* smtp-hosts A, and pipelining as it is by default */
    const char *replies;   /* lines of the <smtp-pattern-list>; NULL = there is none */
    const char *backoff;   /* lines of the <domain> besides */
    const char *provider;  /* whose hosts both are, with the pack on; they have one set of rules */
    uint32_t domain_count; /* the messages' in turn; 0 = 1 */
    uint32_t brief_s;      /* what happens is summed up over spans of so many seconds */
    uint32_t latency_ms;   /* of the wire; 0 = 1 */
    bool by_chunks;        /* nothing is sent ahead, so that BDAT is worth it where it is offered */
};

#define OFFERS_BDAT "offer pipelining chunking"

static const struct timeline_case cases[] = {
    {.name = "mx-fail-over",
     .what = "the best MX refuses connections: the second one takes, and the first rests",
     .is_down = {true, false},
     .messages = 2},
    {.name = "outage",
     .what =
         "nobody answers for twelve minutes: then one connection is tried, before there are more",
     .is_down = {true, true},
     .outage_minutes = 12,
     .messages = 8,
     .out_max = 8},
    {.name = "greeting-421",
     .what = "a throttle at the greeting is no reason to ask the next MX: the source rests",
     .rules = {{"connect first=1 421 4.7.0 Too many connections"}},
     .messages = 2},
    {.name = "ehlo-421",
     .what = "a throttle at EHLO is treated like one at the greeting: the source rests",
     .rules = {{"ehlo first=1 421 4.7.0 Not now"}},
     .messages = 2},
    {.name = "greeting-554-one-source",
     .what = "a 5xx greeting bounces nobody: the source rests, and the other one is tried",
     .rules = {{"connect from=10.9.0.1/32 554 5.7.1 Blocked"},
               {"connect from=10.9.0.1/32 554 5.7.1 Blocked"}},
     .messages = 3,
     .source_count = 2},
    {.name = "greeting-554-all-sources",
     .what = "refused from each address: the queue rests, and the host that refused is asked last",
     .rules = {{"connect 554 5.7.1 Blocked"}},
     .messages = 1,
     .source_count = 2},
    {.name = "mail-421-first",
     .what = "421 to the first MAIL of a connection is that message's: an attempt, each time",
     .rules = {{"mail first=3 421 4.7.0 Not now"}},
     .messages = 2},
    {.name = "mail-421-later",
     .what = "421 to each second MAIL of a connection is no attempt: the message is sent again at "
             "once",
     .rules = {{"mail messages=1 421 4.7.0 Enough for one connection"}},
     .messages = 3},
    {.name = "rcpt-421",
     .what = "421 to the second RCPT is the second message's alone",
     .rules = {{"rcpt messages=1 first=1 421 4.7.0 Too fast"}},
     .messages = 3},
    {.name = "data-421",
     .what = "421 to the second DATA is the second message's alone",
     .rules = {{"data messages=1 first=1 421 4.3.2 Going down"}},
     .messages = 3},
    {.name = "dot-421",
     .what = "421 to the first dot is the first message's; what went along with it is unharmed",
     .rules = {{"dot first=1 421 4.3.2 Going down"}},
     .messages = 3},
    {.name = "dot-lost",
     .what =
         "no answer to the first dot: in doubt, tried again after retry-after, the rest at once",
     .rules = {{"dot first=1 drop"}},
     .messages = 3},
    {.name = "dot-lost-same-way",
     .what = "in doubt at the second MX: tried there again, from the same source, though the best "
             "is back",
     .rules = {{NULL}, {"dot first=2 drop"}},
     .is_down = {true, false},
     .outage_minutes = 7,
     .messages = 2,
     .source_count = 2},
    {.name = "dot-lost-and-gone",
     .what = "in doubt at the second MX, which is gone when it is tried again: the best will do",
     .rules = {{NULL}, {"dot first=1 drop", "connect messages=0 after=60 drop"}},
     .is_down = {true, false},
     .outage_minutes = 7,
     .messages = 1,
     .source_count = 2},
    {.name = "benign-close",
     .what =
         "closed behind 250: the message that went along is sent again at once, no attempt made",
     .rules = {{"dot first=1 close"}},
     .messages = 3},
    {.name = "two-answers",
     .what =
         "two answers to the first dot: the second message is decided by neither, and from then "
         "on nothing is sent ahead",
     .rules = {{"dot first=1 say 250 2.0.0 Ok\\r\\n250 2.0.0 Ok"}},
     .messages = 4,
     .by_route = true},
    {.name = "bdat",
     .what = "the first message by DATA shows how the receiver answers, the others go as chunks",
     .rules = {{OFFERS_BDAT}},
     .messages = 3,
     .by_chunks = true},
    {.name = "bdat-451",
     .what = "the second message's chunk is deferred: RSET leads the third's flight",
     .rules = {{OFFERS_BDAT, "dot messages=1 first=1 451 4.3.0 Later"}},
     .messages = 3,
     .by_chunks = true},
    {.name = "bdat-550",
     .what = "the second message's chunk is refused: it bounces, and the third is not touched",
     .rules = {{OFFERS_BDAT, "dot messages=1 first=1 550 5.7.1 Spam"}},
     .messages = 3,
     .by_chunks = true},
    {.name = "bdat-421",
     .what = "421 to the second message's chunk is that message's, and ends the connection",
     .rules = {{OFFERS_BDAT, "dot messages=1 first=1 421 4.3.2 Going down"}},
     .messages = 3,
     .by_chunks = true},
    {.name = "bdat-502",
     .what = "CHUNKING is offered and BDAT not known: no attempt, by DATA at once and from then on",
     .rules = {{OFFERS_BDAT, "dot messages=1 first=1 502 5.5.1 What is BDAT"}},
     .messages = 3,
     .by_chunks = true},
    {.name = "bdat-lost",
     .what = "no answer to the second message's chunk: in doubt, tried again after retry-after",
     .rules = {{OFFERS_BDAT, "dot messages=1 first=1 drop"}},
     .messages = 3,
     .by_chunks = true},
    {.name = "bdat-refused-rcpt",
     .what = "no recipient is taken, but the chunk is on its way already: its 503 decides nobody",
     .rules = {{OFFERS_BDAT, "rcpt messages=1 first=1 550 5.1.1 No such user"}},
     .messages = 3,
     .by_chunks = true},
    {.name = "backoff-by-time",
     .what = "a refusal leads to backoff mode: one message in ten minutes, and after half an hour "
             "what is left goes at once",
     .rules = {{"mail first=1 421 4.7.0 Too many messages"}},
     .messages = 6,
     .replies = "reply /too many/ mode=backoff,backoff-to-normal-after=30m\n",
     .backoff = " backoff-max-msg-rate 1/10m\n backoff-retry-after 20m\n"},
    {.name = "backoff-by-delivery",
     .what = "the first delivery in backoff mode ends it",
     .rules = {{"mail first=1 421 4.7.0 Too many messages"}},
     .messages = 6,
     .replies = "reply /too many/ mode=backoff\n",
     .backoff = " backoff-max-msg-rate 1/10m\n backoff-retry-after 20m\n"
                " backoff-to-normal-after-delivery yes\n"},
    {.name = "disable-source-ip",
     .what = "a refusal of s1 keeps the queue from it for 35 minutes; then it is used again",
     .rules = {{"mail from=10.9.0.1/32 first=1 421 4.7.1 Your address is listed"}},
     .messages = 6,
     .source_count = 2,
     .replies = "reply /address is listed/ disable-source-ip,reenable-after=35m\n",
     .backoff = " max-msg-rate 1/10m\n"},
    {.name = "disable-source-ip-at-provider",
     .what = "likewise by a line of wider scope, for as long as the <domain> says: one connection "
             "of s1 probes then",
     .rules = {{"mail from=10.9.0.1/32 first=1 421 4.7.1 Your address is listed"}},
     .messages = 6,
     .source_count = 2,
     .replies = "reply /address is listed/ disable-source-ip scope=source-ip\n",
     .backoff = " max-msg-rate 1/10m\n reenable-source-ip-after 35m\n"},
    {.name = "all-sources-disabled",
     .what = "both are refused: nothing is tried until the first is back, and backoff mode holds",
     .rules = {{"mail first=2 421 4.7.1 Your address is listed"}},
     .messages = 3,
     .source_count = 2,
     .replies = "reply /address is listed/ disable-source-ip\n",
     .backoff = " reenable-source-ip-after 1h\n backoff-upon-all-sources-disabled yes\n"
                " backoff-max-msg-rate 1/10m\n backoff-retry-after 20m\n"},
    {.name = "gmail-recovery",
     .what = "4.7.28 stops s1 at all of Google's hosted domains for ten minutes, then one "
             "connection probes, and one more with each that delivers",
     .rules = {{"mail connections=6 421 4.7.28 Our system has detected an unusual rate of mail "
                "originating from your IP address"}},
     .messages = 500,
     .latency_ms = 20,
     .out_max = 20,
     .provider = "google",
     .domain_count = 25000,
     .brief_s = 120},
    {.name = "gmail-full-mailboxes",
     .what = "each third recipient gets mail at too high a rate: the pack's line that waits for a "
             "tenth of the attempts leads to backoff mode with the tenth attempt or later",
     .rules = {{"rcpt every=3 450 4.2.1 The user you are trying to contact is receiving mail too "
                "quickly"}},
     .messages = 12,
     .provider = "google",
     .backoff = " backoff-max-msg-rate 1/10m\n backoff-retry-after 20m\n"},
    {.name = "yahoo-tss04",
     .what = "TSS04 stops s1 for two hours; s2 goes on",
     .rules = {{"mail from=10.9.0.1/32 until=3600 421 4.7.0 [TSS04] Messages from 10.9.0.1 "
                "temporarily deferred "
                "due to unexpected volume or user complaints"}},
     .messages = 400,
     .source_count = 2,
     .out_max = 4,
     .provider = "yahoo",
     .backoff = " max-msg-rate 2/1m\n",
     .domain_count = 1,
     .brief_s = 600},
    {.name = "microsoft-s3150",
     .what = "a 550 that names the network stops s1 for two hours and bounces nobody; s2 goes on",
     .rules =
         {{"rcpt from=10.9.0.1/32 until=3600 550 5.7.1 Unfortunately, messages from [10.9.0.1] "
           "weren't sent. Part of their network is on our block list (S3150)."}},
     .messages = 400,
     .source_count = 2,
     .out_max = 4,
     .backoff = " max-msg-rate 2/1m\n",
     .provider = "outlook",
     .domain_count = 1,
     .brief_s = 600},
    {.name = "one-of-eight-listed",
     .what = "a blocklist's 554 to one of eight addresses: it leaves, and nobody bounces",
     .rules = {{"rcpt from=10.9.0.3/32 554 5.7.1 Service unavailable; Client host [10.9.0.3] "
                "blocked using zen.spamhaus.org"},
               {"rcpt from=10.9.0.3/32 554 5.7.1 Service unavailable; Client host [10.9.0.3] "
                "blocked using zen.spamhaus.org"}},
     .messages = 800,
     .source_count = 8,
     .out_max = 16,
     .domain_count = 1,
     .brief_s = 600},
    {.name = "listed-and-slowed",
     .what = "a blocklist's 554 to one of two addresses, and a line that has such replies slow the "
             "queue: so it does, and nobody bounces for what is said of the address",
     .rules = {{"rcpt from=10.9.0.1/32 554 5.7.1 Service unavailable; Client host [10.9.0.1] "
                "blocked using zen.spamhaus.org"},
               {"rcpt from=10.9.0.1/32 554 5.7.1 Service unavailable; Client host [10.9.0.1] "
                "blocked using zen.spamhaus.org"}},
     .messages = 40,
     .source_count = 2,
     .out_max = 4,
     .replies = "reply /blocked using/ mode=backoff,backoff-to-normal-after=1h\n",
     .backoff = " backoff-max-msg-rate 1/1m\n backoff-retry-after 20m\n",
     .domain_count = 1,
     .brief_s = 600},
    {.name = "greylisting",
     .what = "each recipient is greylisted at first and tried again from the same one of eight "
             "addresses: all are delivered then, and what waits for a reply like it never acts",
     .rules = {{"rcpt grey=300 451 4.7.1 Greylisted, please try again later"},
               {"rcpt grey=300 451 4.7.1 Greylisted, please try again later"}},
     .messages = 800,
     .source_count = 8,
     .out_max = 16,
     .replies = "reply /try again later/ mode=backoff,disable-source-ip\n",
     .domain_count = 1,
     .brief_s = 600},
    {.name = "silent-close",
     .what = "closed without a word at the 21st MAIL of a connection: no message is deferred for "
             "it, and from the third time on connections end by QUIT after 20 messages",
     .rules = {{"mail messages=20 drop"}, {"mail messages=20 drop"}},
     .messages = 400,
     .out_max = 4,
     .domain_count = 1,
     .brief_s = 600},
    {.name = "silent-close-behind-250",
     .what = "closed without a word behind the 20th 250 of a connection: likewise",
     .rules = {{"dot messages=19 close"}, {"dot messages=19 close"}},
     .messages = 400,
     .out_max = 4,
     .domain_count = 1,
     .brief_s = 600},
    {.name = "trigger-by-share",
     .what = "each third recipient is refused: a line that waits for half of them never acts, one "
             "that waits for a quarter leads to backoff mode with the tenth attempt or later",
     .rules = {{"rcpt every=3 450 4.2.0 Busy"}},
     .messages = 12,
     .replies = "reply /busy/ disable-source-ip trigger=50%\n"
                "reply /busy/ mode=backoff,backoff-to-normal-after=30m trigger=25%\n",
     .backoff = " backoff-max-msg-rate 1/10m\n backoff-retry-after 20m\n"},
    {.name = "stop-of-another-line",
     .what = "a probe after an hour's stop is refused by a line of ten minutes: twice ten minutes",
     .rules = {{"rcpt first=1 450 4.7.1 Blocked for now", "rcpt first=1 451 4.7.28 Too fast"},
               {"rcpt first=1 450 4.7.1 Blocked for now", "rcpt first=1 451 4.7.28 Too fast"}},
     .messages = 3,
     .replies = "reply /blocked/ disable-source-ip,reenable-after=1h scope=source-ip\n"
                "reply /4.7.28/ stop=10m scope=source-ip\n"},
    {.name = "skip-mx",
     .what = "a refusal by the best MX: the message goes to the second one at once, and so does "
             "the next",
     .rules = {{"mail 450 4.7.1 Ask the other one"}},
     .messages = 2,
     .replies = "reply /ask the other/ skip-mx\n"},
    {.name = "defer-queue",
     .what = "a refusal lets the whole queue rest for retry-after",
     .rules = {{"rcpt first=1 450 4.2.0 Not now"}},
     .messages = 3,
     .replies = "reply /not now/ defer-queue\n"},
    {.name = "two-stops",
     .what = "a refusal stops its queue by one line and the source by another: both hold",
     .rules = {{"rcpt first=1 450 4.2.0 Busy"}, {"rcpt first=1 450 4.2.0 Busy"}},
     .messages = 2,
     .domain_count = 2,
     .replies = "reply /busy/ stop=10m\n"
                "reply /busy/ stop=1h scope=source-ip\n"},
    {.name = "stop-queue",
     .what = "a refusal stops the queue for its time, and one of what was under way adds nothing",
     .rules = {{"rcpt to=u2 first=1 450 4.2.0 Not now", "dot after=29 first=1 451 4.2.0 Not now"}},
     .messages = 4,
     .out_max = 2,
     .latency_ms = 1500,
     .replies = "reply /not now/ stop=40s\n"},
    {.name = "bounce-queue",
     .what = "a refusal ends all that waits in the queue",
     .rules = {{"mail messages=1 first=1 421 4.7.0 We want none of it"}},
     .messages = 4,
     .replies = "reply /none of it/ bounce-queue\n"},
    {.name = "bounce-rcpt",
     .what = "450 to RCPT ends the recipient, 450 to the next MAIL does not",
     .rules = {{"rcpt first=1 450 4.2.0 No such user", "mail messages=1 first=1 450 4.2.0 No "
                                                       "such user"}},
     .messages = 3,
     .replies = "reply /no such user/ bounce-rcpt\n"},
};

#define CASE_COUNT (sizeof(cases) / sizeof(cases[0]))

/* What a source address met within a span of a brief case. */
struct span {
    uint32_t connects;
    uint32_t open; /* goes on */
    uint32_t most;
    uint32_t taken;
    uint32_t refused;
};

#define SOURCES_MAX 8
#define RCPTS_MAX   50 /* of an injected message */

struct timeline {
    struct span spans[SOURCES_MAX];
    uint64_t span; /* the number of the present one */
    const struct timeline_case *of;
    struct sim_world *world;
    struct product product;
    struct conf *conf;
    struct rules *rules[2];
    struct sim_peer *receivers[2];
    struct sim_peer *injector;
    uint64_t start_ns;
    bool is_greeted; /* the injector */
    uint32_t injected;
    uint32_t replies_left; /* of the injector's flight */
    char text[TEXT_BYTES];
    size_t used;
};

static void tell(struct timeline *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void tell(struct timeline *t, const char *format, ...)
{
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(t->text + t->used, sizeof(t->text) - t->used, format, arguments);
    va_end(arguments);
    must(len >= 0 && (size_t)len < sizeof(t->text) - t->used);
    t->used += (size_t)len;
}

static void tell_time(struct timeline *t)
{
    uint64_t seconds = (sim_now_ns(t->world) - t->start_ns + SECOND_NS / 2) / SECOND_NS;

    if (seconds < 100)
        tell(t, "%3us  ", (unsigned)seconds);
    else
        tell(t, "%3um  ", (unsigned)((seconds + 300) / 600 * 10));
}

/* The spans that are over are told, those in which nothing happened are not. */
static void tell_spans(struct timeline *t, bool is_end)
{
    uint64_t span = (sim_now_ns(t->world) - t->start_ns) / SECOND_NS / t->of->brief_s;

    if (span == t->span && !is_end)
        return;
    for (unsigned i = 0; i < SOURCES_MAX; i++) {
        struct span *sum = &t->spans[i];

        if (sum->connects + sum->taken + sum->refused > 0)
            tell(t, "%3um  s%u  %u connects, at most %u at once; %u taken, %u refused\n",
                 (unsigned)(t->span * t->of->brief_s / 60), i + 1, sum->connects, sum->most,
                 sum->taken, sum->refused);
        *sum = (struct span){.open = sum->open, .most = sum->open};
    }
    t->span = span;
}

/* ---- Receivers --------------------------------------------------------------------------------
 */

struct talk {
    struct timeline *t;
    unsigned receiver;
    struct ipaddr_port client;
    struct ipaddr_port called;
    unsigned rcpt; /* the message's number, by its recipient */
    uint32_t rcpt_count;
    uint64_t messages;
    bool in_data;
    uint64_t chunk_left; /* octets */
};

/* The connection is over. */
static void count_end(struct talk *talk)
{
    if (talk)
        talk->t->spans[talk->client.ip.bytes[3] - 1].open--;
}

static void hang_up(struct sim_peer_conn *conn, bool by_reset)
{
    count_end(sim_peer_data(conn));
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
    if (by_reset)
        sim_peer_drop(conn);
    else
        sim_peer_close(conn);
}

/* Of a brief case: counts instead of a line. */
static bool count(struct talk *talk, enum rule_stage stage, const char *reply)
{
    struct span *span = &talk->t->spans[talk->client.ip.bytes[3] - 1];

    if (talk->t->of->brief_s == 0)
        return false;
    tell_spans(talk->t, false);
    if (stage == RULE_CONNECT) {
        span->connects++;
        span->most = span->open > span->most ? span->open : span->most;
    }
    span->taken += stage == RULE_DOT && reply[0] == '2';
    span->refused += stage != RULE_STAGE_COUNT && (reply[0] == '4' || reply[0] == '5');
    return true;
}

static void tell_who(struct talk *talk)
{
    tell_time(talk->t);
    tell(talk->t, "s%u %c  ", talk->client.ip.bytes[3], 'A' + talk->receiver);
}

/* Answers a stage as the rules say, which know nothing of RULE_STAGE_COUNT; the first digit of the
 * reply, 0 without one. Afterwards the connection may be over. */
static char answer(struct sim_peer_conn *conn, enum rule_stage stage, const char *what,
                   const char *usual)
{
    struct talk *talk = sim_peer_data(conn);
    struct timeline *t = talk->t;
    struct rule_verdict verdict = {.action = RULE_BEHAVE};
    char rcpt[16] = "";
    struct rule_event event = {
        .stage = stage,
        .client = &talk->client.ip,
        .called = &talk->called.ip,
        .client_connections = t->spans[talk->client.ip.bytes[3] - 1].open,
        .connection_messages = talk->messages,
        .sender = SLICE_LITERAL("a@sender.test"),
        .age_ns = sim_now_ns(t->world) - t->start_ns,
    };
    const char *reply = usual;
    bool is_brief;

    if (stage == RULE_RCPT)
        snprintf(rcpt, sizeof(rcpt), "u%u", talk->rcpt);
    event.rcpt = slice_str(rcpt);
    if (stage < RULE_STAGE_COUNT)
        rules_ask(t->rules[talk->receiver], &event, sim_rng(t->world), &verdict);
    if (verdict.action == RULE_REPLY || verdict.action == RULE_SAY)
        reply = verdict.reply;
    is_brief = count(talk, stage, verdict.action == RULE_DROP ? "-" : reply);
    if (!is_brief)
        tell_who(talk);
    if (verdict.action == RULE_DROP) {
        if (!is_brief)
            tell(t, "%s: closed without an answer\n", what);
        hang_up(conn, false);
        return '\0';
    }
    if (!is_brief)
        tell(t, "%s: %.*s%s\n", what, (int)strcspn(reply, "\r\n"), reply,
             verdict.action == RULE_SAY ? ", twice" : "");
    sim_peer_printf(conn, "%s\r\n", reply);
    if (verdict.ends || strncmp(reply, "421", 3) == 0 || strncmp(reply, "554", 3) == 0) {
        if (!is_brief) {
            tell_who(talk);
            tell(t, "closed by the receiver\n");
        }
        hang_up(conn, false);
        return '\0';
    }
    return reply[0];
}

static void on_open(struct sim_peer_conn *conn)
{
    struct timeline *t = sim_peer_context(sim_peer_of(conn));
    struct io *io = sim_peer_io(sim_peer_of(conn));
    struct talk *talk = sim_peer_alloc(sim_peer_of(conn), sizeof(*talk));

    talk->t = t;
    talk->receiver = sim_peer_of(conn) == t->receivers[1];
    io_peer_address(io, sim_peer_fd(conn), &talk->client);
    io_local_address(io, sim_peer_fd(conn), &talk->called);
    sim_peer_set_data(conn, talk);
    t->spans[talk->client.ip.bytes[3] - 1].open++;
    answer(conn, RULE_CONNECT, "connect", "220 ready");
}

/* The usual answer is no line of a timeline. */
static void on_ehlo(struct sim_peer_conn *conn, struct talk *talk)
{
    const struct rules *rules = talk->t->rules[talk->receiver];

    if ((rules_offers(rules, 0) & RULE_OFFER(CHUNKING)) != 0)
        sim_peer_printf(conn, "250-receiver.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    else if (rules_speak_of(rules, RULE_EHLO))
        answer(conn, RULE_EHLO, "EHLO", "250-receiver.test\r\n250 PIPELINING");
    else
        sim_peer_printf(conn, "250-receiver.test\r\n250 PIPELINING\r\n");
}

/* The end of a message by either way. */
static void on_whole(struct sim_peer_conn *conn, struct talk *talk, const char *end)
{
    char what[32];

    snprintf(what, sizeof(what), "%s of u%u", end, talk->rcpt);
    if (answer(conn, RULE_DOT, what, "250 2.0.0 Ok") == '2')
        talk->messages++;
}

static void on_chunk_line(struct sim_peer_conn *conn, struct talk *talk, size_t len)
{
    must(talk->chunk_left >= len + 2);
    talk->chunk_left -= len + 2;
    if (talk->chunk_left > 0)
        return;
    if (talk->rcpt_count > 0)
        on_whole(conn, talk, "chunk");
    else
        answer(conn, RULE_STAGE_COUNT, "chunk", "503 5.5.1 RCPT first");
}

static void on_command(struct sim_peer_conn *conn, struct talk *talk, struct slice line)
{
    char what[64];

    if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        on_ehlo(conn, talk);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("MAIL"))) {
        talk->rcpt_count = 0;
        answer(conn, RULE_MAIL, "MAIL", "250 2.1.0 Ok");
    } else if (sscanf((const char *)line.data, "RCPT TO:<u%u@", &talk->rcpt) == 1) {
        snprintf(what, sizeof(what), "RCPT u%u", talk->rcpt);
        if (answer(conn, RULE_RCPT, what, "250 2.1.5 Ok") == '2')
            talk->rcpt_count++;
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA")) && talk->rcpt_count == 0) {
        answer(conn, RULE_STAGE_COUNT, "DATA", "503 5.5.1 RCPT first");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        /* Otherwise the connection, and with it the talk, may be over. */
        if (answer(conn, RULE_DATA, "DATA", "354 Go on") == '3')
            talk->in_data = true;
    } else if (sscanf((const char *)line.data, "BDAT %" SCNu64 " LAST", &talk->chunk_left) == 1) {
        must(talk->chunk_left > 0);
    } else if (slice_equal_nocase(line, SLICE_LITERAL("RSET"))) {
        talk->rcpt_count = 0;
        answer(conn, RULE_RSET, "RSET", "250 2.0.0 Ok");
    } else {
        answer(conn, RULE_QUIT, "QUIT", "221 2.0.0 Bye");
        if (sim_peer_data(conn))
            hang_up(conn, false);
    }
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct talk *talk = sim_peer_data(conn);
    char text[128];

    if (!talk)
        return;
    if (talk->chunk_left > 0) {
        on_chunk_line(conn, talk, line.len);
    } else if (!talk->in_data) {
        size_t len = line.len < sizeof(text) ? line.len : sizeof(text) - 1;

        memcpy(text, line.data, len);
        text[len] = '\0';
        on_command(conn, talk, slice_str(text));
    } else if (line.len == 1 && line.data[0] == '.') {
        talk->in_data = false;
        on_whole(conn, talk, "dot");
    }
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    count_end(sim_peer_data(conn));
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
}

static const struct sim_peer_handlers receiver_handlers = {on_open, on_line, NULL, on_end};

/* ---- The injector -----------------------------------------------------------------------------
 */

/* One message, to as many domains as the case has, fifty recipients at most. */
static void inject(struct sim_peer_conn *conn, struct timeline *t)
{
    uint32_t domain_count = t->of->domain_count > 0 ? t->of->domain_count : 1;
    uint32_t rcpt_count = domain_count < RCPTS_MAX ? domain_count : RCPTS_MAX;

    sim_peer_printf(conn, "MAIL FROM:<a@sender.test>\r\n");
    for (uint32_t i = 0; i < rcpt_count; i++) {
        uint32_t number = t->injected * rcpt_count + i;

        sim_peer_printf(conn, "RCPT TO:<u%u@d%u.test>\r\n", number + 1, number % domain_count);
    }
    sim_peer_printf(conn, "DATA\r\n");
    t->injected++;
    t->replies_left = 2 + rcpt_count;
}

static void on_injector_line(struct sim_peer_conn *conn, struct slice line)
{
    struct timeline *t = sim_peer_context(sim_peer_of(conn));

    if (line.len > 3 && line.data[3] == '-')
        return;
    must(line.len > 3 && (line.data[0] == '2' || line.data[0] == '3'));
    if (t->replies_left > 0 && --t->replies_left > 0)
        return;
    if (!t->is_greeted) {
        t->is_greeted = true;
        sim_peer_printf(conn, "EHLO injector.test\r\n");
        t->replies_left = 1;
    } else if (line.data[0] == '3') {
        sim_peer_printf(conn, "Subject: test\r\n\r\nHello\r\n.\r\n");
        t->replies_left = 1;
    } else if (t->injected == t->of->messages) {
        sim_peer_printf(conn, "QUIT\r\n");
    } else {
        inject(conn, t);
    }
}

static const struct sim_peer_handlers injector_handlers = {NULL, on_injector_line, NULL, NULL};

/* ---- One case ---------------------------------------------------------------------------------
 */

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static void load_conf(struct timeline *t)
{
    char text[2048], sources[512] = "";
    int len;

    for (uint32_t i = 2; i <= t->of->source_count; i++)
        snprintf(sources + strlen(sources), sizeof(sources) - strlen(sources),
                 " smtp-source-host 10.9.0.%u s%u.test\n", i, i);
    len = snprintf(
        text, sizeof(text),
        "host-name mta.test\nsmtp-listener 127.0.0.1:2525\nsmtp-source-host 10.9.0.1 mta.test\n"
        "<spool /spool>\n</spool>\n"
        "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn yes\n "
        "default-virtual-mta v\n</source>\n"
        "<virtual-mta v>\n smtp-source-host 10.9.0.1 s1.test\n%s</virtual-mta>\n"
        "<domain *>\n max-smtp-out %u\n retry-after 10m\n connection-idle-timeout 5s\n"
        "%s%s%s</domain>\n%s%s%s%s%s%s",
        sources, t->of->out_max > 0 ? t->of->out_max : 1,
        t->of->by_route    ? " smtp-hosts [10.0.0.1]:25\n"
        : t->of->by_chunks ? " pipeline-across-messages no\n"
                           : " pipeline-across-messages yes\n",
        t->of->replies ? " smtp-pattern-list l\n" : "", t->of->backoff ? t->of->backoff : "",
        t->of->replies ? "<smtp-pattern-list l>\n" : "", t->of->replies ? t->of->replies : "",
        t->of->replies ? "</smtp-pattern-list>\n" : "",
        t->of->provider ? "provider-pack on\n<provider " : "",
        t->of->provider ? t->of->provider : "",
        t->of->provider ? ">\n mx m0.test m1.test\n</provider>\n" : "");

    if (len >= (int)sizeof(text) || conf_load_text("case", text, NULL, report, NULL, &t->conf) < 0)
        abort();
}

static void listen_at(struct timeline *t, unsigned receiver)
{
    struct ipaddr_port at = {{IPADDR_V4, {10, 0, (uint8_t)receiver, 1}}, 25};

    t->receivers[receiver] = sim_peer_listen(t->world, &at, &receiver_handlers, t);
}

static void start_receivers(struct timeline *t)
{
    for (unsigned i = 0; i < 2; i++) {
        if (t->of->provider && i == 1) {
            t->rules[1] = t->rules[0];
            listen_at(t, i);
            break;
        }
        t->rules[i] = rules_create();
        if (t->of->is_down[i])
            tell(t, t->of->outage_minutes ? "%c is down for %u minutes\n" : "%c is down\n", 'A' + i,
                 t->of->outage_minutes);
        for (unsigned j = 0; j < 3 && t->of->rules[i][j]; j++) {
            tell(t, "%c: %s\n", 'A' + i, t->of->rules[i][j]);
            must(rules_add(t->rules[i], t->of->rules[i][j]) == 0);
        }
        if (!t->of->is_down[i])
            listen_at(t, i);
    }
}

static bool is_done(void *context)
{
    struct timeline *t = context;

    return t->injected == t->of->messages && t->replies_left == 0 &&
           product_is_empty(&t->product) && site_open_connections(t->product.shards[0]) == 0;
}

static void tell_totals(struct timeline *t)
{
    const struct report_status *totals = &t->product.shards[0]->totals;

    tell(t,
         "in all: delivered %u, bounced %u, deferred %u, in doubt %u, sent ahead %u, came back %u",
         (unsigned)totals->delivered, (unsigned)totals->bounced, (unsigned)totals->deferred,
         (unsigned)totals->in_doubt, (unsigned)totals->sent_ahead, (unsigned)totals->returned);
    if (t->of->by_chunks)
        tell(t, ", by BDAT %u", (unsigned)smtpc_engine_chunk_count(t->product.shards[0]->smtpc));
    tell(t, "\n");
}

static void play(struct timeline *t)
{
    const struct ipaddr here = {IPADDR_V4, {127, 0, 0, 1}};
    const struct ipaddr_port product = {here, 2525};
    struct sim_options options = {.latency_min_ns = 1000000, .latency_max_ns = 1000000};

    struct product_setup setup = {.shard_count = 1,
                                  .segment_bytes = 256 << 10,
                                  .segment_count_max = t->of->brief_s ? 1024 : 64,
                                  .checkpoint_bytes = 256 << 10};

    if (t->of->latency_ms > 0)
        options.latency_min_ns = options.latency_max_ns = t->of->latency_ms * 1000000ull;
    tell(t, "# %s: %s\n", t->of->name, t->of->what);
    if (t->of->by_route)
        tell(t, "by smtp-hosts A\n");
    if (t->of->by_chunks)
        tell(t, "nothing is sent ahead\n");
    if (t->of->source_count == 2)
        tell(t, "two source addresses\n");
    else if (t->of->source_count > 2)
        tell(t, "%u source addresses\n", t->of->source_count);
    if (t->of->provider)
        tell(t, "A and B are hosts of %s\n", t->of->provider);
    if (t->of->domain_count)
        tell(t, "%u messages to each of %u domains\n",
             t->of->messages * (t->of->domain_count < RCPTS_MAX ? t->of->domain_count : RCPTS_MAX) /
                 t->of->domain_count,
             t->of->domain_count);
    if (t->of->replies)
        tell(t, "%s", t->of->replies);
    if (t->of->backoff)
        tell(t, "%s", t->of->backoff);
    load_conf(t);
    t->world = sim_world_create(1, &options);
    start_receivers(t);
    t->product.world = t->world;
    t->product.zone.receiver_count = 2;
    if (t->of->domain_count > 1)
        setup.limits = (struct shard_limits){
            .message_count_max = 32768, .rcpt_count_max = 32768, .queue_count_max = 32768};
    setup.conf = t->conf;
    must(product_start(&t->product, &setup) == 0);
    t->start_ns = sim_now_ns(t->world);
    t->injector = sim_peer_create(t->world, &injector_handlers, t);
    sim_peer_connect(t->injector, &here, &product);
    if (t->of->outage_minutes > 0) {
        sim_run_for(t->world, t->of->outage_minutes * 60 * SECOND_NS);
        for (unsigned i = 0; i < 2; i++)
            if (t->of->is_down[i])
                listen_at(t, i);
    }
    if (!sim_run_until(t->world, is_done, t, 8 * 3600 * SECOND_NS,
                       t->of->brief_s ? 200000000 : 2000000))
        tell(t, "work does not come to an end\n");
    if (t->of->brief_s)
        tell_spans(t, true);
    tell_totals(t);
    product_crash(&t->product, false);
    /* What they remember of clients is memory of the world. */
    rules_destroy(t->rules[0]);
    if (t->rules[1] != t->rules[0])
        rules_destroy(t->rules[1]);
    sim_world_destroy(t->world);
    conf_unref(t->conf);
}

static bool compare(const struct timeline *t, const char *path)
{
    static char golden[TEXT_BYTES];
    FILE *file = fopen(path, "r");
    size_t len = file ? fread(golden, 1, sizeof(golden), file) : 0;

    if (file)
        fclose(file);
    if (len == t->used && memcmp(golden, t->text, len) == 0)
        return true;
    printf("%s is not what happened:\n%.*s\n", path, (int)t->used, t->text);
    return false;
}

int main(int argc, char **argv)
{
    bool writes = argc >= 3 && strcmp(argv[2], "write") == 0;
    const char *only = argc == 4 || (argc == 3 && !writes) ? argv[argc - 1] : NULL;
    unsigned bad = 0;

    if (argc < 2)
        return 2;
    quiet_log();
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct timeline *t = calloc(1, sizeof(*t));
        char path[4096];

        t->of = &cases[i];
        if (only && strcmp(only, cases[i].name) != 0) {
            free(t);
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s.txt", argv[1], cases[i].name);
        play(t);
        if (writes) {
            FILE *file = fopen(path, "w");

            must(file && fwrite(t->text, 1, t->used, file) == t->used && fclose(file) == 0);
        }
        bad += !compare(t, path);
        free(t);
    }
    printf("%zu timelines, %u other than the golden ones\n", CASE_COUNT, bad);
    return bad ? 1 : 0;
}
