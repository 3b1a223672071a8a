/*
 * What a <warm-up> lets out, with shards that are nothing but warm-ups: their parcels arrive in any
 * order that mailboxes allow, the log answers when it likes, fails, or loses what it has not
 * answered in a crash after which there are as many shards as one likes. A receiver counts.
 */
#include "core/base/mem.h"
#include "core/mail/classify.h"
#include "shard/planted.h"
#include "shard/shard_int.h"
#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

#define SHARDS_MAX  16
#define LIFE_SHARDS 4 /* at random */
#define PARCELS_MAX 64
#define WRITES_MAX  16
#define KEPT_MAX    8
#define HISTORIES   12
#define DAYS        10
#define DAY_S       86400
#define NOON_S      (DAY_S / 2)
#define PROVIDER    4711

struct mailbox {
    struct parcel *parcels[PARCELS_MAX];
    uint32_t count;
};

struct write {
    uint16_t shard;
    uint32_t book;
    char name[128];
    uint8_t value[WARMUP_BOOK_BYTES];
    size_t value_bytes;
};

static struct stage {
    struct shard *shards[SHARDS_MAX];
    struct queue queues[SHARDS_MAX];
    struct lane lanes[SHARDS_MAX];
    struct site sites[SHARDS_MAX];
    struct connection connections[SHARDS_MAX];
    uint16_t count;
    struct conf *conf;
    struct rng rng;
    int64_t wall_s;
    struct mailbox boxes[SHARDS_MAX][SHARDS_MAX];
    struct write writes[WRITES_MAX];
    uint32_t write_count;
    struct write kept[KEPT_MAX];
    uint32_t kept_count;
    uint64_t waited_ms;
    uint32_t over_count;
    struct message message;
    uint32_t tried[DAYS + 2];
} stage;

static const struct ipaddr source = {IPADDR_V4, {192, 0, 2, 1}};
static const char *planted_on;

bool planted_active(const char *name)
{
    return planted_on != NULL && strcmp(planted_on, name) == 0;
}

/* ---- What is not there ----------------------------------------------------------------------- */

void shard_post(struct shard *shard, uint16_t to, struct parcel *parcel)
{
    struct mailbox *box = &stage.boxes[shard->number][to];

    assert_true(box->count < PARCELS_MAX);
    box->parcels[box->count++] = parcel;
}

uint64_t io_wall_us(const struct io *io)
{
    return (uint64_t)stage.wall_s * 1000000;
}

void queues_wait(struct shard *shard, struct queue *queue, uint64_t delay_ms, enum wait_reason why)
{
    assert_int_equal(why, WAIT_WARMUP);
    stage.waited_ms = delay_ms;
}

void queues_expire(struct shard *shard, struct queue *queue)
{
}

bool memo_warm(struct shard *shard, struct slice name, struct slice value, uint32_t book)
{
    struct write *write = &stage.writes[stage.write_count];

    if (stage.write_count == WRITES_MAX)
        return false;
    stage.write_count++;
    write->shard = shard->number;
    write->book = book;
    write->value_bytes = value.len;
    memcpy(write->value, value.data, value.len);
    snprintf(write->name, sizeof(write->name), "%.*s", (int)name.len, (const char *)name.data);
    return true;
}

static void keep(const struct write *write)
{
    uint32_t i = 0;

    while (i < stage.kept_count && strcmp(stage.kept[i].name, write->name) != 0)
        i++;
    assert_true(i < KEPT_MAX);
    stage.kept[i] = *write;
    stage.kept_count = i == stage.kept_count ? i + 1 : stage.kept_count;
}

/* The oldest write is done; false when there is none. */
static bool log_answers(int32_t status)
{
    struct write write = stage.writes[0];

    if (stage.write_count == 0)
        return false;
    memmove(stage.writes, stage.writes + 1, --stage.write_count * sizeof(write));
    if (status == 0)
        keep(&write);
    warm_on_logged(stage.shards[write.shard], write.book, status);
    return true;
}

static bool deliver(uint16_t from, uint16_t to)
{
    struct mailbox *box = &stage.boxes[from][to];
    struct parcel *parcel = box->parcels[0];

    if (box->count == 0)
        return false;
    memmove(box->parcels, box->parcels + 1, --box->count * sizeof(parcel));
    warm_on_parcel(stage.shards[to], parcel);
    return true;
}

void migrate_let_over(struct shard *shard, struct queue *queue, uint32_t count)
{
    stage.over_count = count;
}

