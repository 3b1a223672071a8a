/*
 * Who signs: the daemon or a helper, which the test plays on the ring. Whatever a helper does,
 * every job ends once and with a signature that is right. The loop is the test's own: a clock, one
 * timer.
 */
#include "net/signer.h"

#include "tests/unit/core_base/unit.h"

#include <openssl/curve25519.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define JOBS 20u

static uint64_t now_ns;
static struct io_timer *armed;
static uint64_t due_ns;
static uint32_t bells;
static uint64_t asked_nap_ns;
static uint32_t answers_late; /* so many come while a turn ends */

static struct sign_ring ring;
static struct sign_helper helper;
static struct sign_service service;
static struct signer *signer;
static struct sign_key *key;
static uint8_t secret[ED25519_PRIVATE_KEY_LEN], public_part[ED25519_PUBLIC_KEY_LEN];
static uint32_t ended[SIGNER_JOBS_MAX];
static char path[] = "/tmp/ringpost-signer-XXXXXX";

/* ---- The loop -------------------------------------------------------------------------------- */

uint64_t io_now_ns(const struct io *io)
{
    return now_ns;
}

void io_timer_init(struct io_timer *timer, void (*on_fire)(struct io_timer *timer))
{
    timer->on_fire = on_fire;
}

void io_timer_arm(struct io *io, struct io_timer *timer, uint64_t at_ns)
{
    armed = timer;
    due_ns = at_ns;
}

void io_timer_stop(struct io *io, struct io_timer *timer)
{
    armed = NULL;
}

void io_op_init(struct io_op *op, void (*done)(struct io_op *op, int32_t result))
{
    op->done = done;
}

void io_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, uint32_t iov_count)
{
    bells++;
}

void io_recv_start(struct io *io, struct io_recv *recv, int fd)
{
}

static void sign_next(void);

void io_nap(struct io *io, uint64_t nap_ns)
{
    asked_nap_ns = nap_ns;
    for (; answers_late > 0; answers_late--)
        sign_next();
}

static void pass_time(uint64_t ns)
{
    struct io_timer *timer = armed;

    now_ns += ns;
    if (!timer || now_ns < due_ns)
        return;
    armed = NULL;
    timer->on_fire(timer);
}

/* ---- The helper ------------------------------------------------------------------------------ */

static struct sign_ring_slot *next_asked(void)
{
    assert_int_not_equal(ring.asked, ring.answered);
    return &ring.slots[ring.answered % SIGN_RING_SLOTS];
}

static void say(enum sign_ring_status status)
{
    next_asked()->status = (uint32_t)status;
    ring.answered++;
}

static void start_helper(uint32_t life)
{
    ring.answered = ring.asked = helper.asked;
    helper.life = life;
}

static void sign_next(void)
{
    struct sign_ring_slot *slot = next_asked();

    assert_int_equal(slot->ask, SIGN_RING_SIGN);
    assert_true(slot->key_id == sign_key_id(key));
    assert_int_equal(ED25519_sign(slot->signature, slot->digest, SHA256_BYTES, secret), 1);
    slot->len = ED25519_SIGNATURE_LEN;
    say(SIGN_RING_DONE);
}

/* ---- The owner ------------------------------------------------------------------------------- */

static void on_done(void *context, struct sign_job *job)
{
    assert_ptr_equal(context, &service);
    assert_ptr_equal(job->owner, &ring);
    assert_int_equal(job->status, 0);
    assert_int_equal(ED25519_verify(job->digest, sizeof(job->digest), job->signature, public_part),
                     1);
    assert_int_equal(job->digest[0], job->index);
    ended[job->index]++;
}

static void ask(uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        uint8_t digest[SIGN_DIGEST_BYTES] = {(uint8_t)i};

        ended[i] = 0;
        signer_ask(signer, key, digest, &ring, i);
    }
}

static uint32_t ended_count(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < SIGNER_JOBS_MAX; i++) {
        assert_true(ended[i] <= 1);
        count += ended[i];
    }
    return count;
}

static void turn_while_busy(void)
{
    do
        signer_turn(signer);
    while (signer_is_busy(signer));
}

static void forget_ended(void)
{
    memset(ended, 0, sizeof(ended));
}

