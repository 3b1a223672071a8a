/*
 * Reports about TLS (RFC 8460): the counts of all shards joined, and the reports of ended books
 * made and handed to shards, which look up where they go and write the mail (tls_report_mail.h).
 * From there they come home to be posted to https addresses (tls_post.h). A domain whose report an
 * address did not take stays in its book, and the order is given again later, for https alone.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/control_int.h"
#include "shard/tlsrpt_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define ASK_NS         60000000000ull /* what a crash of a shard's thread could lose */
#define STORE_NS       300000000000ull
#define ASK_TIMEOUT_MS 10000u
#define AGAIN_S        3600 /* after the DNS had no answer */
#define NO_ROOM_S      30   /* as many as can be are being posted to its host */
/* In base64, with its frame, a mail that any notice may be as large as. */
#define CONTENT_MAX    32768u

_Static_assert(CONTENT_MAX <= STS_WIRE_REPORT_BYTES_MAX, "a report can be posted");

static tls_post_done_fn on_posted;

static bool is_wanted(const struct control *control)
{
    return conf_global(control->conf)->tls_report_from != NULL;
}

void control_tls_report_init(struct control *control)
{
    struct slice host = slice_str(conf_global(control->conf)->host_name);

    tls_books_init(&control->tls_report.books, control->io, hash_bytes(host.data, host.len));
    tls_posts_init(&control->tls_report.posts, control->sts.fetch, on_posted);
}

void control_start_tls_reports(struct control *control)
{
    tls_books_load(&control->tls_report.books, conf_global(control->conf)->spools[0].path);
}

static void store(struct control *control)
{
    int result = tls_books_store(&control->tls_report.books);

    if (result < 0)
        log_warn("%s: %s; a crash would lose what was counted of TLS",
                 control->tls_report.books.directory, err_text(result));
}

void control_tls_report_fini(struct control *control)
{
    for (uint32_t i = 0; i < CONTROL_TLS_ORDERS; i++)
        mem_free(control->tls_report.orders[i].order.content);
    tls_posts_fini(&control->tls_report.posts);
    tls_books_fini(&control->tls_report.books);
}

void control_tls_report_stop(struct control *control)
{
    store(control);
}

/* ---- Orders ---------------------------------------------------------------------------------- */

static void name_report(const struct control *control, struct tls_report_order *order)
{
    time_t second = (time_t)order->from_s;
    char stamp[32];
    struct tm tm;

    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&second, &tm));
    snprintf(order->report_id, sizeof(order->report_id), "%s.%.150s@%.100s", stamp, order->domain,
             conf_global(control->conf)->host_name);
}

/* False when memory is short. */
static bool write_report(const struct control *control, const struct tlsrpt_domain *domain,
                         struct tls_report_order *order)
{
    const struct conf_global *global = conf_global(control->conf);
    const char *from = global->tls_report_from, *at = strchr(from, '@');
    struct tlsrpt_report report = {
        .organization = global->tls_report_organization ? global->tls_report_organization
                        : at                            ? at + 1
                                                        : from,
        .contact = global->tls_report_contact ? global->tls_report_contact : from,
        .id = order->report_id,
        .from_s = order->from_s,
        .until_s = order->until_s,
        .domain = domain,
        .has_details = true,
    };

    for (;; report.has_details = false) {
        char *text = tlsrpt_json(&report);

        if (!text)
            return false;
        order->content = tlsrpt_gzip(slice_str(text), &order->content_bytes);
        mem_free(text);
        if (!order->content || order->content_bytes <= CONTENT_MAX || !report.has_details)
            return order->content != NULL;
        mem_free(order->content);
    }
}

static struct control_tls_order *free_order(struct control *control)
{
    for (uint32_t i = 0; i < CONTROL_TLS_ORDERS; i++)
        if (!control->tls_report.orders[i].is_away)
            return &control->tls_report.orders[i];
    return NULL;
}

/* For what is away, and one more: who could only come home in vain stays. */
static bool has_room_to_post(const struct control *control)
{
    uint32_t count = control->tls_report.posts.count;

    for (uint32_t i = 0; i < CONTROL_TLS_ORDERS; i++)
        count += control->tls_report.orders[i].is_away;
    return count < TLS_POSTS_MAX;
}

