/* Rates: of one owner (policy/rate.h), and struck for several shards (policy/mint.h). */
#include "core/base/rng.h"
#include "shard/policy/mint.h"
#include "shard/policy/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MS         1000000ull
#define SECOND     (1000 * MS)
#define SHARDS_MAX 16
#define USES_MAX   20000

/* ---- One owner ------------------------------------------------------------------------------- */

struct uses {
    uint64_t times_ns[USES_MAX];
    uint32_t count;
};

static void note(struct uses *uses, uint64_t now_ns, uint32_t count)
{
    while (count-- > 0 && uses->count < USES_MAX)
        uses->times_ns[uses->count++] = now_ns;
}

/* The use `count` after another comes a span later. */
static void assert_kept(const struct uses *uses, uint64_t count, uint64_t interval_ns)
{
    for (uint32_t i = (uint32_t)count; i < uses->count; i++)
        assert_true(uses->times_ns[i] - uses->times_ns[i - count] >= interval_ns);
}

static void rate_holds_in_every_window(void **state)
{
    static const struct {
        uint64_t count, interval_ms;
    } cases[] = {{1, 1000}, {10, 1000}, {1000, 1000}, {7, 3000}, {100000, 3600000}, {3000, 1000}};
    static struct uses uses;
    struct rng rng;

    rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t interval_ns = cases[i].interval_ms * MS, now_ns = 5 * SECOND, began_ns = now_ns;
        struct rate rate;

        uses.count = 0;
        rate_init(&rate, rate_step_ns(cases[i].count, cases[i].interval_ms), now_ns);
        assert_int_equal(rate_allowed(&rate, now_ns), 0);
        while (uses.count < 5000) {
            uint32_t allowed = rate_allowed(&rate, now_ns);
            uint32_t wanted = (uint32_t)rng_between(&rng, 1, 20);
            uint32_t used = allowed < wanted ? allowed : wanted;

            rate_use(&rate, now_ns, used);
            note(&uses, now_ns, used);
            /* Awake when the next token is due, mostly within two milliseconds, at times not. */
            if (rate.next_ns > now_ns)
                now_ns = rate.next_ns;
            now_ns += rng_below(&rng, 2 * MS);
            if (rng_one_in(&rng, 500))
                now_ns += rng_below(&rng, SECOND);
        }
        assert_kept(&uses, cases[i].count, interval_ns);
        /* What long pauses lost is not made up for, the rest is used. */
        assert_true((now_ns - began_ns) / (interval_ns + RATE_LATE_NS) * cases[i].count <
                    5000 + 12 * SECOND / interval_ns * cases[i].count);
    }
}

static void rate_of_nothing_and_of_no_bound(void **state)
{
    struct rate rate;

    rate_init(&rate, rate_step_ns(UINT64_MAX, 1000), 0);
    assert_int_equal(rate_allowed(&rate, 1), UINT32_MAX);
    rate_use(&rate, 1, 1000000);
    assert_int_equal(rate_allowed(&rate, 1), UINT32_MAX);
    assert_false(rate_is_owed(&rate, 1));
    rate_init(&rate, rate_step_ns(0, 1000), 0);
    assert_int_equal(rate_allowed(&rate, 1000000 * SECOND), 0);
    /* Not a thousand years' worth at once when the clock began long ago. */
    rate_init(&rate, rate_step_ns(1000, 1000), 0);
    assert_int_equal(rate_allowed(&rate, 1000000 * SECOND), 9);
}

