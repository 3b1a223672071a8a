/*
 * tls: a transform over the net stream that speaks TLS (RFC 5246, RFC 8446) with BoringSSL.
 *
 * Three things, all of one loop and its thread: an engine (how many handshake steps a turn may
 * take, sessions for resumption), contexts (what one policy wants: role, versions, ciphers,
 * certificates, whom to trust) and one struct tls for each connection. BoringSSL reads straight
 * from the octets that the loop received and writes straight into what the stream sends next, so
 * that a flight, or several records, leave in one send; it keeps no buffer of an idle connection.
 * What it wants to say outside of a send of the owner's (handshake, alerts, close-notify) is held
 * here until the stream fetches it.
 *
 * Never: early data, renegotiation, SSLv3, files (certificates come as PEM text), the clock of the
 * system (validity is judged at the loop's). Each connection and record costs allocations of
 * BoringSSL's own, which core/base/mem does not count.
 */
#pragma once

#include "core/base/slice.h"
#include "core/io/io.h"
#include "net/stream.h"

struct tls;
struct tls_context;
struct tls_engine;

/* ---- Engine -------------------------------------------------------------------------------- */

/* NULL when there is no memory. */
struct tls_engine *tls_engine_create(struct io *io);
/* No connection and no context of it may be left; NULL is fine. */
void tls_engine_destroy(struct tls_engine *engine);

struct tls_stats {
    uint64_t handshakes; /* completed, both roles */
    uint64_t resumed;    /* of these, without certificates */
    uint64_t failures;
    uint64_t put_off; /* steps that waited for a later turn */
    uint32_t open_count;
    uint32_t session_count; /* kept for resumption */
};

void tls_stats_read(const struct tls_engine *engine, struct tls_stats *ret_stats);

/* ---- Contexts ------------------------------------------------------------------------------ */

enum tls_version {
    TLS_VERSION_1_0 = 1,
    TLS_VERSION_1_1 = 2,
    TLS_VERSION_1_2 = 4,
    TLS_VERSION_1_3 = 8,
};

/* Texts are copied. */
struct tls_settings {
    bool is_server;
    bool verifies; /* client: chain, dates and name of the server. Server: of clients that show a
                      certificate, which they are asked for then. */
    bool resumes;  /* client: keeps sessions and takes them up again */
    /* Bits; 0 = 1.2 and 1.3. TLS has no gaps: of several the run that ends with the newest. */
    unsigned versions;
    const char *ciphers;      /* OpenSSL's language, for 1.2 and older; NULL = the library's */
    struct slice certificate; /* PEM: the chain, leaf first, and its key; empty = none */
    const char *password;     /* of the key; NULL = none */
    struct slice authorities; /* PEM: whom to trust; needed with verifies */
};

#define TLS_WHY_MAX 160

/* 0; E_SYNTAX with a text in why (what of the settings is no good); -ENOMEM. */
int tls_context_create(struct tls_engine *engine, const struct tls_settings *settings,
                       char why[TLS_WHY_MAX], struct tls_context **ret_context);
/* Connections keep what they need of it. NULL is fine. */
void tls_context_free(struct tls_context *context);

/* ---- Connections --------------------------------------------------------------------------- */

struct tls_events {
    /* The handshake is done. Called while received octets are handled; the owner may send and close
     * from inside. That it failed is told by the stream's on_end with -EPROTO. */
    void (*on_secured)(struct tls *tls, void *owner);
};

/*
 * A connection's state, for stream_set_transform(…, &tls_transform, tls). name: the server's, for
 * SNI, verification and resumption; NULL for none (no SNI, and nothing verifies) and for servers.
 * port: part of what a kept session is good for. 0, or -ENOMEM.
 */
int tls_open(struct tls_context *context, const char *name, uint16_t port,
             const struct tls_events *events, void *owner, struct tls **ret_tls);
/* After the stream's on_closed. NULL is fine. */
void tls_close(struct tls *tls);

extern const struct stream_transform tls_transform;

bool tls_is_secured(const struct tls *tls);
bool tls_is_resumed(const struct tls *tls);
/* "TLSv1.3" and "TLS_AES_128_GCM_SHA256" (IANA's name); static storage; "" before it is secured. */
const char *tls_protocol(const struct tls *tls);
const char *tls_cipher(const struct tls *tls);
/* Why it failed, in words; "" when it did not. Lives as long as the connection. */
const char *tls_failure(const struct tls *tls);
/* Whether it failed because of the peer's certificate. */
bool tls_is_distrusted(const struct tls *tls);
