/*
 * sim_int: what the files of the simulator share. Nobody outside of tests/sim includes it.
 *
 * Who owns what: the world owns processes; a process owns loops and descriptors; a descriptor owns
 * its socket end, listener or open file, and knows every operation in flight on it. All of it is
 * allocated with sim_alloc, apart from the heap of the simulated lives. Whatever happens later is a
 * sim_event embedded in its owner, who takes it out of the queue before its memory goes.
 */
#pragma once

#include "core/io/io_loop.h"
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdlib.h>

/* ---- mem_sim.c: the heap of the lives, and the simulator's own ------------------------------- */

struct sim_mem_tag {
    struct list blocks;
    uint64_t block_count;
    uint64_t byte_count;
};

void sim_mem_tag_init(struct sim_mem_tag *tag);
/* From now on mem.h allocates for tag (NULL = for nobody); returns the one before. */
struct sim_mem_tag *sim_mem_switch(struct sim_mem_tag *tag);
void sim_mem_free_all(struct sim_mem_tag *tag);
/* fails decides about each mem_try_alloc of a tagged life; NULL = none fails. */
void sim_mem_set_failure(bool (*fails)(void *context), void *context);

/* Zeroed, never NULL, not counted by mem_alloc_count. */
void *sim_alloc(size_t bytes);
void *sim_realloc(void *block, size_t bytes);
char *sim_strdup(const char *text);
static inline void sim_free(void *block)
{
    free(block);
}

/* ---- sim_event.c: the queue of what comes ---------------------------------------------------- */

struct sim_event {
    uint64_t at_ns;
    uint64_t sequence; /* equal times fire in the order of their scheduling */
    uint32_t slot;     /* position in the heap + 1; 0 = not scheduled */
    void (*fire)(struct sim_world *world, struct sim_event *event);
};

struct sim_queue {
    struct sim_event **heap;
    uint32_t count;
    uint32_t capacity;
    uint64_t next_sequence;
};

/* Schedules or moves. */
void sim_event_at(struct sim_world *world, struct sim_event *event, uint64_t at_ns);
void sim_event_stop(struct sim_world *world, struct sim_event *event);
static inline bool sim_event_is_set(const struct sim_event *event)
{
    return event->slot != 0;
}
/* Fires everything up to the present time. */
void sim_events_fire(struct sim_world *world);

/* ---- Operations in flight -------------------------------------------------------------------- */

enum sim_op_kind {
    SIM_OP_CONNECT,
    SIM_OP_SEND,
    SIM_OP_CLOSE,
    SIM_OP_READ,
    SIM_OP_WRITE,
    SIM_OP_SYNC,
};

/* Steps of an operation; what each means depends on the kind. */
enum sim_op_phase {
    SIM_PHASE_SUBMITTED, /* the kernel has not looked at it */
    SIM_PHASE_UNDER_WAY,
    SIM_PHASE_ENDING,    /* the result stands, the completion is on its way */
    SIM_PHASE_COMPLETED, /* waits in the loop's list for the next turn */
};

struct sim_op {
    struct sim_event event;
    struct list desc_link; /* in the descriptor's ops */
    struct list link;      /* in io->completed */
    struct io_op *op;      /* NULL: a dead life's write that may still land */
    struct io *io;
    struct sim_desc *desc;
    enum sim_op_kind kind;
    enum sim_op_phase phase;
    bool cancelled;
    int32_t result;
    union {
        struct {
            struct ipaddr_port to;
            uint64_t give_up_ns;
        } connect;
        struct {
            struct iovec *iov;
            uint32_t iov_count;
            uint32_t sent;
            uint32_t total;
        } send;
        struct {
            struct sim_file *file;
            uint8_t *data;
            uint8_t *copy; /* owned: the bytes of a dead life's write */
            uint32_t len;
            uint64_t offset;
            uint64_t began; /* sync: writes with a number up to this are covered */
            bool durable;
        } disk;
    };
};

/* A started operation on fd: in flight, linked to its descriptor, event not scheduled yet. NULL
 * when there is no such descriptor: the operation ends by itself then. */
struct sim_op *sim_op_begin(struct io *io, struct io_op *op, int fd, enum sim_op_kind kind,
                            void (*fire)(struct sim_world *world, struct sim_event *event));
