#include "tests/sim/product/remote_int.h"

/* remote_tend, which is called between steps, looks at the clock itself. */
static void on_rest_over(struct io_timer *timer)
{
    (void)timer;
}

void remote_start(struct remote *remote, struct sim_world *world, struct ledger *ledger,
                  uint32_t receiver_count)
{
    const struct ipaddr_port postbox_at = {{IPADDR_V4, {10, 0, 200, 1}}, 25};

    remote->world = world;
    remote->ledger = ledger;
    remote->receiver_count = receiver_count;
    remote->start_ns = sim_now_ns(world);
    list_init(&remote->owing);
    for (uint32_t i = 0; i < receiver_count; i++) {
        struct ipaddr_port at = {{IPADDR_V4, {10, 0, (uint8_t)i, 1}}, 25};
        uint64_t lot = rng_below(sim_rng(world), 2 * model_count);

        remote->rules[i] = rules_create();
        remote->models[i] = lot < model_count ? &models[lot] : NULL;
        if (remote->models[i])
            model_add(remote->models[i], remote->rules[i]);
        remote->receivers[i] = sim_peer_listen(world, &at, &receiver_handlers, remote);
    }
    remote->postbox = sim_peer_listen(world, &postbox_at, &postbox_handlers, remote);
    remote->injector = sim_peer_create(world, &injector_handlers, remote);
    io_timer_init(&remote->rest, on_rest_over);
}

void remote_end(struct remote *remote, struct remote_models *sums)
{
    for (uint32_t i = 0; i < remote->receiver_count; i++) {
        const struct model *model = remote->models[i];

        for (uint32_t rule = 0; sums && model && rule < rules_count(remote->rules[i]); rule++)
            sums->played[model - models] += rules_played(remote->rules[i], rule);
        if (sums && model)
            sums->drawn[model - models]++;
        rules_destroy(remote->rules[i]);
    }
}

void remote_tend(struct remote *remote)
{
    const struct ipaddr source = {IPADDR_V4, {127, 0, 0, 1}};

    if (!remote->inject || ledger_all_sent(remote->ledger) ||
        sim_now_ns(remote->world) < remote->rest_until_ns)
        return;
    while (sim_peer_open_count(remote->injector) < remote->session_count)
        sim_peer_connect(remote->injector, &source, &remote->product);
}

struct remote_faults remote_faults_some(struct rng *rng)
{
    struct remote_faults rates;

#define REMOTE_DRAW(name, text) rates.name = (uint32_t)rng_between(rng, 15, 150);
    REMOTE_FAULTS(REMOTE_DRAW)
#undef REMOTE_DRAW
    return rates;
}
