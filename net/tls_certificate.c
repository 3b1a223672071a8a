/*
 * Certificates, keys and authorities: from PEM text, and from the files that a configuration
 * names. Files are read at start and reload only, never in a loop's turn.
 */
#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/conf/certificate.h"
#include "net/tls_int.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (4u << 20) /* a system's whole set of authorities has a quarter of that */

int tls_complain(char why[TLS_WHY_MAX], const char *what)
{
    uint32_t error = ERR_peek_last_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;

    snprintf(why, TLS_WHY_MAX, "%s%s%s", what, reason != NULL ? ": " : "",
             reason != NULL ? reason : "");
    ERR_clear_error();
    return E_SYNTAX;
}

/* ---- Text ------------------------------------------------------------------------------------ */

static int give_password(char *room, int room_bytes, int is_for_writing, void *context)
{
    const char *password = context;
    size_t len = password != NULL ? strlen(password) : 0;

    if (len > (size_t)room_bytes)
        return 0;
    memcpy(room, password != NULL ? password : "", len);
    return (int)len;
}

/* All certificates of the text; NULL when memory is short. */
static STACK_OF(X509) * parse_chain(struct slice pem)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    X509 *each;

    while (bio != NULL && chain != NULL &&
           (each = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_push(chain, each) > 0)
            continue;
        X509_free(each);
        break;
    }
    BIO_free(bio);
    return chain;
}

static bool has_text(struct slice pem, const char *text)
{
    return pem.len > 0 && memmem(pem.data, pem.len, text, strlen(text)) != NULL;
}

static int take_key(struct tls_certificate *certificate, struct slice pem, const char *password,
                    char why[TLS_WHY_MAX])
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);

    ERR_clear_error();
    if (bio == NULL)
        return -ENOMEM;
    certificate->key =
        PEM_read_bio_PrivateKey(bio, NULL, give_password, (void *)(uintptr_t)password);
    BIO_free(bio);
    if (certificate->key == NULL && has_text(pem, "ENCRYPTED"))
        return tls_complain(why, password != NULL ? "the password is not that of the private key"
                                                  : "the private key needs a password");
    if (certificate->key == NULL)
        return tls_complain(why, "there is no private key in it");
    if (!X509_check_private_key(sk_X509_value(certificate->chain, 0), certificate->key))
        return tls_complain(why, "the private key does not belong to the first certificate");
    return 0;
}

static int fill(struct tls_certificate *certificate, struct slice pem, const char *password,
                bool needs_key, char why[TLS_WHY_MAX])
{
    ERR_clear_error();
    certificate->hash = hash_bytes(pem.data, pem.len);
    certificate->chain = parse_chain(pem);
    if (certificate->chain == NULL)
        return -ENOMEM;
    if (sk_X509_num(certificate->chain) == 0)
        return tls_complain(why, "there is no certificate in it");
    if (!X509_digest(sk_X509_value(certificate->chain, 0), EVP_sha256(), certificate->digest, NULL))
        return -ENOMEM;
    return needs_key ? take_key(certificate, pem, password, why) : 0;
}

int tls_certificate_parse(struct slice pem, const char *password, bool needs_key,
                          struct tls_certificate **ret_certificate, char why[TLS_WHY_MAX])
{
    struct tls_certificate *certificate = mem_try_alloc(sizeof(*certificate));
    int rc = -ENOMEM;

    if (certificate != NULL)
        rc = fill(certificate, pem, password, needs_key, why);
    ERR_clear_error();
    if (rc < 0) {
        tls_certificate_free(certificate);
        return rc;
    }
    *ret_certificate = certificate;
    return 0;
}

void tls_certificate_free(struct tls_certificate *certificate)
{
    if (certificate == NULL)
        return;
    sk_X509_pop_free(certificate->chain, X509_free);
    EVP_PKEY_free(certificate->key);
    mem_free(certificate);
}

const uint8_t *tls_certificate_digest(const struct tls_certificate *certificate)
{
    return certificate->digest;
}

static int gather(struct tls_authorities *authorities, struct slice pem, char why[TLS_WHY_MAX])
{
    ERR_clear_error();
    authorities->hash = hash_bytes(pem.data, pem.len);
    authorities->list = parse_chain(pem);
    authorities->store = X509_STORE_new();
    if (authorities->list == NULL || authorities->store == NULL)
        return -ENOMEM;
    if (sk_X509_num(authorities->list) == 0)
        return tls_complain(why, "there is no certificate of an authority in it");
    for (size_t i = 0; i < sk_X509_num(authorities->list); i++) {
        if (X509_STORE_add_cert(authorities->store, sk_X509_value(authorities->list, i)) != 1)
            return -ENOMEM;
    }
    return 0;
}

