/* Reports about TLS as control makes them: what shards hand over is joined, shown, and reported
 * when the UTC day is over. Control is the real one, on a simulated disk and clock; what posts to
 * https addresses is the test's. */
#include "shard/control_int.h"
#include "tests/unit/shard/control_fixture.h"

#include <stdio.h>

static struct fixture f;
static char path[] = "/tmp/ringpost-tls-report-XXXXXX";

static const char base[] = "host-name mail.example.com\n"
                           "control-socket /run/control.sock\n"
                           "total-max-smtp-in 500\n"
                           "total-max-smtp-out 1500\n"
                           "tls-report-from tls@example.com\n"
                           "<spool /spool>\n</spool>\n";

#define SECOND_NS 1000000000ull
#define HOUR_NS   (3600 * SECOND_NS)
#define DAY_US    86400000000ll

/* ---- The helper's double ----------------------------------------------------------------------
 */

#define POSTS_MAX 300

static struct sts_post *posts[POSTS_MAX]; /* without an answer */
static uint32_t post_count;
static uint32_t posted; /* since the start of the test */
static bool has_no_helper;

struct sts_fetch *sts_fetch_create(struct io *io, const char *program, struct conf *const *conf,
                                   sts_fetch_done_fn *on_done, void *context)
{
    post_count = posted = 0;
    has_no_helper = false;
    return NULL;
}

void sts_fetch_destroy(struct sts_fetch *fetch)
{
}

void sts_fetch_begin(struct sts_fetch *fetch, struct slice domain)
{
    fail_msg("nobody asks for policies here");
}

void sts_fetch_post(struct sts_fetch *fetch, struct sts_post *post)
{
    assert_true(post_count < POSTS_MAX && post->report.len > 100);
    posts[post_count++] = post;
    posted++;
}

bool sts_fetch_stop(struct sts_fetch *fetch)
{
    return true;
}

bool sts_fetch_is_missing(const struct sts_fetch *fetch)
{
    return has_no_helper;
}

uint32_t sts_fetch_restarts(const struct sts_fetch *fetch)
{
    return 0;
}

struct said {
    const char *uri; /* NULL = any */
    enum sts_wire_result result;
    const char *text;
};

static void say(void *context)
{
    const struct said *said = context;
    struct sts_post *waiting[POSTS_MAX];
    uint32_t count = post_count;

    memcpy(waiting, posts, sizeof(posts));
    post_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (said->uri && !slice_equal(waiting[i]->uri, slice_str(said->uri)))
            posts[post_count++] = waiting[i];
        else
            waiting[i]->on_done(waiting[i], said->result, slice_str(said->text));
}

/* To all posts, or those to that address. */
static void answer_posts(const char *uri, enum sts_wire_result result, const char *text)
{
    struct said said = {uri, result, text};

    sim_run_in(f.daemon, say, &said);
    sim_run_for(f.world, 2 * SECOND_NS);
}

/* ---- The scene ------------------------------------------------------------------------------- */

static void start_reports(void *context)
{
    control_start_tls_reports(f.control);
}

static int open_fixture(void **state)
{
    fixture_open_with_file(&f, path, base);
    fixture_keep_history(&f, base);
    assert_in(ask(&f, "reload"), "ok\n");
    sim_run_in(f.daemon, start_reports, NULL);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close_clean(&f);
    return 0;
}

static void post_batch(void *context)
{
    struct fake_shard *shard = context;

    mailbox_post(shard->to_control, &shard->batch.parcel);
}

/* The shard hands over so many successes, and one failure. */
static void count(uint16_t shard, const char *domain, uint64_t successes, bool is_last)
{
    struct fake_shard *from = &f.shards[shard];
    struct tlsrpt_count one = {.domain = slice_str(domain), .count = successes};

    from->batch = (struct tls_report_batch){.parcel = {.kind = TLS_REPORT_COUNTS, .from = shard},
                                            .is_last = is_last};
    tlsrpt_batch_init(&from->batch.counts, (int32_t)(sim_wall_us(f.world) / DAY_US));
    assert_true(tlsrpt_batch_add(&from->batch.counts, &one));
    one = (struct tlsrpt_count){
        .domain = slice_str(domain), .result = TLSRPT_NO_STARTTLS, .count = 1};
    assert_true(tlsrpt_batch_add(&from->batch.counts, &one));
    sim_run_in(f.daemon, post_batch, from);
    sim_run_for(f.world, SECOND_NS / 100);
}

