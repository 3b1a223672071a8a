/*
 * What meets a queue in the middle of something: a reload while its message is read back, settings
 * that come ahead of their turn, an order to delete while it moves to another shard, a move away
 * from a site that refuses one source and back, a move with a message in doubt. Played with the
 * whole product in the simulated world and decided by counts.
 *
 *   move_scenarios         every scenario, with its figures; 1 when one fails
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "net/dns_answer.h"
#include "shard/shard_int.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/remote_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS_NS        1000000ull
#define SECOND_NS    1000000000ull
#define HOSTS        8
#define MESSAGES_MAX 400
#define RCPTS_EACH   4
#define TTL_S        30 /* as short as answers are kept */

/* The receiver m<number>.test at 10.1.<number>.1, port 25. */
struct receiver {
    struct stage *stage;
    struct sim_peer *peer;
    uint8_t refused;     /* the last octet of a source that is not greeted; 0 = every one is */
    bool defers;         /* recipients */
    uint32_t drops;      /* so many messages more are lost after their dot */
    uint32_t opened[16]; /* connections, by the last octet of their source */
    uint32_t dropped[16];
    uint32_t taken[16]; /* recipients */
};

struct stage {
    const char *name;
    struct sim_world *world;
    struct ledger ledger;
    struct remote remote; /* its injector only */
    struct product product;
    struct conf *conf;
    struct rng rng;
    struct receiver receivers[HOSTS];
    unsigned hosts[2]; /* those that the domain d0.test has, the better one first; HOSTS = none */
    unsigned failures;
};

