#include "shard/policy/breaker.h"

#include <string.h>

#define HOUR_NS      (3600 * 1000000000ull)
#define SILENCE_NS   (12 * HOUR_NS)
#define BASE_HARD    10u /* 5 % of a few hundred, until more is known */
#define BASE_ALL     200u
#define BASE_ALL_MAX 20000u /* then both are halved */
#define SHARE_MIN    250u   /* per mille */
#define SHARE_MAX    750u
#define JUMP         5u
#define NEAR         2u

static void clear(struct breaker_book *book, uint64_t now_ns)
{
    memset(book->parts, 0, sizeof(book->parts));
    book->newest = 0;
    book->parts[0].began_ns = now_ns;
}

void breaker_begin(struct breaker_book *book, uint64_t now_ns)
{
    *book = (struct breaker_book){
        .base_hard = BASE_HARD, .base_all = BASE_ALL, .since_ns = now_ns, .counted_ns = now_ns};
    clear(book, now_ns);
}

void breaker_set(struct breaker_book *book, enum breaker_state state, uint64_t until_ns,
                 uint64_t now_ns)
{
    book->state = state;
    book->since_ns = now_ns;
    book->until_ns = until_ns;
    book->counted_ns = now_ns;
    clear(book, now_ns);
}

static void learn(struct breaker_book *book, const struct breaker_part *part)
{
    book->base_hard += part->hard;
    book->base_all += part->all;
    if (book->base_all > BASE_ALL_MAX) {
        book->base_hard /= 2;
        book->base_all /= 2;
    }
}

static void add(struct breaker_book *book, uint32_t hard, uint32_t good, uint64_t now_ns)
{
    struct breaker_part *part = &book->parts[book->newest];

    if (part->all >= BREAKER_PART_COUNT) {
        book->newest = (book->newest + 1) % BREAKER_PARTS;
        part = &book->parts[book->newest];
        if (book->state == BREAKER_CLOSED)
            learn(book, part);
        *part = (struct breaker_part){.began_ns = now_ns};
    }
    if (part->all == 0)
        part->began_ns = now_ns;
    part->hard += hard;
    part->all += hard + good;
}

static struct breaker_part sum(const struct breaker_book *book, uint64_t now_ns)
{
    struct breaker_part sum = {0};

    for (uint32_t i = 0; i < BREAKER_PARTS; i++)
        if (book->parts[i].began_ns + HOUR_NS > now_ns) {
            sum.hard += book->parts[i].hard;
            sum.all += book->parts[i].all;
        }
    return sum;
}

/* So many times the baseline, within the bounds. */
static uint32_t bound(const struct breaker_book *book, uint32_t factor)
{
    uint32_t share = factor * breaker_baseline(book);

    return share < SHARE_MIN ? SHARE_MIN : share > SHARE_MAX ? SHARE_MAX : share;
}

static bool is_jump(const struct breaker_book *book, uint64_t now_ns)
{
    struct breaker_part fast = sum(book, now_ns);

    return fast.hard >= BREAKER_HARD_MIN && fast.hard * 1000 > fast.all * bound(book, JUMP);
}

static bool is_over(const struct breaker_book *book, uint64_t now_ns)
{
    struct breaker_part fast = sum(book, now_ns);
    bool is_late = now_ns - book->since_ns > HOUR_NS;

    return fast.all >= (is_late ? BREAKER_PROOF_LATE : BREAKER_PROOF) &&
           fast.hard * 1000 <= fast.all * bound(book, NEAR);
}

bool breaker_count(struct breaker_book *book, uint32_t hard, uint32_t good, uint64_t now_ns)
{
    bool is_silent = now_ns - book->counted_ns > SILENCE_NS;
    bool is_past = book->state == BREAKER_PASSING && now_ns >= book->until_ns;

    if ((book->state == BREAKER_OPEN && is_silent) || is_past) {
        breaker_set(book, BREAKER_CLOSED, 0, now_ns);
        breaker_count(book, hard, good, now_ns);
        return true;
    }
    if (hard + good == 0)
        return false;
    book->counted_ns = now_ns;
    add(book, hard, good, now_ns);
    if (book->state == BREAKER_CLOSED && hard > 0 && is_jump(book, now_ns))
        breaker_set(book, BREAKER_OPEN, 0, now_ns);
    else if (book->state == BREAKER_OPEN && is_over(book, now_ns))
        breaker_set(book, BREAKER_CLOSED, 0, now_ns);
    else
        return false;
    return true;
}

uint32_t breaker_share(const struct breaker_book *book, uint64_t now_ns)
{
    struct breaker_part fast = sum(book, now_ns);

    return fast.all > 0 ? fast.hard * 1000 / fast.all : 0;
}

uint32_t breaker_baseline(const struct breaker_book *book)
{
    return book->base_hard * 1000 / book->base_all;
}
