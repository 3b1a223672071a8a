#include "shard/shard.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/pickup.h"
#include "shard/place.h"
#include "shard/serve.h"
#include "shard/shard_int.h"
#include "shard/sts_ask.h"
#include "shard/tls_report_mail.h"

static const struct shard_limits limits_default = {
    .message_count_max = 10u << 20,
    .rcpt_count_max = 16u << 20,
    .session_count_max = 4096,
    .connection_count_max = 16384,
    .queue_count_max = 1u << 20,
    .dns_in_flight_max = 256,
};

static void shard_turn(struct io_actor *actor);
static bool shard_is_busy(struct io_actor *actor);
static void on_stop_timer(struct io_timer *timer);

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

static void set_limits(struct shard *shard, const struct shard_limits *limits)
{
    shard->limits = (struct shard_limits){
        or_default(limits->message_count_max, limits_default.message_count_max),
        or_default(limits->rcpt_count_max, limits_default.rcpt_count_max),
        or_default(limits->session_count_max, limits_default.session_count_max),
        or_default(limits->connection_count_max, limits_default.connection_count_max),
        or_default(limits->queue_count_max, limits_default.queue_count_max),
        or_default(limits->dns_in_flight_max, limits_default.dns_in_flight_max),
    };
}

/*
 * Ids grow by one per message of a shard and never repeat: 24 bits of the spool's life, 8 of the
 * shard within it, 32 of a counter. Readers see only an opaque number.
 */
static uint64_t first_id(uint64_t life, uint16_t number)
{
    return (life & 0xFFFFFF) << 40 | (uint64_t)(number & 0xFF) << 32;
}

struct shard *shard_create(struct io *io, const struct shard_options *options)
{
    struct shard *shard = mem_alloc(sizeof(*shard));
    const struct conf_global *global = conf_global(options->conf);
    struct smtpd_options smtpd = {
        .host_name = global->host_name,
        .text_line_octets_max = global->text_line_octets_max,
    };

    shard->actor = (struct io_actor){.turn = shard_turn, .is_busy = shard_is_busy};
    shard->io = io;
    shard->conf = conf_ref(options->conf);
    shard->place = place_create(shard->conf, options->count);
    shard->number = options->number;
    shard->count = options->count;
    shard->chunk_octets = log_chunk_octets(options->segment_bytes);
    set_limits(shard, &options->limits);
    ips_init(shard, options->counts_ips);
    io_timer_init(&shard->stop_timer, on_stop_timer);
    names_init(&shard->names, shard->limits.queue_count_max + shard->limits.connection_count_max);
    message_pool_init(&shard->pool, global->hot_set_bytes / options->count,
                      shard->limits.message_count_max);
    shard->pool_turn_count = conf_pool_count(shard->conf) + 1;
    shard->pool_turns = mem_alloc(shard->pool_turn_count * sizeof(uint32_t));
    smtpd.session_count_max = shard->limits.session_count_max;
    shard->smtpd = smtpd_create(io, &smtpd, &inject_intake, shard);
    shard->smtpc = smtpc_engine_create(io, shard->limits.connection_count_max);
    contexts_init(shard);
    door_init(shard);
    shard->sign_service = options->signing;
    inject_init(shard);
    home_init(shard);
    compact_init(shard);
    queues_init(shard);
    migrate_init(shard);
    modes_init(shard);
    meters_init(shard);
    orders_init(shard);
    cold_init(shard);
    holds_init(shard);
    outlook_init(shard);
    events_init(shard);
    precache_init(shard);
    warm_init(shard);
    triggers_init(&shard->triggers);
    hits_init(shard);
    site_init(shard);
    doubt_init(shard);
    spf_out_init(shard);
    deliver_init(shard);
    notice_init(shard);
    note_init(shard);
    tls_report_init(shard);
    tidy_init(shard);
    shard->pickup = pickup_create(shard);
    return shard;
}

