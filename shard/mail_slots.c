#include "shard/mail_slots.h"

#include "shard/planted.h"
#include "shard/shard_int.h"

static void on_timer(struct io_timer *timer);

static struct mail_claim *of_link(struct list *link)
{
    return container_of(link, struct mail_claim, link);
}

static struct queue *queue_of(const struct mail_claim *mail)
{
    return slab_at(&mail->shard->queues, mail->queue);
}

/* ---- States ---------------------------------------------------------------------------------- */

static const uint8_t next_states[MAIL_STATES] = {
    [MAIL_SHUT] = 1u << MAIL_HELD | 1u << MAIL_USED,
    [MAIL_ASIDE] = 1u << MAIL_SHUT,
    [MAIL_HELD] = 1u << MAIL_USED | 1u << MAIL_ASIDE | 1u << MAIL_OPEN,
    [MAIL_OPEN] = 1u << MAIL_SHUT,
    [MAIL_USED] = 1u << MAIL_HELD,
};

/* wait_ms: until the timer looks at it; 0 = not at all. */
static void enter(struct mail_claim *mail, enum mail_state state, uint64_t wait_ms)
{
    struct io *io = mail->shard->io;

    must((next_states[mail->state] & 1u << state) != 0);
    mail->state = (uint8_t)state;
    io_timer_stop(io, &mail->timer);
    if (wait_ms > 0)
        io_timer_arm(io, &mail->timer, io_now_ns(io) + wait_ms * 1000000);
}

static uint8_t flow_of(const struct delivery *delivery)
{
    return ((const struct queued *)slab_at(&delivery->shard->queued, delivery->rcpts[0]))->flow;
}

static void shut(struct queue *queue, uint8_t flow)
{
    queue->ready.shut |= 1u << flow;
}

static void open_flow(struct queue *queue, uint8_t flow)
{
    queue->ready.shut &= ~(1u << flow);
}

static void claim_on_ready(struct lease_claim *claim)
{
    struct mail_claim *mail = container_of(claim, struct mail_claim, claim);

    if (list_empty(&mail->granted_link))
        list_push_back(&mail->shard->mail_slots.granted, &mail->granted_link);
}

void mail_slots_init(struct shard *shard)
{
    struct mail_slots *slots = &shard->mail_slots;

    slab_init(&slots->claims, sizeof(struct mail_claim), shard->limits.queue_count_max);
    list_init(&slots->granted);
    shard->leases.mail_ready = claim_on_ready;
    mail_slots_adopt(shard);
}

void mail_slots_fini(struct shard *shard)
{
    slab_fini(&shard->mail_slots.claims);
}

static uint64_t add_text(uint64_t hash, const char *text)
{
    struct slice value = text ? slice_str(text) : SLICE_EMPTY;

    return hash_combine(hash, hash_bytes(value.data, value.len));
}

/* What the limit counts, whatever its bound. */
static uint64_t add_limit(uint64_t hash, const struct conf_limit *limit)
{
    hash = hash_combine(hash, (uint64_t)limit->id << 32 | limit->scopes);
    hash = add_text(hash, limit->domain_text);
    hash = add_text(hash, limit->vmta_text);
    hash = add_text(hash, limit->job_text);
    hash = add_text(hash, limit->user_text);
    for (uint32_t i = 0; i < limit->pool_vmta_count; i++)
        hash = hash_combine(hash, limit->pool_vmta_ids[i]);
    return hash;
}

void mail_slots_adopt(struct shard *shard)
{
    struct mail_slots *slots = &shard->mail_slots;
    uint64_t hash = 0;

    slots->blocks = 0;
    slots->scopes = 0;
    for (uint32_t i = 0; i < conf_limit_block_count(shard->conf); i++) {
        const struct conf_limit *limit = conf_limit_block_at(shard->conf, i);

        if (!conf_limit_counts_by_mail(limit))
            continue;
        slots->blocks |= 1ull << i;
        slots->scopes |= limit->scopes;
        hash = add_limit(hash, limit);
    }
    slots->counts_others = hash != slots->counts_hash;
    slots->counts_hash = hash;
}

