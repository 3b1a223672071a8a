/*
 * must: assertions that stay on in production.
 *
 * A condition that must() names is an invariant of our own: when it is false the process stops at
 * once with file, line and the condition on standard error, and the log recovers at the next
 * start. It is never used for input, resources or remote behaviour. Any thread.
 * must_slow() is for checks that cost more than a few instructions: on in builds with
 * RINGPOST_SLOW_CHECKS (the simulator and the sanitizer builds).
 */
#pragma once

_Noreturn void must_fail(const char *file, int line, const char *condition);

#define must(condition)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            must_fail(__FILE__, __LINE__, #condition);                                             \
    } while (0)

#ifdef RINGPOST_SLOW_CHECKS
#define must_slow(condition) must(condition)
#else
#define must_slow(condition) ((void)0)
#endif
