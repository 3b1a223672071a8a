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

const struct conf_warmup *conf_warmup_of(const struct conf *conf, struct slice domain,
                                         uint32_t vmta_id)
{
    for (uint32_t i = 0; i < conf->warmup_count; i++)
        if (conf_limit_fits(&conf->warmups[i].fits, domain, vmta_id))
            return &conf->warmups[i];
    return NULL;
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
    if (warmup->scopes != both)
        complain(build, section, "scope: it has to be provider,source-ip");
}

static int add_section(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_warmup *warmup = &conf->warmups[conf->warmup_count];

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
    build_fields(build, section, warmup);
    check_numbers(build, section, warmup);
    conf->warmup_count++;
    return build_limit_fits(build, &warmup->fits);
}

/* The first section that fits a queue counts: behind one that fits everything nothing does. */
static void lint_order(struct build *build)
{
    const struct conf *conf = build->conf;

    for (uint32_t i = 0; i + 1 < conf->warmup_count; i++) {
        const struct conf_limit *fits = &conf->warmups[i].fits, *next = &conf->warmups[i + 1].fits;

        if (fits->domain_text == NULL && fits->vmta_text == NULL && fits->pool_text == NULL)
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
    if (rc == 0 && build->options->lint)
        lint_order(build);
    return rc;
}
