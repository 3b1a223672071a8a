#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/control_int.h"

#include <stdio.h>

#define QUESTION_TIMEOUT_MS 10000u
#define ORDER_TIMEOUT_MS    60000u
#define STOP_GRACE_MS       30000u
#define STOP_TIMEOUT_MS     30000u /* beyond the grace */

/* What all shards together may answer with: bounds the memory of a question. */
#define QUEUE_ROWS_MAX    400000u
#define LIST_ROWS_DEFAULT 100u
#define LIST_ROWS_MAX     100000u

_Static_assert(VERB_VMTA_MAX > CONF_VMTA_NAME_MAX, "a verb names any virtual MTA");

struct verb_handler {
    uint16_t report; /* what shards are asked; 0 = none */
    uint32_t timeout_ms;
    void (*answer)(struct control *control, const struct verb_request *request,
                   const struct gather *gather, struct control_answer *answer);
};

/* ---- Answers --------------------------------------------------------------------------------- */

static char *print_message(const char *format, unsigned long long value)
{
    char text[128];

    snprintf(text, sizeof(text), format, value);
    return mem_strdup(text);
}

static void answer_status(struct control *control, const struct verb_request *request,
                          const struct gather *gather, struct control_answer *answer)
{
    answer->data = control_status_tree(control, &gather->status);
    answer->text = control_status_text;
}

static void answer_queues(struct control *control, const struct verb_request *request,
                          const struct gather *gather, struct control_answer *answer)
{
    answer->data = control_queues_tree(control, request, gather);
    answer->text = control_rows_text;
    for (uint16_t i = 0; i < control->shard_count; i++) {
        const struct report *report = &gather->parts[i].report;

        if (report->row_count == report->row_count_max && answer->message == NULL)
            answer->message = mem_strdup("there are more queues than could be looked at");
    }
}

static void answer_explain(struct control *control, const struct verb_request *request,
                           const struct gather *gather, struct control_answer *answer)
{
    answer->data = control_explain_tree(request, gather);
    answer->text = control_explain_text;
}

static uint32_t list_count(const struct verb_request *request)
{
    if ((request->given & VERB_BIT(OPTION_MAXITEMS)) == 0)
        return LIST_ROWS_DEFAULT;
    return request->maxitems < LIST_ROWS_MAX ? request->maxitems : LIST_ROWS_MAX;
}

static void answer_list(struct control *control, const struct verb_request *request,
                        const struct gather *gather, struct control_answer *answer)
{
    answer->data = control_rcpts_tree(gather, list_count(request));
    answer->text = control_rows_text;
}

static void answer_ips(struct control *control, const struct verb_request *request,
                       const struct gather *gather, struct control_answer *answer)
{
    bool is_bounded = (request->given & VERB_BIT(OPTION_MAXITEMS)) != 0;

    control_ips_sample(control);
    answer->data =
        control_ips_tree(control, gather, is_bounded ? request->maxitems : IP_FIGURES_COUNT_MAX);
    answer->text = control_ips_text;
}

static void answer_orders(struct control *control, const struct verb_request *request,
                          const struct gather *gather, struct control_answer *answer)
{
    bool is_bounded = (request->given & VERB_BIT(OPTION_MAXITEMS)) != 0;

    answer->data = control_orders_tree(gather, is_bounded ? request->maxitems : UINT32_MAX);
    answer->text = control_orders_text;
}

static void answer_warmup(struct control *control, const struct verb_request *request,
                          const struct gather *gather, struct control_answer *answer)
{
    bool is_bounded = (request->given & VERB_BIT(OPTION_MAXITEMS)) != 0;

    answer->data = control_warmup_tree(gather, is_bounded ? request->maxitems : UINT32_MAX);
    answer->text = control_warmup_text;
}

static void answer_order(struct control *control, const struct verb_request *request,
                         const struct gather *gather, struct control_answer *answer)
{
    static const char *const formats[VERB_COUNT] = {
        [VERB_PAUSE_QUEUE] = "queues paused: %llu",
        [VERB_RESUME_QUEUE] = "queues resumed: %llu",
        [VERB_SET_QUEUE] = "queues set: %llu",
        [VERB_SCHEDULE] = "recipients due now: %llu",
        [VERB_DELETE] = "recipients deleted: %llu",
        [VERB_DISABLE_SOURCE] = "sources disabled: %llu",
        [VERB_ENABLE_SOURCE] = "sources enabled: %llu",
        [VERB_ENABLE_SENDER] = "stops ended: %llu",
        [VERB_ENABLE_JOB] = "stops ended: %llu",
        [VERB_BREAKER_RELEASE] = "breakers closed: %llu",
        [VERB_BREAKER_BOUNCE] = "breakers off for a day: %llu",
        [VERB_BREAKER_RECLASSIFY] = "breakers whose refusals are transient now: %llu",
    };

    answer->message = print_message(formats[request->verb], gather->affected);
    answer->data = json_object();
    json_object_set_new(answer->data, "affected", json_integer((json_int_t)gather->affected));
}

