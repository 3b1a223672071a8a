/*
 * Messages at home: from the durable append to the last final outcome.
 *
 * Home alone writes records about a message, in order, through one mailbox to the spool; that
 * order is what lets a fuzzy checkpoint be merged with outcomes. A recipient is handed to the
 * owner of its queue as a parcel that comes back empty; outcomes come from the owner and pass
 * through here on their way to the log.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/terms.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

/* Parcels a turn hands out at most, so that a message of thousands of recipients shares a turn. */
#define ORDINAL_MASK         0x7fff
#define HANDOFFS_PER_TURN    512
/* Backlog towards another shard above which handing out waits. */
#define HANDOFF_BACKLOG_MAX  1024
#define HANDOFF_REST_MS      20 /* until there is a look again at queues without room */
#define STATES_PER_TURN      256
/* Of a checkpoint, so that it takes little from the mail that passes by; a queue of millions is
 * through in a minute all the same, or when the log has grown by so much since the beginning, and
 * one that waits for space is not held up. */
#define STATES_PER_S_MIN     8000u
#define CHECKPOINT_S_MAX     60u
#define CHECKPOINT_LOG_BYTES (512ull << 20)
#define CHECKPOINT_PAUSE_NS  2000000ull

/* Checkpoint state of one message on its way to the spool and back. */
struct state_record {
    struct log_request request; /* first */
    struct iovec iov;
    uint32_t index;
    uint32_t heap_bytes; /* bytes is from the heap (a message of many recipients) */
    uint8_t *bytes;
    uint8_t room[512];
};

static void on_checkpoint_timer(struct io_timer *timer);
static void on_handoff_timer(struct io_timer *timer);

static uint32_t seconds_up(uint64_t us)
{
    return (uint32_t)((us + 999999) / 1000000);
}

static uint16_t attempts_kept(uint16_t attempts)
{
    return (attempts < HOME_ATTEMPTS_MAX ? attempts : HOME_ATTEMPTS_MAX) & HOME_ATTEMPTS_MAX;
}

static struct message *hot_of(const struct shard *shard, const struct home_message *home)
{
    return home->hot ? slab_at(&shard->pool.messages, home->hot - 1) : NULL;
}

void home_init(struct shard *shard)
{
    const struct shard_limits *limits = &shard->limits;

    slab_init(&shard->home_messages, sizeof(struct home_message), limits->message_count_max);
    expiries_init(&shard->home_expiries, limits->message_count_max);
    slab_init(&shard->home_rcpts, sizeof(struct home_rcpt), limits->rcpt_count_max);
    slab_init(&shard->routes, sizeof(struct route), limits->rcpt_count_max);
    slab_init(&shard->handoffs, sizeof(struct handoff), 65536);
    slab_init(&shard->state_records, sizeof(struct state_record), 1024);
    table_init(&shard->route_table);
    list_init(&shard->idle_routes);
    list_init(&shard->unregistered);
    io_timer_init(&shard->checkpoint_timer, on_checkpoint_timer);
    io_timer_init(&shard->handoff_timer, on_handoff_timer);
    shard->handoff_head = NONE;
    shard->handoff_tail = NONE;
}

void home_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->checkpoint_timer);
    io_timer_stop(shard->io, &shard->handoff_timer);
    mem_free(shard->scratch);
    table_fini(&shard->route_table);
    slab_fini(&shard->state_records);
    slab_fini(&shard->handoffs);
    slab_fini(&shard->routes);
    slab_fini(&shard->home_rcpts);
    expiries_fini(&shard->home_expiries);
    slab_fini(&shard->home_messages);
}

bool home_reserve(struct shard *shard, uint32_t rcpt_count)
{
    uint64_t wanted = (uint64_t)shard->home_rcpts.count_used + shard->rcpts_reserved + rcpt_count;

    /* Each reserved recipient may be a message of its own, so this bounds both tables. */
    if (wanted > shard->home_rcpts.count_max ||
        (uint64_t)shard->home_messages.count_used + shard->rcpts_reserved + rcpt_count >
            shard->home_messages.count_max)
        return false;
    shard->rcpts_reserved += rcpt_count;
    return true;
}

void home_unreserve(struct shard *shard, uint32_t rcpt_count)
{
    must(shard->rcpts_reserved >= rcpt_count);
    shard->rcpts_reserved -= rcpt_count;
}

