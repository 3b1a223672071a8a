/*
 * login: whether who says to be an <smtp-user> is one.
 *
 * A password in plain text is compared at once. Where some user's is hashed, every login takes as
 * many iterations as the dearest of them, known user or not, so that the time tells nothing; a
 * shard makes LOGIN_ITERATIONS_PER_TURN in a turn, for one login after the other, so that logins
 * never hold up its mail. CRAM-MD5 needs the password itself: who has a hash cannot use it.
 *
 * Where the source has smtp-max-auth-failure-rate, the gate (gate.h) is asked first whether the
 * client's address may try, and told of failures; attempts that are under way at the same time are
 * not counted yet. Belongs to the shard's thread. What a client said is wiped with the answer.
 */
#pragma once

#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/io.h"
#include "net/intake.h"

#define LOGIN_ITERATIONS_PER_TURN 1000u

struct conf_smtp_user;
struct conf_source;
struct shard;

struct login_desk {
    struct slab checks;
    struct list line; /* that need iterations, in order */
    struct io_timer timer;
};

void login_init(struct shard *shard);
/* Who still waits gets no answer. */
void login_fini(struct shard *shard);
/* What the user may inject counts in place of what the source says. */
void login_bound(const struct conf_smtp_user *user, struct conf_source *source);
/* As intake_ops.login. */
void login_ask(void *taker, const struct intake_client *client, const struct intake_login *login,
               intake_login_fn *answer, void *asker, uint64_t cookie);
