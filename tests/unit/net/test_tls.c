/*
 * TLS over streams in the simulator: client and server against each other, whole octets through
 * crumbled segments, certificates that are no good, ends, damage, resumption, the budget of steps
 * and the memory of an idle connection.
 */
#include "net/tls.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"
#include "tests/unit/net/tls_paper.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#define S(n)       ((uint64_t)(n)*1000000000)
#define BYTES_MAX  200000
#define PAIR_COUNT 200
#define PAPERS_MAX 1024
#define NAME       "mx.example.net"

/* One end of a connection. It sends `out` once it is secured. */
struct end {
    struct stream stream;
    struct tls *tls;
    struct tls_context *context;
    struct io_timer close_timer;
    struct iovec iov[2];
    uint8_t *out;
    uint8_t *in;
    size_t out_bytes;
    size_t in_bytes;
    int32_t end_reason;
    int32_t send_result;
    bool is_open;
    bool is_secured;
    bool has_ended;
    bool is_closed;
    bool is_plain;
};

struct pair {
    struct end client;
    struct end server;
    struct io_op connect_op;
    int connect_fd;
};

static struct sim_world *world;
static struct sim_process *process;
static struct io *io;
static struct tls_engine *engine;
static struct tls_context *client_context, *server_context;
static struct pair pairs[PAIR_COUNT];
static struct io_accept accept_op;
static uint32_t pair_count, accepted_count;
static int listen_fd;
static uint8_t content[2][BYTES_MAX];
static const struct stream_transform *transform;

/* ---- Ends ------------------------------------------------------------------------------------ */

static void send_all(struct end *end)
{
    size_t half = end->out_bytes / 2;

    if (end->out_bytes == 0)
        return;
    end->iov[0] = (struct iovec){end->out, half};
    end->iov[1] = (struct iovec){end->out + half, end->out_bytes - half};
    stream_send(&end->stream, end->iov, 2);
}

static void on_secured(struct tls *tls, void *owner)
{
    struct end *end = owner;

    assert_false(end->is_secured);
    end->is_secured = true;
    send_all(end);
}

static const struct tls_events tls_events = {.on_secured = on_secured};

static size_t on_data(struct stream *stream, const uint8_t *data, size_t len)
{
    struct end *end = container_of(stream, struct end, stream);

    assert_true((end->is_secured || end->is_plain) && !end->has_ended);
    assert_true(end->in_bytes + len <= BYTES_MAX);
    if (end->in != NULL)
        memcpy(end->in + end->in_bytes, data, len);
    end->in_bytes += len;
    return len;
}

static void on_sent(struct stream *stream, int32_t result)
{
    container_of(stream, struct end, stream)->send_result = result;
}

static void on_end(struct stream *stream, int32_t reason)
{
    struct end *end = container_of(stream, struct end, stream);

    assert_false(end->has_ended);
    end->has_ended = true;
    end->end_reason = reason;
}

static void on_closed(struct stream *stream)
{
    container_of(stream, struct end, stream)->is_closed = true;
}

static const struct stream_events events = {
    .on_data = on_data,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_closed = on_closed,
};

static void open_end(struct end *end, struct tls_context *context, int fd)
{
    end->context = context;
    end->is_open = true;
    stream_open(&end->stream, io, fd, &events);
    if (end->is_plain) {
        send_all(end);
        return;
    }
    assert_int_equal(
        tls_open(context, context == client_context ? NAME : NULL, 25, &tls_events, end, &end->tls),
        0);
    assert_int_equal(stream_set_transform(&end->stream, transform, end->tls), 0);
}

static void on_connected(struct io_op *op, int32_t result)
{
    struct pair *pair = container_of(op, struct pair, connect_op);

    assert_int_equal(result, 0);
    open_end(&pair->client, client_context, pair->connect_fd);
}

static void on_accept(struct io_accept *accept, int32_t fd)
{
    if (fd >= 0)
        open_end(&pairs[accepted_count++].server, server_context, fd);
}

/* ---- The world ------------------------------------------------------------------------------- */

