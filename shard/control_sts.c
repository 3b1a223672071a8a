/*
 * Policies of MTA-STS for all shards: the book, what is fetched for it, and its file.
 *
 * The file stands in the first spool folder: "ringpost mta-sts 1 CRC" (of all that follows), then
 * the book's text. It is written anew as a whole, synced and renamed, some seconds after a change:
 * what a crash loses is fetched again.
 */
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/control_int.h"
#include "shard/kept_file.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#define FILE_NAME   "mta-sts"
#define HEAD_MAX    64
#define FILE_MAX    (64u * 1024 * 1024)
#define BOOK_COUNT  20000u
#define STORE_NS    5000000000ull
#define SWEEP_NS    60000000000ull
#define SWEEP_COUNT 32

static uint64_t now_s(const struct control *control)
{
    return io_wall_us(control->io) / 1000000;
}

/* ---- The file -------------------------------------------------------------------------------- */

static const char *folder(const struct control *control)
{
    return conf_global(control->conf)->spools[0].path;
}

static int parse(struct control *control, const char *text, size_t len)
{
    struct slice rest;
    uint32_t crc;
    int used = 0;

    if (sscanf(text, "ringpost mta-sts 1 %8x%n", &crc, &used) != 1 || text[used] != '\n')
        return E_DAMAGED;
    rest = slice_of(text + used + 1, len - (size_t)used - 1);
    if (crc32c(0, rest.data, rest.len) != crc)
        return E_DAMAGED;
    return sts_book_load(&control->sts.book, rest, now_s(control));
}

/* When it is wanted first. */
static void load(struct control *control)
{
    char *text = NULL;
    int64_t result;

    if (control->sts.is_loaded)
        return;
    control->sts.is_loaded = true;
    result = kept_file_load(control->io, folder(control), FILE_NAME, FILE_MAX, &text);
    if (result >= 0)
        result = parse(control, text, (size_t)result);
    mem_free(text);
    if (result < 0 && result != -ENOENT)
        log_error("%s/" FILE_NAME ": %s; policies of MTA-STS are fetched anew", folder(control),
                  err_text((int)result));
}

static void store(struct control *control)
{
    char head[HEAD_MAX], *text;
    int head_len, result;
    size_t len;

    if (!control->sts.book.is_changed)
        return;
    text = sts_book_print(&control->sts.book, now_s(control), &len);
    head_len = snprintf(head, sizeof(head), "ringpost mta-sts 1 %08x\n", crc32c(0, text, len));
    result = kept_file_store(control->io, folder(control), FILE_NAME,
                             slice_of(head, (size_t)head_len), slice_of(text, len));
    mem_free(text);
    if (result < 0 && !control->sts.is_unwritten)
        log_error("%s/" FILE_NAME ": %s; a restart would not know of all policies of MTA-STS",
                  folder(control), err_text(result));
    control->sts.is_unwritten = result < 0;
    control->sts.book.is_changed = result < 0;
}

/* ---- Questions of shards --------------------------------------------------------------------- */

static void answer(struct control *control, struct sts_question *question,
                   const struct sts_known *known, enum sts_wire_result result)
{
    question->result = result;
    question->is_open = known && known->is_open;
    question->text_len = 0;
    if (known && sts_known_counts(known, now_s(control))) {
        question->left_s = known->until_s - now_s(control);
        question->text_len = known->text_len;
        memcpy(question->text, known->text, known->text_len);
    }
    mailbox_post(control->wiring.to_shards[question->parcel.from], &question->parcel);
}

static void begin(struct control *control, struct sts_known *known)
{
    sts_book_open(known);
    sts_fetch_begin(control->sts.fetch, slice_str(known->domain));
}

void control_sts_take(struct control *control, struct parcel *parcel)
{
    struct sts_question *question = container_of(parcel, struct sts_question, parcel);
    struct control_sts *sts = &control->sts;
    struct slice domain = slice_str(question->domain);
    struct sts_known *known;
    enum sts_need need;

    load(control);
    if (!sts_wire_is_name(domain))
        question->record = STS_RECORD_NONE;
    need = sts_book_ask(&sts->book, domain, question->record, slice_str(question->id),
                        now_s(control), &known);
    if (need == STS_NEED_FETCH && control->phase == CONTROL_RUNNING)
        begin(control, known);
    if (need == STS_NEED_NOTHING || !known->is_open || !question->may_wait) {
        answer(control, question, known, STS_WIRE_POLICY);
        return;
    }
    question->ends_ns = io_now_ns(control->io) + STS_ASK_WAIT_MS * 1000000ull;
    list_push_back(&sts->questions, &question->link);
    if (!io_timer_is_armed(&sts->timer))
        io_timer_arm(control->io, &sts->timer, question->ends_ns);
}

/* They wait no longer: all wait equally long, so that the first one is the oldest. */
static void on_timer(struct io_timer *timer)
{
    struct control_sts *sts = container_of(timer, struct control_sts, timer);
    struct control *control = sts->control;

    while (!list_empty(&sts->questions)) {
        struct sts_question *question =
            container_of(sts->questions.next, struct sts_question, link);

        if (question->ends_ns > io_now_ns(control->io)) {
            io_timer_arm(control->io, timer, question->ends_ns);
            return;
        }
        list_remove(&question->link);
        answer(control, question, sts_book_find(&sts->book, slice_str(question->domain)),
               STS_WIRE_POLICY);
    }
}

static void answer_all(struct control *control, const struct sts_known *known,
                       enum sts_wire_result result)
{
    struct list *head = &control->sts.questions, *link = head->next;