/* ---- Registration ---------------------------------------------------------------------------- */

static void message_free_rcpts(struct shard *shard, struct home_message *home)
{
    uint32_t index = home->rcpt_first;

    while (index != NONE) {
        struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, index);
        uint32_t next = rcpt->next;

        routes_put(shard, rcpt->route);
        slab_free(&shard->home_rcpts, index);
        index = next;
    }
}

/* Adds a recipient at the end of the chain (*last); false when memory is short. */
static bool rcpt_add(struct shard *shard, struct home_message *home, uint32_t *last, uint32_t route,
                     struct home_rcpt facts)
{
    uint32_t index;
    struct home_rcpt *rcpt;

    if (route == NONE)
        return false;
    rcpt = slab_alloc(&shard->home_rcpts, &index);
    if (!rcpt) {
        routes_put(shard, route);
        return false;
    }
    *rcpt = facts;
    rcpt->next = NONE;
    rcpt->route = route;
    if (*last == NONE)
        home->rcpt_first = index;
    else
        ((struct home_rcpt *)slab_at(&shard->home_rcpts, *last))->next = index;
    *last = index;
    home->rcpt_open += facts.is_final ? 0 : 1;
    return true;
}

static void enqueue_handoff(struct shard *shard, struct home_message *home, uint32_t index)
{
    home->handoff_rcpt = home->rcpt_first;
    home->handoff_next = NONE;
    if (shard->handoff_tail == NONE)
        shard->handoff_head = index;
    else
        ((struct home_message *)slab_at(&shard->home_messages, shard->handoff_tail))->handoff_next =
            index;
    shard->handoff_tail = index;
}

static uint16_t kilobytes_of(const struct log_place *place)
{
    uint32_t kilobytes = place->large > 0 ? place->large * (LOG_LARGE_UNIT / 1024)
                                          : place->bytes / 1024 + (place->bytes % 1024 > 0);

    return kilobytes < UINT16_MAX ? (uint16_t)kilobytes : UINT16_MAX;
}

static void home_free(struct shard *shard, struct home_message *home, uint32_t index)
{
    message_free_rcpts(shard, home);
    if (home->has_expiry)
        expiries_drop(&shard->home_expiries, index);
    slab_free(&shard->home_messages, index);
}

/* expires_us: 0 = the message does not say. False when memory is short. */
static bool note_expiry(struct shard *shard, struct home_message *home, uint32_t index,
                        uint64_t expires_us)
{
    if (expires_us == 0)
        return true;
    home->has_expiry = expiries_put(&shard->home_expiries, index, seconds_up(expires_us));
    return home->has_expiry;
}

static uint32_t expiry_of(const struct shard *shard, const struct home_message *home,
                          uint32_t index)
{
    return home->has_expiry ? expiries_get(&shard->home_expiries, index) : 0;
}

/* When a new message may first be tried, 0 = at once, and when it expires by its own terms. */
static uint64_t first_try_us(struct shard *shard, const struct envelope *envelope,
                             uint64_t *ret_expires_us)
{
    uint64_t now_us, next_us;
    struct terms terms;
    int result;

    *ret_expires_us = 0;
    if (envelope->terms.len == 0)
        return 0;
    result = terms_decode(envelope->terms, &terms);
    must(result == 0);
    *ret_expires_us = terms.expires_us;
    now_us = io_wall_us(shard->io);
    next_us = terms_next_us(&terms, now_us);
    return next_us == TERMS_NEVER || next_us <= now_us ? 0 : next_us;
}

