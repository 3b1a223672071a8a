/*
 * One connection: between the stream's octets and BoringSSL's records.
 *
 * The BIO is custom, not a pair of memory buffers: reading takes from the octets that the stream
 * is just handing over, writing goes into the room that the stream gives for its next send.
 * Outside of a send, output is held here and fetched by an encode without plain octets. Handshakes
 * advance only in decode (and begin in encode), so that on_secured always comes from the loop.
 * The queue of errors is per thread and shared by all connections: it is cleared before each call.
 */
#include "net/tls.h"

#include "core/base/hash.h"
#include "core/base/ipaddr.h"
#include "core/base/mem.h"
#include "net/tls_int.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#define HELD_BYTES_MIN 1024

/* ---- The BIO --------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *data, int len)
{
    struct tls *tls = BIO_get_data(bio);
    size_t take = tls->in_bytes < (size_t)len ? tls->in_bytes : (size_t)len;

    BIO_clear_retry_flags(bio);
    if (take == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(data, tls->in, take);
    tls->in += take;
    tls->in_bytes -= take;
    return (int)take;
}

static bool hold_room(struct tls *tls, size_t len)
{
    uint32_t room = tls->held_room > 0 ? tls->held_room : HELD_BYTES_MIN;
    uint8_t *held;

    if (tls->held_to + len <= tls->held_room)
        return true;
    while (room < tls->held_to + len)
        room *= 2;
    if (room > TLS_HELD_BYTES_MAX)
        return false;
    held = mem_try_grow(tls->held, room);
    if (held == NULL)
        return false;
    tls->held = held;
    tls->held_room = room;
    return true;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct tls *tls = BIO_get_data(bio);
    size_t take = (size_t)len;

    BIO_clear_retry_flags(bio);
    if (tls->out == NULL) {
        if (!hold_room(tls, take)) {
            BIO_set_retry_write(bio);
            return -1;
        }
        memcpy(tls->held + tls->held_to, data, take);
        tls->held_to += (uint32_t)take;
        return len;
    }
    if (take > tls->out_room - tls->out_used)
        take = tls->out_room - tls->out_used;
    if (take == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    memcpy(tls->out + tls->out_used, data, take);
    tls->out_used += take;
    return (int)take;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *tls_bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");

    if (method == NULL)
        return NULL;
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
    BIO_meth_set_create(method, bio_create);
    return method;
}

/* ---- Failure --------------------------------------------------------------------------------- */

static void note_failure(struct tls *tls)
{
    uint32_t error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    const char *text = ERR_reason_error_string(error);

    tls->has_failed = true;
    if (!tls->is_secured)
        tls->engine->stats.failures++;
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        text = tls->is_distrusted ? tls->failure
                                  : X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
        tls->is_distrusted = true;
    }
    tls->failure = text != NULL ? text : "protocol error";
}

/* What a call that made no progress means: 0, 1 for the peer's close-notify, or -EPROTO. */
static int judge(struct tls *tls, int result)
{
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_WANT_WRITE:
        /* More is held than a peer that reads could cause. */
        if (tls->out != NULL)
            return 0;
        tls->failure = "too much to say";
        tls->has_failed = true;
        return -EPROTO;
    case SSL_ERROR_ZERO_RETURN:
        return STREAM_ENDED;
    default:
        note_failure(tls);
        return -EPROTO;
    }
}

/* ---- Handshake ------------------------------------------------------------------------------- */

static bool may_step(struct tls_engine *engine)
{
    uint64_t now_ns = io_now_ns(engine->io);

    if (now_ns != engine->turn_ns) {
        engine->turn_ns = now_ns;
        engine->steps = 0;
    }
    if (engine->steps == TLS_STEPS_PER_TURN) {
        engine->stats.put_off++;
        return false;
    }
    engine->steps++;
    return true;
}

static void begin(struct tls *tls)
{
    SSL_SESSION *session =
        tls->session_key != 0 ? tls_session_take(tls->engine, tls->session_key) : NULL;

    tls->has_begun = true;
    if (session == NULL)
        return;
    SSL_set_session(tls->ssl, session);
    SSL_SESSION_free(session);
}

static int shake_hands(struct tls *tls)
{
    int result;

    if (!may_step(tls->engine))
        return STREAM_LATER;
    if (!tls->has_begun)
        begin(tls);
    ERR_clear_error();
    result = SSL_do_handshake(tls->ssl);
    if (result != 1)
        return judge(tls, result);
    tls->is_secured = true;
    if (tls->pardons && SSL_get_verify_result(tls->ssl) != X509_V_OK) {
        tls->failure = X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
        tls->is_distrusted = true;
    }
    tls->engine->stats.handshakes++;
    if (SSL_session_reused(tls->ssl))
        tls->engine->stats.resumed++;
    tls->events->on_secured(tls, tls->owner);
    return 0;
}

/* ---- The transform --------------------------------------------------------------------------- */

