/* What a policy makes of the MX hosts that were found: who is left, whose destination it is, how
 * long it holds, and what is told of it. */
#include "shard/sts_ask.h"

#include "shard/shard_int.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define HOUR_NS (3600 * 1000000000ull)
#define HEAD    "version: STSv1\nmode: "
#define AGE     "\nmax_age: 86400\n"

static struct shard shard;
static struct sts_question question;
static struct mx_answer answer;
static char told[1000];

void tls_report_trouble(struct shard *of, struct slice domain, enum tlsrpt_type type,
                        struct slice policy, enum tlsrpt_result result, struct slice host,
                        const char *reason)
{
    size_t used = strlen(told);

    assert_ptr_equal(of, &shard);
    assert_true(slice_equal(domain, slice_str("d.example")));
    assert_true(policy.len == 0 || policy.data[policy.len - 1] != '\n');
    snprintf(told + used, sizeof(told) - used, "%u %u %.*s;", type, result, (int)host.len,
             (const char *)host.data);
}

/* Three hosts: a has two addresses, b one, c two. */
static void find_hosts(void)
{
    static const uint8_t hosts[] = {0, 1, 2, 0, 2};

    memset(&answer, 0, sizeof(answer));
    answer.verdict.class = VERDICT_SUCCESS;
    answer.valid_until_ns = io_now_ns(shard.io) + HOUR_NS;
    answer.set_hash = 7;
    answer.host_count = 3;
    for (unsigned i = 0; i < 3; i++)
        snprintf(answer.host_names[i], sizeof(answer.host_names[i]), "%c.example", 'a' + i);
    answer.target_count = 5;
    for (unsigned i = 0; i < 5; i++)
        answer.targets[i] = (struct mx_target){.at.port = (uint16_t)i, .host = hosts[i]};
}

/* The hosts and the places of their addresses that are left by the policy. */
static const char *apply(const char *policy)
{
    static char room[300];
    size_t used = 0;

    question.left_s = 86400;
    question.text_len = (uint32_t)snprintf(question.text, sizeof(question.text), "%s", policy);
    told[0] = '\0';
    sts_apply(&shard, &question, &answer);
    room[0] = '\0';
    for (unsigned i = 0; i < answer.target_count; i++)
        used += (size_t)snprintf(room + used, sizeof(room) - used, "%c%u ",
                                 answer.host_names[answer.targets[i].host][0],
                                 answer.targets[i].at.port);
    return room;
}

static void hosts_that_are_not_named_are_left_out(void **state)
{
    static const struct {
        const char *mx;
        const char *left;
        unsigned host_count;
    } rows[] = {
        {"mx: *.example\n", "a0 b1 c2 a3 c4 ", 3},
        {"mx: b.example\nmx: c.example\n", "b1 c2 c4 ", 2},
        {"mx: a.example\nmx: C.EXAMPLE\n", "a0 c2 a3 c4 ", 2},
        {"mx: a.example\nmx: b.example\n", "a0 b1 a3 ", 2},
        {"mx: b.example\n", "b1 ", 1},
        {"mx: example\n", "", 0},
    };
    char policy[300];

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        find_hosts();
        snprintf(policy, sizeof(policy), HEAD "enforce" AGE "%s", rows[i].mx);
        assert_string_equal(apply(policy), rows[i].left);
        assert_int_equal(answer.host_count, rows[i].host_count);
        assert_int_equal(answer.sts, STS_ENFORCE);
        assert_int_equal(answer.verdict.class,
                         rows[i].host_count > 0 ? VERDICT_SUCCESS : VERDICT_TRANSIENT);
        assert_true(answer.set_hash != 7);
    }
    assert_int_equal(answer.verdict.code, 451);
    assert_int_equal(answer.verdict.scope, VERDICT_DOMAIN);
    assert_string_equal(told, "2 5 c.example;2 5 b.example;2 5 a.example;");
}

/* A record of 35 octets, as struct dns_query's data has it. */
static void put_tlsa(unsigned host, uint16_t at, uint8_t usage)
{
    const uint8_t head[] = {35, 0, usage, 1, 1};

    memcpy(answer.tlsa_room.data + at, head, sizeof(head));
    answer.tlsas[host].bytes = 37;
    answer.tlsas[host].records = at;
}

static void tlsa_records_keep_a_host(void **state)
{
    find_hosts();
    put_tlsa(1, 9, 3);
    assert_string_equal(apply(HEAD "enforce" AGE "mx: c.example\n"), "b1 c2 c4 ");
    assert_int_equal(answer.tlsas[0].records, 9);
    assert_int_equal(answer.tlsas[1].bytes, 0);
    assert_string_equal(told, "2 5 a.example;");
}

/* Usage 1 says nothing to us: whom the mail may go to is the policy's matter. */
static void tlsa_records_of_no_use_keep_none(void **state)
{
    find_hosts();
    put_tlsa(0, 9, 3);
    put_tlsa(1, 50, 1);
    assert_string_equal(apply(HEAD "enforce" AGE "mx: c.example\n"), "a0 c2 a3 c4 ");
    assert_string_equal(told, "2 5 b.example;");
}

