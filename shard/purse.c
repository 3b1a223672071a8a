#include "shard/purse.h"

#include "core/base/mem.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

/* Tokens that one question asks for at most, unless one message needs more. */
#define WANTED_RCPTS_MAX  4096
#define WANTED_OCTETS_MAX (4u << 20)

static void on_purse_timer(struct io_timer *timer);
static void mint_speak(struct shard *shard, struct purse_mint *mint);
static void wake_first(struct purse *purse);
static void settle(struct purse *purse);
static void on_mint_timer(struct io_timer *timer);

/* ---- Making ---------------------------------------------------------------------------------- */

static struct mint_limit limit_of(const struct conf_vmta *vmta, enum purse_quantity quantity)
{
    const struct conf_rate *rate = !vmta                      ? NULL
                                   : quantity == PURSE_OCTETS ? &vmta->max_smtp_data_volume_rate
                                                              : &vmta->max_smtp_msg_rate;

    if (!rate || rate->count == CONF_UNLIMITED)
        return (struct mint_limit){.count = UINT64_MAX};
    return (struct mint_limit){rate->count, rate->interval_ms, rate->burst,
                               quantity == PURSE_OCTETS};
}

static bool is_bound(const struct mint_limit *limit)
{
    return limit->count != UINT64_MAX;
}

static bool limits_equal(const struct mint_limit *a, const struct mint_limit *b)
{
    return a->count == b->count && a->interval_ms == b->interval_ms && a->burst == b->burst;
}

static struct purse *purse_create(struct shard *shard, uint32_t vmta_id,
                                  enum purse_quantity quantity)
{
    struct purse *purse = mem_alloc(sizeof(*purse));

    purse->vmta_id = vmta_id;
    purse->quantity = (uint16_t)quantity;
    purse->owner = (uint16_t)(vmta_id % shard->count);
    purse->ask.vmta_id = vmta_id;
    purse->ask.quantity = (uint16_t)quantity;
    purse->shard = shard;
    list_init(&purse->waiting);
    io_timer_init(&purse->timer, on_purse_timer);
    return purse;
}

static struct purse_mint *mint_create(struct shard *shard, uint32_t vmta_id,
                                      enum purse_quantity quantity, const struct mint_limit *limit)
{
    struct purse_mint *mint = mem_alloc(sizeof(*mint));

    mint_init(&mint->mint, mint_limit_step_ns(limit), shard->count, io_now_ns(shard->io));
    mint_set_volume(&mint->mint, limit, io_now_ns(shard->io));
    mint->limit = *limit;
    mint->shard = shard;
    mint->vmta_id = vmta_id;
    mint->quantity = (uint16_t)quantity;
    io_timer_init(&mint->timer, on_mint_timer);
    mint->asked = mem_alloc(shard->count * sizeof(struct purse_parcel *));
    return mint;
}

static void grow(struct rates *rates, uint32_t vmta_count)
{
    size_t before = rates->vmta_count * sizeof(void *), after = vmta_count * sizeof(void *);

    for (uint32_t i = 0; i < PURSE_QUANTITIES; i++) {
        rates->purses[i] = mem_alloc_larger(rates->purses[i], before, after);
        rates->mints[i] = mem_alloc_larger(rates->mints[i], before, after);
    }
    rates->vmta_count = vmta_count;
}

static void adopt_mint(struct shard *shard, uint32_t vmta_id, enum purse_quantity quantity,
                       const struct mint_limit *limit)
{
    struct purse_mint *mint = shard->rates.mints[quantity][vmta_id];

    if (!mint && is_bound(limit)) {
        shard->rates.mints[quantity][vmta_id] = mint_create(shard, vmta_id, quantity, limit);
    } else if (mint) {
        mint->is_closed = !is_bound(limit);
        if (mint->is_closed || limits_equal(&mint->limit, limit))
            return;
        mint->limit = *limit;
        mint_change(&mint->mint, mint_limit_step_ns(limit));
        mint_set_volume(&mint->mint, limit, io_now_ns(shard->io));
    }
}

