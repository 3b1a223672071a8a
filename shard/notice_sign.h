/*
 * notice_sign: DKIM signatures of mail that the shard writes itself, see signing.h; private to
 * notice.c.
 *
 * Such mail lies in one buffer: envelope, room for the signatures, content. Without a key, or
 * without memory, it goes unsigned, which the log says and show status counts: nobody is there who
 * could be refused. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* In front of the content, for the fields of all signatures. */
#define NOTICE_SIGN_ROOM 8192u

/* In its envelope, for what is known of them later. */
#define NOTICE_SIGN_RESERVE 128u

struct message;
struct notice;
struct shard;

/* envelope.signatures of such mail, encoded into room. */
struct slice notice_sign_reserve(uint32_t rcpt_count, uint8_t room[NOTICE_SIGN_RESERVE]);
/*
 * Chooses the signatures of notice->message and puts their fields, unfinished, into the room behind
 * the encoded envelope. content: behind that room. Returns the octets of the fields; 0 = it is not
 * signed and notice->signing is NULL, else notice_sign_make is to follow.
 */
uint32_t notice_sign_begin(struct shard *shard, struct notice *notice, struct slice content);
/* The message is complete: then() comes with it, from another turn. */
void notice_sign_make(struct notice *notice, void (*then)(struct shard *, struct notice *));
