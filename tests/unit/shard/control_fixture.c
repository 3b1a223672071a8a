#include "tests/unit/shard/control_fixture.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/tls_report_mail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char conf_text[] = "host-name mail.example.com\n"
                                "control-socket " SOCKET_PATH "\n"
                                "total-max-smtp-in 100\n"
                                "total-max-smtp-out 1200\n"
                                "<spool /spool>\n"
                                "</spool>\n"
                                "<virtual-mta mta1>\n"
                                "  smtp-source-host 127.0.0.1 mta1.example.com\n"
                                "</virtual-mta>\n"
                                "<virtual-mta mta2>\n"
                                "  smtp-source-host 127.0.0.2 mta2.example.com\n"
                                "  <domain *.example>\n"
                                "    max-smtp-out 7\n"
                                "  </domain>\n"
                                "</virtual-mta>\n"
                                "<domain handed.test>\n"
                                "  queue-to a.example\n"
                                "</domain>\n"
                                "<domain turned.test>\n"
                                "  reroute-to-virtual-mta news\n"
                                "</domain>\n"
                                "<virtual-mta-pool news>\n"
                                "  virtual-mta mta1\n"
                                "  virtual-mta mta2\n"
                                "</virtual-mta-pool>\n";
static const char acct_text[] = "<acct-file /acct/acct.csv>\n"
                                "  records d,b,t\n"
                                "</acct-file>\n";

const struct ip_source *fixture_ip_source;
const char *fixture_config_path;
const struct fake_record *fixture_records;

/* ---- What the rooms around would define ------------------------------------------------------ */

struct spool_cursor {
    struct spool *spool;
    uint32_t at;
    uint8_t record[OUTCOME_BYTES_MAX];
};

enum spool_health spool_health(const struct spool *spool)
{
    return spool->health;
}

void spool_trouble_read(const struct spool *spool, struct spool_trouble *ret_trouble)
{
    *ret_trouble = spool->trouble;
    ret_trouble->health = spool->health;
}

void spool_stats_read(const struct spool *spool, struct spool_stats *ret_stats)
{
    *ret_stats = spool->stats;
}

uint32_t spool_device_count(const struct spool *spool)
{
    return spool->device_count;
}

void spool_device_read(const struct spool *spool, uint32_t index,
                       struct spool_device_stats *ret_stats)
{
    must(index < spool->device_count);
    *ret_stats = spool->devices[index];
}

struct spool_cursor *spool_cursor_create(struct spool *spool, struct io *io, uint64_t number,
                                         const struct log_place *from)
{
    struct spool_cursor *cursor = mem_alloc(sizeof(*cursor));

    cursor->spool = spool;
    cursor->at = from->offset;
    return cursor;
}

void spool_cursor_destroy(struct spool_cursor *cursor)
{
    mem_free(cursor);
}

int spool_cursor_next(struct spool_cursor *cursor, struct slice *ret_outcome,
                      struct log_place *ret_after)
{
    char rcpt[32];
    struct outcome outcome = {.kind = OUTCOME_DELIVERED};
    int len;

    if (cursor->at >= cursor->spool->outcome_count)
        return 0;
    snprintf(rcpt, sizeof(rcpt), "u%u@a.example", cursor->at++);
    outcome.rcpt = slice_str(rcpt);
    len = outcome_encode(&outcome, cursor->record, sizeof(cursor->record));
    must(len > 0);
    *ret_outcome = slice_of(cursor->record, (size_t)len);
    *ret_after = (struct log_place){.serial = 1 + cursor->at / 100, .offset = cursor->at};
    return 1;
}

struct spool_reader {
    struct io *io;
};

struct spool_reader *spool_reader_create(struct io *io, const struct spool *spool)
{
    struct spool_reader *reader = mem_alloc(sizeof(*reader));

    must(spool != NULL);
    reader->io = io;
    return reader;
}

void spool_reader_destroy(struct spool_reader *reader)
{
    mem_free(reader);
}

int spool_reader_fd(struct spool_reader *reader, const struct log_place *place)
{
    int fd;
    int result = place->slot == 0 ? io_file_open(reader->io, LOG_PATH, IO_FILE_READ, &fd) : -ENOENT;

    return result < 0 ? result : fd;
}

