/*
 * tls_paper: keys and certificates for tests, made in memory. One thread; texts live until
 * paper_end().
 */
#pragma once

#include "core/base/slice.h"

#include <stdint.h>

/* What stands in a certificate; times are seconds since 1970. */
struct paper_wish {
    const char *name; /* a DNS name */
    int64_t from_s;
    int64_t until_s;
    bool is_self_signed; /* else by the one authority */
};

/* PEM of the authority. */
struct slice paper_authority(void);
/* PEM: certificate and key. */
struct slice paper_make(const struct paper_wish *wish);
/* Frees all of it, the texts handed out too. */
void paper_end(void);
