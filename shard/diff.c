#include "shard/diff.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdio.h>

struct lines {
    struct slice *items;
    uint64_t *hashes;
    uint32_t count;
};

static void split(struct lines *lines, struct slice text)
{
    uint32_t most = 1;

    for (size_t i = 0; i < text.len; i++)
        most += text.data[i] == '\n';
    lines->items = mem_alloc(most * sizeof(*lines->items));
    lines->hashes = mem_alloc(most * sizeof(*lines->hashes));
    lines->count = 0;
    while (text.len > 0) {
        size_t len = slice_find(text, '\n');

        lines->items[lines->count] = slice_of(text.data, len);
        lines->hashes[lines->count++] = hash_bytes(text.data, len);
        text = slice_after(text, len < text.len ? len + 1 : len);
    }
}

static void free_lines(struct lines *lines)
{
    mem_free(lines->items);
    mem_free(lines->hashes);
}

struct diff {
    struct lines from;
    struct lines to;
    uint32_t head;  /* lines that both begin with */
    uint32_t tail;  /* and end with */
    bool *is_gone;  /* [from.count] */
    bool *is_new;   /* [to.count] */
    int32_t **rows; /* of the search: row d has what was reached on the diagonals -d … d */
};

static bool is_same(const struct diff *diff, uint32_t a, uint32_t b)
{
    return diff->from.hashes[a] == diff->to.hashes[b] &&
           slice_equal(diff->from.items[a], diff->to.items[b]);
}

static void trim(struct diff *diff)
{
    uint32_t least = diff->from.count < diff->to.count ? diff->from.count : diff->to.count;

    while (diff->head < least && is_same(diff, diff->head, diff->head))
        diff->head++;
    while (diff->tail < least - diff->head &&
           is_same(diff, diff->from.count - 1 - diff->tail, diff->to.count - 1 - diff->tail))
        diff->tail++;
}

/* ---- The search ------------------------------------------------------------------------------ */

/* How far the row reaches on the diagonal k; behind its ends nothing was reached. */
static int32_t reach(const int32_t *row, int32_t d, int32_t k)
{
    return k < -d || k > d ? -1 : row[k + d];
}

static bool comes_down(const int32_t *before, int32_t d, int32_t k)
{
    return k == -d || (k != d && reach(before, d - 1, k - 1) < reach(before, d - 1, k + 1));
}

/* One more change on each diagonal; true at the end of both. n, m: lines that are compared. */
static bool advance(const struct diff *diff, int32_t d, int32_t n, int32_t m)
{
    const int32_t *before = d > 0 ? diff->rows[d - 1] : NULL;
    int32_t *row = diff->rows[d];

    for (int32_t k = -d; k <= d; k += 2) {
        int32_t x = 0;

        if (d > 0)
            x = comes_down(before, d, k) ? reach(before, d - 1, k + 1)
                                         : reach(before, d - 1, k - 1) + 1;
        while (x < n && x - k < m &&
               is_same(diff, diff->head + (uint32_t)x, diff->head + (uint32_t)(x - k)))
            x++;
        row[k + d] = x;
        if (x >= n && x - k >= m)
            return true;
    }
    return false;
}

/* Back from the end: which lines the way left out. */
static void trace(struct diff *diff, int32_t d, int32_t n, int32_t m)
{
    int32_t x = n, y = m;

    for (; d > 0; d--) {
        const int32_t *before = diff->rows[d - 1];
        int32_t k = x - y;

        if (comes_down(before, d, k)) {
            x = reach(before, d - 1, k + 1);
            y = x - (k + 1);
            diff->is_new[diff->head + (uint32_t)y] = true;
        } else {
            x = reach(before, d - 1, k - 1);
            y = x - (k - 1);
            diff->is_gone[diff->head + (uint32_t)x] = true;
        }
    }
}

static void replace_all(struct diff *diff)
{
    for (uint32_t i = diff->head; i < diff->from.count - diff->tail; i++)
        diff->is_gone[i] = true;
    for (uint32_t i = diff->head; i < diff->to.count - diff->tail; i++)
        diff->is_new[i] = true;
}

