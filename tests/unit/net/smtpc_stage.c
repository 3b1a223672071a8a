#include "tests/unit/net/smtpc_stage.h"

#include "core/base/mem.h"
#include "tests/sim/sim_peer.h"

#include <stdio.h>
#include <string.h>

#define SECOND_NS    1000000000ull
#define PATIENCE_NS  (48 * 3600 * SECOND_NS)
#define PATIENCE     20000000ull
#define FAULTY_SEEDS 25
#define INPUT_MAX    (64 * 1024)

static const char default_content[] = "Subject: hi\r\n\r\n..hello\r\n";
static const char plain_content[] = "Subject: hi\r\n\r\nhello\r\n";

struct stage {
    struct play *play;
    const struct scene *scene;
    struct sim_world *world;
    /* the receiver */
    struct sim_peer *peer;
    struct sim_peer_conn *conn;
    struct io_timer timer;
    const struct step *step;
    uint8_t input[INPUT_MAX];
    size_t input_len;
    uint64_t bodies_bytes; /* of the bodies before this one */
    bool waits;
    bool is_over; /* the receiver has closed */
    bool is_deaf;
    struct tls_engine *tls_engine;
    struct tls_context *tls_context;
    struct tls *tls;
    uint8_t wire[INPUT_MAX]; /* received and not decoded yet */
    size_t wire_len;
    struct tls_engine *client_tls_engine;
    struct tls_context *client_tls_context;
    /* the client */
    struct sim_process *process;
    struct io *io;
    struct smtpc_engine *engine;
    struct smtpc *client;
    struct smtpc_options options;
    struct smtpc_transaction transaction;
    struct iovec content;
    char *piece; /* the only one there is */
    size_t piece_bytes;
    unsigned piece_number; /* of the transaction */
    struct io_timer piece_timer;
    struct slice rcpts[SCENE_RCPT_MAX];
    char rcpt_names[SCENE_RCPT_MAX][32];
    unsigned sent_count;
    bool in_transaction;
    bool is_ahead; /* one more was handed over */
    uint64_t started_ns;
};

/* ---- The receiver -------------------------------------------------------------------------- */

static void complain(struct stage *stage, const char *what, struct slice bytes)
{
    if (stage->play->trouble[0] != '\0')
        return;
    snprintf(stage->play->trouble, sizeof(stage->play->trouble), "step %u: %s: %.*s",
             (unsigned)(stage->step - stage->scene->steps), what, (int)bytes.len,
             (const char *)bytes.data);
}

static void use_input(struct stage *stage, size_t len)
{
    memmove(stage->input, stage->input + len, stage->input_len - len);
    stage->input_len -= len;
}

/* A whole line of the input without its CRLF. */
static bool next_line(struct stage *stage, struct slice *ret_line)
{
    uint8_t *end = memmem(stage->input, stage->input_len, "\r\n", 2);

    if (end == NULL)
        return false;
    *ret_line = slice_of(stage->input, (size_t)(end - stage->input));
    return true;
}

static bool play_expect(struct stage *stage)
{
    struct slice line;

    if (!next_line(stage, &line))
        return false;
    if (!slice_equal(line, slice_str(stage->step->text)))
        complain(stage, "another line came", line);
    use_input(stage, line.len + 2);
    return true;
}

uint64_t stage_hash(uint64_t hash, struct slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        hash = (hash ^ bytes.data[i]) * 1099511628211u;
    return hash;
}

static void take_body(struct stage *stage, size_t len)
{
    stage->play->body_bytes += len;
    stage->play->body_hash = stage_hash(stage->play->body_hash, slice_of(stage->input, len));
    use_input(stage, len);
}

