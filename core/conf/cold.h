/*
 * cold: how much of a virtual MTA's mail goes to the one that is being warmed up beside it.
 *
 * `max-cold-virtual-mta-msg` is a list of counts, one for each day of the ramp, the last one for
 * all days after: "500/d,1000/d,2000". Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

#define CONF_COLD_DAYS_MAX 64u

/* 0 and the counts, or E_SYNTAX, or E_RANGE for too many or too large ones. */
int conf_cold_ramp(struct slice text, uint64_t ret_counts[CONF_COLD_DAYS_MAX], uint32_t *ret_count);
