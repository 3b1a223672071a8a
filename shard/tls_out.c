#include "shard/tls_out.h"

#include "core/base/err.h"
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

void tls_out_way(const struct queue *queue, struct tls_out_way *ret_way)
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
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    struct slice s = slice_str(text ? text : "");

    return hash_combine(hash, hash_bytes(s.data, s.len));
}

/* Files count by their names: a reload that reads new ones ends no connection. */
uint64_t tls_out_key(const struct queue *queue)
{
    const struct conf_queue *settings = &queue->settings;
    struct tls_out_way way;
    uint64_t hash;

    tls_out_way(queue, &way);
    hash = (uint64_t)way.level << 8 | (uint64_t)way.terms.resumes << 4 | way.terms.versions;
    if (way.level == SMTPC_TLS_NEVER)
        return 1;
    if (way.level == SMTPC_TLS_MAY && !way.terms.certificate && !way.terms.ciphers &&
        !way.terms.resumes && way.terms.versions == (CONF_TLS_1_2 | CONF_TLS_1_3))
        return 0;
    hash = hash_text(hash_u64(hash), way.terms.ciphers);
    hash = hash_text(hash, way.terms.certificate ? way.terms.certificate->path : NULL);
    hash = hash_text(hash, way.terms.verifies ? settings->tls_authorities->path : NULL);
    return hash;
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
                      const struct ipaddr_port *at)
{
    struct tls_out_way way;

    tls_out_way(queue, &way);
    if (way.level == SMTPC_TLS_MAY && is_marked(shard, at, lane->tls_key, MARK_PLAIN))
        return SMTPC_TLS_NEVER;
    return way.level;
}

int tls_out_open(struct smtpc *smtpc, void *context, const struct tls_events *events,
                 struct tls **ret_tls)
{
    const struct connection *connection = context;
    struct shard *shard = connection->shard;
    struct tls_context *made;
    struct tls_out_way way;
    char room[DNS_NAME_MAX + 1];
    const char *name = NULL;

    tls_out_way(connection->queue, &way);
    if (connection->host != NAME_NONE) {
        struct slice host = names_text(&shard->names, connection->host);

        must(host.len < sizeof(room));
        memcpy(room, host.data, host.len);
        room[host.len] = '\0';
        name = room;
    }
    /* Versions and use-starttls may leave nothing; without a name no chain can be judged. */
    if (way.terms.versions == 0 || (way.terms.verifies && !name))
        return E_REFUSED;
    made = contexts_get(shard, &way.terms);
    return made ? tls_open(made, name, connection->target_at.port, events, smtpc, ret_tls)
                : -ENOMEM;
}

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
