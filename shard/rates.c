#include "shard/rates.h"

#include "core/base/mem.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

/* Recipients that one question asks for at most. */
#define PURSE_WANTED_MAX 4096

static void on_purse_timer(struct io_timer *timer);
static void own_speak(struct shard *shard, uint32_t vmta_id);
static void wake_first(struct shard *shard, struct purse *purse);
static void settle(struct shard *shard, struct purse *purse);
static void on_mint_timer(struct io_timer *timer);

/* ---- Making ---------------------------------------------------------------------------------- */

static uint64_t step_of(const struct conf_rate *rate)
{
    return rate_step_ns(rate->count, rate->interval_ms);
}

static struct purse *purse_create(struct shard *shard, uint32_t vmta_id)
{
    struct purse *purse = mem_alloc(sizeof(*purse));

    purse->vmta_id = vmta_id;
    purse->owner = (uint16_t)(vmta_id % shard->count);
    purse->ask.vmta_id = vmta_id;
    purse->shard = shard;
    list_init(&purse->waiting);
    io_timer_init(&purse->timer, on_purse_timer);
    return purse;
}

static struct rates_owned *owned_create(struct shard *shard, uint32_t vmta_id, uint64_t step_ns)
{
    struct rates_owned *owned = mem_alloc(sizeof(*owned));

    mint_init(&owned->mint, step_ns, shard->count, io_now_ns(shard->io));
    owned->shard = shard;
    owned->vmta_id = vmta_id;
    io_timer_init(&owned->timer, on_mint_timer);
    owned->asked = mem_alloc(shard->count * sizeof(struct rates_parcel *));
    return owned;
}

static void grow(struct rates *rates, uint32_t vmta_count)
{
    size_t before = rates->vmta_count * sizeof(void *), after = vmta_count * sizeof(void *);

    rates->purses = mem_alloc_larger(rates->purses, before, after);
    rates->owned = mem_alloc_larger(rates->owned, before, after);
    rates->vmta_count = vmta_count;
}

static void own_adopt(struct shard *shard, uint32_t vmta_id, uint64_t step_ns)
{
    struct rates_owned *owned = shard->rates.owned[vmta_id];

    if (!owned && step_ns != 0) {
        shard->rates.owned[vmta_id] = owned_create(shard, vmta_id, step_ns);
    } else if (owned) {
        owned->is_closed = step_ns == 0;
        if (step_ns != 0 && step_ns != owned->mint.step_ns)
            mint_change(&owned->mint, step_ns);
    }
}

static void purse_adopt(struct shard *shard, uint32_t vmta_id, uint64_t step_ns)
{
    struct purse *purse = shard->rates.purses[vmta_id];

    if (!purse && step_ns == 0)
        return;
    if (!purse)
        shard->rates.purses[vmta_id] = purse = purse_create(shard, vmta_id);
    if (purse->limit_ns == step_ns)
        return;
    /* What is held was struck under the old rate. */
    purse->limit_ns = step_ns;
    purse->held = 0;
    purse->tail = 0;
    while (step_ns == 0 && purse->waiting_count > 0)
        wake_first(shard, purse);
    settle(shard, purse);
}

void rates_adopt(struct shard *shard)
{
    struct rates *rates = &shard->rates;
    uint32_t vmta_count = conf_vmta_id_end(shard->conf);

    if (vmta_count > rates->vmta_count)
        grow(rates, vmta_count);
    for (uint32_t id = 0; id < rates->vmta_count; id++) {
        const struct conf_vmta *vmta = conf_vmta(shard->conf, id);
        uint64_t step_ns = vmta ? step_of(&vmta->max_smtp_msg_rate) : 0;

        if (id % shard->count == shard->number)
            own_adopt(shard, id, step_ns);
        purse_adopt(shard, id, step_ns);
        /* Not before the purse here knows it, which would ask again at once. */
        if (rates->owned[id])
            own_speak(shard, id);
    }
}

void rates_init(struct shard *shard)
{
    shard->rates.began_ns = io_now_ns(shard->io);
    rates_adopt(shard);
}