static void adopt_purse(struct shard *shard, uint32_t vmta_id, enum purse_quantity quantity,
                        const struct mint_limit *limit)
{
    struct purse *purse = shard->rates.purses[quantity][vmta_id];

    if (!purse && !is_bound(limit))
        return;
    if (!purse)
        shard->rates.purses[quantity][vmta_id] = purse = purse_create(shard, vmta_id, quantity);
    else if (limits_equal(&purse->limit, limit))
        return;
    /* What is held was struck under the old rate. */
    purse->limit = *limit;
    purse->limit_ns = is_bound(limit) ? mint_limit_step_ns(limit) : 0;
    purse->held = 0;
    purse->tail = 0;
    while (purse->limit_ns == 0 && purse->waiting_count > 0)
        wake_first(purse);
    settle(purse);
}

static void adopt_vmta(struct shard *shard, uint32_t vmta_id, enum purse_quantity quantity)
{
    struct mint_limit limit = limit_of(conf_vmta(shard->conf, vmta_id), quantity);

    if (vmta_id % shard->count == shard->number)
        adopt_mint(shard, vmta_id, quantity, &limit);
    adopt_purse(shard, vmta_id, quantity, &limit);
    /* Not before the purse here knows it, which would ask again at once. */
    if (shard->rates.mints[quantity][vmta_id])
        mint_speak(shard, shard->rates.mints[quantity][vmta_id]);
}

void purse_adopt(struct shard *shard)
{
    struct rates *rates = &shard->rates;
    uint32_t vmta_count = conf_vmta_id_end(shard->conf);

    if (vmta_count > rates->vmta_count)
        grow(rates, vmta_count);
    for (uint32_t id = 0; id < rates->vmta_count; id++)
        for (enum purse_quantity quantity = 0; quantity < PURSE_QUANTITIES; quantity++)
            adopt_vmta(shard, id, quantity);
}

void purse_init(struct shard *shard)
{
    purse_adopt(shard);
}

static void mint_free(struct shard *shard, struct purse_mint *mint)
{
    if (!mint)
        return;
    io_timer_stop(shard->io, &mint->timer);
    mint_fini(&mint->mint);
    mem_free(mint->asked);
    mem_free(mint);
}

void purse_fini(struct shard *shard)
{
    struct rates *rates = &shard->rates;

    for (uint32_t quantity = 0; quantity < PURSE_QUANTITIES; quantity++) {
        for (uint32_t i = 0; i < rates->vmta_count; i++) {
            if (rates->purses[quantity][i])
                io_timer_stop(shard->io, &rates->purses[quantity][i]->timer);
            mint_free(shard, rates->mints[quantity][i]);
            mem_free(rates->purses[quantity][i]);
        }
        mem_free(rates->mints[quantity]);
        mem_free(rates->purses[quantity]);
    }
}

struct purse *purse_of_vmta(const struct shard *shard, enum purse_quantity quantity,
                            uint32_t vmta_id)
{
    struct purse *purse =
        vmta_id < shard->rates.vmta_count ? shard->rates.purses[quantity][vmta_id] : NULL;

    return purse && purse->limit_ns != 0 ? purse : NULL;
}

static void send_to(struct shard *shard, uint16_t to, struct purse_parcel *parcel, uint16_t kind)
{
    parcel->parcel.kind = kind;
    parcel->parcel.from = shard->number;
    if (to == shard->number)
        purse_on_parcel(shard, &parcel->parcel);
    else
        shard_post(shard, to, &parcel->parcel);
}

/* ---- The mint -------------------------------------------------------------------------------- */

/* Nothing to give: the bound is gone, or nothing was wanted. */
static void send_empty(struct shard *shard, uint16_t to, struct purse_parcel *ask)
{
    ask->batch = (struct mint_batch){.step_ns = 1};
    send_to(shard, to, ask, PURSE_GRANT);
}

/* There is no bound any more: whoever stands in line need not. */
static void send_away(struct shard *shard, struct purse_mint *mint)
{
    mint_clear_line(&mint->mint);
    for (uint16_t i = 0; i < shard->count; i++) {
        struct purse_parcel *ask = mint->asked[i];

        mint->asked[i] = NULL;
        if (ask)
            send_empty(shard, i, ask);
    }
}

/* Gives out what falls due; the rest of the line waits for the timer. */
static void mint_speak(struct shard *shard, struct purse_mint *mint)
{
    struct mint_batch batch;
    uint16_t to;

    if (mint->is_closed)
        send_away(shard, mint);
    while (mint_next_batch(&mint->mint, io_now_ns(shard->io), &to, &batch)) {
        struct purse_parcel *ask = mint->asked[to];

        must(ask);
        mint->asked[to] = NULL;
        ask->batch = batch;
        ask->limit = mint->limit;
        send_to(shard, to, ask, PURSE_GRANT);
    }
    if (mint_due_ns(&mint->mint) != UINT64_MAX)
        io_timer_arm(shard->io, &mint->timer, mint_due_ns(&mint->mint));
}

