/*
 * Mailboxes between real threads, under the thread sanitizer.
 *
 * The world here is as small as can be: a loop that sleeps on a futex. The bell is rung by relaxed
 * atomics and a bare system call, which the sanitizer does not take for an order of memory, so
 * what it sees is what the mailbox alone guarantees. Sleeps have no timeout: a lost wake-up hangs
 * the test until its alarm.
 */
#include "core/base/must.h"
#include "core/io/io_loop.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    PARCELS = 64, /* on their way at once, more than the ring holds */
    CAPACITY = 16,
    ROUNDS = 4000, /* of each parcel */
    ALARM_S = 400,
    WORDS = 8,
    SLEEPS = 200000,
};

struct io {
    struct io_loop loop;
    _Atomic uint32_t bell;
    uint64_t slept;
    uint64_t dawdles; /* longest pause before it falls asleep, in rounds of an empty loop */
};

struct letter {
    struct parcel parcel;
    uint64_t words[WORDS]; /* plain memory: only the mailbox orders access to it */
};

/* ---- The world ----------------------------------------------------------------------------- */

void io_wake(struct io *target, struct io *from)
{
    atomic_store_explicit(&target->bell, 1, memory_order_relaxed);
    syscall(SYS_futex, &target->bell, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int io_doorbell_open(void)
{
    return -1;
}

void io_turn(struct io *io, uint64_t wait_ns)
{
    io_loop_phases(&io->loop);
    if (io->dawdles != 0) {
        for (volatile uint64_t pause = rng_below(&io->loop.rng, io->dawdles); pause > 0; pause--)
            ;
    }
    if (wait_ns == 0 || !io_loop_sleep_begin(&io->loop))
        return;
    io->slept++;
    while (atomic_exchange_explicit(&io->bell, 0, memory_order_relaxed) == 0)
        syscall(SYS_futex, &io->bell, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    io_loop_sleep_end(&io->loop);
}

static void loop_init(struct io *io, uint64_t seed)
{
    io_loop_init(&io->loop, 1, 1, seed);
    atomic_init(&io->bell, 0);
    io->slept = 0;
    io->dawdles = 0;
}

/* ---- Two loops that pass letters to and fro ------------------------------------------------- */

struct side {
    struct io io;
    struct mailbox *out;
    uint64_t received;
    uint64_t goal;
    bool starts;
    struct letter *letters;
};

static void check_and_change(struct letter *letter)
{
    for (unsigned i = 1; i < WORDS; i++)
        must(letter->words[i] == letter->words[0]);
    for (unsigned i = 0; i < WORDS; i++)
        letter->words[i]++;
}

static void on_letter(void *context, struct parcel *parcel)
{
    struct side *side = context;
    struct letter *letter = container_of(parcel, struct letter, parcel);

    /* Letters go round in one order for ever. */
    must(parcel->kind == side->received % PARCELS);
    check_and_change(letter);
    side->received++;
    if (side->received == side->goal)
        io_stop(&side->io);
    if (side->out != NULL && (!side->starts || side->received + PARCELS <= side->goal))
        mailbox_post(side->out, parcel);
    /* Both sides fall asleep now and then, and at different moments. */
    if (side->io.dawdles == 0 && rng_one_in(io_rng(&side->io), 1000))
        usleep(50);
}

static void *run_side(void *context)
{
    struct side *side = context;

    if (side->starts) {
        for (uint16_t i = 0; i < PARCELS; i++) {
            side->letters[i].parcel.kind = i;
            mailbox_post(side->out, &side->letters[i].parcel);
        }
    }
    io_run(&side->io);
    /* The last letters still wait in the backlog of a side that has its own. */
    while (side->out != NULL && mailbox_backlog(side->out) > 0)
        io_turn(&side->io, 0);
    return NULL;
}

static void test_two_loops(void)
{
    static struct letter letters[PARCELS];
    static struct side sides[2];
    struct mailbox *boxes[2];
    pthread_t threads[2];

    for (unsigned i = 0; i < 2; i++) {
        loop_init(&sides[i].io, i + 1);
        sides[i].goal = (uint64_t)PARCELS * ROUNDS;
        sides[i].letters = letters;
        sides[i].starts = i == 0;
    }
    for (unsigned i = 0; i < 2; i++) {
        boxes[i] = mailbox_create(CAPACITY, &sides[i].io, &sides[1 - i].io);
        sides[i].out = boxes[i];
        mailbox_listen(boxes[i], on_letter, &sides[1 - i]);
    }
    for (unsigned i = 0; i < 2; i++)
        must(pthread_create(&threads[i], NULL, run_side, &sides[i]) == 0);
    for (unsigned i = 0; i < 2; i++)
        must(pthread_join(threads[i], NULL) == 0);
    for (unsigned i = 0; i < PARCELS; i++)
        must(letters[i].words[0] == 2ull * ROUNDS);
    printf("two loops: %llu letters each way, slept %llu and %llu times\n",
           (unsigned long long)sides[0].received, (unsigned long long)sides[0].io.slept,
           (unsigned long long)sides[1].io.slept);
    for (unsigned i = 0; i < 2; i++)
        mailbox_destroy(boxes[i]);
}

/* ---- A foreign thread that asks and is answered --------------------------------------------- */

struct foreign {
    struct mailbox *questions; /* loop to foreign thread */
    struct mailbox *answers;   /* and back */
    uint64_t count;
};

static void *run_foreign(void *context)
{
    struct foreign *foreign = context;
    uint32_t kept = 0;

    while (foreign->count < (uint64_t)PARCELS * ROUNDS / 4 || kept > 0) {
        struct parcel *parcel = mailbox_take_foreign(foreign->questions);

        if (parcel != NULL) {
            check_and_change(container_of(parcel, struct letter, parcel));
            foreign->count++;
        }
        kept = mailbox_post_foreign(foreign->answers, parcel);
        if (parcel == NULL && foreign->count % 8 == 0)
            usleep(20);
    }
    return NULL;
}

static void test_foreign_thread(void)
{
    static struct letter letters[PARCELS];
    static struct side side;
    static struct foreign foreign;
    pthread_t thread;

    loop_init(&side.io, 7);
    side.goal = (uint64_t)PARCELS * ROUNDS / 4;
    side.letters = letters;
    side.starts = true;
    foreign.questions = mailbox_create(CAPACITY, &side.io, NULL);
    foreign.answers = mailbox_create(CAPACITY, NULL, &side.io);
    side.out = foreign.questions;
    mailbox_listen(foreign.answers, on_letter, &side);
    must(pthread_create(&thread, NULL, run_foreign, &foreign) == 0);
    run_side(&side);
    must(pthread_join(thread, NULL) == 0);
    for (unsigned i = 0; i < PARCELS; i++)
        must(letters[i].words[0] == 2ull * ROUNDS / 4);
    printf("foreign thread: %llu letters, the loop slept %llu times\n",
           (unsigned long long)side.received, (unsigned long long)side.io.slept);
    mailbox_destroy(foreign.questions);
    mailbox_destroy(foreign.answers);
}

/* ---- A producer that sleeps on a full ring -------------------------------------------------- */

/* Nothing but the room in the ring wakes this producer: no answer ever comes. */
static void test_full_ring_wakes_its_producer(void)
{
    static struct letter letters[PARCELS];
    static struct side sides[2];

    for (unsigned round = 0; round < 200; round++) {
        struct mailbox *box;
        pthread_t threads[2];

        for (unsigned i = 0; i < 2; i++) {
            loop_init(&sides[i].io, round + i);
            sides[i].received = 0;
            sides[i].letters = letters;
            sides[i].starts = i == 0;
        }
        sides[1].goal = PARCELS;
        box = mailbox_create(CAPACITY, &sides[0].io, &sides[1].io);
        sides[0].out = box;
        mailbox_listen(box, on_letter, &sides[1]);
        for (unsigned i = 0; i < 2; i++)
            must(pthread_create(&threads[i], NULL, run_side, &sides[i]) == 0);
        must(pthread_join(threads[1], NULL) == 0);
        io_stop(&sides[0].io);
        must(pthread_join(threads[0], NULL) == 0);
        mailbox_destroy(box);
    }
}

/* ---- A post at the very moment of falling asleep --------------------------------------------- */

static void on_answer(void *context, struct parcel *parcel)
{
    struct side *side = context;

    side->received++;
}

static void *run_to_sleep(void *context)
{
    io_run(&((struct side *)context)->io);
    return NULL;
}

/*
 * One side falls asleep a random short moment after each answer, the other never sleeps and posts
 * again at once. This is where a missing fence on either side loses a wake-up.
 */
static void test_post_meets_sleep(void)
{
    static struct letter letter;
    static struct side sides[2];
    struct mailbox *boxes[2];
    pthread_t thread;

    for (unsigned i = 0; i < 2; i++) {
        loop_init(&sides[i].io, i + 1);
        sides[i].goal = SLEEPS;
    }
    sides[1].io.dawdles = 2000;
    boxes[0] = mailbox_create(2, &sides[0].io, &sides[1].io);
    boxes[1] = mailbox_create(2, &sides[1].io, &sides[0].io);
    sides[1].out = boxes[1];
    mailbox_listen(boxes[0], on_letter, &sides[1]);
    mailbox_listen(boxes[1], on_answer, &sides[0]);
    must(pthread_create(&thread, NULL, run_to_sleep, &sides[1]) == 0);
    for (uint64_t i = 0; i < SLEEPS; i++) {
        letter.parcel.kind = (uint16_t)(i % PARCELS);
        mailbox_post(boxes[0], &letter.parcel);
        while (sides[0].received == i)
            io_turn(&sides[0].io, 0);
    }
    must(pthread_join(thread, NULL) == 0);
    printf("post meets sleep: %llu posts, %llu sleeps\n", (unsigned long long)sides[0].received,
           (unsigned long long)sides[1].io.slept);
    mailbox_destroy(boxes[0]);
    mailbox_destroy(boxes[1]);
}

/* ---- Many stops from another thread ---------------------------------------------------------- */

static void *run_until_stopped(void *context)
{
    io_run(context);
    return NULL;
}

static void test_stop(void)
{
    for (unsigned i = 0; i < 300; i++) {
        static struct io io;
        pthread_t thread;

        loop_init(&io, i);
        must(pthread_create(&thread, NULL, run_until_stopped, &io) == 0);
        if (i % 2 == 0)
            usleep(i);
        io_stop(&io);
        must(pthread_join(thread, NULL) == 0);
    }
}

int main(void)
{
    alarm(ALARM_S);
    test_two_loops();
    test_foreign_thread();
    test_full_ring_wakes_its_producer();
    test_post_meets_sleep();
    test_stop();
    return 0;
}