/* The end is CRLF.CRLF, where the first CRLF may be that of DATA itself. */
static bool play_body(struct stage *stage)
{
    bool is_empty = stage->input_len >= 3 && memcmp(stage->input, ".\r\n", 3) == 0 &&
                    stage->play->body_bytes == stage->bodies_bytes;
    uint8_t *end = memmem(stage->input, stage->input_len, "\r\n.\r\n", 5);
    size_t len = is_empty || end == NULL ? 0 : (size_t)(end - stage->input) + 2;

    if (!is_empty && end == NULL) {
        /* Long bodies: keep only what the end could still begin with. */
        size_t keep = stage->input_len < 4 ? stage->input_len : 4;

        if (stage->step->text == NULL)
            take_body(stage, stage->input_len - keep);
        return false;
    }
    if (stage->step->text != NULL &&
        !slice_equal(slice_of(stage->input, len), slice_str(stage->step->text)))
        complain(stage, "another body came", slice_of(stage->input, len));
    take_body(stage, len);
    use_input(stage, 3);
    stage->bodies_bytes = stage->play->body_bytes;
    return true;
}

/* ---- The receiver's TLS: the transform by hand, without a stream ----------------------------- */

/* Sends what the transform makes of the text, and what it has to say itself. */
static void send_secured(struct stage *stage, struct slice text)
{
    uint8_t room[32 * 1024];
    size_t used, made;

    do {
        used = made = 0;
        (void)tls_transform.encode(stage->tls, text.data, text.len, &used, room, sizeof(room),
                                   &made);
        sim_peer_send(stage->conn, room, made);
        text = slice_after(text, used);
    } while (used > 0 || made > 0);
}

static void say(struct stage *stage, const char *text)
{
    if (stage->tls != NULL)
        send_secured(stage, slice_str(text));
    else
        sim_peer_send(stage->conn, text, strlen(text));
}

static void on_peer_secured(struct tls *tls, void *owner)
{
}

static void start_peer_tls(struct stage *stage)
{
    static const struct tls_events events = {.on_secured = on_peer_secured};

    assert_int_equal(tls_open(stage->tls_context, NULL, 0, &events, stage, &stage->tls), 0);
}

/* Decodes into the input what has come. */
static void decode_wire(struct stage *stage)
{
    size_t used, made;
    int rc;

    do {
        used = made = 0;
        rc = tls_transform.decode(stage->tls, stage->wire, stage->wire_len, &used,
                                  stage->input + stage->input_len,
                                  sizeof(stage->input) - stage->input_len, &made);
        memmove(stage->wire, stage->wire + used, stage->wire_len - used);
        stage->wire_len -= used;
        stage->input_len += made;
    } while (rc == 0 && (used > 0 || made > 0));
    if (stage->conn != NULL)
        send_secured(stage, SLICE_EMPTY);
}

static void make_peer_tls(struct stage *stage)
{
    char why[TLS_WHY_MAX];

    stage->tls_engine = tls_engine_create(sim_peer_io(stage->peer));
    assert_int_equal(
        tls_context_create(stage->tls_engine, stage->scene->tls_server, why, &stage->tls_context),
        0);
}

static int open_client_tls(struct smtpc *conn, void *context, const struct tls_events *events,
                           struct tls **ret_tls)
{
    struct stage *stage = context;

    assert_ptr_equal(conn, stage->client);
    return tls_open(stage->client_tls_context, "mx.example.net", 25, events, conn, ret_tls);
}

static void make_client_tls(struct stage *stage)
{
    char why[TLS_WHY_MAX];

    if (stage->scene->tls_client == NULL)
        return;
    stage->client_tls_engine = tls_engine_create(stage->io);
    assert_int_equal(tls_context_create(stage->client_tls_engine, stage->scene->tls_client, why,
                                        &stage->client_tls_context),
                     0);
}

