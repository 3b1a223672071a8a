/*
 * rollup: <mx-rollup-list>, queues that the mail of many domains shares because their MX hosts are
 * the same.
 *
 * A line `mx PATTERN NAME [rollup-by-ip]` says that mail whose MX hosts of the best preference all
 * match lines of that name goes to the queue NAME instead, by the same virtual MTA. That queue goes
 * by the smtp-hosts of its <domain NAME>, or else to the hosts that the lines name in full. A name
 * that has neither rolls nothing up. Read-only; any thread.
 */
#pragma once

#include "core/conf/conf.h"

/* Whether there is any. */
bool conf_has_rollups(const struct conf *conf);
/* The queue that the first matching line names for an MX host (no matter the case), or NULL. Lives
 * as long as the process; equal names are one text. */
const char *conf_rollup_of_host(const struct conf *conf, struct slice host);
/* Whether the queue is one that lines name. */
bool conf_is_rollup(const struct conf *conf, struct slice domain);
