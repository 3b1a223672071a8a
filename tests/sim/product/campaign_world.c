#include "tests/sim/product/campaign_world.h"

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/io/io.h"
#include "net/dns_answer.h"
#include "tests/sim/product/names.h"
#include "tests/sim/sim_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS       1000000000ull
#define HOSTS_MAX       200u
#define RCPTS_MAX       100u /* of a transaction */
#define GREY_S          300u
#define LATE_BANNER_S   20u
#define STOP_S          600u
#define IN_FLIGHT_NS    (2 * SECOND_NS) /* what left before a stop was heard of has arrived then */
#define THROTTLED_KINDS 2u

static const struct {
    const char *mx;
    uint8_t network;
    uint32_t hosts;
} places[CAMPAIGN_KIND_COUNT] = {
    [CAMPAIGN_GMAIL] = {"gmail-smtp-in.l.google.com", 1, 1},
    [CAMPAIGN_WORKSPACE] = {"aspmx.l.google.com", 2, 1},
    [CAMPAIGN_OUTLOOK] = {"outlook-com.olc.protection.outlook.com", 3, 1},
    [CAMPAIGN_M365] = {"d%u.mail.protection.outlook.com", 4, 4},
    [CAMPAIGN_YAHOO] = {"mta5.am0.yahoodns.net", 5, 1},
    [CAMPAIGN_APPLE] = {"mx01.mail.icloud.com", 6, 1},
    [CAMPAIGN_PLAIN] = {"mx%u.plain.test", 7, 150},
    [CAMPAIGN_GREY] = {"mx%u.grey.test", 8, 20},
    [CAMPAIGN_LATE] = {"mx%u.late.test", 12, 10},
    [CAMPAIGN_DEAD] = {"mx%u.dead.test", 10, 10},
    [CAMPAIGN_NXDOMAIN] = {"", 11, 0},
};

static const struct {
    const char *text;
    uint32_t rcpts;
    uint32_t domains;
    uint32_t few;
} kinds[CAMPAIGN_KIND_COUNT] = {
#define CAMPAIGN_ROW(name, text, rcpts, domains, few) {text, rcpts, domains, few},
    CAMPAIGN_KINDS(CAMPAIGN_ROW)
#undef CAMPAIGN_ROW
};

struct host {
    struct campaign_world *campaign;
    struct sim_peer *peer;
    enum campaign_kind kind;
};

struct campaign_world {
    struct sim_world *world;
    struct campaign_setup setup;
    struct campaign_rcpt *rcpts;
    struct host hosts[HOSTS_MAX];
    uint32_t host_count;
    struct campaign_kind_figures figures[2][CAMPAIGN_KIND_COUNT];
    struct campaign_throttle throttles[THROTTLED_KINDS][CAMPAIGN_SOURCES];
};

/* ---- Recipients ------------------------------------------------------------------------------ */

enum campaign_kind campaign_kind_of(const struct campaign_world *campaign, uint32_t rcpt)
{
    uint32_t lot = (uint32_t)(hash_u64(rcpt) % 1000), kind = 0;

    if (campaign->setup.is_hosted)
        return CAMPAIGN_WORKSPACE;
    while (lot >= kinds[kind].rcpts) {
        lot -= kinds[kind].rcpts;
        kind++;
    }
    return (enum campaign_kind)kind;
}

static uint32_t domain_count_of(const struct campaign_world *campaign, enum campaign_kind kind)
{
    uint64_t count = kinds[kind].domains * (uint64_t)campaign->setup.domain_count / 1000;

    if (campaign->setup.is_hosted)
        return campaign->setup.domain_count;
    return kinds[kind].domains == 0 ? kinds[kind].few : count > 0 ? (uint32_t)count : 1;
}

bool campaign_is_unknown(const struct campaign_world *campaign, uint32_t rcpt)
{
    enum campaign_kind kind = campaign_kind_of(campaign, rcpt);

    return campaign->setup.unknown_rate > 0 && kind != CAMPAIGN_DEAD && kind != CAMPAIGN_NXDOMAIN &&
           hash_u64(rcpt + 77777777ull) % campaign->setup.unknown_rate == 0;
}

void campaign_address(const struct campaign_world *campaign, uint32_t rcpt, char *room)
{
    enum campaign_kind kind = campaign_kind_of(campaign, rcpt);
    uint32_t domain = (uint32_t)(hash_u64(rcpt + 5555555ull) % domain_count_of(campaign, kind));

    snprintf(room, 64, "%c%u@d%u.%s.test", campaign_is_unknown(campaign, rcpt) ? 'x' : 'u', rcpt,
             domain, kinds[kind].text);
}

