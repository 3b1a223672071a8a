/*
 * io_backend: what the conformance suite of core/io needs from a world besides io.h.
 *
 * One file per world implements it; the suite is linked with exactly one. Loops of one world run
 * in one thread, turn by turn.
 */
#pragma once

#include "core/io/io.h"

struct backend;

/* The program's arguments choose a variant of the world; false = unknown. */
bool backend_configure(int argc, char **argv);
/* A fresh world with its loops and an empty directory. */
struct backend *backend_create(unsigned loop_count);
/* Nothing is in flight any more but what a test left open on purpose. */
void backend_destroy(struct backend *backend);
struct io *backend_loop(struct backend *backend, unsigned number);
/* Runs turns of all loops until `until` is true; false when the world's patience has ended. */
bool backend_run(struct backend *backend, bool (*until)(void *context), void *context);
/* Runs turns of all loops for about as long. */
void backend_run_for(struct backend *backend, uint64_t ns);
/* A port of 127.0.0.1 at which nobody listens. */
uint16_t backend_free_port(struct backend *backend);
/* Connecting there brings neither success nor refusal for a long time. */
struct ipaddr_port backend_silent_address(struct backend *backend);
/* The path of `name` in the world's directory; valid until the next call but three. */
const char *backend_path(struct backend *backend, const char *name);
/* How late a timer may fire in this world: one tick, and what the machine adds. */
uint64_t backend_lateness_ns(void);
