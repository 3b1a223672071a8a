/*
 * The helper's way; it is started when a job waits, and not before `start_ns`:
 *
 *   NONE -> RUNNING -> ENDING (killed, its socket closing, its exit status awaited) -> NONE
 *
 * A job is in one of three lists: it waits with those of its kind, or the helper that runs was
 * asked for it.
 */
#include "shard/sts_fetch.h"

#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/conf/conf.h"
#include "core/io/io.h"

#include <errno.h>

#define TRIES_MAX     2u
#define LOOK_NS       50000000ull
#define HUNG_NS       ((STS_WIRE_FETCH_MS + 5000) * 1000000ull)
#define PAUSE_MIN_NS  1000000000ull
#define PAUSE_MAX_NS  60000000000ull
#define ARGUMENTS_MAX 40

enum helper_state {
    HELPER_NONE,
    HELPER_RUNNING,
    HELPER_ENDING,
};

struct sts_job {
    struct list link;
    uint32_t number;
    uint32_t tries;
    uint64_t asked_ns;
    struct sts_post *post; /* NULL: a policy is wanted, of the domain */
    uint32_t domain_len;
    char domain[STS_WIRE_DOMAIN_MAX];
};

struct sts_fetch {
    struct io *io;
    char *program;
    struct conf *const *conf;
    sts_fetch_done_fn *on_done;
    void *context;
    char *arguments[ARGUMENTS_MAX + 1]; /* of the helper that runs, or ran; up to NULL */
    enum helper_state state;
    int fd;
    int process;
    bool is_closed; /* ENDING: the socket is */
    bool is_stopping;
    bool is_missing; /* the program, and it was said */
    uint32_t last_number;
    uint32_t asked_policies;
    uint32_t asked_reports;
    uint32_t restarts;
    uint64_t start_ns; /* no helper is started before */
    uint64_t pause_ns;
    struct list policies; /* jobs that wait, of each kind */
    struct list reports;
    struct list asked; /* oldest first */
    struct io_timer timer;
    struct io_op send;
    struct io_op close;
    struct io_recv recv;
    struct iovec iov;
    /* What is being sent: requests for policies, and one report. */
    char requests[STS_WIRE_FETCHES_MAX * STS_WIRE_LINE_MAX + STS_WIRE_REPORT_LINE_MAX +
                  STS_WIRE_REPORT_BYTES_MAX];
    struct sts_wire_reader reader;
};

static void pump(struct sts_fetch *fetch);

/* ---- Jobs ------------------------------------------------------------------------------------ */

static void finish(struct sts_fetch *fetch, struct sts_job *job, enum sts_wire_result result,
                   struct slice text)
{
    list_remove(&job->link);
    if (job->post)
        job->post->on_done(job->post, result, text);
    else
        fetch->on_done(fetch->context, slice_of(job->domain, job->domain_len), result, text);
    mem_free(job);
}

static void fail_kind(struct sts_fetch *fetch, struct list *jobs, uint32_t tries_min,
                      const char *why)
{
    struct list *link = jobs->next;

    while (link != jobs) {
        struct sts_job *job = container_of(link, struct sts_job, link);

        link = link->next;
        if (job->tries >= tries_min)
            finish(fetch, job, STS_WIRE_UNREACHED, slice_str(why));
    }
}

static void fail_waiting(struct sts_fetch *fetch, uint32_t tries_min, const char *why)
{
    fail_kind(fetch, &fetch->policies, tries_min, why);
    fail_kind(fetch, &fetch->reports, tries_min, why);
}

static bool has_waiting(const struct sts_fetch *fetch)
{
    return !list_empty(&fetch->policies) || !list_empty(&fetch->reports);
}

static void wait_in_line(struct sts_fetch *fetch, struct sts_job *job)
{
    list_push_back(job->post ? &fetch->reports : &fetch->policies, &job->link);
}

/* ---- The end of a helper --------------------------------------------------------------------- */

static void end_when_over(struct sts_fetch *fetch)
{
    int status;

    if (!fetch->is_closed || !io_program_has_ended(fetch->io, fetch->process, &status)) {
        io_timer_arm(fetch->io, &fetch->timer, io_now_ns(fetch->io) + LOOK_NS);
        return;
    }
    fetch->state = HELPER_NONE;
    pump(fetch);
}

