#include "tests/unit/net/tls_paper.h"

#include "core/base/must.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define PAPERS_MAX 256

static EVP_PKEY *authority_key;
static X509 *authority;
/* The texts that were handed out. */
static BIO *papers[PAPERS_MAX];
static unsigned paper_count;

static EVP_PKEY *make_key(void)
{
    EC_KEY *curve = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();

    must(EC_KEY_generate_key(curve) == 1 && EVP_PKEY_assign_EC_KEY(key, curve) == 1);
    return key;
}

static void extend(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_nconf_nid(NULL, NULL, nid, value);

    must(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static X509 *make(const struct paper_wish *wish, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long number = 1;
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    char alternative[200];

    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), number++);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)wish->name, -1, -1, 0);
    X509_set_issuer_name(certificate, issuer != NULL ? X509_get_subject_name(issuer) : name);
    must(ASN1_TIME_set(X509_get_notBefore(certificate), wish->from_s) != NULL);
    must(ASN1_TIME_set(X509_get_notAfter(certificate), wish->until_s) != NULL);
    X509_set_pubkey(certificate, key);
    snprintf(alternative, sizeof(alternative), "DNS:%s", wish->name);
    extend(certificate, NID_subject_alt_name, alternative);
    extend(certificate, NID_basic_constraints, issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    must(X509_sign(certificate, issuer != NULL ? issuer_key : key, EVP_sha256()) > 0);
    return certificate;
}

static void have_authority(void)
{
    struct paper_wish wish = {.name = "authority.example", .until_s = 4000000000};

    if (authority != NULL)
        return;
    authority_key = make_key();
    authority = make(&wish, authority_key, NULL, NULL);
}

static struct slice text_of(BIO *bio)
{
    const uint8_t *data;
    size_t len;

    must(paper_count < PAPERS_MAX);
    papers[paper_count++] = bio;
    must(BIO_mem_contents(bio, &data, &len) == 1);
    return slice_of(data, len);
}

struct slice paper_authority(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    have_authority();
    must(PEM_write_bio_X509(bio, authority) == 1);
    return text_of(bio);
}

struct slice paper_make(const struct paper_wish *wish)
{
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *key = make_key();
    X509 *certificate;

    have_authority();
    certificate = wish->is_self_signed ? make(wish, key, NULL, NULL)
                                       : make(wish, key, authority, authority_key);
    must(PEM_write_bio_X509(bio, certificate) == 1);
    must(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return text_of(bio);
}

void paper_end(void)
{
    while (paper_count > 0)
        BIO_free(papers[--paper_count]);
    X509_free(authority);
    EVP_PKEY_free(authority_key);
    authority = NULL;
    authority_key = NULL;
}
