#include "tests/sim/product/weather.h"

#define MILLISECOND_NS 1000000ull

/* Most spells are short, some outlast every timer of the product. */
static uint64_t draw_duration_ns(struct rng *rng)
{
    uint64_t most_ms = 100;

    while (most_ms < 600000 && rng_one_in(rng, 2))
        most_ms *= 4;
    return rng_between(rng, 1, most_ms) * MILLISECOND_NS;
}

static void set_road(struct weather *weather, enum sim_route route)
{
    struct cidr to = {{IPADDR_V4, {10, 0, (uint8_t)weather->place, 1}}, 32};

    sim_route(weather->world, &to, route);
}

static void set_spell(struct weather *weather, bool on)
{
    const struct ipaddr source = {IPADDR_V4, {10, 9, 0, (uint8_t)(weather->place + 1)}};
    struct rng *rng = sim_rng(weather->world);
    uint64_t used = sim_disk_used(weather->world);
    /* Half the time there is hardly room for the outcomes. */
    uint64_t room = rng_one_in(rng, 2) ? rng_below(rng, 1 << 20) : rng_between(rng, 65536, 131071);

    switch (weather->spell) {
    case WEATHER_disk_full:
        sim_disk_limit(weather->world, on ? used + room : weather->disk_bytes);
        break;
    case WEATHER_quota_met:
        sim_disk_quota(weather->world, on ? used + room : UINT64_MAX);
        break;
    case WEATHER_disk_dead:
        weather->write_failed =
            on ? sim_faults(weather->world)->write_failed : weather->write_failed;
        sim_faults(weather->world)->write_failed = on ? 1 : weather->write_failed;
        break;
    case WEATHER_source_gone:
        sim_source_disable(weather->world, &source, on);
        break;
    case WEATHER_road_refuses:
        set_road(weather, on ? SIM_ROUTE_REFUSE : SIM_ROUTE_OPEN);
        break;
    case WEATHER_road_drops:
        set_road(weather, on ? SIM_ROUTE_DROP : SIM_ROUTE_OPEN);
        break;
    default:
        set_road(weather, on ? SIM_ROUTE_NO_HOST : SIM_ROUTE_OPEN);
        break;
    }
    if (weather->spell <= WEATHER_disk_dead)
        weather->disk_good_from_ns = on ? UINT64_MAX : sim_now_ns(weather->world);
}

void weather_begin(struct weather *weather)
{
    weather->change_ns = sim_now_ns(weather->world) + draw_duration_ns(sim_rng(weather->world));
}

void weather_bring(struct weather *weather, enum weather_spell spell, uint64_t for_ns)
{
    struct rng *rng = sim_rng(weather->world);

    weather_end(weather);
    weather->change_ns = sim_now_ns(weather->world) + for_ns;
    weather->is_foul = true;
    weather->spell = spell;
    weather->place = (uint32_t)rng_below(
        rng, spell == WEATHER_source_gone ? weather->source_count : weather->receiver_count);
    weather->counts[spell]++;
    set_spell(weather, true);
}

void weather_tend(struct weather *weather)
{
    struct rng *rng = sim_rng(weather->world);

    if (sim_now_ns(weather->world) < weather->change_ns)
        return;
    if (!weather->is_foul) {
        weather_bring(weather, (enum weather_spell)rng_below(rng, WEATHER_SPELL_COUNT),
                      draw_duration_ns(rng));
        return;
    }
    weather_end(weather);
    weather->change_ns = sim_now_ns(weather->world) + draw_duration_ns(rng);
}

void weather_end(struct weather *weather)
{
    if (weather->is_foul)
        set_spell(weather, false);
    weather->is_foul = false;
    weather->change_ns = UINT64_MAX;
}
