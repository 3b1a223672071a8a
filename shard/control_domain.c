/*
 * check domain: what receivers see of mail from a domain by each source address, and what of it
 * would be held against it. The DNS is asked by domain_check and key_check, one after the other;
 * here is the verdict.
 */
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/text.h"
#include "core/mail/address.h"
#include "shard/control_int.h"
#include "shard/domain_check.h"
#include "shard/key_check.h"

#include <stdio.h>

#define DNS_TIMEOUT_MS 30000u /* each of the two */
#define NO_KEY         UINT32_MAX
#define KINDS          2u /* of keys */
#define KEYS_MAX       4096u

/* A question under way. */
struct control_domain {
    struct domain_check *check;
    struct key_check *keys;
    const struct conf_domain_key **known; /* [key_count], of the snapshot: only while it is asked */
    uint32_t key_count;
    uint32_t (*signers)[KINDS]; /* of each source: rows of keys */
    bool signs;                 /* some queue does */
    bool is_cut;                /* there is more than is looked at */
    json_t *unknown;            /* virtual MTAs whose address the system chooses */
};

static void domain_free(struct control_domain *domain)
{
    if (domain == NULL)
        return;
    domain_check_free(domain->check);
    key_check_free(domain->keys);
    mem_free(domain->known);
    mem_free(domain->signers);
    json_decref(domain->unknown);
    mem_free(domain);
}

void control_domain_leave(struct control_client *client)
{
    domain_free(client->domain);
    client->domain = NULL;
}

/* ---- What is asked --------------------------------------------------------------------------- */

static bool has_key(const struct conf_key_place *place, const struct conf_domain_key *key)
{
    for (uint32_t i = 0; i < place->keys.count; i++) {
        if (&place->keys.items[i] == key || place->keys.items[i].before == key)
            return true;
    }
    return false;
}

static const struct conf_key_place *place_of(const struct conf *conf,
                                             const struct conf_domain_key *key)
{
    const struct conf_key_place *place = conf_key_places(conf);

    while (place->next != NULL && !has_key(place, key))
        place = place->next;
    return place;
}

/* The row of a key, a new one if need be. */
static uint32_t row_of_key(struct control_domain *domain, const struct conf *conf,
                           const struct conf_domain_key *key, struct slice from)
{
    bool is_any = slice_equal(key->domain, SLICE_LITERAL("*"));

    for (uint32_t i = domain->key_count; i > 0; i--) {
        if (domain->known[i - 1] == key)
            return i - 1;
    }
    if (domain->key_count == KEYS_MAX) {
        domain->is_cut = true;
        return NO_KEY;
    }
    domain->is_cut |= !domain_check_add_signer(domain->check, is_any ? from : key->domain);
    key_check_add(domain->keys, place_of(conf, key), key, is_any ? from : SLICE_EMPTY);
    domain->known[domain->key_count] = key;
    return domain->key_count++;
}

/* All zeros: the system chooses. */
static bool is_known(const struct ipaddr *ip)
{
    static const uint8_t zeros[sizeof(ip->bytes)];

    return memcmp(ip->bytes, zeros, sizeof(zeros)) != 0;
}

static void add_vmta(struct control_domain *domain, const struct conf *conf,
                     const struct conf_vmta *vmta, struct slice from)
{
    static const uint32_t kinds[KINDS] = {CONF_DKIM_RSA_SHA256, CONF_DKIM_ED25519};
    uint32_t rows[KINDS], count, known = 0;

    for (uint32_t i = 0; i < KINDS; i++) {
        const struct conf_domain_key *key =
            conf_domain_key(conf, vmta->id, from, kinds[i], SLICE_EMPTY);

        rows[i] = key != NULL ? row_of_key(domain, conf, key, from) : NO_KEY;
    }
    for (uint32_t i = 0; i < vmta->address_count; i++) {
        const struct conf_source_address *address = &vmta->addresses[i];

        if (!is_known(&address->ip))
            continue;
        known++;
        if (!domain_check_add_source(domain->check, vmta->name, &address->ip, address->helo)) {
            domain->is_cut = true;
            return;
        }
        domain_check_sources(domain->check, &count);
        memcpy(domain->signers[count - 1], rows, sizeof(rows));
    }
    if (known == 0 && vmta->id != CONF_VMTA_DEFAULT)
        json_array_append_new(domain->unknown, control_string(vmta->name));
}

