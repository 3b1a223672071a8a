/*
 * The file: "ringpost overrides 1 CRC LAST" (of all that follows; the last number given), then a
 * line for each: number, uid, since, until, and five texts, all between tabs, which no text has.
 */
#include "shard/overrides.h"

#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/obs/acct_csv.h"
#include "shard/kept_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define FILE_NAME   "overrides"
#define HEAD_MAX    64
#define ROW_MAX     (3 * OVERRIDE_NAMES_MAX + 2 * OVERRIDE_TEXT_MAX + 128)
#define FILE_MAX    (HEAD_MAX + OVERRIDES_MAX * ROW_MAX)
#define FIELD_COUNT 9

/* ---- The list -------------------------------------------------------------------------------- */

static void append(struct overrides *overrides, const struct override *override)
{
    struct override *item = mem_alloc(sizeof(*item));

    *item = *override;
    overrides->items[overrides->count++] = item;
}

static void drop(struct overrides *overrides, uint32_t position)
{
    mem_free(overrides->items[position]);
    overrides->count--;
    memmove(&overrides->items[position], &overrides->items[position + 1],
            (overrides->count - position) * sizeof(overrides->items[0]));
}

static void init(struct overrides *overrides, struct io *io, const char *directory)
{
    *overrides = (struct overrides){.io = io, .directory = mem_strdup(directory)};
    overrides->items = mem_alloc(OVERRIDES_MAX * sizeof(struct override *));
}

void overrides_close(struct overrides *overrides)
{
    while (overrides->count > 0)
        drop(overrides, overrides->count - 1);
    mem_free(overrides->items);
    mem_free(overrides->directory);
    *overrides = (struct overrides){0};
}

void overrides_copy(const struct overrides *overrides, struct overrides *ret_copy)
{
    init(ret_copy, overrides->io, overrides->directory);
    ret_copy->last_number = overrides->last_number;
    for (uint32_t i = 0; i < overrides->count; i++)
        append(ret_copy, overrides->items[i]);
}

void overrides_take(struct overrides *overrides, struct overrides *copy)
{
    overrides_close(overrides);
    *overrides = *copy;
    *copy = (struct overrides){0};
}

static bool is_of(const struct override *item, const char *domain, const char *vmta,
                  const char *keyword)
{
    return strcmp(item->domain, domain) == 0 && strcasecmp(item->vmta, vmta) == 0 &&
           (*keyword == '\0' || strcasecmp(item->keyword, keyword) == 0);
}

uint32_t overrides_clear(struct overrides *overrides, const char *domain, const char *vmta,
                         const char *keyword)
{
    uint32_t before = overrides->count;

    for (uint32_t i = overrides->count; i > 0; i--) {
        if (is_of(overrides->items[i - 1], domain, vmta, keyword))
            drop(overrides, i - 1);
    }
    return before - overrides->count;
}

uint32_t overrides_expire(struct overrides *overrides, uint64_t now_us)
{
    uint32_t before = overrides->count;

    for (uint32_t i = overrides->count; i > 0; i--) {
        if (overrides->items[i - 1]->until_us <= now_us)
            drop(overrides, i - 1);
    }
    return before - overrides->count;
}

int overrides_add(struct overrides *overrides, struct override *override)
{
    overrides_clear(overrides, override->domain, override->vmta, override->keyword);
    if (overrides->count == OVERRIDES_MAX)
        return E_FULL;
    override->number = ++overrides->last_number;
    append(overrides, override);
    return 0;
}

void overrides_origin(const struct override *override, char room[OVERRIDE_ORIGIN_MAX])
{
    char until[ACCT_CSV_TIME_MAX];

    acct_csv_time(override->until_us, until);
    snprintf(room, OVERRIDE_ORIGIN_MAX, "override %u of uid %u until %.19s UTC: %s",
             override->number, override->uid, until, override->reason);
}

struct conf_override *overrides_for_load(const struct overrides *overrides, uint32_t new_number)
{
    size_t head = overrides->count * sizeof(struct conf_override);
    struct conf_override *list;
    char *origins;

    if (overrides->count == 0)
        return NULL;
    list = mem_alloc(head + overrides->count * OVERRIDE_ORIGIN_MAX);
    origins = (char *)list + head;
    for (uint32_t i = 0; i < overrides->count; i++) {
        const struct override *item = overrides->items[i];
        char *origin = origins + i * OVERRIDE_ORIGIN_MAX;

        overrides_origin(item, origin);
        list[i] = (struct conf_override){item->domain, item->vmta, item->keyword,
                                         item->value,  origin,     item->number == new_number};
    }
    return list;
}

