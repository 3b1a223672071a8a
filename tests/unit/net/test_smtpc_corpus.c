/*
 * Scripted servers of public origin (shared/corpora/hostile-servers), as far as they apply without
 * TLS: the client never says STARTTLS, so the accepted outcomes of the policy "may" hold, and none
 * of what must never be on the wire may be there.
 */
#include "net/smtpc.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_peer.h"

#include "tests/unit/core_base/unit.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define HOUR_NS 3600000000000ull

struct corpus_run {
    json_t *script;
    struct sim_world *world;
    struct smtpc_engine *engine;
    struct smtpc *client;
    struct smtpc_options options;
    struct smtpc_transaction transaction;
    struct iovec content;
    struct slice rcpt;
    bool reads_body;   /* the server is behind its 354 */
    bool saw_body;     /* message text that nobody asked for would be an unknown command */
    unsigned strange;  /* commands that the client has no business to say */
    unsigned messages; /* bodies that arrived */
    unsigned quits;
    unsigned closed_count;
    enum verdict_class outcome;
};

/* ---- The server ---------------------------------------------------------------------------- */

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    assert_non_null(text);
    return text;
}

static json_t *step_for(struct corpus_run *run, struct slice verb)
{
    size_t index;
    json_t *step;

    json_array_foreach(json_object_get(run->script, "steps"), index, step)
    {
        if (strcmp(text_of(step, "when"), "tls") != 0 &&
            slice_equal_nocase(verb, slice_str(text_of(step, "expect"))))
            return step;
    }
    return NULL;
}

static bool is_known(struct slice verb)
{
    static const char *const verbs[] = {"EHLO", "HELO", "MAIL", "RCPT",
                                        "DATA", "RSET", "QUIT", "<end of message>"};

    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (slice_equal(verb, slice_str(verbs[i])))
            return true;
    }
    return false;
}

static void answer(struct corpus_run *run, struct sim_peer_conn *conn, struct slice verb)
{
    json_t *step = step_for(run, verb);
    const char *then;

    run->strange += !is_known(verb);
    run->quits += slice_equal(verb, SLICE_LITERAL("QUIT"));
    if (step == NULL) {
        sim_peer_printf(conn, "500 what\r\n");
        return;
    }
    sim_peer_printf(conn, "%s", text_of(step, "send"));
    then = text_of(step, "then");
    run->reads_body = strcmp(then, "read-until-dot") == 0;
    if (strcmp(then, "close") == 0)
        sim_peer_close(conn);
}

static void on_peer_open(struct sim_peer_conn *conn)
{
    struct corpus_run *run = sim_peer_context(sim_peer_of(conn));

    sim_peer_printf(conn, "%s", text_of(run->script, "greeting"));
}

static void on_peer_line(struct sim_peer_conn *conn, struct slice line)
{
    struct corpus_run *run = sim_peer_context(sim_peer_of(conn));
    size_t verb_len = slice_find(line, ' ');

    if (!run->reads_body) {
        answer(run, conn, slice_of(line.data, verb_len));
    } else if (slice_equal(line, SLICE_LITERAL("."))) {
        run->reads_body = false;
        run->messages++;
        answer(run, conn, SLICE_LITERAL("<end of message>"));
    }
}

/* ---- The client ---------------------------------------------------------------------------- */

static void on_ready(struct smtpc *conn, void *context)
{
    struct corpus_run *run = context;

    smtpc_send(conn, &run->transaction);
}

static void on_rcpt(struct smtpc *conn, void *context, uint32_t index,
                    const struct verdict *verdict)
{
    struct corpus_run *run = context;

    run->outcome = verdict->class;
}

static void on_transaction_done(struct smtpc *conn, void *context, bool may_continue)
{
    if (may_continue)
        smtpc_quit(conn);
}

/* Where one transaction is sent at most, or nothing fails. */
static void on_returned(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    fail_msg("a transaction came back");
}

static void on_closed(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    struct corpus_run *run = context;

    run->closed_count++;
    run->client = NULL;
    if (verdict->class != VERDICT_SUCCESS)
        run->outcome = verdict->class;
}