static void drop_peer_tls(struct stage *stage)
{
    tls_close(stage->tls);
    tls_context_free(stage->tls_context);
    tls_engine_destroy(stage->tls_engine);
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static void wait_for(struct stage *stage, uint64_t ms)
{
    struct io *io = sim_peer_io(stage->peer);

    stage->waits = true;
    io_timer_arm(io, &stage->timer, io_now_ns(io) + ms * 1000000);
}

/* True when the step is done and the next may be played. */
static bool play_step(struct stage *stage)
{
    const struct step *step = stage->step;

    switch (step->kind) {
    case STEP_SEND:
        say(stage, step->text);
        return true;
    case STEP_DEAF:
        stage->is_deaf = true;
        return true;
    case STEP_TLS:
        start_peer_tls(stage);
        return true;
    case STEP_FLOOD:
        for (uint64_t i = 0; i < step->n; i++)
            sim_peer_send(stage->conn, step->text, strlen(step->text));
        return true;
    case STEP_EXPECT:
        return play_expect(stage);
    case STEP_BODY:
    case STEP_SLOW_BODY:
        return play_body(stage);
    case STEP_PROBE:
        if (stage->input_len > 0)
            complain(stage, "nothing should have come", slice_of(stage->input, stage->input_len));
        wait_for(stage, step->n);
        return true;
    case STEP_WAIT:
        wait_for(stage, step->n);
        return true;
    case STEP_CLOSE:
        stage->is_over = true;
        sim_peer_close(stage->conn);
        stage->conn = NULL;
        return true;
    case STEP_RESET:
        stage->is_over = true;
        sim_reset(sim_peer_io(stage->peer), sim_peer_fd(stage->conn));
        return true;
    case STEP_HALF_CLOSE:
        sim_send_end(sim_peer_io(stage->peer), sim_peer_fd(stage->conn));
        return true;
    case STEP_PAUSE:
        sim_peer_pause(stage->conn);
        return true;
    case STEP_END:
        break;
    }
    return false;
}

static void play_on(struct stage *stage)
{
    while (!stage->waits && stage->step->kind != STEP_END && play_step(stage)) {
        stage->step++;
        stage->play->steps_played++;
    }
    if (stage->step->kind == STEP_END && stage->input_len > 0)
        complain(stage, "more came than was expected", slice_of(stage->input, stage->input_len));
}

static void on_peer_timer(struct io_timer *timer)
{
    struct stage *stage = container_of(timer, struct stage, timer);

    if (stage->step->kind == STEP_SLOW_BODY) {
        sim_peer_resume(stage->conn);
        return;
    }
    stage->waits = false;
    if (stage->step[-1].kind == STEP_PROBE && stage->input_len > 0)
        complain(stage, "nothing should have come", slice_of(stage->input, stage->input_len));
    if (stage->conn != NULL)
        play_on(stage);
}

static void on_peer_open(struct sim_peer_conn *conn)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));

    assert_null(stage->conn);
    stage->conn = conn;
    io_timer_init(&stage->timer, on_peer_timer);
    play_on(stage);
}

static void on_peer_data(struct sim_peer_conn *conn, struct slice data)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));

    if (stage->is_over || stage->is_deaf)
        return;
    while (data.len > 0) {
        size_t room = sizeof(stage->input) - stage->input_len;
        size_t len = data.len < room ? data.len : room;

        assert_true(len > 0);
        if (stage->tls != NULL) {
            memcpy(stage->wire + stage->wire_len, data.data, len);
            stage->wire_len += len;
            decode_wire(stage);
        } else {
            memcpy(stage->input + stage->input_len, data.data, len);
            stage->input_len += len;
        }
        data = slice_after(data, len);
        play_on(stage);
    }
    if (stage->step->kind == STEP_SLOW_BODY) {
        struct io *io = sim_peer_io(stage->peer);

        sim_peer_pause(conn);
        io_timer_arm(io, &stage->timer, io_now_ns(io) + stage->step->n * 1000000);
    }
}

static void on_peer_end(struct sim_peer_conn *conn, int32_t reason)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));

    io_timer_stop(sim_peer_io(stage->peer), &stage->timer);
    stage->conn = NULL;
}

/* ---- The client ---------------------------------------------------------------------------- */

/* Makes a piece in place of the one that has left, of which nothing may be needed any more. */
static void make_piece(struct stage *stage, unsigned number)
{
    const char *text = stage->scene->pieces[number];
    uint32_t times = stage->scene->piece_times > 0 ? stage->scene->piece_times : 1;
    size_t len = strlen(text);

    if (stage->piece != NULL)
        memset(stage->piece, '#', stage->piece_bytes);
    mem_free(stage->piece);
    stage->piece = mem_alloc(len * times + 1);
    for (uint32_t i = 0; i < times; i++)
        memcpy(stage->piece + i * len, text, len);
    stage->piece_bytes = len * times;
    stage->piece_number = number;
    stage->content = (struct iovec){stage->piece, stage->piece_bytes};
}