/* False when there is no such virtual MTA or pool. */
static bool add_vmtas(struct control_domain *domain, const struct conf *conf,
                      const struct verb_request *request)
{
    struct slice from = slice_str(request->domain), name = slice_str(request->vmta);
    const struct conf_vmta *vmta = conf_vmta_named(conf, name);
    const struct conf_pool *pool = conf_pool_named(conf, name);

    if (strcmp(request->vmta, "*") == 0) {
        for (uint32_t i = 0; i < conf_vmta_count(conf); i++)
            add_vmta(domain, conf, conf_vmta_at(conf, i), from);
        return true;
    }
    if (vmta != NULL)
        add_vmta(domain, conf, vmta, from);
    for (uint32_t i = 0; vmta == NULL && pool != NULL && i < pool->vmta_count; i++)
        add_vmta(domain, conf, conf_vmta(conf, pool->vmta_ids[i]), from);
    return vmta != NULL || pool != NULL;
}

/* ---- The verdict on an address --------------------------------------------------------------- */

enum fault {
    FAULT_SPF,
    FAULT_NAME,
    FAULT_HELO,
    FAULT_DKIM,
    FAULT_DMARC,
    FAULT_COUNT,
};

static const char *const fault_names[FAULT_COUNT] = {
    [FAULT_SPF] = "SPF",   [FAULT_NAME] = "reverse name", [FAULT_HELO] = "HELO",
    [FAULT_DKIM] = "DKIM", [FAULT_DMARC] = "DMARC",
};

struct verdict_of_source {
    bool is_spf_aligned;
    bool has_dkim;        /* a key whose record is there */
    bool has_other;       /* a key whose record is not as it should be */
    bool is_dkim_aligned; /* one of those with has_dkim */
    uint32_t faults;      /* 1 << enum fault */
};

static bool is_key_aligned(const struct domain_check *check, const struct key_row *row)
{
    return domain_check_is_aligned(check, domain_check_signer(check, slice_str(row->domain)),
                                   domain_check_from(check)->record.is_strict_dkim);
}

static struct verdict_of_source judge(const struct control_domain *domain, uint32_t index)
{
    const struct domain_check *check = domain->check;
    uint32_t count;
    const struct domain_source *source = &domain_check_sources(check, &count)[index];
    const struct key_row *rows = key_check_rows(domain->keys, &count);
    struct verdict_of_source verdict = {
        .is_spf_aligned = domain_check_is_aligned(check, domain_check_sender(check),
                                                  domain_check_from(check)->record.is_strict_spf),
    };
    bool is_spf_good = source->is_done && source->spf == SPF_PASS;

    for (uint32_t i = 0; i < KINDS; i++) {
        const struct key_row *row =
            domain->signers[index][i] != NO_KEY ? &rows[domain->signers[index][i]] : NULL;

        if (row == NULL)
            continue;
        verdict.has_other |= row->record != DKIM_RECORD_MATCHES;
        verdict.has_dkim |= domain->signs && row->record == DKIM_RECORD_MATCHES;
        verdict.is_dkim_aligned |=
            domain->signs && row->record == DKIM_RECORD_MATCHES && is_key_aligned(check, row);
    }
    if (!is_spf_good)
        verdict.faults |= 1u << FAULT_SPF;
    if (!source->is_done || source->iprev != RDNS_PASS)
        verdict.faults |= 1u << FAULT_NAME;
    if (source->leads != DOMAIN_HELO_HERE && source->leads != DOMAIN_HELO_ELSEWHERE)
        verdict.faults |= 1u << FAULT_HELO;
    if (!verdict.has_dkim || verdict.has_other)
        verdict.faults |= 1u << FAULT_DKIM;
    if (domain_check_from(check)->found != DMARC_FOUND ||
        (!(is_spf_good && verdict.is_spf_aligned) && !verdict.is_dkim_aligned))
        verdict.faults |= 1u << FAULT_DMARC;
    return verdict;
}

