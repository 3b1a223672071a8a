/* What the shipped pack of providers would change if it were on. */
#include "core/base/text.h"
#include "core/conf/chain.h"
#include "core/conf/lint.h"
#include "core/conf/provider_build.h"
#include "core/conf/show.h"

#define NOTE_MAX 400

/* Of one provider and one tier. */
struct advice {
    struct build *build;
    struct chain chain;
    const struct vmta_slot *slot; /* the first virtual MTA of the tier */
    uint32_t tier;
};

static void put_limits(const struct advice *advice, const struct provider_rules *rules,
                       struct text *note)
{
    for (uint32_t i = 0; i < rules->limit_count; i++) {
        const struct provider_limit *limit = &rules->limits[i];

        if (chain_at(&advice->chain, limit->beaten_by).setting != NULL)
            continue;
        text_put_str(note, note->len > 0 ? ", " : "");
        text_put_str(note, limit->keyword);
        text_put_str(note, " ");
        text_put_str(note, limit->texts[advice->tier]);
        text_put_str(note, provider_limit_is_shared(limit) ? " a source address" : "");
    }
}

static void put_replies(const struct provider_rules *rules, struct text *note)
{
    if (rules->replies.rule_count == 0)
        return;
    text_put_str(note, note->len > 0 ? ", and " : "");
    text_put_str(note, "act on replies (");
    text_put_u64(note, rules->replies.rule_count, 0);
    text_put_str(note, " rules)");
}

static void advise(struct advice *advice, const struct provider *provider)
{
    static const char *const tiers[CONF_TIERS] = {"new", "warming", "established", "high"};
    const struct provider_rules *rules = provider->shipped;
    const char *domain = rules->domain_count > 0 ? rules->domains[0] : "provider.invalid";
    char room[NOTE_MAX];
    struct text note = text_in(room, sizeof(room));

    chain_of_queue(&advice->chain, advice->build->conf, slice_str(domain), advice->slot);
    put_limits(advice, rules, &note);
    put_replies(rules, &note);
    if (note.len == 0)
        return;
    report_note(advice->build->report, advice->build->tree->top.file, 0,
                "provider-pack on would, at %.*s, from virtual MTAs of tier %s (as %s): %.*s; see "
                "%s:%u",
                SHOW(rules->name), tiers[advice->tier], advice->slot->vmta.name, (int)note.len,
                room, rules->file, rules->line);
}

static const struct vmta_slot *first_of_tier(const struct conf *conf, uint32_t tier)
{
    /* Mail that names none is the exception where there are virtual MTAs. */
    for (uint32_t i = conf->vmta_count > 1 ? 1 : 0; i < conf->vmta_count; i++)
        if (conf->vmtas[i].vmta.provider_tier == tier)
            return &conf->vmtas[i];
    return NULL;
}

void lint_pack(struct build *build)
{
    const struct conf *conf = build->conf;
    struct advice advice = {.build = build};

    if (conf->global.provider_pack != CONF_PACK_ADVISE)
        return;
    chain_init(&advice.chain);
    for (advice.tier = 0; advice.tier < CONF_TIERS; advice.tier++) {
        advice.slot = first_of_tier(conf, advice.tier);
        for (uint32_t i = 0; advice.slot != NULL && i < conf->providers.count; i++)
            if (conf->providers.items[i].shipped != NULL)
                advise(&advice, &conf->providers.items[i]);
    }
    chain_fini(&advice.chain);
}
