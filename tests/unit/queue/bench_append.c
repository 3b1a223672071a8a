/*
 * What the spool costs: appends messages of a size with so many in flight, each followed by a final
 * outcome, on one loop, and prints rate, CPU and commits.
 *
 *   bench_append DIRECTORY SECONDS MESSAGE_BYTES IN_FLIGHT
 */
#include "core/base/must.h"
#include "core/io/io_uring.h"
#include "queue/envelope.h"
#include "queue/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct slot {
    struct log_request message;
    struct log_request outcome;
    struct iovec message_iov[2];
    uint8_t head[13]; /* of the envelope: length, version, message id */
    uint64_t id;
    struct iovec outcome_iov;
    uint8_t outcome_bytes[OUTCOME_BYTES_MAX];
    struct log_place place;
};

struct bench {
    struct io *io;
    struct spool *spool;
    struct mailbox *to;
    struct mailbox *from;
    uint16_t client;
    uint64_t next_id;
    uint64_t done;
    uint8_t *payload;
    uint32_t payload_bytes;
    uint32_t in_flight;
    bool stopping;
};

static struct bench bench;

static void send_message(struct slot *slot)
{
    struct wire_writer w;

    wire_writer_init(&w, slot->head, sizeof(slot->head));
    wire_put_bytes(&w, bench.payload, 5);
    wire_put_u64(&w, slot->id = bench.next_id++);
    slot->message = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_MESSAGE, .from = bench.client},
        .payload = slot->message_iov,
        .payload_count = 2,
        .payload_bytes = bench.payload_bytes,
    };
    slot->message_iov[0] = (struct iovec){slot->head, sizeof(slot->head)};
    slot->message_iov[1] = (struct iovec){bench.payload + sizeof(slot->head),
                                          bench.payload_bytes - sizeof(slot->head)};
    bench.in_flight++;
    mailbox_post(bench.to, &slot->message.parcel);
}

static void send_outcome(struct slot *slot)
{
    struct outcome outcome = {.kind = OUTCOME_DELIVERED,
                              .message_id = slot->id,
                              .orig = SLICE_LITERAL("bounce@sender.example"),
                              .rcpt = SLICE_LITERAL("somebody@receiver.example"),
                              .diag = SLICE_LITERAL("250 2.0.0 OK queued as 4XyZ12345"),
                              .vmta = SLICE_LITERAL("vmta-1"),
                              .queue = SLICE_LITERAL("receiver.example/vmta-1")};
    int len = outcome_encode(&outcome, slot->outcome_bytes, sizeof(slot->outcome_bytes));

    must(len > 0);
    slot->outcome = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_OUTCOME, .from = bench.client},
        .payload = &slot->outcome_iov,
        .payload_count = 1,
        .payload_bytes = (uint32_t)len,
        .flags = LOG_MESSAGE_DONE,
        .place = slot->place,
    };
    slot->outcome_iov = (struct iovec){slot->outcome_bytes, (size_t)len};
    mailbox_post(bench.to, &slot->outcome.parcel);
}

static void on_parcel(void *context, struct parcel *parcel)
{
    struct slot *slot;

    if (parcel->kind == SPOOL_CHECKPOINT_BEGIN) {
        parcel->kind = SPOOL_CHECKPOINT_DONE;
        parcel->from = bench.client;
        mailbox_post(bench.to, parcel);
        return;
    }
    /* Nothing here lives long enough to be moved. */
    if (parcel->kind == SPOOL_EVACUATE) {
        parcel->kind = SPOOL_EVACUATE_DONE;
        mailbox_post(bench.to, parcel);
        return;
    }
    if (parcel->kind == SPOOL_APPEND_MESSAGE) {
        slot = container_of(parcel, struct slot, message.parcel);
        must(slot->message.status == 0);
        slot->place = slot->message.place;
        send_outcome(slot);
        return;
    }
    slot = container_of(parcel, struct slot, outcome.parcel);
    bench.in_flight--;
    bench.done++;
    if (!bench.stopping)
        send_message(slot);
}

static void on_message(void *context, const struct log_message_state *state)
{
}

static void on_named(void *context, const struct log_named *named)
{
}