/* ---- The tree -------------------------------------------------------------------------------- */

static void set_text(json_t *tree, const char *key, const char *text)
{
    json_object_set_new(tree, key, control_string(text));
}

static const char *leads_name(enum domain_helo leads)
{
    static const char *const names[] = {
        [DOMAIN_HELO_UNKNOWN] = "unknown",
        [DOMAIN_HELO_HERE] = "here",
        [DOMAIN_HELO_ELSEWHERE] = "elsewhere",
        [DOMAIN_HELO_NOWHERE] = "nowhere",
    };

    return names[leads];
}

static const char *iprev_name(const struct domain_source *source)
{
    static const char *const names[] = {
        [RDNS_PASS] = "pass",
        [RDNS_FAIL] = "fail",
        [RDNS_TEMPERROR] = "temperror",
        [RDNS_PERMERROR] = "none",
    };

    return source->is_done ? names[source->iprev] : "temperror";
}

static const char *dkim_name(const struct control_domain *domain,
                             const struct verdict_of_source *verdict)
{
    return !domain->signs             ? "unsigned"
           : verdict->has_other       ? "bad record"
           : !verdict->has_dkim       ? "no key"
           : verdict->is_dkim_aligned ? "aligned"
                                      : "not aligned";
}

static json_t *source_tree(const struct control_domain *domain, uint32_t index)
{
    uint32_t count;
    const struct domain_source *source = &domain_check_sources(domain->check, &count)[index];
    struct verdict_of_source verdict = judge(domain, index);
    json_t *tree = json_object();
    char ip[IPADDR_TEXT_MAX], room[128];
    struct text wrong = text_in(room, sizeof(room));

    for (int i = 0; i < FAULT_COUNT; i++) {
        if ((verdict.faults & 1u << i) == 0)
            continue;
        text_put_str(&wrong, text_slice(&wrong).len > 0 ? ", " : "");
        text_put_str(&wrong, fault_names[i]);
    }
    room[text_slice(&wrong).len] = '\0';
    ipaddr_format(&source->ip, ip);
    set_text(tree, "vmta", source->vmta);
    set_text(tree, "ip", ip);
    set_text(tree, "helo", source->helo);
    set_text(tree, "heloLeads", leads_name(source->leads));
    set_text(tree, "name", source->name);
    set_text(tree, "iprev", iprev_name(source));
    set_text(tree, "spf", spf_result_name(source->is_done ? source->spf : SPF_TEMPERROR));
    set_text(tree, "spfBy", source->spf_by);
    json_object_set_new(tree, "spfAligned", json_boolean(verdict.is_spf_aligned));
    json_object_set_new(tree, "spfIsOfSender", json_boolean(source->spf_is_of_sender));
    set_text(tree, "dkim", dkim_name(domain, &verdict));
    set_text(tree, "dmarc", verdict.faults & 1u << FAULT_DMARC ? "fail" : "pass");
    set_text(tree, "wrong", room);
    return tree;
}

static json_t *dmarc_tree(const struct domain_check *check)
{
    static const char *const found[] = {
        [DMARC_NONE] = "none",
        [DMARC_FOUND] = "found",
        [DMARC_TEMPERROR] = "temperror",
    };
    const struct dmarc_walk *walk = domain_check_from(check);
    bool is_found = walk->found == DMARC_FOUND;
    json_t *tree = json_object();

    set_text(tree, "found", found[walk->found]);
    set_text(tree, "domain", is_found ? walk->record_domain : "");
    set_text(tree, "policy", is_found ? dmarc_policy_name(dmarc_policy_of(walk)) : "");
    set_text(tree, "adkim", walk->record.is_strict_dkim ? "strict" : "relaxed");
    set_text(tree, "aspf", walk->record.is_strict_spf ? "strict" : "relaxed");
    json_object_set_new(tree, "testing", json_boolean(walk->record.is_testing));
    json_object_set_new(tree, "reports", json_boolean(walk->record.has_reports));
    set_text(tree, "organization", walk->organization);
    return tree;
}