static void text_version(const json_t *data, struct text_buffer *out)
{
    const json_t *product = json_object_get(data, "product");

    text_format(out, "%s %s\n", json_string_value(json_object_get(product, "name")),
                json_string_value(json_object_get(product, "version")));
}

static void answer_version(struct control *control, const struct verb_request *request,
                           const struct gather *gather, struct control_answer *answer)
{
    json_t *product = json_object();

    json_object_set_new(product, "name", json_string("ringpost"));
    json_object_set_new(product, "version", control_string(control->version));
    answer->data = json_object();
    json_object_set_new(answer->data, "product", product);
    answer->text = text_version;
}

static void text_help(const json_t *data, struct text_buffer *out)
{
    const char *text = json_string_value(json_object_get(data, "help"));

    if (text != NULL)
        text_add(out, text, strlen(text));
}

static void answer_help(struct control *control, const struct verb_request *request,
                        const struct gather *gather, struct control_answer *answer)
{
    char *room = mem_alloc(VERB_HELP_MAX);

    verbs_help(room, VERB_HELP_MAX);
    answer->data = json_object();
    json_object_set_new(answer->data, "help", json_string(room));
    answer->text = text_help;
    mem_free(room);
}

static void answer_shutdown(struct control *control, const struct verb_request *request,
                            const struct gather *gather, struct control_answer *answer)
{
    bool has_grace = (request->given & VERB_BIT(OPTION_GRACE)) != 0;
    uint64_t grace_ms = has_grace ? request->grace_ms : STOP_GRACE_MS;

    control_shutdown(control, grace_ms < UINT32_MAX / 2 ? (uint32_t)grace_ms : UINT32_MAX / 2);
    answer->message = mem_strdup("shutting down");
}

static const struct verb_handler handlers[VERB_COUNT] = {
    [VERB_SHOW_STATUS] = {REPORT_STATUS, QUESTION_TIMEOUT_MS, answer_status},
    [VERB_SHOW_TOPQUEUES] = {REPORT_QUEUES, QUESTION_TIMEOUT_MS, answer_queues},
    [VERB_SHOW_QUEUES] = {REPORT_QUEUES, QUESTION_TIMEOUT_MS, answer_queues},
    [VERB_SHOW_DOMAINS] = {REPORT_QUEUES, QUESTION_TIMEOUT_MS, answer_queues},
    [VERB_SHOW_VMTAS] = {REPORT_QUEUES, QUESTION_TIMEOUT_MS, answer_queues},
    [VERB_EXPLAIN] = {REPORT_EXPLAIN, QUESTION_TIMEOUT_MS, answer_explain},
    [VERB_SHOW_IPS] = {REPORT_IPS, QUESTION_TIMEOUT_MS, answer_ips},
    [VERB_SHOW_ORDERS] = {REPORT_ORDERS, QUESTION_TIMEOUT_MS, answer_orders},
    [VERB_SHOW_WARM_UP] = {REPORT_WARMUP, QUESTION_TIMEOUT_MS, answer_warmup},
    [VERB_SHOW_TLS_REPORT] = {REPORT_TLS, QUESTION_TIMEOUT_MS, control_answer_tls_report},
    [VERB_TLS_REPORT_SEND] = {REPORT_TLS, ORDER_TIMEOUT_MS, control_answer_tls_report_send},
    [VERB_DISABLE_SOURCE] = {REPORT_DISABLE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_ENABLE_SOURCE] = {REPORT_ENABLE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_ENABLE_SENDER] = {REPORT_ENABLE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_ENABLE_JOB] = {REPORT_ENABLE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_BREAKER_RELEASE] = {REPORT_BREAKER_RELEASE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_BREAKER_BOUNCE] = {REPORT_BREAKER_BOUNCE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_BREAKER_RECLASSIFY] = {REPORT_BREAKER_RECLASSIFY, ORDER_TIMEOUT_MS, answer_order},
    [VERB_SHOW_VERSION] = {0, 0, answer_version},
    [VERB_PAUSE_QUEUE] = {REPORT_PAUSE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_RESUME_QUEUE] = {REPORT_RESUME, ORDER_TIMEOUT_MS, answer_order},
    [VERB_SET_QUEUE] = {REPORT_MODE_BACKOFF, ORDER_TIMEOUT_MS, answer_order},
    [VERB_SCHEDULE] = {REPORT_SCHEDULE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_LIST] = {REPORT_LIST, QUESTION_TIMEOUT_MS, answer_list},
    [VERB_DELETE] = {REPORT_DELETE, ORDER_TIMEOUT_MS, answer_order},
    [VERB_SHUTDOWN] = {0, 0, answer_shutdown},
    [VERB_VERSION] = {0, 0, answer_version},
    [VERB_HELP] = {0, 0, answer_help},
};

