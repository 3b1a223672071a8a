#include "net/signer.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdio.h>

/* What a turn may cost, in units of one Ed25519 signature; the first job is always done. */
#define TURN_UNITS     40u
#define RSA_2048_UNITS 20u
#define VERIFY_UNITS   1u
#define TOGETHER       8u /* go on at once, or more, while there are more to make */
/* So long a helper may be silent while it has work. */
#define HUNG_NS        3000000000ull
#define ALERT_SPAN_NS  10000000000ull
/* While the helper has so many to make the loop naps, for a quarter of the time that they take. */
#define NAP_JOBS       8u
#define NAP_NS_MAX     2000000u
#define NS_PER_S       1000000000ull

_Static_assert(SIGN_RING_BYTES_MAX >= SIGN_BYTES_MAX, "room for a signature");
_Static_assert(SIGN_RING_SLOTS >= 2 * SIGNER_JOBS_MAX, "a job has room for its key as well");

/* A job and where it is. */
struct held_job {
    struct list link; /* in free, here or made; outside of them it is with the helper */
    struct sign_key *key;
    struct sign_job job;
};

struct signer {
    struct io *io;
    struct sign_service *service;
    struct sign_helper *helper;
    signer_done_fn *done;
    void *context;
    struct list free;
    struct list here; /* for BoringSSL */
    struct list made; /* their owners do not know it yet */
    uint32_t made_count;
    uint32_t free_count;
    uint32_t life;            /* the helper's, as we have seen it */
    uint32_t asked;           /* as in the ring */
    uint32_t answered;        /* answers that we have looked at */
    enum sign_kind kind;      /* of the key that was asked for last */
    struct sign_key *loading; /* the helper was told of it and has not answered; a reference */
    uint32_t loading_slot;
    bool has_more;  /* answers that the turn had no room for */
    bool must_ring; /* the helper sleeps and a send is under way */
    uint64_t alert_ns;
    uint64_t helped_count;
    struct io_timer timer;
    struct io_op bell_op;
    struct io_recv bell;
    struct iovec bell_iov;
    /* [slot]: NULL = it is not a signature. */
    struct held_job *waiting[SIGN_RING_SLOTS];
    struct held_job jobs[SIGNER_JOBS_MAX];
};

/* ---- The bell -------------------------------------------------------------------------------- */

/* The octet says nothing: the loop is awake now, and signer_turn looks. */
static size_t on_bell(struct io_recv *recv, const uint8_t *data, size_t len)
{
    return len;
}

static void on_bell_end(struct io_recv *recv, int32_t reason)
{
}

static void ring_helper(struct signer *signer)
{
    static char octet = '.';

    if (io_op_in_flight(&signer->bell_op)) {
        signer->must_ring = true;
        return;
    }
    signer->must_ring = false;
    signer->bell_iov = (struct iovec){&octet, 1};
    io_send(signer->io, &signer->bell_op, signer->helper->bell_fd, &signer->bell_iov, 1);
}

static void on_rung(struct io_op *op, int32_t result)
{
    struct signer *signer = container_of(op, struct signer, bell_op);

    if (signer->must_ring && result >= 0)
        ring_helper(signer);
}

/* ---- The helper ------------------------------------------------------------------------------ */

static uint32_t out_count(const struct signer *signer)
{
    return signer->asked - signer->answered;
}

static bool may_help(const struct signer *signer, const struct sign_key *key)
{
    return signer->life > 0 && sign_key_path(key) && !sign_key_is_kept_here(key) &&
           atomic_load_explicit(&signer->service->helps[sign_key_kind(key)],
                                memory_order_relaxed) &&
           out_count(signer) < SIGN_RING_SLOTS;
}

static void publish(struct signer *signer)
{
    struct sign_ring *ring = signer->helper->ring;

    if (out_count(signer) == 0)
        io_timer_arm(signer->io, &signer->timer, io_now_ns(signer->io) + HUNG_NS);
    atomic_store_explicit(&signer->helper->asked, ++signer->asked, memory_order_relaxed);
    atomic_store(&ring->asked, signer->asked);
    if (atomic_exchange(&ring->helper_sleeps, 0) != 0)
        ring_helper(signer);
}

static struct sign_ring_slot *next_slot(struct signer *signer, struct held_job *held)
{
    uint32_t at = signer->asked % SIGN_RING_SLOTS;

    signer->waiting[at] = held;
    return &signer->helper->ring->slots[at];
}

static void ask_helper(struct signer *signer, struct held_job *held)
{
    struct sign_ring_slot *slot = next_slot(signer, held);

    signer->kind = sign_key_kind(held->job.key);
    slot->ask = SIGN_RING_SIGN;
    slot->key_id = sign_key_id(held->job.key);
    memcpy(slot->digest, held->job.digest, sizeof(slot->digest));
    publish(signer);
}