static void settle(void)
{
    bool is_moving = true;

    while (is_moving) {
        is_moving = log_answers(0);
        for (uint16_t i = 0; i < stage.count * stage.count; i++)
            is_moving |= deliver(i / stage.count, i % stage.count);
    }
}

/* ---- Lives ----------------------------------------------------------------------------------- */

static void begin_life(uint16_t count)
{
    stage.count = count;
    for (uint16_t i = 0; i < count; i++) {
        struct shard *shard = calloc(1, sizeof(*shard));

        shard->conf = stage.conf;
        shard->number = i;
        shard->count = count;
        shard->category_scratch = regex_scratch_new();
        names_init(&shard->names, 1000);
        warm_init(shard);
        stage.shards[i] = shard;
        stage.sites[i] = (struct site){.provider = PROVIDER};
        stage.queues[i] = (struct queue){
            .name = names_get(&shard->names, SLICE_LITERAL("example.com")),
            .vmta_id = conf_vmta_id(stage.conf, SLICE_LITERAL("v")),
            .site = &stage.sites[i],
        };
        stage.lanes[i] = (struct lane){.site = &stage.sites[i], .source = source};
        stage.connections[i] = (struct connection){.host = NAME_NONE};
        for (uint32_t k = 0; k < stage.kept_count; k++)
            warm_recover(shard, slice_str(stage.kept[k].name),
                         slice_of(stage.kept[k].value, stage.kept[k].value_bytes));
    }
}

static void end_life(void)
{
    for (uint16_t i = 0; i < stage.count; i++) {
        struct shard *shard = stage.shards[i];

        warm_fini(shard);
        names_fini(&shard->names);
        regex_scratch_free(shard->category_scratch);
        free(shard);
    }
    memset(stage.boxes, 0, sizeof(stage.boxes));
    stage.write_count = 0;
}

static void crash(void)
{
    /* What was on its way to the disk may be there all the same, the oldest first. */
    for (uint32_t i = 0; i < stage.write_count && rng_one_in(&stage.rng, 2); i++)
        keep(&stage.writes[i]);
    end_life();
    begin_life((uint16_t)(1 + rng_below(&stage.rng, LIFE_SHARDS)));
}

static void raise(const char *schedule, uint64_t seed, uint16_t count)
{
    char text[512];

    stage = (struct stage){.wall_s = NOON_S};
    rng_init(&stage.rng, seed);
    snprintf(text, sizeof(text),
             "<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
             "<virtual-mta other>\nsmtp-source-host 192.0.2.2 b\n</virtual-mta>\n"
             "<warm-up w>\n%s\n</warm-up>\n",
             schedule);
    stage.conf = load(text);
    begin_life(count);
}

static void end(void)
{
    end_life();
    conf_unref(stage.conf);
}

/* ---- Mail ------------------------------------------------------------------------------------ */

static const struct verdict taken = {.class = VERDICT_SUCCESS, .code = 250};
static const struct verdict deferred = {
    .class = VERDICT_TRANSIENT, .code = 451, .flags = VERDICT_FROM_REPLY};

/* One recipient is tried, if it may be. */
static bool try_one(uint16_t number, const struct verdict *verdict)
{
    struct shard *shard = stage.shards[number];
    struct queue *queue = &stage.queues[number];
    struct lane *lane = &stage.lanes[number];
    struct warm_receipt receipt;

    if (!warm_admit(shard, lane, queue) || warm_allowed(shard, lane, queue) == 0)
        return false;
    warm_take(shard, lane, queue, &stage.message, 1, &receipt);
    stage.tried[stage.wall_s / DAY_S]++;
    if (verdict != NULL)
        warm_note(shard, &receipt, &stage.connections[number], verdict);
    return true;
}

/* As many as go out, by all shards in turn; every nth meets the verdict (0 = none does). */
static uint32_t use_up(const struct verdict *verdict, uint32_t nth)
{
    uint32_t count = 0, refusals = 0;

    for (uint16_t at = 0; refusals < 3u * stage.count; at++) {
        if (try_one(at % stage.count, nth > 0 && count % nth == 0 ? verdict : &taken)) {
            count++;
            refusals = 0;
        } else {
            refusals++;
        }
        settle();
    }
    return count;
}

static struct warm_row row_of(void)
{
    struct warm_row found = {0};

