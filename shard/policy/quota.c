#include "shard/policy/quota.h"

/* Sums counts of a kind and the worse ones. */
static int64_t sum_from(const uint32_t counts[QUOTA_KINDS], enum quota_kind kind)
{
    int64_t sum = 0;

    for (unsigned i = kind; i < QUOTA_KINDS; i++)
        sum += counts[i];
    return sum;
}

/* As many as are kept free of this kind at most. */
static uint32_t part(uint32_t slots, enum quota_kind kind)
{
    return kind == QUOTA_SLOW ? slots / 2 : kind == QUOTA_NEW ? slots / 4 : 0;
}

static uint32_t wanted_by(const struct quota *quota, enum quota_kind kind)
{
    return quota->used[kind] + quota->waiting[kind];
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

void quota_note(struct quota *quota, uint64_t now_ns)
{
    if (now_ns >= quota->span_end_ns) {
        bool is_known = quota->span_end_ns != 0 && now_ns - quota->span_end_ns < QUOTA_SPAN_NS;

        quota->peak_before = quota->peak;
        quota->peak = is_known ? 0 : UINT32_MAX;
        quota->span_end_ns = now_ns + QUOTA_SPAN_NS;
    }
    quota->peak = larger(quota->peak, wanted_by(quota, QUOTA_PROVED));
}

uint32_t quota_slots(const struct quota *quota, uint32_t slots, enum quota_kind kind)
{
    uint32_t peak = larger(quota->peak, quota->peak_before);
    uint64_t kept = slots / QUOTA_FLOOR;

    if (quota->span_end_ns == 0)
        return slots - part(slots, kind);
    kept += QUOTA_ROOM * (uint64_t)larger(peak, wanted_by(quota, QUOTA_PROVED));
    if (kind == QUOTA_SLOW)
        kept += wanted_by(quota, QUOTA_NEW);
    return slots - (kept < part(slots, kind) ? (uint32_t)kept : part(slots, kind));
}

bool quota_is_lent(const struct quota *quota, uint32_t slots, enum quota_kind kind)
{
    return sum_from(quota->used, kind) > (int64_t)slots - part(slots, kind);
}

/* What this kind and the worse ones may still have; negative when they have too much. */
static int64_t room(const struct quota *quota, uint32_t slots, enum quota_kind kind)
{
    return quota_slots(quota, slots, kind) - sum_from(quota->used, kind);
}

bool quota_admits(const struct quota *quota, uint32_t slots, enum quota_kind kind)
{
    for (unsigned i = 0; i <= kind; i++)
        if (room(quota, slots, i) <= 0)
            return false;
    return true;
}

uint32_t quota_pressure(const struct quota *quota, uint32_t slots, enum quota_kind kind,
                        bool is_short)
{
    int64_t passing = 0, pressing = 0;

    /* From the worst on: how many pass the bounds that a slot of this kind would not widen. */
    for (unsigned i = QUOTA_KINDS; i-- > 0;) {
        int64_t lacking;

        passing += is_short ? quota->waiting[i] : 0;
        lacking = passing - room(quota, slots, i) - sum_from(quota->closing, i);
        if (i <= kind && lacking > pressing)
            pressing = lacking;
        if (i > kind && lacking > 0)
            passing = passing > lacking ? passing - lacking : 0;
    }
    return (uint32_t)pressing;
}

bool quota_is_overdrawn(const struct quota *quota, uint32_t slots)
{
    return quota->waiting[QUOTA_PROVED] + quota->waiting[QUOTA_NEW] > 0 &&
           room(quota, slots, QUOTA_SLOW) + quota->closing[QUOTA_SLOW] < 0;
}
