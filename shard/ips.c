/*
 * Figures per source address from TCP_INFO: what the shard can see of its own connections.
 *
 * A connection is looked at when it stands, when a message ends on it and the last look is at least
 * a second ago, and when it ends; what it did since the last look is added to its address. What
 * happens to a socket after it was closed (a lost FIN) is not seen.
 */
#include "shard/shard_int.h"

#include <errno.h>

#define LOOK_INTERVAL_NS 1000000000ull

void ips_init(struct shard *shard, bool counts_ips)
{
    slab_init(&shard->ips, sizeof(struct ip_figures), IP_FIGURES_COUNT_MAX);
    table_init(&shard->ips_table);
    shard->counts_ips = counts_ips;
}

void ips_fini(struct shard *shard)
{
    table_fini(&shard->ips_table);
    slab_fini(&shard->ips);
}

/* ---- Rows ------------------------------------------------------------------------------------ */

static bool row_matches(uint32_t value, const void *key, void *context)
{
    const struct ip_figures *row = slab_at(&((struct shard *)context)->ips, value);

    return ipaddr_equal(&row->source, key);
}

/* NONE when there is no room: the connection is not counted then. */
static uint32_t row_obtain(struct shard *shard, const struct ipaddr *source)
{
    uint64_t hash = ipaddr_hash(source);
    uint32_t index = table_find(&shard->ips_table, hash, row_matches, source, shard);
    struct ip_figures *row;

    if (index != TABLE_NONE)
        return index;
    row = slab_alloc(&shard->ips, &index);
    if (!row)
        return NONE;
    if (!table_insert(&shard->ips_table, hash, index)) {
        slab_free(&shard->ips, index);
        return NONE;
    }
    row->source = *source;
    return index;
}

static void count(struct shard *shard, const struct connection *connection, enum ip_counter counter)
{
    struct ip_figures *row = slab_at(&shard->ips, connection->ips.row);

    row->counters[counter]++;
}

/* ---- Looks ----------------------------------------------------------------------------------- */

static void add_look(struct shard *shard, struct connection *connection,
                     const struct io_tcp_info *info)
{
    struct ips_place *place = &connection->ips;
    struct ip_figures *row = slab_at(&shard->ips, place->row);
    bool has_changed = info->bytes_sent != place->bytes_sent ||
                       info->bytes_received != place->bytes_received ||
                       info->retransmits != place->retransmits;

    row->counters[IP_BYTES_SENT] += info->bytes_sent - place->bytes_sent;
    row->counters[IP_BYTES_RECEIVED] += info->bytes_received - place->bytes_received;
    row->counters[IP_RETRANSMITS] += info->retransmits - place->retransmits;
    place->bytes_sent = info->bytes_sent;
    place->bytes_received = info->bytes_received;
    place->retransmits = info->retransmits;
    if (has_changed)
        ip_figures_add_srtt(row, info->srtt_us, io_now_ns(shard->io));
}

static void note_established(struct shard *shard, struct connection *connection)
{
    if (!connection->ips.is_established)
        count(shard, connection, IP_ESTABLISHED);
    connection->ips.is_established = true;
}

void ips_on_open(struct shard *shard, struct connection *connection)
{
    connection->ips = (struct ips_place){
        .row = shard->counts_ips ? row_obtain(shard, &connection->lane->source) : NONE,
    };
    if (connection->ips.row != NONE)
        count(shard, connection, IP_CONNECTS);
}

void ips_on_progress(struct shard *shard, struct connection *connection)
{
    struct ips_place *place = &connection->ips;
    uint64_t now_ns = io_now_ns(shard->io);
    struct io_tcp_info info;

    if (place->row == NONE || connection->is_closed)
        return;
    note_established(shard, connection);
    if (place->looked_at_ns != 0 && now_ns - place->looked_at_ns < LOOK_INTERVAL_NS)
        return;
    place->looked_at_ns = now_ns;
    if (smtpc_tcp_info(connection->smtpc, &info) >= 0)
        add_look(shard, connection, &info);
}

/* The same rule as the program in the kernel has: see on_attempt_failed in bpf/ips.bpf.c. */
static void count_failed_attempt(struct shard *shard, const struct connection *connection,
                                 const struct io_tcp_info *info)
{
    int32_t result = smtpc_connect_result(connection->smtpc);

    if (result == -ETIMEDOUT || (result == -ECANCELED && info->retransmits > 0))
        count(shard, connection, IP_SYN_TIMEOUTS);
    else if (result != -ECANCELED)
        count(shard, connection, IP_REFUSED);
}

void ips_on_closed(struct shard *shard, struct connection *connection)
{
    struct io_tcp_info info = {0};

    if (connection->ips.row == NONE)
        return;
    if (smtpc_tcp_info(connection->smtpc, &info) >= 0)
        add_look(shard, connection, &info);
    if (smtpc_connect_result(connection->smtpc) < 0) {
        count_failed_attempt(shard, connection, &info);
        return;
    }
    note_established(shard, connection);
    if (info.is_dead)
        count(shard, connection, IP_RESETS);
}

void ips_report(const struct shard *shard, struct report *report)
{
    for (uint32_t i = 0; i < shard->ips.count_grown; i++) {
        struct ip_figures *row;

        if (!slab_is_live(&shard->ips, i))
            continue;
        row = report_row_add(report, sizeof(*row));
        if (!row)
            return;
        *row = *(const struct ip_figures *)slab_at(&shard->ips, i);
    }
}
