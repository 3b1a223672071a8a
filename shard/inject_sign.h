/*
 * inject_sign: DKIM signatures of a message that is being accepted, see signing.h; private to
 * inject*.c. The message waits for them between its last octet and its append. Belongs to the
 * shard's thread.
 */
#pragma once

#include "shard/signing.h"

struct intake_message;

/*
 * The content has begun with its prefix, and the header follows: held, but for the cuts. 0, or
 * negative as inject_chunks_write; E_REFUSED with the intake's refusal.
 */
int inject_sign_begin(struct intake_message *intake, struct slice held,
                      const struct header_facts *facts, const struct signing_wish *wish);
/* Octets behind the header. */
void inject_sign_body(struct intake_message *intake, const uint8_t *data, size_t len);
/* The message is complete: true when it waits, and inject_finish_signed follows. */
bool inject_sign_wait(struct intake_message *intake);
void inject_sign_release(struct intake_message *intake);
