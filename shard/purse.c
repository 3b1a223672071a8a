#include "shard/purse.h"

#include "shard/planted.h"
#include "shard/purse_mint.h"
#include "shard/shard_int.h"

/* Tokens that one question asks for at most, unless one message needs more. */
#define WANTED_RCPTS_MAX  4096
#define WANTED_OCTETS_MAX (4u << 20)
#define TIDY_STEPS        16u
/* How long a token is kept for a queue that waits for a scarcer one. Less than what a fresh token
 * has left (RATE_LATE_NS less MINT_AHEAD_NS), so that it comes in time to who has that one. */
#define KEPT_BESIDE_NS    2500000ull
/* What takes longer to be read keeps no token from others. */
#define READ_MAX_NS       100000000ull
/* Of a line, to find a place by age; behind these, it is as far as it was looked for. */
#define PLACES_LOOKED_AT  64u

static void on_purse_timer(struct io_timer *timer);
static void wake_first(struct purse *purse);
static void wake_lanes(struct purse *purse, uint32_t count);
static void settle(struct purse *purse);

/* ---- Making ---------------------------------------------------------------------------------- */

struct question {
    const struct meter_key *key;
    const struct slab *slab;
    uint16_t quantity;
};

static bool match_purse(uint32_t value, const void *key, void *context)
{
    const struct question *question = key;
    const struct purse *purse = slab_at(question->slab, value);

    (void)context;
    return purse->quantity == question->quantity && scope_key_equal(&purse->key, question->key);
}

struct purse *purse_find(const struct shard *shard, const struct meter_key *key,
                         enum purse_quantity quantity)
{
    const struct purses *purses = &shard->purses;
    struct question question = {key, &purses->purses, (uint16_t)quantity};
    uint32_t index = table_find(&purses->purse_by_key, purse_mint_hash(key, (uint16_t)quantity),
                                match_purse, &question, NULL);

    return index == TABLE_NONE ? NULL : slab_at(&purses->purses, index);
}

/* ---- Freeing --------------------------------------------------------------------------------- */

static void purse_free(struct shard *shard, struct purse *purse)
{
    io_timer_stop(shard->io, &purse->timer);
    list_remove(&purse->used_link);
    table_remove(&shard->purses.purse_by_key, purse_mint_hash(&purse->key, purse->quantity),
                 purse->index);
    slab_free(&shard->purses.purses, purse->index);
}

/* Out of the line, with its place. */
static void step_out(struct queue *queue)
{
    list_remove(&queue->purse_link);
    list_remove(&queue->purse_rank_link);
    list_remove(&queue->purse_express_link);
    queue->is_away = false;
    queue->purse = NULL;
}

/* The first places are those of queues that are away: it is their turn, and they have had it. */
static void drop_away(struct list *line)
{
    while (!list_empty(line)) {
        struct queue *queue = container_of(line->next, struct queue, purse_rank_link);

        if (!queue->is_away)
            return;
        step_out(queue);
    }
}

static void drop_all_away(struct purse *purse)
{
    for (uint8_t rank = 0; rank < TURNS_RANKS; rank++)
        drop_away(&purse->ranks[rank]);
}

static bool is_of_no_use(const struct purse *purse)
{
    return purse->refs == 0 && list_empty(&purse->waiting) && list_empty(&purse->lanes) &&
           !purse->is_asking && !purse->is_settling && purse->held == 0 && purse->tail == 0 &&
           purse->returned == 0;
}

/* A few steps over the slabs now and then: what nobody needs does not pile up. */
static void tidy(struct shard *shard)
{
    struct purses *purses = &shard->purses;

    if (purses->to_tidy == 0)
        return;
    purses->to_tidy--;
    for (uint32_t i = 0; i < TIDY_STEPS && i < purses->purses.count_grown; i++) {
        uint32_t at = purses->purse_hand++ % purses->purses.count_grown;

        if (!slab_is_live(&purses->purses, at))
            continue;
        drop_all_away(slab_at(&purses->purses, at));
        if (is_of_no_use(slab_at(&purses->purses, at)))
            purse_free(shard, slab_at(&purses->purses, at));
    }
    purse_mint_tidy(shard);
}

