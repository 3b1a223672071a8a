#include "core/conf/warmup.h"

#include "core/base/err.h"
#include "core/conf/build.h"
#include "core/conf/field.h"
#include "core/conf/show.h"

#define CAP_MAX    1000000000ull
#define FACTOR_ONE 1000u /* factors are counted in thousandths */
#define FACTOR_MAX 100u
#define HOUR_S     3600u
#define DAY_S      86400u

uint32_t conf_warmup_count(const struct conf *conf)
{
    return conf->warmup_count;
}

static bool is_of_message(const struct conf_warmup *warmup)
{
    return (warmup->scopes & CONF_WARMUP_SENDER_DOMAIN) != 0;
}

const struct conf_warmup *conf_warmup_of(const struct conf *conf, struct slice domain,
                                         uint32_t vmta_id)
{
    for (uint32_t i = 0; i < conf->warmup_count; i++)
        if (!is_of_message(&conf->warmups[i]) &&
            conf_limit_fits(&conf->warmups[i].fits, domain, vmta_id))
            return &conf->warmups[i];
    return NULL;
}

bool conf_warmup_counts_senders(const struct conf *conf)
{
    return conf->has_sender_warmups;
}

const struct conf_warmup *conf_warmup_of_sender(const struct conf *conf, struct slice domain,
                                                uint32_t vmta_id, struct slice sender)
{
    for (uint32_t i = 0; i < conf->warmup_count; i++)
        if (is_of_message(&conf->warmups[i]) &&
            conf_limit_fits(&conf->warmups[i].fits, domain, vmta_id) &&
            conf_limit_fits(&conf->warmups[i].senders, sender, vmta_id))
            return &conf->warmups[i];
    return NULL;
}

uint32_t conf_warmup_overflow(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                              uint64_t turn)
{
    for (uint32_t i = 0; i < conf->warmup_count; i++) {
        const struct conf_warmup *warmup = &conf->warmups[i];

        if (warmup->overflow_count > 0 && conf_limit_fits(&warmup->fits, domain, vmta_id))
            return warmup->overflow_ids[turn % warmup->overflow_count];
    }
    return vmta_id;
}

const struct conf_warmup *conf_warmup_named(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->warmup_count; i++)
        if (slice_equal_nocase(slice_str(conf->warmups[i].fits.name), name))
            return &conf->warmups[i];
    return NULL;
}

/* ---- Schedules ------------------------------------------------------------------------------- */

static int add_cap(uint64_t cap, uint64_t *caps, uint32_t *count)
{
    if (*count == CONF_WARMUP_STEPS_MAX || cap == 0 || (*count > 0 && cap < caps[*count - 1]))
        return E_RANGE;
    caps[(*count)++] = cap;
    return 0;
}

static int list_of_caps(struct slice text, uint64_t *caps, uint32_t *count)
{
    do {
        size_t comma = slice_find(text, ',');
        uint64_t cap;
        int rc = slice_to_u64(slice_trim(slice_of(text.data, comma)), CAP_MAX, &cap);

        if (rc == 0)
            rc = add_cap(cap, caps, count);
        if (rc < 0)
            return rc;
        text = slice_after(text, comma < text.len ? comma + 1 : comma);
    } while (text.len > 0);
    return 0;
}

/* "1.5" in thousandths. */
static int factor_of(struct slice text, uint64_t *ret_factor)
{
    size_t dot = slice_find(text, '.');
    struct slice digits = slice_after(text, dot < text.len ? dot + 1 : dot);
    uint64_t whole, part = 0;
    int rc = slice_to_u64(slice_of(text.data, dot), FACTOR_MAX, &whole);

    if (rc == 0 && dot < text.len)
        rc = digits.len > 3 ? E_SYNTAX : slice_to_u64(digits, FACTOR_ONE - 1, &part);
    for (size_t i = digits.len; i < 3; i++)
        part *= 10;
    *ret_factor = whole * FACTOR_ONE + part;
    if (rc == 0 && *ret_factor <= FACTOR_ONE)
        rc = E_RANGE;
    return rc;
}

/* The value behind "key=" when the text begins with it; text is moved behind the word. */
static bool take_key(struct slice *text, const char *key, struct slice *ret_value)
{
    struct slice word, name = slice_str(key);
    size_t blank;

    *text = slice_trim(*text);
    blank = slice_find(*text, ' ');
    word = slice_of(text->data, blank);
    if (!slice_starts_nocase(word, name))
        return false;
    *ret_value = slice_after(word, name.len);
    *text = slice_trim(slice_after(*text, blank));
    return true;
}

