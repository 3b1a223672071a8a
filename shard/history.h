/*
 * history: the configurations that were in force, newest 100, in a folder of the spool.
 *
 * Each is a file of its own, written under another name, synced and renamed, so that a power cut
 * leaves it whole or not there. What cannot be read is passed by and said in the log. Belongs to
 * control and its thread; all calls are synchronous, for start-up and for what an operator asks.
 */
#pragma once

#include "core/conf/files.h"
#include "core/io/io.h"

#define HISTORY_COUNT_MAX 100u
#define HISTORY_NO_UID    UINT32_MAX /* a signal does not say who sent it */

enum history_cause {
    HISTORY_START,
    HISTORY_RELOAD,
    HISTORY_SIGNAL,
    HISTORY_ROLLBACK,
};

struct history_entry {
    uint32_t number; /* counts up from 1, never given twice */
    uint32_t uid;    /* who asked, or HISTORY_NO_UID */
    enum history_cause cause;
    uint32_t of; /* a rollback's: the number of what was applied again */
    uint64_t hash;
    uint64_t at_us; /* wall clock */
    uint64_t bytes; /* of all texts */
    uint32_t file_count;
};

struct history {
    struct io *io;
    char *directory; /* NULL = nothing is kept */
    uint32_t last_number;
    uint32_t count;
    struct history_entry entries[HISTORY_COUNT_MAX + 1]; /* by number */
};

/* 0, or why nothing can be kept. directory: made when it is missing; its parent must be there. */
int history_open(struct history *history, struct io *io, const char *directory);
void history_close(struct history *history);
/*
 * Keeps the texts and drops the oldest ones above the bound; number, hash, bytes and file_count
 * are filled in. Durable when it returns 0. The same texts as the newest ones add nothing: 1.
 */
int history_add(struct history *history, struct history_entry *entry,
                const struct conf_files *files);
/* NULL when there is none of that number. */
const struct history_entry *history_find(const struct history *history, uint32_t number);
/* The newest one, or NULL. */
const struct history_entry *history_newest(const struct history *history);
/* The texts, which are the caller's then; E_DAMAGED when the file is not as it was written. */
int history_read(const struct history *history, uint32_t number, struct conf_files **ret_files);
const char *history_cause_name(enum history_cause cause);
