/*
 * acct_layout: which columns an accounting file has, from record-fields, map-header-to-field and
 * the like.
 *
 * Each kind of record has a list of columns: its usual ones, or what record-fields says. A file
 * has those of its first kind and then what the next ones have besides; what a kind has not is
 * empty in its rows. A layout holds its texts itself, so it may be copied. Pure; any thread.
 */
#pragma once

#include "core/obs/acct_csv.h"

#define ACCT_KIND_COUNT     4
#define ACCT_LAYOUT_WHY_MAX 160

/* One column of a kind. */
struct acct_field {
    uint8_t column; /* enum acct_csv_column */
    struct acct_text header;
};

struct acct_field_list {
    struct acct_field fields[ACCT_PLACES_MAX];
    uint32_t count;
    bool is_given; /* by record-fields */
};

/* A layout in the making. */
struct acct_layout_draft {
    struct acct_csv_layout *layout;
    struct acct_field_list lists[ACCT_KIND_COUNT];
};

/* kinds: enum acct_kind, at least one. */
void acct_layout_begin(struct acct_layout_draft *draft, struct acct_csv_layout *layout,
                       unsigned kinds, bool iso_times);
/*
 * "TYPE[,TYPE] FIELD,...": `*` stands for the usual columns, `!NAME` takes one away. The first line
 * of a kind begins with nothing, further ones go on from there. 0, or E_SYNTAX with a text in why.
 */
int acct_layout_fields(struct acct_layout_draft *draft, struct slice line,
                       char why[ACCT_LAYOUT_WHY_MAX]);
/* The kinds that such a line is about, whether the file has them or not; 0 for a line that is
 * wrong. */
unsigned acct_layout_kinds(struct slice line);
/* "TYPE HEADER FIELD": likewise. */
int acct_layout_map(struct acct_layout_draft *draft, struct slice line,
                    char why[ACCT_LAYOUT_WHY_MAX]);
/* What the column userString says: 0, or E_TOO_LONG. */
int acct_layout_user_string(struct acct_layout_draft *draft, struct slice text);
/* The columns of all kinds are put together: 0, or E_SYNTAX when they are too many. */
int acct_layout_end(struct acct_layout_draft *draft, char why[ACCT_LAYOUT_WHY_MAX]);
/* The usual columns, at once. */
void acct_layout_usual(struct acct_csv_layout *layout, unsigned kinds, bool iso_times);
/* The names of header fields that the rows quote, for position 0 and up; false at the end. A name
 * may come more than once. */
bool acct_layout_header(const struct acct_csv_layout *layout, uint32_t position,
                        struct slice *ret_name);
