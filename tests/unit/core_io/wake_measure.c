/*
 * Measures the doorbell: how long a letter takes to a loop on another thread and back.
 *
 * Two loops pass one letter to and fro, so each of them sleeps until the other rings. The same is
 * measured with message wakes, with the eventfd, and with loops that never sleep (what the
 * mailbox costs without a bell). Program for docs/doorbell.md; arguments: rounds, runs.
 */
#include "core/base/must.h"
#include "core/io/io_uring.h"
#include "core/io/mailbox.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum manner {
    MANNER_MESSAGE,
    MANNER_EVENTFD,
    MANNER_NO_SLEEP,
    MANNERS,
};

static const char *const manner_names[] = {"MSG_RING", "eventfd", "no sleep"};

struct player {
    struct io *io;
    struct mailbox *out;
    enum manner manner;
    int cpu;
    bool serves;
    uint64_t rounds;
    uint64_t played;
    uint64_t posted_ns;
    uint64_t *samples_ns; /* of the one who serves */
    struct io_stats stats;
    uint64_t cpu_ns;
    uint64_t preempted; /* involuntary switches: above a few, others wanted the CPU */
    pthread_barrier_t *barrier;
    struct parcel ball;
};

static uint64_t clock_of(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void on_ball(void *context, struct parcel *ball)
{
    struct player *player = context;

    if (player->serves) {
        uint64_t now_ns = clock_of(CLOCK_MONOTONIC);

        player->samples_ns[player->played] = now_ns - player->posted_ns;
        player->posted_ns = now_ns;
    }
    player->played++;
    if (!player->serves || player->played < player->rounds)
        mailbox_post(player->out, ball);
}

static void pin_to(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static uint64_t preemptions(void)
{
    struct rusage usage;

    getrusage(RUSAGE_THREAD, &usage);
    return (uint64_t)usage.ru_nivcsw;
}

static void *play(void *context)
{
    struct player *player = context;
    struct io_options options = {
        .name = "measure",
        .forbid_message_wakes = player->manner == MANNER_EVENTFD,
    };
    uint64_t wait_ns = player->manner == MANNER_NO_SLEEP ? 0 : UINT64_MAX;

    pin_to(player->cpu);
    must(io_create(&options, &player->io) == 0);
    pthread_barrier_wait(player->barrier); /* loops made */
    pthread_barrier_wait(player->barrier); /* mailboxes made */
    player->preempted = preemptions();
    player->cpu_ns = clock_of(CLOCK_THREAD_CPUTIME_ID);
    if (player->serves) {
        player->posted_ns = clock_of(CLOCK_MONOTONIC);
        mailbox_post(player->out, &player->ball);
    }
    /* The last turn of the receiver posts the ball that ends the game of the server. */
    while (player->played + 1 < player->rounds)
        io_turn(player->io, wait_ns);
    while (player->played < player->rounds)
        io_turn(player->io, 0);
    player->cpu_ns = clock_of(CLOCK_THREAD_CPUTIME_ID) - player->cpu_ns;
    player->preempted = preemptions() - player->preempted;
    io_stats_read(player->io, &player->stats);
    pthread_barrier_wait(player->barrier); /* game over */
    io_destroy(player->io);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void report(const struct player *players, uint64_t rounds)
{
    uint64_t *samples = players[0].samples_ns;
    uint64_t calls = players[0].stats.system_calls + players[1].stats.system_calls;
    uint64_t sleeps = players[0].stats.sleeps + players[1].stats.sleeps;
    uint64_t cpu_ns = players[0].cpu_ns + players[1].cpu_ns;

    qsort(samples, rounds, sizeof(*samples), compare);
    printf("%-8s  median %6.2f us  p10 %6.2f  p90 %6.2f  p99 %6.2f  | CPU %5.2f us, "
           "%.2f system calls, %.2f sleeps each way; preempted %llu times\n",
           manner_names[players[0].manner], (double)samples[rounds / 2] / 2000,
           (double)samples[rounds / 10] / 2000, (double)samples[rounds * 9 / 10] / 2000,
           (double)samples[rounds * 99 / 100] / 2000, (double)cpu_ns / (double)rounds / 2000,
           (double)calls / (double)rounds / 2, (double)sleeps / (double)rounds / 2,
           (unsigned long long)(players[0].preempted + players[1].preempted));
}

static void measure(enum manner manner, uint64_t rounds)
{
    struct player players[2] = {
        {.manner = manner, .cpu = 0, .serves = true, .rounds = rounds},
        {.manner = manner, .cpu = 1, .rounds = rounds},
    };
    pthread_barrier_t barrier;
    pthread_t threads[2];

    players[0].samples_ns = calloc(rounds, sizeof(uint64_t));
    must(players[0].samples_ns != NULL);
    pthread_barrier_init(&barrier, NULL, 3);
    for (unsigned i = 0; i < 2; i++) {
        players[i].barrier = &barrier;
        must(pthread_create(&threads[i], NULL, play, &players[i]) == 0);
    }
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < 2; i++)
        players[i].out = mailbox_create(16, players[i].io, players[1 - i].io);
    for (unsigned i = 0; i < 2; i++)
        mailbox_listen(players[1 - i].out, on_ball, &players[i]);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < 2; i++)
        must(pthread_join(threads[i], NULL) == 0);
    report(players, rounds);
    for (unsigned i = 0; i < 2; i++)
        mailbox_destroy(players[i].out);
    pthread_barrier_destroy(&barrier);
    free(players[0].samples_ns);
}

int main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    unsigned runs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 3;

    printf("one way = half of a round trip, %llu round trips a run\n", (unsigned long long)rounds);
    for (unsigned run = 0; run < runs; run++) {
        for (unsigned manner = 0; manner < MANNERS; manner++)
            measure((enum manner)manner, rounds);
    }
    return 0;
}
