/*
 * fake_intake: a taker of messages that records what it was given and answers as told.
 *
 * Every message that came to finish() is kept with envelope and body. Each call can be made to
 * refuse. It checks the order of calls that net/intake.h promises and stops the test when it is
 * broken.
 */
#pragma once

#include "net/intake.h"

struct io;
struct smtpd;

#define FAKE_RCPT_COUNT_MAX    128
#define FAKE_MESSAGE_COUNT_MAX 64

enum fake_step {
    FAKE_ADMIT,
    FAKE_BEGIN,
    FAKE_RCPT,
    FAKE_START_BODY,
    FAKE_WRITE,
    FAKE_FINISH,
    FAKE_STEP_COUNT,
};

struct fake_message {
    char sender[320];
    char rcpts[FAKE_RCPT_COUNT_MAX][320];
    char hosts[FAKE_RCPT_COUNT_MAX][256];
    uint32_t rcpt_count;
    char helo[256];
    const char *user; /* NULL = nobody */
    bool esmtp;
    bool smtputf8;
    bool body_8bitmime;
    uint64_t size_bytes;
    uint8_t *body;
    size_t body_bytes;
    struct intake_body_facts facts;
};

struct fake_intake {
    struct conf_source source;
    struct conf_source source_of_users; /* of "u", whose password is "p" */
    uint64_t logins;                    /* asked for */
    struct intake_tls tls;              /* nothing, until the test says so */
    /* code 0 in a refusal that is switched on means: close without a reply. */
    bool refuses[FAKE_STEP_COUNT];
    struct intake_reply refusals[FAKE_STEP_COUNT];
    bool hold_answers; /* until fake_answer */
    bool keep_bodies;
    uint64_t pause_octets; /* a message pauses its client after so many since it began or was
                            * resumed; 0 = never */

    struct fake_message messages[FAKE_MESSAGE_COUNT_MAX]; /* finished ones, in order */
    uint32_t message_count;
    uint64_t begun;
    uint64_t aborted;
    uint64_t finished;
    uint64_t written_octets;
    uint64_t write_calls;
    uint64_t octets_in_pause_max; /* written while a message had asked for a pause */
    uint32_t pauses;
    uint32_t admitted_now;
    struct fake_open *open;  /* messages that are being built */
    struct fake_open *spare; /* one kept, so that a steady flow allocates nothing */

    intake_answer_fn *answer;
    void *asker;
    uint64_t cookies[FAKE_MESSAGE_COUNT_MAX];
    uint32_t waiting; /* answers held back */
    intake_resume_fn *resume;
    void *resume_asker;
    uint64_t resume_cookie; /* of the message whose body began last */
};

extern const struct intake_ops fake_intake_ops;

/* Settings of a trusting source: everything allowed, 10 MB, 100 recipients, 300 s and 180 s. */
void fake_intake_init(struct fake_intake *fake);
/* Frees what was recorded; nothing may be open any more. */
void fake_intake_fini(struct fake_intake *fake);
void fake_refuse(struct fake_intake *fake, enum fake_step step, uint16_t code, uint8_t class,
                 uint8_t subject, uint8_t detail, const char *text);
/* Resumes the message whose body began last, or what has become of it. */
void fake_resume(struct fake_intake *fake);
/* Answers the oldest message that waits. */
void fake_answer(struct fake_intake *fake, uint16_t code);
