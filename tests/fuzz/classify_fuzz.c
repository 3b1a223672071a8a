/*
 * The classifier against itself: any reply gets an answer, the same one with the filters of the
 * patterns and without them, and bounds are met only by what is measured by them.
 */
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/mail/classify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The shipped rules with "(?i)" in front of each pattern: that changes nothing but takes away the
 * filter. */
static struct classify_rules *rules_without_filters(void)
{
    struct slice shipped = classify_shipped_text();
    char *text = mem_alloc(2 * shipped.len);
    struct classify_rules *rules = NULL;
    char why[CLASSIFY_WHY_MAX];
    size_t len = 0;
    unsigned line;
    bool is_open = false, is_comment = false;

    for (size_t i = 0; i < shipped.len; i++) {
        uint8_t c = shipped.data[i];

        if (i == 0 || shipped.data[i - 1] == '\n') {
            is_comment = c == '#';
            is_open = false;
        }
        text[len++] = (char)c;
        if (c == '/' && !is_open && !is_comment && shipped.data[i - 1] == ' ') {
            memcpy(text + len, "(?i)", 4);
            len += 4;
            is_open = true;
        }
    }
    must(classify_rules_new("plain", slice_of(text, len), &rules, &line, why) == 0);
    mem_free(text);
    return rules;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct classify_rules *plain_rules;
    static struct regex_scratch *scratch;
    struct classify_reply reply = {.text = slice_of(data, len), .stage = CLASSIFY_STAGE_UNKNOWN};
    struct classify_answer answer, plain;
    uint16_t code, status[3];

    if (plain_rules == NULL) {
        plain_rules = rules_without_filters();
        scratch = regex_scratch_new();
    }
    if (len > 0 && data[len - 1] % 4 == 0)
        reply.stage = data[len - 1] / 4 % (VERDICT_AT_LOCAL + 1);
    classify_codes(&reply, &code, status);
    must(code == 0 || (code >= 200 && code < 600));
    must(status[0] == 0 || code == 0 || status[0] == code / 100);
    classify(classify_shipped(), &reply, scratch, &answer);
    must(code / 100 != 4 || answer.class == CLASSIFY_TRANSIENT);
    must((code / 100 == 2) == (answer.class == CLASSIFY_NO_BOUNCE) || code == 0);
    classify(plain_rules, &reply, scratch, &plain);
    must(strcmp(answer.rule, plain.rule) == 0 || answer.gave_up || plain.gave_up);
    return 0;
}
