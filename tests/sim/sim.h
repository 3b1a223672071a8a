/*
 * sim: a whole world from one seed: clock, network, disk, processes and their crashes.
 *
 * The second implementation of core/io/io.h. The very product code runs in it, one thread, without
 * a system call: sim_step picks by seed one loop that has something to do and runs one turn of it,
 * or moves the virtual clock on to the next event. The same seed with the same calls gives the
 * same history, which sim_trace_hash sums up; nothing depends on real time, pointers or the
 * environment.
 *
 * One world has one disk, one internet and any number of processes. A process is one life: it owns
 * loops, descriptors and all memory that was allocated (core/base/mem.h) while it was entered.
 * Remote programs are processes too, written against io.h like the product.
 *
 * Ends of mailboxes that belong to foreign threads do not exist here: loops stand in for them.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;
struct io_op;
struct sim_process;
struct sim_world;

/* ---- Faults and what was really injected ----------------------------------------------------- */

/*
 * Each rate says "about once in so many chances", 0 = never. Name, rate in sim_faults_mild, and
 * what one chance is.
 */
#define SIM_FAULT_TABLE(X)                                                                         \
    X(connect_refused, 50, "a connect ends with ECONNREFUSED though somebody listens")             \
    X(connect_timeout, 100, "the first packet is lost: ETIMEDOUT after connect_timeout_ns")        \
    X(connect_unreachable, 100, "a connect ends with EHOSTUNREACH")                                \
    X(connect_no_port, 200, "a connect ends with EADDRNOTAVAIL")                                   \
    X(bind_failed, 200, "io_socket_open ends with EADDRNOTAVAIL")                                  \
    X(accept_failed, 200, "an accept ends with EMFILE")                                            \
    X(reset_mid_stream, 500, "per segment: the connection is reset at that byte")                  \
    X(reset_after_send, 200, "per finished send: reset when all was taken from the sender")        \
    X(segment_tiny, 8, "per segment: 1 to 16 bytes long")                                          \
    X(segment_delayed, 100, "per segment: 0.1 to 5 s late, and all behind it")                     \
    X(read_short, 8, "per receive buffer: filled with less than has arrived")                      \
    X(receive_shortage, 100, "per receive: no buffer free, data wait for a later turn")            \
    X(loop_stalled, 500, "per turn: the loop does not run for up to loop_stall_max_ns")            \
    X(turn_spurious, 50, "per step: a loop with nothing to do gets a turn")                        \
    X(wall_jumped, 0, "per clock movement: the wall clock jumps by up to wall_jump_max_us")        \
    X(alloc_failed, 0, "per mem_try_alloc: NULL")                                                  \
    X(open_failed, 0, "io_file_open ends with EMFILE")                                             \
    X(read_failed, 0, "a file read ends with EIO")                                                 \
    X(write_failed, 0, "a file write ends with EIO, part of the bytes may be there")               \
    X(write_no_space, 0, "a file write ends with ENOSPC, part of the bytes may be there")          \
    X(sync_failed, 0, "a file sync ends with EIO and marks the lost pages clean")                  \
    X(name_failed, 0, "rename, unlink, directory create or sync ends with EIO")                    \
    X(disk_stalled, 200, "a disk operation takes up to disk_stall_max_ns")                         \
    X(page_written_early, 10, "per write: some dirty page reaches the disk before any sync")

struct sim_faults {
#define SIM_FAULT_FIELD(name, mild, text) uint32_t name;
    SIM_FAULT_TABLE(SIM_FAULT_FIELD)
#undef SIM_FAULT_FIELD
};

struct sim_faults sim_faults_none(void);
struct sim_faults sim_faults_mild(void);
/* The rates in force; change them at any time between steps. */
struct sim_faults *sim_faults(struct sim_world *world);