static uint32_t orders(void)
{
    uint32_t sum = 0;

    for (int i = 0; i < FAKE_SHARDS; i++)
        sum += f.shards[i].orders;
    return sum;
}

static void set_fates(uint8_t fate)
{
    for (int i = 0; i < FAKE_SHARDS; i++)
        f.shards[i].fate = fate;
}

static void set_uris(const char *first, const char *second)
{
    for (int i = 0; i < FAKE_SHARDS; i++) {
        f.shards[i].uris[0] = first;
        f.shards[i].uris[1] = second;
    }
}

static void host_apart(void)
{
    for (int i = 0; i < FAKE_SHARDS; i++)
        f.shards[i].is_hosted_apart = true;
}

static uint32_t mailed_before(void)
{
    uint32_t sum = 0;

    for (int i = 0; i < FAKE_SHARDS; i++)
        sum += f.shards[i].mailed_before;
    return sum;
}

static void pass(int64_t seconds)
{
    sim_wall_jump(f.world, seconds * 1000000);
    sim_run_for(f.world, 2 * SECOND_NS);
}

/* To so many seconds behind the end of the UTC day. */
static void to_next_day(int64_t seconds)
{
    sim_wall_jump(f.world, DAY_US - (int64_t)sim_wall_us(f.world) % DAY_US + seconds * 1000000);
    sim_run_for(f.world, 2 * SECOND_NS);
}

static void shards_are_joined_and_shown(void **state)
{
    count(0, "a.test", 3, false);
    count(1, "a.test", 4, false);
    count(2, "b.test", 1, true);
    assert_in(ask(&f, "show tls-report --dom"),
              "tlsReport[0].domain=\"a.test\"\ntlsReport[0].policy=\"no-policy-found\"\n"
              "tlsReport[0].host=\"\"\ntlsReport[0].successful=\"7\"\ntlsReport[0].failed=\"2\"\n"
              "tlsReport[0].results.starttls-not-supported=\"2\"\n");
    assert_null(strstr(ask(&f, "show tls-report b.test"), "a.test"));
    assert_in(ask(&f, "show tls-report b.test"), "starttls-not-supported 1");
    assert_in(ask(&f, "show tls-report b.test/v"), "error show tls-report wants a domain");
    assert_int_equal(f.shards[0].batches_home, 1);
    assert_int_equal(f.shards[2].batches_home, 0);
    assert_int_equal(f.shards[0].last.parcel.kind, REPORT_TLS);
}

/* Whoever does not say how many wants an answer that control can give in a turn. */
static void an_answer_is_bounded(void **state)
{
    for (unsigned i = 0; i < CONTROL_SHOWN_MAX + 50; i++) {
        char domain[16];

        snprintf(domain, sizeof(domain), "d%u.test", i);
        count(0, domain, 1, false);
    }
    assert_in(ask(&f, "show tls-report --dom"), "tlsReport[999].domain=");
    assert_null(strstr(ask(&f, "show tls-report --dom"), "tlsReport[1000].domain="));
    assert_in(ask(&f, "show tls-report --dom --maxitems=1020"), "tlsReport[1019].domain=");
    assert_null(
        strstr(ask(&f, "show tls-report --dom --maxitems=1020"), "tlsReport[1020].domain="));
}

static void control_asks_each_minute(void **state)
{
    uint32_t asked = f.shards[1].asked;

    sim_run_for(f.world, 600 * SECOND_NS);
    assert_in_range(f.shards[1].asked - asked, 10, 11);
}

static void the_day_ends_and_reports_go(void **state)
{
    char name[32];

    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "%u.test", i);
        count(i % FAKE_SHARDS, name, 1, false);
    }
    to_next_day(0);
    count(0, "tomorrow.test", 1, false);
    sim_run_for(f.world, 290 * SECOND_NS);
    assert_int_equal(orders(), 0);
    sim_run_for(f.world, 2 * HOUR_NS);
    assert_in_range(orders(), 25, 75);
    sim_run_for(f.world, 2 * HOUR_NS + 60 * SECOND_NS);
    assert_int_equal(orders(), 100);
    for (int i = 0; i < FAKE_SHARDS; i++)
        assert_in_range(f.shards[i].ordered_bytes, 100, 1000);
    sim_run_for(f.world, 4 * HOUR_NS);
    assert_int_equal(orders(), 100);
    assert_in(ask(&f, "show tls-report --dom"), "waiting=\"0\"\nsent=\"100\"\n");
    assert_in(ask(&f, "show tls-report"), "tomorrow.test");
}