    for (uint16_t i = 0; i < stage.count; i++) {
        struct report report = {0};

        warm_report(stage.shards[i], &report);
        for (uint32_t k = 0; k < report.row_count; k++)
            found = ((const struct warm_row *)report.rows)[k];
        mem_free(report.rows);
    }
    return found;
}

static void a_good_day_leads_a_step_up(void **state)
{
    raise("schedule 40,100,300", 1, 2);
    assert_int_equal(use_up(NULL, 0), 40);
    assert_int_equal(row_of().used, 40);
    assert_string_equal(row_of().outlook, "one step up");
    stage.wall_s += DAY_S;
    assert_int_equal(use_up(NULL, 0), 100);
    assert_int_equal(row_of().step, 2);
    assert_string_equal(row_of().name, "w/@0000000000001267/192.0.2.1");
    end();
}

static void deferrals_and_blocks_keep_it_or_lead_down(void **state)
{
    struct verdict block = {.class = VERDICT_PERMANENT,

                            .stage = VERDICT_AT_RCPT,
                            .code = 550,
                            .flags = VERDICT_FROM_REPLY};

    block.text_bytes = (uint16_t)snprintf(
        block.text, sizeof(block.text),
        "550 5.7.1 Service unavailable; client host [192.0.2.1] blocked using zen.spamhaus.org");
    raise("schedule 40,100,300", 1, 3);
    use_up(NULL, 0);
    stage.wall_s += DAY_S;
    assert_int_equal(use_up(&deferred, 18), 100); /* 6 % */
    stage.wall_s += DAY_S;
    assert_int_equal(use_up(&deferred, 5), 100);
    assert_int_equal(row_of().step, 2);
    stage.wall_s += DAY_S;
    assert_int_equal(use_up(NULL, 0), 40);
    stage.wall_s += DAY_S;
    assert_int_equal(use_up(&block, 100), 100);
    assert_int_equal(row_of().blocked, 1);
    stage.wall_s += DAY_S;
    assert_int_equal(use_up(NULL, 0), 40);
    end();
}

static void a_day_that_is_hardly_used_keeps_the_step(void **state)
{
    raise("schedule 40,100", 1, 1);
    for (int i = 0; i < 31; i++) {
        while (!try_one(0, &taken))
            settle();
        settle();
    }
    stage.wall_s += DAY_S;
    assert_int_equal(use_up(NULL, 0), 40);
    stage.wall_s += 31 * DAY_S;
    assert_int_equal(row_of().step, 1);
    end();
}

/* Each shard uses three blocks of twenty and four of the fourth one: 80 % of the day's cap. */
static void use_some_of_a_block_each(void)
{
    for (uint32_t i = 0; i < 64 * SHARDS_MAX; i++) {
        while (!try_one(i % SHARDS_MAX, i % 25 == 0 ? &deferred : &taken))
            settle();
        settle();
    }
}

static void parts_of_blocks_at_many_shards_keep_no_step(void **state)
{
    raise("schedule 1280,2560", 1, SHARDS_MAX);
    use_some_of_a_block_each();
    assert_int_equal(row_of().granted, 1280);
    assert_int_equal(row_of().used, 1024);
    assert_int_equal(row_of().deferred, 41);
    assert_string_equal(row_of().outlook, "one step up");
    stage.wall_s += DAY_S;
    use_some_of_a_block_each();
    assert_int_equal(row_of().cap, 2560);
    end();
}

/* Unless nobody knows any more what came of them. */
static void a_crash_makes_them_unknown(void **state)
{
    raise("schedule 1280,2560", 1, SHARDS_MAX);
    use_some_of_a_block_each();
    end_life();
    begin_life(SHARDS_MAX);
    assert_int_equal(row_of().used, 1024);
    assert_string_equal(row_of().outlook, "the step stays: 1024 of 1280 used, 41 deferred, 256 "
                                          "unknown since a restart");
    end();
}

static void it_is_spread_over_the_hours(void **state)
{
    raise("schedule 640\nsend-hours 8:00-16:00", 1, 2);
    stage.wall_s = 7 * 3600;
    assert_int_equal(use_up(NULL, 0), 0);
    assert_true(warm_is_spent(stage.shards[0], &stage.queues[0], &source));
    stage.wall_s = 8 * 3600;
    assert_in_range(use_up(NULL, 0), 1, 10);
    stage.wall_s = 12 * 3600;
    use_up(NULL, 0);
    assert_in_range(stage.tried[0], 320, 330);
    stage.wall_s = 16 * 3600 - 1;
    use_up(NULL, 0);
    assert_in_range(stage.tried[0], 638, 640);
    stage.wall_s = 16 * 3600;
    assert_int_equal(use_up(NULL, 0), 0);
    end();
}

