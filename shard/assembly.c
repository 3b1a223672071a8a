#include "shard/assembly.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/carrier.h"
#include "shard/guests.h"

/* Slots of the rings; what does not fit waits with its sender. */
#define SHARD_RING    1024
#define SPOOL_RING    4096
#define RESOLVER_RING 512
#define CONTROL_RING  64

struct assembly {
    struct assembly_options options;
    uint16_t count;
    struct io **loops;
    struct shard **shards;
    struct spool *spool;
    struct spool_report report;
    struct mailbox **mesh;     /* [from * count + to]; NULL on the diagonal */
    struct mailbox **mesh_in;  /* [to * count + from] */
    struct mailbox **to_spool; /* [count + 1]: the shards, then control */
    struct mailbox **from_spool;
    struct mailbox **questions; /* [count + 1]: the shards, then control, if there is one */
    struct mailbox **answers;
    struct mailbox **to_control;
    struct mailbox **from_control;
    struct mailbox **to_carrier; /* [count + 1]: the shards, then control */
    struct mailbox **from_carrier;
    struct carrier *carrier;
    struct io **all_loops;
    struct shard_load *loads;
    struct guests *guests;
    struct published published;
    int recover_result;
};

struct assembly *assembly_create(const struct assembly_options *options)
{
    struct assembly *assembly = mem_alloc(sizeof(*assembly));
    uint16_t count = options->shard_count;

    must(count >= 1 && count <= SHARD_COUNT_MAX);
    assembly->options = *options;
    assembly->count = count;
    atomic_init(&assembly->published.conf, conf_ref(options->conf));
    assembly->loops = mem_alloc(count * sizeof(struct io *));
    assembly->shards = mem_alloc(count * sizeof(struct shard *));
    assembly->all_loops = mem_alloc((count + 3u) * sizeof(struct io *));
    for (uint16_t i = 0; i < count; i++) {
        assembly->loops[i] = options->shard_loops[i];
        assembly->shards[i] = options->shards[i];
    }
    assembly->mesh = mem_alloc((size_t)count * count * sizeof(struct mailbox *));
    assembly->mesh_in = mem_alloc((size_t)count * count * sizeof(struct mailbox *));
    assembly->to_spool = mem_alloc((count + 1u) * sizeof(struct mailbox *));
    assembly->from_spool = mem_alloc((count + 1u) * sizeof(struct mailbox *));
    assembly->questions = mem_alloc((count + 1u) * sizeof(struct mailbox *));
    assembly->answers = mem_alloc((count + 1u) * sizeof(struct mailbox *));
    assembly->to_control = mem_alloc(count * sizeof(struct mailbox *));
    assembly->from_control = mem_alloc(count * sizeof(struct mailbox *));
    assembly->to_carrier = mem_alloc((count + 1u) * sizeof(struct mailbox *));
    assembly->from_carrier = mem_alloc(count * sizeof(struct mailbox *));
    assembly->loads =
        mem_alloc_aligned(count * sizeof(struct shard_load), alignof(struct shard_load));
    for (uint16_t i = 0; i < count; i++)
        atomic_init(&assembly->loads[i].session_count, 0);
    assembly->guests = mem_alloc_aligned(sizeof(struct guests), alignof(struct guests));
    return assembly;
}

/* ---- Recovery ---------------------------------------------------------------------------------
 */

static void on_message(void *context, const struct log_message_state *state)
{
    struct assembly *assembly = context;
    uint16_t home = shard_home_of(state->message_id, assembly->count);
    int result = shard_recover_message(assembly->shards[home], state);

    if (result < 0)
        assembly->recover_result = result;
}

static void on_named(void *context, const struct log_named *named)
{
    struct assembly *assembly = context;

    for (uint16_t i = 0; i < assembly->count; i++)
        shard_recover_named(assembly->shards[i], named);
}

static void on_damage(void *context, const char *file, uint64_t offset, const char *text)
{
    (void)context;
    log_error("spool: %s, offset %llu: %s", file, (unsigned long long)offset, text);
}