/* Things that happened besides the faults above. */
#define SIM_EVENT_TABLE(X)                                                                         \
    X(process_killed)                                                                              \
    X(power_cut)                                                                                   \
    X(window_full)        /* a sender had to wait for a slow reader */                             \
    X(send_split)         /* a send left in more than one piece */                                 \
    X(backlog_full)       /* a connect had to be tried again */                                    \
    X(reset_bytes_lost)   /* a reset overtook bytes that were sent before */                       \
    X(reset_all_arrived)  /* a reset came after the last byte sent had arrived */                  \
    X(reset_by_unread)    /* a close with unread data turned into a reset */                       \
    X(reset_by_late_data) /* data reached a closed socket */                                       \
    X(reset_by_crash)     /* the life at the other end vanished */                                 \
    X(accept_dropped)     /* a queued connection was closed by the end of the accept */            \
    X(source_disabled)    /* bind refused because of sim_source_disable */                         \
    X(route_refused)      /* a rule of sim_route said so */                                        \
    X(route_dropped)                                                                               \
    X(cancel_won)                                                                                  \
    X(cancel_lost)                                                                                 \
    X(disk_scripted)    /* a failure ordered by sim_disk_script */                                 \
    X(disk_full)        /* the limit of the disk was met */                                        \
    X(write_partial)    /* a failed write left part of its bytes */                                \
    X(sync_lost_page)   /* a failed sync marked a page clean that is not on the disk */            \
    X(cut_page_kept)    /* power cut: an unsynced page survived */                                 \
    X(cut_page_lost)    /* power cut: an unsynced page is as it was */                             \
    X(cut_page_torn)    /* power cut: some 512-byte sectors of a page survived */                  \
    X(cut_size_lost)    /* power cut: the file has its old size */                                 \
    X(cut_name_lost)    /* power cut: a create, rename or unlink never was */                      \
    X(cut_flight_torn)  /* power cut: a write in flight landed in part */                          \
    X(late_write)       /* a killed process's write landed afterwards */                           \
    X(late_write_never) /* ... or did not */                                                       \
    X(lock_outlived)    /* a lock was asked for while a dead life still held it */

enum sim_coverage_kind {
#define SIM_FAULT_ENUM(name, mild, text) SIM_COVER_##name,
#define SIM_EVENT_ENUM(name)             SIM_COVER_##name,
    SIM_FAULT_TABLE(SIM_FAULT_ENUM) SIM_EVENT_TABLE(SIM_EVENT_ENUM)
#undef SIM_FAULT_ENUM
#undef SIM_EVENT_ENUM
        SIM_COVER_KINDS,
};

struct sim_coverage {
    const char *name;
    uint64_t count;
};

/* SIM_COVER_KINDS rows, indexed by enum sim_coverage_kind; valid until the world is destroyed. */
const struct sim_coverage *sim_coverage(const struct sim_world *world);
/* Prints the rows that are not zero, or all of them, to standard error. */
void sim_coverage_print(const struct sim_world *world, bool all);

/* ---- The world ------------------------------------------------------------------------------- */

/* 0 in any field means the default. */
struct sim_options {
    bool trace_text;        /* every trace point as a line on standard error */
    uint64_t start_ns;      /* first value of the monotonic clock; default 1000 s */
    uint64_t start_wall_us; /* default 2026-01-01 00:00 UTC */
    uint32_t turn_min_ns;   /* what one turn of a loop costs; default 300 to 6,000 */
    uint32_t turn_max_ns;
    uint32_t submit_max_ns;  /* start of an operation until the kernel sees it; default 20,000 */
    uint64_t latency_min_ns; /* one way, drawn per connection; default 20 us to 40 ms */
    uint64_t latency_max_ns;
    uint32_t jitter_percent;    /* extra per segment, of the latency; default 20 */
    uint32_t segment_bytes_min; /* default 1 to 16,384 */
    uint32_t segment_bytes_max;
    uint32_t window_min_bytes;   /* per direction, drawn per connection; default 2,048 to 65,536 */
    uint32_t window_max_bytes;   /* window_min_bytes when that is larger */
    uint64_t connect_timeout_ns; /* default 127 s */
    uint64_t loop_stall_max_ns;  /* default 200 ms */
    uint64_t wall_jump_max_us;   /* default 1 h, in both directions */
    uint32_t fd_count_max;       /* per process; default 65,536 */
    uint64_t disk_min_ns;        /* each step of a disk operation; default 5 us to 300 us */
    uint64_t disk_max_ns;
    uint64_t disk_stall_max_ns; /* default 2 s */
    uint64_t disk_bytes;        /* room of the file system; default 1 TB */
    uint64_t late_max_ns;       /* a killed life's writes and locks; default 65 ms */
    struct sim_faults faults;
};

