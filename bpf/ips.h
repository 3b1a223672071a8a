/*
 * ips: the loader of ips.bpf.c: socket figures per source address, counted by the kernel.
 *
 * Opened once by the program's main thread, with the privileges of the start and before the first
 * socket, because the process moves into a cgroup of its own (cgroup.h); read by one thread at a
 * time afterwards, privileges or not. The program is detached when the process ends, however it
 * ends. Built without BPF (meson option bpf), ips_open refuses and says so.
 */
#pragma once

#include "core/obs/ip_figures.h"

struct ips;

#define IPS_WHY_MAX 512

/*
 * 0; or negative with a sentence for the log in why (IPS_WHY_MAX bytes), and the process is where
 * it was. Needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, the kernel's BTF and cgroup version 2.
 */
int ips_open(struct ips **ret_ips, char *why);
/* For ip_source.read, with the struct ips as context: counts what is open now, then copies. */
int ips_read(void *ips, struct ip_figures *rows, uint32_t row_count_max);
/* The cgroup's path, for the log. */
const char *ips_where(const struct ips *ips);
/* Detaches. NULL is fine. */
void ips_close(struct ips *ips);