struct campaign_rcpt *campaign_rcpt(struct campaign_world *campaign, uint32_t rcpt)
{
    must(rcpt < campaign->setup.rcpt_room);
    return &campaign->rcpts[rcpt];
}

static uint32_t now_ms(const struct campaign_world *campaign)
{
    return (uint32_t)(sim_now_ns(campaign->world) / 1000000);
}

static struct campaign_kind_figures *figures_of(struct campaign_world *campaign, uint32_t rcpt)
{
    return &campaign->figures[rcpt >= campaign->setup.rcpt_count][campaign_kind_of(campaign, rcpt)];
}

void campaign_note_accepted(struct campaign_world *campaign, uint32_t rcpt)
{
    campaign_rcpt(campaign, rcpt)->accepted_ms = now_ms(campaign);
    figures_of(campaign, rcpt)->rcpts++;
}

static void note_delivered(struct campaign_world *campaign, uint32_t rcpt)
{
    struct campaign_rcpt *facts = campaign_rcpt(campaign, rcpt);
    struct campaign_kind_figures *figures = figures_of(campaign, rcpt);
    /* It may be delivered before its sender has heard the 250. */
    uint32_t waited_ms = facts->accepted_ms ? now_ms(campaign) - facts->accepted_ms : 0;
    uint32_t tenths = (waited_ms + 99) / 100;

    if (facts->delivered++ > 0) {
        figures->doubles++;
        return;
    }
    figures->delivered++;
    figures->waits.at[tenths < CAMPAIGN_WAITS ? tenths : CAMPAIGN_WAITS - 1]++;
    figures->waits.count++;
}

static void note_unknown(struct campaign_world *campaign, uint32_t rcpt)
{
    struct campaign_rcpt *facts = campaign_rcpt(campaign, rcpt);
    struct campaign_kind_figures *figures = figures_of(campaign, rcpt);

    if (facts->refused++ > 0)
        figures->doubles++;
    else
        figures->unknown++;
}

const struct campaign_kind_figures *campaign_figures(const struct campaign_world *campaign,
                                                     enum campaign_kind kind, bool is_extra)
{
    return &campaign->figures[is_extra][kind];
}

uint64_t campaign_percentile_ms(const struct campaign_waits *waits, unsigned percent)
{
    uint64_t wanted = (waits->count * percent + 99) / 100, sum = 0;
    uint32_t i = 0;

    for (; i < CAMPAIGN_WAITS - 1; i++) {
        sum += waits->at[i];
        if (sum >= wanted)
            break;
    }
    return i * 100ull;
}

/* ---- Throttles ------------------------------------------------------------------------------- */

/* Google counts Gmail and Workspace together. NULL: the kind has none. */
static struct campaign_throttle *throttle_of(struct campaign_world *campaign,
                                             enum campaign_kind kind, unsigned source)
{
    if (campaign->setup.throttle_rcpts == 0 || source >= CAMPAIGN_SOURCES)
        return NULL;
    if (kind == CAMPAIGN_GMAIL || kind == CAMPAIGN_WORKSPACE)
        return &campaign->throttles[0][source];
    return kind == CAMPAIGN_YAHOO ? &campaign->throttles[1][source] : NULL;
}

const struct campaign_throttle *campaign_throttle(const struct campaign_world *campaign,
                                                  enum campaign_kind kind, unsigned source)
{
    return throttle_of((struct campaign_world *)campaign, kind, source);
}

/* A transaction begins: whether it is refused. More than may come in a minute begins a stop. */
static bool is_stopped(struct campaign_world *campaign, struct campaign_throttle *throttle)
{
    uint64_t now_ns = sim_now_ns(campaign->world), minute = now_ns / (60 * SECOND_NS);

    if (throttle->stop_until_ns > now_ns) {
        throttle->inside += now_ns > throttle->stop_from_ns + IN_FLIGHT_NS;
        return true;
    }
    if (throttle->minute != minute) {
        throttle->minute = minute;
        throttle->count = 0;
    }
    if (throttle->count < campaign->setup.throttle_rcpts)
        return false;
    throttle->stops++;
    throttle->stop_from_ns = now_ns;
    throttle->stop_until_ns = now_ns + STOP_S * SECOND_NS;
    return true;
}

/* ---- Receivers ------------------------------------------------------------------------------- */

struct talk {
    struct host *host;
    struct sim_peer_conn *conn;
    struct io_timer timer; /* a late banner */
    unsigned source;       /* which of our addresses */
    bool is_begun;         /* a transaction: MAIL was taken */
    bool in_data;
    uint32_t rcpt_count;
    uint32_t rcpts[RCPTS_MAX];
};

static void hang_up(struct talk *talk)
{
    io_timer_stop(sim_peer_io(talk->host->peer), &talk->timer);
    sim_peer_set_data(talk->conn, NULL);
    mem_free(talk);
}

