#include "core/base/err.h"
#include "core/base/must.h"
#include "core/conf/build.h"
#include "core/conf/field.h"
#include "core/conf/intern.h"
#include "core/conf/limit.h"
#include "core/conf/provider_build.h"
#include "core/conf/show.h"

#include <errno.h>
#include <stdio.h>

/* Bits of `scope` as its row lists the words; the first nine are those of enum conf_limit_scope.
 */
#define WORD_QUEUE 9
#define WORD_VMTA  10
#define NAME_MAX   400
#define TITLE_MAX  112

static const char *text_copy(struct build *build, struct slice text)
{
    char *copy = arena_alloc(&build->conf->arena, text.len + 1);

    memcpy(copy, text.data, text.len);
    return copy;
}

static struct conf_limit *limit_new(struct build *build, const char *name, const char *file,
                                    uint32_t line)
{
    struct conf *conf = build->conf;
    struct conf_limit *limit = arena_alloc(&conf->arena, sizeof(*limit));

    field_store_presets(limit, SCOPE_LIMIT, conf->presets);
    limit->name = name;
    limit->file = file;
    limit->line = line;
    limit->next = conf->limit_list;
    conf->limit_list = limit;
    conf->limit_count++;
    return limit;
}

/* ---- source-ip-max-* ------------------------------------------------------------------------- */

static const char *const source_keywords[CONF_QUANTITIES] = {
    [CONF_OF_CONNECTIONS] = "source-ip-max-smtp-out",
    [CONF_OF_RECIPIENTS] = "source-ip-max-msg-rate",
    [CONF_OF_CONNECTS] = "source-ip-max-connect-rate",
    [CONF_OF_OCTETS] = "source-ip-max-data-volume-rate",
};

/* Old files have one limit for whatever source address. */
static bool is_for_any_block(const struct directive *row)
{
    return row->type == TYPE_COUNT;
}

enum conf_quantity limit_quantity_of(const struct directive *row)
{
    enum conf_quantity quantity = CONF_OF_CONNECTIONS;

    must(row->store == STORE_SOURCE_LIMIT);
    while (!is_for_any_block(row) && strcmp(row->name, source_keywords[quantity]) != 0)
        must(++quantity < CONF_QUANTITIES);
    return quantity;
}

static bool is_about(const struct directive *row, enum conf_quantity quantity)
{
    return row->store == STORE_SOURCE_LIMIT && limit_quantity_of(row) == quantity;
}

static void set_bound(struct conf_limit *limit, enum conf_quantity quantity,
                      const struct value *value)
{
    struct conf_rate rate = {value->number, value->interval_ms, value->burst};

    switch (quantity) {
    case CONF_OF_CONNECTIONS:
        limit->max_smtp_out = value->number;
        break;
    case CONF_OF_RECIPIENTS:
        limit->max_msg_rate = rate;
        break;
    case CONF_OF_CONNECTS:
        limit->max_connect_rate = rate;
        break;
    default:
        limit->max_data_volume_rate = rate;
        break;
    }
}

/* Takes the next word off a line's value, which was found to consist of words. */
static struct slice take_word(struct slice *rest)
{
    struct slice word = SLICE_EMPTY;

    must(value_next_word(rest, &word) >= 0);
    return word;
}

static struct slice first_word(const struct entry *entry)
{
    struct slice rest = slice_str(entry->text);

    return take_word(&rest);
}

static const struct conf_limit *add_source_limit(struct build *build, const struct section *section,
                                                 const struct entry *entry,
                                                 enum conf_quantity quantity)
{
    const struct section *outer = section->parent;
    struct slice block = is_for_any_block(entry->row) ? SLICE_LITERAL("0/0") : first_word(entry);
    struct conf_limit *limit;
    char name[NAME_MAX];

    snprintf(name, sizeof(name), "<domain %.*s>%s%.*s %s %.*s", SHOW(section->name),
             outer != NULL && outer->kind != NULL ? " of " : "",
             outer != NULL && outer->kind != NULL ? (int)outer->name.len : 0,
             outer != NULL && outer->kind != NULL ? (const char *)outer->name.data : "",
             source_keywords[quantity], SHOW(block));
    limit = limit_new(build, arena_strdup(&build->conf->arena, name), entry->file, entry->line);
    limit->scopes = CONF_SCOPE_VMTA | CONF_SCOPE_DOMAIN | CONF_SCOPE_SOURCE_IP;
    if (cidr_parse(block, &limit->block) < 0)
        report_error(build->report, entry->file, entry->line, "%s: \"%.*s\" is no address block",
                     source_keywords[quantity], SHOW(block));
    set_bound(limit, quantity, &entry->value);
    return limit;
}