static bool is_closed(void *context)
{
    const struct corpus_run *run = context;

    return run->closed_count > 0;
}

/* ---- The play ------------------------------------------------------------------------------ */

static void play(struct corpus_run *run, uint64_t seed)
{
    static const struct smtpc_events events = {on_ready, on_rcpt, on_transaction_done, on_closed,
                                               on_returned};
    static const struct sim_peer_handlers handlers = {.on_open = on_peer_open,
                                                      .on_line = on_peer_line};
    static char content[] = "Subject: hi\r\n\r\nRSET\r\n";
    struct sim_options options = {.faults = {.segment_tiny = 3, .read_short = 4}};
    struct sim_process *process;
    struct io *io;

    run->world = sim_world_create(seed, &options);
    assert_int_equal(ipaddr_parse(slice_str("192.0.2.1"), &run->options.source), 0);
    assert_int_equal(ipaddr_parse(slice_str("192.0.2.2"), &run->options.target.ip), 0);
    run->options.target.port = 25;
    run->options.helo = "out.example";
    run->content = (struct iovec){content, sizeof(content) - 1};
    run->rcpt = slice_str("r@example.org");
    run->transaction = (struct smtpc_transaction){
        .sender = slice_str("s@out.example"),
        .rcpts = &run->rcpt,
        .rcpt_count = 1,
        .content = &run->content,
        .content_count = 1,
        .content_bytes = sizeof(content) - 1,
    };
    sim_peer_listen(run->world, &run->options.target, &handlers, run);
    process = sim_process_create(run->world);
    sim_io_create(run->world, process, &io);
    sim_enter(process);
    run->engine = smtpc_engine_create(io, 1);
    assert_int_equal(smtpc_open(run->engine, &run->options, &events, run, &run->client), 0);
    sim_leave(process);
    sim_run_until(run->world, is_closed, run, HOUR_NS, 1000000);
    assert_int_equal(run->closed_count, 1);
    sim_enter(process);
    smtpc_engine_destroy(run->engine);
    sim_leave(process);
    sim_world_destroy(run->world);
}

static bool is_accepted(json_t *script, enum verdict_class outcome)
{
    static const char *const names[] = {
        [VERDICT_SUCCESS] = "delivered",
        [VERDICT_TRANSIENT] = "deferred",
        [VERDICT_PERMANENT] = "bounced",
    };
    json_t *accepted = json_object_get(json_object_get(script, "outcome"), "may");
    size_t index;
    json_t *name;

    json_array_foreach(accepted, index, name)
    {
        if (strcmp(json_string_value(name), names[outcome]) == 0)
            return true;
    }
    return false;
}

static void check_script(const char *name, json_t *script)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct corpus_run run = {.script = script, .outcome = VERDICT_TRANSIENT};

        play(&run, seed);
        if (!is_accepted(script, run.outcome) || run.strange > 0 || run.quits > 1)
            print_error("%s: outcome %d, %u strange commands, %u QUIT\n", name, (int)run.outcome,
                        run.strange, run.quits);
        assert_true(is_accepted(script, run.outcome));
        assert_int_equal(run.strange, 0);
        assert_true(run.quits <= 1);
        assert_int_equal(run.outcome == VERDICT_SUCCESS, run.messages == 1);
    }
}

static void hostile_servers_corpus(void **state)
{
    DIR *folder = opendir(HOSTILE_SERVERS);
    unsigned count = 0;

    if (folder == NULL) {
        print_message("SKIPPED: no corpus at %s\n", HOSTILE_SERVERS);
        skip();
    }
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char path[1024];
        json_error_t error;
        json_t *script;

        if (strstr(entry->d_name, ".json") == NULL)
            continue;
        snprintf(path, sizeof(path), "%s/%s", HOSTILE_SERVERS, entry->d_name);
        script = json_load_file(path, 0, &error);
        assert_non_null(script);
        if (!json_is_true(json_object_get(script, "implicit_tls"))) {
            check_script(entry->d_name, script);
            count++;
        }
        json_decref(script);
    }
    closedir(folder);
    print_message("%u scripts\n", count);
    assert_true(count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_servers_corpus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