static json_t *key_tree(const struct control_domain *domain, const struct key_row *row)
{
    json_t *tree = json_object();

    set_text(tree, "selector", row->selector);
    set_text(tree, "domain", row->domain);
    set_text(tree, "algorithm", sign_key_algorithm(row->key));
    set_text(tree, "place", row->place);
    set_text(tree, "record", dkim_record_name(row->record));
    json_object_set_new(tree, "aligned", json_boolean(is_key_aligned(domain->check, row)));
    set_text(tree, "why", row->why);
    return tree;
}

/* ---- As text --------------------------------------------------------------------------------- */

static const char *string_at(const json_t *tree, const char *key)
{
    const char *text = json_string_value(json_object_get(tree, key));

    return text != NULL ? text : "";
}

static void text_dmarc(const json_t *data, struct text_buffer *out)
{
    const json_t *dmarc = json_object_get(data, "dmarc");

    text_format(out, "From %s, sender %s\n", string_at(data, "domain"), string_at(data, "sender"));
    if (strcmp(string_at(dmarc, "found"), "none") == 0)
        text_format(out, "DMARC: there is no record\n");
    else if (strcmp(string_at(dmarc, "found"), "temperror") == 0)
        text_format(out, "DMARC: the DNS did not answer\n");
    else
        text_format(out, "DMARC: p=%s by the record of %s%s%s; alignment of DKIM %s, of SPF %s\n",
                    string_at(dmarc, "policy"), string_at(dmarc, "domain"),
                    json_is_true(json_object_get(dmarc, "testing")) ? ", for a test (t=y)" : "",
                    json_is_true(json_object_get(dmarc, "reports")) ? "" : ", no reports (rua=)",
                    string_at(dmarc, "adkim"), string_at(dmarc, "aspf"));
}

static void text_domain(const json_t *data, struct text_buffer *out)
{
    static const struct text_column sources[] = {
        {"vmta", "virtual MTA", false}, {"ip", "address", false},    {"helo", "HELO", false},
        {"heloLeads", "leads", false},  {"iprev", "reverse", false}, {"name", "name", false},
        {"spf", "SPF", false},          {"spfBy", "by", false},      {"dkim", "DKIM", false},
        {"dmarc", "DMARC", false},      {"wrong", "wrong", false},
    };
    static const struct text_column keys[] = {
        {"selector", "selector", false},
        {"domain", "domain", false},
        {"algorithm", "algorithm", false},
        {"place", "place", false},
        {"record", "record", false},
        {"aligned", "aligned", false},
        {"why", "why", false},
    };
    const json_t *unknown = json_object_get(data, "unknown");

    text_dmarc(data, out);
    text_format(out, "\n");
    render_table(json_object_get(data, "source"), sources, sizeof(sources) / sizeof(sources[0]),
                 out);
    if (json_array_size(json_object_get(data, "key")) > 0) {
        text_format(out, "\n");
        render_table(json_object_get(data, "key"), keys, sizeof(keys) / sizeof(keys[0]), out);
    }
    for (size_t i = 0; i < json_array_size(unknown); i++)
        text_format(out, "%s%s",
                    i == 0 ? "\nNothing is known of these, whose address the system "
                             "chooses (smtp-source-host): "
                           : ", ",
                    json_string_value(json_array_get(unknown, i)));
    if (json_array_size(unknown) > 0)
        text_format(out, "\n");
}

/* ---- From begin to end ----------------------------------------------------------------------- */