void rates_fini(struct shard *shard)
{
    struct rates *rates = &shard->rates;

    for (uint32_t i = 0; i < rates->vmta_count; i++) {
        if (rates->purses[i])
            io_timer_stop(shard->io, &rates->purses[i]->timer);
        if (rates->owned[i]) {
            io_timer_stop(shard->io, &rates->owned[i]->timer);
            mint_fini(&rates->owned[i]->mint);
            mem_free(rates->owned[i]->asked);
        }
        mem_free(rates->owned[i]);
        mem_free(rates->purses[i]);
    }
    mem_free(rates->owned);
    mem_free(rates->purses);
}

static struct purse *purse_of(const struct shard *shard, const struct queue *queue)
{
    struct purse *purse =
        queue->vmta_id < shard->rates.vmta_count ? shard->rates.purses[queue->vmta_id] : NULL;

    return purse && purse->limit_ns != 0 ? purse : NULL;
}

static void send_to(struct shard *shard, uint16_t to, struct rates_parcel *parcel, uint16_t kind)
{
    parcel->parcel.kind = kind;
    parcel->parcel.from = shard->number;
    if (to == shard->number)
        rates_on_parcel(shard, &parcel->parcel);
    else
        shard_post(shard, to, &parcel->parcel);
}

/* ---- The mint -------------------------------------------------------------------------------- */

/* Nothing to give: the bound is gone, or nothing was wanted. */
static void send_empty(struct shard *shard, uint16_t to, struct rates_parcel *ask)
{
    ask->batch = (struct mint_batch){.step_ns = 1};
    send_to(shard, to, ask, RATES_GRANT);
}

/* There is no bound any more: whoever stands in line need not. */
static void own_send_away(struct shard *shard, struct rates_owned *owned)
{
    mint_clear_line(&owned->mint);
    for (uint16_t i = 0; i < shard->count; i++) {
        struct rates_parcel *ask = owned->asked[i];

        owned->asked[i] = NULL;
        if (ask)
            send_empty(shard, i, ask);
    }
}

/* Gives out what falls due; the rest of the line waits for the timer. */
static void own_speak(struct shard *shard, uint32_t vmta_id)
{
    struct rates_owned *owned = shard->rates.owned[vmta_id];
    struct mint_batch batch;
    uint16_t to;

    if (owned->is_closed)
        own_send_away(shard, owned);
    while (mint_next_batch(&owned->mint, io_now_ns(shard->io), &to, &batch)) {
        struct rates_parcel *ask = owned->asked[to];

        must(ask);
        owned->asked[to] = NULL;
        ask->batch = batch;
        send_to(shard, to, ask, RATES_GRANT);
    }
    if (mint_due_ns(&owned->mint) != UINT64_MAX)
        io_timer_arm(shard->io, &owned->timer, mint_due_ns(&owned->mint));
}

static void on_mint_timer(struct io_timer *timer)
{
    struct rates_owned *owned = container_of(timer, struct rates_owned, timer);

    own_speak(owned->shard, owned->vmta_id);
}

static void own_on_ask(struct shard *shard, struct rates_parcel *ask)
{
    struct rates_owned *owned = shard->rates.owned[ask->vmta_id];
    uint16_t from = ask->parcel.from;

    must(owned && !owned->asked[from]);
    mint_ask(&owned->mint, from, ask->wanted, ask->unused);
    if (ask->wanted == 0)
        send_empty(shard, from, ask);
    else
        owned->asked[from] = ask;
    own_speak(shard, owned->vmta_id);
}

/* ---- The purse ------------------------------------------------------------------------------- */

/* Tokens whose time is past can no longer be used. */
static void drop_old(struct purse *purse, uint64_t now_ns)
{
    while (purse->held > 0 && purse->first_ns + RATE_LATE_NS < now_ns) {
        purse->first_ns += purse->step_ns;
        purse->held--;
    }
}

static uint32_t usable(const struct purse *purse, uint64_t now_ns)
{
    uint64_t oldest_ns = purse->first_ns;
    uint32_t held = purse->held;
    uint64_t count;

    while (held > 0 && oldest_ns + RATE_LATE_NS < now_ns) {
        oldest_ns += purse->step_ns;
        held--;
    }
    if (held == 0 || oldest_ns > now_ns)
        return 0;
    count = (now_ns - oldest_ns) / purse->step_ns + 1;
    return count < held ? (uint32_t)count : held;
}

