/*
 * A message goes to the standard input of a program of its own; what became of it says the exit
 * status, by sysexits. The program is started without a shell, its words split before the variables
 * are replaced, so no value is ever more than one word, or another one. What it writes is read all
 * the time, or it might never end; the last line that is not empty is the text of the reply.
 *
 *   FEEDING -> WAITING (its input has ended) -> ENDED, or by the timer -> KILLED -> ENDED
 *
 * A program may end while its message is on the way to its owner for more content; then the end
 * waits for it.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/carrier_int.h"

#include <errno.h>
#include <stdio.h>

#define WORDS_MAX       64u
#define ARGUMENTS_BYTES 8192u
#define LINE_BYTES      256u
#define ROOM_BYTES      32768u
#define LOOK_NS         5000000ull
#define KILL_NS         2000000000ull

enum program_state {
    PROGRAM_FEEDING,
    PROGRAM_WAITING, /* its input has ended */
    PROGRAM_KILLED,  /* asked to end, then ended */
};

struct program {
    struct list link; /* in carrier.programs */
    struct carrier *carrier;
    struct carry *carry;
    enum program_state state;
    int fd;
    int process;
    bool is_deaf;       /* it takes no more input */
    bool is_silent;     /* its output has ended */
    bool has_ended;     /* status is known */
    bool carry_is_away; /* at its owner, for more content */
    bool is_closing;
    bool is_unreadable; /* the rest of its message cannot be had */
    int status;
    uint32_t part; /* of the carry: the next octets */
    struct slice rest;
    struct io_op send;
    struct io_op close;
    struct io_recv recv;
    struct io_timer timer;      /* patience */
    struct io_timer look_timer; /* for the exit status */
    struct iovec iov;
    struct text line;
    bool line_is_over;
    char line_room[LINE_BYTES];
    uint8_t room[ROOM_BYTES];
};

/* ---- The command ----------------------------------------------------------------------------- */

static bool is_blank(uint8_t octet)
{
    return octet == ' ' || octet == '\t';
}

/* The next word; one in double quotes may have blanks. */
static bool next_word(struct slice *rest, struct slice *ret_word)
{
    size_t end = 0;
    bool is_quoted;

    while (rest->len > 0 && is_blank(rest->data[0]))
        *rest = slice_after(*rest, 1);
    if (rest->len == 0)
        return false;
    is_quoted = rest->data[0] == '"';
    if (is_quoted)
        *rest = slice_after(*rest, 1);
    while (end < rest->len && (is_quoted ? rest->data[end] != '"' : !is_blank(rest->data[end])))
        end++;
    *ret_word = slice_of(rest->data, end);
    *rest = slice_after(*rest, end + (is_quoted && end < rest->len));
    return true;
}

/* A NUL in a value would cut the word short. */
static void drop_nuls(struct text *text, size_t start)
{
    size_t kept = start;

    for (size_t i = start; i < text->len; i++) {
        if (text->data[i] != '\0')
            text->data[kept++] = text->data[i];
    }
    text->len = kept;
}

static int start_program(struct program *program)
{
    struct carry *carry = program->carry;
    struct slice rest = slice_str(carry->way), word;
    char room[ARGUMENTS_BYTES];
    struct text text = text_in(room, sizeof(room));
    char *arguments[WORDS_MAX + 1];
    uint32_t count = 0;

    while (count < WORDS_MAX && next_word(&rest, &word)) {
        size_t start = text.len;

        arguments[count++] = room + start;
        conf_delivery_put(word, &carry->values, false, &text);
        drop_nuls(&text, start);
        text_put_char(&text, '\0');
    }
    if (text.is_cut)
        return -E2BIG;
    if (count == 0)
        return E_SYNTAX;
    arguments[count] = NULL;
    return io_program_start(program->carrier->io, arguments, &program->fd, &program->process);
}

/* ---- The end --------------------------------------------------------------------------------- */

/* What an exit status means, but for success (sysexits.h). Others are refusals as well. */
static const struct {
    int status;
    enum verdict_class class;
    uint8_t enhanced[2];
} exits[] = {
    {65, VERDICT_PERMANENT, {6, 0}},  /* EX_DATAERR */
    {67, VERDICT_PERMANENT, {1, 1}},  /* EX_NOUSER */
    {68, VERDICT_PERMANENT, {1, 2}},  /* EX_NOHOST */
    {71, VERDICT_TRANSIENT, {3, 0}},  /* EX_OSERR */
    {74, VERDICT_TRANSIENT, {3, 0}},  /* EX_IOERR */
    {75, VERDICT_TRANSIENT, {3, 0}},  /* EX_TEMPFAIL */
    {76, VERDICT_PERMANENT, {5, 0}},  /* EX_PROTOCOL */
    {77, VERDICT_PERMANENT, {7, 0}},  /* EX_NOPERM */
    {78, VERDICT_PERMANENT, {3, 5}},  /* EX_CONFIG */
    {126, VERDICT_TRANSIENT, {3, 5}}, /* as shells say that a program cannot be run */
    {127, VERDICT_TRANSIENT, {3, 5}},
};