/* False when memory is short; nothing is changed then. */
static bool register_message(struct shard *shard, struct message *message)
{
    const struct envelope *envelope = &message->envelope;
    uint32_t vmta_id = conf_vmta_id(shard->conf, envelope->vmta),
             flow = mail_slots_flow(shard, envelope);
    struct envelope_rcpt rcpt;
    struct wire_reader reader;
    uint32_t index, last = NONE, ordinal = 0;
    struct home_message *home = slab_alloc(&shard->home_messages, &index);
    uint64_t due_us, expires_us;

    if (!home)
        return false;
    due_us = first_try_us(shard, envelope, &expires_us);
    home->id = envelope->message_id;
    home->accepted_s = seconds_up(envelope->accepted_us);
    home->place = message->append.place;
    home->rcpt_first = NONE;
    if (!note_expiry(shard, home, index, expires_us)) {
        slab_free(&shard->home_messages, index);
        return false;
    }
    wire_reader_init(&reader, envelope->rcpts.data, envelope->rcpts.len);
    while (envelope_rcpt_next(&reader, &rcpt)) {
        if (rcpt_add(shard, home, &last,
                     routes_get(shard, envelope_rcpt_host(&rcpt), vmta_id, flow,
                                envelope_priority(envelope)),
                     (struct home_rcpt){.ordinal = ordinal++ & ORDINAL_MASK,
                                        .due_s = seconds_up(due_us)}))
            continue;
        home_free(shard, home, index);
        return false;
    }
    must(ordinal == envelope->rcpt_count);
    message->home = index;
    message->kilobytes = kilobytes_of(&home->place);
    /* One that may have to wait for its time, or whose time may be over, is read back. */
    if (message->is_partial || envelope->terms.len > 0 || message_pool_is_tight(&shard->pool)) {
        message_free(message);
    } else {
        home->hot = message->index + 1;
        home->claims = home->rcpt_open;
    }
    enqueue_handoff(shard, home, index);
    return true;
}

void home_register(struct shard *shard, struct message *message)
{
    shard->rcpts_open += message->envelope.rcpt_count;
    /* The message is durable and answered: without memory for its entry it waits, in order. */
    if (!list_empty(&shard->unregistered) || !register_message(shard, message))
        list_push_back(&shard->unregistered, &message->append.link);
}

static void register_waiting(struct shard *shard)
{
    while (!list_empty(&shard->unregistered)) {
        struct list *link = list_pop_front(&shard->unregistered);
        struct message *message = container_of(link, struct message, append.link);

        if (register_message(shard, message))
            continue;
        list_push_front(&shard->unregistered, link);
        return;
    }
}

int shard_recover_message(struct shard *shard, const struct log_message_state *state)
{
    uint32_t vmta_id = conf_vmta_id(shard->conf, state->vmta);
    struct slice domain = SLICE_EMPTY;
    struct log_state_rcpt rcpt;
    struct wire_reader reader;
    uint32_t index, last = NONE, ordinal = 0;
    struct home_message *home = slab_alloc(&shard->home_messages, &index);

    if (!home)
        return E_FULL;
    home->id = state->message_id;
    home->accepted_s = seconds_up(state->accepted_us);
    home->place = state->place;
    home->rcpt_first = NONE;
    if (!note_expiry(shard, home, index, state->expires_us)) {
        slab_free(&shard->home_messages, index);
        return E_FULL;
    }
    wire_reader_init(&reader, state->rcpts.data, state->rcpts.len);
    while (log_state_rcpt_next(&reader, &rcpt)) {
        struct home_rcpt facts = {.ordinal = ordinal++ & ORDINAL_MASK,
                                  .due_s = seconds_up(rcpt.due_us),
                                  .attempts = attempts_kept(rcpt.attempts),
                                  .is_final = rcpt.is_final};

        if (planted("shard/restart-releases-early"))
            facts.due_s = 0;
        if (rcpt.domain.len > 0)
            domain = rcpt.domain;
        if (!rcpt_add(shard, home, &last,
                      routes_get(shard, domain, vmta_id, state->flow, state->priority), facts)) {
            home_free(shard, home, index);
            return E_FULL;
        }
    }
    must(home->rcpt_open > 0);
    shard->rcpts_open += home->rcpt_open;
    enqueue_handoff(shard, home, index);
    return 0;
}

/* ---- Handing out ----------------------------------------------------------------------------- */

/* What only home knows of a recipient, and where it goes. */
static void fill_known(struct shard *shard, struct handoff *handoff,
                       const struct home_message *home, struct home_rcpt *rcpt)
{
    struct route *route = slab_at(&shard->routes, rcpt->route);
    struct conf_way way;

    handoff->owner = routes_way(shard, route, home->id, rcpt, &way);
    handoff->parcel = (struct parcel){.kind = SHARD_HANDOFF, .from = shard->number};
    handoff->rolled_up = NULL;
    handoff->goes_over = handoff->is_cooling = handoff->backs_off = false;
    handoff->message_id = home->id;
    handoff->accepted_s = home->accepted_s;
    handoff->domain = way.domain;
    handoff->vmta_id = way.vmta_id;
    handoff->flow = route->flow;
    handoff->priority = route->priority;
    handoff->ordinal = rcpt->ordinal;
    handoff->attempts = rcpt->attempts;
    handoff->home = shard->number;
    handoff->kilobytes = kilobytes_of(&home->place);
}