static void check(struct stage *stage, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: NOT TRUE: %s\n", stage->name, what);
    stage->failures++;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void put_mx(struct dns_query *query, uint8_t preference, unsigned number)
{
    uint8_t record[64] = {0, preference};
    int len = snprintf((char *)record + 2, sizeof(record) - 2, "m%u.test", number);

    dns_answer_put(query, slice_of(record, 2 + (size_t)len));
}

static enum names_say on_question(void *context, struct dns_query *query)
{
    const struct stage *stage = context;
    unsigned number = 0;

    query->status = DNS_NO_DATA;
    query->ttl_s = TTL_S;
    if (query->type == DNS_MX && strcmp(query->name, "d0.test") == 0) {
        for (unsigned i = 0; i < 2; i++)
            if (stage->hosts[i] < HOSTS)
                put_mx(query, (uint8_t)(10 + i), stage->hosts[i]);
        query->status = DNS_OK;
    } else if (query->type == DNS_A && sscanf(query->name, "m%u.test", &number) == 1) {
        const uint8_t address[4] = {10, 1, (uint8_t)number, 1};

        dns_answer_put(query, slice_of(address, 4));
        query->status = DNS_OK;
    }
    return NAMES_ANSWERED;
}

/* ---- Receivers ------------------------------------------------------------------------------- */

struct talk {
    uint8_t source;
    bool in_data;
    uint32_t rcpt_count;
};

static void hang_up(struct sim_peer_conn *conn)
{
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
}

static void on_open(struct sim_peer_conn *conn)
{
    struct receiver *receiver = sim_peer_context(sim_peer_of(conn));
    struct talk *talk = sim_peer_alloc(sim_peer_of(conn), sizeof(*talk));
    struct ipaddr_port client;

    io_peer_address(sim_peer_io(sim_peer_of(conn)), sim_peer_fd(conn), &client);
    talk->source = client.ip.bytes[3] % 16;
    receiver->opened[talk->source]++;
    sim_peer_set_data(conn, talk);
    if (receiver->refused != talk->source) {
        sim_peer_printf(conn, "220 receiver.test\r\n");
        return;
    }
    sim_peer_printf(conn, "554 5.7.1 not from your address\r\n");
    hang_up(conn);
    sim_peer_close(conn);
}

static void on_dot(struct sim_peer_conn *conn, struct receiver *receiver, struct talk *talk)
{
    talk->in_data = false;
    if (receiver->drops > 0) {
        receiver->drops--;
        receiver->dropped[talk->source]++;
        hang_up(conn);
        sim_peer_drop(conn);
        return;
    }
    receiver->taken[talk->source] += talk->rcpt_count;
    sim_peer_printf(conn, "250 2.0.0 taken\r\n");
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct receiver *receiver = sim_peer_context(sim_peer_of(conn));
    struct talk *talk = sim_peer_data(conn);

    if (!talk)
        return;
    if (talk->in_data) {
        if (slice_equal(line, SLICE_LITERAL(".")))
            on_dot(conn, receiver, talk);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT"))) {
        talk->rcpt_count += !receiver->defers;
        sim_peer_printf(conn, receiver->defers ? "451 4.7.1 later\r\n" : "250 2.1.5 ok\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        talk->in_data = talk->rcpt_count > 0;
        sim_peer_printf(conn, talk->in_data ? "354 go on\r\n" : "554 5.5.1 nobody\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        hang_up(conn);
        sim_peer_close(conn);
    } else {
        talk->rcpt_count = 0;
        sim_peer_printf(conn, "250 2.1.0 ok\r\n");
    }
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    hang_up(conn);
}

static const struct sim_peer_handlers receiver_of_stage = {on_open, on_line, NULL, on_end};

static uint32_t sum(const uint32_t counts[16])
{
    uint32_t count = 0;

    for (unsigned i = 0; i < 16; i++)
        count += counts[i];
    return count;
}

static uint32_t taken(const struct stage *stage)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < HOSTS; i++)
        count += sum(stage->receivers[i].taken);
    return count;
}

/* ---- The stage ------------------------------------------------------------------------------- */

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

#define CONFIG_MAX 2048

/* vmta, domain, more: lines of the virtual MTA, of its queues and of the end. */
static const char *config_text(const char *vmta, const char *domain, const char *more)
{
    static char text[CONFIG_MAX];

    snprintf(text, sizeof(text),
             "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n<spool /spool>\n</spool>\n"
             "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn yes\n "
             "default-virtual-mta v\n</source>\n"
             "<virtual-mta v>\n smtp-source-host 10.9.0.1 v1.test\n"
             " smtp-source-host 10.9.0.2 v2.test\n%s</virtual-mta>\n"
             "<domain *>\n retry-after 10m\n max-rcpt-per-transaction 100\n%s</domain>\n%s",
             vmta, domain, more);
    return text;
}

static void raise_stage(struct stage *stage, const char *name, uint16_t shard_count)
{
    struct sim_options options = {.latency_min_ns = 5 * MS_NS,
                                  .latency_max_ns = 5 * MS_NS,
                                  .disk_min_ns = 5 * MS_NS,
                                  .disk_max_ns = 5 * MS_NS};
    struct product_setup setup = {
        .shard_count = shard_count,
        .segment_bytes = 1 << 20,
        .checkpoint_bytes = 1 << 20,
        .segment_count_max = 512,
    };

    *stage = (struct stage){.name = name, .hosts = {0, HOSTS}};
    if (conf_load_text("sim", config_text("", "", ""), NULL, report, NULL, &stage->conf) < 0)
        abort();
    rng_init(&stage->rng, 1);
    stage->world = sim_world_create(1, &options);
    ledger_init(&stage->ledger, MESSAGES_MAX, 1, &stage->rng);
    stage->ledger.count = 0;
    for (unsigned i = 0; i < HOSTS; i++) {
        const struct ipaddr_port at = {{IPADDR_V4, {10, 1, (uint8_t)i, 1}}, 25};

        stage->receivers[i].stage = stage;
        stage->receivers[i].peer =
            sim_peer_listen(stage->world, &at, &receiver_of_stage, &stage->receivers[i]);
    }
    stage->remote = (struct remote){
        .world = stage->world,
        .ledger = &stage->ledger,
        .injector = sim_peer_create(stage->world, &injector_handlers, &stage->remote),
        .product = {{IPADDR_V4, {127, 0, 0, 1}}, 2525},
        .session_count = 8,
        .inject = true,
    };
    stage->product.world = stage->world;
    stage->product.zone.script = on_question;
    stage->product.zone.script_context = stage;
    setup.conf = stage->conf;
    must(product_start(&stage->product, &setup) == 0);
}

static bool strike(struct stage *stage)
{
    const char *text = product_audit(&stage->product);

    check(stage, !text, text ? text : "");
    printf("%-44s %s\n", stage->name, stage->failures ? "FAILED" : "ok");
    product_crash(&stage->product, false);
    sim_world_destroy(stage->world);
    conf_unref(stage->conf);
    ledger_fini(&stage->ledger);
    return stage->failures == 0;
}

/* So many messages with so many recipients each, all to d0.test, and a while to send them. */
static void inject(struct stage *stage, uint32_t messages, uint8_t rcpts_each, uint32_t seconds)
{
    for (uint32_t i = 0; i < messages; i++) {
        struct ledger_message *message = &stage->ledger.messages[stage->ledger.count++];

        message->rcpt_count = rcpts_each;
        message->domain = 0;
    }
    for (uint32_t i = 0; i < seconds * 10; i++) {
        remote_tend(&stage->remote);
        sim_run_for(stage->world, 100 * MS_NS);
    }
    check(stage, stage->ledger.answered == stage->ledger.count, "everything is injected");
}

static struct queue *queue_at(const struct stage *stage, uint16_t number, uint32_t index)
{
    const struct shard *shard = stage->product.shards[number];

    return slab_is_live(&shard->queues, index) ? slab_at(&shard->queues, index) : NULL;
}

/* Calls for what every shard has of the one queue; the sum of what it returns. */
static uint32_t for_each_part(const struct stage *stage,
                              uint32_t (*each)(struct shard *shard, struct queue *queue))
{
    uint32_t result = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        for (uint32_t j = 0; j < stage->product.shards[i]->queues.count_grown; j++) {
            struct queue *queue = queue_at(stage, i, j);

            if (queue)
                result += each(stage->product.shards[i], queue);
        }
    return result;
}

/* An operator's order, as a shard carries it out. */
static uint32_t order(struct stage *stage,
                      uint32_t (*each)(struct shard *shard, struct queue *queue))
{
    uint32_t result;

    sim_enter(stage->product.process);
    result = for_each_part(stage, each);
    sim_leave(stage->product.process);
    return result;
}

static uint32_t delete_all(struct shard *shard, struct queue *queue)
{
    return queues_delete(shard, queue, 0);
}

static uint64_t moves(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        count += stage->product.shards[i]->totals.queues_moved;
    return count;
}

static uint64_t deleted(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        count += stage->product.shards[i]->totals.deleted;
    return count;
}

/* The shard that has the queue, and is not about to send it on; the number of shards = none has. */
static uint16_t shard_of_queue(const struct stage *stage)
{
    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        for (uint32_t j = 0; j < stage->product.shards[i]->queues.count_grown; j++) {
            const struct queue *queue = queue_at(stage, i, j);

            if (queue && queue->stay == QUEUE_HERE)
                return i;
        }
    return stage->product.setup.shard_count;
}

/* ---- A reload in the middle of a read -------------------------------------------------------- */

static uint32_t count_reading(struct shard *shard, struct queue *queue)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < shard->deliveries.count_grown; i++)
        if (slab_is_live(&shard->deliveries, i)) {
            const struct delivery *delivery = slab_at(&shard->deliveries, i);

            count += delivery->queue == queue->index && delivery->count == RCPTS_EACH &&
                     io_op_in_flight(&delivery->read_op);
        }
    return count;
}

