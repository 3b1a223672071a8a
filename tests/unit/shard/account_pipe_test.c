/* Accounting to a real program, on a log that is a rule here. */
#include "shard/account.h"

#include "core/base/mem.h"
#include "core/io/io_uring.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <unistd.h>

#define OUTCOMES 200000u
#define ROWS_MAX 256u

static uint32_t reads; /* outcomes that a cursor has given */
static char directory[] = "/tmp/ringpost-pipe-XXXXXX";

struct spool {
    char unused;
};

struct spool_cursor {
    uint32_t at;
    uint8_t record[512];
};

struct spool_cursor *spool_cursor_create(struct spool *spool, struct io *io, uint64_t number,
                                         const struct log_place *from)
{
    struct spool_cursor *cursor = mem_alloc(sizeof(*cursor));

    cursor->at = from->serial == 0 ? 0 : from->offset;
    return cursor;
}

void spool_cursor_destroy(struct spool_cursor *cursor)
{
    mem_free(cursor);
}

/* The last one has a row; none of the others. */
int spool_cursor_next(struct spool_cursor *cursor, struct slice *ret_outcome,
                      struct log_place *ret_after)
{
    struct outcome outcome = {.kind = OUTCOME_DELIVERED, .rcpt = SLICE_LITERAL("a@x.test")};
    int len;

    if (cursor->at == OUTCOMES)
        return 0;
    reads++;
    cursor->at++;
    outcome.flags = cursor->at == OUTCOMES ? 0 : OUTCOME_NO_ACCOUNTING;
    len = outcome_encode(&outcome, cursor->record, sizeof(cursor->record));
    assert_true(len > 0);
    *ret_outcome = slice_of(cursor->record, (size_t)len);
    *ret_after = (struct log_place){.serial = 1, .offset = cursor->at};
    return 1;
}

static void a_turn_is_bounded(void **state)
{
    char command[256], path[128], text[4096] = "";
    struct conf_acct_file settings = {.path = command,
                                      .records = CONF_ACCT_DELIVERED,
                                      .max_size_bytes = UINT64_MAX,
                                      .delete_after_ms = CONF_UNLIMITED,
                                      .retry_ms = 1000,
                                      .timeout_ms = 10000};
    struct io_options options = {.name = "test"};
    struct log_place done = {0};
    struct account *account;
    struct spool spool;
    struct io *io;
    FILE *file;

    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/rows", directory);
    snprintf(command, sizeof(command), "|/usr/bin/tee %s", path);
    assert_int_equal(io_create(&options, &io), 0);
    assert_int_equal(account_open(io, &spool, &settings, directory, 1, &account), 0);
    for (uint32_t i = 0; i < 100000 && done.offset < OUTCOMES; i++) {
        uint32_t before = reads;

        assert_true(account_advance(account, ROWS_MAX) >= 0);
        assert_true(reads - before <= ROWS_MAX);
        if (i % 64 == 0)
            assert_true(account_settle(account, &done) >= 0);
        io_turn(io, reads - before == ROWS_MAX ? 0 : 1000000);
    }
    assert_int_equal(done.offset, OUTCOMES);
    while (!account_stop(account, false))
        io_turn(io, 1000000);
    account_close(account);
    io_destroy(io);
    /* The program has read it, and may not have written it yet. */
    while (strstr(text, "a@x.test") == NULL) {
        usleep(1000);
        file = fopen(path, "r");
        assert_non_null(file);
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        fclose(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_is_bounded),
    };

    alarm(240);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