static void fill_handoff(struct shard *shard, struct handoff *handoff, uint32_t message_index,
                         uint32_t rcpt_index)
{
    const struct home_message *home = slab_at(&shard->home_messages, message_index);
    struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, rcpt_index);

    fill_known(shard, handoff, home, rcpt);
    handoff->expires_s = expiry_of(shard, home, message_index);
    handoff->due_us = (uint64_t)rcpt->due_s * 1000000;
    handoff->due_tick = 0;
    handoff->first_s = 0;
    handoff->hot = hot_of(shard, home);
    handoff->home_message = message_index;
    handoff->home_rcpt = rcpt_index;
    handoff->lender = shard->number;
    handoff->in_doubt.source.family = IPADDR_NONE;
}

/* Another shard knows who has the queue that the recipient goes to. */
static void note_owner(struct shard *shard, const struct home_rcpt *rcpt, struct handoff *handoff,
                       uint16_t owner)
{
    handoff->owner = owner;
    routes_note_owner(slab_at(&shard->routes, rcpt->route), rcpt, owner);
}

static void on_handoff_timer(struct io_timer *timer)
{
    container_of(timer, struct shard, handoff_timer)->handoff_rests = false;
}

/* Queues that wait for a receiver may keep their places for hours: not the whole of a core for
 * asking them in each turn. */
static void rest_from_handoffs(struct shard *shard)
{
    shard->handoff_rests = true;
    io_timer_arm(shard->io, &shard->handoff_timer,
                 io_now_ns(shard->io) + HANDOFF_REST_MS * 1000000ull);
}

/* Hands one recipient to its owner; false when there is no room now. */
static bool hand_out(struct shard *shard, uint32_t message_index, uint32_t rcpt_index)
{
    const struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, rcpt_index);
    struct handoff *handoff, local;
    uint32_t index;

    fill_handoff(shard, &local, message_index, rcpt_index);
    if (local.owner == shard->number) {
        uint16_t owner;
        enum take taken = queues_take(shard, &local, &owner);

        if (taken == TAKE_NO_ROOM)
            rest_from_handoffs(shard);
        if (taken != TAKE_ELSEWHERE)
            return taken == TAKE_DONE;
        note_owner(shard, rcpt, &local, owner);
    }
    if (mailbox_backlog(shard->wiring.to_shards[local.owner]) > HANDOFF_BACKLOG_MAX)
        return false;
    handoff = slab_alloc_unset(&shard->handoffs, &index);
    if (!handoff)
        return false;
    *handoff = local;
    handoff->index = index;
    shard_post(shard, handoff->owner, &handoff->parcel);
    return true;
}

/* Hands out recipients of one message; true when all are out. */
static bool hand_out_message(struct shard *shard, uint32_t message_index, uint32_t *budget)
{
    struct home_message *home = slab_at(&shard->home_messages, message_index);

    while (home->handoff_rcpt != NONE) {
        const struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, home->handoff_rcpt);
        uint32_t next = rcpt->next;

        if (!rcpt->is_final && !(planted("shard/recipient-not-handed-out") && rcpt->ordinal == 2)) {
            if (*budget == 0 || !hand_out(shard, message_index, home->handoff_rcpt))
                return false;
            (*budget)--;
        }
        home->handoff_rcpt = next;
    }
    return true;
}

static void checkpoint_turn(struct shard *shard);

