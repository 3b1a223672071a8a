#include "core/conf/chain.h"
#include "core/conf/dkim.h"
#include "core/conf/lint.h"
#include "core/conf/provider.h"
#include "core/conf/reply_list.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/conf/show.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#define MINUTE_MS  60000ull
#define TOLD_MAX   REPORT_WARNINGS_MAX
/* Queues that are looked at; more than that a person has not written. */
#define QUEUES_MAX 200000u
/* Lines about ways of delivery that are remembered. */
#define IDLE_MAX   256u

/* Findings are told once for a pair of lines, however many queues they meet in. */
struct told {
    unsigned check;
    const struct setting *a;
    const struct setting *b;
};

/* A line that queues met do without, and whether another one was met that needs it. */
struct idle {
    const struct setting *setting;
    const char *needs;
    bool is_used;
};

struct limits {
    struct build *build;
    struct directive_index index;
    struct chain chain;
    struct told told[TOLD_MAX];
    unsigned told_count;
    const struct vmta_slot *slot;     /* whose blocks are looked at, or NULL */
    const struct settings *slot_says; /* what its section says */
    unsigned queues_left;
    bool brings_keys; /* messages may, themselves */
    struct idle idle[IDLE_MAX];
    unsigned idle_count;
};

/* ---- One keyword's effective value --------------------------------------------------------- */

struct side {
    const struct directive *row;
    const struct setting *setting; /* NULL: the default */
    const struct value *value;     /* NULL: neither line nor default */
};

static struct side side_of(const struct limits *limits, const char *keyword)
{
    const struct directive *row = directive_find(&limits->index, slice_str(keyword), SCOPE_DOMAIN);
    struct side side = {.row = row};

    must(row != NULL);
    side.setting = chain_at(&limits->chain, row).setting;
    if (side.setting != NULL && side.setting->cleared)
        side.setting = NULL;
    if (side.setting != NULL)
        side.value = &side.setting->value;
    else if (row->preset != NULL)
        side.value = &limits->build->conf->presets[directive_position(row)];
    return side;
}

static const char *text_of(const struct side *side)
{
    return side->setting != NULL ? side->setting->text : side->row->preset;
}

static bool is_new(struct limits *limits, unsigned check, const struct setting *a,
                   const struct setting *b)
{
    for (unsigned i = 0; i < limits->told_count; i++) {
        if (limits->told[i].check == check && limits->told[i].a == a && limits->told[i].b == b)
            return false;
    }
    if (limits->told_count == TOLD_MAX)
        return false;
    limits->told[limits->told_count++] = (struct told){check, a, b};
    return true;
}

/* At the line of the first that has one; the other's place stands in the text. */
static void tell(struct limits *limits, unsigned check, const struct side *a, const char *what,
                 const struct side *b, const char *why)
{
    const struct setting *at = a->setting != NULL ? a->setting : b->setting;
    const struct setting *other = at == a->setting ? b->setting : NULL;
    char place[300] = "the default";

    if (at == NULL || !is_new(limits, check, a->setting, b->setting))
        return;
    if (other != NULL)
        snprintf(place, sizeof(place), "line %u of %.200s", other->line, other->file);
    else if (at != a->setting)
        snprintf(place, sizeof(place), "this line; %s is the default", a->row->name);
    report_warning(limits->build->report, at->file, at->line, "%s %.80s %s %s %.80s (%s): %s",
                   a->row->name, text_of(a), what, b->row->name, text_of(b), place, why);
}

/* ---- Comparing ----------------------------------------------------------------------------- */

/* What a limit lets through in a day; a plain number stands for itself. */
static double amount(const struct side *side)
{
    const struct value *value = side->value;

    if (value == NULL || value->number == CONF_UNLIMITED)
        return INFINITY;
    if (side->row->type == TYPE_RATE || side->row->type == TYPE_VOLUME_RATE)
        return value->interval_ms == 0 ? 0 : (double)value->number / (double)value->interval_ms;
    if (side->row->type == TYPE_TIME_LIST)
        return (double)value->times[0];
    return (double)value->number;
}

static const struct {
    const char *backoff;
    const char *normal;
} twins[] = {
    {"backoff-max-msg-rate", "max-msg-rate"},
    {"backoff-max-connect-rate", "max-connect-rate"},
    {"backoff-max-data-volume-rate", "max-data-volume-rate"},
    {"backoff-max-smtp-out", "max-smtp-out"},
};

#define TWINS (sizeof(twins) / sizeof(twins[0]))

