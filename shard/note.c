#include "shard/note.h"

#include "core/base/log.h"
#include "core/mail/dsn.h"
#include "shard/shard_int.h"

#define GATHER_NS   (2 * 1000000000ull)
#define INTERVAL_NS (3600 * 1000000000ull)
#define LISTS_MAX   64u
#define RCPTS_MAX   16u

/* What a list of addresses is to be told. Slab object. */
struct note_digest {
    char to[NOTE_TO_MAX]; /* as the configuration has it, with NUL */
    char subject[200];    /* of the first event */
    char lines[NOTE_LINES_MAX];
    size_t lines_bytes;
    uint32_t event_count;
    uint64_t next_ns; /* not before */
};

static void on_timer(struct io_timer *timer);

void note_init(struct shard *shard)
{
    slab_init(&shard->notes.slab, sizeof(struct note_digest), LISTS_MAX);
    io_timer_init(&shard->notes.timer, on_timer);
}

void note_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->notes.timer);
    slab_fini(&shard->notes.slab);
}

static struct note_digest *digest_at(const struct shard *shard, uint32_t index)
{
    const struct slab *slab = &shard->notes.slab;

    return slab_is_live(slab, index) ? slab_at(slab, index) : NULL;
}

/* ---- Sending --------------------------------------------------------------------------------- */

static void write_note(void *context, struct slice id, struct text *text,
                       struct dsn_facts *ret_facts)
{
    struct dsn_note *note = context;

    note->id = id;
    dsn_note_write(note, text, ret_facts);
}

static void send_digest(struct shard *shard, const struct note_digest *digest)
{
    uint8_t room[RCPTS_MAX * (ADDRESS_PATH_MAX + ADDRESS_HOST_MAX + 16)];
    const struct conf_global *global = conf_global(shard->conf);
    struct slice rest = slice_str(digest->to), name;
    struct dsn_note note = {
        .host = slice_str(global->host_name),
        .now_us = io_wall_us(shard->io),
        .from = global->custom_dsn_from ? slice_str(global->custom_dsn_from) : SLICE_EMPTY,
        .to = slice_str(digest->to),
        .subject = slice_str(digest->subject),
        .lines = slice_of(digest->lines, digest->lines_bytes),
    };
    struct notice_mail mail = {.sender = SLICE_EMPTY, .vmta = SLICE_EMPTY, .is_signed = true};
    struct wire_writer w;

    wire_writer_init(&w, room, sizeof(room));
    while (mail.rcpt_count < RCPTS_MAX && conf_next_name(&rest, &name))
        mail.rcpt_count += notice_put_rcpt(name, &w);
    if (mail.rcpt_count == 0)
        return;
    mail.rcpts = slice_of(room, wire_written(&w));
    mail.content_bytes_max = dsn_note_bytes_max(&note);
    if (!notice_send(shard, &mail, write_note, &note, NULL))
        log_error("no memory for a note to %s", digest->to);
}

static void end_digest(struct note_digest *digest)
{
    struct text rest = text_in(digest->lines, sizeof(digest->lines));
    uint32_t told = 0;

    for (size_t i = 0; i < digest->lines_bytes; i++)
        told += digest->lines[i] == '\n';
    rest.len = digest->lines_bytes;
    if (told < digest->event_count) {
        text_put_literal(&rest, "... and ");
        text_put_u64(&rest, digest->event_count - told, 0);
        text_put_literal(&rest, " more, see the log\n");
    }
    digest->lines_bytes = rest.len;
}

/* The digest's hour is over, or its two seconds. True while it has to be looked at again. */
static bool look(struct shard *shard, struct note_digest *digest, uint32_t index)
{
    if (digest->next_ns > io_now_ns(shard->io))
        return true;
    if (digest->event_count == 0) {
        slab_free(&shard->notes.slab, index);
        return false;
    }
    end_digest(digest);
    send_digest(shard, digest);
    digest->lines_bytes = 0;
    digest->event_count = 0;
    digest->next_ns = io_now_ns(shard->io) + INTERVAL_NS;
    return true;
}

