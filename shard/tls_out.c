#include "shard/tls_out.h"

#include "core/base/err.h"
#include "net/dane.h"
#include "queue/terms.h"
#include "shard/shard_int.h"

#include <errno.h>

/* How long the next connections do without: where a handshake stalls, each look costs minutes. */
#define PLAIN_MS         600000
#define PLAIN_STALLED_MS 3600000
/* As an address that does not answer, see target.c. */
#define SHUT_MS          300000

enum mark_kind {
    MARK_PLAIN = 1,
    MARK_SHUT,
};

/* ---- Settings -------------------------------------------------------------------------------- */

static uint32_t versions_of(const struct conf_queue *settings)
{
    uint32_t versions = 0;

    for (uint32_t i = 0; i < 4; i++)
        versions |= settings->tls_allows[i] ? 1u << i : 0;
    return settings->use_starttls ? versions : 0;
}

bool tls_out_heeds_tlsa(const struct conf_queue *settings)
{
    return settings->use_dane && versions_of(settings) != 0;
}

bool tls_out_heeds_sts(const struct conf_queue *settings)
{
    return settings->use_mta_sts && versions_of(settings) != 0;
}

/* RFC 8461 4.2: the name is the MX host's, which the policy names. Who has to verify by authorities
 * of his own does it by these. */
static void heed_sts(const struct queue *queue, const struct site *site, struct tls_out_way *way)
{
    if (site->sts == STS_NONE)
        return;
    way->policy = TLSRPT_STS;
    way->policy_text = slice_of(site->sts_text, site->sts_text_len);
    if (site->sts == STS_ENFORCE)
        way->level = SMTPC_TLS_MUST;
    if (way->terms.verifies)
        return;
    way->terms.authorities = conf_global(queue->shard->conf)->mta_sts_authorities;
    way->terms.verifies = site->sts == STS_ENFORCE || way->terms.authorities;
    way->terms.pardons = site->sts != STS_ENFORCE && way->terms.verifies;
}

/* RFC 7672 2.2: where TLSA records are, TLS must be; those that cannot be used ask for no more. */
static void heed_tlsa(const struct site *site, uint32_t host, struct tls_out_way *way)
{
    struct slice tlsa = site_tlsa(site, host, &way->name);

    if (tlsa.len == 0)
        return;
    way->level = SMTPC_TLS_MUST;
    way->policy = TLSRPT_TLSA;
    way->policy_text = tlsa;
    if (dane_worth_of(tlsa) != DANE_USABLE)
        return;
    way->tlsa = tlsa;
    way->terms.authorities = NULL;
    way->terms.verifies = false;
    way->terms.pardons = false;
    /* A session that was begun under other terms would show no certificate. */
    way->terms.resumes = false;
}

/* Mail may ask for a certificate that holds (tls_out_carries): whether one does is found out here,
 * and where TLS is as good without one nothing else follows from it. */
static void watch(const struct conf_queue *settings, struct tls_out_way *way)
{
    if (way->terms.verifies || way->tlsa.len > 0 || way->level == SMTPC_TLS_NEVER ||
        !settings->tls_authorities)
        return;
    way->terms.authorities = settings->tls_authorities;
    way->terms.verifies = true;
    way->terms.pardons = true;
}

void tls_out_way(const struct queue *queue, const struct site *site, uint32_t host,
                 struct tls_out_way *ret_way)
{
    const struct conf_queue *settings = &queue->settings;
    uint32_t versions = versions_of(settings);
    bool verifies = settings->require_starttls && settings->tls_authorities;

    *ret_way = (struct tls_out_way){
        .level = settings->require_starttls ? SMTPC_TLS_MUST
                 : versions != 0            ? SMTPC_TLS_MAY
                                            : SMTPC_TLS_NEVER,
        .terms =
            {
                .certificate = settings->tls_certificate,
                .authorities = verifies ? settings->tls_authorities : NULL,
                .ciphers = settings->tls_ciphers,
                .versions = versions,
                .verifies = verifies,
                .resumes = settings->reuse_ssl_session,
            },
    };
    if (host == NONE)
        return;
    heed_sts(queue, site, ret_way);
    /* What holds by DANE holds instead (RFC 8461 2). */
    heed_tlsa(site, host, ret_way);
    watch(settings, ret_way);
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    struct slice s = slice_str(text ? text : "");

    return hash_combine(hash, hash_bytes(s.data, s.len));
}