static bool has_piece(const struct stage *stage, unsigned number)
{
    return number < SCENE_PIECE_MAX && stage->scene->pieces[number] != NULL;
}

static void give_piece(struct stage *stage)
{
    unsigned number = stage->piece_number + 1;

    if (number == stage->scene->piece_aborts) {
        smtpc_abort(stage->client);
        return;
    }
    make_piece(stage, number);
    stage->play->pieces_given++;
    smtpc_continue(stage->client, &stage->content, 1, has_piece(stage, number + 1));
}

static void on_piece_timer(struct io_timer *timer)
{
    struct stage *stage = container_of(timer, struct stage, piece_timer);

    /* The connection may have ended meanwhile: then nobody wants it any more. */
    if (stage->client != NULL && stage->in_transaction)
        give_piece(stage);
}

static void on_content(struct smtpc *conn, void *context)
{
    struct stage *stage = context;

    assert_ptr_equal(conn, stage->client);
    assert_true(stage->in_transaction && has_piece(stage, stage->piece_number + 1));
    assert_false(io_timer_is_armed(&stage->piece_timer));
    if (stage->scene->piece_ms == 0)
        give_piece(stage);
    else
        io_timer_arm(stage->io, &stage->piece_timer,
                     io_now_ns(stage->io) + stage->scene->piece_ms * 1000000);
}

/* Each transaction begins with the first piece; none of them is sent ahead. */
static void start_pieces(struct stage *stage)
{
    if (stage->scene->pieces[0] == NULL)
        return;
    assert_false(io_timer_is_armed(&stage->piece_timer));
    make_piece(stage, 0);
    stage->transaction.content_count = stage->piece_bytes > 0;
    stage->transaction.content = &stage->content;
    stage->transaction.content_goes_on = true;
}

static void send_next(struct stage *stage)
{
    start_pieces(stage);
    assert_true(smtpc_is_idle(stage->client));
    assert_true(stage->sent_count < SCENE_TRANSACTION_MAX);
    stage->sent_count++;
    stage->in_transaction = true;
    smtpc_send(stage->client, &stage->transaction);
    assert_false(smtpc_is_idle(stage->client));
}

static void on_ready(struct smtpc *conn, void *context)
{
    struct stage *stage = context;
    struct slice text = smtpc_extension_text(conn);

    assert_ptr_equal(conn, stage->client);
    assert_int_equal(stage->play->ready_count, 0);
    stage->play->ready_count++;
    stage->play->extensions = smtpc_extensions(conn);
    stage->play->size_limit = smtpc_size_limit(conn);
    memcpy(stage->play->extension_text, text.data, text.len);
    send_next(stage);
}

static void on_rcpt(struct smtpc *conn, void *context, uint32_t index,
                    const struct verdict *verdict)
{
    struct stage *stage = context;
    unsigned now = stage->play->done_count;

    assert_true(stage->in_transaction);
    assert_true(index < stage->transaction.rcpt_count);
    assert_int_equal(stage->play->told[now][index], 0);
    stage->play->told[now][index] = 1;
    stage->play->verdicts[now][index] = *verdict;
    if (stage->scene->aborts_in_rcpt)
        smtpc_abort(conn);
}

static void on_transaction_done(struct smtpc *conn, void *context, bool may_continue)
{
    struct stage *stage = context;
    uint32_t wanted = stage->scene->transaction_count;

    assert_true(stage->in_transaction);
    for (uint32_t i = 0; i < stage->transaction.rcpt_count; i++)
        assert_int_equal(stage->play->told[stage->play->done_count][i], 1);
    assert_false(may_continue && stage->is_ahead);
    stage->in_transaction = stage->is_ahead;
    stage->is_ahead = false;
    stage->play->done_count++;
    stage->play->continued += may_continue;
    if (!may_continue)
        return;
    assert_true(smtpc_is_idle(conn));
    if (stage->sent_count < (wanted > 0 ? wanted : 1))
        send_next(stage);
    else if (!stage->scene->quits_never)
        smtpc_quit(conn);
}