/* It looks again after a minute at the latest: the file and the clock may change. */
static void the_queue_waits_for_what_comes_next(void **state)
{
    raise("schedule 1", 1, 1);
    assert_false(warm_wait(stage.shards[0], &stage.queues[0]));
    assert_int_equal(use_up(NULL, 0), 1);
    assert_true(warm_wait(stage.shards[0], &stage.queues[0]));
    assert_int_equal(stage.waited_ms, 60000);
    stage.wall_s = DAY_S - 20;
    assert_true(warm_wait(stage.shards[0], &stage.queues[0]));
    assert_int_equal(stage.waited_ms, 20000);
    stage.wall_s = DAY_S;
    assert_false(warm_wait(stage.shards[0], &stage.queues[0]));
    end();
}

/* What is more than the rest of the day goes over, and no more than that. */
static void what_is_too_much_goes_over(void **state)
{
    raise("schedule 96\nsend-hours 0:00-24:00\nvirtual-mta v\noverflow other", 1, 1);
    use_up(NULL, 0);
    assert_in_range(stage.tried[0], 48, 50);
    stage.queues[0].ready_count = 30;
    assert_true(warm_wait(stage.shards[0], &stage.queues[0]));
    assert_int_equal(stage.waited_ms, 2000);
    assert_int_equal(stage.over_count, 0);
    stage.queues[0].ready_count = 60;
    assert_true(warm_wait(stage.shards[0], &stage.queues[0]));
    assert_int_equal(stage.over_count, 60 - (96 - stage.tried[0]));
    end();
}

static void explained_with_figures(void **state)
{
    char text[200];

    raise("schedule 3,9", 1, 1);
    warm_explain(stage.shards[0], &stage.queues[0], text, sizeof(text));
    assert_string_equal(text, "");
    use_up(NULL, 0);
    warm_explain(stage.shards[0], &stage.queues[0], text, sizeof(text));
    assert_string_equal(text, "<warm-up> w/@0000000000001267/192.0.2.1: step 1, 3 of today's 3 "
                              "recipients are let out, more at 00:00");
    end();
}

/* ---- Senders --------------------------------------------------------------------------------- */

static void write_message(const char *text)
{
    static char room[512];
    size_t len = strlen(text);

    memcpy(room, text, len);
    stage.message = (struct message){.buffer_count = 1};
    stage.message.buffers[0] =
        (struct message_buffer){.data = (uint8_t *)room, .used = (uint32_t)len};
    stage.message.envelope.sender = SLICE_LITERAL("bounces@Mailer.test");
}

static uint32_t sender_allowed(void)
{
    /* What was used is reported first, then more is asked for. */
    for (int i = 0; i < 2; i++) {
        settle();
        warm_sender_allowed(stage.shards[0], &stage.lanes[0], &stage.queues[0], &stage.message);
    }
    settle();
    return warm_sender_allowed(stage.shards[0], &stage.lanes[0], &stage.queues[0], &stage.message);
}

static void senders_count_by_their_from(void **state)
{
    raise("schedule 128\nscope sender-domain\nsender-domain new.test", 1, 1);
    write_message("Subject: a\r\nFrom: \"New, Ltd\" <a@New.test>\r\n\r\nFrom: b@old.test\r\n");
    assert_int_equal(sender_allowed(), 2);
    write_message("From: a@old.test\r\n\r\n");
    assert_int_equal(sender_allowed(), UINT32_MAX);
    /* Two addresses are none: it is the envelope's that counts. */
    write_message("From: a@new.test, b@new.test\r\n\r\n");
    assert_int_equal(sender_allowed(), UINT32_MAX);
    stage.message.envelope.sender = SLICE_LITERAL("bounces@new.test");
    assert_int_equal(sender_allowed(), 2);
    end();
}

static uint64_t put_off(uint32_t count, bool *ret_goes_over)
{
    return warm_sender_put_off(stage.shards[0], &stage.lanes[0], &stage.queues[0], &stage.message,
                               count, ret_goes_over) /
           1000000;
}