/* Tokens that nobody was woken for. Whoever comes first would get them else, and a queue whose
 * token comes a moment after its connection would lose it to the next in line each time. */
static uint32_t unclaimed(const struct purse *purse, uint64_t now_ns)
{
    uint32_t claimed = now_ns <= purse->turns_end_ns ? purse->turn_count : 0;
    uint32_t count = usable(purse, now_ns);

    return count > claimed ? count - claimed : 0;
}

/* Recipients of the queues in line, as far as one question can be for them. */
static uint32_t wanted(const struct purse *purse)
{
    uint32_t sum = 0;

    list_for_each (link, &purse->waiting) {
        sum += container_of(link, struct queue, purse_link)->ready_count;
        if (sum >= PURSE_WANTED_MAX)
            return PURSE_WANTED_MAX;
    }
    return sum > 0 ? sum : 1;
}

/* Asks for what the line can use, or only gives back what nobody can. */
static void ask(struct shard *shard, struct purse *purse)
{
    if (purse->is_asking || (purse->waiting_count == 0 && purse->tail == 0))
        return;
    purse->is_asking = true;
    purse->ask.wanted = purse->waiting_count > 0 ? wanted(purse) : 0;
    purse->ask.unused = purse->tail;
    purse->tail = 0;
    purse->held = planted("shard/token-kept-and-given-back") ? purse->ask.unused : 0;
    send_to(shard, purse->owner, &purse->ask, RATES_ASK);
}

/* The first in line may go on: it finds a token, if it comes as long as that is good. */
static void wake_first(struct shard *shard, struct purse *purse)
{
    struct queue *queue = container_of(purse->waiting.next, struct queue, purse_link);
    uint64_t now_ns = io_now_ns(shard->io);

    list_remove(&queue->purse_link);
    purse->waiting_count--;
    queue->has_turn = true;
    purse->turn_count = now_ns <= purse->turns_end_ns ? purse->turn_count + 1 : 1;
    purse->turns_end_ns = now_ns + RATE_LATE_NS;
    if (queue->parked)
        deliver_on_token(shard, queue);
    queues_reconsider(shard, queue);
}

/* Whatever changed: wakes whom there are tokens for, asks for more, and sees to it that the next
 * thing that time brings is noticed. */
static void settle(struct shard *shard, struct purse *purse)
{
    uint64_t now_ns = io_now_ns(shard->io);

    /* Who is woken may take its token, or stand in line again, here and now. */
    if (purse->is_settling)
        return;
    purse->is_settling = true;
    drop_old(purse, now_ns);
    for (uint32_t turns = purse->waiting_count;
         turns > 0 && purse->waiting_count > 0 && unclaimed(purse, now_ns) > 0; turns--)
        wake_first(shard, purse);
    purse->is_settling = false;
    if (purse->held == 0)
        ask(shard, purse);
    if (purse->held == 0)
        return;
    if (purse->first_ns > now_ns)
        io_timer_arm(shard->io, &purse->timer, purse->first_ns);
    else
        io_timer_arm(shard->io, &purse->timer, purse->first_ns + RATE_LATE_NS + 1);
}

static void on_purse_timer(struct io_timer *timer)
{
    struct purse *purse = container_of(timer, struct purse, timer);

    settle(purse->shard, purse);
}

static void on_grant(struct shard *shard, struct rates_parcel *grant)
{
    struct purse *purse = shard->rates.purses[grant->vmta_id];

    purse->is_asking = false;
    /* It may have been struck before the rate was changed. */
    if (grant->batch.step_ns < purse->limit_ns)
        grant->batch.count = 0;
    purse->step_ns = grant->batch.step_ns;
    purse->first_ns = grant->batch.first_ns;
    purse->held = grant->batch.count;
    purse->tail = grant->batch.count;
    settle(shard, purse);
}

void rates_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct rates_parcel *rates = container_of(parcel, struct rates_parcel, parcel);

    if (parcel->kind == RATES_ASK)
        own_on_ask(shard, rates);
    else
        on_grant(shard, rates);
}

/* ---- Queues ---------------------------------------------------------------------------------- */

