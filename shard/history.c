/*
 * The file of one configuration: lines that people can read, then the texts as they were.
 *
 *   ringpost configuration 1
 *   hash H at T uid U cause C of N files F bytes B        (H in hex, T in microseconds)
 *   crc X                                                 (CRC-32C in hex of all that follows)
 *   and for each text:  NAMEBYTES TEXTBYTES, a line end, the name, the text
 */
#include "shard/history.h"

#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/kept_file.h"

#include <inttypes.h>
#include <stdio.h>

#define HEAD_MAX       512
#define NAME_MAX_BYTES 16

static const char *const causes[] = {
    [HISTORY_START] = "start",
    [HISTORY_RELOAD] = "reload",
    [HISTORY_SIGNAL] = "signal",
    [HISTORY_ROLLBACK] = "rollback",
};

const char *history_cause_name(enum history_cause cause)
{
    return causes[cause];
}

static void name_of(uint32_t number, char room[NAME_MAX_BYTES])
{
    snprintf(room, NAME_MAX_BYTES, "%08u", number);
}

static char *path_of(const struct history *history, uint32_t number)
{
    size_t bytes = strlen(history->directory) + 1 + NAME_MAX_BYTES;
    char *path = mem_alloc(bytes);

    snprintf(path, bytes, "%s/%08u", history->directory, number);
    return path;
}

/* ---- Heads ----------------------------------------------------------------------------------- */

static int print_head(const struct history_entry *entry, uint32_t crc, char *room)
{
    return snprintf(room, HEAD_MAX,
                    "ringpost configuration 1\n"
                    "hash %016" PRIx64 " at %" PRIu64 " uid %u cause %u of %u files %u bytes "
                    "%" PRIu64 "\ncrc %08x\n",
                    entry->hash, entry->at_us, entry->uid, entry->cause, entry->of,
                    entry->file_count, entry->bytes, crc);
}

/* Length of the head, or E_DAMAGED. text: NUL-terminated. */
static int parse_head(const char *text, struct history_entry *entry, uint32_t *ret_crc)
{
    unsigned cause;
    int used = 0;

    if (sscanf(text,
               "ringpost configuration 1\nhash %16" SCNx64 " at %" SCNu64
               " uid %u cause %u of %u files %u bytes %" SCNu64 "\ncrc %8x%n",
               &entry->hash, &entry->at_us, &entry->uid, &cause, &entry->of, &entry->file_count,
               &entry->bytes, ret_crc, &used) != 8 ||
        cause > HISTORY_ROLLBACK || text[used] != '\n')
        return E_DAMAGED;
    entry->cause = (enum history_cause)cause;
    return used + 1;
}

static int read_head(const struct history *history, struct history_entry *entry)
{
    char *path = path_of(history, entry->number);
    char room[HEAD_MAX + 1] = "";
    uint32_t crc;
    int fd, result = io_file_open(history->io, path, IO_FILE_READ, &fd);

    mem_free(path);
    if (result < 0)
        return result;
    result = (int)io_file_read_now(history->io, fd, room, HEAD_MAX, 0);
    io_close_now(history->io, fd);
    return result < 0 ? result : parse_head(room, entry, &crc);
}

/* ---- Opening --------------------------------------------------------------------------------- */

static void on_name(void *context, const char *name)
{
    struct history *history = context;
    struct history_entry entry = {0};
    uint64_t number;
    int result;

    if (slice_to_u64(slice_str(name), UINT32_MAX - 1, &number) < 0)
        return;
    entry.number = (uint32_t)number;
    if (entry.number > history->last_number)
        history->last_number = entry.number;
    result = read_head(history, &entry);
    if (result < 0) {
        log_warn("configuration %u of the history: %s", entry.number, err_text(result));
        return;
    }
    /* Names come in byte order, which is theirs; what is too many goes with the next one kept. */
    if (history->count > HISTORY_COUNT_MAX) {
        memmove(history->entries, history->entries + 1,
                (history->count - 1) * sizeof(history->entries[0]));
        history->count--;
    }
    history->entries[history->count++] = entry;
}

int history_open(struct history *history, struct io *io, const char *directory)
{
    int result;

    *history = (struct history){.io = io};
    result = io_dir_create(io, directory);
    if (result < 0)
        return result;
    history->directory = mem_strdup(directory);
    result = io_dir_list(io, directory, on_name, history);
    if (result < 0)
        history_close(history);
    return result;
}

void history_close(struct history *history)
{
    mem_free(history->directory);
    history->directory = NULL;
}

const struct history_entry *history_find(const struct history *history, uint32_t number)
{
    for (uint32_t i = 0; i < history->count; i++) {
        if (history->entries[i].number == number)
            return &history->entries[i];
    }
    return NULL;
}

const struct history_entry *history_newest(const struct history *history)
{
    return history->count > 0 ? &history->entries[history->count - 1] : NULL;
}

