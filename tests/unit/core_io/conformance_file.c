/* Files and directories. */
#include "tests/unit/core_io/conformance.h"

#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 };

static int open_file(const char *name, unsigned flags)
{
    int fd = -1;

    assert_int_equal(io_file_open(the_io, backend_path(the_world, name), flags, &fd), 0);
    assert_true(fd >= 0);
    return fd;
}

static int open_new(const char *name)
{
    return open_file(name, IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE);
}

static int32_t write_and_wait(int fd, const void *data, uint32_t len, uint64_t at, bool durable)
{
    struct waited waited;

    waited_init(&waited);
    START(io_write(the_io, &waited.op, fd, data, len, at, durable));
    return waited_wait(&waited);
}

static int32_t read_and_wait(int fd, void *data, uint32_t len, uint64_t at)
{
    struct waited waited;

    waited_init(&waited);
    START(io_read(the_io, &waited.op, fd, data, len, at));
    return waited_wait(&waited);
}

static int32_t sync_and_wait(int fd)
{
    struct waited waited;

    waited_init(&waited);
    START(io_sync(the_io, &waited.op, fd));
    return waited_wait(&waited);
}

static int32_t close_and_wait(int fd)
{
    struct waited waited;

    waited_init(&waited);
    START(io_close(the_io, &waited.op, fd));
    return waited_wait(&waited);
}

static void open_says_what_is_wrong(void **state)
{
    int fd = -1;

    assert_int_equal(io_file_open(the_io, backend_path(the_world, "none"), IO_FILE_READ, &fd),
                     -ENOENT);
    io_close_now(the_io, open_new("one"));
    assert_int_equal(io_file_open(the_io, backend_path(the_world, "one"),
                                  IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE, &fd),
                     -EEXIST);
    assert_int_equal(fd, -1);
    io_close_now(the_io, open_file("one", IO_FILE_WRITE | IO_FILE_CREATE));
}

static void what_is_written_is_read(void **state)
{
    static uint8_t out[100000];
    static uint8_t in[100000];
    int fd = open_new("data");

    pattern_fill(out, 0, sizeof(out));
    assert_int_equal(write_and_wait(fd, out, sizeof(out), 0, false), sizeof(out));
    assert_int_equal(read_and_wait(fd, in, sizeof(in), 0), sizeof(in));
    assert_memory_equal(in, out, sizeof(out));
    assert_int_equal(read_and_wait(fd, in, 1000, 50001), 1000);
    assert_memory_equal(in, out + 50001, 1000);
    assert_int_equal(write_and_wait(fd, out, 10, 500, true), 10);
    assert_int_equal(read_and_wait(fd, in, 20, 495), 20);
    assert_memory_equal(in, out + 495, 5);
    assert_memory_equal(in + 5, out, 10);
    assert_memory_equal(in + 15, out + 510, 5);
    assert_int_equal(sync_and_wait(fd), 0);
    assert_int_equal(close_and_wait(fd), 0);

    fd = open_file("data", IO_FILE_READ);
    assert_int_equal(io_file_read_now(the_io, fd, in, sizeof(in), 0), sizeof(in));
    assert_memory_equal(in, out, 500);
    assert_memory_equal(in + 510, out + 510, sizeof(out) - 510);
    io_close_now(the_io, fd);
}

static void read_ends_with_the_file(void **state)
{
    uint8_t room[300];
    int fd = open_new("short");

    assert_int_equal(io_file_write_now(the_io, fd, "0123456789", 10, 0), 10);
    assert_int_equal(read_and_wait(fd, room, sizeof(room), 4), 6);
    assert_memory_equal(room, "456789", 6);
    assert_int_equal(read_and_wait(fd, room, sizeof(room), 10), 0);
    assert_int_equal(read_and_wait(fd, room, sizeof(room), 99), 0);
    assert_int_equal(read_and_wait(fd, room, 0, 0), 0);
    assert_int_equal(write_and_wait(fd, room, 0, 0, false), 0);
    assert_int_equal(io_file_read_now(the_io, fd, room, sizeof(room), 8), 2);
    io_close_now(the_io, fd);
}

