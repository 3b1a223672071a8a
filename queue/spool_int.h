/*
 * spool_int: what the files of this room share. Nobody outside of queue/ and its tests includes it.
 *
 * Who owns what: the spool owns its devices (each with a pool of segments and a message log), the
 * one outcome log and the checkpoint; all of it runs on the spool's loop. Other threads see only
 * the atomics below (health, statistics, how far each outcome segment is durable, the pins of
 * cursors) and what never changes after the opening: where each slot's file lies.
 */
#pragma once

#include "core/base/must.h"
#include "queue/chunkbook.h"
#include "queue/named.h"
#include "queue/segfmt.h"
#include "queue/seglog.h"
#include "queue/segpool.h"
#include "queue/spool.h"

#include <stdatomic.h>

#define SPOOL_CLIENTS_MAX 256
#define SPOOL_PINS_MAX    64
#define SPOOL_PATH_MAX    512

/* Numbers in parcel.from that are not clients'. */
#define SPOOL_FROM_SELF 0xffffu

/* Kinds of the spool's own appends, beside those of spool.h. */
enum spool_own_kind {
    SPOOL_OWN_VOID = 0x1f0, /* of a failed batch of messages */
    SPOOL_OWN_OLD_VOID,     /* a void that a checkpoint carries on */
    SPOOL_OWN_BEGIN,
    SPOOL_OWN_NAMED,
    SPOOL_OWN_END,
};

struct spool_client {
    struct spool *spool;
    struct mailbox *requests;
    struct mailbox *answers;
    bool wants_checkpoints;
    bool asked; /* its notice is out */
    struct spool_notice notice;
    struct spool_notice evacuate;
};

/* Where a cursor keeps outcome segments from being recycled. */
struct spool_pin {
    _Atomic uint64_t number; /* cursor number + 1; 0 = free */
    _Atomic uint32_t serial; /* nothing before this segment is needed; 0 = everything is */
};

enum checkpoint_state {
    CHECKPOINT_IDLE,
    CHECKPOINT_BEGINNING, /* BEGIN is on its way to the disk */
    CHECKPOINT_EMITTING,  /* named states and voids of the spool itself */
    CHECKPOINT_WAITING,   /* for clients */
    CHECKPOINT_ENDING,    /* END is on its way to the disk */
};

/* A place in the outcome stream from which recovery can start. */
struct checkpoint_begin {
    uint64_t number; /* 0 = there is none */
    uint32_t serial;
    uint32_t offset;
};

struct checkpoint {
    enum checkpoint_state state;
    uint64_t number;                /* of the running or last one */
    struct checkpoint_begin last;   /* complete */
    struct checkpoint_begin before; /* complete, the one before it: kept in case of damage */
    struct checkpoint_begin running;
    uint64_t bytes_at_begin; /* of the log, when the last one began */
    uint64_t bytes_taken;    /* it grew by so much until that one was complete */
    uint32_t clients_left;
    uint32_t named_at;
    uint32_t void_at;
    bool own_in_flight;
    struct log_request own;
    struct iovec own_payload;
    uint8_t own_bytes[2048];
};

/* The segment that is being evacuated. */
struct compaction {
    uint32_t serial; /* 0 = none */
    uint16_t slot;
    uint32_t clients_left;
    uint64_t live_bytes; /* of the segment, when it was asked for */
    uint64_t *commits;   /* lent to the clients, see struct spool_notice */
    uint64_t look_at_ns; /* no look for another one before */
    uint64_t retry_ns;   /* after the next evacuation that moves nothing; doubles with each */
    struct io_timer timer;
};

struct spool_counters {
    _Atomic uint64_t outcome_commits;
    _Atomic uint64_t outcomes;
    _Atomic uint64_t bytes_written;
    _Atomic uint64_t commit_ns_total;
    _Atomic uint64_t failed_commits;
    _Atomic uint64_t voids;
    _Atomic uint64_t checkpoints;
    _Atomic uint64_t recycled;
    _Atomic uint64_t evacuations;
};

struct spool_device {
    struct segpool pool;
    struct seglog messages;
    char path[SPOOL_PATH_MAX];
    uint8_t id[SEGFMT_ID_BYTES]; /* of the first device: zeros */
    int fd;                      /* of the identity, which holds the lock; -1 on the first */
    bool is_new;                 /* has no identity yet, or one that counts for nothing */
    bool is_unlisted;            /* belongs here, but the superblock does not say so */
    uint32_t priority;
    char commit_mode[128];
    _Atomic int state; /* enum spool_device_state */
    _Atomic uint64_t commits;
    _Atomic uint64_t messages_kept;
    _Atomic uint64_t bytes_written;
    _Atomic uint64_t failed_commits;
    _Atomic uint32_t segments_total;
    _Atomic uint32_t segments_free;
};

