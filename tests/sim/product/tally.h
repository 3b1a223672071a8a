/*
 * tally: how often each kind of fault and each branch of recovery was met, over many histories.
 *
 * The one table of what a full run must have seen: every row at least TALLY_MIN times.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TALLY_MIN      20
#define TALLY_ROWS_MAX 256

struct tally_row {
    const char *group;
    const char *name;
    uint64_t count;
};

struct tally {
    struct tally_row rows[TALLY_ROWS_MAX];
    uint32_t row_count;
};

/* Group and name are literals; the row is made at its first call, in the order of these calls. */
void tally_add(struct tally *tally, const char *group, const char *name, uint64_t count);
/* Every row, to standard output. */
void tally_print(const struct tally *tally);
/* Names the rows below TALLY_MIN to standard error and returns how many there are. */
uint32_t tally_complain(const struct tally *tally);