static void on_mint_timer(struct io_timer *timer)
{
    struct purse_mint *mint = container_of(timer, struct purse_mint, timer);

    mint_speak(mint->shard, mint);
}

static void on_ask(struct shard *shard, struct purse_parcel *ask)
{
    struct purse_mint *mint = shard->rates.mints[ask->quantity][ask->vmta_id];
    uint16_t from = ask->parcel.from;

    must(mint && !mint->asked[from]);
    mint_ask(&mint->mint, from, ask->wanted, ask->need, ask->unused);
    mint_give_back(&mint->mint, ask->returned);
    if (ask->wanted == 0)
        send_empty(shard, from, ask);
    else
        mint->asked[from] = ask;
    mint_speak(shard, mint);
}

/* ---- The purse ------------------------------------------------------------------------------- */

/* Tokens whose time is past can no longer be used. */
static void drop_old(struct purse *purse, uint64_t now_ns)
{
    if (purse->step_ns == 0 && purse->first_ns + RATE_LATE_NS < now_ns)
        purse->held = 0;
    while (purse->held > 0 && purse->first_ns + RATE_LATE_NS < now_ns) {
        purse->first_ns += purse->step_ns;
        purse->held--;
    }
}

uint32_t purse_usable(const struct purse *purse, uint64_t now_ns)
{
    uint64_t oldest_ns = purse->first_ns;
    uint32_t held = purse->held;
    uint64_t count;

    if (purse->step_ns == 0)
        return oldest_ns + RATE_LATE_NS < now_ns ? 0 : held;
    while (held > 0 && oldest_ns + RATE_LATE_NS < now_ns) {
        oldest_ns += purse->step_ns;
        held--;
    }
    if (held == 0 || oldest_ns > now_ns)
        return 0;
    count = (now_ns - oldest_ns) / purse->step_ns + 1;
    return count < held ? (uint32_t)count : held;
}

static uint32_t claimed(const struct purse *purse, uint64_t now_ns)
{
    return now_ns <= purse->turns_end_ns ? purse->turn_count : 0;
}

/* Tokens that nobody was woken for. Whoever comes first would get them else, and a queue whose
 * token comes a moment after its connection would lose it to the next in line each time. */
static uint32_t unclaimed(const struct purse *purse, uint64_t now_ns)
{
    uint32_t count = purse_usable(purse, now_ns), kept = claimed(purse, now_ns);

    return count > kept ? count - kept : 0;
}

uint32_t purse_spare(const struct purse *purse, uint64_t now_ns)
{
    return purse->waiting_count > 0 ? 0 : unclaimed(purse, now_ns);
}

static struct queue *first_of(const struct purse *purse)
{
    return container_of(purse->waiting.next, struct queue, purse_link);
}

/* What the queues in line can use, as far as one question can be for them. */
static uint32_t wanted(const struct purse *purse, uint32_t need)
{
    uint64_t sum = 0, most = purse->quantity == PURSE_OCTETS ? WANTED_OCTETS_MAX : WANTED_RCPTS_MAX;

    list_for_each (link, &purse->waiting) {
        const struct queue *queue = container_of(link, struct queue, purse_link);

        sum += (uint64_t)queue->ready_count * rates_need(purse, queue);
        if (sum >= most)
            break;
    }
    if (sum > most)
        sum = most;
    return sum > need ? (uint32_t)sum : need;
}

/* Asks for what the line can use, or only gives back what nobody can. */
static void ask(struct purse *purse)
{
    struct shard *shard = purse->shard;

    if (purse->is_asking || (purse->waiting_count == 0 && purse->tail == 0 && purse->returned == 0))
        return;
    purse->is_asking = true;
    purse->ask.need = purse->waiting_count > 0 ? rates_need(purse, first_of(purse)) : 0;
    purse->ask.wanted = purse->waiting_count > 0 ? wanted(purse, purse->ask.need) : 0;
    purse->ask.unused = purse->tail;
    purse->ask.returned = purse->returned;
    purse->returned = 0;
    purse->tail = 0;
    purse->held = planted("shard/token-kept-and-given-back") ? purse->ask.unused : 0;
    send_to(shard, purse->owner, &purse->ask, PURSE_ASK);
}

