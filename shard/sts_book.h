/*
 * sts_book: which MTA-STS policies (RFC 8461) are known, how long they count, and what is to be
 * fetched.
 *
 * A policy counts until its max_age is over, whatever becomes of the DNS and of its host meanwhile;
 * STS_BOOK_RETRY_S at least, or hosts whose policies are over at once would be asked all the time.
 * It is fetched when the record in the DNS names a version that is not the known one, and anew
 * after a day or half of its time; after a failure not again within STS_BOOK_RETRY_S, or unasked
 * within STS_BOOK_AGAIN_S, so that dead hosts do not keep others from their turn. Bounded:
 * where there is no room, the domain asked for longest ago gives way, unless its policy is being
 * fetched.
 *
 * A value of its owner: one thread, no I/O. Times are arguments, in seconds of the wall clock since
 * 1970, because they outlive the process: sts_book_print and _load are for the file.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "net/sts.h"

#define STS_BOOK_RETRY_S  300u                /* RFC 8461 3.3 */
#define STS_BOOK_RENEW_S  86400u              /* RFC 8461 3.3, 10.2 */
#define STS_BOOK_AGAIN_S  3600u               /* what counts is not renewed again sooner */
#define STS_BOOK_UNUSED_S (30u * 86400u)      /* not fetched anew if nobody has asked for so long */
#define STS_BOOK_BYTES    (32u * 1024 * 1024) /* of all policies */
#define STS_BOOK_NAME_MAX 256u                /* of a domain, with NUL */
#define STS_BOOK_WHY_MAX  96u

enum sts_need {
    STS_NEED_NOTHING, /* what is known is all that there is */
    STS_NEED_FETCH,   /* sts_book_open, and who asks waits for its end */
    STS_NEED_WAIT,    /* for the end of the fetch that is under way */
};

struct sts_known {
    struct list link; /* by use, longest ago first */
    uint32_t index;
    uint32_t text_len;
    char *text; /* as sts_policy_print has it; NULL = no policy is known */
    enum sts_mode mode;
    bool is_open;       /* it is being fetched */
    uint64_t until_s;   /* the policy counts so long */
    uint64_t renew_s;   /* it is fetched anew then */
    uint64_t fetched_s; /* last time */
    uint64_t used_s;    /* last time that somebody asked */
    uint64_t retry_s;   /* the wanted version is not fetched before */
    uint64_t failed_s;  /* last time; 0 = not since it was fetched */
    char id[STS_ID_BYTES_MAX + 1];
    char wanted_id[STS_ID_BYTES_MAX + 1]; /* of the version that is, or was, to be fetched */
    char why[STS_BOOK_WHY_MAX];           /* failed_s: in words */
    char domain[STS_BOOK_NAME_MAX];
};

struct sts_book {
    struct slab slab;
    struct table table;
    struct list by_use;
    size_t text_bytes;
    bool is_changed; /* since it was printed, or loaded; the owner's to take back */
};

void sts_book_init(struct sts_book *book, uint32_t count_max);
void sts_book_fini(struct sts_book *book);
/* Somebody has mail for the domain. *ret_known: valid until the next call that makes one, and as
 * long as it is open; NULL = nothing is known. id: of STS_RECORD_FOUND. */
enum sts_need sts_book_ask(struct sts_book *book, struct slice domain, enum sts_record record,
                           struct slice id, uint64_t now_s, struct sts_known **ret_known);
static inline bool sts_known_counts(const struct sts_known *known, uint64_t now_s)
{
    return known->text != NULL && now_s < known->until_s;
}
void sts_book_open(struct sts_known *known);
/* What was fetched; 0, or as sts_policy_parse: it is no policy, and counts as a failure. */
int sts_book_take(struct sts_book *book, struct sts_known *known, struct slice text,
                  uint64_t now_s);
/* It could not be fetched. What is known goes on to count. */
void sts_book_fail(struct sts_known *known, struct slice why, uint64_t now_s);
/* One that is to be fetched anew, although nobody asks; NULL = there is none. */
struct sts_known *sts_book_due(const struct sts_book *book, uint64_t now_s);
struct sts_known *sts_book_find(const struct sts_book *book, struct slice domain);
/* All that counts, as text; of the heap. */
char *sts_book_print(const struct sts_book *book, uint64_t now_s, size_t *ret_len);
/* 0, or E_DAMAGED: what stands before the damage is taken. */
int sts_book_load(struct sts_book *book, struct slice text, uint64_t now_s);
