#include "tests/sim/product/product.h"

#include "core/base/err.h"
#include "core/mail/classify.h"
#include "shard/shard_int.h"
#include "tests/sim/product/audit.h"
#include "tests/sim/product/signed.h"

#include <errno.h>
#include <stdio.h>

#define RELOAD_DELAY_MAX_NS 50000000

/* Steps between looks that cost more. */
#define RECOUNT_EVERY    6 /* of the looks at leases */
#define LIMITS_EVERY     8
#define OWNERS_EVERY     64
#define LANES_EVERY      16
#define RECIPIENTS_EVERY 256
#define ORDERS_EVERY     7
/* What is out of balance here stays so, which is why not every step needs a look; the numbers have
 * no common factor with those of shards. */
#define LEASES_EVERY     3
#define PURSES_EVERY     17

/* What was not drawn. Ample pools are for all shards together: a history costs their pages. */
static struct shard_limits ample_limits(const struct product_setup *setup)
{
    struct shard_limits limits = setup->limits;

#define AMPLE(name, count) limits.name = limits.name ? limits.name : (count)
    AMPLE(message_count_max, 20000u / setup->shard_count);
    AMPLE(rcpt_count_max, 40000u / setup->shard_count);
    AMPLE(session_count_max, 64);
    AMPLE(connection_count_max, 256);
    AMPLE(queue_count_max, 2048);
    AMPLE(dns_in_flight_max, 16);
#undef AMPLE
    return limits;
}

static void create_shards(struct product *product)
{
    const struct product_setup *setup = &product->setup;
    struct shard_options options = {
        .count = setup->shard_count,
        .conf = product->conf,
        .segment_bytes = setup->segment_bytes,
        .counts_ips = true,
        .limits = ample_limits(setup),
    };

    for (uint16_t i = 0; i < setup->shard_count; i++) {
        sim_io_create(product->world, product->process, &product->loops[i]);
        options.number = i;
        product->shards[i] = shard_create(product->loops[i], &options);
    }
}

static int listen_all(struct product *product)
{
    const struct ipaddr_port at = {{IPADDR_V4, {127, 0, 0, 1}}, 2525};

    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        int fd, result = io_listen(product->loops[i], &at, product->setup.backlog, &fd);

        if (result < 0)
            return result;
        result = shard_listen(product->shards[i], fd, NULL);
        if (result < 0)
            return result;
    }
    return 0;
}

static void count_shards(struct product_events *events, uint16_t count)
{
    if (count == 1)
        events->shards_1++;
    else if (count <= 4)
        events->shards_2_to_4++;
    else if (count < 16)
        events->shards_5_to_15++;
    else
        events->shards_16++;
}

/* What this start found. The clocks tell which retries and rests are still to be waited for. */
static void count_recovered(struct product *product)
{
    struct product_events *events = &product->events;
    uint64_t wall_us = sim_wall_us(product->world), now_ns = sim_now_ns(product->world);

#define ADD_BRANCH(name, text) product->branches.name += product->report.name;
    SPOOL_RECOVERY_BRANCHES(ADD_BRANCH)
#undef ADD_BRANCH
    events->messages_recovered += product->report.messages_live;
    count_shards(events, product->setup.shard_count);
    events->shards_changed +=
        product->shards_before && product->shards_before != product->setup.shard_count;
    product->shards_before = product->setup.shard_count;
    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        const struct shard *shard = product->shards[i];

        for (uint32_t j = 0; j < shard->home_rcpts.count_grown; j++)
            if (slab_is_live(&shard->home_rcpts, j)) {
                const struct home_rcpt *rcpt = slab_at(&shard->home_rcpts, j);

                events->retries_recovered += rcpt->due_s * 1000000ull > wall_us;
            }
        for (uint32_t j = 0; j < shard->queues.count_grown; j++)
            if (slab_is_live(&shard->queues, j)) {
                const struct queue *queue = slab_at(&shard->queues, j);

                events->modes_recovered += queue->mode.is_backoff;
                events->rests_recovered += queue->rest_until_ns > now_ns;
            }
    }
}