struct spool {
    struct io *io;
    struct io_actor actor;
    struct spool_options options;
    uint8_t uuid[SEGFMT_UUID_BYTES];
    uint64_t life;
    uint64_t sequence_next;
    int super_fd;
    bool closing;
    bool closed;
    void (*on_closed)(void *context);
    void *on_closed_context;
    struct spool_device devices[SPOOL_DEVICES_MAX];
    uint32_t device_count;
    struct segment *segments; /* of all devices, by slot */
    uint32_t segment_count;
    struct segpool_serials serials;
    struct chunkbook chunks;
    struct seglog outcomes; /* on the first device */
    struct named_table named;
    struct checkpoint checkpoint;
    struct compaction compaction;
    struct spool_client *clients[SPOOL_CLIENTS_MAX];
    uint16_t client_count;
    uint16_t checkpoint_client_count;
    bool pins_moved; /* a cursor went on: look for segments to recycle */
    _Atomic int health;
    _Atomic int trouble; /* see struct spool_trouble */
    _Atomic uint64_t trouble_since_ns;
    uint64_t close_until_ns; /* closing: how long outcomes may wait for a disk that fails */
    struct spool_counters counters;
    struct spool_pin pins[SPOOL_PINS_MAX];
};

/* One writer, any readers: a plain add without a locked instruction. */
static inline void spool_count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

static inline bool spool_is_poisoned(const struct spool *spool)
{
    return atomic_load_explicit(&spool->health, memory_order_relaxed) == SPOOL_POISONED;
}

/* The device that a segment lies on. */
static inline struct segpool *spool_pool_of(struct spool *spool, const struct segment *segment)
{
    return &spool->devices[segment->device].pool;
}

/* The same for other threads, which do not look into segments; NULL = no device has such a slot. */
static inline const struct segpool *spool_pool_of_slot(const struct spool *spool, uint16_t slot)
{
    for (uint32_t i = 0; i < spool->device_count; i++) {
        const struct segpool *pool = &spool->devices[i].pool;

        if (slot >= pool->slot_base && slot - pool->slot_base < pool->slot_count)
            return pool;
    }
    return NULL;
}

/* The way of every answer: to the client, or to the part of the spool that asked. */
void spool_answer(struct spool *spool, struct log_request *request, int status);
/* The disk is given up: every waiter gets E_POISONED, nothing is accepted any more. */
void spool_poison(struct spool *spool);
/* Finds or makes the pin of a cursor; NULL when all are taken. */
struct spool_pin *spool_pin_get(struct spool *spool, uint64_t number);
/* Path of a file of the spool into room of SPOOL_PATH_MAX + 32 bytes. */
void spool_file_path(const char *path, const char *name, char *room);
void spool_segment_path(const char *path, uint16_t slot, char *room);

/* route.c */

/* Chooses a device for the message and appends it there; refused when none takes it. */
void route_message(struct spool *spool, struct log_request *request);
/* Another device takes mail at this moment. */
bool route_has_other(const struct spool *spool, const struct spool_device *device);
/* Any device takes mail. */
bool route_takes_mail(const struct spool *spool);
/* Why none does: what a disk says, or E_LOW_SPACE. */
int route_refusal(const struct spool *spool);
/* Shows the state of each device to other threads. */
void route_publish(struct spool *spool);

/* The actor of the spool's loop. */
void spool_turn(struct io_actor *actor);
bool spool_is_busy(struct io_actor *actor);

/* checkpoint.c */
void checkpoint_turn(struct spool *spool);
void checkpoint_on_done(struct spool *spool, struct spool_client *client,
                        struct spool_notice *notice);
void checkpoint_on_answer(struct spool *spool, struct log_request *request);
bool checkpoint_is_busy(const struct spool *spool);
/* Frees what nothing needs any more; called when something changed that could let it. */
void checkpoint_recycle(struct spool *spool);

/* compact.c */
void compaction_init(struct spool *spool);
void compaction_fini(struct spool *spool);
void compaction_turn(struct spool *spool);
void compaction_on_done(struct spool *spool, struct spool_client *client,
                        struct spool_notice *notice);