void home_turn(struct shard *shard)
{
    uint32_t budget = HANDOFFS_PER_TURN;

    if (conf_global(shard->conf)->spool_rcpts_max > 0)
        atomic_store_explicit(&shard->wiring.loads[shard->number].rcpt_count,
                              shard->home_rcpts.count_used, memory_order_relaxed);
    register_waiting(shard);
    routes_turn(shard);
    while (shard->handoff_head != NONE && !shard->handoff_rests && budget > 0) {
        uint32_t index = shard->handoff_head;
        struct home_message *home = slab_at(&shard->home_messages, index);

        if (!hand_out_message(shard, index, &budget))
            break;
        shard->handoff_head = home->handoff_next;
        if (shard->handoff_head == NONE)
            shard->handoff_tail = NONE;
        home->handoff_next = NONE;
        /* An owner on this very shard never answers from inside, so the message still lives. */
        must(home->rcpt_open > 0);
    }
    checkpoint_turn(shard);
}

bool home_is_busy(const struct shard *shard)
{
    return (shard->handoff_head != NONE && !shard->handoff_rests) ||
           (shard->checkpoint != NULL && !shard->checkpoint_rests);
}

void home_on_handoff_return(struct shard *shard, struct handoff *handoff)
{
    slab_free(&shard->handoffs, handoff->index);
}

static void drop_claim(struct shard *shard, struct home_message *home)
{
    must(home->claims > 0 && home->hot);
    if (--home->claims > 0)
        return;
    message_free(hot_of(shard, home));
    home->hot = 0;
}

void home_on_handoff_back(struct shard *shard, struct handoff *handoff)
{
    struct home_message *home = slab_at(&shard->home_messages, handoff->home_message);
    struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, handoff->home_rcpt);
    uint16_t owner = handoff->owner;

    must((uint8_t)home->id == (uint8_t)handoff->message_id && !rcpt->is_final);
    if (owner == OWNER_UNKNOWN && handoff->rolled_up != NULL)
        routes_roll_up(shard, slab_at(&shard->routes, rcpt->route), handoff->rolled_up);
    if (handoff->goes_over)
        rcpt->is_over = 1;
    if (handoff->backs_off && rcpt->backed_off < CONF_BACKOFF_STEPS_MAX)
        rcpt->backed_off++;
    if (handoff->is_cooling && handoff->hot) {
        drop_claim(shard, home);
        handoff->hot = NULL;
    }
    fill_known(shard, handoff, home, rcpt);
    handoff->expires_s = expiry_of(shard, home, handoff->home_message);
    if (owner != OWNER_UNKNOWN)
        note_owner(shard, rcpt, handoff, owner);
    if (handoff->owner == shard->number)
        shard_take_handoff(shard, handoff);
    else
        shard_post(shard, handoff->owner, &handoff->parcel);
}

/* ---- Outcomes -------------------------------------------------------------------------------- */

static void post_outcome(struct shard *shard, struct outcome_parcel *outcome)
{
    if (planted("shard/outcome-not-logged") && outcome->is_final)
        return;
    outcome->request.parcel.kind = SPOOL_APPEND_OUTCOME;
    mailbox_post(shard->wiring.to_spool, &outcome->request.parcel);
}

void home_end_message(struct shard *shard, struct outcome_parcel *last)
{
    struct home_message *home = slab_at(&shard->home_messages, last->home_message);

    must(home->rcpt_open == 0 && !home->hot && home->handoff_rcpt == NONE);
    last->request.place = home->place;
    last->request.flags |= LOG_MESSAGE_DONE;
    home_free(shard, home, last->home_message);
    post_outcome(shard, last);
}

void home_locate(const struct shard *shard, struct locate *locate)
{
    const struct home_message *home = slab_at(&shard->home_messages, locate->home_message);

    must((uint8_t)home->id == locate->id_check);
    locate->message_id = home->id;
    locate->place = home->place;
}

void home_on_outcome(struct shard *shard, struct outcome_parcel *outcome)
{
    struct home_message *home = slab_at(&shard->home_messages, outcome->home_message);
    struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, outcome->home_rcpt);

    must(home->id == outcome->request.message_id && !rcpt->is_final);
    rcpt->attempts = attempts_kept(outcome->attempts);
    rcpt->due_s = seconds_up(outcome->due_us);
    if (outcome->returns_claim)
        drop_claim(shard, home);
    if (outcome->is_final) {
        rcpt->is_final = true;
        must(home->rcpt_open > 0 && shard->rcpts_open > 0);
        home->rcpt_open--;
        shard->rcpts_open--;
    }
    outcome->request.place = home->place;
    if (planted("shard/message-done-early") && outcome->is_final)
        outcome->request.flags |= LOG_MESSAGE_DONE;
    if (home->rcpt_open > 0)
        post_outcome(shard, outcome);
    else if (!compact_holds(shard, outcome->home_message, outcome))
        home_end_message(shard, outcome);
}