static void rate_changed_remembers_its_last_use(void **state)
{
    struct rate rate;

    rate_init(&rate, rate_step_ns(1, 1000), 0);
    rate_use(&rate, 1010 * MS, 1);
    rate_change(&rate, rate_step_ns(1, 60000), 1020 * MS);
    assert_int_equal(rate_allowed(&rate, 61 * SECOND), 0);
    assert_int_equal(rate_allowed(&rate, 61020 * MS), 1);
    rate_change(&rate, rate_step_ns(1, 1000), 2 * SECOND);
    assert_int_equal(rate_allowed(&rate, 2010 * MS), 0);
    assert_int_equal(rate_allowed(&rate, 2020 * MS), 1);
    rate_change(&rate, 0, 2 * SECOND);
    assert_int_equal(rate_allowed(&rate, 2 * SECOND), UINT32_MAX);
    /* From no bound to one: tighten first. */
    rate_change(&rate, rate_step_ns(1, 1000), 3 * SECOND);
    assert_int_equal(rate_allowed(&rate, 3 * SECOND), 0);
}

/* ---- Several shards -------------------------------------------------------------------------- */

/* A shard as the mint sees it: it asks, and what it is given arrives a while later. */
struct user {
    struct mint_batch batch;
    uint64_t arrives_ns; /* of the batch, or of the question */
    uint32_t unused;     /* at the end of the batch */
    bool is_asking;      /* the question is on its way */
    bool stands_in_line;
    bool has_batch;
    bool is_slow; /* finds no use for its tokens in time */
};

struct market {
    struct mint mint;
    struct user users[SHARDS_MAX];
    struct uses uses;
    struct rng rng;
    uint64_t now_ns;
    uint16_t count;
};

static void ask(struct market *m, uint16_t i, uint32_t unused)
{
    m->users[i] = (struct user){.is_asking = true,
                                .unused = unused,
                                .is_slow = m->users[i].is_slow,
                                .arrives_ns = m->now_ns + rng_below(&m->rng, MS / 2)};
}

static void use(struct market *m, uint16_t i)
{
    struct user *user = &m->users[i];
    uint64_t at_ns = user->batch.first_ns;

    if (at_ns > m->now_ns)
        return;
    if (at_ns + RATE_LATE_NS >= m->now_ns && !user->is_slow) {
        note(&m->uses, m->now_ns, 1);
        user->unused = user->batch.count - 1;
    } else if (user->is_slow && at_ns + RATE_LATE_NS >= m->now_ns) {
        return;
    }
    user->batch.first_ns += m->mint.step_ns;
    if (--user->batch.count == 0)
        ask(m, i, user->unused);
}

static void deal(struct market *m)
{
    struct mint_batch batch;
    uint16_t to;

    while (mint_next_batch(&m->mint, m->now_ns, &to, &batch)) {
        struct user *user = &m->users[to];

        assert_true(user->stands_in_line && batch.count >= 1);
        user->stands_in_line = false;
        user->has_batch = true;
        user->batch = batch;
        user->unused = batch.count;
        user->arrives_ns = m->now_ns + rng_below(&m->rng, MS / 2);
    }
}

static void turn(struct market *m)
{
    for (uint16_t i = 0; i < m->count; i++) {
        struct user *user = &m->users[i];

        if (user->arrives_ns > m->now_ns)
            continue;
        if (user->is_asking) {
            user->is_asking = false;
            user->stands_in_line = true;
            mint_ask(&m->mint, i, (uint32_t)rng_between(&m->rng, 1, 100), 1, user->unused);
        } else if (user->has_batch) {
            use(m, i);
        }
    }
    deal(m);
    m->now_ns += rng_between(&m->rng, 1, MS / 5);
}

