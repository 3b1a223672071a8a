/* TLSA records that come with the addresses of MX hosts: which zones count, and what is left out.
 */
#include "net/dane.h"
#include "net/mx.h"

#include "tests/unit/core_base/unit.h"
#include "tests/unit/net/fake_dns.h"

#define DATA  "0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210"
#define EE    "311" DATA
#define TA    "211" DATA
#define END                                                                                        \
    {                                                                                              \
        NULL, 0, NULL, 0, 0, false                                                                 \
    }

#define SECURE(name, type, data)                                                                   \
    {                                                                                              \
        name, type, data, DNS_OK, 0, true                                                          \
    }
#define INSECURE(name, type, data)                                                                 \
    {                                                                                              \
        name, type, data, DNS_OK, 0, false                                                         \
    }
#define FAILS(name, type)                                                                          \
    {                                                                                              \
        name, type, NULL, DNS_FAILURE, 0, false                                                    \
    }

struct scene {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct fake_dns fake;
    struct dns *dns;
    struct mx_resolution *resolution;
    struct mx_rules rules;
    struct mx_answer answer;
    unsigned done_count;
};

static struct scene scene;

static void on_done(void *context, const struct mx_answer *answer)
{
    scene.done_count++;
    scene.answer = *answer;
}

static bool is_done(void *context)
{
    return scene.done_count > 0;
}

static void resolve_by(const struct fake_record *zone, const char *domain, bool want_dane,
                       const struct conf_route_host *route)
{
    memset(&scene, 0, sizeof(scene));
    scene.world = sim_world_create(1, NULL);
    scene.process = sim_process_create(scene.world);
    sim_io_create(scene.world, scene.process, &scene.io);
    fake_dns_init(&scene.fake, scene.world, scene.process, scene.io, zone);
    scene.rules = (struct mx_rules){.want_ipv4 = true,
                                    .want_ipv6 = true,
                                    .want_dane = want_dane,
                                    .port = 25,
                                    .own_host_name = "our.example"};
    sim_enter(scene.process);
    scene.dns = dns_create(scene.io, scene.fake.questions, scene.fake.answers, 0, 256, 16);
    scene.resolution = mx_resolution_create(scene.dns, scene.io);
    mx_resolve(scene.resolution, slice_str(domain), route, route != NULL, &scene.rules, on_done,
               &scene);
    sim_leave(scene.process);
    sim_run_until(scene.world, is_done, NULL, 3600000000000ull, 100000);
    assert_int_equal(scene.done_count, 1);
    sim_enter(scene.process);
    mx_resolution_destroy(scene.resolution);
    dns_destroy(scene.dns);
    fake_dns_fini(&scene.fake);
    sim_leave(scene.process);
    sim_world_destroy(scene.world);
}

static void resolve(const struct fake_record *zone)
{
    resolve_by(zone, "d.example", true, NULL);
}

/* "host=base:records" of those that are left, in order. */
static const char *outcome(void)
{
    static char text[4000];
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < scene.answer.host_count; i++) {
        const struct mx_tlsa *tlsa = &scene.answer.tlsas[i];
        const uint8_t *data = scene.answer.tlsa_room.data;
        uint16_t cursor = 0;
        unsigned count = 0;
        struct slice rdata;

        while (dns_records_next(slice_of(data + tlsa->records, tlsa->bytes), &cursor, &rdata))
            count++;
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s=%s:%u ",
                                 scene.answer.host_names[i],
                                 count > 0 ? (const char *)data + tlsa->base : "", count);
    }
    return text;
}

static void zones_and_what_comes_out(void **state)
{
    static const struct {
        const char *expect;
        struct fake_record zone[12];
    } rows[] = {
        {"a.example=a.example:2 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("_25._tcp.a.example", DNS_TLSA, EE),
          SECURE("_25._tcp.a.example", DNS_TLSA, "111" DATA), END}},
        /* Each step on the way must have been validated. */
        {"a.example=:0 ",
         {INSECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("_25._tcp.a.example", DNS_TLSA, EE), END}},
        {"a.example=:0 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), INSECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("_25._tcp.a.example", DNS_TLSA, EE), END}},
        {"a.example=:0 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          INSECURE("_25._tcp.a.example", DNS_TLSA, EE), END}},
        /* One address by which anybody could come is enough. */
        {"a.example=:0 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          INSECURE("a.example", DNS_AAAA, "2001:db8::1"),
          SECURE("_25._tcp.a.example", DNS_TLSA, EE), END}},
        {"d.example=d.example:1 ",
         {SECURE("d.example", DNS_A, "192.0.2.1"), SECURE("_25._tcp.d.example", DNS_TLSA, EE),
          END}},
        /* No answer: the host waits, and only it. */
        {"",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          FAILS("_25._tcp.a.example", DNS_TLSA), END}},
        {"",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          FAILS("a.example", DNS_CNAME), END}},
        {"b.example=:0 c.example=c.example:1 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("d.example", DNS_MX, "2 b.example"),
          SECURE("d.example", DNS_MX, "3 c.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("b.example", DNS_A, "192.0.2.2"), SECURE("c.example", DNS_A, "192.0.2.3"),
          FAILS("_25._tcp.a.example", DNS_TLSA), SECURE("_25._tcp.c.example", DNS_TLSA, EE), END}},
        /* Aliases: the last name, else the host's own. */
        {"a.example=c.example:1 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("a.example", DNS_CNAME, "b.example"), SECURE("b.example", DNS_CNAME, "c.example"),
          SECURE("_25._tcp.c.example", DNS_TLSA, EE), SECURE("_25._tcp.a.example", DNS_TLSA, TA),
          SECURE("_25._tcp.a.example", DNS_TLSA, EE), END}},
        {"a.example=a.example:1 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("a.example", DNS_CNAME, "b.example"), SECURE("_25._tcp.a.example", DNS_TLSA, EE),
          END}},
        /* An alias out of the signed zone: its own name alone counts. */
        {"a.example=a.example:1 ",
         {SECURE("d.example", DNS_MX, "1 a.example"), INSECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("a.example", DNS_CNAME, "b.example"), SECURE("_25._tcp.b.example", DNS_TLSA, TA),
          SECURE("_25._tcp.b.example", DNS_TLSA, EE), SECURE("_25._tcp.a.example", DNS_TLSA, EE),
          END}},
        {"",
         {SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
          SECURE("a.example", DNS_CNAME, "a.example"), FAILS("_25._tcp.a.example", DNS_TLSA), END}},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        resolve(rows[i].zone);
        if (strcmp(outcome(), rows[i].expect) != 0)
            print_error("row %zu\n", i);
        assert_string_equal(outcome(), rows[i].expect);
        assert_int_equal(scene.answer.tlsa_hash != 0, scene.answer.tlsa_room.used > 0);
        if (rows[i].expect[0] == '\0') {
            assert_int_equal(scene.answer.verdict.class, VERDICT_TRANSIENT);
            assert_memory_equal(scene.answer.verdict.enhanced, ((uint8_t[]){4, 7, 5}), 3);
        }
    }
}

