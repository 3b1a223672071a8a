/*
 * sign_verify: whether a signature of somebody else's is right (RFC 6376 3.3, RFC 8463).
 *
 * The counterpart of net/sign.h, with keys as the DNS has them. Any thread; nothing waits.
 */
#pragma once

#include "net/sign.h"

/* key: SubjectPublicKeyInfo or PKCS#1 of RSA, or the 32 octets of Ed25519. 0; E_DAMAGED: it is not
 * the signature of that digest; E_SYNTAX: this is no key; E_RANGE: RSA below 1024 bits (RFC 8301
 * 3.2) or above 4096. */
int sign_verify(enum sign_kind kind, struct slice key, const uint8_t digest[SIGN_DIGEST_BYTES],
                struct slice signature);