struct purse *purse_obtain(struct shard *shard, const struct meter_key *key,
                           enum purse_quantity quantity)
{
    struct purse *purse = purse_find(shard, key, quantity);
    uint32_t index;

    if (purse)
        return purse;
    purse = slab_alloc(&shard->purses.purses, &index);
    if (!purse)
        return NULL;
    if (!table_insert(&shard->purses.purse_by_key, purse_mint_hash(key, (uint16_t)quantity),
                      index)) {
        slab_free(&shard->purses.purses, index);
        return NULL;
    }
    shard->purses.to_tidy++;
    purse->key = *key;
    purse->index = index;
    purse->quantity = (uint16_t)quantity;
    /* The hash finds a place in a table by its lowest bits. */
    purse->owner = (uint16_t)((scope_key_hash(key) >> 32) % shard->count);
    purse->ask.key = *key;
    purse->ask.quantity = (uint16_t)quantity;
    purse->shard = shard;
    purse->limit = purse_mint_limit(shard, key, quantity);
    purse->limit_ns = purse_mint_is_bound(&purse->limit) ? mint_limit_step_ns(&purse->limit) : 0;
    list_init(&purse->waiting);
    list_init(&purse->express);
    for (uint8_t rank = 0; rank < TURNS_RANKS; rank++)
        list_init(&purse->ranks[rank]);
    list_init(&purse->lanes);
    list_init(&purse->used_link);
    io_timer_init(&purse->timer, on_purse_timer);
    return purse;
}

void purse_release(struct purse *purse)
{
    must(purse->refs > 0);
    purse->refs--;
}

static void adopt_purse(struct shard *shard, struct purse *purse)
{
    struct mint_limit limit = purse_mint_limit(shard, &purse->key, purse->quantity);

    if (purse_mint_limits_equal(&purse->limit, &limit))
        return;
    /* What is held was struck under the old rate. */
    purse->limit = limit;
    purse->limit_ns = purse_mint_is_bound(&limit) ? mint_limit_step_ns(&limit) : 0;
    purse->held = 0;
    purse->tail = 0;
    wake_lanes(purse, UINT32_MAX);
    while (purse->limit_ns == 0 && purse->waiting_count > 0)
        wake_first(purse);
    settle(purse);
}

void purse_adopt(struct shard *shard)
{
    struct purses *purses = &shard->purses;

    purse_mint_adopt(shard);
    for (uint32_t i = 0; i < purses->purses.count_grown; i++)
        if (slab_is_live(&purses->purses, i))
            adopt_purse(shard, slab_at(&purses->purses, i));
    /* Not before the purses here know it, which would ask again at once. */
    purse_mint_speak(shard);
}

void purse_init(struct shard *shard)
{
    uint32_t count_max = shard->limits.queue_count_max * 2 + 4096;

    slab_init(&shard->purses.purses, sizeof(struct purse), count_max);
    purse_mint_init(shard, count_max);
    table_init(&shard->purses.purse_by_key);
    list_init(&shard->purses.used);
}

void purse_fini(struct shard *shard)
{
    struct purses *purses = &shard->purses;

    for (uint32_t i = 0; i < purses->purses.count_grown; i++)
        if (slab_is_live(&purses->purses, i))
            purse_free(shard, slab_at(&purses->purses, i));
    purse_mint_fini(shard);
    table_fini(&purses->purse_by_key);
    slab_fini(&purses->purses);
}

void purse_send(struct shard *shard, uint16_t to, struct purse_parcel *parcel, uint16_t kind)
{
    parcel->parcel.kind = kind;
    parcel->parcel.from = shard->number;
    if (to == shard->number)
        purse_on_parcel(shard, &parcel->parcel);
    else
        shard_post(shard, to, &parcel->parcel);
}

/* ---- The purse ------------------------------------------------------------------------------- */

/* A message that is being read for such a token comes too late. The one that is struck in its place
 * is spoken for then; but where the next ones are due before it has been read, they are for more
 * messages to be begun, or a slow disk would bound the rate. */
