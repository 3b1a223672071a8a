/* <warm-up>: schedules, hours, and which section a queue's mail is under. */
#include "core/conf/warmup.h"
#include "tests/unit/core_conf/unit.h"

static void schedules(void **state)
{
    uint64_t caps[CONF_WARMUP_STEPS_MAX];
    uint32_t count;

    assert_int_equal(conf_warmup_schedule(slice_str("50, 100,100"), caps, &count), 0);
    assert_int_equal(count, 3);
    assert_int_equal(caps[1], 100);
    assert_int_equal(conf_warmup_schedule(slice_str("start=50 factor=1.5 days=4"), caps, &count),
                     0);
    assert_int_equal(count, 4);
    assert_int_equal(caps[0], 50);
    assert_int_equal(caps[1], 75);
    assert_int_equal(caps[2], 112);
    assert_int_equal(caps[3], 168);
    /* It grows by one at least. */
    assert_int_equal(conf_warmup_schedule(slice_str("start=1 factor=1.1 days=3"), caps, &count), 0);
    assert_int_equal(caps[2], 3);
    assert_true(conf_warmup_schedule(slice_str("start=1 factor=100 days=64"), caps, &count) < 0);
    assert_true(conf_warmup_schedule(slice_str("start=1 days=3 factor=2"), caps, &count) < 0);
    assert_true(conf_warmup_schedule(slice_str("50,,60"), caps, &count) < 0);
}

static void hours(void **state)
{
    uint32_t from_s, until_s;

    assert_int_equal(conf_warmup_hours(slice_str("8-20:30"), &from_s, &until_s), 0);
    assert_int_equal(from_s, 8 * 3600);
    assert_int_equal(until_s, 20 * 3600 + 1800);
    assert_int_equal(conf_warmup_hours(slice_str("0:00-24:00"), &from_s, &until_s), 0);
    assert_int_equal(until_s, 86400);
    assert_true(conf_warmup_hours(slice_str("8:00"), &from_s, &until_s) < 0);
    assert_true(conf_warmup_hours(slice_str("8:00-8:00"), &from_s, &until_s) < 0);
    assert_true(conf_warmup_hours(slice_str("8:00-24:01"), &from_s, &until_s) < 0);
    assert_true(conf_warmup_hours(slice_str("8:60-9:00"), &from_s, &until_s) < 0);
}

/* The first one that fits. */
static void sections(void **state)
{
    struct conf *conf = load("<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
                             "<warm-up big>\nschedule 5\ndomain big.test\n</warm-up>\n"
                             "<warm-up rest>\nschedule 7,9\nvirtual-mta v\n"
                             "send-hours 9-17\n</warm-up>\n");
    uint32_t v = conf_vmta_id(conf, slice_str("v"));
    const struct conf_warmup *found;

    assert_string_equal(conf_warmup_of(conf, slice_str("big.test"), v)->fits.name, "big");
    found = conf_warmup_of(conf, slice_str("other.test"), v);
    assert_string_equal(found->fits.name, "rest");
    assert_int_equal(found->step_count, 2);
    assert_int_equal(found->caps[1], 9);
    assert_int_equal(found->from_s, 9 * 3600);
    assert_null(conf_warmup_of(conf, slice_str("other.test"), v + 1));
    conf_unref(conf);
}

/* One of queues and one of messages count side by side. */
static void senders_and_overflow(void **state)
{
    struct conf *conf = load("<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
                             "<virtual-mta w>\nsmtp-source-host 192.0.2.2 b\n</virtual-mta>\n"
                             "<virtual-mta x>\nsmtp-source-host 192.0.2.3 c\n</virtual-mta>\n"
                             "<virtual-mta-pool p>\nvirtual-mta w\nvirtual-mta x\n"
                             "</virtual-mta-pool>\n"
                             "<warm-up names>\nschedule 5\nscope sender-domain\n"
                             "sender-domain new.test\n</warm-up>\n"
                             "<warm-up address>\nschedule 7\nvirtual-mta v\noverflow p\n"
                             "</warm-up>\n");
    uint32_t v = conf_vmta_id(conf, slice_str("v")), w = conf_vmta_id(conf, slice_str("w"));
    struct slice domain = slice_str("a.test");
    const struct conf_warmup *found;

    assert_true(conf_warmup_counts_senders(conf));
    assert_string_equal(conf_warmup_of(conf, domain, v)->fits.name, "address");
    assert_null(conf_warmup_of(conf, domain, w));
    found = conf_warmup_of_sender(conf, domain, w, slice_str("new.test"));
    assert_string_equal(found->fits.name, "names");
    assert_null(conf_warmup_of_sender(conf, domain, w, slice_str("old.test")));
    assert_int_equal(conf_warmup_overflow(conf, domain, v, 4), w);
    assert_int_equal(conf_warmup_overflow(conf, domain, v, 5), conf_vmta_id(conf, slice_str("x")));
    assert_int_equal(conf_warmup_overflow(conf, domain, w, 5), w);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules),
        cmocka_unit_test(hours),
        cmocka_unit_test(sections),
        cmocka_unit_test(senders_and_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