static void write_to_a_read_only_file_fails(void **state)
{
    int fd;

    io_close_now(the_io, open_new("fixed"));
    fd = open_file("fixed", IO_FILE_READ);
    assert_int_equal(write_and_wait(fd, "x", 1, 0, true), -EBADF);
    assert_true(io_file_write_now(the_io, fd, "x", 1, 0) < 0);
    io_close_now(the_io, fd);
}

static void direct_writes_are_durable_blocks(void **state)
{
    uint8_t *blocks = mem_alloc_aligned(4 * BLOCK, BLOCK);
    int fd = open_file("direct", IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_DIRECT);
    uint64_t bytes = 0;

    pattern_fill(blocks, 0, 2 * BLOCK);
    assert_int_equal(write_and_wait(fd, blocks, 2 * BLOCK, BLOCK, true), 2 * BLOCK);
    assert_int_equal(io_file_size(the_io, fd, &bytes), 0);
    assert_int_equal(bytes, 3 * BLOCK);
    memset(blocks, 7, 4 * BLOCK);
    assert_int_equal(read_and_wait(fd, blocks, 4 * BLOCK, 0), 3 * BLOCK);
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(blocks[i], 0);
    for (unsigned i = 0; i < 2 * BLOCK; i++)
        assert_int_equal(blocks[BLOCK + i], pattern_byte(i));

    /* A file that does not end with a block. */
    assert_int_equal(io_file_truncate(the_io, fd, 2 * BLOCK + 100), 0);
    assert_int_equal(read_and_wait(fd, blocks, 4 * BLOCK, 0), 2 * BLOCK + 100);
    assert_int_equal(io_file_read_now(the_io, fd, blocks, 4 * BLOCK, BLOCK), BLOCK + 100);
    assert_int_equal(close_and_wait(fd), 0);
    mem_free(blocks);
}

static void many_operations_at_once(void **state)
{
    enum { OPS = 3000 };
    struct waited *reads = calloc(OPS, sizeof(*reads));
    uint32_t *numbers = calloc(OPS, sizeof(*numbers));
    int fd = open_new("numbers");

    assert_true(reads != NULL && numbers != NULL);
    for (uint32_t i = 0; i < OPS; i++)
        assert_int_equal(io_file_write_now(the_io, fd, &i, sizeof(i), i * sizeof(i)), sizeof(i));
    for (uint32_t i = 0; i < OPS; i++) {
        waited_init(&reads[i]);
        START(io_read(the_io, &reads[i].op, fd, &numbers[i], sizeof(i), i * sizeof(i)));
    }
    for (uint32_t i = 0; i < OPS; i++) {
        assert_int_equal(waited_wait(&reads[i]), sizeof(i));
        assert_int_equal(reads[i].calls, 1);
        assert_int_equal(numbers[i], i);
    }
    assert_int_equal(close_and_wait(fd), 0);
    free(reads);
    free(numbers);
}

enum { JUGGLED = 40 };

struct juggler;

struct juggled {
    struct io_op op;
    struct juggler *juggler;
    uint8_t byte;
};

struct juggler {
    struct juggled balls[JUGGLED];
    int fd;
    uint64_t throws;
    uint64_t caught;
};

static void throw_ball(struct juggled *ball)
{
    struct juggler *juggler = ball->juggler;

    /* Now and then one that is done without the kernel. */
    uint32_t len = juggler->throws % 4 != 0;

    juggler->throws++;
    START(io_read(the_io, &ball->op, juggler->fd, &ball->byte, len, 0));
}

