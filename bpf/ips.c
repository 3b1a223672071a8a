#include "bpf/ips.h"

#include "bpf/cgroup.h"
#include "bpf/ips.skel.h"
#include "bpf/ips_map.h"
#include "core/base/err.h"
#include "core/base/mem.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BATCH_COUNT 512
#define LOOKS_MAX   64 /* reads of one walk over our sockets; each covers a million */

_Static_assert(IPS_KEY_COUNT_MAX == IP_FIGURES_COUNT_MAX, "the map holds what rows are read");

struct ips {
    struct ips_bpf *bpf;
    struct cgroup cgroup;
    struct ips_key keys[BATCH_COUNT];
    struct ips_value values[BATCH_COUNT];
};

/* ---- Opening --------------------------------------------------------------------------------- */

static int ignore_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
    return 0;
}

static int load(struct ips *ips, char *why)
{
    int result;

    libbpf_set_print(ignore_print);
    ips->bpf = ips_bpf__open();
    if (ips->bpf == NULL) {
        snprintf(why, IPS_WHY_MAX, "cannot open the BPF program: %s", err_text(-errno));
        return -errno;
    }
    if (access("/sys/kernel/btf/vmlinux", R_OK) < 0) {
        snprintf(why, IPS_WHY_MAX, "the kernel has no type information (BTF)");
        return -ENOENT;
    }
    result = ips_bpf__load(ips->bpf);
    if (result < 0)
        snprintf(why, IPS_WHY_MAX, "cannot load the BPF program: %s%s", err_text(result),
                 result == -EPERM ? " (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed)" : "");
    return result;
}

static int attach(struct ips *ips, char *why)
{
    union bpf_iter_link_info which = {.map.map_fd = (uint32_t)bpf_map__fd(ips->bpf->maps.ips_seen)};
    struct bpf_iter_attach_opts options;

    /* Not LIBBPF_OPTS: what it assigns may fill the padding at the end, which has to be zero. */
    memset(&options, 0, sizeof(options));
    options.sz = sizeof(options);
    options.link_info = &which;
    options.link_info_len = sizeof(which);
    ips->bpf->links.ips_look = bpf_program__attach_iter(ips->bpf->progs.ips_look, &options);
    if (ips->bpf->links.ips_look == NULL) {
        snprintf(why, IPS_WHY_MAX, "cannot attach the BPF iterator: %s", err_text(-errno));
        return -errno;
    }
    ips->bpf->links.ips_events =
        bpf_program__attach_cgroup(ips->bpf->progs.ips_events, ips->cgroup.dir_fd);
    if (ips->bpf->links.ips_events == NULL) {
        snprintf(why, IPS_WHY_MAX, "cannot attach the BPF program to %s: %s", ips->cgroup.path,
                 err_text(-errno));
        return -errno;
    }
    return 0;
}

int ips_open(struct ips **ret_ips, char *why)
{
    struct ips *ips = mem_alloc(sizeof(*ips));
    char cgroup_why[CGROUP_WHY_MAX];
    int result = load(ips, why);

    if (result >= 0) {
        result = cgroup_enter(&ips->cgroup, cgroup_why);
        if (result < 0)
            snprintf(why, IPS_WHY_MAX, "%s", cgroup_why);
    }
    if (result < 0) {
        ips_bpf__destroy(ips->bpf);
        mem_free(ips);
        return result;
    }
    result = attach(ips, why);
    if (result < 0) {
        ips_close(ips);
        return result;
    }
    *ret_ips = ips;
    return 0;
}

void ips_close(struct ips *ips)
{
    if (ips == NULL)
        return;
    ips_bpf__destroy(ips->bpf);
    cgroup_leave(&ips->cgroup);
    mem_free(ips);
}

const char *ips_where(const struct ips *ips)
{
    return ips->cgroup.path;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Runs the iterator over our sockets; it writes nothing, so its end comes as no octets. */
static int look(struct ips *ips)
{
    int fd = bpf_iter_create(bpf_link__fd(ips->bpf->links.ips_look));
    ssize_t got = -EAGAIN;
    char nothing[64];

    if (fd < 0)
        return fd;
    for (int i = 0; i < LOOKS_MAX && got == -EAGAIN; i++) {
        got = read(fd, nothing, sizeof(nothing));
        if (got < 0)
            got = -errno;
    }
    close(fd);
    return got < 0 ? (int)got : 0;
}

static void fill_row(struct ip_figures *row, const struct ips_key *key,
                     const struct ips_value *value)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const uint8_t *source = (const uint8_t *)key->source;
    bool is_v4 = memcmp(source, mapped, sizeof(mapped)) == 0;

    *row = (struct ip_figures){
        .source.family = is_v4 ? IPADDR_V4 : IPADDR_V6,
        .srtt_min_us = value->srtt_min_us,
        .srtt_last_us = value->srtt_last_us,
        .srtt_last_at_ns = value->srtt_last_at_ns,
    };
    memcpy(row->source.bytes, is_v4 ? source + 12 : source, is_v4 ? 4 : 16);
    for (int i = 0; i < IP_COUNTER_COUNT; i++)
        row->counters[i] = value->counters[i];
}

int ips_read(void *context, struct ip_figures *rows, uint32_t row_count_max)
{
    struct ips *ips = context;
    int map_fd = bpf_map__fd(ips->bpf->maps.ips_totals);
    uint32_t row_count = 0, place;
    int result = look(ips);
    bool is_first = true;

    if (result < 0)
        return result;
    do {
        uint32_t count = BATCH_COUNT;

        /* 0: there is more; -ENOENT: these were the last ones. */
        result = bpf_map_lookup_batch(map_fd, is_first ? NULL : &place, &place, ips->keys,
                                      ips->values, &count, NULL);
        if (result < 0 && result != -ENOENT)
            return result;
        for (uint32_t i = 0; i < count && row_count < row_count_max; i++)
            fill_row(&rows[row_count++], &ips->keys[i], &ips->values[i]);
        is_first = false;
    } while (result == 0 && row_count < row_count_max);
    return (int)row_count;
}
