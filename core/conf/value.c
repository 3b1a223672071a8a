#include "core/conf/value.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/conf/pattern.h"
#include "core/conf/value_parse.h"

#include <stdarg.h>

#define NUMBER_MAX  1000000000000000ull
#define ADDRESS_MAX 320

int value_refuse(struct value_parse *parse, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(parse->why, VALUE_WHY_MAX, format, arguments);
    va_end(arguments);
    return E_SYNTAX;
}

/* ---- Words and items ----------------------------------------------------------------------- */

/* A line that was joined to the one before it leaves line ends in the middle of a value. */
static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && is_blank(s.data[0]))
        s = slice_after(s, 1);
    while (s.len > 0 && is_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

int value_next_word(struct slice *rest, struct slice *ret_word)
{
    struct slice s = trim(*rest);
    size_t len = 0;

    if (s.len == 0) {
        *rest = s;
        return 0;
    }
    if (s.data[0] == '"') {
        struct slice inside = slice_after(s, 1);

        len = slice_find(inside, '"');
        if (len == inside.len)
            return E_SYNTAX;
        *rest = slice_after(inside, len + 1);
        if (rest->len > 0 && !is_blank(rest->data[0]))
            return E_SYNTAX;
        *ret_word = slice_of(inside.data, len);
        return 1;
    }
    while (len < s.len && !is_blank(s.data[len]))
        len++;
    *ret_word = slice_of(s.data, len);
    *rest = slice_after(s, len);
    return 1;
}

bool value_next_item(struct slice *rest, struct slice *ret_item)
{
    size_t comma;

    if (rest->data == NULL)
        return false;
    comma = slice_find(*rest, ',');
    *ret_item = trim(slice_of(rest->data, comma));
    *rest = comma < rest->len ? slice_after(*rest, comma + 1) : (struct slice){NULL, 0};
    return true;
}

static int refuse_quote(struct value_parse *parse)
{
    return value_refuse(parse, "a double quote is not closed, or text sticks to the closing one (a "
                               "# starts a comment even within quotes)");
}

int value_words(struct value_parse *parse, struct slice *words, uint32_t max, uint32_t *ret_count)
{
    struct slice rest = parse->rest;
    struct slice word;
    uint32_t count = 0;
    int rc;

    while ((rc = value_next_word(&rest, &word)) > 0) {
        if (count == max)
            return value_refuse(parse, "unexpected \"%.*s\" behind the value", VALUE_SHOW(word));
        words[count++] = word;
    }
    if (rc < 0)
        return refuse_quote(parse);
    *ret_count = count;
    return 0;
}

int value_only_word(struct value_parse *parse, struct slice *ret_word)
{
    uint32_t count = 0;
    int rc = value_words(parse, ret_word, 1, &count);

    if (rc == 0 && (count == 0 || ret_word->len == 0))
        return value_refuse(parse, "a value is missing");
    return rc;
}

int value_list_text(struct value_parse *parse, struct slice *ret_list)
{
    struct slice s = trim(parse->rest);

    if (s.len > 0 && s.data[0] == '"') {
        int rc = value_next_word(&s, ret_list);

        if (rc < 0 || trim(s).len > 0)
            return refuse_quote(parse);
        return 0;
    }
    *ret_list = s;
    return 0;
}

static const char *copy_text(struct value_parse *parse, struct slice text)
{
    return (const char *)arena_copy(parse->arena, text).data;
}

/* Text is measured in octets. */
static int store_text(struct value_parse *parse, struct slice text)
{
    if (text.len < parse->row->min || text.len > parse->row->max)
        return value_refuse(parse, "must have between %llu and %llu characters",
                            (unsigned long long)parse->row->min,
                            (unsigned long long)parse->row->max);
    parse->value.text = copy_text(parse, text);
    parse->value.number = text.len;
    return 0;
}

/* ---- Numbers with units -------------------------------------------------------------------- */

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
            return value_refuse(parse, "\"%.*s\" lacks a unit (w, d, h, m or s)", VALUE_SHOW(text));
        if (unit == NULL || slice_to_u64(digits, NUMBER_MAX, &number) < 0 ||
            (seen & 1u << (unit - time_units)) != 0 || !add_scaled(&sum, number, unit->factor))
            return value_refuse(parse, "\"%.*s\" is not a time such as 1d12h", VALUE_SHOW(text));
        if (unit->factor == 1 && (parse->row->flags & FLAG_OURS) == 0)
            return value_refuse(parse, "\"%.*s\": milliseconds are not known here",
                                VALUE_SHOW(text));
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
        return value_refuse(parse, "\"%.*s\" is not a size such as 20m", VALUE_SHOW(text));
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

static int parse_time(struct value_parse *parse)
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

static int parse_time_list(struct value_parse *parse)
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

static int parse_size(struct value_parse *parse)
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
            return value_refuse(parse, "\"%.*s\" is not a number", VALUE_SHOW(text));
        if (rc == E_RANGE)
            parse->value.number = UINT64_MAX - 1;
        if (!zero_is_unlimited(parse))
            return check_range(parse, parse->value.number, NULL, 0);
    }
    parse->value.number = CONF_UNLIMITED;
    return 0;
}

