/*
 * planted: the bugs that tests can switch on in this room (core/base/planted.h).
 *
 * Every name stands once in the code of the room; the property test in tests/unit/queue must catch
 * each of them.
 */
#pragma once

#include "core/base/planted.h"

#define QUEUE_PLANTED_BUGS(X)                                                                      \
    X("queue/answer-before-sync")                                                                  \
    X("queue/answer-at-other-sync")                                                                \
    X("queue/device-not-missed")                                                                   \
    X("queue/recycled-early")                                                                      \
    X("queue/told-before-durable")                                                                 \
    X("queue/chunk-answered-early")                                                                \
    X("queue/void-missing")                                                                        \
    X("queue/outcome-dropped")                                                                     \
    X("queue/crc-without-serial")                                                                  \
    X("queue/end-before-done")                                                                     \
    X("queue/torn-tail-accepted")                                                                  \
    X("queue/lock-not-waited-for")
