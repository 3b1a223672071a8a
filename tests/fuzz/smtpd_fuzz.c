/*
 * The SMTP server in the simulator against one client that says anything. The first octet chooses
 * the source's settings and whether the network cuts the octets up. Whatever is said: the server
 * ends with no message open and nothing of the client left, replies are lines of printable ASCII,
 * and no message that was taken can be two messages for the next hop.
 */
#include "core/base/must.h"
#include "net/smtpd.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_peer.h"
#include "tests/unit/net/fake_intake.h"

#include <string.h>

#define S(n) ((uint64_t)(n)*1000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum choice {
    CHOOSE_FIX = 1,
    CHOOSE_NO_CHUNKING = 2,
    CHOOSE_SMALL = 4,
    CHOOSE_CRUMBLED = 8,
    CHOOSE_LATE_ANSWERS = 16,
};

/* What the client saw. */
struct seen {
    struct sim_peer_conn *conn;
    struct slice says;
    bool greeted;
    uint8_t last;
};

static void on_data(struct sim_peer_conn *conn, struct slice data)
{
    struct seen *seen = sim_peer_data(conn);

    for (size_t i = 0; i < data.len; i++) {
        uint8_t octet = data.data[i];

        must((octet >= ' ' && octet <= '~') || octet == '\r' || octet == '\n');
        must((octet == '\n') == (seen->last == '\r'));
        seen->last = octet;
    }
    if (!seen->greeted)
        sim_peer_send(conn, seen->says.data, seen->says.len);
    seen->greeted = true;
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    struct seen *seen = sim_peer_data(conn);

    seen->conn = NULL;
}

static void check_message(const struct fake_message *m)
{
    must(m->rcpt_count > 0);
    for (size_t at = 0; at < m->body_bytes; at++) {
        bool behind_cr = at > 0 && m->body[at - 1] == '\r';
        bool at_start = at == 0 || m->body[at - 1] == '\n';

        must(m->body[at] != 0);
        must((m->body[at] == '\n') == behind_cr);
        must(!at_start || m->body[at] != '.' ||
             (at + 1 < m->body_bytes && m->body[at + 1] != '\r'));
    }
    must(m->body_bytes == 0 || m->body[m->body_bytes - 1] == '\n');
}

static void on_stopped(void *context)
{
    *(bool *)context = true;
}

static void configure(struct fake_intake *fake, struct sim_world *world, unsigned choices)
{
    fake_intake_init(fake);
    if ((choices & CHOOSE_FIX) != 0)
        fake->source.bad_line_ends = CONF_LINE_ENDS_FIX;
    fake->source.allow_chunking = (choices & CHOOSE_NO_CHUNKING) == 0;
    fake->hold_answers = (choices & CHOOSE_LATE_ANSWERS) != 0;
    if ((choices & CHOOSE_SMALL) != 0) {
        fake->source.max_message_bytes = 100;
        fake->source.max_rcpt_per_message = 2;
    }
    if ((choices & CHOOSE_CRUMBLED) != 0) {
        sim_faults(world)->segment_tiny = 2;
        sim_faults(world)->read_short = 2;
    }
}

static void converse(struct sim_world *world, struct sim_process *process, struct fake_intake *fake,
                     struct seen *seen)
{
    static const struct sim_peer_handlers handlers = {.on_data = on_data, .on_end = on_end};
    struct ipaddr_port at = {.ip = {.family = IPADDR_V4, .bytes = {192, 0, 2, 1}}, .port = 25};
    struct smtpd_options options = {.host_name = "mx.example", .session_count_max = 4};
    struct sim_peer *peer = sim_peer_create(world, &handlers, seen);
    struct smtpd *server;
    bool stopped = false;
    struct io *io;
    int fd = -1;

    sim_io_create(world, process, &io);
    sim_enter(process);
    server = smtpd_create(io, &options, &fake_intake_ops, fake);
    must(io_listen(io, &at, 8, &fd) == 0 && smtpd_listen(server, fd, NULL) == 0);
    sim_leave(process);
    seen->conn = sim_peer_connect(peer, &at.ip, &at);
    sim_peer_set_data(seen->conn, seen);
    for (unsigned round = 0; round < 10; round++) {
        sim_run_for(world, S(2));
        sim_enter(process);
        while (fake->waiting > 0)
            fake_answer(fake, round % 3 == 2 ? 451 : 250);
        sim_leave(process);
    }
    if (seen->conn != NULL)
        sim_peer_drop(seen->conn);
    sim_run_for(world, S(5));
    must(fake->admitted_now == 0 && fake->begun == fake->aborted + fake->finished);
    sim_enter(process);
    smtpd_stop(server, on_stopped, &stopped);
    sim_leave(process);
    sim_run_for(world, S(5));
    must(stopped);
    sim_enter(process);
    smtpd_destroy(server);
    io_close_now(io, fd);
    for (uint32_t i = 0; i < fake->message_count && i < FAKE_MESSAGE_COUNT_MAX; i++)
        check_message(&fake->messages[i]);
    fake_intake_fini(fake);
    sim_leave(process);
    must(sim_mem_blocks(process) == 0 && sim_fd_count(process) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct fake_intake fake;
    struct sim_options options = {.latency_min_ns = 1000, .latency_max_ns = 100000};
    struct sim_world *world;
    struct seen seen = {0};

    if (len == 0)
        return 0;
    world = sim_world_create(data[0], &options);
    configure(&fake, world, data[0]);
    seen.says = slice_of(data + 1, len - 1);
    converse(world, sim_process_create(world), &fake, &seen);
    sim_world_destroy(world);
    return 0;
}
