/*
 * ledger: who promised what and what came of it, recipient by recipient.
 *
 * The generator notes each recipient that was accepted with 250 (or is in doubt, because the
 * connection died after the final dot), the sink each recipient that arrived or that it refused for
 * good. Loss and duplicates follow exactly, by comparing the two sides.
 *
 * The table lives in anonymous shared memory: created before the fork, read by the parent while
 * the children write. Each field of it has one writing process, but for the sink's, which several
 * workers may write: those are atomic.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum ledger_given {
    LEDGER_NOT_GIVEN = 0,
    LEDGER_IN_DOUBT = 1, /* the dot was sent and no answer came: may arrive once, or not */
    LEDGER_ACCEPTED = 2,
    LEDGER_REFUSED = 3,
};

struct ledger {
    uint32_t run; /* 0: any */
    uint32_t rcpts;
    uint64_t messages;
    uint64_t arrived_different; /* recipients seen at least once */
    uint64_t refused_different; /* recipients refused for good and never seen */
    uint8_t *given;             /* [messages * rcpts] enum ledger_given */
    uint8_t *arrived;           /* [messages * rcpts] times it came, stops at 255 */
    uint8_t *refused;           /* [messages * rcpts] 1 = the sink said 5xx */
    uint64_t mapped_bytes;
};

/* NULL when memory is short. Untouched pages cost nothing. */
struct ledger *ledger_create(uint32_t run, uint64_t messages, uint32_t rcpts);
void ledger_destroy(struct ledger *ledger);

bool ledger_holds(const struct ledger *ledger, uint64_t number, uint32_t k);
void ledger_give(struct ledger *ledger, uint64_t number, uint32_t k, enum ledger_given given);
void ledger_arrive(struct ledger *ledger, uint64_t number, uint32_t k);
void ledger_refuse(struct ledger *ledger, uint64_t number, uint32_t k);

struct ledger_sums {
    uint64_t accepted; /* recipients with a 250 */
    uint64_t in_doubt;
    uint64_t turned_away; /* the generator was told 5xx */
    uint64_t arrived;     /* different recipients */
    uint64_t bounced;     /* accepted, refused by the sink, not arrived */
    uint64_t lost;        /* accepted, neither arrived nor bounced */
    uint64_t duplicates;  /* arrivals beyond the first */
    uint64_t unexpected;  /* arrived though never accepted nor in doubt */
};

/* Enters one recipient: what the generator was told, how often it arrived, refused for good. */
void ledger_sums_add(struct ledger_sums *sums, enum ledger_given given, uint64_t arrived,
                     bool refused);
/* Over the messages [first, first + count). */
void ledger_sum(const struct ledger *ledger, uint64_t first, uint64_t count,
                struct ledger_sums *ret_sums);

/* ---- On disk ------------------------------------------------------------------------------- */

/*
 * A file of lines "LETTER RUN NUMBER K": a accepted, i in doubt, d arrived, b refused for good.
 * Lines are gathered and leave with ledger_file_flush, whole lines only.
 */
struct ledger_file {
    int fd; /* -1: none, every call does nothing */
    bool sync;
    uint32_t used;
    uint64_t system_calls;
    char room[65536];
};

/* Appends to path; NULL path = none. 0 or -errno. */
int ledger_file_open(struct ledger_file *file, const char *path, bool sync);
void ledger_file_add(struct ledger_file *file, char letter, uint32_t run, uint64_t number,
                     uint32_t k);
/* Writes what was added, and makes it durable when the file was opened so. 0 or -errno. */
int ledger_file_flush(struct ledger_file *file);
void ledger_file_close(struct ledger_file *file);

/*
 * Reads ledger files (an unfinished last line is left out) and sums them up over all runs in them.
 * 0 or a negative code.
 */
int ledger_files_sum(const char *const *paths, uint32_t count, struct ledger_sums *ret_sums);