static bool is_reading(void *context)
{
    return for_each_part(context, count_reading) > 0;
}

static bool is_reloaded(void *context)
{
    const struct stage *stage = context;

    return stage->product.shards[0]->version > 0 && !stage->product.shards[0]->conf_before;
}

/*
 * A message of several recipients is gathered while there is no rate, and while it is read back a
 * rate appears under which no two tokens are ever there at once. It goes all the same, to one
 * recipient at a time.
 */
static bool a_rate_appears_during_a_read(void)
{
    static struct stage stage;

    raise_stage(&stage, "a rate appears while a message is read", 1);
    stage.receivers[0].defers = true;
    inject(&stage, 1, RCPTS_EACH, 2);
    stage.receivers[0].defers = false;
    order(&stage, queues_schedule);
    check(&stage, sim_run_until(stage.world, is_reading, &stage, SECOND_NS, 100000),
          "the message is read for all its recipients");
    product_reload(&stage.product, config_text(" max-smtp-msg-rate 30/s\n", "", ""));
    check(&stage, sim_run_until(stage.world, is_reloaded, &stage, SECOND_NS, 100000),
          "the shard takes the rate");
    check(&stage, is_reading(&stage), "the read still goes on");
    sim_run_for(stage.world, 5 * SECOND_NS);
    check(&stage, taken(&stage) == RCPTS_EACH, "all recipients get it within seconds");
    return strike(&stage);
}

/* ---- Settings ahead of their turn ------------------------------------------------------------ */

static uint32_t take_ahead(struct shard *shard, struct queue *queue)
{
    adopt_ahead(shard, queue);
    return 1;
}

/*
 * A queue asks for its settings before the walk over all queues has come to it, as one does whose
 * destination is being looked up. It has a site that the new settings do not lead to: it goes by
 * the new route, though the walk finds nothing changed any more.
 */
