/*
 * What large receivers want in the header of bulk mail, and what is missing from it.
 */
#include "core/mail/bulk_header.h"
#include "tests/unit/core_base/unit.h"

#define FROM        "From: a@sender.test\r\n"
#define UNSUBSCRIBE "List-Unsubscribe: <mailto:x@sender.test>,\r\n <https://sender.test/u?1>\r\n"
#define POST        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
#define FEEDBACK    "Feedback-ID: a:b:c:sender\r\n"
#define END         "\r\nHello\r\n"
#define SIGNED(names)                                                                              \
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.test; s=s1;\r\n"               \
    "\th=" names "; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=AAAA\r\n"

#define BIT(fault) (1u << (fault))

static void test_messages(void **state)
{
    static const struct {
        const char *message;
        uint32_t signature_count;
        uint32_t faults;
    } cases[] = {
        {FROM UNSUBSCRIBE POST FEEDBACK END, 0, 0},
        {FROM END, 0, BIT(BULK_NO_UNSUBSCRIBE) | BIT(BULK_NO_POST) | BIT(BULK_NO_FEEDBACK_ID)},
        {SIGNED("From:List-Unsubscribe : list-unsubscribe-post:feedback-id")
             FROM UNSUBSCRIBE POST FEEDBACK END,
         1, 0},
        {SIGNED("From:List-Unsubscribe") FROM UNSUBSCRIBE POST FEEDBACK END, 1,
         BIT(BULK_POST_IS_UNSIGNED) | BIT(BULK_FEEDBACK_ID_IS_UNSIGNED)},
        {SIGNED("From:Feedback-ID") FROM UNSUBSCRIBE POST FEEDBACK END, 1,
         BIT(BULK_UNSUBSCRIBE_IS_UNSIGNED) | BIT(BULK_POST_IS_UNSIGNED)},
        /* Two signatures cover together what one alone does not. */
        {SIGNED("From:List-Unsubscribe") SIGNED("From:List-Unsubscribe-Post:Feedback-ID")
             FROM UNSUBSCRIBE POST FEEDBACK END,
         2, 0},
        /* One that cannot be read is none. */
        {"DKIM-Signature: v=1; h=From\r\n" FROM UNSUBSCRIBE POST FEEDBACK END, 0, 0},
        {FROM "List-Unsubscribe: <mailto:x@sender.test>\r\n" POST FEEDBACK END, 0,
         BIT(BULK_NO_HTTPS)},
        {FROM "List-Unsubscribe: https://sender.test/u\r\n" POST FEEDBACK END, 0,
         BIT(BULK_NO_HTTPS)},
        {FROM "List-Unsubscribe: <http://sender.test/u>\r\n" POST FEEDBACK END, 0,
         BIT(BULK_NO_HTTPS)},
        {FROM UNSUBSCRIBE "List-Unsubscribe-Post: One-Click\r\n" FEEDBACK END, 0,
         BIT(BULK_POST_IS_OTHER)},
        {FROM UNSUBSCRIBE UNSUBSCRIBE POST FEEDBACK END, 0, BIT(BULK_NO_UNSUBSCRIBE)},
        {FROM "\r\n" UNSUBSCRIBE POST FEEDBACK END, 0,
         BIT(BULK_NO_UNSUBSCRIBE) | BIT(BULK_NO_POST) | BIT(BULK_NO_FEEDBACK_ID)},
        {"", 0, BIT(BULK_NO_UNSUBSCRIBE) | BIT(BULK_NO_POST) | BIT(BULK_NO_FEEDBACK_ID)},
    };
    struct bulk_header header;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bulk_header_read(slice_str(cases[i].message), &header);
        if (header.faults != cases[i].faults)
            print_error("case %zu: %#x, not %#x\n", i, header.faults, cases[i].faults);
        assert_int_equal(header.signature_count, cases[i].signature_count);
        assert_int_equal(header.faults, cases[i].faults);
    }
}

static void test_every_fault_has_a_text(void **state)
{
    (void)state;
    for (int fault = 0; fault < BULK_FAULT_COUNT; fault++)
        assert_true(bulk_fault_text((enum bulk_fault)fault)[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_every_fault_has_a_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
