/* <acct-file>: what is worked out of its lines in advance, so that every fault is found now. */
#include "core/conf/build.h"

#include "core/base/err.h"
#include "core/conf/field.h"
#include "core/obs/acct_layout.h"

#include <sys/random.h>

#define SHOW(slice) (int)(slice).len, (const char *)(slice).data

#define ACCT_KINDS 8 /* short names in the choices of "records", followed by as many long ones */

_Static_assert((int)CONF_ACCT_DELIVERED == (int)ACCT_DELIVERED &&
                   (int)CONF_ACCT_BOUNCED == (int)ACCT_BOUNCED &&
                   (int)CONF_ACCT_TRANSIENT == (int)ACCT_TRANSIENT &&
                   (int)CONF_ACCT_RECEIVED == (int)ACCT_RECEIVED,
               "the kinds of the configuration are those of the files");

/* ---- Columns -------------------------------------------------------------------------------- */

/* The values of all lines in one text, for comparisons on reload; NULL when there is none. */
static const char *join_lines(struct build *build, const struct entry_list *lines,
                              const char *before)
{
    size_t bytes = before != NULL ? strlen(before) + 1 : 1;
    char *text;

    if (lines->count == 0)
        return before;
    for (uint32_t i = 0; i < lines->count; i++)
        bytes += strlen(lines->items[i]->value.text) + 1;
    text = arena_alloc(&build->conf->arena, bytes);
    text[0] = '\0';
    if (before != NULL)
        strcat(text, before);
    for (uint32_t i = 0; i < lines->count; i++) {
        if (text[0] != '\0')
            strcat(text, ",");
        strcat(text, lines->items[i]->value.text);
    }
    return text;
}

typedef int layout_line_fn(struct acct_layout_draft *draft, struct slice line, char *why);

static void take_lines(struct build *build, struct acct_layout_draft *draft,
                       const struct entry_list *lines, layout_line_fn *take)
{
    for (uint32_t i = 0; i < lines->count; i++) {
        const struct entry *entry = lines->items[i];
        char why[ACCT_LAYOUT_WHY_MAX];

        if (take(draft, slice_str(entry->value.text), why) < 0)
            report_error(build->report, entry->file, entry->line, "%s: %s", entry->row->name, why);
    }
}

/* Columns of rows that are not written: their kind was forgotten in `records`, or is a slip. */
static void check_kinds(struct build *build, const struct entry_list *lines, unsigned records)
{
    static const char letters[] = "dbtr";

    for (uint32_t i = 0; i < lines->count; i++) {
        const struct entry *entry = lines->items[i];
        unsigned missing = acct_layout_kinds(slice_str(entry->value.text)) & ~records;

        for (unsigned kind = 0; kind < sizeof(letters) - 1; kind++)
            if ((missing >> kind & 1) != 0)
                report_warning(build->report, entry->file, entry->line,
                               "%s: `records` does not name %c, so no such row is written",
                               entry->row->name, letters[kind]);
    }
}

static void take_privacy(struct build *build, const struct section *section,
                         const struct conf_acct_file *file, struct privacy *privacy)
{
    if (privacy_parse(slice_str(file->privacy_policy), privacy) < 0) {
        report_error(build->report, section->file, section->line,
                     "privacy-policy: write retain, redact, siphash, siphash-KEY (32 hexadecimal "
                     "digits), hmac-sha256 or hmac-sha256-KEY (2 to 128), or in place of -KEY a "
                     "blank and a secret of at most 64 octets");
        return;
    }
    if (privacy->kind < PRIVACY_SIPHASH || privacy->key_bytes > 0)
        return;
    if (getrandom(privacy->key, PRIVACY_KEY_BYTES, 0) != PRIVACY_KEY_BYTES)
        report_error(build->report, section->file, section->line,
                     "privacy-policy: the system gives no random key");
    privacy->key_bytes = PRIVACY_KEY_BYTES;
}

static void build_layout(struct build *build, const struct section *section,
                         struct conf_acct_file *file)
{
    struct entry_list fields = build_entries(build, section, STORE_ACCT_FIELDS);
    struct entry_list maps = build_entries(build, section, STORE_ACCT_MAPS);
    struct acct_csv_layout *layout = arena_alloc(&build->conf->arena, sizeof(*layout));
    struct acct_layout_draft draft;
    char why[ACCT_LAYOUT_WHY_MAX];