static void on_trial_and_none_leave_all(void **state)
{
    find_hosts();
    assert_string_equal(apply(HEAD "testing" AGE "mx: b.example\n"), "a0 b1 c2 a3 c4 ");
    assert_int_equal(answer.sts, STS_TESTING);
    assert_true(answer.set_hash != 7);
    assert_string_equal(told, "2 5 c.example;2 5 a.example;");
    find_hosts();
    assert_string_equal(apply(HEAD "none" AGE), "a0 b1 c2 a3 c4 ");
    assert_int_equal(answer.sts, STS_NONE);
    assert_int_equal(answer.set_hash, 7);
    assert_int_equal(answer.sts_hash, 0);
    find_hosts();
    assert_string_equal(apply(""), "a0 b1 c2 a3 c4 ");
    assert_int_equal(answer.set_hash, 7);
    assert_string_equal(told, "");
}

/* Equal but for how long they count. */
static void equal_policies_make_one_destination(void **state)
{
    uint64_t hashes[6];

    find_hosts();
    apply(HEAD "enforce" AGE "mx: *.example\n");
    hashes[0] = answer.set_hash;
    assert_int_equal(answer.sts_text[answer.sts_bytes - 1], 'e');
    find_hosts();
    apply(HEAD "enforce\nmax_age: 1000000\nmx: *.example\n");
    hashes[1] = answer.set_hash;
    find_hosts();
    apply(HEAD "testing" AGE "mx: *.example\n");
    hashes[2] = answer.set_hash;
    find_hosts();
    apply(HEAD "enforce" AGE "mx: *.example\nmx: b.example\n");
    hashes[3] = answer.set_hash;
    assert_true(hashes[0] == hashes[1]);
    assert_true(hashes[0] != hashes[2] && hashes[0] != hashes[3] && hashes[2] != hashes[3]);
    find_hosts();
    apply(HEAD "enforce" AGE "mx: *.EXAMPLE\n");
    hashes[4] = answer.set_hash;
    shard.wiring.site_key[0]++;
    find_hosts();
    apply(HEAD "enforce" AGE "mx: *.example\n");
    hashes[5] = answer.set_hash;
    shard.wiring.site_key[0]--;
    assert_true(hashes[0] == hashes[4]);
    assert_true(hashes[0] != hashes[5]);
}

static void an_answer_holds_no_longer_than_its_policy(void **state)
{
    uint64_t now_ns = io_now_ns(shard.io);

    find_hosts();
    apply(HEAD "none" AGE);
    assert_int_equal(answer.valid_until_ns, now_ns + HOUR_NS);
    find_hosts();
    question.is_open = true;
    apply("");
    assert_int_equal(answer.valid_until_ns, now_ns + STS_ASK_AGAIN_S * 1000000000ull);
    question.is_open = false;
    question.result = STS_WIRE_DISTRUSTED;
    find_hosts();
    apply("");
    assert_int_equal(answer.valid_until_ns, now_ns + HOUR_NS);
    assert_string_equal(told, "2 11 ;");
    question.result = STS_WIRE_POLICY;
    find_hosts();
    question.text_len = (uint32_t)snprintf(question.text, sizeof(question.text), HEAD "none" AGE);
    question.left_s = 5;
    sts_apply(&shard, &question, &answer);
    assert_int_equal(answer.valid_until_ns, now_ns + 5000000000ull);
}

/* The text for reports ends with a whole line. */
static void a_long_policy_is_cut_between_lines(void **state)
{
    static char policy[STS_TEXT_BYTES_MAX];
    size_t len = (size_t)sprintf(policy, HEAD "enforce" AGE);

    for (unsigned i = 0; i < STS_MX_COUNT_MAX; i++)
        len += (size_t)sprintf(policy + len, "mx: %0100u.example\n", i);
    find_hosts();
    apply(policy);
    assert_true(answer.sts_bytes > 0 && answer.sts_bytes <= MX_STS_BYTES_MAX);
    assert_int_equal(policy[answer.sts_bytes], '\n');
    assert_memory_equal(answer.sts_text, policy, answer.sts_bytes);
}

static int start(void **state)
{
    struct sim_world *world = sim_world_create(1, NULL);

    sim_io_create(world, sim_process_create(world), &shard.io);
    snprintf(question.domain, sizeof(question.domain), "d.example");
    *state = world;
    return 0;
}

static int stop(void **state)
{
    sim_world_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_that_are_not_named_are_left_out),
        cmocka_unit_test(tlsa_records_keep_a_host),
        cmocka_unit_test(tlsa_records_of_no_use_keep_none),
        cmocka_unit_test(on_trial_and_none_leave_all),
        cmocka_unit_test(equal_policies_make_one_destination),
        cmocka_unit_test(an_answer_holds_no_longer_than_its_policy),
        cmocka_unit_test(a_long_policy_is_cut_between_lines),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
