/*
 * large: messages in chunks, as the client of life.h appends, gives up, moves and reads them.
 *
 * Chunks are posted a few at a time, each when one before it is answered, so that other records and
 * crashes come in between; the commit record follows the last answer.
 */
#pragma once

#include "tests/unit/queue/life.h"

struct spool_notice;

/* Appends a message whose body is at least two chunks. gives_up: at some point, and drops them. */
void large_send(struct life *life, uint32_t rcpt_count, uint32_t body_bytes, uint32_t chunk_octets,
                bool gives_up);
/* Moves it: the chunks in the evacuated segment, or without evacuation some, and its commit record.
 * The chunks' places must be known (ledger_message.chunks). */
void large_move(struct life *life, struct ledger_message *message,
                const struct spool_notice *evacuation);
/* The notice asks for this message. */
bool large_is_asked_for(const struct ledger_message *message, const struct spool_notice *notice);
void large_on_answer(struct life *life, struct log_request *request);
/* Reads the commit record at the place, notes its chunks in the message and compares every octet.
 * NULL, or what is wrong. */
const char *large_read_back(struct life *life, const struct log_message_state *state);
/* Frees what a crash leaves behind. */
void large_forget(struct life *life);