static void make_world(uint64_t seed, bool is_crumbled)
{
    struct sim_options options = {.faults = sim_faults_none()};
    struct ipaddr_port at = {.port = 25};
    struct rng rng;

    world = sim_world_create(seed, &options);
    if (is_crumbled) {
        sim_faults(world)->segment_tiny = 4;
        sim_faults(world)->read_short = 4;
        sim_faults(world)->loop_stalled = 200;
    }
    rng_init(&rng, seed);
    for (size_t i = 0; i < BYTES_MAX; i++) {
        content[0][i] = (uint8_t)rng_u64(&rng);
        content[1][i] = (uint8_t)rng_u64(&rng);
    }
    memset(pairs, 0, sizeof(pairs));
    pair_count = 0;
    accepted_count = 0;
    transform = &tls_transform;
    assert_int_equal(ipaddr_parse(SLICE_LITERAL("192.0.2.1"), &at.ip), 0);
    process = sim_process_create(world);
    sim_io_create(world, process, &io);
    sim_enter(process);
    engine = tls_engine_create(io);
    assert_non_null(engine);
    assert_int_equal(io_listen(io, &at, PAIR_COUNT, &listen_fd), 0);
    accept_op = (struct io_accept){.on_accept = on_accept};
    io_accept_start(io, &accept_op, listen_fd);
    sim_leave(process);
}

static struct tls_context *make_context(const struct tls_settings *settings)
{
    struct tls_context *context = NULL;
    char why[TLS_WHY_MAX] = "";

    sim_enter(process);
    if (tls_context_create(engine, settings, why, &context) < 0)
        fail_msg("%s", why);
    sim_leave(process);
    return context;
}

static int64_t world_now_s(void)
{
    return (int64_t)(io_wall_us(io) / 1000000);
}

static struct tls_certificate *certificates[PAPERS_MAX];
static struct tls_authorities *authorities;
static uint32_t certificate_count;

/* Lives until free_papers. */
static struct tls_certificate *certificate_of(struct slice pem)
{
    char why[TLS_WHY_MAX] = "";
    struct tls_certificate **room = &certificates[certificate_count++];

    assert_true(certificate_count <= PAPERS_MAX);
    if (tls_certificate_parse(pem, NULL, true, room, why) < 0)
        fail_msg("%s", why);
    return *room;
}

static struct tls_certificate *good_paper(void)
{
    struct paper_wish wish = {.name = NAME, .until_s = 4000000000};

    return certificate_of(paper_make(&wish));
}

static struct tls_authorities *paper_trust(void)
{
    char why[TLS_WHY_MAX];

    if (authorities == NULL)
        assert_int_equal(tls_authorities_parse(paper_authority(), &authorities, why), 0);
    return authorities;
}

static void free_papers(void)
{
    while (certificate_count > 0)
        tls_certificate_free(certificates[--certificate_count]);
    tls_authorities_free(authorities);
    authorities = NULL;
}

static void use_contexts(const struct tls_settings *client, const struct tls_settings *server)
{
    client_context = make_context(client);
    server_context = make_context(server);
}

static struct pair *connect_pair(void)
{
    struct pair *pair = &pairs[pair_count++];
    struct ipaddr_port at = {.port = 25};

    sim_enter(process);
    assert_int_equal(ipaddr_parse(SLICE_LITERAL("192.0.2.1"), &at.ip), 0);
    assert_int_equal(io_socket_open(io, &at.ip, &pair->connect_fd), 0);
    io_op_init(&pair->connect_op, on_connected);
    io_connect(io, &pair->connect_op, pair->connect_fd, &at);
    sim_leave(process);
    return pair;
}

static void on_close_time(struct io_timer *timer)
{
    struct end *end = container_of(timer, struct end, close_timer);

    stream_close(&end->stream);
}

/* In the next turn, whose clock is right. */
static void close_end(struct end *end)
{
    if (!end->is_open || end->stream.closing)
        return;
    sim_enter(process);
    io_timer_init(&end->close_timer, on_close_time);
    io_timer_arm(io, &end->close_timer, 0);
    sim_leave(process);
}

