/* Control with three shards of the test's: verbs, answers, hostile operators, silent shards. */
#include "tests/unit/shard/control_fixture.h"

#include "core/base/err.h"
#include "shard/control_int.h"

#include <errno.h>
#include <stdio.h>

static struct fixture f;

static int open_fixture(void **state)
{
    fixture_open(&f, 1, false);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close(&f);
    return 0;
}

/* The answer in JSON; the caller drops it. */
static json_t *ask_json(const char *line)
{
    const char *answer = ask(&f, line);
    json_error_t error;
    json_t *tree;

    assert_memory_equal(answer, "ok\n", 3);
    tree = json_loads(answer + 3, 0, &error);
    if (tree == NULL)
        fail_msg("%s at %d: %s", error.text, error.position, answer);
    assert_string_equal(json_string_value(json_object_get(tree, "status")), "success");
    return tree;
}

/* "data.status.queue" */
static const json_t *at(const json_t *tree, const char *path)
{
    char copy[256];
    char *rest = copy;

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *key = strsep(&rest, "."); key != NULL; key = strsep(&rest, ".")) {
        tree = json_object_get(tree, key);
        if (tree == NULL)
            fail_msg("no %s in %s", key, path);
    }
    return tree;
}

static long long number_at(const json_t *tree, const char *path)
{
    return (long long)json_integer_value(at(tree, path));
}

/* ---- show status ----------------------------------------------------------------------------- */

