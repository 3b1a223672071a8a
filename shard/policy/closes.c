#include "shard/policy/closes.h"

bool closes_on_open(struct closes *closes)
{
    return closes->limit > 0 && ++closes->opened % CLOSES_PROBE == 0;
}

void closes_note(struct closes *closes, uint32_t served)
{
    closes->seen = served == closes->after ? closes->seen + 1 : 1;
    closes->after = served;
    if (closes->seen < CLOSES_SEEN)
        return;
    closes->limit = served;
    closes->seen = CLOSES_SEEN;
}

void closes_on_served(struct closes *closes, uint32_t served)
{
    if (closes->limit > 0 && served > closes->limit)
        *closes = (struct closes){0};
}

bool closes_is_due(const struct closes *closes, uint32_t served)
{
    return closes->limit > 0 && served >= closes->limit;
}
