/*
 * account: one accounting file: a cursor on the outcome log that writes PowerMTA's CSV.
 *
 * Shape as PowerMTA users know it: the 23 columns in order, CRLF, RFC 4180 quoting, a header line
 * at the top of every file, names STEM-YYYY-MM-DD-NNNN.EXT, rotation by size and interval, removal
 * by age. Each row is one outcome record; the file's state (log place, name, offset) is kept beside
 * the spool, so that a start cuts the file back to it and replays: no row is lost or doubled. Runs
 * on the control loop only; formats nothing on a shard. When the disk is full the cursor stops and
 * goes on later; nothing is skipped.
 *
 * What makes it exact: a file's rows are synced before the state that counts them is written; a
 * new file is named in the state before it is created; a file is moved away only when the state
 * covers it to its last byte; the spool is told only what the state on the disk says.
 */
#pragma once

#include "core/conf/conf.h"
#include "core/io/io.h"
#include "queue/spool.h"

struct account;

/* What the operator sees; the strings live as long as the account and until its next call. */
struct account_status {
    const char *path;    /* as configured */
    const char *file;    /* name of the file that is being written, empty when there is none */
    uint64_t rows;       /* written since the start */
    uint64_t skipped;    /* records that could not be read */
    uint64_t stalled_ns; /* for how long no row could be written; 0 = fine */
    int error;           /* the last failure while stalled; 0 = none */
};

/*
 * Reads the state and cuts the file back to it. settings are copied. state_dir: where cursor states
 * live (the spool). number: distinct per file, from 1. Negative when the state cannot be used or
 * the directories cannot be read.
 */
int account_open(struct io *io, struct spool *spool, const struct conf_acct_file *settings,
                 const char *state_dir, uint64_t number, struct account **ret_account);
/* Settles once more where that is possible, and frees. NULL is fine. */
void account_close(struct account *account);
/*
 * Takes up to row_count_max outcomes. Returns how many were taken, 0 when all that is durable in
 * the log has been taken, negative when the file cannot be written now (try again later).
 */
int account_advance(struct account *account, uint32_t row_count_max);
/*
 * Makes what was written durable, stores the state, and ends the file when it is due. 0 and the
 * place that the spool may forget up to, or negative.
 */
int account_settle(struct account *account, struct log_place *ret_done);
/*
 * The same while the loop goes on, for the disk may take long; settled comes when that has
 * succeeded, perhaps at once. Until then, or until it has failed, account_is_settling is true and
 * account_advance takes nothing; no other call but those below is allowed.
 */
typedef void account_settled_fn(void *context, const struct log_place *done);
void account_settle_begin(struct account *account, account_settled_fn *settled, void *context);
bool account_is_settling(const struct account *account);
/* Before the end, each turn: lets a program go once it has read what was sent, or at once when it
 * is late. True when there is none any more, and nothing waits for the disk. */
bool account_stop(struct account *account, bool is_late);
void account_status_read(const struct account *account, struct account_status *ret_status);