static void greet(struct talk *talk)
{
    sim_peer_printf(talk->conn, "220 receiver.test ESMTP\r\n");
}

static void on_banner_time(struct io_timer *timer)
{
    greet(container_of(timer, struct talk, timer));
}

static void on_open(struct sim_peer_conn *conn)
{
    struct host *host = sim_peer_context(sim_peer_of(conn));
    struct talk *talk = sim_peer_alloc(sim_peer_of(conn), sizeof(*talk));
    struct ipaddr_port peer = {0};

    io_peer_address(sim_peer_io(host->peer), sim_peer_fd(conn), &peer);
    talk->host = host;
    talk->conn = conn;
    talk->source = peer.ip.bytes[3] - 1u;
    io_timer_init(&talk->timer, on_banner_time);
    sim_peer_set_data(conn, talk);
    if (host->kind == CAMPAIGN_LATE)
        io_timer_arm(sim_peer_io(host->peer), &talk->timer,
                     sim_now_ns(host->campaign->world) + LATE_BANNER_S * SECOND_NS);
    else
        greet(talk);
}

/* Seen for the first time, too soon, or from another of our addresses. */
static bool is_grey(const struct talk *talk, struct campaign_rcpt *facts)
{
    uint32_t now_s = (uint32_t)(sim_now_ns(talk->host->campaign->world) / SECOND_NS);

    if (talk->host->kind != CAMPAIGN_GREY)
        return false;
    if (facts->seen_s == 0 || facts->seen_source != talk->source) {
        facts->seen_s = now_s;
        facts->seen_source = (uint8_t)talk->source;
    }
    return now_s < facts->seen_s + GREY_S;
}

static void on_mail(struct talk *talk)
{
    struct campaign_throttle *throttle =
        throttle_of(talk->host->campaign, talk->host->kind, talk->source);

    talk->rcpt_count = 0;
    talk->is_begun = false;
    if (throttle && is_stopped(talk->host->campaign, throttle)) {
        sim_peer_printf(talk->conn, talk->host->kind == CAMPAIGN_YAHOO
                                        ? "421 4.7.0 [TSS04] Messages from this address "
                                          "temporarily deferred\r\n"
                                        : "421 4.7.28 Gmail has detected an unusual rate of mail "
                                          "originating from your IP address\r\n");
        return;
    }
    talk->is_begun = true;
    sim_peer_printf(talk->conn, "250 2.1.0 ok\r\n");
}

static void on_rcpt(struct talk *talk, const char *line)
{
    struct campaign_world *campaign = talk->host->campaign;
    const char *at = strchr(line, '<');
    uint32_t rcpt = at ? (uint32_t)strtoul(at + 2, NULL, 10) : UINT32_MAX;

    must(rcpt < campaign->setup.rcpt_room && talk->rcpt_count < RCPTS_MAX);
    if (!talk->is_begun) {
        sim_peer_printf(talk->conn, "503 5.5.1 MAIL first\r\n");
    } else if (at[1] == 'x') {
        note_unknown(campaign, rcpt);
        sim_peer_printf(talk->conn, "550 5.1.1 no such user\r\n");
    } else if (is_grey(talk, campaign_rcpt(campaign, rcpt))) {
        sim_peer_printf(talk->conn, "451 4.7.1 greylisted, please try again in 5 minutes\r\n");
    } else {
        talk->rcpts[talk->rcpt_count++] = rcpt;
        sim_peer_printf(talk->conn, "250 2.1.5 ok\r\n");
    }
}

static void on_dot(struct talk *talk)
{
    struct campaign_throttle *throttle =
        throttle_of(talk->host->campaign, talk->host->kind, talk->source);

    talk->in_data = false;
    if (throttle)
        throttle->count += talk->rcpt_count;
    for (uint32_t i = 0; i < talk->rcpt_count; i++)
        note_delivered(talk->host->campaign, talk->rcpts[i]);
    talk->rcpt_count = 0;
    sim_peer_printf(talk->conn, "250 2.0.0 queued\r\n");
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct talk *talk = sim_peer_data(conn);
    char text[128];

    if (talk->in_data) {
        if (slice_equal(line, SLICE_LITERAL(".")))
            on_dot(talk);
        return;
    }
    snprintf(text, sizeof(text), "%.*s", (int)line.len, (const char *)line.data);
    if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        sim_peer_printf(conn, "250-receiver.test\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("MAIL"))) {
        on_mail(talk);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT"))) {
        on_rcpt(talk, text);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("DATA"))) {
        talk->in_data = talk->rcpt_count > 0;
        sim_peer_printf(conn, talk->in_data ? "354 go on\r\n" : "503 5.5.1 no recipients\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        hang_up(talk);
        sim_peer_close(conn);
    } else {
        sim_peer_printf(conn, "250 2.0.0 ok\r\n");
    }
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    if (sim_peer_data(conn))
        hang_up(sim_peer_data(conn));
}