static void every_counter_of_every_shard_is_summed(void **state)
{
    json_t *tree;
    uint64_t value = 1;

    for (int i = 0; i < FAKE_SHARDS; i++) {
#define FILL(name) f.shards[i].status.name = value++;
        STATUS_COUNTERS(FILL)
        STATUS_GAUGES(FILL)
#undef FILL
    }
    f.shards[1].status.queued_bytes = 5 << 20;
    f.spool.stats.message_commits = 77;
    f.spool.stats.outcome_commits = 88;
    tree = ask_json("show status --json");
#define CHECK(name)                                                                                \
    assert_int_equal(number_at(tree, "data.counters." #name),                                      \
                     f.shards[0].status.name + f.shards[1].status.name + f.shards[2].status.name);
    STATUS_COUNTERS(CHECK)
    STATUS_GAUGES(CHECK)
#undef CHECK
    assert_int_equal(number_at(tree, "data.counters.message_commits"), 77);
    assert_int_equal(number_at(tree, "data.counters.outcome_commits"), 88);
    assert_string_equal(json_string_value(at(tree, "data.counters.spool_health")), "healthy");
    assert_int_equal(number_at(tree, "data.status.traffic.total.in.rcp"),
                     number_at(tree, "data.counters.accepted_rcpts"));
    assert_int_equal(number_at(tree, "data.status.traffic.total.out.kb"),
                     number_at(tree, "data.counters.delivered_bytes") / 1024);
    assert_int_equal(number_at(tree, "data.status.queue.smtp.kb"),
                     number_at(tree, "data.counters.queued_bytes") / 1024);
    assert_int_equal(number_at(tree, "data.status.conn.smtpIn.cur"),
                     number_at(tree, "data.counters.sessions_in"));
    assert_int_equal(number_at(tree, "data.status.conn.smtpOut.max"), 1200);
    assert_string_equal(json_string_value(at(tree, "data.mta.product.version")), "1.2.3");
    assert_string_equal(json_string_value(at(tree, "data.status.startupTime")),
                        "2026-01-01T00:00:00+00:00");
    json_decref(tree);
}

static void traffic_is_shown_by_minute_and_hour(void **state)
{
    const char *answer;

    sim_run_for(f.world, 10000000000ull);
    for (int i = 0; i < 30; i++) {
        f.shards[1].status.delivered += 100;
        f.shards[1].status.delivered_messages += 50;
        f.shards[1].status.delivered_bytes += 102400;
        f.shards[2].status.accepted_rcpts += 200;
        sim_run_for(f.world, 1000000000ull);
    }
    sim_run_for(f.world, 5000000000ull);
    answer = ask(&f, "--dom show status");
    assert_non_null(strstr(answer, "\nstatus.traffic.lastMin.out.rcp=\"3000\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.lastMin.out.msg=\"1500\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.lastMin.out.kb=\"3000\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.lastMin.in.rcp=\"6000\"\n"));
    sim_run_for(f.world, 120000000000ull);
    answer = ask(&f, "--dom show status");
    assert_non_null(strstr(answer, "\nstatus.traffic.lastMin.out.rcp=\"0\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.lastHr.out.rcp=\"3000\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.topPerMin.out.rcp=\"3000\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.topPerHr.in.rcp=\"6000\"\n"));
    sim_run_for(f.world, 3700000000000ull);
    answer = ask(&f, "--dom show status");
    assert_non_null(strstr(answer, "\nstatus.traffic.lastHr.out.rcp=\"0\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.total.out.rcp=\"3000\"\n"));
    assert_non_null(strstr(answer, "\nstatus.traffic.topPerHr.out.rcp=\"3000\"\n"));
}

/* At an even rate a minute is sixty seconds at any time, and an hour at most one minute more. */
static void spans_have_their_length_at_any_time(void **state)
{
    static struct samples samples;
    struct report_status status = {0};

    memset(&samples, 0, sizeof(samples));
    for (uint64_t second = 0; second < 15000; second++) {
        struct traffic now;
        uint64_t minute;
        uint64_t hour;

        status.delivered = second * 10;
        samples_add(&samples, &status);
        now = samples_traffic_of(&status);
        minute = samples_last_minute(&samples, &now).out_rcp;
        hour = samples_last_hour(&samples, &now).out_rcp;
        assert_int_equal(minute, second < 60 ? second * 10 : 600);
        if (second < 3600)
            assert_int_equal(hour, second * 10);
        else
            assert_in_range(hour, 36000, 36590);
    }
    assert_int_equal(samples.top_minute.out_rcp, 600);
}

static void each_directory_of_the_spool_is_shown(void **state)
{
    json_t *tree;

    f.spool.device_count = 2;
    f.spool.devices[0] = (struct spool_device_stats){
        .path = "/first", .commit_mode = "any", .state = SPOOL_DEVICE_WELL, .messages = 7};
    f.spool.devices[1] = (struct spool_device_stats){.path = "/second",
                                                     .commit_mode = "any",
                                                     .state = SPOOL_DEVICE_LOW_SPACE,
                                                     .failed_commits = 3,
                                                     .segments_total = 12};
    tree = ask_json("show status --json");
    assert_int_equal(number_at(tree, "data.status.spool.dirs"), 2);
    assert_string_equal(json_string_value(json_object_get(
                            json_array_get(at(tree, "data.status.spool.directory"), 1), "state")),
                        "low-space");
    json_decref(tree);
    assert_non_null(strstr(ask(&f, "show status"),
                           "\nWARNING: spool /second takes no mail: it is short of space"));
    f.spool.device_count = 0;
}

static void a_sick_spool_is_a_warning(void **state)
{
    static const struct {
        enum spool_health health;
        int error;
        const char *says;
    } cases[] = {
        {SPOOL_LOW_SPACE, E_LOW_SPACE, "low-space since 0 s, no new mail is accepted: too little"},
        {SPOOL_LATE, E_LATE, "late since 0 s, no delivery is started: the disk takes too long"},
        {SPOOL_STALLED, -EIO, "stalled since 0 s, nothing is accepted or delivered: Input/output"},
        {SPOOL_POISONED, E_POISONED, "poisoned since 0 s, nothing is accepted or delivered until"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[128];
        json_t *tree;

        f.spool.health = cases[i].health;
        f.spool.trouble = (struct spool_trouble){.error = cases[i].error, .since_ns = UINT64_MAX};
        snprintf(text, sizeof(text), "\nWARNING: the spool is %s", cases[i].says);
        assert_non_null(strstr(ask(&f, "show status"), text));
        tree = ask_json("show status --json");
        assert_string_equal(json_string_value(at(tree, "data.status.spool.reason")),
                            err_text(cases[i].error));
        assert_true(json_is_string(at(tree, "data.status.spool.since")));
        json_decref(tree);
    }
    f.spool.health = SPOOL_HEALTHY;
    assert_null(strstr(ask(&f, "show status"), "WARNING"));
}

/* ---- Rows ------------------------------------------------------------------------------------ */

static void fill_queues(void)
{
    struct queue_row *row;

    add_queue(&f.shards[2], "b.example/mta1", 30, 0);
    add_queue(&f.shards[0], "a.example/mta1", 10, 2);
    row = add_queue(&f.shards[1], "a.example/{default}", 60, 0);
    row->paused = true;
    row->reason = WAIT_PAUSED;
    row->reason_since_us = 1767225600000000;
    row->next_attempt_us = 1767229261000000;
    row->last_error_us = 1767225600000000;
    snprintf(row->last_error, sizeof(row->last_error), "421 \"later\"\r\n\xff");
}

static void queues_stand_in_fixed_columns(void **state)
{
    fill_queues();
    assert_string_equal(
        ask(&f, "show queues"),
        "ok\n"
        "queue                #rcpt  kbytes  conn  paused  mode    retry                      "
        "reason\n"
        "-------------------  -----  ------  ----  ------  ------  -------------------------  "
        "----------------------------------------------------------\n"
        "a.example/mta1          10      20     2  no      normal  -                          "
        "nothing is waiting\n"
        "a.example/{default}     60     120     0  yes     normal  2026-01-01T01:01:01+00:00  "
        "paused by an operator; last error: 421 \"later\"\\x0d\\x0a\\xff\n"
        "b.example/mta1          30      60     0  no      normal  -                          "
        "nothing is waiting\n");
    assert_string_equal(f.shards[0].last.domain_pattern, "*");
    assert_string_equal(f.shards[0].last.vmta_pattern, "*");
}

static void queues_stand_in_dom_lines(void **state)
{
    fill_queues();
    assert_string_equal(ask(&f, "--dom show queues a.example/{default}"),
                        "ok\n"
                        "queue[0].name=\"a.example/{default}\"\n"
                        "queue[0].rcp=\"60\"\n"
                        "queue[0].kb=\"120\"\n"
                        "queue[0].conn=\"0\"\n"
                        "queue[0].paused=\"true\"\n"
                        "queue[0].mode=\"normal\"\n"
                        "queue[0].retryTime=\"2026-01-01T01:01:01+00:00\"\n"
                        "queue[0].reason=\"paused by an operator\"\n"
                        "queue[0].reasonSince=\"2026-01-01T00:00:00+00:00\"\n"
                        "queue[0].explain=\"paused by an operator; last error: "
                        "421 \\\"later\\\"\\\\x0d\\\\x0a\\\\xff\"\n"
                        "queue[0].shard=\"1\"\n"
                        "queue[0].event[0].type=\"error\"\n"
                        "queue[0].event[0].time=\"2026-01-01T00:00:00+00:00\"\n"
                        "queue[0].event[0].text=\"421 \\\"later\\\"\\\\x0d\\\\x0a\\\\xff\"\n");
}

static void queues_stand_in_json(void **state)
{
    fill_queues();
    assert_string_equal(
        ask(&f, "show queues b.example --json"),
        "ok\n"
        "{\"data\":{\"queue\":[{\"name\":\"b.example/mta1\",\"rcp\":30,\"kb\":60,\"conn\":0,"
        "\"paused\":false,\"mode\":\"normal\",\"retryTime\":null,"
        "\"reason\":\"nothing is waiting\",\"reasonSince\":null,"
        "\"explain\":\"nothing is waiting\",\"shard\":2,\"event\":[]}]},"
        "\"status\":\"success\",\"message\":\"\"}\n");
}

static void sums_by_domain_and_by_vmta(void **state)
{
    fill_queues();
    assert_string_equal(ask(&f, "show domains"), "ok\n"
                                                 "domain     vmtas  #rcpt  %total  kbytes  conn\n"
                                                 "---------  -----  -----  ------  ------  ----\n"
                                                 "a.example      2     70    70.0     140     2\n"
                                                 "b.example      1     30    30.0      60     0\n");
    assert_string_equal(ask(&f, "show vmtas"), "ok\n"
                                               "name       domains  #rcpt  %total  kbytes  conn\n"
                                               "---------  -------  -----  ------  ------  ----\n"
                                               "mta1             2     40    40.0      80     2\n"
                                               "mta2             0      0     0.0       0     0\n"
                                               "{default}        1     60    60.0     120     0\n");
}

/* The names of the rows, in order, with blanks between. */
static const char *names_of(const char *line)
{
    static char names[4096];
    json_t *tree = ask_json(line);
    const json_t *data = at(tree, "data");
    const json_t *rows = json_object_iter_value(json_object_iter((json_t *)(uintptr_t)data));

    names[0] = '\0';
    for (size_t i = 0; i < json_array_size(rows); i++) {
        strcat(names, i > 0 ? " " : "");
        strcat(names, json_string_value(json_object_get(json_array_get(rows, i), "name")));
    }
    json_decref(tree);
    return names;
}

static void filters_and_orders(void **state)
{
    fill_queues();
    assert_string_equal(names_of("--json show queues --paused"), "a.example/{default}");
    assert_string_equal(names_of("--json show queues --paused=no"),
                        "a.example/mta1 b.example/mta1");
    assert_string_equal(names_of("--json show queues --connected=yes"), "a.example/mta1");
    assert_string_equal(names_of("--json show queues --sort=rcpt"),
                        "a.example/{default} b.example/mta1 a.example/mta1");
    assert_string_equal(names_of("--json show queues --sort=conn"),
                        "a.example/mta1 a.example/{default} b.example/mta1");
    assert_string_equal(names_of("--json show queues --sort=kb --maxitems=1"),
                        "a.example/{default}");
    assert_string_equal(names_of("--json show queues --maxitems=0"), "");
    assert_string_equal(names_of("--json show topqueues"),
                        "a.example/{default} b.example/mta1 a.example/mta1");
    assert_string_equal(names_of("--json show queues */mta1"), "a.example/mta1 b.example/mta1");
    assert_string_equal(names_of("--json show domains --sort=rcpt"), "a.example b.example");
    assert_string_equal(names_of("--json show vmtas --paused=yes"), "{default}");
    assert_string_equal(names_of("--json show vmtas */mta1"), "mta1");
}

/* A queue that leaves a shard has a row there too, for what has yet to follow it. */
static void a_moving_queue_is_one(void **state)
{
    struct queue_row *rest = add_queue(&f.shards[0], "a.example/mta1", 5, 1);
    struct queue_row *row = add_queue(&f.shards[1], "a.example/mta1", 20, 2);
    const json_t *item;
    json_t *tree;

    rest->is_remainder = true;
    row->paused = true;
    add_queue(&f.shards[2], "b.example/mta1", 1, 0);
    tree = ask_json("--json show queues a.example/mta1");
    assert_int_equal(json_array_size(at(tree, "data.queue")), 1);
    item = json_array_get(at(tree, "data.queue"), 0);
    assert_int_equal(number_at(item, "rcp"), 25);
    assert_int_equal(number_at(item, "conn"), 3);
    assert_int_equal(number_at(item, "shard"), 1);
    json_decref(tree);
    assert_string_equal(names_of("--json show queues --paused"), "a.example/mta1");
    assert_string_equal(names_of("--json show queues --paused=no"), "b.example/mta1");
    tree = ask_json("--json show domains a.example");
    item = json_array_get(at(tree, "data.domain"), 0);
    assert_int_equal(number_at(item, "vmtas"), 1);
    assert_int_equal(number_at(item, "rcp"), 25);
    json_decref(tree);
}

static void top_queues_are_ten(void **state)
{
    for (unsigned i = 0; i < 25; i++) {
        char name[64];

        snprintf(name, sizeof(name), "d%02u.example/mta1", i);
        add_queue(&f.shards[i % 3], name, i, 0);
    }
    assert_memory_equal(names_of("--json show topqueues"), "d24.example/mta1 d23.example/mta1 ",
                        strlen("d24.example/mta1 d23.example/mta1 "));
    assert_string_equal(strrchr(names_of("--json show topqueues"), ' '), " d15.example/mta1");
    assert_string_equal(strrchr(names_of("--json show topqueues --maxitems=2"), ' '),
                        " d23.example/mta1");
}

static void recipients_are_listed(void **state)
{
    f.shards[1].rcpts[0] = (struct rcpt_row){.message_id = 33,
                                             .queue = "a.example/mta1",
                                             .rcpt = "ann@a.example",
                                             .sender = "news@example.com",
                                             .attempts = 2,
                                             .priority = 70,
                                             .accepted_us = 1767225600000000,
                                             .due_us = 1767229261000000};
    f.shards[1].rcpts[1] = (struct rcpt_row){.queue = "a.example/mta1"};
    f.shards[1].rcpt_count = 2;
    assert_string_equal(ask(&f, "list --queue=a.example/mta1"),
                        "ok\n"
                        "rcpt           orig              queue           priority  attempts  "
                        "queued                     retry                      id\n"
                        "-------------  ----------------  --------------  --------  --------  "
                        "-------------------------  -------------------------  -------------\n"
                        "ann@a.example  news@example.com  a.example/mta1        70         2  "
                        "2026-01-01T00:00:00+00:00  2026-01-01T01:01:01+00:00  0000000000011\n"
                        "-              -                 a.example/mta1         -         0  "
                        "-                          -                          0000000000000\n");
    assert_int_equal(f.shards[2].last.parcel.kind, REPORT_LIST);
    assert_int_equal(f.shards[2].last.row_count_max, 100);
    assert_string_equal(f.shards[2].last.domain_pattern, "a.example");
    ask(&f, "list --queue=*/* --maxitems=7");
    assert_int_equal(f.shards[2].last.row_count_max, 7);
}

#define LOG_RECORD_BYTES 4096u

/* Forty messages with two recipients, none in memory: on two shards, recipients not in order. */
static void fill_cold(void)
{
    for (uint32_t i = 0; i < 80; i++) {
        struct fake_shard *shard = &f.shards[i < 48 ? 0 : 2];
        struct rcpt_row *row = &shard->rcpts[shard->rcpt_count++];
        uint32_t message = i / 2;

        *row = (struct rcpt_row){
            .message_id = message,
            .queue = "a.example/mta1",
            .place = {.serial = 5, .offset = message * LOG_RECORD_BYTES, .bytes = LOG_RECORD_BYTES},
            .ordinal = 1 - i % 2,
        };
        if (i % 2 == 0)
            add_record(&f, &row->place, message, 2);
    }
}

static void assert_listed(const json_t *rows, uint32_t i, bool is_found)
{
    const json_t *row = json_array_get(rows, i);
    char rcpt[32] = "", sender[32] = "";

    if (is_found) {
        snprintf(rcpt, sizeof(rcpt), "r%u@%u.example", 1 - i % 2, i / 2);
        snprintf(sender, sizeof(sender), "s@%u.example", i / 2);
    }
    assert_string_equal(json_string_value(json_object_get(row, "rcpt")), rcpt);
    assert_string_equal(json_string_value(json_object_get(row, "orig")), sender);
}

static void addresses_come_from_the_log(void **state)
{
    json_t *tree;

    fill_cold();
    tree = ask_json("--json list --queue=*/*");
    assert_int_equal(json_array_size(at(tree, "data.rcpt")), 80);
    for (uint32_t i = 0; i < 80; i++)
        assert_listed(at(tree, "data.rcpt"), i, true);
    json_decref(tree);
}

/* Recycled meanwhile, behind the end of its file, in a file that is gone, in no record at all: a
 * row without addresses, and no harm to those around it. */
static void what_the_log_has_no_longer_stays_empty(void **state)
{
    json_t *tree;

    fill_cold();
    for (uint32_t i = 0; i < 2; i++) {
        f.shards[0].rcpts[0 + i].place.serial = 4;
        f.shards[0].rcpts[8 + i].place.offset = 1000 * LOG_RECORD_BYTES;
        f.shards[0].rcpts[20 + i].place.slot = 1;
        f.shards[0].rcpts[30 + i].place = (struct log_place){0};
    }
    tree = ask_json("--json list --queue=*/* --maxitems=40");
    assert_int_equal(json_array_size(at(tree, "data.rcpt")), 40);
    for (uint32_t i = 0; i < 40; i++)
        assert_listed(at(tree, "data.rcpt"), i,
                      i / 2 != 0 && i / 2 != 4 && i / 2 != 10 && i / 2 != 15);
    json_decref(tree);
}

static void read_at_once(void *context)
{
    *(uint32_t *)context = f.control->lookup_reads > *(uint32_t *)context ? f.control->lookup_reads
                                                                          : *(uint32_t *)context;
}

/* Operators who ask for what is in the log only and leave: control can end all the same, and every
 * read comes home. */
static void reads_are_bounded_and_outlive_who_asked(void **state)
{
    static const char line[] = "list --queue=*/*\n";
    struct operator_conn *conn = operator_open(&f, OPERATOR_UID);
    uint32_t most = 0, drops = 0;

    fill_cold();
    operator_send(conn, line, sizeof(line) - 1);
    while (!conn->ended) {
        sim_step(f.world);
        sim_run_in(f.daemon, read_at_once, &most);
    }
    operator_free(conn);
    assert_in_range(most, 2, 16);
    for (uint32_t steps = 0; steps < 400; steps += 20) {
        conn = operator_open(&f, OPERATOR_UID);
        operator_send(conn, line, sizeof(line) - 1);
        for (uint32_t i = 0; i < steps; i++)
            sim_step(f.world);
        if (f.control->lookup_reads > 0)
            drops++;
        operator_free(conn);
    }
    assert_true(drops > 0);
    ask(&f, "shutdown");
    sim_run_for(f.world, 5000000000ull);
    assert_int_equal(f.stopped, 1);
    assert_int_equal(f.control->lookup_reads, 0);
    assert_int_equal(f.control->gather_count, 0);
}

static void many_rows_come_whole(void **state)
{
    json_t *tree;

    for (unsigned i = 0; i < FAKE_QUEUES_MAX; i++) {
        char name[64];

        snprintf(name, sizeof(name), "d%u.example/mta1", i);
        add_queue(&f.shards[0], name, i, 0);
    }
    tree = ask_json("show queues --json");
    assert_int_equal(json_array_size(at(tree, "data.queue")), FAKE_QUEUES_MAX);
    json_decref(tree);
}

/* ---- show ips -------------------------------------------------------------------------------- */

static struct ip_figures ip_row(const char *address, uint64_t connects, uint32_t srtt_us)
{
    struct ip_figures row = {.counters[IP_CONNECTS] = connects};

    assert_int_equal(ipaddr_parse(slice_str(address), &row.source), 0);
    ip_figures_add_srtt(&row, srtt_us, connects);
    return row;
}

static void ips_of_all_shards_are_summed(void **state)
{
    f.shards[0].ips[0] = ip_row("2001:db8::1", 1, 0);
    f.shards[0].ips[1] = ip_row("192.0.2.10", 2, 500);
    f.shards[0].ip_count = 2;
    f.shards[2].ips[0] = ip_row("192.0.2.10", 40, 300);
    f.shards[2].ips[1] = ip_row("192.0.2.9", 5, 0);
    f.shards[2].ip_count = 2;
    assert_string_equal(ask(&f, "show ips --json --maxitems=2"),
                        "ok\n{\"data\":{\"source\":\"tcp_info\",\"ip\":["
                        "{\"ip\":\"192.0.2.9\",\"source\":\"tcp_info\",\"connects\":5,"
                        "\"established\":0,\"syn_timeouts\":0,\"refused\":0,\"resets\":0,"
                        "\"retransmits\":0,\"bytes_sent\":0,\"bytes_received\":0,"
                        "\"srtt_samples\":0,\"srtt_sum_us\":0,\"srtt_min_us\":0,"
                        "\"srtt_mean_us\":0,\"srtt_last_us\":0},"
                        "{\"ip\":\"192.0.2.10\",\"source\":\"tcp_info\",\"connects\":42,"
                        "\"established\":0,\"syn_timeouts\":0,\"refused\":0,\"resets\":0,"
                        "\"retransmits\":0,\"bytes_sent\":0,\"bytes_received\":0,"
                        "\"srtt_samples\":2,\"srtt_sum_us\":800,\"srtt_min_us\":300,"
                        "\"srtt_mean_us\":400,\"srtt_last_us\":300}]},"
                        "\"status\":\"success\",\"message\":\"\"}\n");
    assert_string_equal(
        ask(&f, "show ips"),
        "ok\n"
        "ip           connects  established  syn-t/o  refused  resets  retransmits  bytes-sent  "
        "bytes-received  srtt-min-us  srtt-mean-us  srtt-last-us  source\n"
        "-----------  --------  -----------  -------  -------  ------  -----------  ----------  "
        "--------------  -----------  ------------  ------------  --------\n"
        "192.0.2.9           5            0        0        0       0            0           0  "
        "             0            0             0             0  tcp_info\n"
        "192.0.2.10         42            0        0        0       0            0           0  "
        "             0          300           400           300  tcp_info\n"
        "2001:db8::1         1            0        0        0       0            0           0  "
        "             0            0             0             0  tcp_info\n");
}

/* A source outside, whose rows the test sets. */
static struct ip_figures outside_rows[2];
static int outside_result;
static uint32_t outside_reads;

static int read_outside(void *context, struct ip_figures *rows, uint32_t row_count_max)
{
    assert_ptr_equal(context, outside_rows);
    assert_true(row_count_max >= 2);
    outside_reads++;
    if (outside_result > 0)
        memcpy(rows, outside_rows, (size_t)outside_result * sizeof(rows[0]));
    return outside_result;
}

static int open_with_source(void **state)
{
    static const struct ip_source source = {.read = read_outside, .context = outside_rows};

    outside_result = 0;
    fixture_ip_source = &source;
    fixture_open(&f, 1, false);
    fixture_ip_source = NULL;
    return 0;
}

static void assert_connects(const char *address, int64_t connects)
{
    json_t *tree = ask_json("show ips --json");
    const json_t *row = json_array_get(at(tree, "data.ip"), 0);

    assert_string_equal(json_string_value(at(tree, "data.source")), "bpf");
    assert_int_equal(json_array_size(at(tree, "data.ip")), 1);
    assert_string_equal(json_string_value(at(row, "ip")), address);
    assert_string_equal(json_string_value(at(row, "source")), "bpf");
    assert_int_equal(number_at(row, "connects"), connects);
    json_decref(tree);
}

static void a_source_outside_is_read_each_second(void **state)
{
    uint32_t before = outside_reads;

    sim_run_for(f.world, 10000000000ull);
    assert_true(outside_reads - before >= 9 && outside_reads - before <= 11);
    f.shards[0].ips[0] = ip_row("192.0.2.9", 5, 0);
    f.shards[0].ip_count = 1;
    outside_rows[0] = ip_row("192.0.2.7", 10, 100);
    outside_result = 1;
    assert_connects("192.0.2.7", 10);
    outside_rows[0].counters[IP_CONNECTS] = 15;
    assert_connects("192.0.2.7", 15);
    /* It let go of the address: what was counted stays, and goes on when it comes back. */
    outside_result = 0;
    assert_connects("192.0.2.7", 15);
    outside_rows[0] = ip_row("192.0.2.7", 4, 100);
    outside_result = 1;
    assert_connects("192.0.2.7", 19);
    outside_result = -EPERM;
    assert_connects("192.0.2.7", 19);
}

/* ---- Orders ---------------------------------------------------------------------------------- */

static void assert_order(const char *line, enum report_kind kind, const char *wanted)
{
    assert_string_equal(ask(&f, line), wanted);
    for (int i = 0; i < FAKE_SHARDS; i++) {
        assert_int_equal(f.shards[i].last.parcel.kind, kind);
        assert_string_equal(f.shards[i].last.domain_pattern, "a.example");
        assert_string_equal(f.shards[i].last.vmta_pattern, "mta1");
    }
}

static void orders_reach_every_shard(void **state)
{
    f.shards[0].affected = 1;
    f.shards[2].affected = 4;
    assert_order("pause queue A.example/mta1", REPORT_PAUSE, "ok\nqueues paused: 5\n");
    assert_order("resume queue a.example/mta1", REPORT_RESUME, "ok\nqueues resumed: 5\n");
    assert_order("schedule a.example/mta1 --json", REPORT_SCHEDULE,
                 "ok\n{\"data\":{\"affected\":5},\"status\":\"success\","
                 "\"message\":\"recipients due now: 5\"}\n");
    assert_order("--dom delete --queue=a.example/mta1", REPORT_DELETE, "ok\naffected=\"5\"\n");
    assert_true(f.shards[0].last.older_than_us == 0);
    ask(&f, "delete --queue=a.example/mta1 --older-than=1h");
    assert_true(f.shards[0].last.older_than_us > 1767222000000000 - 1000000);
    assert_true(f.shards[0].last.older_than_us < 1767222000000000 + 100000000);
}

static void a_failure_of_one_shard_is_told(void **state)
{
    f.shards[1].result = -ENOSPC;
    assert_string_equal(ask(&f, "pause queue */*"), "error pause queue: No space left on device\n");
    assert_string_equal(ask(&f, "pause queue */* --json"),
                        "error pause queue: No space left on device\n"
                        "{\"data\":{},\"status\":\"error\","
                        "\"message\":\"pause queue: No space left on device\"}\n");
}

static void an_unknown_verb_asks_nobody(void **state)
{
    assert_string_equal(
        ask(&f, "destroy everything"),
        "error unknown: \"destroy\"; one of: show, explain, check, pause, resume, set, disable, "
        "enable, breaker, override, schedule, list, delete, reload, config, tls-report, shutdown, "
        "version, help, test\n");
    assert_memory_equal(ask(&f, "test config x"), "error ", 6);
    for (int i = 0; i < FAKE_SHARDS; i++)
        assert_int_equal(f.shards[i].asked, 0);
    assert_string_equal(ask(&f, "version"), "ok\nringpost 1.2.3\n");
    assert_non_null(strstr(ask(&f, "help"), "\n  show status\n"));
    assert_string_equal(ask(&f, "version\r"), "ok\nringpost 1.2.3\n");
}

/* ---- Shards that do not answer --------------------------------------------------------------- */

static void a_silent_shard_costs_only_the_question(void **state)
{
    f.shards[1].is_silent = true;
    assert_string_equal(ask(&f, "show queues"),
                        "error show queues: 1 of 3 shards did not answer in time\n");
    assert_string_equal(ask(&f, "version"), "ok\nringpost 1.2.3\n");
    assert_string_equal(ask(&f, "pause queue */*"),
                        "error pause queue: 1 of 3 shards did not answer in time\n");
    assert_true(f.control->gather_count >= 2);
    f.shards[1].is_silent = false;
    answer_kept(&f.shards[1]);
    sim_run_for(f.world, 3500000000ull);
    assert_true(f.control->gather_count <= 1);
    assert_memory_equal(ask(&f, "show queues"), "ok\n", 3);
}

static void an_operator_who_leaves_does_not_take_the_answer_along(void **state)
{
    struct operator_conn *conn;

    f.shards[0].is_silent = true;
    conn = operator_open(&f, OPERATOR_UID);
    operator_send(conn, "show queues\n", 12);
    sim_run_for(f.world, 100000000ull);
    operator_free(conn);
    sim_run_for(f.world, 1000000000ull);
    f.shards[0].is_silent = false;
    answer_kept(&f.shards[0]);
    sim_run_for(f.world, 1000000000ull);
    assert_memory_equal(ask(&f, "show queues"), "ok\n", 3);
}

/* ---- Operators one would rather not have ----------------------------------------------------- */

static void only_root_and_the_daemons_user_may_connect(void **state)
{
    struct operator_conn *conn = operator_open(&f, 4242);

    operator_send(conn, "version\n", 8);
    assert_true(operator_wait(conn, 5));
    assert_string_equal(conn->answer, "");
    operator_free(conn);
    conn = operator_open(&f, 0);
    operator_send(conn, "version\n", 8);
    assert_true(operator_wait(conn, 5));
    assert_string_equal(conn->answer, "ok\nringpost 1.2.3\n");
    operator_free(conn);
}

static void a_line_may_come_in_pieces(void **state)
{
    struct operator_conn *conn = operator_open(&f, OPERATOR_UID);
    const char *line = "version\nand more that nobody reads\n";

    for (const char *c = line; *c != '\0'; c++) {
        operator_send(conn, c, 1);
        sim_run_for(f.world, 1000000ull);
    }
    assert_true(operator_wait(conn, 5));
    assert_string_equal(conn->answer, "ok\nringpost 1.2.3\n");
    operator_free(conn);
}

static void a_line_too_long_is_refused(void **state)
{
    char line[VERB_LINE_MAX + 2];
    struct operator_conn *conn;

    memset(line, 'x', sizeof(line));
    conn = operator_open(&f, OPERATOR_UID);
    operator_send(conn, line, VERB_LINE_MAX + 1);
    assert_true(operator_wait(conn, 5));
    assert_string_equal(conn->answer, "error the command line is too long\n");
    operator_free(conn);
    conn = operator_open(&f, OPERATOR_UID);
    line[VERB_LINE_MAX] = '\n';
    operator_send(conn, line, VERB_LINE_MAX + 1);
    assert_true(operator_wait(conn, 5));
    assert_memory_equal(conn->answer, "error unknown: ", 15);
    operator_free(conn);
}

static void who_says_nothing_is_shown_out(void **state)
{
    struct operator_conn *conn = operator_open(&f, OPERATOR_UID);

    operator_send(conn, "show sta", 8);
    assert_false(operator_wait(conn, 9));
    assert_true(operator_wait(conn, 2));
    assert_string_equal(conn->answer, "");
    operator_free(conn);
}

static void connections_are_bounded_and_come_free_again(void **state)
{
    struct operator_conn *conns[CONTROL_CLIENTS_MAX + 3];
    int open = 0;

    for (size_t i = 0; i < sizeof(conns) / sizeof(conns[0]); i++) {
        conns[i] = operator_open(&f, OPERATOR_UID);
        sim_run_for(f.world, 1000000ull);
    }
    for (size_t i = 0; i < sizeof(conns) / sizeof(conns[0]); i++)
        open += !conns[i]->ended;
    assert_int_equal(open, CONTROL_CLIENTS_MAX);
    for (size_t i = 0; i < sizeof(conns) / sizeof(conns[0]); i++)
        operator_free(conns[i]);
    sim_run_for(f.world, 1000000000ull);
    assert_string_equal(ask(&f, "version"), "ok\nringpost 1.2.3\n");
}

static void several_operators_are_served_at_once(void **state)
{
    struct operator_conn *slow = operator_open(&f, OPERATOR_UID);

    f.shards[2].is_silent = true;
    operator_send(slow, "pause queue */*\n", 16);
    sim_run_for(f.world, 1000000000ull);
    f.shards[2].is_silent = false;
    assert_string_equal(ask(&f, "version"), "ok\nringpost 1.2.3\n");
    assert_memory_equal(ask(&f, "show queues"), "ok\n", 3);
    assert_false(slow->ended);
    answer_kept(&f.shards[2]);
    assert_true(operator_wait(slow, 5));
    assert_string_equal(slow->answer, "ok\nqueues paused: 0\n");
    operator_free(slow);
}

/* Bytes at random, leaving at any moment, on a network that misbehaves: the daemon stays. */
static void a34_garbage_never_ends_the_daemon(void **state)
{
    struct rng *rng = sim_rng(f.world);

    *sim_faults(f.world) = sim_faults_mild();
    fill_queues();
    for (int round = 0; round < 400; round++) {
        struct operator_conn *conn = operator_open(&f, OPERATOR_UID);
        uint8_t bytes[3000];
        size_t len = rng_below(rng, rng_one_in(rng, 4) ? sizeof(bytes) : 40);
        bool is_text = rng_one_in(rng, 2);

        if (conn == NULL)
            continue;
        for (size_t i = 0; i < len; i++)
            bytes[i] = is_text ? (uint8_t) "show queues --json\n\"'"[rng_below(rng, 21)]
                               : (uint8_t)rng_u64(rng);
        if (rng_one_in(rng, 3))
            operator_send(conn, "show queues\n", rng_between(rng, 5, 12));
        operator_send(conn, bytes, len);
        sim_run_for(f.world, rng_below(rng, 50000000));
        if (rng_one_in(rng, 10))
            operator_wait(conn, 60);
        operator_free(conn);
    }
    *sim_faults(f.world) = sim_faults_none();
    sim_run_for(f.world, 60000000000ull);
    assert_string_equal(ask(&f, "version"), "ok\nringpost 1.2.3\n");
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        assert_true(f.control->clients[i].state == CLIENT_FREE ||
                    f.control->clients[i].state == CLIENT_CLOSING);
}

/* ---- The end --------------------------------------------------------------------------------- */

static void shutdown_stops_the_shards_and_then_control(void **state)
{
    struct operator_conn *idle = operator_open(&f, OPERATOR_UID);

    f.shards[1].is_silent = true;
    assert_string_equal(ask(&f, "shutdown --grace=5s"), "ok\nshutting down\n");
    sim_run_for(f.world, 2000000000ull);
    assert_int_equal(f.shards[0].last.parcel.kind, REPORT_STOP);
    assert_int_equal(f.shards[0].last.grace_ms, 5000);
    assert_int_equal(f.stopped, 0);
    assert_string_equal(ask(&f, "shutdown"), "ok\nshutting down\n");
    assert_non_null(strstr(ask(&f, "version"), "1.2.3"));
    f.shards[1].is_silent = false;
    answer_kept(&f.shards[1]);
    sim_run_for(f.world, 2000000000ull);
    assert_int_equal(f.stopped, 1);
    assert_true(idle->ended);
    operator_free(idle);
    assert_null(operator_open(&f, OPERATOR_UID));
    sim_run_for(f.world, 10000000000ull);
    assert_int_equal(f.stopped, 1);
    assert_int_equal(f.shards[0].asked, 1);
}

static void shards_that_never_stop_do_not_keep_control(void **state)
{
    struct operator_conn *waiting;

    f.shards[1].is_silent = true;
    ask(&f, "shutdown --grace=1s");
    waiting = operator_open(&f, OPERATOR_UID);
    operator_send(waiting, "pause queue */*\n", 16);
    sim_run_for(f.world, 29000000000ull);
    assert_int_equal(f.stopped, 0);
    assert_false(waiting->ended);
    sim_run_for(f.world, 5000000000ull);
    assert_int_equal(f.stopped, 1);
    assert_true(waiting->ended);
    operator_free(waiting);
    answer_kept(&f.shards[1]);
    sim_run_for(f.world, 1000000000ull);
    assert_int_equal(f.control->gather_count, 0);
}

/* ---- Accounting ------------------------------------------------------------------------------ */

static int open_with_accounting(void **state)
{
    fixture_open(&f, 2, true);
    return 0;
}

static void outcomes_become_rows_and_the_spool_is_told(void **state)
{
    json_t *tree;

    f.spool.outcome_count = 1050;
    sim_run_for(f.world, 3000000000ull);
    tree = ask_json("show status --json");
    assert_int_equal(number_at(json_array_get(at(tree, "data.accounting"), 0), "rows"), 1050);
    json_decref(tree);
    assert_true(f.spool.notices > 0);
    assert_int_equal(f.spool.told.serial, 11);
    assert_true(sim_disk_size(f.world, "/acct/acct-2026-01-01-0000.csv") > 1050 * 40);
}

static void a_full_disk_is_a_warning_until_it_is_over(void **state)
{
    sim_run_for(f.world, 1000000000ull);
    sim_disk_limit(f.world, sim_disk_used(f.world));
    f.spool.outcome_count = 100;
    sim_run_for(f.world, 20000000000ull);
    assert_non_null(strstr(ask(&f, "show status"),
                           "\nWARNING: accounting file /acct/acct.csv cannot be written since "));
    assert_int_equal(f.spool.notices, 0);
    sim_disk_limit(f.world, 1000000000ull);
    sim_run_for(f.world, 3000000000ull);
    assert_null(strstr(ask(&f, "show status"), "WARNING"));
    assert_int_equal(f.spool.notices, 1);
}

static void the_last_outcomes_are_written_before_the_end(void **state)
{
    sim_run_for(f.world, 1000000000ull);
    f.shards[0].is_silent = true;
    ask(&f, "shutdown");
    f.spool.outcome_count = 777;
    f.shards[0].is_silent = false;
    answer_kept(&f.shards[0]);
    sim_run_for(f.world, 2000000000ull);
    assert_int_equal(f.stopped, 1);
    assert_int_equal(f.spool.told.serial, 8);
}

int main(void)
{
#define WITH_SHARDS(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
#define WITH_ACCOUNTING(test)                                                                      \
    cmocka_unit_test_setup_teardown(test, open_with_accounting, close_fixture)
    const struct CMUnitTest tests[] = {
        WITH_SHARDS(every_counter_of_every_shard_is_summed),
        WITH_SHARDS(traffic_is_shown_by_minute_and_hour),
        cmocka_unit_test(spans_have_their_length_at_any_time),
        WITH_SHARDS(each_directory_of_the_spool_is_shown),
        WITH_SHARDS(a_sick_spool_is_a_warning),
        WITH_SHARDS(queues_stand_in_fixed_columns),
        WITH_SHARDS(queues_stand_in_dom_lines),
        WITH_SHARDS(queues_stand_in_json),
        WITH_SHARDS(sums_by_domain_and_by_vmta),
        WITH_SHARDS(filters_and_orders),
        WITH_SHARDS(a_moving_queue_is_one),
        WITH_SHARDS(top_queues_are_ten),
        WITH_SHARDS(recipients_are_listed),
        WITH_SHARDS(addresses_come_from_the_log),
        WITH_SHARDS(what_the_log_has_no_longer_stays_empty),
        WITH_SHARDS(reads_are_bounded_and_outlive_who_asked),
        WITH_SHARDS(many_rows_come_whole),
        WITH_SHARDS(ips_of_all_shards_are_summed),
        cmocka_unit_test_setup_teardown(a_source_outside_is_read_each_second, open_with_source,
                                        close_fixture),
        WITH_SHARDS(orders_reach_every_shard),
        WITH_SHARDS(a_failure_of_one_shard_is_told),
        WITH_SHARDS(an_unknown_verb_asks_nobody),
        WITH_SHARDS(a_silent_shard_costs_only_the_question),
        WITH_SHARDS(an_operator_who_leaves_does_not_take_the_answer_along),
        WITH_SHARDS(only_root_and_the_daemons_user_may_connect),
        WITH_SHARDS(a_line_may_come_in_pieces),
        WITH_SHARDS(a_line_too_long_is_refused),
        WITH_SHARDS(who_says_nothing_is_shown_out),
        WITH_SHARDS(connections_are_bounded_and_come_free_again),
        WITH_SHARDS(several_operators_are_served_at_once),
        WITH_SHARDS(a34_garbage_never_ends_the_daemon),
        WITH_SHARDS(shutdown_stops_the_shards_and_then_control),
        WITH_SHARDS(shards_that_never_stop_do_not_keep_control),
        WITH_ACCOUNTING(outcomes_become_rows_and_the_spool_is_told),
        WITH_ACCOUNTING(a_full_disk_is_a_warning_until_it_is_over),
        WITH_ACCOUNTING(the_last_outcomes_are_written_before_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