static void on_returned(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    struct stage *stage = context;

    assert_true(stage->in_transaction);
    if (stage->is_ahead) {
        stage->is_ahead = false;
    } else {
        for (uint32_t i = 0; i < stage->transaction.rcpt_count; i++)
            assert_int_equal(stage->play->told[stage->play->done_count][i], 0);
        stage->in_transaction = false;
    }
    stage->play->returned++;
}

static void on_ending(struct smtpc *conn, void *context)
{
    struct stage *stage = context;

    assert_true(stage->in_transaction && !stage->is_ahead);
    if (!stage->scene->sends_ahead || stage->sent_count >= stage->scene->transaction_count)
        return;
    stage->is_ahead = smtpc_send_ahead(conn, &stage->transaction);
    stage->sent_count += stage->is_ahead;
}

static void on_closed(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    struct stage *stage = context;

    assert_false(stage->in_transaction);
    stage->play->closed_count++;
    stage->play->closed = *verdict;
    if (smtpc_tls(conn) != NULL) {
        snprintf(stage->play->tls_protocol, sizeof(stage->play->tls_protocol), "%s",
                 tls_protocol(smtpc_tls(conn)));
        stage->play->was_distrusted = tls_is_distrusted(smtpc_tls(conn));
    }
    stage->play->transaction_count = smtpc_transaction_count(conn);
    stage->play->lasted_ns = sim_now_ns(stage->world) - stage->started_ns;
    stage->client = NULL;
}

static const struct smtpc_events client_events = {
    .on_ready = on_ready,
    .on_rcpt = on_rcpt,
    .on_transaction_done = on_transaction_done,
    .on_closed = on_closed,
    .on_returned = on_returned,
    .on_ending = on_ending,
    .on_content = on_content,
    .open_tls = open_client_tls,
};

static uint64_t content_bytes_of(const struct scene *scene)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < SCENE_PIECE_MAX && scene->pieces[i] != NULL; i++)
        sum += strlen(scene->pieces[i]) * (scene->piece_times > 0 ? scene->piece_times : 1);
    return sum;
}

static void fill_transaction(struct stage *stage)
{
    const struct scene *scene = stage->scene;
    struct smtpc_transaction *transaction = &stage->transaction;

    *transaction = scene->transaction;
    if (transaction->sender.data == NULL)
        transaction->sender = slice_str("sender@out.example");
    if (transaction->rcpts == NULL) {
        transaction->rcpt_count = scene->rcpt_count > 0 ? scene->rcpt_count : 1;
        for (uint32_t i = 0; i < transaction->rcpt_count; i++) {
            snprintf(stage->rcpt_names[i], sizeof(stage->rcpt_names[i]), "r%u@example.org", i);
            stage->rcpts[i] = slice_str(stage->rcpt_names[i]);
        }
        transaction->rcpts = stage->rcpts;
    }
    if (scene->pieces[0] != NULL) {
        transaction->content_bytes = content_bytes_of(scene);
    } else if (transaction->content == NULL && transaction->may_chunk) {
        stage->content =
            (struct iovec){(void *)(uintptr_t)plain_content, sizeof(plain_content) - 1};
        transaction->content = &stage->content;
        transaction->content_count = 1;
        transaction->content_bytes = sizeof(plain_content) - 1;
    } else if (transaction->content == NULL) {
        stage->content =
            (struct iovec){(void *)(uintptr_t)default_content, sizeof(default_content) - 1};
        transaction->content = &stage->content;
        transaction->content_count = 1;
        if (transaction->content_bytes == 0)
            transaction->content_bytes = sizeof(default_content) - 2; /* one dot is stuffed */
    }
}

static void start_client(void *context)
{
    struct stage *stage = context;

    assert_int_equal(
        smtpc_open(stage->engine, &stage->options, &client_events, stage, &stage->client), 0);
}

static bool is_closed(void *context)
{
    const struct stage *stage = context;

    return stage->play->closed_count > 0;
}

/* ---- The play ------------------------------------------------------------------------------ */

static struct sim_options world_options(bool with_faults)
{
    struct sim_options options = {.latency_min_ns = 20000, .latency_max_ns = 2000000};

