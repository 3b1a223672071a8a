/* Places of sessions by source group: reached, never passed, and the reserved ones kept free. */
#include "shard/guests.h"

#include "core/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void fail_report(void *context, enum conf_severity severity, const char *file, unsigned line,
                        const char *text)
{
    if (severity == CONF_ERROR)
        fail_msg("%s:%u: %s", file, line, text);
}

static struct conf *load(const char *text)
{
    struct conf *conf;

    assert_int_equal(conf_load_text("t", text, NULL, fail_report, NULL, &conf), 0);
    return conf;
}

static uint32_t group_at(const struct conf *conf, const char *ip)
{
    struct ipaddr peer;

    assert_true(ipaddr_parse(slice_str(ip), &peer) >= 0);
    return conf_source(conf, &peer, NULL)->group_id;
}

#define GROUPS                                                                                     \
    "total-max-smtp-in 10\n"                                                                       \
    "<source-group a>\nmax-smtp-in 4\n</source-group>\n"                                           \
    "<source-group b>\nreserved-smtp-in 3\n</source-group>\n"                                      \
    "<source 10.0.0.0/8>\nsource-group a\n</source>\n"                                             \
    "<source 11.0.0.0/8>\nsource-group b\n</source>\n"

/* Sessions at random, by a model that counts them plainly. */
static void limits_hold(void **state)
{
    static struct guests guests;
    struct conf *conf = load(GROUPS);
    uint32_t ids[3] = {group_at(conf, "10.1.1.1"), group_at(conf, "11.1.1.1"),
                       group_at(conf, "12.1.1.1")};
    struct guest open[3][16];
    uint32_t count[3] = {0}, reserved = 0, full = 0;
    struct rng rng;

    memset(&guests, 0, sizeof(guests));
    assert_int_equal(ids[2], CONF_NONE);
    rng_init(&rng, 7);
    for (int i = 0; i < 20000; i++) {
        uint32_t at = (uint32_t)rng_below(&rng, 3);

        if (rng_one_in(&rng, 3) && count[at] > 0) {
            struct guest guest = open[at][--count[at]];

            reserved -= guest.is_reserved;
            guests_leave(&guests, guest);
        } else {
            uint32_t common = count[0] + count[1] + count[2] - reserved;
            bool may = common < 7;
            struct guest guest;

            may = at == 0 ? may && count[0] < 4 : at == 1 ? may || reserved < 3 : may;
            assert_int_equal(guests_have_place(&guests, conf, ids[at]), may);
            assert_int_equal(guests_enter(&guests, conf, ids[at], &guest), may);
            if (!may)
                continue;
            reserved += guest.is_reserved;
            open[at][count[at]++] = guest;
            full += count[0] + count[1] + count[2] == 10;
        }
        assert_int_equal(guests_count(&guests), count[0] + count[1] + count[2]);
        assert_true(count[0] + count[1] + count[2] <= 10 && count[0] <= 4);
    }
    assert_true(full > 100);
    conf_unref(conf);
}

/* A group that a reload has taken away still counts who came by it. */
static void a_group_that_is_gone(void **state)
{
    static struct guests guests;
    struct conf *conf = load(GROUPS);
    uint32_t a = group_at(conf, "10.1.1.1");
    struct conf *next = load("");
    struct guest first, second;

    memset(&guests, 0, sizeof(guests));
    assert_true(guests_enter(&guests, conf, a, &first));
    assert_true(guests_enter(&guests, next, a, &second));
    guests_leave(&guests, first);
    guests_leave(&guests, second);
    assert_int_equal(guests_count(&guests), 0);
    conf_unref(next);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_group_that_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
