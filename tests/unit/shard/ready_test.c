/* Fair turns between the flows of one queue, and the slots that tell flows apart. */
#include "core/base/mem.h"
#include "shard/shard_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define STRANDS_MAX 2

struct stage {
    struct shard shard;
    struct queue queue;
};

static int raise_stage(void **state)
{
    struct stage *stage = mem_alloc(sizeof(*stage));

    memset(stage, 0, sizeof(*stage));
    slab_init(&stage->shard.queued, sizeof(struct queued), 10000);
    slab_init(&stage->shard.strands, sizeof(struct ready_strand), STRANDS_MAX);
    stage->queue.shard = &stage->shard;
    ready_init(&stage->queue.ready);
    *state = stage;
    return 0;
}

static int strike_stage(void **state)
{
    struct stage *stage = *state;

    slab_fini(&stage->shard.strands);
    slab_fini(&stage->shard.queued);
    mem_free(stage);
    return 0;
}

static uint32_t push_ranked(struct stage *stage, unsigned flow, unsigned rank, uint32_t accepted_s)
{
    uint32_t index;
    struct queued *queued = slab_alloc(&stage->shard.queued, &index);

    assert_non_null(queued);
    queued->flow = flow & (FLOW_SLOTS - 1);
    queued->rank = rank & 7;
    queued->accepted_s = accepted_s;
    ready_push(&stage->shard, &stage->queue, index, false);
    return index;
}

static uint32_t push(struct stage *stage, unsigned flow, uint32_t accepted_s)
{
    return push_ranked(stage, flow, TURNS_NORMAL, accepted_s);
}

static void push_many(struct stage *stage, unsigned flow, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        push(stage, flow, 1);
}

static uint32_t pop_index(struct stage *stage)
{
    uint32_t index = ready_peek(&stage->queue);

    assert_true(index != NONE);
    ready_pop(&stage->shard, &stage->queue, index);
    return index;
}

static unsigned pop(struct stage *stage)
{
    return ((struct queued *)slab_at(&stage->shard.queued, pop_index(stage)))->flow;
}

static void one_flow_goes_in_order(void **state)
{
    struct stage *stage = *state;
    uint32_t first = push(stage, 3, 1), second = push(stage, 3, 1);

    assert_int_equal(pop_index(stage), first);
    stage->queue.sending_count--;
    ready_push(&stage->shard, &stage->queue, first, true);
    assert_int_equal(pop_index(stage), first);
    assert_int_equal(pop_index(stage), second);
    assert_int_equal(ready_peek(&stage->queue), NONE);
    assert_int_equal(stage->queue.ready_count, 0);
}

/* It goes ahead of thousands that were there, once, and shares with them from then on. */
static void a_flow_that_begins_waits_for_nobody(void **state)
{
    struct stage *stage = *state;
    unsigned mine = 0;

    push_many(stage, 1, 5000);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(pop(stage), 1);
    push_many(stage, 2, 1000);
    assert_int_equal(pop(stage), 2);
    for (unsigned i = 0; i < 1000; i++)
        mine += pop(stage) == 2;
    assert_in_range(mine, 499, 501);
}

/* A flow is not owed what it did not ask for while it was away. */
static void a_flow_that_comes_back_has_saved_nothing(void **state)
{
    struct stage *stage = *state;
    unsigned mine = 0;

    push_many(stage, 1, 5000);
    push_many(stage, 2, 1);
    for (unsigned i = 0; i < 1001; i++)
        pop(stage);
    push_many(stage, 2, 1000);
    for (unsigned i = 0; i < 100; i++)
        mine += pop(stage) == 2;
    assert_in_range(mine, 49, 51);
}

static void three_flows_have_a_third_each(void **state)
{
    struct stage *stage = *state;
    unsigned served[4] = {0};

    for (unsigned flow = 1; flow <= 3; flow++)
        push_many(stage, flow, 1000);
    for (unsigned i = 0; i < 900; i++)
        served[pop(stage)]++;
    for (unsigned flow = 1; flow <= 3; flow++)
        assert_in_range(served[flow], 299, 301);
}

static unsigned pop_rank(struct stage *stage)
{
    return ((struct queued *)slab_at(&stage->shard.queued, pop_index(stage)))->rank;
}

/* Four times the turns for each step, of one flow or of several: the lowest has some. */
static void ranks_have_weighted_turns(void **state)
{
    struct stage *stage = *state;
    unsigned served[TURNS_RANKS] = {0}, flows[4] = {0};

    for (unsigned i = 0; i < 1000; i++) {
        push_ranked(stage, 1, 4, 1);
        push_ranked(stage, 1, 2, 1);
        push_ranked(stage, 2, 2, 1);
    }
    for (unsigned i = 0; i < 850; i++)
        served[pop_rank(stage)]++;
    assert_in_range(served[4], 799, 801);
    assert_in_range(served[2], 49, 51);
    while (stage->queue.ready_count > 1800)
        pop(stage);
    for (unsigned i = 0; i < 1000; i++)
        flows[pop(stage)]++;
    assert_in_range(flows[2], 499, 501);
}