/* Files count by their names: a reload that reads new ones ends no connection. */
static uint64_t key_of_settings(const struct queue *queue)
{
    const struct conf_queue *settings = &queue->settings;
    struct tls_out_way way;
    uint64_t hash;

    tls_out_way(queue, NULL, NONE, &way);
    hash = (uint64_t)way.level << 8 | (uint64_t)way.terms.resumes << 4 | way.terms.versions;
    if (way.level == SMTPC_TLS_NEVER)
        return 1;
    if (way.level == SMTPC_TLS_MAY && !way.terms.certificate && !way.terms.ciphers &&
        !way.terms.resumes && !settings->tls_authorities &&
        way.terms.versions == (CONF_TLS_1_2 | CONF_TLS_1_3))
        return 0;
    hash = hash_text(hash_u64(hash), way.terms.ciphers);
    hash = hash_text(hash, way.terms.certificate ? way.terms.certificate->path : NULL);
    hash = hash_text(hash, settings->tls_authorities ? settings->tls_authorities->path : NULL);
    return hash;
}

/* What fails by TLSA records or a policy fails for those alone who were shown them. */
uint64_t tls_out_key(const struct queue *queue)
{
    const struct site *site = queue->site;
    uint64_t key = key_of_settings(queue);

    if (site && site->tlsa_hash != 0)
        key = hash_combine(key, site->tlsa_hash);
    return site && site->sts_hash != 0 ? hash_combine(key, site->sts_hash) : key;
}

/* ---- What is remembered ---------------------------------------------------------------------- */

static uint64_t key_of(const struct ipaddr_port *at, uint64_t key, enum mark_kind kind)
{
    uint64_t hash = hash_combine(ipaddr_hash(&at->ip), hash_u64(at->port));

    return hash_combine(hash_combine(hash, key), hash_u64(kind));
}

static bool is_marked(const struct shard *shard, const struct ipaddr_port *at, uint64_t key,
                      enum mark_kind kind)
{
    uint64_t hash = key_of(at, key, kind);
    const struct tls_out_mark *set = shard->tls_out.marks[hash % TLS_OUT_SETS];

    for (uint32_t i = 0; i < TLS_OUT_WAYS; i++)
        if (set[i].key == hash && set[i].until_ns > io_now_ns(shard->io))
            return true;
    return false;
}

/* In the place of the mark that ends first. */
static void mark(struct shard *shard, const struct ipaddr_port *at, uint64_t key,
                 enum mark_kind kind, uint64_t until_ns)
{
    uint64_t hash = key_of(at, key, kind);
    struct tls_out_mark *set = shard->tls_out.marks[hash % TLS_OUT_SETS];
    struct tls_out_mark *place = &set[0];

    for (uint32_t i = 0; i < TLS_OUT_WAYS; i++) {
        if (set[i].key == hash) {
            place = &set[i];
            break;
        }
        if (set[i].until_ns < place->until_ns)
            place = &set[i];
    }
    *place = (struct tls_out_mark){hash, until_ns};
}

bool tls_out_is_shut(const struct shard *shard, const struct ipaddr_port *at, uint64_t key)
{
    return shard->tls_out.shut_until_ns > io_now_ns(shard->io) &&
           is_marked(shard, at, key, MARK_SHUT);
}

void tls_out_forget(struct shard *shard, const struct lane *lane)
{
    const struct site *site = lane->site;

    for (uint32_t i = 0; i < site->target_count; i++)
        if (tls_out_is_shut(shard, &site->targets[i].at, lane->tls_key))
            mark(shard, &site->targets[i].at, lane->tls_key, MARK_SHUT, 0);
}

/* ---- Connections ----------------------------------------------------------------------------- */

uint8_t tls_out_level(struct shard *shard, const struct lane *lane, const struct queue *queue,
                      const struct site_target *target)
{
    struct tls_out_way way;

    tls_out_way(queue, lane->site, target->host, &way);
    if (way.level == SMTPC_TLS_MAY && is_marked(shard, &target->at, lane->tls_key, MARK_PLAIN))
        return SMTPC_TLS_NEVER;
    return way.level;
}

/* A route may name a host for several ports, and records are about one of them. */
uint32_t tls_out_host(const struct connection *connection)
{
    const struct site *site = connection->lane->site;
    struct slice host;

    if (connection->host == NAME_NONE)
        return NONE;
    host = names_text(&connection->shard->names, connection->host);
    for (uint32_t i = 0; i < site->target_count; i++) {
        const struct site_target *target = &site->targets[i];

        if (target->at.port == connection->target_at.port &&
            slice_equal_nocase(host, slice_str(site->host_names[target->host])))
            return target->host;
    }
    return NONE;
}

