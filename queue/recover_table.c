#include "queue/recover_table.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "queue/terms.h"

#include <errno.h>
#include <stdlib.h>

void recover_table_init(struct recover_table *t)
{
    memset(t, 0, sizeof(*t));
    table_init(&t->by_id);
    table_init(&t->by_name);
    arena_init(&t->arena);
}

void recover_table_fini(struct recover_table *t)
{
    mem_free(t->messages);
    mem_free(t->rcpts);
    mem_free(t->names);
    table_fini(&t->by_id);
    table_fini(&t->by_name);
    arena_fini(&t->arena);
}

/* Makes room for `more` further items; doubles. */
static int grow(void **items, uint32_t *room, uint32_t count, uint32_t more, size_t item_bytes)
{
    uint64_t wanted = *room == 0 ? 256 : *room;
    void *larger;

    while (wanted < (uint64_t)count + more)
        wanted *= 2;
    if (wanted == *room)
        return 0;
    if (wanted > UINT32_MAX / 2)
        return -ENOMEM;
    larger = mem_try_alloc(wanted * item_bytes);
    if (larger == NULL)
        return -ENOMEM;
    if (count > 0)
        memcpy(larger, *items, count * item_bytes);
    mem_free(*items);
    *items = larger;
    *room = (uint32_t)wanted;
    return 0;
}

/* ---- Names --------------------------------------------------------------------------------- */

static bool name_matches(uint32_t value, const void *key, void *context)
{
    const struct recover_table *t = context;

    return slice_equal(t->names[value], *(const struct slice *)key);
}

static int name_of(struct recover_table *t, struct slice name, uint32_t *ret_index)
{
    uint64_t hash = hash_bytes(name.data, name.len);
    uint32_t index = table_find(&t->by_name, hash, name_matches, &name, t);
    int result;

    if (index == TABLE_NONE) {
        result = grow((void **)&t->names, &t->name_room, t->name_count, 1, sizeof(*t->names));
        if (result < 0)
            return result;
        index = t->name_count;
        t->names[index] = arena_copy(&t->arena, name);
        if (!table_insert(&t->by_name, hash, index))
            return -ENOMEM;
        t->name_count++;
    }
    *ret_index = index;
    return 0;
}

/* An empty name would mean "the same as before" when it is told; nothing goes to the root. */
static int domain_of(struct recover_table *t, const struct envelope_rcpt *rcpt, uint32_t *ret_index)
{
    struct slice host = envelope_rcpt_host(rcpt);

    if (host.len == 0 || host.len > UINT8_MAX)
        host = SLICE_LITERAL(".");
    return name_of(t, host, ret_index);
}

/* ---- Messages ------------------------------------------------------------------------------ */

static bool id_matches(uint32_t value, const void *key, void *context)
{
    const struct recover_table *t = context;

    return t->messages[value].id == *(const uint64_t *)key;
}

static struct recover_message *message_find(struct recover_table *t, uint64_t id)
{
    uint32_t index = table_find(&t->by_id, hash_u64(id), id_matches, &id, t);

    return index == TABLE_NONE ? NULL : &t->messages[index];
}

/* A new message with its recipients unknown yet. */
static int message_new(struct recover_table *t, uint64_t id, uint32_t rcpt_count,
                       struct recover_message **ret_message)
{
    struct recover_message *message;
    int result;

    result =
        grow((void **)&t->messages, &t->message_room, t->message_count, 1, sizeof(*t->messages));
    if (result == 0)
        result =
            grow((void **)&t->rcpts, &t->rcpt_room, t->rcpt_count, rcpt_count, sizeof(*t->rcpts));
    if (result < 0)
        return result;
    if (!table_insert(&t->by_id, hash_u64(id), t->message_count))
        return -ENOMEM;
    message = &t->messages[t->message_count++];
    message->id = id;
    message->rcpt_first = t->rcpt_count;
    message->rcpt_count = rcpt_count;
    memset(&t->rcpts[t->rcpt_count], 0, rcpt_count * sizeof(*t->rcpts));
    t->rcpt_count += rcpt_count;
    *ret_message = message;
    return 0;
}

static void place_take(struct recover_message *message, const struct log_place *place)
{
    message->serial = place->serial;
    message->offset = place->offset;
    message->bytes = place->bytes;
    message->large = place->large;
}

static void rcpt_take(struct recover_table *t, struct recover_message *message, uint32_t ordinal,
                      const struct log_state_rcpt *news)
{
    struct recover_rcpt *rcpt = &t->rcpts[message->rcpt_first + ordinal];

    must(ordinal < message->rcpt_count);
    if (rcpt->is_final)
        return;
    if (news->is_final) {
        rcpt->is_final = 1;
        message->final_count++;
        return;
    }
    if (news->attempts < rcpt->attempts)
        return;
    rcpt->attempts = news->attempts;
    rcpt->due_us = news->due_us;
}