/* ---- Questions ------------------------------------------------------------------------------- */

/* Wall clock of the moment so long ago; 1 when that was before 1970, because 0 means any. */
static uint64_t wall_before(struct control *control, uint64_t ms)
{
    uint64_t now_us = io_wall_us(control->io);

    return now_us > ms * 1000 ? now_us - ms * 1000 : 1;
}

static uint32_t row_count_max(const struct control *control, const struct verb_request *request)
{
    uint32_t per_shard = QUEUE_ROWS_MAX / control->shard_count;

    return request->verb == VERB_LIST ? list_count(request) : per_shard;
}

/* Whose argument is a queue, or a pattern of queues. */
static bool names_queues(enum verb verb)
{
    switch (verb) {
    case VERB_PAUSE_QUEUE:
    case VERB_RESUME_QUEUE:
    case VERB_SET_QUEUE:
    case VERB_SCHEDULE:
    case VERB_DELETE:
    case VERB_DISABLE_SOURCE:
    case VERB_ENABLE_SOURCE:
        return true;
    default:
        return false;
    }
}

static bool names_breaker(enum verb verb)
{
    return verb == VERB_BREAKER_RELEASE || verb == VERB_BREAKER_BOUNCE ||
           verb == VERB_BREAKER_RECLASSIFY;
}

static bool has_address(const struct conf_vmta *vmta, const struct ipaddr *address)
{
    for (uint32_t i = 0; i < vmta->address_count; i++)
        if (ipaddr_equal(&vmta->addresses[i].ip, address))
            return true;
    return false;
}

/* An order for an address that no queue of the virtual MTA uses would keep nothing from anywhere.
 */
static bool is_of_no_use(const struct control *control, const struct verb_request *request,
                         char text[VERB_ERROR_MAX])
{
    const struct conf_vmta *vmta = conf_vmta_named(control->conf, slice_str(request->vmta));
    char address[IPADDR_TEXT_MAX];

    if (request->verb != VERB_DISABLE_SOURCE || vmta == NULL || has_address(vmta, &request->source))
        return false;
    ipaddr_format(&request->source, address);
    snprintf(text, VERB_ERROR_MAX, "%s: virtual MTA \"%.64s\" has no smtp-source-host %s",
             verbs_words(request->verb), vmta->name, address);
    return true;
}

/* A name that is mistyped must not look like queues that are not there. Those of a virtual MTA that
 * a reload removed are, as long as they have mail. */
static bool is_of_nothing(const struct gather *gather, const struct verb_request *request,
                          char text[VERB_ERROR_MAX])
{
    const char *words = verbs_words(request->verb);
    char missing[CONF_VMTA_MISSING_MAX];

    if (gather->affected == 0 && names_breaker(request->verb)) {
        snprintf(text, VERB_ERROR_MAX,
                 "%s: no breaker %.10s/%.150s is in force, `show orders` lists those that are",
                 words, request->vmta, request->domain);
        return true;
    }
    if (gather->affected > 0 || !names_queues(request->verb) || strcmp(request->vmta, "*") == 0 ||
        conf_vmta_named(gather->control->conf, slice_str(request->vmta)) != NULL)
        return false;
    conf_vmta_missing(gather->control->conf, request->vmta, request->verb != VERB_DISABLE_SOURCE,
                      missing);
    snprintf(text, VERB_ERROR_MAX, "%s: %s", words, missing);
    return true;
}

static void answer_from(struct control_client *client, const struct gather *gather)
{
    struct control_answer answer = {0};

    handlers[client->request.verb].answer(gather->control, &client->request, gather, &answer);
    control_client_answer(client, &answer);
    control_answer_free(&answer);
}

static void on_looked_up(struct lookup *lookup)
{
    struct control_client *client = lookup_context(lookup);

    client->lookup = NULL;
    answer_from(client, lookup_gather(lookup));
    lookup_leave(lookup);
}