static int growing_caps(struct slice text, uint64_t *caps, uint32_t *count)
{
    struct slice start, factor, days;
    uint64_t cap, times, day_count;
    int rc;

    if (!take_key(&text, "start=", &start) || !take_key(&text, "factor=", &factor) ||
        !take_key(&text, "days=", &days) || text.len > 0)
        return E_SYNTAX;
    rc = slice_to_u64(start, CAP_MAX, &cap);
    if (rc == 0)
        rc = factor_of(factor, &times);
    if (rc == 0)
        rc = slice_to_u64(days, CONF_WARMUP_STEPS_MAX, &day_count);
    if (rc == 0 && day_count == 0)
        rc = E_RANGE;
    for (uint64_t i = 0; rc == 0 && i < day_count; i++) {
        uint64_t next = cap * times / FACTOR_ONE;

        rc = cap > CAP_MAX ? E_RANGE : add_cap(cap, caps, count);
        cap = next > cap ? next : cap + 1;
    }
    return rc;
}

int conf_warmup_schedule(struct slice text, uint64_t ret_caps[CONF_WARMUP_STEPS_MAX],
                         uint32_t *ret_count)
{
    *ret_count = 0;
    text = slice_trim(text);
    if (slice_find(text, '=') < text.len)
        return growing_caps(text, ret_caps, ret_count);
    return list_of_caps(text, ret_caps, ret_count);
}

static int moment_of(struct slice text, uint32_t *ret_second)
{
    size_t colon = slice_find(text, ':');
    uint64_t hours, minutes = 0;
    int rc = slice_to_u64(slice_trim(slice_of(text.data, colon)), 24, &hours);

    if (rc == 0 && colon < text.len)
        rc = slice_to_u64(slice_trim(slice_after(text, colon + 1)), 59, &minutes);
    *ret_second = (uint32_t)(hours * HOUR_S + minutes * 60);
    return rc == 0 && *ret_second > DAY_S ? E_RANGE : rc;
}

int conf_warmup_hours(struct slice text, uint32_t *ret_from_s, uint32_t *ret_until_s)
{
    size_t dash = slice_find(text, '-');
    int rc;

    if (dash == text.len)
        return E_SYNTAX;
    rc = moment_of(slice_of(text.data, dash), ret_from_s);
    if (rc == 0)
        rc = moment_of(slice_after(text, dash + 1), ret_until_s);
    return rc == 0 && *ret_from_s >= *ret_until_s ? E_RANGE : rc;
}

/* ---- Building -------------------------------------------------------------------------------- */

static void complain(struct build *build, const struct section *section, const char *what)
{
    report_error(build->report, section->file, section->line, "<warm-up %.*s>: %s",
                 SHOW(section->name), what);
}

static void check_numbers(struct build *build, const struct section *section,
                          struct conf_warmup *warmup)
{
    const uint32_t both = CONF_WARMUP_PROVIDER | CONF_WARMUP_SOURCE_IP;
    int rc;

    if (warmup->schedule_text == NULL) {
        if (!section->has_errors)
            complain(build, section, "there is no schedule");
        return;
    }
    rc = conf_warmup_schedule(slice_str(warmup->schedule_text), warmup->caps, &warmup->step_count);
    if (rc == E_RANGE)
        complain(build, section,
                 "schedule: at most 64 steps, each at least 1 and no smaller than the one before, "
                 "with a factor above 1");
    else if (rc < 0)
        complain(build, section,
                 "schedule: neither a list like 50,100,200 nor start=50 factor=1.5 days=20");
    if (warmup->hours_text != NULL &&
        conf_warmup_hours(slice_str(warmup->hours_text), &warmup->from_s, &warmup->until_s) < 0)
        complain(build, section, "send-hours: no span of a day like 8:00-20:00");
    if (!is_of_message(warmup) && warmup->scopes != both)
        complain(build, section,
                 "scope: it has to be provider,source-ip, or sender-domain with any of them");
    if (!is_of_message(warmup) && warmup->senders.domain_text != NULL)
        complain(build, section, "sender-domain: that needs scope sender-domain");
}

static void find_overflow(struct build *build, const struct section *section,
                          struct conf_warmup *warmup)
{
    struct slice name = slice_str(warmup->overflow_text);
    const struct conf_vmta *vmta = conf_vmta_named(build->conf, name);
    const struct conf_pool *pool = vmta == NULL ? conf_pool_named(build->conf, name) : NULL;

    if (slice_equal_nocase(name, SLICE_LITERAL("wait")))
        return;
    if (vmta == NULL && (pool == NULL || pool->vmta_count == 0)) {
        build_missing_name(build, section->file, section->line,
                           "<warm-up %.*s>: overflow: there is no virtual MTA or pool %.80s",
                           SHOW(section->name), warmup->overflow_text);
        return;
    }
    warmup->overflow_ids = vmta != NULL ? &vmta->id : pool->vmta_ids;
    warmup->overflow_count = vmta != NULL ? 1 : pool->vmta_count;
}

