/*
 * certificate: the certificates, keys and authorities that a configuration names.
 *
 * core knows no cryptography: who loads a configuration brings the functions that read the files,
 * and the snapshot holds what they return until it is freed; no text of a key is kept here. Each
 * file is read once for a snapshot, whoever names it, so that equal pointers are equal files.
 * Without the functions, and where only the syntax counts, no file is opened and `loaded` is NULL.
 * Read-only like the snapshot; any thread.
 */
#pragma once

#include "core/conf/dkim.h"

#include <stdint.h>

#define CONF_DIGEST_BYTES 32 /* SHA-256 */

/* FILE [PASSWORD]: a chain, leaf first, and its key. */
struct conf_certificate {
    const char *path;
    void *loaded; /* of conf_tls_ops */
};

/* FILE: whom to trust. */
struct conf_authorities {
    const char *path;
    void *loaded;
};

struct conf_tls_ops {
    /* 0, or negative and the reason. */
    int (*load_certificate)(const char *path, const char *password, bool needs_key,
                            void **ret_loaded, char why[CONF_KEY_WHY_MAX]);
    int (*load_authorities)(const char *path, void **ret_loaded, char why[CONF_KEY_WHY_MAX]);
    int (*check_ciphers)(const char *ciphers, char why[CONF_KEY_WHY_MAX]);
    /* Of the certificate itself, CONF_DIGEST_BYTES. */
    const uint8_t *(*digest_of)(const void *loaded);
    void (*drop_certificate)(void *loaded);
    void (*drop_authorities)(void *loaded);
};

/* Versions of TLS, as bits in the order of their age; net/tls.h counts the same way. */
enum conf_tls_version {
    CONF_TLS_1_0 = 1,
    CONF_TLS_1_1 = 2,
    CONF_TLS_1_2 = 4,
    CONF_TLS_1_3 = 8,
};
