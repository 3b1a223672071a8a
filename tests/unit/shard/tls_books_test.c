/* Books of TLS reports on a simulated disk: they end with their day, their reports are spread, and
 * what was counted is there after a restart. */
#include "shard/tls_books.h"

#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "shard/kept_file.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define DAY_S  86400
#define DAY_US (DAY_S * 1000000ll)

static struct sim_world *world;
static struct sim_process *process;
static struct io *io;
static struct tls_books books;

static void quiet(void *context, enum log_level level, const char *text)
{
}

static void begin_life(void)
{
    process = sim_process_create(world);
    sim_io_create(world, process, &io);
    sim_enter(process);
    io_dir_create(io, "/spool");
    io_dir_sync(io, "/");
    tls_books_init(&books, io, 7);
    tls_books_load(&books, "/spool");
}

static void end_life(void)
{
    tls_books_fini(&books);
    sim_leave(process);
}

static int open_world(void **state)
{
    struct sim_options options = {0};

    log_set_sink(quiet, NULL);
    world = sim_world_create(1, &options);
    begin_life();
    return 0;
}

static int close_world(void **state)
{
    end_life();
    sim_world_destroy(world);
    log_set_sink(NULL, NULL);
    return 0;
}

static int64_t now_s(void)
{
    return (int64_t)(io_wall_us(io) / 1000000);
}

static int32_t today(void)
{
    return (int32_t)(now_s() / DAY_S);
}

static void count(int32_t day, const char *domain, uint64_t number)
{
    static struct tlsrpt_batch batch;
    struct tlsrpt_count one = {.domain = slice_str(domain), .count = number};

    tlsrpt_batch_init(&batch, day);
    assert_true(tlsrpt_batch_add(&batch, &one));
    one.result = TLSRPT_EXPIRED;
    one.host = SLICE_LITERAL("mx.test");
    one.source = (struct ipaddr){.family = IPADDR_V4, .bytes = {192, 0, 2, 1}};
    assert_true(tlsrpt_batch_add(&batch, &one));
    tls_books_add(&books, &batch);
}

/* Successes of the domain in a book; 0 when it is not there. */
static uint64_t successes(const struct tlsrpt_book *book, const char *domain)
{
    const struct tlsrpt_domain *found = tlsrpt_book_find(book, slice_str(domain));

    return found ? found->policies->successes : 0;
}

/* A loop looks at the clock once a turn. */
static void jump(int64_t by_us)
{
    sim_leave(process);
    sim_wall_jump(world, by_us);
    sim_run_for(world, 1000000);
    sim_enter(process);
}

static void to_next_day(void)
{
    jump(DAY_US - (int64_t)io_wall_us(io) % DAY_US);
}

static void a_book_ends_with_its_day(void **state)
{
    int32_t day = today();
    struct tlsrpt_book *book;

    count(day, "a.test", 3);
    jump(3600 * 1000000ll);
    tls_books_turn(&books);
    assert_int_equal(books.ended_count, 0);
    to_next_day();
    tls_books_turn(&books);
    assert_int_equal(books.ended_count, 1);
    assert_int_equal(books.ended[0].until_s, (int64_t)(day + 1) * DAY_S);
    assert_int_equal(books.open.day, day + 1);
    assert_int_equal(books.open.from_s, books.ended[0].until_s);
    /* What a shard hands over a moment later still belongs there. */
    count(day, "a.test", 4);
    assert_int_equal(successes(&books.ended[0], "a.test"), 7);
    assert_null(tlsrpt_book_find(&books.open, SLICE_LITERAL("a.test")));
    count(day - 1, "a.test", 5);
    assert_int_equal(books.lost, 10);
    assert_null(tls_books_due(&books, true, &book));
    /* So may the first that is known of a domain; its report waits like the others. */
    count(day, "late.test", 1);
    jump(298 * 1000000ll);
    assert_null(tls_books_due(&books, true, &book));
    assert_in_range(tlsrpt_book_find(&books.ended[0], SLICE_LITERAL("late.test"))->due_s -
                        books.ended[0].until_s,
                    300, 14700);
}

/* It stood a year ahead when the daemon began. */
static void a_clock_that_is_set_right_goes_on_counting(void **state)
{
    int32_t right = today();

    jump(365 * DAY_US);
    end_life();
    begin_life();
    count(today(), "a.test", 3);
    assert_int_equal(books.open.day, right + 365);
    jump(-365 * DAY_US);
    count(today(), "a.test", 4);
    assert_int_equal(books.open.day, right);
    assert_int_equal(successes(&books.open, "a.test"), 7);
    assert_int_equal(books.lost, 0);
    /* A step back over midnight opens no day again. */
    to_next_day();
    count(today(), "a.test", 1);
    jump(-1000000);
    count(today(), "a.test", 1);
    assert_int_equal(books.open.day, right + 1);
    assert_int_equal(books.ended_count, 1);
    assert_int_equal(successes(&books.ended[0], "a.test"), 8);
}