static inline struct sim_op *sim_op_of_event(struct sim_event *event)
{
    return container_of(event, struct sim_op, event);
}
/* The result stands: the completion reaches the loop after delay_ns. */
void sim_op_end(struct sim_world *world, struct sim_op *record, int32_t result, uint64_t delay_ns);
/* Asks one operation to end early. */
void sim_op_cancel(struct sim_world *world, struct sim_op *record);
void sim_op_free(struct sim_world *world, struct sim_op *record);

/* ---- Descriptors, loops, processes ----------------------------------------------------------- */

enum sim_desc_kind {
    SIM_DESC_SOCKET,
    SIM_DESC_LISTENER,
    SIM_DESC_FILE,
    SIM_DESC_CLOSED, /* only the number is still taken, until the owner hears of the close */
};

struct sim_desc {
    struct sim_process *process;
    int fd;
    enum sim_desc_kind kind;
    struct list ops;
    uint32_t op_count; /* ops, receives and accepts that still owe a callback, close not counted */
    struct sim_op *close;
    union {
        struct sim_end *end;
        struct sim_listener *listener;
        struct sim_file *file;
    };
};

struct io {
    struct io_loop loop; /* first: io_loop_of */
    struct list link;    /* in its process */
    struct sim_world *world;
    struct sim_process *process;
    struct list completed;     /* sim_op, to be run by the next turn */
    struct list ready_ends;    /* ends with something for their receive */
    struct list batch_ends;    /* those of the present turn */
    struct list ready_accepts; /* listeners with something for their accept */
    struct sim_event timer;    /* the next firing of the loop's wheel */
    struct sim_event stall;
    uint32_t number;
    uint32_t runnable_slot; /* position in world->runnable + 1; 0 = asleep */
};

struct sim_process {
    struct list link; /* in the world */
    struct sim_world *world;
    uint32_t number;
    struct sim_mem_tag memory;
    struct list loops;
    struct list strays; /* sim_op.desc_link of what was started on no descriptor */
    struct sim_desc **descs;
    uint32_t desc_capacity;
    uint32_t desc_count;
    uint32_t desc_lowest; /* no number below is free */
    uint64_t disk_calls;
    uint64_t crash_at_call; /* 0 = no crash ordered */
    struct sim_event crash;
    enum sim_crash_kind crash_kind;
    void (*on_crash)(void *context);
    void *crash_context;
};

/* NULL when there is no such descriptor. */
struct sim_desc *sim_desc_find(struct sim_process *process, int fd);
/* must() exist and be of this kind. */
struct sim_desc *sim_desc_get(struct sim_process *process, int fd, enum sim_desc_kind kind);
/* NULL when the process has fd_count_max of them. */
struct sim_desc *sim_desc_create(struct sim_process *process, enum sim_desc_kind kind);
/* Forgets the number and frees; what it pointed to has been taken care of. */
void sim_desc_free(struct sim_desc *desc);
/* Closes what is behind it, then frees it. Nothing may be in flight. */
void sim_desc_close(struct sim_desc *desc);
/* One callback less is owed; a waiting close goes on when it was the last. */
void sim_desc_settle(struct sim_desc *desc);

/* The loop has something to do. */
void sim_io_ready(struct io *io);
void sim_io_asleep(struct io *io);
/* Counts a disk call. False: this life ends now, the call must not happen. Does not return at all
 * when the life's own code called. */
bool sim_disk_call_counted(struct sim_process *process);

/* ---- sim_net.c: addresses, listeners, connections -------------------------------------------- */

#define SIM_LISTENER_BUCKETS 256

/* Bytes that the loop took from the socket and on_data has not used yet. */
struct sim_held {
    struct sim_held *next;
    uint32_t at;
    uint32_t len;
    uint8_t data[];
};

struct sim_segment {
    struct list link;
    uint64_t at_ns;
    uint64_t end; /* stream position behind it */
    bool is_end;  /* the end of the stream instead of bytes */
};

