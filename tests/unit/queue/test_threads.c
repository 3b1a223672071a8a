/*
 * The spool on one thread, a cursor on another, on a real disk: what the atomics between them
 * promise, under the thread sanitizer.
 */
#include "core/base/must.h"
#include "core/io/io_uring.h"
#include "tests/unit/queue/life.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OUTCOMES_WANTED 3000

struct control {
    struct io *io;
    struct spool *spool;
    struct mailbox *to_spool;
    struct mailbox *from_spool;
    struct spool_notice notice;
    uint16_t client;
    bool notice_out;
    uint64_t last;
    uint64_t count;
};

static _Atomic bool is_over;   /* the control thread has read enough */
static _Atomic bool is_closed; /* the spool has ended */
static pthread_barrier_t ready;
static struct control control;

static void on_notice_home(void *context, struct parcel *parcel)
{
    control.notice_out = false;
}

static void tell_place(const struct log_place *place)
{
    if (control.notice_out)
        return;
    control.notice_out = true;
    control.notice.parcel.kind = SPOOL_CURSOR_AT;
    control.notice.parcel.from = control.client;
    control.notice.number = 1;
    control.notice.place = *place;
    mailbox_post(control.to_spool, &control.notice.parcel);
}

static void read_outcomes(struct spool_cursor *cursor)
{
    struct log_place after;
    struct slice payload;
    int result;

    while ((result = spool_cursor_next(cursor, &payload, &after)) == 1) {
        struct outcome outcome;

        must(outcome_decode(payload, &outcome) == 0);
        must(outcome.logged_us > control.last);
        control.last = outcome.logged_us;
        control.count++;
        tell_place(&after);
    }
    must(result == 0);
}

static void *control_run(void *context)
{
    struct io_options options = {.name = "control"};
    struct log_place from = {0};
    struct spool_cursor *cursor;

    must(io_create(&options, &control.io) == 0);
    pthread_barrier_wait(&ready); /* the spool's thread makes the mailboxes */
    pthread_barrier_wait(&ready);
    cursor = spool_cursor_create(control.spool, control.io, 1, &from);
    mailbox_listen(control.from_spool, on_notice_home, NULL);
    pthread_barrier_wait(&ready);
    while (control.count < OUTCOMES_WANTED) {
        io_turn(control.io, 1000000);
        read_outcomes(cursor);
        (void)spool_health(control.spool);
    }
    while (control.notice_out)
        io_turn(control.io, 1000000);
    spool_cursor_destroy(cursor);
    atomic_store(&is_over, true);
    while (!atomic_load(&is_closed))
        io_turn(control.io, 1000000);
    return NULL;
}

static void settle_and_close(struct life *life, struct io *io)
{
    life->is_quiet = true;
    while (!life_is_settled(life))
        io_turn(io, 1000000);
    life_close(life);
    while (!life->is_closed)
        io_turn(io, 1000000);
}

int main(void)
{
    struct io_options io_options = {.name = "spool"};
    char path[] = "/tmp/spool-threads-XXXXXX";
    char command[64];
    struct life_options options = {.live_max = 200, .burst_max = 60, .no_cursor = true};
    struct ledger ledger;
    struct life life;
    pthread_t thread;
    struct io *io;

    must(mkdtemp(path) != NULL);
    options.spool = (struct spool_options){.directories = {{.path = path}},
                                           .segment_bytes = 262144,
                                           .outcome_hold_ms = 2,
                                           .segment_count_max = 64,
                                           .checkpoint_bytes = 500000};
    ledger_init(&ledger);
    must(io_create(&io_options, &io) == 0);
    must(pthread_barrier_init(&ready, NULL, 2) == 0);
    must(pthread_create(&thread, NULL, control_run, NULL) == 0);
    must(life_open(&life, &options, &ledger, io, io, 1) == 0);
    pthread_barrier_wait(&ready);
    control.spool = life.spool;
    control.to_spool = mailbox_create(8, control.io, io);
    control.from_spool = mailbox_create(8, io, control.io);
    control.client = spool_client_add(life.spool, control.to_spool, control.from_spool, false);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    while (!atomic_load(&is_over))
        io_turn(io, 1000000);
    settle_and_close(&life, io);
    atomic_store(&is_closed, true);
    must(pthread_join(thread, NULL) == 0);
    printf("%llu outcomes read\n", (unsigned long long)control.count);
    mailbox_destroy(control.to_spool);
    mailbox_destroy(control.from_spool);
    life_destroy(&life);
    must(!ledger_has_failed(&ledger));
    io_destroy(control.io);
    io_destroy(io);
    ledger_fini(&ledger);
    snprintf(command, sizeof(command), "rm -rf %s", path);
    return system(command);
}
