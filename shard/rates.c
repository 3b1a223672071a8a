#include "shard/rates.h"

#include "core/base/mem.h"
#include "shard/planted.h"
#include "shard/policy/volume.h"
#include "shard/shard_int.h"

#define NO_PURSE_WAIT_MS  1000
/* Of a virtual MTA, when tokens count by them. */
#define SOURCES_LOOKED_AT 16u
/* On the way of octets back to their mint. */
#define RETURN_MARGIN_NS  1000000000ull

void rates_init(struct shard *shard)
{
    shard->rates.began_ns = io_now_ns(shard->io);
    purse_init(shard);
    rates_adopt(shard);
}

void rates_fini(struct shard *shard)
{
    purse_fini(shard);
}

/* Whether there is anything to be looked for when a message goes. */
static void look_at_conf(struct shard *shard)
{
    struct rates *rates = &shard->rates;

    rates->are_of_vmtas = false;
    rates->are_of_blocks = conf_limit_block_count(shard->conf) > 0;
    for (uint32_t i = 0; i < conf_vmta_count(shard->conf); i++) {
        const struct conf_vmta *vmta = conf_vmta_at(shard->conf, i);

        rates->are_of_vmtas |= vmta->max_smtp_msg_rate.count != CONF_UNLIMITED ||
                               vmta->max_smtp_data_volume_rate.count != CONF_UNLIMITED;
    }
}

void rates_adopt(struct shard *shard)
{
    look_at_conf(shard);
    purse_adopt(shard);
}

/* ---- Rates of a queue's own ------------------------------------------------------------------ */

static uint64_t step_of(const struct conf_rate *rate)
{
    return rate_step_ns(rate->count, rate->interval_ms);
}

/* From when the queue's own volume is reckoned. */
static void adopt_volume(struct queue *queue, uint64_t now_ns)
{
    const struct conf_rate *rate = &queue->settings.max_data_volume_rate;

    if (rate->count == CONF_UNLIMITED) {
        mem_free(queue->volume);
        queue->volume = NULL;
    } else if (queue->volume) {
        volume_change(queue->volume, rate->count, rate->interval_ms, 0, now_ns);
    } else {
        queue->volume = mem_alloc(sizeof(*queue->volume));
        volume_init(queue->volume, rate->count, rate->interval_ms, 0, now_ns);
    }
}

static void set_burst(struct rate *rate, const struct conf_rate *setting, uint64_t now_ns)
{
    if (setting->burst > 1 || rate->bank)
        rate_set_burst(rate, setting->count, setting->interval_ms, setting->burst, now_ns);
}

void rates_init_queue(struct shard *shard, struct queue *queue)
{
    const struct conf_queue *settings = &queue->settings;
    uint64_t began_ns = shard->rates.began_ns;

    rate_init(&queue->msg_rate, step_of(&settings->max_msg_rate), began_ns);
    set_burst(&queue->msg_rate, &settings->max_msg_rate, began_ns);
    rate_init(&queue->connect_rate, step_of(&settings->max_connect_rate), began_ns);
    set_burst(&queue->connect_rate, &settings->max_connect_rate, began_ns);
    adopt_volume(queue, began_ns);
    list_init(&queue->purse_link);
    list_init(&queue->purse_express_link);
    list_init(&queue->purse_rank_link);
}

void rates_adopt_queue(struct shard *shard, struct queue *queue)
{
    const struct conf_queue *settings = &queue->settings;
    uint64_t now_ns = io_now_ns(shard->io);

    rate_change(&queue->msg_rate, step_of(&settings->max_msg_rate), now_ns);
    set_burst(&queue->msg_rate, &settings->max_msg_rate, now_ns);
    rate_change(&queue->connect_rate, step_of(&settings->max_connect_rate), now_ns);
    set_burst(&queue->connect_rate, &settings->max_connect_rate, now_ns);
    adopt_volume(queue, now_ns);
    if (queue->reason == WAIT_RATE || queue->reason == WAIT_VOLUME)
        queue->rest_until_ns = 0;
}

void rates_forget_queue(struct shard *shard, struct queue *queue)
{
    purse_leave(shard, queue);
}

void rates_fini_queue(struct queue *queue)
{
    rate_fini(&queue->msg_rate);
    rate_fini(&queue->connect_rate);
    mem_free(queue->volume);
    queue->volume = NULL;
}

