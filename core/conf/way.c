/*
 * Queues that hand their mail on: queue-to and reroute-to-virtual-mta, and in backoff mode
 * backoff-reroute-to-virtual-mta.
 *
 * One step is by the settings of the queue where the mail is, so a chain of steps is followed queue
 * by queue. Which queues are in backoff mode nobody knows here: chains end even if all are. A chain
 * that has no end is refused when the file is read: each block that hands mail on is followed from
 * a domain that it speaks of, by every virtual MTA that could make a difference.
 */
#include "core/conf/build.h"
#include "core/conf/intern.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"
#include "core/conf/warmup.h"

#include <errno.h>

#define STEPS_MAX     16
#define BRANCH_MAX    4096 /* steps looked at for one block and one virtual MTA */
#define EXAMPLE_MAX   (PATTERN_TEXT_MAX + 16)
#define DEAD_ENDS_MAX 64 /* names of queues that no host has, looked at in one file */

/* A block that hands mail on, with a domain that it speaks of. */
struct way_block {
    struct way_block *next;
    const struct settings *settings;
    struct slice example;
    uint32_t layer;
};

/* ---- Following ------------------------------------------------------------------------------ */

static bool has_member(const struct conf_pool *pool, uint32_t vmta_id)
{
    for (uint32_t i = 0; i < pool->vmta_count; i++) {
        if (pool->vmta_ids[i] == vmta_id)
            return true;
    }
    return false;
}

/* What one step leads to. */
struct step {
    const char *queue;            /* of another name, or NULL */
    const struct conf_vmta *vmta; /* else this virtual MTA, or NULL */
    const struct conf_pool *pool; /* else a member of this pool, or NULL: the mail stays */
};

/* To a virtual MTA or a pool; target may be NULL. */
static struct step step_to(const struct conf *conf, const char *target, uint32_t vmta_id)
{
    struct step step = {0};
    struct slice name;

    if (target == NULL)
        return step;
    name = slice_str(target);
    step.vmta = conf_vmta_named(conf, name);
    if (step.vmta == NULL)
        step.pool = conf_pool_named(conf, name);
    if (step.vmta != NULL && step.vmta->id == vmta_id)
        step.vmta = NULL;
    if (step.pool != NULL && (step.pool->vmta_count == 0 || has_member(step.pool, vmta_id)))
        step.pool = NULL;
    return step;
}

static struct step step_from(const struct conf *conf, struct slice domain, uint32_t vmta_id)
{
    struct conf_queue queue;

    conf_queue(conf, domain, vmta_id, &queue);
    if (queue.queue_to != NULL && !slice_equal(slice_str(queue.queue_to), domain))
        return (struct step){.queue = queue.queue_to};
    return step_to(conf, queue.reroute_to, vmta_id);
}

static struct step step_in_backoff(const struct conf *conf, struct slice domain, uint32_t vmta_id)
{
    struct conf_queue queue;

    if (!conf->has_backoff_ways)
        return (struct step){0};
    conf_queue(conf, domain, vmta_id, &queue);
    return step_to(conf, queue.backoff_reroute_to, vmta_id);
}

static bool leads_on(const struct step *step)
{
    return step->queue != NULL || step->vmta != NULL || step->pool != NULL;
}

/* Mail whose virtual MTA the snapshot has not goes by the fallback, if there is one. */
static void leave_nowhere(const struct conf *conf, uint64_t turn, struct conf_way *way)
{
    const struct conf_vmta *vmta;
    const struct conf_pool *pool;
    struct slice name;

    if (conf->global.invalid_vmta_fallback == NULL || conf_vmta(conf, way->vmta_id) != NULL)
        return;
    name = slice_str(conf->global.invalid_vmta_fallback);
    vmta = conf_vmta_named(conf, name);
    pool = vmta == NULL ? conf_pool_named(conf, name) : NULL;
    if (vmta == NULL && (pool == NULL || pool->vmta_count == 0))
        return;
    way->vmta_id = vmta != NULL ? vmta->id : pool->vmta_ids[turn % pool->vmta_count];
    way->by_turn = vmta == NULL;
    way->is_elsewhere = true;
}