static void on_refusal(void *context, const char *path, const char *text)
{
    (void)context;
    log_error("spool %s: %s", path, text);
}

int assembly_recover(struct assembly *assembly, struct spool_report *ret_report)
{
    struct spool_recovery recovery = {
        .context = assembly,
        .on_message = on_message,
        .on_named = on_named,
        .on_damage = on_damage,
        .on_refusal = on_refusal,
    };
    int result = spool_open(assembly->options.committer_loop, assembly->options.spool, &recovery,
                            &assembly->spool, &assembly->report);

    if (result < 0)
        return result;
    *ret_report = assembly->report;
    return assembly->recover_result;
}

/* ---- Wiring -----------------------------------------------------------------------------------
 */

static void create_mailboxes(struct assembly *assembly)
{
    const struct assembly_options *options = &assembly->options;
    uint16_t count = assembly->count;

    for (uint16_t i = 0; i < count; i++) {
        struct io *loop = assembly->loops[i];

        for (uint16_t j = 0; j < count; j++) {
            struct mailbox *box =
                i == j ? NULL : mailbox_create(SHARD_RING, loop, assembly->loops[j]);

            assembly->mesh[i * count + j] = box;
            assembly->mesh_in[j * count + i] = box;
        }
        assembly->to_spool[i] = mailbox_create(SPOOL_RING, loop, options->committer_loop);
        assembly->from_spool[i] = mailbox_create(SPOOL_RING, options->committer_loop, loop);
        assembly->questions[i] = mailbox_create(RESOLVER_RING, loop, options->resolver_loop);
        assembly->answers[i] = mailbox_create(RESOLVER_RING, options->resolver_loop, loop);
        if (options->control_loop) {
            assembly->to_control[i] = mailbox_create(CONTROL_RING, loop, options->control_loop);
            assembly->from_control[i] = mailbox_create(CONTROL_RING, options->control_loop, loop);
        }
        if (options->carrier_loop) {
            assembly->to_carrier[i] = mailbox_create(CONTROL_RING, loop, options->carrier_loop);
            assembly->from_carrier[i] = mailbox_create(CONTROL_RING, options->carrier_loop, loop);
        }
    }
    if (options->carrier_loop)
        assembly->to_carrier[count] =
            mailbox_create(2, options->control_loop, options->carrier_loop);
    if (options->control) {
        assembly->questions[count] =
            mailbox_create(RESOLVER_RING, options->control_loop, options->resolver_loop);
        assembly->answers[count] =
            mailbox_create(RESOLVER_RING, options->resolver_loop, options->control_loop);
    }
    if (options->control_loop) {
        assembly->to_spool[count] =
            mailbox_create(CONTROL_RING, options->control_loop, options->committer_loop);
        assembly->from_spool[count] =
            mailbox_create(CONTROL_RING, options->committer_loop, options->control_loop);
    }
}

static void wire_control(struct assembly *assembly)
{
    const struct assembly_options *options = &assembly->options;
    uint16_t count = assembly->count;
    struct control_wiring wiring = {
        .spool = assembly->spool,
        .to_spool = assembly->to_spool[count],
        .from_spool = assembly->from_spool[count],
        .to_resolver = assembly->questions[count],
        .from_resolver = assembly->answers[count],
        .to_carrier = assembly->to_carrier[count],
        /* Control's way to a shard is the shard's way from control. */
        .to_shards = assembly->from_control,
        .from_shards = assembly->to_control,
        .loops = assembly->all_loops,
        .loop_count = count,
        .published = &assembly->published,
    };

    for (uint16_t i = 0; i < count; i++)
        assembly->all_loops[i] = assembly->loops[i];
    if (options->committer_loop != assembly->loops[0])
        assembly->all_loops[wiring.loop_count++] = options->committer_loop;
    assembly->all_loops[wiring.loop_count++] = options->control_loop;
    if (options->carrier_loop)
        assembly->all_loops[wiring.loop_count++] = options->carrier_loop;
    wiring.spool_client = spool_client_add(assembly->spool, assembly->to_spool[count],
                                           assembly->from_spool[count], false);
    control_wire(options->control, &wiring);
}

