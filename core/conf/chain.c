#include "core/conf/chain.h"

#include "core/base/mem.h"
#include "core/conf/field.h"
#include "core/conf/limit.h"
#include "core/conf/override.h"

/* Of the lines that are gathered only one has an old name besides. */
static bool is_same_thing(const struct directive *a, const struct directive *b)
{
    if ((a->scopes & b->scopes) == 0 || a->store != b->store)
        return false;
    if (a->store == STORE_SOURCE_LIMIT)
        return limit_quantity_of(a) == limit_quantity_of(b);
    return field_is_set_by(a) && a->offset == b->offset;
}

void chain_init(struct chain *chain)
{
    chain->canonical = mem_alloc(directive_count() * sizeof(*chain->canonical));
    chain->links = mem_alloc(directive_count() * sizeof(*chain->links));
    for (uint32_t i = 0; i < directive_count(); i++) {
        uint32_t first = 0;

        while (first < i && !is_same_thing(directive_at(first), directive_at(i)))
            first++;
        chain->canonical[i] = (uint16_t)first;
    }
}

void chain_fini(struct chain *chain)
{
    mem_free(chain->canonical);
    mem_free(chain->links);
}

void chain_reset(struct chain *chain)
{
    memset(chain->links, 0, directive_count() * sizeof(*chain->links));
}

void chain_add(struct chain *chain, const struct settings *block, enum scope scope)
{
    for (uint32_t i = 0; block != NULL && i < block->all_count; i++) {
        const struct setting *setting = &block->items[i];
        uint32_t position = directive_position(setting->row);

        if ((setting->row->scopes & SCOPE_BIT(scope)) != 0)
            chain->links[chain->canonical[position]] = (struct chain_link){block, setting};
    }
}

static void add_block(void *context, const struct settings *block)
{
    chain_add(context, block, SCOPE_DOMAIN);
}

void chain_add_layer(struct chain *chain, const struct conf *conf, uint32_t layer,
                     struct slice domain)
{
    if (layer != LAYER_NONE)
        pattern_index_visit(&conf->domains, layer, domain, add_block, chain);
}

void chain_add_layers(struct chain *chain, const struct conf *conf, struct slice domain,
                      const struct vmta_slot *slot)
{
    chain_add_layer(chain, conf, LAYER_GLOBAL, domain);
    if (slot != NULL) {
        chain_add_layer(chain, conf, slot->pool_layer, domain);
        chain_add_layer(chain, conf, slot->layer, domain);
    }
    override_visit(conf, domain, slot != NULL ? slot->vmta.id : CONF_NONE, add_block, chain);
}

void chain_of_queue(struct chain *chain, const struct conf *conf, struct slice domain,
                    const struct vmta_slot *slot)
{
    chain_reset(chain);
    chain_add_layers(chain, conf, domain, slot);
}

/* Of several pools the tightest limit counts, so what wrote a limit was remembered. */
static void link_limit(struct chain *chain, size_t offset, const struct settings *from)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        if ((row->scopes & SCOPE_BIT(SCOPE_VMTA)) == 0 || !field_is_set_by(row) ||
            row->offset != offset)
            continue;
        chain->links[i] = (struct chain_link){0};
        for (uint32_t at = 0; from != NULL && at < from->all_count; at++) {
            if (from->items[at].row == row)
                chain->links[i] = (struct chain_link){from, &from->items[at]};
        }
    }
}

void chain_of_vmta(struct chain *chain, const struct conf *conf, const struct vmta_slot *slot)
{
    chain_reset(chain);
    chain_add(chain, conf->top, SCOPE_VMTA);
    chain_add(chain, slot->pool, SCOPE_VMTA);
    chain_add(chain, slot->own, SCOPE_VMTA);
    if (!slot->has_own_connections)
        link_limit(chain, offsetof(struct conf_vmta, max_smtp_out), slot->connections_from);
    if (!slot->has_own_rate)
        link_limit(chain, offsetof(struct conf_vmta, max_smtp_msg_rate), slot->rate_from);
    if (!slot->has_own_volume)
        link_limit(chain, offsetof(struct conf_vmta, max_smtp_data_volume_rate), slot->volume_from);
}

bool chain_is_listed(const struct chain *chain, const struct directive *row)
{
    uint32_t position = directive_position(row);

    return chain->canonical[position] == position;
}

bool chain_is_about(const struct chain *chain, const struct directive *row,
                    const struct directive *other)
{
    return chain->canonical[directive_position(row)] == chain->canonical[directive_position(other)];
}

struct chain_link chain_at(const struct chain *chain, const struct directive *row)
{
    return chain->links[chain->canonical[directive_position(row)]];
}