/* One key at a time. */
static void tell_of_key(struct signer *signer, struct sign_key *key)
{
    const char *path = sign_key_path(key);
    struct sign_ring_slot *slot;

    if (signer->loading || strlen(path) >= SIGN_RING_PATH_MAX || !may_help(signer, key))
        return;
    signer->loading = sign_key_ref(key);
    signer->loading_slot = signer->asked % SIGN_RING_SLOTS;
    slot = next_slot(signer, NULL);
    slot->ask = SIGN_RING_LOAD;
    slot->key_id = sign_key_id(key);
    memcpy(slot->path, path, strlen(path) + 1);
    publish(signer);
}

static void forget_loading(struct signer *signer)
{
    sign_key_unref(signer->loading);
    signer->loading = NULL;
}

static void on_loaded(struct signer *signer, uint32_t status)
{
    if (status != SIGN_RING_DONE && !sign_key_is_kept_here(signer->loading)) {
        sign_key_keep_here(signer->loading);
        log_warn("the signing helper cannot use the key in %s: the daemon signs with it",
                 sign_key_path(signer->loading));
    }
    forget_loading(signer);
}

/* What the helper was asked for is signed here. The next one finds nothing of it: the keeper has
 * the ring begin where we are. */
static void take_back(struct signer *signer)
{
    for (uint32_t i = signer->answered; i != signer->asked; i++) {
        struct held_job *held = signer->waiting[i % SIGN_RING_SLOTS];

        if (held)
            list_push_back(&signer->here, &held->link);
        signer->waiting[i % SIGN_RING_SLOTS] = NULL;
    }
    signer->answered = signer->asked;
    io_timer_stop(signer->io, &signer->timer);
    forget_loading(signer);
}

static void give_up_helper(struct signer *signer, const char *why)
{
    log_error("the signing helper %s: its work is done in the daemon", why);
    atomic_store(&signer->helper->hung_life, signer->life);
    take_back(signer);
    signer->life = 0;
}

static void on_silence(struct io_timer *timer)
{
    struct signer *signer = container_of(timer, struct signer, timer);

    give_up_helper(signer, "does not answer");
}

