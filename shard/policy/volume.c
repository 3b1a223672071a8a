#include "shard/policy/volume.h"

#include "shard/policy/rate.h"

#include <stddef.h>

/* A part gathers the uses of this share of the span: fewer parts than there is room for. */
#define PARTS_IN_SPAN 60

static uint64_t span_of(uint64_t interval_ms)
{
    return interval_ms < RATE_STEP_MAX / 1000000 ? interval_ms * 1000000 + RATE_LATE_NS
                                                 : RATE_STEP_MAX;
}

/* What so much takes of the time. A part is kept for longer than its first uses need, so the pace
 * is as much slower: it, and not the window, is what holds a steady load. */
static uint64_t time_of(const struct volume *volume, uint64_t amount)
{
    unsigned __int128 slow_ns = volume->span_ns + volume->span_ns / PARTS_IN_SPAN;
    unsigned __int128 time_ns;

    if (volume->amount_max == 0)
        return VOLUME_NEVER_NS;
    time_ns = (slow_ns * amount + volume->amount_max - 1) / volume->amount_max;
    return time_ns < VOLUME_NEVER_NS ? (uint64_t)time_ns : VOLUME_NEVER_NS;
}

void volume_init(struct volume *volume, uint64_t amount_max, uint64_t interval_ms, uint64_t burst,
                 uint64_t now_ns)
{
    uint64_t debt = 2 * burst;

    *volume =
        (struct volume){.amount_max = amount_max, .span_ns = span_of(interval_ms), .burst = burst};
    if (burst == 0)
        debt = amount_max / 16 < VOLUME_DEBT_OCTETS ? amount_max / 16 : VOLUME_DEBT_OCTETS;
    volume->free_ns = now_ns + time_of(volume, debt);
}

void volume_change(struct volume *volume, uint64_t amount_max, uint64_t interval_ms, uint64_t burst,
                   uint64_t now_ns)
{
    if (volume->amount_max == 0)
        volume->free_ns = now_ns;
    volume->amount_max = amount_max;
    volume->span_ns = span_of(interval_ms);
    volume->burst = burst;
}

static struct volume_part *part_at(const struct volume *volume, uint32_t position)
{
    return (struct volume_part *)&volume->parts[(volume->first + position) % VOLUME_PARTS_MAX];
}

static bool is_over(const struct volume *volume, const struct volume_part *part, uint64_t now_ns)
{
    return part->last_ns + volume->span_ns <= now_ns;
}

static void drop_old(struct volume *volume, uint64_t now_ns)
{
    while (volume->count > 0 && is_over(volume, part_at(volume, 0), now_ns)) {
        volume->sum -= part_at(volume, 0)->amount;
        volume->first = (volume->first + 1) % VOLUME_PARTS_MAX;
        volume->count--;
    }
}

/* When the window has room; an empty one has room for anything. */
static uint64_t room_ns(const struct volume *volume, uint64_t amount)
{
    uint64_t sum = volume->sum, due_ns = 0;

    for (uint32_t i = 0; i < volume->count && sum > 0; i++) {
        if (amount <= volume->amount_max && sum <= volume->amount_max - amount)
            break;
        sum -= part_at(volume, i)->amount;
        due_ns = part_at(volume, i)->last_ns + volume->span_ns;
    }
    return due_ns;
}

uint64_t volume_due_ns(const struct volume *volume, uint64_t amount)
{
    uint64_t pace_ns = volume->free_ns, saved_ns, window_ns;

    if (volume->amount_max == 0)
        return VOLUME_NEVER_NS;
    if (volume->burst > amount) {
        saved_ns = time_of(volume, volume->burst - amount);
        pace_ns = pace_ns > saved_ns ? pace_ns - saved_ns : 0;
    }
    window_ns = room_ns(volume, amount);
    return pace_ns > window_ns ? pace_ns : window_ns;
}

/* What falls due in a time. */
static uint64_t amount_of(const struct volume *volume, uint64_t time_ns)
{
    unsigned __int128 slow_ns = volume->span_ns + volume->span_ns / PARTS_IN_SPAN;
    unsigned __int128 amount = (unsigned __int128)time_ns * volume->amount_max / slow_ns;

    return amount < volume->amount_max ? (uint64_t)amount : volume->amount_max;
}