static void on_closed(struct io_op *op, int32_t result)
{
    struct sts_fetch *fetch = container_of(op, struct sts_fetch, close);

    (void)result;
    fetch->is_closed = true;
    end_when_over(fetch);
}

static void end_helper(struct sts_fetch *fetch)
{
    fetch->state = HELPER_ENDING;
    fetch->is_closed = false;
    io_program_kill(fetch->io, fetch->process, true);
    io_close(fetch->io, &fetch->close, fetch->fd);
}

static void put_off_start(struct sts_fetch *fetch)
{
    fetch->start_ns = io_now_ns(fetch->io) + fetch->pause_ns;
    fetch->pause_ns = fetch->pause_ns < PAUSE_MAX_NS / 2 ? fetch->pause_ns * 2 : PAUSE_MAX_NS;
}

/* It has ended, or has to. What it was asked for waits again. */
static void lose_helper(struct sts_fetch *fetch, const char *why)
{
    struct list *link;

    log_error("ringpost-sts %s; it is started again", why);
    fetch->restarts++;
    while ((link = list_pop_front(&fetch->asked)))
        wait_in_line(fetch, container_of(link, struct sts_job, link));
    fetch->asked_policies = fetch->asked_reports = 0;
    fail_waiting(fetch, TRIES_MAX, "the helper program ended over it");
    put_off_start(fetch);
    end_helper(fetch);
}

/* ---- What it says ---------------------------------------------------------------------------- */

static bool take_answer(struct sts_fetch *fetch)
{
    const struct sts_wire_answer *answer = &fetch->reader.answer;

    list_for_each (link, &fetch->asked) {
        struct sts_job *job = container_of(link, struct sts_job, link);

        if (job->number != answer->number)
            continue;
        if (answer->result == (job->post ? STS_WIRE_POLICY : STS_WIRE_TAKEN))
            return false;
        if (job->post)
            fetch->asked_reports--;
        else
            fetch->asked_policies--;
        fetch->pause_ns = PAUSE_MIN_NS;
        finish(fetch, job, answer->result, answer->text);
        return true;
    }
    return false;
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct sts_fetch *fetch = container_of(recv, struct sts_fetch, recv);
    struct slice rest = slice_of(data, len);
    int result = 1;

    if (fetch->state != HELPER_RUNNING)
        return len;
    while (result > 0) {
        result = sts_wire_read(&fetch->reader, &rest);
        if (result < 0 || (result > 0 && !take_answer(fetch))) {
            lose_helper(fetch, "says what is no answer");
            return len;
        }
    }
    pump(fetch);
    return len;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct sts_fetch *fetch = container_of(recv, struct sts_fetch, recv);

    if (reason != -ECANCELED && fetch->state == HELPER_RUNNING)
        lose_helper(fetch, "has ended");
}

/* ---- What it is asked ------------------------------------------------------------------------ */

static void on_sent(struct io_op *op, int32_t result)
{
    struct sts_fetch *fetch = container_of(op, struct sts_fetch, send);

    /* That it has gone is told by the end of what it says. */
    if (result >= 0)
        pump(fetch);
}

/* The first of the line becomes one that the helper is asked for. */
static struct sts_job *take_job(struct sts_fetch *fetch, struct list *line)
{
    struct sts_job *job = container_of(line->next, struct sts_job, link);

    list_remove(&job->link);
    job->number = ++fetch->last_number;
    job->tries++;
    job->asked_ns = io_now_ns(fetch->io);
    list_push_back(&fetch->asked, &job->link);
    return job;
}

static size_t put_policies(struct sts_fetch *fetch, char *room)
{
    size_t len = 0;

    while (fetch->asked_policies < STS_WIRE_FETCHES_MAX && !list_empty(&fetch->policies)) {
        struct sts_job *job = take_job(fetch, &fetch->policies);

        fetch->asked_policies++;
        len +=
            sts_wire_print_request(job->number, slice_of(job->domain, job->domain_len), room + len);
    }
    return len;
}

