/*
 * Settling while the loop goes on:
 *
 *   AT_REST -> SYNCS_ROWS -> STORES_STATE -> AT_REST
 *
 * Either step is left out when there is nothing for it to do, and a failure leads from it to
 * AT_REST. What happens once for a file (its name, its end) waits for the disk as it comes.
 */
#include "core/base/must.h"
#include "shard/account_int.h"

static void rest(struct account *account, int result)
{
    account->settling = ACCOUNT_AT_REST;
    if (result < 0) {
        account_note_failure(account, result);
        return;
    }
    if (!account->pipe)
        account_tend_file(account);
    account->on_settled(account->on_settled_context, &account->state.place);
}

static void on_stored(struct io_op *op, int32_t result)
{
    struct account *account = container_of(op, struct account, op);

    rest(account, account_state_store_end(account, result));
}

/* What a former life has left is confirmed once in a life, and so is the name of the state's file.
 */
static void store(struct account *account)
{
    struct account_state next;
    bool is_new = account_next_state(account, &next);

    if (is_new && account->state_is_named && account->state_is_durable) {
        account->settling = ACCOUNT_STORES_STATE;
        io_op_init(&account->op, on_stored);
        account_state_store_begin(account, &next);
        return;
    }
    rest(account, is_new ? account_state_store(account, &next) : account_state_confirm(account));
}

static void on_synced(struct io_op *op, int32_t result)
{
    struct account *account = container_of(op, struct account, op);

    result = account_note_sync(account, result);
    if (result < 0)
        rest(account, result);
    else
        store(account);
}

void account_settle_begin(struct account *account, account_settled_fn *settled, void *context)
{
    int result;

    must(!account_is_settling(account));
    if (account->must_rewind)
        return;
    account->on_settled = settled;
    account->on_settled_context = context;
    account->settling_since_ns = io_now_ns(account->io);
    result = account->pipe ? 0 : account_flush(account);
    if (result < 0) {
        rest(account, result);
    } else if (account->fd >= 0 && !account->file_is_synced) {
        account->settling = ACCOUNT_SYNCS_ROWS;
        io_op_init(&account->op, on_synced);
        io_sync(account->io, &account->op, account->fd);
    } else {
        store(account);
    }
}

bool account_is_settling(const struct account *account)
{
    return account->settling != ACCOUNT_AT_REST;
}
