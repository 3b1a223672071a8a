#include "core/base/err.h"
#include "core/conf/conf.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

#define NUMBER_MAX 1000000000000000ull

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit time_units[] = {{"w", 604800000}, {"d", 86400000}, {"h", 3600000},
                                         {"m", 60000},     {"s", 1000},     {"ms", 1}};
static const struct unit rate_units[] = {{"d", 86400000}, {"day", 86400000}, {"h", 3600000},
                                         {"hr", 3600000}, {"m", 60000},      {"min", 60000},
                                         {"s", 1000},     {"sec", 1000}};
static const struct unit size_units[] = {
    {"t", 1ull << 40}, {"g", 1ull << 30}, {"m", 1ull << 20}, {"k", 1ull << 10}, {"b", 1}};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct unit *find_unit(const struct unit *units, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_equal_nocase(slice_str(units[i].name), name))
            return &units[i];
    }
    return NULL;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Digits, then the letters behind them: "15min". Both parts may be empty. */
static void split_number(struct slice *rest, struct slice *ret_digits, struct slice *ret_letters)
{
    size_t digits = 0;
    size_t end;

    while (digits < rest->len && is_digit(rest->data[digits]))
        digits++;
    end = digits;
    while (end < rest->len && !is_digit(rest->data[end]))
        end++;
    *ret_digits = slice_of(rest->data, digits);
    *ret_letters = slice_of(rest->data + digits, end - digits);
    *rest = slice_after(*rest, end);
}

static bool add_scaled(uint64_t *sum, uint64_t number, uint64_t factor)
{
    uint64_t product;

    return !__builtin_mul_overflow(number, factor, &product) &&
           !__builtin_add_overflow(*sum, product, sum);
}

/* "1d12h": each unit once. Only zero needs no unit. */
static int read_time(struct value_parse *parse, struct slice text, uint64_t *ret_ms)
{
    struct slice rest = text;
    unsigned seen = 0;
    uint64_t sum = 0;

    if (slice_equal(text, SLICE_LITERAL("0"))) {
        *ret_ms = 0;
        return 0;
    }
    while (rest.len > 0) {
        struct slice digits;
        struct slice letters;
        const struct unit *unit;
        uint64_t number = 0;

        split_number(&rest, &digits, &letters);
        unit = find_unit(time_units, COUNT_OF(time_units), letters);
        if (letters.len == 0)
            return value_refuse(parse, "\"%.*s\" lacks a unit (w, d, h, m or s)", SHOW(text));
        if (unit == NULL || slice_to_u64(digits, NUMBER_MAX, &number) < 0 ||
            (seen & 1u << (unit - time_units)) != 0 || !add_scaled(&sum, number, unit->factor))
            return value_refuse(parse, "\"%.*s\" is not a time such as 1d12h", SHOW(text));
        if (unit->factor == 1 && (parse->row->flags & FLAG_OURS) == 0)
            return value_refuse(parse, "\"%.*s\": milliseconds are not known here", SHOW(text));
        seen |= 1u << (unit - time_units);
    }
    if (text.len == 0)
        return value_refuse(parse, "a time is missing");
    *ret_ms = sum;
    return 0;
}

static int read_size(struct value_parse *parse, struct slice text, uint64_t *ret_bytes)
{
    struct slice rest = text;
    struct slice digits;
    struct slice letters;
    const struct unit *unit = &size_units[COUNT_OF(size_units) - 1];
    uint64_t number = 0;
    uint64_t bytes = 0;

    split_number(&rest, &digits, &letters);
    if (letters.len > 0)
        unit = find_unit(size_units, COUNT_OF(size_units), letters);
    if (unit == NULL || rest.len > 0 || slice_to_u64(digits, NUMBER_MAX, &number) < 0 ||
        !add_scaled(&bytes, number, unit->factor))
        return value_refuse(parse, "\"%.*s\" is not a size such as 20m", SHOW(text));
    *ret_bytes = bytes;
    return 0;
}

/* Writes a bound the way that the user would. */
static void show_number(char *room, size_t size, uint64_t number, const struct unit *units,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (number != 0 && number % units[i].factor == 0) {
            snprintf(room, size, "%llu%s", (unsigned long long)(number / units[i].factor),
                     units[i].name);
            return;
        }
    }
    snprintf(room, size, "%llu", (unsigned long long)number);
}