void shard_destroy(struct shard *shard)
{
    if (!shard)
        return;
    pickup_destroy(shard->pickup);
    tidy_fini(shard);
    deliver_fini(shard);
    tls_report_fini(shard);
    note_fini(shard);
    notice_fini(shard);
    spf_out_fini(shard);
    doubt_fini(shard);
    site_fini(shard);
    ips_fini(shard);
    lease_fini(shard);
    hits_fini(shard);
    triggers_fini(&shard->triggers);
    holds_fini(shard);
    events_fini(shard);
    orders_fini(shard);
    cold_fini(shard);
    warm_fini(shard);
    modes_fini(shard);
    migrate_fini(shard);
    rates_fini(shard);
    queues_fini(shard);
    compact_fini(shard);
    home_fini(shard);
    inject_fini(shard);
    door_fini(shard);
    smtpc_engine_destroy(shard->smtpc);
    smtpd_destroy(shard->smtpd);
    contexts_fini(shard);
    precache_fini(shard);
    if (shard->dns)
        dns_destroy(shard->dns);
    spool_reader_destroy(shard->reader);
    mem_free(shard->pool_turns);
    message_pool_fini(&shard->pool);
    meters_fini(shard);
    names_fini(&shard->names);
    place_destroy(shard->place);
    conf_unref(shard->conf_before);
    conf_unref(shard->conf);
    mem_free(shard);
}

/* ---- Parcels ----------------------------------------------------------------------------------
 */

void shard_post(struct shard *shard, uint16_t to, struct parcel *parcel)
{
    parcel->stamp = shard->version;
    mailbox_post(shard->wiring.to_shards[to], parcel);
}

/* Takes the recipient, or says who else may. False when there is no room for it now. */
static bool try_handoff(struct shard *shard, struct handoff *handoff)
{
    enum take taken = queues_take(shard, handoff, &handoff->owner);

    if (taken == TAKE_NO_ROOM)
        return false;
    handoff->parcel.kind = taken == TAKE_DONE ? SHARD_HANDOFF_RETURN : SHARD_HANDOFF_BACK;
    if (taken == TAKE_DONE && handoff->lender == shard->number)
        home_on_handoff_return(shard, handoff);
    else if (taken == TAKE_DONE)
        shard_post(shard, handoff->lender, &handoff->parcel);
    else if (handoff->home == shard->number)
        home_on_handoff_back(shard, handoff);
    else
        shard_post(shard, handoff->home, &handoff->parcel);
    return true;
}

void shard_take_handoff(struct shard *shard, struct handoff *handoff)
{
    if (!shard->handoffs_waiting && try_handoff(shard, handoff))
        return;
    handoff->parcel.next = NULL;
    if (shard->handoffs_waiting)
        shard->handoffs_waiting_last->next = &handoff->parcel;
    else
        shard->handoffs_waiting = &handoff->parcel;
    shard->handoffs_waiting_last = &handoff->parcel;
}

/* Tries again what there was no room for. */
static void take_waiting(struct shard *shard)
{
    while (shard->handoffs_waiting) {
        struct handoff *handoff = (struct handoff *)shard->handoffs_waiting;
        struct parcel *next = shard->handoffs_waiting->next;

        if (!try_handoff(shard, handoff))
            return;
        shard->handoffs_waiting = next;
    }
}

static void on_locate(struct shard *shard, struct locate *locate)
{
    home_locate(shard, locate);
    locate->parcel.kind = SHARD_LOCATED;
    shard_post(shard, locate->asker, &locate->parcel);
}

