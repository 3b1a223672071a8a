#include "net/sts.h"

#include "core/base/err.h"
#include "core/base/text.h"

static bool is_alnum(uint8_t c)
{
    c = slice_lower_octet(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* ---- The record (RFC 8461 3.1) --------------------------------------------------------------- */

#define RECORD_BEGINS "v=STSv1;"

static bool is_good_id(struct slice id)
{
    for (size_t i = 0; i < id.len; i++)
        if (!is_alnum(id.data[i]))
            return false;
    return id.len > 0 && id.len <= STS_ID_BYTES_MAX;
}

static bool begins_right(struct slice text)
{
    size_t len = sizeof(RECORD_BEGINS) - 1;

    return text.len >= len && memcmp(text.data, RECORD_BEGINS, len) == 0;
}

/* Fields behind the version; those that nobody knows yet are passed over. */
static bool find_id(struct slice text, struct slice *ret_id)
{
    static const struct slice key = SLICE_LITERAL("id=");
    bool has_id = false;

    while (text.len > 0) {
        size_t end = slice_find(text, ';');
        struct slice field = slice_trim(slice_of(text.data, end));
        bool is_id = field.len >= key.len && memcmp(field.data, key.data, key.len) == 0;

        text = slice_after(text, end < text.len ? end + 1 : end);
        if (is_id && has_id)
            return false;
        if (is_id)
            *ret_id = slice_after(field, key.len);
        has_id = has_id || is_id;
    }
    return has_id && is_good_id(*ret_id);
}

bool sts_id_find(const struct slice *texts, uint32_t count, struct slice *ret_id)
{
    const struct slice *record = NULL;

    for (uint32_t i = 0; i < count; i++) {
        if (!begins_right(texts[i]))
            continue;
        if (record != NULL)
            return false;
        record = &texts[i];
    }
    return record != NULL && find_id(slice_after(*record, sizeof(RECORD_BEGINS) - 1), ret_id);
}

/* ---- The policy (RFC 8461 3.2) --------------------------------------------------------------- */

enum seen {
    SEEN_VERSION = 1,
    SEEN_MODE = 2,
    SEEN_MAX_AGE = 4,
};

static bool is_text(struct slice s, const char *text)
{
    return slice_equal(s, slice_str(text));
}

static const char *const mode_names[] = {
    [STS_NONE] = "none", [STS_TESTING] = "testing", [STS_ENFORCE] = "enforce"};

const char *sts_mode_name(enum sts_mode mode)
{
    return mode_names[mode];
}

static int take_mode(struct slice value, struct sts_policy *policy)
{
    for (unsigned i = 0; i < sizeof(mode_names) / sizeof(mode_names[0]); i++) {
        if (!is_text(value, mode_names[i]))
            continue;
        policy->mode = (enum sts_mode)i;
        return 0;
    }
    return E_SYNTAX;
}

/* A larger one counts as the largest. */
static int take_max_age(struct slice value, struct sts_policy *policy)
{
    uint64_t seconds = 0;
    int rc = slice_to_u64(value, UINT64_MAX, &seconds);

    policy->max_age_s =
        seconds < STS_MAX_AGE_MAX_S ? (uint32_t)seconds : (uint32_t)STS_MAX_AGE_MAX_S;
    return rc < 0 ? E_SYNTAX : 0;
}

/* Labels of letters, digits, '-' and '_'; the first one may be "*". */
static bool is_good_pattern(struct slice pattern)
{
    size_t label = 0;

    if (pattern.len > STS_MX_BYTES_MAX)
        return false;
    if (pattern.len > 2 && pattern.data[0] == '*' && pattern.data[1] == '.')
        pattern = slice_after(pattern, 2);
    for (size_t i = 0; i < pattern.len; i++) {
        uint8_t c = pattern.data[i];

        if (c == '.' ? label == 0 : !is_alnum(c) && c != '-' && c != '_')
            return false;
        label = c == '.' ? 0 : label + 1;
    }
    return label > 0;
}

static int take_mx(struct slice value, struct sts_policy *policy)
{
    if (!is_good_pattern(value))
        return E_SYNTAX;
    if (policy->mx_count == STS_MX_COUNT_MAX)
        return E_RANGE;
    policy->mx[policy->mx_count++] = value;
    return 0;
}

/* Of each field but mx the first one counts; those that nobody knows yet are passed over. */
static int take_field(struct slice key, struct slice value, unsigned *seen,
                      struct sts_policy *policy)
{
    unsigned before = *seen;

    if (is_text(key, "mx"))
        return take_mx(value, policy);
    if (is_text(key, "version")) {
        *seen |= SEEN_VERSION;
        return (before & SEEN_VERSION) || is_text(value, "STSv1") ? 0 : E_SYNTAX;
    }
    if (is_text(key, "mode")) {
        *seen |= SEEN_MODE;
        return (before & SEEN_MODE) ? 0 : take_mode(value, policy);
    }
    if (is_text(key, "max_age")) {
        *seen |= SEEN_MAX_AGE;
        return (before & SEEN_MAX_AGE) ? 0 : take_max_age(value, policy);
    }
    return 0;
}

static int take_line(struct slice line, unsigned *seen, struct sts_policy *policy)
{
    size_t colon;

    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    line = slice_trim(line);
    if (line.len == 0)
        return 0;
    colon = slice_find(line, ':');
    if (colon == line.len)
        return E_SYNTAX;
    return take_field(slice_trim(slice_of(line.data, colon)),
                      slice_trim(slice_after(line, colon + 1)), seen, policy);
}

int sts_policy_parse(struct slice text, struct sts_policy *ret_policy)
{
    unsigned seen = 0;

    if (text.len > STS_POLICY_BYTES_MAX)
        return E_TOO_LONG;
    ret_policy->mode = STS_NONE;
    ret_policy->max_age_s = 0;
    ret_policy->mx_count = 0;
    while (text.len > 0) {
        size_t end = slice_find(text, '\n');
        int rc = take_line(slice_of(text.data, end), &seen, ret_policy);

        if (rc < 0)
            return rc;
        text = slice_after(text, end < text.len ? end + 1 : end);
    }
    if (seen != (SEEN_VERSION | SEEN_MODE | SEEN_MAX_AGE))
        return E_SYNTAX;
    return ret_policy->mode != STS_NONE && ret_policy->mx_count == 0 ? E_SYNTAX : 0;
}

size_t sts_policy_print(const struct sts_policy *policy, char room[STS_TEXT_BYTES_MAX])
{
    struct text text = text_in(room, STS_TEXT_BYTES_MAX);

    text_put_literal(&text, "version: STSv1\nmode: ");
    text_put_str(&text, mode_names[policy->mode]);
    text_put_literal(&text, "\nmax_age: ");
    text_put_u64(&text, policy->max_age_s, 1);
    for (uint32_t i = 0; i < policy->mx_count; i++) {
        text_put_literal(&text, "\nmx: ");
        text_put(&text, policy->mx[i]);
    }
    text_put_char(&text, '\n');
    return text_end(&text);
}

bool sts_policy_names(const struct sts_policy *policy, struct slice host)
{
    struct slice parent = slice_after(host, slice_find(host, '.'));

    for (uint32_t i = 0; i < policy->mx_count; i++) {
        struct slice pattern = policy->mx[i];

        if (slice_equal_nocase(pattern, host))
            return true;
        /* "*" and the host's first label gone, the rest begins with the same dot. */
        if (pattern.data[0] == '*' && parent.len > 0 && parent.len < host.len &&
            slice_equal_nocase(slice_after(pattern, 1), parent))
            return true;
    }
    return false;
}
