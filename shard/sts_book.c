/*
 * The text: a line for each policy, "DOMAIN ID FETCHED USED OCTETS", and behind it the octets of
 * the policy, the last of which is a line end.
 */
#include "shard/sts_book.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <inttypes.h>
#include <stdio.h>

#define ROW_MAX     (STS_BOOK_NAME_MAX + STS_ID_BYTES_MAX + 80)
#define FIELD_COUNT 5

void sts_book_init(struct sts_book *book, uint32_t count_max)
{
    *book = (struct sts_book){0};
    slab_init(&book->slab, sizeof(struct sts_known), count_max);
    table_init(&book->table);
    list_init(&book->by_use);
}

static uint64_t hash_of(struct slice domain)
{
    return hash_bytes(domain.data, domain.len);
}

static void drop_text(struct sts_book *book, struct sts_known *known)
{
    book->text_bytes -= known->text_len;
    mem_free(known->text);
    known->text = NULL;
    known->text_len = 0;
}

static void drop(struct sts_book *book, struct sts_known *known)
{
    drop_text(book, known);
    list_remove(&known->link);
    table_remove(&book->table, hash_of(slice_str(known->domain)), known->index);
    slab_free(&book->slab, known->index);
}

void sts_book_fini(struct sts_book *book)
{
    while (!list_empty(&book->by_use))
        drop(book, container_of(book->by_use.next, struct sts_known, link));
    table_fini(&book->table);
    slab_fini(&book->slab);
}

static bool is_of(uint32_t value, const void *key, void *context)
{
    const struct sts_known *known = slab_at(context, value);

    return slice_equal(slice_str(known->domain), *(const struct slice *)key);
}

struct sts_known *sts_book_find(const struct sts_book *book, struct slice domain)
{
    uint32_t index =
        table_find(&book->table, hash_of(domain), is_of, &domain, (void *)(uintptr_t)&book->slab);

    return index == TABLE_NONE ? NULL : slab_at(&book->slab, index);
}

static bool forget_one(struct sts_book *book)
{
    list_for_each (link, &book->by_use) {
        struct sts_known *known = container_of(link, struct sts_known, link);

        if (known->is_open)
            continue;
        drop(book, known);
        return true;
    }
    return false;
}

static struct sts_known *create(struct sts_book *book, struct slice domain)
{
    struct sts_known *known;
    uint32_t index;

    if (domain.len >= STS_BOOK_NAME_MAX ||
        (book->slab.count_used == book->slab.count_max && !forget_one(book)))
        return NULL;
    known = slab_alloc(&book->slab, &index);
    if (!known)
        return NULL;
    if (!table_insert(&book->table, hash_of(domain), index)) {
        slab_free(&book->slab, index);
        return NULL;
    }
    known->index = index;
    memcpy(known->domain, domain.data, domain.len);
    list_push_back(&book->by_use, &known->link);
    return known;
}

static void copy_id(char room[STS_ID_BYTES_MAX + 1], struct slice id)
{
    must(id.len <= STS_ID_BYTES_MAX);
    memcpy(room, id.data, id.len);
    room[id.len] = '\0';
}

/* A clock that was ahead and was set right: nothing counts, or waits, longer than from now. */
static void heed_clock(struct sts_known *known, uint64_t now_s)
{
    if (known->fetched_s > now_s) {
        known->until_s -= known->fetched_s - now_s;
        known->fetched_s = now_s;
    }
    if (known->renew_s > now_s + STS_BOOK_RENEW_S)
        known->renew_s = now_s + STS_BOOK_RENEW_S;
    if (known->retry_s > now_s + STS_BOOK_RETRY_S)
        known->retry_s = now_s;
}

enum sts_need sts_book_ask(struct sts_book *book, struct slice domain, enum sts_record record,
                           struct slice id, uint64_t now_s, struct sts_known **ret_known)
{
    struct sts_known *known = sts_book_find(book, domain);
    bool is_new = record == STS_RECORD_FOUND;

    if (!known && is_new)
        known = create(book, domain);
    *ret_known = known;
    if (!known)
        return STS_NEED_NOTHING;
    heed_clock(known, now_s);
    known->used_s = now_s;
    list_remove(&known->link);
    list_push_back(&book->by_use, &known->link);
    if (sts_known_counts(known, now_s))
        is_new = is_new && !slice_equal(slice_str(known->id), id);
    if (!is_new)
        return STS_NEED_NOTHING;
    if (known->is_open)
        return STS_NEED_WAIT;
    if (now_s < known->retry_s && slice_equal(slice_str(known->wanted_id), id))
        return STS_NEED_NOTHING;
    copy_id(known->wanted_id, id);
    return STS_NEED_FETCH;
}

void sts_book_open(struct sts_known *known)
{
    must(!known->is_open);
    known->is_open = true;
}

static void make_room(struct sts_book *book, size_t text_len)
{
    while (book->text_bytes + text_len > STS_BOOK_BYTES && forget_one(book))
        ;
}

static uint32_t age_of(const struct sts_policy *policy)
{
    return policy->max_age_s > STS_BOOK_RETRY_S ? policy->max_age_s : STS_BOOK_RETRY_S;
}

