/*
 * Engine, contexts, and sessions kept for resumption.
 */
#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "net/tls_int.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pool.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <sys/time.h>

/* ---- Engine ---------------------------------------------------------------------------------- */

struct tls_engine *tls_engine_create(struct io *io)
{
    struct tls_engine *engine = mem_try_alloc(sizeof(*engine));

    if (engine == NULL)
        return NULL;
    engine->io = io;
    engine->method = tls_bio_method();
    engine->pool = CRYPTO_BUFFER_POOL_new();
    if (engine->method != NULL && engine->pool != NULL)
        return engine;
    tls_engine_destroy(engine);
    return NULL;
}

void tls_engine_destroy(struct tls_engine *engine)
{
    if (engine == NULL)
        return;
    must(engine->stats.open_count == 0 && engine->context_count == 0);
    for (uint32_t i = 0; engine->kept != NULL && i < TLS_KEYS; i++)
        while (engine->kept[i].count > 0)
            SSL_SESSION_free(engine->kept[i].sessions[--engine->kept[i].count]);
    mem_free(engine->kept);
    if (engine->method != NULL)
        BIO_meth_free(engine->method);
    if (engine->pool != NULL)
        CRYPTO_BUFFER_POOL_free(engine->pool);
    mem_free(engine);
}

void tls_stats_read(const struct tls_engine *engine, struct tls_stats *ret_stats)
{
    *ret_stats = engine->stats;
}

/* ---- Kept sessions --------------------------------------------------------------------------- */

static void drop_last(struct tls_engine *engine, struct tls_kept *kept)
{
    kept->count--;
    engine->stats.session_count--;
}

SSL_SESSION *tls_session_take(struct tls_engine *engine, uint64_t key)
{
    struct tls_kept *kept = engine->kept != NULL ? &engine->kept[key % TLS_KEYS] : NULL;
    SSL_SESSION *session;

    if (kept == NULL || kept->key != key || kept->count == 0)
        return NULL;
    session = kept->sessions[kept->count - 1];
    if (SSL_SESSION_should_be_single_use(session))
        drop_last(engine, kept);
    else
        SSL_SESSION_up_ref(session);
    return session;
}

void tls_session_keep(struct tls_engine *engine, uint64_t key, SSL_SESSION *session)
{
    struct tls_kept *kept;

    if (engine->kept == NULL)
        engine->kept = mem_try_alloc(TLS_KEYS * sizeof(*engine->kept));
    if (engine->kept == NULL) {
        SSL_SESSION_free(session);
        return;
    }
    kept = &engine->kept[key % TLS_KEYS];
    /* Another destination's, or one that may be used again and again: one is enough. */
    while (kept->count > 0 && (kept->key != key || !SSL_SESSION_should_be_single_use(session))) {
        SSL_SESSION_free(kept->sessions[kept->count - 1]);
        drop_last(engine, kept);
    }
    if (kept->count == TLS_SESSIONS_PER_KEY) {
        SSL_SESSION_free(kept->sessions[0]);
        memmove(kept->sessions, kept->sessions + 1,
                (TLS_SESSIONS_PER_KEY - 1) * sizeof(kept->sessions[0]));
        drop_last(engine, kept);
    }
    kept->key = key;
    kept->sessions[kept->count++] = session;
    engine->stats.session_count++;
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = SSL_get_app_data(ssl);

    if (tls->session_key == 0)
        return 0;
    tls_session_keep(tls->engine, tls->session_key, session);
    return 1;
}

/* ---- Contexts -------------------------------------------------------------------------------- */

/* ssl is NULL where the age of a ticket key is looked at: ours do not age (set_ticket_keys). */
static void tell_time(const SSL *ssl, struct timeval *ret_now)
{
    const struct tls *tls = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    uint64_t now_us = tls != NULL ? io_wall_us(tls->engine->io) : 0;

    ret_now->tv_sec = (time_t)(now_us / 1000000);
    ret_now->tv_usec = (suseconds_t)(now_us % 1000000);
}

/* The peer may be whoever it is. */
static enum ssl_verify_result_t trust(SSL *ssl, uint8_t *ret_alert)
{
    return ssl_verify_ok;
}

static int use_certificate(SSL_CTX *ssl, const struct tls_certificate *certificate,
                           char why[TLS_WHY_MAX])
{
    for (size_t i = 0; i < sk_X509_num(certificate->chain); i++) {
        X509 *each = sk_X509_value(certificate->chain, i);

        if ((i == 0 ? SSL_CTX_use_certificate(ssl, each) : SSL_CTX_add1_chain_cert(ssl, each)) != 1)
            return tls_complain(why, "a certificate cannot be used");
    }
    if (certificate->key == NULL || SSL_CTX_use_PrivateKey(ssl, certificate->key) != 1)
        return tls_complain(why, "the private key cannot be used");
    return 0;
}

static int use_authorities(SSL_CTX *ssl, const struct tls_settings *settings)
{
    const struct tls_authorities *authorities = settings->authorities;

    must(authorities != NULL);
    X509_STORE_up_ref(authorities->store);
    SSL_CTX_set_cert_store(ssl, authorities->store);
    for (size_t i = 0; settings->is_server && i < sk_X509_num(authorities->list); i++) {
        if (SSL_CTX_add_client_CA(ssl, sk_X509_value(authorities->list, i)) != 1)
            return -ENOMEM;
    }
    return 0;
}