static void give_turn(struct purse *purse, struct queue *queue, uint64_t now_ns)
{
    uint32_t count = rates_need(purse, queue), at = 0;

    while (at + 1 < PURSE_TURNS_MAX && queue->turns[at].purse)
        at++;
    queue->turns[at] = (struct purse_turn){purse, count};
    purse->turn_count = claimed(purse, now_ns) + count;
    purse->turns_end_ns = now_ns + RATE_LATE_NS;
}

/* The first in line may go on: it finds a token, if it comes as long as that is good. */
static void wake_first(struct purse *purse)
{
    struct queue *queue = first_of(purse);

    list_remove(&queue->purse_link);
    queue->purse = NULL;
    purse->waiting_count--;
    give_turn(purse, queue, io_now_ns(purse->shard->io));
    if (queue->parked)
        deliver_on_token(purse->shard, queue);
    queues_reconsider(purse->shard, queue);
}

static bool first_is_served(const struct purse *purse, uint64_t now_ns)
{
    return unclaimed(purse, now_ns) >= rates_need(purse, first_of(purse));
}

/* What is held is of no use to the first in line, and nobody is about to take it. */
static bool holds_too_little(const struct purse *purse, uint64_t now_ns)
{
    return purse->step_ns == 0 && purse->waiting_count > 0 && claimed(purse, now_ns) == 0 &&
           purse->held < rates_need(purse, first_of(purse));
}

/* Whatever changed: wakes whom there are tokens for, asks for more, and sees to it that the next
 * thing that time brings is noticed. */
static void settle(struct purse *purse)
{
    struct shard *shard = purse->shard;
    uint64_t now_ns = io_now_ns(shard->io);

    /* Who is woken may take its token, or stand in line again, here and now. */
    if (purse->is_settling)
        return;
    purse->is_settling = true;
    drop_old(purse, now_ns);
    for (uint32_t turns = purse->waiting_count;
         turns > 0 && purse->waiting_count > 0 && first_is_served(purse, now_ns); turns--)
        wake_first(purse);
    purse->is_settling = false;
    if (purse->held == 0 || holds_too_little(purse, now_ns))
        ask(purse);
    if (purse->held == 0)
        return;
    if (purse->first_ns > now_ns)
        io_timer_arm(shard->io, &purse->timer, purse->first_ns);
    else
        io_timer_arm(shard->io, &purse->timer, purse->first_ns + RATE_LATE_NS + 1);
}

static void on_purse_timer(struct io_timer *timer)
{
    settle(container_of(timer, struct purse, timer));
}

static void on_grant(struct shard *shard, struct purse_parcel *grant)
{
    struct purse *purse = shard->rates.purses[grant->quantity][grant->vmta_id];

    purse->is_asking = false;
    /* It may have been struck before the rate was changed. */
    if (grant->batch.count > 0 && !limits_equal(&grant->limit, &purse->limit) &&
        (grant->batch.step_ns == 0 || grant->batch.step_ns < purse->limit_ns))
        grant->batch.count = 0;
    purse->step_ns = grant->batch.step_ns;
    purse->first_ns = grant->batch.first_ns;
    purse->held = grant->batch.count;
    purse->tail = grant->batch.count;
    if (purse->step_ns != 0 && purse->held > 0)
        purse->due_ns = purse->first_ns + purse->held * purse->step_ns;
    settle(purse);
}

void purse_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct purse_parcel *purse = container_of(parcel, struct purse_parcel, parcel);

    if (parcel->kind == PURSE_ASK)
        on_ask(shard, purse);
    else
        on_grant(shard, purse);
}

/* ---- Queues ---------------------------------------------------------------------------------- */

static struct purse_turn *turn_at(const struct purse *purse, const struct queue *queue)
{
    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++)
        if (queue->turns[i].purse == purse)
            return (struct purse_turn *)&queue->turns[i];
    return NULL;
}

/* The queue comes for its token, or it cannot use it. */
static void end_turn(struct purse_turn *turn)
{
    struct purse *purse = turn->purse;

    purse->turn_count -= turn->count < purse->turn_count ? turn->count : purse->turn_count;
    turn->purse = NULL;
}

