/* sim_self: what the tests of the simulator itself share. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/io/io.h"
#include "tests/sim/sim.h"

#define SECOND_NS 1000000000ull
#define MINUTE_NS (60 * SECOND_NS)

/* An operation that remembers its result. */
struct waited {
    struct io_op op;
    int32_t result;
    bool is_done;
};

void waited_init(struct waited *waited);
/* Steps until it is done; the result. */
int32_t waited_wait(struct sim_world *world, struct waited *waited);
int32_t write_wait(struct sim_world *world, struct io *io, int fd, const void *data, uint32_t len,
                   uint64_t offset, bool durable);
int32_t sync_wait(struct sim_world *world, struct io *io, int fd);

static inline struct ipaddr_port loopback(uint8_t last, uint16_t port)
{
    return (struct ipaddr_port){.ip = {.family = IPADDR_V4, .bytes = {127, 0, 0, last}},
                                .port = port};
}

/* Adds what a world has injected to the sum over all tests of the program. */
void coverage_add(const struct sim_world *world);
extern uint64_t coverage_total[SIM_COVER_KINDS];

/*
 * A storm: clients that hand messages to servers over SMTP, with a journal on disk, under the
 * faults of the options. Runs until all are delivered; what the seed does is in the trace hash.
 */
struct storm_result {
    uint64_t hash;
    uint64_t steps;
    uint64_t delivered;
    uint64_t virtual_ns;
};

struct storm_result storm_run(uint64_t seed, const struct sim_options *options,
                              uint32_t message_count, uint32_t client_count);

extern const struct CMUnitTest disk_tests[];
extern const size_t disk_test_count;
extern const struct CMUnitTest lives_tests[];
extern const size_t lives_test_count;
extern const struct CMUnitTest net_tests[];
extern const size_t net_test_count;