struct sim_world *sim_world_create(uint64_t seed, const struct sim_options *options);
/* Ends every process first. NULL is fine. */
void sim_world_destroy(struct sim_world *world);

/* One decision. False when nothing is left that could ever happen by itself. */
bool sim_step(struct sim_world *world);
/*
 * Steps until done(context) is true (asked before each step; NULL = never); false when max_ns of
 * virtual time or max_steps have gone by first, or nothing is left to happen.
 */
bool sim_run_until(struct sim_world *world, bool (*done)(void *context), void *context,
                   uint64_t max_ns, uint64_t max_steps);
/* Steps for exactly so much virtual time; the clock moves on also when nothing happens. */
void sim_run_for(struct sim_world *world, uint64_t ns);

uint64_t sim_now_ns(const struct sim_world *world);
uint64_t sim_wall_us(const struct sim_world *world);
void sim_wall_jump(struct sim_world *world, int64_t by_us);
uint64_t sim_step_count(const struct sim_world *world);
/* A generator for tests, apart from the one that drives the world. */
struct rng *sim_rng(struct sim_world *world);

/* A point of the history: goes into the hash, and to standard error when text is on. what is a
 * literal; a, b and c must not be pointers. */
void sim_trace(struct sim_world *world, const char *what, uint64_t a, uint64_t b, uint64_t c);
void sim_trace_bytes(struct sim_world *world, const char *what, const void *data, size_t len);
uint64_t sim_trace_hash(const struct sim_world *world);

/* ---- Processes ------------------------------------------------------------------------------- */

struct sim_process *sim_process_create(struct sim_world *world);
/* A loop of this process; it lives as long as the process, or until sim_io_destroy. */
void sim_io_create(struct sim_world *world, struct sim_process *process, struct io **ret_io);
/* Nothing may be in flight on the loop. */
void sim_io_destroy(struct io *io);

/*
 * Calls function(context) as this process: memory it allocates belongs to the life, and each of
 * its loops gets a turn afterwards. False when a crash ordered by sim_crash_after ended the life
 * inside; function did not return then and process is gone.
 */
bool sim_run_in(struct sim_process *process, void (*function)(void *context), void *context);
/* The same without a function, for set-up code: everything between the two is the process's. */
void sim_enter(struct sim_process *process);
void sim_leave(struct sim_process *process);

enum sim_crash_kind {
    /* The page cache survives; ring writes in flight may still land for up to late_max_ns, and the
     * locks of the life are released only after that. Peers see an end or a reset. */
    SIM_KILL,
    /* What was not synced is lost, kept or torn, file contents as well as names. Peers see a reset,
     * late. No other process may have a file open. */
    SIM_POWER_CUT,
};

/*
 * Ends a life: loops, sockets, timers, operations in flight and memory vanish without a callback;
 * process is gone afterwards. Called inside a turn of this very process, or inside sim_run_in, it
 * does not return to the caller.
 */
void sim_crash(struct sim_world *world, struct sim_process *process, enum sim_crash_kind kind);
/*
 * Orders the crash for later: just before the nth disk call from now (1 = the next one), counting
 * synchronous calls and the moments when asynchronous ones reach the disk. on_crash (may be NULL)
 * is told when the process has done its last and its memory is still there, so that the caller
 * reads what it has to and forgets it.
 */
void sim_crash_after(struct sim_process *process, enum sim_crash_kind kind, uint64_t nth,
                     void (*on_crash)(void *context), void *context);
/* Disk calls so far of this life, as sim_crash_after counts them. */
uint64_t sim_disk_calls(const struct sim_process *process);

/* Heap held by the process right now (mem.h only). */
uint64_t sim_mem_bytes(const struct sim_process *process);
uint64_t sim_mem_blocks(const struct sim_process *process);
/* Descriptors open right now. */
uint32_t sim_fd_count(const struct sim_process *process);

/* ---- Network --------------------------------------------------------------------------------- */