int recover_table_message(struct recover_table *t, const struct envelope *envelope,
                          const struct log_place *place, bool is_relogged)
{
    struct recover_message *message = message_find(t, envelope->message_id);
    struct envelope_rcpt rcpt;
    struct wire_reader r;
    struct terms terms = {0};
    uint64_t due_us = 0;
    int result;

    if (message != NULL) {
        /* A copy of a message that was moved. Whether it got so far as to count, only a state
         * record can tell: the first copy is not given up before one is durable. */
        if (message->rcpt_count != envelope->rcpt_count)
            return E_DAMAGED;
        if (is_relogged && place->serial > message->serial)
            place_take(message, place);
        return 0;
    }
    result = message_new(t, envelope->message_id, envelope->rcpt_count, &message);
    if (result == 0)
        result = name_of(t, envelope->vmta, &message->vmta);
    if (result < 0)
        return result;
    message->accepted_us = envelope->accepted_us;
    message->flow = envelope_flow(envelope);
    message->priority = envelope_priority(envelope) & 0x7f;
    if (envelope->terms.len > 0 && terms_decode(envelope->terms, &terms) < 0)
        return E_DAMAGED;
    /* As the shard was told while the message was new. */
    if (terms.window_count > 0)
        due_us = terms_next_us(&terms, envelope->accepted_us);
    message->expires_s = (uint32_t)((terms.expires_us + 999999) / 1000000);
    place_take(message, place);
    wire_reader_init(&r, envelope->rcpts.data, envelope->rcpts.len);
    for (uint32_t i = 0; envelope_rcpt_next(&r, &rcpt); i++) {
        result = domain_of(t, &rcpt, &t->rcpts[message->rcpt_first + i].domain);
        if (result < 0)
            return result;
        t->rcpts[message->rcpt_first + i].due_us = due_us == TERMS_NEVER ? 0 : due_us;
    }
    return 0;
}

int recover_table_state(struct recover_table *t, const struct log_message_state *state)
{
    struct recover_message *message = message_find(t, state->message_id);
    struct log_state_rcpt rcpt;
    struct wire_reader r;
    uint32_t domain = TABLE_NONE;
    bool is_new = message == NULL;
    int result = 0;

    if (is_new)
        result = message_new(t, state->message_id, state->rcpt_count, &message);
    else if (message->rcpt_count != state->rcpt_count)
        return E_DAMAGED;
    if (result == 0)
        result = name_of(t, state->vmta, &message->vmta);
    if (result < 0)
        return result;
    message->accepted_us = state->accepted_us;
    message->flow = state->flow;
    message->priority = state->priority & 0x7f;
    message->expires_s = (uint32_t)((state->expires_us + 999999) / 1000000);
    place_take(message, &state->place);
    wire_reader_init(&r, state->rcpts.data, state->rcpts.len);
    for (uint32_t i = 0; log_state_rcpt_next(&r, &rcpt); i++) {
        if (rcpt.domain.len > 0)
            result = name_of(t, rcpt.domain, &domain);
        else if (domain == TABLE_NONE)
            result = name_of(t, SLICE_LITERAL("."), &domain);
        if (result < 0)
            return result;
        t->rcpts[message->rcpt_first + i].domain = domain;
        rcpt_take(t, message, i, &rcpt);
    }
    return 0;
}

int recover_table_outcome(struct recover_table *t, const struct outcome *outcome, bool is_done)
{
    struct recover_message *message = message_find(t, outcome->message_id);
    struct log_state_rcpt news = {.is_final = outcome_is_final(outcome),
                                  .attempts = outcome->attempts,
                                  .due_us = outcome->due_us};

    /* Of no message that is known: it was done before the checkpoint came to it. */
    if (message == NULL || outcome->kind == OUTCOME_RECEIVED)
        return 0;
    if (is_done)
        message->is_done = 1;
    if (outcome->rcpt_ordinal >= message->rcpt_count)
        return E_DAMAGED;
    rcpt_take(t, message, outcome->rcpt_ordinal, &news);
    return 0;
}

/* ---- Telling ------------------------------------------------------------------------------- */

static int by_place(const void *left, const void *right, void *context)
{
    const struct recover_table *t = context;
    const struct recover_message *a = &t->messages[*(const uint32_t *)left];
    const struct recover_message *b = &t->messages[*(const uint32_t *)right];

    if (a->serial != b->serial)
        return a->serial < b->serial ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

uint32_t *recover_table_sorted(const struct recover_table *t, uint32_t *ret_count)
{
    uint32_t count = 0;
    uint32_t *sorted;

    for (uint32_t i = 0; i < t->message_count; i++)
        count += recover_message_is_live(&t->messages[i]);
    *ret_count = count;
    if (count == 0)
        return NULL;
    sorted = mem_try_alloc(count * sizeof(*sorted));
    if (sorted == NULL)
        return NULL;
    count = 0;
    for (uint32_t i = 0; i < t->message_count; i++) {
        if (recover_message_is_live(&t->messages[i]))
            sorted[count++] = i;
    }
    qsort_r(sorted, count, sizeof(*sorted), by_place, (void *)t);
    return sorted;
}

size_t recover_table_rcpts_max(const struct recover_table *t, const struct recover_message *m)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < m->rcpt_count; i++)
        bytes += 12 + t->names[t->rcpts[m->rcpt_first + i].domain].len;
    return bytes;
}

void recover_table_rcpts_put(const struct recover_table *t, const struct recover_message *m,
                             struct wire_writer *w)
{
    uint32_t before = TABLE_NONE;

    for (uint32_t i = 0; i < m->rcpt_count; i++) {
        const struct recover_rcpt *rcpt = &t->rcpts[m->rcpt_first + i];
        struct log_state_rcpt state = {.domain = SLICE_EMPTY,
                                       .is_final = rcpt->is_final,
                                       .attempts = rcpt->attempts,
                                       .due_us = rcpt->due_us};

        if (rcpt->domain != before)
            state.domain = t->names[rcpt->domain];
        before = rcpt->domain;
        log_state_rcpt_put(w, &state);
    }
}
