#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/control_int.h"

#define ROWS_PER_TURN      256u
#define ROWS_TO_FINISH     100000u
#define SETTLE_INTERVAL_NS 200000000ull
#define RETRY_INTERVAL_NS  1000000000ull

static bool is_given_twice(const struct conf *conf, uint32_t position)
{
    const char *path = conf_acct_file_at(conf, position)->path;

    for (uint32_t i = 0; i < position; i++) {
        if (strcmp(conf_acct_file_at(conf, i)->path, path) == 0)
            return true;
    }
    return false;
}

int accounts_open(struct control *control)
{
    const struct conf *conf = control->conf;
    uint32_t count = conf_acct_file_count(conf);
    const char *state_dir = conf_global(conf)->spools[0].path;

    control->accounts = mem_alloc(sizeof(*control->accounts) * (count > 0 ? count : 1));
    for (uint32_t i = 0; i < count; i++) {
        const struct conf_acct_file *settings = conf_acct_file_at(conf, i);
        struct control_account *account = &control->accounts[i];
        int result = is_given_twice(conf, i) ? E_EXISTS : 0;

        account->control = control;
        account->notice.number = i + 1;
        if (result >= 0)
            result = account_open(control->io, control->wiring.spool, settings, state_dir, i + 1,
                                  &account->account);
        if (result < 0) {
            log_error("accounting file %s: %s", settings->path, err_text(result));
            return result;
        }
        control->account_count = i + 1;
    }
    return 0;
}

void accounts_close(struct control *control)
{
    for (uint32_t i = 0; i < control->account_count; i++)
        account_close(control->accounts[i].account);
    mem_free(control->accounts);
    control->accounts = NULL;
    control->account_count = 0;
}

/* Tells the spool what it may forget, one notice at a time. */
static void tell_spool(struct control_account *account, const struct log_place *done)
{
    struct control *control = account->control;

    if (account->notice_is_out || done->serial == account->told.serial)
        return;
    account->told = *done;
    account->notice.parcel.kind = SPOOL_CURSOR_AT;
    account->notice.parcel.from = control->wiring.spool_client;
    account->notice.place = *done;
    account->notice_is_out = true;
    mailbox_post(control->wiring.to_spool, &account->notice.parcel);
}

void accounts_on_notice(struct control *control, struct spool_notice *notice)
{
    struct control_account *account = container_of(notice, struct control_account, notice);

    account->notice_is_out = false;
}

static void settle(struct control_account *account)
{
    struct log_place done;

    if (account_settle(account->account, &done) >= 0)
        tell_spool(account, &done);
}

static void on_settled(void *context, const struct log_place *done)
{
    tell_spool(context, done);
}

/* True when there is more to take at once. */
static bool take_turn(struct control_account *account, uint64_t now_ns)
{
    int taken = 0;

    if (now_ns >= account->retry_at_ns)
        taken = account_advance(account->account, ROWS_PER_TURN);
    if (taken < 0)
        account->retry_at_ns = now_ns + RETRY_INTERVAL_NS;
    /* The disk may take long, and operators must not wait for it. */
    if (now_ns >= account->settle_at_ns && !account_is_settling(account->account)) {
        account->settle_at_ns = now_ns + SETTLE_INTERVAL_NS;
        account_settle_begin(account->account, on_settled, account);
    }
    return taken == (int)ROWS_PER_TURN;
}

bool accounts_turn(struct control *control)
{
    uint64_t now_ns = io_now_ns(control->io);
    bool more = false;

    for (uint32_t i = 0; i < control->account_count; i++)
        more |= take_turn(&control->accounts[i], now_ns);
    return more;
}

void accounts_finish(struct control *control)
{
    for (uint32_t i = 0; i < control->account_count; i++) {
        account_advance(control->accounts[i].account, ROWS_TO_FINISH);
        settle(&control->accounts[i]);
    }
}

bool accounts_stop(struct control *control, bool is_late)
{
    bool are_ready = true;

    for (uint32_t i = 0; i < control->account_count; i++)
        are_ready &= account_stop(control->accounts[i].account, is_late);
    return are_ready;
}