int tls_authorities_parse(struct slice pem, struct tls_authorities **ret_authorities,
                          char why[TLS_WHY_MAX])
{
    struct tls_authorities *authorities = mem_try_alloc(sizeof(*authorities));
    int rc = authorities != NULL ? gather(authorities, pem, why) : -ENOMEM;

    ERR_clear_error();
    if (rc < 0) {
        tls_authorities_free(authorities);
        return rc;
    }
    *ret_authorities = authorities;
    return 0;
}

void tls_authorities_free(struct tls_authorities *authorities)
{
    if (authorities == NULL)
        return;
    X509_STORE_free(authorities->store);
    sk_X509_pop_free(authorities->list, X509_free);
    mem_free(authorities);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static int fail(int code, const char *text, char why[TLS_WHY_MAX])
{
    snprintf(why, TLS_WHY_MAX, "%s", text);
    return code;
}

static int read_octets(int fd, uint8_t *room, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t got = read(fd, room + used, size - used);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return E_CUT_OFF;
        used += (size_t)got;
    }
    return 0;
}

/* 0 and the file's octets, for free_text. */
static int read_text(const char *path, struct slice *ret_text, char why[TLS_WHY_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat facts;
    uint8_t *room;
    int rc = fd >= 0 && fstat(fd, &facts) == 0 ? 0 : -errno;

    if (rc < 0 || !S_ISREG(facts.st_mode) || facts.st_size > FILE_BYTES_MAX) {
        if (fd >= 0)
            close(fd);
        return rc < 0 ? fail(rc, err_text(rc), why)
                      : fail(E_REFUSED, "it is no regular file of at most 4 MB", why);
    }
    room = mem_alloc((size_t)facts.st_size + 1);
    rc = read_octets(fd, room, (size_t)facts.st_size);
    close(fd);
    *ret_text = slice_of(room, (size_t)facts.st_size);
    return rc < 0 ? fail(rc, err_text(rc), why) : 0;
}

/* There may be a key in it. */
static void free_text(struct slice text)
{
    uint8_t *room = (uint8_t *)(uintptr_t)text.data;

    OPENSSL_cleanse(room, text.len);
    mem_free(room);
}

static int load_certificate(const char *path, const char *password, bool needs_key,
                            void **ret_loaded, char why[CONF_KEY_WHY_MAX])
{
    struct tls_certificate *certificate = NULL;
    struct slice text = {0};
    int rc = read_text(path, &text, why);

    if (rc == 0)
        rc = tls_certificate_parse(text, password, needs_key, &certificate, why);
    free_text(text);
    *ret_loaded = certificate;
    return rc;
}

static int load_authorities(const char *path, void **ret_loaded, char why[CONF_KEY_WHY_MAX])
{
    struct tls_authorities *authorities = NULL;
    struct slice text = {0};
    int rc = read_text(path, &text, why);

    if (rc == 0)
        rc = tls_authorities_parse(text, &authorities, why);
    free_text(text);
    *ret_loaded = authorities;
    return rc;
}

static int check_ciphers(const char *ciphers, char why[CONF_KEY_WHY_MAX])
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_with_buffers_method());
    int rc = 0;

    if (ssl == NULL)
        return -ENOMEM;
    ERR_clear_error();
    if (SSL_CTX_set_cipher_list(ssl, ciphers) != 1)
        rc = tls_complain(why, "none of these cipher suites is known");
    SSL_CTX_free(ssl);
    return rc;
}

static const uint8_t *digest_of(const void *loaded)
{
    return tls_certificate_digest(loaded);
}

static void drop_certificate(void *loaded)
{
    tls_certificate_free(loaded);
}

static void drop_authorities(void *loaded)
{
    tls_authorities_free(loaded);
}

const struct conf_tls_ops tls_conf_ops = {
    .load_certificate = load_certificate,
    .load_authorities = load_authorities,
    .check_ciphers = check_ciphers,
    .digest_of = digest_of,
    .drop_certificate = drop_certificate,
    .drop_authorities = drop_authorities,
};