static void on_damage(void *context, const char *file, uint64_t offset, const char *text)
{
    fprintf(stderr, "%s at %llu: %s\n", file, (unsigned long long)offset, text);
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void payload_make(uint32_t bytes)
{
    struct envelope envelope = {.rcpt_count = 1, .sender = SLICE_LITERAL("bounce@sender.example")};
    struct envelope_rcpt rcpt = {.address = SLICE_LITERAL("somebody@receiver.example"),
                                 .orcpt = SLICE_EMPTY};
    uint8_t rcpts[64];
    struct wire_writer w;

    wire_writer_init(&w, rcpts, sizeof(rcpts));
    envelope_put_rcpt(&w, &rcpt);
    envelope.rcpts = slice_of(rcpts, wire_written(&w));
    bench.payload_bytes = bytes < 512 ? 512 : bytes;
    bench.payload = calloc(1, bench.payload_bytes);
    must(bench.payload != NULL);
    wire_writer_init(&w, bench.payload, bench.payload_bytes);
    envelope_encode(&envelope, &w);
}

static void run(double seconds, uint32_t in_flight)
{
    struct slot *slots = calloc(in_flight, sizeof(*slots));
    struct spool_stats stats;
    struct spool_stats before;
    uint64_t start_ns;
    double cpu;
    double took;
    uint64_t done;

    must(slots != NULL);
    for (uint32_t i = 0; i < in_flight; i++)
        send_message(&slots[i]);
    for (int i = 0; i < 3000; i++)
        io_turn(bench.io, 1000000);
    spool_stats_read(bench.spool, &before);
    start_ns = io_now_ns(bench.io);
    cpu = cpu_seconds();
    done = bench.done;
    while ((double)(io_now_ns(bench.io) - start_ns) < seconds * 1e9)
        io_turn(bench.io, 1000000);
    took = (double)(io_now_ns(bench.io) - start_ns) / 1e9;
    cpu = cpu_seconds() - cpu;
    done = bench.done - done;
    spool_stats_read(bench.spool, &stats);
    printf("%.0f messages/s, %.2f us CPU each, %.0f message commits/s of %.0f us, %.0f outcome "
           "commits/s, %.1f MB/s, %llu segments, %llu recycled\n",
           (double)done / took, cpu * 1e6 / (double)done,
           (double)(stats.message_commits - before.message_commits) / took,
           (double)(stats.commit_ns_total - before.commit_ns_total) / 1e3 /
               (double)(stats.message_commits - before.message_commits + stats.outcome_commits -
                        before.outcome_commits),
           (double)(stats.outcome_commits - before.outcome_commits) / took,
           (double)(stats.bytes_written - before.bytes_written) / 1e6 / took,
           (unsigned long long)stats.segments_total, (unsigned long long)stats.recycled);
    bench.stopping = true;
    while (bench.in_flight > 0)
        io_turn(bench.io, 1000000);
    free(slots);
}

int main(int argc, char **argv)
{
    struct io_options io_options = {.name = "bench"};
    struct spool_recovery recovery = {NULL, on_message, on_named, on_damage};
    struct spool_options options = {.segment_bytes = 64u << 20,
                                    .outcome_hold_ms = 20,
                                    .segment_count_max = 64,
                                    .calibrate_ms = 200};
    struct spool_report report;
    bool closed = false;

    if (argc < 5)
        return 2;
    options.directories[0].path = argv[1];
    for (int i = 5; i < argc && i < 5 + (int)SPOOL_DEVICES_MAX - 1; i++)
        options.directories[i - 4].path = argv[i];
    if (io_create(&io_options, &bench.io) < 0)
        return 1;
    must(spool_open(bench.io, &options, &recovery, &bench.spool, &report) == 0);
    printf("%s\n", report.commit_mode);
    bench.to = mailbox_create(1024, bench.io, bench.io);
    bench.from = mailbox_create(1024, bench.io, bench.io);
    mailbox_listen(bench.from, on_parcel, NULL);
    bench.client = spool_client_add(bench.spool, bench.to, bench.from, true);
    bench.next_id = 1;
    payload_make((uint32_t)atoi(argv[3]));
    run(atof(argv[2]), (uint32_t)atoi(argv[4]));
    spool_close(bench.spool, on_closed, &closed);
    while (!closed)
        io_turn(bench.io, 1000000);
    spool_destroy(bench.spool);
    mailbox_destroy(bench.to);
    mailbox_destroy(bench.from);
    io_destroy(bench.io);
    free(bench.payload);
    return 0;
}
