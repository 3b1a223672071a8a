/*
 * contexts: TLS in one shard: its engine, and the contexts for what the current snapshot says.
 *
 * A context is made when the first connection wants it and serves all with equal terms until the
 * snapshot goes; connections keep theirs. Terms point into the snapshot, which reads each file
 * once, so that equal pointers are equal files. The loop's thread; nothing waits: files were read
 * when the configuration was loaded. No connection is told why there is no context, the log is.
 */
#pragma once

#include "core/conf/conf.h"
#include "net/tls.h"

struct shard;

struct contexts {
    struct tls_engine *engine; /* NULL until somebody wants a context */
    struct list list;          /* the one used last first */
    uint32_t count;
    bool has_failed; /* and the log has it */
};

/* What is wanted; as struct tls_settings has it. Zeros first: terms are compared field by field. */
struct context_terms {
    const struct conf_certificate *certificate;
    const struct conf_authorities *authorities; /* with verifies */
    const char *ciphers;
    uint32_t versions;
    bool is_server;
    bool asks;
    bool verifies;
    bool pardons;
    bool resumes;
};

void contexts_init(struct shard *shard);
/* All connections have gone. */
void contexts_fini(struct shard *shard);
/* The snapshot, or the one before, goes. */
void contexts_drop(struct shard *shard);
/* For a connection that opens now (tls_open), not to be kept. NULL when there can be none. */
struct tls_context *contexts_get(struct shard *shard, const struct context_terms *terms);
void contexts_stats(const struct shard *shard, struct tls_stats *ret_stats);
