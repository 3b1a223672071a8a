/*
 * signed: DKIM in the simulated world: one Ed25519 key, and a receiver that verifies.
 *
 * Signatures by Ed25519 depend on key and digest alone, so the receiver works out the one that
 * there must be from what arrived. One thread.
 */
#pragma once

#include "core/conf/conf.h"
#include "core/mail/dkim_canon.h"
#include "net/sign.h"

/* Reads every key file as the same key. */
extern const struct conf_load_options signed_load_options;

/* What goes into a configuration so that all mail is signed, besides a domain-key. */
#define SIGNED_DOMAIN                                                                              \
    " dkim-sign yes\n dkim-algorithm ed25519-sha256\n dkim-identity @sender.test\n"                \
    " dkim-headers X-Sim-Number,Received\n dkim-add-body-limit yes\n"

/* A message as it arrives, line by line, dots unstuffed. Starts as zeros. */
struct signed_mail {
    bool in_body;
    size_t len;
    char header[4096];
    struct sign_hash hashes[2]; /* by enum dkim_canon */
    struct dkim_body bodies[2];
};

void signed_mail_put(struct signed_mail *mail, struct slice line);
/* Its first field is a signature. */
bool signed_mail_says_so(const struct signed_mail *mail);
/* It is all here: whether it has one signature, and that is right. */
bool signed_mail_is_good(struct signed_mail *mail);