static void without_an_answer_it_is_tried_again_for_a_day(void **state)
{
    count(0, "a.test", 1, false);
    set_fates(TLS_REPORT_LATER);
    to_next_day(5 * 3600);
    assert_int_equal(orders(), 1);
    sim_run_for(f.world, HOUR_NS / 2);
    assert_int_equal(orders(), 1);
    sim_run_for(f.world, HOUR_NS);
    assert_int_equal(orders(), 2);
    set_fates(TLS_REPORT_NOT_WANTED);
    sim_run_for(f.world, HOUR_NS);
    assert_int_equal(orders(), 3);
    sim_run_for(f.world, 2 * HOUR_NS);
    assert_int_equal(orders(), 3);
    assert_in(ask(&f, "show tls-report --dom"), "waiting=\"0\"\nsent=\"0\"\n");
    count(0, "b.test", 1, false);
    set_fates(TLS_REPORT_LATER);
    to_next_day(5 * 3600);
    to_next_day(5 * 3600);
    assert_in(ask(&f, "show tls-report --dom"), "waiting=\"0\"\n");
}

static void an_operator_need_not_wait(void **state)
{
    char name[32];

    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "%u.test", i);
        count(0, name, 1, false);
    }
    assert_in(ask(&f, "tls-report send"), "sent now: 50");
    sim_run_for(f.world, 10 * SECOND_NS);
    assert_int_equal(orders(), 50);
    assert_in(ask(&f, "tls-report send"), "sent now: 0");
}

static void a_report_goes_to_all_addresses(void **state)
{
    set_uris("https://a.b/c", "https://d.e/f");
    count(0, "a.test", 3, false);
    assert_in(ask(&f, "tls-report send"), "sent now: 1");
    sim_run_for(f.world, SECOND_NS);
    assert_int_equal(posted, 2);
    assert_in(ask(&f, "show tls-report --dom"),
              "waiting=\"1\"\nsent=\"1\"\nposted=\"0\"\ngivenUp=\"0\"\n");
    assert_in(ask(&f, "show tls-report --dom"), "byHttps[0].domain=\"a.test\"\n");
    assert_in(ask(&f, "show tls-report --dom a.test"), "byHttps[0].domain=\"a.test\"\n");
    assert_null(strstr(ask(&f, "show tls-report --dom b.test"), "a.test"));
    assert_in(ask(&f, "tls-report send"), "sent now: 1");
    answer_posts("https://d.e/f", STS_WIRE_TAKEN, "");
    assert_int_equal(post_count, 1);
    answer_posts(NULL, STS_WIRE_TAKEN, "");
    assert_in(ask(&f, "show tls-report --dom"),
              "waiting=\"0\"\nsent=\"1\"\nposted=\"1\"\ngivenUp=\"0\"\n");
    assert_in(ask(&f, "show tls-report"), "1 by mail, 1 by https, 0 not taken");
    assert_int_equal(orders(), 1);
}

static void what_is_not_taken_is_tried_again(void **state)
{
    set_uris("https://a.b/c", "https://d.e/f");
    count(0, "a.test", 3, false);
    ask(&f, "tls-report send");
    sim_run_for(f.world, SECOND_NS);
    answer_posts("https://a.b/c", STS_WIRE_TAKEN, "");
    answer_posts(NULL, STS_WIRE_UNREACHED, "the host answers with HTTP status 503");
    assert_in(ask(&f, "show tls-report"), "HTTP status 503");
    assert_in(ask(&f, "show tls-report --dom"), "failed=\"1\"\nbyHttps[0].taken=\"1\"\n");
    pass(290);
    assert_int_equal(posted, 2);
    pass(10);
    /* Mail is not written again, and who has it does not get it again. */
    assert_int_equal(posted, 3);
    assert_int_equal(post_count, 1);
    assert_true(slice_equal(posts[0]->uri, SLICE_LITERAL("https://d.e/f")));
    assert_int_equal(mailed_before(), 1);
    answer_posts(NULL, STS_WIRE_DISTRUSTED, "its certificate does not hold");
    pass(590);
    assert_int_equal(posted, 3);
    /* An operator need not wait. */
    assert_in(ask(&f, "tls-report send"), "sent now: 1");
    sim_run_for(f.world, SECOND_NS);
    assert_int_equal(posted, 4);
    answer_posts(NULL, STS_WIRE_TAKEN, "");
    assert_in(ask(&f, "show tls-report --dom"),
              "waiting=\"0\"\nsent=\"1\"\nposted=\"1\"\ngivenUp=\"0\"\n");
}