static void on_shard_parcel(void *context, struct parcel *parcel)
{
    struct shard *shard = context;

    adopt_look(shard, parcel);
    switch (parcel->kind) {
    case SHARD_HANDOFF:
        shard_take_handoff(shard, (struct handoff *)parcel);
        break;
    case SHARD_HANDOFF_RETURN:
        home_on_handoff_return(shard, (struct handoff *)parcel);
        break;
    case SHARD_HANDOFF_BACK:
        home_on_handoff_back(shard, (struct handoff *)parcel);
        break;
    case SHARD_MIGRATE:
    case SHARD_MIGRATED:
    case SHARD_PAUSE:
    case SHARD_PAUSED:
        migrate_on_parcel(shard, parcel);
        break;
    case SHARD_MODE:
    case SHARD_MODE_SET:
        modes_on_parcel(shard, parcel);
        break;
    case SHARD_ORDER_TELL:
    case SHARD_ORDER_TOLD:
    case SHARD_ORDER_WANT:
    case SHARD_ORDER_GRANT:
    case SHARD_ORDER_NEWS:
        orders_on_parcel(shard, parcel);
        break;
    case SHARD_HIT_TELL:
    case SHARD_HIT_TOLD:
        hits_on_parcel(shard, parcel);
        break;
    case SHARD_HOLD_TELL:
    case SHARD_HOLD_TOLD:
        hold_on_parcel(shard, parcel);
        break;
    case SHARD_COLD_ASK:
    case SHARD_COLD_ANSWER:
        cold_on_parcel(shard, parcel);
        break;
    case SHARD_WARM_ASK:
    case SHARD_WARM_ANSWER:
        warm_on_parcel(shard, parcel);
        break;
    case SHARD_LIST:
        reports_on_list(shard, container_of(parcel, struct report, parcel));
        break;
    case SHARD_LOCATE:
        on_locate(shard, container_of(parcel, struct locate, parcel));
        break;
    case SHARD_LOCATED:
        deliver_on_located(shard, container_of(parcel, struct locate, parcel));
        break;
    case SHARD_ARRIVAL:
        door_on_arrival(shard, container_of(parcel, struct arrival, parcel));
        break;
    case SHARD_ARRIVAL_RETURN:
        door_on_arrival_return(shard, container_of(parcel, struct arrival, parcel));
        break;
    case SHARD_OUTCOME:
        home_on_outcome(shard, container_of(parcel, struct outcome_parcel, request.parcel));
        break;
    case SHARD_GATE_ASK:
    case SHARD_GATE_ANSWER:
        inject_on_gate_parcel(shard, container_of(parcel, struct gate_ask, parcel));
        break;
    case PURSE_ASK:
    case PURSE_GRANT:
        purse_on_parcel(shard, parcel);
        break;
    default:
        lease_on_parcel(shard, parcel);
    }
}

static void on_spool_parcel(void *context, struct parcel *parcel)
{
    struct shard *shard = context;
    struct log_request *request = container_of(parcel, struct log_request, parcel);

    switch (parcel->kind) {
    case SPOOL_APPEND_CHUNK:
    case SPOOL_DROP_CHUNKS:
        if (request->flags & LOG_IS_COPY)
            compact_on_chunk(shard, request);
        else
            inject_on_chunk(shard, request);
        break;
    case SPOOL_APPEND_MESSAGE:
    case SPOOL_APPEND_COMMIT:
        if (request->flags & LOG_IS_COPY)
            compact_on_appended(shard, container_of(request, struct message, append));
        else if (container_of(request, struct message, append)->intake)
            inject_on_appended(shard, container_of(request, struct message, append));
        else
            notice_on_appended(shard, container_of(request, struct message, append));
        break;
    case SPOOL_APPEND_OUTCOME:
        slab_free(&shard->outcomes, container_of(request, struct outcome_parcel, request)->index);
        break;
    case SPOOL_APPEND_STATE:
        home_on_state_answer(shard, request);
        break;
    case SPOOL_APPEND_NAMED:
        queues_on_named_answer(shard, request);
        break;
    case SPOOL_CHECKPOINT_BEGIN:
        home_on_checkpoint(shard, container_of(parcel, struct spool_notice, parcel));
        break;
    case SPOOL_EVACUATE:
        compact_on_evacuate(shard, container_of(parcel, struct spool_notice, parcel));
        break;
    default:
        must(false);
    }
}

static void on_control_parcel(void *context, struct parcel *parcel)
{
    struct shard *shard = context;

    if (parcel->kind == RELOAD_ORDER)
        adopt_on_order(shard, parcel);
    else if (parcel->kind == TLS_REPORT_COUNTS)
        tls_report_on_home(shard, parcel);
    else if (parcel->kind == STS_ASK)
        resolve_on_policy(shard, parcel);
    else if (parcel->kind == TLS_REPORT_ORDER)
        tls_report_mail_on_order(shard, parcel);
    else
        reports_on_request(shard, container_of(parcel, struct report, parcel));
}

static void on_carrier_parcel(void *context, struct parcel *parcel)
{
    carry_on_parcel(context, parcel);
}