void mail_slots_adopt_queue(struct shard *shard, struct queue *queue)
{
    if (shard->mail_slots.counts_others)
        mail_slots_forget(queue);
}

uint32_t mail_slots_flow(const struct shard *shard, const struct envelope *envelope)
{
    uint32_t scopes = shard->mail_slots.scopes, flow = envelope_flow(envelope);
    uint64_t hash = flow;

    if ((scopes & CONF_SCOPE_SENDER_DOMAIN) != 0)
        hash = hash_combine(hash, scope_value(limits_sender_domain(envelope)));
    if ((scopes & CONF_SCOPE_USER) != 0)
        hash = hash_combine(hash, scope_value(envelope->user));
    if (hash == flow)
        return flow;
    flow = (uint32_t)(hash ^ hash >> 32);
    return flow > 0 ? flow : 1;
}

/* ---- Claims ---------------------------------------------------------------------------------- */

/* The first of the queue's claims for the flow in that state; NULL when there is none. meters_hash:
 * that draws on these; 0 = on any. */
static struct mail_claim *find(const struct queue *queue, uint8_t flow, enum mail_state state,
                               uint64_t meters_hash)
{
    list_for_each (link, &queue->mail_claims) {
        struct mail_claim *mail = of_link(link);

        if (mail->flow == flow && mail->state == state &&
            (meters_hash == 0 || mail->meters_hash == meters_hash))
            return mail;
    }
    return NULL;
}

/* Whether the flow has a claim that has not got its slots. */
static bool waits(const struct queue *queue, uint8_t flow)
{
    return find(queue, flow, MAIL_SHUT, 0) || find(queue, flow, MAIL_ASIDE, 0);
}

static struct mail_claim *claim_create(struct shard *shard, struct queue *queue, uint8_t flow,
                                       const struct scope_list *meters, const struct ipaddr *source)
{
    uint32_t index, scopes = 0;
    struct mail_claim *mail = slab_alloc(&shard->mail_slots.claims, &index);

    if (!mail)
        return NULL;
    if (!lease_claim_init_of_mail(shard, &mail->claim, meters)) {
        slab_free(&shard->mail_slots.claims, index);
        return NULL;
    }
    for (uint32_t i = 0; i < meters->count; i++)
        scopes |= meters->keys[i].scopes;
    mail->shard = shard;
    mail->index = index;
    mail->queue = queue->index;
    mail->flow = flow;
    mail->state = MAIL_SHUT;
    mail->meters_hash = scope_list_hash(meters);
    if ((scopes & CONF_SCOPE_SOURCE_IP) != 0)
        mail->source = *source;
    io_timer_init(&mail->timer, on_timer);
    list_init(&mail->granted_link);
    list_init(&mail->link);
    lease_claim_hurry(shard, &mail->claim, false, turns_rank(queue->settings.queue_priority));
    return mail;
}

/* What it has goes back, and it is no more. */
static void claim_free(struct mail_claim *mail)
{
    struct shard *shard = mail->shard;

    io_timer_stop(shard->io, &mail->timer);
    list_remove(&mail->link);
    list_remove(&mail->granted_link);
    lease_claim_fini(shard, &mail->claim);
    slab_free(&shard->mail_slots.claims, mail->index);
}

/* Its slots are all there, for a turn that begins now. */
static void hold(struct mail_claim *mail)
{
    list_remove(&mail->granted_link);
    mail->granted_ns = mail->held_ns = io_now_ns(mail->shard->io);
    mail->begun_ns = 0;
    enter(mail, MAIL_HELD, MAIL_SLOTS_HOLD_MS);
}

/* A claim for the queue's flow, HELD or SHUT; NULL when memory is short. */
static struct mail_claim *draw(struct shard *shard, struct queue *queue, uint8_t flow,
                               const struct scope_list *meters, const struct ipaddr *source)
{
    struct mail_claim *mail = claim_create(shard, queue, flow, meters, source);

    if (!mail)
        return NULL;
    list_push_back(&queue->mail_claims, &mail->link);
    if (lease_claim_try(shard, &mail->claim))
        hold(mail);
    else
        shard->mail_slots.waits++;
    return mail;
}

