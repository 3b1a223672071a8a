/*
 * inject_int: what the files inject*.c share: a message between MAIL and its answer.
 *
 * Where settings of the source need to see the header, its octets are held back until it is
 * complete (inject_header.c); only then the message is routed, its envelope encoded and its content
 * begun. Without such settings content goes straight on.
 *
 * Content that fits into one chunk stays in memory and is appended whole. Of more, each chunk is
 * appended when it is full and more comes (inject_chunks.c), one at a time; when a further one is
 * full meanwhile, the client is not read. What is left at the end goes into the commit record.
 */
#pragma once

#include "core/mail/header_scan.h"
#include "queue/terms.h"
#include "shard/inject_check.h"
#include "shard/inject_sign.h"
#include "shard/inject_verify.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

/*
 * Chunks of a message in the making. Its buffers stand in order: [0, posted) were given to the log,
 * [posted, closed) are full chunks that wait for that, the rest is filling. Chunk 0 is in as many
 * buffers as the beginning of a message needs, every other one in one. Those given to the log stay
 * while the message may become a hot one, else they go when their append is answered.
 */
#define INTAKE_CHUNK_PARTS_MAX 8u

/* A message's octets are counted in 32 bits, in memory and in its envelope. */
#define MESSAGE_BYTES_MAX (2ull << 30)

struct intake_chunks {
    uint32_t octets_max; /* of a chunk */
    uint32_t filled;     /* octets in the one that fills */
    uint32_t durable;    /* buffers, like the two that follow */
    uint32_t posted;
    uint32_t closed;
    uint32_t count; /* durable chunks */
    bool is_out;    /* one, or the drop, is at the spool */
    bool is_held;   /* the asker was told to pause */
    bool is_finishing;
    bool is_first_out; /* the one at the spool is the first one, which was kept */
    uint32_t kept;     /* buffers of the first chunk, which waits for its signatures; 0 = none */
    bool is_over;      /* aborted or answered: what is durable is dropped */
    struct message_buffer table; /* u32 count, then entries; size 0 = none yet */
    intake_resume_fn *resume;
    uint32_t octets; /* of the one at the spool */
    uint32_t crc;
    struct log_request request;
    struct iovec payload[INTAKE_CHUNK_PARTS_MAX];
    uint8_t head[LOG_CHUNK_HEAD_BYTES];
};

/* The header while it is held back. */
struct intake_hold {
    bool is_on;
    bool is_ready; /* the header is complete, and waits for what is found out about its sender */
    struct header_edge edge;
    struct message_buffer octets; /* size 0 = none yet */
};

/* What the prefix has besides the trace line. */
enum intake_additions {
    INTAKE_ADD_VMTA = 1,
    INTAKE_ADD_MESSAGE_ID = 2,
    INTAKE_ADD_DATE = 4,
    INTAKE_ADD_FEEDBACK_ID = 8,
};

/* What inject_gate.c keeps of a message. */
struct intake_gate {
    struct gate_ask ask;
    struct gate_key base;       /* of source, job and Message-ID */
    struct message_buffer keys; /* of the recipients; size 0 = none */
    bool has_base;
    bool has_claim; /* to be settled */
    bool is_counted;
};

/* Why the header makes a message one that is not taken. */
struct intake_refusal {
    const char *text; /* constant; NULL = none */
    uint16_t code;
    uint8_t subject;
    uint8_t detail;
};