static void close_pairs(void)
{
    for (uint32_t i = 0; i < pair_count; i++) {
        close_end(&pairs[i].client);
        close_end(&pairs[i].server);
    }
    sim_run_for(world, S(20));
    sim_enter(process);
    for (uint32_t i = 0; i < pair_count; i++) {
        assert_true(!pairs[i].client.is_open || pairs[i].client.is_closed);
        assert_true(!pairs[i].server.is_open || pairs[i].server.is_closed);
        tls_close(pairs[i].client.tls);
        tls_close(pairs[i].server.tls);
    }
    sim_leave(process);
    memset(pairs, 0, sizeof(pairs));
    pair_count = 0;
    accepted_count = 0;
}

static void finish(void)
{
    close_pairs();
    sim_enter(process);
    tls_context_free(client_context);
    tls_context_free(server_context);
    tls_engine_destroy(engine);
    sim_leave(process);
    assert_int_equal(sim_mem_blocks(process), 0);
    sim_world_destroy(world);
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void octets_arrive_whole_in_both_directions(void **state)
{
    static const unsigned versions[] = {TLS_VERSION_1_2, TLS_VERSION_1_3, 0};
    static const char *const names[] = {"TLSv1.2", "TLSv1.3", "TLSv1.3"};
    static uint8_t in[2][BYTES_MAX];

    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct tls_settings client = {.versions = versions[seed % 3]};
        struct tls_settings server = {.is_server = true, .certificate = good_paper()};
        struct pair *pair;

        make_world(seed, seed % 2 == 0);
        use_contexts(&client, &server);
        pair = connect_pair();
        pair->client.out = content[0];
        pair->client.in = in[0];
        pair->server.out = content[1];
        pair->server.in = in[1];
        pair->client.out_bytes = BYTES_MAX;
        pair->server.out_bytes = BYTES_MAX;
        sim_run_for(world, S(200));
        assert_int_equal(pair->client.in_bytes, BYTES_MAX);
        assert_int_equal(pair->server.in_bytes, BYTES_MAX);
        assert_memory_equal(pair->client.in, content[1], BYTES_MAX);
        assert_memory_equal(pair->server.in, content[0], BYTES_MAX);
        assert_int_equal(pair->client.send_result, BYTES_MAX);
        assert_string_equal(tls_protocol(pair->client.tls), names[seed % 3]);
        assert_string_equal(tls_cipher(pair->client.tls), tls_cipher(pair->server.tls));
        assert_string_not_equal(tls_cipher(pair->client.tls), "");
        assert_false(pair->client.has_ended || pair->server.has_ended);
        finish();
    }
}

static void certificates_are_checked_where_it_is_asked_for(void **state)
{
    static const struct {
        const char *name;
        int64_t from_s; /* from now */
        int64_t until_s;
        bool is_self_signed;
        const char *failure; /* "" = trusted */
    } cases[] = {
        {NAME, -1000, 1000000, false, ""},
        {"*.example.net", -1000, 1000000, false, ""},
        {NAME, -1000, 1000000, true, "self signed certificate"},
        {NAME, -1000, -10, false, "certificate has expired"},
        {NAME, 1000, 1000000, false, "certificate is not yet valid"},
        {"mx.example.org", -1000, 1000000, false, "Hostname mismatch"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) * 3; i++) {
        const char *failure = cases[i / 3].failure;
        bool verifies = i % 3 != 0, pardons = i % 3 == 2;
        struct tls_settings client = {
            .verifies = verifies, .pardons = pardons, .authorities = paper_trust()};
        struct tls_settings server = {.is_server = true};
        struct paper_wish wish = {.name = cases[i / 3].name,
                                  .is_self_signed = cases[i / 3].is_self_signed};
        bool is_fine = !verifies || pardons || failure[0] == '\0';
        struct pair *pair;

        make_world(i + 1, false);
        wish.from_s = world_now_s() + cases[i / 3].from_s;
        wish.until_s = world_now_s() + cases[i / 3].until_s;
        server.certificate = certificate_of(paper_make(&wish));
        use_contexts(&client, &server);
        pair = connect_pair();
        sim_run_for(world, S(5));
        assert_int_equal(pair->client.is_secured, is_fine);
        assert_int_equal(tls_is_distrusted(pair->client.tls), verifies && failure[0] != '\0');
        assert_string_equal(tls_failure(pair->client.tls), verifies ? failure : "");
        if (!is_fine) {
            assert_int_equal(pair->client.end_reason, -EPROTO);
            /* The alert has told the server. */
            assert_true(pair->server.has_ended);
            assert_int_equal(pair->server.end_reason, -EPROTO);
        }
        finish();
    }
}