void mail_slots_forget(struct queue *queue)
{
    while (!list_empty(&queue->mail_claims))
        claim_free(of_link(queue->mail_claims.next));
    queue->ready.shut = 0;
}

const struct ipaddr *mail_slots_source(const struct queue *queue)
{
    list_for_each (link, &queue->mail_claims) {
        const struct mail_claim *mail = of_link(link);

        if (mail->state == MAIL_HELD && mail->source.family != IPADDR_NONE)
            return &mail->source;
    }
    return NULL;
}

const struct lease_share *mail_slots_waits_for(const struct queue *queue)
{
    const struct lease_share *aside = NULL;

    list_for_each (link, &queue->mail_claims) {
        const struct mail_claim *mail = of_link(link);

        if (mail->state == MAIL_SHUT && lease_waits_for(&mail->claim))
            return lease_waits_for(&mail->claim);
        if (mail->state == MAIL_ASIDE)
            aside = mail->claim.draws->shares[0];
    }
    return aside;
}

/* ---- Before a connection ----------------------------------------------------------------------
 */

/* What is known of the recipient's message without reading it; NULL when nothing is. */
static const struct limits_mail *foresee(const struct shard *shard, const struct queued *queued,
                                         struct limits_mail *room)
{
    const struct mail_slots *slots = &shard->mail_slots;

    if (queued->is_hot) {
        limits_read_mail(shard, queued->hot, room);
        return room;
    }
    if (flows_is_shared(&shard->flows, queued->flow) || !slots->known[queued->flow].is_known ||
        slots->known[queued->flow].flow != shard->flows.slots[queued->flow].id ||
        slots->known[queued->flow].version != shard->version)
        return NULL;
    return &slots->known[queued->flow].mail;
}

/* Whether what is first of the claim's flow draws on what the claim is for. if_unknown: where it
 * must be read to be known. */
static bool is_for_next(const struct mail_claim *mail, struct queue *queue, bool if_unknown)
{
    const struct ipaddr *source = mail->source.family == IPADDR_NONE ? NULL : &mail->source;
    uint32_t index = ready_head(queue, mail->flow);
    const struct limits_mail *known;
    struct limits_mail room;
    struct scope_list meters;

    if (index == NONE)
        return false;
    known = foresee(mail->shard, slab_at(&mail->shard->queued, index), &room);
    if (!known)
        return if_unknown;
    return limits_of_mail(mail->shard, queue, source, known, &meters) &&
           scope_list_hash(&meters) == mail->meters_hash;
}

/* Whether the queue's next recipient has its slots, or needs none; else its flow is shut. */
static bool may_go(struct shard *shard, struct queue *queue, const struct queued *queued,
                   const struct ipaddr *source)
{
    struct limits_mail room;
    const struct limits_mail *known = foresee(shard, queued, &room);
    bool is_waiting = waits(queue, queued->flow);
    struct scope_list meters = {.count = 0};
    struct mail_claim *mail;

    if (known && limits_of_mail(shard, queue, source, known, &meters) && meters.count == 0)
        return true;
    if (find(queue, queued->flow, MAIL_HELD, scope_list_hash(&meters)) ||
        find(queue, queued->flow, MAIL_OPEN, scope_list_hash(&meters)))
        return true;
    if (!is_waiting) {
        mail = meters.count > 0 ? draw(shard, queue, queued->flow, &meters, source) : NULL;
        /* What is not known, or found no room, is tried when it has been read. */
        if (!mail || mail->state == MAIL_HELD)
            return true;
    }
    shut(queue, queued->flow);
    return false;
}

bool mail_slots_admit(struct shard *shard, struct queue *queue, const struct ipaddr *source)
{
    uint32_t index;

    if ((shard->mail_slots.blocks == 0 && queue->ready.shut == 0) || queue->ready_count == 0)
        return true;
    /* These have their turn whatever is shut: they end here, or are tried when they have been read.
     */
    if (queue->ready.apart_count > 0 || queue->local != LOCAL_NONE)
        return true;
    while ((index = ready_peek(queue)) != NONE)
        if (may_go(shard, queue, slab_at(&shard->queued, index), source))
            return true;
    if (!list_empty(&queue->lane_link))
        lane_leave(queue);
    if (!queue->parked)
        purse_leave(shard, queue);
    queues_set_reason(shard, queue, WAIT_LIMIT);
    return false;
}

