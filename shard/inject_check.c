#include "core/base/err.h"
#include "core/base/log.h"
#include "shard/inject_int.h"

#define NS_PER_MS 1000000ull

static void say(const struct intake_check *check, const char *what, const char *domain,
                struct slice term, const char *outcome)
{
    const struct intake_message *intake = check->intake;
    char client[IPADDR_TEXT_MAX];

    ipaddr_format(&intake->client_ip, client);
    log_info("smtp-in %s, sender <%.*s>: %s %s: %.*s %s", client, (int)intake->sender.len,
             (const char *)intake->sender.data, what, domain, (int)term.len,
             (const char *)term.data, outcome);
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void close_check(struct intake_check *check, enum intake_check_kind kind)
{
    check->open &= ~(unsigned)kind;
    if (check->open != 0)
        return;
    io_timer_stop(check->intake->shard->io, &check->timer);
    list_remove(&check->link);
    inject_on_checked(check->intake);
}

static void on_spf_step(void *context, const char *domain, struct slice term, const char *what)
{
    say(context, "SPF of", domain, term, what);
}

static void on_spf(void *context, const struct spf_answer *answer)
{
    struct intake_check *check = context;

    check->spf_answer = *answer;
    if (check->intake->source.trace_spf)
        say(check, "SPF", spf_result_name(answer->result), slice_str(answer->mechanism),
            answer->why);
    close_check(check, CHECK_SPF);
}

static const char *iprev_name(enum rdns_result result)
{
    static const char *const names[] = {
        [RDNS_PASS] = "pass",
        [RDNS_FAIL] = "fail",
        [RDNS_TEMPERROR] = "temperror",
        [RDNS_PERMERROR] = "permerror",
    };

    return names[result];
}

static void on_iprev(void *context, struct rdns *rdns)
{
    struct intake_check *check = context;

    check->iprev = rdns->result;
    for (unsigned i = 0; check->intake->source.trace_iprev && i < rdns->name_count; i++)
        say(check, "iprev", "name", slice_str(rdns->names[i]),
            rdns->is_confirmed[i] ? "leads back" : "does not lead back");
    if (check->intake->source.trace_iprev)
        say(check, "iprev", iprev_name(check->iprev), slice_str(rdns_name(rdns)), "");
    close_check(check, CHECK_IPREV);
}

/* ---- The sender's domain --------------------------------------------------------------------- */

static struct slice sender_domain(const struct intake_check *check)
{
    return slice_of(check->domain, check->domain_bytes);
}

static bool has_host(const struct dns_query *answer)
{
    uint16_t cursor = 0;
    struct slice rdata;

    while (dns_record_next(answer, &cursor, &rdata)) {
        if (answer->type != DNS_MX || rdata.len > 2)
            return true;
    }
    return false;
}

static void ask_domain(struct intake_check *check, enum dns_type type);

/* RFC 5321 5.1, RFC 7505: a domain that can be answered has MX hosts, or addresses of its own. */
static void on_domain(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct intake_check *check = container_of(lookup, struct intake_check, lookup);

    if (answer->status == DNS_NO_DATA && check->asked == DNS_MX) {
        ask_domain(check, DNS_A);
        return;
    }
    if (answer->status == DNS_NO_DATA && check->asked == DNS_A) {
        ask_domain(check, DNS_AAAA);
        return;
    }
    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT)
        check->mfrom = SPF_TEMPERROR;
    else
        check->mfrom = has_host(answer) ? SPF_PASS : SPF_FAIL;
    close_check(check, CHECK_MFROM);
}

static void ask_domain(struct intake_check *check, enum dns_type type)
{
    check->asked = type;
    check->lookup.on_answer = on_domain;
    dns_ask(check->intake->shard->dns, &check->lookup, sender_domain(check), type);
}

/* ---- Questions ------------------------------------------------------------------------------- */

/* What has no answer is a temporary error. */
static void give_up(struct intake_check *check)
{
    spf_stop(&check->spf);
    rdns_stop(&check->rdns);
    dns_forget(check->intake->shard->dns, &check->lookup);
    check->open &= CHECK_SPF;
    close_check(check, CHECK_SPF);
}

static void on_timer(struct io_timer *timer)
{
    give_up(container_of(timer, struct intake_check, timer));
}

static unsigned wants_of(const struct conf_source *source, const struct address *sender)
{
    /* A message from nobody wants no answer. */
    bool has_sender = sender->text.len > 0;

    return (source->check_spf ? CHECK_SPF : 0u) | (source->check_iprev ? CHECK_IPREV : 0u) |
           (source->check_mfrom && has_sender ? CHECK_MFROM : 0u);
}

static struct intake_check *create(struct intake_message *intake, unsigned wanted)
{
    struct shard *shard = intake->shard;
    uint32_t index;
    struct intake_check *check = slab_alloc(&shard->checks, &index);