void conf_way(const struct conf *conf, struct slice domain, uint32_t vmta_id, uint64_t turn,
              struct conf_way *ret_way)
{
    struct conf_way way = {.domain = domain, .vmta_id = vmta_id};

    *ret_way = way;
    if (!conf->has_ways)
        return;
    leave_nowhere(conf, turn, &way);
    for (int steps = 0; steps < STEPS_MAX; steps++) {
        struct step step = step_from(conf, way.domain, way.vmta_id);

        if (step.queue != NULL) {
            way.domain = slice_str(step.queue);
        } else if (step.vmta != NULL) {
            way.vmta_id = step.vmta->id;
        } else if (step.pool != NULL) {
            way.vmta_id = step.pool->vmta_ids[turn % step.pool->vmta_count];
            way.by_turn = true;
        } else {
            *ret_way = way;
            return;
        }
        way.is_elsewhere = true;
    }
}

bool conf_way_in_backoff(const struct conf *conf, uint64_t turn, struct conf_way *way)
{
    struct step step = step_in_backoff(conf, way->domain, way->vmta_id);
    bool by_turn = way->by_turn || step.pool != NULL;
    uint32_t vmta_id;

    if (!leads_on(&step))
        return false;
    vmta_id = step.vmta != NULL ? step.vmta->id : step.pool->vmta_ids[turn % step.pool->vmta_count];
    conf_way(conf, way->domain, vmta_id, turn, way);
    way->by_turn |= by_turn;
    way->is_elsewhere = true;
    return true;
}

#define NONE_IN_BACKOFF UINT32_MAX

/* Whether every way from here ends, with so many steps of queues in backoff mode among the others,
 * when all are, or with NONE_IN_BACKOFF. Of one with too many branches nobody knows. */
static bool ends(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                 uint32_t steps_left, uint32_t backoffs_left, uint32_t *budget)
{
    struct step step;

    if (*budget == 0)
        return true;
    (*budget)--;
    step = step_from(conf, domain, vmta_id);
    if (!leads_on(&step)) {
        if (backoffs_left != NONE_IN_BACKOFF)
            step = step_in_backoff(conf, domain, vmta_id);
        if (!leads_on(&step))
            return true;
        if (backoffs_left == 0)
            return false;
        backoffs_left--;
    }
    if (steps_left == 0)
        return false;
    steps_left--;
    if (step.queue != NULL)
        return ends(conf, slice_str(step.queue), vmta_id, steps_left, backoffs_left, budget);
    if (step.vmta != NULL)
        return ends(conf, domain, step.vmta->id, steps_left, backoffs_left, budget);
    for (uint32_t i = 0; i < step.pool->vmta_count; i++)
        if (!ends(conf, domain, step.pool->vmta_ids[i], steps_left, backoffs_left, budget))
            return false;
    return true;
}

bool conf_hands_on_in_backoff(const struct conf *conf, struct slice domain, uint32_t vmta_id)
{
    struct step step = step_in_backoff(conf, domain, vmta_id);
    struct step always = step_from(conf, domain, vmta_id);
    uint32_t budget = BRANCH_MAX;

    return leads_on(&step) && !leads_on(&always) &&
           ends(conf, domain, vmta_id, STEPS_MAX - 1, CONF_BACKOFF_STEPS_MAX, &budget) &&
           budget > 0;
}

/* ---- When the file is read ------------------------------------------------------------------- */

static bool sets(const struct setting *setting, size_t offset)
{
    return setting->row->store == STORE_TEXT && setting->row->offset == offset &&
           setting->value.text != NULL && (setting->row->scopes & SCOPE_BIT(SCOPE_DOMAIN)) != 0;
}