/* Starts what is at rest and cancels what is not, while completions are being run. */
static void on_caught(struct io_op *op, int32_t result)
{
    struct juggled *ball = container_of(op, struct juggled, op);
    struct juggler *juggler = ball->juggler;

    assert_not_within_start();
    assert_true(result == 0 || result == 1 || result == -ECANCELED);
    juggler->caught++;
    for (unsigned i = 0; i < JUGGLED; i++) {
        struct juggled *other = &juggler->balls[i];

        if (io_op_in_flight(&other->op) && (juggler->caught + i) % 3 == 0)
            START(io_cancel(the_io, &other->op));
        else if (!io_op_in_flight(&other->op) && juggler->throws < 20000)
            throw_ball(other);
    }
}

static void cancel_amid_completions(void **state)
{
    struct juggler *juggler = calloc(1, sizeof(*juggler));

    assert_non_null(juggler);
    juggler->fd = open_new("balls");
    assert_int_equal(io_file_write_now(the_io, juggler->fd, "x", 1, 0), 1);
    for (unsigned i = 0; i < JUGGLED; i++) {
        juggler->balls[i].juggler = juggler;
        io_op_init(&juggler->balls[i].op, on_caught);
    }
    for (unsigned i = 0; i < JUGGLED; i++)
        throw_ball(&juggler->balls[i]);
    run_until_count(&juggler->caught, 20000);
    run_for_ms(2);
    assert_int_equal(juggler->caught, juggler->throws);
    assert_int_equal(close_and_wait(juggler->fd), 0);
    free(juggler);
}

struct closing {
    struct waited reads[2];
    struct waited filler[6];
    struct waited end;
    uint8_t bytes[8];
    int fd;
    int other_fd;
};

/* The first read to end closes the file, behind other requests; the second is about to end too. */
static void on_closing_read(struct io_op *op, int32_t result)
{
    struct waited *read = container_of(op, struct waited, op);
    struct closing *closing = read->context;

    assert_not_within_start();
    assert_true(result == 1 || result == -ECANCELED);
    read->calls++;
    if (closing->reads[0].calls + closing->reads[1].calls > 1)
        return;
    for (unsigned i = 0; i < 6; i++)
        START(io_read(the_io, &closing->filler[i].op, closing->other_fd, &closing->bytes[i], 1, 0));
    START(io_close(the_io, &closing->end.op, closing->fd));
}

static void close_amid_completions(void **state)
{
    enum { FILES = 20 };
    struct closing *all = calloc(FILES, sizeof(*all));
    int other_fd = open_new("other");

    assert_non_null(all);
    assert_int_equal(io_file_write_now(the_io, other_fd, "x", 1, 0), 1);
    for (unsigned i = 0; i < FILES; i++) {
        struct closing *closing = &all[i];

        closing->other_fd = other_fd;
        closing->fd = open_file("other", IO_FILE_READ);
        waited_init(&closing->end);
        for (unsigned j = 0; j < 6; j++)
            waited_init(&closing->filler[j]);
        for (unsigned j = 0; j < 2; j++) {
            waited_init(&closing->reads[j]);
            io_op_init(&closing->reads[j].op, on_closing_read);
            closing->reads[j].context = closing;
            START(
                io_read(the_io, &closing->reads[j].op, closing->fd, &closing->bytes[6 + j], 1, 0));
        }
    }
    for (unsigned i = 0; i < FILES; i++) {
        run_until_count(&all[i].end.calls, 1);
        assert_int_equal(all[i].end.result, 0);
        assert_int_equal(all[i].reads[0].calls, 1);
        assert_int_equal(all[i].reads[1].calls, 1);
        for (unsigned j = 0; j < 6; j++)
            assert_int_equal(waited_wait(&all[i].filler[j]), 1);
    }
    io_close_now(the_io, other_fd);
    free(all);
}

static void close_waits_for_operations(void **state)
{
    enum { OPS = 20 };
    static uint8_t block[BLOCK];
    struct waited writes[OPS];
    int fd = open_new("closing");

    for (unsigned i = 0; i < OPS; i++) {
        waited_init(&writes[i]);
        START(io_write(the_io, &writes[i].op, fd, block, BLOCK, i * BLOCK, true));
    }
    assert_int_equal(close_and_wait(fd), 0);
    for (unsigned i = 0; i < OPS; i++) {
        assert_int_equal(writes[i].calls, 1);
        assert_true(writes[i].result == BLOCK || writes[i].result == -ECANCELED);
    }
}

