#include "core/conf/value.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

#include <stdarg.h>

int value_refuse(struct value_parse *parse, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(parse->why, VALUE_WHY_MAX, format, arguments);
    va_end(arguments);
    return E_SYNTAX;
}

/* ---- Words and items ----------------------------------------------------------------------- */

bool value_is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

int value_next_word(struct slice *rest, struct slice *ret_word)
{
    struct slice s = slice_trim(*rest);
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
        if (rest->len > 0 && !value_is_blank(rest->data[0]))
            return E_SYNTAX;
        *ret_word = slice_of(inside.data, len);
        return 1;
    }
    while (len < s.len && !value_is_blank(s.data[len]))
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
    *ret_item = slice_trim(slice_of(rest->data, comma));
    *rest = comma < rest->len ? slice_after(*rest, comma + 1) : (struct slice){NULL, 0};
    return true;
}

int value_refuse_quote(struct value_parse *parse)
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
            return value_refuse(parse, "unexpected \"%.*s\" behind the value", SHOW(word));
        words[count++] = word;
    }
    if (rc < 0)
        return value_refuse_quote(parse);
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
    struct slice s = slice_trim(parse->rest);

    if (s.len > 0 && s.data[0] == '"') {
        int rc = value_next_word(&s, ret_list);

        if (rc < 0 || slice_trim(s).len > 0)
            return value_refuse_quote(parse);
        return 0;
    }
    *ret_list = s;
    return 0;
}

const char *value_copy_text(struct value_parse *parse, struct slice text)
{
    return (const char *)arena_copy(parse->arena, text).data;
}

/* ---- By type ------------------------------------------------------------------------------- */

static const struct {
    value_parse_fn *parse;
    bool may_wrap;
} parsers[TYPE_COUNT_OF_TYPES] = {
    [TYPE_BOOLEAN] = {value_parse_boolean, false},
    [TYPE_TIME] = {value_parse_time, false},
    [TYPE_TIME_LIST] = {value_parse_time_list, true},
    [TYPE_SIZE] = {value_parse_size, false},
    [TYPE_RATE] = {value_parse_rate, false},
    [TYPE_VOLUME_RATE] = {value_parse_volume_rate, false},
    [TYPE_COUNT] = {value_parse_count, false},
    [TYPE_PER_HOUR] = {value_parse_per_hour, false},
    [TYPE_STRING] = {value_parse_string, false},
    [TYPE_NAME] = {value_parse_name, false},
    [TYPE_NAME_LIST] = {value_parse_name_list, true},
    [TYPE_TEXT] = {value_parse_text, false},
    [TYPE_WORDS] = {value_parse_words, true},
    [TYPE_PATH] = {value_parse_path, false},
    [TYPE_ADDRESS] = {value_parse_address, false},
    [TYPE_ADDRESS_LIST] = {value_parse_address_list, true},
    [TYPE_ENUM] = {value_parse_enum, false},
    [TYPE_ENUM_LIST] = {value_parse_enum_list, true},
    [TYPE_HOST] = {value_parse_host, false},
    [TYPE_DOMAIN_LIST] = {value_parse_domain_list, true},
    [TYPE_IP_PORT] = {value_parse_ip_port, false},
    [TYPE_LISTENER] = {value_parse_listener, false},
    [TYPE_SOURCE_HOST] = {value_parse_source_host, false},
    [TYPE_CIDR_ACCESS] = {value_parse_cidr_access, false},
    [TYPE_CIDR_COUNT] = {value_parse_cidr_count, false},
    [TYPE_CIDR_RATE] = {value_parse_cidr_rate, false},
    [TYPE_CIDR_VOLUME_RATE] = {value_parse_cidr_volume_rate, false},
    [TYPE_CPU_LIST] = {value_parse_cpu_list, true},
    [TYPE_ROUTE_LIST] = {value_parse_route_list, true},
    [TYPE_NO_YES_TIME] = {value_parse_no_yes_time, false},
    [TYPE_MACRO] = {value_parse_macro, true},
    [TYPE_INCLUDE] = {value_parse_text, false},
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