/* Units that are saved up: all but those whose time has not come. */
static uint64_t saved(const struct volume *volume, uint64_t now_ns)
{
    uint64_t debt_ns = volume->free_ns > now_ns ? volume->free_ns - now_ns : 0;
    uint64_t owed = amount_of(volume, debt_ns);

    if (owed < volume->burst && time_of(volume, owed) < debt_ns)
        owed++;
    return owed < volume->burst ? volume->burst - owed : 0;
}

/* What the pace gives: units saved, octets that fall due. */
static uint64_t paced(const struct volume *volume, uint64_t now_ns, uint64_t ahead_ns)
{
    uint64_t from_ns = volume->free_ns > now_ns ? volume->free_ns : now_ns;

    if (volume->burst > 0)
        return saved(volume, now_ns);
    return now_ns + ahead_ns > from_ns ? amount_of(volume, now_ns + ahead_ns - from_ns) : 0;
}

uint64_t volume_allowed(const struct volume *volume, uint64_t now_ns, uint64_t ahead_ns)
{
    uint64_t sum = volume->sum, amount;

    if (volume->amount_max == 0)
        return 0;
    for (uint32_t i = 0; i < volume->count && is_over(volume, part_at(volume, i), now_ns); i++)
        sum -= part_at(volume, i)->amount;
    if (sum >= volume->amount_max)
        return 0;
    amount = paced(volume, now_ns, ahead_ns);
    return amount < volume->amount_max - sum ? amount : volume->amount_max - sum;
}

void volume_use(struct volume *volume, uint64_t amount, uint64_t now_ns)
{
    struct volume_part *last;

    if (amount == 0)
        return;
    volume->free_ns =
        (volume->free_ns > now_ns ? volume->free_ns : now_ns) + time_of(volume, amount);
    drop_old(volume, now_ns);
    volume->sum += amount;
    last = volume->count > 0 ? part_at(volume, volume->count - 1) : NULL;
    if (last && (volume->count == VOLUME_PARTS_MAX ||
                 now_ns < last->first_ns + volume->span_ns / PARTS_IN_SPAN)) {
        last->last_ns = now_ns > last->last_ns ? now_ns : last->last_ns;
        last->amount += amount;
        return;
    }
    *part_at(volume, volume->count++) = (struct volume_part){now_ns, now_ns, amount};
}

static uint64_t take_from(struct volume *volume, struct volume_part *part, uint64_t amount)
{
    uint64_t taken = amount < part->amount ? amount : part->amount;

    part->amount -= taken;
    volume->sum -= taken;
    return amount - taken;
}

void volume_give_back(struct volume *volume, uint64_t amount, uint64_t used_ns)
{
    uint64_t time_ns = time_of(volume, amount);

    volume->free_ns = volume->free_ns > time_ns ? volume->free_ns - time_ns : 0;
    for (uint32_t i = 0; i < volume->count; i++)
        if (part_at(volume, i)->first_ns <= used_ns && used_ns <= part_at(volume, i)->last_ns)
            amount = take_from(volume, part_at(volume, i), amount);
    /* What is oldest is over soonest: taking it there never loosens anything. */
    for (uint32_t i = 0; i < volume->count && amount > 0 && used_ns == 0; i++)
        amount = take_from(volume, part_at(volume, i), amount);
}

bool volume_is_owed(const struct volume *volume, uint64_t now_ns)
{
    return volume->free_ns > now_ns || volume_sum(volume, now_ns, &(uint64_t){0}) > 0;
}

uint64_t volume_sum(const struct volume *volume, uint64_t now_ns, uint64_t *ret_last_ns)
{
    uint64_t sum = 0;

    *ret_last_ns = 0;
    for (uint32_t i = 0; i < volume->count; i++) {
        const struct volume_part *part = part_at(volume, i);

        if (is_over(volume, part, now_ns) || part->amount == 0)
            continue;
        sum += part->amount;
        *ret_last_ns = part->last_ns;
    }
    return sum;
}

void volume_resume(struct volume *volume, uint64_t free_ns, uint64_t sum, uint64_t last_ns)
{
    uint64_t before_ns = volume->free_ns;

    if (sum > 0)
        volume_use(volume, sum, last_ns);
    volume->free_ns = free_ns > before_ns ? free_ns : before_ns;
}