bool rates_is_owed(const struct queue *queue, uint64_t now_ns)
{
    return rate_is_owed(&queue->msg_rate, now_ns) || rate_is_owed(&queue->connect_rate, now_ns) ||
           (queue->volume && volume_is_owed(queue->volume, now_ns));
}

void rates_pack_queue(const struct shard *shard, const struct queue *queue,
                      struct rates_past *ret_past)
{
    uint64_t now_ns = io_now_ns(shard->io);

    *ret_past = (struct rates_past){
        .msgs = rate_past(&queue->msg_rate, now_ns),
        .connects = rate_past(&queue->connect_rate, now_ns),
    };
    if (!queue->volume)
        return;
    ret_past->octets.next_ns = queue->volume->free_ns;
    ret_past->octets.sum = volume_sum(queue->volume, now_ns, &ret_past->octets.last_ns);
}

static bool is_owed(const struct rate_past *past, uint64_t now_ns)
{
    return past->next_ns > now_ns || past->sum > 0;
}

bool rates_past_is_owed(const struct rates_past *past, uint64_t now_ns)
{
    return is_owed(&past->msgs, now_ns) || is_owed(&past->connects, now_ns) ||
           is_owed(&past->octets, now_ns);
}

void rates_resume_queue(struct queue *queue, const struct rates_past *past)
{
    rate_resume(&queue->msg_rate, &past->msgs);
    rate_resume(&queue->connect_rate, &past->connects);
    if (queue->volume)
        volume_resume(queue->volume, past->octets.next_ns, past->octets.sum, past->octets.last_ns);
}

/* ---- Rates that it shares -------------------------------------------------------------------- */

_Static_assert(CONF_LIMIT_RATES_MAX <= PURSE_TURNS_MAX, "a queue has a turn at each of its purses");

/* The purses that the queue's next message draws on. */
struct draws {
    struct purse *purses[CONF_LIMIT_RATES_MAX];
    uint32_t count;
    bool is_short; /* there is no memory for one: nothing can go now */
};

static void add_draw(struct shard *shard, struct draws *draws, const struct meter_key *key,
                     enum purse_quantity quantity)
{
    struct purse *purse =
        draws->count < CONF_LIMIT_RATES_MAX ? purse_obtain(shard, key, quantity) : NULL;

    if (purse)
        draws->purses[draws->count++] = purse;
    else
        draws->is_short = true;
}

static void draw_on(struct shard *shard, struct draws *draws, const struct conf_limit *limit,
                    const struct scope_facts *facts, bool for_connection)
{
    struct meter_key key;

    if (limit->max_msg_rate.count == CONF_UNLIMITED &&
        limit->max_data_volume_rate.count == CONF_UNLIMITED &&
        limit->max_connect_rate.count == CONF_UNLIMITED)
        return;
    key = scope_key(limit, facts);
    if (for_connection && limit->max_connect_rate.count != CONF_UNLIMITED)
        add_draw(shard, draws, &key, PURSE_CONNECTS);
    if (!for_connection && limit->max_msg_rate.count != CONF_UNLIMITED)
        add_draw(shard, draws, &key, PURSE_RCPTS);
    if (!for_connection && limit->max_data_volume_rate.count != CONF_UNLIMITED)
        add_draw(shard, draws, &key, PURSE_OCTETS);
}

/* Whether what the limit counts by is known of the message. */
static bool is_known(const struct conf_limit *limit, const struct rates_way *way)
{
    if ((limit->scopes & CONF_SCOPE_SOURCE_IP) != 0 && !way->source)
        return false;
    if (!conf_limit_is_of_message(limit))
        return true;
    return way->message && limits_fit_mail(limit, &way->message->envelope);
}

static void draw_on_blocks(struct shard *shard, struct queue *queue, const struct rates_way *way,
                           struct draws *draws, bool for_connection)
{
    uint64_t blocks = limits_of_blocks(shard, queue);
    struct scope_facts facts;

