#include "net/sign_verify.h"

#include "core/base/err.h"

#include <openssl/bytestring.h>
#include <openssl/curve25519.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>

#define RSA_BITS_MIN 1024u
#define RSA_BITS_MAX 4096u

/* In both forms that are met; the first is what everybody writes. */
static RSA *parse_rsa(struct slice key)
{
    EVP_PKEY *pkey;
    RSA *rsa = NULL;
    CBS cbs;

    CBS_init(&cbs, key.data, key.len);
    pkey = EVP_parse_public_key(&cbs);
    if (pkey && CBS_len(&cbs) == 0)
        rsa = EVP_PKEY_get1_RSA(pkey);
    EVP_PKEY_free(pkey);
    if (!rsa)
        rsa = RSA_public_key_from_bytes(key.data, key.len);
    ERR_clear_error();
    return rsa;
}

static int verify_rsa(struct slice key, const uint8_t digest[SIGN_DIGEST_BYTES],
                      struct slice signature)
{
    RSA *rsa = parse_rsa(key);
    unsigned bits = rsa ? RSA_bits(rsa) : 0;
    int result;

    if (!rsa)
        return E_SYNTAX;
    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        result = E_RANGE;
    else
        result =
            RSA_verify(NID_sha256, digest, SIGN_DIGEST_BYTES, signature.data, signature.len, rsa)
                ? 0
                : E_DAMAGED;
    ERR_clear_error();
    RSA_free(rsa);
    return result;
}

int sign_verify(enum sign_kind kind, struct slice key, const uint8_t digest[SIGN_DIGEST_BYTES],
                struct slice signature)
{
    if (kind == SIGN_RSA)
        return verify_rsa(key, digest, signature);
    if (key.len != ED25519_PUBLIC_KEY_LEN)
        return E_SYNTAX;
    return signature.len == ED25519_SIGNATURE_LEN &&
                   ED25519_verify(digest, SIGN_DIGEST_BYTES, signature.data, key.data)
               ? 0
               : E_DAMAGED;
}
