/*
 * Any text as a configuration: it is refused with a reason, or it makes a snapshot whose promises
 * hold for every queue, source and virtual MTA, and whose lines are told and checked. Nothing
 * outside the text is read. conf.dict holds the words of the language (-dict=tests/fuzz/conf.dict).
 */
#include "core/base/must.h"
#include "core/conf/conf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void count(void *context, enum conf_severity severity, const char *file, unsigned line,
                  const char *text)
{
    unsigned *counts = context;

    must(file != NULL && text != NULL && text[0] != '\0');
    must(severity <= CONF_NOTE);
    counts[severity]++;
}

static void check_route(const struct conf_queue *queue)
{
    uint16_t preference = 0;

    must((queue->route_count > 0) == (queue->route_hash != 0));
    for (uint32_t i = 0; i < queue->route_count; i++) {
        const struct conf_route_host *host = &queue->route[i];

        must(host->preference >= preference);
        preference = host->preference;
        must((host->kind == CONF_ROUTE_ADDRESS) == (host->name == NULL));
        must(host->kind != CONF_ROUTE_ADDRESS || host->ip.family != IPADDR_NONE);
    }
}

static void check_queue(const struct conf *conf, struct slice domain, uint32_t vmta)
{
    struct conf_queue queue;

    conf_queue(conf, domain, vmta, &queue);
    must(queue.retry_count >= 1 && queue.retry_count <= CONF_RETRY_STEPS_MAX);
    for (uint32_t i = 0; i < queue.retry_count; i++)
        must(queue.retry_ms[i] >= 1000);
    must(queue.default_port != 0);
    must(queue.max_rcpt_per_transaction >= 1);
    must(queue.connect_timeout_ms >= 1000);
    must(queue.connection_idle_ms <= 600000);
    check_route(&queue);
}

static void count_setting(void *context, const struct conf_setting *setting)
{
    unsigned *told = context;

    must(setting->keyword[0] != '\0' && setting->value != NULL);
    must((setting->file == NULL) == (setting->line == 0));
    (*told)++;
}

static void check_settings(const struct conf *conf, struct slice domain, const char *vmta)
{
    unsigned told = 0;
    struct conf_way way;

    must(conf_settings_tell(conf, domain, slice_str(vmta), count_setting, &told, &way));
    must(told > 100);
}

static void check_vmtas(const struct conf *conf, struct slice domain)
{
    must(conf_vmta_at(conf, 0)->id == CONF_VMTA_DEFAULT);
    for (uint32_t i = 0; i < conf_vmta_count(conf); i++) {
        const struct conf_vmta *vmta = conf_vmta_at(conf, i);

        must(conf_vmta(conf, vmta->id) == vmta);
        must(conf_vmta_named(conf, slice_str(vmta->name)) == vmta);
        must(vmta->address_count >= 1);
        for (uint32_t at = 0; at < vmta->address_count; at++)
            must(vmta->addresses[at].helo != NULL);
        check_queue(conf, domain, vmta->id);
        if (i < 3)
            check_settings(conf, domain, vmta->name);
    }
    for (uint32_t i = 0; i < conf_pool_count(conf); i++) {
        const struct conf_pool *pool = conf_pool_at(conf, i);

        must(conf_pool(conf, pool->id) == pool);
        must(pool->vmta_count >= 1);
        for (uint32_t at = 0; at < pool->vmta_count; at++)
            must(conf_vmta(conf, pool->vmta_ids[at]) != NULL);
    }
}

static void check_source(const struct conf *conf, const char *address)
{
    const struct conf_source *source;
    struct ipaddr ip;

    must(ipaddr_parse(slice_str(address), &ip) == 0);
    source = conf_source(conf, &ip, "a");
    must(source->command_timeout_ms >= 1000 && source->data_timeout_ms >= 1000);
    must(source->default_virtual_mta == CONF_NONE || source->default_pool == CONF_NONE);
    must(source->default_virtual_mta == CONF_NONE ||
         conf_vmta(conf, source->default_virtual_mta) != NULL);
    must(source->default_pool == CONF_NONE || conf_pool(conf, source->default_pool) != NULL);
}

static void check_snapshot(const struct conf *conf, const char *text)
{
    const struct conf_global *global = conf_global(conf);
    struct slice domain = slice_str(text);

    must(global->listener_count >= 1 && global->spool_count >= 1);
    must(global->host_name != NULL && global->control_socket != NULL);
    for (uint32_t i = 0; i < conf_acct_file_count(conf); i++) {
        const struct conf_acct_file *file = conf_acct_file_at(conf, i);

        /* A file's full path, or a program's behind a bar. */
        must((file->path[0] == '/' || file->path[0] == '|') && file->records != 0);
    }
    /* The text's own beginning serves as one more domain, however odd. */
    if (domain.len > 64)
        domain.len = 64;
    check_vmtas(conf, domain);
    check_queue(conf, SLICE_LITERAL("a.b.example.com"), CONF_VMTA_DEFAULT);
    check_queue(conf, SLICE_LITERAL("[192.0.2.1]"), CONF_VMTA_DEFAULT);
    check_queue(conf, SLICE_LITERAL("[IPv6:2001:db8::1]"), CONF_VMTA_DEFAULT);
    check_source(conf, "127.0.0.1");
    check_source(conf, "10.1.2.3");
    check_source(conf, "2001:db8::1");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct conf_load_options options = {
        .syntax_only = true, .lint = true, .no_includes = true};
    unsigned counts[3] = {0};
    struct conf *conf = NULL;
    char *text = calloc(1, len + 1);
    int rc;

    must(text != NULL);
    if (len > 0)
        memcpy(text, data, len);
    rc = conf_load_text("fuzz", text, &options, count, counts, &conf);
    must((rc == 0) == (counts[CONF_ERROR] == 0));
    must((rc == 0) == (conf != NULL));
    if (rc == 0)
        check_snapshot(conf, text);
    conf_unref(conf);
    free(text);
    return 0;
}