static void reports_are_spread(void **state)
{
    int64_t end, least = INT64_MAX, most = 0;
    int32_t day = today();
    struct tlsrpt_book *book;
    char name[32];
    uint32_t due = 0;

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "%u.test", i);
        count(today(), name, 1);
    }
    to_next_day();
    tls_books_turn(&books);
    end = books.ended[0].until_s;
    for (uint32_t i = 0; i < tlsrpt_book_places(&books.ended[0]); i++) {
        const struct tlsrpt_domain *domain = tlsrpt_book_at(&books.ended[0], i);

        if (!domain)
            continue;
        least = domain->due_s < least ? domain->due_s : least;
        most = domain->due_s > most ? domain->due_s : most;
    }
    assert_in_range(least - end, 300, 600);
    assert_in_range(most - end, 14000, 14700);
    jump((300 + 7200) * 1000000ll);
    for (struct tlsrpt_domain *domain; (domain = tls_books_due(&books, true, &book)) != NULL;
         due++) {
        assert_true(domain->due_s <= now_s());
        assert_ptr_equal(book, &books.ended[0]);
        tlsrpt_book_drop(book, domain);
    }
    assert_in_range(due, 400, 600);
    /* What nobody sends within a day of its time is dropped. */
    due = 0;
    jump(DAY_US);
    tls_books_turn(&books);
    for (uint32_t i = 0; i < books.ended_count; i++)
        due += books.ended[i].day == day ? books.ended[i].domains.count_used : 0;
    assert_in_range(due, 400, 600);
    jump(1000000ll * 7201);
    tls_books_turn(&books);
    for (uint32_t i = 0; i < books.ended_count; i++)
        assert_int_not_equal(books.ended[i].day, day);
}

static void an_operator_ends_it_at_once(void **state)
{
    struct tlsrpt_book *book;
    struct tlsrpt_domain *domain;

    assert_int_equal(tls_books_end(&books), 0);
    count(today(), "a.test", 1);
    jump(1000000);
    assert_int_equal(tls_books_end(&books), 1);
    domain = tls_books_due(&books, true, &book);
    assert_non_null(domain);
    domain->is_away = true;
    assert_null(tls_books_due(&books, true, &book));
    /* The rest of the day is another report's. */
    count(today(), "a.test", 5);
    assert_int_equal(successes(&books.open, "a.test"), 5);
    assert_int_equal(successes(&books.ended[0], "a.test"), 1);
    assert_int_equal(books.open.from_s, books.ended[0].until_s);
    for (unsigned i = 0; i < 20; i++) {
        count(today(), "b.test", 1);
        tls_books_end(&books);
    }
    assert_int_equal(books.ended_count, TLS_BOOKS_ENDED_MAX);
}

static void a_restart_takes_it_up(void **state)
{
    int32_t day = today();
    char name[32];

    for (unsigned i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "%u.test", i);
        count(day, name, i + 1);
    }
    assert_int_equal(tls_books_store(&books), 0);
    end_life();
    begin_life();
    assert_int_equal(books.ended_count, 0);
    assert_int_equal(books.open.domains.count_used, 3000);
    assert_int_equal(successes(&books.open, "41.test"), 42);
    assert_int_equal(tlsrpt_book_find(&books.open, SLICE_LITERAL("41.test"))->policies->failures,
                     42);
    count(day, "41.test", 8);
    assert_int_equal(tls_books_store(&books), 0);
    /* The day is over when the daemon comes back. */
    to_next_day();
    end_life();
    begin_life();
    assert_int_equal(books.ended_count, 1);
    assert_int_equal(successes(&books.ended[0], "41.test"), 50);
    assert_int_equal(books.ended[0].until_s, (int64_t)(day + 1) * DAY_S);
    assert_int_equal(books.open.domains.count_used, 0);
    assert_in_range(tlsrpt_book_find(&books.ended[0], SLICE_LITERAL("41.test"))->due_s -
                        books.ended[0].until_s,
                    300, 14700);
}

/* By https a report is tried again, with gaps that grow, for most of a day. */
static void a_try_that_failed_is_put_off(void **state)
{
    static const int64_t minutes[] = {5, 10, 20, 40, 80, 160, 240, 240, 240, 240};
    struct tlsrpt_book *book;
    struct tlsrpt_domain *domain;

    count(today(), "a.test", 1);
    tls_books_end(&books);
    domain = tls_books_due(&books, true, &book);
    domain->is_begun = true;
    assert_null(tls_books_due(&books, false, &book));
    assert_ptr_equal(tls_books_due(&books, true, &book), domain);
    for (unsigned i = 0; i < sizeof(minutes) / sizeof(minutes[0]); i++) {
        assert_true(tls_books_put_off(&books, domain));
        assert_int_equal(domain->due_s, now_s() + 60 * minutes[i]);
        assert_null(tls_books_due(&books, true, &book));
        jump((60 * minutes[i] - 1) * 1000000);
        tls_books_turn(&books);
        assert_null(tls_books_due(&books, true, &book));
        jump(1000000);
        tls_books_turn(&books);
        assert_ptr_equal(tls_books_due(&books, true, &book), domain);
    }
    assert_false(tls_books_put_off(&books, domain));
}

