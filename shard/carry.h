/*
 * carry: mail of queues whose type is file or pipe, one recipient at a time, by way of the carrier
 * (carrier.h), an actor on another loop: a shard must wait for no file and no program.
 *
 * A carry is the parcel between the two. Its owner keeps the message until the parcel is home for
 * good; of a message in chunks it comes home for each chunk. Belongs to the shard's thread, and to
 * the carrier's while it is there. max-smtp-out of a queue bounds how many it has out.
 */
#pragma once

#include "core/base/list.h"
#include "core/conf/delivery.h"
#include "core/io/mailbox.h"
#include "core/mail/plain_form.h"
#include "core/mail/verdict.h"

#include <sys/uio.h>

#define CARRY_PATH_MAX 4096u

enum carry_kind {
    CARRY_START = 0x700, /* to the carrier; the parts are the beginning of the content */
    CARRY_ON,            /* to the carrier: further parts */
    CARRY_OFF,           /* to the carrier: the content cannot be had, there will be no more */
    CARRY_MORE,          /* home: the parts have been taken */
    CARRY_DONE,          /* home: the verdict stands */
};

struct carry {
    struct parcel parcel;
    struct delivery *delivery;
    uint32_t index; /* in the owner's slab */
    uint16_t shard;

    /* What is to be done. The values point into the message. */
    uint8_t outcome_flags; /* what its outcome says of the way */
    bool is_program;       /* else a file */
    uint8_t format;        /* enum conf_file_format */
    uint64_t send_ms;      /* patience with a program that takes nothing, and after the end */
    uint64_t termination_ms;
    struct conf_delivery_values values;
    uint64_t message_id;
    uint64_t accepted_us; /* wall clock */
    uint32_t ordinal;
    const struct iovec *parts;
    uint32_t part_count;
    bool goes_on; /* there is more content behind the parts */
    char way[CONF_DELIVERY_TEXT_MAX + 1];

    struct verdict verdict; /* the result; scope, class and stage among it */

    /* The carrier's. */
    struct list link;
    uint64_t waits_until_ns; /* for a lock; 0 = it does not */
    struct plain_form form;
    struct program *program; /* it has been started */
    bool is_open;
    int fd;
    uint64_t start_offset; /* of a mailbox: where it ended before */
    uint64_t offset;
    char path[CARRY_PATH_MAX];
    char draft[CARRY_PATH_MAX]; /* of a new file: its name until it is complete */
};

struct delivery;
struct program;
struct queue;
struct shard;

void carry_init(struct shard *shard);
void carry_fini(struct shard *shard);
/* Sends the delivery's message, of which the beginning stands in its content, on its way. E_FULL
 * when there is no room. */
int carry_start(struct shard *shard, struct delivery *delivery, uint32_t part_count);
/* As smtpc_continue and smtpc_abort. */
void carry_continue(struct delivery *delivery, const struct iovec *parts, uint32_t part_count,
                    bool goes_on);
void carry_abort(struct delivery *delivery);
static inline bool carry_owns(const struct parcel *parcel)
{
    return parcel->kind >= CARRY_START && parcel->kind <= CARRY_DONE;
}
/* A parcel from the carrier. */
void carry_on_parcel(struct shard *shard, struct parcel *parcel);
