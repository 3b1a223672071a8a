#include "shard/account_int.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>

#define BUFFER_BYTES (256u * 1024)
#define WRITE_BYTES  (128u * 1024) /* a write is due when so much waits */
#define GUARD_NUMBER (1ull << 32)
#define LATE_NS      5000000000ull /* a disk that settles longer is told of */

_Static_assert(BUFFER_BYTES >= WRITE_BYTES + 2 * ACCT_CSV_ROW_MAX,
               "a header and a row always fit behind what waits");

/* A stall is over only when something was settled: rows that merely wait in memory prove nothing.
 */
int account_note_failure(struct account *account, int error)
{
    if (account->stalled_since_ns == 0) {
        account->stalled_since_ns = io_now_ns(account->io);
        log_error("accounting: %s cannot be written: %s", account->path, err_text(error));
    }
    account->error = error;
    return error;
}

void account_note_success(struct account *account)
{
    if (account->stalled_since_ns == 0 || account->has_pending)
        return;
    log_info("accounting: %s is being written again", account->path);
    account->stalled_since_ns = 0;
    account->error = 0;
}

/* ---- Opening -------------------------------------------------------------------------------- */

/*
 * A cursor of another number holds the place while ours is made anew: else the spool might recycle
 * what we are about to read. The spool is never told anything under that number.
 */
void account_place_cursor(struct account *account, const struct log_place *place)
{
    struct spool_cursor *guard =
        spool_cursor_create(account->spool, account->io, account->number | GUARD_NUMBER, place);

    spool_cursor_destroy(account->cursor);
    account->cursor = spool_cursor_create(account->spool, account->io, account->number, place);
    spool_cursor_destroy(guard);
}

/*
 * Goes back to what the state covers. The file must not be cut back while a later start could find
 * a newer state that counts on more of it.
 */
static int rewind_to_state(struct account *account)
{
    int result = 0;

    if (account->state_is_uncertain)
        result = account_state_store(account, &account->state);
    if (result >= 0 && !account->pipe)
        result = account_file_resume(account);
    if (result < 0)
        return result;
    account_place_cursor(account, &account->state.place);
    account->taken = account->state.place;
    account->has_pending = false;
    account->must_rewind = false;
    return 0;
}

/* Whatever a former life renamed last may not be on the disk yet; it also shows that the directory
 * is there. */
static int sync_directory(struct account *account, const char *directory)
{
    int result = io_dir_sync(account->io, directory);

    if (result < 0)
        log_error("accounting: %s: %s", directory, err_text(result));
    return result;
}

static int sync_directories(struct account *account)
{
    int result = sync_directory(account, account->directory);

    if (result >= 0 && account->move_to != NULL)
        result = sync_directory(account, account->move_to);
    return result;
}

static void account_free(struct account *account)
{
    if (account->fd >= 0)
        io_close_now(account->io, account->fd);
    account_state_close(account);
    account_pipe_free(account);
    spool_cursor_destroy(account->cursor);
    account_file_free(account);
    mem_free(account->state_dir);
    mem_free(account->buffer);
    mem_free(account->slot);
    mem_free(account);
}

int account_open(struct io *io, struct spool *spool, const struct conf_acct_file *settings,
                 const char *state_dir, uint64_t number, struct account **ret_account)
{
    struct account *account = mem_alloc(sizeof(*account));
    int result;

    account->io = io;
    account->spool = spool;
    account->number = number;
    account->fd = -1;
    account->state_fd = -1;
    account->state_dir = mem_strdup(state_dir);
    account->buffer = mem_alloc(BUFFER_BYTES);
    account->slot = mem_alloc(ACCOUNT_SLOT_BYTES);
    result = account_file_settings(account, settings);
    if (result >= 0 && settings->path[0] != '|')
        result = sync_directories(account);
    if (result >= 0)
        result = account_state_open(account);
    if (result >= 0 && settings->path[0] == '|')
        result = account_pipe_open(account, settings);
    if (result >= 0)
        result = rewind_to_state(account);
    if (result < 0) {
        account_free(account);
        return result;
    }
    if (!account->pipe)
        account_file_sweep(account);
    *ret_account = account;
    return 0;
}

void account_close(struct account *account)
{
    struct log_place done;

    if (account == NULL)
        return;
    account_settle(account, &done);
    account_free(account);
}

/* ---- Rows ----------------------------------------------------------------------------------- */

int account_flush(struct account *account)
{
    int64_t written;

    if (account->buffer_used == 0)
        return 0;
    must(account->fd >= 0);
    account->file_is_synced = false;
    written = io_file_write_now(account->io, account->fd, account->buffer, account->buffer_used,
                                account->file_bytes);
    if (written < 0)
        return (int)written;
    if (written != account->buffer_used)
        return -EIO;
    account->file_bytes += account->buffer_used;
    account->buffer_used = 0;
    return 0;
}

/* The filter is about deliveries; a receipt knows no queue. */
static bool is_wanted(const struct account *account, const struct outcome *outcome)
{
    return (outcome->flags & OUTCOME_NO_ACCOUNTING) == 0 &&
           (acct_kind_of(outcome) & account->records) != 0 &&
           (account->filter == NULL || outcome->kind == OUTCOME_RECEIVED ||
            conf_queue_filter_has(account->filter, outcome->queue));
}

/* A row for the open file, or E_FULL when it would make the file longer than it may be. A file
 * holds at least one row, however long that is. */
