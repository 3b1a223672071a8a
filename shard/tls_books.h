/*
 * tls_books: the books of TLS reports: the one that is being counted, those whose reports are due,
 * and their file.
 *
 * A book ends with its UTC day, or when an operator wants the reports now. Each of its domains has
 * a time then: some minutes behind the day's end and spread over four hours (RFC 8460 4.1). What is
 * not sent a day after that is dropped. The file (kept_file.h) has the counts, and of domains whose
 * report is begun what has still to be done; a crash loses what is newer than it. Belongs to
 * control and its thread; calls are synchronous.
 */
#pragma once

#include "core/io/io.h"
#include "shard/policy/tlsrpt_book.h"

#define TLS_BOOKS_ENDED_MAX 8u

struct tls_books {
    struct io *io;
    char *directory; /* of the file; NULL = nothing is kept */
    uint64_t seed;
    struct tlsrpt_book open;
    struct tlsrpt_book ended[TLS_BOOKS_ENDED_MAX]; /* the oldest first */
    uint32_t ended_count;
    uint32_t look; /* where the next one that is due is looked for */
    uint64_t lost; /* counts that came too late, or for which a shard had no room */
    bool is_changed;
};

/* seed: spreads the times; the same for all lives of the daemon, another one elsewhere. */
void tls_books_init(struct tls_books *books, struct io *io, uint64_t seed);
/* Reads the file of that directory, which need not be there. Else nothing is kept. */
void tls_books_load(struct tls_books *books, const char *directory);
void tls_books_fini(struct tls_books *books);
void tls_books_add(struct tls_books *books, const struct tlsrpt_batch *batch);
/* The clock has gone on: ends the open book with its day, drops what is too old. */
void tls_books_turn(struct tls_books *books);
/* Ends the open book now; everything that waits is due. Returns how many domains wait. */
uint32_t tls_books_end(struct tls_books *books);
/* A domain whose report is due and not away, and its book. NULL when none was met, which need not
 * mean that there is none: looks at a bounded number. takes_begun: what https alone has still to
 * take is wanted too. */
struct tlsrpt_domain *tls_books_due(struct tls_books *books, bool takes_begun,
                                    struct tlsrpt_book **ret_book);
/* The newest try of a report by https has failed: when the next one is due, 5 minutes later, and
 * later from time to time, up to 4 hours. False when there have been enough, which takes 21 hours
 * (RFC 8460 5.5). */
bool tls_books_put_off(struct tls_books *books, struct tlsrpt_domain *domain);
/* 0, or why the file could not be written. Without a file, or news, nothing happens. */
int tls_books_store(struct tls_books *books);
