/*
 * signer: where a shard has its signatures made: in the daemon, or by a helper beside it.
 *
 * Two backends behind signer_ask: BoringSSL on the shard's own loop, a few signatures a turn,
 * always there; and the program ringpost-sign with another library, one for each shard, which works
 * while the loop goes on. Which of them signs is known for each kind of key: cmd/signers.c measures
 * both and keeps helpers running. A helper that dies, hangs or answers nonsense costs time and
 * nothing else: what it was asked for is signed here.
 *
 * Every signature is verified on the loop before the owner sees it, wherever it came from.
 *
 * Belongs to the loop's thread, but for struct sign_service, which says of each field who writes
 * it.
 */
#pragma once

#include "core/base/list.h"
#include "core/conf/dkim.h"
#include "core/io/io.h"
#include "net/sign.h"
#include "net/sign_ring.h"

#define SIGNER_JOBS_MAX 64u

/* One shard's helper, as its keeper and the shard see it. */
struct sign_helper {
    struct sign_ring *ring;
    int bell_fd;                /* the shard's end; the other one is the helper's */
    _Atomic uint32_t life;      /* the keeper's: 0 = none is running, else the number of its life */
    _Atomic uint32_t hung_life; /* the shard's: the life that does not answer */
    _Atomic uint32_t asked;     /* the shard's: as in the ring, out of the helper's reach */
};

/* Of the process. */
struct sign_service {
    _Atomic bool is_wanted; /* the shards': something is to be signed */
    _Atomic uint32_t with;  /* enum conf_sign_with; the first shard's */
    /* The keeper's from here on; rates are signatures a second of processor time, 0 = not known. */
    _Atomic bool helps[SIGN_RING_KINDS]; /* helpers sign for keys of that kind */
    _Atomic uint32_t daemon_rates[SIGN_RING_KINDS];
    _Atomic uint32_t helper_rates[SIGN_RING_KINDS];
    _Atomic uint32_t restarts; /* helpers that ended by themselves, or had to be ended */
    uint32_t helper_count;     /* set before the threads run */
    struct sign_helper *helpers;
};

struct signer;

/* done: job->status and, for 0, job->signature; the job is the signer's again when it returns. */
typedef void signer_done_fn(void *context, struct sign_job *job);

/* service, helper: NULL = there is none; they outlive the signer. */
struct signer *signer_create(struct io *io, struct sign_service *service,
                             struct sign_helper *helper, signer_done_fn *done, void *context);
void signer_destroy(struct signer *signer);
/* How many more jobs it takes now. */
uint32_t signer_room(const struct signer *signer);
/* Takes a job; done comes later, from signer_turn. The owner keeps the key until then. There must
 * be room. */
void signer_ask(struct signer *signer, struct sign_key *key,
                const uint8_t digest[SIGN_DIGEST_BYTES], void *owner, uint32_t index);
/* A turn's worth of signatures and verifications. */
void signer_turn(struct signer *signer);
/* There is work for another turn. */
bool signer_is_busy(const struct signer *signer);
/* A new configuration holds. Helpers forget keys, and read those that are used anew. */
void signer_adopt(struct signer *signer, uint32_t with);
/* Signatures that came from helpers. */
uint64_t signer_helped_count(const struct signer *signer);