/* text: as sts_policy_print has it. known is open, so that it is not what gives way. */
static void set_policy(struct sts_book *book, struct sts_known *known,
                       const struct sts_policy *policy, struct slice text, uint64_t fetched_s)
{
    uint32_t half_s = age_of(policy) / 2;

    drop_text(book, known);
    make_room(book, text.len);
    known->text = mem_strndup(text.data, text.len);
    known->text_len = (uint32_t)text.len;
    book->text_bytes += text.len;
    known->mode = policy->mode;
    known->fetched_s = fetched_s;
    known->until_s = fetched_s + age_of(policy);
    known->renew_s = fetched_s + (half_s < STS_BOOK_RENEW_S ? half_s : STS_BOOK_RENEW_S);
    known->retry_s = 0;
    known->failed_s = 0;
    book->is_changed = true;
}

int sts_book_take(struct sts_book *book, struct sts_known *known, struct slice text, uint64_t now_s)
{
    char room[STS_TEXT_BYTES_MAX];
    struct sts_policy policy;
    int rc = sts_policy_parse(text, &policy);

    if (rc < 0) {
        sts_book_fail(known, slice_str("what the host has is no policy"), now_s);
        return rc;
    }
    set_policy(book, known, &policy, slice_of(room, sts_policy_print(&policy, room)), now_s);
    memcpy(known->id, known->wanted_id, sizeof(known->id));
    known->is_open = false;
    return 0;
}

void sts_book_fail(struct sts_known *known, struct slice why, uint64_t now_s)
{
    size_t len = why.len < STS_BOOK_WHY_MAX ? why.len : STS_BOOK_WHY_MAX - 1;

    must(known->is_open);
    known->is_open = false;
    known->failed_s = now_s;
    known->retry_s = now_s + STS_BOOK_RETRY_S;
    if (strcmp(known->wanted_id, known->id) == 0 && known->renew_s < now_s + STS_BOOK_AGAIN_S)
        known->renew_s = now_s + STS_BOOK_AGAIN_S;
    memcpy(known->why, why.data, len);
    known->why[len] = '\0';
}

struct sts_known *sts_book_due(const struct sts_book *book, uint64_t now_s)
{
    list_for_each (link, &book->by_use) {
        struct sts_known *known = container_of(link, struct sts_known, link);

        if (known->is_open || !sts_known_counts(known, now_s) || now_s < known->renew_s ||
            now_s < known->retry_s || now_s >= known->used_s + STS_BOOK_UNUSED_S)
            continue;
        memcpy(known->wanted_id, known->id, sizeof(known->id));
        return known;
    }
    return NULL;
}

/* ---- The text -------------------------------------------------------------------------------- */

char *sts_book_print(const struct sts_book *book, uint64_t now_s, size_t *ret_len)
{
    char *room = mem_alloc(book->text_bytes + (size_t)book->slab.count_used * ROW_MAX + 1);
    size_t len = 0;

    list_for_each (link, &book->by_use) {
        const struct sts_known *known = container_of(link, struct sts_known, link);

        if (!sts_known_counts(known, now_s))
            continue;
        len += (size_t)snprintf(room + len, ROW_MAX, "%s %s %" PRIu64 " %" PRIu64 " %u\n",
                                known->domain, known->id, known->fetched_s, known->used_s,
                                known->text_len);
        memcpy(room + len, known->text, known->text_len);
        len += known->text_len;
    }
    *ret_len = len;
    return room;
}

/* What does not count any more is passed over. */
static int load_row(struct sts_book *book, const struct slice fields[FIELD_COUNT],
                    uint64_t numbers[3], struct slice text, uint64_t now_s)
{
    struct sts_policy policy;
    struct sts_known *known;

    if (fields[1].len > STS_ID_BYTES_MAX || sts_policy_parse(text, &policy) < 0)
        return E_DAMAGED;
    /* A clock that was wrong then must not make it count for ever. */
    if (numbers[0] > now_s)
        numbers[0] = now_s;
    if (now_s >= numbers[0] + age_of(&policy) || sts_book_find(book, fields[0]))
        return 0;
    known = create(book, fields[0]);
    if (!known)
        return E_DAMAGED;
    known->is_open = true;
    set_policy(book, known, &policy, text, numbers[0]);
    known->is_open = false;
    known->used_s = numbers[1];
    copy_id(known->id, fields[1]);
    return 0;
}

static int load_next(struct sts_book *book, struct slice *rest, uint64_t now_s)
{
    size_t end = slice_find(*rest, '\n');
    struct slice line = slice_of(rest->data, end), fields[FIELD_COUNT];
    uint64_t numbers[3];

    for (int i = 0; i < FIELD_COUNT; i++) {
        size_t len = slice_find(line, ' ');

        if ((len == line.len) != (i == FIELD_COUNT - 1))
            return E_DAMAGED;
        fields[i] = slice_of(line.data, len);
        line = slice_after(line, len < line.len ? len + 1 : len);
        if (i >= 2 && slice_to_u64(fields[i], UINT64_MAX / 2, &numbers[i - 2]) < 0)
            return E_DAMAGED;
    }
    if (end == rest->len)
        return E_DAMAGED;
    *rest = slice_after(*rest, end + 1);
    if (numbers[2] > rest->len || numbers[2] > STS_TEXT_BYTES_MAX)
        return E_DAMAGED;
    line = slice_of(rest->data, numbers[2]);
    *rest = slice_after(*rest, numbers[2]);
    return load_row(book, fields, numbers, line, now_s);
}

int sts_book_load(struct sts_book *book, struct slice text, uint64_t now_s)
{
    int rc = 0;

    while (text.len > 0 && rc >= 0)
        rc = load_next(book, &text, now_s);
    book->is_changed = false;
    return rc;
}
