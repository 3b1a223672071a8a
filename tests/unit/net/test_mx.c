/*
 * From a domain or a route to targets: a table of zones with what must come out (A27, A30, A31),
 * and the order of equals. Played in the simulator against a scripted resolver.
 */
#include "net/mx.h"
#include "tests/unit/net/fake_dns.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 8192

struct row {
    const char *name;
    struct fake_record zone[24];
    struct conf_route_host route[4];
    uint32_t route_count;
    /* Rules that differ from the usual ones. */
    bool no_ipv4;
    bool no_ipv6;
    bool prefer_ipv6;
    bool allow_loopback;
    bool forbid_private;
    /* "place host address:port", sorted within a place; or the verdict. */
    const char *targets;
    enum verdict_class class;
    uint16_t code;
    uint8_t enhanced[3];
    uint32_t valid_s; /* 0 = any */
};

#define MX(host, data)                                                                             \
    {                                                                                              \
        host, DNS_MX, data, 0, 0                                                                   \
    }
#define A(host, data)                                                                              \
    {                                                                                              \
        host, DNS_A, data, 0, 0                                                                    \
    }
#define AAAA(host, data)                                                                           \
    {                                                                                              \
        host, DNS_AAAA, data, 0, 0                                                                 \
    }
#define FAILS(host, type)                                                                          \
    {                                                                                              \
        host, type, NULL, DNS_FAILURE, 0                                                           \
    }
#define TIMES_OUT(host, type)                                                                      \
    {                                                                                              \
        host, type, NULL, DNS_TIMEOUT, 0                                                           \
    }
/* Left as they are: the formatter would join each into one line of more than 100 columns. */
/* clang-format off */
#define FOUND(text)                                                                                \
    .targets = text, .class = VERDICT_SUCCESS, .code = 250, .enhanced = {2, 0, 0}
#define NEVER(basic, a, b, c)                                                                      \
    .class = VERDICT_PERMANENT, .code = basic, .enhanced = {a, b, c}
#define LATER                                                                                      \
    .class = VERDICT_TRANSIENT, .code = 451, .enhanced = {4, 4, 3}, .valid_s = 30
/* clang-format on */