static const struct sim_peer_handlers receiver_handlers = {on_open, on_line, NULL, on_end};

/* ---- DNS ------------------------------------------------------------------------------------- */

static struct ipaddr address_of(enum campaign_kind kind, uint32_t host)
{
    return (struct ipaddr){IPADDR_V4, {10, places[kind].network, (uint8_t)host, 1}};
}

static void put_mx(struct dns_query *query, enum campaign_kind kind, uint32_t domain)
{
    uint8_t rdata[2 + 64] = {0, 10};
    const bool is_own = kind == CAMPAIGN_M365;
    int len;

    if (strchr(places[kind].mx, '%')) {
        char format[64];

        snprintf(format, sizeof(format), "%s", places[kind].mx);
        len = snprintf((char *)rdata + 2, sizeof(rdata) - 2, "%.*s%u%s",
                       (int)(strchr(format, '%') - format), format,
                       is_own ? domain : domain % places[kind].hosts, strchr(format, '%') + 2);
    } else {
        len = snprintf((char *)rdata + 2, sizeof(rdata) - 2, "%s", places[kind].mx);
    }
    dns_answer_put(query, slice_of(rdata, 2 + (size_t)len));
    query->status = DNS_OK;
}

/* The number in a host's name, and whether the name is one of the kind's. */
static bool is_host_of(const char *name, enum campaign_kind kind, uint32_t *ret_number)
{
    const char *mark = strchr(places[kind].mx, '%');
    size_t before = mark ? (size_t)(mark - places[kind].mx) : 0;
    char *end;

    *ret_number = 0;
    if (!mark)
        return places[kind].hosts > 0 && strcmp(name, places[kind].mx) == 0;
    if (strncmp(name, places[kind].mx, before) != 0)
        return false;
    *ret_number = (uint32_t)strtoul(name + before, &end, 10);
    return end > name + before && strcmp(end, mark + 2) == 0;
}

int campaign_on_question(void *context, struct dns_query *query)
{
    uint32_t number;
    char text[64];

    (void)context;
    query->status = DNS_NO_DATA;
    query->ttl_s = 3600;
    for (uint32_t kind = 0; kind < CAMPAIGN_KIND_COUNT; kind++) {
        if (query->type == DNS_A && is_host_of(query->name, kind, &number)) {
            struct ipaddr ip = address_of(kind, number % places[kind].hosts);

            dns_answer_put(query, slice_of(ip.bytes, 4));
            query->status = DNS_OK;
        }
        if (sscanf(query->name, "d%u.%63s", &number, text) != 2 ||
            strncmp(text, kinds[kind].text, strlen(kinds[kind].text)) != 0 ||
            strcmp(text + strlen(kinds[kind].text), ".test") != 0)
            continue;
        if (kind == CAMPAIGN_NXDOMAIN)
            query->status = DNS_NO_NAME;
        else if (query->type == DNS_MX)
            put_mx(query, kind, number);
    }
    return NAMES_ANSWERED;
}

/* ---- The world ------------------------------------------------------------------------------- */

static void add_host(struct campaign_world *campaign, enum campaign_kind kind, uint32_t number)
{
    const struct ipaddr_port at = {address_of(kind, number), 25};
    struct cidr block = {.ip = at.ip, .prefix_bits = 32};
    struct host *host = &campaign->hosts[campaign->host_count++];

    must(campaign->host_count <= HOSTS_MAX);
    *host = (struct host){.campaign = campaign, .kind = kind};
    if (kind == CAMPAIGN_DEAD)
        sim_route(campaign->world, &block, SIM_ROUTE_DROP);
    else
        host->peer = sim_peer_listen(campaign->world, &at, &receiver_handlers, host);
}

struct campaign_world *campaign_world_create(struct sim_world *world,
                                             const struct campaign_setup *setup)
{
    struct campaign_world *campaign = calloc(1, sizeof(*campaign));

    must(campaign);
    campaign->world = world;
    campaign->setup = *setup;
    campaign->rcpts = calloc(setup->rcpt_room, sizeof(*campaign->rcpts));
    must(campaign->rcpts);
    for (uint32_t kind = 0; kind < CAMPAIGN_KIND_COUNT; kind++)
        for (uint32_t i = 0; i < places[kind].hosts; i++)
            add_host(campaign, kind, i);
    return campaign;
}

void campaign_world_destroy(struct campaign_world *campaign)
{
    free(campaign->rcpts);
    free(campaign);
}
