/*
 * overrides: keywords of queues that an operator has set for a time, in a file of the spool.
 *
 * The file is written anew as a whole, under another name, synced and renamed: a power cut leaves
 * the former list or the new one. Belongs to control and its thread; before control exists the
 * daemon reads it for the first snapshot. All calls are synchronous.
 */
#pragma once

#include "core/conf/conf.h"
#include "core/io/io.h"

#define OVERRIDES_MAX       1000u
#define OVERRIDE_TEXT_MAX   1024u /* of a value or a reason, with NUL */
#define OVERRIDE_NAMES_MAX  256u
#define OVERRIDE_ORIGIN_MAX (OVERRIDE_TEXT_MAX + 128)

struct override {
    uint32_t number;
    uint32_t uid; /* who asked */
    uint64_t since_us;
    uint64_t until_us;
    char domain[OVERRIDE_NAMES_MAX];
    char vmta[OVERRIDE_NAMES_MAX];
    char keyword[OVERRIDE_NAMES_MAX];
    char value[OVERRIDE_TEXT_MAX];
    char reason[OVERRIDE_TEXT_MAX];
};

struct overrides {
    struct io *io;
    char *directory;
    struct override **items; /* [count], by age */
    uint32_t count;
    uint32_t last_number;
};

/* Reads the list. directory: that of the spool, which may not be there yet. A list that cannot be
 * read is said in the log and counts as empty. */
void overrides_open(struct overrides *overrides, struct io *io, const char *directory);
void overrides_close(struct overrides *overrides);
/* A copy to be changed, which overrides_take puts in the place of the list or overrides_close
 * drops. */
void overrides_copy(const struct overrides *overrides, struct overrides *ret_copy);
void overrides_take(struct overrides *overrides, struct overrides *copy);
/* Replaces one of the same queue and keyword. E_FULL above the bound. number is filled in. */
int overrides_add(struct overrides *overrides, struct override *override);
/* Drops those of the queue ("*" as it was given), of this keyword unless it is empty; their number.
 */
uint32_t overrides_clear(struct overrides *overrides, const char *domain, const char *vmta,
                         const char *keyword);
/* Drops those that have ended; their number. */
uint32_t overrides_expire(struct overrides *overrides, uint64_t now_us);
/* Durable when it returns 0. */
int overrides_store(const struct overrides *overrides);
/* What stands for its file and line in a configuration: who, until when and why. */
void overrides_origin(const struct override *override, char room[OVERRIDE_ORIGIN_MAX]);
/* For a load; [count], in one block that is freed with mem_free. new_number: whose findings are
 * errors, or 0. NULL when there are none. */
struct conf_override *overrides_for_load(const struct overrides *overrides, uint32_t new_number);