/* While disabled, io_socket_open with this source ends with EADDRNOTAVAIL. */
void sim_source_disable(struct sim_world *world, const struct ipaddr *source, bool disabled);

enum sim_route {
    SIM_ROUTE_OPEN,    /* the default: refused only where nobody listens */
    SIM_ROUTE_REFUSE,  /* ECONNREFUSED */
    SIM_ROUTE_DROP,    /* silence: ETIMEDOUT */
    SIM_ROUTE_NO_HOST, /* EHOSTUNREACH */
};

/* What happens to new connections to addresses in this block; later rules win. */
void sim_route(struct sim_world *world, const struct cidr *to, enum sim_route route);

/* Resets the connection of this socket now, as the network would. */
void sim_reset(struct io *io, int fd);
/* Sends the end of the stream and goes on receiving (io.h has no half close; remote programs do).
 */
void sim_send_end(struct io *io, int fd);
/* Connects to a Unix socket of io_listen_unix as the user uid; -ECONNREFUSED when nobody listens.
 */
int sim_connect_unix(struct io *io, const char *path, uint32_t uid, int *ret_fd);
/* Connections with both ends alive. */
uint32_t sim_connection_count(const struct sim_world *world);
/* Likewise, of those that were opened from this address. */
uint32_t sim_connection_count_from(const struct sim_world *world, const struct ipaddr *source);

/* ---- Disk ------------------------------------------------------------------------------------ */

enum sim_disk_call {
    SIM_DISK_OPEN,
    SIM_DISK_READ,
    SIM_DISK_WRITE, /* also a truncate */
    SIM_DISK_SYNC,
    SIM_DISK_NAME, /* rename, unlink, directory create and sync */
};

/* The nth call of this kind from now on (1 = the next) on a path that contains `path` (NULL = any)
 * fails with this negative code. */
void sim_disk_script(struct sim_world *world, enum sim_disk_call call, const char *path,
                     uint64_t nth, int error);
/* Scripted failures that have not happened yet; sim_disk_script_clear drops them. */
uint32_t sim_disk_scripts_left(const struct sim_world *world);
void sim_disk_script_clear(struct sim_world *world);
/* Changes the room of the file system. */
void sim_disk_limit(struct sim_world *world, uint64_t bytes);
/* Room of one directory, as if it were a file system of its own within the world's. Its name is a
 * literal; the first call comes before its first file. */
void sim_disk_limit_at(struct sim_world *world, const char *directory, uint64_t bytes);
/* Disk faults by rate (not stalls) come only on paths that contain this literal; NULL = any. */
void sim_disk_faults_at(struct sim_world *world, const char *path);
/* A limit that io_space_free does not know of and only writes meet: a quota, or a neighbour who is
 * always faster. UINT64_MAX, as at first, is none. */
void sim_disk_quota(struct sim_world *world, uint64_t bytes);
uint64_t sim_disk_used(const struct sim_world *world);
/* What io_memory_used says from now on; 0 at first. */
void sim_memory(struct sim_world *world, uint32_t percent);

/* What a reader of the file would see, without time or faults; -ENOENT, or the count. */
int64_t sim_disk_peek(struct sim_world *world, const char *path, void *data, size_t len,
                      uint64_t offset);
/* Changes the medium itself (bit rot, a foreign hand): content and what is on the disk alike. */
int64_t sim_disk_poke(struct sim_world *world, const char *path, const void *data, size_t len,
                      uint64_t offset);
int sim_disk_resize(struct sim_world *world, const char *path, uint64_t bytes);
int64_t sim_disk_size(struct sim_world *world, const char *path);
/* Copies or removes a whole file, durably. */
int sim_disk_copy(struct sim_world *world, const char *from, const char *to);
int sim_disk_remove(struct sim_world *world, const char *path);
/* Calls each with every path of the disk, directories too, in byte order. */
void sim_disk_list(struct sim_world *world, void (*each)(void *context, const char *path),
                   void *context);
/* Bytes of unsynced pages, and names not yet durable: what a power cut could touch. */
uint64_t sim_disk_dirty_bytes(const struct sim_world *world);
uint32_t sim_disk_dirty_names(const struct sim_world *world);