/* What was mailed is not mailed again, who has it does not get it again, and nothing is due because
 * of a restart. */
static void a_restart_knows_what_is_begun(void **state)
{
    struct tlsrpt_book *book;
    struct tlsrpt_domain *domain;
    int64_t due_s;

    count(today(), "a.test", 1);
    count(today(), "b.test", 1);
    tls_books_end(&books);
    domain = tlsrpt_book_find(&books.ended[0], SLICE_LITERAL("a.test"));
    domain->is_begun = true;
    for (uint64_t hash = 1; hash <= TLSRPT_TAKEN_MAX + 1; hash++)
        tlsrpt_domain_note_taken(domain, hash);
    tlsrpt_domain_note_taken(domain, 3);
    for (int i = 0; i < 3; i++)
        assert_true(tls_books_put_off(&books, domain));
    due_s = domain->due_s;
    assert_int_equal(tls_books_store(&books), 0);
    end_life();
    begin_life();
    domain = tlsrpt_book_find(&books.ended[0], SLICE_LITERAL("a.test"));
    assert_true(domain->is_begun && domain->tries == 3 && domain->due_s == due_s);
    for (uint64_t hash = 0; hash <= TLSRPT_TAKEN_MAX + 1; hash++)
        assert_int_equal(tlsrpt_domain_has_taken(domain, hash), hash > 1);
    domain = tlsrpt_book_find(&books.ended[0], SLICE_LITERAL("b.test"));
    assert_true(!domain->is_begun && domain->tries == 0 && domain->taken_count == 0);
    jump(20 * 60 * 1000000ll);
    assert_string_equal(tls_books_due(&books, true, &book)->name, "a.test");
    /* A clock that was ahead puts nothing off for longer than it could be. */
    tlsrpt_book_find(&books.ended[0], SLICE_LITERAL("a.test"))->due_s = now_s() + 10 * DAY_S;
    books.is_changed = true;
    assert_int_equal(tls_books_store(&books), 0);
    end_life();
    begin_life();
    domain = tlsrpt_book_find(&books.ended[0], SLICE_LITERAL("a.test"));
    assert_int_equal(domain->due_s, now_s() + 4 * 3600);
}

/* As versions before reports by https wrote it: a book, its one count, and nothing behind it. */
static void an_older_file_is_read(void **state)
{
    uint8_t room[TLSRPT_RECORD_MAX + 100], record[TLSRPT_RECORD_MAX];
    struct tlsrpt_count one = {.domain = SLICE_LITERAL("a.test"), .count = 5};
    size_t len = tlsrpt_encode(&one, record);
    struct wire_writer w;
    char head[64];
    struct slice body;

    wire_writer_init(&w, room, sizeof(room));
    wire_put_u32(&w, (uint32_t)today());
    wire_put_u64(&w, (uint64_t)now_s());
    wire_put_u64(&w, 0);
    wire_put_u32(&w, 1);
    wire_put_u64(&w, 5);
    wire_put_str16(&w, slice_of(record, len));
    body = slice_of(room, wire_written(&w));
    for (int version = 1; version <= 3; version += 2) {
        int head_len = snprintf(head, sizeof(head), "ringpost tls-report %d %08x\n", version,
                                crc32c(0, body.data, body.len));

        assert_int_equal(
            kept_file_store(io, "/spool", "tls-report", slice_of(head, (size_t)head_len), body), 0);
        end_life();
        begin_life();
        assert_int_equal(books.open.domains.count_used, version == 1);
    }
}

static void damage_is_said_and_ends_nothing(void **state)
{
    uint8_t octet;
    uint64_t bytes;
    int fd;

    count(today(), "a.test", 3);
    assert_int_equal(tls_books_store(&books), 0);
    assert_int_equal(io_file_open(io, "/spool/tls-report", IO_FILE_READ | IO_FILE_WRITE, &fd), 0);
    assert_int_equal(io_file_size(io, fd, &bytes), 0);
    assert_int_equal(io_file_read_now(io, fd, &octet, 1, bytes - 5), 1);
    octet ^= 1;
    assert_int_equal(io_file_write_now(io, fd, &octet, 1, bytes - 5), 1);
    io_close_now(io, fd);
    end_life();
    begin_life();
    assert_int_equal(books.open.domains.count_used, 0);
    count(today(), "b.test", 1);
    assert_int_equal(tls_books_store(&books), 0);
    end_life();
    begin_life();
    assert_int_equal(successes(&books.open, "b.test"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_clock_that_is_set_right_goes_on_counting),
        TEST(a_book_ends_with_its_day),
        TEST(reports_are_spread),
        TEST(an_operator_ends_it_at_once),
        TEST(a_restart_takes_it_up),
        TEST(a_try_that_failed_is_put_off),
        TEST(a_restart_knows_what_is_begun),
        TEST(an_older_file_is_read),
        TEST(damage_is_said_and_ends_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