/* What the life has done, as far as a crash leaves it to be asked. */
static void count_done(struct product *product)
{
    struct product_events *events = &product->events;
    struct spool_stats stats;

    if (!product->assembly || !assembly_spool(product->assembly))
        return;
    spool_stats_read(assembly_spool(product->assembly), &stats);
    events->checkpoints += stats.checkpoints;
    events->segments_evacuated += stats.evacuations;
    events->segments_recycled += stats.recycled;
    events->commits_failed += stats.failed_commits;
    events->voids_written += stats.voids;
    events->limits_reached += product->limits.at_bound;
    events->mail_limits_reached += product->limits.at_bound_by_mail;
    product->limits.at_bound = 0;
    product->limits.at_bound_by_mail = 0;
    events->devices_2 += product->setup.device_count == 2;
    events->devices_3 += product->setup.device_count == 3;
    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        events->mail_waits += product->shards[i]->mail_slots.waits;
        events->token_waits += product->shards[i]->rates.waits;
        events->cold_reads += product->shards[i]->totals.cold_reads;
        events->signed_again += product->shards[i]->totals.dkim_signatures_again;
        events->modes_entered += product->shards[i]->mode_counts.entered;
        events->modes_left += product->shards[i]->mode_counts.left;
        events->modes_moved += product->shards[i]->mode_counts.moved;
        events->orders_begun += product->shards[i]->orders.begun;
        events->orders_ended += product->shards[i]->orders.ended;
        events->orders_recovered += product->shards[i]->orders.recovered;
        events->queues_held_back += product->shards[i]->orders.held_back;
        events->queues_moved += product->shards[i]->totals.queues_moved;
        events->rcpts_moved += product->shards[i]->totals.rcpts_moved;
        events->rcpts_handed_on += product->shards[i]->totals.rcpts_handed_on;
        events->chunks_written += product->shards[i]->chunk_counts.written;
        events->chunks_dropped += product->shards[i]->chunk_counts.dropped;
        events->chunks_fed += product->shards[i]->chunk_counts.fed;
        events->chunks_moved += product->shards[i]->chunk_counts.moved;
        events->sessions_moved += product->shards[i]->totals.sessions_moved;
    }
}

/* ---- Configurations ---------------------------------------------------------------------------
 */

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    (void)severity;
    (void)file;
    (void)line;
    (void)text;
}

/* Memory may be short for a while. */
static void load_conf(struct product *product)
{
    if (product->setup.conf) {
        product->conf = conf_ref(product->setup.conf);
        return;
    }
    while (conf_load_text("sim", product->setup.config, &signed_load_options, report, NULL,
                          &product->conf) < 0)
        continue;
}

static void on_reload_timer(struct io_timer *timer)
{
    struct product *product = container_of(timer, struct product, reload_timer);
    struct rng *rng = io_rng(product->control_loop);

    if (product->reload_next) {
        reload_publish(&product->reload, product->reload_next);
        product->reload_next = NULL;
        product->reload_told = 0;
    }
    reload_tell(&product->reload, product->reload_told++);
    /* As threads may see it: some work with it while others have not heard of it. */
    if (product->reload_told < product->setup.shard_count)
        io_timer_arm(product->control_loop, timer,
                     io_now_ns(product->control_loop) +
                         (rng_one_in(rng, 2) ? 0 : rng_below(rng, RELOAD_DELAY_MAX_NS)));
}

static void on_reload_done(void *context)
{
    struct product *product = context;
    const struct conf *conf = atomic_load(&assembly_published(product->assembly)->conf);

    product->events.reloads++;
    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        if (product->shards[i]->conf != conf || product->shards[i]->conf_before)
            product->reload_fault = "a shard has acknowledged what it has not taken";
    if (product->setup.config && conf_live_count() != product->snapshots)
        product->reload_fault = "the old snapshot is not freed";
}

