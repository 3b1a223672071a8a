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
 * Never: early data, renegotiation, SSLv3, files but through tls_conf_ops, the clock of the system
 * (validity is judged at the loop's). Each connection and record costs allocations of
 * BoringSSL's own, which core/base/mem does not count.
 */
#pragma once

#include "core/base/slice.h"
#include "core/io/io.h"
#include "net/stream.h"

struct conf_tls_ops;
struct tls;
struct tls_authorities;
struct tls_certificate;
struct tls_context;
struct tls_engine;

#define TLS_WHY_MAX         160
#define TLS_DIGEST_BYTES    32 /* SHA-256 */
#define TLS_CHAIN_COUNT_MAX 16

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

/* ---- Certificates and authorities ------------------------------------------------------------ */

/*
 * A chain, leaf first, and its key; or whom to trust. Made once and read-only then: any thread,
 * and contexts keep what they need of them. PEM; password: of the key, NULL = none. 0; or E_SYNTAX
 * with a text in why, -ENOMEM. The key's octets are zeroed with the last one who has it.
 */
int tls_certificate_parse(struct slice pem, const char *password, bool needs_key,
                          struct tls_certificate **ret_certificate, char why[TLS_WHY_MAX]);
/* NULL is fine for both. */
void tls_certificate_free(struct tls_certificate *certificate);
void tls_authorities_free(struct tls_authorities *authorities);
int tls_authorities_parse(struct slice pem, struct tls_authorities **ret_authorities,
                          char why[TLS_WHY_MAX]);
/* Of the leaf: SHA-256 of its DER. */
const uint8_t *tls_certificate_digest(const struct tls_certificate *certificate);

/* Files, for conf_load; what it loads is a struct tls_certificate or tls_authorities. */
extern const struct conf_tls_ops tls_conf_ops;

/* ---- Contexts ------------------------------------------------------------------------------ */

enum tls_version {
    TLS_VERSION_1_0 = 1,
    TLS_VERSION_1_1 = 2,
    TLS_VERSION_1_2 = 4,
    TLS_VERSION_1_3 = 8,
};

/* Nothing of it is needed any more once a context is made. */
struct tls_settings {
    bool is_server;
    bool asks;     /* server: clients for a certificate, whichever it is; see tls_peer_digest */
    bool verifies; /* client: chain, dates and name of the server. Server: of clients that show a
                      certificate, which they are asked for then. */
    bool pardons;  /* client, with verifies: TLS goes on, and tls_fault says what was found wrong */
    bool resumes;  /* client: keeps sessions and takes them up again */
    /* Bits; 0 = 1.2 and 1.3. TLS has no gaps: of several the run that ends with the newest. */
    unsigned versions;
    const char *ciphers; /* OpenSSL's language, for 1.2 and older; NULL = the library's */
    const struct tls_certificate *certificate; /* NULL = none */
    const struct tls_authorities *authorities; /* needed with verifies */
};

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
/*
 * Before the handshake, of a client: the chain is judged by the owner alone, who says NULL, or in
 * static words what is wrong with it. For a context that neither verifies nor resumes. The chain is
 * DER, leaf first, at most TLS_CHAIN_COUNT_MAX certificates, and valid during the call.
 */
void tls_set_judge(struct tls *tls,
                   const char *(*judge_chain)(void *context, const struct slice *chain,
                                              uint32_t count),
                   void *context);
/* After the stream's on_closed. NULL is fine. */
void tls_close(struct tls *tls);

extern const struct stream_transform tls_transform;

bool tls_is_secured(const struct tls *tls);
bool tls_is_resumed(const struct tls *tls);
/* "TLSv1.3" and "TLS_AES_128_GCM_SHA256" (IANA's name); static storage; "" before it is secured. */
const char *tls_protocol(const struct tls *tls);
const char *tls_cipher(const struct tls *tls);
/* Why it failed, in words, or what was pardoned; else "". Lives as long as the connection. */
const char *tls_failure(const struct tls *tls);
/* Whether it failed because of the peer's certificate. */
bool tls_is_distrusted(const struct tls *tls);
/* What is wrong with a certificate for which it failed, as far as the library's words tell. */
enum tls_fault {
    TLS_FAULT_NONE,  /* it did not fail for a certificate */
    TLS_FAULT_NAME,  /* it is for somebody else */
    TLS_FAULT_DATE,  /* it is over, or has not begun */
    TLS_FAULT_CHAIN, /* nobody who is trusted has signed it */
    TLS_FAULT_OTHER,
};
enum tls_fault tls_fault(const struct tls *tls);
/* The digest of the certificate that the peer has shown; false when it has shown none. */
bool tls_peer_digest(const struct tls *tls, uint8_t ret_digest[TLS_DIGEST_BYTES]);