/* Each record's header says its serial; that is all that tells a recycled one. */
int spool_reader_check(const struct log_place *place, uint64_t message_id, const struct iovec *iov,
                       uint32_t iov_count)
{
    uint32_t serial;

    memcpy(&serial, iov[0].iov_base, sizeof(serial));
    return serial == place->serial ? 0 : E_DAMAGED;
}

/* ---- Shards ---------------------------------------------------------------------------------- */

static bool matches(const struct report *report, const char *queue)
{
    char pattern[REPORT_NAME_MAX + 8];
    const char *slash = strchr(queue, '/');

    if (strcmp(report->domain_pattern, "*") != 0) {
        snprintf(pattern, sizeof(pattern), "%s/", report->domain_pattern);
        if (strncmp(queue, pattern, strlen(pattern)) != 0)
            return false;
    }
    return strcmp(report->vmta_pattern, "*") == 0 || strcmp(report->vmta_pattern, slash + 1) == 0;
}

static void answer(struct fake_shard *shard, struct report *report)
{
    if (report->parcel.kind == REPORT_STATUS)
        report->status = shard->status;
    for (uint32_t i = 0; report->parcel.kind == REPORT_QUEUES && i < shard->queue_count; i++) {
        struct queue_row *row = NULL;

        if (matches(report, shard->queues[i].name))
            row = report_row_add(report, sizeof(*row));
        if (row != NULL)
            *row = shard->queues[i];
    }
    for (uint32_t i = 0; report->parcel.kind == REPORT_LIST && i < shard->rcpt_count; i++) {
        struct rcpt_row *row = report_row_add(report, sizeof(*row));

        if (row != NULL)
            *row = shard->rcpts[i];
    }
    for (uint32_t i = 0; report->parcel.kind == REPORT_IPS && i < shard->ip_count; i++) {
        struct ip_figures *row = report_row_add(report, sizeof(*row));

        if (row != NULL)
            *row = shard->ips[i];
    }
    report->result = shard->result;
    report->affected = shard->affected;
    mailbox_post(shard->to_control, &report->parcel);
}

static void on_order(struct fake_shard *shard, struct tls_report_order *order)
{
    assert_true(order->content_bytes > 0);
    snprintf(shard->ordered, sizeof(shard->ordered), "%s", order->domain);
    shard->ordered_bytes = order->content_bytes;
    shard->orders++;
    shard->mailed_before += order->is_mailed;
    order->fate = order->is_mailed ? TLS_REPORT_NO_MAIL : shard->fate;
    if (shard->is_hosted_apart)
        snprintf(order->uris[order->uri_count++], sizeof(order->uris[0]), "https://%s/",
                 order->domain);
    for (int i = 0; i < 4 && shard->uris[i]; i++)
        snprintf(order->uris[order->uri_count++], sizeof(order->uris[0]), "%s", shard->uris[i]);
    if (shard->keeps_orders) {
        assert_true(shard->kept_order_count < KEPT_MAX);
        shard->kept_orders[shard->kept_order_count++] = order;
    } else {
        mailbox_post(shard->to_control, &order->parcel);
    }
}

static void on_question(void *context, struct parcel *parcel)
{
    struct fake_shard *shard = context;
    struct report *report = container_of(parcel, struct report, parcel);

    if (parcel->kind == TLS_REPORT_ORDER) {
        on_order(shard, container_of(parcel, struct tls_report_order, parcel));
        return;
    }
    if (parcel->kind == TLS_REPORT_COUNTS) {
        shard->batches_home++;
        return;
    }
    if (parcel->kind == RELOAD_ORDER) {
        shard->reload_stamp = parcel->stamp;
        if (shard->is_silent)
            shard->reload_order = parcel;
        else
            mailbox_post(shard->to_control, parcel);
        return;
    }
    if (parcel->kind == REPORT_STATUS) {
        shard->samples++;
    } else {
        shard->last = *report;
        shard->asked++;
    }
    if (shard->is_silent) {
        assert_true(shard->kept_count < KEPT_MAX);
        shard->kept[shard->kept_count++] = report;
    } else {
        answer(shard, report);
    }
}

static void answer_all(void *context)
{
    struct fake_shard *shard = context;

    for (uint32_t i = 0; i < shard->kept_count; i++)
        answer(shard, shard->kept[i]);
    shard->kept_count = 0;
    for (uint32_t i = 0; i < shard->kept_order_count; i++)
        mailbox_post(shard->to_control, &shard->kept_orders[i]->parcel);
    shard->kept_order_count = 0;
    if (shard->reload_order)
        mailbox_post(shard->to_control, shard->reload_order);
    shard->reload_order = NULL;
}