    /* Only what TCP may do to anyone, nothing that changes the outcome. */
    if (with_faults)
        options.faults = (struct sim_faults){
            .segment_tiny = 3,
            .read_short = 4,
            .receive_shortage = 20,
            .turn_spurious = 10,
        };
    return options;
}

static void address_of(const char *text, uint16_t port, struct ipaddr_port *ret_at)
{
    assert_int_equal(ipaddr_parse(slice_str(text), &ret_at->ip), 0);
    ret_at->port = port;
}

void stage_play(const struct scene *scene, uint64_t seed, bool with_faults, struct play *ret_play)
{
    static const struct sim_peer_handlers handlers = {
        .on_open = on_peer_open,
        .on_data = on_peer_data,
        .on_end = on_peer_end,
    };
    static struct stage stage;
    struct sim_options options = world_options(with_faults);
    struct ipaddr_port source;
    struct ipaddr_port target;
    uint64_t blocks;

    memset(&stage, 0, sizeof(stage));
    memset(ret_play, 0, sizeof(*ret_play));
    stage.play = ret_play;
    stage.scene = scene;
    ret_play->scene = scene;
    ret_play->body_hash = STAGE_HASH_START;
    stage.step = scene->steps;
    stage.world = sim_world_create(seed, &options);
    address_of("192.0.2.1", 0, &source);
    stage.options.source = source.ip;
    address_of("198.51.100.1", 25, &target);
    stage.options.target = target;
    stage.options.helo = "out.example";
    if (scene->tune != NULL)
        scene->tune(&stage.options);
    if (scene->weather != NULL)
        scene->weather(stage.world);
    fill_transaction(&stage);
    stage.peer = sim_peer_listen(stage.world, &target, &handlers, &stage);
    if (scene->tls_server != NULL) {
        sim_enter(sim_peer_process(stage.peer));
        make_peer_tls(&stage);
        sim_leave(sim_peer_process(stage.peer));
    }
    stage.process = sim_process_create(stage.world);
    sim_enter(stage.process);
    sim_io_create(stage.world, stage.process, &stage.io);
    sim_leave(stage.process);
    blocks = sim_mem_blocks(stage.process);
    sim_enter(stage.process);
    stage.engine = smtpc_engine_create(stage.io, 4);
    make_client_tls(&stage);
    sim_leave(stage.process);
    stage.started_ns = sim_now_ns(stage.world);
    io_timer_init(&stage.piece_timer, on_piece_timer);
    sim_run_in(stage.process, start_client, &stage);
    sim_run_until(stage.world, is_closed, &stage, PATIENCE_NS, PATIENCE);
    if (stage.client != NULL && scene->quits_never) {
        sim_enter(stage.process);
        smtpc_abort(stage.client);
        sim_leave(stage.process);
        sim_run_until(stage.world, is_closed, &stage, PATIENCE_NS, PATIENCE);
    }
    assert_int_equal(ret_play->closed_count, 1);
    /* Let the last words arrive at the receiver. */
    sim_run_for(stage.world, 10 * SECOND_NS);
    ret_play->script_ended = stage.step->kind == STEP_END;
    assert_int_equal(smtpc_engine_open_count(stage.engine), 0);
    assert_int_equal(sim_fd_count(stage.process), 0);
    sim_enter(stage.process);
    io_timer_stop(stage.io, &stage.piece_timer);
    mem_free(stage.piece);
    smtpc_engine_destroy(stage.engine);
    tls_context_free(stage.client_tls_context);
    tls_engine_destroy(stage.client_tls_engine);
    sim_leave(stage.process);
    sim_enter(sim_peer_process(stage.peer));
    drop_peer_tls(&stage);
    sim_leave(sim_peer_process(stage.peer));
    assert_true(sim_mem_blocks(stage.process) == blocks);
    sim_world_destroy(stage.world);
}