    if (blocks == 0)
        return;
    facts = limits_facts(shard, queue, way->source);
    if (way->message)
        facts.mail = limits_mail_values(&way->message->envelope);
    for (; blocks != 0; blocks &= blocks - 1) {
        const struct conf_limit *limit =
            conf_limit_block_at(shard->conf, (uint32_t)__builtin_ctzll(blocks));

        if (is_known(limit, way))
            draw_on(shard, draws, limit, &facts, for_connection);
    }
}

static void draw_on_source(struct shard *shard, const struct queue *queue,
                           enum conf_quantity quantity, const struct rates_way *way,
                           struct draws *draws)
{
    const struct conf_limit *limit =
        queue->settings.source_limits[quantity].count > 0 && way->source
            ? conf_limit_of_source(&queue->settings, quantity, way->source)
            : NULL;
    struct scope_facts facts = {.vmta_id = queue->vmta_id,
                                .source = way->source,
                                .domain = names_text(&shard->names, queue->name)};

    if (limit)
        draw_on(shard, draws, limit, &facts, quantity == CONF_OF_CONNECTS);
}

/* Of <provider>: of all mail to it from one address. */
static void draw_on_provider(struct shard *shard, const struct queue *queue,
                             enum conf_provider_bound bound, const struct rates_way *way,
                             struct draws *draws)
{
    const struct conf_limit *limit = queue->settings.provider_limits[bound];
    struct scope_facts facts;

    if (!limit || !way->source || !queue->site)
        return;
    facts = (struct scope_facts){.provider = queue->site->provider, .source = way->source};
    draw_on(shard, draws, limit, &facts, bound == CONF_PROVIDER_CONNECTS);
}

static void draws_find(struct shard *shard, struct queue *queue, const struct rates_way *way,
                       struct draws *draws)
{
    const struct conf_vmta *vmta =
        shard->rates.are_of_vmtas ? conf_vmta(shard->conf, queue->vmta_id) : NULL;
    struct meter_key key = scope_key_of_vmta(queue->vmta_id);

    draws->count = 0;
    draws->is_short = false;
    if (vmta && vmta->max_smtp_msg_rate.count != CONF_UNLIMITED)
        add_draw(shard, draws, &key, PURSE_RCPTS);
    if (vmta && vmta->max_smtp_data_volume_rate.count != CONF_UNLIMITED)
        add_draw(shard, draws, &key, PURSE_OCTETS);
    draw_on_source(shard, queue, CONF_OF_RECIPIENTS, way, draws);
    draw_on_source(shard, queue, CONF_OF_OCTETS, way, draws);
    draw_on_provider(shard, queue, CONF_PROVIDER_RECIPIENTS, way, draws);
    if (shard->rates.are_of_blocks)
        draw_on_blocks(shard, queue, way, draws, false);
}

/* Likewise what its next connection draws on. */
static void connect_draws_find(struct shard *shard, struct queue *queue,
                               const struct ipaddr *source, struct draws *draws)
{
    struct rates_way way = {.source = source};

    draws->count = 0;
    draws->is_short = false;
    draw_on_source(shard, queue, CONF_OF_CONNECTS, &way, draws);
    draw_on_provider(shard, queue, CONF_PROVIDER_CONNECTS, &way, draws);
    if (shard->rates.are_of_blocks)
        draw_on_blocks(shard, queue, &way, draws, true);
}

/* The way of the queue's next message by a source, as far as it is known. */
static struct rates_way next_way(struct shard *shard, const struct queue *queue,
                                 const struct ipaddr *source)
{
    uint32_t index = ready_peek(queue);

    return (struct rates_way){
        .source = source,
        .message = index == NONE ? NULL : queued_hot(slab_at(&shard->queued, index))};
}

uint32_t rates_need(const struct purse *purse, const struct queue *queue)
{
    uint64_t octets;

    if (purse->quantity != PURSE_OCTETS)
        return 1;
    octets = queues_next_octets(queue);
    if (octets < queue->octets_short)
        octets = queue->octets_short;
    if (octets == 0)
        return 1;
    return octets < UINT32_MAX ? (uint32_t)octets : UINT32_MAX;
}

static bool own_octets_allow(const struct shard *shard, const struct queue *queue, uint64_t octets)
{
    return !queue->volume || octets == 0 ||
           volume_due_ns(queue->volume, octets) <= io_now_ns(shard->io);
}