/* In recipients, not in messages: of a message of many they go together. */
static void recipients_that_go_together_are_counted(void **state)
{
    struct stage *stage = *state;
    unsigned served[TURNS_RANKS] = {0};

    for (unsigned i = 0; i < 2000; i++) {
        push_ranked(stage, 1, 3, 1);
        push_ranked(stage, 1, 2, 1);
    }
    while (served[2] + served[3] < 1250) {
        uint32_t index = ready_peek(&stage->queue);
        unsigned rank = ((struct queued *)slab_at(&stage->shard.queued, index))->rank;

        for (unsigned i = 0; i < (rank == 2 ? 50u : 1u); i++, served[rank]++)
            index = ready_pop(&stage->shard, &stage->queue, index);
    }
    assert_in_range(served[3], 950, 1050);
}

/* What is put back has not had its turn, and a rank that begins has saved nothing. */
static void ranks_are_owed_what_was_put_back(void **state)
{
    struct stage *stage = *state;
    unsigned served = 0;

    for (unsigned i = 0; i < 100; i++) {
        push_ranked(stage, 1, 2, 1);
        push_ranked(stage, 1, 1, 1);
    }
    for (unsigned i = 0; i < 100; i++) {
        uint32_t index = ready_peek(&stage->queue);

        if (((struct queued *)slab_at(&stage->shard.queued, index))->rank != 1) {
            pop(stage);
            continue;
        }
        served++;
        pop(stage);
        if (served % 2 == 0)
            continue;
        stage->queue.sending_count--;
        ready_push(&stage->shard, &stage->queue, index, true);
        assert_int_equal(pop_index(stage), index);
    }
    assert_in_range(served, 18, 22);
}

/* A flow that is shut is shut in all ranks; what is next of it is by their turns. */
static void a_shut_flow_has_a_next(void **state)
{
    struct stage *stage = *state;
    uint32_t low = push_ranked(stage, 1, 0, 1), high = push_ranked(stage, 1, 4, 1);

    push_ranked(stage, 2, 1, 1);
    stage->queue.ready.shut = 1u << 1;
    assert_int_equal(ready_head(&stage->queue, 1), high);
    assert_int_equal(pop(stage), 2);
    assert_int_equal(ready_peek(&stage->queue), NONE);
    stage->queue.ready.shut = 0;
    assert_int_equal(pop_index(stage), high);
    assert_int_equal(pop_index(stage), low);
}

/* Without memory for its strand a flow waits in another's, and nobody is lost. */
static void strands_are_bounded(void **state)
{
    struct stage *stage = *state;
    unsigned served[8] = {0};

    for (unsigned flow = 0; flow < 8; flow++)
        push_many(stage, flow, 10);
    assert_int_equal(stage->shard.strands.count_used, STRANDS_MAX);
    for (unsigned i = 0; i < 80; i++)
        served[pop(stage)]++;
    for (unsigned flow = 0; flow < 8; flow++)
        assert_int_equal(served[flow], 10);
    assert_int_equal(ready_peek(&stage->queue), NONE);
    assert_int_equal(stage->shard.strands.count_used, 0);
}

/* What is to end goes first, and nothing else is taken for it. */
static void those_set_apart_go_first(void **state)
{
    struct stage *stage = *state;
    uint32_t index;

    for (unsigned i = 0; i < 10; i++) {
        push(stage, 1, 100 + i % 2 * 100);
        push(stage, 2, 100 + i % 2 * 100);
    }
    assert_int_equal(ready_set_apart(&stage->shard, &stage->queue, 150 * 1000000ull), 10);
    assert_int_equal(stage->queue.ready_count, 20);
    push(stage, 3, 50);
    for (unsigned i = 0; i < 10; i++) {
        index = pop_index(stage);
        assert_int_equal(((struct queued *)slab_at(&stage->shard.queued, index))->accepted_s, 100);
    }
    ready_push_apart(&stage->shard, &stage->queue, index);
    assert_int_equal(pop_index(stage), index);
    for (unsigned i = 0; i < 11; i++) {
        const struct queued *queued = slab_at(&stage->shard.queued, pop_index(stage));

        assert_true(queued->accepted_s == 200 || queued->flow == 3);
    }
    push_many(stage, 4, 5);
    push_many(stage, 5, 5);
    assert_int_equal(ready_set_apart(&stage->shard, &stage->queue, 0), 10);
    assert_int_equal(stage->shard.strands.count_used, 0);
}

static void the_oldest_is_found_in_any_strand(void **state)
{
    struct stage *stage = *state;
    uint32_t oldest;

    push(stage, 1, 500);
    oldest = push(stage, 2, 400);
    push(stage, 3, 450);
    assert_int_equal(ready_oldest(&stage->queue), oldest);
    stage->queue.local = LOCAL_EXPIRED;
    assert_int_equal(ready_peek(&stage->queue), oldest);
}