/* ---- Turns ------------------------------------------------------------------------------------
 */

/* The queue has no connection, and is in line for one that others have to make free. */
static bool is_in_line(const struct queue *queue)
{
    return queue->connection_count == 0 && !list_empty(&queue->lane_link) &&
           (queue->reason == WAIT_CONNECTION || queue->reason == WAIT_LIMIT) &&
           (queue->lane->open_count == 0 ||
            queue->lane->open_count > queue->lane->connecting_count);
}

/* Others have the slots meanwhile, and the queue asks for them when it has its connection. */
static void let_open(struct mail_claim *mail)
{
    lease_claim_cancel(mail->shard, &mail->claim);
    enter(mail, MAIL_OPEN, 0);
}

/* The slots have come, or are at hand again: whoever can use them may go now. */
static void on_granted(struct shard *shard, struct mail_claim *mail)
{
    struct queue *queue = queue_of(mail);

    if (mail->state == MAIL_HELD || mail->state == MAIL_USED) {
        queues_reconsider(shard, queue);
        return;
    }
    if (mail->state != MAIL_SHUT || !lease_claim_try(shard, &mail->claim))
        return;
    hold(mail);
    open_flow(queue, mail->flow);
    if (queue->parked && queue->parked->awaits_slot && flow_of(queue->parked) == mail->flow) {
        queue->parked->awaits_slot = false;
        deliver_on_token(shard, queue);
        return;
    }
    if (!is_for_next(mail, queue, true) || !queues_can_send(shard, queue))
        claim_free(mail);
    else if (is_in_line(queue) && queue->reason == WAIT_LIMIT &&
             lease_claim_is_wanted(&mail->claim))
        let_open(mail);
    if (!list_empty(&queue->lane_link))
        lane_serve_later(queue->lane);
    queues_reconsider(shard, queue);
}

void mail_slots_turn(struct shard *shard)
{
    struct list batch, *link;

    list_init(&batch);
    while ((link = list_pop_front(&shard->mail_slots.granted)))
        list_push_back(&batch, link);
    while ((link = list_pop_front(&batch)))
        on_granted(shard, container_of(link, struct mail_claim, granted_link));
}

bool mail_slots_is_busy(const struct shard *shard)
{
    return !list_empty(&shard->mail_slots.granted);
}

/* What is being opened for the queue has not come up, and nothing else has that it could use. */
static bool is_opening(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);

    if (queue->connection_count == 0 || queue->sending_count > 0)
        return false;
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct lane *lane = lane_beside(shard, queue, i);

        if (lane && lane->open_count > lane->connecting_count)
            return false;
    }
    return true;
}

/* A connection for the queue may come up yet. */
static bool is_coming(const struct mail_claim *mail, const struct queue *queue)
{
    bool is_near = queue->connection_count > 0 ||
                   (!list_empty(&queue->lane_link) && queue->lane->open_count > 0);
    uint64_t wait_ms = is_near ? MAIL_SLOTS_OPEN_MS : MAIL_SLOTS_HOLD_MS;

    return io_now_ns(mail->shard->io) < mail->held_ns + (wait_ms << mail->asides) * 1000000;
}

/* Nothing came for the slots that are held: others have them first. */
static void step_aside(struct mail_claim *mail, struct queue *queue)
{
    uint64_t wait_ms = (uint64_t)MAIL_SLOTS_ASIDE_MS << mail->asides;

    /* Others share its flow: whether there is more for it is seen when that has been read. */
    if (!is_for_next(mail, queue, false)) {
        claim_free(mail);
        return;
    }
    if (wait_ms < MAIL_SLOTS_ASIDE_MAX_MS)
        mail->asides++;
    lease_claim_cancel(mail->shard, &mail->claim);
    enter(mail, MAIL_ASIDE, wait_ms);
    if (find(queue, mail->flow, MAIL_HELD, 0))
        return;
    shut(queue, mail->flow);
    queues_reconsider(mail->shard, queue);
}