static void nobody_asks_where_it_is_not_wanted(void **state)
{
    static const struct fake_record signed_zone[] = {
        SECURE("d.example", DNS_MX, "1 a.example"), SECURE("a.example", DNS_A, "192.0.2.1"),
        SECURE("_25._tcp.a.example", DNS_TLSA, EE), END};
    static const struct fake_record unsigned_zone[] = {INSECURE("d.example", DNS_MX, "1 a.example"),
                                                       INSECURE("a.example", DNS_A, "192.0.2.1"),
                                                       END};
    uint64_t with, without;

    resolve(signed_zone);
    assert_int_equal(scene.fake.asked_count, 5);
    with = scene.answer.set_hash;
    assert_true(scene.answer.site_hash != with);
    resolve_by(signed_zone, "d.example", false, NULL);
    assert_string_equal(outcome(), "a.example=:0 ");
    assert_int_equal(scene.fake.asked_count, 3);
    without = scene.answer.set_hash;
    assert_true(with != without);
    resolve(unsigned_zone);
    assert_int_equal(scene.fake.asked_count, 3);
    assert_true(scene.answer.set_hash == without);
}

/* Connections are shared by site: what makes one. */
static uint64_t site_of(const char *domain, const char *first, const char *second)
{
    const struct fake_record zone[] = {SECURE(domain, DNS_MX, "1 a.example"),
                                       SECURE("a.example", DNS_A, "192.0.2.1"),
                                       SECURE("_25._tcp.a.example", DNS_TLSA, first),
                                       SECURE("_25._tcp.a.example", DNS_TLSA, second), END};

    resolve_by(zone, domain, true, NULL);
    assert_string_equal(outcome(), "a.example=a.example:2 ");
    return scene.answer.set_hash;
}

static void records_make_a_site_and_their_order_does_not(void **state)
{
    uint64_t site = site_of("d.example", EE, "301" OTHER);

    assert_true(site == site_of("d.example", "301" OTHER, EE));
    assert_true(site == site_of("e.example", EE, "301" OTHER));
    assert_true(site != site_of("d.example", EE, "301" DATA));
    /* The domain's own name may be the certificate's. */
    assert_true(site_of("d.example", EE, TA) != site_of("e.example", EE, TA));
}

static void an_operator_may_name_the_host(void **state)
{
    static const struct fake_record zone[] = {SECURE("a.example", DNS_A, "192.0.2.1"),
                                              SECURE("_2525._tcp.a.example", DNS_TLSA, EE), END};
    static const struct conf_route_host route = {
        .kind = CONF_ROUTE_HOST, .name = "a.example", .port = 2525};

    resolve_by(zone, "d.example", true, &route);
    assert_string_equal(outcome(), "a.example=a.example:1 ");
}

static void a_host_without_room_for_its_records_waits(void **state)
{
    static struct fake_record zone[40] = {
        SECURE("d.example", DNS_MX, "1 a.example"), SECURE("d.example", DNS_MX, "2 b.example"),
        SECURE("a.example", DNS_A, "192.0.2.1"), SECURE("b.example", DNS_A, "192.0.2.2")};

    for (uint32_t i = 4; i < 28; i++)
        zone[i] = (struct fake_record)SECURE(i % 2 ? "_25._tcp.a.example" : "_25._tcp.b.example",
                                             DNS_TLSA, "310" DATA OTHER DATA OTHER DATA OTHER DATA);
    resolve(zone);
    assert_int_equal(scene.answer.host_count, 1);
    assert_true(scene.answer.tlsas[0].bytes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zones_and_what_comes_out),
        cmocka_unit_test(nobody_asks_where_it_is_not_wanted),
        cmocka_unit_test(records_make_a_site_and_their_order_does_not),
        cmocka_unit_test(an_operator_may_name_the_host),
        cmocka_unit_test(a_host_without_room_for_its_records_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