    if (!check)
        return NULL;
    intake->check = check;
    check->intake = intake;
    check->index = index;
    check->wanted = wanted;
    check->open = wanted;
    check->iprev = RDNS_TEMPERROR;
    check->mfrom = SPF_TEMPERROR;
    check->spf_answer.result = SPF_TEMPERROR;
    check->spf_answer.why = "it took too long";
    list_init(&check->link);
    list_push_back(&shard->checks_open, &check->link);
    io_timer_init(&check->timer, on_timer);
    io_timer_arm(shard->io, &check->timer, io_now_ns(shard->io) + CHECK_TIMEOUT_MS * NS_PER_MS);
    return check;
}

/* RFC 7208 2.4: of a null sender the name in HELO is checked. */
static void keep_domain(struct intake_check *check, struct slice domain)
{
    check->domain_bytes = (uint8_t)domain.len;
    memcpy(check->domain, domain.data, check->domain_bytes);
}

bool inject_check_begin(struct intake_message *intake, const struct intake_client *client,
                        const struct address *sender)
{
    struct shard *shard = intake->shard;
    unsigned wanted = client->type.len == 0 ? wants_of(&intake->source, sender) : 0;
    struct intake_check *check = wanted != 0 ? create(intake, wanted) : NULL;

    if (!check)
        return wanted == 0;
    check->is_null_sender = sender->text.len == 0;
    keep_domain(check, check->is_null_sender ? client->helo : address_host(sender));
    if (wanted & CHECK_SPF) {
        const struct spf_question question = {
            .ip = client->peer.ip,
            .local = check->is_null_sender ? SLICE_LITERAL("postmaster") : sender->local,
            .domain = sender_domain(check),
            .helo = client->helo,
        };

        check->spf.note = intake->source.trace_spf ? on_spf_step : NULL;
        spf_start(&check->spf, shard->dns, &question, on_spf, check);
    }
    if (wanted & CHECK_IPREV)
        rdns_start(&check->rdns, shard->dns, &client->peer.ip, on_iprev, check);
    if (wanted & CHECK_MFROM)
        ask_domain(check, DNS_MX);
    return true;
}

bool inject_check_is_open(const struct intake_message *intake)
{
    return intake->check && intake->check->open != 0;
}

void inject_check_release(struct intake_message *intake)
{
    struct intake_check *check = intake->check;

    if (!check)
        return;
    spf_stop(&check->spf);
    rdns_stop(&check->rdns);
    dns_forget(intake->shard->dns, &check->lookup);
    io_timer_stop(intake->shard->io, &check->timer);
    list_remove(&check->link);
    slab_free(&intake->shard->checks, check->index);
    intake->check = NULL;
}

/* ---- What the answers mean ------------------------------------------------------------------- */

static int refuse(struct intake_message *intake, uint16_t code, uint8_t detail, const char *text)
{
    intake->refusal = (struct intake_refusal){text, code, 7, detail};
    return E_REFUSED;
}

/* RFC 7372 3.2. */
static int judge_spf(struct intake_message *intake, enum spf_result result)
{
    const struct conf_source *source = &intake->source;

    if (result == SPF_FAIL && source->reject_spf_fail)
        return refuse(intake, 550, 23,
                      "the SPF record of the sender's domain does not let this address send for "
                      "it");
    if (result == SPF_PERMERROR && source->reject_spf_permerror)
        return refuse(intake, 550, 24,
                      "the SPF record of the sender's domain cannot be understood");
    if (result == SPF_TEMPERROR && source->reject_spf_temperror)
        return refuse(intake, 451, 24,
                      "the SPF record of the sender's domain cannot be had at present");
    return 0;
}

/* RFC 7372 3.3. */
static int judge_iprev(struct intake_message *intake, enum rdns_result result)
{
    const struct conf_source *source = &intake->source;

    if (result == RDNS_FAIL && source->reject_iprev_fail)
        return refuse(intake, 550, 25, "the name of this address does not lead back to it");
    if (result == RDNS_PERMERROR && source->reject_iprev_permerror)
        return refuse(intake, 550, 25, "this address has no name");
    if (result == RDNS_TEMPERROR && source->reject_iprev_temperror)
        return refuse(intake, 451, 25, "the name of this address cannot be had at present");
    return 0;
}

int inject_check_judge(struct intake_message *intake)
{
    const struct intake_check *check = intake->check;
    int result = 0;

    if (check && (check->wanted & CHECK_SPF))
        result = judge_spf(intake, check->spf_answer.result);
    if (result == 0 && check && (check->wanted & CHECK_IPREV))
        result = judge_iprev(intake, check->iprev);
    return result;
}

/* ---- Authentication-Results ------------------------------------------------------------------ */

static bool is_token_octet(uint8_t c)
{
    return c > ' ' && c <= '~' && memchr("()<>@,;:\\\"/[]?=", c, 15) == NULL;
}

void inject_check_put_value(struct text *text, struct slice value)
{
    bool is_token = value.len > 0;

    for (size_t i = 0; i < value.len; i++)
        is_token &= is_token_octet(value.data[i]);
    if (is_token) {
        text_put(text, value);
        return;
    }
    text_put_char(text, '"');
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] == '"' || value.data[i] == '\\')
            text_put_char(text, '\\');
        if (value.data[i] >= ' ' && value.data[i] <= '~')
            text_put_char(text, (char)value.data[i]);
    }
    text_put_char(text, '"');
}