/* ---- Keeping --------------------------------------------------------------------------------- */

struct image {
    char *bytes;
    size_t len;
};

static void fill_image(struct image *image, struct history_entry *entry,
                       const struct conf_files *files)
{
    size_t room = 1;

    entry->bytes = 0;
    entry->file_count = conf_files_count(files);
    for (uint32_t i = 0; i < entry->file_count; i++) {
        entry->bytes += conf_files_text(files, i).len;
        room += strlen(conf_files_name(files, i)) + conf_files_text(files, i).len + 64;
    }
    image->bytes = mem_alloc(room);
    image->len = 0;
    for (uint32_t i = 0; i < entry->file_count; i++) {
        const char *name = conf_files_name(files, i);
        struct slice text = conf_files_text(files, i);

        image->len +=
            (size_t)snprintf(image->bytes + image->len, 64, "%zu %zu\n", strlen(name), text.len);
        memcpy(image->bytes + image->len, name, strlen(name));
        image->len += strlen(name);
        memcpy(image->bytes + image->len, text.data, text.len);
        image->len += text.len;
    }
}

static int store(const struct history *history, struct history_entry *entry,
                 const struct conf_files *files)
{
    char name[NAME_MAX_BYTES], head[HEAD_MAX];
    struct slice body;
    struct image image;
    int result, head_len;

    name_of(entry->number, name);
    fill_image(&image, entry, files);
    body = slice_of(image.bytes, image.len);
    head_len = print_head(entry, crc32c(0, body.data, body.len), head);
    result = kept_file_store(history->io, history->directory, name,
                             slice_of(head, (size_t)head_len), body);
    mem_free(image.bytes);
    return result;
}

static void drop_oldest(struct history *history)
{
    char *path = path_of(history, history->entries[0].number);
    int result = io_file_unlink(history->io, path);

    if (result < 0)
        log_warn("%s: %s", path, err_text(result));
    mem_free(path);
    history->count--;
    memmove(history->entries, history->entries + 1, history->count * sizeof(history->entries[0]));
}

int history_add(struct history *history, struct history_entry *entry,
                const struct conf_files *files)
{
    const struct history_entry *newest = history_newest(history);
    int result;

    if (history->directory == NULL)
        return E_CLOSED;
    entry->hash = conf_files_hash(files);
    if (newest != NULL && newest->hash == entry->hash) {
        *entry = *newest;
        return 1;
    }
    entry->number = history->last_number + 1;
    result = store(history, entry, files);
    if (result < 0)
        return result;
    history->last_number = entry->number;
    while (history->count >= HISTORY_COUNT_MAX)
        drop_oldest(history);
    history->entries[history->count++] = *entry;
    return 0;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* A decimal number and the byte behind it. */
static bool take_number(struct slice *rest, uint8_t end, size_t *ret_number)
{
    size_t len = slice_find(*rest, end);
    uint64_t number;

    if (len == rest->len || slice_to_u64(slice_of(rest->data, len), SIZE_MAX / 4, &number) < 0)
        return false;
    *rest = slice_after(*rest, len + 1);
    *ret_number = (size_t)number;
    return true;
}

static int parse_texts(struct slice rest, const struct history_entry *entry,
                       struct conf_files *files)
{
    for (uint32_t i = 0; i < entry->file_count; i++) {
        size_t name_len, text_len;

        if (!take_number(&rest, ' ', &name_len) || !take_number(&rest, '\n', &text_len) ||
            name_len > rest.len || text_len > rest.len - name_len)
            return E_DAMAGED;
        conf_files_add(files, slice_of(rest.data, name_len),
                       slice_of(rest.data + name_len, text_len));
        rest = slice_after(rest, name_len + text_len);
    }
    return rest.len == 0 && entry->file_count > 0 ? 0 : E_DAMAGED;
}

static int parse_file(const char *text, size_t len, struct conf_files *files)
{
    struct history_entry entry;
    uint32_t crc;
    int head = parse_head(text, &entry, &crc);

    if (head < 0)
        return head;
    if (crc32c(0, text + head, len - (size_t)head) != crc)
        return E_DAMAGED;
    return parse_texts(slice_of(text + head, len - (size_t)head), &entry, files);
}

int history_read(const struct history *history, uint32_t number, struct conf_files **ret_files)
{
    struct conf_files *files;
    char name[NAME_MAX_BYTES], *text = NULL;
    int result;
    int64_t len;

    name_of(number, name);
    len = kept_file_load(history->io, history->directory, name, UINT64_MAX, &text);
    result = len < 0 ? (int)len : 0;
    if (result == 0) {
        files = conf_files_new();
        result = parse_file(text, (size_t)len, files);
        if (result == 0)
            *ret_files = files;
        else
            conf_files_free(files);
    }
    mem_free(text);
    return result;
}