enum check {
    CHECK_TWIN, /* and one for each of them */
    CHECK_RETRY = TWINS,
    CHECK_BACKOFF_EMPTY,
    CHECK_BACKOFF_MORE,
    CHECK_BOUNCE,
    CHECK_TLS,
    CHECK_ZERO,
    CHECK_CONNECT_RATE,
    CHECK_SPF,
    CHECK_TOTAL,
    CHECK_VMTA, /* and one more */
    CHECK_WAY = CHECK_VMTA + 2,
    CHECK_KEY,
};

static bool asks_for_backoff(const struct limits *limits, const struct side *list)
{
    const struct conf_reply_list *replies =
        list->setting == NULL ? NULL
                              : reply_list_find(limits->build->conf, slice_str(list->value->text));

    for (uint32_t i = 0; replies != NULL && i < replies->rule_count; i++) {
        if ((replies->rules[i].actions & CONF_REPLY_BACKOFF) != 0)
            return true;
    }
    return false;
}

/* Of the limits of backoff mode only that of connections has a default of its own, which may be
 * above what is given for other times; a provider's may take its place, and then nothing is said.
 * is_rest: nothing else is said of backoff mode. */
static void check_backoff_default(struct limits *limits, const struct side *list, bool is_rest)
{
    struct side backoff = side_of(limits, "backoff-max-smtp-out");
    struct side normal = side_of(limits, "max-smtp-out");
    const struct setting *at = list->setting;

    if (!asks_for_backoff(limits, list) || backoff.setting != NULL)
        return;
    if (amount(&normal) < amount(&backoff) && !conf_providers_act(limits->build->conf) &&
        is_new(limits, CHECK_BACKOFF_MORE, at, NULL))
        report_warning(limits->build->report, at->file, at->line,
                       "smtp-pattern-list %.80s: backoff-max-smtp-out is %s unless given: backoff "
                       "mode would allow more connections than max-smtp-out %.80s (line %u of "
                       "%.200s)",
                       at->text, text_of(&backoff), text_of(&normal), normal.setting->line,
                       normal.setting->file);
    if (amount(&normal) == amount(&backoff) && is_rest &&
        is_new(limits, CHECK_BACKOFF_EMPTY, at, NULL))
        report_warning(limits->build->report, at->file, at->line,
                       "smtp-pattern-list %.80s: no backoff limit is given, so backoff mode would "
                       "change nothing but the wait between attempts",
                       at->text);
}

static void check_backoff(struct limits *limits)
{
    struct side list = side_of(limits, "smtp-pattern-list");
    struct side retry = side_of(limits, "retry-after");
    struct side backoff_retry = side_of(limits, "backoff-retry-after");
    struct side reroute = side_of(limits, "backoff-reroute-to-virtual-mta");
    unsigned given = backoff_retry.setting != NULL;

    for (unsigned i = 0; i < TWINS; i++) {
        struct side backoff = side_of(limits, twins[i].backoff);
        struct side normal = side_of(limits, twins[i].normal);

        if (backoff.setting == NULL)
            continue;
        given++;
        if (amount(&backoff) >= amount(&normal))
            tell(limits, CHECK_TWIN + i, &backoff, "is no tighter than", &normal,
                 "backoff mode would not slow the queue down by it");
    }
    if (backoff_retry.setting != NULL && amount(&backoff_retry) <= amount(&retry))
        tell(limits, CHECK_RETRY, &backoff_retry, "is no longer than", &retry,
             "backoff mode would not rest longer");
    if (reroute.setting == NULL)
        check_backoff_default(limits, &list, given == 0);
}

/* ---- Limits that contradict each other ----------------------------------------------------- */

static void check_zero(struct limits *limits)
{
    static const char *const keywords[] = {"max-smtp-out", "max-msg-rate", "max-connect-rate",
                                           "max-data-volume-rate"};

    for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
        struct side side = side_of(limits, keywords[i]);

        if (side.setting != NULL && side.value->number == 0 &&
            is_new(limits, CHECK_ZERO, side.setting, NULL))
            report_warning(limits->build->report, side.setting->file, side.setting->line,
                           "%s %.80s lets nothing through; \"unlimited\" is what no limit is "
                           "called",
                           side.row->name, side.setting->text);
    }
}

static void check_connect_rate(struct limits *limits)
{
    struct side messages = side_of(limits, "max-msg-rate");
    struct side connects = side_of(limits, "max-connect-rate");
    struct side each = side_of(limits, "max-msg-per-connection");
    struct side rcpts = side_of(limits, "max-rcpt-per-message");

    if (amount(&messages) < INFINITY && amount(&each) < INFINITY &&
        amount(&connects) * amount(&each) * amount(&rcpts) < amount(&messages))
        tell(limits, CHECK_CONNECT_RATE, &messages, "is out of reach by", &connects,
             "so many connections of max-msg-per-connection carry less");
}