/* The end with a word, and without one. */
static void a_close_notify_tells_an_end_from_a_loss(void **state)
{
    struct stream_transform mute = tls_transform;
    struct tls_settings client = {0};
    struct tls_settings server = {.is_server = true, .certificate = good_paper()};

    mute.finish = NULL;
    for (int speaks = 0; speaks < 2; speaks++) {
        struct pair *pair;

        make_world((uint64_t)speaks + 1, false);
        if (!speaks)
            transform = &mute;
        use_contexts(&client, &server);
        pair = connect_pair();
        pair->client.out = content[0];
        pair->client.out_bytes = 20000;
        sim_run_for(world, S(5));
        assert_int_equal(pair->server.in_bytes, 20000);
        close_end(&pair->client);
        sim_run_for(world, S(5));
        assert_true(pair->server.has_ended);
        assert_int_equal(pair->server.end_reason, speaks ? 0 : E_CUT_OFF);
        finish();
    }
}

static uint32_t damage_after;

/* Turns one bit of what leaves, once so many octets have left. */
static int damaging_encode(void *state, const uint8_t *plain, size_t plain_bytes, size_t *ret_used,
                           uint8_t *wire, size_t wire_room, size_t *ret_wire)
{
    int rc = tls_transform.encode(state, plain, plain_bytes, ret_used, wire, wire_room, ret_wire);

    if (damage_after < *ret_wire) {
        wire[damage_after] ^= 1;
        damage_after = UINT32_MAX;
    } else if (damage_after != UINT32_MAX) {
        damage_after -= (uint32_t)*ret_wire;
    }
    return rc;
}

/* Whatever bit turns, nobody takes an octet that was not sent, and both ends learn of it. */
static void damage_is_never_taken(void **state)
{
    struct stream_transform damaging = tls_transform;
    static uint8_t in[BYTES_MAX];

    damaging.encode = damaging_encode;
    for (uint32_t at = 0; at < 60; at++) {
        struct tls_settings client = {0};
        struct tls_settings server = {.is_server = true, .certificate = good_paper()};
        struct pair *pair;

        make_world(at + 1, false);
        transform = &damaging;
        damage_after = at * 97;
        use_contexts(&client, &server);
        pair = connect_pair();
        pair->client.out = content[0];
        pair->client.out_bytes = 20000;
        pair->server.in = in;
        sim_run_for(world, S(5));
        assert_int_equal(damage_after, UINT32_MAX);
        assert_true(pair->client.has_ended || pair->server.has_ended);
        assert_true(pair->server.in_bytes < 20000);
        assert_memory_equal(in, content[0], pair->server.in_bytes);
        finish();
    }
}

static void plain_words_are_no_handshake(void **state)
{
    static uint8_t words[] = "EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n";
    struct tls_settings client = {0};
    struct tls_settings server = {.is_server = true, .certificate = good_paper()};
    struct pair *pair;

    make_world(1, true);
    use_contexts(&client, &server);
    pair = connect_pair();
    pair->client.is_plain = true;
    pair->client.out = words;
    pair->client.out_bytes = sizeof(words) - 1;
    sim_run_for(world, S(5));
    assert_true(pair->server.has_ended);
    assert_int_equal(pair->server.end_reason, -EPROTO);
    assert_false(pair->server.is_secured);
    finish();
}