static int add_section(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_warmup *warmup = &conf->warmups[conf->warmup_count];
    int rc;

    if (conf->warmup_count == CONF_WARMUPS_MAX) {
        complain(build, section, "at most 64 can be used");
        return 0;
    }
    if (section->name.len > CONF_WARMUP_NAME_MAX ||
        slice_find(section->name, '/') < section->name.len ||
        slice_find(section->name, ' ') < section->name.len)
        complain(build, section, "a name has at most 64 octets, no blanks and no /");
    if (conf_warmup_named(conf, section->name) != NULL)
        complain(build, section, "it is given twice");
    field_store_presets(warmup, SCOPE_WARMUP, conf->presets);
    warmup->fits.section = "warm-up";
    warmup->fits.name = (const char *)section->name.data;
    warmup->fits.file = section->file;
    warmup->fits.line = section->line;
    warmup->senders = (struct conf_limit){.section = "warm-up",
                                          .name = warmup->fits.name,
                                          .file = section->file,
                                          .line = section->line};
    build_fields(build, section, warmup);
    check_numbers(build, section, warmup);
    find_overflow(build, section, warmup);
    conf->has_sender_warmups |= is_of_message(warmup);
    conf->warmup_count++;
    rc = build_limit_fits(build, &warmup->fits);
    return rc < 0 ? rc : build_limit_fits(build, &warmup->senders);
}

static bool may_fit_vmta(const struct conf_limit *fits, uint32_t vmta_id)
{
    for (uint32_t i = 0; fits->vmta_text != NULL && i < fits->vmta_count; i++)
        if (fits->vmta_ids[i] == vmta_id)
            return true;
    for (uint32_t i = 0; fits->pool_text != NULL && i < fits->pool_vmta_count; i++)
        if (fits->pool_vmta_ids[i] == vmta_id)
            return true;
    return fits->vmta_text == NULL && fits->pool_text == NULL;
}

const char *conf_warmup_with_overflow(const struct conf *conf, uint32_t vmta_id)
{
    for (uint32_t i = 0; i < conf->warmup_count; i++)
        if (conf->warmups[i].overflow_count > 0 && may_fit_vmta(&conf->warmups[i].fits, vmta_id))
            return conf->warmups[i].fits.name;
    return NULL;
}

/* Mail that went over goes over no second time: it might go round in a circle. */
static void check_overflow(struct build *build, const struct conf_warmup *warmup)
{
    const struct conf *conf = build->conf;

    for (uint32_t i = 0; i < warmup->overflow_count; i++)
        for (uint32_t k = 0; k < conf->warmup_count; k++) {
            const struct conf_warmup *next = &conf->warmups[k];

            if (next->overflow_count == 0 || !may_fit_vmta(&next->fits, warmup->overflow_ids[i]))
                continue;
            report_error(
                build->report, warmup->fits.file, warmup->fits.line,
                "<warm-up %.64s>: overflow: mail of %.80s is itself under <warm-up %.64s>, "
                "which overflows",
                warmup->fits.name, conf_vmta(conf, warmup->overflow_ids[i])->name, next->fits.name);
            return;
        }
}

/* The first section that fits a queue counts: behind one that fits everything nothing does. */
static void lint_order(struct build *build)
{
    const struct conf *conf = build->conf;

    for (uint32_t i = 0; i + 1 < conf->warmup_count; i++) {
        const struct conf_limit *fits = &conf->warmups[i].fits, *next = &conf->warmups[i + 1].fits;

        if (fits->domain_text == NULL && fits->vmta_text == NULL && fits->pool_text == NULL &&
            conf->warmups[i].senders.domain_text == NULL &&
            is_of_message(&conf->warmups[i]) == is_of_message(&conf->warmups[i + 1]))
            report_warning(build->report, next->file, next->line,
                           "<warm-up %.64s> never counts: <warm-up %.64s> before it fits all mail",
                           next->name, fits->name);
    }
}

int build_warmups(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    uint32_t count = build_count_children(top, SCOPE_WARMUP);
    int rc = 0;

    conf->warmups = arena_alloc(&conf->arena, (count + 1) * sizeof(*conf->warmups));
    for (const struct section *at = top->children; rc == 0 && at != NULL; at = at->next)
        if (at->kind->scope == SCOPE_WARMUP)
            rc = add_section(build, at);
    for (uint32_t i = 0; rc == 0 && i < conf->warmup_count; i++)
        check_overflow(build, &conf->warmups[i]);
    if (rc == 0 && build->options->lint)
        lint_order(build);
    return rc;
}
