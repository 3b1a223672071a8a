/*
 * inject_check: what is found out about who hands a message in; private to inject*.c.
 *
 * SPF, the reverse name of the address, the sender's domain: asked when the message begins, so that
 * the answers come while the dialogue goes on. Its content waits for them, held back; the client is
 * not read meanwhile and nothing else waits. After CHECK_TIMEOUT_MS what has no answer is a
 * temporary error. Then the message is refused, or goes on with an Authentication-Results field
 * (RFC 8601) on top. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/text.h"
#include "core/mail/address.h"
#include "net/intake.h"
#include "net/spf.h"

#define CHECK_TIMEOUT_MS 20000u /* RFC 7208 4.6.4: at least 20 seconds */
#define CHECK_FIELD_MAX  8192u  /* octets of the field, more than its parts can make */
#define CHECK_COUNT_MAX  4096u  /* messages of a shard that are checked at once */

struct intake_message;
struct shard;

enum intake_check_kind {
    CHECK_SPF = 1,
    CHECK_IPREV = 2,
    CHECK_MFROM = 4,
};

/* Slab object; about 18 KB, for messages of sources with checks alone. */
struct intake_check {
    struct list link; /* among those that wait */
    struct intake_message *intake;
    struct io_timer timer;
    uint32_t index;
    unsigned wanted; /* enum intake_check_kind */
    unsigned open;   /* of these, not answered yet */
    bool is_null_sender;
    uint8_t domain_bytes;
    char domain[ADDRESS_DOMAIN_MAX]; /* of the sender, or of HELO */
    struct spf_check spf;
    struct spf_answer spf_answer;
    struct rdns rdns;
    enum rdns_result iprev;
    struct dns_lookup lookup; /* of the sender's domain */
    enum dns_type asked;
    enum spf_result mfrom; /* none, pass, fail or temperror */
};

/* Asks what the source wants to know. False when too many messages are being checked. */
bool inject_check_begin(struct intake_message *intake, const struct intake_client *client,
                        const struct address *sender);
/* Answers are still to come; inject_on_checked follows. */
bool inject_check_is_open(const struct intake_message *intake);
/* Why the answers make it a message that is not taken: E_REFUSED with the intake's refusal, or 0.
 */
int inject_check_judge(struct intake_message *intake);
/* The field, with its CRLF, in room, to be the next in the payload; empty where nothing is checked.
 */
struct slice inject_check_field(struct intake_message *intake, char room[CHECK_FIELD_MAX]);
/* RFC 8601 2.2: a token, or what is none between quotes. */
void inject_check_put_value(struct text *text, struct slice value);
/* Whether the value of an Authentication-Results field says that it is ours. */
bool inject_check_is_ours(const void *host_name, struct slice value);
void inject_check_release(struct intake_message *intake);
void inject_check_init(struct shard *shard);
void inject_check_fini(struct shard *shard);