/* Sessions are taken up, each of TLS 1.3's once, and not under other settings. */
static void sessions_are_taken_up_again(void **state)
{
    struct tls_settings server = {.is_server = true, .certificate = good_paper()};
    struct tls_settings client = {.resumes = true};
    struct tls_settings strict = {.resumes = true, .verifies = true, .authorities = paper_trust()};
    struct tls_context *opportunistic;
    struct tls_stats stats;
    uint32_t session_count;

    make_world(1, false);
    use_contexts(&client, &server);
    opportunistic = client_context;
    for (int i = 0; i < 3; i++) {
        struct pair *pair = connect_pair();

        /* Tickets leave with the server's first words. */
        pair->server.out = content[1];
        pair->server.out_bytes = 100;
        sim_run_for(world, S(2));
        assert_int_equal(tls_is_resumed(pair->client.tls), i > 0);
        assert_int_equal(tls_is_resumed(pair->server.tls), i > 0);
        close_pairs();
    }
    tls_stats_read(engine, &stats);
    session_count = stats.session_count;
    assert_true(session_count >= 1 && session_count <= 4);
    client_context = make_context(&strict);
    connect_pair();
    sim_run_for(world, S(2));
    assert_true(pairs[0].client.is_secured);
    assert_false(tls_is_resumed(pairs[0].client.tls));
    close_pairs();
    sim_enter(process);
    tls_context_free(opportunistic);
    sim_leave(process);
    finish();
}

static void handshakes_are_spread_over_turns(void **state)
{
    struct tls_settings server = {.is_server = true, .certificate = good_paper()};
    struct tls_settings client = {0};
    struct tls *opened[20];
    struct tls_stats stats;
    uint8_t wire[2048];
    uint32_t begun = 0;

    make_world(1, false);
    use_contexts(&client, &server);
    sim_enter(process);
    for (int i = 0; i < 20; i++) {
        size_t used = 0, filled = 0;
        int rc;

        assert_int_equal(tls_open(client_context, NAME, 25, &tls_events, NULL, &opened[i]), 0);
        rc = tls_transform.encode(opened[i], NULL, 0, &used, wire, sizeof(wire), &filled);
        assert_int_equal(rc, filled > 0 ? 0 : STREAM_LATER);
        begun += filled > 0;
    }
    tls_stats_read(engine, &stats);
    assert_int_equal(begun, 8);
    assert_int_equal(stats.put_off, 12);
    for (int i = 0; i < 20; i++)
        tls_close(opened[i]);
    sim_leave(process);
    /* Who was put off gets its turn. */
    for (int i = 0; i < 60; i++)
        connect_pair();
    sim_run_for(world, S(10));
    for (int i = 0; i < 60; i++)
        assert_true(pairs[i].client.is_secured && pairs[i].server.is_secured);
    finish();
}

/* jemalloc's own door, where it is linked. */
extern int mallctl(const char *name, void *old, size_t *old_bytes, void *set, size_t set_bytes)
    __attribute__((weak));

/* The whole heap, BoringSSL's part included. */
static size_t heap_bytes(void)
{
    uint64_t epoch = 1;
    size_t bytes = 0;
    size_t len = sizeof(bytes);

    if (!mallctl)
        return mallinfo2().uordblks;
    mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
    return mallctl("stats.allocated", &bytes, &len, NULL, 0) == 0 ? bytes : 0;
}

/* Both ends, over many connections that say nothing; the simulator's sockets count too. */
static void an_idle_connection_is_small(void **state)
{
    struct tls_settings server = {.is_server = true, .certificate = good_paper()};
    struct tls_settings client = {0};
    size_t before, each;

    make_world(1, false);
    use_contexts(&client, &server);
    /* What is made once. */
    for (int i = 0; i < 2; i++)
        connect_pair();
    sim_run_for(world, S(5));
    before = heap_bytes();
    for (int i = 2; i < PAIR_COUNT; i++)
        connect_pair();
    sim_run_for(world, S(30));
    for (int i = 0; i < PAIR_COUNT; i++)
        assert_true(pairs[i].client.is_secured && pairs[i].server.is_secured);
    each = (heap_bytes() - before) / (PAIR_COUNT - 2) / 2;
    print_message("%zu bytes an idle end\n", each);
    /* Sanitizers have a heap that cannot be asked. */
    if (before > 0)
        assert_in_range(each, 1000, 12 * 1024);
    finish();
}