static void after_a_day_it_is_dropped(void **state)
{
    uint32_t tries = 0;

    set_uris("https://a.b/c", NULL);
    set_fates(TLS_REPORT_NO_MAIL);
    count(0, "a.test", 3, false);
    ask(&f, "tls-report send");
    sim_run_for(f.world, SECOND_NS);
    for (int minute = 0; minute < 24 * 60; minute += 5) {
        if (post_count > 0) {
            answer_posts(NULL, STS_WIRE_UNREACHED, "the host does not answer in time");
            tries++;
        }
        pass(300);
    }
    assert_int_equal(tries, 11);
    assert_in(ask(&f, "show tls-report --dom"),
              "waiting=\"0\"\nsent=\"0\"\nposted=\"0\"\ngivenUp=\"1\"\n");
}

/* Without the helper nothing is tried again; mail goes as it did. */
static void without_the_helper_mail_goes_alone(void **state)
{
    set_uris("https://a.b/c", NULL);
    count(0, "a.test", 3, false);
    ask(&f, "tls-report send");
    sim_run_for(f.world, SECOND_NS);
    has_no_helper = true;
    answer_posts(NULL, STS_WIRE_UNREACHED, "the helper program cannot be started");
    assert_in(ask(&f, "show tls-report --dom"),
              "waiting=\"0\"\nsent=\"1\"\nposted=\"0\"\ngivenUp=\"1\"\n");
    assert_in(ask(&f, "show tls-report"), "ringpost-sts cannot be started");
}

/* So many octets are held at once and no more; the others have their turn when there is room. */
static void posts_are_bounded(void **state)
{
    char name[32];

    host_apart();
    set_fates(TLS_REPORT_NO_MAIL);
    for (unsigned i = 0; i < TLS_POSTS_MAX + 10; i++) {
        snprintf(name, sizeof(name), "%u.test", i);
        count(0, name, 1, false);
    }
    ask(&f, "tls-report send");
    sim_run_for(f.world, 20 * SECOND_NS);
    assert_int_equal(posted, TLS_POSTS_MAX);
    /* Nobody is asked about them meanwhile, and who can have mail has it. */
    sim_run_for(f.world, 600 * SECOND_NS);
    assert_int_equal(orders(), TLS_POSTS_MAX + 10);
    set_fates(TLS_REPORT_SENT);
    count(0, "mailed.test", 1, false);
    ask(&f, "tls-report send");
    sim_run_for(f.world, 10 * SECOND_NS);
    assert_int_equal(orders(), TLS_POSTS_MAX + 11);
    assert_in(ask(&f, "show tls-report --dom"), "sent=\"1\"\nposted=\"0\"\n");
    answer_posts(NULL, STS_WIRE_TAKEN, "");
    sim_run_for(f.world, 30 * SECOND_NS);
    assert_int_equal(posted, TLS_POSTS_MAX + 11);
    answer_posts(NULL, STS_WIRE_TAKEN, "");
    assert_in(ask(&f, "show tls-report --dom"), "waiting=\"0\"\nsent=\"1\"\nposted=\"75\"\n");
}

/* One that many domains name, and that hangs, or is slow, has so many and no more; the others have
 * theirs meanwhile. */
static void one_host_is_not_given_all_at_once(void **state)
{
    char name[32];

    set_uris("https://a.b/c", "https://A.B:8443/d");
    set_fates(TLS_REPORT_NO_MAIL);
    for (unsigned i = 0; i < 3 * TLS_POSTS_HOST_MAX; i++) {
        snprintf(name, sizeof(name), "%u.test", i);
        count(0, name, 1, false);
    }
    ask(&f, "tls-report send");
    sim_run_for(f.world, 10 * SECOND_NS);
    assert_int_equal(posted, TLS_POSTS_HOST_MAX);
    set_uris(NULL, NULL);
    host_apart();
    count(0, "other.test", 1, false);
    ask(&f, "tls-report send");
    sim_run_for(f.world, 10 * SECOND_NS);
    assert_int_equal(posted,
                     TLS_POSTS_HOST_MAX + 3 * TLS_POSTS_HOST_MAX - TLS_POSTS_HOST_MAX / 2 + 1);
    answer_posts("https://other.test/", STS_WIRE_TAKEN, "");
    assert_in(ask(&f, "show tls-report --dom"), "posted=\"1\"\n");
}

