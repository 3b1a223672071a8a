#include "tests/unit/net/smtpd_stage.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdio.h>
#include <string.h>

#define WAIT_NS S(3600)
#define STEPS   50000000ull

/* ---- The stage ------------------------------------------------------------------------------- */

static void on_client_data(struct sim_peer_conn *conn, struct slice data)
{
    struct client *client = sim_peer_data(conn);

    must(client->out_bytes + data.len < sizeof(client->out));
    memcpy(client->out + client->out_bytes, data.data, data.len);
    client->out_bytes += data.len;
    client->out[client->out_bytes] = '\0';
    client->pieces++;
}

static void on_client_end(struct sim_peer_conn *conn, int32_t reason)
{
    struct client *client = sim_peer_data(conn);

    client->conn = NULL;
    client->reason = reason;
}

void stage_open(struct stage *stage, uint64_t seed, const struct smtpd_options *options)
{
    static const struct sim_peer_handlers handlers = {
        .on_data = on_client_data,
        .on_end = on_client_end,
    };
    struct smtpd_options chosen = {.session_count_max = 50};
    struct sim_options sim = {.latency_max_ns = MS(1), .faults = sim_faults_none()};

    *stage = (struct stage){.listen_fd = -1};
    stage->world = sim_world_create(seed, &sim);
    stage->process = sim_process_create(stage->world);
    sim_io_create(stage->world, stage->process, &stage->io);
    assert_int_equal(ipaddr_parse(SLICE_LITERAL("192.0.2.25"), &stage->at.ip), 0);
    stage->at.port = 25;
    fake_intake_init(&stage->fake);
    if (options != NULL)
        chosen = *options;
    chosen.host_name = STAGE_HOST;
    sim_enter(stage->process);
    stage->server = smtpd_create(stage->io, &chosen, &fake_intake_ops, &stage->fake);
    assert_int_equal(io_listen(stage->io, &stage->at, 128, &stage->listen_fd), 0);
    assert_int_equal(smtpd_listen(stage->server, stage->listen_fd, NULL), 0);
    sim_leave(stage->process);
    stage->peer = sim_peer_create(stage->world, &handlers, stage);
}

void stage_crumble(struct stage *stage)
{
    struct sim_faults *faults = sim_faults(stage->world);

    faults->segment_tiny = 2;
    faults->read_short = 2;
    faults->receive_shortage = 10;
    faults->loop_stalled = 100;
    faults->turn_spurious = 10;
}

static void on_stopped(void *context)
{
    struct stage *stage = context;

    stage->stopped = true;
}

static void on_stop_timer(struct io_timer *timer)
{
    struct stage *stage = container_of(timer, struct stage, stop_timer);

    smtpd_stop(stage->server, on_stopped, stage);
    assert_false(stage->stopped);
}

static void on_answer_timer(struct io_timer *timer)
{
    struct stage *stage = container_of(timer, struct stage, answer_timer);

    fake_answer(&stage->fake, stage->answer_code);
}

static void on_resume_timer(struct io_timer *timer)
{
    struct stage *stage = container_of(timer, struct stage, resume_timer);

    fake_resume(&stage->fake);
    stage->resumed = true;
}

static bool is_resumed(void *context)
{
    return ((struct stage *)context)->resumed;
}

void stage_resume(struct stage *stage)
{
    sim_enter(stage->process);
    io_timer_init(&stage->resume_timer, on_resume_timer);
    io_timer_arm(stage->io, &stage->resume_timer, 0);
    sim_leave(stage->process);
    stage->resumed = false;
    assert_true(sim_run_until(stage->world, is_resumed, stage, WAIT_NS, STEPS));
    sim_run_for(stage->world, MS(20));
}

void stage_stop_server(struct stage *stage)
{
    sim_enter(stage->process);
    io_timer_init(&stage->stop_timer, on_stop_timer);
    io_timer_arm(stage->io, &stage->stop_timer, 0);
    sim_leave(stage->process);
}

void stage_answer(struct stage *stage, uint16_t code)
{
    stage->answer_code = code;
    sim_enter(stage->process);
    io_timer_init(&stage->answer_timer, on_answer_timer);
    io_timer_arm(stage->io, &stage->answer_timer, 0);
    sim_leave(stage->process);
    sim_run_for(stage->world, MS(2));
}

static bool is_stopped(void *context)
{
    return ((struct stage *)context)->stopped;
}

void stage_close(struct stage *stage)
{
    struct smtpd_stats stats;

    if (stage->server != NULL && !stage->stopped) {
        stage_stop_server(stage);
        assert_true(sim_run_until(stage->world, is_stopped, stage, WAIT_NS, STEPS));
    }
    smtpd_stats_read(stage->server, &stats);
    assert_int_equal(stats.sessions_now, 0);
    assert_int_equal(stage->fake.admitted_now, 0);
    assert_int_equal(stage->fake.begun, stage->fake.aborted + stage->fake.finished);
    sim_enter(stage->process);
    smtpd_destroy(stage->server);
    io_close_now(stage->io, stage->listen_fd);
    fake_intake_fini(&stage->fake);
    sim_leave(stage->process);
    assert_int_equal(sim_fd_count(stage->process), 0);
    assert_int_equal(sim_mem_blocks(stage->process), 0);
    sim_world_destroy(stage->world);
}