static void size_and_truncate(void **state)
{
    uint64_t bytes = 99;
    uint8_t room[8];
    int fd = open_new("sized");

    assert_int_equal(io_file_size(the_io, fd, &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(io_file_truncate(the_io, fd, 1000), 0);
    assert_int_equal(io_file_size(the_io, fd, &bytes), 0);
    assert_int_equal(bytes, 1000);
    assert_int_equal(io_file_read_now(the_io, fd, room, 8, 996), 4);
    assert_int_equal(room[0], 0);
    assert_int_equal(io_file_truncate(the_io, fd, 3), 0);
    assert_int_equal(io_file_size(the_io, fd, &bytes), 0);
    assert_int_equal(bytes, 3);
    assert_int_equal(io_file_sync_now(the_io, fd), 0);
    io_close_now(the_io, fd);
}

static void append_goes_to_the_end(void **state)
{
    char room[10] = "";
    int fd;

    io_close_now(the_io, open_new("log"));
    fd = open_file("log", IO_FILE_WRITE | IO_FILE_APPEND);
    assert_int_equal(io_file_write_now(the_io, fd, "abc", 3, 0), 3);
    io_close_now(the_io, fd);
    fd = open_file("log", IO_FILE_WRITE | IO_FILE_APPEND);
    assert_int_equal(io_file_write_now(the_io, fd, "def", 3, 0), 3);
    io_close_now(the_io, fd);
    fd = open_file("log", IO_FILE_READ);
    assert_int_equal(io_file_read_now(the_io, fd, room, sizeof(room), 0), 6);
    assert_memory_equal(room, "abcdef", 6);
    io_close_now(the_io, fd);
}

static void rename_replaces_and_unlink_removes(void **state)
{
    char from[256];
    char to[256];
    char room[4] = "";
    int fd = open_new("from"), other;

    strcpy(from, backend_path(the_world, "from"));
    strcpy(to, backend_path(the_world, "to"));
    assert_int_equal(io_file_write_now(the_io, fd, "new", 3, 0), 3);
    io_close_now(the_io, fd);
    fd = open_new("to");
    assert_int_equal(io_file_write_now(the_io, fd, "old", 3, 0), 3);
    io_close_now(the_io, fd);
    assert_int_equal(io_file_rename(the_io, from, to), 0);
    assert_int_equal(io_dir_sync(the_io, backend_path(the_world, "")), 0);
    assert_int_equal(io_file_rename(the_io, from, to), -ENOENT);
    fd = open_file("to", IO_FILE_READ);
    assert_int_equal(io_file_read_now(the_io, fd, room, 3, 0), 3);
    assert_memory_equal(room, "new", 3);

    /* One that must not replace does not. */
    io_close_now(the_io, fd);
    fd = open_new("from");
    assert_int_equal(io_file_write_now(the_io, fd, "new", 3, 0), 3);
    io_close_now(the_io, fd);
    assert_int_equal(io_file_rename_new(the_io, from, to), -EEXIST);
    assert_int_equal(io_file_unlink(the_io, to), 0);
    assert_int_equal(io_file_rename_new(the_io, from, to), 0);
    assert_int_equal(io_file_rename_new(the_io, from, to), -ENOENT);
    fd = open_file("to", IO_FILE_READ);

    /* Who has the name may be another file by now. */
    assert_int_equal(io_file_is_named(the_io, fd, to), 1);
    assert_int_equal(io_file_is_named(the_io, fd, from), 0);
    other = open_new("from");
    assert_int_equal(io_file_is_named(the_io, fd, from), 0);
    assert_int_equal(io_file_is_named(the_io, other, from), 1);
    io_close_now(the_io, other);

    /* A file that was unlinked is there as long as it is open. */
    assert_int_equal(io_file_unlink(the_io, to), 0);
    assert_int_equal(io_file_is_named(the_io, fd, to), 0);
    assert_int_equal(io_file_unlink(the_io, to), -ENOENT);
    assert_int_equal(io_file_read_now(the_io, fd, room, 3, 0), 3);
    io_close_now(the_io, fd);
    assert_int_equal(io_file_open(the_io, to, IO_FILE_READ, &fd), -ENOENT);
}

struct names {
    char text[256];
};

static void append_name(void *context, const char *name)
{
    struct names *names = context;

    strcat(names->text, name);
    strcat(names->text, " ");
}

static void list_is_in_byte_order(void **state)
{
    struct names names = {""};

    assert_int_equal(io_dir_create(the_io, backend_path(the_world, "box")), 0);
    assert_int_equal(io_dir_create(the_io, backend_path(the_world, "box")), 0);
    io_close_now(the_io, open_new("box/b"));
    io_close_now(the_io, open_new("box/a10"));
    io_close_now(the_io, open_new("box/a9"));
    io_close_now(the_io, open_new("box/B"));
    io_close_now(the_io, open_new("box/.c"));
    assert_int_equal(io_dir_create(the_io, backend_path(the_world, "box/dir")), 0);
    assert_int_equal(io_dir_list(the_io, backend_path(the_world, "box"), append_name, &names), 0);
    assert_string_equal(names.text, ".c B a10 a9 b dir ");
    assert_int_equal(io_dir_list(the_io, backend_path(the_world, "nobox"), append_name, &names),
                     -ENOENT);
    assert_int_equal(io_dir_sync(the_io, backend_path(the_world, "box")), 0);
}

static void lock_has_one_holder(void **state)
{
    int first = open_new("lock");
    int second = open_file("lock", IO_FILE_READ | IO_FILE_WRITE);

    assert_int_equal(io_file_lock(the_io, first), 0);
    assert_int_equal(io_file_lock(the_io, first), 0);
    assert_int_equal(io_file_lock(the_io, second), E_LOCKED);
    assert_int_equal(close_and_wait(first), 0);
    assert_int_equal(io_file_lock(the_io, second), 0);
    io_close_now(the_io, second);
}

static void free_space_is_known(void **state)
{
    uint64_t bytes = 0;

    assert_int_equal(io_space_free(the_io, backend_path(the_world, ""), &bytes), 0);
    assert_true(bytes > 0);
}

static void sync_of_nothing_fails(void **state)
{
    int fd = open_new("gone");

    io_close_now(the_io, fd);
    assert_int_equal(sync_and_wait(fd), -EBADF);
}

static void memory_in_use_is_known(void **state)
{
    uint32_t percent = UINT32_MAX;

    assert_int_equal(io_memory_used(the_io, &percent), 0);
    assert_true(percent <= 100);
}

const struct CMUnitTest file_tests[] = {
    WORLD_TEST(open_says_what_is_wrong),
    WORLD_TEST(what_is_written_is_read),
    WORLD_TEST(read_ends_with_the_file),
    WORLD_TEST(write_to_a_read_only_file_fails),
    WORLD_TEST(direct_writes_are_durable_blocks),
    WORLD_TEST(many_operations_at_once),
    WORLD_TEST(cancel_amid_completions),
    WORLD_TEST(close_amid_completions),
    WORLD_TEST(close_waits_for_operations),
    WORLD_TEST(size_and_truncate),
    WORLD_TEST(append_goes_to_the_end),
    WORLD_TEST(rename_replaces_and_unlink_removes),
    WORLD_TEST(list_is_in_byte_order),
    WORLD_TEST(lock_has_one_holder),
    WORLD_TEST(free_space_is_known),
    WORLD_TEST(sync_of_nothing_fails),
    WORLD_TEST(memory_in_use_is_known),
};
const size_t file_test_count = sizeof(file_tests) / sizeof(file_tests[0]);