static struct conf_limit_list source_list(struct build *build, const struct section *section,
                                          enum conf_quantity quantity)
{
    struct conf_limit_list list = {0};
    const struct conf_limit **items;
    uint32_t most = 0;

    for (const struct entry *at = section->entries; at != NULL; at = at->next)
        most += is_about(at->row, quantity);
    if (most == 0)
        return list;
    items = arena_alloc(&build->conf->arena, most * sizeof(*items));
    list.items = items;
    for (const struct entry *at = section->entries; at != NULL; at = at->next) {
        if (!is_about(at->row, quantity))
            continue;
        if (at->cleared)
            list.count = 0;
        else
            items[list.count++] = add_source_limit(build, section, at, quantity);
    }
    return list;
}

void build_source_limits(struct build *build, const struct section *section,
                         struct settings *settings)
{
    for (const struct entry *at = section->entries; at != NULL; at = at->next) {
        if (at->row->store != STORE_SOURCE_LIMIT)
            continue;
        settings->source_limits =
            arena_alloc(&build->conf->arena, CONF_QUANTITIES * sizeof(*settings->source_limits));
        for (unsigned i = 0; i < CONF_QUANTITIES; i++)
            settings->source_limits[i] = source_list(build, section, i);
        return;
    }
}

/* ---- Lists of names -------------------------------------------------------------------------- */

static uint32_t count_names(const char *text)
{
    struct slice rest = slice_str(text != NULL ? text : ""), name;
    uint32_t count = 0;

    while (conf_next_name(&rest, &name))
        count += name.len > 0;
    return count;
}

static struct conf_names names_of(struct build *build, const char *text)
{
    struct conf_names names = {0};
    uint32_t most = count_names(text);
    struct slice rest, name;
    const char **items;

    if (most == 0)
        return names;
    items = arena_alloc(&build->conf->arena, most * sizeof(*items));
    rest = slice_str(text);
    while (conf_next_name(&rest, &name))
        if (name.len > 0)
            items[names.count++] = text_copy(build, name);
    names.items = items;
    return names;
}

/* As whoever wrote the file knows it: "<limit NAME>", or the keyword of the line. */
static const char *title_of(const struct conf_limit *limit, char room[TITLE_MAX])
{
    if (limit->section != NULL)
        snprintf(room, TITLE_MAX, "<%s %.80s>", limit->section, limit->name);
    else
        snprintf(room, TITLE_MAX, "%.*s", (int)strcspn(limit->name, " "), limit->name);
    return room;
}

static void complain(struct build *build, const struct conf_limit *limit, const char *what,
                     const char *name)
{
    char title[TITLE_MAX];

    build_missing_name(build, limit->file, limit->line, "%s: there is no <%s %.80s>",
                       title_of(limit, title), what, name);
}

static void find_vmtas(struct build *build, struct conf_limit *limit)
{
    struct conf_names names = names_of(build, limit->vmta_text);
    uint32_t *ids = arena_alloc(&build->conf->arena, names.count * sizeof(*ids));

    for (uint32_t i = 0; i < names.count; i++) {
        uint32_t position = vmta_find(build->conf, slice_str(names.items[i]));

        if (position == TABLE_NONE)
            complain(build, limit, "virtual-mta", names.items[i]);
        else
            ids[limit->vmta_count++] = build->conf->vmtas[position].vmta.id;
    }
    limit->vmta_ids = ids;
}

