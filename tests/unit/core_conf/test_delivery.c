#include "core/conf/delivery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void assert_put(const char *text, bool is_path, const char *wanted)
{
    const struct conf_delivery_values values = {
        .from = SLICE_LITERAL("a@sender.test"),
        .to = SLICE_LITERAL("\"../x@\ny\"@rcpt.test"),
        .envelope_id = SLICE_LITERAL("..//.."),
        .now_us = 1709251199ull * 1000000,
    };
    char room[512];
    struct text to = text_in(room, sizeof(room));

    assert_null(conf_delivery_check(text));
    conf_delivery_put(slice_str(text), &values, is_path, &to);
    text_end(&to);
    assert_string_equal(room, wanted);
}

static void variables_are_replaced(void **state)
{
    (void)state;
    assert_put("", false, "");
    assert_put("/m/x", false, "/m/x");
    assert_put("$from,$domain", false, "a@sender.test,rcpt.test");
    assert_put("$DOMAIN.$timet", false, "rcpt.test.1709251199");
    /* The second before March of a leap year. */
    assert_put("$isodate", false, "2024-02-29T23:59:59Z");
    assert_put("$bodytype$$to$$$to", false, "7BIT$to$\"../x@\ny\"@rcpt.test");
    assert_put("$user", false, "\"../x@\ny\"");
}

static void values_are_tame_in_paths(void **state)
{
    (void)state;
    assert_put("/m/$user/$domain", true, "/m/\"..x@y\"/rcpt.test");
    assert_put("/m/$envid/x", true, "/m//x");
    assert_put("/m/../$to", true, "/m/../\"..x@y\"@rcpt.test");
}

static void others_are_refused(void **state)
{
    static const char *const bad[] = {"$", "a$", "$rcpt", "$fromx", "$_from", "$from$", "$ to"};
    char text[CONF_DELIVERY_TEXT_MAX + 2];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_non_null(conf_delivery_check(bad[i]));
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_non_null(conf_delivery_check(text));
    text[sizeof(text) - 2] = '\0';
    assert_null(conf_delivery_check(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables_are_replaced),
        cmocka_unit_test(values_are_tame_in_paths),
        cmocka_unit_test(others_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