static int put_row(struct account *account, const struct outcome *outcome)
{
    char *room = account->buffer + account->buffer_used;
    bool is_empty = account->file_bytes + account->buffer_used <= 1024;
    int len = acct_csv_row(&account->layout, outcome, room, ACCT_CSV_ROW_MAX);

    must(len > 0);
    if (!is_empty &&
        account->file_bytes + account->buffer_used + (uint64_t)len > account->max_size_bytes)
        return E_FULL;
    account->buffer_used += (uint32_t)len;
    account->rows++;
    return 0;
}

static int settle_file(struct account *account);

bool account_decode(struct account *account, struct outcome *ret_outcome)
{
    int result = outcome_decode(account->pending, ret_outcome);

    if (result >= 0)
        return is_wanted(account, ret_outcome);
    log_error("accounting: an outcome in the log cannot be read and has no row: %s",
              err_text(result));
    account->skipped++;
    return false;
}

static int write_pending(struct account *account)
{
    struct outcome outcome;
    int result;

    if (!account_decode(account, &outcome))
        return 0;
    if (account->fd >= 0) {
        result = put_row(account, &outcome);
        if (result != E_FULL)
            return result;
        result = settle_file(account);
        if (result < 0)
            return result;
        account_file_end(account);
    }
    result = account_file_create(account);
    return result < 0 ? result : put_row(account, &outcome);
}

static int take_one(struct account *account)
{
    int result;

    if (account->buffer_used >= WRITE_BYTES) {
        result = account_flush(account);
        if (result < 0)
            return result;
    }
    if (!account->has_pending) {
        result = spool_cursor_next(account->cursor, &account->pending, &account->pending_after);
        if (result <= 0)
            return result;
        account->has_pending = true;
    }
    result = write_pending(account);
    if (result < 0)
        return result;
    account->has_pending = false;
    account->taken = account->pending_after;
    return 1;
}

int account_advance(struct account *account, uint32_t row_count_max)
{
    uint32_t count = 0;
    int result = 0;

    if (account_is_settling(account))
        return 0;
    if (account->pipe)
        return account_pipe_advance(account, row_count_max);
    if (account->must_rewind)
        result = rewind_to_state(account);
    while (result >= 0 && count < row_count_max) {
        result = take_one(account);
        if (result <= 0)
            break;
        count++;
    }
    return result < 0 ? account_note_failure(account, result) : (int)count;
}

/* ---- Settling ------------------------------------------------------------------------------- */

bool account_is_same_place(const struct log_place *a, const struct log_place *b)
{
    return a->serial == b->serial && a->offset == b->offset;
}

int account_note_sync(struct account *account, int result)
{
    if (result >= 0 && !account->file_is_named)
        result = io_dir_sync(account->io, account->directory);
    if (result < 0) {
        /* After a failed sync the system may hold the lost bytes for written, and no later sync
         * would tell: they are written anew. */
        account->must_rewind = true;
        return result;
    }
    account->file_is_named = true;
    account->file_is_synced = true;
    return 0;
}

bool account_next_state(const struct account *account, struct account_state *ret_next)
{
    *ret_next = account->state;
    ret_next->place = account->pipe ? account_pipe_passed(account) : account->taken;
    if (!account->pipe && account->fd >= 0)
        ret_next->bytes = account->file_bytes;
    return !account_is_same_place(&ret_next->place, &account->state.place) ||
           ret_next->bytes != account->state.bytes;
}

void account_tend_file(struct account *account)
{
    account_note_success(account);
    if (account_file_is_old(account))
        account_file_end(account);
    account_file_prune(account);
}

static int settle_file(struct account *account)
{
    struct account_state next;
    int result = account_flush(account);

    if (result >= 0 && account->fd >= 0 && !account->file_is_synced)
        result = account_note_sync(account, io_file_sync_now(account->io, account->fd));
    if (result < 0)
        return result;
    return account_next_state(account, &next) ? account_state_store(account, &next)
                                              : account_state_confirm(account);
}

int account_settle(struct account *account, struct log_place *ret_done)
{
    int result;

    must(!account_is_settling(account));
    if (account->pipe)
        return account_pipe_settle(account, ret_done);
    if (account->must_rewind)
        return account->error;
    result = settle_file(account);
    if (result < 0)
        return account_note_failure(account, result);
    account_tend_file(account);
    *ret_done = account->state.place;
    return 0;
}

bool account_stop(struct account *account, bool is_late)
{
    bool is_ready = !account->pipe || account_pipe_stop(account, is_late);

    return is_ready && !account_is_settling(account);
}

void account_status_read(const struct account *account, struct account_status *ret_status)
{
    uint64_t since_ns = account->stalled_since_ns, now_ns = io_now_ns(account->io);
    bool is_late = since_ns == 0 && account_is_settling(account) &&
                   now_ns >= account->settling_since_ns + LATE_NS;

    if (is_late)
        since_ns = account->settling_since_ns;
    *ret_status = (struct account_status){
        .path = account->path,
        .file = account->pipe      ? account_pipe_is_up(account) ? "running" : ""
                : account->fd >= 0 ? account->state.name
                                   : "",
        .rows = account->rows,
        .skipped = account->skipped,
        .stalled_ns = since_ns == 0 ? 0 : now_ns - since_ns + 1,
        .error = is_late ? E_LATE : account->error,
    };
}