/* One direction, kept at the receiving end. Positions count from the start of the stream. */
struct sim_stream {
    uint8_t *ring; /* capacity is a power of two; grows up to what the window needs */
    uint32_t capacity;
    uint32_t window;
    uint64_t written;
    uint64_t arrived;
    uint64_t consumed;
    struct list segments; /* in flight, in order */
    uint64_t last_at_ns;  /* arrival of the last one: nothing overtakes */
    struct sim_event arrival;
    struct sim_event room; /* the sender hears of room in the window */
    bool end_sent;
    bool end_arrived;
};

enum sim_end_state {
    SIM_END_NONE, /* the other half of a socket that is not connected yet */
    SIM_END_OPEN,
    SIM_END_CONNECTING,
    SIM_END_UP,
    SIM_END_CLOSED,
};

/* One end of a connection. */
struct sim_end {
    struct sim_conn *conn;
    struct sim_desc *desc;         /* NULL: closed, or not accepted yet */
    struct sim_listener *listener; /* waits there to be accepted */
    struct list accept_link;
    enum sim_end_state state;
    struct ipaddr_port local;
    struct sim_stream in;
    bool dead;              /* a reset has arrived */
    struct sim_event reset; /* a reset is on its way to this end */
    int32_t error;          /* to be reported once */
    struct sim_op *send;
    struct io_recv *recv;
    struct io *recv_io;
    struct list ready_link; /* in recv_io->ready_ends */
    struct sim_event look;  /* a started receive reaches the kernel */
    struct sim_held *held_first;
    struct sim_held *held_last;
    uint32_t held_count;
};

struct sim_conn {
    struct list link; /* in the world */
    struct sim_world *world;
    uint32_t number;
    bool cut;      /* a reset was injected: nothing sent from now on arrives */
    bool is_local; /* Unix socket */
    uint32_t uid;
    uint64_t latency_ns;
    struct sim_end ends[2]; /* the connecting one, the accepting one */
};

struct sim_listener {
    struct list link; /* in its bucket */
    struct sim_desc *desc;
    struct ipaddr_port at;
    char *path; /* Unix socket */
    uint32_t backlog;
    struct list queue; /* ends to be accepted */
    uint32_t queue_count;
    struct io_accept *accept;
    struct io *accept_io;
    struct list ready_link;
    bool accept_stopping;
};

struct sim_route_rule {
    struct cidr to;
    enum sim_route route;
};

struct sim_net {
    struct list listeners[SIM_LISTENER_BUCKETS];
    struct list conns;
    uint32_t conn_count;
    uint32_t next_number;
    uint16_t next_port;
    struct sim_route_rule *rules;
    uint32_t rule_count;
    struct ipaddr *disabled;
    uint32_t disabled_count;
};

static inline struct sim_end *sim_end_other(struct sim_end *end)
{
    return end == &end->conn->ends[0] ? &end->conn->ends[1] : &end->conn->ends[0];
}

void sim_net_init(struct sim_world *world);
void sim_net_fini(struct sim_world *world);
/* A socket that is not connected yet. */
struct sim_end *sim_end_create(struct sim_world *world, const struct ipaddr *source);
/* Picks a listener for a new connection to `at`, or to path unless it is NULL, by seed; NULL =
 * nobody listens. */
struct sim_listener *sim_listener_find(struct sim_world *world, const struct ipaddr_port *at,
                                       const char *path);
/* The connecting end gets its partner, which waits in the listener's queue. */
void sim_conn_establish(struct sim_end *end, struct sim_listener *listener);
enum sim_close_kind {
    SIM_CLOSE_ORDERLY,
    SIM_CLOSE_KILLED,
    SIM_CLOSE_POWER_CUT,
};

/* Sends the end of the stream or a reset, as the state demands; the descriptor is gone. */
void sim_end_close(struct sim_end *end, enum sim_close_kind kind);
/* Connections nobody has accepted yet are reset. */
void sim_listener_drop_queue(struct sim_listener *listener);
void sim_listener_close(struct sim_listener *listener);
/* A reset of the whole connection by the network: what is sent from now on arrives nowhere. */
void sim_conn_reset(struct sim_conn *conn);

/* ---- sim_stream.c: bytes between two ends ---------------------------------------------------- */