static void on_timer(struct io_timer *timer)
{
    struct shard *shard = container_of(timer, struct shard, notes.timer);
    uint64_t next_ns = UINT64_MAX;

    if (shard->stopping)
        return;
    for (uint32_t i = 0; i < shard->notes.slab.count_grown; i++) {
        struct note_digest *digest = digest_at(shard, i);

        if (digest && look(shard, digest, i) && digest->next_ns < next_ns)
            next_ns = digest->next_ns;
    }
    if (next_ns != UINT64_MAX)
        io_timer_arm(shard->io, timer, next_ns);
}

/* ---- Gathering ------------------------------------------------------------------------------- */

static struct note_digest *find_digest(struct shard *shard, const char *to)
{
    struct note_digest *digest;
    uint32_t index;

    for (uint32_t i = 0; i < shard->notes.slab.count_grown; i++) {
        digest = digest_at(shard, i);
        if (digest && strcmp(digest->to, to) == 0)
            return digest;
    }
    digest = strlen(to) < NOTE_TO_MAX ? slab_alloc(&shard->notes.slab, &index) : NULL;
    if (!digest) {
        shard->notes.dropped++;
        return NULL;
    }
    snprintf(digest->to, sizeof(digest->to), "%s", to);
    digest->next_ns = io_now_ns(shard->io) + GATHER_NS;
    on_timer(&shard->notes.timer);
    return digest;
}

/* One event more: who it is about, and what happened to it. */
static void tell(struct shard *shard, const char *to, const char *who, const char *what,
                 const char *reason)
{
    struct note_digest *digest = find_digest(shard, to);
    char room[REPORT_NAME_MAX + ORDER_REASON_MAX + 128];
    struct text line = text_in(room, sizeof(room));

    if (!digest)
        return;
    if (digest->event_count++ == 0)
        snprintf(digest->subject, sizeof(digest->subject), "%.120s %s", who, what);
    text_put_date(&line, io_wall_us(shard->io));
    text_put_literal(&line, ": ");
    text_put_str(&line, who);
    text_put_char(&line, ' ');
    text_put_str(&line, what);
    text_put_str(&line, reason ? ": " : "");
    text_put_str(&line, reason ? reason : "");
    for (size_t i = 0; i < line.len; i++)
        room[i] = room[i] == '\n' ? ' ' : room[i];
    line.len -= line.len == sizeof(room) - 1; /* room for the end, should it have been cut */
    text_put_char(&line, '\n');
    /* The last words need room too. */
    if (digest->lines_bytes + line.len + 64 > sizeof(digest->lines))
        return;
    memcpy(digest->lines + digest->lines_bytes, line.data, line.len);
    digest->lines_bytes += line.len;
}

void note_mode(struct shard *shard, const struct queue *queue, const char *reason)
{
    const char *to = queue->settings.backoff_notify;
    char name[REPORT_NAME_MAX];

    if (!to)
        return;
    queues_name(shard, queue, name, sizeof(name));
    tell(shard, to, name, reason ? "went into backoff mode" : "is in normal mode again", reason);
}

void note_order(struct shard *shard, const struct order_facts *facts, bool begins)
{
    const char *slash = strrchr(facts->who, '/');
    char address[IPADDR_TEXT_MAX], about[IPADDR_TEXT_MAX + REPORT_NAME_MAX + 8];
    struct conf_queue settings;

    snprintf(address, sizeof(address), "mail");
    if (!order_is_of_mail(facts->kind))
        ipaddr_format(&facts->source, address);
    log_warn("%s of %s for %s %s: %s", order_kind_text(facts->kind), address, facts->who,
             begins ? "begins" : "is over", facts->reason);
    if (facts->kind != ORDER_SOURCE_OFF || !slash)
        return;
    conf_queue(shard->conf, slice_of(facts->who, (size_t)(slash - facts->who)),
               conf_vmta_id(shard->conf, slice_str(slash + 1)), &settings);
    if (!settings.disabled_source_ip_notify)
        return;
    snprintf(about, sizeof(about), "%s for %s", address, facts->who);
    tell(shard, settings.disabled_source_ip_notify, about,
         begins ? "is disabled" : "is enabled again", facts->reason);
}