static const struct row rows[] = {
    {
        .name = "by preference",
        .zone = {MX("d.example", "20 b.d.example"), MX("d.example", "10 a.d.example"),
                 A("a.d.example", "192.0.2.1"), A("b.d.example", "192.0.2.2")},
        FOUND("0 a.d.example 192.0.2.1:25\n1 b.d.example 192.0.2.2:25\n"),
        .valid_s = 300,
    },
    {
        .name = "all addresses of a host, IPv4 first",
        .zone = {MX("d.example", "10 a.d.example"), A("a.d.example", "192.0.2.1"),
                 A("a.d.example", "192.0.2.2"), AAAA("a.d.example", "2001:db8:1::1")},
        FOUND("0 a.d.example 192.0.2.1:25\n0 a.d.example 192.0.2.2:25\n"
              "0 a.d.example 2001:db8:1::1:25\n"),
    },
    {
        .name = "an IPv6 address twice, over hosts and within one, is tried once",
        .zone = {MX("d.example", "10 a.d.example"), MX("d.example", "20 b.d.example"),
                 AAAA("a.d.example", "2001:db8::1"), AAAA("a.d.example", "2001:db8::2"),
                 AAAA("a.d.example", "2001:db8::1"), AAAA("b.d.example", "2001:db8::2"),
                 AAAA("b.d.example", "2001:db8::3"), A("b.d.example", "192.0.2.1")},
        FOUND("0 a.d.example 2001:db8::1:25\n0 a.d.example 2001:db8::2:25\n"
              "1 b.d.example 192.0.2.1:25\n1 b.d.example 2001:db8::3:25\n"),
    },
    {
        .name = "only the families that have a source",
        .zone = {MX("d.example", "10 a.d.example"), A("a.d.example", "192.0.2.1"),
                 AAAA("a.d.example", "2001:db8:1::1")},
        .no_ipv4 = true,
        FOUND("0 a.d.example 2001:db8:1::1:25\n"),
    },
    {
        .name = "no MX: the domain itself (RFC 5321 5.1)",
        .zone = {A("d.example", "192.0.2.1")},
        FOUND("0 d.example 192.0.2.1:25\n"),
    },
    {
        .name = "NXDOMAIN: nothing is looked up any more",
        .zone = {{NULL}},
        NEVER(550, 5, 1, 2),
        .valid_s = 300,
    },
    {
        .name = "no MX and no address",
        .zone = {{"d.example", DNS_A, NULL, DNS_NO_DATA, 0}},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a31 null MX: final, without a look at the address (RFC 7505)",
        .zone = {MX("d.example", "0 ."), A("d.example", "192.0.2.1")},
        NEVER(556, 5, 1, 10),
    },
    {
        .name = "a31 a root beside other hosts means nothing",
        .zone = {MX("d.example", "0 ."), MX("d.example", "10 a.d.example"),
                 A("a.d.example", "192.0.2.1")},
        FOUND("0 a.d.example 192.0.2.1:25\n"),
    },
    {
        .name = "a31 nor when the others are of no use",
        .zone = {MX("d.example", "0 ."), MX("d.example", "10 gone.example")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a29 SERVFAIL for MX is temporary",
        .zone = {FAILS("d.example", DNS_MX), A("d.example", "192.0.2.1")},
        LATER,
    },
    {
        .name = "a29 a timeout for MX is temporary",
        .zone = {TIMES_OUT("d.example", DNS_MX), A("d.example", "192.0.2.1")},
        LATER,
    },
    {
        .name = "a29 SERVFAIL for every host is temporary",
        .zone = {MX("d.example", "10 a.d.example"), FAILS("a.d.example", DNS_A)},
        .no_ipv6 = true,
        LATER,
    },
    {
        .name = "a29 SERVFAIL for one host: the others serve, and it is tried again soon",
        .zone = {MX("d.example", "10 a.d.example"), MX("d.example", "20 b.d.example"),
                 FAILS("a.d.example", DNS_A), A("b.d.example", "192.0.2.2")},
        .no_ipv6 = true,
        FOUND("1 b.d.example 192.0.2.2:25\n"),
        .valid_s = 30,
    },
    {
        .name = "hosts that do not exist, or have no address, are passed over",
        .zone = {MX("d.example", "10 gone.example"),
                 MX("d.example", "20 bare.example"),
                 MX("d.example", "30 b.d.example"),
                 {"bare.example", 16, "", 0, 0},
                 A("b.d.example", "192.0.2.2")},
        FOUND("2 b.d.example 192.0.2.2:25\n"),
    },
    {
        .name = "no MX host exists: no falling back to the domain's address",
        .zone = {MX("d.example", "10 gone.example"), A("d.example", "192.0.2.1")},
        NEVER(550, 5, 4, 4),
    },
    /* A27: where DNS must not send us. */
    {
        .name = "a27 loopback",
        .zone = {MX("d.example", "10 a.d.example"), A("a.d.example", "127.0.0.1")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a27 all of 127/8",
        .zone = {MX("d.example", "10 a.d.example"), A("a.d.example", "127.99.0.1")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a27 ::1",
        .zone = {MX("d.example", "10 a.d.example"), AAAA("a.d.example", "::1")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a27 0.0.0.0",
        .zone = {A("d.example", "0.0.0.0")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a27 ::",
        .zone = {AAAA("d.example", "::")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a27 multicast and broadcast",
        .zone = {A("d.example", "224.0.0.1"), A("d.example", "255.255.255.255"),
                 AAAA("d.example", "ff02::1")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a27 one of our own addresses",
        .zone = {MX("d.example", "10 a.d.example"), A("a.d.example", "203.0.113.7")},
        NEVER(554, 5, 4, 6),
    },
    {
        .name = "a27 the good addresses of a mixed host stay",
        .zone = {MX("d.example", "10 a.d.example"), A("a.d.example", "127.0.0.1"),
                 A("a.d.example", "192.0.2.1"), A("a.d.example", "0.0.0.0")},
        FOUND("0 a.d.example 192.0.2.1:25\n"),
    },
    {
        .name = "a27 private addresses are allowed by default",
        .zone = {A("d.example", "10.1.2.3"), AAAA("d.example", "fd00::1")},
        FOUND("0 d.example 10.1.2.3:25\n0 d.example fd00::1:25\n"),
    },
    {
        .name = "a27 private addresses refused by setting",
        .zone = {A("d.example", "10.1.2.3"), A("d.example", "100.64.0.1"),
                 A("d.example", "169.254.1.1"), AAAA("d.example", "fe80::1"),
                 AAAA("d.example", "fd00::1")},
        .forbid_private = true,
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a27 loopback allowed by setting",
        .zone = {A("d.example", "127.0.0.1")},
        .allow_loopback = true,
        FOUND("0 d.example 127.0.0.1:25\n"),
    },
    /* A30: we ourselves in the list. */
    {
        .name = "a30 our name drops itself, equals and worse",
        .zone = {MX("d.example", "10 a.d.example"), MX("d.example", "20 our.example"),
                 MX("d.example", "20 equal.example"), MX("d.example", "30 worse.example"),
                 A("a.d.example", "192.0.2.1"), A("our.example", "192.0.2.9"),
                 A("equal.example", "192.0.2.2"), A("worse.example", "192.0.2.3")},
        FOUND("0 a.d.example 192.0.2.1:25\n"),
    },
    {
        .name = "a30 our address drops its host, equals and worse",
        .zone = {MX("d.example", "10 a.d.example"), MX("d.example", "20 other.example"),
                 MX("d.example", "20 equal.example"), MX("d.example", "30 worse.example"),
                 A("a.d.example", "192.0.2.1"), A("other.example", "203.0.113.7"),
                 A("other.example", "192.0.2.4"), A("equal.example", "192.0.2.2"),
                 A("worse.example", "192.0.2.3")},
        FOUND("0 a.d.example 192.0.2.1:25\n"),
    },
    {
        .name = "a30 we are the best: the mail would come back",
        .zone = {MX("d.example", "10 our.example"), MX("d.example", "20 worse.example"),
                 A("our.example", "203.0.113.7"), A("worse.example", "192.0.2.3")},
        NEVER(554, 5, 4, 6),
    },
    {
        .name = "a30 the domain itself is ours",
        .zone = {A("d.example", "203.0.113.7")},
        NEVER(554, 5, 4, 6),
    },
    /* Routes. */
    {
        .name = "a route of addresses needs no DNS, and loopback is the operator's business",
        .zone = {{NULL}},
        .route = {{.kind = CONF_ROUTE_ADDRESS, .ip = {IPADDR_V4, {127, 0, 0, 1}}, .port = 2525},
                  {.kind = CONF_ROUTE_ADDRESS,
                   .ip = {IPADDR_V4, {203, 0, 113, 7}},
                   .preference = 1}},
        .route_count = 2,
        FOUND("0 127.0.0.1 127.0.0.1:2525\n1 203.0.113.7 203.0.113.7:25\n"),
        .valid_s = 3600,
    },
    {
        .name = "a route of host names, groups by position",
        .zone = {A("a.example", "192.0.2.1"), A("b.example", "192.0.2.2"),
                 A("c.example", "192.0.2.3")},
        .route = {{.kind = CONF_ROUTE_HOST, .name = "C.example", .preference = 1},
                  {.kind = CONF_ROUTE_HOST, .name = "a.example"},
                  {.kind = CONF_ROUTE_HOST, .name = "b.example", .port = 587}},
        .route_count = 3,
        FOUND("0 a.example 192.0.2.1:25\n0 b.example 192.0.2.2:587\n1 c.example 192.0.2.3:25\n"),
    },
    {
        .name = "a route by another domain's MX, then an address",
        .zone = {MX("other.example", "10 a.example"), MX("other.example", "20 b.example"),
                 A("a.example", "192.0.2.1"), A("b.example", "192.0.2.2")},
        .route = {{.kind = CONF_ROUTE_LOOKUP_MX, .name = "other.example"},
                  {.kind = CONF_ROUTE_ADDRESS, .ip = {IPADDR_V4, {192, 0, 2, 3}}, .preference = 1}},
        .route_count = 2,
        FOUND("0 a.example 192.0.2.1:25\n1 b.example 192.0.2.2:25\n2 192.0.2.3 192.0.2.3:25\n"),
    },
    {
        .name = "a route whose first part does not exist goes on with the next",
        .zone = {A("b.example", "192.0.2.2")},
        .route = {{.kind = CONF_ROUTE_LOOKUP_MX, .name = "gone.example"},
                  {.kind = CONF_ROUTE_HOST, .name = "b.example", .preference = 1}},
        .route_count = 2,
        FOUND("0 b.example 192.0.2.2:25\n"),
    },
    {
        .name = "a27 host names of a route are judged like any other",
        .zone = {A("a.example", "127.0.0.1")},
        .route = {{.kind = CONF_ROUTE_HOST, .name = "a.example"}},
        .route_count = 1,
        NEVER(550, 5, 4, 4),
    },
    /* Odd zones. */
    {
        .name = "a host twice counts at its better place",
        .zone = {MX("d.example", "30 a.example"), MX("d.example", "20 b.example"),
                 MX("d.example", "10 a.example"), A("a.example", "192.0.2.1"),
                 A("b.example", "192.0.2.2")},
        FOUND("0 a.example 192.0.2.1:25\n1 b.example 192.0.2.2:25\n"),
    },
    {
        .name = "an address twice is tried once",
        .zone = {MX("d.example", "10 a.example"), MX("d.example", "20 b.example"),
                 A("a.example", "192.0.2.1"), A("b.example", "192.0.2.1"),
                 A("b.example", "192.0.2.2")},
        FOUND("0 a.example 192.0.2.1:25\n1 b.example 192.0.2.2:25\n"),
    },
    {
        .name = "an address where a name should be",
        .zone = {MX("d.example", "10 192.0.2.1")},
        NEVER(550, 5, 4, 4),
    },
    {
        .name = "a short time to live is stretched, the smallest counts",
        .zone = {{"d.example", DNS_MX, "10 a.example", 0, 1000},
                 {"a.example", DNS_A, "192.0.2.1", 0, 5}},
        .no_ipv6 = true,
        FOUND("0 a.example 192.0.2.1:25\n"),
        .valid_s = 30,
    },
};

/* ---- One resolution ------------------------------------------------------------------------ */

#define STS "_mta-sts.d.example"

struct scene_mx {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct fake_dns fake;
    struct dns *dns;
    struct mx_resolution *resolution;
    struct mx_rules rules;
    struct ipaddr own;
    struct mx_answer answer;
    unsigned done_count;
    uint64_t done_ns;
};

static void on_done(void *context, const struct mx_answer *answer)
{
    struct scene_mx *scene = context;

    scene->done_count++;
    scene->answer = *answer;
    scene->done_ns = io_now_ns(scene->io);
}

static bool is_done(void *context)
{
    const struct scene_mx *scene = context;

    return scene->done_count > 0;
}

static void start(struct scene_mx *scene, const struct fake_record *zone, uint64_t seed)
{
    memset(scene, 0, sizeof(*scene));
    scene->world = sim_world_create(seed, NULL);
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
    fake_dns_init(&scene->fake, scene->world, scene->process, scene->io, zone);
    sim_enter(scene->process);
    scene->dns = dns_create(scene->io, scene->fake.questions, scene->fake.answers, 0, 256, 16);
    scene->resolution = mx_resolution_create(scene->dns, scene->io);
    sim_leave(scene->process);
    assert_int_equal(ipaddr_parse(slice_str("203.0.113.7"), &scene->own), 0);
    scene->rules = (struct mx_rules){
        .want_ipv4 = true,
        .want_ipv6 = true,
        .allow_private = true,
        .port = 25,
        .own_addresses = &scene->own,
        .own_address_count = 1,
        .own_host_name = "Our.Example",
    };
}

static void resolve(struct scene_mx *scene, const char *domain, const struct conf_route_host *route,
                    uint32_t route_count)
{
    scene->done_count = 0;
    sim_enter(scene->process);
    mx_resolve(scene->resolution, slice_str(domain), route, route_count, &scene->rules, on_done,
               scene);
    assert_int_equal(scene->done_count, 0);
    sim_leave(scene->process);
    sim_run_until(scene->world, is_done, scene, 3600000000000ull, 100000);
    assert_int_equal(scene->done_count, 1);
}

static void stop(struct scene_mx *scene)
{
    sim_enter(scene->process);
    mx_resolution_destroy(scene->resolution);
    dns_destroy(scene->dns);
    fake_dns_fini(&scene->fake);
    sim_leave(scene->process);
    sim_world_destroy(scene->world);
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The targets as lines, sorted; places must not go down. */
static void text_of(const struct mx_answer *answer, char *room)
{
    static char lines[MX_TARGET_COUNT_MAX][400];
    size_t used = 0;

    for (uint32_t i = 0; i < answer->target_count; i++) {
        const struct mx_target *target = &answer->targets[i];
        char ip[IPADDR_TEXT_MAX];

        assert_true(i == 0 || target->preference >= target[-1].preference);
        assert_true(target->host < answer->host_count);
        ipaddr_format(&target->at.ip, ip);
        snprintf(lines[i], sizeof(lines[i]), "%u %s %s:%u\n", target->preference,
                 answer->host_names[target->host], ip, target->at.port);
    }
    qsort(lines, answer->target_count, sizeof(lines[0]), compare_lines);
    room[0] = '\0';
    for (uint32_t i = 0; i < answer->target_count; i++)
        used += (size_t)snprintf(room + used, TEXT_MAX - used, "%s", lines[i]);
}

static void check_row(const struct row *row, uint64_t seed)
{
    static struct scene_mx scene;
    static char text[TEXT_MAX];
    const struct verdict *verdict = &scene.answer.verdict;
    uint64_t valid_ns;

    start(&scene, row->zone, seed);
    scene.rules.want_ipv4 = !row->no_ipv4;
    scene.rules.want_ipv6 = !row->no_ipv6;
    scene.rules.prefer_ipv6 = row->prefer_ipv6;
    scene.rules.allow_loopback = row->allow_loopback;
    scene.rules.allow_private = !row->forbid_private;
    resolve(&scene, "D.example", row->route_count > 0 ? row->route : NULL, row->route_count);
    text_of(&scene.answer, text);
    if (verdict->class != row->class || verdict->code != row->code ||
        strcmp(text, row->targets != NULL ? row->targets : "") != 0)
        print_error("%s: %.*s\n%s", row->name, verdict->text_bytes, verdict->text, text);
    assert_string_equal(text, row->targets != NULL ? row->targets : "");
    assert_int_equal(verdict->class, row->class);
    assert_int_equal(verdict->code, row->code);
    assert_memory_equal(verdict->enhanced, row->enhanced, 3);
    assert_int_equal(verdict->scope, VERDICT_DOMAIN);
    assert_int_equal(verdict->stage, VERDICT_AT_DNS);
    assert_int_equal(verdict->flags, 0);
    valid_ns = scene.answer.valid_until_ns - scene.done_ns;
    assert_true(valid_ns >= 30ull * 1000000000 && valid_ns <= 3600ull * 1000000000);
    if (row->valid_s != 0)
        assert_in_range(valid_ns / 1000000000, row->valid_s - 1, row->valid_s);
    stop(&scene);
}

static void zones_and_what_comes_out(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (uint64_t seed = 1; seed <= 8; seed++)
            check_row(&rows[i], seed);
    }
}

/* ---- Order --------------------------------------------------------------------------------- */

static void equals_are_shuffled(void **state)
{
    static const struct fake_record zone[] = {
        MX("d.example", "10 a.example"), MX("d.example", "10 b.example"),
        MX("d.example", "10 c.example"), A("a.example", "192.0.2.1"),
        A("a.example", "192.0.2.4"),     A("b.example", "192.0.2.2"),
        A("c.example", "192.0.2.3"),     {NULL, 0, NULL, 0, 0},
    };
    unsigned first_hosts[3] = {0};
    unsigned first_addresses[2] = {0};

    for (uint64_t seed = 1; seed <= 300; seed++) {
        static struct scene_mx scene;

        start(&scene, zone, seed);
        resolve(&scene, "d.example", NULL, 0);
        assert_int_equal(scene.answer.target_count, 4);
        first_hosts[scene.answer.host_names[0][0] - 'a']++;
        for (unsigned i = 0; i < 4; i++) {
            const struct mx_target *target = &scene.answer.targets[i];
            unsigned last = target->at.ip.bytes[3];

            /* The addresses of a host stay together. */
            if (last == 1 || last == 4) {
                first_addresses[last == 4]++;
                assert_int_equal(target[1].host, target->host);
                break;
            }
        }
        stop(&scene);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(first_hosts[i], 60, 140);
    assert_in_range(first_addresses[0], 100, 200);
}

static void the_preferred_family_comes_first_within_a_host(void **state)
{
    static const struct fake_record zone[] = {
        A("d.example", "192.0.2.1"),
        A("d.example", "192.0.2.2"),
        AAAA("d.example", "2001:db8:1::1"),
        AAAA("d.example", "2001:db8:1::2"),
        {NULL, 0, NULL, 0, 0},
    };

    for (unsigned prefer_ipv6 = 0; prefer_ipv6 < 2; prefer_ipv6++) {
        static struct scene_mx scene;

        start(&scene, zone, 5 + prefer_ipv6);
        scene.rules.prefer_ipv6 = prefer_ipv6;
        resolve(&scene, "d.example", NULL, 0);
        assert_int_equal(scene.answer.target_count, 4);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(scene.answer.targets[i].at.ip.family == IPADDR_V6,
                             (i < 2) == prefer_ipv6);
        stop(&scene);
    }
}

/* ---- Bounds (A28) -------------------------------------------------------------------------- */

static void a28_many_hosts_and_addresses_are_cut(void **state)
{
    static struct fake_record zone[DNS_RECORD_COUNT_MAX * 2 + 1];
    static char texts[DNS_RECORD_COUNT_MAX * 2][32];
    static struct scene_mx scene;
    unsigned count = 0;

    for (unsigned i = 0; i < 60; i++) {
        snprintf(texts[count], sizeof(texts[0]), "%u h%u.example", 60 - i / 2, i);
        zone[count] = (struct fake_record){"d.example", DNS_MX, texts[count], 0, 0};
        count++;
    }
    /* The best two, which come last, have all the addresses. */
    for (unsigned i = 0; i < 60; i++) {
        snprintf(texts[count], sizeof(texts[0]), "192.0.%u.%u", i % 2, i + 1);
        zone[count] = (struct fake_record){i % 2 == 0 ? "h58.example" : "h59.example", DNS_A,
                                           texts[count], 0, 0};
        count++;
    }
    start(&scene, zone, 1);
    scene.rules.want_ipv6 = false;
    resolve(&scene, "d.example", NULL, 0);
    assert_int_equal(scene.answer.host_count, 2);
    assert_int_equal(scene.answer.target_count, 32);
    /* One question for MX, one for each host that was kept. */
    assert_int_equal(scene.fake.asked_count, 1 + MX_HOST_COUNT_MAX);
    stop(&scene);
}

/* A host that is named over and over takes the place of no other. */
static void a28_one_host_many_times(void **state)
{
    static struct fake_record zone[MX_HOST_COUNT_MAX * 2 + 4];
    static char texts[MX_HOST_COUNT_MAX * 2][32];
    static struct scene_mx scene;
    unsigned count = 0;

    for (; count < MX_HOST_COUNT_MAX * 2; count++) {
        snprintf(texts[count], sizeof(texts[0]), "%u a.example", count);
        zone[count] = (struct fake_record){"d.example", DNS_MX, texts[count], 0, 0};
    }
    zone[count++] = (struct fake_record)MX("d.example", "1000 b.example");
    zone[count++] = (struct fake_record)A("a.example", "192.0.2.1");
    zone[count++] = (struct fake_record)A("b.example", "192.0.2.2");
    start(&scene, zone, 1);
    resolve(&scene, "d.example", NULL, 0);
    assert_int_equal(scene.answer.host_count, 2);
    assert_int_equal(scene.answer.target_count, 2);
    stop(&scene);
}

/* ---- Sites --------------------------------------------------------------------------------- */

static uint64_t set_hash_of(const struct fake_record *zone, const char *domain,
                            const struct conf_route_host *route, uint32_t route_count,
                            uint64_t seed)
{
    static struct scene_mx scene;
    uint64_t hash;

    start(&scene, zone, seed);
    resolve(&scene, domain, route, route_count);
    hash = scene.answer.set_hash;
    stop(&scene);
    return hash;
}

static void domains_with_the_same_hosts_are_one_site(void **state)
{
    static const struct fake_record zone[] = {
        MX("one.example", "10 a.example"),
        MX("one.example", "20 b.example"),
        MX("two.example", "5 b.example"),
        MX("two.example", "5 a.example"),
        MX("two.example", "7 a.example"),
        MX("three.example", "10 a.example"),
        A("a.example", "192.0.2.1"),
        A("b.example", "192.0.2.2"),
        {NULL, 0, NULL, 0, 0},
    };
    static const struct conf_route_host route[] = {{.kind = CONF_ROUTE_HOST, .name = "A.example"}};
    static const struct conf_route_host other_route[] = {
        {.kind = CONF_ROUTE_HOST, .name = "a.example", .port = 26}};
    uint64_t one = set_hash_of(zone, "one.example", NULL, 0, 1);

    assert_true(set_hash_of(zone, "two.example", NULL, 0, 2) == one);
    assert_true(set_hash_of(zone, "three.example", NULL, 0, 3) != one);
    /* A route is a site of its own, whatever the domain. */
    assert_true(set_hash_of(zone, "one.example", route, 1, 4) ==
                set_hash_of(zone, "gone.example", route, 1, 5));
    assert_true(set_hash_of(zone, "one.example", route, 1, 6) !=
                set_hash_of(zone, "one.example", other_route, 1, 7));
}

/* Found within seconds: the hashes of the four names, as anybody can make them, have the sum that
 * the one name has. Who could choose hosts like these would be handed the bank's mail. */
static void nobody_chooses_hosts_with_the_hash_of_others(void **state)
{
    static const struct fake_record zone[] = {
        MX("bank.example", "10 mx.bank.example"),
        MX("thief.example", "10 a17cff7.thief.example"),
        MX("thief.example", "10 b1d069b.thief.example"),
        MX("thief.example", "10 c268271.thief.example"),
        MX("thief.example", "10 d2dda1b.thief.example"),
        A("mx.bank.example", "192.0.2.1"),
        A("a17cff7.thief.example", "192.0.2.2"),
        {NULL, 0, NULL, 0, 0},
    };
    static struct scene_mx scene;
    uint64_t places[2], sets[2];

    for (unsigned i = 0; i < 2; i++) {
        start(&scene, zone, i);
        resolve(&scene, i == 0 ? "bank.example" : "thief.example", NULL, 0);
        places[i] = scene.answer.site_hash;
        sets[i] = scene.answer.set_hash;
        stop(&scene);
    }
    /* To be of one shard is no harm. */
    assert_true(places[0] == places[1]);
    assert_true(sets[0] != sets[1]);
}

static void the_key_is_in_the_name_of_a_site(void **state)
{
    static const struct fake_record zone[] = {
        MX("d.example", "10 a.example"), A("a.example", "192.0.2.1"), {NULL, 0, NULL, 0, 0}};
    static struct scene_mx scene;
    uint64_t sets[2];

    for (uint8_t i = 0; i < 2; i++) {
        start(&scene, zone, 1);
        scene.rules.site_key[SIPHASH_KEY_BYTES - 1] = i;
        resolve(&scene, "d.example", NULL, 0);
        sets[i] = scene.answer.set_hash;
        stop(&scene);
    }
    assert_true(sets[0] != sets[1]);
}

/* Who has no source for IPv6 does not share the site of one who has: its addresses are others. */
static void families_make_sites_of_their_own(void **state)
{
    static const struct fake_record zone[] = {
        MX("d.example", "10 a.example"),
        A("a.example", "192.0.2.1"),
        AAAA("a.example", "2001:db8:1::1"),
        {NULL, 0, NULL, 0, 0},
    };
    static const struct conf_route_host route[] = {{.kind = CONF_ROUTE_HOST, .name = "a.example"}};
    static struct scene_mx scene;
    uint64_t hashes[2][3];

    for (unsigned routed = 0; routed < 2; routed++) {
        for (unsigned families = 1; families <= 3; families++) {
            start(&scene, zone, families);
            scene.rules.want_ipv4 = (families & 1) != 0;
            scene.rules.want_ipv6 = (families & 2) != 0;
            resolve(&scene, "d.example", route, routed);
            hashes[routed][families - 1] = scene.answer.set_hash;
            stop(&scene);
        }
        assert_true(hashes[routed][0] != hashes[routed][1]);
        assert_true(hashes[routed][1] != hashes[routed][2]);
        assert_true(hashes[routed][0] != hashes[routed][2]);
    }
}

/* ---- The record of MTA-STS ------------------------------------------------------------------- */

static void the_record_of_a_policy_comes_along(void **state)
{
    static const struct {
        struct fake_record record;
        bool is_asked;
        enum sts_record wanted;
        const char *id;
        unsigned valid_s;
    } cases[] = {
        {{STS, DNS_TXT, "v=STSv1; id=a1;", 0, 120}, true, STS_RECORD_FOUND, "a1", 120},
        {{STS, DNS_TXT, "v=STSv1; id=a1;", 0, 1}, true, STS_RECORD_FOUND, "a1", 60},
        {{STS, DNS_TXT, "v=spf1 -all", 0, 0}, true, STS_RECORD_NONE, "", 300},
        {{STS, DNS_TXT, NULL, DNS_FAILURE, 0}, true, STS_RECORD_UNKNOWN, "", 60},
        {{"other.example", DNS_TXT, "v=STSv1; id=a1;", 0, 0}, true, STS_RECORD_NONE, "", 300},
        {{STS, DNS_TXT, "v=STSv1; id=a1;", 0, 120}, false, STS_RECORD_NONE, "", 300},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_record zone[] = {{"d.example", DNS_MX, "10 mx.example", 0, 0},
                                     A("mx.example", "192.0.2.1"),
                                     cases[i].record,
                                     {NULL, 0, NULL, 0, 0}};
        static struct scene_mx scene;
        uint64_t valid_ns;

        start(&scene, zone, 1);
        scene.rules.want_sts = cases[i].is_asked;
        resolve(&scene, "D.example", NULL, 0);
        assert_int_equal(scene.answer.verdict.class, VERDICT_SUCCESS);
        assert_int_equal(scene.answer.sts_record, cases[i].wanted);
        if (cases[i].wanted == STS_RECORD_FOUND)
            assert_string_equal(scene.answer.sts_id, cases[i].id);
        valid_ns = scene.answer.valid_until_ns - scene.done_ns;
        assert_in_range(valid_ns / 1000000000, cases[i].valid_s - 1, cases[i].valid_s);
        stop(&scene);
    }
}

/* ---- Again and again ----------------------------------------------------------------------- */

struct chain {
    struct scene_mx scene;
    unsigned left;
};

static void resolve_again(void *context, const struct mx_answer *answer)
{
    struct chain *chain = context;

    assert_int_equal(answer->verdict.class, VERDICT_SUCCESS);
    if (chain->left-- == 0) {
        on_done(&chain->scene, answer);
        return;
    }
    mx_resolve(chain->scene.resolution, slice_str("d.example"), NULL, 0, &chain->scene.rules,
               resolve_again, chain);
}

static void a_resolution_starts_again_from_inside(void **state)
{
    static const struct fake_record zone[] = {A("d.example", "192.0.2.1"), {NULL, 0, NULL, 0, 0}};
    static struct chain chain;

    start(&chain.scene, zone, 1);
    chain.left = 100;
    sim_enter(chain.scene.process);
    mx_resolve(chain.scene.resolution, slice_str("d.example"), NULL, 0, &chain.scene.rules,
               resolve_again, &chain);
    sim_leave(chain.scene.process);
    sim_run_until(chain.scene.world, is_done, &chain.scene, 60000000000ull, 100000);
    assert_int_equal(chain.scene.done_count, 1);
    assert_int_equal(chain.scene.fake.asked_count, 3);
    stop(&chain.scene);
}

static void destroyed_while_it_waits(void **state)
{
    static const struct fake_record zone[] = {A("d.example", "192.0.2.1"), {NULL, 0, NULL, 0, 0}};
    static struct scene_mx scene;

    start(&scene, zone, 1);
    scene.fake.delay_ns = 1000000000;
    sim_enter(scene.process);
    mx_resolve(scene.resolution, slice_str("d.example"), NULL, 0, &scene.rules, on_done, &scene);
    mx_resolution_destroy(scene.resolution);
    scene.resolution = NULL;
    sim_leave(scene.process);
    sim_run_for(scene.world, 10000000000ull);
    assert_int_equal(scene.done_count, 0);
    stop(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zones_and_what_comes_out),
        cmocka_unit_test(equals_are_shuffled),
        cmocka_unit_test(the_preferred_family_comes_first_within_a_host),
        cmocka_unit_test(a28_many_hosts_and_addresses_are_cut),
        cmocka_unit_test(a28_one_host_many_times),
        cmocka_unit_test(domains_with_the_same_hosts_are_one_site),
        cmocka_unit_test(nobody_chooses_hosts_with_the_hash_of_others),
        cmocka_unit_test(the_key_is_in_the_name_of_a_site),
        cmocka_unit_test(families_make_sites_of_their_own),
        cmocka_unit_test(the_record_of_a_policy_comes_along),
        cmocka_unit_test(a_resolution_starts_again_from_inside),
        cmocka_unit_test(destroyed_while_it_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