static void run_market(uint64_t seed, uint64_t count, uint64_t interval_ms, uint32_t uses_wanted)
{
    static struct market m;
    uint64_t began_ns = 7 * SECOND, interval_ns = interval_ms * MS, ideal_ns;

    memset(&m, 0, sizeof(m));
    rng_init(&m.rng, seed);
    m.now_ns = began_ns;
    m.count = (uint16_t)rng_between(&m.rng, 1, SHARDS_MAX);
    mint_init(&m.mint, rate_step_ns(count, interval_ms), m.count, began_ns);
    for (uint16_t i = 0; i < m.count; i++) {
        /* Not all: somebody must have use for them. */
        m.users[i].is_slow = i > 0 && rng_one_in(&m.rng, 4);
        ask(&m, i, 0);
    }
    while (m.uses.count < uses_wanted && m.now_ns < began_ns + 1000000 * SECOND)
        turn(&m);
    assert_int_equal(m.uses.count >= uses_wanted, true);
    assert_kept(&m.uses, count, interval_ns);
    /* A slow user costs its time with a token, which is struck again then; at fast rates those of
     * its batches that were not struck last are lost. */
    ideal_ns = uses_wanted * (interval_ns / count);
    if (interval_ns / count >= SECOND)
        assert_true(m.now_ns - began_ns <= ideal_ns + ideal_ns / 5 + 2 * SECOND);
    else
        assert_true(m.now_ns - began_ns <= 3 * ideal_ns + 2 * SECOND);
    mint_fini(&m.mint);
}

static void mint_never_strikes_too_many(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        run_market(seed, 1, 1000, 30);
        run_market(seed, 20, 1000, 300);
        run_market(seed, 1000, 1000, 3000);
        run_market(seed, 30, 60000, 20);
    }
}

/* When the first token of one an hour is due. */
#define FIRST_NS (3600 * SECOND + RATE_LATE_NS)

static void mint_strikes_again_what_came_back(void **state)
{
    struct mint_batch batch;
    struct mint mint;
    uint16_t to;

    mint_init(&mint, rate_step_ns(1, 3600000), 2, 0);
    mint_ask(&mint, 0, 5, 5, 0);
    assert_false(mint_next_batch(&mint, 3590 * SECOND, &to, &batch));
    assert_true(mint_next_batch(&mint, FIRST_NS, &to, &batch));
    assert_true(to == 0 && batch.count == 1 && batch.first_ns == FIRST_NS);
    mint_ask(&mint, 1, 1, 1, 0);
    assert_false(mint_next_batch(&mint, FIRST_NS + 11 * MS, &to, &batch));
    /* The first could not use it: the other need not wait an hour. */
    mint_ask(&mint, 0, 0, 0, 1);
    assert_true(mint_next_batch(&mint, FIRST_NS + 12 * MS, &to, &batch));
    assert_true(to == 1 && batch.count == 1);
    /* Used: the next is due an hour after that one's time. */
    mint_ask(&mint, 1, 1, 1, 0);
    assert_false(mint_next_batch(&mint, 7190 * SECOND, &to, &batch));
    assert_true(mint_next_batch(&mint, 7201 * SECOND, &to, &batch));
    /* A changed rate counts from the token that was struck last, and its old batches are void. */
    mint_change(&mint, rate_step_ns(1, 1000));
    mint_ask(&mint, 0, 1, 1, 0);
    mint_ask(&mint, 1, 0, 0, 1);
    assert_false(mint_next_batch(&mint, 7201 * SECOND + 400 * MS, &to, &batch));
    assert_true(mint_next_batch(&mint, 7202 * SECOND, &to, &batch));
    mint_ask(&mint, 1, 1, 1, 0);
    mint_clear_line(&mint);
    assert_true(mint_due_ns(&mint) == UINT64_MAX);
    mint_fini(&mint);
}

/* A reload takes the burst away: what was used up to then still counts. */
static void mint_that_becomes_a_row_counts_what_its_volume_gave(void **state)
{
    struct mint_limit limit = {.count = 40, .interval_ms = 60000, .burst = 10};
    struct mint_batch batch;
    struct mint mint;
    uint16_t to;

    mint_init(&mint, mint_limit_step_ns(&limit), 2, 0);
    mint_set_volume(&mint, &limit, 0);
    mint_ask(&mint, 0, 1, 1, 0);
    assert_true(mint_next_batch(&mint, 100 * SECOND, &to, &batch));
    limit = (struct mint_limit){.count = 1, .interval_ms = 1000};
    mint_change(&mint, mint_limit_step_ns(&limit));
    mint_set_volume(&mint, &limit, 100 * SECOND);
    mint_ask(&mint, 1, 1, 1, 0);
    assert_false(mint_next_batch(&mint, 100 * SECOND + 400 * MS, &to, &batch));
    assert_true(mint_next_batch(&mint, 101 * SECOND + 20 * MS, &to, &batch));
    mint_fini(&mint);
}