static void put_comment(struct text *text, struct slice words)
{
    if (words.len == 0)
        return;
    text_put_literal(text, " (");
    for (size_t i = 0; i < words.len; i++) {
        uint8_t c = words.data[i];

        if (c == '(' || c == ')' || c == '\\')
            text_put_char(text, '\\');
        if (c >= ' ' && c <= '~')
            text_put_char(text, (char)c);
    }
    text_put_char(text, ')');
}

static void put_method(struct text *text, const char *method, const char *result)
{
    text_put_literal(text, ";\r\n\t");
    text_put_str(text, method);
    text_put_char(text, '=');
    text_put_str(text, result);
}

/* What Received keeps to itself is not told here. */
static bool hides_client(const struct intake_check *check)
{
    return check->intake->source.hide_message_source;
}

static void put_spf(struct text *text, const struct intake_check *check)
{
    const struct spf_answer *answer = &check->spf_answer;

    put_method(text, "spf", spf_result_name(answer->result));
    if (!hides_client(check))
        put_comment(text, slice_str(answer->why[0] != '\0' ? answer->why : answer->mechanism));
    else if (check->is_null_sender)
        return;
    text_put_str(text, check->is_null_sender ? " smtp.helo=" : " smtp.mailfrom=");
    inject_check_put_value(text, sender_domain(check));
}

static void put_iprev(struct text *text, const struct intake_check *check)
{
    char ip[IPADDR_TEXT_MAX];

    ipaddr_format(&check->intake->client_ip, ip);
    put_method(text, "iprev", iprev_name(check->iprev));
    if (hides_client(check))
        return;
    put_comment(text, slice_str(rdns_name(&check->rdns)));
    text_put_literal(text, " policy.iprev=");
    inject_check_put_value(text, slice_str(ip));
}

static void put_mfrom(struct text *text, const struct intake_check *check)
{
    put_method(text, "x-mfrom", spf_result_name(check->mfrom));
    text_put_literal(text, " smtp.mailfrom=");
    inject_check_put_value(text, sender_domain(check));
}

struct slice inject_check_field(struct intake_message *intake, char room[CHECK_FIELD_MAX])
{
    const struct intake_check *check = intake->check;
    unsigned wanted = check ? check->wanted : 0;
    struct text text = text_in(room, CHECK_FIELD_MAX);

    if (wanted == 0 && !intake->verify)
        return SLICE_EMPTY;
    text_put_literal(&text, "Authentication-Results: ");
    text_put_str(&text, conf_global(intake->shard->conf)->host_name);
    if (wanted & CHECK_SPF)
        put_spf(&text, check);
    inject_verify_put(intake, &text);
    if (wanted & CHECK_IPREV)
        put_iprev(&text, check);
    if (wanted & CHECK_MFROM)
        put_mfrom(&text, check);
    text_put_literal(&text, "\r\n");
    must(!text.is_cut);
    return text_slice(&text);
}

/* RFC 5322 3.2.2: blanks, folds and comments off the front. */
static struct slice skip_comments(struct slice value)
{
    unsigned depth = 0;

    while (value.len > 0) {
        uint8_t c = value.data[0];

        if (depth > 0 && c == '\\' && value.len > 1)
            value = slice_after(value, 1);
        else if (c == '(')
            depth++;
        else if (depth > 0 && c == ')')
            depth--;
        else if (depth == 0 && !header_is_white(c))
            break;
        value = slice_after(value, 1);
    }
    return value;
}

bool inject_check_is_ours(const void *host_name, struct slice value)
{
    struct slice name = slice_str(host_name);
    bool is_quoted;
    size_t at = 0;

    value = skip_comments(value);
    is_quoted = value.len > 0 && value.data[0] == '"';
    if (is_quoted)
        value = slice_after(value, 1);
    for (; at < name.len && value.len > 0; at++) {
        if (is_quoted && value.data[0] == '\\' && value.len > 1)
            value = slice_after(value, 1);
        if (slice_lower_octet(value.data[0]) != slice_lower_octet(name.data[at]))
            return false;
        value = slice_after(value, 1);
    }
    return at == name.len &&
           (value.len == 0 || value.data[0] == (is_quoted ? '"' : ';') ||
            (!is_quoted && (header_is_white(value.data[0]) || value.data[0] == '(')));
}

/* ---- The shard's part ------------------------------------------------------------------------ */

void inject_check_stop(struct shard *shard)
{
    inject_verify_stop(shard);
    while (!list_empty(&shard->checks_open))
        give_up(container_of(shard->checks_open.next, struct intake_check, link));
}

void inject_check_init(struct shard *shard)
{
    uint32_t most = shard->limits.session_count_max * 2;

    slab_init(&shard->checks, sizeof(struct intake_check),
              most < CHECK_COUNT_MAX ? most : CHECK_COUNT_MAX);
    list_init(&shard->checks_open);
}

void inject_check_fini(struct shard *shard)
{
    slab_fini(&shard->checks);
}
