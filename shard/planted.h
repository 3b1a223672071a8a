/*
 * planted: the bugs that tests can switch on in this room (core/base/planted.h).
 *
 * Every name stands once in the code of the room; the simulation of the whole product must catch
 * each of them.
 */
#pragma once

#include "core/base/planted.h"

#define SHARD_PLANTED_BUGS(X)                                                                      \
    X("shard/void-answered-250")                                                                   \
    X("shard/failed-chunk-ignored")                                                                \
    X("shard/outcome-not-logged")                                                                  \
    X("shard/restart-releases-early")                                                              \
    X("shard/no-delay-before-retry")                                                               \
    X("shard/recipient-not-handed-out")                                                            \
    X("shard/recipient-lost-on-the-way")                                                           \
    X("shard/message-done-early")                                                                  \
    X("shard/ends-while-it-moves")                                                                 \
    X("shard/checkpoint-skips-message")                                                            \
    X("shard/deferral-taken-for-delivery")                                                         \
    X("shard/first-bad-answer-is-final")                                                           \
    X("shard/lease-given-back-twice")                                                              \
    X("shard/poll-keeps-its-slots")                                                                \
    X("shard/limit-not-adopted")                                                                   \
    X("shard/limit-overlooked")                                                                    \
    X("shard/mail-limit-overlooked")                                                               \
    X("shard/share-ends-with-its-slots")                                                           \
    X("shard/newer-version-overlooked")                                                            \
    X("shard/settings-of-a-freed-snapshot")                                                        \
    X("shard/turn-never-ends")                                                                     \
    X("shard/last-comes-first")                                                                    \
    X("shard/move-counted-twice")                                                                  \
    X("shard/token-kept-and-given-back")                                                           \
    X("shard/message-uses-no-octets")                                                              \
    X("shard/message-uses-no-token")                                                               \
    X("shard/connection-uses-no-token")                                                            \
    X("shard/no-tokens-when-ahead")                                                                \
    X("shard/disabled-source-is-used")                                                             \
    X("shard/order-not-told")                                                                      \
    X("shard/backoff-order-overlooked")                                                            \
    X("shard/probe-lends-too-much")                                                                \
    X("shard/failure-without-notice")                                                              \
    X("shard/outcome-before-notice")

/* Seen by tests/sim/product/warmup_scenario.c. */
#define SHARD_PLANTED_WARMUPS(X) X("shard/cold-share-not-counted") X("shard/cold-book-forgotten")
#define SHARD_PLANTED_WARM(X)    X("shard/warm-up-not-counted") X("shard/warm-up-forgotten")

/* Seen by tests/unit/shard/lease_test.c: somebody is refused without need, no more. */
#define SHARD_PLANTED_REFUSALS(X) X("shard/poll-brings-nothing")