static void send_due(struct control *control)
{
    struct control_tls_order *free;
    struct tlsrpt_domain *domain;
    struct tlsrpt_book *book;

    /* A reload may have ended them. */
    if (!is_wanted(control))
        return;
    while ((free = free_order(control)) != NULL &&
           (domain = tls_books_due(&control->tls_report.books, has_room_to_post(control), &book)) !=
               NULL) {
        struct tls_report_order *order = &free->order;

        *order = (struct tls_report_order){.from_s = book->from_s, .until_s = book->until_s};
        snprintf(order->domain, sizeof(order->domain), "%s", domain->name);
        name_report(control, order);
        if (!write_report(control, domain, order)) {
            log_error("no memory for the TLS report of %s", domain->name);
            return;
        }
        free->is_away = true;
        domain->is_away = true;
        order->is_mailed = domain->is_begun;
        order->parcel = (struct parcel){.kind = TLS_REPORT_ORDER};
        mailbox_post(control->wiring.to_shards[domain->index % control->shard_count],
                     &order->parcel);
    }
}

/* The book of that span; it may have been dropped meanwhile. */
static struct tlsrpt_domain *find_domain(struct tls_books *books, const char *name, int64_t from_s,
                                         int64_t until_s, struct tlsrpt_book **ret_book)
{
    for (uint32_t i = 0; i < books->ended_count; i++) {
        struct tlsrpt_book *book = &books->ended[i];

        *ret_book = book;
        if (book->from_s == from_s && book->until_s == until_s)
            return tlsrpt_book_find(book, slice_str(name));
    }
    return NULL;
}

static int64_t now_s(const struct control *control)
{
    return (int64_t)(io_wall_us(control->io) / 1000000);
}

static uint64_t hash_of(const char *uri)
{
    return hash_bytes(uri, strlen(uri));
}

/* What has it already gets it no more. */
static void leave_out_taken(const struct tlsrpt_domain *domain, struct tls_report_order *order)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < order->uri_count; i++) {
        if (tlsrpt_domain_has_taken(domain, hash_of(order->uris[i])))
            continue;
        if (i > count)
            memcpy(order->uris[count], order->uris[i], sizeof(order->uris[0]));
        count++;
    }
    order->uri_count = (uint8_t)count;
}

/* What is left to do for a domain whose report came home. */
static void go_on(struct control *control, struct tls_report_order *order,
                  struct tlsrpt_domain *domain, struct tlsrpt_book *book)
{
    domain->is_away = false;
    control->tls_report.books.is_changed = true;
    if (order->fate == TLS_REPORT_LATER) {
        domain->due_s = now_s(control) + AGAIN_S;
        return;
    }
    leave_out_taken(domain, order);
    if (order->uri_count == 0) {
        tlsrpt_book_drop(book, domain);
        return;
    }
    domain->is_begun = true;
    domain->is_away = tls_posts_begin(&control->tls_report.posts, order);
    if (!domain->is_away)
        domain->due_s = now_s(control) + NO_ROOM_S;
}

static void on_order_home(struct control *control, struct control_tls_order *home)
{
    static const char *const words[] = {
#define FATE_WORDS(name, text) [name] = text,
        TLS_REPORT_FATES(FATE_WORDS)
#undef FATE_WORDS
    };
    struct tls_report_order *order = &home->order;
    struct tlsrpt_book *book;
    struct tlsrpt_domain *domain = find_domain(&control->tls_report.books, order->domain,
                                               order->from_s, order->until_s, &book);

    control->tls_report.fates[order->fate]++;
    if (order->fate != TLS_REPORT_NOT_WANTED && order->fate != TLS_REPORT_NO_MAIL)
        log_info("TLS report of %s: %s", order->domain, words[order->fate]);
    if (domain)
        go_on(control, order, domain, book);
    mem_free(order->content);
    order->content = NULL;
    home->is_away = false;
    if (control->phase == CONTROL_RUNNING)
        send_due(control);
}

/* ---- By https -------------------------------------------------------------------------------- */

static void drop_untaken(struct control *control, struct tlsrpt_book *book,
                         struct tlsrpt_domain *domain, const char *why)
{
    control->tls_report.given_up++;
    log_warn("TLS report of %s: not taken by https, and dropped: %s", domain->name, why);
    tlsrpt_book_drop(book, domain);
}

static void on_posted(struct tls_posts *posts, const struct tls_post *post)
{
    struct control *control = container_of(posts, struct control, tls_report.posts);
    struct tls_books *books = &control->tls_report.books;
    struct tlsrpt_book *book;
    struct tlsrpt_domain *domain =
        find_domain(books, post->domain, post->from_s, post->until_s, &book);

    if (post->taken_count > 0)
        log_info("TLS report of %s: taken by https", post->domain);
    if (!domain)
        return;
    domain->is_away = false;
    books->is_changed = true;
    for (uint32_t i = 0; i < post->copy_count; i++)
        if (post->copies[i].is_taken)
            tlsrpt_domain_note_taken(domain, hash_of(post->copies[i].uri));
    if (post->taken_count == post->copy_count) {
        control->tls_report.posted++;
        tlsrpt_book_drop(book, domain);
        return;
    }
    if (sts_fetch_is_missing(control->sts.fetch) || !tls_books_put_off(books, domain)) {
        drop_untaken(control, book, domain, post->why);
        return;
    }
    mem_free(domain->why);
    domain->why = mem_strdup(post->why);
    log_info("TLS report of %s: not taken by https, and tried again: %s", domain->name, post->why);
}

