#include "shard/limits.h"

#include "shard/planted.h"
#include "shard/shard_int.h"

uint64_t limits_of_blocks(const struct shard *shard, struct queue *queue)
{
    if (!queue->limits_known || queue->limits_version != shard->version) {
        queue->limits_mask =
            conf_limit_mask(shard->conf, names_text(&shard->names, queue->name), queue->vmta_id);
        queue->limits_version = shard->version;
        queue->limits_known = true;
    }
    return queue->limits_mask;
}

static bool fits_site(const struct conf_limit *limit, const struct site *site)
{
    for (uint32_t i = 0; i < site->target_count; i++)
        if (conf_limit_fits_host(limit, slice_str(site->host_names[site->targets[i].host]),
                                 &site->targets[i].at.ip))
            return true;
    return false;
}

uint64_t limits_of_hosts(struct shard *shard, struct site *site)
{
    uint32_t count = conf_limit_host_count(shard->conf);

    if (count == 0)
        return 0;
    if (!site->limits_known || site->limits_version != shard->version) {
        site->limits_mask = 0;
        for (uint32_t i = 0; i < count; i++)
            if (fits_site(conf_limit_host_at(shard->conf, i), site))
                site->limits_mask |= 1ull << i;
        site->limits_version = shard->version;
        site->limits_known = true;
    }
    return site->limits_mask;
}

void limits_forget_hosts(struct site *site)
{
    site->limits_known = false;
}

static bool add(struct scope_list *list, const struct conf_limit *limit,
                const struct scope_facts *facts)
{
    struct meter_key key;

    if (limit->max_smtp_out == CONF_UNLIMITED || conf_limit_is_of_message(limit))
        return true;
    key = scope_key(limit, facts);
    return scope_add(list, &key);
}

static bool has_provider_limits(const struct conf_queue *settings)
{
    return settings->provider_limits[CONF_PROVIDER_CONNECTIONS] != NULL ||
           settings->provider_limits[CONF_PROVIDER_TENANT_CONNECTIONS] != NULL;
}

/* Those of <provider>. */
static bool add_provider_limits(struct scope_list *list, const struct conf_queue *settings,
                                const struct scope_facts *facts)
{
    const struct conf_limit *of_all = settings->provider_limits[CONF_PROVIDER_CONNECTIONS];
    const struct conf_limit *of_each = settings->provider_limits[CONF_PROVIDER_TENANT_CONNECTIONS];
    bool has_room = of_all == NULL || add(list, of_all, facts);

    return (of_each == NULL || add(list, of_each, facts)) && has_room;
}

struct scope_facts limits_facts(const struct shard *shard, const struct queue *queue,
                                const struct ipaddr *source)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct site *site = queue->site;

    return (struct scope_facts){
        .vmta_id = queue->vmta_id,
        .pool_id = vmta ? vmta->pool_id : CONF_NONE,
        .provider = site ? site->provider : 0,
        .tenant = !site               ? 0
                  : site->tenant != 0 ? site->tenant
                                      : site->provider,
        .source = source,
        .domain = names_text(&shard->names, queue->name),
    };
}

struct slice limits_sender_domain(const struct envelope *envelope)
{
    struct slice sender = envelope->sender;

    for (size_t i = sender.len; i > 0; i--)
        if (sender.data[i - 1] == '@')
            return slice_after(sender, i);
    return SLICE_EMPTY;
}

struct scope_mail limits_mail_values(const struct envelope *envelope)
{
    return (struct scope_mail){
        .job = scope_value(envelope->job_id),
        .sender_domain = scope_value(limits_sender_domain(envelope)),
        .user = scope_value(envelope->user),
    };
}

void limits_read_mail(const struct shard *shard, const struct message *message,
                      struct limits_mail *ret_mail)
{
    const struct envelope *envelope = &message->envelope;

    *ret_mail = (struct limits_mail){.values = limits_mail_values(envelope)};
    for (uint64_t blocks = shard->mail_slots.blocks; blocks != 0; blocks &= blocks - 1) {
        const struct conf_limit *limit =
            conf_limit_block_at(shard->conf, (uint32_t)__builtin_ctzll(blocks));

        if (limits_fit_mail(limit, envelope))
            ret_mail->fits |= blocks & -blocks;
    }
}

bool limits_fit_mail(const struct conf_limit *limit, const struct envelope *envelope)
{
    return ((limit->scopes & CONF_SCOPE_USER) == 0 || envelope->user.len > 0) &&
           conf_limit_fits_message(limit, envelope->job_id, envelope->user);
}

_Static_assert(CONF_LIMIT_MAIL_MAX <= SCOPE_METERS_MAX, "all that may count have room");

bool limits_of_mail(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                    const struct limits_mail *mail, struct scope_list *ret_meters)
{
    uint64_t blocks = mail->fits == 0 ? 0 : mail->fits & limits_of_blocks(shard, queue);
    struct scope_facts facts;

    ret_meters->count = 0;
    if (blocks == 0)
        return true;
    facts = limits_facts(shard, queue, source);
    facts.mail = mail->values;
    for (; blocks != 0; blocks &= blocks - 1) {
        const struct conf_limit *limit =
            conf_limit_block_at(shard->conf, (uint32_t)__builtin_ctzll(blocks));
        struct meter_key key;
        bool has_room;

        if (!source && (limit->scopes & CONF_SCOPE_SOURCE_IP) != 0) {
            /* Some of them are no better than none: a claim is for all. */
            ret_meters->count = 0;
            return false;
        }
        key = scope_key(limit, &facts);
        has_room = scope_add(ret_meters, &key);
        must(has_room);
    }
    return true;
}

bool limits_of(struct shard *shard, struct queue *queue, const struct ipaddr *source,
               struct scope_list *ret_meters)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct conf_limit *of_source =
        conf_limit_of_source(&queue->settings, CONF_OF_CONNECTIONS, source);
    uint64_t blocks = conf_limit_block_count(shard->conf) > 0 ? limits_of_blocks(shard, queue) : 0;
    uint64_t hosts = limits_of_hosts(shard, queue->site);
    bool has_room = true;
    struct scope_facts facts;

    ret_meters->count = 0;
    if (vmta && vmta->max_smtp_out != CONF_UNLIMITED) {
        struct meter_key key = scope_key_of_vmta(queue->vmta_id);

        has_room = scope_add(ret_meters, &key);
    }
    if (blocks == 0 && hosts == 0 && !of_source && !has_provider_limits(&queue->settings))
        return has_room;
    facts = limits_facts(shard, queue, source);
    if (planted("shard/limit-overlooked"))
        blocks &= blocks - 1;
    for (; blocks != 0; blocks &= blocks - 1)
        has_room &=
            add(ret_meters, conf_limit_block_at(shard->conf, (uint32_t)__builtin_ctzll(blocks)),
                &facts);
    for (; hosts != 0; hosts &= hosts - 1)
        has_room &= add(ret_meters,
                        conf_limit_host_at(shard->conf, (uint32_t)__builtin_ctzll(hosts)), &facts);
    if (of_source)
        has_room &= add(ret_meters, of_source, &facts);
    return add_provider_limits(ret_meters, &queue->settings, &facts) && has_room;
}
