/*
 * author: the domain that a message speaks for: that of its From address (RFC 5322 3.6.2).
 *
 * Found by reading the header of a message that is in memory, as far as it is there. Where From has
 * not exactly one address, and of a message whose content is not in memory yet (one larger than a
 * chunk), it is the domain of the envelope's sender. Pure; any thread; no limits of its own.
 */
#pragma once

#include "core/base/slice.h"

struct message;

#define AUTHOR_BYTES_MAX 255u

/* The one address of a From or Sender field (its value; RFC 5322 3.6.2, one mailbox), or empty. */
struct slice author_mailbox(struct slice from);
/* The domain of a From field's one address (its value), or empty. */
struct slice author_of_from(struct slice from);
/* In lower case, cut after AUTHOR_BYTES_MAX octets; the bytes are in room. Empty when there is
 * neither. */
struct slice author_of(const struct message *message, uint8_t room[AUTHOR_BYTES_MAX]);