static int check_range(struct value_parse *parse, uint64_t number, const struct unit *units,
                       size_t count)
{
    char low[32];
    char high[32];

    if (number >= parse->row->min && number <= parse->row->max)
        return 0;
    show_number(low, sizeof(low), parse->row->min, units, count);
    show_number(high, sizeof(high), parse->row->max, units, count);
    value_refuse(parse, "must be between %s and %s", low, high);
    return E_RANGE;
}

struct number_kind {
    uint64_t bound;
    const struct unit *units;
    size_t unit_count;
};

static const struct number_kind number_kinds[TYPE_COUNT_OF_TYPES] = {
    [TYPE_COUNT] = {BOUND_COUNT, NULL, 0},
    [TYPE_TIME] = {BOUND_TIME, time_units, COUNT_OF(time_units)},
    [TYPE_TIME_LIST] = {BOUND_TIME, time_units, COUNT_OF(time_units)},
    [TYPE_SIZE] = {BOUND_SIZE, size_units, COUNT_OF(size_units)},
};

bool value_range(const struct directive *row, char *room, size_t size)
{
    const struct number_kind *kind = &number_kinds[row->type];
    char low[32];
    char high[32];

    if (kind->bound == 0 || (row->min == 0 && row->max == kind->bound))
        return false;
    show_number(low, sizeof(low), row->min, kind->units, kind->unit_count);
    show_number(high, sizeof(high), row->max, kind->units, kind->unit_count);
    snprintf(room, size, "%s to %s", low, high);
    return true;
}

static bool is_unlimited(const struct value_parse *parse, struct slice text)
{
    return (parse->row->flags & FLAG_UNLIMITED) != 0 &&
           (slice_equal_nocase(text, SLICE_LITERAL("unlimited")) ||
            slice_equal_nocase(text, SLICE_LITERAL("never")));
}

static bool zero_is_unlimited(const struct value_parse *parse)
{
    return parse->value.number == 0 && (parse->row->flags & FLAG_ZERO_UNLIMITED) != 0;
}

int value_parse_time(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc < 0)
        return rc;
    if (is_unlimited(parse, word)) {
        parse->value.number = CONF_UNLIMITED;
        return 0;
    }
    rc = read_time(parse, word, &parse->value.number);
    if (rc < 0)
        return rc;
    return check_range(parse, parse->value.number, time_units, COUNT_OF(time_units));
}

bool conf_parse_time(struct slice text, uint64_t *ret_ms)
{
    static const struct directive row = {.type = TYPE_TIME};
    char why[VALUE_WHY_MAX];
    struct value_parse parse = {.row = &row, .why = why};

    return read_time(&parse, text, ret_ms) == 0;
}

int value_parse_time_list(struct value_parse *parse)
{
    uint64_t times[CONF_RETRY_STEPS_MAX];
    uint64_t *copy;
    struct slice list;
    struct slice item;
    uint32_t count = 0;
    int rc = value_list_text(parse, &list);

    if (rc < 0)
        return rc;
    while (value_next_item(&list, &item)) {
        if (count == CONF_RETRY_STEPS_MAX)
            return value_refuse(parse, "more than %d times", CONF_RETRY_STEPS_MAX);
        rc = read_time(parse, item, &times[count]);
        if (rc == 0)
            rc = check_range(parse, times[count], time_units, COUNT_OF(time_units));
        if (rc < 0)
            return rc;
        count++;
    }
    copy = arena_alloc(parse->arena, count * sizeof(*copy));
    memcpy(copy, times, count * sizeof(*copy));
    parse->value.times = copy;
    parse->value.number = count;
    return 0;
}

int value_parse_size(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc < 0)
        return rc;
    if (!is_unlimited(parse, word)) {
        rc = read_size(parse, word, &parse->value.number);
        if (rc < 0)
            return rc;
        if (!zero_is_unlimited(parse))
            return check_range(parse, parse->value.number, size_units, COUNT_OF(size_units));
    }
    parse->value.number = CONF_UNLIMITED;
    return 0;
}

