/*
 * chunkbook: which segments the chunks of each message lie in, so that none is used again too early
 * and none is kept for ever.
 *
 * A chunk counts among the live records of its segment from its append on: first as an *open* one
 * of a message in the making, then as one of its message, until that is done, moved or dropped.
 * Messages know only the place of their commit record; the book knows the rest, summed up by
 * segment: 40 bytes a message, and as many for each further segment. Part of the spool; its loop.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/slab.h"
#include "queue/segpool.h"

#define CHUNKBOOK_NONE UINT32_MAX

/* Chunks of one message in one segment; the first of a chain is the message's entry. */
struct chunk_run {
    uint64_t message_id;
    uint64_t bytes;
    uint32_t serial; /* first: place of the commit record; 0 = not durable yet */
    uint32_t offset;
    uint32_t next; /* of the chain */
    uint32_t segment_serial;
    uint32_t count;
    uint16_t slot;
};

struct chunkbook {
    struct spool *spool;
    struct slab runs;
    struct table by_id;
};

void chunkbook_init(struct chunkbook *book, struct spool *spool);
void chunkbook_fini(struct chunkbook *book);

/* An entry for a commit record that is about to be written; CHUNKBOOK_NONE without memory. */
uint32_t chunkbook_enter(struct chunkbook *book, uint64_t message_id);
/* Adds a chunk's place; false without memory. */
bool chunkbook_add(struct chunkbook *book, uint32_t entry, const struct log_chunk *chunk);
/* The same for all chunks of a commit record. CHUNKBOOK_NONE without memory. */
uint32_t chunkbook_enter_all(struct chunkbook *book, const struct log_request *request);
/* The record was not written: nothing counts any more. */
void chunkbook_forget(struct chunkbook *book, uint32_t entry);
/* Where the record lies. */
void chunkbook_place(struct chunkbook *book, uint32_t entry, uint32_t serial, uint32_t offset);
/* Of the record at this place, CHUNKBOOK_NONE = it is not known. */
uint32_t chunkbook_find(const struct chunkbook *book, uint64_t message_id, uint32_t serial,
                        uint32_t offset);
/* The commit record is durable: its fresh chunks are open no more, the others have one more that
 * names them. */
void chunkbook_commit(struct chunkbook *book, const struct log_request *request);
/* Fresh chunks that no commit record will name. */
void chunkbook_drop(struct chunkbook *book, const struct log_request *request);
/* Takes the entry of a message out, that an outcome on its way to the disk ends, and chains it in
 * front of `others`; returns the first of all. */
uint32_t chunkbook_detach(struct chunkbook *book, const struct log_request *request,
                          uint32_t others);
/* That outcome is durable: all that was chained is dead. */
void chunkbook_done(struct chunkbook *book, uint32_t chain);
/* Places (serial << 32 | offset), ascending, of the commit records with chunks in the segment; the
 * caller frees them. NULL when there are none, or, with *ret_count not 0, too little memory. */
uint64_t *chunkbook_commits_of(const struct chunkbook *book, const struct segment *segment,
                               uint32_t *ret_count);