/* ---- Checkpoints ----------------------------------------------------------------------------- */

static uint64_t log_bytes(const struct shard *shard)
{
    struct spool_stats stats;

    spool_stats_read(shard->wiring.spool, &stats);
    return stats.bytes_written;
}

void home_on_checkpoint(struct shard *shard, struct spool_notice *notice)
{
    must(!shard->checkpoint);
    shard->checkpoint = notice;
    shard->checkpoint_cursor = 0;
    shard->checkpoint_sent = 0;
    shard->checkpoint_began_ns = io_now_ns(shard->io);
    shard->checkpoint_began_bytes = log_bytes(shard);
}

/* How many states may go out in this turn: by the clock, or by how much the log has grown that a
 * start would have to read. */
static uint32_t states_due(const struct shard *shard)
{
    uint64_t elapsed_ns = io_now_ns(shard->io) - shard->checkpoint_began_ns;
    uint64_t per_s = shard->home_messages.count_used / CHECKPOINT_S_MAX;
    uint64_t due, by_log;

    if (spool_health_is_short(spool_health(shard->wiring.spool)))
        return STATES_PER_TURN;
    if (per_s < STATES_PER_S_MIN)
        per_s = STATES_PER_S_MIN;
    due = STATES_PER_TURN + elapsed_ns / 1000 * per_s / 1000000;
    by_log = (log_bytes(shard) - shard->checkpoint_began_bytes) / 1024 *
             shard->home_messages.count_used / (CHECKPOINT_LOG_BYTES / 1024);
    if (by_log > due)
        due = by_log;
    if (due <= shard->checkpoint_sent)
        return 0;
    due -= shard->checkpoint_sent;
    return due < STATES_PER_TURN ? (uint32_t)due : STATES_PER_TURN;
}

static void on_checkpoint_timer(struct io_timer *timer)
{
    struct shard *shard = container_of(timer, struct shard, checkpoint_timer);

    shard->checkpoint_rests = false;
}

/* Encodes the recipients; a domain is written where it differs from the one before. */
static void encode_rcpts(struct shard *shard, const struct home_message *home,
                         struct wire_writer *w)
{
    uint32_t index = home->rcpt_first, name_before = NAME_NONE;

    while (index != NONE) {
        const struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, index);
        const struct route *route = slab_at(&shard->routes, rcpt->route);
        struct log_state_rcpt state = {
            .domain =
                route->name == name_before ? SLICE_EMPTY : names_text(&shard->names, route->name),
            .is_final = rcpt->is_final,
            .attempts = rcpt->attempts,
            .due_us = (uint64_t)rcpt->due_s * 1000000,
        };

        log_state_rcpt_put(w, &state);
        name_before = route->name;
        index = rcpt->next;
    }
}

uint8_t *home_scratch(struct shard *shard, size_t bytes)
{
    if (shard->scratch_bytes < bytes) {
        mem_free(shard->scratch);
        shard->scratch_bytes = 0;
        shard->scratch = mem_try_alloc(bytes);
        if (shard->scratch)
            shard->scratch_bytes = bytes;
    }
    return shard->scratch;
}

/* Room for the record: its own for a message of few recipients, the heap's otherwise. */
static bool record_room(struct state_record *record, uint32_t bytes)
{
    record->heap_bytes = 0;
    record->bytes = record->room;
    if (bytes <= sizeof(record->room))
        return true;
    record->bytes = mem_try_alloc(bytes);
    record->heap_bytes = bytes;
    return record->bytes != NULL;
}

static uint32_t count_rcpts(const struct shard *shard, const struct home_message *home)
{
    uint32_t count = 0, index = home->rcpt_first;

    for (; index != NONE; count++)
        index = ((const struct home_rcpt *)slab_at(&shard->home_rcpts, index))->next;
    return count;
}

/* Virtual MTA, flow and priority are those of all its routes, which are held until the message
 * ends. */
