#include "core/conf/included.h"

#include "core/conf/show.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define LINE_MAX_OCTETS 998 /* RFC 5322 2.1.1 */
#define FILE_MAX_OCTETS 32768

struct included_file {
    const char *path;
    char *octets;
    size_t len;
    struct included_file *next;
};

/* ---- Reading --------------------------------------------------------------------------------- */

static bool has_name(struct slice line)
{
    size_t colon = slice_find(line, ':');

    if (colon == 0 || colon == line.len || line.data[0] == '.')
        return false;
    for (size_t i = 0; i < colon; i++) {
        if (line.data[i] <= ' ')
            return false;
    }
    return true;
}

/* Why a line cannot stand in a header, or NULL. */
static const char *find_fault(const struct included_file *file, struct slice line)
{
    bool goes_on = line.data[0] == ' ' || line.data[0] == '\t';

    if (line.len > LINE_MAX_OCTETS)
        return "the line is longer than 998 octets";
    for (size_t i = 0; i < line.len; i++) {
        if ((line.data[i] < ' ' && line.data[i] != '\t') || line.data[i] > '~')
            return "the line has octets that are no printable ASCII";
    }
    if (slice_trim(line).len == 0)
        return "the line consists of blanks";
    if (goes_on ? file->len == 0 : !has_name(line))
        return "the line is no header field";
    return file->len + line.len + 2 > FILE_MAX_OCTETS ? "the file is larger than 32 KB" : NULL;
}

static void read_lines(struct build *build, const struct entry *entry, struct included_file *file,
                       FILE *stream)
{
    char text[LINE_MAX_OCTETS + 8];
    unsigned number = 0;

    while (fgets(text, sizeof(text), stream) != NULL) {
        struct slice line = slice_of(text, strcspn(text, "\r\n"));
        const char *fault;

        number++;
        if (line.len == 0)
            continue;
        fault = find_fault(file, line);
        if (fault != NULL) {
            report_error(build->report, entry->file, entry->line, "include-headers-from %s:%u: %s",
                         file->path, number, fault);
            return;
        }
        memcpy(file->octets + file->len, line.data, line.len);
        memcpy(file->octets + file->len + line.len, "\r\n", 2);
        file->len += line.len + 2;
    }
}

static void read_file(struct build *build, const struct entry *entry, struct included_file *file)
{
    struct stat facts;
    FILE *stream;

    if (build->options->no_includes) {
        report_error(build->report, entry->file, entry->line,
                     "include-headers-from cannot be used here");
        return;
    }
    stream = fopen(file->path, "re");
    if (stream == NULL || fstat(fileno(stream), &facts) < 0 || !S_ISREG(facts.st_mode)) {
        if (!build->options->syntax_only)
            report_error(build->report, entry->file, entry->line, "include-headers-from %s: %s",
                         file->path, stream == NULL ? strerror(errno) : "not a regular file");
    } else {
        read_lines(build, entry, file, stream);
    }
    if (stream != NULL)
        fclose(stream);
}

static const struct included_file *find_file(const struct conf *conf, const char *path)
{
    const struct included_file *file = conf->included;

    while (file != NULL && strcmp(file->path, path) != 0)
        file = file->next;
    return file;
}

static void read_section(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        struct included_file *file;

        if (entry->cleared || strcmp(entry->row->name, "include-headers-from") != 0 ||
            find_file(conf, entry->value.text) != NULL)
            continue;
        file = arena_alloc(&conf->arena, sizeof(*file));
        *file = (struct included_file){.path = entry->value.text,
                                       .octets = arena_alloc(&conf->arena, FILE_MAX_OCTETS),
                                       .next = conf->included};
        read_file(build, entry, file);
        conf->included = file;
    }
}

/* ---- For whom -------------------------------------------------------------------------------- */

struct slice included_find(const struct conf *conf, const char *path)
{
    const struct included_file *file = path != NULL ? find_file(conf, path) : NULL;

    return file != NULL ? slice_of(file->octets, file->len) : SLICE_EMPTY;
}

void build_included(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;

    read_section(build, top);
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        if (at->kind != NULL && (at->kind->scope == SCOPE_SOURCE || at->kind->scope == SCOPE_VMTA ||
                                 at->kind->scope == SCOPE_POOL))
            read_section(build, at);
    }
    for (uint32_t i = 0; i < conf->vmta_count; i++) {
        struct vmta_slot *slot = &conf->vmtas[i];
        const char *path = slot->vmta.include_headers_from;

        if (path == NULL && !slot->has_own_headers)
            path = conf->global.include_headers_from;
        slot->vmta.included = included_find(conf, path);
    }
}