static bool set_versions(SSL_CTX *ssl, unsigned versions)
{
    static const uint16_t numbers[] = {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION,
                                       TLS1_3_VERSION};
    int newest = 3;
    int oldest;

    if (versions == 0)
        versions = TLS_VERSION_1_2 | TLS_VERSION_1_3;
    while (newest > 0 && (versions >> newest & 1) == 0)
        newest--;
    for (oldest = newest; oldest > 0 && (versions >> (oldest - 1) & 1) != 0;)
        oldest--;
    return SSL_CTX_set_min_proto_version(ssl, numbers[oldest]) == 1 &&
           SSL_CTX_set_max_proto_version(ssl, numbers[newest]) == 1;
}

/* Sessions are good for connections with the very same settings only. */
static uint64_t key_of(const struct tls_settings *settings)
{
    uint64_t key = hash_u64((uint64_t)settings->versions << 8 | (uint64_t)settings->pardons << 3 |
                            (uint64_t)settings->asks << 2 | (uint64_t)settings->verifies << 1 |
                            (uint64_t)settings->is_server);

    if (settings->certificate != NULL)
        key = hash_combine(key, settings->certificate->hash);
    if (settings->authorities != NULL)
        key = hash_combine(key, ~settings->authorities->hash);
    if (settings->ciphers != NULL)
        key = hash_combine(key, hash_bytes(settings->ciphers, strlen(settings->ciphers)));
    return key;
}

static pthread_once_t secret_once = PTHREAD_ONCE_INIT;
static uint8_t secret[32];

static void make_secret(void)
{
    RAND_bytes(secret, sizeof(secret));
}

/* The loops of a process take each other's tickets, under the same settings only (A11). The keys
 * live as long as the process. */
static bool set_ticket_keys(struct tls_context *context)
{
    uint8_t digest[SHA512_DIGEST_LENGTH];
    uint8_t keys[48];

    pthread_once(&secret_once, make_secret);
    if (SSL_CTX_get_tlsext_ticket_keys(context->ssl, NULL, 0) != sizeof(keys) ||
        HMAC(EVP_sha512(), secret, sizeof(secret), (const uint8_t *)&context->key,
             sizeof(context->key), digest, NULL) == NULL)
        return false;
    memcpy(keys, digest, sizeof(keys));
    return SSL_CTX_set_tlsext_ticket_keys(context->ssl, keys, sizeof(keys)) == 1;
}

static void set_sessions(struct tls_context *context)
{
    SSL_CTX *ssl = context->ssl;

    if (context->is_server) {
        if (!set_ticket_keys(context))
            SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_id_context(ssl, (const uint8_t *)&context->key, sizeof(context->key));
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets only */
    } else if (context->resumes) {
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ssl, on_new_session);
    } else {
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    }
}

static int fill(struct tls_context *context, const struct tls_settings *settings,
                char why[TLS_WHY_MAX])
{
    SSL_CTX *ssl = context->ssl;
    int rc = 0;

    SSL_CTX_set0_buffer_pool(ssl, context->engine->pool);
    SSL_CTX_set_current_time_cb(ssl, tell_time);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!set_versions(ssl, settings->versions))
        return tls_complain(why, "no such version of TLS");
    if (settings->ciphers != NULL && SSL_CTX_set_cipher_list(ssl, settings->ciphers) != 1)
        return tls_complain(why, "the list of cipher suites has none that is known");
    if (settings->certificate != NULL)
        rc = use_certificate(ssl, settings->certificate, why);
    else if (settings->is_server)
        return tls_complain(why, "a server needs a certificate");
    if (rc < 0)
        return rc;
    set_sessions(context);
    if (settings->verifies) {
        SSL_CTX_set_verify(ssl, settings->pardons ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
        return use_authorities(ssl, settings);
    }
    SSL_CTX_set_custom_verify(ssl, settings->asks ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, trust);
    return 0;
}

int tls_context_create(struct tls_engine *engine, const struct tls_settings *settings,
                       char why[TLS_WHY_MAX], struct tls_context **ret_context)
{
    /* Whoever looks into no certificate needs no parser of them. */
    bool has_x509 = settings->is_server || settings->verifies || settings->certificate != NULL;
    struct tls_context *context = mem_try_alloc(sizeof(*context));
    int rc = -ENOMEM;

    if (context == NULL)
        return -ENOMEM;
    ERR_clear_error();
    context->engine = engine;
    context->is_server = settings->is_server;
    context->verifies = settings->verifies;
    context->pardons = settings->pardons;
    context->resumes = settings->resumes && !settings->is_server;
    context->key = key_of(settings);
    context->ssl = SSL_CTX_new(has_x509 ? TLS_method() : TLS_with_buffers_method());
    engine->context_count++;
    if (context->ssl != NULL)
        rc = fill(context, settings, why);
    if (rc < 0) {
        tls_context_free(context);
        return rc;
    }
    *ret_context = context;
    return 0;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL)
        return;
    context->engine->context_count--;
    SSL_CTX_free(context->ssl);
    mem_free(context);
}