/* As tls_set_judge has it; context: the connection. */
static const char *judge_by_tlsa(void *context, const struct slice *chain, uint32_t count)
{
    const struct connection *connection = context;
    const struct queue *queue = connection->queue;
    char domain[DNS_NAME_MAX + 1] = "";
    const char *names[] = {NULL, domain};
    struct dane_peer peer = {
        .chain = chain,
        .chain_count = count,
        .names = names,
        .name_count = queue->settings.route_count > 0 ? 1 : 2,
        .now_s = io_wall_us(connection->shard->io) / 1000000,
    };
    struct slice name = names_text(&connection->shard->names, queue->name);
    uint32_t host = tls_out_host(connection);
    struct tls_out_way way;

    if (host == NONE)
        return "the host is no MX host any more";
    tls_out_way(queue, connection->lane->site, host, &way);
    names[0] = way.name;
    must(name.len < sizeof(domain));
    memcpy(domain, name.data, name.len);
    return dane_judge(way.tlsa, &peer);
}

int tls_out_open(struct smtpc *smtpc, void *context, const struct tls_events *events,
                 struct tls **ret_tls)
{
    struct connection *connection = context;
    struct shard *shard = connection->shard;
    uint32_t host = tls_out_host(connection);
    struct tls_context *made;
    struct tls_out_way way;
    int rc;

    /* Without its name nothing is known of it, nor can a chain be judged. */
    if (host == NONE && connection->tls_level == SMTPC_TLS_MUST)
        return E_REFUSED;
    tls_out_way(connection->queue, connection->lane->site, host, &way);
    /* Versions and use-starttls may leave nothing, and a reload authorities that are not wanted any
     * more. */
    if (way.terms.versions == 0 || (way.terms.verifies && !way.terms.authorities))
        return E_REFUSED;
    connection->tls_is_judged = way.terms.verifies || way.tlsa.len > 0;
    made = contexts_get(shard, &way.terms);
    if (!made)
        return -ENOMEM;
    rc = tls_open(made, way.name, connection->target_at.port, events, smtpc, ret_tls);
    if (rc == 0 && way.tlsa.len > 0)
        tls_set_judge(*ret_tls, judge_by_tlsa, connection);
    return rc;
}

/* ---- Mail that asks for more than its queue ---------------------------------------------------
 */

/* RFC 5248 2.4: X.7.10 is "encryption needed"; RFC 3463: X.7.5 is about cryptography. */
static void refuse(const struct connection *connection, uint8_t detail, const char *why,
                   struct verdict *ret_verdict)
{
    const uint8_t enhanced[3] = {4, 7, detail};
    char ip[IPADDR_TEXT_MAX];

    ipaddr_format(&connection->target_at.ip, ip);
    verdict_set_local(ret_verdict, VERDICT_MESSAGE, VERDICT_TRANSIENT, VERDICT_AT_LOCAL, 451,
                      enhanced, "not sent to %s, since the message asks for TLS: %s", ip, why);
}

bool tls_out_carries(const struct connection *connection, const struct message *message,
                     struct verdict *ret_verdict)
{
    const struct tls *tls = smtpc_tls(connection->smtpc);
    struct terms terms;
    int result = terms_decode(message->envelope.terms, &terms);

    /* The envelope would not have been decoded. */
    must(result == 0);
    if (terms.tls == TERMS_TLS_ANY)
        return true;
    if (!tls || !tls_is_secured(tls))
        refuse(connection, 10, "there is none", ret_verdict);
    else if (terms.tls == TERMS_TLS_VERIFIED && !connection->tls_is_judged)
        refuse(connection, 5, "nothing says whose certificate would hold", ret_verdict);
    else if (terms.tls == TERMS_TLS_VERIFIED && tls_is_distrusted(tls))
        refuse(connection, 5, tls_failure(tls), ret_verdict);
    else
        return true;
    return false;
}

/* ---- When it fails --------------------------------------------------------------------------- */

void tls_out_on_failed(struct shard *shard, const struct connection *connection,
                       const struct verdict *verdict)
{
    uint64_t now_ns = io_now_ns(shard->io), until_ns = now_ns + SHUT_MS * 1000000ull;
    uint64_t plain_ms = verdict->flags & VERDICT_TIMED_OUT ? PLAIN_STALLED_MS : PLAIN_MS;
    uint64_t key = connection->lane->tls_key;

    if (connection->tls_level == SMTPC_TLS_MAY) {
        mark(shard, &connection->target_at, key, MARK_PLAIN, now_ns + plain_ms * 1000000);
        return;
    }
    mark(shard, &connection->target_at, key, MARK_SHUT, until_ns);
    shard->tls_out.shut_until_ns = until_ns;
}