/* ---- The tests ------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    static const uint8_t seed[32] = {7};
    char why[SIGN_WHY_MAX], text[] = "BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    int fd;

    strcpy(path + sizeof(path) - 7, "XXXXXX");
    fd = mkstemp(path);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    close(fd);
    assert_int_equal(sign_key_load(path, &key, why), 0);
    ED25519_keypair_from_seed(public_part, secret, seed);
    memset(&ring, 0, sizeof(ring));
    memset(&service, 0, sizeof(service));
    helper = (struct sign_helper){.ring = &ring, .life = 1};
    atomic_store(&service.helps[SIGN_ED25519], true);
    forget_ended();
    bells = 0;
    asked_nap_ns = 0;
    answers_late = 0;
    armed = NULL;
    now_ns = 1;
    signer = signer_create(NULL, &service, &helper, on_done, &service);
    return 0;
}

static int tear_down(void **state)
{
    signer_destroy(signer);
    sign_key_unref(key);
    return remove(path);
}

static void the_helper_signs_and_wakes(void **state)
{
    ring.helper_sleeps = 1;
    ask(0, JOBS);
    assert_int_equal(bells, 1);
    signer_turn(signer);
    assert_int_equal(ended_count(), 0);
    assert_false(signer_is_busy(signer));
    assert_int_equal(ring.shard_sleeps, 1);
    for (uint32_t i = 0; i < JOBS; i++)
        sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), JOBS);
    assert_int_equal(signer_helped_count(signer), JOBS);
    assert_int_equal(signer_room(signer), SIGNER_JOBS_MAX);
    assert_null(armed);
}

static void with_much_to_do_the_loop_naps(void **state)
{
    atomic_store(&service.helper_rates[SIGN_ED25519], 20000);
    ask(0, 7);
    signer_turn(signer);
    assert_true(asked_nap_ns == 0);
    ask(7, 1);
    signer_turn(signer);
    assert_true(asked_nap_ns == 100000); /* a quarter of eight, of 50 us each */
    assert_int_equal(ring.shard_sleeps, 1);
    ask(8, 12);
    atomic_store(&service.helper_rates[SIGN_ED25519], 20);
    signer_turn(signer);
    assert_true(asked_nap_ns == 2000000);
}

static void what_comes_late_waits_for_the_bell(void **state)
{
    atomic_store(&service.helper_rates[SIGN_ED25519], 20000);
    ask(0, JOBS);
    answers_late = 2;
    signer_turn(signer);
    assert_false(signer_is_busy(signer));
    assert_int_equal(ring.shard_sleeps, 1);
    /* After the last one nobody rings. */
    signer_turn(signer);
    answers_late = JOBS - 2;
    signer_turn(signer);
    assert_true(signer_is_busy(signer));
    turn_while_busy();
    assert_int_equal(ended_count(), JOBS);
}

static void half_goes_on_while_half_is_made(void **state)
{
    ask(0, JOBS);
    for (uint32_t i = 0; i < 9; i++)
        sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 0);
    sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 10);
    /* Of ten that are left eight are enough, and the last two have no company. */
    for (uint32_t i = 0; i < 7; i++)
        sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 10);
    sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 18);
    sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 18);
    sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), JOBS);
}

/* More than a turn takes: nobody rings for the rest. */
static void a_turn_takes_so_much_and_goes_on(void **state)
{
    atomic_store(&service.helper_rates[SIGN_ED25519], 20000);
    ask(0, SIGNER_JOBS_MAX);
    for (uint32_t i = 0; i < SIGNER_JOBS_MAX - 8; i++)
        sign_next();
    signer_turn(signer);
    assert_true(signer_is_busy(signer));
    signer_turn(signer);
    assert_false(signer_is_busy(signer));
    assert_in_range(ended_count(), SIGNER_JOBS_MAX - 24, SIGNER_JOBS_MAX - 8);
    for (uint32_t i = 0; i < 8; i++)
        sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), SIGNER_JOBS_MAX);
}

static void a_wrong_signature_is_made_again(void **state)
{
    ask(0, 3);
    sign_next();
    sign_next();
    ring.slots[1].signature[9] ^= 16;
    next_asked()->len = 9999;
    say(SIGN_RING_DONE);
    turn_while_busy();
    assert_int_equal(ended_count(), 3);
    assert_int_equal(signer_helped_count(signer), 1);
}

