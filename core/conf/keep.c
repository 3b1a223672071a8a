/* What a reload cannot change stays as it runs; docs/directives.md says of which keywords that is
 * true, from the same table. */
#include "core/base/must.h"
#include "core/conf/field.h"
#include "core/conf/snapshot.h"
#include "core/obs/acct_csv.h"

#include <stdio.h>

struct keep {
    struct conf *next;
    const struct conf *running;
    const char *file;
    conf_report_fn *report;
    void *context;
};

static void tell(const struct keep *keep, const char *keyword)
{
    char text[160];

    snprintf(text, sizeof(text), "%s: a change counts after a restart; the running value stays",
             keyword);
    keep->report(keep->context, CONF_WARNING, keep->file, 0, text);
}

/* The keyword whose values are gathered there. */
static const char *keyword_of(enum directive_store store)
{
    for (uint32_t i = 0; i < directive_count(); i++)
        if (directive_at(i)->store == store && directive_at(i)->reload == RELOAD_RESTART)
            return directive_at(i)->name;
    must(false);
    return NULL;
}

static const char *copy_text(const struct keep *keep, const char *text)
{
    return text != NULL ? arena_strdup(&keep->next->arena, text) : NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* All plain fields of a section that only a restart changes. */
static void keep_fields(const struct keep *keep, enum scope scope, void *target, const void *from)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        if ((row->scopes & SCOPE_BIT(scope)) == 0 || row->reload != RELOAD_RESTART ||
            !field_is_set_by(row) || field_is_equal(target, from, row))
            continue;
        tell(keep, row->name);
        field_take(target, from, row, &keep->next->arena);
    }
}

static void keep_cpus(const struct keep *keep)
{
    struct conf_global *next = &keep->next->global;
    const struct conf_global *running = &keep->running->global;
    size_t bytes = running->shard_cpu_count * sizeof(*running->shard_cpus);
    uint16_t *cpus;

    if (next->shard_cpu_count == running->shard_cpu_count &&
        (bytes == 0 || memcmp(next->shard_cpus, running->shard_cpus, bytes) == 0))
        return;
    tell(keep, keyword_of(STORE_SHARD_CPUS));
    cpus = arena_alloc(&keep->next->arena, bytes);
    if (bytes > 0)
        memcpy(cpus, running->shard_cpus, bytes);
    next->shard_cpus = cpus;
    next->shard_cpu_count = running->shard_cpu_count;
}

static void keep_name_servers(const struct keep *keep)
{
    struct conf_global *next = &keep->next->global;
    const struct conf_global *running = &keep->running->global;
    bool is_same = next->name_server_count == running->name_server_count;
    const char **texts;

    for (uint32_t i = 0; is_same && i < running->name_server_count; i++)
        is_same = same_text(next->name_servers[i], running->name_servers[i]);
    if (is_same)
        return;
    tell(keep, keyword_of(STORE_NAME_SERVER));
    texts = arena_alloc(&keep->next->arena, running->name_server_count * sizeof(*texts));
    for (uint32_t i = 0; i < running->name_server_count; i++)
        texts[i] = copy_text(keep, running->name_servers[i]);
    next->name_servers = texts;
    next->name_server_count = running->name_server_count;
}

static bool listens_at(const struct conf_global *global, const struct ipaddr_port *at)
{
    for (uint32_t i = 0; i < global->listener_count; i++)
        if (global->listeners[i].at.port == at->port &&
            ipaddr_equal(&global->listeners[i].at.ip, &at->ip))
            return true;
    return false;
}

static void keep_listeners(const struct keep *keep)
{
    struct conf_global *next = &keep->next->global;
    const struct conf_global *running = &keep->running->global;
    bool is_same = next->listener_count == running->listener_count;
    struct conf_listener *listeners;

    for (uint32_t i = 0; is_same && i < running->listener_count; i++) {
        const struct conf_listener *a = &next->listeners[i], *b = &running->listeners[i];

        is_same = a->at.port == b->at.port && ipaddr_equal(&a->at.ip, &b->at.ip) &&
                  same_text(a->source_name, b->source_name);
    }
    if (is_same)
        return;
    tell(keep, keyword_of(STORE_LISTENER));
    /* What may change about them is as the new snapshot has it, whose files alone stay. */
    listeners = arena_alloc(&keep->next->arena, running->listener_count * sizeof(*listeners));
    for (uint32_t i = 0; i < running->listener_count; i++) {
        const struct conf_listener *listener = &running->listeners[i];

        listeners[i] = (struct conf_listener){
            .at = listener->at,
            .source_name = copy_text(keep, listener->source_name),
            .awaits_slot = listener->awaits_slot,
            .tls = *conf_tls_in(keep->next, &listener->at),
        };
        /* One that the new file lacks stays what its clients know it for. */
        if (!listens_at(next, &listener->at))
            listeners[i].tls.is_immediate = listener->tls.is_immediate;
    }
    next->listeners = listeners;
    next->listener_count = running->listener_count;
}