static void check_contradictions(struct limits *limits)
{
    struct side bounce = side_of(limits, "bounce-after");
    struct side retry = side_of(limits, "retry-after");
    struct side requires = side_of(limits, "require-starttls");
    struct side uses = side_of(limits, "use-starttls");

    if (amount(&bounce) <= amount(&retry))
        tell(limits, CHECK_BOUNCE, &bounce, "is no longer than the first wait of", &retry,
             "mail is given up before it is tried a second time");
    if (requires.value->number != 0 && uses.value->number == 0)
        tell(limits, CHECK_TLS, &requires, "contradicts", &uses, "nothing can be delivered");
    check_zero(limits);
    check_connect_rate(limits);
}

/* A queue's limit that the limit of all queues together does not leave room for. */
static void check_total(struct limits *limits)
{
    struct side queue = side_of(limits, "max-smtp-out");
    uint64_t total = limits->build->conf->global.total_max_smtp_out;

    if (queue.setting != NULL && amount(&queue) < INFINITY && amount(&queue) > total &&
        is_new(limits, CHECK_TOTAL, queue.setting, NULL))
        report_warning(limits->build->report, queue.setting->file, queue.setting->line,
                       "max-smtp-out %.80s is more than total-max-smtp-out %" PRIu64
                       ": it can never be reached",
                       queue.setting->text, total);
}

/* A queue's limit that the limit of its whole virtual MTA does not leave room for. */
static void check_vmta(struct limits *limits)
{
    static const char *const pairs[][2] = {{"max-smtp-out", "max-smtp-out"},
                                           {"max-msg-rate", "max-smtp-msg-rate"}};

    for (size_t i = 0; limits->slot_says != NULL && i < 2; i++) {
        struct side queue = side_of(limits, pairs[i][0]);
        struct side whole = {
            .row = directive_find(&limits->index, slice_str(pairs[i][1]), SCOPE_VMTA)};

        for (uint32_t at = 0; at < limits->slot_says->all_count; at++) {
            if (limits->slot_says->items[at].row == whole.row)
                whole.setting = &limits->slot_says->items[at];
        }
        if (whole.setting == NULL || whole.setting->cleared || queue.setting == NULL)
            continue;
        whole.value = &whole.setting->value;
        if (amount(&queue) < INFINITY && amount(&queue) > amount(&whole))
            tell(limits, CHECK_VMTA + (unsigned)i, &queue, "is more than the whole virtual MTA's",
                 &whole, "it can never be reached");
    }
}

/* ---- SPF ------------------------------------------------------------------------------------- */

static bool has_fixed_source(const struct conf_vmta *vmta)
{
    static const uint8_t zeros[sizeof(vmta->addresses[0].ip.bytes)];

    for (uint32_t i = 0; i < vmta->address_count; i++) {
        if (memcmp(vmta->addresses[i].ip.bytes, zeros, sizeof(zeros)) == 0)
            return false;
    }
    return true;
}

/* Of a block that stands in no virtual MTA, the first of all those that it is for. */
static const struct conf_vmta *vmta_without_source(const struct limits *limits)
{
    const struct conf *conf = limits->build->conf;

    if (limits->slot != NULL)
        return has_fixed_source(&limits->slot->vmta) ? NULL : &limits->slot->vmta;
    for (uint32_t i = 0; i < conf->vmta_count; i++) {
        if (!has_fixed_source(&conf->vmtas[i].vmta))
            return &conf->vmtas[i].vmta;
    }
    return NULL;
}

static void check_spf(struct limits *limits)
{
    struct side side = side_of(limits, "check-spf-outbound");
    const struct conf_vmta *vmta;

    if (side.setting == NULL || side.value->number == 0)
        return;
    vmta = vmta_without_source(limits);
    if (vmta != NULL && is_new(limits, CHECK_SPF, side.setting, NULL))
        report_warning(limits->build->report, side.setting->file, side.setting->line,
                       "check-spf-outbound does not check mail of virtual MTA %s: it has no "
                       "smtp-source-host, and the system chooses the address it sends from",
                       vmta->name);
}

/* ---- Signatures ------------------------------------------------------------------------------ */

/* Lines count, whether or not their files were read. */
static bool has_keys(const struct conf *conf, const struct vmta_slot *slot)
{
    return conf->keys->count > 0 || (slot->keys != NULL && slot->keys->count > 0) ||
           (slot->pool_keys != NULL && slot->pool_keys->count > 0);
}