/* A token of a slow rate comes early enough to open a connection for it; one of a fast rate does
 * not. */
static void mint_gives_early_what_comes_seldom(void **state)
{
    static const struct {
        uint64_t interval_ms; /* for one */
        uint64_t early_ms;
    } rows[] = {{3600000, 1000}, {2991, 1000}, {991, 500}, {91, 50}, {90, 5}, {10, 5}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t step_ns = rate_step_ns(1, rows[i].interval_ms);
        uint64_t due_ns = step_ns - rows[i].early_ms * MS;
        struct mint_batch batch;
        struct mint mint;
        uint16_t to;

        mint_init(&mint, step_ns, 2, 0);
        mint_ask(&mint, 0, 1, 1, 0);
        assert_true(mint_due_ns(&mint) == due_ns);
        assert_false(mint_next_batch(&mint, due_ns - 1, &to, &batch));
        assert_true(mint_next_batch(&mint, due_ns, &to, &batch));
        assert_true(batch.first_ns == step_ns && batch.count == 1);
        mint_fini(&mint);
    }
}

/* The token goes to this shard, which comes back with it unused, or has used it, and wants one
 * more. */
static void give(struct mint *mint, uint64_t now_ns, uint16_t shard, bool is_used)
{
    struct mint_batch batch;
    uint16_t to;

    assert_true(mint_next_batch(mint, now_ns, &to, &batch));
    assert_true(to == shard && batch.count == 1);
    mint_ask(mint, to, 1, 1, is_used ? 0 : 1);
}

/* Whoever could not use a token comes first with the next one, if it has used none for longest;
 * once. */
static void mint_keeps_the_place_of_who_could_not_use_its_token(void **state)
{
    struct mint mint;

    mint_init(&mint, rate_step_ns(1, 1000), 3, 0);
    for (uint16_t i = 0; i < 3; i++)
        mint_ask(&mint, i, 1, 1, 0);
    for (uint16_t i = 0; i < 3; i++)
        give(&mint, (2 + i) * SECOND + i * 100 * MS, i, true);
    /* All pass: it goes round again. */
    for (uint16_t i = 0; i < 3; i++)
        give(&mint, 6 * SECOND + i * 10 * MS, i, false);
    give(&mint, 6 * SECOND + 30 * MS, 0, false);
    give(&mint, 6 * SECOND + 40 * MS, 1, true);
    /* The first one has waited longest. */
    give(&mint, 8 * SECOND, 0, true);
    give(&mint, 10 * SECOND, 2, true);
    give(&mint, 12 * SECOND, 1, false);
    give(&mint, 12 * SECOND + 10 * MS, 0, true);
    /* Who misses a second one stands behind who used the one between. */
    give(&mint, 14 * SECOND, 1, false);
    give(&mint, 14 * SECOND + 10 * MS, 2, true);
    give(&mint, 16 * SECOND, 0, true);
    give(&mint, 18 * SECOND, 1, true);
    mint_fini(&mint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_holds_in_every_window),
        cmocka_unit_test(rate_of_nothing_and_of_no_bound),
        cmocka_unit_test(rate_changed_remembers_its_last_use),
        cmocka_unit_test(mint_never_strikes_too_many),
        cmocka_unit_test(mint_strikes_again_what_came_back),
        cmocka_unit_test(mint_that_becomes_a_row_counts_what_its_volume_gave),
        cmocka_unit_test(mint_gives_early_what_comes_seldom),
        cmocka_unit_test(mint_keeps_the_place_of_who_could_not_use_its_token),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
