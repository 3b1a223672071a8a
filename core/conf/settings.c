#include "core/base/must.h"
#include "core/conf/chain.h"
#include "core/conf/field.h"
#include "core/conf/provider_build.h"

#include <inttypes.h>
#include <stdio.h>

/* Telling where the effective values of a queue come from. */

struct telling {
    conf_setting_fn *tell;
    void *context;
    const char *section;
};

static enum conf_setting_effect effect_of(const struct directive *row)
{
    switch (row->effect) {
    case EFFECT_DONE:
        return CONF_SETTING_ACTS;
    case EFFECT_LATER:
        return CONF_SETTING_NOT_YET;
    default:
        return CONF_SETTING_IGNORED;
    }
}

#define NEW_TEXT_MAX 64

/* As the line that sets it has it; what an old name says in numbers per hour is a rate by its new
 * one, and what it says of every source address a number with a block. */
static const char *text_of(const struct directive *row, const struct setting *setting,
                           char room[NEW_TEXT_MAX])
{
    if (row->type == TYPE_RATE && setting->row->type == TYPE_PER_HOUR &&
        setting->value.number != CONF_UNLIMITED)
        snprintf(room, NEW_TEXT_MAX, "%" PRIu64 "/h", setting->value.number);
    else if (row->type == TYPE_CIDR_COUNT && setting->row->type == TYPE_COUNT)
        snprintf(room, NEW_TEXT_MAX, "0/0 %.40s", setting->text);
    else
        return setting->text;
    return room;
}

/* says: the row whose line that is, and whose default counts. */
static void tell_value(const struct telling *telling, const struct directive *row,
                       const struct directive *says, const struct setting *setting)
{
    bool is_default = setting == NULL || setting->cleared;
    const char *preset = says->preset != NULL ? says->preset : "";
    char room[NEW_TEXT_MAX];
    struct conf_setting told = {
        .section = telling->section,
        .keyword = row->name,
        .value = is_default                        ? preset
                 : (row->flags & FLAG_SECRET) != 0 ? "(secret)"
                                                   : text_of(says, setting, room),
        .file = setting != NULL ? setting->file : NULL,
        .line = setting != NULL ? setting->line : 0,
        .effect = effect_of(row),
    };

    telling->tell(telling->context, &told);
}

static void tell_row(const struct telling *telling, const struct directive *row,
                     const struct setting *setting)
{
    tell_value(telling, row, row, setting);
}

/* ---- What another keyword says where one is not given -------------------------------------------
 */

static const struct {
    const char *keyword;
    const char *instead;
} stand_ins[] = {
    {"retry-recipients-after", "retry-after"},
    {"backoff-max-msg-rate", "max-msg-rate"},
    {"backoff-max-connect-rate", "max-connect-rate"},
    {"backoff-max-data-volume-rate", "max-data-volume-rate"},
};

static const struct directive *row_named(const char *keyword, enum scope scope)
{
    uint32_t i = 0;

    while ((directive_at(i)->scopes & SCOPE_BIT(scope)) == 0 ||
           strcmp(directive_at(i)->name, keyword) != 0)
        i++;
    return directive_at(i);
}

/* NULL: none does. */
static const struct directive *stand_in_of(const struct directive *row)
{
    for (size_t i = 0; i < sizeof(stand_ins) / sizeof(stand_ins[0]); i++)
        if (strcmp(row->name, stand_ins[i].keyword) == 0)
            return row_named(stand_ins[i].instead, SCOPE_DOMAIN);
    return NULL;
}

/* ---- Telling --------------------------------------------------------------------------------- */

/* Of keywords that may be repeated all lines of the block that decides. */
static void tell_link(const struct telling *telling, const struct chain *chain,
                      const struct directive *row)
{
    struct chain_link link = chain_at(chain, row);
    const struct directive *instead = stand_in_of(row);
    uint32_t from = 0;

    if (instead != NULL && (link.setting == NULL || link.setting->cleared)) {
        tell_value(telling, row, instead, chain_at(chain, instead).setting);
        return;
    }
    if (link.setting == NULL || link.setting->cleared || (row->flags & FLAG_REPEAT) == 0) {
        tell_row(telling, row, link.setting);
        return;
    }
    for (uint32_t i = 0; i < link.block->all_count; i++) {
        if (chain_is_about(chain, row, link.block->items[i].row) && link.block->items[i].cleared)
            from = i + 1;
    }
    for (uint32_t i = from; i < link.block->all_count; i++) {
        if (chain_is_about(chain, row, link.block->items[i].row))
            tell_row(telling, row, &link.block->items[i]);
    }
}