static void on_control_parcel(void *context, struct parcel *parcel)
{
    struct product *product = context;

    if (parcel->kind == REPORT_STATUS)
        product->answered_count++;
    else
        reload_on_parcel(&product->reload, parcel);
}

bool product_status(struct product *product, struct report_status *ret_status)
{
    if (product->asked_count == 0) {
        product->answered_count = 0;
        product->asked_count = product->setup.shard_count;
        sim_enter(product->process);
        for (uint16_t i = 0; i < product->asked_count; i++) {
            product->questions[i] = (struct report){.parcel = {.kind = REPORT_STATUS}};
            mailbox_post(assembly_to_shards(product->assembly)[i], &product->questions[i].parcel);
        }
        sim_leave(product->process);
    }
    if (product->answered_count < product->asked_count)
        return false;
    *ret_status = (struct report_status){0};
    for (uint16_t i = 0; i < product->asked_count; i++) {
#define STATUS_SUM(name) ret_status->name += product->questions[i].status.name;
        STATUS_COUNTERS(STATUS_SUM)
        STATUS_GAUGES(STATUS_SUM)
#undef STATUS_SUM
    }
    product->asked_count = 0;
    return true;
}

static void wire_reload(struct product *product)
{
    struct mailbox *const *from = assembly_from_shards(product->assembly);

    reload_init(&product->reload, assembly_published(product->assembly),
                assembly_to_shards(product->assembly), product->setup.shard_count, on_reload_done,
                product);
    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        mailbox_listen(from[i], on_control_parcel, product);
    io_timer_init(&product->reload_timer, on_reload_timer);
    conf_unref(product->conf);
    product->conf = NULL;
    product->snapshots = conf_live_count();
}

bool product_reload(struct product *product, const char *config)
{
    struct conf *outside = NULL;
    int result;

    if (!product->process || !product->assembly || product->reload_next ||
        reload_is_under_way(&product->reload))
        return false;
    /* Once outside of any life: what it names for the first time outlives this one. */
    if (conf_load_text("sim", config, &signed_load_options, report, NULL, &outside) == 0)
        conf_unref(outside);
    sim_enter(product->process);
    result =
        conf_load_text("sim", config, &signed_load_options, report, NULL, &product->reload_next);
    if (result == 0) {
        conf_keep_running(product->reload_next,
                          atomic_load(&assembly_published(product->assembly)->conf), "sim", report,
                          NULL);
        io_timer_arm(product->control_loop, &product->reload_timer, 0);
    }
    sim_leave(product->process);
    return result == 0;
}

static void forget_control(struct product *product)
{
    product->asked_count = 0;
    product->events.reloads_cut_short += reload_is_under_way(&product->reload);
    product->reload = (struct reload){0};
    product->reload_next = NULL;
}

/* ---- One life ---------------------------------------------------------------------------------
 */

const char *product_directory(uint32_t index)
{
    static const char *const directories[PRODUCT_DEVICES_MAX] = {"/spool", "/spool-b", "/spool-c"};

    must(index < PRODUCT_DEVICES_MAX);
    return directories[index];
}

static int assemble(struct product *product)
{
    struct spool_options spool = {
        .segment_bytes = product->setup.segment_bytes,
        .outcome_hold_ms = 20,
        .segment_count_max = product->setup.segment_count_max,
        .checkpoint_bytes = product->setup.checkpoint_bytes,
    };
    struct assembly_options options = {
        .conf = product->conf,
        .shard_count = product->setup.shard_count,
        .shard_loops = product->loops,
        .shards = product->shards,
        .committer_loop = product->committer_loop,
        .resolver_loop = product->names_loop,
        .control_loop = product->control_loop,
        .spool = &spool,
    };
    int result;

    /* Scenes that are not about directories say nothing of them. */
    for (uint32_t i = 0; i == 0 || i < product->setup.device_count; i++)
        spool.directories[i].path = product_directory(i);
    product->assembly = assembly_create(&options);
    result = assembly_recover(product->assembly, &product->report);
    if (result < 0)
        return result;
    count_recovered(product);
    assembly_wire(product->assembly);
    wire_reload(product);
    names_serve(&product->zone, product->names_loop, assembly_questions(product->assembly),
                assembly_answers(product->assembly), product->setup.shard_count);
    return listen_all(product);
}

