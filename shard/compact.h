/*
 * compact: live messages moved out of nearly empty segments, so that their files can be used again.
 *
 * A message lives on while it moves, and its last outcome waits for the copy. A bounded number move
 * at a time. Belongs to the shard's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct log_request;
struct message;
struct outcome_parcel;
struct shard;
struct spool_notice;

void compact_init(struct shard *shard);
void compact_fini(struct shard *shard);
void compact_on_evacuate(struct shard *shard, struct spool_notice *notice);
/* A chunk's copy was appended or refused, or those that are of no use were dropped. */
void compact_on_chunk(struct shard *shard, struct log_request *request);
/* The copy was appended or refused. */
void compact_on_appended(struct shard *shard, struct message *message);
/* The message is being appended again: its last outcome is kept until that is answered. */
bool compact_holds(struct shard *shard, uint32_t home_message, struct outcome_parcel *last);
void compact_turn(struct shard *shard);
/* Work is left that no completion will bring. */
bool compact_is_busy(const struct shard *shard);