static void lose(struct purse *purse, uint32_t count)
{
    purse->held -= count;
    if (purse->limit_ns < READ_MAX_NS)
        purse->spoken_for -= count < purse->spoken_for ? count : purse->spoken_for;
}

/* Tokens whose time is past can no longer be used. */
static void drop_old(struct purse *purse, uint64_t now_ns)
{
    if (purse->step_ns == 0 && purse->first_ns + RATE_LATE_NS < now_ns)
        lose(purse, purse->held);
    while (purse->held > 0 && purse->first_ns + RATE_LATE_NS < now_ns) {
        purse->first_ns += purse->step_ns;
        lose(purse, 1);
    }
}

uint32_t purse_usable(const struct purse *purse, uint64_t now_ns)
{
    uint64_t oldest_ns = purse->first_ns;
    uint32_t held = purse->held;
    uint64_t count;

    if (purse->limit_ns == 0)
        return UINT32_MAX;
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

uint32_t purse_open(const struct purse *purse, uint64_t now_ns)
{
    uint32_t count = purse_usable(purse, now_ns);
    uint32_t spoken_for = now_ns < purse->spoken_ns + READ_MAX_NS ? purse->spoken_for : 0;

    return count > spoken_for ? count - spoken_for : 0;
}

static uint32_t claimed(const struct purse *purse, uint64_t now_ns)
{
    return now_ns <= purse->turns_end_ns ? purse->turn_count : 0;
}

/* Tokens that nobody was woken for. Whoever comes first would get them else, and a queue whose
 * token comes a moment after its connection would lose it to the next in line each time. */
static uint32_t unclaimed(const struct purse *purse, uint64_t now_ns)
{
    uint32_t count = purse_open(purse, now_ns), kept = claimed(purse, now_ns);

    return count > kept ? count - kept : 0;
}

uint32_t purse_spare(const struct purse *purse, uint64_t now_ns)
{
    if (purse->limit_ns == 0)
        return UINT32_MAX;
    return purse->waiting_count > 0 ? 0 : unclaimed(purse, now_ns);
}

/* Whose turn it is, of those in line; there are some. */
static struct queue *first_of(struct purse *purse)
{
    uint32_t mask = 0;

    if (!list_empty(&purse->express) && !purse->was_express)
        return container_of(purse->express.next, struct queue, purse_express_link);
    for (uint8_t rank = 0; rank < TURNS_RANKS; rank++) {
        drop_away(&purse->ranks[rank]);
        mask |= (uint32_t)!list_empty(&purse->ranks[rank]) << rank;
    }
    return container_of(purse->ranks[turns_next(&purse->turns, mask)].next, struct queue,
                        purse_rank_link);
}

/* What the queues in line can use, as far as one question can be for them. */
static uint32_t wanted(const struct purse *purse, uint32_t need)
{
    uint64_t sum = 0, most = purse->quantity == PURSE_OCTETS ? WANTED_OCTETS_MAX : WANTED_RCPTS_MAX;

    list_for_each (link, &purse->waiting) {
        const struct queue *queue = container_of(link, struct queue, purse_link);

        if (!queue->is_away)
            sum += (uint64_t)ready_open_count(queue) * rates_need(purse, queue);
        if (sum >= most)
            break;
    }
    list_for_each (link, &purse->lanes)
        sum++;
    if (sum > most)
        sum = most;
    return sum > need ? (uint32_t)sum : need;
}

/* Asks for what the line can use, or only gives back what nobody can. */
static void ask(struct purse *purse)
{
    struct shard *shard = purse->shard;

    bool is_wanted = purse->waiting_count > 0 || !list_empty(&purse->lanes);

    if (purse->is_asking || (!is_wanted && purse->tail == 0 && purse->returned == 0))
        return;
    purse->is_asking = true;
    purse->ask.need = purse->waiting_count > 0 ? rates_need(purse, first_of(purse)) : is_wanted;
    purse->ask.wanted = is_wanted ? wanted(purse, purse->ask.need) : 0;
    purse->ask.unused = purse->tail;
    purse->ask.returned = purse->returned;
    purse->returned = 0;
    /* What goes back may be had again at once. A shard that took it for used would stand first
     * where it gave back last, and of several that each give one of two tokens back none would have
     * both. */
    purse->due_ns -= purse->tail * purse->step_ns;
    purse->tail = 0;
    purse->held = planted("shard/token-kept-and-given-back") ? purse->ask.unused : 0;
    purse_send(shard, purse->owner, &purse->ask, PURSE_ASK);
}

static struct purse_turn *turn_at(const struct purse *purse, const struct queue *queue)
{
    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++)
        if (queue->turns[i].purse == purse->index + 1)
            return (struct purse_turn *)&queue->turns[i];
    return NULL;
}

