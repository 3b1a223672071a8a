/*
 * account: one accounting file: a cursor on the outcome log that writes PowerMTA's CSV.
 *
 * Shape as PowerMTA users know it: the 23 columns in order, CRLF, RFC 4180 quoting, a header line
 * at the top of every file, names PATH-YYYY-MM-DD-NNNN.csv, rotation by size and interval, removal
 * by age. Each row is one outcome record; the file's state (log place, name, offset) is kept beside
 * it, so that a start cuts the file back to it and replays: no row is lost or doubled. Runs on the
 * control loop only; formats nothing on a shard. When the disk is full the cursor stops and goes on
 * later; nothing is skipped.
 */
#pragma once

#include "core/conf/conf.h"
#include "core/io/io.h"
#include "queue/spool.h"

struct account;

/* state_dir: where cursor states live (the spool). number: distinct per file, from 1. */
int account_open(struct io *io, struct spool *spool, const struct conf_acct_file *settings,
                 const char *state_dir, uint64_t number, struct account **ret_account);
void account_close(struct account *account);
/*
 * Takes up to row_count_max outcomes. Returns how many were taken, 0 when all is written, negative
 * when the file cannot be written now (try again later).
 */
int account_advance(struct account *account, uint32_t row_count_max);
/* Makes what was written durable and stores the state; returns the place the spool may forget. */
int account_settle(struct account *account, struct log_place *ret_done);
/* Seconds since the last row could be written; 0 = fine. */
uint64_t account_stalled_s(const struct account *account);
