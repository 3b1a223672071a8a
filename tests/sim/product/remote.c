#include "tests/sim/product/remote_int.h"

void remote_start(struct remote *remote, struct sim_world *world, struct ledger *ledger,
                  uint32_t receiver_count)
{
    remote->world = world;
    remote->ledger = ledger;
    remote->receiver_count = receiver_count;
    for (uint32_t i = 0; i < receiver_count; i++) {
        struct ipaddr_port at = {{IPADDR_V4, {10, 0, (uint8_t)i, 1}}, 25};

        remote->receivers[i] = sim_peer_listen(world, &at, &receiver_handlers, remote);
    }
    remote->injector = sim_peer_create(world, &injector_handlers, remote);
}

void remote_tend(struct remote *remote)
{
    const struct ipaddr source = {IPADDR_V4, {127, 0, 0, 1}};

    if (!remote->inject || remote->ledger->next == remote->ledger->count)
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
