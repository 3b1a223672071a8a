/* pickup_int: what pickup.c (the folder) and pickup_file.c (one file) share. */
#pragma once

#include "core/mail/body_scan.h"
#include "shard/inject_int.h"
#include "shard/pickup.h"

#define PICKUP_NAME_MAX     255
/* Also what the intake gets at most after it asked for a pause. */
#define PICKUP_BUFFER_BYTES 16384
/* Of x-envid, x-job and x-virtual-mta. */
#define PICKUP_KEPT_BYTES   4096

enum pickup_end {
    PICKUP_TAKEN,
    PICKUP_BAD,   /* never to be taken; reason says why */
    PICKUP_LATER, /* not now */
    PICKUP_NOT,   /* it is no file */
};

/* One file that is being taken. */
struct pickup_job {
    struct pickup *pickup;
    struct shard *shard;
    struct io_op op;
    struct intake_message *message; /* from x-sender on until finish */
    struct intake_client client;
    struct conf_source source;
    struct body_scan scan;
    uint64_t offset; /* of the next octet to read */
    uint64_t end;    /* of what counts of the file */
    uint32_t filled;
    uint32_t kept;
    uint32_t rcpt_count;
    int fd;
    bool is_used;
    bool is_body;
    bool is_held;    /* the intake wants no more for now */
    bool is_waiting; /* for its answer */
    bool was_kept;   /* the last line */
    char name[PICKUP_NAME_MAX + 1];
    char reason[sizeof(((struct intake_reply *)NULL)->text) + 8];
    uint8_t kept_text[PICKUP_KEPT_BYTES];
    uint8_t buffer[PICKUP_BUFFER_BYTES];
};

/* Begins with the open file. */
void pickup_file_begin(struct pickup_job *job, uint64_t bytes);
/* The shard stops: gives the message up where that can be. */
void pickup_file_stop(struct pickup_job *job);

/* pickup.c: the file is done with; the job is free again. */
void pickup_end(struct pickup_job *job, enum pickup_end how);
