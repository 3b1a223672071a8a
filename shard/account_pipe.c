/*
 * Accounting to a program: the rows go to its standard input, the header first at each start.
 *
 * Rows count as passed on when the program has read them, which the socket's queue tells: one batch
 * is on its way at a time, and the next one is sent when that queue is empty. So a program that
 * dies costs no row; those of the batch it was at come again. It is started again `retry-interval`
 * after it ended or took nothing for `write-timeout`; what it has not taken stays in the log
 * meanwhile.
 *
 *   DOWN -> UP -> CLOSING -> REAPING -> DOWN
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/text.h"
#include "shard/account_int.h"

#include <errno.h>

#define BATCH_BYTES (128u * 1024)
#define LOOK_NS     2000000ull
#define WORDS_MAX   64u
#define WORDS_BYTES 4096u

enum pipe_state {
    PIPE_DOWN,
    PIPE_UP,
    PIPE_CLOSING,
    PIPE_REAPING, /* it has not ended yet */
};

struct account_pipe {
    struct account *account;
    enum pipe_state state;
    int fd;
    int process;
    bool is_stopped; /* for good */
    bool is_sending;
    bool is_unread; /* a batch is on its way */
    uint64_t unread;
    uint64_t deadline_ns; /* of that; moves with whatever is read */
    uint64_t retry_at_ns;
    uint64_t retry_ns;
    uint64_t timeout_ns;
    struct log_place batch;  /* just behind what is on its way */
    struct log_place passed; /* just behind what was read */
    struct io_op send;
    struct io_op close;
    struct io_recv recv;
    struct io_timer look_timer;
    struct iovec iov;
    char words[WORDS_BYTES];
    char *arguments[WORDS_MAX + 1];
};

/* ---- The program's end ----------------------------------------------------------------------- */

static void close_pipe(struct account_pipe *pipe)
{
    struct io *io = pipe->account->io;

    if (pipe->state != PIPE_UP)
        return;
    pipe->state = PIPE_CLOSING;
    io_timer_stop(io, &pipe->look_timer);
    io_close(io, &pipe->close, pipe->fd);
}

/* What it has not read comes again. */
static int give_up(struct account_pipe *pipe, int error)
{
    struct io *io = pipe->account->io;

    pipe->retry_at_ns = io_now_ns(io) + pipe->retry_ns;
    if (pipe->state == PIPE_UP)
        io_program_kill(io, pipe->process, true);
    close_pipe(pipe);
    return account_note_failure(pipe->account, error);
}

static void on_closed(struct io_op *op, int32_t result)
{
    struct account_pipe *pipe = container_of(op, struct account_pipe, close);

    (void)result;
    pipe->state = PIPE_REAPING;
}

static size_t on_output(struct io_recv *recv, const uint8_t *data, size_t len)
{
    (void)recv;
    (void)data;
    return len;
}

static void on_output_end(struct io_recv *recv, int32_t reason)
{
    struct account_pipe *pipe = container_of(recv, struct account_pipe, recv);

    if (reason != -ECANCELED)
        (void)give_up(pipe, -EPIPE);
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct account_pipe *pipe = container_of(op, struct account_pipe, send);

    pipe->is_sending = false;
    if (result < 0 && result != -ECANCELED)
        (void)give_up(pipe, result);
}

/* It only wakes the loop, of which each turn looks. */
static void on_look(struct io_timer *timer)
{
    (void)timer;
}

/* ---- Starting -------------------------------------------------------------------------------- */

static int split_command(struct account_pipe *pipe, const char *command)
{
    struct slice rest = slice_trim(slice_str(command));
    struct text text = text_in(pipe->words, sizeof(pipe->words));
    uint32_t count = 0;

    while (rest.len > 0 && count < WORDS_MAX) {
        size_t end = slice_find(rest, ' ');

        pipe->arguments[count++] = pipe->words + text.len;
        text_put(&text, slice_of(rest.data, end));
        text_put_char(&text, '\0');
        rest = slice_trim(slice_after(rest, end));
    }
    return text.is_cut || rest.len > 0 ? E_TOO_LONG : count == 0 ? E_SYNTAX : 0;
}

int account_pipe_open(struct account *account, const struct conf_acct_file *settings)
{
    struct account_pipe *pipe = mem_alloc(sizeof(*pipe));

    account->pipe = pipe;
    pipe->account = account;
    pipe->passed = account->state.place;
    pipe->retry_ns =
        settings->retry_ms > UINT64_MAX / 2000000 ? UINT64_MAX / 2 : settings->retry_ms * 1000000;
    pipe->timeout_ns = settings->timeout_ms > UINT64_MAX / 2000000 ? UINT64_MAX / 2
                                                                   : settings->timeout_ms * 1000000;
    io_op_init(&pipe->send, on_sent);
    io_op_init(&pipe->close, on_closed);
    io_timer_init(&pipe->look_timer, on_look);
    return split_command(pipe, settings->path + 1);
}

