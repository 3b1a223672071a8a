/*
 * sign_ifma: verifies signatures of RSA-2048 where the processor has AVX-512 IFMA, in less than
 * half the time that the library takes.
 *
 * Every signature is verified before it leaves, so this is paid for every message. Only public
 * numbers are looked at: nothing here has to take the same time always. Any thread; nothing waits.
 */
#pragma once

#include "core/base/slice.h"

#include <openssl/rsa.h>

#define SIGN_IFMA_OCTETS 256u
#define SIGN_IFMA_LIMBS  40u /* of 52 bits each */

/* A public key, and what multiplications by its modulus need. */
struct sign_ifma_key {
    uint8_t octets[SIGN_IFMA_OCTETS];
    uint64_t modulus[SIGN_IFMA_LIMBS];
    uint64_t entry[SIGN_IFMA_LIMBS]; /* brings a number into Montgomery's form */
    uint64_t inverse;                /* -1 / modulus, modulo 2^52 */
};

/* NULL for a key of another size or another exponent than 65537, and for a processor that cannot do
 * it. mem_free it. */
struct sign_ifma_key *sign_ifma_key(const RSA *rsa);
/* Whether it is the signature (RSASSA-PKCS1-v1_5) of that SHA-256 digest. */
bool sign_ifma_verify(const struct sign_ifma_key *key, const uint8_t digest[32],
                      const uint8_t signature[SIGN_IFMA_OCTETS]);
