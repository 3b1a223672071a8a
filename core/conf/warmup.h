/*
 * warmup: `<warm-up>` sections: how many recipients a day may be tried from an address, or of a
 * sender's domain, that is being warmed up.
 *
 * A section is a row of caps, one for each step, that holds for the mail it fits. Sections are of
 * queues (scope provider,source-ip) or of messages (with sender-domain): the first one of the file
 * of each kind that fits counts. What a step is and when the next one comes is said by
 * shard/policy/warmup.h. Read-only, lives as long as the snapshot; any thread.
 */
#pragma once

#include "core/conf/limit.h"

#define CONF_WARMUPS_MAX      64u
#define CONF_WARMUP_STEPS_MAX 64u
#define CONF_WARMUP_NAME_MAX  64u /* octets */

/* What attempts are counted by. */
enum conf_warmup_scope {
    CONF_WARMUP_PROVIDER = 1 << 0,
    CONF_WARMUP_SOURCE_IP = 1 << 1,
    CONF_WARMUP_SENDER_DOMAIN = 1 << 2,
};

struct conf_warmup {
    struct conf_limit fits; /* name, file, line, and the mail that it is for */
    struct conf_limit senders;
    uint32_t scopes;
    uint64_t caps[CONF_WARMUP_STEPS_MAX]; /* recipients a day; the last one stays */
    uint32_t step_count;
    /* Hours for sending, as seconds of the day in warm-up-time-zone; both 0: all day, and nothing
     * is spread. */
    uint32_t from_s;
    uint32_t until_s;
    const char *schedule_text;
    const char *hours_text;
    const char *overflow_text;
    const uint32_t *overflow_ids; /* virtual MTAs that take what the day has no room for */
    uint32_t overflow_count;      /* 0 = it waits */
};

uint32_t conf_warmup_count(const struct conf *conf);
/* The section that a queue's mail is under (domain in lower case), or NULL. */
const struct conf_warmup *conf_warmup_of(const struct conf *conf, struct slice domain,
                                         uint32_t vmta_id);
/* Whether there is one that counts by the sender's domain. */
bool conf_warmup_counts_senders(const struct conf *conf);
/* The section that a message of that From domain (in lower case) is under besides, or NULL. */
const struct conf_warmup *conf_warmup_of_sender(const struct conf *conf, struct slice domain,
                                                uint32_t vmta_id, struct slice sender);
/* Where a queue's mail goes that its day has no room for: by the first section that says so, by
 * turns; vmta_id itself when it waits. */
uint32_t conf_warmup_overflow(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                              uint64_t turn);
/* The name of one that mail of the virtual MTA may be under and that overflows, or NULL. */
const char *conf_warmup_with_overflow(const struct conf *conf, uint32_t vmta_id);
/* NULL when there is none of that name. */
const struct conf_warmup *conf_warmup_named(const struct conf *conf, struct slice name);

/*
 * "50,100,200", or "start=50 factor=1.5 days=10", each step rounded down and at least one more than
 * the step before. 0 and the caps, or E_SYNTAX, or E_RANGE for too many, too large or falling ones
 * and for a cap of 0.
 */
int conf_warmup_schedule(struct slice text, uint64_t ret_caps[CONF_WARMUP_STEPS_MAX],
                         uint32_t *ret_count);
/* "8:00-20:00" or "8-20", at most until 24:00; 0, E_SYNTAX, or E_RANGE when nothing is between. */
int conf_warmup_hours(struct slice text, uint32_t *ret_from_s, uint32_t *ret_until_s);