static void tell_all(const struct telling *telling, const struct chain *chain, enum scope scope)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        if ((row->scopes & SCOPE_BIT(scope)) != 0 && chain_is_listed(chain, row) &&
            row->effect != EFFECT_REFUSED && row->type != TYPE_INCLUDE)
            tell_link(telling, chain, row);
    }
}

/* ---- Providers ------------------------------------------------------------------------------- */

/* What of a provider's section stands in the place of a default of the queue. */
static const struct settings *settings_of(const struct provider_rules *rules, uint32_t tier,
                                          struct arena *arena)
{
    struct settings *settings = arena_alloc(arena, sizeof(*settings));
    struct setting *items = arena_alloc(arena, rules->limit_count * sizeof(*items));

    settings->items = items;
    for (uint32_t i = 0; i < rules->limit_count; i++) {
        const struct provider_limit *limit = &rules->limits[i];

        if (limit->domain == NULL || provider_limit_is_shared(limit))
            continue;
        items[settings->count++] = (struct setting){.row = limit->domain,
                                                    .value = limit->tiers[tier],
                                                    .text = limit->texts[tier],
                                                    .file = limit->file,
                                                    .line = limit->line};
    }
    settings->all_count = settings->count;
    return settings;
}

static void add_rules(struct chain *chain, const struct provider_rules *rules, uint32_t tier,
                      struct arena *arena)
{
    if (rules != NULL)
        chain_add(chain, settings_of(rules, tier, arena), SCOPE_DOMAIN);
}

/* The queue's own keywords, as conf_queue_at has them. */
static void chain_of_all(struct chain *chain, const struct conf *conf, struct slice domain,
                         const struct vmta_slot *slot, struct arena *arena)
{
    const struct provider *everybody = &conf->providers.items[0];
    const struct provider *provider = provider_find(conf, conf_provider_of_domain(conf, domain));
    bool is_on = conf->global.provider_pack == CONF_PACK_ON;
    uint32_t tier = slot->vmta.provider_tier;

    chain_reset(chain);
    if (is_on) {
        add_rules(chain, everybody->shipped, tier, arena);
        add_rules(chain, provider != NULL ? provider->shipped : NULL, tier, arena);
    }
    add_rules(chain, everybody->own, tier, arena);
    add_rules(chain, provider != NULL ? provider->own : NULL, tier, arena);
    chain_add_layers(chain, conf, domain, slot);
}

/* blocks: what the user's <domain> blocks say of the queue; of the pack alone that counts. */
static void tell_rules(const struct telling *telling, const struct provider_rules *rules,
                       uint32_t tier, const struct chain *blocks, bool acts)
{
    const enum conf_setting_effect effect = acts ? CONF_SETTING_ACTS : CONF_SETTING_ADVISED;

    for (uint32_t i = 0; i < rules->limit_count; i++) {
        const struct provider_limit *limit = &rules->limits[i];
        const struct conf_setting told = {.section = telling->section,
                                          .keyword = limit->keyword,
                                          .value = limit->texts[tier],
                                          .file = limit->file,
                                          .line = limit->line,
                                          .effect = effect};

        /* What is in force for the queue itself stands among its own keywords. */
        if ((acts && !provider_limit_is_shared(limit)) ||
            (blocks != NULL && chain_at(blocks, limit->beaten_by).setting != NULL))
            continue;
        telling->tell(telling->context, &told);
    }
    for (uint32_t i = 0; i < rules->replies.rule_count; i++) {
        const struct conf_reply_rule *rule = &rules->replies.rules[i];
        const struct conf_setting told = {.section = telling->section,
                                          .keyword = "reply",
                                          .value = rule->text + strlen("reply "),
                                          .file = rule->file,
                                          .line = rule->line,
                                          .effect = effect};

        telling->tell(telling->context, &told);
    }
}

