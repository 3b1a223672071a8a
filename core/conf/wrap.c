#include "core/conf/wrap.h"

#include "core/conf/pattern_list.h"
#include "core/conf/value.h"

/* More lines are no broken line but a mistake. */
#define LINES_MAX 16
/* Octets on both sides of a seam. */
#define SEAM_SIDE 24

bool wrap_split(struct slice text, struct slice *ret_pattern, struct slice *ret_category)
{
    struct slice category;
    size_t end = text.len;

    while (end > 1 && text.data[end - 1] != '/')
        end--;
    category = list_skip_flag(slice_after(text, end));
    if (end < 2 || text.data[0] != '/' || category.len == 0)
        return false;
    for (size_t i = 0; i < category.len; i++) {
        if (value_is_blank(category.data[i]))
            return false;
    }
    *ret_pattern = slice_of(text.data + 1, end - 2);
    *ret_category = category;
    return true;
}

/* A blank before the end of the line belongs to the pattern; those that indent the next do not. */
static struct slice put_together(struct arena *arena, struct slice text, bool has_blank,
                                 struct slice more)
{
    char *room = arena_alloc(arena, text.len + has_blank + more.len + 1);

    memcpy(room, text.data, text.len);
    room[text.len] = ' ';
    memcpy(room + text.len + has_blank, more.data, more.len);
    return slice_of(room, text.len + has_blank + more.len);
}

/* Whether a blank of the same line stands behind what reader_next has given. */
static bool has_blank_behind(const struct reader *reader, struct slice content)
{
    const uint8_t *end = content.data + content.len;

    return end < (const uint8_t *)reader->text + reader->len && value_is_blank(*end);
}

/* Starts and ends between characters. */
static struct slice around(struct slice whole, size_t at)
{
    size_t from = at > SEAM_SIDE ? at - SEAM_SIDE : 0;
    size_t to = whole.len - at > SEAM_SIDE ? at + SEAM_SIDE : whole.len;

    while (from < at && (whole.data[from] & 0xc0) == 0x80)
        from++;
    while (to < whole.len && (whole.data[to] & 0xc0) == 0x80)
        to++;
    return slice_of(whole.data + from, to - from);
}

bool wrap_join(struct reader *reader, struct arena *arena, struct slice first,
               struct slice *ret_whole, struct slice *ret_seam)
{
    bool has_blank = has_blank_behind(reader, first);
    struct reader ahead = *reader;
    struct slice whole = first;

    for (unsigned lines = 0; lines < LINES_MAX; lines++) {
        struct slice more, pattern, category;

        if (reader_next(&ahead, &more) <= 0)
            return false;
        if (more.len == 0)
            continue;
        if (more.data[0] == '/' || more.data[0] == '<' || whole.len + more.len >= READER_LINE_MAX)
            return false;
        whole = put_together(arena, whole, has_blank, more);
        has_blank = has_blank_behind(&ahead, more);
        if (wrap_split(whole, &pattern, &category)) {
            *reader = ahead;
            *ret_whole = whole;
            *ret_seam = around(whole, first.len);
            return true;
        }
    }
    return false;
}
