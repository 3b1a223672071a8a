/*
 * conformance: helpers shared by the files of the suite: the world of the running test, and a
 * stream, one end of a connection that remembers what came.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/io/io.h"
#include "tests/unit/core_io/io_backend.h"

extern struct backend *the_world;
extern struct io *the_io;  /* loop 0 */
extern int starting_depth; /* > 0 while a call of io.h is under way */

/* A call of io.h must not run a callback before it returns. */
#define START(call)                                                                                \
    do {                                                                                           \
        starting_depth++;                                                                          \
        call;                                                                                      \
        starting_depth--;                                                                          \
    } while (0)
#define assert_not_within_start() assert_int_equal(starting_depth, 0)

int world_setup(void **state);           /* one loop */
int world_setup_two_loops(void **state); /* two */
int world_teardown(void **state);

/* Run until the thing is so, or fail the test. */
void run_until_flag(const bool *flag);
void run_until_count(const uint64_t *count, uint64_t at_least);
void run_for_ms(uint64_t ms);

/* An op that remembers its result. */
struct waited {
    struct io_op op;
    int32_t result;
    uint64_t calls;
    void *context;
};
void waited_init(struct waited *waited);
/* Runs until done and returns the result. */
int32_t waited_wait(struct waited *waited);

struct stream {
    int fd;
    struct io_recv recv;
    struct waited send;
    struct iovec piece; /* of the send under way */
    struct waited close;
    uint8_t *data; /* what was used, in order */
    size_t data_len;
    size_t data_capacity;
    uint64_t used_total;
    uint64_t ends;
    int32_t end_reason;
    size_t use_at_most; /* per on_data; SIZE_MAX = everything */
    bool pause_each_time;
    uint64_t data_calls;
    void (*after_data)(struct stream *stream);
    void *context;
};

void stream_init(struct stream *stream, int fd);
void stream_free(struct stream *stream);
void stream_receive(struct stream *stream);
void stream_start_send(struct stream *stream, const void *data, size_t len);
void stream_send(struct stream *stream, const void *data, size_t len); /* and waits */
void stream_close(struct stream *stream);
void run_until_used(struct stream *stream, uint64_t bytes);
/* A listening socket of the_io at a free port of 127.0.0.1. */
int listen_somewhere(struct ipaddr_port *ret_at);
/* Two ends of a fresh connection: a connected, b accepted. */
void stream_pair(struct stream *a, struct stream *b);

/* Byte number `at` of a sequence in which neither shifts nor swaps go unnoticed. */
uint8_t pattern_byte(uint64_t at);
void pattern_fill(uint8_t *room, uint64_t at, size_t len);

extern const struct CMUnitTest loop_tests[];
extern const size_t loop_test_count;
extern const struct CMUnitTest net_tests[];
extern const size_t net_test_count;
extern const struct CMUnitTest recv_tests[];
extern const size_t recv_test_count;
extern const struct CMUnitTest file_tests[];
extern const size_t file_test_count;
extern const struct CMUnitTest mailbox_tests[];
extern const size_t mailbox_test_count;

#define WORLD_TEST(function) cmocka_unit_test_setup_teardown(function, world_setup, world_teardown)
#define TWO_LOOP_TEST(function)                                                                    \
    cmocka_unit_test_setup_teardown(function, world_setup_two_loops, world_teardown)
