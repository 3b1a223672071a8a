/* One file: its envelope line by line, then its message through the intake as a client's. */
#include "core/base/err.h"
#include "core/mail/address.h"
#include "shard/pickup_int.h"

#include <errno.h>
#include <stdio.h>

static void read_on(struct pickup_job *job);

/* ---- How it ends ----------------------------------------------------------------------------- */

static void give_up(struct pickup_job *job, enum pickup_end how)
{
    if (job->message)
        inject_intake.abort(job->message);
    job->message = NULL;
    pickup_end(job, how);
}

static void is_bad(struct pickup_job *job, const char *reason)
{
    snprintf(job->reason, sizeof(job->reason), "%s", reason);
    give_up(job, PICKUP_BAD);
}

/* By a reply of the intake that is no success. Recipients that are to come in a transaction of
 * their own (X.5.3) never will: a file is one message. */
static void refused(struct pickup_job *job, const struct intake_reply *reply)
{
    bool is_split = reply->enhanced[1] == 5 && reply->enhanced[2] == 3;

    snprintf(job->reason, sizeof(job->reason), "%u %s", reply->code, reply->text);
    give_up(job, reply->code / 100 == 5 || is_split ? PICKUP_BAD : PICKUP_LATER);
}

static void on_answer(void *asker, uint64_t cookie, const struct intake_reply *reply)
{
    struct pickup_job *job = asker;

    must(job->is_waiting);
    job->is_waiting = false;
    if (reply->code / 100 == 2)
        pickup_end(job, PICKUP_TAKEN);
    else
        refused(job, reply);
    (void)cookie;
}

static void on_resume(void *asker, uint64_t cookie)
{
    struct pickup_job *job = asker;

    (void)cookie;
    if (!job->is_held)
        return;
    job->is_held = false;
    if (job->shard->stopping)
        give_up(job, PICKUP_LATER);
    else
        read_on(job);
}

/* ---- The envelope ---------------------------------------------------------------------------- */

/* The value of a line that is the field; false when it is none. */
static bool value_of(struct slice line, struct slice name, struct slice *ret_value)
{
    if (!slice_starts_nocase(line, name) || line.len == name.len || line.data[name.len] != ':')
        return false;
    *ret_value = slice_trim(slice_after(line, name.len + 1));
    return true;
}

/* An address as users write it, with brackets or without. */
static int parse(struct slice value, bool allow_null, struct address *ret_address)
{
    if (value.len >= 2 && value.data[0] == '<' && value.data[value.len - 1] == '>')
        value = slice_of(value.data + 1, value.len - 2);
    if (value.len == 0 && allow_null) {
        *ret_address = (struct address){.text = SLICE_EMPTY};
        return 0;
    }
    return address_parse(value, ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LONG_LOCAL, ret_address);
}

/* All of these: false when the job has ended. */
static bool take_sender(struct pickup_job *job, struct slice value)
{
    struct intake_params params = {0};
    struct intake_reply reply = {0};
    struct address sender;

    if (job->message || parse(value, true, &sender) < 0) {
        is_bad(job, job->message ? "it has two x-sender" : "bad address in x-sender");
        return false;
    }
    params.smtputf8 = sender.is_utf8;
    if (inject_intake.begin(job->shard, &job->client, &sender, &params, &job->message, &reply) <
        0) {
        job->message = NULL;
        refused(job, &reply);
        return false;
    }
    return true;
}

static bool take_receiver(struct pickup_job *job, struct slice value)
{
    struct intake_params params = {0};
    struct intake_reply reply = {0};
    struct address rcpt;

    if (!job->message || parse(value, false, &rcpt) < 0) {
        is_bad(job, job->message ? "bad address in x-receiver" : "no x-sender before x-receiver");
        return false;
    }
    if (job->rcpt_count >= job->source.max_rcpt_per_message) {
        is_bad(job, "it has more recipients than max-rcpt-per-message");
        return false;
    }
    if (inject_intake.add_rcpt(job->message, &job->client, &rcpt, &params, &reply) < 0) {
        refused(job, &reply);
        return false;
    }
    job->rcpt_count++;
    return true;
}

static bool keep_line(struct pickup_job *job, struct slice line)
{
    if (job->kept + line.len + 1 > PICKUP_KEPT_BYTES) {
        is_bad(job, "its envelope is too long");
        return false;
    }
    memcpy(job->kept_text + job->kept, line.data, line.len);
    job->kept_text[job->kept + line.len] = '\n';
    job->kept += (uint32_t)line.len + 1;
    return true;
}

static bool write_piece(struct pickup_job *job, struct slice piece)
{
    int result = piece.len > 0 ? inject_intake.write(job->message, piece.data, piece.len) : 0;

    /* The answer at the end names a failure. */
    job->is_held = job->is_held || result == INTAKE_PAUSE;
    return result >= 0;
}

static bool write_octets(struct pickup_job *job, const uint8_t *data, size_t len)
{
    struct slice piece;
    size_t used = 0;
    bool is_written = true;

    while (used < len && is_written) {
        used += body_scan_next(&job->scan, data + used, len - used, &piece);
        is_written = write_piece(job, piece);
    }
    return is_written;
}

static bool start_body(struct pickup_job *job)
{
    struct intake_reply reply = {0};

    if (job->rcpt_count == 0) {
        is_bad(job, "it does not begin with x-sender and x-receiver");
        return false;
    }
    if (inject_intake.start_body(job->message, &job->client, on_resume, job, 0, &reply) < 0) {
        refused(job, &reply);
        return false;
    }
    body_scan_init(&job->scan, BODY_SCAN_RAW | BODY_SCAN_REPAIR,
                   conf_global(job->shard->conf)->text_line_octets_max);
    job->is_body = true;
    write_octets(job, job->kept_text, job->kept);
    return true;
}