static bool settings_come_ahead_of_their_turn(void)
{
    static struct stage stage;
    struct parcel sooner = {0};
    struct conf *next;

    raise_stage(&stage, "settings that come ahead of their turn", 1);
    inject(&stage, 1, 1, 1);
    check(&stage, sum(stage.receivers[0].taken) == 1, "mail goes by the DNS");
    sim_enter(stage.product.process);
    if (conf_load_text(
            "sim", config_text("", "", "<domain d0.test>\n smtp-hosts [10.1.1.1]:25\n</domain>\n"),
            NULL, report, NULL, &next) < 0)
        abort();
    reload_publish(&stage.product.reload, next);
    /* A parcel of a shard that has taken it already. */
    sooner.stamp = stage.product.shards[0]->version + 1;
    adopt_look(stage.product.shards[0], &sooner);
    check(&stage, adopt_is_busy(stage.product.shards[0]), "the walk is still to come");
    check(&stage, for_each_part(&stage, take_ahead) == 1, "the queue takes its settings");
    reload_tell(&stage.product.reload, 0);
    sim_leave(stage.product.process);
    sim_run_for(stage.world, SECOND_NS);
    check(&stage, !adopt_is_busy(stage.product.shards[0]), "the walk is over");
    inject(&stage, 1, 1, 1);
    check(&stage, sum(stage.receivers[0].taken) == 1 && sum(stage.receivers[1].taken) == 1,
          "mail goes by the route");
    return strike(&stage);
}

/* ---- Moves ----------------------------------------------------------------------------------- */

#define SHARDS     4
/* Their sites are placed on different shards, or scenarios fail. */
#define HERE_HOST  0
#define THERE_HOST 2

/* The answer of the DNS has changed, and the one before is past. */
static void change_hosts(struct stage *stage, unsigned first, unsigned second)
{
    stage->hosts[0] = first;
    stage->hosts[1] = second;
    sim_run_for(stage->world, (TTL_S + 1) * SECOND_NS);
}

static uint32_t count_moving(struct shard *shard, struct queue *queue)
{
    (void)shard;
    return queue->stay == QUEUE_MOVING;
}

static uint32_t count_left(struct shard *shard, struct queue *queue)
{
    (void)shard;
    return queue->stay == QUEUE_GONE ? queue->ready_count + queue->deferred_count : 0;
}

static bool is_moving(void *context)
{
    return for_each_part(context, count_moving) > 0;
}

static bool is_following(void *context)
{
    return for_each_part(context, count_left) > 0;
}

/* Recipients in parcels that have not come to their owner. */
static bool is_on_the_way(void *context)
{
    const struct stage *stage = context;
    uint32_t count = 0;

    for (uint16_t i = 0; i < SHARDS; i++) {
        const struct slab *handoffs = &stage->product.shards[i]->handoffs;

        for (uint32_t j = 0; j < handoffs->count_grown; j++)
            count +=
                slab_is_live(handoffs, j) &&
                ((const struct handoff *)slab_at(handoffs, j))->parcel.kind == SHARD_HANDOFF_BACK;
    }
    return count > MESSAGES_MAX;
}

static bool has_ended(void *context)
{
    return product_is_empty(&((const struct stage *)context)->product);
}

/*
 * An order to delete meets a queue that is on its way to another shard. What is in either of the
 * queue's parts ends, what is in a parcel between them at that moment is not met and is delivered:
 * each exactly once, and the order's count is that of those that ended.
 */
static bool delete_during_a_move(void)
{
    static const struct {
        const char *name;
        bool (*moment)(void *context);
    } rows[] = {
        {"delete while the queue's state is on its way", is_moving},
        {"delete while recipients follow", is_following},
        {"delete while some are in parcels", is_on_the_way},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        uint32_t all = MESSAGES_MAX * RCPTS_EACH, met;

        raise_stage(&stage, rows[i].name, SHARDS);
        stage.receivers[HERE_HOST].defers = true;
        inject(&stage, MESSAGES_MAX, RCPTS_EACH, 20);
        check(&stage, product_queued(&stage.product) == all, "all are deferred");
        stage.receivers[HERE_HOST].defers = false;
        change_hosts(&stage, THERE_HOST, HOSTS);
        order(&stage, queues_schedule);
        check(&stage, sim_run_until(stage.world, rows[i].moment, &stage, SECOND_NS, 1000000),
              "the moment comes");
        met = order(&stage, delete_all);
        check(&stage, met > 0, "the order meets some");
        check(&stage, sim_run_until(stage.world, has_ended, &stage, 3600 * SECOND_NS, 10000000),
              "work comes to an end");
        check(&stage, deleted(&stage) == met, "as many end as the order said");
        check(&stage, taken(&stage) == all - met, "the others are delivered, once");
        printf("    %u of %u deleted, %u delivered\n", met, all, taken(&stage));
        ok &= strike(&stage);
    }
    return ok;
}

