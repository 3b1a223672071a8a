/*
 * smtpd: the SMTP server of one shard, for injection (RFC 5321, 1870, 2034, 2920, 3030, 3207, 6152,
 * 6531, 8314).
 *
 * Owns the sessions of one loop; takes messages through an intake table. Offers PIPELINING, SIZE,
 * 8BITMIME, DSN, SMTPUTF8, ENHANCEDSTATUSCODES, CHUNKING, AUTH and STARTTLS. Nothing that was said
 * in the clear is remembered over STARTTLS, and what came behind it in the clear ends the session
 * (A05, A07). Only CRLF.CRLF ends DATA; bare CR,
 * bare LF and NUL in message data are refused with 554 5.6.0 or repaired, as the source says, never
 * passed on. Every failed step of a transaction but a refused recipient resets it (A12). Replies of
 * a pipelined flight leave in one send; input behind an end of data waits until that message is
 * answered. A refused BDAT is answered at once and its octets are read and thrown away.
 * Bounds: sessions, command line 2048 octets, text line, recipients, message size, time per command
 * and for data (500 octets a second at least), refused commands, octets read in vain.
 * A session works with the settings that its source had when it came in.
 * Never decides where mail goes and never allocates in a steady turn.
 */
#pragma once

#include "core/base/slab.h"
#include "net/intake.h"
#include "net/stream.h"

struct smtpd;

struct smtpd_options {
    const char *host_name; /* in the greeting and EHLO reply; lives as long as the server */
    uint32_t session_count_max;
    uint32_t bad_command_count_max; /* then 421; 0 = 20 */
    uint32_t text_line_octets_max;  /* of message data, with CRLF; 0 = 1000 (RFC 5321 4.5.3.1.6) */
};

struct smtpd *smtpd_create(struct io *io, const struct smtpd_options *options,
                           const struct intake_ops *intake, void *taker);
/* Sessions must have ended (smtpd_stop). */
void smtpd_destroy(struct smtpd *server);

/* Accepts on a listening socket from now on; it stays the caller's, to be closed after smtpd_stop
 * is done. source_name: the listener's named source or NULL. 0, or -ENOMEM. Accepting pauses by
 * itself while sessions or descriptors are out and resumes alone (A40). */
int smtpd_listen(struct smtpd *server, int listen_fd, const char *source_name);
/* Begins a session on a connected socket, whichever loop accepted it. False when there is no room
 * for one, or the server stops: the socket stays the caller's. */
bool smtpd_adopt(struct smtpd *server, int fd, const char *source_name);

/* The name for greetings and EHLO replies from now on; lives as long as the server. */
void smtpd_set_host_name(struct smtpd *server, const char *host_name);

/* Stops accepting, answers what is pending, ends idle sessions with 421; done comes when the last
 * session has gone. */
void smtpd_stop(struct smtpd *server, void (*done)(void *context), void *context);

struct smtpd_stats {
    uint64_t sessions_total;
    uint32_t sessions_now;
    uint32_t sessions_admitted; /* of these, by the taker */
    uint64_t messages;          /* answered 250 */
    uint64_t refused_commands;
    uint64_t refused_messages;
    uint64_t timeouts;
};

/* For whoever sees to it that memory goes back to the system (slab_trim). */
void smtpd_each_slab(struct smtpd *server, void (*visit)(void *context, struct slab *slab),
                     void *context);
void smtpd_stats_read(const struct smtpd *server, struct smtpd_stats *ret_stats);