static void find_pools(struct build *build, struct conf_limit *limit)
{
    struct conf_names names = names_of(build, limit->pool_text);
    uint32_t most = 0, *ids;

    for (uint32_t i = 0; i < names.count; i++) {
        uint32_t position = pool_find(build->conf, slice_str(names.items[i]));

        if (position == TABLE_NONE)
            complain(build, limit, "virtual-mta-pool", names.items[i]);
        else
            most += build->conf->pools[position].vmta_count;
    }
    ids = arena_alloc(&build->conf->arena, most * sizeof(*ids));
    for (uint32_t i = 0; i < names.count; i++) {
        uint32_t position = pool_find(build->conf, slice_str(names.items[i]));
        const struct conf_pool *pool =
            position == TABLE_NONE ? NULL : &build->conf->pools[position];

        for (uint32_t j = 0; pool != NULL && j < pool->vmta_count; j++)
            ids[limit->pool_vmta_count++] = pool->vmta_ids[j];
    }
    limit->pool_vmta_ids = ids;
}

/* ---- <limit> --------------------------------------------------------------------------------- */

struct domain_list {
    struct build *build;
    struct conf_limit *limit;
    struct pattern *items;
    uint32_t capacity;
};

static int add_domain(void *context, struct slice text, bool from_macro)
{
    struct domain_list *list = context;
    struct arena *arena = &list->build->conf->arena;
    char room[PATTERN_TEXT_MAX], title[TITLE_MAX];
    struct pattern pattern;

    (void)from_macro;
    if (pattern_parse(text, room, &pattern) < 0) {
        report_error(list->build->report, list->limit->file, list->limit->line,
                     "%s: \"%.*s\" is no domain pattern", title_of(list->limit, title), SHOW(text));
        return report_is_full(list->build->report) ? E_FULL : 0;
    }
    pattern.name = slice_str(text_copy(list->build, pattern.name));
    if (list->limit->domain_count == list->capacity) {
        struct pattern *items;

        list->capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        items = arena_alloc(arena, list->capacity * sizeof(*items));
        if (list->limit->domain_count > 0)
            memcpy(items, list->items, list->limit->domain_count * sizeof(*items));
        list->items = items;
    }
    list->items[list->limit->domain_count++] = pattern;
    list->limit->domains = list->items;
    return 0;
}

static int find_domains(struct build *build, struct conf_limit *limit)
{
    struct domain_list list = {.build = build, .limit = limit};
    char title[TITLE_MAX];
    struct slice rest = slice_str(limit->domain_text != NULL ? limit->domain_text : ""), name;
    int rc = 0;

    while (rc == 0 && conf_next_name(&rest, &name))
        if (name.len > 0)
            rc = macro_expand(&build->macros, name, add_domain, &list);
    if (rc == E_SYNTAX)
        build_macro_error(build, limit->file, limit->line, "%s", title_of(limit, title));
    return rc == E_SYNTAX || rc == E_FULL ? 0 : rc;
}

int build_limit_fits(struct build *build, struct conf_limit *limit)
{
    find_vmtas(build, limit);
    find_pools(build, limit);
    return find_domains(build, limit);
}

static uint32_t scopes_of(uint32_t words)
{
    uint32_t scopes = words & ((1u << CONF_SCOPES) - 1);

    if ((words & 1u << WORD_QUEUE) != 0)
        scopes |= CONF_SCOPE_VMTA | CONF_SCOPE_DOMAIN;
    if ((words & 1u << WORD_VMTA) != 0)
        scopes |= CONF_SCOPE_VMTA;
    return scopes;
}

static int add_block(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_limit *limit =
        limit_new(build, (const char *)section->name.data, section->file, section->line);

    limit->section = "limit";
    if (slice_find(section->name, ' ') < section->name.len || section->name.data[0] == '{')
        report_error(build->report, section->file, section->line,
                     "<limit %.*s>: a name has no blanks, and those in braces are reserved",
                     SHOW(section->name));
    for (uint32_t i = 0; i < conf->limit_block_count; i++)
        if (slice_equal_nocase(slice_str(conf->limit_blocks[i]->name), section->name))
            report_error(build->report, section->file, section->line, "<limit %.*s> is given twice",
                         SHOW(section->name));
    if (conf->limit_block_count == CONF_LIMIT_BLOCKS_MAX) {
        report_error(build->report, section->file, section->line,
                     "at most %u <limit> blocks can be used", CONF_LIMIT_BLOCKS_MAX);
        return 0;
    }
    build_fields(build, section, limit);
    limit->scopes = scopes_of(limit->scopes);
    limit->jobs = names_of(build, limit->job_text);
    limit->users = names_of(build, limit->user_text);
    conf->limit_blocks[conf->limit_block_count++] = limit;
    return build_limit_fits(build, limit);
}