static void search(struct diff *diff)
{
    int32_t n = (int32_t)(diff->from.count - diff->head - diff->tail);
    int32_t m = (int32_t)(diff->to.count - diff->head - diff->tail);
    bool is_found = false;
    int32_t d;

    diff->rows = mem_alloc((DIFF_CHANGES_MAX + 1) * sizeof(*diff->rows));
    for (d = 0; d <= (int32_t)DIFF_CHANGES_MAX && !is_found; d++) {
        diff->rows[d] = mem_alloc((size_t)(2 * d + 1) * sizeof(int32_t));
        is_found = advance(diff, d, n, m);
    }
    if (is_found)
        trace(diff, d - 1, n, m);
    else
        replace_all(diff);
    while (d > 0)
        mem_free(diff->rows[--d]);
    mem_free(diff->rows);
}

/* ---- Telling --------------------------------------------------------------------------------- */

/* A place in both texts. */
struct place {
    uint32_t from;
    uint32_t to;
};

static bool is_end(const struct diff *diff, struct place at)
{
    return at.from == diff->from.count && at.to == diff->to.count;
}

static bool is_change(const struct diff *diff, struct place at)
{
    return (at.from < diff->from.count && diff->is_gone[at.from]) ||
           (at.to < diff->to.count && diff->is_new[at.to]);
}

/* The mark of the line here, and the place behind it. */
static char step(const struct diff *diff, struct place *at)
{
    if (at->from < diff->from.count && diff->is_gone[at->from]) {
        at->from++;
        return '-';
    }
    if (at->to < diff->to.count && diff->is_new[at->to]) {
        at->to++;
        return '+';
    }
    must(at->from < diff->from.count && at->to < diff->to.count);
    at->from++;
    at->to++;
    return ' ';
}

/* Where the changes end that are told together, with the lines after the last one. */
static struct place hunk_end(const struct diff *diff, struct place at)
{
    struct place end = at;
    uint32_t same = 0;

    while (!is_end(diff, at) && same <= 2 * DIFF_CONTEXT) {
        bool is_same_line = step(diff, &at) == ' ';

        same = is_same_line ? same + 1 : 0;
        if (same <= DIFF_CONTEXT)
            end = at;
    }
    return end;
}

static void tell_hunk(const struct diff *diff, struct place at, struct place end,
                      diff_line_fn *each, void *context)
{
    char heading[96];
    int len = snprintf(heading, sizeof(heading), "@@ -%u,%u +%u,%u @@", at.from + 1,
                       end.from - at.from, at.to + 1, end.to - at.to);

    each(context, '@', slice_of(heading, (size_t)len));
    while (at.from < end.from || at.to < end.to) {
        struct place before = at;
        char mark = step(diff, &at);

        each(context, mark,
             mark == '+' ? diff->to.items[before.to] : diff->from.items[before.from]);
    }
}

static void tell(const struct diff *diff, diff_line_fn *each, void *context)
{
    struct place at = {0, 0};

    while (!is_end(diff, at)) {
        struct place start = at;
        uint32_t same = 0;

        while (!is_end(diff, at) && !is_change(diff, at)) {
            step(diff, &at);
            same++;
        }
        if (is_end(diff, at))
            return;
        if (same > DIFF_CONTEXT)
            start = (struct place){at.from - DIFF_CONTEXT, at.to - DIFF_CONTEXT};
        at = hunk_end(diff, at);
        tell_hunk(diff, start, at, each, context);
    }
}

void diff_texts(struct slice from, struct slice to, diff_line_fn *each, void *context)
{
    struct diff diff = {0};

    split(&diff.from, from);
    split(&diff.to, to);
    trim(&diff);
    diff.is_gone = mem_alloc(diff.from.count + 1);
    diff.is_new = mem_alloc(diff.to.count + 1);
    search(&diff);
    tell(&diff, each, context);
    mem_free(diff.is_gone);
    mem_free(diff.is_new);
    free_lines(&diff.from);
    free_lines(&diff.to);
}
