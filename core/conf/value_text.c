#include "core/base/err.h"
#include "core/base/must.h"
#include "core/conf/pattern.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

#define ADDRESS_MAX 320
#define WORDS_MAX   64

/* ---- Choices ------------------------------------------------------------------------------- */

/* The position of word in "a|b|c", or -1. */
int value_find_choice(const char *choices, struct slice word)
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
    return value_refuse(parse, "\"%.*s\" is none of %s", SHOW(word), choices);
}

int value_parse_boolean(struct value_parse *parse)
{
    static const char choices[] = "no|yes|false|true|off|on";
    struct slice word;
    int rc = value_only_word(parse, &word);
    int choice;

    if (rc < 0)
        return rc;
    choice = value_find_choice(choices, word);
    if (choice < 0)
        return refuse_choice(parse, word, choices);
    parse->value.number = (uint64_t)choice % 2;
    return 0;
}

int value_parse_enum(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);
    int choice;

    if (rc < 0)
        return rc;
    choice = value_find_choice(parse->row->choices, word);
    /* Booleans that grew a third value are still written as such. */
    if (choice < 0 && slice_equal_nocase(word, SLICE_LITERAL("true")))
        choice = value_find_choice(parse->row->choices, SLICE_LITERAL("yes"));
    else if (choice < 0 && slice_equal_nocase(word, SLICE_LITERAL("false")))
        choice = value_find_choice(parse->row->choices, SLICE_LITERAL("no"));
    if (choice < 0)
        return refuse_choice(parse, word, parse->row->choices);
    parse->value.number = (uint64_t)choice;
    return 0;
}

int value_parse_enum_list(struct value_parse *parse)
{
    struct slice list;
    struct slice item;
    int rc = value_list_text(parse, &list);

    if (rc < 0)
        return rc;
    while (value_next_item(&list, &item)) {
        int choice = value_find_choice(parse->row->choices, item);

        if (choice < 0 && slice_find(item, ' ') < item.len)
            return value_refuse(parse, "\"%.*s\": commas stand between the words", SHOW(item));
        if (choice < 0)
            return refuse_choice(parse, item, parse->row->choices);
        parse->value.number |= 1ull << choice;
    }
    return 0;
}

/* ---- Text ---------------------------------------------------------------------------------- */

/* Text is measured in octets. */
static int store_text(struct value_parse *parse, struct slice text)
{
    if (text.len < parse->row->min || text.len > parse->row->max)
        return value_refuse(parse, "must have between %llu and %llu characters",
                            (unsigned long long)parse->row->min,
                            (unsigned long long)parse->row->max);
    parse->value.text = value_copy_text(parse, text);
    parse->value.number = text.len;
    return 0;
}

int value_parse_string(struct value_parse *parse)
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
        if (value_is_blank(name.data[i]) || name.data[i] == ',')
            return value_refuse(parse, "\"%.*s\" is not a name", SHOW(name));
    }
    return 0;
}

int value_parse_name(struct value_parse *parse)
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

int value_parse_name_list(struct value_parse *parse)
{
    return parse_list(parse, check_name);
}

/* "a \"b\" c" with what the backslashes guard. False when the first quote's partner does not end
 * it. */
static bool read_quoted(struct value_parse *parse, struct slice text, struct slice *ret_inside)
{
    char *room = arena_alloc(parse->arena, text.len + 1);
    size_t len = 0;

    for (size_t i = 1; i < text.len; i++) {
        bool is_guard = text.data[i] == '\\' && i + 1 < text.len && text.data[i + 1] == '"';

        if (text.data[i] == '"' && i + 1 < text.len)
            return false;
        if (text.data[i] == '"') {
            *ret_inside = slice_of(room, len);
            return true;
        }
        i += is_guard;
        room[len++] = (char)text.data[i];
    }
    return false;
}

int value_parse_text(struct value_parse *parse)
{
    struct slice text = slice_trim(parse->rest);
    struct slice word;

    if (text.len == 0)
        return value_refuse(parse, "a value is missing");
    if (text.data[0] == '"' && memmem(text.data, text.len, "\\\"", 2) != NULL) {
        if (!read_quoted(parse, text, &word))
            return value_refuse_quote(parse);
        return store_text(parse, word);
    }
    if (text.data[0] == '"') {
        if (value_next_word(&text, &word) < 0 || slice_trim(text).len > 0)
            return value_refuse_quote(parse);
        return store_text(parse, word);
    }
    return store_text(parse, text);
}

int value_parse_words(struct value_parse *parse)
{
    struct slice words[WORDS_MAX];
    uint32_t count = 0;
    int rc;

    must(parse->row->max <= WORDS_MAX);
    rc = value_words(parse, words, (uint32_t)parse->row->max, &count);
    if (rc < 0)
        return rc;
    if (count < parse->row->min)
        return value_refuse(parse, "needs more words: %s", parse->row->choices);
    parse->value.text = value_copy_text(parse, slice_trim(parse->rest));
    parse->value.number = count;
    return 0;
}

int value_parse_path(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc < 0)
        return rc;
    if (word.data[0] != '/')
        return value_refuse(parse, "\"%.*s\" is not an absolute path", SHOW(word));
    return store_text(parse, word);
}

static int check_address(struct value_parse *parse, struct slice address)
{
    size_t at = slice_find(address, '@');

    if (at == 0 || at + 1 >= address.len || address.len > ADDRESS_MAX)
        return value_refuse(parse, "\"%.*s\" is not a mail address", SHOW(address));
    for (size_t i = 0; i < address.len; i++) {
        if (value_is_blank(address.data[i]) || address.data[i] == '<' || address.data[i] == '>')
            return value_refuse(parse, "\"%.*s\" is not a mail address", SHOW(address));
    }
    return 0;
}

int value_parse_address(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc == 0)
        rc = check_address(parse, word);
    return rc < 0 ? rc : store_text(parse, word);
}

int value_parse_address_list(struct value_parse *parse)
{
    return parse_list(parse, check_address);
}

static int check_domain(struct value_parse *parse, struct slice item)
{
    struct pattern pattern;
    char room[PATTERN_TEXT_MAX];

    /* What macros stand for is looked at when all are known. */
    if (slice_find(item, '$') < item.len)
        return check_name(parse, item);
    if (pattern_parse(item, room, &pattern) < 0)
        return value_refuse(parse, "\"%.*s\" is not a domain or domain pattern", SHOW(item));
    return 0;
}

int value_parse_domain_list(struct value_parse *parse)
{
    return parse_list(parse, check_domain);
}

int value_parse_macro(struct value_parse *parse)
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
                                SHOW(macro.name));
    }
    macro.items = slice_trim(rest);
    items = macro.items;
    if (macro.name.len == 0 || items.len == 0)
        return value_refuse(parse, "a macro needs a name and a list of domains");
    while (value_next_item(&items, &item)) {
        if (item.len == 0 || slice_find(item, ' ') < item.len || slice_find(item, '\t') < item.len)
            return value_refuse(parse, "\"%.*s\": domains are separated by commas", SHOW(item));
    }
    copy = arena_alloc(parse->arena, sizeof(*copy));
    copy->name = arena_copy(parse->arena, macro.name);
    copy->items = arena_copy(parse->arena, macro.items);
    parse->value.macro = copy;
    return 0;
}