    while (link != head) {
        struct sts_question *question = container_of(link, struct sts_question, link);

        link = link->next;
        if (strcmp(question->domain, known->domain) != 0)
            continue;
        list_remove(&question->link);
        answer(control, question, known, result);
    }
}

static void on_fetched(void *context, struct slice domain, enum sts_wire_result result,
                       struct slice text)
{
    struct control *control = context;
    struct sts_known *known = sts_book_find(&control->sts.book, domain);

    /* What is open gives way to nobody. */
    must(known && known->is_open);
    if (result != STS_WIRE_POLICY)
        sts_book_fail(known, text, now_s(control));
    else if (sts_book_take(&control->sts.book, known, text, now_s(control)) < 0)
        result = STS_WIRE_UNFIT;
    if (result == STS_WIRE_POLICY)
        log_info("MTA-STS %s: policy %s, mode %s", known->domain, known->id,
                 sts_mode_name(known->mode));
    else if (!sts_fetch_is_missing(control->sts.fetch))
        log_warn("MTA-STS %s: policy %s cannot be had: %s%s", known->domain, known->wanted_id,
                 known->why, sts_known_counts(known, now_s(control)) ? "; the old one counts" : "");
    answer_all(control, known, result);
}

/* ---- Now and then ---------------------------------------------------------------------------- */

static void renew_some(struct control *control)
{
    struct sts_known *known;

    for (int i = 0; i < SWEEP_COUNT; i++) {
        known = sts_book_due(&control->sts.book, now_s(control));
        if (!known)
            return;
        begin(control, known);
    }
}

void control_sts_tick(struct control *control)
{
    struct control_sts *sts = &control->sts;
    uint64_t now_ns = io_now_ns(control->io);

    if (conf_global(control->conf)->mta_sts_authorities)
        load(control);
    if (!sts->is_loaded)
        return;
    if (now_ns >= sts->store_ns) {
        store(control);
        sts->store_ns = now_ns + STORE_NS;
    }
    if (now_ns >= sts->sweep_ns && conf_global(control->conf)->mta_sts_authorities) {
        renew_some(control);
        sts->sweep_ns = now_ns + SWEEP_NS;
    }
}

/* ---- Life ------------------------------------------------------------------------------------ */

void control_sts_init(struct control *control, const char *program)
{
    struct control_sts *sts = &control->sts;

    sts->control = control;
    sts_book_init(&sts->book, BOOK_COUNT);
    sts->fetch = sts_fetch_create(control->io, program, &control->conf, on_fetched, control);
    list_init(&sts->questions);
    io_timer_init(&sts->timer, on_timer);
}

bool control_sts_stop(struct control *control)
{
    store(control);
    io_timer_stop(control->io, &control->sts.timer);
    return sts_fetch_stop(control->sts.fetch);
}

void control_sts_fini(struct control *control)
{
    sts_fetch_destroy(control->sts.fetch);
    sts_book_fini(&control->sts.book);
}

/* ---- show mta-sts ---------------------------------------------------------------------------- */

static json_t *hosts_of(const struct sts_known *known)
{
    struct sts_policy policy;
    json_t *hosts = json_array();

    if (sts_policy_parse(slice_of(known->text, known->text_len), &policy) < 0)
        return hosts;
    for (uint32_t i = 0; i < policy.mx_count; i++)
        json_array_append_new(hosts,
                              json_stringn((const char *)policy.mx[i].data, policy.mx[i].len));
    return hosts;
}

static json_t *known_tree(const struct control *control, const struct sts_known *known)
{
    json_t *row = json_object();
    bool counts = sts_known_counts(known, now_s(control));

    json_object_set_new(row, "domain", control_string(known->domain));
    json_object_set_new(row, "mode", json_string(counts ? sts_mode_name(known->mode) : ""));
    json_object_set_new(row, "id", json_string(counts ? known->id : ""));
    json_object_set_new(row, "until", control_time(counts ? known->until_s * 1000000 : 0));
    json_object_set_new(row, "fetched", control_time(known->fetched_s * 1000000));
    json_object_set_new(row, "failed", control_time(known->failed_s * 1000000));
    json_object_set_new(row, "why", control_string(known->failed_s > 0 ? known->why : ""));
    if (counts)
        json_object_set_new(row, "mx", hosts_of(known));
    return row;
}

static void sts_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"domain", "domain", false}, {"mode", "mode", false},     {"id", "id", false},
        {"until", "until", false},   {"failed", "failed", false}, {"why", "why", false},
    };

    render_table(json_object_get(data, "policy"), columns, sizeof(columns) / sizeof(columns[0]),
                 out);
}

void control_sts_verb(struct control *control, struct control_client *client)
{
    const struct verb_request *request = &client->request;
    bool is_bounded = (request->given & VERB_BIT(OPTION_MAXITEMS)) != 0;
    uint32_t left = is_bounded ? request->maxitems : CONTROL_SHOWN_MAX;
    struct control_answer reply = {.data = json_object(), .text = sts_text};
    json_t *rows = json_array();

    load(control);
    for (struct list *link = control->sts.book.by_use.prev;
         link != &control->sts.book.by_use && left > 0; link = link->prev) {
        const struct sts_known *known = container_of(link, struct sts_known, link);

        if (strcmp(request->domain, "*") != 0 && strcasecmp(request->domain, known->domain) != 0)
            continue;
        json_array_append_new(rows, known_tree(control, known));
        left--;
    }
    json_object_set_new(reply.data, "helperRestarts",
                        json_integer(sts_fetch_restarts(control->sts.fetch)));
    json_object_set_new(reply.data, "policy", rows);
    control_client_answer(client, &reply);
    control_answer_free(&reply);
}