void answer_kept(struct fake_shard *shard)
{
    sim_run_in(shard->fixture->daemon, answer_all, shard);
}

struct queue_row *add_queue(struct fake_shard *shard, const char *name, uint64_t rcpts,
                            uint32_t connections)
{
    struct queue_row *row = &shard->queues[shard->queue_count++];

    assert_true(shard->queue_count <= FAKE_QUEUES_MAX);
    memset(row, 0, sizeof(*row));
    snprintf(row->name, sizeof(row->name), "%s", name);
    row->rcpts = rcpts;
    row->bytes = rcpts * 2048;
    row->connections = connections;
    row->shard = shard->number;
    return row;
}

/* ---- Spool ----------------------------------------------------------------------------------- */

static void on_notice(void *context, struct parcel *parcel)
{
    struct spool *spool = context;
    struct spool_notice *notice = container_of(parcel, struct spool_notice, parcel);

    assert_int_equal(parcel->kind, SPOOL_CURSOR_AT);
    assert_int_equal(parcel->from, 7);
    assert_int_equal(notice->number, 1);
    assert_true(notice->place.serial >= spool->told.serial);
    spool->told = notice->place;
    spool->notices++;
    mailbox_post(spool->answers, parcel);
}

struct record {
    struct fixture *fixture;
    const struct log_place *place;
    uint8_t *bytes;
};

static void write_record(void *context)
{
    struct record *record = context;
    struct io *io = record->fixture->control_io;
    int fd;

    assert_int_equal(io_file_open(io, LOG_PATH, IO_FILE_WRITE | IO_FILE_CREATE, &fd), 0);
    assert_int_equal(
        io_file_write_now(io, fd, record->bytes, record->place->bytes, record->place->offset),
        record->place->bytes);
    io_close_now(io, fd);
}

void add_record(struct fixture *f, const struct log_place *place, uint64_t message_id,
                uint32_t rcpt_count)
{
    struct record record = {f, place, calloc(1, place->bytes)};
    char sender[32], address[32];
    uint8_t rcpts[1024];
    struct wire_writer table, room;
    struct envelope envelope = {.message_id = message_id, .rcpt_count = rcpt_count};

    snprintf(sender, sizeof(sender), "s@%u.example", (unsigned)message_id);
    wire_writer_init(&table, rcpts, sizeof(rcpts));
    for (uint32_t i = 0; i < rcpt_count; i++) {
        snprintf(address, sizeof(address), "r%u@%u.example", i, (unsigned)message_id);
        envelope_put_rcpt(&table, &(struct envelope_rcpt){.address = slice_str(address)});
    }
    envelope.sender = slice_str(sender);
    envelope.rcpts = slice_of(rcpts, wire_written(&table));
    memcpy(record.bytes, &place->serial, sizeof(place->serial));
    wire_writer_init(&room, record.bytes + LOG_RECORD_HEADER_BYTES,
                     place->bytes - LOG_RECORD_HEADER_BYTES);
    envelope_encode(&envelope, &room);
    assert_false(table.failed || room.failed);
    sim_run_in(f->daemon, write_record, &record);
    free(record.bytes);
}

/* ---- The daemon ------------------------------------------------------------------------------ */

static void quiet(void *context, enum log_level level, const char *text)
{
}

static void on_finding(void *context, enum conf_severity severity, const char *file, unsigned line,
                       const char *text)
{
    print_message("%s:%u: %s\n", file, line, text);
}

static void on_stopped(void *context)
{
    struct fixture *f = context;

    f->stopped++;
}

static void make_shard(struct fixture *f, uint16_t number)
{
    struct fake_shard *shard = &f->shards[number];

    shard->fixture = f;
    shard->number = number;
    shard->queues = calloc(FAKE_QUEUES_MAX, sizeof(*shard->queues));
    sim_io_create(f->world, f->daemon, &shard->io);
    shard->from_control = mailbox_create(8, f->control_io, shard->io);
    shard->to_control = mailbox_create(8, shard->io, f->control_io);
    mailbox_listen(shard->from_control, on_question, shard);
    f->to_shards[number] = shard->from_control;
    f->from_shards[number] = shard->to_control;
}