struct look {
    struct stage *stage;
    uint32_t all; /* recipients that there are */
    uint32_t looks;
    uint32_t amiss;  /* of them: another number was queued */
    uint32_t fewest; /* placed */
};

/* One look after the other, each as soon as the one before is answered. */
static bool is_settled_elsewhere(void *context)
{
    struct look *look = context;
    struct report_status status;

    if (!product_status(&look->stage->product, &status))
        return false;
    look->looks++;
    look->amiss += status.queued_rcpts != look->all;
    if (status.placed_rcpts < look->fewest)
        look->fewest = (uint32_t)status.placed_rcpts;
    return status.queues_moved > 0 && status.placed_rcpts == look->all;
}

/*
 * A queue's mail is asked about all the time while it comes back from the log and moves to another
 * shard: for moments it is in no queue, and it is queued all the same. It ends when it is taken.
 */
static bool nobody_is_uncounted(void)
{
    static struct stage stage;
    uint32_t all = MESSAGES_MAX * RCPTS_EACH;
    struct look look = {.stage = &stage, .all = all, .fewest = all};
    struct report_status status;

    raise_stage(&stage, "status while mail moves", SHARDS);
    stage.receivers[HERE_HOST].defers = true;
    stage.receivers[THERE_HOST].defers = true;
    inject(&stage, MESSAGES_MAX, RCPTS_EACH, 20);
    product_crash(&stage.product, false);
    stage.hosts[0] = THERE_HOST;
    must(product_start(&stage.product, &stage.product.setup) == 0);
    check(&stage,
          sim_run_until(stage.world, is_settled_elsewhere, &look, 3600 * SECOND_NS, 1000000),
          "all of it comes to a queue of another shard");
    check(&stage, look.amiss == 0, "all of it is queued at each look");
    check(&stage, look.fewest < all, "though not all is in queues");
    printf("    %u looks, all %u queued in %u of them; %u placed at the least\n", look.looks, all,
           look.looks - look.amiss, look.fewest);
    stage.receivers[THERE_HOST].defers = false;
    check(&stage, sim_run_until(stage.world, has_ended, &stage, 3600 * SECOND_NS, 10000000),
          "work comes to an end");
    while (!product_status(&stage.product, &status))
        sim_run_for(stage.world, MS_NS);
    check(&stage, status.queued_rcpts == 0 && status.delivered == all, "all have ended");
    return strike(&stage);
}

/*
 * A receiver turns one of two sources away at its greeting: that source rests there. The domain's
 * mail moves to another receiver, on another shard, and comes back within the rest: the source
 * rests still, and asks again when the rest is over.
 */
static bool a_source_rests_over_a_move(void)
{
    static struct stage stage;
    const struct receiver *here = &stage.receivers[HERE_HOST];
    uint16_t before;

    raise_stage(&stage, "a source's rest over a move", SHARDS);
    stage.receivers[HERE_HOST].refused = 1;
    inject(&stage, 20, 1, 10);
    check(&stage, here->opened[1] == 1 && here->taken[2] == 20,
          "one source is turned away, the other serves");
    before = shard_of_queue(&stage);
    change_hosts(&stage, THERE_HOST, HOSTS);
    inject(&stage, 20, 1, 10);
    check(&stage, sum(stage.receivers[THERE_HOST].taken) == 20, "mail goes elsewhere");
    check(&stage, shard_of_queue(&stage) != before, "by another shard");
    change_hosts(&stage, HERE_HOST, HOSTS);
    inject(&stage, 20, 1, 10);
    check(&stage, here->taken[2] == 40, "and comes back");
    check(&stage, shard_of_queue(&stage) == before, "by the first shard");
    check(&stage, here->opened[1] == 1, "the source still rests there");
    /* retry-after, and a tenth of it. */
    sim_run_for(stage.world, 660 * SECOND_NS);
    stage.receivers[HERE_HOST].refused = 0;
    inject(&stage, 20, 1, 10);
    check(&stage, here->opened[1] > 1 && here->taken[1] > 0, "it asks again after that");
    check(&stage, taken(&stage) == 80, "nothing was lost");
    return strike(&stage);
}

/*
 * Messages are lost after their dots, and before they are tried again the domain gets a better host
 * and moves to another shard for that. Each goes by the source and to the host where it may have
 * been taken all the same.
 */