bool rates_admit(struct shard *shard, struct queue *queue)
{
    uint64_t now_ns = io_now_ns(shard->io), due_ns;

    if (purse_is_stood_at(queue)) {
        purse_note_ready(queue);
        return false;
    }
    if (rate_allowed(&queue->msg_rate, now_ns) == 0) {
        queues_wait_until(shard, queue, rate_due_ns(&queue->msg_rate), WAIT_RATE);
        return false;
    }
    if (!queue->volume)
        return true;
    due_ns = volume_due_ns(queue->volume, queues_next_octets(queue));
    if (due_ns <= now_ns)
        return true;
    queues_wait_until(shard, queue, due_ns, WAIT_VOLUME);
    return false;
}

/* When its next token can be used, as far as is known here. */
static uint64_t due_of(const struct purse *purse, uint64_t now_ns)
{
    return purse->held > 0 && purse->first_ns > now_ns ? purse->first_ns : purse->due_ns;
}

/* Whether one of two has its next token later, as far as is known here. What other shards have had
 * of them since is not: of two that may be due the scarcer one. */
static bool is_due_later(const struct purse *a, const struct purse *b, uint64_t now_ns)
{
    if (due_of(a, now_ns) <= now_ns && due_of(b, now_ns) <= now_ns)
        return a->limit_ns > b->limit_ns;
    return due_of(a, now_ns) > due_of(b, now_ns);
}

/* Of those that lack what the queue needs, the one that has it last; NULL when none does. */
static struct purse *last_due(const struct draws *draws, const struct queue *queue)
{
    uint64_t now_ns = draws->count > 0 ? io_now_ns(draws->purses[0]->shard->io) : 0;
    struct purse *last = NULL;

    for (uint32_t i = 0; i < draws->count; i++) {
        struct purse *purse = draws->purses[i];

        if (!purse_has(purse, queue, rates_need(purse, queue)) &&
            (!last || is_due_later(purse, last, now_ns)))
            last = purse;
    }
    return last;
}

static enum wait_reason reason_of(const struct purse *purse)
{
    if (purse->key.limit_id != SCOPE_OF_VMTA)
        return WAIT_LIMIT_RATE;
    return purse->quantity == PURSE_OCTETS ? WAIT_VMTA_VOLUME : WAIT_VMTA_RATE;
}

static void stand(struct shard *shard, struct purse *purse, struct queue *queue,
                  const struct rates_way *way)
{
    bool is_by_source = (purse->key.scopes & CONF_SCOPE_SOURCE_IP) != 0;

    /* Before, since it may be woken at once, and then it is in a line again. */
    lane_step_out(queue);
    queue->purse_source = is_by_source ? *way->source : (struct ipaddr){0};
    queues_set_reason(shard, queue, reason_of(purse));
    purse_stand(purse, queue);
}

/*
 * Where tokens count by the source and that of this lane has none, a queue with connections from
 * others is sent on: to where there are some now, else it stands in line where they come first.
 */
static void stand_at_best(struct shard *shard, struct purse *purse, struct queue *queue,
                          struct rates_way *way)
{
    bool is_by_source = (purse->key.scopes & CONF_SCOPE_SOURCE_IP) != 0;
    uint64_t now_ns = io_now_ns(shard->io);
    struct purse *best = purse;
    struct rates_way best_way = *way;

    for (uint32_t turn = 0; is_by_source && turn < SOURCES_LOOKED_AT; turn++) {
        struct lane *lane = lane_beside(shard, queue, turn);
        struct rates_way other;
        struct draws draws;
        struct purse *last;

        if (!lane || ipaddr_equal(&lane->source, way->source))
            continue;
        other = next_way(shard, queue, &lane->source);
        draws_find(shard, queue, &other, &draws);
        last = last_due(&draws, queue);
        if (!last && !draws.is_short) {
            lane_change(shard, queue, lane);
            return;
        }
        /* What may be due here by now is not left for what was due before: a connection is idle
         * here, and none may be there. */
        if (!last || due_of(best, now_ns) <= now_ns || due_of(last, now_ns) >= due_of(best, now_ns))
            continue;
        best = last;
        best_way = other;
    }
    stand(shard, best, queue, &best_way);
}

