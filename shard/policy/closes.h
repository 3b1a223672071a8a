/*
 * closes: after how many messages a receiver ends its connections without a word.
 *
 * Such a limit is not announced (RFC 5321 3.8 asks for a 421), but it shows: connection after
 * connection is closed behind the same count. Seen CLOSES_SEEN times in a row it is taken for a
 * limit, and connections end by QUIT before it is met. One in CLOSES_PROBE connections is not bound
 * by it; when that goes further, the limit is forgotten.
 *
 * A value of its owner, zeroed at first. Pure functions of their arguments.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CLOSES_SEEN  3u
#define CLOSES_PROBE 100u

struct closes {
    uint32_t after; /* messages that the newest connection to be closed had served */
    uint32_t seen;  /* how many in a row that was so */
    uint32_t limit; /* 0 = none is known */
    uint32_t opened;
};

/* A connection is opened. True: it is not bound by the limit. */
bool closes_on_open(struct closes *closes);
/* The receiver closed a connection without a word that had served so many messages, at least one.
 */
void closes_note(struct closes *closes, uint32_t served);
/* A connection has served so many messages, and goes on. */
void closes_on_served(struct closes *closes, uint32_t served);
/* Whether one that has served so many is to end. */
bool closes_is_due(const struct closes *closes, uint32_t served);
