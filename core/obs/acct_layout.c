#include "core/obs/acct_layout.h"

#include "core/base/err.h"
#include "core/base/must.h"

#include <stdio.h>

#define SHOW(slice) (int)((slice).len < 60 ? (slice).len : 60), (const char *)(slice).data

static const uint8_t delivery_columns[] = {
    ACCT_CSV_type,
    ACCT_CSV_timeLogged,
    ACCT_CSV_timeQueued,
    ACCT_CSV_orig,
    ACCT_CSV_rcpt,
    ACCT_CSV_orcpt,
    ACCT_CSV_dsnAction,
    ACCT_CSV_dsnStatus,
    ACCT_CSV_dsnDiag,
    ACCT_CSV_dsnMta,
    ACCT_CSV_bounceCat,
    ACCT_CSV_srcType,
    ACCT_CSV_srcMta,
    ACCT_CSV_dlvType,
    ACCT_CSV_dlvSourceIp,
    ACCT_CSV_dlvDestinationIp,
    ACCT_CSV_dlvEsmtpAvailable,
    ACCT_CSV_dlvSize,
    ACCT_CSV_vmta,
    ACCT_CSV_jobId,
    ACCT_CSV_envId,
    ACCT_CSV_queue,
    ACCT_CSV_vmtaPool,
};

static const uint8_t receipt_columns[] = {
    ACCT_CSV_type,   ACCT_CSV_timeLogged,  ACCT_CSV_orig,
    ACCT_CSV_rcpt,   ACCT_CSV_orcpt,       ACCT_CSV_srcType,
    ACCT_CSV_srcMta, ACCT_CSV_rcvSourceIp, ACCT_CSV_rcvDestinationIp,
    ACCT_CSV_vmta,   ACCT_CSV_jobId,       ACCT_CSV_envId,
};

/* Kinds that have no records yet are known by name, so that lines about them are no errors. */
static const struct {
    const char *name;
    const char *long_name;
    unsigned kind;
} kind_names[] = {
    {"d", "delivery", ACCT_DELIVERED},  {"b", "bounce", ACCT_BOUNCED},
    {"t", "transient", ACCT_TRANSIENT}, {"r", "receipt", ACCT_RECEIVED},
    {"tq", "transient-queue", 0},       {"rb", "remote-bounce", 0},
    {"rs", "remote-status", 0},         {"f", "feedback-loop", 0},
};

/* ---- Words ---------------------------------------------------------------------------------- */

/* No name has a quote in it, so quotes around words change nothing. */
static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '"';
}

static struct slice next_word(struct slice *rest)
{
    struct slice word;
    size_t len = 0;

    while (rest->len > 0 && is_blank(rest->data[0]))
        *rest = slice_after(*rest, 1);
    while (len < rest->len && !is_blank(rest->data[len]))
        len++;
    word = slice_of(rest->data, len);
    *rest = slice_after(*rest, len);
    return word;
}

/* Items stand between commas, blanks, or both. */
static bool next_item(struct slice *rest, struct slice *ret_item)
{
    size_t start = 0, end;

    while (start < rest->len && (is_blank(rest->data[start]) || rest->data[start] == ','))
        start++;
    if (start == rest->len)
        return false;
    for (end = start; end < rest->len && !is_blank(rest->data[end]) && rest->data[end] != ',';)
        end++;
    *ret_item = slice_of(rest->data + start, end - start);
    *rest = slice_after(*rest, end);
    return true;
}

/* enum acct_kind of "d,b"; *ret_kinds is 0 when they are all of those without records yet. */
static int parse_kinds(struct slice text, unsigned *ret_kinds, char *why)
{
    struct slice name;
    unsigned kinds = 0;

    while (next_item(&text, &name)) {
        size_t i = 0, count = sizeof(kind_names) / sizeof(kind_names[0]);

        while (i < count && !slice_equal_nocase(name, slice_str(kind_names[i].name)) &&
               !slice_equal_nocase(name, slice_str(kind_names[i].long_name)))
            i++;
        if (i == count) {
            snprintf(why, ACCT_LAYOUT_WHY_MAX, "there is no type of records \"%.*s\"", SHOW(name));
            return E_SYNTAX;
        }
        kinds |= kind_names[i].kind;
    }
    *ret_kinds = kinds;
    return 0;
}

static int keep_text(struct acct_csv_layout *layout, struct slice text, struct acct_text *ret_text)
{
    if (text.len > ACCT_TEXTS_MAX - layout->text_bytes)
        return E_TOO_LONG;
    *ret_text = (struct acct_text){(uint16_t)layout->text_bytes, (uint16_t)text.len};
    memcpy(layout->texts + layout->text_bytes, text.data, text.len);
    layout->text_bytes += (uint32_t)text.len;
    return 0;
}

/* RFC 5322 3.6.8: printable ASCII but for the colon. */
static bool is_field_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] <= ' ' || name.data[i] >= 0x7f || name.data[i] == ':' ||
            name.data[i] == '*')
            return false;
    }
    return name.len > 0 && name.len <= UINT8_MAX;
}

