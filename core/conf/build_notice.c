/* What notices are written with: postmasters, our own names, the text of failure notices. */
#include "core/conf/build.h"

#include "core/conf/show.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define LINE_MAX_OCTETS 998 /* RFC 5322 2.1.1 */
#define FILE_MAX_OCTETS 32768

/* At least one item has room. */
static struct slice *gather(struct build *build, enum directive_store store, uint32_t *ret_count)
{
    struct entry_list entries = build_entries(build, &build->tree->top, store);
    struct slice *texts = arena_alloc(&build->conf->arena, (entries.count + 1) * sizeof(*texts));

    *ret_count = entries.count;
    for (uint32_t i = 0; i < entries.count; i++)
        texts[i] = slice_str(entries.items[i]->value.text);
    return texts;
}

/* ---- The text of failure notices ------------------------------------------------------------- */

/* Why a line cannot stand in a text, or NULL. */
static const char *find_fault(struct slice line, size_t octets_before)
{
    if (line.len > LINE_MAX_OCTETS)
        return "the line is longer than 998 octets";
    for (size_t i = 0; i < line.len; i++) {
        if ((line.data[i] < ' ' && line.data[i] != '\t') || line.data[i] > '~')
            return "the line has octets that are no printable ASCII";
    }
    return octets_before + line.len + 2 > FILE_MAX_OCTETS ? "the file is larger than 32 KB" : NULL;
}

static void complain(struct build *build, const char *path, unsigned line, const char *why)
{
    report_error(build->report, build->tree->top.file, 0, "dsn-failed-body-template-from %s:%u: %s",
                 path, line, why);
}

static void read_lines(struct build *build, const char *path, FILE *stream)
{
    char *octets = arena_alloc(&build->conf->arena, FILE_MAX_OCTETS);
    char text[LINE_MAX_OCTETS + 8];
    unsigned number = 0;
    size_t len = 0;

    while (fgets(text, sizeof(text), stream) != NULL) {
        struct slice line = slice_of(text, strcspn(text, "\r\n"));
        const char *fault = find_fault(line, len);

        number++;
        if (fault != NULL) {
            complain(build, path, number, fault);
            return;
        }
        if (line.len > 0)
            memcpy(octets + len, line.data, line.len);
        memcpy(octets + len + line.len, "\r\n", 2);
        len += line.len + 2;
    }
    build->conf->global.dsn_failed_body = slice_of(octets, len);
}

static void read_body(struct build *build, const char *path)
{
    struct stat facts;
    FILE *stream;

    if (build->options->no_includes) {
        complain(build, path, 0, "cannot be used here");
        return;
    }
    stream = fopen(path, "re");
    if (stream == NULL || fstat(fileno(stream), &facts) < 0 || !S_ISREG(facts.st_mode)) {
        if (!build->options->syntax_only)
            complain(build, path, 0, stream == NULL ? strerror(errno) : "not a regular file");
    } else {
        read_lines(build, path, stream);
    }
    if (stream != NULL)
        fclose(stream);
}

/* ---- Templates ------------------------------------------------------------------------------- */

/* They become header fields. */
static void check_template(struct build *build, const char *keyword, const char *text)
{
    struct slice line = text != NULL ? slice_str(text) : SLICE_EMPTY;
    const char *fault = find_fault(line, 0);

    if (fault == NULL && line.len > 500)
        fault = "it is longer than 500 octets";
    if (fault != NULL)
        report_error(build->report, build->tree->top.file, 0, "%s: %s", keyword, fault);
}

/* ---- Reports about TLS ----------------------------------------------------------------------- */

/* A virtual MTA that is not there would let the reports go by {default}, and count them. */
static void check_tls_reports(struct build *build)
{
    const struct conf_global *global = &build->conf->global;

    check_template(build, "tls-report-organization", global->tls_report_organization);
    check_template(build, "tls-report-contact", global->tls_report_contact);
    if (global->tls_report_vmta != NULL &&
        !conf_vmta_named(build->conf, slice_str(global->tls_report_vmta)))
        build_missing_name(build, build->tree->top.file, 0,
                           "tls-report-virtual-mta: there is no virtual MTA \"%.80s\"",
                           global->tls_report_vmta);
}

void build_notices(struct build *build)
{
    struct conf *conf = build->conf;
    const struct conf_global *global = &conf->global;
    struct slice *names = gather(build, STORE_HOST_NAME, &conf->own_name_count);

    if (conf->own_name_count == 0)
        names[conf->own_name_count++] = slice_str(global->host_name);
    conf->own_names = names;
    conf->postmasters = gather(build, STORE_POSTMASTER, &conf->postmaster_count);
    check_template(build, "custom-dsn-from-header", global->custom_dsn_from);
    check_template(build, "dsn-failed-from-template", global->dsn_failed_from);
    check_template(build, "dsn-failed-subject-template", global->dsn_failed_subject);
    if (global->dsn_failed_body_from != NULL)
        read_body(build, global->dsn_failed_body_from);
    check_tls_reports(build);
}