/* Each until its turn may come; those beyond the rest of the day go over. */
static void senders_wait_for_their_turn(void **state)
{
    struct warm_receipt receipt;
    uint64_t first_s;
    bool goes_over;

    raise("schedule 24\nsend-hours 0:00-24:00\nscope sender-domain\nvirtual-mta v\noverflow other",
          1, 1);
    write_message("From: a@new.test\r\n\r\n");
    while (sender_allowed() > 0) {
        warm_take(stage.shards[0], &stage.lanes[0], &stage.queues[0], &stage.message, 1, &receipt);
        warm_note(stage.shards[0], &receipt, &stage.connections[0], &taken);
        stage.tried[0]++;
    }
    assert_int_equal(stage.tried[0], 13);
    first_s = put_off(1, &goes_over);
    assert_false(goes_over);
    assert_in_range(first_s, stage.wall_s + 3600, stage.wall_s + 2 * 3600 + 1);
    assert_int_equal(put_off(1, &goes_over), first_s + 3600);
    put_off(8, &goes_over);
    assert_false(goes_over);
    put_off(2, &goes_over);
    assert_true(goes_over);
    end();
}

static void other_mail_is_not_counted(void **state)
{
    raise("schedule 1\ndomain other.com", 1, 1);
    assert_int_equal(warm_allowed(stage.shards[0], &stage.lanes[0], &stage.queues[0]), UINT32_MAX);
    for (int i = 0; i < 3; i++)
        assert_true(try_one(0, &taken));
    assert_false(warm_wait(stage.shards[0], &stage.queues[0]));
    assert_int_equal(stage.shards[0]->warm.shares.count_used, 0);
    end();
}

/* ---- At random ------------------------------------------------------------------------------- */

/* Days above what their step allows at most: a step up a day. */
static uint32_t play(uint64_t seed)
{
    static const uint32_t caps[] = {10, 30, 70, 200};
    uint32_t over = 0;

    raise("schedule 10,30,70,200", seed, 1 + seed % LIFE_SHARDS);
    while (stage.wall_s < DAYS * DAY_S) {
        uint64_t lot = rng_below(&stage.rng, 100);
        uint16_t shard = (uint16_t)rng_below(&stage.rng, stage.count);

        if (lot < 50)
            try_one(shard, rng_one_in(&stage.rng, 50) ? NULL : &taken);
        else if (lot < 75)
            log_answers(rng_one_in(&stage.rng, 20) ? E_FULL : 0);
        else if (lot < 95)
            deliver((uint16_t)rng_below(&stage.rng, stage.count), shard);
        else if (lot < 99)
            stage.wall_s += (int64_t)rng_below(&stage.rng, 600);
        else if (rng_one_in(&stage.rng, 10))
            crash();
    }
    for (uint32_t day = 0; day < DAYS; day++)
        over += stage.tried[day] > caps[day < 3 ? day : 3];
    end();
    return over;
}

static void never_more_than_the_cap(void **state)
{
    uint32_t tried = 0;

    for (uint64_t seed = 1; seed <= HISTORIES; seed++) {
        assert_int_equal(play(seed), 0);
        for (uint32_t day = 0; day < DAYS; day++)
            tried += stage.tried[day];
    }
    /* With crashes, and a log that fails at times. */
    assert_true(tried > HISTORIES * DAYS * 20);
}

static void bugs_are_seen(void **state)
{
    static const char *const bugs[] = {"shard/warm-up-not-counted", "shard/warm-up-forgotten"};

    for (size_t i = 0; i < COUNT_OF(bugs); i++) {
        uint32_t over = 0;

        planted_on = bugs[i];
        for (uint64_t seed = 1; seed <= HISTORIES; seed++)
            over += play(seed);
        assert_true(over > 0);
    }
    planted_on = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_day_leads_a_step_up),
        cmocka_unit_test(deferrals_and_blocks_keep_it_or_lead_down),
        cmocka_unit_test(a_day_that_is_hardly_used_keeps_the_step),
        cmocka_unit_test(parts_of_blocks_at_many_shards_keep_no_step),
        cmocka_unit_test(a_crash_makes_them_unknown),
        cmocka_unit_test(it_is_spread_over_the_hours),
        cmocka_unit_test(the_queue_waits_for_what_comes_next),
        cmocka_unit_test(what_is_too_much_goes_over),
        cmocka_unit_test(explained_with_figures),
        cmocka_unit_test(senders_count_by_their_from),
        cmocka_unit_test(senders_wait_for_their_turn),
        cmocka_unit_test(other_mail_is_not_counted),
        cmocka_unit_test(never_more_than_the_cap),
        cmocka_unit_test(bugs_are_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