static void make_conf(struct fixture *f, bool with_accounting)
{
    const struct conf_load_options options = {.syntax_only = true};
    char text[sizeof(conf_text) + sizeof(acct_text)];

    snprintf(text, sizeof(text), "%s%s", conf_text, with_accounting ? acct_text : "");
    assert_int_equal(conf_load_text("test", text, &options, on_finding, NULL, &f->conf), 0);
}

static void make_daemon(struct fixture *f)
{
    struct control_options options = {.shard_count = FAKE_SHARDS, .version = "1.2.3"};
    struct control_wiring wiring = {.spool = &f->spool, .spool_client = 7};

    sim_io_create(f->world, f->daemon, &f->control_io);
    sim_io_create(f->world, f->daemon, &f->spool.io);
    options.conf = f->conf;
    options.ip_source = fixture_ip_source;
    options.config_path = fixture_config_path;
    atomic_init(&f->published.conf, conf_ref(f->conf));
    wiring.published = &f->published;
    f->control = control_create(f->control_io, &options);
    for (uint16_t i = 0; i < FAKE_SHARDS; i++)
        make_shard(f, i);
    f->spool.requests = mailbox_create(8, f->control_io, f->spool.io);
    f->spool.answers = mailbox_create(8, f->spool.io, f->control_io);
    mailbox_listen(f->spool.requests, on_notice, &f->spool);
    wiring.to_spool = f->spool.requests;
    wiring.from_spool = f->spool.answers;
    wiring.to_shards = f->to_shards;
    wiring.from_shards = f->from_shards;
    if (fixture_records != NULL) {
        sim_leave(f->daemon);
        fake_dns_init(&f->dns, f->world, f->daemon, f->control_io, fixture_records);
        sim_enter(f->daemon);
        wiring.to_resolver = f->dns.questions;
        wiring.from_resolver = f->dns.answers;
    }
    control_wire(f->control, &wiring);
    control_on_stopped(f->control, on_stopped, f);
    assert_int_equal(control_listen(f->control, OPERATOR_UID), 0);
    assert_int_equal(io_dir_create(f->control_io, "/spool"), 0);
    assert_int_equal(io_dir_create(f->control_io, "/acct"), 0);
    assert_int_equal(control_start_accounting(f->control), 0);
}

void fixture_open(struct fixture *f, uint64_t seed, bool with_accounting)
{
    struct sim_options options = {0};

    memset(f, 0, sizeof(*f));
    log_set_sink(quiet, NULL);
    f->world = sim_world_create(seed, &options);
    f->daemon = sim_process_create(f->world);
    f->operators = sim_process_create(f->world);
    sim_io_create(f->world, f->operators, &f->operator_io);
    /* Snapshots know names that outlive each of them, so no single life may own their memory. */
    make_conf(f, with_accounting);
    sim_enter(f->daemon);
    make_daemon(f);
    sim_leave(f->daemon);
}

static void end_daemon(void *context)
{
    struct fixture *f = context;

    control_destroy(f->control);
    if (f->dns.io != NULL)
        fake_dns_fini(&f->dns);
    conf_unref(atomic_load(&f->published.conf));
}

void fixture_close(struct fixture *f)
{
    sim_run_in(f->daemon, end_daemon, f);
    conf_unref(f->conf);
    sim_world_destroy(f->world);
    for (uint16_t i = 0; i < FAKE_SHARDS; i++)
        free(f->shards[i].queues);
    log_set_sink(NULL, NULL);
}

/* ---- Operators ------------------------------------------------------------------------------- */

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct operator_conn *conn = container_of(recv, struct operator_conn, recv);

    assert_true(conn->len + len < ANSWER_MAX);
    memcpy(conn->answer + conn->len, data, len);
    conn->len += len;
    conn->answer[conn->len] = '\0';
    return len;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct operator_conn *conn = container_of(recv, struct operator_conn, recv);

    conn->ended = true;
    conn->reason = reason;
}

static void on_sent(struct io_op *op, int32_t result)
{
}

static void on_closed(struct io_op *op, int32_t result)
{
}

struct opening {
    struct operator_conn *conn;
    uint32_t uid;
};

static void open_conn(void *context)
{
    struct opening *opening = context;
    struct operator_conn *conn = opening->conn;
    struct io *io = conn->fixture->operator_io;

    if (sim_connect_unix(io, SOCKET_PATH, opening->uid, &conn->fd) < 0) {
        conn->fd = -1;
        return;
    }
    io_recv_start(io, &conn->recv, conn->fd);
}