/* ---- mx-connection-limit, ip-connection-limit ------------------------------------------------
 */

static int add_host_line(struct build *build, const struct entry *entry)
{
    struct slice rest = slice_str(entry->text), word = take_word(&rest), number;
    struct conf *conf = build->conf;
    struct conf_limit *limit;
    char name[NAME_MAX];

    snprintf(name, sizeof(name), "%s %.*s", entry->row->name, SHOW(word));
    limit = limit_new(build, arena_strdup(&conf->arena, name), entry->file, entry->line);
    limit->scopes = CONF_SCOPE_SOURCE_IP;
    conf->limit_hosts[conf->limit_host_count++] = limit;
    if (entry->row->type == TYPE_CIDR_COUNT) {
        limit->max_smtp_out = entry->value.number;
        if (cidr_parse(word, &limit->block) < 0)
            report_error(build->report, entry->file, entry->line,
                         "%s: \"%.*s\" is no address block", entry->row->name, SHOW(word));
        return 0;
    }
    if (word.len == 0)
        report_error(build->report, entry->file, entry->line, "%s: a domain pattern is missing",
                     entry->row->name);
    number = take_word(&rest);
    if (slice_to_u64(number, BOUND_COUNT, &limit->max_smtp_out) < 0)
        report_error(build->report, entry->file, entry->line, "%s: \"%.*s\" is not a number",
                     entry->row->name, SHOW(number));
    limit->domain_text = text_copy(build, word);
    return find_domains(build, limit);
}

/* ---- Ids ------------------------------------------------------------------------------------- */

/* Two blocks may say the same of different queues: the later ones get a number. */
static int give_id(struct build *build, struct conf_limit *limit)
{
    struct conf *conf = build->conf;
    char name[NAME_MAX + 16];

    for (uint32_t turn = 1;; turn++) {
        int rc;

        if (turn == 1)
            snprintf(name, sizeof(name), "%s", limit->name);
        else
            snprintf(name, sizeof(name), "%.*s #%u", NAME_MAX, limit->name, turn);
        rc = intern_name(INTERN_LIMIT, slice_str(name), &limit->id);
        if (rc < 0)
            return rc;
        if (conf_limit(conf, limit->id) == NULL)
            return 0;
    }
}

static int give_ids(struct build *build)
{
    struct conf *conf = build->conf;
    uint32_t position = conf->limit_count;

    conf->limits = arena_alloc(&conf->arena, conf->limit_count * sizeof(*conf->limits));
    for (struct conf_limit *at = conf->limit_list; at != NULL; at = at->next)
        conf->limits[--position] = at;
    for (uint32_t i = 0; i < conf->limit_count; i++) {
        int rc = give_id(build, conf->limits[i]);

        if (rc < 0 || !table_insert(&conf->limit_by_id, hash_u64(conf->limits[i]->id), i))
            return -ENOMEM;
    }
    return 0;
}

const struct conf_limit *build_limit_by_provider(struct build *build, const char *name,
                                                 const char *file, uint32_t line, uint32_t scope,
                                                 enum conf_quantity quantity,
                                                 const struct value *value)
{
    struct conf_limit *limit =
        limit_new(build, arena_strdup(&build->conf->arena, name), file, line);

    limit->scopes = scope | CONF_SCOPE_SOURCE_IP;
    set_bound(limit, quantity, value);
    return limit;
}

/* ---- Not too many for one queue -------------------------------------------------------------- */

/* Of blocks that fit one queue. */
struct rate_sums {
    uint32_t of_messages;
    uint32_t of_connections;
    uint32_t by_mail; /* limits of connections */
};

static struct rate_sums sum_rates(const struct conf *conf, uint64_t blocks)
{
    struct rate_sums sums = {0};

    for (; blocks != 0; blocks &= blocks - 1) {
        const struct conf_limit *limit = conf->limit_blocks[__builtin_ctzll(blocks)];

        sums.of_messages += (limit->max_msg_rate.count != CONF_UNLIMITED) +
                            (limit->max_data_volume_rate.count != CONF_UNLIMITED);
        sums.of_connections += limit->max_connect_rate.count != CONF_UNLIMITED;
        sums.by_mail += conf_limit_counts_by_mail(limit);
    }
    return sums;
}