static bool is_queue_to(const struct setting *setting)
{
    return sets(setting, offsetof(struct conf_queue, queue_to));
}

static bool is_reroute(const struct setting *setting)
{
    return sets(setting, offsetof(struct conf_queue, reroute_to));
}

static bool is_backoff_reroute(const struct setting *setting)
{
    return sets(setting, offsetof(struct conf_queue, backoff_reroute_to));
}

/* The line of the block that hands mail on, or NULL; queue-to comes first, backoff mode last. */
static const struct setting *line_of(const struct settings *settings)
{
    const struct setting *line = NULL;

    for (uint32_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];

        if (is_queue_to(setting))
            return setting;
        if (is_reroute(setting) || (is_backoff_reroute(setting) && line == NULL))
            line = setting;
    }
    return line;
}

static const struct setting *backoff_line_of(const struct settings *settings)
{
    for (uint32_t i = 0; i < settings->count; i++)
        if (is_backoff_reroute(&settings->items[i]))
            return &settings->items[i];
    return NULL;
}

/* A domain that the pattern speaks of and that hardly has a narrower block. */
static struct slice example_of(struct build *build, const struct pattern *pattern)
{
    static const struct slice below = SLICE_LITERAL("any-other.");
    uint8_t room[EXAMPLE_MAX];
    size_t len = 0;

    if (pattern->kind == PATTERN_EXACT)
        return arena_copy(&build->conf->arena, pattern->name);
    if (pattern->kind == PATTERN_ANY)
        return SLICE_LITERAL("any-other.invalid");
    if (pattern->kind == PATTERN_ADDRESSES) {
        char ip[IPADDR_TEXT_MAX];
        int bytes;

        ipaddr_format(&pattern->block.ip, ip);
        bytes = snprintf((char *)room, sizeof(room),
                         pattern->block.ip.family == IPADDR_V6 ? "[ipv6:%s]" : "[%s]", ip);
        return arena_copy(&build->conf->arena, slice_of(room, (size_t)bytes));
    }
    memcpy(room, below.data, below.len);
    len = below.len;
    memcpy(room + len, pattern->name.data, pattern->name.len);
    return arena_copy(&build->conf->arena, slice_of(room, len + pattern->name.len));
}

void build_way_note(struct build *build, const struct pattern *pattern, uint32_t layer,
                    const struct settings *settings)
{
    struct way_block *block;

    if (line_of(settings) == NULL)
        return;
    block = arena_alloc(&build->conf->arena, sizeof(*block));
    *block = (struct way_block){build->ways, settings, example_of(build, pattern), layer};
    build->ways = block;
}

/* Names of queues are in lower case, and live longer than any snapshot: recipients travel with
 * them from shard to shard. */
static int keep_name(struct setting *setting)
{
    char room[256];
    size_t len = strlen(setting->value.text);
    uint32_t id;

    if (intern_name(INTERN_QUEUE, slice_lower(slice_of(setting->value.text, len), room), &id) < 0)
        return -ENOMEM;
    setting->value.text = intern_text(INTERN_QUEUE, id);
    return 0;
}

static int keep_names(struct build *build, const struct settings *settings)
{
    for (uint32_t i = 0; i < settings->count; i++) {
        struct setting *setting = (struct setting *)(uintptr_t)&settings->items[i];

        if (!is_queue_to(setting))
            continue;
        if (strchr(setting->value.text, '/') != NULL) {
            report_error(build->report, setting->file, setting->line,
                         "queue-to: \"%.80s\" is the name of no queue: it has a slash",
                         setting->value.text);
            continue;
        }
        if (keep_name(setting) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* Names that PowerMTA's files give to queues, and nobody to a host. */
static bool is_no_host(struct slice name)
{
    static const struct slice endings[] = {SLICE_LITERAL(".queue"), SLICE_LITERAL(".rollup")};

    if (name.data[0] == '[')
        return false;
    if (!value_is_host_name(name) || slice_find(name, '.') == name.len)
        return true;
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        if (name.len > endings[i].len &&
            slice_equal(slice_after(name, name.len - endings[i].len), endings[i]))
            return true;
    }
    return false;
}

/* Whether mail goes on from the queue by something else than its name. */
static bool has_way_on(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->vmta_count; i++) {
        struct conf_queue queue;

        conf_queue(conf, name, conf->vmtas[i].vmta.id, &queue);
        if (queue.route_count > 0 || conf_delivery_is_local(queue.delivery) ||
            (queue.queue_to != NULL && !slice_equal(slice_str(queue.queue_to), name)))
            return true;
    }
    return false;
}

static bool is_among(const struct slice *names, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(names[i], name))
            return true;
    return false;
}

