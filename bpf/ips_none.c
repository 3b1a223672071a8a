/* The loader where the tools or libbpf were missing at build: it says so. */
#include "bpf/ips.h"

#include "core/base/must.h"

#include <errno.h>
#include <stdio.h>

int ips_open(struct ips **ret_ips, char *why)
{
    snprintf(why, IPS_WHY_MAX, "built without BPF (meson option bpf: clang, bpftool, libbpf)");
    return -EOPNOTSUPP;
}

int ips_read(void *ips, struct ip_figures *rows, uint32_t row_count_max)
{
    return -EOPNOTSUPP;
}

const char *ips_where(const struct ips *ips)
{
    must(false);
    return NULL;
}

void ips_close(struct ips *ips)
{
    must(ips == NULL);
}