/* ---- Clients --------------------------------------------------------------------------------- */

void client_connect(struct stage *stage, struct client *client)
{
    struct ipaddr source;

    assert_int_equal(ipaddr_parse(SLICE_LITERAL("192.0.2.99"), &source), 0);
    *client = (struct client){.stage = stage};
    client->conn = sim_peer_connect(stage->peer, &source, &stage->at);
    sim_peer_set_data(client->conn, client);
}

void client_send_bytes(struct client *client, const void *bytes, size_t len)
{
    if (client->conn != NULL && len > 0)
        sim_peer_send(client->conn, bytes, len);
}

void client_send(struct client *client, const char *text)
{
    client_send_bytes(client, text, strlen(text));
}

/* The code of the next whole reply behind *at, 0 when it is not there yet. */
static int next_code(const struct client *client, size_t *at)
{
    for (;;) {
        const char *line = client->out + *at;
        const char *end = strstr(line, "\r\n");

        if (end == NULL)
            return 0;
        assert_true(end - line >= 3);
        /* Every line is printable ASCII: nothing a client said comes back raw (A25). */
        for (const char *c = line; c < end; c++)
            assert_true(*c >= ' ' && *c <= '~');
        *at += (size_t)(end - line) + 2;
        if (line[3] != '-')
            return atoi(line);
    }
}

struct waiting {
    struct client *client;
    unsigned count;
    bool for_end;
};

static bool has_come(void *context)
{
    struct waiting *waiting = context;
    size_t at = waiting->client->read;
    unsigned count = 0;

    if (waiting->client->conn == NULL)
        return true;
    if (waiting->for_end)
        return false;
    while (next_code(waiting->client, &at) != 0)
        count++;
    return count >= waiting->count;
}

void client_expect(struct client *client, const char *codes)
{
    struct waiting waiting = {.client = client};
    const char *at = codes;

    for (const char *c = codes; *c != '\0'; c++)
        waiting.count += *c >= '0' && *c <= '9' && (c == codes || c[-1] == ' ');
    sim_run_until(client->stage->world, has_come, &waiting, WAIT_NS, STEPS);
    for (unsigned i = 0; i < waiting.count; i++) {
        size_t from = client->read;
        int code = next_code(client, &client->read);

        if (code != atoi(at))
            print_error("expected %s, at %u came: %s\n", codes, i, client->out + from);
        assert_int_equal(code, atoi(at));
        at += 4;
    }
    if (strchr(codes, '.') != NULL)
        client_expect_end(client);
}

void client_expect_end(struct client *client)
{
    struct waiting waiting = {.client = client, .for_end = true};

    sim_run_until(client->stage->world, has_come, &waiting, WAIT_NS, STEPS);
    assert_null(client->conn);
    if (client->read != client->out_bytes)
        print_error("not expected: %s\n", client->out + client->read);
    assert_int_equal(client->read, client->out_bytes);
}

void client_expect_silence(struct client *client, uint64_t ns)
{
    sim_run_for(client->stage->world, ns);
    assert_int_equal(client->read, client->out_bytes);
    assert_non_null(client->conn);
}

void client_drop(struct client *client)
{
    if (client->conn != NULL)
        sim_peer_drop(client->conn);
    client->conn = NULL;
}

void client_greet(struct stage *stage, struct client *client)
{
    client_connect(stage, client);
    client_expect(client, "220");
    client_send(client, "EHLO client.example\r\n");
    client_expect(client, "250");
}

/* ---- Whole conversations --------------------------------------------------------------------- */

const char *stage_converse(struct stage *stage, const void *bytes, size_t len)
{
    static struct client client;
    static char codes[8192];
    struct waiting waiting = {.client = &client, .for_end = true};
    size_t filled = 0;
    int code;

    client_connect(stage, &client);
    client_expect(&client, "220");
    client_send_bytes(&client, bytes, len);
    sim_run_until(stage->world, has_come, &waiting, S(30), STEPS);
    while ((code = next_code(&client, &client.read)) != 0 && filled + 8 < sizeof(codes))
        filled += (size_t)snprintf(codes + filled, sizeof(codes) - filled, "%s%03d",
                                   filled > 0 ? " " : "", code);
    snprintf(codes + filled, sizeof(codes) - filled, "%s", client.conn == NULL ? "." : "");
    client_drop(&client);
    sim_run_for(stage->world, S(1));
    return codes;
}

void stage_expect(struct stage *stage, const char *text, const char *codes)
{
    const char *came = stage_converse(stage, text, strlen(text));

    if (strcmp(came, codes) != 0)
        print_error("for: %s\n", text);
    assert_string_equal(came, codes);
}
