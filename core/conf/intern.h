/*
 * intern: names of virtual MTAs, pools and our hosts become numbers that last as long as the
 * process.
 *
 * A name (ASCII case ignored) always gets the same number and no other name ever gets it, so that
 * what outlives a snapshot can hold numbers, or the text itself. Guarded by a lock; any thread.
 */
#pragma once

#include "core/base/slice.h"

enum intern_kind {
    INTERN_VMTA, /* "{default}" is CONF_VMTA_DEFAULT */
    INTERN_POOL,
    INTERN_HOST,  /* names that ringpost gives in HELO and greetings */
    INTERN_QUEUE, /* what queue-to names */
    INTERN_LIMIT, /* <limit> blocks and the lines that are limits */
    INTERN_PROVIDER,
    INTERN_SOURCE_GROUP,
    INTERN_SMTP_USER,
    INTERN_SOURCE, /* those that users name */
    INTERN_KINDS,
};

/* 0 and the number, or -ENOMEM. */
int intern_name(enum intern_kind kind, struct slice name, uint32_t *ret_id);
/* The name of a number, as it was first written, or NULL; lives as long as the process. */
const char *intern_text(enum intern_kind kind, uint32_t id);
/* The process ends: every name is forgotten, also its text. For a program that plays one process
 * after the other; nothing of those before may be read after this. */
void intern_forget(void);