/* What is in the making between MAIL and the answer. Slab object; the message hangs on it. */
struct intake_message {
    struct shard *shard;
    struct message *message;
    struct conf_source source;
    intake_answer_fn *answer;
    void *asker;
    uint64_t cookie;
    uint32_t index;
    uint32_t rcpt_count;
    uint32_t reserved;
    int failure; /* of start_body, write or a chunk: the answer at finish */
    bool is_looping;
    bool is_header_done; /* loops were looked for while the header was held */
    bool is_esmtp;
    bool is_secured;
    bool is_finishing; /* the message is complete, and waits likewise */
    struct intake_body_facts facts;
    const char *user; /* who logged in, or NULL; lives as long as the process */
    struct intake_chunks chunks;
    struct intake_hold hold;
    struct signing *signing;      /* NULL = it is not signed */
    struct intake_check *check;   /* NULL = it is not checked */
    struct intake_verify *verify; /* NULL = its signatures are not verified */
    bool verifies;                /* they are, once the header is there */
    uint32_t results_bytes;       /* of our Authentication-Results field */
    struct intake_gate gate;
    struct intake_refusal refusal; /* with the failure E_REFUSED */
    const char *listener_source;   /* lives as long as the shard */
    struct slice type;             /* constant */
    uint64_t pattern_path;         /* what the pattern list says of the first recipient */
    struct slice sender;
    struct slice helo;
    struct slice envelope_id;
    struct slice job_id;     /* valid until the content has begun */
    struct slice headers;    /* likewise */
    struct slice terms;      /* encoded, likewise */
    struct slice signatures; /* likewise, with room for what is not known yet */
    unsigned additions;      /* enum intake_additions */
    uint64_t id;
    uint64_t wall_us; /* of the message's first octet */
    uint32_t vmta_id;
    uint32_t pool_id;
    uint32_t flags;
    uint8_t priority;
    struct ipaddr client_ip;
    struct ipaddr local_ip;
    char text[ADDRESS_PATH_MAX + 256 + 128]; /* sender, helo, envelope id */
};

/* RFC 5321 6.3: looks at what is in memory of the header. */
bool inject_is_looping(struct intake_message *intake);
/* All chunks are durable, or one failed: the commit record, or the answer that says no. */
void inject_finish_chunked(struct intake_message *intake);
void inject_free(struct intake_message *intake);

void inject_reply(struct intake_reply *reply, uint16_t code, uint8_t subject, uint8_t detail,
                  const char *text);
/* The source's settings in the newest snapshot, with its texts and lists. */
const struct conf_source *inject_source(const struct intake_message *intake);
/* The VMTA a message goes out by that names none: the source's pool in turn, its VMTA, or the one
 * of the local address, or {default}. */
void inject_choose_default(struct intake_message *intake);
/* The VMTA, or the pool's next one, of that name. False when there is none. */
bool inject_choose_named(struct intake_message *intake, struct slice name);
/* As intake_finish, when the signatures are there, or could not be. */
void inject_finish_signed(struct intake_message *intake);
/* Everything is found out about the sender. */
void inject_on_checked(struct intake_message *intake);
/* The keys of a complete message are there, or will not come. */
void inject_on_verified(struct intake_message *intake);
/* The route is known: the envelope is encoded and the prefix written. 0 or negative. */
int inject_begin_content(struct intake_message *intake);

/* inject_header.c: the header is held back */

/* As inject_chunks_write, while intake->hold.is_on. */
int inject_hold_write(struct intake_message *intake, const uint8_t *data, size_t len);
/* The message ended inside of its header, or its header waited: 0 or negative. */
int inject_hold_finish(struct intake_message *intake);
/* The header waits no more: as inject_chunks_write. */
int inject_hold_let_go(struct intake_message *intake);
void inject_hold_release(struct intake_message *intake);

/* It may be appended: nothing stands against it any more. */
void inject_append(struct intake_message *intake);
/* Answers, settles what was claimed, and ends the intake. */
void inject_answer(struct intake_message *intake, const struct intake_reply *reply);
/* Frees it, and what it has at the spool. */
void inject_end(struct intake_message *intake);

/* inject_gate.c */

/* The header is known, and the source has a dedup-window. */
void inject_gate_note(struct intake_message *intake, struct slice job_id, struct slice message_id);
/* The message is complete and the spool may have it: asks what must be asked, then inject_append or
 * an answer, now or later. */
void inject_gate_pass(struct intake_message *intake);
/* True when a question is out, or was answered, that ends the intake. */
bool inject_gate_settle(struct intake_message *intake, bool is_accepted);
/* Asks the gate where that hash has its place; the answer comes to ask->on_answer, now or later. */
void inject_gate_dispatch(struct shard *shard, struct gate_ask *ask, uint64_t hash);
void inject_gate_release(struct intake_message *intake);

/* inject_lists.c: only for sources that have lists */

/* Whether everybody may send to the address. */
bool inject_lists_relay(const struct intake_message *intake, struct slice rcpt);
/* Whether a recipient may be one of this message: 0, or negative with the reply. */
int inject_lists_rcpt(struct intake_message *intake, const struct address *rcpt,
                      struct intake_reply *ret_reply);
/* Whether the source has the address, however it is written, on a list of those that get no mail.
 */
