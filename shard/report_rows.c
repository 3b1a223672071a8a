/* Rows of reports: what shards that make them and control, which shows them, share. */
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/report.h"

#include <stdio.h>
#include <stdlib.h>

void *report_row_add(struct report *report, size_t row_bytes)
{
    uint8_t *rows = report->rows;

    if (report->row_count_max && report->row_count >= report->row_count_max)
        return NULL;
    if (report->row_count == report->row_capacity) {
        uint32_t capacity = report->row_capacity ? report->row_capacity * 2 : 64;

        rows = mem_try_alloc(capacity * row_bytes);
        if (!rows)
            return NULL;
        if (report->rows)
            memcpy(rows, report->rows, report->row_count * row_bytes);
        mem_free(report->rows);
        report->rows = rows;
        report->row_capacity = capacity;
    }
    return rows + report->row_count++ * row_bytes;
}

static int by_ordinal(const void *a, const void *b)
{
    uint32_t left = (*(struct rcpt_row *const *)a)->ordinal;
    uint32_t right = (*(struct rcpt_row *const *)b)->ordinal;

    return left < right ? -1 : left > right;
}

static void copy_text(char *room, size_t room_bytes, struct slice text)
{
    snprintf(room, room_bytes, "%.*s", (int)text.len, (const char *)text.data);
}

void rcpt_rows_fill(struct rcpt_row *rows, uint32_t count, const struct envelope *envelope)
{
    struct rcpt_row **sorted = mem_try_alloc(count * sizeof(struct rcpt_row *));
    struct envelope_rcpt rcpt;
    struct wire_reader reader;
    uint32_t at = 0;

    if (!sorted)
        return;
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = &rows[i];
    qsort(sorted, count, sizeof(struct rcpt_row *), by_ordinal);
    wire_reader_init(&reader, envelope->rcpts.data, envelope->rcpts.len);
    for (uint32_t i = 0; at < count && envelope_rcpt_next(&reader, &rcpt); i++) {
        for (; at < count && sorted[at]->ordinal == i; at++) {
            copy_text(sorted[at]->rcpt, sizeof(sorted[at]->rcpt), rcpt.address);
            copy_text(sorted[at]->sender, sizeof(sorted[at]->sender), envelope->sender);
            sorted[at]->priority = envelope_priority(envelope);
        }
    }
    mem_free(sorted);
}

const char *wait_reason_text(enum wait_reason reason)
{
    static const char *const texts[] = {
#define WAIT_TEXT(name, text) text,
        WAIT_REASONS(WAIT_TEXT)
#undef WAIT_TEXT
    };

    must((size_t)reason < sizeof(texts) / sizeof(texts[0]));
    return texts[reason];
}