/* From a copy, so that the loop goes on as if nothing had been drawn. */
static void draw_site_key(const struct assembly *assembly, uint8_t key[SIPHASH_KEY_BYTES])
{
    struct rng rng = *io_rng(assembly->loops[0]);
    uint64_t words[SIPHASH_KEY_BYTES / sizeof(uint64_t)];

    rng_init(&rng, ~rng_u64(&rng));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        words[i] = rng_u64(&rng);
    memcpy(key, words, sizeof(words));
}

void assembly_wire(struct assembly *assembly)
{
    uint16_t count = assembly->count;
    uint8_t site_key[SIPHASH_KEY_BYTES];

    draw_site_key(assembly, site_key);
    create_mailboxes(assembly);
    for (uint16_t i = 0; i < count; i++) {
        struct shard_wiring wiring = {
            .spool = assembly->spool,
            .life = assembly->report.life,
            .to_spool = assembly->to_spool[i],
            .from_spool = assembly->from_spool[i],
            .to_resolver = assembly->questions[i],
            .from_resolver = assembly->answers[i],
            .to_control = assembly->to_control[i],
            .from_control = assembly->from_control[i],
            .to_carrier = assembly->to_carrier[i],
            .from_carrier = assembly->from_carrier[i],
            .to_shards = &assembly->mesh[i * count],
            .from_shards = &assembly->mesh_in[i * count],
            .loads = assembly->loads,
            .guests = assembly->guests,
            .published = &assembly->published,
        };

        memcpy(wiring.site_key, site_key, sizeof(site_key));
        wiring.spool_client =
            spool_client_add(assembly->spool, wiring.to_spool, wiring.from_spool, true);
        shard_wire(assembly->shards[i], &wiring);
    }
    if (assembly->options.control)
        wire_control(assembly);
    if (assembly->options.carrier_loop) {
        assembly->carrier = carrier_create(assembly->options.carrier_loop, assembly->from_carrier);
        carrier_wire(assembly->carrier, assembly->to_carrier, count, assembly->to_carrier[count]);
    }
}

struct spool *assembly_spool(const struct assembly *assembly)
{
    return assembly->spool;
}

struct published *assembly_published(struct assembly *assembly)
{
    return &assembly->published;
}

struct mailbox *const *assembly_to_shards(const struct assembly *assembly)
{
    return assembly->from_control;
}

struct mailbox *const *assembly_from_shards(const struct assembly *assembly)
{
    return assembly->to_control;
}

struct mailbox *const *assembly_questions(const struct assembly *assembly)
{
    return assembly->questions;
}

struct mailbox *const *assembly_answers(const struct assembly *assembly)
{
    return assembly->answers;
}

static void destroy_boxes(struct mailbox **boxes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (boxes[i])
            mailbox_destroy(boxes[i]);
    mem_free(boxes);
}

void assembly_destroy(struct assembly *assembly)
{
    if (!assembly)
        return;
    carrier_destroy(assembly->carrier);
    if (assembly->spool)
        spool_destroy(assembly->spool);
    destroy_boxes(assembly->mesh, (size_t)assembly->count * assembly->count);
    destroy_boxes(assembly->to_spool, assembly->count + 1u);
    destroy_boxes(assembly->from_spool, assembly->count + 1u);
    destroy_boxes(assembly->questions, assembly->count + 1u);
    destroy_boxes(assembly->answers, assembly->count + 1u);
    destroy_boxes(assembly->to_control, assembly->count);
    destroy_boxes(assembly->from_control, assembly->count);
    destroy_boxes(assembly->to_carrier, assembly->count + 1u);
    destroy_boxes(assembly->from_carrier, assembly->count);
    conf_unref(atomic_load_explicit(&assembly->published.conf, memory_order_relaxed));
    mem_free(assembly->mesh_in);
    mem_free(assembly->all_loops);
    mem_free(assembly->guests);
    mem_free(assembly->loads);
    mem_free(assembly->shards);
    mem_free(assembly->loops);
    mem_free(assembly);
}
