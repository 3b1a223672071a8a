/*
 * intern: names of virtual MTAs and pools become numbers that last as long as the process.
 *
 * A name (ASCII case ignored) always gets the same number and no other name ever gets it, so that
 * what outlives a snapshot can hold numbers. Guarded by a lock; any thread.
 */
#pragma once

#include "core/base/slice.h"

enum intern_kind {
    INTERN_VMTA, /* "{default}" is CONF_VMTA_DEFAULT */
    INTERN_POOL,
    INTERN_KINDS,
};

/* 0 and the number, or -ENOMEM. */
int intern_name(enum intern_kind kind, struct slice name, uint32_t *ret_id);