/* The queue comes for its token, or it cannot use it. */
static void end_turn(struct shard *shard, struct purse_turn *turn)
{
    struct purse *purse = slab_at(&shard->purses.purses, turn->purse - 1);

    purse->turn_count -= turn->count < purse->turn_count ? turn->count : purse->turn_count;
    turn->purse = 0;
    purse_release(purse);
}

/* Turns that it did not come for in time make room, or those that it needs now would not all find
 * theirs. */
static struct purse_turn *free_turn(struct shard *shard, struct queue *queue, uint64_t now_ns)
{
    struct purse_turn *last = &queue->turns[PURSE_TURNS_MAX - 1], *free = NULL;

    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++) {
        struct purse_turn *turn = &queue->turns[i];

        if (turn->purse != 0 &&
            ((struct purse *)slab_at(&shard->purses.purses, turn->purse - 1))->turns_end_ns <
                now_ns)
            end_turn(shard, turn);
        if (turn->purse == 0 && !free)
            free = turn;
    }
    if (!free)
        end_turn(shard, last);
    return free ? free : last;
}

/* count: tokens that are kept for it; 0 = they were lost. */
static void give_turn(struct purse *purse, struct queue *queue, uint32_t count, uint64_t now_ns)
{
    struct purse_turn *turn = turn_at(purse, queue);

    if (turn)
        end_turn(purse->shard, turn);
    turn = free_turn(purse->shard, queue, now_ns);
    purse->refs++;
    *turn = (struct purse_turn){purse->index + 1, count};
    if (count == 0)
        return;
    purse->turn_count = claimed(purse, now_ns) + count;
    purse->turns_end_ns = (purse->first_ns > now_ns ? purse->first_ns : now_ns) + RATE_LATE_NS;
    purse->gives_back = false;
}

/* The first in line may go on: it finds a token, if it comes as long as that is good. */
static void wake_first(struct purse *purse)
{
    struct queue *queue = first_of(purse);

    purse->was_express = !list_empty(&queue->purse_express_link) && !purse->was_express;
    if (purse->was_express) {
        list_remove(&queue->purse_express_link);
        queue->is_away = true;
    } else {
        turns_served(&purse->turns, queue->purse_rank);
        step_out(queue);
    }
    purse->waiting_count--;
    give_turn(purse, queue, rates_need(purse, queue), io_now_ns(purse->shard->io));
    if (queue->parked)
        deliver_on_token(purse->shard, queue);
    queues_reconsider(purse->shard, queue);
}

/* So many of those that have waited longest; they look themselves whether there is one left for
 * them. Were all woken, who had it would stand in line again before the others. */
static void wake_lanes(struct purse *purse, uint32_t count)
{
    struct list *link;

    for (; count > 0 && (link = list_pop_front(&purse->lanes)); count--)
        lane_serve_later(container_of(link, struct lane, purse_link));
}

static bool first_is_served(struct purse *purse, uint64_t now_ns)
{
    return unclaimed(purse, now_ns) >= rates_need(purse, first_of(purse));
}

/* The token's time is still to come. Who is to have it is told now, once: it can open a connection,
 * or stand in line for slots, and be back by then. */
static void call_first(struct purse *purse, uint64_t now_ns)
{
    if (purse->held == 0 || purse->called_ns == purse->first_ns ||
        purse->first_ns < now_ns + MINT_EARLY_LEAST_NS)
        return;
    purse->called_ns = purse->first_ns;
    if (!list_empty(&purse->lanes)) {
        struct lane *lane = container_of(purse->lanes.next, struct lane, purse_link);

        lane->called_ns = now_ns;
        lane->called_until_ns = purse->first_ns + RATE_LATE_NS;
        wake_lanes(purse, 1);
    }
    if (purse->waiting_count > 0 && !first_of(purse)->parked)
        wake_first(purse);
}