/* ---- The file -------------------------------------------------------------------------------- */

static bool take_text(struct slice field, char *room, size_t room_bytes)
{
    if (field.len >= room_bytes)
        return false;
    memcpy(room, field.data, field.len);
    room[field.len] = '\0';
    return true;
}

static bool take_number(struct slice field, uint64_t max, uint64_t *ret_number)
{
    return slice_to_u64(field, max, ret_number) == 0;
}

static int parse_line(struct slice line, struct override *ret_override)
{
    struct slice fields[FIELD_COUNT];
    uint64_t number, uid;

    for (int i = 0; i < FIELD_COUNT; i++) {
        size_t len = slice_find(line, '\t');

        if ((len == line.len) != (i == FIELD_COUNT - 1))
            return E_DAMAGED;
        fields[i] = slice_of(line.data, len);
        line = slice_after(line, len < line.len ? len + 1 : len);
    }
    if (!take_number(fields[0], UINT32_MAX, &number) || !take_number(fields[1], UINT32_MAX, &uid) ||
        !take_number(fields[2], UINT64_MAX, &ret_override->since_us) ||
        !take_number(fields[3], UINT64_MAX, &ret_override->until_us) ||
        !take_text(fields[4], ret_override->domain, sizeof(ret_override->domain)) ||
        !take_text(fields[5], ret_override->vmta, sizeof(ret_override->vmta)) ||
        !take_text(fields[6], ret_override->keyword, sizeof(ret_override->keyword)) ||
        !take_text(fields[7], ret_override->value, sizeof(ret_override->value)) ||
        !take_text(fields[8], ret_override->reason, sizeof(ret_override->reason)))
        return E_DAMAGED;
    ret_override->number = (uint32_t)number;
    ret_override->uid = (uint32_t)uid;
    return 0;
}

/* text: NUL-terminated. */
static int parse(struct overrides *overrides, const char *text, size_t len)
{
    struct override *override;
    struct slice rest;
    uint32_t crc;
    int used = 0, result = 0;

    if (sscanf(text, "ringpost overrides 1 %8x %u%n", &crc, &overrides->last_number, &used) != 2 ||
        text[used] != '\n')
        return E_DAMAGED;
    rest = slice_of(text + used + 1, len - (size_t)used - 1);
    if (crc32c(0, rest.data, rest.len) != crc)
        return E_DAMAGED;
    override = mem_alloc(sizeof(*override));
    while (rest.len > 0 && result == 0 && overrides->count < OVERRIDES_MAX) {
        size_t end = slice_find(rest, '\n');

        result = parse_line(slice_of(rest.data, end), override);
        if (result == 0)
            append(overrides, override);
        rest = slice_after(rest, end < rest.len ? end + 1 : end);
    }
    mem_free(override);
    return result;
}

static int read_list(struct overrides *overrides)
{
    char *text = NULL;
    int64_t result =
        kept_file_load(overrides->io, overrides->directory, FILE_NAME, FILE_MAX, &text);

    if (result == -ENOENT)
        return 0;
    if (result >= 0)
        result = parse(overrides, text, (size_t)result);
    mem_free(text);
    return (int)result;
}

void overrides_open(struct overrides *overrides, struct io *io, const char *directory)
{
    int result;

    init(overrides, io, directory);
    result = read_list(overrides);
    if (result >= 0)
        return;
    log_error("%s/" FILE_NAME ": %s; no override is in force", directory, err_text(result));
    while (overrides->count > 0)
        drop(overrides, overrides->count - 1);
}

static size_t print_list(const struct overrides *overrides, char *room)
{
    size_t len = 0;

    for (uint32_t i = 0; i < overrides->count; i++) {
        const struct override *item = overrides->items[i];

        len += (size_t)snprintf(room + len, ROW_MAX,
                                "%u\t%u\t%" PRIu64 "\t%" PRIu64 "\t%s\t%s\t%s\t%s\t%s\n",
                                item->number, item->uid, item->since_us, item->until_us,
                                item->domain, item->vmta, item->keyword, item->value, item->reason);
    }
    return len;
}

int overrides_store(const struct overrides *overrides)
{
    char *room = mem_alloc(overrides->count * ROW_MAX + 1);
    size_t len = print_list(overrides, room);
    char head[HEAD_MAX];
    int head_len = snprintf(head, sizeof(head), "ringpost overrides 1 %08x %u\n",
                            crc32c(0, room, len), overrides->last_number);
    int result = kept_file_store(overrides->io, overrides->directory, FILE_NAME,
                                 slice_of(head, (size_t)head_len), slice_of(room, len));

    mem_free(room);
    return result;
}