/* A queue is sent to the hosts of its own name, so that mail in one of a name like these, without
 * smtp-hosts, comes back as mail to a domain that there is not. Said once of each name. */
static void remark_dead_ends(struct build *build)
{
    struct slice judged[DEAD_ENDS_MAX];
    size_t judged_count = 0;

    for (const struct way_block *block = build->ways; block != NULL; block = block->next) {
        const struct setting *line = line_of(block->settings);
        struct slice name;

        if (!is_queue_to(line) || judged_count == DEAD_ENDS_MAX)
            continue;
        name = slice_str(line->value.text);
        if (!is_no_host(name) || is_among(judged, judged_count, name))
            continue;
        judged[judged_count++] = name;
        if (!has_way_on(build->conf, name))
            report_warning(build->report, line->file, line->line,
                           "queue-to %.80s: no host is called so, and no <domain %.80s> has "
                           "smtp-hosts: the mail has no way on",
                           line->value.text, line->value.text);
    }
}

static bool is_seen_by(const struct way_block *block, const struct vmta_slot *slot)
{
    return block->layer == LAYER_GLOBAL || block->layer == slot->layer ||
           block->layer == slot->pool_layer;
}

/* Virtual MTAs that the line names, also as members of a pool, by position. */
static void mark_targets(struct conf *conf, const struct setting *line, bool *is_target)
{
    struct slice name = slice_str(line->value.text);
    uint32_t position = vmta_find(conf, name);
    const struct conf_pool *pool = conf_pool_named(conf, name);

    if (position != TABLE_NONE)
        is_target[position] = true;
    for (uint32_t i = 0; pool != NULL && i < conf->vmta_count; i++)
        is_target[i] |= has_member(pool, conf->vmtas[i].vmta.id);
}

static bool *find_targets(struct build *build)
{
    struct conf *conf = build->conf;
    bool *is_target = arena_alloc(&conf->arena, conf->vmta_count * sizeof(*is_target));
    const struct settings *before = NULL;

    for (const struct way_block *block = build->ways; block != NULL; block = block->next) {
        /* One block may stand for many domains. */
        for (uint32_t i = 0; block->settings != before && i < block->settings->count; i++) {
            if (is_reroute(&block->settings->items[i]) ||
                is_backoff_reroute(&block->settings->items[i]))
                mark_targets(conf, &block->settings->items[i], is_target);
        }
        before = block->settings;
    }
    return is_target;
}

/* Of virtual MTAs that see the same blocks and that no line names, one stands for all. */
static uint32_t choose_starts(struct build *build, uint32_t *starts)
{
    const struct vmta_slot *slots = build->conf->vmtas;
    const bool *is_target = find_targets(build);
    uint32_t count = 0;

    for (uint32_t i = 0; i < build->conf->vmta_count; i++) {
        bool is_plain = !is_target[i] && slots[i].layer == LAYER_NONE;
        bool is_alike = false;

        for (uint32_t at = 0; at < count && is_plain && !is_alike; at++)
            is_alike = !is_target[starts[at]] && slots[starts[at]].layer == LAYER_NONE &&
                       slots[starts[at]].pool_layer == slots[i].pool_layer;
        if (!is_alike)
            starts[count++] = i;
    }
    return count;
}