static void set_verdict(struct carry *carry, enum verdict_class class, uint8_t subject,
                        uint8_t detail, const char *text)
{
    static const uint16_t codes[] = {
        [VERDICT_SUCCESS] = 250, [VERDICT_TRANSIENT] = 451, [VERDICT_PERMANENT] = 554};
    const uint8_t enhanced[3] = {(uint8_t)(codes[class] / 100), subject, detail};

    verdict_set_local(&carry->verdict, VERDICT_RECIPIENT, class, VERDICT_AT_LOCAL, codes[class],
                      enhanced, "%s", text);
}

static void judge(struct program *program)
{
    enum verdict_class class = VERDICT_PERMANENT;
    uint8_t subject = 3, detail = 0;
    char text[LINE_BYTES + 64];

    text_end(&program->line);
    if (program->status == 0 && program->state != PROGRAM_KILLED) {
        set_verdict(program->carry, VERDICT_SUCCESS, 0, 0,
                    program->line.len > 0 ? program->line_room : "taken by the program");
        return;
    }
    for (size_t i = 0; i < sizeof(exits) / sizeof(exits[0]); i++) {
        if (exits[i].status != program->status)
            continue;
        class = exits[i].class;
        subject = exits[i].enhanced[0];
        detail = exits[i].enhanced[1];
    }
    if (program->state == PROGRAM_KILLED)
        snprintf(text, sizeof(text), "%s%s%s",
                 program->is_unreadable ? "the message cannot be read to its end"
                                        : "the program took too long",
                 program->line.len > 0 ? ": " : "", program->line_room);
    else if (program->status < 0)
        snprintf(text, sizeof(text), "the program was ended by signal %d%s%s", -program->status,
                 program->line.len > 0 ? ": " : "", program->line_room);
    else
        snprintf(text, sizeof(text), "the program exited with %d%s%s", program->status,
                 program->line.len > 0 ? ": " : "", program->line_room);
    if (program->state == PROGRAM_KILLED || program->status < 0)
        set_verdict(program->carry, VERDICT_TRANSIENT, 3, 0, text);
    else
        set_verdict(program->carry, class, subject, detail, text);
}

static void on_closed(struct io_op *op, int32_t result)
{
    struct program *program = container_of(op, struct program, close);
    struct carrier *carrier = program->carrier;

    (void)result;
    judge(program);
    carrier_send_home(carrier, program->carry, CARRY_DONE);
    must(carrier->program_count > 0);
    carrier->program_count--;
    list_remove(&program->link);
    mem_free(program);
    /* Who comes next. */
    if (!list_empty(&carrier->queueing))
        list_push_back(&carrier->jobs, list_pop_front(&carrier->queueing));
}

/* Once it has ended and its message is here. What it has started may hold its output open. */
static void end_when_over(struct program *program)
{
    struct io *io = program->carrier->io;

    if (!program->has_ended || program->carry_is_away || program->is_closing)
        return;
    program->is_closing = true;
    io_timer_stop(io, &program->timer);
    io_timer_stop(io, &program->look_timer);
    io_close(io, &program->close, program->fd);
}

static void on_look(struct io_timer *timer)
{
    struct program *program = container_of(timer, struct program, look_timer);
    struct io *io = program->carrier->io;

    if (!io_program_has_ended(io, program->process, &program->status)) {
        io_timer_arm(io, timer, io_now_ns(io) + LOOK_NS);
        return;
    }
    program->has_ended = true;
    /* Its last words may still be on the way. */
    if (program->is_silent || program->state == PROGRAM_KILLED)
        end_when_over(program);
    else
        io_timer_arm(io, &program->timer, io_now_ns(io) + KILL_NS);
}

static void on_patience_over(struct io_timer *timer)
{
    struct program *program = container_of(timer, struct program, timer);
    struct io *io = program->carrier->io;

    if (program->has_ended) {
        end_when_over(program);
        return;
    }
    io_program_kill(io, program->process, program->state == PROGRAM_KILLED);
    program->state = PROGRAM_KILLED;
    io_timer_arm(io, timer, io_now_ns(io) + KILL_NS);
    if (!io_timer_is_armed(&program->look_timer))
        io_timer_arm(io, &program->look_timer, io_now_ns(io) + LOOK_NS);
}

static void be_patient(struct program *program, uint64_t patience_ms)
{
    struct io *io = program->carrier->io;

    if (program->state != PROGRAM_KILLED && !program->has_ended)
        io_timer_arm(io, &program->timer, io_now_ns(io) + patience_ms * 1000000);
}

/* ---- Its output ------------------------------------------------------------------------------ */

static size_t on_output(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct program *program = container_of(recv, struct program, recv);

    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n' || data[i] == '\r') {
            program->line_is_over = true;
            continue;
        }
        if (program->line_is_over)
            program->line = text_in(program->line_room, sizeof(program->line_room));
        program->line_is_over = false;
        text_put_char(&program->line, data[i] >= ' ' && data[i] != 0x7f ? (char)data[i] : ' ');
    }
    return len;
}