static void contexts_say_what_is_wrong(void **state)
{
    struct tls_certificate *paper = good_paper();
    struct tls_context *context = NULL;
    char why[TLS_WHY_MAX];
    const struct {
        struct tls_settings settings;
        const char *why;
    } cases[] = {
        {{.is_server = true}, "a server needs a certificate"},
        {{.ciphers = "NONE-SUCH"},
         "the list of cipher suites has none that is known: "
         "NO_CIPHER_MATCH"},
    };

    make_world(1, false);
    sim_enter(process);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(tls_context_create(engine, &cases[i].settings, why, &context), E_SYNTAX);
        assert_string_equal(why, cases[i].why);
    }
    sim_leave(process);
    use_contexts(&(struct tls_settings){.certificate = paper},
                 &(struct tls_settings){.is_server = true, .certificate = paper});
    finish();
}

/* Of files that a configuration may name by mistake. */
static void certificates_say_what_is_wrong(void **state)
{
    static const char locked[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"
                                 "-----END ENCRYPTED PRIVATE KEY-----\n";
    struct paper_wish wish = {.name = NAME, .until_s = 4000000000};
    struct tls_certificate *certificate = NULL;
    struct tls_authorities *trust = NULL;
    char text[16384], why[TLS_WHY_MAX];
    struct slice leaf = paper_authority();
    struct slice other;
    int len;

    assert_int_equal(tls_certificate_parse(SLICE_LITERAL("nothing"), NULL, true, &certificate, why),
                     E_SYNTAX);
    assert_string_equal(why, "there is no certificate in it: NO_START_LINE");
    assert_int_equal(tls_certificate_parse(leaf, NULL, true, &certificate, why), E_SYNTAX);
    assert_string_equal(why, "there is no private key in it: NO_START_LINE");
    len = snprintf(text, sizeof(text), "%.*s%s", (int)leaf.len, (const char *)leaf.data, locked);
    assert_int_equal(
        tls_certificate_parse(slice_of(text, (size_t)len), NULL, true, &certificate, why),
        E_SYNTAX);
    assert_non_null(strstr(why, "the private key needs a password"));
    assert_int_equal(
        tls_certificate_parse(slice_of(text, (size_t)len), "x", true, &certificate, why), E_SYNTAX);
    assert_non_null(strstr(why, "the password is not that of the private key"));
    /* The key behind another's certificate. */
    len = snprintf(text, sizeof(text), "%.*s", (int)leaf.len, (const char *)leaf.data);
    other = paper_make(&wish);
    len += snprintf(text + len, sizeof(text) - (size_t)len, "%.*s", (int)other.len,
                    (const char *)other.data);
    assert_int_equal(
        tls_certificate_parse(slice_of(text, (size_t)len), NULL, true, &certificate, why),
        E_SYNTAX);
    assert_non_null(strstr(why, "the private key does not belong to the first certificate"));
    assert_null(certificate);
    /* A user's has no key here. */
    assert_int_equal(tls_certificate_parse(paper_authority(), NULL, false, &certificate, why), 0);
    tls_certificate_free(certificate);
    assert_int_equal(tls_authorities_parse(SLICE_EMPTY, &trust, why), E_SYNTAX);
    assert_string_equal(why, "there is no certificate of an authority in it: NO_START_LINE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(octets_arrive_whole_in_both_directions),
        cmocka_unit_test(certificates_are_checked_where_it_is_asked_for),
        cmocka_unit_test(a_close_notify_tells_an_end_from_a_loss),
        cmocka_unit_test(damage_is_never_taken),
        cmocka_unit_test(plain_words_are_no_handshake),
        cmocka_unit_test(sessions_are_taken_up_again),
        cmocka_unit_test(handshakes_are_spread_over_turns),
        cmocka_unit_test(an_idle_connection_is_small),
        cmocka_unit_test(contexts_say_what_is_wrong),
        cmocka_unit_test(certificates_say_what_is_wrong),
    };
    int failures;

    failures = cmocka_run_group_tests(tests, NULL, NULL);
    free_papers();
    paper_end();
    return failures;
}
