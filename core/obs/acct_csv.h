/*
 * acct_csv: one outcome as one line of PowerMTA's accounting CSV.
 *
 * Pure formatting: no file, no clock, no memory of its own. A layout (acct_layout.h) fixes which
 * kinds of record a file holds and so its columns: for d, b and t the 23 well-known ones in order,
 * for r twelve of its own; a file that mixes them has the former and then those that only r has. A
 * field that a kind lacks is empty.
 *
 * Every record is one line, whatever the remote side wrote: control bytes, the line separators of
 * Unicode and bytes that are not UTF-8 stand as \xHH. A backslash stands for itself unless "xHH"
 * follows, then it is written \x5c; so the escaping can be undone exactly. Quoting is RFC 4180's,
 * lines end in CRLF. Any thread.
 */
#pragma once

#include "core/obs/outcome.h"
#include "core/obs/privacy.h"

/*
 * The longest line of an outcome that outcome_decode accepted: each byte may need four (17 KB), so
 * may those of header fields, which ACCT_MAPS_MAX columns may quote (32 KB), and the shortest
 * address in a reply may become a hash (12 KB).
 */
#define ACCT_CSV_ROW_MAX 65536

/* name as it stands in the header line; in order of appearance in d, b and t, then r's own, then
 * those that only record-fields names. */
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
    X(rcvDestinationIp)                                                                            \
    X(totalSecondsQueued)                                                                          \
    X(timeFirstAttempt)                                                                            \
    X(dlvTlsProtocol)                                                                              \
    X(dlvTlsCipher)                                                                                \
    X(rcvSmtpUser)                                                                                 \
    X(userString)                                                                                  \
    X(timeImprinted)

enum acct_csv_column {
#define ACCT_CSV_ENUM(name) ACCT_CSV_##name,
    ACCT_CSV_COLUMNS(ACCT_CSV_ENUM)
#undef ACCT_CSV_ENUM
        ACCT_CSV_COLUMN_COUNT,
};

/* A column that quotes a header field, which has a name besides. */
#define ACCT_CSV_header ACCT_CSV_COLUMN_COUNT

enum acct_kind {
    ACCT_DELIVERED = 1,
    ACCT_BOUNCED = 2,
    ACCT_TRANSIENT = 4,
    ACCT_RECEIVED = 8,
};

#define ACCT_PLACES_MAX 64
#define ACCT_MAPS_MAX   16
#define ACCT_TEXTS_MAX  2048

/* A text of the layout's own. */
struct acct_text {
    uint16_t at;
    uint16_t len;
};

struct acct_csv_place {
    uint8_t column; /* enum acct_csv_column, or ACCT_CSV_header */
    uint8_t kinds;  /* enum acct_kind: whose rows fill it */
    struct acct_text header;
};

/* In rows of the kinds the column says what the header field says, where there is one. */
struct acct_csv_map {
    uint8_t kinds;
    uint8_t column;
    struct acct_text header; /* the field that is quoted */
    struct acct_text filled; /* the column's name, of ACCT_CSV_header */
};

struct acct_csv_layout {
    struct acct_csv_place places[ACCT_PLACES_MAX];
    struct acct_csv_map maps[ACCT_MAPS_MAX];
    uint32_t place_count;
    uint32_t map_count;
    uint32_t text_bytes;
    uint8_t kinds;  /* enum acct_kind */
    bool iso_times; /* otherwise seconds since 1970 */
    struct acct_text user_string;
    struct privacy privacy; /* of orig, rcpt, orcpt, and of these addresses in dsnDiag */
    char texts[ACCT_TEXTS_MAX];
};

static inline struct slice acct_text_of(const struct acct_csv_layout *layout, struct acct_text text)
{
    return slice_of(layout->texts + text.at, text.len);
}

/* The kind of record an outcome makes; 0 for none. */
unsigned acct_kind_of(const struct outcome *outcome);
/* The column of that name (ASCII case ignored); false when there is none. */
bool acct_csv_column_named(struct slice name, uint8_t *ret_column);
/* enum acct_kind: whose rows may have it. */
unsigned acct_csv_column_kinds(uint8_t column);
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