static bool doubt_goes_along(void)
{
    enum { MESSAGES = 8 };

    static struct stage stage;
    const struct receiver *here = &stage.receivers[HERE_HOST];
    uint16_t before;

    raise_stage(&stage, "messages in doubt move", SHARDS);
    stage.receivers[HERE_HOST].drops = MESSAGES;
    inject(&stage, MESSAGES, 1, 10);
    check(&stage, sum(here->dropped) == MESSAGES, "all are in doubt");
    before = shard_of_queue(&stage);
    change_hosts(&stage, THERE_HOST, HERE_HOST);
    sim_run_for(stage.world, 660 * SECOND_NS);
    check(&stage, shard_of_queue(&stage) != before, "the queue is elsewhere");
    check(&stage, taken(&stage) == MESSAGES, "all are taken");
    check(&stage, here->taken[1] == here->dropped[1] && here->taken[2] == here->dropped[2],
          "each by the way that it went before");
    printf("    %u and %u by either source, %u of them by the same way\n", here->dropped[1],
           here->dropped[2], sum(here->taken));
    return strike(&stage);
}

struct watched {
    struct stage *stage;
    const char *text; /* what is wrong */
};

static bool is_wrong(void *context)
{
    struct watched *watched = context;

    watched->text = product_audit(&watched->stage->product);
    return watched->text != NULL;
}

/*
 * A queue of many messages, six of which may go in a minute, moves to another shard and back again
 * and again, each second ordered to go on at once, so that it moves while it still waits for its
 * next message's time: no minute, wherever it begins, has seven (pace.h).
 */
static bool a_rate_holds_over_moves(void)
{
    enum { MESSAGES = 60 };

    static struct stage stage;
    struct watched watched = {&stage, NULL};

    raise_stage(&stage, "a rate over moves", SHARDS);
    product_reload(&stage.product, config_text("", " max-msg-rate 6/min\n", ""));
    sim_run_for(stage.world, SECOND_NS);
    inject(&stage, MESSAGES, 1, 1);
    for (unsigned i = 0; i < 611 && !watched.text; i++) {
        stage.hosts[0] = i / 47 % 2 ? HERE_HOST : THERE_HOST;
        sim_run_until(stage.world, is_wrong, &watched, SECOND_NS, 1000000);
        order(&stage, queues_schedule);
    }
    check(&stage, !watched.text, watched.text ? watched.text : "");
    check(&stage, taken(&stage) == MESSAGES, "all are taken");
    check(&stage, moves(&stage) >= 10, "the queue has moved again and again");
    printf("    %llu moves, %u and %u taken by either receiver\n",
           (unsigned long long)moves(&stage), sum(stage.receivers[HERE_HOST].taken),
           sum(stage.receivers[THERE_HOST].taken));
    return strike(&stage);
}

/* ---- Roll-up --------------------------------------------------------------------------------- */

#define ROLLUP                                                                                     \
    "<mx-rollup-list>\n mx *0.test big.rollup\n mx m0.test big.rollup\n</mx-rollup-list>\n"

/* Recipients that wait in the queue of that name, over all shards. */
static uint32_t waiting_in(const struct stage *stage, const char *name)
{
    uint32_t count = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        for (uint32_t j = 0; j < stage->product.shards[i]->queues.count_grown; j++) {
            const struct queue *queue = queue_at(stage, i, j);

            if (queue && slice_equal(names_text(&stage->product.shards[i]->names, queue->name),
                                     slice_str(name)))
                count += queue->ready_count + queue->deferred_count;
        }
    return count;
}

/*
 * Mail goes to the queue of its MX hosts, with what that queue's <domain> says; when the domain
 * gets other hosts it goes by its own queue again; and what waits there returns to its domain's
 * when the list is taken away.
 */
static bool mail_rolls_up(void)
{
    static struct stage stage;

    raise_stage(&stage, "mail rolls up by MX hosts", SHARDS);
    product_reload(&stage.product,
                   config_text("", "", ROLLUP "<domain big.rollup>\n retry-after 2m\n</domain>\n"));
    sim_run_for(stage.world, SECOND_NS);
    stage.receivers[0].defers = true;
    inject(&stage, 10, 2, 20);
    check(&stage, waiting_in(&stage, "big.rollup") == 20, "all of it waits in the roll-up's queue");
    check(&stage, waiting_in(&stage, "d0.test") == 0, "and none in the domain's");
    stage.receivers[0].defers = false;
    sim_run_for(stage.world, 140 * SECOND_NS);
    check(&stage, sum(stage.receivers[0].taken) == 20, "it goes after the roll-up's retry-after");
    stage.hosts[0] = 3;
    sim_run_for(stage.world, 130 * SECOND_NS);
    inject(&stage, 10, 2, 20);
    check(&stage, sum(stage.receivers[3].taken) == 20, "mail follows the MX records");
    check(&stage, sum(stage.receivers[0].taken) == 20, "and does not go to the former host");
    stage.hosts[0] = 0;
    sim_run_for(stage.world, 130 * SECOND_NS);
    stage.receivers[0].defers = true;
    inject(&stage, 10, 2, 20);
    check(&stage, waiting_in(&stage, "big.rollup") == 20, "back in the roll-up's queue");
    product_reload(&stage.product, config_text("", "", ""));
    sim_run_for(stage.world, 5 * SECOND_NS);
    check(&stage, waiting_in(&stage, "big.rollup") == 0, "without the list it is nobody's name");
    check(&stage, waiting_in(&stage, "d0.test") == 20, "so the mail is its domain's");
    stage.receivers[0].defers = false;
    sim_run_for(stage.world, 1200 * SECOND_NS);
    check(&stage, taken(&stage) == 60, "everything is taken");
    return strike(&stage);
}

