/*
 * signers: keeps the signing helpers running, one for each shard, where they are worth it.
 *
 * A thread of its own: it measures BoringSSL, starts the program ringpost-sign
 * from the folder that ringpostd is in, asks what that measured, and says in struct sign_service
 * for which kinds of keys helpers sign. What has ended is started again within a second. Nothing
 * runs while no mail is to be signed, or dkim-sign-with is `daemon`.
 */
#pragma once

#include "net/signer.h"

struct signers;

/* The memory and the sockets of shard_count helpers, before the threads run; nothing is started.
 * NULL, with a line logged, when there are none to be had: the daemon signs then. */
struct signers *signers_create(uint32_t shard_count);
struct sign_service *signers_service(struct signers *signers);
/* The thread: returns after signers_stop. */
void *signers_run(void *signers);
/* Any thread. */
void signers_stop(struct signers *signers);
