/*
 * dsn_request: what mail clients ask for of delivery notices (RFC 3461), as parameters of MAIL and
 * RCPT: NOTIFY, ORCPT, ENVID.
 *
 * Parsed strictly: what could not be passed on as it came is refused. Texts are kept decoded,
 * printable ASCII, and encoded again where they leave. Pure functions, any thread.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/text.h"

#include <stdbool.h>

/* Four bits of a recipient; 0 = the client has said nothing. */
enum dsn_notify {
    DSN_NOTIFY_NEVER = 1,
    DSN_NOTIFY_SUCCESS = 2,
    DSN_NOTIFY_FAILURE = 4,
    DSN_NOTIFY_DELAY = 8,
};

/* RFC 3461 4.2 and 4.4: octets of the values of ORCPT and ENVID as they are said. */
#define DSN_REQUEST_ORCPT_MAX 500u
#define DSN_REQUEST_ENVID_MAX 100u

/* NEVER, or some of the others with commas between them, none twice. */
bool dsn_request_notify(struct slice value, uint8_t *ret_notify);
/* "type;xtext". room: DSN_REQUEST_ORCPT_MAX octets, which *ret_orcpt points into. */
bool dsn_request_orcpt(struct slice value, uint8_t *room, struct slice *ret_orcpt);
/* xtext. room: DSN_REQUEST_ENVID_MAX octets, which *ret_envid points into. */
bool dsn_request_envid(struct slice value, uint8_t *room, struct slice *ret_envid);

/* Parameters with a blank in front; nothing where there is nothing to say, or what there is cannot
 * be said (an ORCPT or ENVID of our own making that is no ASCII, or too long). */
void dsn_request_put_notify(struct text *text, uint8_t notify);
void dsn_request_put_orcpt(struct text *text, struct slice orcpt);
void dsn_request_put_envid(struct text *text, struct slice envid);