bool rates_get_token(struct shard *shard, struct queue *queue, const struct ipaddr *source)
{
    struct rates_way way = next_way(shard, queue, source);
    struct draws draws;
    struct purse *purse;

    draws_find(shard, queue, &way, &draws);
    if (draws.is_short) {
        queues_wait(shard, queue, NO_PURSE_WAIT_MS, WAIT_MEMORY);
        return false;
    }
    purse = last_due(&draws, queue);
    if (!purse)
        return true;
    stand_at_best(shard, purse, queue, &way);
    return false;
}

bool rates_has_turn(const struct queue *queue)
{
    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++)
        if (queue->turns[i].purse != 0)
            return true;
    return false;
}

static uint32_t spoken_count(const struct rates_reading *reading, const struct purse *purse)
{
    return purse->quantity == PURSE_OCTETS ? reading->octets : 1;
}

void rates_begin_read(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                      uint64_t octets, struct rates_reading *ret_reading)
{
    struct rates_reading reading = {.octets = octets < UINT32_MAX ? (uint32_t)octets : UINT32_MAX,
                                    .since_ns = queue->purse_since_ns};
    struct rates_way way = {.source = source};
    struct draws draws;

    draws_find(shard, queue, &way, &draws);
    for (; reading.purse_count < draws.count; reading.purse_count++) {
        struct purse *purse = draws.purses[reading.purse_count];

        purse_begin_read(purse, queue, spoken_count(&reading, purse));
        reading.purses[reading.purse_count] = purse;
    }
    /* Its next message waits from now on, and not ahead of others' for the time this one did. */
    if (draws.count > 0 && !queue->is_away)
        queue->purse_since_ns = 0;
    *ret_reading = reading;
}

void rates_end_read(struct rates_reading *reading)
{
    while (reading->purse_count > 0) {
        struct purse *purse = reading->purses[--reading->purse_count];

        purse_end_read(purse, spoken_count(reading, purse));
    }
}

/* Its tokens were lost while the message was read, or others are lacking that count by what stands
 * in it: the queue, which has waited for them all the time, is no worse off than before. */
static void read_in_vain(struct queue *queue, const struct rates_reading *reading, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        purse_return_turn(reading->purses[i], queue);
    if (count > 0 && reading->since_ns != 0)
        queue->purse_since_ns = reading->since_ns;
}

static bool count_rcpts(const struct draws *draws)
{
    for (uint32_t i = 0; i < draws->count; i++)
        if (draws->purses[i]->quantity == PURSE_RCPTS)
            return true;
    return false;
}

bool rates_may_wait(struct shard *shard, struct queue *queue, const struct rates_way *way,
                    uint32_t rcpt_count, uint64_t octets)
{
    struct draws draws;

    draws_find(shard, queue, way, &draws);
    /* So many tokens may never be there at once: they were gathered under another configuration. */
    if (rcpt_count > 1 && count_rcpts(&draws))
        return false;
    return draws.count > 0 && !draws.is_short && queue->stay == QUEUE_HERE &&
           rate_allowed(&queue->msg_rate, io_now_ns(shard->io)) >= rcpt_count &&
           own_octets_allow(shard, queue, octets);
}

void rates_wait(struct shard *shard, struct queue *queue, const struct rates_way *way)
{
    struct draws draws;
    struct purse *purse;

    shard->rates.waits++;
    if (!list_empty(&queue->lane_link))
        lane_leave(queue);
    draws_find(shard, queue, way, &draws);
    purse = last_due(&draws, queue);
    /* They may have come since it was found that they were lacking. */
    if (purse)
        stand(shard, purse, queue, way);
    else
        deliver_on_token(shard, queue);
}

static uint32_t shared_rcpts(const struct shard *shard, const struct draws *draws)
{
    uint32_t allowed = UINT32_MAX;

    for (uint32_t i = 0; i < draws->count; i++) {
        uint32_t open = purse_open(draws->purses[i], io_now_ns(shard->io));

        if (draws->purses[i]->quantity == PURSE_RCPTS && open < allowed)
            allowed = open;
    }
    return allowed;
}

uint32_t rates_allowed(struct shard *shard, struct queue *queue, const struct ipaddr *source)
{
    struct rates_way way = next_way(shard, queue, source);
    uint32_t allowed = UINT32_MAX, shared;
    struct draws draws;

    draws_find(shard, queue, &way, &draws);
    if (queue->msg_rate.step_ns == 0 && draws.count == 0)
        return allowed;
    allowed = rate_allowed(&queue->msg_rate, io_now_ns(shard->io));
    shared = shared_rcpts(shard, &draws);
    return shared < allowed ? shared : allowed;
}

