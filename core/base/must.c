#include "core/base/must.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void must_fail(const char *file, int line, const char *condition)
{
    /* dprintf goes past stdio's buffers and locks, which may be what is broken. */
    dprintf(2, "%s:%d: broken invariant: %s\n", file, line, condition);
    abort();
}