/* The book is dropped while a report of it is on its way: the answer is nobody's. */
static void an_answer_may_come_too_late(void **state)
{
    set_uris("https://a.b/c", NULL);
    count(0, "a.test", 3, false);
    to_next_day(5 * 3600);
    assert_int_equal(posted, 1);
    pass(86400);
    assert_in(ask(&f, "show tls-report --dom"), "waiting=\"0\"\n");
    answer_posts(NULL, STS_WIRE_TAKEN, "");
    assert_in(ask(&f, "show tls-report --dom"), "posted=\"0\"\n");
}

/* Five minutes at most are lost. */
static void a_crash_forgets_little(void **state)
{
    struct tls_books books;

    count(0, "a.test", 5, false);
    sim_run_for(f.world, 301 * SECOND_NS);
    sim_enter(f.daemon);
    tls_books_init(&books, f.control_io, 1);
    tls_books_load(&books, "/spool");
    assert_int_equal(books.open.domains.count_used, 1);
    assert_int_equal(tlsrpt_book_find(&books.open, SLICE_LITERAL("a.test"))->policies->successes,
                     5);
    tls_books_fini(&books);
    sim_leave(f.daemon);
}

static void end_reports(void)
{
    fixture_write_file("host-name mail.example.com\ncontrol-socket /run/control.sock\n"
                       "total-max-smtp-in 500\ntotal-max-smtp-out 1500\n<spool /spool>\n</spool>\n",
                       "");
    assert_in(ask(&f, "reload"), "ok\n");
}

static void without_an_address_nothing_is_made(void **state)
{
    uint32_t asked = f.shards[1].asked;

    count(0, "a.test", 5, false);
    end_reports();
    assert_in(ask(&f, "tls-report send"), "no reports about TLS are made");
    to_next_day(5 * 3600);
    assert_int_equal(orders(), 0);
    sim_run_for(f.world, 600 * SECOND_NS);
    assert_in_range(f.shards[1].asked - asked, 0, 3);
    fixture_write_file(base, "");
}

/* While some are away, and others are due. */
static void a_reload_may_end_reports(void **state)
{
    set_uris("https://a.b/c", NULL);
    for (unsigned i = 0; i < 3 * CONTROL_TLS_ORDERS; i++) {
        char name[32];

        snprintf(name, sizeof(name), "%u.test", i);
        count(0, name, 1, false);
    }
    for (int i = 0; i < FAKE_SHARDS; i++)
        f.shards[i].keeps_orders = true;
    to_next_day(5 * 3600);
    assert_int_equal(orders(), CONTROL_TLS_ORDERS);
    end_reports();
    for (int i = 0; i < FAKE_SHARDS; i++)
        answer_kept(&f.shards[i]);
    sim_run_for(f.world, 10 * SECOND_NS);
    assert_int_equal(orders(), CONTROL_TLS_ORDERS);
    answer_posts(NULL, STS_WIRE_UNREACHED, "the host does not answer in time");
    assert_int_equal(orders(), CONTROL_TLS_ORDERS);
    fixture_write_file(base, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(shards_are_joined_and_shown),
        TEST(an_answer_is_bounded),
        TEST(control_asks_each_minute),
        TEST(the_day_ends_and_reports_go),
        TEST(without_an_answer_it_is_tried_again_for_a_day),
        TEST(an_operator_need_not_wait),
        TEST(a_report_goes_to_all_addresses),
        TEST(what_is_not_taken_is_tried_again),
        TEST(after_a_day_it_is_dropped),
        TEST(without_the_helper_mail_goes_alone),
        TEST(posts_are_bounded),
        TEST(one_host_is_not_given_all_at_once),
        TEST(an_answer_may_come_too_late),
        TEST(a_crash_forgets_little),
        TEST(without_an_address_nothing_is_made),
        TEST(a_reload_may_end_reports),
    };

    return fixture_run_with_file(tests, sizeof(tests) / sizeof(tests[0]), path);
}
