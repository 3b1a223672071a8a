#include "shard/rates.h"

#include "core/base/mem.h"
#include "shard/planted.h"
#include "shard/policy/volume.h"
#include "shard/shard_int.h"

/* On the way of octets back to their mint. */
#define RETURN_MARGIN_NS 1000000000ull

void rates_init(struct shard *shard)
{
    shard->rates.began_ns = io_now_ns(shard->io);
    purse_init(shard);
}

void rates_fini(struct shard *shard)
{
    purse_fini(shard);
}

void rates_adopt(struct shard *shard)
{
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
    (void)shard;
    purse_leave(queue);
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

/* The purses that the queue's next message draws on. */
struct draws {
    struct purse *purses[PURSE_TURNS_MAX];
    uint32_t count;
};

static void draws_find(const struct shard *shard, const struct queue *queue, struct draws *draws)
{
    draws->count = 0;
    for (enum purse_quantity quantity = 0; quantity < PURSE_QUANTITIES; quantity++) {
        struct purse *purse = purse_of_vmta(shard, quantity, queue->vmta_id);

        if (purse)
            draws->purses[draws->count++] = purse;
    }
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

    if (!list_empty(&queue->purse_link))
        return false;
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

/* Of those that lack what the queue needs, the one that has it last; NULL when none does. */
static struct purse *last_due(const struct draws *draws, const struct queue *queue)
{
    struct purse *last = NULL;

    for (uint32_t i = 0; i < draws->count; i++) {
        struct purse *purse = draws->purses[i];

        if (!purse_has(purse, queue, rates_need(purse, queue)) &&
            (!last || purse->due_ns > last->due_ns))
            last = purse;
    }
    return last;
}

static void stand(struct shard *shard, struct purse *purse, struct queue *queue)
{
    queues_set_reason(shard, queue,
                      purse->quantity == PURSE_OCTETS ? WAIT_VMTA_VOLUME : WAIT_VMTA_RATE);
    purse_stand(purse, queue);
}

bool rates_get_token(struct shard *shard, struct queue *queue)
{
    struct draws draws;
    struct purse *purse;

    draws_find(shard, queue, &draws);
    purse = last_due(&draws, queue);
    if (!purse)
        return true;
    stand(shard, purse, queue);
    return false;
}

bool rates_has_turn(const struct queue *queue)
{
    for (uint32_t i = 0; i < PURSE_TURNS_MAX; i++)
        if (queue->turns[i].purse)
            return true;
    return false;
}

bool rates_may_wait(const struct shard *shard, const struct queue *queue, uint32_t rcpt_count,
                    uint64_t octets)
{
    struct draws draws;

    draws_find(shard, queue, &draws);
    /* So many tokens may never be there at once: they were gathered under another configuration. */
    if (rcpt_count > 1 && rates_count_rcpts(shard, queue))
        return false;
    return draws.count > 0 && queue->stay == QUEUE_HERE &&
           rate_allowed(&queue->msg_rate, io_now_ns(shard->io)) >= rcpt_count &&
           own_octets_allow(shard, queue, octets);
}

void rates_wait(struct shard *shard, struct queue *queue)
{
    struct draws draws;
    struct purse *purse;

    shard->rates.waits++;
    if (!list_empty(&queue->lane_link))
        lane_leave(queue);
    if (!list_empty(&queue->purse_link))
        return;
    draws_find(shard, queue, &draws);
    purse = last_due(&draws, queue);
    /* They may have come since it was found that they were lacking. */
    if (purse)
        stand(shard, purse, queue);
    else
        deliver_on_token(shard, queue);
}

static uint32_t shared_rcpts(const struct shard *shard, const struct draws *draws)
{
    uint32_t allowed = UINT32_MAX;

    for (uint32_t i = 0; i < draws->count; i++) {
        uint32_t usable = purse_usable(draws->purses[i], io_now_ns(shard->io));

        if (draws->purses[i]->quantity == PURSE_RCPTS && usable < allowed)
            allowed = usable;
    }
    return allowed;
}

uint32_t rates_allowed(const struct shard *shard, const struct queue *queue)
{
    uint32_t allowed = UINT32_MAX, shared;
    struct draws draws;

    draws_find(shard, queue, &draws);
    if (queue->msg_rate.step_ns == 0 && draws.count == 0)
        return allowed;
    allowed = rate_allowed(&queue->msg_rate, io_now_ns(shard->io));
    shared = shared_rcpts(shard, &draws);
    return shared < allowed ? shared : allowed;
}

uint32_t rates_allowed_ahead(const struct shard *shard, const struct queue *queue, uint64_t octets)
{
    uint32_t allowed = rates_allowed(shard, queue);
    struct draws draws;

    if (!own_octets_allow(shard, queue, octets))
        return 0;
    draws_find(shard, queue, &draws);
    for (uint32_t i = 0; i < draws.count; i++) {
        uint32_t spare = purse_spare(draws.purses[i], io_now_ns(shard->io));

        if (draws.purses[i]->quantity == PURSE_OCTETS)
            spare = spare < octets ? 0 : UINT32_MAX;
        if (spare < allowed)
            allowed = spare;
    }
    return allowed;
}

uint32_t rates_within(const struct shard *shard, const struct queue *queue, uint64_t span_ns)
{
    uint64_t step_ns = queue->msg_rate.step_ns;
    struct draws draws;

    draws_find(shard, queue, &draws);
    for (uint32_t i = 0; i < draws.count; i++)
        if (draws.purses[i]->quantity == PURSE_RCPTS && draws.purses[i]->limit_ns > step_ns)
            step_ns = draws.purses[i]->limit_ns;
    return step_ns == 0 || span_ns / step_ns >= UINT32_MAX ? UINT32_MAX
                                                           : (uint32_t)(span_ns / step_ns) + 1;
}

bool rates_are_shared(const struct shard *shard, const struct queue *queue)
{
    struct draws draws;

    draws_find(shard, queue, &draws);
    return draws.count > 0;
}

bool rates_count_rcpts(const struct shard *shard, const struct queue *queue)
{
    struct draws draws;

    draws_find(shard, queue, &draws);
    for (uint32_t i = 0; i < draws.count; i++)
        if (draws.purses[i]->quantity == PURSE_RCPTS)
            return true;
    return false;
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
    if (queue->stay != QUEUE_HERE)
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

bool rates_take(struct shard *shard, struct queue *queue, uint32_t rcpt_count, uint64_t octets,
                struct rates_receipt *ret_receipt)
{
    struct rates_receipt receipt = {.octets = octets, .at_ns = io_now_ns(shard->io)};
    struct draws draws;

    draws_find(shard, queue, &draws);
    if ((queue->msg_rate.step_ns != 0 || queue->volume || draws.count > 0) &&
        !take_bounded(shard, queue, &draws, rcpt_count, octets, &receipt))
        return false;
    queue->octets_short = 0;
    shard->rates.taken += rcpt_count;
    queue->tried_count += rcpt_count;
    queue->tried_octets += octets;
    for (uint32_t i = 0; i < draws.count; i++) {
        bool is_octets = draws.purses[i]->quantity == PURSE_OCTETS;

        purse_take(draws.purses[i], queue, is_octets ? (uint32_t)octets : rcpt_count);
        if (is_octets && receipt.purse_count < RATES_OCTET_PURSES_MAX)
            receipt.purses[receipt.purse_count++] = draws.purses[i];
    }
    *ret_receipt = receipt;
    return true;
}

/* Whether the mint still counts what was taken then: what it has forgotten cannot come back. */
static bool is_remembered(const struct purse *purse, uint64_t at_ns)
{
    return io_now_ns(purse->shard->io) + RETURN_MARGIN_NS <
           at_ns + purse->limit.interval_ms * 1000000;
}

void rates_give_back(struct shard *shard, struct queue *queue, struct rates_receipt *receipt)
{
    shard->rates.returned += receipt->octets;
    queue->tried_octets -= receipt->octets;
    if (queue->volume && queue->volume == receipt->own)
        volume_give_back(queue->volume, receipt->octets, receipt->at_ns);
    for (uint32_t i = 0; i < receipt->purse_count; i++)
        if (is_remembered(receipt->purses[i], receipt->at_ns))
            purse_give_back(receipt->purses[i], receipt->octets);
    *receipt = (struct rates_receipt){0};
}