/* Messages may bring a key, or ask for one of a list. */
static bool may_bring_keys(const struct conf *conf)
{
    const struct source_table *sources = &conf->sources;
    uint32_t count = 2 * (sources->block_count + 1) * (sources->name_count + 1);

    for (uint32_t i = 0; i < count; i++) {
        if (sources->effective[i].process_x_dkim_key ||
            (sources->effective[i].process_x_dkim_options && conf->key_lists != NULL))
            return true;
    }
    return false;
}

/* Whether the chain's queue, of that virtual MTA, has its mail put off or refused for want of a
 * key. */
static bool tell_key(struct limits *limits, const struct vmta_slot *slot)
{
    struct side sign = side_of(limits, "dkim-sign");
    struct side missing = side_of(limits, "dkim-missing-key");
    const char *fate = missing.value->number == CONF_DKIM_REJECT ? "refused" : "put off with 451";

    if (sign.setting == NULL || sign.value->number != CONF_DKIM_YES ||
        missing.value->number == CONF_DKIM_SEND || has_keys(limits->build->conf, slot))
        return false;
    if (is_new(limits, CHECK_KEY, sign.setting, NULL))
        report_warning(limits->build->report, sign.setting->file, sign.setting->line,
                       "dkim-sign yes: there is no domain-key for mail of virtual MTA %s, so it is "
                       "%s (dkim-missing-key)",
                       slot->vmta.name, fate);
    return true;
}

/* Of a block that stands in no virtual MTA, the first of all those that it is for; mail that names
 * none is the exception where there are virtual MTAs. */
static void check_keys(struct limits *limits, struct slice domain)
{
    const struct conf *conf = limits->build->conf;

    if (limits->brings_keys || conf->keys->count > 0)
        return;
    if (limits->slot != NULL) {
        tell_key(limits, limits->slot);
        return;
    }
    for (uint32_t i = conf->vmta_count > 1; i < conf->vmta_count && limits->queues_left > 0; i++) {
        if (has_keys(conf, &conf->vmtas[i]))
            continue;
        limits->queues_left--;
        chain_of_queue(&limits->chain, conf, domain, &conf->vmtas[i]);
        if (tell_key(limits, &conf->vmtas[i]))
            return;
    }
}

/* ---- Ways of delivery ------------------------------------------------------------------------ */

static const struct {
    enum conf_delivery delivery;
    const char *type;
    const char *keyword;
} ways[] = {
    {CONF_DELIVERY_PIPE, "pipe", "command"},
    {CONF_DELIVERY_FILE, "file", "file-destination"},
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static struct idle *idle_of(struct limits *limits, const struct setting *setting)
{
    for (unsigned i = 0; i < limits->idle_count; i++) {
        if (limits->idle[i].setting == setting)
            return &limits->idle[i];
    }
    if (limits->idle_count == IDLE_MAX)
        return NULL;
    limits->idle[limits->idle_count] = (struct idle){.setting = setting};
    return &limits->idle[limits->idle_count++];
}

/* A wider block may say where, and those within it that they go there. */
static void check_way(struct limits *limits)
{
    struct side type = side_of(limits, "type");

    for (size_t i = 0; i < WAYS; i++) {
        struct side where = side_of(limits, ways[i].keyword);
        bool is_way = type.value->number == ways[i].delivery;
        struct idle *idle = where.setting != NULL ? idle_of(limits, where.setting) : NULL;

        if (idle != NULL) {
            idle->needs = ways[i].type;
            idle->is_used |= is_way;
        }
        if (is_way && where.setting == NULL && is_new(limits, CHECK_WAY, type.setting, NULL))
            report_warning(limits->build->report, type.setting->file, type.setting->line,
                           "type %s needs a %s: no mail can be delivered", ways[i].type,
                           ways[i].keyword);
    }
}

static void report_idle(const struct limits *limits)
{
    for (unsigned i = 0; i < limits->idle_count; i++) {
        const struct idle *idle = &limits->idle[i];

        if (!idle->is_used)
            report_warning(limits->build->report, idle->setting->file, idle->setting->line,
                           "%s has no effect without type %s", idle->setting->row->name,
                           idle->needs);
    }
}

/* ---- Which queues are looked at ------------------------------------------------------------ */

/* A domain that the pattern matches and hardly another one does. */
static struct slice domain_in(const struct pattern *pattern, char room[PATTERN_TEXT_MAX + 8])
{
    int len = 0;

    if (pattern->kind == PATTERN_SUBDOMAINS)
        len = snprintf(room, PATTERN_TEXT_MAX + 8, "0any.%.*s", (int)pattern->name.len,
                       (const char *)pattern->name.data);
    else if (pattern->kind == PATTERN_ANY)
        len = snprintf(room, PATTERN_TEXT_MAX + 8, "0any");
    else
        return pattern->name;
    return slice_of(room, (size_t)len);
}

static int check_queue(void *context, struct slice text, bool from_macro)
{
    struct limits *limits = context;
    char room[PATTERN_TEXT_MAX];
    char domain[PATTERN_TEXT_MAX + 8];
    struct pattern pattern;

    if (limits->queues_left == 0 || pattern_parse(text, room, &pattern) < 0 ||
        pattern.kind == PATTERN_ADDRESSES)
        return 0;
    limits->queues_left--;
    chain_of_queue(&limits->chain, limits->build->conf, domain_in(&pattern, domain), limits->slot);
    check_backoff(limits);
    check_contradictions(limits);
    check_total(limits);
    check_vmta(limits);
    check_spf(limits);
    check_way(limits);
    /* It looks at other chains. */
    check_keys(limits, domain_in(&pattern, domain));
    return 0;
}

static void check_blocks(struct limits *limits, const struct section *outer)
{
    for (const struct section *at = outer->children; at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_DOMAIN)
            macro_expand(&limits->build->macros, at->name, check_queue, limits);
    }
}

