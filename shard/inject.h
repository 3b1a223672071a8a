/*
 * inject: the intake of a shard, from an SMTP transaction to a durable append.
 *
 * It stands behind smtpd's intake operations (net/intake.h); inject_int.h is what its files share.
 * A message is answered when the log has answered. Belongs to the shard's thread.
 */
#pragma once

#include "net/intake.h"
#include "queue/spool.h"

struct gate_ask;
struct message;
struct shard;

void inject_on_gate_parcel(struct shard *shard, struct gate_ask *ask);
void inject_init(struct shard *shard);
void inject_fini(struct shard *shard);
/* inject_check.c: the shard stops, and nothing more is waited for. */
void inject_check_stop(struct shard *shard);
extern const struct intake_ops inject_intake;
void inject_on_appended(struct shard *shard, struct message *message);
/* A chunk was appended or refused, or all of a message were dropped. */
void inject_on_chunk(struct shard *shard, struct log_request *request);
/* "0123456789ABC": the id as it stands in replies, Received and logs; room of 14. */
void inject_format_id(uint64_t id, char *room);
