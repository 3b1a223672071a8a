/*
 * Where a timer lives follows from its tick and the present one, each read as digits of 8 bits.
 * Levels 0 to 2 hold the timers that share all higher digits with now: the level is that of the
 * highest digit that differs, the slot is that digit. So within these levels every occupied slot
 * lies ahead of now without wrapping, and everything on a level is due before anything on a higher
 * one. Level 3 is circular: its slots are up to 255 top digits ahead; what lies further is parked
 * in the last of them and placed anew when the clock gets there.
 *
 * The clock moves in steps from one occupied slot to the next: a slot of level 0 is due, a slot of
 * a higher level is spread over the lower ones. Jumping over empty slots keeps the rule above.
 */
#include "core/base/wheel.h"

#include "core/base/must.h"

#define WHEEL_LEVELS 4
#define WHEEL_SLOTS  256u

void wheel_init(struct wheel *wheel, uint64_t now_ns)
{
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
        for (int word = 0; word < 4; word++)
            wheel->bitmap[level][word] = 0;
    }
    wheel->now_tick = now_ns / WHEEL_TICK_NS;
    wheel->armed_count = 0;
}

void wheel_timer_init(struct wheel_timer *timer)
{
    list_init(&timer->link);
    timer->at_tick = 0;
}

/* Links a timer whose at_tick is not before now_tick. */
static void place(struct wheel *wheel, struct wheel_timer *timer)
{
    uint64_t differ = timer->at_tick ^ wheel->now_tick;
    unsigned level;
    unsigned slot;

    if (differ < 1ull << 24) {
        level = differ < 1u << 8 ? 0 : differ < 1u << 16 ? 1 : 2;
        slot = (timer->at_tick >> (8 * level)) & 255;
    } else {
        uint64_t top_now = wheel->now_tick >> 24;
        uint64_t top_at = timer->at_tick >> 24;

        level = 3;
        slot = (top_at - top_now > 255 ? top_now + 255 : top_at) & 255;
    }
    list_push_back(&wheel->slots[level][slot], &timer->link);
    wheel->bitmap[level][slot / 64] |= 1ull << (slot % 64);
}

/* Unlinks the timer from its slot, or from the `due` list it waits in. */
static void unlink_timer(struct wheel *wheel, struct wheel_timer *timer)
{
    struct list *next = timer->link.next;
    bool alone = next == timer->link.prev && next != &timer->link;
    struct list *first_slot = &wheel->slots[0][0];

    list_remove(&timer->link);
    /* Both neighbours the same: that is the head. A head outside of the wheel is a `due` list. */
    if (alone && (uintptr_t)next >= (uintptr_t)first_slot &&
        (uintptr_t)next < (uintptr_t)(first_slot + WHEEL_LEVELS * WHEEL_SLOTS)) {
        size_t number = (size_t)(next - first_slot);
        unsigned slot = number % WHEEL_SLOTS;

        wheel->bitmap[number / WHEEL_SLOTS][slot / 64] &= ~(1ull << (slot % 64));
    }
}

void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t at_ns)
{
    /* Rounded up: a timer never fires before its time. */
    uint64_t at_tick = at_ns / WHEEL_TICK_NS + (at_ns % WHEEL_TICK_NS != 0);

    wheel_stop(wheel, timer);
    /* A past time is due in the present slot, which the next advance looks at first. */
    if (at_tick < wheel->now_tick)
        at_tick = wheel->now_tick;
    /* 0 means not armed; a wheel that starts at tick 0 gives up one tick for it. */
    if (at_tick == 0)
        at_tick = 1;
    timer->at_tick = at_tick;
    wheel->armed_count++;
    place(wheel, timer);
}

void wheel_stop(struct wheel *wheel, struct wheel_timer *timer)
{
    unlink_timer(wheel, timer);
    if (timer->at_tick != 0) {
        must(wheel->armed_count > 0);
        wheel->armed_count--;
        timer->at_tick = 0;
    }
}

/* The first occupied slot at or after `from`, or WHEEL_SLOTS. */
static unsigned find_slot(const uint64_t *bitmap, unsigned from)
{
    uint64_t bits;

    if (from >= WHEEL_SLOTS)
        return WHEEL_SLOTS;
    bits = bitmap[from / 64] & (UINT64_MAX << (from % 64));
    for (unsigned word = from / 64;;) {
        if (bits != 0)
            return word * 64 + (unsigned)__builtin_ctzll(bits);
        if (++word == 4)
            return WHEEL_SLOTS;
        bits = bitmap[word];
    }
}

/* The occupied slot whose first tick comes next; *ret_tick is that tick. False when none is. */
static bool next_slot(const struct wheel *wheel, unsigned *ret_level, unsigned *ret_slot,
                      uint64_t *ret_tick)
{
    uint64_t now = wheel->now_tick;
    unsigned slot;

    for (unsigned level = 0; level < 3; level++) {
        unsigned shift = 8 * level;

        slot = find_slot(wheel->bitmap[level], (now >> shift) & 255);
        if (slot < WHEEL_SLOTS) {
            *ret_level = level;
            *ret_slot = slot;
            *ret_tick = (now >> (shift + 8) << (shift + 8)) | ((uint64_t)slot << shift);
            return true;
        }
    }
    /* The present slot of the top level is always empty, so one turn around finds the rest. */
    slot = find_slot(wheel->bitmap[3], (unsigned)((now >> 24) & 255) + 1);
    if (slot == WHEEL_SLOTS)
        slot = find_slot(wheel->bitmap[3], 0);
    if (slot == WHEEL_SLOTS)
        return false;
    *ret_level = 3;
    *ret_slot = slot;
    *ret_tick = ((now >> 24) + ((slot - (now >> 24)) & 255)) << 24;
    return true;
}

/* Moves the timers of a slot to `due` (level 0) or down to where they belong now. */
static void empty_slot(struct wheel *wheel, unsigned level, unsigned slot, struct list *due)
{
    struct list *head = &wheel->slots[level][slot];
    struct list *node;

    wheel->bitmap[level][slot / 64] &= ~(1ull << (slot % 64));
    while ((node = list_pop_front(head)) != NULL) {
        struct wheel_timer *timer = container_of(node, struct wheel_timer, link);

        if (level > 0) {
            place(wheel, timer);
            continue;
        }
        must_slow(timer->at_tick <= wheel->now_tick);
        timer->at_tick = 0;
        wheel->armed_count--;
        list_push_back(due, node);
    }
}

void wheel_advance(struct wheel *wheel, uint64_t now_ns, struct list *due)
{
    uint64_t target = now_ns / WHEEL_TICK_NS;
    uint64_t tick = 0;
    unsigned level = 0;
    unsigned slot = 0;

    if (target < wheel->now_tick)
        target = wheel->now_tick;
    while (next_slot(wheel, &level, &slot, &tick) && tick <= target) {
        wheel->now_tick = tick;
        empty_slot(wheel, level, slot, due);
    }
    wheel->now_tick = target;
}

uint64_t wheel_next_ns(const struct wheel *wheel)
{
    uint64_t tick = 0;
    unsigned level = 0;
    unsigned slot = 0;

    if (!next_slot(wheel, &level, &slot, &tick))
        return UINT64_MAX;
    /* Parked far beyond what nanoseconds can count. */
    return tick > UINT64_MAX / WHEEL_TICK_NS ? UINT64_MAX : tick * WHEEL_TICK_NS;
}