uint32_t rates_allowed_ahead(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                             uint64_t octets)
{
    struct rates_way way = next_way(shard, queue, source);
    uint32_t allowed = rates_allowed(shard, queue, source);
    struct draws draws;

    draws_find(shard, queue, &way, &draws);
    if (draws.is_short || !own_octets_allow(shard, queue, octets))
        return 0;
    for (uint32_t i = 0; i < draws.count; i++) {
        uint32_t spare = purse_spare(draws.purses[i], io_now_ns(shard->io));

        if (draws.purses[i]->quantity == PURSE_OCTETS)
            spare = spare < octets ? 0 : UINT32_MAX;
        if (spare < allowed)
            allowed = spare;
    }
    return allowed;
}

uint32_t rates_within(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                      uint64_t span_ns)
{
    struct rates_way way = next_way(shard, queue, source);
    uint64_t step_ns = queue->msg_rate.step_ns;
    struct draws draws;

    draws_find(shard, queue, &way, &draws);
    for (uint32_t i = 0; i < draws.count; i++)
        if (draws.purses[i]->quantity == PURSE_RCPTS && draws.purses[i]->limit_ns > step_ns)
            step_ns = draws.purses[i]->limit_ns;
    return step_ns == 0 || span_ns / step_ns >= UINT32_MAX ? UINT32_MAX
                                                           : (uint32_t)(span_ns / step_ns) + 1;
}

bool rates_are_shared(struct shard *shard, struct queue *queue, const struct ipaddr *source)
{
    struct rates_way way = next_way(shard, queue, source);
    struct draws draws;

    draws_find(shard, queue, &way, &draws);
    return draws.count > 0;
}

/* Whether some rate of recipients may count the message by what stands in it, which is not known
 * before it has been read. */
static bool may_count_by_message(struct shard *shard, struct queue *queue)
{
    uint64_t blocks = shard->rates.are_of_blocks ? limits_of_blocks(shard, queue) : 0;

    for (; blocks != 0; blocks &= blocks - 1) {
        const struct conf_limit *limit =
            conf_limit_block_at(shard->conf, (uint32_t)__builtin_ctzll(blocks));

        if (conf_limit_is_of_message(limit) && limit->max_msg_rate.count != CONF_UNLIMITED)
            return true;
    }
    return false;
}

bool rates_count_rcpts(struct shard *shard, struct queue *queue, const struct ipaddr *source)
{
    struct rates_way way = next_way(shard, queue, source);
    struct draws draws;

    draws_find(shard, queue, &way, &draws);
    return count_rcpts(&draws) || (!way.message && may_count_by_message(shard, queue));
}

bool rates_admit_connection(struct shard *shard, struct queue *queue, struct lane *lane)
{
    struct draws draws;

    connect_draws_find(shard, queue, &lane->source, &draws);
    for (uint32_t i = 0; i < draws.count; i++) {
        if (purse_spare(draws.purses[i], io_now_ns(shard->io)) > 0)
            continue;
        if (list_empty(&lane->purse_link))
            purse_stand_lane(draws.purses[i], lane);
        /* Its tokens may have been here all the time, for want of one who asked. */
        if (purse_spare(draws.purses[i], io_now_ns(shard->io)) == 0)
            return false;
    }
    /* There is no purse to stand at, and nothing else would serve the lane again. */
    if (draws.is_short)
        io_timer_arm(shard->io, &lane->connect_timer,
                     io_now_ns(shard->io) + NO_PURSE_WAIT_MS * 1000000ull);
    return !draws.is_short;
}

void rates_take_connection(struct shard *shard, struct queue *queue, const struct ipaddr *source)
{
    struct draws draws;

    if (!planted("shard/connection-uses-no-token"))
        rate_use(&queue->connect_rate, io_now_ns(shard->io), 1);
    connect_draws_find(shard, queue, source, &draws);
    for (uint32_t i = 0; i < draws.count; i++)
        purse_take(draws.purses[i], NULL, 1);
}

/* ---- Taking ---------------------------------------------------------------------------------- */

