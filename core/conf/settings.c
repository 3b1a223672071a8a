#include "core/conf/chain.h"
#include "core/conf/field.h"

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

static void tell_row(const struct telling *telling, const struct directive *row,
                     const struct setting *setting)
{
    bool is_default = setting == NULL || setting->cleared;
    const char *preset = row->preset != NULL ? row->preset : "";
    struct conf_setting told = {
        .section = telling->section,
        .keyword = row->name,
        .value = is_default                        ? preset
                 : (row->flags & FLAG_SECRET) != 0 ? "(secret)"
                                                   : setting->text,
        .file = setting != NULL ? setting->file : NULL,
        .line = setting != NULL ? setting->line : 0,
        .effect = effect_of(row),
    };

    telling->tell(telling->context, &told);
}

/* Of keywords that may be repeated all lines of the block that decides. */
static void tell_link(const struct telling *telling, const struct directive *row,
                      struct chain_link link)
{
    uint32_t from = 0;

    if (link.setting == NULL || link.setting->cleared || (row->flags & FLAG_REPEAT) == 0) {
        tell_row(telling, row, link.setting);
        return;
    }
    for (uint32_t i = 0; i < link.block->all_count; i++) {
        if (link.block->items[i].row == link.setting->row && link.block->items[i].cleared)
            from = i + 1;
    }
    for (uint32_t i = from; i < link.block->all_count; i++) {
        if (link.block->items[i].row == link.setting->row)
            tell_row(telling, row, &link.block->items[i]);
    }
}

static void tell_all(const struct telling *telling, const struct chain *chain, enum scope scope)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        if ((row->scopes & SCOPE_BIT(scope)) != 0 && chain_is_listed(chain, row) &&
            row->effect != EFFECT_REFUSED && row->type != TYPE_INCLUDE)
            tell_link(telling, row, chain_at(chain, row));
    }
}

bool conf_settings_tell(const struct conf *conf, struct slice domain, struct slice vmta,
                        conf_setting_fn *tell, void *context)
{
    struct telling telling = {.tell = tell, .context = context, .section = "domain"};
    uint32_t position = vmta_find(conf, vmta);
    struct chain chain;

    if (position == TABLE_NONE)
        return false;
    chain_init(&chain);
    chain_of_queue(&chain, conf, domain, &conf->vmtas[position]);
    tell_all(&telling, &chain, SCOPE_DOMAIN);
    telling.section = "virtual-mta";
    chain_of_vmta(&chain, conf, &conf->vmtas[position]);
    tell_all(&telling, &chain, SCOPE_VMTA);
    chain_fini(&chain);
    return true;
}