int value_count(struct value_parse *parse, struct slice text)
{
    int rc;

    if ((parse->row->flags & FLAG_AUTO) != 0 && slice_equal_nocase(text, SLICE_LITERAL("auto"))) {
        parse->value.number = 0;
        return 0;
    }
    if (!is_unlimited(parse, text)) {
        rc = slice_to_u64(text, UINT64_MAX - 1, &parse->value.number);
        if (rc == E_SYNTAX)
            return value_refuse(parse, "\"%.*s\" is not a number", SHOW(text));
        if (rc == E_RANGE)
            parse->value.number = UINT64_MAX - 1;
        if (!zero_is_unlimited(parse))
            return check_range(parse, parse->value.number, NULL, 0);
    }
    parse->value.number = CONF_UNLIMITED;
    return 0;
}

int value_parse_count(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    return rc < 0 ? rc : value_count(parse, word);
}

/* "100/h", "20m/15min", "unlimited", "0". */
int value_rate(struct value_parse *parse, struct slice text, bool volume)
{
    size_t slash = slice_find(text, '/');
    struct slice amount = slice_of(text.data, slash);
    struct slice span = slash < text.len ? slice_after(text, slash + 1) : SLICE_EMPTY;
    struct slice digits;
    struct slice letters;
    const struct unit *unit;
    uint64_t multiple = 1;
    int rc;

    parse->value.interval_ms = 1000;
    if (is_unlimited(parse, text) || slice_equal(text, SLICE_LITERAL("0"))) {
        parse->value.number = 0;
        if (is_unlimited(parse, text) || zero_is_unlimited(parse))
            parse->value.number = CONF_UNLIMITED;
        return 0;
    }
    split_number(&span, &digits, &letters);
    unit = find_unit(rate_units, COUNT_OF(rate_units), letters);
    rc = volume ? read_size(parse, amount, &parse->value.number)
                : slice_to_u64(amount, NUMBER_MAX, &parse->value.number);
    if (rc < 0 || unit == NULL || span.len > 0 ||
        (digits.len > 0 && slice_to_u64(digits, 1000000, &multiple) < 0) || multiple == 0)
        return value_refuse(parse, "\"%.*s\" is not a %s such as %s", SHOW(text),
                            volume ? "volume rate" : "rate", volume ? "20m/h" : "100/h");
    parse->value.interval_ms = multiple * unit->factor;
    return volume ? check_range(parse, parse->value.number, size_units, COUNT_OF(size_units))
                  : check_range(parse, parse->value.number, NULL, 0);
}

/* "500" means "500/h". */
int value_parse_per_hour(struct value_parse *parse)
{
    int rc = value_parse_count(parse);

    parse->value.interval_ms = parse->value.number == CONF_UNLIMITED ? 1000 : 3600000;
    return rc;
}

int value_burst(struct value_parse *parse, struct slice text)
{
    const struct slice key = SLICE_LITERAL("burst=");

    if (!slice_starts_nocase(text, key) ||
        slice_to_u64(slice_after(text, key.len), NUMBER_MAX, &parse->value.burst) < 0)
        return value_refuse(parse, "\"%.*s\" is not burst= and a number", SHOW(text));
    if (parse->value.number == CONF_UNLIMITED || parse->value.burst > parse->value.number)
        return value_refuse(parse, "a burst cannot be larger than what the rate allows");
    return 0;
}

/* "100/s", "100/s burst=20" */
int value_parse_rate(struct value_parse *parse)
{
    struct slice words[2];
    uint32_t count = 0;
    int rc = value_words(parse, words, 2, &count);

    if (rc < 0)
        return rc;
    if (count == 0 || words[0].len == 0)
        return value_refuse(parse, "a value is missing");
    rc = value_rate(parse, words[0], false);
    return rc < 0 || count == 1 ? rc : value_burst(parse, words[1]);
}

int value_parse_volume_rate(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    return rc < 0 ? rc : value_rate(parse, word, true);
}

int value_parse_no_yes_time(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);
    int choice;

    if (rc < 0)
        return rc;
    choice = value_find_choice("no|yes|false|true|never", word);
    parse->value.interval_ms = 0;
    if (choice >= 0) {
        parse->value.number = (uint64_t)choice % 2;
        return 0;
    }
    rc = read_time(parse, word, &parse->value.interval_ms);
    if (rc < 0)
        return value_refuse(parse, "\"%.*s\" is neither yes nor no nor a time", SHOW(word));
    parse->value.number = 1;
    return check_range(parse, parse->value.interval_ms, time_units, COUNT_OF(time_units));
}