static void on_gathered(struct gather *gather)
{
    struct control_client *client = gather->context;
    struct control *control = gather->control;
    const struct verb_request *request = &client->request;
    char text[VERB_ERROR_MAX];

    client->gather = NULL;
    if (gather->timed_out) {
        snprintf(text, sizeof(text), "%s: %u of %u shards did not answer in time",
                 verbs_words(request->verb), gather->waiting, control->shard_count);
        control_client_refuse(client, text);
    } else if (gather->result < 0) {
        snprintf(text, sizeof(text), "%s: %s", verbs_words(request->verb),
                 err_text(gather->result));
        control_client_refuse(client, text);
    } else if (is_of_nothing(gather, request, text)) {
        control_client_refuse(client, text);
    } else {
        if (request->verb == VERB_LIST)
            client->lookup = lookup_start(gather, list_count(request), on_looked_up, client);
        if (client->lookup != NULL)
            return;
        answer_from(client, gather);
    }
    gather_leave(gather);
}

static void ask(struct control *control, struct control_client *client)
{
    const struct verb_request *request = &client->request;
    const struct verb_handler *handler = &handlers[request->verb];
    struct report question = {
        .parcel = {.kind = handler->report},
        .row_count_max = row_count_max(control, request),
        .source = request->source,
        .for_ms = CONF_UNLIMITED,
    };

    if (request->verb == VERB_SET_QUEUE && !request->backoff)
        question.parcel.kind = REPORT_MODE_NORMAL;
    if ((request->given & VERB_BIT(OPTION_OLDER_THAN)) != 0)
        question.older_than_us = wall_before(control, request->older_than_ms);
    if ((request->given & VERB_BIT(OPTION_REENABLE_AFTER)) != 0)
        question.for_ms = request->reenable_after_ms;
    snprintf(question.domain_pattern, sizeof(question.domain_pattern), "%s", request->domain);
    snprintf(question.vmta_pattern, sizeof(question.vmta_pattern), "%s", request->vmta);
    client->gather = gather_start(control, &question, handler->timeout_ms, on_gathered, client);
}

/* Verbs that answer in their own ways. */
typedef void verb_run_fn(struct control *control, struct control_client *client);

static verb_run_fn *const runners[VERB_COUNT] = {
    [VERB_SHOW_OVERRIDES] = control_overrides_verb, [VERB_OVERRIDE] = control_override_verb,
    [VERB_SHOW_SETTINGS] = control_settings_verb,   [VERB_RELOAD] = control_reload_verb,
    [VERB_CONFIG_ROLLBACK] = control_rollback_verb, [VERB_CONFIG_HISTORY] = control_history_verb,
    [VERB_CONFIG_SHOW] = control_history_verb,      [VERB_CONFIG_DIFF] = control_history_verb,
    [VERB_CHECK_DKIM] = control_check_verb,         [VERB_CHECK_DOMAIN] = control_domain_verb,
    [VERB_SHOW_MTA_STS] = control_sts_verb,
};

/* What changes something leaves a line in the log. */
static bool is_order(enum verb verb)
{
    return handlers[verb].answer == answer_order || handlers[verb].answer == answer_shutdown ||
           verb == VERB_TLS_REPORT_SEND || verb == VERB_RELOAD || verb == VERB_CONFIG_ROLLBACK ||
           verb == VERB_OVERRIDE;
}

void control_verb_run(struct control *control, struct control_client *client, struct slice line)
{
    struct control_answer answer = {0};
    const struct verb_handler *handler;
    char error[VERB_ERROR_MAX];
    verb_run_fn *run;

    if (verbs_parse(line, &client->request, error) < 0) {
        control_client_refuse(client, error);
        return;
    }
    handler = &handlers[client->request.verb];
    run = runners[client->request.verb];
    if (handler->answer == NULL && run == NULL) {
        control_client_refuse(client, "this verb is for the command line tool alone");
        return;
    }
    if (is_of_no_use(control, &client->request, error)) {
        control_client_refuse(client, error);
        return;
    }
    if (is_order(client->request.verb))
        log_info("control: %.*s", (int)line.len, (const char *)line.data);
    if (run != NULL) {
        run(control, client);
        return;
    }
    if (handler->report != 0) {
        ask(control, client);
        return;
    }
    handler->answer(control, &client->request, NULL, &answer);
    control_client_answer(client, &answer);
    control_answer_free(&answer);
}

void control_answer_free(struct control_answer *answer)
{
    json_decref(answer->data);
    mem_free(answer->message);
}