static void on_output_end(struct io_recv *recv, int32_t reason)
{
    struct program *program = container_of(recv, struct program, recv);

    if (reason == -ECANCELED)
        return;
    program->is_silent = true;
    end_when_over(program);
}

/* ---- Its input ------------------------------------------------------------------------------- */

static void feed(struct program *program);

static void end_input(struct program *program)
{
    if (program->state != PROGRAM_FEEDING)
        return;
    program->state = PROGRAM_WAITING;
    io_program_end_input(program->carrier->io, program->fd);
    be_patient(program, program->carry->termination_ms);
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct program *program = container_of(op, struct program, send);

    if (result == -ECANCELED)
        return;
    /* A program need not read its input to the end. */
    program->is_deaf |= result < 0;
    feed(program);
}

/* The next octets in the form that programs get, as many as have room. */
static size_t fill_room(struct program *program)
{
    struct carry *carry = program->carry;
    size_t octets = 0;

    for (;;) {
        octets += plain_form_put(&carry->form, &program->rest, program->room + octets,
                                 ROOM_BYTES - PLAIN_STEP_MAX - octets);
        if (program->rest.len > 0 || program->part == carry->part_count)
            break;
        program->rest =
            slice_of(carry->parts[program->part].iov_base, carry->parts[program->part].iov_len);
        program->part++;
    }
    if (program->rest.len == 0 && program->part == carry->part_count && !carry->goes_on)
        octets += plain_form_end(&carry->form, program->room + octets);
    return octets;
}

static void feed(struct program *program)
{
    struct carry *carry = program->carry;
    size_t octets;

    if (program->state != PROGRAM_FEEDING || program->is_closing)
        return;
    octets = program->is_deaf ? 0 : fill_room(program);
    if (octets > 0) {
        program->iov = (struct iovec){program->room, octets};
        be_patient(program, carry->send_ms);
        io_send(program->carrier->io, &program->send, program->fd, &program->iov, 1);
    } else if (carry->goes_on && !program->is_deaf) {
        program->carry_is_away = true;
        carrier_send_home(program->carrier, carry, CARRY_MORE);
    } else {
        end_input(program);
    }
}

/* ---- Parcels --------------------------------------------------------------------------------- */

static void fail_to_start(struct carrier *carrier, struct carry *carry, int error)
{
    char text[256];

    snprintf(text, sizeof(text), "cannot start \"%.100s\": %s", carry->way, err_text(error));
    set_verdict(carry, VERDICT_TRANSIENT, 3, 5, text);
    carrier_send_home(carrier, carry, CARRY_DONE);
}

static void begin(struct carrier *carrier, struct carry *carry)
{
    struct program *program;
    int result;

    if (carrier->is_over) {
        fail_to_start(carrier, carry, -ECANCELED);
        return;
    }
    if (carrier->program_count == CARRIER_PROGRAMS_MAX) {
        list_push_back(&carrier->queueing, &carry->link);
        return;
    }
    program = mem_try_alloc(sizeof(*program));
    if (!program) {
        fail_to_start(carrier, carry, -ENOMEM);
        return;
    }
    *program = (struct program){.carrier = carrier, .carry = carry};
    program->line = text_in(program->line_room, sizeof(program->line_room));
    result = start_program(program);
    if (result < 0) {
        mem_free(program);
        fail_to_start(carrier, carry, result);
        return;
    }
    carrier->program_count++;
    list_push_back(&carrier->programs, &program->link);
    carry->program = program;
    carry->form.lines = PLAIN_LF;
    io_op_init(&program->send, on_sent);
    io_op_init(&program->close, on_closed);
    io_timer_init(&program->timer, on_patience_over);
    io_timer_init(&program->look_timer, on_look);
    program->recv.on_data = on_output;
    program->recv.on_end = on_output_end;
    io_recv_start(carrier->io, &program->recv, program->fd);
    io_timer_arm(carrier->io, &program->look_timer, io_now_ns(carrier->io) + LOOK_NS);
    feed(program);
}

void carrier_program_run(struct carrier *carrier, struct carry *carry)
{
    struct program *program = carry->program;

    if (!program) {
        begin(carrier, carry);
        return;
    }
    program->carry_is_away = false;
    if (carry->parcel.kind == CARRY_OFF && program->state != PROGRAM_KILLED &&
        !program->has_ended) {
        /* It must not take half a message for a whole one. */
        io_program_kill(carrier->io, program->process, true);
        program->state = PROGRAM_KILLED;
        program->is_unreadable = true;
    }
    program->part = 0;
    end_when_over(program);
    feed(program);
}

void carrier_program_on_stop(struct io_timer *timer)
{
    struct carrier *carrier = container_of(timer, struct carrier, stop_timer);

    carrier->is_over = true;
    list_for_each (link, &carrier->programs) {
        struct program *program = container_of(link, struct program, link);

        if (!program->is_closing)
            io_timer_arm(carrier->io, &program->timer, io_now_ns(carrier->io));
    }
    while (!list_empty(&carrier->queueing))
        list_push_back(&carrier->jobs, list_pop_front(&carrier->queueing));
}