/* What is held is of no use to the first in line, and nobody is about to take it. */
static bool holds_too_little(struct purse *purse, uint64_t now_ns)
{
    return purse->step_ns == 0 && purse->waiting_count > 0 && claimed(purse, now_ns) == 0 &&
           purse->spoken_for == 0 && purse->held < rates_need(purse, first_of(purse));
}

/* Whatever changed: wakes whom there are tokens for, asks for more, and sees to it that the next
 * thing that time brings is noticed. */
static void settle(struct purse *purse)
{
    struct shard *shard = purse->shard;
    uint64_t now_ns = io_now_ns(shard->io);
    bool is_over;

    /* Who is woken may take its token, or stand in line again, here and now. */
    if (purse->is_settling)
        return;
    purse->is_settling = true;
    drop_old(purse, now_ns);
    for (uint32_t turns = purse->waiting_count;
         turns > 0 && purse->waiting_count > 0 && first_is_served(purse, now_ns); turns--)
        wake_first(purse);
    call_first(purse, now_ns);
    if (!list_empty(&purse->lanes))
        wake_lanes(purse, unclaimed(purse, now_ns));
    purse->is_settling = false;
    is_over = purse->gives_back && now_ns > purse->turns_end_ns && purse->waiting_count == 0 &&
              purse->spoken_for == 0;
    if (purse->held == 0 || is_over || holds_too_little(purse, now_ns))
        ask(purse);
    if (purse->held == 0)
        return;
    if (purse->gives_back && purse->turns_end_ns >= now_ns)
        io_timer_arm(shard->io, &purse->timer, purse->turns_end_ns + 1);
    else if (purse->first_ns > now_ns)
        io_timer_arm(shard->io, &purse->timer, purse->first_ns);
    else
        io_timer_arm(shard->io, &purse->timer, purse->first_ns + RATE_LATE_NS + 1);
}

static void on_purse_timer(struct io_timer *timer)
{
    settle(container_of(timer, struct purse, timer));
}

static void on_grant(struct purse_parcel *grant)
{
    struct purse *purse = container_of(grant, struct purse, ask);

    purse->is_asking = false;
    /* It may have been struck before the rate was changed. */
    if (grant->batch.count > 0 && !purse_mint_limits_equal(&grant->limit, &purse->limit) &&
        (grant->batch.step_ns == 0 || grant->batch.step_ns < purse->limit_ns))
        grant->batch.count = 0;
    purse->step_ns = grant->batch.step_ns;
    purse->first_ns = grant->batch.first_ns;
    purse->held = grant->batch.count;
    purse->tail = grant->batch.count;
    if (purse->step_ns != 0 && purse->held > 0)
        purse->due_ns = purse->first_ns + purse->held * purse->step_ns;
    /* The owner has no bound any more, or no memory: not again in this very turn. */
    if (grant->wanted > 0 && grant->batch.count == 0)
        io_timer_arm(purse->shard->io, &purse->timer, io_now_ns(purse->shard->io) + RATE_LATE_NS);
    else
        settle(purse);
}

void purse_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct purse_parcel *purse = container_of(parcel, struct purse_parcel, parcel);

    if (parcel->kind == PURSE_ASK)
        purse_mint_on_ask(shard, purse);
    else
        on_grant(purse);
}

/* ---- Queues ---------------------------------------------------------------------------------- */

bool purse_has(const struct purse *purse, const struct queue *queue, uint32_t count)
{
    uint64_t now_ns = io_now_ns(purse->shard->io);

    return (turn_at(purse, queue) && purse_open(purse, now_ns) >= count) ||
           purse_spare(purse, now_ns) >= count;
}

bool purse_is_stood_at(const struct queue *queue)
{
    return queue->purse && !queue->is_away;
}

bool purse_is_asked_elsewhere(const struct queue *queue)
{
    return purse_is_stood_at(queue) && queue->purse->is_asking &&
           queue->purse->owner != queue->purse->shard->number;
}