    acct_layout_begin(&draft, layout, file->records, file->iso_times);
    take_lines(build, &draft, &fields, acct_layout_fields);
    take_lines(build, &draft, &maps, acct_layout_map);
    if (build->options->lint) {
        check_kinds(build, &fields, file->records);
        check_kinds(build, &maps, file->records);
    }
    if (file->user_string != NULL &&
        acct_layout_user_string(&draft, slice_str(file->user_string)) < 0)
        report_error(build->report, section->file, section->line,
                     "user-string: at most 255 octets");
    if (acct_layout_end(&draft, why) < 0)
        report_error(build->report, section->file, section->line, "<acct-file>: %s", why);
    take_privacy(build, section, file, &layout->privacy);
    file->layout = layout;
    file->field_lines = join_lines(build, &maps, join_lines(build, &fields, NULL));
}

static void build_filter(struct build *build, const struct section *section,
                         struct conf_acct_file *file)
{
    struct entry_list lines = build_entries(build, section, STORE_ACCT_FILTER);

    for (uint32_t i = 0; i < lines.count; i++) {
        const struct entry *entry = lines.items[i];
        struct conf_queue_filter *filter;
        char why[CONF_FILTER_WHY_MAX];

        if (conf_queue_filter_new(entry->value.text, &filter, why) < 0)
            report_error(build->report, entry->file, entry->line, "queue-filter: %s", why);
        else
            conf_queue_filter_free(filter);
    }
    file->queue_filter = join_lines(build, &lines, NULL);
}

/* ---- Files ---------------------------------------------------------------------------------- */

/* Of a file, or behind "|" of a program. */
static bool is_absolute(struct slice name)
{
    if (name.len > 0 && name.data[0] == '|')
        name = slice_trim(slice_after(name, 1));
    return name.len > 0 && name.data[0] == '/';
}

static bool add_acct_file(struct build *build, const struct section *section,
                          struct conf_acct_file *file)
{
    const unsigned done =
        CONF_ACCT_DELIVERED | CONF_ACCT_BOUNCED | CONF_ACCT_TRANSIENT | CONF_ACCT_RECEIVED;

    file->path = (const char *)section->name.data;
    if (!is_absolute(section->name)) {
        report_error(build->report, section->file, section->line,
                     "<acct-file>: \"%.*s\" is not an absolute path", SHOW(section->name));
        return false;
    }
    field_store_presets(file, SCOPE_ACCT_FILE, build->conf->presets);
    build_fields(build, section, file);
    file->records = (file->records | file->records >> ACCT_KINDS) & ((1u << ACCT_KINDS) - 1);
    if ((file->records & ~done) != 0)
        report_warning(build->report, section->file, section->line,
                       "records: tq, rb, rs and f are accepted but have no effect yet");
    file->records &= done;
    if (file->records == 0)
        return false;
    build_layout(build, section, file);
    build_filter(build, section, file);
    return true;
}

void build_acct_files(struct build *build)
{
    struct conf *conf = build->conf;
    uint32_t given = build_count_children(&build->tree->top, SCOPE_ACCT_FILE);
    struct conf_acct_file *files = arena_alloc(&conf->arena, given * sizeof(*files));
    uint32_t count = 0;

    for (const struct section *section = build->tree->top.children; section != NULL;
         section = section->next) {
        if (section->kind->scope != SCOPE_ACCT_FILE ||
            !add_acct_file(build, section, &files[count]))
            continue;
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(files[i].path, files[count].path) == 0)
                report_error(build->report, section->file, section->line,
                             "<acct-file %.*s> is given twice", SHOW(section->name));
        }
        count++;
    }
    conf->acct_files = files;
    conf->acct_file_count = count;
    if (!conf_note_headers(conf))
        report_error(build->report, build->tree->top.file, 0,
                     "accounting files quote more than %u header fields of a message",
                     CONF_NOTED_HEADERS_MAX);
}

static bool is_noted(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->noted_header_count; i++) {
        if (slice_equal_nocase(conf->noted_headers[i], name))
            return true;
    }
    return false;
}

bool conf_note_headers(struct conf *conf)
{
    struct slice name;

    conf->noted_header_count = 0;
    for (uint32_t i = 0; i < conf->acct_file_count; i++) {
        const struct acct_csv_layout *layout = conf->acct_files[i].layout;

        for (uint32_t k = 0; acct_layout_header(layout, k, &name); k++) {
            if (is_noted(conf, name))
                continue;
            if (conf->noted_header_count == CONF_NOTED_HEADERS_MAX)
                return false;
            conf->noted_headers[conf->noted_header_count++] = name;
        }
    }
    return true;
}