/* ---- Counts ---------------------------------------------------------------------------------- */

static void on_counts(struct control *control, struct tls_report_batch *batch)
{
    tls_books_add(&control->tls_report.books, &batch->counts);
    control->tls_report.books.lost += batch->lost;
    if (!batch->is_last)
        mailbox_post(control->wiring.to_shards[batch->parcel.from], &batch->parcel);
}

bool control_tls_report_take(struct control *control, struct parcel *parcel)
{
    if (parcel->kind == TLS_REPORT_COUNTS)
        on_counts(control, container_of(parcel, struct tls_report_batch, parcel));
    else if (parcel->kind == TLS_REPORT_ORDER)
        on_order_home(control, container_of(parcel, struct control_tls_order, order.parcel));
    else
        return false;
    return true;
}

static void on_asked(struct gather *gather)
{
    gather->control->tls_report.is_asking = false;
    gather_leave(gather);
}

void control_tls_report_tick(struct control *control)
{
    const struct report question = {.parcel = {.kind = REPORT_TLS}};
    struct control_tls_report *state = &control->tls_report;
    uint64_t now_ns = io_now_ns(control->io);

    if (!is_wanted(control))
        return;
    tls_books_turn(&state->books);
    send_due(control);
    if (now_ns >= state->ask_at_ns && !state->is_asking) {
        state->ask_at_ns = now_ns + ASK_NS;
        state->is_asking = true;
        gather_start(control, &question, ASK_TIMEOUT_MS, on_asked, NULL);
    }
    if (now_ns >= state->store_at_ns) {
        state->store_at_ns = now_ns + STORE_NS;
        store(control);
    }
}

/* ---- Verbs ----------------------------------------------------------------------------------- */

static const char off[] = "no reports about TLS are made: there is no tls-report-from";

static json_t *row_of(const struct tlsrpt_domain *domain, const struct tlsrpt_policy *policy)
{
    uint64_t counts[TLSRPT_RESULT_COUNT] = {0};
    json_t *row = json_object(), *results = json_object();
    char name[TLSRPT_NAME_MAX + 1];

    json_object_set_new(row, "domain", control_string(domain->name));
    json_object_set_new(row, "policy", json_string(tlsrpt_type_text(policy->type)));
    snprintf(name, sizeof(name), "%.*s", (int)policy->host.len, (const char *)policy->host.data);
    json_object_set_new(row, "host", control_string(name));
    json_object_set_new(row, "successful", json_integer((json_int_t)policy->successes));
    json_object_set_new(row, "failed", json_integer((json_int_t)policy->failures));
    for (const struct tlsrpt_detail *detail = policy->details; detail; detail = detail->next)
        counts[detail->result] += detail->count;
    for (uint32_t i = 0; i < TLSRPT_RESULT_COUNT; i++)
        if (counts[i] > 0)
            json_object_set_new(results, tlsrpt_result_text(i),
                                json_integer((json_int_t)counts[i]));
    json_object_set_new(row, "results", results);
    return row;
}

static bool is_meant(const struct verb_request *request, const struct tlsrpt_domain *domain)
{
    return strcmp(request->domain, "*") == 0 || strcmp(request->domain, domain->name) == 0;
}

/* Reports that have still to be taken by https, the oldest books first. */
static json_t *open_rows(const struct tls_books *books, const struct verb_request *request,
                         uint32_t left)
{
    json_t *rows = json_array();

    for (uint32_t i = 0; i < books->ended_count; i++) {
        const struct tlsrpt_book *book = &books->ended[i];

        for (uint32_t k = 0; k < tlsrpt_book_places(book) && left > 0; k++) {
            const struct tlsrpt_domain *domain = tlsrpt_book_at(book, k);
            json_t *row;

            if (!domain || !domain->is_begun || !is_meant(request, domain))
                continue;
            row = json_object();
            json_object_set_new(row, "domain", control_string(domain->name));
            json_object_set_new(row, "failed", json_integer(domain->tries));
            json_object_set_new(row, "taken", json_integer(domain->taken_count));
            json_object_set_new(
                row, "next", control_time(domain->is_away ? 0 : (uint64_t)domain->due_s * 1000000));
            json_object_set_new(row, "why", control_string(domain->why ? domain->why : ""));
            json_array_append_new(rows, row);
            left--;
        }
    }
    return rows;
}