/* What runs inside the life. A crash ordered for a disk call may end it in the middle. */
static void bring_up(void *context)
{
    struct product *product = context;
    int result;

    load_conf(product);
    create_shards(product);
    product->committer_loop = product->loops[0];
    if (product->setup.committer_alone)
        sim_io_create(product->world, product->process, &product->committer_loop);
    sim_io_create(product->world, product->process, &product->names_loop);
    sim_io_create(product->world, product->process, &product->control_loop);
    result = assemble(product);
    product->spool_closed = false;
    product->stopped_count = result < 0 ? UINT32_MAX : 0;
}

/* At each step, and at the end of a life. */
static void count_given_up(struct product *product)
{
    uint64_t count = 0;

    if (product->given_up_life != product->lives)
        product->given_up = 0;
    product->given_up_life = product->lives;
    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        count += product->shards[i]->notices.given_up;
    product->events.notices_given_up += count - product->given_up;
    product->given_up = count;
}

static void on_ordered_crash(void *context)
{
    struct product *product = context;

    if (product->assembly)
        count_given_up(product);
    product->process = NULL;
    product->assembly = NULL;
    forget_control(product);
    product->setup.on_crash(product->setup.crash_context);
}

int product_start(struct product *product, const struct product_setup *setup)
{
    must(!product->process);
    classify_shipped(); /* kept for ever, so it must not belong to a life */
    product->setup = *setup;
    if (setup->backlog == 0)
        product->setup.backlog = 64;
    if (setup->segment_count_max == 0)
        product->setup.segment_count_max = 512;
    product->zone.world = product->world;
    product->process = sim_process_create(product->world);
    product->lives++;
    product->stopped_count = UINT32_MAX;
    if (setup->crash_after)
        sim_crash_after(product->process, setup->crash_is_power_cut ? SIM_POWER_CUT : SIM_KILL,
                        setup->crash_after, on_ordered_crash, product);
    if (!sim_run_in(product->process, bring_up, product)) {
        must(!product->process);
        product->events.starts_cut_short++;
        return -EINTR;
    }
    if (product->stopped_count == UINT32_MAX) {
        product->events.starts_refused++;
        product->assembly = NULL;
        product_crash(product, false);
        return E_REFUSED;
    }
    return 0;
}

void product_crash(struct product *product, bool power_cut)
{
    if (product->process && product->assembly)
        count_given_up(product);
    if (product->process)
        count_done(product);
    if (product->process)
        sim_crash(product->world, product->process, power_cut ? SIM_POWER_CUT : SIM_KILL);
    product->process = NULL;
    product->assembly = NULL;
    forget_control(product);
}

static void on_spool_closed(void *context)
{
    ((struct product *)context)->spool_closed = true;
}

static void on_shard_stopped(void *context)
{
    struct product *product = context;

    product->stopped_count++;
}

void product_stop(struct product *product)
{
    sim_enter(product->process);
    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        shard_stop(product->shards[i], 60000, on_shard_stopped, product);
    sim_leave(product->process);
}

bool product_is_stopped(const struct product *product)
{
    return product->stopped_count == product->setup.shard_count;
}

void product_end(struct product *product)
{
    sim_enter(product->process);
    spool_close(assembly_spool(product->assembly), on_spool_closed, product);
    sim_leave(product->process);
}

