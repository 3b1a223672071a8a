#include "shard/sts_ask.h"

#include "net/dane.h"
#include "shard/shard_int.h"

bool sts_ask(struct shard *shard, struct sts_question *question, struct slice domain,
             const struct mx_answer *answer)
{
    if (!shard->wiring.to_control || domain.len > DNS_NAME_MAX)
        return false;
    question->parcel = (struct parcel){.kind = STS_ASK, .from = shard->number};
    question->record = answer->sts_record;
    memcpy(question->id, answer->sts_id, sizeof(question->id));
    memcpy(question->domain, domain.data, domain.len);
    question->domain[domain.len] = '\0';
    mailbox_post(shard->wiring.to_control, &question->parcel);
    return true;
}

/* ---- Hosts ----------------------------------------------------------------------------------- */

/* With its addresses; hosts behind it move up. */
static void leave_out(struct mx_answer *answer, uint16_t host)
{
    uint16_t kept = 0;

    for (uint16_t i = 0; i < answer->target_count; i++) {
        if (answer->targets[i].host == host)
            continue;
        answer->targets[kept] = answer->targets[i];
        answer->targets[kept].host -= answer->targets[i].host > host;
        kept++;
    }
    answer->target_count = kept;
    answer->host_count--;
    for (uint16_t i = host; i < answer->host_count; i++) {
        memcpy(answer->host_names[i], answer->host_names[i + 1], sizeof(answer->host_names[i]));
        answer->tlsas[i] = answer->tlsas[i + 1];
    }
}

/* Of what it asks for, and of whom; equal policies of several domains are one. Whoever owns one of
 * them cannot write another policy that has the same. */
static uint64_t hash_of(const struct shard *shard, const struct sts_policy *policy)
{
    uint64_t hash = hash_u64(policy->mode);

    for (uint32_t i = 0; i < policy->mx_count; i++) {
        struct slice mx = policy->mx[i];
        uint8_t lower[STS_MX_BYTES_MAX];

        for (size_t at = 0; at < mx.len; at++)
            lower[at] = slice_lower_octet(mx.data[at]);
        hash = hash_combine(hash, siphash(shard->wiring.site_key, slice_of(lower, mx.len)));
    }
    return hash;
}

/* Without the last line end, and whole lines only: half of one would be another policy. */
static struct slice told_text(const struct sts_question *question)
{
    size_t len = question->text_len;

    while (len > 0 && (len > MX_STS_BYTES_MAX || question->text[len] != '\n'))
        len--;
    return slice_of(question->text, len);
}

static void tell(struct shard *shard, const struct sts_question *question,
                 enum tlsrpt_result result, const char *host, const char *why)
{
    tls_report_trouble(shard, slice_str(question->domain), TLSRPT_STS, told_text(question), result,
                       slice_str(host), why);
}

/* RFC 8461 2: what DANE says of a host holds instead, if it says anything: records that nobody can
 * use name no certificate. */
static bool goes_by_dane(const struct mx_answer *answer, uint16_t host)
{
    const struct mx_tlsa *tlsa = &answer->tlsas[host];

    return dane_worth_of(slice_of(answer->tlsa_room.data + tlsa->records, tlsa->bytes)) ==
           DANE_USABLE;
}

/* The hosts that the policy does not name; of one that is only tried out they are told of. */
static void compare_hosts(struct shard *shard, const struct sts_question *question,
                          const struct sts_policy *policy, struct mx_answer *answer)
{
    for (uint16_t i = answer->host_count; i > 0; i--) {
        const char *host = answer->host_names[i - 1];

        if (goes_by_dane(answer, i - 1) || sts_policy_names(policy, slice_str(host)))
            continue;
        tell(shard, question, TLSRPT_FAILURE, host, "the policy does not name the MX host");
        if (policy->mode == STS_ENFORCE)
            leave_out(answer, i - 1);
    }
}

/* RFC 8461 5: mail waits then, and is not refused before its time. */
static void refuse(const struct sts_question *question, struct mx_answer *answer)
{
    static const uint8_t enhanced[3] = {4, 7, 5};

    verdict_set_local(&answer->verdict, VERDICT_DOMAIN, VERDICT_TRANSIENT, VERDICT_AT_DNS, 451,
                      enhanced, "no MX host of %s is one that its MTA-STS policy names",
                      question->domain);
}

static void tell_of_fetch(struct shard *shard, const struct sts_question *question)
{
    static const enum tlsrpt_result results[STS_WIRE_RESULT_COUNT] = {
        [STS_WIRE_UNREACHED] = TLSRPT_STS_FETCH_ERROR,
        [STS_WIRE_DISTRUSTED] = TLSRPT_STS_WEBPKI,
        [STS_WIRE_UNFIT] = TLSRPT_STS_INVALID,
    };

    if (question->result != STS_WIRE_POLICY)
        tell(shard, question, results[question->result], "", "");
}

void sts_apply(struct shard *shard, const struct sts_question *question, struct mx_answer *answer)
{
    uint64_t left_s = question->text_len > 0 ? question->left_s : UINT64_MAX / 2000000000u;
    struct sts_policy policy;
    uint64_t ends_ns;

    if (question->is_open && left_s > STS_ASK_AGAIN_S)
        left_s = STS_ASK_AGAIN_S;
    ends_ns = io_now_ns(shard->io) + left_s * 1000000000u;
    if (answer->valid_until_ns > ends_ns)
        answer->valid_until_ns = ends_ns;
    tell_of_fetch(shard, question);
    if (question->text_len == 0 ||
        sts_policy_parse(slice_of(question->text, question->text_len), &policy) < 0 ||
        policy.mode == STS_NONE)
        return;
    answer->sts = (uint8_t)policy.mode;
    answer->sts_hash = hash_of(shard, &policy);
    answer->sts_bytes = (uint16_t)told_text(question).len;
    memcpy(answer->sts_text, question->text, answer->sts_bytes);
    answer->set_hash = hash_combine(answer->set_hash, answer->sts_hash);
    compare_hosts(shard, question, &policy, answer);
    if (answer->target_count == 0)
        refuse(question, answer);
}