static int parse_count(struct value_parse *parse)
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
        return value_refuse(parse, "\"%.*s\" is not a %s such as %s", VALUE_SHOW(text),
                            volume ? "volume rate" : "rate", volume ? "20m/h" : "100/h");
    parse->value.interval_ms = multiple * unit->factor;
    return volume ? check_range(parse, parse->value.number, size_units, COUNT_OF(size_units))
                  : check_range(parse, parse->value.number, NULL, 0);
}

static int parse_rate(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    return rc < 0 ? rc : value_rate(parse, word, false);
}

static int parse_volume_rate(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    return rc < 0 ? rc : value_rate(parse, word, true);
}

/* ---- Choices ------------------------------------------------------------------------------- */

/* The position of word in "a|b|c", or -1. */
static int find_choice(const char *choices, struct slice word)
{
    struct slice rest = slice_str(choices);

    for (int position = 0;; position++) {
        size_t bar = slice_find(rest, '|');

        if (slice_equal_nocase(slice_of(rest.data, bar), word))
            return position;
        if (bar == rest.len)
            return -1;
        rest = slice_after(rest, bar + 1);
    }
}

static int refuse_choice(struct value_parse *parse, struct slice word, const char *choices)
{
    return value_refuse(parse, "\"%.*s\" is none of %s", VALUE_SHOW(word), choices);
}

static int parse_boolean(struct value_parse *parse)
{
    static const char choices[] = "no|yes|false|true";
    struct slice word;
    int rc = value_only_word(parse, &word);
    int choice;

    if (rc < 0)
        return rc;
    choice = find_choice(choices, word);
    if (choice < 0)
        return refuse_choice(parse, word, choices);
    parse->value.number = (uint64_t)choice % 2;
    return 0;
}

static int parse_enum(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);
    int choice;

    if (rc < 0)
        return rc;
    choice = find_choice(parse->row->choices, word);
    if (choice < 0)
        return refuse_choice(parse, word, parse->row->choices);
    parse->value.number = (uint64_t)choice;
    return 0;
}

static int parse_enum_list(struct value_parse *parse)
{
    struct slice list;
    struct slice item;
    int rc = value_list_text(parse, &list);

    if (rc < 0)
        return rc;
    while (value_next_item(&list, &item)) {
        int choice = find_choice(parse->row->choices, item);

        if (choice < 0)
            return refuse_choice(parse, item, parse->row->choices);
        parse->value.number |= 1ull << choice;
    }
    return 0;
}

static int parse_no_yes_time(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);
    int choice;

    if (rc < 0)
        return rc;
    choice = find_choice("no|yes|false|true", word);
    parse->value.interval_ms = 0;
    if (choice >= 0) {
        parse->value.number = (uint64_t)choice % 2;
        return 0;
    }
    rc = read_time(parse, word, &parse->value.interval_ms);
    if (rc < 0)
        return value_refuse(parse, "\"%.*s\" is neither yes nor no nor a time", VALUE_SHOW(word));
    parse->value.number = 1;
    return check_range(parse, parse->value.interval_ms, time_units, COUNT_OF(time_units));
}