void purse_note_ready(struct queue *queue)
{
    if (purse_is_stood_at(queue) && list_empty(&queue->purse_express_link) &&
        ready_has_light(queue))
        list_push_back(&queue->purse->express, &queue->purse_express_link);
}

static uint64_t since(const struct list *link)
{
    return container_of(link, struct queue, purse_rank_link)->purse_since_ns;
}

/* Who has waited longer for its tokens stands before the others, wherever it comes from: places in
 * several lines would be had at the cost of those who stand in one. */
static void take_place(struct list *line, struct queue *queue, bool is_at_front)
{
    struct list *link = &queue->purse_rank_link, *before = line->next, *behind = line->prev;
    uint32_t steps = 0;

    while (is_at_front && before != line && since(before) <= queue->purse_since_ns &&
           steps < PLACES_LOOKED_AT) {
        before = before->next;
        steps++;
    }
    if (is_at_front && steps < PLACES_LOOKED_AT) {
        list_push_back(before, link);
        return;
    }
    for (steps = 0;
         behind != line && since(behind) > queue->purse_since_ns && steps < PLACES_LOOKED_AT;
         steps++)
        behind = behind->prev;
    list_push_front(behind, link);
}

static void join(struct purse *purse, struct queue *queue, bool is_at_front)
{
    step_out(queue);
    queue->purse = purse;
    queue->purse_rank = turns_rank(queue->settings.queue_priority);
    list_push_back(&purse->waiting, &queue->purse_link);
    take_place(&purse->ranks[queue->purse_rank], queue, is_at_front);
}

/* Of rates that are equal one counts as the scarcer, the same one on all shards. */
static bool is_scarcer(const struct purse *a, const struct purse *b)
{
    if (a->limit_ns != b->limit_ns)
        return a->limit_ns > b->limit_ns;
    return scope_key_equal(&a->key, &b->key) ? a->quantity > b->quantity
                                             : scope_key_is_before(&b->key, &a->key);
}

/* It is given back at end_ns, or used before. */
static void keep_until(struct purse *purse, bool gives_back, uint64_t end_ns)
{
    purse->gives_back = gives_back;
    purse->turns_end_ns = end_ns;
    io_timer_arm(purse->shard->io, &purse->timer, end_ns + 1);
}

/* What the queue has beside waits for a scarcer token only for a moment. Two shards, each with one
 * of two tokens that it keeps until it is past, would never have both; the order is the same on all
 * of them. For one that is not scarcer it waits as long as it is good, though it waited for a
 * scarcer one before. */
static void keep_for_a_moment(const struct purse *purse, const struct queue *queue)
{
    uint64_t now_ns = io_now_ns(purse->shard->io), end_ns = now_ns + KEPT_BESIDE_NS;

    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++) {
        struct purse *beside = queue->turns[i].purse == 0 ? NULL
                                                          : slab_at(&purse->shard->purses.purses,
                                                                    queue->turns[i].purse - 1);
        bool is_short;

        if (!beside || beside == purse || beside->step_ns == 0 || beside->held == 0 ||
            beside->turn_count > queue->turns[i].count || beside->turns_end_ns < now_ns)
            continue;
        is_short = is_scarcer(purse, beside);
        if (is_short && !beside->gives_back && beside->spoken_for == 0 &&
            beside->turns_end_ns > end_ns)
            keep_until(beside, true, end_ns);
        else if (!is_short && beside->gives_back)
            keep_until(beside, false, beside->first_ns + RATE_LATE_NS);
    }
}

void purse_stand(struct purse *purse, struct queue *queue)
{
    struct purse_turn *turn = turn_at(purse, queue);
    bool has_place = queue->purse == purse, goes_first;

    if (turn)
        end_turn(purse->shard, turn);
    if (purse_is_stood_at(queue))
        queue->purse->waiting_count--;
    queue->is_away = false;
    if (queue->purse_since_ns == 0)
        queue->purse_since_ns = io_now_ns(purse->shard->io);
    /* What it has of others is lost in a moment, or those in two lines would pass each other by for
     * ever; and by now it has the connection, or the message read, for want of which its turn was
     * of no use. */
    goes_first = turn || rates_has_turn(queue);
    if (!has_place || goes_first)
        join(purse, queue, goes_first);
    if (turn)
        turns_missed(&purse->turns, queue->purse_rank);
    purse->waiting_count++;
    purse_note_ready(queue);
    settle(purse);
    if (queue->purse == purse)
        keep_for_a_moment(purse, queue);
}