void rates_init_queue(struct shard *shard, struct queue *queue)
{
    uint64_t began_ns = shard->rates.began_ns;

    rate_init(&queue->msg_rate, step_of(&queue->settings.max_msg_rate), began_ns);
    rate_init(&queue->connect_rate, step_of(&queue->settings.max_connect_rate), began_ns);
    list_init(&queue->purse_link);
}

void rates_adopt_queue(struct shard *shard, struct queue *queue)
{
    uint64_t now_ns = io_now_ns(shard->io);

    rate_change(&queue->msg_rate, step_of(&queue->settings.max_msg_rate), now_ns);
    rate_change(&queue->connect_rate, step_of(&queue->settings.max_connect_rate), now_ns);
    if (queue->reason == WAIT_RATE)
        queue->rest_until_ns = 0;
}

void rates_forget_queue(struct shard *shard, struct queue *queue)
{
    struct purse *purse = purse_of(shard, queue);

    if (list_empty(&queue->purse_link) || !purse)
        return;
    list_remove(&queue->purse_link);
    purse->waiting_count--;
}

bool rates_is_owed(const struct queue *queue, uint64_t now_ns)
{
    return rate_is_owed(&queue->msg_rate, now_ns) || rate_is_owed(&queue->connect_rate, now_ns);
}

/* The queue comes for its token, or it cannot use it. */
static void end_turn(struct purse *purse, struct queue *queue)
{
    if (queue->has_turn && purse->turn_count > 0)
        purse->turn_count--;
    queue->has_turn = false;
}

static void stand_in_line(struct shard *shard, struct purse *purse, struct queue *queue)
{
    end_turn(purse, queue);
    list_push_back(&purse->waiting, &queue->purse_link);
    purse->waiting_count++;
    queues_set_reason(shard, queue, WAIT_VMTA_RATE);
    settle(shard, purse);
}

bool rates_admit(struct shard *shard, struct queue *queue)
{
    if (!list_empty(&queue->purse_link))
        return false;
    if (rate_allowed(&queue->msg_rate, io_now_ns(shard->io)) > 0)
        return true;
    queues_wait_until(shard, queue, queue->msg_rate.next_ns, WAIT_RATE);
    return false;
}

bool rates_get_token(struct shard *shard, struct queue *queue)
{
    struct purse *purse = purse_of(shard, queue);
    uint64_t now_ns = io_now_ns(shard->io);

    if (!purse || (queue->has_turn && usable(purse, now_ns) > 0) ||
        (purse->waiting_count == 0 && unclaimed(purse, now_ns) > 0))
        return true;
    stand_in_line(shard, purse, queue);
    return false;
}

bool rates_may_wait(const struct shard *shard, const struct queue *queue)
{
    return purse_of(shard, queue) && queue->stay == QUEUE_HERE &&
           rate_allowed(&queue->msg_rate, io_now_ns(shard->io)) > 0;
}

void rates_wait(struct shard *shard, struct queue *queue)
{
    struct purse *purse = purse_of(shard, queue);

    must(purse);
    shard->rates.waits++;
    if (!list_empty(&queue->lane_link))
        lane_leave(queue);
    if (list_empty(&queue->purse_link))
        stand_in_line(shard, purse, queue);
}

uint32_t rates_allowed(const struct shard *shard, const struct queue *queue)
{
    const struct purse *purse = purse_of(shard, queue);
    uint32_t allowed = UINT32_MAX, held;

    if (queue->msg_rate.step_ns == 0 && !purse)
        return allowed;
    allowed = rate_allowed(&queue->msg_rate, io_now_ns(shard->io));
    held = purse ? usable(purse, io_now_ns(shard->io)) : allowed;
    return held < allowed ? held : allowed;
}

uint32_t rates_allowed_ahead(const struct shard *shard, const struct queue *queue)
{
    const struct purse *purse = purse_of(shard, queue);
    uint32_t allowed = rates_allowed(shard, queue), left;

    if (!purse)
        return allowed;
    left = purse->waiting_count > 0 ? 0 : unclaimed(purse, io_now_ns(shard->io));
    return left < allowed ? left : allowed;
}

