#include "shard/policy/quota.h"

uint32_t quota_slots(uint32_t slots, enum quota_kind kind)
{
    return slots - (kind == QUOTA_SLOW ? slots / 2 : kind == QUOTA_NEW ? slots / 4 : 0);
}

/* Sums counts of a kind and the worse ones. */
static int64_t sum_from(const uint32_t counts[QUOTA_KINDS], enum quota_kind kind)
{
    int64_t sum = 0;

    for (unsigned i = kind; i < QUOTA_KINDS; i++)
        sum += counts[i];
    return sum;
}

/* What this kind and the worse ones may still have; negative when they have too much. */
static int64_t room(const struct quota *quota, uint32_t slots, enum quota_kind kind)
{
    return quota_slots(slots, kind) - sum_from(quota->used, kind);
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
