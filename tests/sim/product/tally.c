#include "tests/sim/product/tally.h"

#include "core/base/must.h"

#include <stdio.h>
#include <string.h>

void tally_add(struct tally *tally, const char *group, const char *name, uint64_t count)
{
    uint32_t i = 0;

    while (i < tally->row_count &&
           (strcmp(tally->rows[i].name, name) != 0 || strcmp(tally->rows[i].group, group) != 0))
        i++;
    if (i == tally->row_count) {
        must(tally->row_count < TALLY_ROWS_MAX);
        tally->rows[tally->row_count++] = (struct tally_row){.group = group, .name = name};
    }
    tally->rows[i].count += count;
}

void tally_print(const struct tally *tally)
{
    for (uint32_t i = 0; i < tally->row_count; i++)
        printf("  %-8s %-22s %llu\n", tally->rows[i].group, tally->rows[i].name,
               (unsigned long long)tally->rows[i].count);
}

uint32_t tally_complain(const struct tally *tally)
{
    uint32_t few = 0;

    for (uint32_t i = 0; i < tally->row_count; i++) {
        const struct tally_row *row = &tally->rows[i];

        if (row->count >= TALLY_MIN)
            continue;
        fprintf(stderr, "%s %s: met %llu times, at least %d are wanted\n", row->group, row->name,
                (unsigned long long)row->count, TALLY_MIN);
        few++;
    }
    return few;
}
