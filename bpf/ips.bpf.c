/*
 * What the kernel's TCP does for each of our source addresses.
 *
 * A sock_ops program on the daemon's cgroup sees every connection that begins there, its
 * establishment and its end. While a connection lives its counters stay in the kernel's own
 * tcp_sock: an iterator over our sockets, run by the loader once a second, and the end of each
 * connection fold what was added since into the totals of its address. So nothing of ours runs for
 * each segment.
 *
 * Only connections whose source address was chosen count; those of the resolver and of helper
 * programs leave it to the kernel.
 */
#include "bpf/ips_map.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <stdbool.h>

#define ERR_PIPE             32 /* what a reset leaves behind in CLOSE_WAIT */
#define ERR_CONNECTION_RESET 104
#define ERR_TIMED_OUT        110
#define BIND_ADDRESS_LOCK    4 /* SOCK_BINDADDR_LOCK */
#define FAMILY_V4            2
#define ADVANCE_ATTEMPTS_MAX 4
#define V4_MAPPED_WORD       0x0000ffff /* the third word of ::ffff:0:0 */

char ips_license[] SEC("license") = "GPL";

/* ---- The kernel's structs, as far as they are read; the offsets come from the running kernel ----
 */

struct sock {
    int sk_err;
    __u8 sk_userlocks;
} __attribute__((preserve_access_index));

struct tcp_sock {
    __u64 bytes_sent;
    __u64 bytes_received;
    __u32 total_retrans;
    __u32 srtt_us; /* times 8 */
} __attribute__((preserve_access_index));

struct bpf_iter_meta;

struct bpf_iter__bpf_sk_storage_map {
    struct bpf_iter_meta *meta;
    struct bpf_map *map;
    struct sock *sk;
    void *value;
} __attribute__((preserve_access_index));

/* ---- Maps -------------------------------------------------------------------------------------
 */

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, IPS_KEY_COUNT_MAX);
    __type(key, struct ips_key);
    __type(value, struct ips_value);
} ips_totals SEC(".maps");

/* What of a connection stands in the totals already. */
struct seen {
    struct ips_key key;
    __u64 bytes_sent;
    __u64 bytes_received;
    __u64 retransmits;
};

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct seen);
} ips_seen SEC(".maps");

/* ---- Totals -----------------------------------------------------------------------------------
 */

/* The key is looked up from the stack: older kernels take no key from an iterator's buffer. */
static __always_inline struct ips_value *totals_of(const struct ips_key *from)
{
    static const struct ips_value nothing;
    struct ips_key key = *from;
    struct ips_value *value = bpf_map_lookup_elem(&ips_totals, &key);

    if (value)
        return value;
    bpf_map_update_elem(&ips_totals, &key, &nothing, BPF_NOEXIST);
    return bpf_map_lookup_elem(&ips_totals, &key);
}

static __always_inline void count(const struct ips_key *key, enum ip_counter counter)
{
    struct ips_value *value = totals_of(key);

    if (value)
        __sync_fetch_and_add(&value->counters[counter], 1);
}

/*
 * Moves *seen up to `now` and returns by how much. The iterator and the end of a connection may
 * meet here on two processors: each step is added exactly once, and an older view adds nothing.
 */
static __always_inline __u64 advance(__u64 *seen, __u64 now)
{
    for (int i = 0; i < ADVANCE_ATTEMPTS_MAX; i++) {
        __u64 before = *(volatile __u64 *)seen;

        if ((__s64)(now - before) <= 0)
            return 0;
        if (__sync_val_compare_and_swap(seen, before, now) == before)
            return now - before;
    }
    return 0;
}

static __always_inline void add_srtt(struct ips_value *value, __u32 srtt_us)
{
    if (srtt_us == 0)
        return;
    __sync_fetch_and_add(&value->counters[IP_SRTT_SAMPLES], 1);
    __sync_fetch_and_add(&value->counters[IP_SRTT_SUM_US], srtt_us);
    value->srtt_last_us = srtt_us;
    value->srtt_last_at_ns = bpf_ktime_get_ns();
    for (int i = 0; i < ADVANCE_ATTEMPTS_MAX; i++) {
        __u32 before = *(volatile __u32 *)&value->srtt_min_us;

        if (before != 0 && before <= srtt_us)
            return;
        if (__sync_val_compare_and_swap(&value->srtt_min_us, before, srtt_us) == before)
            return;
    }
}