static void a_key_is_loaded_once(void **state)
{
    ask(0, 3);
    say(SIGN_RING_UNKNOWN_KEY);
    say(SIGN_RING_UNKNOWN_KEY);
    turn_while_busy();
    say(SIGN_RING_UNKNOWN_KEY);
    turn_while_busy();
    assert_int_equal(ended_count(), 3);
    assert_int_equal(next_asked()->ask, SIGN_RING_LOAD);
    assert_string_equal(next_asked()->path, path);
    say(SIGN_RING_DONE);
    assert_int_equal(ring.asked, ring.answered);
    turn_while_busy();
    ask(3, 1);
    sign_next();
    turn_while_busy();
    assert_int_equal(signer_helped_count(signer), 1);
}

static void a_key_that_the_helper_cannot_use_stays_here(void **state)
{
    ask(0, 1);
    say(SIGN_RING_UNKNOWN_KEY);
    turn_while_busy();
    say(SIGN_RING_FAILED);
    turn_while_busy();
    ask(1, JOBS);
    assert_int_equal(ring.asked, ring.answered);
    turn_while_busy();
    assert_int_equal(ended_count(), 1 + JOBS);
    assert_true(sign_key_is_kept_here(key));
}

static void a_dead_helper_costs_nothing_but_time(void **state)
{
    ask(0, JOBS);
    sign_next();
    sign_next();
    atomic_store(&helper.life, 0);
    turn_while_busy();
    assert_int_equal(ended_count(), JOBS);
    ask(JOBS, 1);
    turn_while_busy();
    assert_int_equal(ended_count(), JOBS + 1);
    forget_ended();
    start_helper(2);
    ask(0, 1);
    sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 1);
    assert_int_equal(signer_helped_count(signer), 1);
}

static void a_helper_that_hangs_is_told_on(void **state)
{
    ask(0, 2);
    signer_turn(signer);
    pass_time(2000000000u);
    assert_false(signer_is_busy(signer));
    pass_time(1000000000u);
    turn_while_busy();
    assert_int_equal(ended_count(), 2);
    assert_int_equal(helper.hung_life, 1);
    ask(2, 1);
    turn_while_busy();
    assert_int_equal(ended_count(), 3);
    /* It comes to, too late. */
    sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 3);
    assert_int_equal(signer_helped_count(signer), 0);
}

static void nonsense_is_told_on(void **state)
{
    ask(0, 2);
    ring.answered += 77;
    turn_while_busy();
    assert_int_equal(ended_count(), 2);
    assert_int_equal(helper.hung_life, 1);
    start_helper(2);
    ask(2, 1);
    sign_next();
    turn_while_busy();
    assert_int_equal(ended_count(), 3);
    assert_int_equal(signer_helped_count(signer), 1);
}

static void the_ring_may_wrap(void **state)
{
    ring.asked = ring.answered = 0;
    for (uint32_t round = 0; round < 3 * SIGN_RING_SLOTS / JOBS; round++) {
        ask(0, JOBS);
        for (uint32_t i = 0; i < JOBS; i++)
            sign_next();
        turn_while_busy();
        assert_int_equal(ended_count(), JOBS);
        forget_ended();
    }
    signer_adopt(signer, CONF_SIGN_AUTO);
    assert_int_equal(next_asked()->ask, SIGN_RING_FORGET);
    say(SIGN_RING_DONE);
    turn_while_busy();
    assert_int_equal(signer_room(signer), SIGNER_JOBS_MAX);
}

static void without_use_for_a_kind_the_daemon_signs(void **state)
{
    atomic_store(&service.helps[SIGN_ED25519], false);
    ask(0, JOBS);
    assert_int_equal(ring.asked, 0);
    turn_while_busy();
    assert_int_equal(ended_count(), JOBS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_helper_signs_and_wakes),
        TEST(with_much_to_do_the_loop_naps),
        TEST(what_comes_late_waits_for_the_bell),
        TEST(half_goes_on_while_half_is_made),
        TEST(a_turn_takes_so_much_and_goes_on),
        TEST(a_wrong_signature_is_made_again),
        TEST(a_key_is_loaded_once),
        TEST(a_key_that_the_helper_cannot_use_stays_here),
        TEST(a_dead_helper_costs_nothing_but_time),
        TEST(a_helper_that_hangs_is_told_on),
        TEST(nonsense_is_told_on),
        TEST(the_ring_may_wrap),
        TEST(without_use_for_a_kind_the_daemon_signs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
