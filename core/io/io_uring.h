/*
 * io_uring: how a program makes a loop of the real world. Only cmd/, bench/ and tests include this.
 *
 * io_create must run on the thread that will run the loop (the ring is single-issuer), and
 * io_destroy too. Flags the kernel lacks are left out and named in one log line each; where
 * io_uring is blocked altogether the cause is logged and a negative code returned.
 */
#pragma once

#include "core/io/io.h"

struct io_options {
    const char *name;           /* for log lines; static storage */
    uint32_t submit_entries;    /* power of two; 0 = 2048 */
    uint32_t recv_buffer_count; /* power of two; 0 = 512 */
    uint32_t recv_buffer_bytes; /* 0 = 16384 */
    bool forbid_features;       /* tests: do without everything that is probed at creation */
    bool forbid_message_wakes;  /* measurements: wake other loops by eventfd only */
};

int io_create(const struct io_options *options, struct io **ret_io);
/*
 * Nothing may be in flight, or the process is about to end. No other thread may wake this loop any
 * more: all loops have stopped running before the first of them is destroyed.
 */
void io_destroy(struct io *io);
