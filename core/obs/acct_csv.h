/*
 * acct_csv: one outcome as one line of PowerMTA's accounting CSV.
 *
 * Pure formatting: no file, no clock, no memory of its own. A layout fixes which kinds of record a
 * file holds and so its columns: for d, b and t the 23 well-known ones in order, for r twelve of
 * its own; a file that mixes them has the former and then those that only r has. A field that a
 * kind lacks is empty.
 *
 * Every record is one line, whatever the remote side wrote: control bytes, the line separators of
 * Unicode and bytes that are not UTF-8 stand as \xHH. A backslash stands for itself unless "xHH"
 * follows, then it is written \x5c; so the escaping can be undone exactly. Quoting is RFC 4180's,
 * lines end in CRLF. Any thread.
 */
#pragma once

#include "core/obs/outcome.h"

/* The longest line of an outcome that outcome_decode accepted: each byte may need four. */
#define ACCT_CSV_ROW_MAX (OUTCOME_BYTES_MAX * 4 + 1024)

/* name as it stands in the header line; in order of appearance in d, b and t, then r's own. */
#define ACCT_CSV_COLUMNS(X)                                                                        \
    X(type)                                                                                        \
    X(timeLogged)                                                                                  \
    X(timeQueued)                                                                                  \
    X(orig)                                                                                        \
    X(rcpt)                                                                                        \
    X(orcpt)                                                                                       \
    X(dsnAction)                                                                                   \
    X(dsnStatus)                                                                                   \
    X(dsnDiag)                                                                                     \
    X(dsnMta)                                                                                      \
    X(bounceCat)                                                                                   \
    X(srcType)                                                                                     \
    X(srcMta)                                                                                      \
    X(dlvType)                                                                                     \
    X(dlvSourceIp)                                                                                 \
    X(dlvDestinationIp)                                                                            \
    X(dlvEsmtpAvailable)                                                                           \
    X(dlvSize)                                                                                     \
    X(vmta)                                                                                        \
    X(jobId)                                                                                       \
    X(envId)                                                                                       \
    X(queue)                                                                                       \
    X(vmtaPool)                                                                                    \
    X(rcvSourceIp)                                                                                 \
    X(rcvDestinationIp)

enum acct_csv_column {
#define ACCT_CSV_ENUM(name) ACCT_CSV_##name,
    ACCT_CSV_COLUMNS(ACCT_CSV_ENUM)
#undef ACCT_CSV_ENUM
        ACCT_CSV_COLUMN_COUNT,
};

struct acct_csv_layout {
    uint8_t columns[ACCT_CSV_COLUMN_COUNT]; /* enum acct_csv_column */
    uint8_t column_count;
    bool iso_times; /* otherwise seconds since 1970 */
};

/* has_deliveries: the file holds d, b or t; has_receipts: it holds r. At least one is true. */
void acct_csv_layout_init(struct acct_csv_layout *layout, bool has_deliveries, bool has_receipts,
                          bool iso_times);
/* Both write without a NUL and return the length, CRLF included, or E_TOO_LONG. */
int acct_csv_header(const struct acct_csv_layout *layout, char *room, size_t room_bytes);
int acct_csv_row(const struct acct_csv_layout *layout, const struct outcome *outcome, char *room,
                 size_t room_bytes);

/* What an enhanced status code (RFC 3463 and its registry) means, in a few words; never NULL. */
const char *acct_csv_status_text(struct slice status);
/*
 * The escaping above by itself, for other exits of remote text: valid UTF-8 without control bytes,
 * NUL-terminated, cut at a whole character when the room is short. Returns the length.
 */
size_t acct_csv_escape(struct slice text, char *room, size_t room_bytes);
/* "2019-02-08 21:54:05+0000" with NUL into room of ACCT_CSV_TIME_MAX bytes; returns its length. */
#define ACCT_CSV_TIME_MAX 32
size_t acct_csv_time(uint64_t wall_us, char *room);