static void answer(struct control_client *client)
{
    struct control_domain *domain = client->domain;
    struct control_answer answer = {.data = json_object(), .text = text_domain};
    json_t *sources = json_array(), *keys = json_array();
    const struct key_row *rows;
    uint32_t count, bad = 0;
    char text[160];

    rows = key_check_rows(domain->keys, &count);
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(keys, key_tree(domain, &rows[i]));
    domain_check_sources(domain->check, &count);
    for (uint32_t i = 0; i < count; i++) {
        bad += judge(domain, i).faults != 0;
        json_array_append_new(sources, source_tree(domain, i));
    }
    set_text(answer.data, "domain", client->request.domain);
    set_text(answer.data, "sender", domain_check_sender(domain->check)->domain);
    json_object_set_new(answer.data, "dmarc", dmarc_tree(domain->check));
    json_object_set_new(answer.data, "source", sources);
    json_object_set_new(answer.data, "key", keys);
    json_object_set(answer.data, "unknown", domain->unknown);
    snprintf(text, sizeof(text), "%u of %u source addresses are not as they should be%s", bad,
             count, domain->is_cut ? "; there are more than were looked at" : "");
    if (bad > 0 || domain->is_cut)
        control_client_refuse_with(client, text, &answer);
    else
        control_client_answer(client, &answer);
    control_answer_free(&answer);
    control_domain_leave(client);
}

static void on_keys(struct key_check *keys, void *context)
{
    (void)keys;
    answer(context);
}

static void on_domain(struct domain_check *check, void *context)
{
    struct control_client *client = context;

    (void)check;
    key_check_start(client->domain->keys, DNS_TIMEOUT_MS, on_keys, client);
}

static struct control_domain *domain_new(struct control *control, struct slice from,
                                         struct slice sender)
{
    struct control_domain *domain = mem_alloc(sizeof(*domain));

    domain->check = domain_check_new(control->io, control->keys.dns, from, sender);
    domain->keys = key_check_new(control->io, control->keys.dns);
    domain->known = mem_alloc(KEYS_MAX * sizeof(domain->known[0]));
    domain->signers = mem_alloc(DOMAIN_CHECK_SOURCES_MAX * sizeof(domain->signers[0]));
    domain->signs = conf_signs(control->conf);
    domain->unknown = json_array();
    return domain;
}

/* A domain name as an operator writes it: room has its routing form. */
static bool read_domain(const char *text, char room[ADDRESS_HOST_MAX + 1])
{
    return address_domain_parse(slice_str(text), ADDRESS_ALLOW_UTF8, room) > 0 && room[0] != '[';
}

void control_domain_verb(struct control *control, struct control_client *client)
{
    struct verb_request *request = &client->request;
    char from[ADDRESS_HOST_MAX + 1], sender[ADDRESS_HOST_MAX + 1];
    struct control_domain *domain;
    uint32_t count;

    if (control->keys.dns == NULL) {
        control_client_refuse(client, "check domain: there is no resolver");
        return;
    }
    if (!read_domain(request->domain, from) ||
        !read_domain(request->value[0] != '\0' ? request->value : request->domain, sender)) {
        control_client_refuse(client, "check domain: that is no domain's name");
        return;
    }
    strcpy(request->domain, from);
    domain = domain_new(control, slice_str(from), slice_str(sender));
    if (!add_vmtas(domain, control->conf, request)) {
        domain_free(domain);
        control_client_refuse(client, "check domain: there is no such virtual MTA or pool");
        return;
    }
    mem_free(domain->known);
    domain->known = NULL;
    domain_check_sources(domain->check, &count);
    if (count == 0) {
        domain_free(domain);
        control_client_refuse(client, "check domain: no virtual MTA has a smtp-source-host");
        return;
    }
    dns_doubt_denials(control->keys.dns);
    client->domain = domain;
    domain_check_start(domain->check, DNS_TIMEOUT_MS, on_domain, client);
}