static void look_later(struct mail_claim *mail)
{
    struct io *io = mail->shard->io;

    io_timer_arm(io, &mail->timer, io_now_ns(io) + MAIL_SLOTS_HOLD_MS * 1000000ull);
}

static void on_timer(struct io_timer *timer)
{
    struct mail_claim *mail = container_of(timer, struct mail_claim, timer);
    struct shard *shard = mail->shard;
    struct queue *queue = queue_of(mail);

    if (mail->state == MAIL_ASIDE && is_opening(shard, queue)) {
        /* It would hold its slots for nothing again. */
        look_later(mail);
        return;
    }
    if (mail->state == MAIL_ASIDE) {
        enter(mail, MAIL_SHUT, 0);
        if (lease_claim_try(shard, &mail->claim))
            claim_on_ready(&mail->claim);
        return;
    }
    if (!is_for_next(mail, queue, true) || queue->rest_until_ns > io_now_ns(shard->io)) {
        claim_free(mail);
        return;
    }
    if (!lease_claim_is_wanted(&mail->claim))
        look_later(mail);
    else if (is_in_line(queue))
        let_open(mail);
    else if (is_coming(mail, queue))
        look_later(mail);
    else
        step_aside(mail, queue);
}

/* ---- Messages ---------------------------------------------------------------------------------
 */

static void learn(struct shard *shard, uint8_t flow, const struct limits_mail *mail)
{
    struct mail_slots *slots = &shard->mail_slots;

    slots->known[flow].is_known = true;
    slots->known[flow].flow = shard->flows.slots[flow].id;
    slots->known[flow].version = shard->version;
    slots->known[flow].mail = *mail;
}

static void use(struct mail_claim *mail, struct delivery *delivery)
{
    list_remove(&mail->link);
    enter(mail, MAIL_USED, 0);
    mail->asides = 0;
    if (mail->begun_ns == 0)
        mail->begun_ns = io_now_ns(mail->shard->io);
    delivery->mail = mail;
}

void mail_slots_reserve(struct shard *shard, struct delivery *delivery)
{
    const struct queue *queue = slab_at(&shard->queues, delivery->queue);
    const struct queued *first = slab_at(&shard->queued, delivery->rcpts[0]);
    struct limits_mail room;
    const struct limits_mail *known;
    struct scope_list meters = {.count = 0};
    struct mail_claim *mail;

    if (list_empty(&queue->mail_claims))
        return;
    known = foresee(shard, first, &room);
    if (known &&
        limits_of_mail(shard, (struct queue *)queue, &delivery->connection->lane->source, known,
                       &meters) &&
        meters.count == 0)
        return;
    mail = find(queue, first->flow, MAIL_HELD, scope_list_hash(&meters));
    if (mail)
        use(mail, delivery);
}

/* A message of the flow is at a connection: its claim, HELD or SHUT; NULL when one waits already,
 * or memory is short. */
static struct mail_claim *ask(struct shard *shard, struct queue *queue, uint8_t flow,
                              const struct scope_list *meters, const struct ipaddr *source)
{
    struct mail_claim *mail = find(queue, flow, MAIL_OPEN, scope_list_hash(meters));

    if (waits(queue, flow))
        return NULL;
    if (!mail)
        return draw(shard, queue, flow, meters, source);
    enter(mail, MAIL_SHUT, 0);
    if (lease_claim_try(shard, &mail->claim))
        hold(mail);
    return mail;
}

