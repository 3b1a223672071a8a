#include "shard/precache.h"

#include "shard/shard_int.h"

static const struct conf_precache *settings(const struct shard *shard)
{
    return &conf_global(shard->conf)->precache;
}

static void ask_next(struct shard *shard);

static void on_done(void *context, const struct mx_answer *answer)
{
    struct shard *shard = context;

    (void)answer;
    shard->precache.is_asking = false;
    ask_next(shard);
}

static void ask_next(struct shard *shard)
{
    struct precache *precache = &shard->precache;
    const struct conf_precache *wanted = settings(shard);

    if (precache->next < wanted->domain_count) {
        precache->is_asking = true;
        mx_resolve(precache->resolution, slice_str(wanted->domains[precache->next++]), NULL, 0,
                   &precache->rules, on_done, shard);
    } else if (wanted->domain_count > 0) {
        io_timer_arm(shard->io, &precache->timer,
                     io_now_ns(shard->io) + wanted->refresh_ms * 1000000);
    }
}

static void on_timer(struct io_timer *timer)
{
    precache_start(container_of(timer, struct shard, precache.timer));
}

void precache_init(struct shard *shard)
{
    io_timer_init(&shard->precache.timer, on_timer);
}

void precache_fini(struct shard *shard)
{
    if (shard->precache.resolution)
        mx_resolution_destroy(shard->precache.resolution);
}

void precache_start(struct shard *shard)
{
    struct precache *precache = &shard->precache;

    io_timer_stop(shard->io, &precache->timer);
    precache->next = 0;
    if (precache->is_asking || settings(shard)->domain_count == 0)
        return;
    if (!precache->resolution)
        precache->resolution = mx_resolution_create(shard->dns, shard->io);
    precache->rules = (struct mx_rules){.port = 25};
    for (uint32_t i = 0; i < conf_vmta_count(shard->conf); i++) {
        const struct conf_vmta *vmta = conf_vmta_at(shard->conf, i);

        for (uint32_t j = 0; j < vmta->address_count; j++) {
            precache->rules.want_ipv4 |= vmta->addresses[j].ip.family == IPADDR_V4;
            precache->rules.want_ipv6 |= vmta->addresses[j].ip.family == IPADDR_V6;
        }
    }
    ask_next(shard);
}