/* ---- Slots ----------------------------------------------------------------------------------- */

/* It has no turns, nobody else waits for it, and what goes by no connection is not bound by it. */
static void a_flow_that_is_shut_has_no_turns(void **state)
{
    struct stage *stage = *state;
    struct queue *queue = &stage->queue;

    push_many(stage, 1, 10);
    push_many(stage, 2, 3);
    queue->ready.shut = 1u << 1;
    assert_int_equal(ready_open_count(queue), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pop(stage), 2);
    assert_int_equal(ready_peek(queue), NONE);
    assert_int_not_equal(ready_head(queue, 1), NONE);
    assert_int_equal(ready_head(queue, 2), NONE);
    queue->local = LOCAL_EXPIRED;
    assert_int_not_equal(ready_peek(queue), NONE);
    queue->local = LOCAL_NONE;
    assert_int_equal(ready_set_apart(&stage->shard, queue, 1500000), 10);
    assert_int_equal(ready_open_count(queue), 10);
    queue->ready.shut = 0;
    assert_int_equal(pop(stage), 1);
}

static void flows_have_slots_of_their_own(void **state)
{
    static struct flows flows;
    uint8_t slots[FLOW_SLOTS];
    (void)state;

    memset(&flows, 0, sizeof(flows));
    for (uint32_t i = 0; i < FLOW_SLOTS; i++) {
        slots[i] = flows_take(&flows, 1000 + i);
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(slots[i], slots[j]);
    }
    for (uint32_t i = 0; i < FLOW_SLOTS; i++)
        assert_int_equal(flows_take(&flows, 1000 + i), slots[i]);
    /* The next shares with whoever has least. */
    for (uint32_t i = 1; i < FLOW_SLOTS; i++)
        flows_take(&flows, 1000 + i);
    assert_int_equal(flows_take(&flows, 5000), slots[0]);
    /* One that has nothing left is free again. */
    for (uint32_t i = 0; i < 3; i++)
        flows_release(&flows, slots[7]);
    assert_int_equal(flows_take(&flows, 6000), slots[7]);
    assert_true(flows_is_shared(&flows, slots[0]));
    assert_false(flows_is_shared(&flows, slots[7]));
}

/* Where it went lately somebody else is now: there is room elsewhere. */
static void a_flow_that_comes_back_has_a_slot_of_its_own(void **state)
{
    static struct flows flows;
    uint8_t slot;
    (void)state;

    memset(&flows, 0, sizeof(flows));
    slot = flows_take(&flows, 5);
    flows_release(&flows, slot);
    assert_int_equal(flows_take(&flows, 6), slot);
    assert_int_not_equal(flows_take(&flows, 5), slot);
    assert_false(flows_is_shared(&flows, slot));
}

/* Two that fall on the same place of what is known keep their slots nevertheless. */
static void flows_that_push_each_other_out_keep_their_slots(void **state)
{
    static struct flows flows;
    uint8_t first, second;
    (void)state;

    memset(&flows, 0, sizeof(flows));
    first = flows_take(&flows, 5);
    second = flows_take(&flows, 5 + FLOW_KNOWN);
    assert_int_not_equal(first, second);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(flows_take(&flows, 5), first);
        assert_int_equal(flows_take(&flows, 5 + FLOW_KNOWN), second);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_flow_goes_in_order, raise_stage, strike_stage),
        cmocka_unit_test_setup_teardown(a_flow_that_begins_waits_for_nobody, raise_stage,
                                        strike_stage),
        cmocka_unit_test_setup_teardown(a_flow_that_comes_back_has_saved_nothing, raise_stage,
                                        strike_stage),
        cmocka_unit_test_setup_teardown(three_flows_have_a_third_each, raise_stage, strike_stage),
        cmocka_unit_test_setup_teardown(ranks_have_weighted_turns, raise_stage, strike_stage),
        cmocka_unit_test_setup_teardown(recipients_that_go_together_are_counted, raise_stage,
                                        strike_stage),
        cmocka_unit_test_setup_teardown(ranks_are_owed_what_was_put_back, raise_stage,
                                        strike_stage),
        cmocka_unit_test_setup_teardown(a_shut_flow_has_a_next, raise_stage, strike_stage),
        cmocka_unit_test_setup_teardown(strands_are_bounded, raise_stage, strike_stage),
        cmocka_unit_test_setup_teardown(those_set_apart_go_first, raise_stage, strike_stage),
        cmocka_unit_test_setup_teardown(the_oldest_is_found_in_any_strand, raise_stage,
                                        strike_stage),
        cmocka_unit_test_setup_teardown(a_flow_that_is_shut_has_no_turns, raise_stage,
                                        strike_stage),
        cmocka_unit_test(flows_have_slots_of_their_own),
        cmocka_unit_test(a_flow_that_comes_back_has_a_slot_of_its_own),
        cmocka_unit_test(flows_that_push_each_other_out_keep_their_slots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