enum mail_taken mail_slots_take(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = slab_at(&shard->queues, delivery->queue);
    const struct ipaddr *source = &delivery->connection->lane->source;
    struct mail_claim *mail;
    struct scope_list meters;
    struct limits_mail facts;
    /* Mail that goes on to another queue counts there. */
    bool is_ours = queue->stay == QUEUE_HERE && !queue->hands_on, is_new = false;
    uint8_t flow;

    if (shard->mail_slots.blocks == 0)
        return MAIL_TAKEN;
    flow = flow_of(delivery);
    limits_read_mail(shard, delivery->message, &facts);
    learn(shard, flow, &facts);
    limits_of_mail(shard, queue, source, &facts, &meters);
    if (delivery->mail && delivery->mail->meters_hash == scope_list_hash(&meters))
        return MAIL_TAKEN;
    /* It is not what was foreseen. */
    mail_slots_end(shard, delivery);
    if (meters.count == 0 || planted("shard/mail-limit-overlooked"))
        return MAIL_TAKEN;
    mail = find(queue, flow, MAIL_HELD, scope_list_hash(&meters));
    if (!mail && is_ours) {
        is_new = !waits(queue, flow);
        mail = ask(shard, queue, flow, &meters, source);
        if (is_new && !mail)
            return MAIL_NO_ROOM;
    }
    if (mail && mail->state == MAIL_HELD) {
        use(mail, delivery);
        return MAIL_TAKEN;
    }
    if (is_ours)
        shut(queue, flow);
    return is_new && shard->count > 1 ? MAIL_ASKED : MAIL_PUT_BACK;
}

/* Others wait, and it has had its turn: as long as it is worth what it took to begin. A short one
 * where connections are short too, and end in turn: others are there with theirs at the same time.
 * connection: NULL = the message went another way. */
static bool is_turn_over(const struct mail_claim *mail, const struct connection *connection)
{
    bool is_short = connection && lease_claim_is_wanted(&connection->lane->claim);
    uint64_t had_ns = io_now_ns(mail->shard->io) - mail->begun_ns;
    uint64_t span_ns = (mail->begun_ns - mail->granted_ns) * MAIL_SLOTS_TURN_TIMES;
    uint64_t least_ns = (is_short ? MAIL_SLOTS_TURN_SHORT_MS : MAIL_SLOTS_TURN_MS) * 1000000ull;
    uint64_t most_ns = MAIL_SLOTS_TURN_MAX_MS * 1000000ull;

    if (!lease_claim_is_wanted(&mail->claim))
        return false;
    if (is_short || span_ns < least_ns)
        return had_ns >= least_ns;
    return had_ns >= (span_ns < most_ns ? span_ns : most_ns);
}

void mail_slots_end(struct shard *shard, struct delivery *delivery)
{
    struct mail_claim *mail = delivery->mail;
    struct queue *queue;
    bool was_shut;

    /* One that was done while a read for its content was out comes here once more when that has
     * come back; its queue may be gone by then. */
    if (!mail)
        return;
    queue = slab_at(&shard->queues, delivery->queue);
    delivery->mail = NULL;
    was_shut = (queue->ready.shut & 1u << mail->flow) != 0;
    open_flow(queue, mail->flow);
    if (is_turn_over(mail, delivery->connection) || !queues_can_send(shard, queue) ||
        !is_for_next(mail, queue, true)) {
        if (was_shut)
            shut(queue, mail->flow);
        claim_free(mail);
        return;
    }
    list_push_front(&queue->mail_claims, &mail->link);
    mail->held_ns = io_now_ns(shard->io);
    enter(mail, MAIL_HELD, MAIL_SLOTS_HOLD_MS);
    /* It may stand in no line meanwhile. */
    if (was_shut)
        claim_on_ready(&mail->claim);
}

bool mail_slots_goes_ahead(struct shard *shard, const struct connection *connection,
                           struct queue *queue, const struct message *message, bool *ret_shares)
{
    const struct mail_claim *mail = connection->delivery->mail;
    struct scope_list meters;
    struct limits_mail facts;

    *ret_shares = false;
    if (shard->mail_slots.blocks == 0)
        return true;
    limits_read_mail(shard, message, &facts);
    limits_of_mail(shard, queue, &connection->lane->source, &facts, &meters);
    if (meters.count == 0)
        return true;
    *ret_shares =
        mail && mail->meters_hash == scope_list_hash(&meters) && !is_turn_over(mail, connection);
    return *ret_shares;
}

void mail_slots_pass_on(struct shard *shard, struct connection *connection)
{
    struct delivery *done = connection->delivery, *ahead = connection->ahead;
    struct mail_claim *mail = done->mail;

    if (!ahead || !ahead->shares_mail || !mail)
        return;
    ahead->shares_mail = false;
    ahead->mail = mail;
    done->mail = NULL;
    mail->queue = ahead->queue;
    mail->flow = flow_of(ahead);
}
