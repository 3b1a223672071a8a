#include "shard/carrier.h"

#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/conf/conf.h"
#include "shard/carrier_int.h"

#include <errno.h>
#include <stdio.h>

#define JOBS_PER_TURN 4
/* Another program has the mailbox locked. */
#define LOCK_LOOK_NS  50000000ull
#define LOCK_WAIT_NS  30000000000ull

static void on_look(struct io_timer *timer)
{
    struct carrier *carrier = container_of(timer, struct carrier, look_timer);

    while (!list_empty(&carrier->waiting))
        list_push_back(&carrier->jobs, list_pop_front(&carrier->waiting));
}

struct carrier *carrier_create(struct io *io, struct mailbox *const *to_shards)
{
    struct carrier *carrier = mem_alloc(sizeof(*carrier));

    carrier->io = io;
    carrier->to_shards = to_shards;
    list_init(&carrier->jobs);
    list_init(&carrier->waiting);
    list_init(&carrier->queueing);
    list_init(&carrier->programs);
    io_timer_init(&carrier->look_timer, on_look);
    io_timer_init(&carrier->stop_timer, carrier_program_on_stop);
    return carrier;
}

void carrier_destroy(struct carrier *carrier)
{
    mem_free(carrier);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

void carrier_send_home(struct carrier *carrier, struct carry *carry, enum carry_kind kind)
{
    carry->parcel.kind = (uint16_t)kind;
    mailbox_post(carrier->to_shards[carry->shard], &carry->parcel);
}

static void set_success(struct carry *carry, const char *what)
{
    static const uint8_t enhanced[3] = {2, 0, 0};

    verdict_set_local(&carry->verdict, VERDICT_RECIPIENT, VERDICT_SUCCESS, VERDICT_AT_LOCAL, 250,
                      enhanced, "%s", what);
}

/* What keeps a file from being written is the machine's trouble, and passes: but for a name that no
 * file can have. */
static void set_failure(struct carry *carry, const char *doing, int error)
{
    bool is_final = error == -ENAMETOOLONG || error == E_TOO_LONG;
    bool is_full = error == -ENOSPC || error == -EDQUOT;
    const uint8_t enhanced[3] = {is_final ? 5 : 4, is_final ? 1 : 3, is_final || is_full};

    verdict_set_local(&carry->verdict, VERDICT_RECIPIENT,
                      is_final ? VERDICT_PERMANENT : VERDICT_TRANSIENT, VERDICT_AT_LOCAL,
                      is_final  ? 550
                      : is_full ? 452
                                : 451,
                      enhanced, "%s %.300s: %s", doing, carry->path, err_text(error));
}

static void close_file(struct carrier *carrier, struct carry *carry)
{
    if (carry->is_open)
        io_close_now(carrier->io, carry->fd);
    carry->is_open = false;
}

/* Nothing of it stays. */
static void undo(struct carrier *carrier, struct carry *carry)
{
    if (!carry->is_open)
        return;
    if (carry->format != CONF_FILE_MBOX) {
        (void)io_file_unlink(carrier->io, carry->draft);
    } else if (io_file_truncate(carrier->io, carry->fd, carry->start_offset) == 0) {
        (void)io_file_sync_now(carrier->io, carry->fd);
    }
    close_file(carrier, carry);
}

static void fail(struct carrier *carrier, struct carry *carry, const char *doing, int error)
{
    undo(carrier, carry);
    set_failure(carry, doing, error);
    carrier_send_home(carrier, carry, CARRY_DONE);
}

/* ---- Writing --------------------------------------------------------------------------------- */

static int write_octets(struct carrier *carrier, struct carry *carry, const void *data, size_t len)
{
    int64_t written = io_file_write_now(carrier->io, carry->fd, data, len, carry->offset);

    if (written < 0)
        return (int)written;
    carry->offset += (uint64_t)written;
    return (size_t)written == len ? 0 : -EIO;
}

static int write_text(struct carrier *carrier, struct carry *carry, const char *text)
{
    return write_octets(carrier, carry, text, strlen(text));
}

static int write_parts(struct carrier *carrier, struct carry *carry)
{
    int result = 0;

    for (uint32_t i = 0; i < carry->part_count && result >= 0; i++) {
        struct slice data = slice_of(carry->parts[i].iov_base, carry->parts[i].iov_len);

        while (data.len > 0 && result >= 0) {
            size_t octets =
                plain_form_put(&carry->form, &data, carrier->room, sizeof(carrier->room));

            result = write_octets(carrier, carry, carrier->room, octets);
        }
    }
    return result;
}

static int write_end(struct carrier *carrier, struct carry *carry)
{
    size_t octets = plain_form_end(&carry->form, carrier->room);
    int result = write_octets(carrier, carry, carrier->room, octets);

    if (result >= 0 && carry->format == CONF_FILE_MBOX)
        result = write_text(carrier, carry, "\n");
    return result < 0 ? result : io_file_sync_now(carrier->io, carry->fd);
}

/* ---- New files ------------------------------------------------------------------------------- */

static int put_address(struct carrier *carrier, struct carry *carry, const char *field,
                       struct slice address)
{
    char line[1024];
    struct text text = text_in(line, sizeof(line));

    text_put_str(&text, field);
    text_put(&text, address.len > 0 ? address : SLICE_LITERAL("<>"));
    text_put_literal(&text, "\r\n");
    return text.is_cut ? E_TOO_LONG : write_octets(carrier, carry, line, text.len);
}

/* Ids are a spool's own, and begin anew with a spool: when the message came tells those apart. */
static int open_new(struct carrier *carrier, struct carry *carry)
{
    char folder[CARRY_PATH_MAX], name[64];
    int result;

    snprintf(folder, sizeof(folder), "%s", carry->path);
    snprintf(name, sizeof(name), "%llx-%016llx-%u", (unsigned long long)carry->accepted_us,
             (unsigned long long)carry->message_id, carry->ordinal);
    if (snprintf(carry->path, sizeof(carry->path), "%s/%s.eml", folder, name) >=
            (int)sizeof(carry->path) ||
        snprintf(carry->draft, sizeof(carry->draft), "%s/.%s.part", folder, name) >=
            (int)sizeof(carry->draft))
        return E_TOO_LONG;
    result = io_file_open(carrier->io, carry->draft, IO_FILE_WRITE | IO_FILE_CREATE, &carry->fd);
    if (result < 0)
        return result;
    carry->is_open = true;
    carry->form.lines = PLAIN_CRLF;
    /* What a crash has left of an earlier attempt. */
    result = io_file_truncate(carrier->io, carry->fd, 0);
    if (result < 0 || carry->format != CONF_FILE_PICKUP)
        return result;
    result = put_address(carrier, carry, "x-sender: ", carry->values.from);
    return result < 0 ? result : put_address(carrier, carry, "x-receiver: ", carry->values.to);
}

static int sync_folder(struct carrier *carrier, struct carry *carry)
{
    char folder[CARRY_PATH_MAX];
    char *slash;

    snprintf(folder, sizeof(folder), "%s", carry->path);
    slash = strrchr(folder, '/');
    must(slash);
    slash[slash == folder] = '\0';
    return io_dir_sync(carrier->io, folder);
}

/* The same message for the same recipient has the same name, in any life: what is there is what an
 * attempt before a crash has written, whole. */
static int name_new(struct carrier *carrier, struct carry *carry)
{
    int result = io_file_rename_new(carrier->io, carry->draft, carry->path);

    if (result == -EEXIST)
        result = io_file_unlink(carrier->io, carry->draft);
    return result < 0 ? result : sync_folder(carrier, carry);
}

/* ---- Mailboxes ------------------------------------------------------------------------------- */

/* "Mon Nov 23 02:18:30 2026" of "Mon, 23 Nov 2026 02:18:30 +0000". */
static void put_mbox_date(struct text *text, uint64_t now_us)
{
    char room[64];
    struct text date = text_in(room, sizeof(room));
    struct slice d;

    text_put_date(&date, now_us);
    d = text_slice(&date);
    text_put(text, slice_of(d.data, 3));
    text_put_char(text, ' ');
    text_put(text, slice_of(d.data + 8, 3));
    text_put_char(text, ' ');
    text_put(text, slice_of(d.data + 5, 2));
    text_put_char(text, ' ');
    text_put(text, slice_of(d.data + 17, 8));
    text_put_char(text, ' ');
    text_put(text, slice_of(d.data + 12, 4));
}

static int put_separator(struct carrier *carrier, struct carry *carry)
{
    const struct slice from = carry->values.from;
    char line[1024];
    struct text text = text_in(line, sizeof(line));

    text_put_literal(&text, "From ");
    for (size_t i = 0; i < from.len; i++)
        text_put_char(&text, from.data[i] > ' ' ? (char)from.data[i] : '-');
    if (from.len == 0)
        text_put_literal(&text, "MAILER-DAEMON");
    text_put_char(&text, ' ');
    put_mbox_date(&text, carry->values.now_us);
    text_put_char(&text, '\n');
    return text.is_cut ? E_TOO_LONG : write_octets(carrier, carry, line, text.len);
}

/* An attempt that a crash cut off may have left a line without its end. */
static int begin_line(struct carrier *carrier, struct carry *carry)
{
    uint8_t last[2] = {'\n', '\n'};
    uint64_t octets = carry->offset < 2 ? carry->offset : 2;
    int64_t got;

    if (octets == 0)
        return 0;
    got =
        io_file_read_now(carrier->io, carry->fd, last + 2 - octets, octets, carry->offset - octets);
    if (got < 0)
        return (int)got;
    if (last[1] != '\n')
        return write_text(carrier, carry, "\n\n");
    return last[0] != '\n' ? write_text(carrier, carry, "\n") : 0;
}

static int open_mailbox(struct carrier *carrier, struct carry *carry)
{
    int result = io_file_open(carrier->io, carry->path,
                              IO_FILE_READ | IO_FILE_WRITE | IO_FILE_REGULAR, &carry->fd);

    if (result == -ENOENT)
        result = io_file_open(carrier->io, carry->path,
                              IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE, &carry->fd);
    if (result < 0)
        return result;
    result = io_file_lock(carrier->io, carry->fd);
    if (result >= 0)
        result = io_file_size(carrier->io, carry->fd, &carry->start_offset);
    if (result < 0) {
        io_close_now(carrier->io, carry->fd);
        return result;
    }
    carry->is_open = true;
    carry->offset = carry->start_offset;
    carry->form.lines = PLAIN_MBOX;
    result = begin_line(carrier, carry);
    return result < 0 ? result : put_separator(carrier, carry);
}

/* ---- Jobs ------------------------------------------------------------------------------------ */

static int resolve_path(struct carry *carry)
{
    struct text path = text_in(carry->path, sizeof(carry->path));

    conf_delivery_put(slice_str(carry->way), &carry->values, true, &path);
    text_end(&path);
    return path.is_cut ? E_TOO_LONG : path.len == 0 ? E_SYNTAX : 0;
}

/* True when it waits for a lock. */
static bool wait_for_lock(struct carrier *carrier, struct carry *carry)
{
    uint64_t now_ns = io_now_ns(carrier->io);

    if (carry->waits_until_ns == 0)
        carry->waits_until_ns = now_ns + LOCK_WAIT_NS;
    if (carrier->is_over || now_ns >= carry->waits_until_ns)
        return false;
    list_push_back(&carrier->waiting, &carry->link);
    if (!io_timer_is_armed(&carrier->look_timer))
        io_timer_arm(carrier->io, &carrier->look_timer, now_ns + LOCK_LOOK_NS);
    return true;
}

/* False when the job is not to go on now. */
static bool begin(struct carrier *carrier, struct carry *carry)
{
    int result = resolve_path(carry);

    if (result < 0) {
        snprintf(carry->path, sizeof(carry->path), "%.300s",
                 result == E_SYNTAX ? "file-destination" : carry->way);
        fail(carrier, carry, result == E_SYNTAX ? "there is no" : "the name is too long:", result);
        return false;
    }
    carry->fd = -1;
    result =
        carry->format == CONF_FILE_MBOX ? open_mailbox(carrier, carry) : open_new(carrier, carry);
    if (result == E_LOCKED && wait_for_lock(carrier, carry))
        return false;
    if (result >= 0)
        return true;
    fail(carrier, carry, "cannot open", result);
    return false;
}

static void finish(struct carrier *carrier, struct carry *carry)
{
    int result = write_end(carrier, carry);

    if (result < 0) {
        fail(carrier, carry, "cannot write", result);
        return;
    }
    /* A mailbox that was there may have been made by an attempt that came no further. */
    result =
        carry->format != CONF_FILE_MBOX ? name_new(carrier, carry) : sync_folder(carrier, carry);
    if (result < 0) {
        fail(carrier, carry, "cannot name", result);
        return;
    }
    close_file(carrier, carry);
    set_success(carry, carry->path);
    carrier_send_home(carrier, carry, CARRY_DONE);
}

static void run(struct carrier *carrier, struct carry *carry)
{
    int result;

    if (carry->is_program) {
        carrier_program_run(carrier, carry);
        return;
    }
    if (carry->parcel.kind == CARRY_OFF) {
        fail(carrier, carry, "the message could not be read for", -EIO);
        return;
    }
    if (carry->parcel.kind == CARRY_START && !begin(carrier, carry))
        return;
    result = write_parts(carrier, carry);
    if (result < 0)
        fail(carrier, carry, "cannot write", result);
    else if (carry->goes_on)
        carrier_send_home(carrier, carry, CARRY_MORE);
    else
        finish(carrier, carry);
}

void carrier_take(struct carrier *carrier, struct parcel *parcel)
{
    must(carry_owns(parcel));
    list_push_back(&carrier->jobs, &container_of(parcel, struct carry, parcel)->link);
}

bool carrier_turn(struct carrier *carrier)
{
    for (int i = 0; i < JOBS_PER_TURN && !list_empty(&carrier->jobs); i++)
        run(carrier, container_of(list_pop_front(&carrier->jobs), struct carry, link));
    return !list_empty(&carrier->jobs);
}

void carrier_stop(struct carrier *carrier, uint32_t grace_ms)
{
    io_timer_arm(carrier->io, &carrier->stop_timer,
                 io_now_ns(carrier->io) + (uint64_t)grace_ms * 1000000);
}

/* ---- The loop -------------------------------------------------------------------------------- */

static void on_shard_parcel(void *context, struct parcel *parcel)
{
    carrier_take(context, parcel);
}

static void on_control_parcel(void *context, struct parcel *parcel)
{
    must(parcel->kind == CARRIER_STOP);
    carrier_stop(context, container_of(parcel, struct carrier_order, parcel)->grace_ms);
}

static void on_turn(struct io_actor *actor)
{
    (void)carrier_turn(container_of(actor, struct carrier, actor));
}

static bool is_busy(struct io_actor *actor)
{
    return !list_empty(&container_of(actor, struct carrier, actor)->jobs);
}

void carrier_wire(struct carrier *carrier, struct mailbox *const *from_shards, uint16_t shard_count,
                  struct mailbox *from_control)
{
    for (uint16_t i = 0; i < shard_count; i++)
        mailbox_listen(from_shards[i], on_shard_parcel, carrier);
    mailbox_listen(from_control, on_control_parcel, carrier);
    carrier->actor.turn = on_turn;
    carrier->actor.is_busy = is_busy;
    io_attach(carrier->io, &carrier->actor);
}