static int tls_decode(void *state, const uint8_t *wire, size_t wire_bytes, size_t *ret_used,
                      uint8_t *plain, size_t plain_room, size_t *ret_plain)
{
    struct tls *tls = state;
    int rc = 0;
    int count;

    if (tls->has_failed)
        return -EPROTO;
    tls->in = wire;
    tls->in_bytes = wire_bytes;
    if (!tls->is_secured) {
        rc = shake_hands(tls);
    } else {
        ERR_clear_error();
        count = SSL_read(tls->ssl, plain, (int)plain_room);
        if (count > 0)
            *ret_plain = (size_t)count;
        else
            rc = judge(tls, count);
    }
    *ret_used = wire_bytes - tls->in_bytes;
    tls->in = NULL;
    tls->in_bytes = 0;
    return rc;
}

/* What is held leaves first: true when nothing is left of it. */
static bool fetch_held(struct tls *tls)
{
    size_t take = tls->held_to - tls->held_from;

    if (take > tls->out_room)
        take = tls->out_room;
    if (take > 0)
        memcpy(tls->out, tls->held + tls->held_from, take);
    tls->out_used = take;
    tls->held_from += (uint32_t)take;
    if (tls->held_from < tls->held_to)
        return false;
    mem_free(tls->held);
    tls->held = NULL;
    tls->held_from = 0;
    tls->held_to = 0;
    tls->held_room = 0;
    return true;
}

/* BoringSSL's own words: the client's first flight. It only waits for an answer then. */
static int say_hello(struct tls *tls)
{
    int result;

    if (!may_step(tls->engine))
        return STREAM_LATER;
    begin(tls);
    ERR_clear_error();
    result = SSL_do_handshake(tls->ssl);
    must(result != 1);
    return judge(tls, result);
}

static int tls_encode(void *state, const uint8_t *plain, size_t plain_bytes, size_t *ret_used,
                      uint8_t *wire, size_t wire_room, size_t *ret_wire)
{
    struct tls *tls = state;
    int rc = 0;
    int count;

    tls->out = wire;
    tls->out_room = wire_room;
    if (fetch_held(tls) && !tls->has_failed) {
        if (!tls->is_server && !tls->has_begun) {
            rc = say_hello(tls);
        } else if (plain_bytes > 0 && tls->is_secured) {
            ERR_clear_error();
            count =
                SSL_write(tls->ssl, plain, plain_bytes > INT32_MAX ? INT32_MAX : (int)plain_bytes);
            if (count > 0)
                *ret_used = (size_t)count;
            else
                rc = judge(tls, count);
        }
    }
    *ret_wire = tls->out_used;
    tls->out = NULL;
    tls->out_used = 0;
    return rc;
}

static bool tls_has_output(const void *state)
{
    const struct tls *tls = state;

    return tls->held_to > tls->held_from ||
           (!tls->is_server && !tls->has_begun && !tls->has_failed);
}

static void tls_finish(void *state)
{
    struct tls *tls = state;

    if (!tls->is_secured || tls->has_failed || tls->is_finished)
        return;
    tls->is_finished = true;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
}

const struct stream_transform tls_transform = {
    .decode = tls_decode,
    .encode = tls_encode,
    .has_output = tls_has_output,
    .finish = tls_finish,
    .marks_end = true,
};

/* ---- Life ------------------------------------------------------------------------------------ */

/* Addresses are no names: RFC 6066 3 knows none in SNI. */
static bool set_name(struct tls *tls, const char *name, bool verifies)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
    struct ipaddr ip;

    if (ipaddr_parse(slice_str(name), &ip) == 0)
        return !verifies || X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    if (SSL_set_tlsext_host_name(tls->ssl, name) != 1)
        return false;
    return !verifies || X509_VERIFY_PARAM_set1_host(param, name, strlen(name)) == 1;
}

static bool prepare(struct tls *tls, const struct tls_context *context, const char *name)
{
    BIO *bio;

    tls->ssl = SSL_new(context->ssl);
    if (tls->ssl == NULL)
        return false;
    bio = BIO_new(tls->engine->method);
    if (bio == NULL)
        return false;
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_shed_handshake_config(tls->ssl, 1);
    if (context->verifies)
        X509_VERIFY_PARAM_set_time(SSL_get0_param(tls->ssl),
                                   (time_t)(io_wall_us(tls->engine->io) / 1000000));
    if (context->is_server) {
        SSL_set_accept_state(tls->ssl);
        return true;
    }
    SSL_set_connect_state(tls->ssl);
    return name == NULL || set_name(tls, name, context->verifies);
}

int tls_open(struct tls_context *context, const char *name, uint16_t port,
             const struct tls_events *events, void *owner, struct tls **ret_tls)
{
    struct tls *tls = mem_try_alloc(sizeof(*tls));

    if (tls == NULL)
        return -ENOMEM;
    tls->engine = context->engine;
    tls->events = events;
    tls->owner = owner;
    tls->is_server = context->is_server;
    tls->pardons = context->pardons;
    if (context->resumes && name != NULL)
        tls->session_key =
            hash_combine(hash_combine(context->key, hash_bytes_nocase(name, strlen(name))),
                         hash_u64(port)) |
            1;
    tls->engine->stats.open_count++;
    ERR_clear_error();
    if (!prepare(tls, context, name)) {
        tls_close(tls);
        return -ENOMEM;
    }
    *ret_tls = tls;
    return 0;
}