/* ---- Backoff mode ---------------------------------------------------------------------------- */

/* Recipients that wait in queues of that virtual MTA, over all shards. */
static uint32_t waiting_by(const struct stage *stage, const char *vmta)
{
    uint32_t count = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        for (uint32_t j = 0; j < stage->product.shards[i]->queues.count_grown; j++) {
            const struct queue *queue = queue_at(stage, i, j);

            if (queue &&
                strcmp(conf_vmta_name(stage->product.shards[i]->conf, queue->vmta_id), vmta) == 0)
                count += queue->ready_count + queue->deferred_count;
        }
    return count;
}

#define OF_SOURCE_3 3
#define OF_SOURCE_4 4

/*
 * A queue in backoff mode hands its mail on, what waits and what is new, and the queue that takes
 * it over does the same when it is in backoff mode. After the mode new mail stays with its own,
 * and what was handed on stays where it is.
 */
static bool backoff_mode_hands_on(void)
{
    static struct stage stage;
    const struct receiver *receiver = &stage.receivers[0];

    raise_stage(&stage, "backoff mode hands the mail on", SHARDS);
    product_reload(
        &stage.product,
        config_text("<domain *>\n backoff-reroute-to-virtual-mta w\n</domain>\n",
                    " smtp-pattern-list l\n backoff-retry-after 10m\n",
                    "<smtp-pattern-list l>\n"
                    " reply /4.7.1 later/ mode=backoff,backoff-to-normal-after=5m\n"
                    "</smtp-pattern-list>\n"
                    "<virtual-mta w>\n smtp-source-host 10.9.0.3 w.test\n"
                    "<domain *>\n backoff-reroute-to-virtual-mta x\n</domain>\n</virtual-mta>\n"
                    "<virtual-mta x>\n smtp-source-host 10.9.0.4 x.test\n</virtual-mta>\n"));
    sim_run_for(stage.world, SECOND_NS);
    stage.receivers[0].defers = true;
    inject(&stage, 20, 1, 20);
    check(&stage, waiting_by(&stage, "v") == 0, "nothing waits where the mode began");
    order(&stage, queues_schedule);
    sim_run_for(stage.world, 20 * SECOND_NS);
    check(&stage, waiting_by(&stage, "w") == 0, "nor where it was taken over and refused");
    check(&stage, waiting_by(&stage, "x") == 20, "all of it waits at the end of the chain");
    stage.receivers[0].defers = false;
    inject(&stage, 10, 1, 20);
    check(&stage, receiver->taken[OF_SOURCE_4] == 10, "new mail goes there too");
    sim_run_for(stage.world, 245 * SECOND_NS);
    inject(&stage, 10, 1, 20);
    check(&stage, taken(&stage) == 20 && sum(receiver->taken) - receiver->taken[OF_SOURCE_4] == 10,
          "after the mode new mail stays with its own");
    check(&stage, receiver->taken[OF_SOURCE_3] == 0, "and does not go the way of the mode");
    sim_run_for(stage.world, 1500 * SECOND_NS);
    check(&stage, receiver->taken[OF_SOURCE_4] == 30, "what was handed on goes from there");
    return strike(&stage);
}

/* ---- Limits of providers --------------------------------------------------------------------- */

/* The most connections that stand from one source address, over all shards. */
static uint32_t most_from_a_source(const struct stage *stage)
{
    uint32_t counts[16] = {0}, most = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++) {
        struct shard *shard = stage->product.shards[i];

        for (uint32_t j = 0; j < shard->connections.count_grown; j++) {
            const struct connection *connection;

            if (!slab_is_live(&shard->connections, j))
                continue;
            connection = slab_at(&shard->connections, j);
            most = ++counts[connection->lane->source.bytes[3] % 16] > most
                       ? counts[connection->lane->source.bytes[3] % 16]
                       : most;
        }
    }
    return most;
}