/* ---- Text ---------------------------------------------------------------------------------- */

static int parse_string(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    return rc < 0 ? rc : store_text(parse, word);
}

static int check_name(struct value_parse *parse, struct slice name)
{
    if (name.len == 0)
        return value_refuse(parse, "a name is missing");
    for (size_t i = 0; i < name.len; i++) {
        if (is_blank(name.data[i]) || name.data[i] == ',')
            return value_refuse(parse, "\"%.*s\" is not a name", VALUE_SHOW(name));
    }
    return 0;
}

static int parse_name(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc == 0)
        rc = check_name(parse, word);
    return rc < 0 ? rc : store_text(parse, word);
}

/* Checks each item of a list and keeps the text of the whole. */
static int parse_list(struct value_parse *parse,
                      int (*check)(struct value_parse *parse, struct slice item))
{
    struct slice list;
    struct slice rest;
    struct slice item;
    int rc = value_list_text(parse, &list);

    if (rc < 0)
        return rc;
    rest = list;
    while (value_next_item(&rest, &item)) {
        rc = check(parse, item);
        if (rc < 0)
            return rc;
    }
    return store_text(parse, list);
}

static int parse_name_list(struct value_parse *parse)
{
    return parse_list(parse, check_name);
}

static int parse_text(struct value_parse *parse)
{
    struct slice text = trim(parse->rest);
    struct slice word;

    if (text.len == 0)
        return value_refuse(parse, "a value is missing");
    if (text.data[0] == '"') {
        if (value_next_word(&text, &word) < 0 || trim(text).len > 0)
            return refuse_quote(parse);
        return store_text(parse, word);
    }
    return store_text(parse, text);
}

static int parse_words(struct value_parse *parse)
{
    struct slice words[64];
    uint32_t count = 0;
    int rc;

    must(parse->row->max <= COUNT_OF(words));
    rc = value_words(parse, words, (uint32_t)parse->row->max, &count);
    if (rc < 0)
        return rc;
    if (count < parse->row->min)
        return value_refuse(parse, "needs more words: %s", parse->row->choices);
    parse->value.text = copy_text(parse, trim(parse->rest));
    parse->value.number = count;
    return 0;
}

static int parse_path(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc < 0)
        return rc;
    if (word.data[0] != '/')
        return value_refuse(parse, "\"%.*s\" is not an absolute path", VALUE_SHOW(word));
    return store_text(parse, word);
}

static int check_address(struct value_parse *parse, struct slice address)
{
    size_t at = slice_find(address, '@');

    if (at == 0 || at + 1 >= address.len || address.len > ADDRESS_MAX)
        return value_refuse(parse, "\"%.*s\" is not a mail address", VALUE_SHOW(address));
    for (size_t i = 0; i < address.len; i++) {
        if (is_blank(address.data[i]) || address.data[i] == '<' || address.data[i] == '>')
            return value_refuse(parse, "\"%.*s\" is not a mail address", VALUE_SHOW(address));
    }
    return 0;
}

static int parse_address(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc == 0)
        rc = check_address(parse, word);
    return rc < 0 ? rc : store_text(parse, word);
}

static int parse_address_list(struct value_parse *parse)
{
    return parse_list(parse, check_address);
}

static int check_domain(struct value_parse *parse, struct slice item)
{
    struct pattern pattern;
    char room[PATTERN_TEXT_MAX];

    if (pattern_parse(item, room, &pattern) < 0)
        return value_refuse(parse, "\"%.*s\" is not a domain or domain pattern", VALUE_SHOW(item));
    return 0;
}

static int parse_domain_list(struct value_parse *parse)
{
    return parse_list(parse, check_domain);
}

static int parse_regex(struct value_parse *parse)
{
    struct slice text = trim(parse->rest);

    if (text.len < 2 || text.data[0] != '/' || text.data[text.len - 1] != '/')
        return value_refuse(parse, "a regular expression stands between slashes");
    return store_text(parse, text);
}