static bool are_there(const struct shard *shard, const struct queue *queue,
                      const struct draws *draws, uint32_t rcpt_count, uint64_t octets)
{
    uint64_t now_ns = io_now_ns(shard->io);

    if (rate_allowed(&queue->msg_rate, now_ns) < rcpt_count ||
        !own_octets_allow(shard, queue, octets))
        return false;
    for (uint32_t i = 0; i < draws->count; i++) {
        uint64_t count = draws->purses[i]->quantity == PURSE_OCTETS ? octets : rcpt_count;

        if (purse_usable(draws->purses[i], now_ns) < count)
            return false;
    }
    return true;
}

/* False, and nothing is taken, when there is not enough of something. */
static bool take_bounded(struct shard *shard, struct queue *queue, const struct draws *draws,
                         uint32_t rcpt_count, uint64_t octets, struct rates_receipt *receipt)
{
    uint64_t now_ns = io_now_ns(shard->io);

    /* Of a queue that goes to another shard the rates go along. */
    if (queue->stay != QUEUE_HERE || draws->is_short)
        return false;
    if (!are_there(shard, queue, draws, rcpt_count, octets)) {
        queue->octets_short = octets;
        return false;
    }
    if (!planted("shard/message-uses-no-token"))
        rate_use(&queue->msg_rate, now_ns, rcpt_count);
    if (queue->volume && !planted("shard/message-uses-no-octets"))
        volume_use(queue->volume, octets, now_ns);
    receipt->own = queue->volume;
    return true;
}

bool rates_take(struct shard *shard, struct queue *queue, const struct rates_way *way,
                uint32_t rcpt_count, uint64_t octets, struct rates_receipt *ret_receipt)
{
    struct rates_receipt receipt = {.octets = octets, .at_ns = io_now_ns(shard->io)};
    uint32_t read_count = way->reading ? way->reading->purse_count : 0;
    /* If it has a turn again, that is for its next message. */
    struct queue *whose_turn = read_count > 0 ? NULL : queue;
    struct draws draws;

    if (way->reading)
        rates_end_read(way->reading);
    draws_find(shard, queue, way, &draws);
    if ((queue->msg_rate.step_ns != 0 || queue->volume || draws.count > 0 || draws.is_short) &&
        !take_bounded(shard, queue, &draws, rcpt_count, octets, &receipt)) {
        read_in_vain(queue, way->reading, read_count);
        return false;
    }
    queue->octets_short = 0;
    /* One that goes ahead of its turn has waited on for that. */
    if (read_count == 0 && !queue->is_away)
        queue->purse_since_ns = 0;
    shard->rates.taken += rcpt_count;
    queue->tried_count += rcpt_count;
    queue->tried_octets += octets;
    for (uint32_t i = 0; i < draws.count; i++) {
        bool is_octets = draws.purses[i]->quantity == PURSE_OCTETS;

        purse_take(draws.purses[i], whose_turn, is_octets ? (uint32_t)octets : rcpt_count);
        if (!is_octets)
            continue;
        draws.purses[i]->refs++;
        receipt.purses[receipt.purse_count++] = draws.purses[i];
    }
    *ret_receipt = receipt;
    return true;
}

/* Whether the mint still counts what was taken then: what it has forgotten cannot come back. */
static bool is_remembered(const struct purse *purse, uint64_t at_ns, uint64_t now_ns)
{
    return now_ns + RETURN_MARGIN_NS < at_ns + purse->limit.interval_ms * 1000000;
}

void rates_settle(struct shard *shard, struct queue *queue, struct rates_receipt *receipt,
                  bool is_success)
{
    uint64_t now_ns = io_now_ns(shard->io);

    if (!is_success) {
        shard->rates.returned += receipt->octets;
        queue->tried_octets -= receipt->octets;
        if (queue->volume && queue->volume == receipt->own)
            volume_give_back(queue->volume, receipt->octets, receipt->at_ns);
    }
    for (uint32_t i = 0; i < receipt->purse_count; i++) {
        if (!is_success && is_remembered(receipt->purses[i], receipt->at_ns, now_ns))
            purse_give_back(receipt->purses[i], receipt->octets);
        purse_release(receipt->purses[i]);
    }
    *receipt = (struct rates_receipt){0};
}