/* A name of a column, "header_X" among them. */
static int parse_field(struct acct_csv_layout *layout, struct slice name,
                       struct acct_field *ret_field, char *why)
{
    static const struct slice prefix = {(const uint8_t *)"header_", 7};
    struct acct_field field = {0};

    if (slice_starts_nocase(name, prefix)) {
        struct slice header = slice_after(name, prefix.len);

        field.column = ACCT_CSV_header;
        if (!is_field_name(header)) {
            snprintf(why, ACCT_LAYOUT_WHY_MAX,
                     "\"%.*s\": behind header_ stands the name of a header field", SHOW(name));
            return E_SYNTAX;
        }
        if (keep_text(layout, header, &field.header) < 0) {
            snprintf(why, ACCT_LAYOUT_WHY_MAX, "the names of header fields are too long together");
            return E_TOO_LONG;
        }
    } else if (!acct_csv_column_named(name, &field.column)) {
        snprintf(why, ACCT_LAYOUT_WHY_MAX, "there is no field \"%.*s\"", SHOW(name));
        return E_SYNTAX;
    }
    *ret_field = field;
    return 0;
}

/* ---- Lists of columns ------------------------------------------------------------------------ */

static bool is_same_column(const struct acct_csv_layout *layout, uint8_t column,
                           struct acct_text header, const struct acct_field *field)
{
    return column == field->column &&
           (column != ACCT_CSV_header ||
            slice_equal_nocase(acct_text_of(layout, header), acct_text_of(layout, field->header)));
}

static uint32_t find_field(const struct acct_layout_draft *draft,
                           const struct acct_field_list *list, const struct acct_field *field)
{
    uint32_t i = 0;

    while (i < list->count &&
           !is_same_column(draft->layout, list->fields[i].column, list->fields[i].header, field))
        i++;
    return i;
}

/* False when there is no room; a column that is there already stays where it is. */
static bool add_field(const struct acct_layout_draft *draft, struct acct_field_list *list,
                      const struct acct_field *field)
{
    if (find_field(draft, list, field) < list->count)
        return true;
    if (list->count == ACCT_PLACES_MAX)
        return false;
    list->fields[list->count++] = *field;
    return true;
}

static void remove_field(const struct acct_layout_draft *draft, struct acct_field_list *list,
                         const struct acct_field *field)
{
    uint32_t at = find_field(draft, list, field);

    if (at == list->count || field->column == ACCT_CSV_type)
        return;
    list->count--;
    memmove(&list->fields[at], &list->fields[at + 1], (list->count - at) * sizeof(*list->fields));
}

static bool add_usual(const struct acct_layout_draft *draft, struct acct_field_list *list,
                      unsigned kind)
{
    const uint8_t *usual = kind == ACCT_RECEIVED ? receipt_columns : delivery_columns;
    size_t count = kind == ACCT_RECEIVED ? sizeof(receipt_columns) : sizeof(delivery_columns);

    for (size_t i = 0; i < count; i++) {
        if (!add_field(draft, list, &(struct acct_field){.column = usual[i]}))
            return false;
    }
    return true;
}

static void start_list(struct acct_field_list *list)
{
    if (list->is_given)
        return;
    /* Consumers tell headers and kinds by column 0. */
    *list = (struct acct_field_list){
        .fields = {{.column = ACCT_CSV_type}}, .count = 1, .is_given = true};
}

static int take_item(struct acct_layout_draft *draft, unsigned kind, struct acct_field_list *list,
                     const struct acct_field *field, bool is_removed, char *why)
{
    if ((acct_csv_column_kinds(field->column) & kind) == 0) {
        snprintf(why, ACCT_LAYOUT_WHY_MAX, "records of type %s have no such field",
                 kind == ACCT_RECEIVED ? "r" : "d, b and t");
        return E_SYNTAX;
    }
    if (is_removed) {
        remove_field(draft, list, field);
        return 0;
    }
    if (add_field(draft, list, field))
        return 0;
    snprintf(why, ACCT_LAYOUT_WHY_MAX, "at most %d fields", ACCT_PLACES_MAX);
    return E_FULL;
}

static int take_items(struct acct_layout_draft *draft, unsigned kinds, struct slice item, char *why)
{
    bool is_all = slice_equal(item, SLICE_LITERAL("*"));
    bool is_removed = item.data[0] == '!';
    struct acct_field field;
    int result = 0;

    if (!is_all)
        result = parse_field(draft->layout, is_removed ? slice_after(item, 1) : item, &field, why);
    for (uint32_t i = 0; i < ACCT_KIND_COUNT && result == 0; i++) {
        if ((kinds & 1u << i) == 0)
            continue;
        start_list(&draft->lists[i]);
        if (is_all)
            must(add_usual(draft, &draft->lists[i], 1u << i) ||
                 draft->lists[i].count == ACCT_PLACES_MAX);
        else
            result = take_item(draft, 1u << i, &draft->lists[i], &field, is_removed, why);
    }
    return result;
}