/* Everything to m0.test and its like is one provider's; says how many connections there were. */
static uint32_t play_provider(const char *name, const char *provider)
{
    enum { MESSAGES = 300 };

    static struct stage stage;
    uint32_t most = 0;

    raise_stage(&stage, name, SHARDS);
    product_reload(&stage.product, config_text("", " max-msg-per-connection 3\n", provider));
    sim_run_for(stage.world, SECOND_NS);
    stage.receivers[0].defers = true;
    inject(&stage, MESSAGES, 1, 20);
    stage.receivers[0].defers = false;
    order(&stage, queues_schedule);
    for (unsigned i = 0; i < 2400 && taken(&stage) < MESSAGES; i++) {
        uint32_t now;

        sim_run_for(stage.world, 10 * MS_NS);
        now = most_from_a_source(&stage);
        most = now > most ? now : most;
    }
    check(&stage, taken(&stage) == MESSAGES, "all are taken");
    if (!strike(&stage))
        return UINT32_MAX;
    return most;
}

static uint64_t opened(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        count += stage->product.shards[i]->totals.connects;
    return count;
}

/* Of the same mail from two addresses: what has gone, and what was opened, in ten seconds. */
static bool play_provider_rate(const char *name, const char *domain, const char *provider,
                               uint32_t *ret_messages, uint64_t *ret_connects)
{
    enum { MESSAGES = 400 };

    static struct stage stage;

    raise_stage(&stage, name, SHARDS);
    product_reload(&stage.product, config_text("", domain, provider));
    sim_run_for(stage.world, SECOND_NS);
    stage.receivers[0].defers = true;
    inject(&stage, MESSAGES, 1, 20);
    stage.receivers[0].defers = false;
    order(&stage, queues_schedule);
    sim_run_for(stage.world, 5 * SECOND_NS);
    *ret_messages = taken(&stage);
    *ret_connects = opened(&stage);
    sim_run_for(stage.world, 10 * SECOND_NS);
    *ret_messages = taken(&stage) - *ret_messages;
    *ret_connects = opened(&stage) - *ret_connects;
    /* The pace is watched where every turn is looked at. */
    product_reload(&stage.product, config_text("", "", ""));
    sim_run_for(stage.world, SECOND_NS);
    return strike(&stage);
}

static bool a_providers_rates_hold(void)
{
    uint64_t connects[2] = {0};
    uint32_t messages[2] = {0};
    bool ok = play_provider_rate("a provider's rate of messages for each source", "",
                                 "<provider p>\n mx .test\n max-msg-rate 10/s\n</provider>\n",
                                 &messages[0], &connects[0]);

    ok &= play_provider_rate("its rate of connections", " max-msg-per-connection 3\n",
                             "<provider p>\n mx .test\n max-connect-rate 2/s\n</provider>\n",
                             &messages[1], &connects[1]);
    printf("    %u messages, and %llu connections, in ten seconds\n", messages[0],
           (unsigned long long)connects[1]);
    return ok && messages[0] >= 100 && messages[0] <= 200 && connects[1] >= 38 && connects[1] <= 40;
}

static bool a_providers_limit_holds(void)
{
    uint32_t bound = play_provider("a provider's limit for each source",
                                   "<provider p>\n mx .test\n max-smtp-out 2\n</provider>\n");
    uint32_t customer = play_provider("a limit for each of its customers",
                                      "<provider p>\n mx .test\n tenants yes\n max-smtp-out 9\n"
                                      " tenant-max-smtp-out 1\n</provider>\n");
    uint32_t free = play_provider("no limit of a provider", "");

    printf("    %u, %u and %u connections from one address\n", bound, customer, free);
    return bound == 2 && customer == 1 && free > 2 && free < UINT32_MAX;
}

int main(void)
{
    bool ok = true;

    quiet_log();
    ok &= a_rate_appears_during_a_read();
    ok &= settings_come_ahead_of_their_turn();
    ok &= delete_during_a_move();
    ok &= nobody_is_uncounted();
    ok &= a_source_rests_over_a_move();
    ok &= doubt_goes_along();
    ok &= a_rate_holds_over_moves();
    ok &= mail_rolls_up();
    ok &= backoff_mode_hands_on();
    ok &= a_providers_limit_holds();
    ok &= a_providers_rates_hold();
    return ok ? 0 : 1;
}