static bool are_too_many(const struct conf *conf, uint64_t blocks)
{
    struct rate_sums sums = sum_rates(conf, blocks);

    return sums.of_messages + CONF_LIMIT_RATES_OTHER > CONF_LIMIT_RATES_MAX ||
           sums.of_connections + CONF_LIMIT_RATES_OTHER > CONF_LIMIT_RATES_MAX ||
           sums.by_mail > CONF_LIMIT_MAIL_MAX;
}

/* Of these blocks, which all fit one domain, too many fit some virtual MTA's mail to it. */
static void refuse_crowd(struct build *build, uint64_t blocks, struct slice domain)
{
    const struct conf *conf = build->conf;

    for (uint32_t i = 0; are_too_many(conf, blocks) && i < conf_vmta_count(conf); i++) {
        const struct conf_vmta *vmta = conf_vmta_at(conf, i);
        uint64_t fit = blocks & conf_limit_mask_of_vmta(conf, vmta->id);
        const struct conf_limit *last;
        bool is_by_mail;

        if (!are_too_many(conf, fit))
            continue;
        last = conf->limit_blocks[63 - __builtin_clzll(fit)];
        is_by_mail = sum_rates(conf, fit).by_mail > CONF_LIMIT_MAIL_MAX;
        report_error(
            build->report, last->file, last->line,
            "<limit %.80s>: too many %s of <limit> blocks apply to queue %.*s/%.80s: "
            "%u are possible",
            last->name, is_by_mail ? "max-smtp-out by job, sender-domain or user" : "rates",
            SHOW(domain), vmta->name,
            is_by_mail ? CONF_LIMIT_MAIL_MAX : CONF_LIMIT_RATES_MAX - CONF_LIMIT_RATES_OTHER);
        return;
    }
}

/* Domains are in each other or apart, so most blocks meet in one that some pattern names, or right
 * below it. */
static void refuse_crowds(struct build *build)
{
    const struct conf *conf = build->conf;
    uint64_t all =
        conf->limit_block_count < 64 ? (1ull << conf->limit_block_count) - 1 : UINT64_MAX;
    unsigned errors = build->report->errors;

    /* Of a limit whose names are not known nobody knows what it applies to. */
    if (!are_too_many(conf, all) || build->tree->missing != NULL)
        return;
    refuse_crowd(build, conf_limit_mask_of_domain(conf, SLICE_LITERAL("?")), SLICE_LITERAL("*"));
    for (uint32_t i = 0; i < conf->limit_block_count; i++) {
        const struct conf_limit *limit = conf->limit_blocks[i];

        for (uint32_t k = 0; k < limit->domain_count; k++) {
            char room[PATTERN_SAMPLE_MAX];
            struct slice domain = pattern_sample(&limit->domains[k], room);

            if (build->report->errors > errors)
                return;
            refuse_crowd(build, conf_limit_mask_of_domain(conf, domain), domain);
        }
    }
}

int build_limits(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    struct entry_list lines = build_entries(build, top, STORE_HOST_LIMIT);
    uint32_t count = build_count_children(top, SCOPE_LIMIT);
    int rc = 0;

    conf->limit_blocks = arena_alloc(&conf->arena, count * sizeof(*conf->limit_blocks));
    conf->limit_hosts = arena_alloc(&conf->arena, lines.count * sizeof(*conf->limit_hosts));
    for (const struct section *at = top->children; rc == 0 && at != NULL; at = at->next)
        if (at->kind->scope == SCOPE_LIMIT)
            rc = add_block(build, at);
    if (lines.count > CONF_LIMIT_BLOCKS_MAX) {
        report_error(build->report, lines.items[CONF_LIMIT_BLOCKS_MAX]->file,
                     lines.items[CONF_LIMIT_BLOCKS_MAX]->line,
                     "at most %u mx-connection-limit and ip-connection-limit can be used",
                     CONF_LIMIT_BLOCKS_MAX);
        return 0;
    }
    for (uint32_t i = 0; rc == 0 && i < lines.count; i++)
        rc = add_host_line(build, lines.items[i]);
    if (rc == 0) {
        refuse_crowds(build);
        build_provider_limits(build);
    }
    return rc == 0 ? give_ids(build) : rc;
}