static enum ssl_verify_result_t ask_judge(SSL *ssl, uint8_t *ret_alert)
{
    struct tls *tls = SSL_get_app_data(ssl);
    const STACK_OF(CRYPTO_BUFFER) *shown = SSL_get0_peer_certificates(ssl);
    size_t shown_count = shown != NULL ? sk_CRYPTO_BUFFER_num(shown) : 0;
    struct slice chain[TLS_CHAIN_COUNT_MAX];
    uint32_t count = 0;

    for (; count < shown_count && count < TLS_CHAIN_COUNT_MAX; count++) {
        const CRYPTO_BUFFER *buffer = sk_CRYPTO_BUFFER_value(shown, count);

        chain[count] = slice_of(CRYPTO_BUFFER_data(buffer), CRYPTO_BUFFER_len(buffer));
    }
    tls->failure = tls->judge_chain(tls->judge_context, chain, count);
    tls->is_distrusted = tls->failure != NULL;
    /* What the judge asked of the library is no part of the handshake. */
    ERR_clear_error();
    if (!tls->is_distrusted)
        return ssl_verify_ok;
    *ret_alert = SSL_AD_BAD_CERTIFICATE;
    return ssl_verify_invalid;
}

void tls_set_judge(struct tls *tls,
                   const char *(*judge_chain)(void *context, const struct slice *chain,
                                              uint32_t count),
                   void *context)
{
    must(!tls->is_server && !tls->has_begun);
    tls->judge_chain = judge_chain;
    tls->judge_context = context;
    SSL_set_custom_verify(tls->ssl, SSL_VERIFY_PEER, ask_judge);
}

void tls_close(struct tls *tls)
{
    if (tls == NULL)
        return;
    ERR_clear_error();
    SSL_free(tls->ssl);
    tls->engine->stats.open_count--;
    mem_free(tls->held);
    mem_free(tls);
}

/* ---- What is known of it --------------------------------------------------------------------- */

bool tls_is_secured(const struct tls *tls)
{
    return tls->is_secured;
}

bool tls_is_resumed(const struct tls *tls)
{
    return tls->is_secured && SSL_session_reused(tls->ssl);
}

const char *tls_protocol(const struct tls *tls)
{
    return tls->is_secured ? SSL_get_version(tls->ssl) : "";
}

const char *tls_cipher(const struct tls *tls)
{
    const SSL_CIPHER *cipher = tls->is_secured ? SSL_get_current_cipher(tls->ssl) : NULL;

    return cipher != NULL ? SSL_CIPHER_standard_name(cipher) : "";
}

const char *tls_failure(const struct tls *tls)
{
    return tls->failure != NULL ? tls->failure : "";
}

bool tls_is_distrusted(const struct tls *tls)
{
    return tls->is_distrusted;
}

/* By the words: a judge says them too when the library has told it. */
enum tls_fault tls_fault(const struct tls *tls)
{
    static const struct {
        long code;
        enum tls_fault fault;
    } rows[] = {
        {X509_V_ERR_HOSTNAME_MISMATCH, TLS_FAULT_NAME},
        {X509_V_ERR_IP_ADDRESS_MISMATCH, TLS_FAULT_NAME},
        {X509_V_ERR_CERT_HAS_EXPIRED, TLS_FAULT_DATE},
        {X509_V_ERR_CERT_NOT_YET_VALID, TLS_FAULT_DATE},
        {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, TLS_FAULT_CHAIN},
        {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, TLS_FAULT_CHAIN},
        {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, TLS_FAULT_CHAIN},
        {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, TLS_FAULT_CHAIN},
        {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, TLS_FAULT_CHAIN},
        {X509_V_ERR_CERT_UNTRUSTED, TLS_FAULT_CHAIN},
        {X509_V_ERR_INVALID_CA, TLS_FAULT_CHAIN},
    };

    if (!tls->is_distrusted)
        return TLS_FAULT_NONE;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(tls_failure(tls), X509_verify_cert_error_string(rows[i].code)) == 0)
            return rows[i].fault;
    return TLS_FAULT_OTHER;
}

bool tls_peer_digest(const struct tls *tls, uint8_t ret_digest[TLS_DIGEST_BYTES])
{
    const STACK_OF(CRYPTO_BUFFER) *chain =
        tls->is_secured ? SSL_get0_peer_certificates(tls->ssl) : NULL;
    const CRYPTO_BUFFER *leaf;

    if (chain == NULL || sk_CRYPTO_BUFFER_num(chain) == 0)
        return false;
    leaf = sk_CRYPTO_BUFFER_value(chain, 0);
    SHA256(CRYPTO_BUFFER_data(leaf), CRYPTO_BUFFER_len(leaf), ret_digest);
    return true;
}