/* What the connection did since the last look goes into its address's totals. */
static __always_inline void fold(struct seen *seen, const struct tcp_sock *tcp)
{
    __u64 sent = advance(&seen->bytes_sent, tcp->bytes_sent);
    __u64 received = advance(&seen->bytes_received, tcp->bytes_received);
    __u64 again = advance(&seen->retransmits, tcp->total_retrans);
    struct ips_value *value;

    if (sent == 0 && received == 0 && again == 0)
        return;
    value = totals_of(&seen->key);
    if (!value)
        return;
    __sync_fetch_and_add(&value->counters[IP_BYTES_SENT], sent);
    __sync_fetch_and_add(&value->counters[IP_BYTES_RECEIVED], received);
    __sync_fetch_and_add(&value->counters[IP_RETRANSMITS], again);
    add_srtt(value, tcp->srtt_us >> 3);
}

/* ---- Events of a connection -------------------------------------------------------------------
 */

static __always_inline void fill_key(struct bpf_sock_ops *ops, struct ips_key *key)
{
    bool is_v4 = ops->family == FAMILY_V4;
    __u32 v4 = ops->local_ip4;
    __u32 v6[4] = {ops->local_ip6[0], ops->local_ip6[1], ops->local_ip6[2], ops->local_ip6[3]};

    /* The verifier wants each of these loads as it stands, not moved behind the choice. */
    barrier_var(v4);
    barrier_var(v6[3]);
    key->source[0] = is_v4 ? 0 : v6[0];
    key->source[1] = is_v4 ? 0 : v6[1];
    key->source[2] = is_v4 ? bpf_htonl(V4_MAPPED_WORD) : v6[2];
    key->source[3] = is_v4 ? v4 : v6[3];
}

static __always_inline void on_connect(struct bpf_sock_ops *ops)
{
    struct bpf_sock *socket = ops->sk;
    struct tcp_sock *tcp;
    struct seen *seen;

    if (!socket)
        return;
    tcp = bpf_skc_to_tcp_sock(socket);
    if (!tcp || !(BPF_CORE_READ_BITFIELD((struct sock *)tcp, sk_userlocks) & BIND_ADDRESS_LOCK))
        return;
    seen = bpf_sk_storage_get(&ips_seen, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!seen)
        return;
    fill_key(ops, &seen->key);
    count(&seen->key, IP_CONNECTS);
    bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline struct seen *seen_of(struct bpf_sock_ops *ops)
{
    struct bpf_sock *socket = ops->sk;

    return socket ? bpf_sk_storage_get(&ips_seen, socket, NULL, 0) : NULL;
}

static __always_inline void on_established(struct bpf_sock_ops *ops)
{
    struct seen *seen = seen_of(ops);

    if (seen)
        count(&seen->key, IP_ESTABLISHED);
}

/* An attempt is over. No error at all: we gave up ourselves, after our own limit or at our end. */
static __always_inline void on_attempt_failed(const struct seen *seen, const struct tcp_sock *tcp)
{
    int error = ((const struct sock *)tcp)->sk_err;

    if (error == ERR_TIMED_OUT || (error == 0 && tcp->total_retrans > 0))
        count(&seen->key, IP_SYN_TIMEOUTS);
    else if (error != 0)
        count(&seen->key, IP_REFUSED);
}

static __always_inline void on_end(struct bpf_sock_ops *ops)
{
    struct seen *seen = seen_of(ops);
    struct bpf_sock *socket = ops->sk;
    struct tcp_sock *tcp;
    int error;

    if (!seen || !socket)
        return;
    tcp = bpf_skc_to_tcp_sock(socket);
    if (!tcp)
        return;
    error = ((const struct sock *)tcp)->sk_err;
    if (ops->args[0] == BPF_TCP_SYN_SENT)
        on_attempt_failed(seen, tcp);
    else if (error == ERR_CONNECTION_RESET || error == ERR_PIPE)
        count(&seen->key, IP_RESETS);
    fold(seen, tcp);
}

SEC("sockops")
int ips_events(struct bpf_sock_ops *ops)
{
    switch (ops->op) {
    case BPF_SOCK_OPS_TCP_CONNECT_CB:
        on_connect(ops);
        break;
    case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
        on_established(ops);
        break;
    case BPF_SOCK_OPS_STATE_CB:
        if (ops->args[1] == BPF_TCP_CLOSE)
            on_end(ops);
        break;
    }
    return 1;
}

/* ---- The look at what is open ------------------------------------------------------------------
 */

SEC("iter/bpf_sk_storage_map")
int ips_look(struct bpf_iter__bpf_sk_storage_map *look)
{
    struct seen *seen = look->value;
    struct sock *sk = look->sk;
    struct tcp_sock *tcp;

    if (!seen || !sk)
        return 0;
    tcp = bpf_skc_to_tcp_sock(sk);
    if (tcp)
        fold(seen, tcp);
    return 0;
}