static void print_play(const struct play *play, uint64_t seed)
{
    print_error("%s, seed %llu: ready %u, done %u (%u continued), returned %u, pieces %u, %.3f s, "
                "%s %s\n",
                play->scene->name, (unsigned long long)seed, play->ready_count, play->done_count,
                play->continued, play->returned, play->pieces_given, (double)play->lasted_ns / 1e9,
                play->script_ended ? "script ended" : "script not ended", play->trouble);
    for (unsigned t = 0; t < play->done_count; t++) {
        for (unsigned i = 0; i < 4 && play->told[t][i]; i++)
            print_error("  [%u] rcpt %u: class %u stage %u scope %u flags %u: %.*s\n", t, i,
                        play->verdicts[t][i].class, play->verdicts[t][i].stage,
                        play->verdicts[t][i].scope, play->verdicts[t][i].flags,
                        (int)play->verdicts[t][i].text_bytes, play->verdicts[t][i].text);
    }
    print_error("  closed: class %u stage %u scope %u flags %u: %.*s\n", play->closed.class,
                play->closed.stage, play->closed.scope, play->closed.flags,
                (int)play->closed.text_bytes, play->closed.text);
}

static bool is_played(const struct play *play)
{
    const struct scene *scene = play->scene;

    return play->trouble[0] == '\0' && play->script_ended &&
           play->ready_count == scene->ready_count && play->done_count == scene->done_count &&
           play->continued == scene->continued && play->returned == scene->returned &&
           play->pieces_given == scene->pieces_given &&
           play->lasted_ns >= scene->seconds_min * SECOND_NS &&
           (scene->seconds_max == 0 || play->lasted_ns <= scene->seconds_max * SECOND_NS);
}

/* Whatever was said, there are words for the accounting file; they say what is in doubt, and what
 * ended by its time. */
static bool fits(const struct expected_verdict *expected, const struct verdict *verdict)
{
    bool says_doubt = memmem(verdict->text, verdict->text_bytes, "in doubt", 8) != NULL;
    bool says_time = memmem(verdict->text, verdict->text_bytes, "no answer in time", 17) != NULL;
    int flags = verdict->flags & ~VERDICT_TIMED_OUT;

    return says_doubt == ((verdict->flags & VERDICT_IN_DOUBT) != 0) && verdict->text_bytes > 0 &&
           says_time == ((verdict->flags & VERDICT_TIMED_OUT) != 0) &&
           verdict->text_bytes <= VERDICT_TEXT_MAX && verdict->class == expected->class &&
           (expected->code == ANY || verdict->code == expected->code) &&
           (expected->stage == ANY || verdict->stage == expected->stage) &&
           (expected->scope == ANY || verdict->scope == expected->scope) &&
           (expected->flags == ANY || flags == expected->flags);
}

/* The last row stands for the rest. */
static bool all_fit(const struct expected_verdict *expected, const struct verdict *verdicts,
                    uint32_t rcpt_count)
{
    unsigned row = 0;

    for (uint32_t i = 0; i < rcpt_count; i++) {
        if (!fits(&expected[row], &verdicts[i]))
            return false;
        if (row < 3 && expected[row + 1].code != 0)
            row++;
    }
    return true;
}

void stage_check(const struct scene *scene, uint64_t seed, bool with_faults)
{
    static struct play play;
    uint32_t rcpt_count =
        scene->transaction.rcpts != NULL ? scene->transaction.rcpt_count : scene->rcpt_count;
    bool is_fit = true;

    stage_play(scene, seed, with_faults, &play);
    if (rcpt_count == 0)
        rcpt_count = 1;
    is_fit = is_played(&play) && fits(&scene->closed, &play.closed);
    if (play.done_count > 0)
        is_fit = is_fit && all_fit(scene->rcpts, play.verdicts[0], rcpt_count);
    if (scene->second[0].code != 0)
        is_fit =
            is_fit && play.done_count > 1 && all_fit(scene->second, play.verdicts[1], rcpt_count);
    if (!is_fit)
        print_play(&play, seed);
    assert_true(is_fit);
}

void stage_check_all(const struct scene *scenes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        stage_check(&scenes[i], 1, false);
        for (uint64_t seed = 2; seed < FAULTY_SEEDS && !scenes[i].is_cut_sensitive; seed++)
            stage_check(&scenes[i], seed, true);
    }
}