/* The blocks of a pool as they are for a member without blocks of its own. */
static void check_pool(struct limits *limits, const struct section *section)
{
    const struct conf *conf = limits->build->conf;
    const struct conf_pool *pool = conf_pool_named(conf, section->name);
    struct vmta_slot slot;

    if (pool == NULL || pool->vmta_count == 0)
        return;
    slot = conf->vmtas[vmta_find(conf, slice_str(conf_vmta(conf, pool->vmta_ids[0])->name))];
    slot.layer = LAYER_NONE;
    limits->slot = &slot;
    limits->slot_says = slot.pool;
    check_blocks(limits, section);
}

static void check_all_blocks(struct limits *limits)
{
    const struct section *top = &limits->build->tree->top;
    const struct conf *conf = limits->build->conf;

    check_blocks(limits, top);
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_VMTA) {
            limits->slot = &conf->vmtas[vmta_find(conf, at->name)];
            limits->slot_says = limits->slot->own;
            check_blocks(limits, at);
        } else if (at->kind->scope == SCOPE_POOL) {
            check_pool(limits, at);
        }
    }
}

/* ---- Spans --------------------------------------------------------------------------------- */

/* Times that are waits between attempts, or until a state ends. */
static bool is_wait(const struct directive *row)
{
    static const char *const waits[] = {
        "retry-after",           "retry-recipients-after", "backoff-retry-after",
        "bounce-after",          "move-interval",          "backoff-to-normal-after",
        "notify-of-delay-every", "delete-after",           "reenable-source-ip-after",
    };

    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        if (strcmp(row->name, waits[i]) == 0)
            return true;
    }
    return false;
}

static bool is_under_a_minute(const struct entry *entry)
{
    const struct value *value = &entry->value;

    switch (entry->row->type) {
    case TYPE_RATE:
    case TYPE_VOLUME_RATE:
        return value->number != CONF_UNLIMITED && value->number > 0 &&
               value->interval_ms < MINUTE_MS;
    case TYPE_TIME:
        return is_wait(entry->row) && value->number < MINUTE_MS;
    case TYPE_TIME_LIST:
        for (uint64_t i = 0; is_wait(entry->row) && i < value->number; i++) {
            if (value->times[i] < MINUTE_MS)
                return true;
        }
        return false;
    default:
        return false;
    }
}

static void check_spans(struct build *build, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (!entry->cleared && is_under_a_minute(entry))
            report_warning(build->report, entry->file, entry->line,
                           "%s %.80s: the interval is under a minute", entry->row->name,
                           entry->text);
    }
    for (const struct section *at = section->children; at != NULL; at = at->next)
        check_spans(build, at);
}

/* ---- The whole ----------------------------------------------------------------------------- */

int lint_limits(struct build *build)
{
    struct limits *limits = mem_alloc(sizeof(*limits));
    int rc = directive_index_init(&limits->index);

    limits->build = build;
    limits->queues_left = QUEUES_MAX;
    if (rc == 0) {
        chain_init(&limits->chain);
        limits->brings_keys = may_bring_keys(build->conf);
        check_all_blocks(limits);
        report_idle(limits);
        chain_fini(&limits->chain);
        directive_index_fini(&limits->index);
    }
    mem_free(limits);
    check_spans(build, &build->tree->top);
    return rc;
}
