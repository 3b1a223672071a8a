/*
 * planted: places where a test build can switch a known bug on.
 *
 * A property test is worth what it catches. Each room keeps a table of bugs that somebody might
 * really write; the code asks planted("room/name") at the place where the bug would be, and the
 * test asserts that its checks fail for every name. In production builds the question is the
 * constant false and leaves no code behind. The test program defines planted_active.
 */
#pragma once

#include <stdbool.h>

#ifdef RINGPOST_PLANTED_BUGS
bool planted_active(const char *name);
#define planted(name) (planted_active(name))
#else
#define planted(name) false
#endif
