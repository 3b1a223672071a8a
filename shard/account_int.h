/*
 * account_int: the inside of an accounting file, shared by account*.c and by nobody else.
 *
 *   account.c        the cursor, the buffer, settling
 *   account_file.c   names, creation, ending, moving and removal of files
 *   account_pipe.c   a program in the place of the file
 *   account_settle.c settling while the loop goes on
 *   account_state.c  the two-slot state on the disk
 */
#pragma once

#include "core/obs/acct_layout.h"
#include "shard/account.h"

#define ACCOUNT_NAME_MAX   256  /* of a file, without its directory, with NUL */
#define ACCOUNT_SLOT_BYTES 512u /* of the state */

/* What is on the disk: everything before `place` stands in files; `name` holds `bytes` of it. */
struct account_state {
    uint64_t sequence; /* 0 = nothing was ever stored */
    struct log_place place;
    uint64_t bytes;     /* 0 = named, but perhaps not created yet */
    uint64_t opened_us; /* wall clock */
    char name[ACCOUNT_NAME_MAX];
};

enum account_settling {
    ACCOUNT_AT_REST,
    ACCOUNT_SYNCS_ROWS,
    ACCOUNT_STORES_STATE,
};

/* A file name's own part. */
struct account_name {
    uint32_t year;
    uint32_t month;
    uint32_t day;
    uint32_t number;
};

struct account {
    struct io *io;
    struct spool *spool;
    struct spool_cursor *cursor;
    uint64_t number;

    /* Settings, copied. */
    char *path;
    char *directory;
    char *stem;      /* of the file name */
    char *extension; /* with its dot, or empty */
    char *move_to;   /* NULL = off */
    unsigned records;
    uint64_t move_interval_us;
    uint64_t max_size_bytes;
    uint64_t delete_after_us; /* UINT64_MAX = never */
    unsigned create_flags;    /* enum io_file_flags */
    struct acct_csv_layout layout;
    struct conf_queue_filter *filter; /* NULL = all queues */
    bool count_moved_records;
    uint32_t header_bytes;

    /* On the disk. */
    int state_fd;
    bool state_is_named;     /* the state file's name is durable */
    bool state_is_durable;   /* what was read at the start is known to be on the disk */
    bool state_is_uncertain; /* a store failed: a later start may find the old state or the new */
    char *state_dir;
    struct account_state state;

    /* The file being written. */
    int fd;                 /* -1 = none */
    bool file_is_named;     /* its name is durable */
    bool file_is_synced;    /* nothing was written since its last sync */
    bool must_rewind;       /* a sync failed: nothing after the state can be trusted */
    uint64_t file_bytes;    /* written */
    uint64_t prune_next_us; /* wall clock of the next look for files to remove */
    struct log_place taken; /* just behind the last outcome taken */

    /* An outcome taken from the cursor that could not be put into a file yet. */
    bool has_pending;
    struct slice pending;
    struct log_place pending_after;

    uint64_t stalled_since_ns; /* 0 = fine */
    int error;
    uint64_t rows;
    uint64_t skipped;
    uint32_t buffer_used;
    char *buffer;
    struct account_pipe *pipe; /* of a program; NULL = a file */

    /* While the disk settles (account_settle.c), which `op` waits for. */
    enum account_settling settling;
    uint64_t settling_since_ns;
    struct io_op op;
    struct account_state next;
    uint8_t *slot;
    account_settled_fn *on_settled;
    void *on_settled_context;
};

struct account_pipe;

/* account.c */
int account_note_failure(struct account *account, int error);
/* Hands the buffer to the file. What could not be written stays and is tried again. */
int account_flush(struct account *account);
/* What became of a sync of the file: its name is made durable too. */
int account_note_sync(struct account *account, int result);
/* The state that counts all that was taken; true when it says something new. */
bool account_next_state(const struct account *account, struct account_state *ret_next);
/* A file has been settled: it ends when it is due. */
void account_tend_file(struct account *account);
void account_note_success(struct account *account);
/* Reads on behind `place`. */
void account_place_cursor(struct account *account, const struct log_place *place);
bool account_is_same_place(const struct log_place *a, const struct log_place *b);
/* What was taken from the cursor. False when it has no row. */
bool account_decode(struct account *account, struct outcome *ret_outcome);

/* account_pipe.c: as the functions of account.h. */
int account_pipe_open(struct account *account, const struct conf_acct_file *settings);
void account_pipe_free(struct account *account);
int account_pipe_advance(struct account *account, uint32_t row_count_max);
int account_pipe_settle(struct account *account, struct log_place *ret_done);
/* What the program has read up to. */
struct log_place account_pipe_passed(const struct account *account);
bool account_pipe_stop(struct account *account, bool is_late);
bool account_pipe_is_up(const struct account *account);

/* account_state.c: opens or creates the state file and reads it. 0 or negative. */
int account_state_open(struct account *account);
void account_state_close(struct account *account);
/*
 * What was read at the start may have come from memory alone: a former life whose sync failed
 * leaves it there, marked clean. It is written once more before anything relies on it.
 */
int account_state_confirm(struct account *account);
/* Makes `next` the state on the disk and in memory, sequence set here. 0 or negative: then the old
 * one stays in force and the same slot is written again next time. */
int account_state_store(struct account *account, const struct account_state *next);
/* The same in two parts, with account->op under way between them: its result goes into the second,
 * which returns what account_state_store does. The state that is in force has been confirmed. */
void account_state_store_begin(struct account *account, const struct account_state *next);
int account_state_store_end(struct account *account, int32_t result);

/* account_file.c */
int account_file_settings(struct account *account, const struct conf_acct_file *settings);
void account_file_free(struct account *account);
/* Continues the file that the state names, cut back to it; none when it has been moved away. */
int account_file_resume(struct account *account);
/* Names the next file in the state and creates it. */
int account_file_create(struct account *account);
/* The file has been settled and is due: closes it and moves it to where it belongs. */
void account_file_end(struct account *account);
bool account_file_is_old(const struct account *account);
/* Moves files away that an earlier life could not move. */
void account_file_sweep(struct account *account);
/* Removes finished files that are older than they shall be, at most once an hour; none where files
 * are moved away. */
void account_file_prune(struct account *account);
/* Directory and name in one string of the heap. */
char *account_join(const char *directory, const char *name);