static void keep_spools(const struct keep *keep)
{
    struct conf_global *next = &keep->next->global;
    const struct conf_global *running = &keep->running->global;
    bool is_same = next->spool_count == running->spool_count;
    struct conf_spool *spools;

    for (uint32_t i = 0; is_same && i < running->spool_count; i++)
        is_same = same_text(next->spools[i].path, running->spools[i].path);
    if (is_same) {
        for (uint32_t i = 0; i < running->spool_count; i++)
            keep_fields(keep, SCOPE_SPOOL, (struct conf_spool *)(uintptr_t)&next->spools[i],
                        &running->spools[i]);
        return;
    }
    tell(keep, "<spool>");
    spools = arena_alloc(&keep->next->arena, running->spool_count * sizeof(*spools));
    for (uint32_t i = 0; i < running->spool_count; i++) {
        spools[i] = running->spools[i];
        spools[i].path = copy_text(keep, running->spools[i].path);
    }
    next->spools = spools;
    next->spool_count = running->spool_count;
}

static void copy_acct_file(const struct keep *keep, const struct conf_acct_file *from,
                           struct conf_acct_file *to)
{
    struct acct_csv_layout *layout = arena_alloc(&keep->next->arena, sizeof(*layout));

    *to = *from;
    *layout = *from->layout;
    to->layout = layout;
    to->path = copy_text(keep, from->path);
    to->move_to = copy_text(keep, from->move_to);
    to->user_string = copy_text(keep, from->user_string);
    to->privacy_policy = copy_text(keep, from->privacy_policy);
    to->queue_filter = copy_text(keep, from->queue_filter);
    to->field_lines = copy_text(keep, from->field_lines);
}

static void keep_acct_file(const struct keep *keep, struct conf_acct_file *next,
                           const struct conf_acct_file *running)
{
    keep_fields(keep, SCOPE_ACCT_FILE, next, running);
    if (!same_text(next->field_lines, running->field_lines))
        tell(keep, keyword_of(STORE_ACCT_FIELDS));
    if (!same_text(next->queue_filter, running->queue_filter))
        tell(keep, keyword_of(STORE_ACCT_FILTER));
    copy_acct_file(keep, running, next);
}

static void keep_acct_files(const struct keep *keep)
{
    struct conf *next = keep->next;
    const struct conf *running = keep->running;
    bool is_same = next->acct_file_count == running->acct_file_count;
    struct conf_acct_file *files;

    for (uint32_t i = 0; is_same && i < running->acct_file_count; i++)
        is_same = same_text(next->acct_files[i].path, running->acct_files[i].path);
    if (is_same) {
        for (uint32_t i = 0; i < running->acct_file_count; i++)
            keep_acct_file(keep, &next->acct_files[i], &running->acct_files[i]);
        return;
    }
    tell(keep, "<acct-file>");
    files = arena_alloc(&next->arena, running->acct_file_count * sizeof(*files));
    for (uint32_t i = 0; i < running->acct_file_count; i++)
        copy_acct_file(keep, &running->acct_files[i], &files[i]);
    next->acct_files = files;
    next->acct_file_count = running->acct_file_count;
}

void conf_keep_running(struct conf *next, const struct conf *running, const char *file,
                       conf_report_fn *report, void *context)
{
    const struct keep keep = {next, running, file, report, context};

    keep_fields(&keep, SCOPE_GLOBAL, &next->global, &running->global);
    keep_cpus(&keep);
    keep_name_servers(&keep);
    keep_listeners(&keep);
    keep_spools(&keep);
    keep_acct_files(&keep);
    must(conf_note_headers(next));
}