uint64_t product_queued(const struct product *product)
{
    uint64_t count = 0;

    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        count += product->shards[i]->queued.count_used;
    return count;
}

uint64_t product_rcpts_let_through(const struct product *product)
{
    uint64_t count = 0;

    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        count += product->shards[i]->rates.taken;
    return count;
}

bool product_is_empty(const struct product *product)
{
    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        const struct shard *shard = product->shards[i];

        if (shard->home_messages.count_used || shard->home_rcpts.count_used ||
            shard->handoffs.count_used || shard->migrations.count_used ||
            shard->queued.count_used || shard->deliveries.count_used ||
            shard->outcomes.count_used || shard->pool.bytes_used ||
            shard->pool.messages.count_used || shard->append_count || shard->rcpts_reserved ||
            shard->rcpts_open || !list_empty(&shard->unregistered) || shard->outcomes_reserved ||
            shard->handoffs_waiting || !door_is_idle(shard))
            return false;
    }
    return true;
}

/* Sums at every step; the connections themselves are counted on one shard at a time, in turn. */
const char *product_audit(struct product *product)
{
    uint32_t turn = ++product->audit_count, count = product->setup.shard_count;
    uint32_t leases = turn / LEASES_EVERY;
    uint32_t recount = leases % RECOUNT_EVERY == 0 ? leases / RECOUNT_EVERY % count : count;
    const char *text;

    if (!product->process)
        return NULL;
    if (product->reload_fault)
        return product->reload_fault;
    count_given_up(product);
    text = turn % LEASES_EVERY == 0 ? lease_audit(product->shards, (uint16_t)count, recount) : NULL;
    if (!text)
        text = door_audit(product->shards, (uint16_t)count);
    if (!text && turn % LIMITS_EVERY == 0)
        text = limits_look(&product->limits, product->shards, (uint16_t)count,
                           sim_now_ns(product->world));
    if (!text && turn % OWNERS_EVERY == 0)
        text = audit_owners(product->shards, (uint16_t)count);
    if (!text && turn % LANES_EVERY == 0)
        text = audit_lanes(product->shards, (uint16_t)count);
    if (!text && turn % ORDERS_EVERY == 0)
        text = audit_orders(product->shards, (uint16_t)count);
    if (!text && turn % RECIPIENTS_EVERY == 0)
        text = audit_recipients(product->shards, (uint16_t)count);
    if (!text && turn % PURSES_EVERY == 0)
        text =
            purse_audit(product->shards, (uint16_t)count, (uint16_t)(turn / PURSES_EVERY % count));
    if (!text)
        text = pace_look(&product->pace, product->lives, product->shards, (uint16_t)count);
    return text;
}

void product_print(const struct product *product)
{
    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        const struct shard *shard = product->shards[i];

        fprintf(stderr,
                "shard %u: home messages %u, rcpts %u, handoffs %u, queued %u, deliveries %u, "
                "outcomes %u, appends %u, connections %u, hot bytes %llu, health %d\n",
                i, shard->home_messages.count_used, shard->home_rcpts.count_used,
                shard->handoffs.count_used, shard->queued.count_used, shard->deliveries.count_used,
                shard->outcomes.count_used, shard->append_count, site_open_connections(shard),
                (unsigned long long)shard->pool.bytes_used, (int)spool_health(shard->wiring.spool));
        for (uint32_t j = 0; j < shard->queues.count_grown; j++) {
            const struct queue *queue;
            char name[REPORT_NAME_MAX];

            if (!slab_is_live(&shard->queues, j))
                continue;
            queue = slab_at(&shard->queues, j);
            queues_name(shard, queue, name, sizeof(name));
            fprintf(stderr, "  %s: ready %u, deferred %u, sending %u, connections %u, %s; %s\n",
                    name, queue->ready_count, queue->deferred_count, queue->sending_count,
                    queue->connection_count, wait_reason_text(queue->reason), queue->last_error);
        }
    }
}