void account_pipe_free(struct account *account)
{
    mem_free(account->pipe);
}

static int start(struct account_pipe *pipe)
{
    struct account *account = pipe->account;
    int result = io_program_start(account->io, pipe->arguments, &pipe->fd, &pipe->process);

    if (result < 0)
        return give_up(pipe, result);
    pipe->state = PIPE_UP;
    pipe->is_sending = false;
    pipe->is_unread = false;
    memset(&pipe->recv, 0, sizeof(pipe->recv));
    pipe->recv.on_data = on_output;
    pipe->recv.on_end = on_output_end;
    io_recv_start(account->io, &pipe->recv, pipe->fd);
    account_place_cursor(account, &pipe->passed);
    account->taken = pipe->passed;
    account->has_pending = false;
    result = acct_csv_header(&account->layout, account->buffer, ACCT_CSV_ROW_MAX);
    must(result > 0);
    account->buffer_used = (uint32_t)result;
    return 0;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* True when what was sent has been read. */
static bool is_read(struct account_pipe *pipe)
{
    struct account *account = pipe->account;
    uint64_t unread = io_program_unread(account->io, pipe->fd);
    uint64_t now_ns = io_now_ns(account->io);

    if (!pipe->is_sending && unread == 0) {
        pipe->is_unread = false;
        pipe->passed = pipe->batch;
        account->buffer_used = 0;
        account_note_success(account);
        return true;
    }
    if (unread != pipe->unread)
        pipe->deadline_ns = now_ns + pipe->timeout_ns;
    pipe->unread = unread;
    if (now_ns >= pipe->deadline_ns)
        (void)give_up(pipe, -ETIMEDOUT);
    return false;
}

static void send_batch(struct account_pipe *pipe)
{
    struct account *account = pipe->account;
    uint64_t now_ns = io_now_ns(account->io);

    pipe->iov = (struct iovec){account->buffer, account->buffer_used};
    pipe->batch = account->taken;
    pipe->is_sending = true;
    pipe->is_unread = true;
    pipe->unread = 0;
    pipe->deadline_ns = now_ns + pipe->timeout_ns;
    io_send(account->io, &pipe->send, pipe->fd, &pipe->iov, 1);
}

/* Not all outcomes have a row: those are counted too, or one turn might read all of the log. */
static int gather(struct account *account, uint32_t row_count_max)
{
    int result = 1;
    uint32_t count = 0;

    while (account->buffer_used < BATCH_BYTES && count < row_count_max) {
        struct outcome outcome;

        result = spool_cursor_next(account->cursor, &account->pending, &account->pending_after);
        if (result <= 0)
            break;
        account->taken = account->pending_after;
        count++;
        if (!account_decode(account, &outcome))
            continue;
        account->rows++;
        account->buffer_used += (uint32_t)acct_csv_row(
            &account->layout, &outcome, account->buffer + account->buffer_used, ACCT_CSV_ROW_MAX);
    }
    return result < 0 ? result : (int)count;
}

int account_pipe_advance(struct account *account, uint32_t row_count_max)
{
    struct account_pipe *pipe = account->pipe;
    uint64_t now_ns = io_now_ns(account->io);
    int status, count;

    if (pipe->state == PIPE_REAPING && io_program_has_ended(account->io, pipe->process, &status))
        pipe->state = PIPE_DOWN;
    if (pipe->state == PIPE_DOWN && (pipe->is_stopped || now_ns < pipe->retry_at_ns))
        return 0;
    if (pipe->state == PIPE_DOWN && start(pipe) < 0)
        return 0;
    if (pipe->state != PIPE_UP)
        return 0;
    if (!io_timer_is_armed(&pipe->look_timer) && pipe->is_unread)
        io_timer_arm(account->io, &pipe->look_timer, now_ns + LOOK_NS);
    if (pipe->is_unread && !is_read(pipe))
        return 0;
    count = gather(account, row_count_max);
    if (count < 0)
        return account_note_failure(account, count);
    if (account->buffer_used > 0)
        send_batch(pipe);
    else
        pipe->passed = account->taken;
    return count;
}

int account_pipe_settle(struct account *account, struct log_place *ret_done)
{
    struct account_state next;
    int result = account_next_state(account, &next) ? account_state_store(account, &next)
                                                    : account_state_confirm(account);

    if (result < 0)
        return account_note_failure(account, result);
    *ret_done = account->state.place;
    return 0;
}

struct log_place account_pipe_passed(const struct account *account)
{
    return account->pipe->passed;
}

bool account_pipe_stop(struct account *account, bool is_late)
{
    struct account_pipe *pipe = account->pipe;

    if (!is_late && pipe->state == PIPE_UP && pipe->is_unread)
        return false;
    pipe->is_stopped = true;
    close_pipe(pipe);
    return pipe->state == PIPE_DOWN || pipe->state == PIPE_REAPING;
}

bool account_pipe_is_up(const struct account *account)
{
    return account->pipe->state == PIPE_UP;
}
