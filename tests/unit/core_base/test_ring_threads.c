/*
 * A producer and a consumer at full speed, built with the thread sanitizer. Plain memory goes
 * through the ring both ways: each item is written before its push and read after its pop, and
 * given back through a second ring to be written anew. A missing release or acquire on either
 * index is a data race on the items or on the slots, which the sanitizer reports and fails.
 */
#include "core/base/must.h"
#include "core/base/ring.h"
#include "core/base/rng.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#define ITEMS_TOTAL 400000u
#define CAPACITY    64u
#define POOL        96u /* more than the ring holds, so that it runs full */

struct item {
    uint64_t number;
    uint64_t inverse;
};

struct pair {
    struct ring forth;
    struct ring back;
    struct item pool[POOL];
};

/* Pushes all of them, however often the ring is full. */
static void push_all(struct ring *ring, void **items, uint32_t count)
{
    uint32_t done = 0;

    while (done < count) {
        uint32_t more = ring_push(ring, items + done, count - done);

        if (more == 0)
            sched_yield();
        done += more;
    }
}

static void *produce(void *context)
{
    struct pair *pair = context;
    void *items[32];
    uint64_t number = 0;
    struct rng rng;

    rng_init(&rng, 1);
    while (number < ITEMS_TOTAL) {
        uint32_t count_max = (uint32_t)rng_between(&rng, 1, 32);
        uint32_t count;

        if (count_max > ITEMS_TOTAL - number)
            count_max = (uint32_t)(ITEMS_TOTAL - number);
        count = ring_pop(&pair->back, items, count_max);
        if (count == 0) {
            sched_yield();
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            struct item *item = items[i];

            item->number = number;
            item->inverse = ~number;
            number++;
        }
        push_all(&pair->forth, items, count);
        must(ring_depth(&pair->forth) <= CAPACITY);
    }
    return NULL;
}

static void consume(struct pair *pair)
{
    void *items[32];
    uint64_t number = 0;
    struct rng rng;

    rng_init(&rng, 2);
    while (number < ITEMS_TOTAL) {
        uint32_t count;

        if (ring_is_empty(&pair->forth)) {
            sched_yield();
            continue;
        }
        count = ring_pop(&pair->forth, items, (uint32_t)rng_between(&rng, 1, 32));
        /* Not empty a moment ago, and nobody else takes. */
        must(count > 0);
        for (uint32_t i = 0; i < count; i++) {
            struct item *item = items[i];

            must(item->number == number);
            must(item->inverse == ~number);
            number++;
        }
        push_all(&pair->back, items, count);
    }
    must(ring_is_empty(&pair->forth));
}

int main(void)
{
    static struct pair pair;
    pthread_t producer;

    ring_init(&pair.forth, CAPACITY);
    ring_init(&pair.back, 128);
    for (uint32_t i = 0; i < POOL; i++) {
        void *item = &pair.pool[i];

        must(ring_push(&pair.back, &item, 1) == 1);
    }
    must(pthread_create(&producer, NULL, produce, &pair) == 0);
    consume(&pair);
    must(pthread_join(producer, NULL) == 0);
    ring_fini(&pair.forth);
    ring_fini(&pair.back);
    printf("%u items in order\n", ITEMS_TOTAL);
    return 0;
}
