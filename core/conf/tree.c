#include "core/conf/tree.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/conf/reader.h"
#include "core/conf/show.h"
#include "core/conf/wrap.h"

#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdarg.h>
#include <stdlib.h>

#define INCLUDE_DEPTH_MAX 16
#define FILES_MAX         10000
#define NAME_MAX_OCTETS   4096

/* A file that is being read, and the one whose include line led here. */
struct open_file {
    struct reader reader;
    struct section *outer; /* the section that its include line stands in */
    struct open_file *includer;
};

struct parser {
    struct tree *tree;
    struct arena *values;
    const struct conf_load_options *options;
    struct report *report;
    struct directive_index index;
    struct open_file *file;
    struct section *open; /* innermost */
    unsigned depth;       /* of files */
    unsigned files;
    size_t bytes;
    bool *warned_rows; /* one remark for each keyword is enough */
    bool *warned_sections;
    const struct section **seen_in; /* by row: section it was last seen in, and the line there */
    unsigned *seen_line;
};

static void complain(struct parser *parser, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void complain(struct parser *parser, const char *format, ...)
{
    char text[VALUE_WHY_MAX + 128];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    report_error(parser->report, parser->file->reader.name, parser->file->reader.line, "%s", text);
    parser->open->has_errors = true;
}

/* Why a line was refused before it was looked at. */
static void complain_text(struct parser *parser, int rc)
{
    const struct reader *reader = &parser->file->reader;

    if (rc == E_TOO_LONG)
        complain(parser, "the line is longer than %d octets", READER_LINE_MAX);
    else if (reader->bad_octet < 0x80)
        complain(parser, "the line holds the control character 0x%02x, in column %zu%s",
                 reader->bad_octet, reader->bad_column,
                 reader->bad_octet == '\r' ? " (are these line ends of an old Mac?)" : "");
    else
        complain(parser,
                 "the line is not UTF-8 text: there is an octet 0x%02x in column %zu (is the file "
                 "in ISO 8859-1 or Windows-1252?)",
                 reader->bad_octet, reader->bad_column);
}

/* Text that was copied holds characters that nobody sees. */
static void remark_odd(struct parser *parser)
{
    const struct reader *reader = &parser->file->reader;

    if (reader->odd_lines == 0)
        return;
    report_warning(parser->report, reader->name, reader->odd_line,
                   "the line holds the character U+%04X, %s (lines with such: %u)",
                   (unsigned)reader->odd_code,
                   reader->odd_is_blank ? "which only looks like a blank: it counts as one"
                                        : "which cannot be seen: it does not count",
                   reader->odd_lines);
}

static enum scope scope_of(const struct section *section)
{
    return section->kind == NULL ? SCOPE_GLOBAL : section->kind->scope;
}

static bool is_skipped(const struct section *section)
{
    return section->kind == NULL && section->parent != NULL;
}

/* ---- Sections ------------------------------------------------------------------------------ */

static struct section *section_open(struct parser *parser, const struct section_kind *kind,
                                    struct slice tag, struct slice name)
{
    struct section *section = arena_alloc(&parser->tree->arena, sizeof(*section));
    struct section *parent = parser->open;

    section->kind = kind;
    section->tag = arena_copy(&parser->tree->arena, tag);
    section->name = arena_copy(parser->values, name);
    section->file = parser->file->reader.name;
    section->line = parser->file->reader.line;
    section->parent = parent;
    if (kind != NULL) {
        if (parent->last_child != NULL)
            parent->last_child->next = section;
        else
            parent->children = section;
        parent->last_child = section;
    }
    parser->open = section;
    return section;
}

static void remark_section(struct parser *parser, const struct section *section)
{
    const struct section_kind *kind = section->kind;
    uint32_t position = section_position(kind);

    /* The lines of a list are not looked at one by one, so each list is worth a remark. */
    if (kind->effect == EFFECT_DONE ||
        (kind->scope != SCOPE_LINES && parser->warned_sections[position]))
        return;
    parser->warned_sections[position] = true;
    if (kind->effect == EFFECT_IGNORED)
        report_warning(parser->report, section->file, section->line,
                       "<%s> is accepted and ignored: %s", kind->tag, kind->reason);
    else
        report_warning(parser->report, section->file, section->line,
                       "<%s%s%.*s> is accepted but has no effect yet", kind->tag,
                       section->name.len > 0 ? " " : "", SHOW(section->name));
}

static void complain_open(struct parser *parser, const struct section *section)
{
    report_error(parser->report, section->file, section->line, "<%.*s> is never closed",
                 SHOW(section->tag));
}

static bool may_stand_in(const struct section_kind *kind, const struct section *outer)
{
    return !is_skipped(outer) && (kind->parents & SCOPE_BIT(scope_of(outer))) != 0;
}

/*
 * A section in the wrong place mostly means that the end of the one before it is missing: if it
 * can stand further out, what is open in between is taken for ended. False when it cannot.
 */
static bool find_place(struct parser *parser, const struct section_kind *kind)
{
    const struct section *inner = parser->open;
    struct section *outer = parser->open;

    if (may_stand_in(kind, inner))
        return true;
    complain(parser, "<%s> cannot stand in <%.*s>, which was opened in line %u and is not closed",
             kind->tag, SHOW(inner->tag), inner->line);
    while (outer != parser->file->outer && !may_stand_in(kind, outer))
        outer = outer->parent;
    if (!may_stand_in(kind, outer))
        return false;
    parser->open = outer;
    return true;
}

/* Whether the section is one to read; it is skipped otherwise. */
static bool accept_section(struct parser *parser, const struct section_kind *kind, struct slice tag,
                           struct slice name)
{
    if (kind == NULL) {
        const char *near = section_nearest(tag);

        complain(parser, "unknown section <%.*s>%s%s%s", SHOW(tag), near ? "; did you mean <" : "",
                 near ? near : "", near ? ">?" : "");
        return false;
    }
    if (kind->effect == EFFECT_REFUSED) {
        complain(parser, "there is no <%s>: %s", kind->tag, kind->reason);
        return false;
    }
    if (!find_place(parser, kind))
        return false;
    if (kind->name == SECTION_HAS_NAME && name.len == 0) {
        complain(parser, "<%s> needs an argument: <%s %s>", kind->tag, kind->tag, kind->argument);
        return false;
    }
    if (name.len > NAME_MAX_OCTETS) {
        complain(parser, "the argument of <%s> is too long", kind->tag);
        return false;
    }
    return true;
}

/* "tag name" without the angle brackets. */
static void parse_opening(struct parser *parser, struct slice inside)
{
    const struct section_kind *kind;
    struct slice tag = slice_of(inside.data, 0);
    struct slice name;

    while (tag.len < inside.len && inside.data[tag.len] != ' ' && inside.data[tag.len] != '\t')
        tag.len++;
    name = slice_trim(slice_after(inside, tag.len));
    if (name.len >= 2 && name.data[0] == '"' && name.data[name.len - 1] == '"')
        name = slice_of(name.data + 1, name.len - 2);
    kind = section_find(tag);
    if (kind == NULL && !is_skipped(parser->open) &&
        directive_find_anywhere(&parser->index, tag) != NULL) {
        complain(parser, "%.*s is no section: it stands without < and >", SHOW(tag));
        return;
    }
    /* Within what is skipped, sections count only to find the right end. */
    if (is_skipped(parser->open) || !accept_section(parser, kind, tag, name)) {
        section_open(parser, NULL, tag, SLICE_EMPTY);
        return;
    }
    remark_section(parser, section_open(parser, kind, tag, name));
}

/* Whether "tag" or "tag name" closes the section. */
static bool is_end_of(const struct section *section, struct slice inside)
{
    struct slice tag = inside;
    struct slice name;

    tag.len = 0;
    while (tag.len < inside.len && !value_is_blank(inside.data[tag.len]))
        tag.len++;
    name = slice_trim(slice_after(inside, tag.len));
    return slice_equal_nocase(section->tag, tag) &&
           (name.len == 0 || section->kind == NULL || slice_equal_nocase(section->name, name));
}

/* A misspelt end of what is open ends it all the same, so that one mistake is one error. */
static void complain_closing(struct parser *parser, struct slice inside)
{
    const char *near = section_find(inside) == NULL ? section_nearest(inside) : NULL;
    bool is_meant = near != NULL && parser->open != parser->file->outer &&
                    slice_equal_nocase(parser->open->tag, slice_str(near));

    complain(parser, "</%.*s> closes nothing that is open in this file%s%s%s", SHOW(inside),
             is_meant ? "; did you mean </" : "", is_meant ? near : "", is_meant ? ">?" : "");
    if (is_meant)
        parser->open = parser->open->parent;
}

/* Ends the innermost section so called that this file opened. */
static void parse_closing(struct parser *parser, struct slice inside)
{
    struct section *section = parser->open;

    while (section != parser->file->outer && !is_end_of(section, inside))
        section = section->parent;
    if (section == parser->file->outer) {
        complain_closing(parser, inside);
        return;
    }
    while (parser->open != section) {
        complain_open(parser, parser->open);
        parser->open = parser->open->parent;
    }
    parser->open = section->parent;
}

/* Whether the words between angle brackets are those of a section, or end one. */
static bool is_tag(struct slice inside)
{
    struct slice tag = inside;

    tag.len = 0;
    while (tag.len < inside.len && !value_is_blank(inside.data[tag.len]))
        tag.len++;
    return inside.data[0] == '/' || section_find(tag) != NULL;
}

static void parse_tag(struct parser *parser, struct slice content)
{
    bool has_end = content.len > 1 && content.data[content.len - 1] == '>';
    struct slice inside = slice_trim(slice_of(content.data + 1, content.len - 1 - has_end));

    if (inside.len == 0) {
        complain(parser, "a section has no name");
        return;
    }
    if (inside.data[0] == '!' || inside.data[0] == '?') {
        complain(parser, "this is no section; comments begin with #");
        return;
    }
    /* It is read as if it had its end, so that what follows stands where it is meant to. */
    if (!has_end)
        complain(parser, "the line starts with < but does not end with >");
    if (!has_end && !is_tag(inside))
        return;
    if (inside.data[0] == '/')
        parse_closing(parser, slice_trim(slice_after(inside, 1)));
    else
        parse_opening(parser, inside);
}

/* ---- Directives ---------------------------------------------------------------------------- */

/* Names the sections that know the keyword, for a hint. */
static void list_homes(const struct parser *parser, struct slice keyword, char *room, size_t size)
{
    size_t len = 0;

    room[0] = '\0';
    for (unsigned scope = 0; scope < SCOPE_COUNT && len < size; scope++) {
        if (directive_find(&parser->index, keyword, scope) != NULL)
            len += (size_t)snprintf(room + len, size - len, "%s%s", len > 0 ? ", " : "",
                                    scope_title(scope));
    }
}

static void complain_unknown(struct parser *parser, struct slice keyword)
{
    const struct section_kind *kind = section_find(keyword);
    enum scope scope = scope_of(parser->open);
    const char *near;
    char homes[200];

    if (kind != NULL && kind->effect != EFFECT_REFUSED && may_stand_in(kind, parser->open)) {
        complain(parser, "%s is a section: it begins with <%s%s%s> and ends with </%s>", kind->tag,
                 kind->tag, kind->argument[0] != '\0' ? " " : "", kind->argument, kind->tag);
        return;
    }
    if (directive_find_anywhere(&parser->index, keyword) != NULL) {
        list_homes(parser, keyword, homes, sizeof(homes));
        complain(parser, "\"%.*s\" is not known in %s; it belongs in %s", SHOW(keyword),
                 scope_title(scope), homes);
        return;
    }
    near = directive_nearest(keyword, scope);
    complain(parser, "unknown directive \"%.*s\" in %s%s%s%s", SHOW(keyword), scope_title(scope),
             near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static bool is_word(struct slice text)
{
    return slice_find(text, ' ') == text.len && slice_find(text, '\t') == text.len;
}

/*
 * The value ends in a comma, or it is a macro's name alone: the list goes on in the next line.
 * False when that line is bad.
 */
static bool join_lines(struct parser *parser, const struct directive *row, struct slice *value)
{
    while (value->data[value->len - 1] == ',' || (row->type == TYPE_MACRO && is_word(*value))) {
        int rc = reader_join(&parser->file->reader, value);

        if (rc < 0) {
            complain_text(parser, rc);
            return false;
        }
        if (rc == 0)
            return true;
    }
    return true;
}

static void remark_row(struct parser *parser, const struct directive *row)
{
    uint32_t position = directive_position(row);
    const struct section_kind *kind = parser->open->kind;

    /* What is said of a section covers its content. */
    if (row->effect == EFFECT_DONE || parser->warned_rows[position] ||
        (kind != NULL && kind->effect != EFFECT_DONE))
        return;
    parser->warned_rows[position] = true;
    if (row->effect == EFFECT_IGNORED)
        report_warning(parser->report, parser->file->reader.name, parser->file->reader.line,
                       "%s is accepted and ignored: %s", row->name, row->reason);
    else
        report_warning(parser->report, parser->file->reader.name, parser->file->reader.line,
                       "%s is accepted but has no effect yet", row->name);
}

static void remark_repetition(struct parser *parser, const struct directive *row)
{
    uint32_t position = directive_position(row);

    if ((row->flags & FLAG_REPEAT) == 0 && parser->seen_in[position] == parser->open)
        report_warning(parser->report, parser->file->reader.name, parser->file->reader.line,
                       "%s is given twice in one section (also in line %u); the later one counts",
                       row->name, parser->seen_line[position]);
    parser->seen_in[position] = parser->open;
    parser->seen_line[position] = parser->file->reader.line;
}

/* Word processors make these of plain ones, and a password with them is another password. */
static void remark_quotes(struct parser *parser, const struct directive *row, struct slice text)
{
    static const char *const quotes[] = {"\u2018", "\u2019", "\u201a", "\u201c",
                                         "\u201d", "\u201e", "\u00ab", "\u00bb"};

    for (size_t i = 0; i < sizeof(quotes) / sizeof(quotes[0]) && row->type != TYPE_TEXT; i++) {
        if (slice_starts_nocase(text, slice_str(quotes[i])))
            report_warning(parser->report, parser->file->reader.name, parser->file->reader.line,
                           "%s: the value begins with %s, which belongs to it: only \" quotes it",
                           row->name, quotes[i]);
    }
}

static void add_entry(struct parser *parser, struct entry filled)
{
    struct entry *entry = arena_alloc(&parser->tree->arena, sizeof(*entry));
    struct section *section = parser->open;

    *entry = filled;
    if (section->last_entry != NULL)
        section->last_entry->next = entry;
    else
        section->entries = entry;
    section->last_entry = entry;
}

static void parse_include(struct parser *parser, const char *pattern);

static void parse_directive(struct parser *parser, struct slice keyword, struct slice text)
{
    const struct directive *row = directive_find(&parser->index, keyword, scope_of(parser->open));
    struct entry entry = {
        .row = row, .file = parser->file->reader.name, .line = parser->file->reader.line};
    char why[VALUE_WHY_MAX];

    if (row == NULL) {
        complain_unknown(parser, keyword);
        return;
    }
    if (row->effect == EFFECT_REFUSED) {
        complain(parser, "there is no directive \"%s\": %s", row->name, row->reason);
        return;
    }
    if (text.len == 0) {
        complain(parser, "%s needs a value", row->name);
        return;
    }
    if (value_may_wrap(row->type) && !join_lines(parser, row, &text))
        return;
    entry.cleared = slice_equal(text, SLICE_LITERAL("\"\""));
    if (!entry.cleared && value_parse(row, text, parser->values, &entry.value, why) < 0) {
        if (text.data[0] == '=')
            complain(parser, "%s: the value stands behind a blank, without =", row->name);
        else
            complain(parser, "%s: %s", row->name, why);
        return;
    }
    remark_quotes(parser, row, text);
    entry.text = (const char *)arena_copy(parser->values, text).data;
    if (row->type == TYPE_INCLUDE) {
        if (!entry.cleared)
            parse_include(parser, entry.value.text);
        return;
    }
    remark_row(parser, row);
    remark_repetition(parser, row);
    add_entry(parser, entry);
}

/* A pattern of bounces that is broken off at the end of the line is taken on from the next. */
static struct slice mend_line(struct parser *parser, struct slice content)
{
    struct reader *reader = &parser->file->reader;
    struct slice pattern, category, whole, seam;
    unsigned line = reader->line;

    if (strcmp(parser->open->kind->tag, "bounce-category-patterns") != 0 ||
        content.data[0] != '/' || wrap_split(content, &pattern, &category) ||
        !wrap_join(reader, &parser->tree->arena, content, &whole, &seam))
        return content;
    report_warning(parser->report, reader->name, line,
                   "the pattern is broken off; it is taken to go on in the lines that follow: "
                   "...%.*s...",
                   SHOW(seam));
    return whole;
}

static void add_line(struct parser *parser, struct slice content)
{
    struct list_line *line = arena_alloc(&parser->tree->arena, sizeof(*line));
    struct section *section = parser->open;

    *line = (struct list_line){.text = arena_copy(parser->values, content),
                               .file = parser->file->reader.name,
                               .line = parser->file->reader.line};
    if (section->last_line != NULL)
        section->last_line->next = line;
    else
        section->lines = line;
    section->last_line = line;
}

/* Where "</tag>" of the open section ends the line; the length of the line when it does not. */
static size_t find_end_tag(const struct parser *parser, struct slice content)
{
    size_t at = content.len;

    if (at < 4 || content.data[at - 1] != '>' || parser->open == parser->file->outer)
        return at;
    while (at > 0 && content.data[at - 1] != '<')
        at--;
    if (at == 0 || content.data[at] != '/' ||
        !is_end_of(parser->open, slice_of(content.data + at + 1, content.len - at - 2)))
        return content.len;
    return at - 1;
}

/*
 * Where the tag ends that the line begins with. What a tag is called may hold a '>', as commands
 * do, so a line that ends in one is a tag as a whole unless another tag stands in it.
 */
static size_t find_tag_end(struct slice content)
{
    size_t end = slice_find(content, '>');

    if (end == content.len)
        return end;
    if (content.data[content.len - 1] == '>' &&
        slice_find(slice_after(content, 1), '<') == content.len - 1)
        return content.len;
    return end + 1;
}

static void parse_line(struct parser *parser, struct slice content)
{
    struct slice keyword = slice_of(content.data, 0);
    struct slice text;

    if (is_skipped(parser->open))
        return;
    while (keyword.len < content.len && content.data[keyword.len] != ' ' &&
           content.data[keyword.len] != '\t')
        keyword.len++;
    text = slice_trim(slice_after(content, keyword.len));
    /* Of the lines of a list only includes are read here. */
    if (scope_of(parser->open) == SCOPE_LINES &&
        directive_find(&parser->index, keyword, SCOPE_LINES) == NULL)
        add_line(parser, mend_line(parser, content));
    else
        parse_directive(parser, keyword, text);
}

/* A line holds a tag or a directive; in files that are not ours also both, or a whole section. */
static void parse_content(struct parser *parser, struct slice content)
{
    while (content.len > 0) {
        bool is_tag = content.data[0] == '<';
        size_t end = is_tag ? find_tag_end(content) : find_end_tag(parser, content);

        if (is_tag)
            parse_tag(parser, slice_of(content.data, end));
        else
            parse_line(parser, slice_trim(slice_of(content.data, end)));
        content = slice_trim(slice_after(content, end));
    }
}

/* ---- Files --------------------------------------------------------------------------------- */

/* By its mark, which cannot begin any other text. Each line would be an error otherwise. */
static bool is_utf16(const struct reader *reader)
{
    return reader->line == 1 && reader->len >= 2 &&
           (memcmp(reader->text, "\xff\xfe", 2) == 0 || memcmp(reader->text, "\xfe\xff", 2) == 0);
}

static void parse_lines(struct parser *parser, struct open_file *file)
{
    struct slice content;
    int rc;

    file->includer = parser->file;
    file->outer = parser->open;
    parser->file = file;
    parser->depth++;
    while (!report_is_full(parser->report) && (rc = reader_next(&file->reader, &content)) != 0) {
        if (rc > 0 && content.len > 0)
            parse_content(parser, content);
        if (rc >= 0)
            continue;
        if (is_utf16(&file->reader)) {
            complain(parser, "the file is in UTF-16; it has to be in UTF-8");
            break;
        }
        complain_text(parser, rc);
    }
    remark_odd(parser);
    while (parser->open != file->outer) {
        complain_open(parser, parser->open);
        parser->open = parser->open->parent;
    }
    parser->depth--;
    parser->file = file->includer;
}

static bool is_being_read(const struct parser *parser, const struct reader *reader)
{
    for (const struct open_file *file = parser->file; file != NULL; file = file->includer) {
        if (strcmp(file->reader.name, reader->name) == 0)
            return true;
        if (reader->inode != 0 && file->reader.inode == reader->inode &&
            file->reader.device == reader->device)
            return true;
    }
    return false;
}

/* From the set of texts where the file is there already, and into it else. */
static int open_reader(const struct conf_load_options *options, struct reader *reader,
                       const char *name, bool special, size_t max_bytes)
{
    struct conf_files *files = options->files;
    uint32_t position = files != NULL ? conf_files_find(files, name) : UINT32_MAX;
    int rc;

    if (position != UINT32_MAX) {
        struct slice text = conf_files_text(files, position);

        return text.len > max_bytes ? E_TOO_LONG : reader_open_text(reader, name, text);
    }
    if (options->files_only)
        return -ENOENT;
    rc = reader_open_file(reader, name, special, max_bytes);
    if (rc == 0 && files != NULL)
        conf_files_add(files, slice_str(name), slice_of(reader->text, reader->len));
    return rc;
}

/* A machine that only checks the file need not have all that it includes. */
static void note_missing(struct parser *parser, const char *name)
{
    if (parser->open != &parser->tree->top)
        parser->open->has_errors = true;
    if (parser->tree->missing == NULL)
        parser->tree->missing = name;
}

static void include_file(struct parser *parser, const char *path)
{
    struct open_file file = {0};
    const char *name = arena_strdup(parser->values, path);
    int rc;

    if (parser->depth >= INCLUDE_DEPTH_MAX) {
        complain(parser, "includes are nested deeper than %d", INCLUDE_DEPTH_MAX);
        return;
    }
    if (++parser->files > FILES_MAX) {
        complain(parser, "more than %d files are included", FILES_MAX);
        return;
    }
    rc = open_reader(parser->options, &file.reader, name, false, READER_BYTES_MAX - parser->bytes);
    if (rc == -ENOENT && parser->options->syntax_only) {
        report_warning(parser->report, parser->file->reader.name, parser->file->reader.line,
                       "cannot include %.200s: %s", name, err_text(rc));
        note_missing(parser, name);
        return;
    }
    if (rc < 0) {
        complain(parser, "cannot include %.200s: %s", name, err_text(rc));
        return;
    }
    parser->bytes += file.reader.len;
    if (is_being_read(parser, &file.reader))
        complain(parser, "%.200s includes itself in the end", name);
    else
        parse_lines(parser, &file);
    reader_close(&file.reader);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* As glob does it, among the texts of a set. */
static void include_all_of_set(struct parser *parser, const char *pattern)
{
    const struct conf_files *files = parser->options->files;
    uint32_t count = 0;
    const char **names =
        arena_alloc(&parser->tree->arena, conf_files_count(files) * sizeof(*names));

    for (uint32_t i = 0; i < conf_files_count(files); i++) {
        names[count] = conf_files_name(files, i);
        count += fnmatch(pattern, names[count], FNM_PATHNAME | FNM_PERIOD) == 0;
    }
    qsort(names, count, sizeof(*names), compare_names);
    for (uint32_t i = 0; i < count && !report_is_full(parser->report); i++)
        include_file(parser, names[i]);
}

static void include_all(struct parser *parser, const char *pattern)
{
    glob_t found = {0};
    int rc;

    if (parser->options->files_only) {
        include_all_of_set(parser, pattern);
        return;
    }
    rc = glob(pattern, 0, NULL, &found);
    if (rc == GLOB_NOMATCH && parser->options->syntax_only)
        note_missing(parser, arena_strdup(parser->values, pattern));
    if (rc == GLOB_NOMATCH)
        report_warning(parser->report, parser->file->reader.name, parser->file->reader.line,
                       "include: nothing matches %.200s", pattern);
    else if (rc != 0)
        complain(parser, "include: %.200s cannot be listed", pattern);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc && !report_is_full(parser->report); i++)
        include_file(parser, found.gl_pathv[i]);
    globfree(&found);
}

/* Relative names start at the folder of the file that includes. */
static void parse_include(struct parser *parser, const char *pattern)
{
    const char *name = parser->file->reader.name;
    const char *slash = strrchr(name, '/');
    char *path;

    if (parser->options->no_includes) {
        complain(parser, "include is not allowed here");
        return;
    }
    if (strstr(pattern, "://") != NULL) {
        complain(parser, "include: addresses of web pages are not supported");
        return;
    }
    parser->tree->has_includes = true;
    path = arena_alloc(&parser->tree->arena, strlen(name) + strlen(pattern) + 2);
    if (pattern[0] != '/' && slash != NULL)
        memcpy(path, name, (size_t)(slash - name) + 1);
    strcat(path, pattern);
    if (strpbrk(pattern, "*?[") != NULL)
        include_all(parser, path);
    else
        include_file(parser, path);
}

/* ---- Parsing as a whole -------------------------------------------------------------------- */

static int parse(struct tree *tree, struct open_file *file, const struct conf_load_options *options,
                 struct arena *values, struct report *report)
{
    static const struct conf_load_options no_options;
    struct parser parser = {.tree = tree, .values = values, .report = report};
    int rc = directive_index_init(&parser.index);

    if (rc < 0)
        return rc;
    parser.options = options != NULL ? options : &no_options;
    tree->top.file = file->reader.name;
    parser.open = &tree->top;
    parser.bytes = file->reader.len;
    parser.warned_rows = mem_alloc(directive_count() * sizeof(*parser.warned_rows));
    parser.warned_sections = mem_alloc(section_count() * sizeof(*parser.warned_sections));
    parser.seen_in = mem_alloc(directive_count() * sizeof(*parser.seen_in));
    parser.seen_line = mem_alloc(directive_count() * sizeof(*parser.seen_line));
    parse_lines(&parser, file);
    must(parser.open == &tree->top);
    mem_free(parser.warned_rows);
    mem_free(parser.warned_sections);
    mem_free(parser.seen_in);
    mem_free(parser.seen_line);
    directive_index_fini(&parser.index);
    return 0;
}

static void tree_init(struct tree *tree)
{
    *tree = (struct tree){0};
    arena_init(&tree->arena);
    tree->top.tag = SLICE_EMPTY;
    tree->top.name = SLICE_EMPTY;
}

/* A file that was cut off at its beginning would take away all that the running one has. */
static void refuse_empty(const struct tree *tree, const char *path, struct report *report)
{
    if (report->errors == 0 && tree->top.entries == NULL && tree->top.children == NULL &&
        !tree->has_includes)
        report_error(report, path, 0,
                     "the file is empty: neither a directive nor a section stands in it");
}

int tree_parse_file(struct tree *tree, const char *path, const struct conf_load_options *options,
                    struct arena *values, struct report *report)
{
    static const struct conf_load_options no_options;
    struct open_file file = {0};
    int rc;

    tree_init(tree);
    rc = open_reader(options != NULL ? options : &no_options, &file.reader,
                     arena_strdup(values, path), true, READER_BYTES_MAX);
    if (rc < 0) {
        report_error(report, path, 0, "cannot be read: %s", err_text(rc));
        return rc;
    }
    rc = parse(tree, &file, options, values, report);
    reader_close(&file.reader);
    if (rc == 0)
        refuse_empty(tree, path, report);
    return rc;
}

int tree_parse_text(struct tree *tree, const char *name, struct slice text,
                    const struct conf_load_options *options, struct arena *values,
                    struct report *report)
{
    struct open_file file = {0};
    int rc;

    tree_init(tree);
    rc = reader_open_text(&file.reader, arena_strdup(values, name), text);
    if (rc < 0) {
        report_error(report, name, 0, "cannot be read: %s", err_text(rc));
        return rc;
    }
    rc = parse(tree, &file, options, values, report);
    reader_close(&file.reader);
    return rc;
}

void tree_fini(struct tree *tree)
{
    arena_fini(&tree->arena);
}
