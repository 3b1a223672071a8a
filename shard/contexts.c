#include "shard/contexts.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/shard_int.h"

#include <errno.h>

/* Of one snapshot, which seldom wants more than two. Beyond it the longest unused one goes. */
#define CONTEXTS_MAX 256

struct context {
    struct list link;
    struct context_terms terms;
    struct tls_context *context;
};

void contexts_init(struct shard *shard)
{
    list_init(&shard->contexts.list);
}

static void drop(struct contexts *contexts, struct context *context)
{
    list_remove(&context->link);
    contexts->count--;
    tls_context_free(context->context);
    mem_free(context);
}

void contexts_drop(struct shard *shard)
{
    struct contexts *contexts = &shard->contexts;

    while (!list_empty(&contexts->list))
        drop(contexts, container_of(contexts->list.next, struct context, link));
    contexts->has_failed = false;
}

void contexts_fini(struct shard *shard)
{
    contexts_drop(shard);
    tls_engine_destroy(shard->contexts.engine);
    shard->contexts.engine = NULL;
}

static bool is_same(const struct context_terms *a, const struct context_terms *b)
{
    bool is_same_ciphers = a->ciphers == b->ciphers ||
                           (a->ciphers && b->ciphers && strcmp(a->ciphers, b->ciphers) == 0);

    return is_same_ciphers && a->certificate == b->certificate &&
           a->authorities == b->authorities && a->versions == b->versions &&
           a->is_server == b->is_server && a->asks == b->asks && a->verifies == b->verifies &&
           a->pardons == b->pardons && a->resumes == b->resumes;
}

static int make(struct contexts *contexts, const struct context_terms *terms, char why[TLS_WHY_MAX],
                struct tls_context **ret_context)
{
    const struct tls_settings settings = {
        .is_server = terms->is_server,
        .asks = terms->asks,
        .verifies = terms->verifies,
        .pardons = terms->pardons,
        .resumes = terms->resumes,
        .versions = terms->versions,
        .ciphers = terms->ciphers,
        .certificate = terms->certificate ? terms->certificate->loaded : NULL,
        .authorities = terms->authorities ? terms->authorities->loaded : NULL,
    };

    return contexts->engine ? tls_context_create(contexts->engine, &settings, why, ret_context)
                            : -ENOMEM;
}

static struct context *add(struct shard *shard, const struct context_terms *terms)
{
    struct contexts *contexts = &shard->contexts;
    struct context *context;
    struct tls_context *made = NULL;
    char why[TLS_WHY_MAX] = "";
    int rc;

    if (!contexts->engine)
        contexts->engine = tls_engine_create(shard->io);
    rc = make(contexts, terms, why, &made);
    if (rc < 0) {
        if (!contexts->has_failed)
            log_error("TLS cannot be spoken: %s", why[0] ? why : err_text(rc));
        contexts->has_failed = true;
        return NULL;
    }
    if (contexts->count == CONTEXTS_MAX)
        drop(contexts, container_of(contexts->list.prev, struct context, link));
    context = mem_alloc(sizeof(*context));
    context->terms = *terms;
    context->context = made;
    contexts->count++;
    list_push_front(&contexts->list, &context->link);
    return context;
}

struct tls_context *contexts_get(struct shard *shard, const struct context_terms *terms)
{
    struct context *found = NULL;

    list_for_each (node, &shard->contexts.list) {
        struct context *context = container_of(node, struct context, link);

        if (is_same(&context->terms, terms)) {
            found = context;
            break;
        }
    }
    if (found) {
        list_remove(&found->link);
        list_push_front(&shard->contexts.list, &found->link);
    } else {
        found = add(shard, terms);
    }
    return found ? found->context : NULL;
}

void contexts_stats(const struct shard *shard, struct tls_stats *ret_stats)
{
    *ret_stats = (struct tls_stats){0};
    if (shard->contexts.engine)
        tls_stats_read(shard->contexts.engine, ret_stats);
}