void sim_end_init_events(struct sim_end *end);
void sim_stream_init(struct sim_world *world, struct sim_stream *stream);
void sim_stream_fini(struct sim_world *world, struct sim_stream *stream);
/* Moves on the pending send of this end. */
void sim_end_pump(struct sim_end *end);
/* Sends the end of the stream behind everything sent before. */
void sim_end_send_end(struct sim_end *end);
/* A reset reaches this end after delay_ns, unless one is under way already. */
void sim_end_reset_after(struct sim_end *end, uint64_t delay_ns);
/* Takes what has arrived into buffers of the loop, and tells the loop. */
void sim_end_pull(struct sim_end *end);
/* Runs the callbacks that are due for the receive of this end. */
void sim_end_deliver(struct sim_end *end);
void sim_end_drop_held(struct sim_end *end);

/* ---- sim_file.c: contents; sim_name.c: names; sim_disk.c: operations ------------------------- */

#define SIM_PAGE_BYTES   4096u
#define SIM_SECTOR_BYTES 512u

/* NULL = zeros. The two are the same pointer when the page is on the disk; a page that is not has
 * a cached content of its own. */
struct sim_page {
    uint8_t *cached;
    uint8_t *durable;
    uint64_t dirty_since;   /* number of the first write since it was clean; 0 = believed clean */
    uint32_t unsynced_slot; /* position in inode->unsynced + 1; 0 = cached == durable */
    bool allocated;
};

struct sim_inode {
    struct list link; /* in the world */
    uint32_t number;
    uint32_t volume; /* index of disk.volumes + 1; 0 = of none */
    bool is_directory;
    bool charged;        /* its pages count as used space */
    uint32_t name_refs;  /* names, durable names and pending changes of names */
    uint32_t link_count; /* names as a program sees them */
    uint32_t open_count;
    uint64_t size;
    uint64_t changed_us;
    uint64_t durable_size;
    bool size_dirty;
    struct sim_page *pages;
    uint64_t page_count;
    uint64_t allocated_pages;
    uint64_t *unsynced; /* pages whose cached and durable contents differ */
    uint64_t unsynced_count;
    uint64_t unsynced_capacity;
    struct sim_file *lock_holder;
};

/* An open file description. It outlives its killed owner until its last write has landed. */
struct sim_file {
    struct list link; /* in world->disk.lingering, once its life was killed */
    struct sim_world *world;
    struct sim_inode *inode;
    char *path; /* for scripts and traces */
    unsigned flags;
    struct list late; /* sim_op.desc_link of writes that may still land */
    struct sim_event release;
};

struct sim_name {
    char *path;
    struct sim_inode *inode;
};

/* Sorted by path. */
struct sim_names {
    struct sim_name *rows;
    uint32_t count;
    uint32_t capacity;
};

enum sim_change_kind {
    SIM_CHANGE_CREATE,
    SIM_CHANGE_RENAME,
    SIM_CHANGE_UNLINK,
};

/* A change of names that is not durable yet. */
struct sim_change {
    enum sim_change_kind kind;
    char *path;
    char *to; /* rename */
    struct sim_inode *inode;
};

struct sim_script {
    enum sim_disk_call call;
    char *path;
    uint64_t left;
    int error;
};

#define SIM_VOLUMES_MAX 8

struct sim_volume {
    const char *directory;
    uint64_t limit_bytes;
};

struct sim_disk {
    struct sim_volume volumes[SIM_VOLUMES_MAX];
    uint32_t volume_count;
    const char *faults_at;
    struct list inodes;
    uint32_t next_inode;
    struct sim_inode *root;
    struct sim_names names;
    struct sim_names durable_names;
    struct sim_change *changes;
    uint32_t change_count;
    uint32_t change_capacity;
    struct list lingering;
    uint64_t limit_bytes; /* io_space_free knows of it */
    uint64_t quota_bytes; /* only writes meet it */
    uint64_t used_bytes;
    uint64_t write_number;
    struct sim_script *scripts;
    uint32_t script_count;
};

/* The volume that the path lies in, as in sim_inode.volume. */
uint32_t sim_volume_of(const struct sim_world *world, const char *path);
/* Bytes that its limit leaves. */
uint64_t sim_volume_left(const struct sim_world *world, uint32_t volume);
struct sim_inode *sim_inode_create(struct sim_world *world, bool is_directory);
/* Frees the inode once nothing names or holds it; keeps the account of used space. */
void sim_inode_tidy(struct sim_world *world, struct sim_inode *inode);
void sim_inode_free(struct sim_world *world, struct sim_inode *inode);
/* Bytes read; fewer than len only at the end. */
size_t sim_inode_read(const struct sim_inode *inode, void *data, size_t len, uint64_t offset);
/* Into the cache. Fewer than len when the disk is full. */
size_t sim_inode_write(struct sim_world *world, struct sim_inode *inode, const void *data,
                       size_t len, uint64_t offset);