static const struct route *first_route(const struct shard *shard, const struct home_message *home)
{
    const struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, home->rcpt_first);

    return slab_at(&shard->routes, rcpt->route);
}

/* dead: the place of a copy that is given up with this, or NULL. False when there is no room now;
 * the same message is tried again next turn. */
static bool emit_state(struct shard *shard, uint32_t home_message, const struct log_place *dead)
{
    const struct home_message *home = slab_at(&shard->home_messages, home_message);
    const struct route *route = first_route(shard, home);
    uint32_t rcpt_count = count_rcpts(shard, home);
    struct log_message_state state = {
        .message_id = home->id,
        .accepted_us = (uint64_t)home->accepted_s * 1000000,
        .place = home->place,
        .vmta = slice_str(conf_vmta_name(shard->conf, route->vmta_id)),
        .rcpt_count = rcpt_count,
        .flow = route->flow,
        .priority = route->priority,
        .expires_us = (uint64_t)expiry_of(shard, home, home_message) * 1000000,
    };
    size_t room = (size_t)rcpt_count * (NAMES_BYTES_MAX + 16);
    uint8_t *table = home_scratch(shard, room);
    struct state_record *record;
    struct wire_writer w;
    uint32_t index;
    int bytes;

    record = table ? slab_alloc(&shard->state_records, &index) : NULL;
    if (!record)
        return false;
    record->index = index;
    wire_writer_init(&w, table, room);
    encode_rcpts(shard, home, &w);
    must(!w.failed);
    state.rcpts = slice_of(table, wire_written(&w));
    if (!record_room(record, (uint32_t)(256 + state.vmta.len + state.rcpts.len))) {
        slab_free(&shard->state_records, index);
        return false;
    }
    bytes = log_message_state_encode(
        &state, record->bytes, record->heap_bytes ? record->heap_bytes : sizeof(record->room));
    must(bytes > 0);
    record->iov = (struct iovec){record->bytes, (size_t)bytes};
    record->request = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_STATE, .from = shard->wiring.spool_client},
        .payload = &record->iov,
        .payload_count = 1,
        .payload_bytes = (uint32_t)bytes,
        .message_id = home->id,
    };
    if (dead) {
        record->request.flags = LOG_MESSAGE_DONE;
        record->request.place = *dead;
    }
    list_init(&record->request.link);
    mailbox_post(shard->wiring.to_spool, &record->request.parcel);
    return true;
}

bool home_post_moved(struct shard *shard, uint32_t home_message, const struct log_place *dead)
{
    return emit_state(shard, home_message, dead);
}

static void checkpoint_turn(struct shard *shard)
{
    const struct slab *slab = &shard->home_messages;
    uint32_t budget, steps = STATES_PER_TURN * 16;

    /* What was answered before the checkpoint began must be among the states. */
    if (!shard->checkpoint || shard->checkpoint_rests ||
        (shard->checkpoint_cursor == 0 && !list_empty(&shard->unregistered)))
        return;
    budget = states_due(shard);
    for (; shard->checkpoint_cursor < slab->count_grown && steps > 0;
         shard->checkpoint_cursor++, steps--) {
        if (!slab_is_live(slab, shard->checkpoint_cursor) ||
            (planted("shard/checkpoint-skips-message") && shard->checkpoint_cursor % 8 == 7))
            continue;
        if (budget == 0) {
            shard->checkpoint_rests = true;
            io_timer_arm(shard->io, &shard->checkpoint_timer,
                         io_now_ns(shard->io) + CHECKPOINT_PAUSE_NS);
            return;
        }
        budget--;
        shard->checkpoint_sent++;
        if (!emit_state(shard, shard->checkpoint_cursor, NULL))
            return;
    }
    if (shard->checkpoint_cursor < slab->count_grown)
        return;
    shard->checkpoint->parcel.kind = SPOOL_CHECKPOINT_DONE;
    shard->checkpoint->parcel.from = shard->wiring.spool_client;
    mailbox_post(shard->wiring.to_spool, &shard->checkpoint->parcel);
    shard->checkpoint = NULL;
}

void home_on_state_answer(struct shard *shard, struct log_request *request)
{
    struct state_record *record = container_of(request, struct state_record, request);

    if (record->heap_bytes)
        mem_free(record->bytes);
    slab_free(&shard->state_records, record->index);
}
