/* <dns>: the domains that are looked up ahead of their mail. */
#include "core/conf/build.h"
#include "core/conf/field.h"
#include "core/conf/show.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LINE_MAX_BYTES 1024

static const char *copy_domain(struct build *build, struct slice domain)
{
    char *copy = arena_alloc(&build->conf->arena, domain.len + 1);

    memcpy(copy, domain.data, domain.len);
    copy[domain.len] = '\0';
    return copy;
}

static void read_domains(struct build *build, struct conf_precache *precache, FILE *file)
{
    const char **domains =
        arena_alloc(&build->conf->arena, (precache->domain_count_max + 1) * sizeof(*domains));
    char line[LINE_MAX_BYTES];

    precache->domains = domains;
    while (precache->domain_count < precache->domain_count_max &&
           fgets(line, sizeof(line), file) != NULL) {
        struct slice domain = slice_trim(slice_of(line, strcspn(line, "\r\n")));

        if (domain.len > 0 && domain.data[0] != '#')
            domains[precache->domain_count++] = copy_domain(build, domain);
    }
}

/* Mail goes without it: what is wrong with the file is no error. */
static void open_file(struct build *build, const struct section *section,
                      struct conf_precache *precache)
{
    struct stat facts;
    FILE *file;

    if (build->options->no_includes) {
        report_error(build->report, section->file, section->line,
                     "precached-domains-file cannot be used here");
        return;
    }
    file = fopen(precache->path, "re");
    if (file == NULL || fstat(fileno(file), &facts) < 0 || !S_ISREG(facts.st_mode)) {
        if (!build->options->syntax_only)
            report_warning(build->report, section->file, section->line,
                           "precached-domains-file %.500s: %s", precache->path,
                           file == NULL ? strerror(errno) : "not a regular file");
    } else {
        read_domains(build, precache, file);
    }
    if (file != NULL)
        fclose(file);
}

void build_precache(struct build *build)
{
    struct conf_precache *precache = &build->conf->global.precache;

    field_store_presets(precache, SCOPE_DNS, build->conf->presets);
    for (const struct section *at = build->tree->top.children; at != NULL; at = at->next) {
        if (at->kind->scope != SCOPE_DNS)
            continue;
        build_fields(build, at, precache);
        precache->domain_count = 0;
        if (precache->path != NULL)
            open_file(build, at, precache);
    }
}
