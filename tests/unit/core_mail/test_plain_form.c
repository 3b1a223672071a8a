#include "core/base/rng.h"
#include "core/mail/plain_form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define ROOM 4096u

/* The content in random pieces, through rooms of random size. */
static void assert_becomes(const char *content, enum plain_lines lines, const char *wanted)
{
    struct rng rng;

    rng_init(&rng, 7);
    for (uint32_t round = 0; round < 40; round++) {
        struct plain_form form = {.lines = lines};
        struct slice rest = slice_str(content);
        uint8_t got[ROOM];
        size_t octets = 0;

        while (rest.len > 0) {
            size_t part = 1 + (size_t)rng_below(&rng, rest.len);
            struct slice piece = slice_of(rest.data, part);

            rest = slice_after(rest, part);
            while (piece.len > 0)
                octets += plain_form_put(&form, &piece, got + octets,
                                         PLAIN_STEP_MAX + (size_t)rng_below(&rng, 9));
        }
        octets += plain_form_end(&form, got + octets);
        assert_int_equal(octets, strlen(wanted));
        assert_memory_equal(got, wanted, octets);
    }
}

static void dots_are_single_again(void **state)
{
    (void)state;
    assert_becomes("", PLAIN_CRLF, "");
    assert_becomes("..\r\n", PLAIN_CRLF, ".\r\n");
    assert_becomes("a\r\n...b\r\n..\r\n.c.\r\n", PLAIN_CRLF, "a\r\n..b\r\n.\r\nc.\r\n");
    assert_becomes("\r\n\r\n..", PLAIN_CRLF, "\r\n\r\n.\r\n");
}

static void lines_end_in_lf(void **state)
{
    (void)state;
    assert_becomes("a\r\n\r\n..b\rc\r\r\nFrom d", PLAIN_LF, "a\n\n.b\rc\r\nFrom d\n");
    assert_becomes("a\r", PLAIN_LF, "a\r\n");
}

static void mailboxes_are_quoted(void **state)
{
    (void)state;
    assert_becomes("From a\r\nfrom b\r\n>From c\r\n>>>From \r\nFrom\r\nFro", PLAIN_MBOX,
                   ">From a\nfrom b\n>>From c\n>>>>From \nFrom\nFro\n");
    assert_becomes("x From a\r\n..From b\r\nFFrom c\r\n>FFrom d\r\n> From e", PLAIN_MBOX,
                   "x From a\n.From b\nFFrom c\n>FFrom d\n> From e\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dots_are_single_again),
        cmocka_unit_test(lines_end_in_lf),
        cmocka_unit_test(mailboxes_are_quoted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