int acct_layout_fields(struct acct_layout_draft *draft, struct slice line,
                       char why[ACCT_LAYOUT_WHY_MAX])
{
    struct slice item;
    unsigned kinds;
    int result = parse_kinds(next_word(&line), &kinds, why);

    while (result == 0 && kinds != 0 && next_item(&line, &item))
        result = take_items(draft, kinds, item, why);
    return result;
}

unsigned acct_layout_kinds(struct slice line)
{
    char why[ACCT_LAYOUT_WHY_MAX];
    unsigned kinds;

    return parse_kinds(next_word(&line), &kinds, why) < 0 ? 0 : kinds;
}

int acct_layout_map(struct acct_layout_draft *draft, struct slice line,
                    char why[ACCT_LAYOUT_WHY_MAX])
{
    struct acct_csv_layout *layout = draft->layout;
    struct acct_field from, to;
    unsigned kinds;
    int result = parse_kinds(next_word(&line), &kinds, why);

    if (result < 0 || kinds == 0)
        return result;
    result = parse_field(layout, next_word(&line), &from, why);
    if (result == 0)
        result = parse_field(layout, next_word(&line), &to, why);
    if (result < 0)
        return result;
    if (from.column != ACCT_CSV_header || to.column == ACCT_CSV_type) {
        snprintf(why, ACCT_LAYOUT_WHY_MAX, "write TYPE header_NAME FIELD");
        return E_SYNTAX;
    }
    if (layout->map_count == ACCT_MAPS_MAX) {
        snprintf(why, ACCT_LAYOUT_WHY_MAX, "at most %d of them in one file", ACCT_MAPS_MAX);
        return E_FULL;
    }
    layout->maps[layout->map_count++] = (struct acct_csv_map){
        .kinds = (uint8_t)kinds, .column = to.column, .header = from.header, .filled = to.header};
    return 0;
}

int acct_layout_user_string(struct acct_layout_draft *draft, struct slice text)
{
    return text.len > UINT8_MAX ? E_TOO_LONG
                                : keep_text(draft->layout, text, &draft->layout->user_string);
}

/* ---- The whole ------------------------------------------------------------------------------- */

void acct_layout_begin(struct acct_layout_draft *draft, struct acct_csv_layout *layout,
                       unsigned kinds, bool iso_times)
{
    must(kinds != 0 && kinds < 1u << ACCT_KIND_COUNT);
    memset(draft, 0, sizeof(*draft));
    memset(layout, 0, sizeof(*layout));
    layout->kinds = (uint8_t)kinds;
    layout->iso_times = iso_times;
    draft->layout = layout;
}

static bool place_field(struct acct_csv_layout *layout, const struct acct_field *field,
                        unsigned kind)
{
    uint32_t i = 0;

    while (i < layout->place_count &&
           !is_same_column(layout, layout->places[i].column, layout->places[i].header, field))
        i++;
    if (i == ACCT_PLACES_MAX)
        return false;
    if (i == layout->place_count)
        layout->places[layout->place_count++] =
            (struct acct_csv_place){.column = field->column, .header = field->header};
    layout->places[i].kinds |= (uint8_t)kind;
    return true;
}

int acct_layout_end(struct acct_layout_draft *draft, char why[ACCT_LAYOUT_WHY_MAX])
{
    struct acct_csv_layout *layout = draft->layout;

    for (uint32_t i = 0; i < ACCT_KIND_COUNT; i++) {
        struct acct_field_list *list = &draft->lists[i];

        if ((layout->kinds & 1u << i) == 0)
            continue;
        if (!list->is_given)
            must(add_usual(draft, list, 1u << i));
        for (uint32_t k = 0; k < list->count; k++) {
            if (place_field(layout, &list->fields[k], 1u << i))
                continue;
            snprintf(why, ACCT_LAYOUT_WHY_MAX, "at most %d columns in one file", ACCT_PLACES_MAX);
            return E_FULL;
        }
    }
    return 0;
}

void acct_layout_usual(struct acct_csv_layout *layout, unsigned kinds, bool iso_times)
{
    struct acct_layout_draft draft;
    char why[ACCT_LAYOUT_WHY_MAX];

    acct_layout_begin(&draft, layout, kinds, iso_times);
    must(acct_layout_end(&draft, why) == 0);
}

bool acct_layout_header(const struct acct_csv_layout *layout, uint32_t position,
                        struct slice *ret_name)
{
    for (uint32_t i = 0; i < layout->place_count; i++) {
        if (layout->places[i].column != ACCT_CSV_header || position-- > 0)
            continue;
        *ret_name = acct_text_of(layout, layout->places[i].header);
        return true;
    }
    if (position >= layout->map_count)
        return false;
    *ret_name = acct_text_of(layout, layout->maps[position].header);
    return true;
}