bool inject_lists_suppress(const struct intake_message *intake, const struct address *rcpt);
/* Chooses the way out by the pattern list, and takes its priority. header and context as in
 * conf_pattern_question. False when no rule with a way matches. */
bool inject_lists_choose(struct intake_message *intake,
                         bool (*header)(void *context, struct slice name, struct slice *ret_value),
                         void *context);

/* inject_require.c */

/* Fields of a header that requirements are about; values of the first of each name. */
struct inject_fields {
    struct slice from;
    struct slice message_id;
    struct slice unsubscribe;
    struct slice unsubscribe_post;
    uint32_t from_count;
    uint32_t message_id_count;
};

/* Why the source's require-… settings refuse the message; NULL when they do not. Those that only
 * warn write a line to the log. */
const char *inject_require(const struct intake_message *intake, const struct conf_source *source,
                           const struct inject_fields *fields);

/* inject_terms.c */

/* What x-ringpost-set says. */
struct inject_settings {
    struct terms terms;
    struct slice way; /* in way_room; empty = it does not say */
    unsigned seen;    /* enum conf_message_setting: of several for one the first counts */
    uint8_t priority; /* if that was seen */
    char way_room[256];
};

/* Both: NULL, or why the message is refused. values: without folds; now_us: of acceptance.
 * inject_schedule_parse adds windows, and an expiry no later than their end, to *terms. */
const char *inject_schedule_parse(struct slice value, uint64_t now_us, struct terms *terms);
const char *inject_settings_parse(struct slice value, unsigned allowed, uint64_t now_us,
                                  struct inject_settings *settings);

/* inject_address.c */

/* The first recipient's address; while the content has not begun. */
struct slice inject_first_rcpt(const struct intake_message *intake);

/* Room for so many octets more in the recipients' buffer: 0 or E_FULL. */
int inject_rcpt_room(struct intake_message *intake, size_t bytes);
/* True when the address is one to be completed by domain-suffix: then *ret_address is that, with
 * its text in room[ADDRESS_PATH_MAX]. */
bool inject_qualify(const struct intake_message *intake, const struct address *address, char *room,
                    struct address *ret_address);
/* One recipient more: 0 or E_FULL. */
int inject_put_rcpt(struct intake_message *intake, const struct address *rcpt,
                    const struct intake_params *params);
/* The same, or those that the address is an alias of and that are on no suppression list: all of
 * them, or none with E_FULL. */
int inject_put_aliased(struct intake_message *intake, const struct address *rcpt,
                       const struct intake_params *params);
/* The sender with the first recipient in it, composed in room[ADDRESS_PATH_MAX]; the sender itself
 * where there is none or the result would be no address. */
struct slice inject_verp(const struct intake_message *intake, char *room);
/* The sender as the rewrite lists of the source and then of the virtual MTA have it, in these
 * rooms. */
void inject_rewrite(struct intake_message *intake, char *by_source, char *by_vmta,
                    size_t room_bytes);
/* The source's bcc, if it has one: 0 or E_FULL. */
int inject_put_bcc(struct intake_message *intake);

/* inject_notes.c */
void inject_note(void *taker, const struct intake_client *client, enum intake_note kind,
                 struct slice text);

/* inject_prefix.c */

/* Writes the lines that we put in front of the content: 0 or negative. */
int inject_prefix_write(struct intake_message *intake);
/* One line more: as inject_chunks_write. */
int inject_prefix_put(struct intake_message *intake, struct slice piece);

/* inject_chunks.c */

/* Takes octets of the content: 0, INTAKE_PAUSE or negative. */
int inject_chunks_write(struct intake_message *intake, const uint8_t *data, size_t len);
/* At least one chunk was begun: finish and free go through the functions below. */
static inline bool inject_is_chunked(const struct intake_message *intake)
{
    return intake->chunks.closed > 0;
}
/* The same for octets behind the header, which signatures are about too. */
int inject_body_write(struct intake_message *intake, const uint8_t *data, size_t len);
/* The end of the content: inject_finish_chunked follows, now or later. */
void inject_chunks_finish(struct intake_message *intake);
/* Fills message.append with the commit record. */
void inject_chunks_commit(struct intake_message *intake);
/* Nobody waits for the message any more: chunks are dropped, then all is freed. */
void inject_chunks_end(struct intake_message *intake);
/* It is committed: the chunks are the message's. */
void inject_chunks_release(struct intake_message *intake);