struct operator_conn *operator_open(struct fixture *f, uint32_t uid)
{
    struct operator_conn *conn = calloc(1, sizeof(*conn));
    struct opening opening = {conn, uid};

    conn->fixture = f;
    conn->answer = calloc(1, ANSWER_MAX);
    conn->recv.on_data = on_data;
    conn->recv.on_end = on_end;
    io_op_init(&conn->send, on_sent);
    io_op_init(&conn->close, on_closed);
    sim_run_in(f->operators, open_conn, &opening);
    if (conn->fd >= 0)
        return conn;
    conn->is_closed = true;
    operator_free(conn);
    return NULL;
}

static void start_send(void *context)
{
    struct operator_conn *conn = context;

    io_send(conn->fixture->operator_io, &conn->send, conn->fd, &conn->iov, 1);
}

void operator_send(struct operator_conn *conn, const void *bytes, size_t len)
{
    for (int i = 0; io_op_in_flight(&conn->send) && i < 100000; i++)
        sim_step(conn->fixture->world);
    if (conn->ended || io_op_in_flight(&conn->send) || len == 0)
        return;
    free(conn->sending);
    conn->sending = malloc(len);
    memcpy(conn->sending, bytes, len);
    conn->iov = (struct iovec){conn->sending, len};
    sim_run_in(conn->fixture->operators, start_send, conn);
}

static void start_close(void *context)
{
    struct operator_conn *conn = context;

    io_close(conn->fixture->operator_io, &conn->close, conn->fd);
}

void operator_drop(struct operator_conn *conn)
{
    if (conn->is_closed)
        return;
    conn->is_closed = true;
    sim_run_in(conn->fixture->operators, start_close, conn);
    for (int i = 0; io_op_in_flight(&conn->close) && i < 1000000; i++)
        sim_step(conn->fixture->world);
    assert_false(io_op_in_flight(&conn->close));
}

static bool has_ended(void *context)
{
    return ((struct operator_conn *)context)->ended;
}

bool operator_wait(struct operator_conn *conn, uint64_t seconds)
{
    return sim_run_until(conn->fixture->world, has_ended, conn, seconds * 1000000000ull, 100000000);
}

void operator_free(struct operator_conn *conn)
{
    if (!conn->is_closed)
        operator_drop(conn);
    free(conn->answer);
    free(conn->sending);
    free(conn);
}

const char *ask(struct fixture *f, const char *line)
{
    static char *last;
    struct operator_conn *conn = operator_open(f, OPERATOR_UID);

    assert_non_null(conn);
    operator_send(conn, line, strlen(line));
    operator_send(conn, "\n", 1);
    assert_true(operator_wait(conn, 200));
    free(last);
    last = strdup(conn->answer);
    operator_free(conn);
    return last;
}

/* ---- With a configuration of the test's own -------------------------------------------------- */

void fixture_write_file(const char *text, const char *more)
{
    FILE *file = fopen(fixture_config_path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0 && fputs(more, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void fixture_open_with_file(struct fixture *f, const char *path, const char *text)
{
    struct conf *conf;

    fixture_config_path = path;
    fixture_write_file(text, "");
    assert_int_equal(conf_load(path, NULL, NULL, NULL, &conf), 0);
    conf_unref(conf);
    fixture_open(f, 1, false);
}

struct first_text {
    struct fixture *fixture;
    const char *text;
};

static void begin_history(void *context)
{
    const struct first_text *first = context;
    struct conf_files *files = conf_files_new();

    conf_files_add(files, slice_str(fixture_config_path), slice_str(first->text));
    control_start_history(first->fixture->control, files);
}

void fixture_keep_history(struct fixture *f, const char *text)
{
    struct first_text first = {f, text};

    sim_run_in(f->daemon, begin_history, &first);
}

void fixture_close_clean(struct fixture *f)
{
    sim_run_for(f->world, 1000000000ull);
    fixture_close(f);
    assert_int_equal(conf_live_count(), 0);
}

void assert_in(const char *text, const char *part)
{
    assert_non_null(text);
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

int fixture_run_with_file(const struct CMUnitTest *tests, size_t count, char *path)
{
    int failed, fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    failed = _cmocka_run_group_tests(path, tests, count, NULL, NULL);
    unlink(path);
    return failed;
}