/* Whether mail that the block speaks of goes round by the keywords that always count, or else in
 * backoff mode. */
static bool check_from(struct build *build, const struct way_block *block,
                       const struct vmta_slot *slot)
{
    const struct setting *line = line_of(block->settings);
    const struct setting *backoff_line = backoff_line_of(block->settings);
    uint32_t budget = BRANCH_MAX;

    if (line != backoff_line && !ends(build->conf, block->example, slot->vmta.id, STEPS_MAX - 1,
                                      NONE_IN_BACKOFF, &budget)) {
        report_error(build->report, line->file, line->line,
                     "%s %.80s: the mail would go round in a circle, or by more than %d queues",
                     line->row->name, line->value.text, STEPS_MAX);
        return false;
    }
    budget = BRANCH_MAX;
    if (!build->conf->has_backoff_ways || ends(build->conf, block->example, slot->vmta.id,
                                               STEPS_MAX - 1, CONF_BACKOFF_STEPS_MAX, &budget))
        return true;
    report_error(build->report, line->file, line->line,
                 "%s %.80s: with all queues in backoff mode the mail would go round in a circle, "
                 "or on more than %d times",
                 line->row->name, line->value.text, CONF_BACKOFF_STEPS_MAX);
    return false;
}

static void check_block(struct build *build, const struct way_block *block, const uint32_t *starts,
                        uint32_t start_count)
{
    for (uint32_t i = 0; i < start_count; i++) {
        const struct vmta_slot *slot = &build->conf->vmtas[starts[i]];

        if (is_seen_by(block, slot) && !check_from(build, block, slot))
            return;
    }
}

/* Who takes over in backoff mode exists, and lets the mail go by no overflow: it might go round in
 * a circle. */
static void check_takeover(struct build *build, const struct setting *line)
{
    struct slice name = slice_str(line->value.text);
    const struct conf_vmta *vmta = conf_vmta_named(build->conf, name);
    const struct conf_pool *pool = vmta == NULL ? conf_pool_named(build->conf, name) : NULL;
    uint32_t count = vmta != NULL ? 1 : pool != NULL ? pool->vmta_count : 0;

    if (count == 0)
        build_missing_name(build, line->file, line->line,
                           "%s: there is no virtual MTA or pool %.80s", line->row->name,
                           line->value.text);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t vmta_id = vmta != NULL ? vmta->id : pool->vmta_ids[i];
        const char *warmup = conf_warmup_with_overflow(build->conf, vmta_id);

        if (warmup == NULL)
            continue;
        report_error(build->report, line->file, line->line,
                     "%s %.80s: mail of %.80s is under <warm-up %.64s>, which overflows",
                     line->row->name, line->value.text, conf_vmta_name(build->conf, vmta_id),
                     warmup);
        return;
    }
}

int build_ways(struct build *build)
{
    struct conf *conf = build->conf;
    uint32_t *starts, start_count;

    conf->has_ways = conf->global.invalid_vmta_fallback != NULL;
    if (build->ways == NULL)
        return 0;
    for (const struct way_block *block = build->ways; block != NULL; block = block->next) {
        int rc = keep_names(build, block->settings);

        if (rc < 0)
            return rc;
    }
    for (const struct way_block *block = build->ways; block != NULL; block = block->next) {
        const struct setting *backoff_line = backoff_line_of(block->settings);

        conf->has_backoff_ways |= backoff_line != NULL;
        conf->has_ways |= line_of(block->settings) != backoff_line;
        if (backoff_line != NULL)
            check_takeover(build, backoff_line);
    }
    starts = arena_alloc(&conf->arena, conf->vmta_count * sizeof(*starts));
    start_count = choose_starts(build, starts);
    for (const struct way_block *block = build->ways; block != NULL; block = block->next)
        check_block(build, block, starts, start_count);
    remark_dead_ends(build);
    return 0;
}
