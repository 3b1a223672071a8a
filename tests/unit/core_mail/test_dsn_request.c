/*
 * What clients ask for of notices: what is taken, what is refused, and that what was taken is said
 * again as it came.
 */
#include "core/mail/dsn_request.h"

#include "tests/unit/core_base/unit.h"

#include <string.h>

static char said[1024];

static const char *say(struct text *text)
{
    text_end(text);
    return said;
}

static void notify_is_never_or_some_of_three(void **state)
{
    static const struct {
        const char *value;
        int notify; /* negative = refused */
    } rows[] = {
        {"NEVER", DSN_NOTIFY_NEVER},
        {"success", DSN_NOTIFY_SUCCESS},
        {"SUCCESS,FAILURE", DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE},
        {"DELAY,FAILURE,SUCCESS", DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE | DSN_NOTIFY_DELAY},
        {"", -1},
        {",", -1},
        {"FAILURE,", -1},
        {",FAILURE", -1},
        {"NEVER,FAILURE", -1},
        {"DELAY,NEVER", -1},
        {"DELAY,DELAY", -1},
        {"NEVE", -1},
        {"NEVERS", -1},
        {"FAILURE DELAY", -1},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t notify = 0;
        bool is_taken = dsn_request_notify(slice_str(rows[i].value), &notify);

        assert_int_equal(is_taken ? notify : -1, rows[i].notify);
    }
}

static void notify_is_said_again(void **state)
{
    struct text text = text_in(said, sizeof(said));

    dsn_request_put_notify(&text, 0);
    assert_int_equal(text.len, 0);
    dsn_request_put_notify(&text, DSN_NOTIFY_DELAY | DSN_NOTIFY_SUCCESS);
    assert_string_equal(say(&text), " NOTIFY=SUCCESS,DELAY");
}

static void orcpt_is_a_type_and_xtext(void **state)
{
    static const struct {
        const char *value;
        const char *decoded; /* NULL = refused */
    } rows[] = {
        {"rfc822;a@b.example", "rfc822;a@b.example"},
        {"rfc822;a+2Bb+3Dc+20d@b.example", "rfc822;a+b=c d@b.example"},
        {"utf-8;a\\x{FC}@b.example", "utf-8;a\\x{FC}@b.example"},
        {"rfc822;", NULL},
        {";a@b.example", NULL},
        {"a@b.example", NULL},
        {"rf+63;a", NULL},
        {"rfc822;a+2bb", NULL},
        {"rfc822;a+2", NULL},
        {"rfc822;a+", NULL},
        {"rfc822;a+0Ab", NULL},
        {"rfc822;a+00b", NULL},
        {"rfc822;a+7Fb", NULL},
        {"rfc822;a+FCb", NULL},
        {"rfc822;a b", NULL},
        {"rfc822;a\xc3\xbc", NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t room[DSN_REQUEST_ORCPT_MAX];
        struct text text = text_in(said, sizeof(said));
        struct slice orcpt;

        if (!dsn_request_orcpt(slice_str(rows[i].value), room, &orcpt)) {
            assert_null(rows[i].decoded);
            continue;
        }
        assert_non_null(rows[i].decoded);
        assert_true(slice_equal(orcpt, slice_str(rows[i].decoded)));
        dsn_request_put_orcpt(&text, orcpt);
        assert_string_equal(say(&text) + strlen(" ORCPT="), rows[i].value);
    }
}

static void lengths_are_those_of_the_rfc(void **state)
{
    static char value[DSN_REQUEST_ORCPT_MAX + 2];
    uint8_t room[DSN_REQUEST_ORCPT_MAX];
    struct slice text;

    memset(value, 'a', sizeof(value));
    memcpy(value, "rfc822;", 7);
    assert_true(dsn_request_orcpt(slice_of(value, DSN_REQUEST_ORCPT_MAX), room, &text));
    assert_false(dsn_request_orcpt(slice_of(value, DSN_REQUEST_ORCPT_MAX + 1), room, &text));
    memset(value, 'a', 7);
    assert_true(dsn_request_envid(slice_of(value, DSN_REQUEST_ENVID_MAX), room, &text));
    assert_false(dsn_request_envid(slice_of(value, DSN_REQUEST_ENVID_MAX + 1), room, &text));
    assert_false(dsn_request_envid(SLICE_EMPTY, room, &text));
}

/* An id from x-envid, or whom an alias was for, need not be sayable. */
static void what_cannot_be_said_is_left_out(void **state)
{
    static char value[DSN_REQUEST_ENVID_MAX];
    struct text text = text_in(said, sizeof(said));

    memset(value, '+', sizeof(value));
    dsn_request_put_envid(&text, slice_of(value, sizeof(value)));
    dsn_request_put_envid(&text, SLICE_LITERAL("\xc3\xbc"));
    dsn_request_put_envid(&text, SLICE_EMPTY);
    dsn_request_put_orcpt(&text, SLICE_LITERAL("rfc822;\xc3\xbc@d.example"));
    dsn_request_put_orcpt(&text, SLICE_LITERAL("a@d.example"));
    dsn_request_put_orcpt(&text, SLICE_EMPTY);
    assert_int_equal(text.len, 0);
    dsn_request_put_envid(&text, slice_of(value, sizeof(value) / 3));
    assert_int_equal(text.len, strlen(" ENVID=") + sizeof(value) / 3 * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notify_is_never_or_some_of_three),
        cmocka_unit_test(notify_is_said_again),
        cmocka_unit_test(orcpt_is_a_type_and_xtext),
        cmocka_unit_test(lengths_are_those_of_the_rfc),
        cmocka_unit_test(what_cannot_be_said_is_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