uint32_t rates_within(const struct shard *shard, const struct queue *queue, uint64_t span_ns)
{
    const struct purse *purse = purse_of(shard, queue);
    uint64_t step_ns = queue->msg_rate.step_ns;

    if (purse && purse->limit_ns > step_ns)
        step_ns = purse->limit_ns;
    return step_ns == 0 || span_ns / step_ns >= UINT32_MAX ? UINT32_MAX
                                                           : (uint32_t)(span_ns / step_ns) + 1;
}

bool rates_are_shared(const struct shard *shard, const struct queue *queue)
{
    return purse_of(shard, queue) != NULL;
}

bool rates_take(struct shard *shard, struct queue *queue, uint32_t count)
{
    struct purse *purse = purse_of(shard, queue);
    uint64_t now_ns;

    if (queue->msg_rate.step_ns == 0 && !purse) {
        shard->rates.taken += count;
        queue->tried_count += count;
        return true;
    }
    /* Of a queue that goes to another shard the rate goes along. */
    if (queue->stay != QUEUE_HERE || rates_allowed(shard, queue) < count)
        return false;
    now_ns = io_now_ns(shard->io);
    if (!planted("shard/message-uses-no-token"))
        rate_use(&queue->msg_rate, now_ns, count);
    shard->rates.taken += count;
    queue->tried_count += count;
    if (!purse)
        return true;
    end_turn(purse, queue);
    drop_old(purse, now_ns);
    purse->first_ns += count * purse->step_ns;
    purse->held -= count;
    purse->tail = purse->held;
    purse->taken += count;
    settle(shard, purse);
    return true;
}

/* ---- The audit ------------------------------------------------------------------------------- */

/* What one shard has of its last grant, in its purse or on the way to it. */
static const char *audit_purse(const struct purse *purse, const struct mint_shard *book)
{
    uint64_t book_end_ns = book->batch.first_ns + book->batch.count * purse->step_ns;

    /* Struck before the rate was changed: the book is not about it. */
    if (purse->limit_ns != book->batch.step_ns || purse->step_ns != book->batch.step_ns)
        return NULL;
    if (purse->is_asking && purse->ask.parcel.kind == RATES_GRANT)
        return purse->ask.batch.count == book->batch.count ? NULL : "a grant is not in the book";
    if (purse->is_asking)
        return purse->held == 0 ? NULL : "tokens are held that were given back";
    if (purse->held > purse->tail || purse->tail > book->batch.count)
        return "more tokens are held than were granted";
    if (purse->held > 0 && purse->first_ns + purse->held * purse->step_ns != book_end_ns)
        return "tokens are held that another shard may have";
    return NULL;
}

/* No token is in two batches, nor to be struck again while it is in one. */
static bool batches_are_apart(const struct mint *mint)
{
    for (uint16_t i = 0; i < mint->count; i++) {
        const struct mint_batch *a = &mint->shards[i].batch;
        uint64_t end_ns = a->first_ns + a->count * mint->step_ns;

        if (a->count > 0 && end_ns > mint->next_ns)
            return false;
        for (uint16_t j = 0; j < i && a->count > 0; j++) {
            const struct mint_batch *b = &mint->shards[j].batch;

            if (b->count > 0 && a->first_ns < b->first_ns + b->count * mint->step_ns &&
                b->first_ns < end_ns)
                return false;
        }
    }
    return true;
}

const char *rates_audit(struct shard *const *shards, uint16_t count)
{
    for (uint32_t id = 0; id < shards[0]->rates.vmta_count; id++) {
        const struct purse *purse = shards[0]->rates.purses[id];
        const struct rates_owned *owned = NULL;
        const struct mint *mint;
        const char *text = NULL;

        if (purse && id < shards[purse->owner]->rates.vmta_count)
            owned = shards[purse->owner]->rates.owned[id];
        if (!owned || owned->is_closed)
            continue;
        mint = &owned->mint;
        if (!batches_are_apart(mint))
            return "a token was given out twice";
        for (uint16_t i = 0; i < count && !text; i++)
            if (id < shards[i]->rates.vmta_count && shards[i]->rates.purses[id])
                text = audit_purse(shards[i]->rates.purses[id], &mint->shards[i]);
        if (text)
            return text;
    }
    return NULL;
}