void shard_wire(struct shard *shard, const struct shard_wiring *wiring)
{
    shard->wiring = *wiring;
    shard->reader = spool_reader_create(shard->io, wiring->spool);
    shard->next_id = first_id(wiring->life, shard->number);
    shard->version = atomic_load_explicit(&wiring->published->version, memory_order_acquire);
    mailbox_listen(wiring->from_spool, on_spool_parcel, shard);
    if (wiring->from_control)
        mailbox_listen(wiring->from_control, on_control_parcel, shard);
    if (wiring->from_carrier)
        mailbox_listen(wiring->from_carrier, on_carrier_parcel, shard);
    for (uint16_t i = 0; i < shard->count; i++)
        if (i != shard->number)
            mailbox_listen(wiring->from_shards[i], on_shard_parcel, shard);
    shard->dns = dns_create(shard->io, wiring->to_resolver, wiring->from_resolver, shard->number,
                            65536, shard->limits.dns_in_flight_max);
    resolve_wire(shard);
    precache_start(shard);
    io_attach(shard->io, &shard->actor);
}

uint16_t shard_home_of(uint64_t message_id, uint16_t shard_count)
{
    return (uint16_t)(hash_u64(message_id) % shard_count);
}

int shard_listen(struct shard *shard, int listen_fd, const char *source_name)
{
    return smtpd_listen(shard->smtpd, listen_fd, source_name);
}

/* ---- The turn ---------------------------------------------------------------------------------
 */

/* Nothing of this shard is under way: safe to end. */
static bool is_quiet(const struct shard *shard)
{
    return shard->smtpd_stopped && door_is_idle(shard) && pickup_is_idle(shard->pickup) &&
           site_open_connections(shard) == 0 && shard->append_count == 0 &&
           shard->outcomes.count_used == notice_held_count(shard) &&
           shard->named_records.count_used == 0 && shard->deliveries.count_used == 0 &&
           compact_is_idle(shard);
}

static void shard_turn(struct io_actor *actor)
{
    struct shard *shard = container_of(actor, struct shard, actor);

    if (!shard->has_turned) {
        shard->has_turned = true;
        shard->allocations_before = mem_alloc_count();
    }
    adopt_turn(shard);
    take_waiting(shard);
    resign_turn(shard);
    signing_turn(shard);
    home_turn(shard);
    compact_turn(shard);
    queues_turn(shard);
    migrate_turn(shard);
    orders_turn(shard);
    outlook_turn(shard);
    serve_turn(shard);
    tidy_turn(shard);
    if (shard->stopping && !shard->is_stopped && is_quiet(shard)) {
        shard->is_stopped = true;
        io_timer_stop(shard->io, &shard->stop_timer);
        reports_on_stopped(shard);
        if (shard->stopped)
            shard->stopped(shard->stopped_context);
    }
}

static bool shard_is_busy(struct io_actor *actor)
{
    const struct shard *shard = container_of(actor, struct shard, actor);

    return resign_is_busy(shard) || signing_is_busy(shard) || adopt_is_busy(shard) ||
           home_is_busy(shard) || migrate_is_busy(shard) || compact_is_busy(shard) ||
           orders_is_busy(shard) || outlook_is_busy(shard) || purse_is_busy(shard) ||
           mail_slots_is_busy(shard) || !list_empty(&shard->local_work) ||
           (!list_empty(&shard->lanes_to_serve) && !shard->is_starved);
}

static void on_stop_timer(struct io_timer *timer)
{
    struct shard *shard = container_of(timer, struct shard, stop_timer);

    uint32_t count = site_abort(shard);

    log_warn("shard %u: the grace is over, %u deliveries under way are cut off", shard->number,
             count);
}

static void on_smtpd_stopped(void *context)
{
    ((struct shard *)context)->smtpd_stopped = true;
}

void shard_stop(struct shard *shard, uint32_t grace_ms, void (*done)(void *context), void *context)
{
    if (shard->stopping)
        return;
    shard->stopping = true;
    shard->stopped = done;
    shard->stopped_context = context;
    smtpd_stop(shard->smtpd, on_smtpd_stopped, shard);
    inject_check_stop(shard);
    spf_out_stop(shard);
    tls_report_mail_stop(shard);
    pickup_stop(shard->pickup);
    site_stop(shard);
    io_timer_arm(shard->io, &shard->stop_timer,
                 io_now_ns(shard->io) + (uint64_t)grace_ms * 1000000);
}