/* One at a time. It is copied, for what was answered is the caller's again, sent or not. */
static size_t put_report(struct sts_fetch *fetch, char *room)
{
    const struct sts_job *job;
    struct slice report;
    size_t len;

    if (fetch->asked_reports == STS_WIRE_REPORTS_MAX || list_empty(&fetch->reports))
        return 0;
    job = take_job(fetch, &fetch->reports);
    fetch->asked_reports++;
    report = job->post->report;
    len = sts_wire_print_report_head(job->number, job->post->uri, (uint32_t)report.len, room);
    memcpy(room + len, report.data, report.len);
    return len + report.len;
}

static void ask(struct sts_fetch *fetch)
{
    size_t len;

    if (io_op_in_flight(&fetch->send))
        return;
    len = put_policies(fetch, fetch->requests);
    len += put_report(fetch, fetch->requests + len);
    if (len == 0)
        return;
    fetch->iov = (struct iovec){fetch->requests, len};
    io_send(fetch->io, &fetch->send, fetch->fd, &fetch->iov, 1);
}

/* ---- The start of a helper ------------------------------------------------------------------- */

/* As the configuration has them now. */
static void list_arguments(const struct sts_fetch *fetch, const char *arguments[ARGUMENTS_MAX + 1])
{
    const struct conf_global *global = conf_global(*fetch->conf);
    uint32_t count = 0;

    arguments[count++] = fetch->program;
    if (global->mta_sts_authorities) {
        arguments[count++] = "--ca-file";
        arguments[count++] = global->mta_sts_authorities->path;
    }
    if (global->allow_loopback_mx)
        arguments[count++] = "--allow-loopback";
    if (!global->allow_private_mx)
        arguments[count++] = "--refuse-private";
    for (uint32_t i = 0; i < global->name_server_count && count + 2 <= ARGUMENTS_MAX; i++) {
        arguments[count++] = "--name-server";
        arguments[count++] = global->name_servers[i];
    }
    arguments[count] = NULL;
}

static void forget_arguments(struct sts_fetch *fetch)
{
    for (uint32_t i = 0; fetch->arguments[i]; i++)
        mem_free(fetch->arguments[i]);
    fetch->arguments[0] = NULL;
}

static int spawn(struct sts_fetch *fetch)
{
    const char *arguments[ARGUMENTS_MAX + 1];
    uint32_t count = 0;

    if (!fetch->program)
        return -ENOENT;
    forget_arguments(fetch);
    list_arguments(fetch, arguments);
    for (; arguments[count]; count++)
        fetch->arguments[count] = mem_strdup(arguments[count]);
    fetch->arguments[count] = NULL;
    return io_program_start(fetch->io, fetch->arguments, &fetch->fd, &fetch->process);
}

/* Whether a reload has changed what the helper that runs was told. */
static bool is_outdated(const struct sts_fetch *fetch)
{
    const char *now[ARGUMENTS_MAX + 1];
    uint32_t i = 0;

    list_arguments(fetch, now);
    while (now[i] && fetch->arguments[i] && strcmp(now[i], fetch->arguments[i]) == 0)
        i++;
    return now[i] || fetch->arguments[i];
}

/* Either there is no such program, or it cannot be started just now. */
static void on_no_start(struct sts_fetch *fetch, int result)
{
    bool is_missing = result == -ENOENT || result == -EACCES;

    if (!fetch->is_missing)
        log_error("no policies of MTA-STS, and no reports about TLS by https: %s: %s",
                  fetch->program ? fetch->program : "ringpost-sts", err_text(result));
    fetch->is_missing = is_missing;
    if (!is_missing)
        put_off_start(fetch);
    fail_waiting(fetch, 0, "the helper program cannot be started");
}

static void start(struct sts_fetch *fetch)
{
    int result = spawn(fetch);

    if (result < 0) {
        on_no_start(fetch, result);
        return;
    }
    fetch->is_missing = false;
    fetch->state = HELPER_RUNNING;
    fetch->reader.progress = (struct sts_wire_progress){0};
    fetch->recv = (struct io_recv){.on_data = on_data, .on_end = on_end};
    io_recv_start(fetch->io, &fetch->recv, fetch->fd);
}

/* One that was told something else is asked no more, and ends when it has answered. */
static void ask_or_end(struct sts_fetch *fetch)
{
    if (!is_outdated(fetch))
        ask(fetch);
    else if (list_empty(&fetch->asked))
        end_helper(fetch);
}

