#include "bench/ledger.h"

#include "bench/smtp.h"
#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_MAX 64

int ledger_file_open(struct ledger_file *file, const char *path, bool sync)
{
    file->fd = -1;
    file->sync = sync;
    file->used = 0;
    file->system_calls = 0;
    if (path == NULL)
        return 0;
    file->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return file->fd < 0 ? -errno : 0;
}

void ledger_file_add(struct ledger_file *file, char letter, uint32_t run, uint64_t number,
                     uint32_t k)
{
    struct smtp_text text = {file->room + file->used, file->room + sizeof(file->room), false};

    if (file->fd < 0)
        return;
    smtp_put(&text, &letter, 1);
    smtp_put_literal(&text, " ");
    smtp_put_hex32(&text, run);
    smtp_put_literal(&text, " ");
    smtp_put_u64(&text, number);
    smtp_put_literal(&text, " ");
    smtp_put_u64(&text, k);
    smtp_put_literal(&text, "\n");
    file->used = (uint32_t)(text.at - file->room);
    if (sizeof(file->room) - file->used < RECORD_MAX)
        ledger_file_flush(file);
}

int ledger_file_flush(struct ledger_file *file)
{
    uint32_t written = 0;

    if (file->fd < 0 || file->used == 0)
        return 0;
    while (written < file->used) {
        ssize_t count = write(file->fd, file->room + written, file->used - written);

        file->system_calls++;
        if (count < 0 && errno != EINTR)
            return -errno;
        written += count > 0 ? (uint32_t)count : 0;
    }
    file->used = 0;
    file->system_calls += file->sync;
    return file->sync && fdatasync(file->fd) != 0 ? -errno : 0;
}

void ledger_file_close(struct ledger_file *file)
{
    if (file->fd < 0)
        return;
    ledger_file_flush(file);
    close(file->fd);
    file->fd = -1;
}

/* ---- Reading back -------------------------------------------------------------------------- */

struct entry {
    uint64_t number;
    uint32_t run;
    uint32_t k;
    char letter;
};

struct entries {
    struct entry *list;
    uint64_t count;
    uint64_t room;
};

static int add_entry(struct entries *entries, const struct entry *entry)
{
    if (entries->count == entries->room) {
        uint64_t room = entries->room == 0 ? 65536 : 2 * entries->room;
        struct entry *list = mem_try_alloc(room * sizeof(*list));

        if (list == NULL)
            return -ENOMEM;
        if (entries->count > 0)
            memcpy(list, entries->list, entries->count * sizeof(*list));
        mem_free(entries->list);
        entries->list = list;
        entries->room = room;
    }
    entries->list[entries->count++] = *entry;
    return 0;
}

static int read_file(struct entries *entries, const char *path)
{
    char line[RECORD_MAX + 2];
    FILE *stream = fopen(path, "re");
    int error = 0;

    if (stream == NULL)
        return -errno;
    while (error == 0 && fgets(line, sizeof(line), stream) != NULL) {
        struct entry entry = {0};

        /* A writer that was killed leaves half a line at the end: it never counted. */
        if (strchr(line, '\n') == NULL)
            continue;
        if (sscanf(line, "%c %x %lu %u", &entry.letter, &entry.run, &entry.number, &entry.k) != 4)
            error = E_DAMAGED;
        else
            error = add_entry(entries, &entry);
    }
    fclose(stream);
    return error;
}

/* Negative, 0 or positive as a stands before, with or behind b. */
static int compare(const struct entry *a, const struct entry *b)
{
    if (a->run != b->run)
        return a->run < b->run ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->k < b->k ? -1 : a->k > b->k;
}

static int by_recipient(const void *a, const void *b)
{
    return compare(a, b);
}

/* The recipient whose records begin at `at`; returns where the next one's begin. */
static uint64_t sum_recipient(const struct entries *entries, uint64_t at, struct ledger_sums *sums)
{
    const struct entry *first = &entries->list[at];
    enum ledger_given given = LEDGER_NOT_GIVEN;
    uint64_t arrived = 0;
    bool refused = false;

    for (; at < entries->count && compare(&entries->list[at], first) == 0; at++) {
        char letter = entries->list[at].letter;

        if (letter == 'a')
            given = LEDGER_ACCEPTED;
        else if (letter == 'i' && given == LEDGER_NOT_GIVEN)
            given = LEDGER_IN_DOUBT;
        arrived += letter == 'd';
        refused |= letter == 'b';
    }
    ledger_sums_add(sums, given, arrived, refused);
    return at;
}

/* A sink learns its run from the first message, so what it refused before that says 0: it is of the
 * one run that there is. */
static void name_early_refusals(struct entries *entries)
{
    uint32_t run = 0;

    for (uint64_t i = 0; i < entries->count; i++) {
        uint32_t other = entries->list[i].run;

        if (run != 0 && other != 0 && other != run)
            return;
        run = other != 0 ? other : run;
    }
    for (uint64_t i = 0; i < entries->count; i++) {
        if (entries->list[i].run == 0 && entries->list[i].letter == 'b')
            entries->list[i].run = run;
    }
}

int ledger_files_sum(const char *const *paths, uint32_t count, struct ledger_sums *ret_sums)
{
    struct entries entries = {0};
    struct ledger_sums sums = {0};
    int error = 0;

    for (uint32_t i = 0; i < count && error == 0; i++)
        error = read_file(&entries, paths[i]);
    if (error == 0) {
        name_early_refusals(&entries);
        if (entries.count > 0)
            qsort(entries.list, entries.count, sizeof(struct entry), by_recipient);
        for (uint64_t at = 0; at < entries.count;)
            at = sum_recipient(&entries, at, &sums);
        *ret_sums = sums;
    }
    mem_free(entries.list);
    return error;
}