static void open_text(const json_t *rows, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"domain", "by https to", false}, {"failed", "failed", true}, {"taken", "taken", true},
        {"next", "next", false},          {"why", "why", false},
    };

    if (json_array_size(rows) > 0)
        render_table(rows, columns, sizeof(columns) / sizeof(columns[0]), out);
}

static void text_rows(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"domain", "domain", false}, {"policy", "policy", false},
        {"host", "host", false},     {"successful", "successful", true},
        {"failed", "failed", true},  {"failures", "failures", false},
    };
    json_t *shown = json_array();
    size_t index;
    json_t *row;

    json_array_foreach(json_object_get(data, "tlsReport"), index, row)
    {
        json_t *copy = json_copy(row), *value;
        struct text_buffer text = {0};
        const char *key;

        json_object_foreach(json_object_get(row, "results"), key, value)
            text_format(&text, "%s%s %lld", text.used > 0 ? ", " : "", key,
                        (long long)json_integer_value(value));
        json_object_set_new(copy, "failures", json_stringn(text.data ? text.data : "", text.used));
        text_free(&text);
        json_array_append_new(shown, copy);
    }
    render_table(shown, columns, sizeof(columns) / sizeof(columns[0]), out);
    json_decref(shown);
    open_text(json_object_get(data, "byHttps"), out);
}

static char *sum_of(const struct control *control, uint64_t waiting)
{
    const struct control_tls_report *state = &control->tls_report;
    char text[256];

    snprintf(text, sizeof(text),
             "reports since the start: %llu by mail, %llu by https, %llu not taken by https and "
             "dropped; domains that wait for theirs: %llu%s",
             (unsigned long long)state->fates[TLS_REPORT_SENT], (unsigned long long)state->posted,
             (unsigned long long)state->given_up, (unsigned long long)waiting,
             sts_fetch_is_missing(control->sts.fetch)
                 ? "; ringpost-sts cannot be started, and none goes by https"
                 : "");
    return mem_strdup(text);
}

void control_answer_tls_report(struct control *control, const struct verb_request *request,
                               const struct gather *gather, struct control_answer *answer)
{
    bool is_bounded = (request->given & VERB_BIT(OPTION_MAXITEMS)) != 0;
    uint32_t left = is_bounded ? request->maxitems : CONTROL_SHOWN_MAX;
    const struct tls_books *books = &control->tls_report.books;
    json_t *rows = json_array();
    uint64_t waiting = 0;

    (void)gather;
    for (uint32_t i = 0; i < tlsrpt_book_places(&books->open) && left > 0; i++) {
        const struct tlsrpt_domain *domain = tlsrpt_book_at(&books->open, i);

        if (!domain || !is_meant(request, domain))
            continue;
        for (const struct tlsrpt_policy *policy = domain->policies; policy && left > 0;
             policy = policy->next, left--)
            json_array_append_new(rows, row_of(domain, policy));
    }
    for (uint32_t i = 0; i < books->ended_count; i++)
        waiting += books->ended[i].domains.count_used;
    answer->data = json_object();
    json_object_set_new(answer->data, "tlsReport", rows);
    json_object_set_new(answer->data, "since",
                        control_time((uint64_t)books->open.from_s * 1000000));
    json_object_set_new(answer->data, "waiting", json_integer((json_int_t)waiting));
    json_object_set_new(answer->data, "sent",
                        json_integer((json_int_t)control->tls_report.fates[TLS_REPORT_SENT]));
    json_object_set_new(answer->data, "posted",
                        json_integer((json_int_t)control->tls_report.posted));
    json_object_set_new(answer->data, "givenUp",
                        json_integer((json_int_t)control->tls_report.given_up));
    json_object_set_new(answer->data, "leftOut",
                        json_integer((json_int_t)(books->open.left_out + books->lost)));
    json_object_set_new(
        answer->data, "byHttps",
        open_rows(books, request, is_bounded ? request->maxitems : CONTROL_SHOWN_MAX));
    answer->text = text_rows;
    answer->message = is_wanted(control) ? sum_of(control, waiting) : mem_strdup(off);
}

void control_answer_tls_report_send(struct control *control, const struct verb_request *request,
                                    const struct gather *gather, struct control_answer *answer)
{
    uint32_t count = is_wanted(control) ? tls_books_end(&control->tls_report.books) : 0;
    char text[128];

    (void)request;
    (void)gather;
    snprintf(text, sizeof(text), "domains whose report is asked for and sent now: %u", count);
    answer->message = mem_strdup(is_wanted(control) ? text : off);
    answer->data = json_object();
    json_object_set_new(answer->data, "affected", json_integer(count));
    send_due(control);
}