/* Whatever can go on does, and the timer knows when the rest can. */
static void pump(struct sts_fetch *fetch)
{
    uint64_t now_ns = io_now_ns(fetch->io);

    if (fetch->is_stopping)
        return;
    if (fetch->state == HELPER_NONE && has_waiting(fetch) && now_ns >= fetch->start_ns)
        start(fetch);
    if (fetch->state == HELPER_RUNNING)
        ask_or_end(fetch);
    if (fetch->state == HELPER_NONE && has_waiting(fetch))
        io_timer_arm(fetch->io, &fetch->timer, fetch->start_ns);
    if (fetch->state == HELPER_RUNNING && !list_empty(&fetch->asked))
        io_timer_arm(fetch->io, &fetch->timer,
                     container_of(fetch->asked.next, struct sts_job, link)->asked_ns + HUNG_NS);
}

static void on_timer(struct io_timer *timer)
{
    struct sts_fetch *fetch = container_of(timer, struct sts_fetch, timer);
    uint64_t now_ns = io_now_ns(fetch->io);

    if (fetch->state == HELPER_ENDING)
        end_when_over(fetch);
    else if (fetch->state == HELPER_RUNNING && !list_empty(&fetch->asked) &&
             container_of(fetch->asked.next, struct sts_job, link)->asked_ns + HUNG_NS <= now_ns)
        lose_helper(fetch, "does not answer");
    else
        pump(fetch);
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct sts_fetch *sts_fetch_create(struct io *io, const char *program, struct conf *const *conf,
                                   sts_fetch_done_fn *on_done, void *context)
{
    struct sts_fetch *fetch = mem_alloc(sizeof(*fetch));

    fetch->io = io;
    fetch->program = program ? mem_strdup(program) : NULL;
    fetch->conf = conf;
    fetch->on_done = on_done;
    fetch->context = context;
    fetch->pause_ns = PAUSE_MIN_NS;
    list_init(&fetch->policies);
    list_init(&fetch->reports);
    list_init(&fetch->asked);
    io_timer_init(&fetch->timer, on_timer);
    io_op_init(&fetch->send, on_sent);
    io_op_init(&fetch->close, on_closed);
    return fetch;
}

static void free_jobs(struct list *jobs)
{
    struct list *link;

    while ((link = list_pop_front(jobs)))
        mem_free(container_of(link, struct sts_job, link));
}

void sts_fetch_destroy(struct sts_fetch *fetch)
{
    if (!fetch)
        return;
    free_jobs(&fetch->policies);
    free_jobs(&fetch->reports);
    free_jobs(&fetch->asked);
    forget_arguments(fetch);
    mem_free(fetch->program);
    mem_free(fetch);
}

static void begin(struct sts_fetch *fetch, struct sts_job *job)
{
    wait_in_line(fetch, job);
    /* on_done must not come from inside. */
    if (!io_timer_is_armed(&fetch->timer) || fetch->state == HELPER_RUNNING)
        io_timer_arm(fetch->io, &fetch->timer, io_now_ns(fetch->io));
}

void sts_fetch_begin(struct sts_fetch *fetch, struct slice domain)
{
    struct sts_job *job = mem_alloc(sizeof(*job));

    must(domain.len <= sizeof(job->domain));
    job->domain_len = (uint32_t)domain.len;
    memcpy(job->domain, domain.data, domain.len);
    begin(fetch, job);
}

void sts_fetch_post(struct sts_fetch *fetch, struct sts_post *post)
{
    struct sts_job *job = mem_alloc(sizeof(*job));

    must(post->uri.len <= HTTPS_URI_MAX && post->report.len <= STS_WIRE_REPORT_BYTES_MAX);
    job->post = post;
    begin(fetch, job);
}

bool sts_fetch_stop(struct sts_fetch *fetch)
{
    fetch->is_stopping = true;
    if (fetch->state == HELPER_RUNNING)
        end_helper(fetch);
    if (fetch->state == HELPER_NONE)
        io_timer_stop(fetch->io, &fetch->timer);
    return fetch->state == HELPER_NONE;
}

bool sts_fetch_is_missing(const struct sts_fetch *fetch)
{
    return fetch->is_missing;
}

uint32_t sts_fetch_restarts(const struct sts_fetch *fetch)
{
    return fetch->restarts;
}