bool purse_has(const struct purse *purse, const struct queue *queue, uint32_t count)
{
    uint64_t now_ns = io_now_ns(purse->shard->io);

    return (turn_at(purse, queue) && purse_usable(purse, now_ns) >= count) ||
           purse_spare(purse, now_ns) >= count;
}

void purse_stand(struct purse *purse, struct queue *queue)
{
    struct purse_turn *turn = turn_at(purse, queue);

    if (turn)
        end_turn(turn);
    list_push_back(&purse->waiting, &queue->purse_link);
    queue->purse = purse;
    purse->waiting_count++;
    settle(purse);
}

void purse_leave(struct queue *queue)
{
    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++)
        if (queue->turns[i].purse)
            end_turn(&queue->turns[i]);
    if (list_empty(&queue->purse_link))
        return;
    list_remove(&queue->purse_link);
    queue->purse->waiting_count--;
    queue->purse = NULL;
}

void purse_take(struct purse *purse, struct queue *queue, uint32_t count)
{
    struct purse_turn *turn = turn_at(purse, queue);
    uint64_t now_ns = io_now_ns(purse->shard->io);

    if (turn)
        end_turn(turn);
    drop_old(purse, now_ns);
    must(purse->held >= count);
    purse->first_ns += count * purse->step_ns;
    purse->held -= count;
    purse->tail = purse->held;
    purse->taken += count;
    if (purse->step_ns == 0 && count > 0)
        purse->due_ns = now_ns + (uint64_t)count * purse->limit_ns;
    settle(purse);
}

void purse_give_back(struct purse *purse, uint64_t amount)
{
    purse->taken -= amount;
    purse->returned += amount;
    if (purse->held == 0)
        ask(purse);
}

/* ---- The audit ------------------------------------------------------------------------------- */

/* What one shard has of its last grant, in its purse or on the way to it. */
static const char *audit_purse(const struct purse *purse, const struct mint_shard *book)
{
    uint64_t book_end_ns = book->batch.first_ns + book->batch.count * purse->step_ns;

    if (purse->is_asking && purse->ask.parcel.kind == PURSE_ASK && purse->held > 0)
        return "tokens are held that were given back";
    /* Struck before the rate was changed: the book is not about it. */
    if (purse->step_ns != book->batch.step_ns ||
        (purse->step_ns == 0 && purse->first_ns != book->batch.first_ns) ||
        (purse->step_ns != 0 && purse->limit_ns != purse->step_ns))
        return NULL;
    if (purse->is_asking && purse->ask.parcel.kind == PURSE_GRANT)
        return purse->ask.batch.count == book->batch.count ? NULL : "a grant is not in the book";
    if (purse->is_asking)
        return purse->held == 0 ? NULL : "tokens are held that were given back";
    if (purse->held > purse->tail || purse->tail > book->batch.count)
        return "more tokens are held than were granted";
    if (purse->step_ns != 0 && purse->held > 0 &&
        purse->first_ns + purse->held * purse->step_ns != book_end_ns)
        return "tokens are held that another shard may have";
    return NULL;
}

/* No token is in two batches, nor to be struck again while it is in one. */
static bool batches_are_apart(const struct mint *mint)
{
    for (uint16_t i = 0; i < mint->count && !mint->volume; i++) {
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

static const char *audit_vmta(struct shard *const *shards, uint16_t count, uint32_t id,
                              enum purse_quantity quantity)
{
    const struct purse *purse = shards[0]->rates.purses[quantity][id];
    const struct purse_mint *mint = NULL;
    const char *text = NULL;

    if (purse && id < shards[purse->owner]->rates.vmta_count)
        mint = shards[purse->owner]->rates.mints[quantity][id];
    if (!mint || mint->is_closed)
        return NULL;
    if (!batches_are_apart(&mint->mint))
        return "a token was given out twice";
    for (uint16_t i = 0; i < count && !text; i++) {
        const struct rates *rates = &shards[i]->rates;

        if (id < rates->vmta_count && rates->purses[quantity][id])
            text = audit_purse(rates->purses[quantity][id], &mint->mint.shards[i]);
    }
    return text;
}

const char *purse_audit(struct shard *const *shards, uint16_t count)
{
    const char *text = NULL;

    for (uint32_t id = 0; id < shards[0]->rates.vmta_count && !text; id++)
        for (enum purse_quantity quantity = 0; quantity < PURSE_QUANTITIES && !text; quantity++)
            text = audit_vmta(shards, count, id, quantity);
    return text;
}
