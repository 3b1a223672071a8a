/*
 * tls_int: what the files of the TLS transform share; nobody else includes it.
 *
 * tls.c          one connection: handshake, records, alerts
 * tls_context.c  engine, contexts, kept sessions
 * tls_certificate.c  certificates, keys and authorities from PEM text and files
 */
#pragma once

#include "core/base/must.h"
#include "net/tls.h"

#include <openssl/ssl.h>

/* A full handshake is 0.2 to 0.5 ms of unbroken work: so many steps a turn, the rest waits. */
#define TLS_STEPS_PER_TURN 8
/* Held for the stream to fetch: a flight with a chain of certificates and then some. */
#define TLS_HELD_BYTES_MAX (256 * 1024)

/* TLS 1.3's sessions serve once, so a destination has a few. */
#define TLS_SESSIONS_PER_KEY 4
#define TLS_KEYS             1024 /* power of two; two that meet at one place replace each other */

struct tls_kept {
    uint64_t key;
    uint32_t count;
    SSL_SESSION *sessions[TLS_SESSIONS_PER_KEY];
};

struct tls_certificate {
    STACK_OF(X509) * chain; /* leaf first */
    EVP_PKEY *key;          /* NULL where none was needed */
    uint64_t hash;          /* of the text */
    uint8_t digest[TLS_DIGEST_BYTES];
};

struct tls_authorities {
    X509_STORE *store;
    STACK_OF(X509) * list;
    uint64_t hash;
};

struct tls_engine {
    struct io *io;
    BIO_METHOD *method;
    CRYPTO_BUFFER_POOL *pool; /* chains that many connections see are kept once */
    uint64_t turn_ns;         /* of the steps below */
    uint32_t steps;
    uint32_t context_count;
    struct tls_stats stats;
    struct tls_kept *kept; /* [TLS_KEYS] once there is one */
};

struct tls_context {
    struct tls_engine *engine;
    SSL_CTX *ssl;
    uint64_t key; /* of the settings: sessions of other ones are not taken up */
    bool is_server;
    bool verifies;
    bool pardons;
    bool resumes;
};

struct tls {
    struct tls_engine *engine;
    SSL *ssl;
    const struct tls_events *events;
    void *owner;
    uint64_t session_key; /* 0 = sessions are not kept */
    const uint8_t *in;    /* while octets are decoded */
    size_t in_bytes;
    uint8_t *out; /* while octets are encoded: where they go */
    size_t out_room;
    size_t out_used;
    uint8_t *held; /* said outside of that; NULL = nothing */
    uint32_t held_from;
    uint32_t held_to;
    uint32_t held_room;
    bool is_server;
    bool has_begun;
    bool is_secured;
    bool is_finished; /* our close-notify was said */
    bool has_failed;
    bool is_distrusted;
    bool pardons;
    const char *failure; /* static text, or NULL */
    const char *(*judge_chain)(void *context, const struct slice *chain,
                               uint32_t count); /* or NULL */
    void *judge_context;
};

/* tls_certificate.c: E_SYNTAX, with what is wrong and what the library says of it in why. */
int tls_complain(char why[TLS_WHY_MAX], const char *what);

/* tls_context.c */
/* The newest session kept for the key, with a reference for the caller; NULL when there is none. */
SSL_SESSION *tls_session_take(struct tls_engine *engine, uint64_t key);
/* Takes over the caller's reference. */
void tls_session_keep(struct tls_engine *engine, uint64_t key, SSL_SESSION *session);

/* tls.c */
BIO_METHOD *tls_bio_method(void);