void purse_leave(struct shard *shard, struct queue *queue)
{
    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++)
        if (queue->turns[i].purse != 0)
            end_turn(shard, &queue->turns[i]);
    if (!queue->purse)
        return;
    queue->purse->waiting_count -= !queue->is_away;
    step_out(queue);
}

static void settle_later(struct purse *purse)
{
    if (list_empty(&purse->used_link))
        list_push_back(&purse->shard->purses.used, &purse->used_link);
}

void purse_take(struct purse *purse, struct queue *queue, uint32_t count)
{
    struct purse_turn *turn = queue ? turn_at(purse, queue) : NULL;
    uint64_t now_ns = io_now_ns(purse->shard->io);

    if (turn)
        end_turn(purse->shard, turn);
    purse->taken += count;
    purse->shard->purses.take_count++;
    if (purse->limit_ns == 0)
        return;
    drop_old(purse, now_ns);
    must(purse->held >= count);
    purse->first_ns += count * purse->step_ns;
    purse->held -= count;
    purse->tail = purse->held;
    if (purse->step_ns == 0 && count > 0)
        purse->due_ns = now_ns + (uint64_t)count * purse->limit_ns;
    settle_later(purse);
}

void purse_begin_read(struct purse *purse, struct queue *queue, uint32_t count)
{
    struct purse_turn *turn = turn_at(purse, queue);
    uint64_t now_ns = io_now_ns(purse->shard->io);

    if (turn)
        end_turn(purse->shard, turn);
    drop_old(purse, now_ns);
    if (now_ns >= purse->spoken_ns + READ_MAX_NS)
        purse->spoken_for = 0;
    purse->spoken_for += count;
    purse->spoken_ns = now_ns;
    purse->refs++;
}

void purse_end_read(struct purse *purse, uint32_t count)
{
    purse->spoken_for -= count < purse->spoken_for ? count : purse->spoken_for;
    settle_later(purse);
    purse_release(purse);
}

void purse_return_turn(struct purse *purse, struct queue *queue)
{
    uint64_t now_ns = io_now_ns(purse->shard->io);
    uint32_t need = rates_need(purse, queue);

    give_turn(purse, queue, purse_open(purse, now_ns) >= need ? need : 0, now_ns);
}

bool purse_is_busy(const struct shard *shard)
{
    return !list_empty(&shard->purses.used);
}

void purse_turn(struct shard *shard)
{
    struct list batch, *link;

    list_init(&batch);
    while ((link = list_pop_front(&shard->purses.used)))
        list_push_back(&batch, link);
    while ((link = list_pop_front(&batch)))
        settle(container_of(link, struct purse, used_link));
    tidy(shard);
}

void purse_stand_lane(struct purse *purse, struct lane *lane)
{
    struct list *before = &purse->lanes;
    uint32_t steps = 0;

    /* Who was woken, and found no slot, stands where it stood. */
    if (lane->purse_since_ns == 0)
        lane->purse_since_ns = io_now_ns(purse->shard->io);
    else
        before = purse->lanes.next;
    while (before != &purse->lanes && steps++ < PLACES_LOOKED_AT &&
           container_of(before, struct lane, purse_link)->purse_since_ns <= lane->purse_since_ns)
        before = before->next;
    list_push_back(before, &lane->purse_link);
    settle(purse);
}

void purse_leave_lane(struct lane *lane)
{
    list_remove(&lane->purse_link);
    lane->purse_since_ns = 0;
    lane->called_until_ns = 0;
}

void purse_give_back(struct purse *purse, uint64_t amount)
{
    purse->taken -= amount;
    purse->shard->purses.take_count++;
    purse->returned += amount;
    if (purse->held == 0)
        ask(purse);
}
