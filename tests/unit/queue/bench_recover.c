/*
 * How long the start of a full spool takes and what memory it needs: appends so many messages of
 * one recipient, closes, and opens again.
 *
 *   bench_recover DIRECTORY MESSAGES
 */
#include "core/base/must.h"
#include "core/io/io_uring.h"
#include "queue/envelope.h"
#include "queue/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define IN_FLIGHT     1000
#define PAYLOAD_BYTES 1024

struct slot {
    struct log_request request;
    struct iovec iov;
    uint8_t bytes[PAYLOAD_BYTES];
};

struct bench {
    struct io *io;
    struct spool *spool;
    struct mailbox *to;
    struct mailbox *from;
    uint16_t client;
    uint64_t sent;
    uint64_t wanted;
    uint32_t in_flight;
    uint64_t told;
};

static struct bench bench;

static void send_message(struct slot *slot)
{
    struct envelope envelope = {.message_id = ++bench.sent,
                                .rcpt_count = 1,
                                .sender = SLICE_LITERAL("bounce@sender.example"),
                                .vmta = SLICE_LITERAL("vmta-1")};
    struct envelope_rcpt rcpt = {.orcpt = SLICE_EMPTY};
    uint8_t rcpts[64];
    char text[64];
    struct wire_writer w;

    snprintf(text, sizeof(text), "user%llu@domain%llu.example", (unsigned long long)bench.sent,
             (unsigned long long)bench.sent % 10000);
    rcpt.address = slice_str(text);
    wire_writer_init(&w, rcpts, sizeof(rcpts));
    envelope_put_rcpt(&w, &rcpt);
    envelope.rcpts = slice_of(rcpts, wire_written(&w));
    wire_writer_init(&w, slot->bytes, sizeof(slot->bytes));
    envelope_encode(&envelope, &w);
    must(!w.failed);
    slot->iov = (struct iovec){slot->bytes, sizeof(slot->bytes)};
    slot->request = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_MESSAGE, .from = bench.client},
        .payload = &slot->iov,
        .payload_count = 1,
        .payload_bytes = sizeof(slot->bytes),
    };
    bench.in_flight++;
    mailbox_post(bench.to, &slot->request.parcel);
}

static void on_parcel(void *context, struct parcel *parcel)
{
    struct slot *slot = container_of(parcel, struct slot, request.parcel);

    must(slot->request.status == 0);
    bench.in_flight--;
    if (bench.sent < bench.wanted)
        send_message(slot);
}

static void on_message(void *context, const struct log_message_state *state)
{
    bench.told++;
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

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void open_spool(const char *path)
{
    struct spool_recovery recovery = {NULL, on_message, on_named, on_damage};
    struct spool_options options = {.directories = {{.path = path}},
                                    .segment_bytes = 64u << 20,
                                    .outcome_hold_ms = 20,
                                    .segment_count_max = 1000};
    struct spool_report report;
    struct rusage before;
    struct rusage after;
    double began = now_seconds();

    getrusage(RUSAGE_SELF, &before);
    must(spool_open(bench.io, &options, &recovery, &bench.spool, &report) == 0);
    getrusage(RUSAGE_SELF, &after);
    printf("opened in %.2f s: %llu messages told, %.0f MB read, peak memory %+ld MB\n",
           now_seconds() - began, (unsigned long long)bench.told, (double)report.bytes_read / 1e6,
           (after.ru_maxrss - before.ru_maxrss) / 1024);
    bench.to = mailbox_create(1024, bench.io, bench.io);
    bench.from = mailbox_create(1024, bench.io, bench.io);
    mailbox_listen(bench.from, on_parcel, NULL);
    bench.client = spool_client_add(bench.spool, bench.to, bench.from, false);
}

static void close_spool(void)
{
    bool closed = false;

    spool_close(bench.spool, on_closed, &closed);
    while (!closed)
        io_turn(bench.io, 1000000);
    spool_destroy(bench.spool);
    mailbox_destroy(bench.to);
    mailbox_destroy(bench.from);
}

int main(int argc, char **argv)
{
    struct io_options io_options = {.name = "bench"};
    struct slot *slots = calloc(IN_FLIGHT, sizeof(*slots));

    if (argc != 3 || slots == NULL)
        return 2;
    bench.wanted = strtoull(argv[2], NULL, 10);
    if (io_create(&io_options, &bench.io) < 0)
        return 1;
    open_spool(argv[1]);
    for (uint32_t i = 0; i < IN_FLIGHT && bench.sent < bench.wanted; i++)
        send_message(&slots[i]);
    while (bench.in_flight > 0)
        io_turn(bench.io, 1000000);
    close_spool();
    bench.told = 0;
    open_spool(argv[1]);
    close_spool();
    io_destroy(bench.io);
    free(slots);
    return 0;
}