/* By the domain, whose MX hosts are another's question. */
static void tell_provider(struct telling *telling, const struct conf *conf, struct slice domain,
                          const struct vmta_slot *slot, struct chain *chain)
{
    const struct provider *provider = provider_find(conf, conf_provider_of_domain(conf, domain));
    const struct provider *told[2] = {provider, &conf->providers.items[0]};
    uint32_t tier = slot->vmta.provider_tier;

    chain_of_queue(chain, conf, domain, slot);
    for (unsigned i = 0; i < 2; i++) {
        char section[64];

        if (told[i] == NULL)
            continue;
        snprintf(section, sizeof(section), "provider %.48s",
                 told[i] == provider ? conf_provider_name(provider->number) : "*");
        telling->section = section;
        if (told[i]->own != NULL)
            tell_rules(telling, told[i]->own, tier, NULL, true);
        if (told[i]->shipped != NULL && conf->global.provider_pack != CONF_PACK_OFF)
            tell_rules(telling, told[i]->shipped, tier, chain,
                       conf->global.provider_pack == CONF_PACK_ON);
    }
}

/* The line by which the queue hands its mail on, as conf_way reads it: queue-to comes first. */
static void tell_first_step(struct telling *telling, const struct conf *conf, struct slice domain,
                            const struct vmta_slot *slot, struct chain *chain)
{
    const struct directive *row = row_named("queue-to", SCOPE_DOMAIN);
    const struct setting *setting;

    chain_of_queue(chain, conf, domain, slot);
    setting = chain_at(chain, row).setting;
    if (setting == NULL || setting->cleared ||
        slice_equal(slice_str(setting->value.text), domain)) {
        row = row_named("reroute-to-virtual-mta", SCOPE_DOMAIN);
        setting = chain_at(chain, row).setting;
    }
    telling->section = "way";
    tell_row(telling, row, setting);
}

bool conf_settings_tell(const struct conf *conf, struct slice domain, struct slice vmta,
                        conf_setting_fn *tell, void *context, struct conf_way *ret_way)
{
    struct telling telling = {.tell = tell, .context = context};
    uint32_t position = vmta_find(conf, vmta);
    const struct vmta_slot *slot;
    struct arena arena;
    struct chain chain;
    struct conf_way way;

    if (position == TABLE_NONE)
        return false;
    arena_init(&arena);
    chain_init(&chain);
    conf_way(conf, domain, conf->vmtas[position].vmta.id, 0, &way);
    if (way.is_elsewhere)
        tell_first_step(&telling, conf, domain, &conf->vmtas[position], &chain);
    slot = vmta_slot_of(conf, way.vmta_id);
    chain_of_all(&chain, conf, way.domain, slot, &arena);
    telling.section = "domain";
    tell_all(&telling, &chain, SCOPE_DOMAIN);
    telling.section = "virtual-mta";
    chain_of_vmta(&chain, conf, slot);
    tell_all(&telling, &chain, SCOPE_VMTA);
    tell_provider(&telling, conf, way.domain, slot, &chain);
    chain_fini(&chain);
    arena_fini(&arena);
    *ret_way = way;
    return true;
}

/* ---- What may be shown of a text ------------------------------------------------------------ */

#define SECRETS_MAX 16

/* Of a keyword. All others may stand around one: blanks, ends of tags, quotes, characters that look
 * like blanks or like nothing. */
static bool is_keyword_octet(uint8_t octet)
{
    octet = slice_lower_octet(octet);
    return (octet >= 'a' && octet <= 'z') || (octet >= '0' && octet <= '9') || octet == '-';
}

/* Where the word ends that begins at `from`, when that is the keyword; 0 otherwise. The reader
 * takes invisible characters out of words, so they are passed over, with all that is not ASCII. */
static size_t keyword_end(struct slice line, size_t from, const char *keyword)
{
    size_t at = from;

    while (*keyword != '\0') {
        while (at < line.len && line.data[at] >= 0x80)
            at++;
        if (at == line.len || slice_lower_octet(line.data[at]) != (uint8_t)*keyword)
            return 0;
        at++;
        keyword++;
    }
    return at < line.len && is_keyword_octet(line.data[at]) ? 0 : at;
}

/*
 * The reader takes a line with a tag in it apart, and a line that it refuses is shown all the same:
 * what looks like such a keyword anywhere in the line counts as one.
 */
size_t conf_shown_octets(struct slice line)
{
    const char *secrets[SECRETS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < directive_count(); i++) {
        if ((directive_at(i)->flags & FLAG_SECRET) == 0)
            continue;
        must(count < SECRETS_MAX);
        secrets[count++] = directive_at(i)->name;
    }
    for (size_t at = 0; at < line.len; at++) {
        if (at > 0 && is_keyword_octet(line.data[at - 1]))
            continue;
        for (uint32_t i = 0; i < count; i++) {
            size_t end = keyword_end(line, at, secrets[i]);

            if (end > 0)
                return end;
        }
    }
    return line.len;
}