void sim_inode_truncate(struct sim_world *world, struct sim_inode *inode, uint64_t bytes);
/* Makes durable what was written up to the write of this number, and the size. */
void sim_inode_sync(struct sim_inode *inode, uint64_t up_to);
/* The pages under this range, and the size. */
void sim_inode_sync_range(struct sim_inode *inode, uint64_t offset, uint64_t len);
/* A sync that failed: the same pages count as clean from now on, though they are not there. */
void sim_inode_sync_fails(struct sim_world *world, struct sim_inode *inode, uint64_t up_to);
/* One dirty page, by seed, becomes durable unasked. */
void sim_inode_write_back(struct sim_world *world, struct sim_inode *inode);
void sim_inode_power_cut(struct sim_world *world, struct sim_inode *inode);
/* Everything cached becomes durable: changes by the test itself. */
void sim_inode_settle(struct sim_inode *inode);

void sim_names_init(struct sim_world *world);
void sim_names_fini(struct sim_world *world);
/* NULL when there is none; the root always is. */
struct sim_inode *sim_name_find(const struct sim_world *world, const char *path);
/* -ENOENT, -ENOTDIR, -EEXIST … as the system calls. */
int sim_name_create(struct sim_world *world, const char *path, bool is_directory,
                    struct sim_inode **ret_inode);
int sim_name_rename(struct sim_world *world, const char *from, const char *to);
int sim_name_unlink(struct sim_world *world, const char *path);
/* Changes in this directory become durable. */
int sim_name_sync(struct sim_world *world, const char *directory);
/* The latest change becomes durable: it was made by the test itself. */
void sim_name_settle_last(struct sim_world *world);
void sim_names_power_cut(struct sim_world *world);

void sim_disk_init(struct sim_world *world);
void sim_disk_fini(struct sim_world *world);
void sim_file_close(struct sim_file *file);
/* The owner was killed: writes in flight may land, the lock stays until then. */
void sim_file_abandon(struct sim_desc *desc);
void sim_disk_power_cut(struct sim_world *world, struct sim_process *process);

/* ---- The world ------------------------------------------------------------------------------- */

struct sim_world {
    uint64_t seed;
    struct sim_options options;
    struct sim_faults faults;
    struct rng rng;
    struct rng test_rng;
    uint64_t now_ns;
    int64_t wall_offset_us;
    uint32_t memory_percent;
    uint64_t step_count;
    uint64_t trace_hash;
    struct sim_queue queue;
    struct list processes;
    uint32_t next_process;
    uint32_t next_io;
    struct io **runnable;
    uint32_t runnable_count;
    uint32_t runnable_capacity;
    struct sim_process *entered; /* whose code runs now */
    struct sim_mem_tag *outer_memory;
    jmp_buf crash_jump;
    bool crash_jump_set;
    enum sim_crash_kind jumped_kind;
    struct sim_net net;
    struct sim_disk disk;
    struct sim_coverage coverage[SIM_COVER_KINDS];
};

/* Rolls for a fault by its rate; when it hits it is counted and traced. */
bool sim_fault(struct sim_world *world, enum sim_coverage_kind kind);
void sim_cover(struct sim_world *world, enum sim_coverage_kind kind);
static inline uint64_t sim_between(struct sim_world *world, uint64_t low, uint64_t high)
{
    return rng_between(&world->rng, low, high);
}
static inline bool sim_coin(struct sim_world *world)
{
    return rng_below(&world->rng, 2) == 1;
}
static inline uint64_t sim_submit_delay(struct sim_world *world)
{
    return rng_below(&world->rng, world->options.submit_max_ns);
}
/* Moves the clock without firing anything. */
void sim_clock_move(struct sim_world *world, uint64_t to_ns);
/* Where a crash from within lands: the process that was entered ends. */
void sim_crash_landed(struct sim_world *world);
