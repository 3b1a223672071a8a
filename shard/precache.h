/*
 * precache: domains that are looked up before there is mail for them (<dns>
 * precached-domains-file).
 *
 * Each shard does it for its own cache, with MX and addresses, one domain after the other, from its
 * start on and again each time the interval has passed since the last of them was answered. What is
 * kept for longer costs no question (net/dns.h). Those that have an MX are witnesses of the
 * resolver (outlook.h). Of the shard's thread; costs nothing without such a file.
 */
#pragma once

#include "core/io/io.h"
#include "net/mx.h"

struct shard;

struct precache {
    struct io_timer timer; /* the next round */
    struct mx_resolution *resolution;
    struct mx_rules rules;
    uint32_t next; /* domain of the round */
    bool is_asking;
};

void precache_init(struct shard *shard);
void precache_fini(struct shard *shard);
/* The resolver can be asked, or a new snapshot is in force: a round begins. */
void precache_start(struct shard *shard);
