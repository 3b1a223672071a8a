#include "tests/sim/product/stage.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "net/dns_answer.h"
#include "shard/shard_int.h"
#include "tests/sim/sim_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 256

void stage_check(struct stage *stage, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: NOT TRUE: %s\n", stage->name, what);
    stage->failures++;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static struct ipaddr_port address_of(unsigned number)
{
    return (struct ipaddr_port){{IPADDR_V4, {10, 1, (uint8_t)number, 1}}, 25};
}

static enum names_say on_question(void *context, struct dns_query *query)
{
    unsigned number = 0;

    (void)context;
    query->status = DNS_NO_DATA;
    if (query->type == DNS_A && sscanf(query->name, "d%u.test", &number) == 1) {
        struct ipaddr_port at = address_of(number);

        dns_answer_put(query, slice_of(at.ip.bytes, 4));
        query->status = DNS_OK;
    }
    return NAMES_ANSWERED;
}

/* ---- Receivers ------------------------------------------------------------------------------- */

struct talk {
    struct receiver *receiver;
    struct sim_peer_conn *conn;
    struct io_timer timer;
    bool is_greeted;
    bool in_data;
    bool is_marked;  /* the message */
    uint8_t source;  /* the last octet of the client\'s address */
    uint32_t number; /* of the receiver's connections */
    uint32_t taken;
    char line[LINE_BYTES]; /* waits for its time */
};

static void hang_up(struct talk *talk)
{
    io_timer_stop(sim_peer_io(sim_peer_of(talk->conn)), &talk->timer);
    talk->receiver->open--;
    sim_peer_set_data(talk->conn, NULL);
    mem_free(talk);
}

static void answer_dot(struct talk *talk)
{
    struct receiver *receiver = talk->receiver;
    bool is_refused = talk->is_marked && receiver->refusal &&
                      (receiver->refused_source == 0 || receiver->refused_source == talk->source);

    receiver->marked_refused += is_refused;
    receiver->marked_taken += talk->is_marked && !is_refused;
    receiver->taken += !is_refused;
    talk->taken += !is_refused;
    sim_peer_printf(talk->conn, "%s\r\n", is_refused ? receiver->refusal : "250 2.0.0 taken");
}

static void answer_line(struct talk *talk)
{
    struct slice line = slice_str(talk->line);
    struct sim_peer_conn *conn = talk->conn;

    if (!talk->is_greeted) {
        talk->is_greeted = true;
        sim_peer_printf(conn, "220 receiver.test\r\n");
    } else if (talk->in_data) {
        talk->is_marked |=
            talk->receiver->marked && slice_equal(line, slice_str(talk->receiver->marked));
        if (!slice_equal(line, SLICE_LITERAL(".")))
            return;
        talk->in_data = false;
        answer_dot(talk);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        talk->receiver->ready++;
        sim_peer_printf(conn, "250-receiver.test\r\n250 PIPELINING\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        talk->in_data = true;
        talk->is_marked = false;
        sim_peer_printf(conn, "354 go on\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        hang_up(talk);
        sim_peer_close(conn);
    } else {
        sim_peer_printf(conn, "250 2.1.0 ok\r\n");
    }
}

static void on_time(struct io_timer *timer)
{
    struct talk *talk = container_of(timer, struct talk, timer);
    struct sim_peer_conn *conn = talk->conn;

    answer_line(talk);
    if (sim_peer_data(conn))
        sim_peer_resume(conn);
}

/* Content takes no time: the reply to the dot does. */
static void take_line(struct talk *talk, struct slice line)
{
    size_t len = line.len < LINE_BYTES - 1 ? line.len : LINE_BYTES - 1;
    bool is_content = talk->in_data && !slice_equal(line, SLICE_LITERAL("."));

    memcpy(talk->line, line.data, len);
    talk->line[len] = '\0';
    if (talk->receiver->reply_ms == 0 || is_content) {
        answer_line(talk);
        return;
    }
    sim_peer_pause(talk->conn);
    io_timer_arm(sim_peer_io(sim_peer_of(talk->conn)), &talk->timer,
                 sim_now_ns(talk->receiver->stage->world) + talk->receiver->reply_ms * MS_NS);
}

static void on_open(struct sim_peer_conn *conn)
{
    struct receiver *receiver = sim_peer_context(sim_peer_of(conn));
    struct talk *talk = sim_peer_alloc(sim_peer_of(conn), sizeof(*talk));
    struct ipaddr_port client;

    io_peer_address(sim_peer_io(sim_peer_of(conn)), sim_peer_fd(conn), &client);
    talk->source = client.ip.bytes[3] % STAGE_SOURCES_MAX;
    receiver->opened_by[talk->source]++;
    receiver->opened++;
    receiver->excess += receiver->opened > 2 * receiver->ready + 1;
    if (++receiver->open > receiver->open_max)
        receiver->open_max = receiver->open;
    talk->receiver = receiver;
    talk->number = receiver->opened;
    talk->conn = conn;
    io_timer_init(&talk->timer, on_time);
    sim_peer_set_data(conn, talk);
    if (receiver->kind == KIND_SERVES &&
        (receiver->greeted == 0 || talk->number <= receiver->greeted))
        take_line(talk, SLICE_EMPTY);
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct talk *talk = sim_peer_data(conn);

    if (!talk || (talk->number <= talk->receiver->hanging && talk->taken >= 2))
        return;
    if (talk->receiver->kind == KIND_SERVES)
        take_line(talk, line);
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    if (sim_peer_data(conn))
        hang_up(sim_peer_data(conn));
}

static const struct sim_peer_handlers receiver_handlers = {on_open, on_line, NULL, on_end};

void stage_add_receiver(struct stage *stage, unsigned number, enum receiver_kind kind,
                        uint32_t reply_ms)
{
    struct receiver *receiver = &stage->receivers[number];
    struct ipaddr_port at = address_of(number);
    struct cidr block = {.ip = at.ip, .prefix_bits = 32};

    *receiver = (struct receiver){.stage = stage, .kind = kind, .reply_ms = reply_ms};
    if (kind == KIND_GONE)
        sim_route(stage->world, &block, SIM_ROUTE_DROP);
    else if (kind != KIND_DEAD)
        receiver->peer = sim_peer_listen(stage->world, &at, &receiver_handlers, receiver);
}

/* ---- Injecting ------------------------------------------------------------------------------- */

static void inject_more(struct injecting *injecting)
{
    uint32_t domain;

    if (!injecting->is_greeted || injecting->is_busy || injecting->is_put_off ||
        injecting->sent == injecting->wanted)
        return;
    domain = injecting->first + injecting->sent++ % injecting->count;
    injecting->is_busy = true;
    injecting->replies_left = 4;
    sim_peer_printf(injecting->conn, "MAIL FROM:<a@%s>\r\nRCPT TO:<u@d%u.test>\r\nDATA\r\n",
                    injecting->sender ? injecting->sender : "sender.test", domain);
}

static void on_injector_line(struct sim_peer_conn *conn, struct slice line)
{
    struct injecting *injecting = sim_peer_data(conn);

    /* Told to go when it has had nothing to send for long. */
    if (!injecting->is_busy && slice_starts_nocase(line, SLICE_LITERAL("421")))
        return;
    injecting->is_put_off |= line.data[0] == '4';
    if (injecting->is_put_off)
        return;
    must(line.len > 3 && (line.data[0] == '2' || line.data[0] == '3'));
    if (line.data[3] == '-')
        return;
    if (!injecting->is_greeted && ++injecting->greetings == 1) {
        sim_peer_printf(conn, "EHLO injector.test\r\n");
    } else if (!injecting->is_greeted) {
        injecting->is_greeted = true;
    } else if (line.data[0] == '3') {
        injecting->replies_left--;
        sim_peer_printf(conn, "Subject: test\r\n%s\r\nHello\r\n.\r\n",
                        injecting->fields ? injecting->fields : "");
    } else if (--injecting->replies_left == 0) {
        injecting->is_busy = false;
    }
    inject_more(injecting);
}

static void on_injector_end(struct sim_peer_conn *conn, int32_t reason)
{
    struct injecting *injecting = sim_peer_data(conn);

    (void)reason;
    injecting->conn = NULL;
}

static const struct sim_peer_handlers injector_handlers = {NULL, on_injector_line, NULL,
                                                           on_injector_end};

/* ---- The stage ------------------------------------------------------------------------------- */

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static const char *lines(const char *text)
{
    return text ? text : "";
}

static char *config_of(const struct stage_options *options)
{
    char *config;

    if (asprintf(&config,
                 "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n%s<spool /spool>\n</spool>\n"
                 "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn %s\n "
                 "default-virtual-mta v\n%s</source>\n"
                 "<virtual-mta v>\n smtp-source-host 10.9.0.1 v.test\n%s</virtual-mta>\n"
                 "<domain *>\n%s</domain>\n",
                 lines(options->global), options->tells_senders ? "no" : "yes",
                 lines(options->source), lines(options->vmta), lines(options->domain)) < 0)
        abort();
    return config;
}

void stage_raise(struct stage *stage, const char *name, const struct stage_options *options)
{
    uint64_t latency_ns = options->latency_ns ? options->latency_ns : 5 * MS_NS;
    struct sim_options world = {.latency_min_ns = latency_ns,
                                .latency_max_ns = latency_ns,
                                .disk_min_ns = options->disk_ns,
                                .disk_max_ns = options->disk_ns,
                                .turn_min_ns = options->turn_ns,
                                .turn_max_ns = options->turn_ns};
    struct product_setup setup = {
        .shard_count = options->shard_count,
        .segment_bytes = 1 << 20,
        .checkpoint_bytes = 1 << 20,
        .segment_count_max = 512,
        .limits = {.message_count_max = 1 << 18,
                   .rcpt_count_max = 1 << 18,
                   .queue_count_max =
                       options->queue_count_max > 0 ? options->queue_count_max : 1 << 20,
                   .connection_count_max = 4096},
    };
    char *config = config_of(options);

    *stage = (struct stage){.name = name};
    if (conf_load_text("sim", config, NULL, report, NULL, &stage->conf) < 0)
        abort();
    free(config);
    stage->world = sim_world_create(1, &world);
    stage->product.world = stage->world;
    stage->product.zone.script = on_question;
    stage->product.zone.script_context = stage;
    setup.conf = stage->conf;
    must(product_start(&stage->product, &setup) == 0);
    stage->injector = sim_peer_create(stage->world, &injector_handlers, stage);
}

void stage_reload(struct stage *stage, const struct stage_options *options)
{
    char *config = config_of(options);

    must(product_reload(&stage->product, config));
    free(config);
}

void stage_inject(struct stage *stage, unsigned which, uint32_t first, uint32_t count)
{
    const struct ipaddr here = {IPADDR_V4, {127, 0, 0, 1}};
    const struct ipaddr_port product = {here, 2525};
    struct injecting *injecting = &stage->injecting[which];

    *injecting = (struct injecting){.stage = stage, .first = first, .count = count};
    injecting->conn = sim_peer_connect(stage->injector, &here, &product);
    sim_peer_set_data(injecting->conn, injecting);
}

static uint64_t tried_at(const struct shard *shard, struct slice domain)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < shard->queues.count_grown; i++) {
        const struct queue *queue =
            slab_is_live(&shard->queues, i) ? slab_at(&shard->queues, i) : NULL;

        if (queue && slice_equal(names_text(&shard->names, queue->name), domain))
            sum += queue->tried_count;
    }
    return sum;
}

uint64_t stage_tried(const struct stage *stage, unsigned number)
{
    uint64_t sum = 0;
    char name[32];

    snprintf(name, sizeof(name), "d%u.test", number);
    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        sum += tried_at(stage->product.shards[i], slice_str(name));
    return sum;
}

uint64_t stage_cold_reads(const struct stage *stage)
{
    uint64_t sum = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        sum += stage->product.shards[i]->totals.cold_reads;
    return sum;
}

void stage_restart(struct stage *stage)
{
    struct product_setup setup = stage->product.setup;

    product_crash(&stage->product, false);
    sim_run_for(stage->world, SECOND_NS);
    must(product_start(&stage->product, &setup) == 0);
    sim_run_for(stage->world, SECOND_NS);
}

bool stage_strike(struct stage *stage)
{
    printf("%-36s %s\n", stage->name, stage->failures ? "FAILED" : "ok");
    product_crash(&stage->product, false);
    sim_world_destroy(stage->world);
    conf_unref(stage->conf);
    return stage->failures == 0;
}

uint64_t stage_taken(const struct stage *stage, unsigned first, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = first; i < first + count; i++)
        sum += stage->receivers[i].taken;
    return sum;
}

void stage_run(struct stage *stage, unsigned tenths, uint32_t first_more, uint32_t second_more)
{
    for (unsigned i = 0; i < tenths; i++) {
        stage->injecting[0].wanted += first_more;
        stage->injecting[1].wanted += second_more;
        for (unsigned j = 0; j < 2; j++)
            if (stage->injecting[j].conn)
                inject_more(&stage->injecting[j]);
        sim_run_for(stage->world, 100 * MS_NS);
    }
}

bool stage_is_of_job(const struct message *message, const char *job)
{
    return slice_equal(message->envelope.job_id, slice_str(job));
}

uint32_t stage_at_mail(const struct stage *stage,
                       bool (*is_such)(const struct message *message, const char *name),
                       const char *name)
{
    uint32_t count = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++) {
        const struct slab *connections = &stage->product.shards[i]->connections;

        for (uint32_t j = 0; j < connections->count_grown; j++) {
            const struct connection *connection =
                slab_is_live(connections, j) ? slab_at(connections, j) : NULL;

            count += connection && connection->delivery && connection->delivery->message &&
                     !smtpc_is_idle(connection->smtpc) &&
                     is_such(connection->delivery->message, name);
        }
    }
    return count;
}
