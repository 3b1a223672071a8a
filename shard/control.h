/*
 * control: the control actor: admin verbs over a Unix socket, and the accounting cursors.
 *
 * Runs on a loop of its own, off the shards; asks shards by report parcels (report.h). One verb
 * table (verbs.h) serves the socket, the command line tool and its help. A connection sends one
 * command line, ended by LF, of words separated by blanks (quotes as in a shell), e.g.
 * "show queues --json --maxitems=10", and reads the answer until the end of the stream. The first
 * line of the answer is "ok" or "error TEXT". Only root and the daemon's own user may connect (peer
 * uid). Everything is bounded: connections, length of a line, rows, time. Garbage never ends the
 * daemon.
 */
#pragma once

#include "core/conf/conf.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "core/obs/ip_figures.h"
#include "queue/spool.h"
#include "shard/reload.h"

struct control;

struct sign_service;

struct control_options {
    struct conf *conf; /* control takes a reference of its own */
    uint16_t shard_count;
    const char *version;     /* static storage */
    const char *config_path; /* what a reload reads; copied. NULL: there is nothing to reload */
    const struct sign_service *signing; /* for show status; NULL = the daemon signs by itself */
    /* Where figures per source address are read, each second; copied. NULL: the shards count. */
    const struct ip_source *ip_source;
    const char *sts_program; /* the path of ringpost-sts; copied. NULL: no policy can be fetched */
};

struct control_wiring {
    struct spool *spool;
    uint16_t spool_client;
    struct mailbox *to_spool;
    struct mailbox *from_spool;
    struct mailbox *to_resolver; /* NULL = there is none; so the next one */
    struct mailbox *from_resolver;
    struct mailbox *to_carrier;         /* NULL = there is none */
    struct mailbox *const *to_shards;   /* [shard_count] */
    struct mailbox *const *from_shards; /* [shard_count] */
    struct io *const *loops;            /* [loop_count]: every loop, for io_stats_read */
    uint32_t loop_count;
    struct published *published; /* the snapshot that shards work with */
};

struct control *control_create(struct io *io, const struct control_options *options);
/* After the loop has ended, before the spool is destroyed. */
void control_destroy(struct control *control);
/* Once, before the loops run; the arrays are copied. */
void control_wire(struct control *control, const struct control_wiring *wiring);
/*
 * Opens the socket of conf_global.control_socket (none when NULL). user_id: the daemon's own, once
 * it has dropped its privileges; besides root the only one who may connect. 0 or negative.
 */
int control_listen(struct control *control, uint32_t user_id);
/* Opens the accounting files' cursors and replays what they miss. Before the loops run; after
 * control_wire. 0 or negative. */
int control_start_accounting(struct control *control);
/*
 * Opens the history of the configuration in the first spool folder and keeps what is in force.
 * Before the loops run; after control_wire and control_listen. files: what the running snapshot
 * was read from, which control takes over. What fails is logged and ends nothing.
 */
void control_start_history(struct control *control, struct conf_files *files);
/* Takes up what was counted for reports about TLS before the daemon ended. Likewise. */
void control_start_tls_reports(struct control *control);
/*
 * Called on the loop once every shard has stopped by the shutdown verb or control_shutdown, what
 * was durable is in the accounting files and no connection is open any more.
 */
void control_on_stopped(struct control *control, void (*stopped)(void *context), void *context);
/* Reads the configuration anew, as the verb does it; what it finds is logged. On control's loop. */
void control_reload(struct control *control);
/* As the verb does it; safe to call again. On control's loop. */
void control_shutdown(struct control *control, uint32_t grace_ms);