static void look_at_life(struct signer *signer)
{
    uint32_t life = atomic_load_explicit(&signer->helper->life, memory_order_acquire);

    bool is_hung =
        life > 0 && life == atomic_load_explicit(&signer->helper->hung_life, memory_order_relaxed);

    if (life == signer->life || is_hung)
        return;
    take_back(signer);
    signer->life = life;
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static void keep_made(struct signer *signer, struct held_job *held)
{
    list_push_back(&signer->made, &held->link);
    signer->made_count++;
}

/* Messages go on together: a commit to the log for each would cost as much as a quarter of a
 * signature. So one half of them goes on while signatures of the other half are made. Nobody waits
 * for company that is not on its way. */
static void hand_out(struct signer *signer)
{
    uint32_t held_count = SIGNER_JOBS_MAX - signer->free_count;
    bool are_few = signer->made_count < TOGETHER || signer->made_count * 2 < held_count;
    struct list *link;

    if (are_few && signer->made_count < held_count)
        return;
    while ((link = list_pop_front(&signer->made)) != NULL) {
        signer->done(signer->context, &container_of(link, struct held_job, link)->job);
        list_push_back(&signer->free, link);
        signer->free_count++;
    }
    signer->made_count = 0;
}

static uint32_t sign_here(struct signer *signer, struct held_job *held)
{
    const struct sign_key *key = held->job.key;
    /* Twice the bits, some six times the work. */
    uint32_t units = sign_key_kind(key) == SIGN_ED25519 ? 1u
                     : sign_key_bytes(key) <= 256       ? RSA_2048_UNITS
                                                        : 6 * RSA_2048_UNITS;

    sign_run(&sign_boringssl, &held->job, 1);
    keep_made(signer, held);
    return units;
}

/* An answer: the job's end, or another try in the daemon. */
static void take_answer(struct signer *signer, const struct sign_ring_slot *slot,
                        struct held_job *held)
{
    uint32_t status = slot->status;
    uint64_t now_ns = io_now_ns(signer->io);

    if (status == SIGN_RING_DONE && slot->len == sign_key_bytes(held->job.key)) {
        memcpy(held->job.signature, slot->signature, sign_key_bytes(held->job.key));
        held->job.status = 0;
        if (sign_check(&held->job, 1) == 0) {
            signer->helped_count++;
            keep_made(signer, held);
            return;
        }
    }
    list_push_back(&signer->here, &held->link);
    if (status == SIGN_RING_UNKNOWN_KEY) {
        tell_of_key(signer, held->key);
    } else if (signer->alert_ns == 0 || now_ns - signer->alert_ns >= ALERT_SPAN_NS) {
        signer->alert_ns = now_ns;
        log_error("a signature of the signing helper is wrong: it is made again in the daemon");
    }
}

/* What it cost. */
static uint32_t collect(struct signer *signer)
{
    struct sign_ring *ring = signer->helper->ring;
    uint32_t answered = atomic_load_explicit(&ring->answered, memory_order_acquire);
    uint32_t units = 0;

    if (answered - signer->answered > out_count(signer)) {
        give_up_helper(signer, "answers what it was not asked");
        return 0;
    }
    if (answered == signer->answered)
        return 0;
    while (signer->answered != answered && units < TURN_UNITS) {
        uint32_t at = signer->answered++ % SIGN_RING_SLOTS;
        struct held_job *held = signer->waiting[at];

        signer->waiting[at] = NULL;
        units += VERIFY_UNITS;
        if (held)
            take_answer(signer, &ring->slots[at], held);
        else if (signer->loading && at == signer->loading_slot)
            on_loaded(signer, ring->slots[at].status);
    }
    if (out_count(signer) > 0)
        io_timer_arm(signer->io, &signer->timer, io_now_ns(signer->io) + HUNG_NS);
    else
        io_timer_stop(signer->io, &signer->timer);
    return units;
}

/* How long the loop need not look; 0 = it is to wake at once. */
static uint64_t span_to_nap_ns(const struct signer *signer)
{
    uint32_t rate =
        atomic_load_explicit(&signer->service->helper_rates[signer->kind], memory_order_relaxed);
    uint64_t span_ns;

    if (rate == 0 || out_count(signer) < NAP_JOBS)
        return 0;
    span_ns = out_count(signer) * NS_PER_S / rate / 4;
    return span_ns < NAP_NS_MAX ? span_ns : NAP_NS_MAX;
}

/*
 * The loop may sleep after this turn: the helper is to wake it. With much to do it is the helper
 * that sets the pace, and what comes to the loop would only wait for it. So the loop naps, and
 * meets several signatures, messages and replies in a turn instead of waking for each.
 */
static void expect_bell(struct signer *signer, bool may_wait)
{
    struct sign_ring *ring = signer->helper->ring;
    uint64_t span_ns = span_to_nap_ns(signer);
    uint32_t answered;

    if (out_count(signer) > 0)
        atomic_store(&ring->shard_sleeps, 1);
    if (span_ns > 0)
        io_nap(signer->io, span_ns);
    /* The helper rings again for what it has still to do. */
    answered = atomic_load(&ring->answered);
    signer->has_more =
        answered != signer->answered && (span_ns == 0 || answered == signer->asked || !may_wait);
}

void signer_turn(struct signer *signer)
{
    uint32_t units = 0;

    signer->has_more = false;
    if (signer->helper)
        look_at_life(signer);
    if (signer->life > 0)
        units = collect(signer);
    while (units < TURN_UNITS && !list_empty(&signer->here))
        units +=
            sign_here(signer, container_of(list_pop_front(&signer->here), struct held_job, link));
    hand_out(signer);
    if (signer->helper && signer->life > 0)
        expect_bell(signer, units < TURN_UNITS);
}

bool signer_is_busy(const struct signer *signer)
{
    return signer->has_more || !list_empty(&signer->here);
}

uint32_t signer_room(const struct signer *signer)
{
    return signer->free_count;
}

void signer_ask(struct signer *signer, struct sign_key *key,
                const uint8_t digest[SIGN_DIGEST_BYTES], void *owner, uint32_t index)
{
    struct list *link = list_pop_front(&signer->free);
    struct held_job *held;

    must(link != NULL);
    signer->free_count--;
    held = container_of(link, struct held_job, link);
    held->key = key;
    held->job = (struct sign_job){.key = key, .owner = owner, .index = index};
    memcpy(held->job.digest, digest, SIGN_DIGEST_BYTES);
    if (signer->helper)
        look_at_life(signer);
    if (may_help(signer, key))
        ask_helper(signer, held);
    else
        list_push_back(&signer->here, &held->link);
}

void signer_adopt(struct signer *signer, uint32_t with)
{
    if (signer->service)
        atomic_store_explicit(&signer->service->with, with, memory_order_relaxed);
    if (signer->life == 0 || out_count(signer) == SIGN_RING_SLOTS)
        return;
    next_slot(signer, NULL)->ask = SIGN_RING_FORGET;
    publish(signer);
}

uint64_t signer_helped_count(const struct signer *signer)
{
    return signer->helped_count;
}

struct signer *signer_create(struct io *io, struct sign_service *service,
                             struct sign_helper *helper, signer_done_fn *done, void *context)
{
    struct signer *signer = mem_alloc(sizeof(*signer));

    *signer = (struct signer){
        .io = io, .service = service, .helper = helper, .done = done, .context = context};
    list_init(&signer->free);
    list_init(&signer->here);
    list_init(&signer->made);
    for (uint32_t i = 0; i < SIGNER_JOBS_MAX; i++)
        list_push_back(&signer->free, &signer->jobs[i].link);
    signer->free_count = SIGNER_JOBS_MAX;
    io_timer_init(&signer->timer, on_silence);
    io_op_init(&signer->bell_op, on_rung);
    signer->bell.on_data = on_bell;
    signer->bell.on_end = on_bell_end;
    if (service)
        atomic_store_explicit(&service->is_wanted, true, memory_order_relaxed);
    if (helper)
        io_recv_start(io, &signer->bell, helper->bell_fd);
    return signer;
}

void signer_destroy(struct signer *signer)
{
    if (!signer)
        return;
    io_timer_stop(signer->io, &signer->timer);
    forget_loading(signer);
    mem_free(signer);
}
