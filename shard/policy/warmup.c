#include "shard/policy/warmup.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/base/wire.h"

#define BOOK_VERSION 1

static bool is_at_least(uint64_t part, uint64_t whole, uint32_t percent)
{
    return part * 100 >= whole * percent;
}

/* As the worst case has it: each attempt that a crash made unknown was deferred. */
static bool is_deferred_too_often(const struct warmup_schedule *schedule,
                                  const struct warmup_counts *counts)
{
    return is_at_least(counts->deferred + counts->lost, counts->used + counts->lost,
                       schedule->deferral_percent);
}

uint32_t warmup_next_step(const struct warmup_schedule *schedule, uint32_t step,
                          const struct warmup_counts *counts)
{
    uint64_t cap = schedule->caps[step];
    uint32_t last = schedule->step_count - 1;

    if (schedule->by_day)
        return step < last ? step + 1 : last;
    if (counts->blocked > 0 || (counts->used > 0 && is_at_least(counts->deferred, counts->used,
                                                                2 * schedule->deferral_percent)))
        return step > 0 ? step - 1 : 0;
    if (cap == 0 || !is_at_least(counts->used, cap, schedule->used_percent) ||
        is_deferred_too_often(schedule, counts))
        return step;
    return step < last ? step + 1 : last;
}

uint64_t warmup_cap(const struct warmup_schedule *schedule, const struct warmup_book *book)
{
    must(schedule->step_count > 0 && schedule->step_count <= WARMUP_STEPS_MAX);
    return schedule
        ->caps[book->step < schedule->step_count ? book->step : schedule->step_count - 1];
}

bool warmup_turn_to(const struct warmup_schedule *schedule, struct warmup_book *book, int32_t day)
{
    uint32_t last = schedule->step_count - 1;

    if (book->step > last) /* a shorter schedule came by a reload */
        book->step = last;
    if (!book->is_begun) {
        *book = (struct warmup_book){.is_begun = true, .day = day, .last_used_day = day};
        return true;
    }
    if (day <= book->day)
        return false;
    if (book->counts.granted > 0)
        book->last_used_day = book->day;
    if (day - book->last_used_day > (int64_t)schedule->idle_days) {
        book->step = 0;
    } else if (schedule->by_day) {
        uint64_t days = (uint64_t)((int64_t)day - book->day) + book->step;

        book->step = days < last ? (uint32_t)days : last;
    } else if (book->counts.granted > 0) {
        book->step = warmup_next_step(schedule, book->step, &book->counts);
    }
    book->day = day;
    book->counts = (struct warmup_counts){0};
    return true;
}

/* How much of the cap may be out at that moment. */
static uint64_t due(uint64_t cap, uint64_t block, int64_t moment_s, int64_t from_s, int64_t until_s)
{
    uint64_t share;

    if (from_s == 0 && until_s == 0)
        return cap;
    if (moment_s < from_s || moment_s >= until_s)
        return 0;
    share = (uint64_t)((unsigned __int128)cap * (uint64_t)(moment_s - from_s) /
                       (uint64_t)(until_s - from_s));
    /* The block that is being used up counts from its beginning. */
    return share + block < cap ? share + block : cap;
}

uint64_t warmup_grant(const struct warmup_schedule *schedule, struct warmup_book *book,
                      uint64_t wanted, int64_t moment_s, int64_t from_s, int64_t until_s)
{
    uint64_t cap = warmup_cap(schedule, book);
    uint64_t block = cap / WARMUP_BLOCKS > 0 ? cap / WARMUP_BLOCKS : 1;
    uint64_t most = due(cap, block, moment_s, from_s, until_s), count;

    if (!book->is_begun || book->counts.granted >= most)
        return 0;
    count = most - book->counts.granted;
    count = count < block ? count : block;
    count = count < wanted ? count : wanted;
    book->counts.granted += count;
    return count;
}

void warmup_report(struct warmup_book *book, int32_t day, uint64_t used, uint64_t deferred,
                   uint64_t blocked)
{
    if (!book->is_begun || day != book->day)
        return;
    book->counts.used += used;
    book->counts.deferred += deferred;
    book->counts.blocked += blocked;
}

size_t warmup_encode(const struct warmup_book *book, uint8_t *room)
{
    struct wire_writer w;

    wire_writer_init(&w, room, WARMUP_BOOK_BYTES);
    wire_put_u16(&w, BOOK_VERSION);
    wire_put_u32(&w, (uint32_t)book->day);
    wire_put_u32(&w, (uint32_t)book->last_used_day);
    wire_put_u32(&w, book->step);
    wire_put_u64(&w, book->counts.granted);
    wire_put_u64(&w, book->counts.used);
    wire_put_u64(&w, book->counts.deferred);
    wire_put_u64(&w, book->counts.blocked);
    return wire_written(&w);
}

int warmup_decode(struct slice value, struct warmup_book *ret_book)
{
    struct warmup_book book = {.is_begun = true};
    struct wire_reader r;

    wire_reader_init(&r, value.data, value.len);
    if (wire_get_u16(&r) != BOOK_VERSION)
        return E_DAMAGED;
    book.day = (int32_t)wire_get_u32(&r);
    book.last_used_day = (int32_t)wire_get_u32(&r);
    book.step = wire_get_u32(&r);
    book.counts.granted = wire_get_u64(&r);
    book.counts.used = wire_get_u64(&r);
    book.counts.deferred = wire_get_u64(&r);
    book.counts.blocked = wire_get_u64(&r);
    if (r.failed)
        return E_DAMAGED;
    if (book.counts.granted > book.counts.used)
        book.counts.lost = book.counts.granted - book.counts.used;
    *ret_book = book;
    return 0;
}