static int parse_macro(struct value_parse *parse)
{
    struct value_macro macro = {0};
    struct slice rest = parse->rest;
    struct value_macro *copy;
    struct slice item;
    struct slice items;

    if (value_next_word(&rest, &macro.name) < 1)
        return value_refuse(parse, "the name of the macro is missing");
    if (macro.name.data[0] == '$')
        macro.name = slice_after(macro.name, 1);
    for (size_t i = 0; i < macro.name.len; i++) {
        if (!pattern_is_macro_octet(macro.name.data[i]))
            return value_refuse(parse,
                                "\"%.*s\" is not a name for a macro (letters, digits, - and "
                                "_)",
                                VALUE_SHOW(macro.name));
    }
    macro.items = trim(rest);
    items = macro.items;
    if (macro.name.len == 0 || items.len == 0)
        return value_refuse(parse, "a macro needs a name and a list of domains");
    while (value_next_item(&items, &item)) {
        if (item.len == 0 || slice_find(item, ' ') < item.len || slice_find(item, '\t') < item.len)
            return value_refuse(parse, "\"%.*s\": domains are separated by commas",
                                VALUE_SHOW(item));
    }
    copy = arena_alloc(parse->arena, sizeof(*copy));
    copy->name = arena_copy(parse->arena, macro.name);
    copy->items = arena_copy(parse->arena, macro.items);
    parse->value.macro = copy;
    return 0;
}

/* ---- By type ------------------------------------------------------------------------------- */

typedef int value_parse_fn(struct value_parse *parse);

static const struct {
    value_parse_fn *parse;
    bool may_wrap;
} parsers[TYPE_COUNT_OF_TYPES] = {
    [TYPE_BOOLEAN] = {parse_boolean, false},
    [TYPE_TIME] = {parse_time, false},
    [TYPE_TIME_LIST] = {parse_time_list, true},
    [TYPE_SIZE] = {parse_size, false},
    [TYPE_RATE] = {parse_rate, false},
    [TYPE_VOLUME_RATE] = {parse_volume_rate, false},
    [TYPE_COUNT] = {parse_count, false},
    [TYPE_STRING] = {parse_string, false},
    [TYPE_NAME] = {parse_name, false},
    [TYPE_NAME_LIST] = {parse_name_list, true},
    [TYPE_TEXT] = {parse_text, false},
    [TYPE_WORDS] = {parse_words, true},
    [TYPE_PATH] = {parse_path, false},
    [TYPE_ADDRESS] = {parse_address, false},
    [TYPE_ADDRESS_LIST] = {parse_address_list, true},
    [TYPE_REGEX] = {parse_regex, false},
    [TYPE_ENUM] = {parse_enum, false},
    [TYPE_ENUM_LIST] = {parse_enum_list, true},
    [TYPE_HOST] = {value_parse_host, false},
    [TYPE_DOMAIN_LIST] = {parse_domain_list, true},
    [TYPE_IP_PORT] = {value_parse_ip_port, false},
    [TYPE_LISTENER] = {value_parse_listener, false},
    [TYPE_SOURCE_HOST] = {value_parse_source_host, false},
    [TYPE_CIDR_COUNT] = {value_parse_cidr_count, false},
    [TYPE_CIDR_RATE] = {value_parse_cidr_rate, false},
    [TYPE_CIDR_VOLUME_RATE] = {value_parse_cidr_volume_rate, false},
    [TYPE_CPU_LIST] = {value_parse_cpu_list, true},
    [TYPE_ROUTE_LIST] = {value_parse_route_list, true},
    [TYPE_NO_YES_TIME] = {parse_no_yes_time, false},
    [TYPE_MACRO] = {parse_macro, true},
    [TYPE_INCLUDE] = {parse_text, false},
};

bool value_may_wrap(enum directive_type type)
{
    must(type < TYPE_COUNT_OF_TYPES);
    return parsers[type].may_wrap;
}

int value_parse(const struct directive *row, struct slice text, struct arena *arena,
                struct value *ret_value, char why[VALUE_WHY_MAX])
{
    struct value_parse parse = {.row = row, .rest = text, .arena = arena, .why = why};
    int rc;

    must(row->type < TYPE_COUNT_OF_TYPES);
    rc = parsers[row->type].parse(&parse);
    if (rc == 0)
        *ret_value = parse.value;
    return rc;
}