/* One line without its end. *ret_is_used: it is part of the envelope. */
static bool take_line(struct pickup_job *job, struct slice line, bool *ret_is_used)
{
    static const struct slice kept[] = {SLICE_LITERAL("x-envid"), SLICE_LITERAL("x-job"),
                                        SLICE_LITERAL("x-virtual-mta")};
    bool is_folded = job->was_kept && line.len > 0 && (line.data[0] == ' ' || line.data[0] == '\t');
    struct slice value;

    *ret_is_used = true;
    job->was_kept = is_folded;
    if (value_of(line, SLICE_LITERAL("x-sender"), &value))
        return take_sender(job, value);
    if (value_of(line, SLICE_LITERAL("x-receiver"), &value))
        return take_receiver(job, value);
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        job->was_kept |= value_of(line, kept[i], &value);
    if (job->was_kept)
        return keep_line(job, line);
    *ret_is_used = false;
    return start_body(job);
}

/* Lines of the envelope that are in the buffer. Their octets, or -1 when the job has ended. */
static int64_t take_envelope(struct pickup_job *job)
{
    size_t at = 0;

    while (!job->is_body) {
        struct slice rest = slice_of(job->buffer + at, job->filled - at);
        size_t end = slice_find(rest, '\n');
        struct slice line = slice_of(rest.data, end);
        bool is_used;

        if (end == rest.len && job->offset < job->end) {
            if (rest.len < PICKUP_BUFFER_BYTES)
                break;
            is_bad(job, "a line of its envelope is too long");
            return -1;
        }
        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        if (!take_line(job, line, &is_used))
            return -1;
        if (!is_used)
            break;
        at += end < rest.len ? end + 1 : end;
        if (at == job->filled && job->offset == job->end && !start_body(job))
            return -1;
    }
    return (int64_t)at;
}

/* ---- Octets ---------------------------------------------------------------------------------- */

static void finish(struct pickup_job *job)
{
    struct intake_message *message = job->message;
    struct intake_body_facts facts;
    struct slice piece;

    body_scan_finish(&job->scan, &piece);
    write_piece(job, piece);
    facts = (struct intake_body_facts){
        .stuffed_dots = job->scan.stuffed_dots,
        .has_8bit = (job->scan.findings & BODY_8BIT) != 0,
    };
    job->is_held = false;
    job->is_waiting = true;
    job->message = NULL;
    inject_intake.finish(message, &facts, on_answer, job, 0);
}

static void take_octets(struct pickup_job *job)
{
    int64_t used = take_envelope(job);

    if (used < 0)
        return;
    if (job->is_body) {
        write_octets(job, job->buffer + used, job->filled - (size_t)used);
        used = job->filled;
    }
    job->filled -= (uint32_t)used;
    memmove(job->buffer, job->buffer + used, job->filled);
    if (job->is_body && (job->scan.findings & BODY_LONG_LINE))
        is_bad(job, "a line of it is too long");
    else if (job->is_body && body_scan_content_octets(&job->scan) > job->source.max_message_bytes)
        is_bad(job, "it is larger than max-message-size");
    else if (!job->is_held || job->offset == job->end)
        read_on(job);
}

static void on_read(struct io_op *op, int32_t result)
{
    struct pickup_job *job = container_of(op, struct pickup_job, op);

    if (job->shard->stopping) {
        give_up(job, PICKUP_LATER);
        return;
    }
    if (result == -EISDIR) {
        give_up(job, PICKUP_NOT);
        return;
    }
    if (result <= 0) {
        snprintf(job->reason, sizeof(job->reason), "%s",
                 result < 0 ? err_text(result) : "it became shorter");
        give_up(job, PICKUP_LATER);
        return;
    }
    job->offset += (uint32_t)result;
    job->filled += (uint32_t)result;
    take_octets(job);
}

static void read_on(struct pickup_job *job)
{
    uint64_t left = job->end - job->offset;
    uint32_t room = PICKUP_BUFFER_BYTES - job->filled;

    if (left == 0 && job->is_body)
        finish(job);
    else if (left == 0)
        is_bad(job, "it is empty");
    else
        io_read(job->shard->io, &job->op, job->fd, job->buffer + job->filled,
                left < room ? (uint32_t)left : room, job->offset);
}

/* Where the message ends when a last line of one dot does not count. */
static uint64_t without_dot(const struct pickup_job *job, uint64_t bytes)
{
    uint8_t tail[5] = {0};
    uint64_t from = bytes > sizeof(tail) ? bytes - sizeof(tail) : 0;
    int64_t len = io_file_read_now(job->shard->io, job->fd, tail, sizeof(tail), from);
    size_t at;

    if (len != (int64_t)(bytes - from) || len < 2)
        return bytes;
    at = (size_t)len;
    if (tail[at - 1] == '\n')
        at -= at >= 2 && tail[at - 2] == '\r' ? 2 : 1;
    return at >= 2 && tail[at - 1] == '.' && tail[at - 2] == '\n' ? from + at - 1 : bytes;
}

void pickup_file_begin(struct pickup_job *job, uint64_t bytes)
{
    struct shard *shard = job->shard;

    job->source = *conf_source(shard->conf, &job->client.peer.ip, "{pickup}");
    job->client.source = &job->source;
    job->end = conf_global(shard->conf)->pickup_remove_dot ? without_dot(job, bytes) : bytes;
    io_op_init(&job->op, on_read);
    read_on(job);
}

void pickup_file_stop(struct pickup_job *job)
{
    /* What is being read ends when that is done, and what waits for its answer gets it. */
    if (job->is_held)
        give_up(job, PICKUP_LATER);
}
