#include "bench/floor_int.h"

#include "bench/process.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io/io_uring.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define LOG_BYTES         (256u << 20)
#define BATCH_BYTES       (4u << 20)
#define BLOCK_BYTES       4096u
#define CLASS_BYTES       4096u
#define LOOK_NS           20000000ull
/* As the sink: whole messages of 2 KB in one piece. */
#define RECV_BUFFERS      1024
#define RECV_BUFFER_BYTES 16384

void floor_fail(struct floor *floor, const char *what, int code)
{
    if (floor->error != 0)
        return;
    log_error("floor: %s: %s", what, err_text(code));
    floor->error = code;
}

/* ---- Messages ------------------------------------------------------------------------------ */

static struct floor_message *message_of_class(struct floor *floor, uint8_t memory_class)
{
    struct list *node = list_pop_front(&floor->spare[memory_class]);
    uint32_t bytes = CLASS_BYTES << memory_class;
    struct floor_message *message;

    message = node != NULL ? container_of(node, struct floor_message, link) : mem_alloc(bytes);
    list_init(&message->link);
    message->from = NULL;
    message->envelope_bytes = 0;
    message->rcpts = 0;
    message->used = 0;
    message->room = bytes - (uint32_t)sizeof(*message);
    message->memory_class = memory_class;
    return message;
}

struct floor_message *floor_message_new(struct floor *floor)
{
    return message_of_class(floor, 0);
}

void floor_message_free(struct floor *floor, struct floor_message *message)
{
    list_push_front(&floor->spare[message->memory_class], &message->link);
}

struct floor_message *floor_message_add(struct floor *floor, struct floor_message *message,
                                        const void *bytes, size_t len)
{
    uint8_t memory_class = message->memory_class;
    struct floor_message *larger;

    while ((CLASS_BYTES << memory_class) - sizeof(*message) < message->used + len) {
        if (++memory_class == FLOOR_CLASSES) {
            floor_fail(floor, "a message is too large", E_TOO_LONG);
            return message;
        }
    }
    if (memory_class != message->memory_class) {
        larger = message_of_class(floor, memory_class);
        larger->from = message->from;
        larger->envelope_bytes = message->envelope_bytes;
        larger->rcpts = message->rcpts;
        larger->used = message->used;
        memcpy(larger->bytes, message->bytes, message->used);
        floor_message_free(floor, message);
        message = larger;
    }
    memcpy(message->bytes + message->used, bytes, len);
    message->used += (uint32_t)len;
    return message;
}

/* ---- The log ------------------------------------------------------------------------------- */

static void on_written(struct io_op *op, int32_t result)
{
    struct floor *floor = container_of(op, struct floor, write);
    struct list *node;

    if (result < 0) {
        floor_fail(floor, "the log cannot be written", result);
        return;
    }
    floor->shared->commits++;
    while ((node = list_pop_front(&floor->committing)) != NULL) {
        struct floor_message *message = container_of(node, struct floor_message, link);

        floor_in_accepted(message->from);
        list_push_back(&floor->ready, node);
    }
}

/* What a record needs, the frame of a real log included. */
static uint32_t put_record(uint8_t *at, const struct floor_message *message)
{
    uint64_t frame[2] = {message->used, message->envelope_bytes};

    memcpy(at, frame, sizeof(frame));
    memcpy(at + sizeof(frame), message->bytes, message->used);
    return (uint32_t)sizeof(frame) + message->used;
}

/* Writes all that waits, or as much as a batch holds, in one go. */
static void commit(struct floor *floor)
{
    uint32_t used = 0;
    uint32_t padded;

    if (io_op_in_flight(&floor->write) || list_empty(&floor->waiting))
        return;
    /* The file is written round and round: what lies ahead must have been delivered. */
    if (floor->undelivered_bytes > LOG_BYTES / 2)
        return;
    while (!list_empty(&floor->waiting)) {
        struct floor_message *message =
            container_of(floor->waiting.next, struct floor_message, link);

        if (used + message->used + 64 > BATCH_BYTES)
            break;
        used += put_record(floor->batch + used, message);
        floor->undelivered_bytes += message->used;
        list_remove(&message->link);
        list_push_back(&floor->committing, &message->link);
    }
    padded = (used + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    memset(floor->batch + used, 0, padded - used);
    if (floor->log_offset + padded > LOG_BYTES)
        floor->log_offset = 0;
    io_write(floor->io, &floor->write, floor->log_fd, floor->batch, padded, floor->log_offset,
             true);
    floor->log_offset += padded;
}

/* Blocks that were never written cost an extra journal commit each: write them all once. */
static int open_log(struct floor *floor)
{
    char path[PATH_MAX];
    int error;

    snprintf(path, sizeof(path), "%s/floor.log", floor->options->spool);
    error = io_file_open(floor->io, path, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_DIRECT,
                         &floor->log_fd);
    if (error < 0)
        return error;
    floor->batch = mem_alloc_aligned(BATCH_BYTES, BLOCK_BYTES);
    memset(floor->batch, 0, BATCH_BYTES);
    for (uint64_t offset = 0; offset < LOG_BYTES; offset += BATCH_BYTES) {
        int64_t written =
            io_file_write_now(floor->io, floor->log_fd, floor->batch, BATCH_BYTES, offset);

        if (written != BATCH_BYTES)
            return written < 0 ? (int)written : -ENOSPC;
    }
    io_op_init(&floor->write, on_written);
    return io_file_sync_now(floor->io, floor->log_fd);
}

/* ---- The relay ----------------------------------------------------------------------------- */

static void on_turn(struct io_actor *actor)
{
    struct floor *floor = container_of(actor, struct floor, actor);

    commit(floor);
    floor_out_flush_all(floor);
    floor_in_flush_all(floor);
}

static int open_floor(struct floor *floor)
{
    static const struct io_options io_options = {
        .name = "floor",
        .recv_buffer_count = RECV_BUFFERS,
        .recv_buffer_bytes = RECV_BUFFER_BYTES,
    };
    int error = io_create(&io_options, &floor->io);

    if (error < 0)
        return error;
    for (int i = 0; i < FLOOR_CLASSES; i++)
        list_init(&floor->spare[i]);
    list_init(&floor->waiting);
    list_init(&floor->committing);
    list_init(&floor->talkative);
    list_init(&floor->ready);
    list_init(&floor->idle);
    list_init(&floor->eager);
    floor->actor.turn = on_turn;
    io_attach(floor->io, &floor->actor);
    error = open_log(floor);
    if (error < 0) {
        floor_fail(floor, "the log cannot be made", error);
        return error;
    }
    floor_out_connect_all(floor);
    error = floor_in_listen(floor);
    if (error < 0)
        floor_fail(floor, "cannot listen", error);
    return error;
}

int floor_run(const struct floor_options *options, struct floor_shared *shared)
{
    struct floor *floor = mem_alloc(sizeof(*floor));

    floor->options = options;
    floor->shared = shared;
    if (open_floor(floor) == 0)
        __atomic_store_n(&shared->ready, 1, __ATOMIC_RELEASE);
    while (floor->error == 0 && !process_stop_asked() &&
           __atomic_load_n(&shared->stop, __ATOMIC_RELAXED) == 0) {
        struct io_stats stats;

        io_turn(floor->io, LOOK_NS);
        io_stats_read(floor->io, &stats);
        __atomic_store_n(&shared->system_calls, stats.system_calls, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&shared->error, floor->error, __ATOMIC_RELEASE);
    return floor->error;
}
