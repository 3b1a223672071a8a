/*
 * DKIM keys and their records: what the DNS has of them, which new ones wait for theirs.
 *
 * At the start and with each reload, what is new is looked up in the background, and the log says
 * what is not there. A key that waits (conf_keys_hold) is looked for now and then; once its record
 * is there the running texts are applied anew, without the wait. The verb looks things up itself,
 * and what it finds counts in the same way.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/control_int.h"
#include "shard/key_check.h"

#include <stdio.h>

#define CACHE_COUNT_MAX 4096u
#define IN_FLIGHT_MAX   64u
#define FACTS_MAX       (1u << 20)
#define LINES_MAX       20u /* of the log, each time */
#define LOOK_AGAIN_NS   60000000000ull
#define LOOK_TIMEOUT_MS 600000u
#define VERB_TIMEOUT_MS 60000u

/* What was found out last about a key of the running configuration. */
struct key_fact {
    uint64_t id;
    uint8_t record; /* enum dkim_record */
    bool is_known;  /* it was looked up once */
    bool is_used;   /* while the configuration is walked */
};

/* ---- Facts ----------------------------------------------------------------------------------- */

static bool fact_matches(uint32_t value, const void *key, void *context)
{
    const struct key_fact *fact = slab_at(context, value);

    return fact->id == *(const uint64_t *)key;
}

static struct key_fact *find_fact(struct control_keys *keys, uint64_t id)
{
    uint32_t index = table_find(&keys->by_id, id, fact_matches, &id, &keys->facts);

    return index != TABLE_NONE ? slab_at(&keys->facts, index) : NULL;
}

/* NULL when there is no room: then nothing is known of the key. */
static struct key_fact *obtain_fact(struct control_keys *keys, uint64_t id)
{
    struct key_fact *fact = find_fact(keys, id);
    uint32_t index;

    if (fact != NULL)
        return fact;
    fact = slab_alloc(&keys->facts, &index);
    if (fact == NULL)
        return NULL;
    if (!table_insert(&keys->by_id, id, index)) {
        slab_free(&keys->facts, index);
        return NULL;
    }
    fact->id = id;
    return fact;
}

static bool is_seen(void *context, const struct conf_domain_key *key)
{
    struct control *control = context;
    const struct key_fact *fact = find_fact(&control->keys, key_check_id(key));

    return fact != NULL && fact->is_known && fact->record == DKIM_RECORD_MATCHES;
}

/* Facts about keys that are no more. */
static void sweep(struct control_keys *keys)
{
    uint32_t cursor = 0, index;

    while ((index = table_next(&keys->by_id, &cursor)) != TABLE_NONE) {
        struct key_fact *fact = slab_at(&keys->facts, index);

        if (!fact->is_used) {
            table_remove(&keys->by_id, fact->id, index);
            slab_free(&keys->facts, index);
        }
    }
}

static void unmark(struct control_keys *keys)
{
    uint32_t cursor = 0, index;

    while ((index = table_next(&keys->by_id, &cursor)) != TABLE_NONE)
        ((struct key_fact *)slab_at(&keys->facts, index))->is_used = false;
}

/* ---- Walks over the configuration ------------------------------------------------------------ */

struct key_walk {
    const struct conf_key_place *place;
    const struct conf_domain_key *key;
    uint32_t next;
};

static bool walk_next(struct key_walk *walk)
{
    while (walk->place != NULL && walk->next == walk->place->keys.count) {
        walk->place = walk->place->next;
        walk->next = 0;
    }
    if (walk->place == NULL)
        return false;
    walk->key = &walk->place->keys.items[walk->next++];
    return true;
}

static struct key_walk walk_of(const struct conf *conf)
{
    return (struct key_walk){.place = conf_key_places(conf)};
}

/* ---- The background -------------------------------------------------------------------------- */

static void name_key(const struct key_row *row, char *room, size_t room_bytes)
{
    snprintf(room, room_bytes, "%s,%s%s%s", row->selector, row->domain, row->place[0] ? " of " : "",
             row->place);
}

static void warn_of(const struct key_row *row)
{
    char name[1024];

    name_key(row, name, sizeof(name));
    log_warn("DKIM: key %s: the record %s._domainkey.%s is %s: %s%s%s%s", name, row->selector,
             row->domain, dkim_record_name(row->record), row->why, row->before ? "; " : "",
             row->before ? row->before : "", row->before ? " signs until it is there" : "");
}

/* What a check has found; returns how many of these keys were looked at again in vain. */
static void note(struct control *control, struct key_check *check, bool is_told)
{
    struct control_keys *keys = &control->keys;
    uint32_t count, told = 0, silent = 0;
    const struct key_row *rows = key_check_rows(check, &count);

    for (uint32_t i = 0; i < count; i++) {
        const struct key_row *row = &rows[i];
        struct key_fact *fact = find_fact(keys, row->id);
        bool is_news = fact != NULL && (!fact->is_known || fact->record != row->record);

        if (fact == NULL)
            continue;
        fact->is_known = true;
        fact->record = (uint8_t)row->record;
        if (row->record == DKIM_RECORD_MATCHES || !is_told || !is_news)
            continue;
        if (told++ < LINES_MAX)
            warn_of(row);
        else
            silent++;
    }
    if (silent > 0)
        log_warn("DKIM: the same of %u more keys; ringpost check dkim lists them", silent);
    keys->is_noted = true;
}

static void on_looked(struct key_check *check, void *context)
{
    struct control *control = context;

    note(control, check, true);
    control->keys.look = NULL;
    key_check_free(check);
}

/* Whether the key is to be looked up now: it is new, it waits, or it could not be found out. */
static bool is_wanted(const struct key_walk *walk, const struct key_fact *fact)
{
    return fact != NULL && !fact->is_used && conf_key_is_first(walk->place, walk->key) &&
           (!fact->is_known || fact->record == DKIM_RECORD_UNKNOWN ||
            (walk->key->before != NULL && fact->record != DKIM_RECORD_MATCHES));
}

static bool is_any(const struct conf_domain_key *key)
{
    return slice_equal(key->domain, SLICE_LITERAL("*"));
}

static void look(struct control *control)
{
    struct control_keys *keys = &control->keys;
    struct key_walk walk = walk_of(control->conf);
    struct key_check *check = key_check_new(control->io, keys->dns);
    uint32_t count;

    unmark(keys);
    while (walk_next(&walk)) {
        struct key_fact *fact = is_any(walk.key) ? NULL : obtain_fact(keys, key_check_id(walk.key));

        if (!is_wanted(&walk, fact))
            continue;
        fact->is_used = true;
        key_check_add(check, walk.place, walk.key, SLICE_EMPTY);
    }
    key_check_rows(check, &count);
    if (count == 0) {
        key_check_free(check);
        return;
    }
    dns_doubt_denials(keys->dns);
    keys->look = check;
    key_check_start(check, LOOK_TIMEOUT_MS, on_looked, control);
}

/* After something was found out: whether a key need not wait any more, and what is still open. */
static void weigh(struct control *control)
{
    struct control_keys *keys = &control->keys;
    struct key_walk walk = walk_of(control->conf);

    keys->is_noted = false;
    while (walk_next(&walk)) {
        const struct key_fact *fact = find_fact(keys, key_check_id(walk.key));

        if (fact == NULL || !conf_key_is_first(walk.place, walk.key))
            continue;
        if (walk.key->before != NULL && fact->record == DKIM_RECORD_MATCHES)
            keys->is_due = true;
        else if (keys->look_at_ns == 0 &&
                 (walk.key->before != NULL || fact->record == DKIM_RECORD_UNKNOWN))
            keys->look_at_ns = io_now_ns(control->io) + LOOK_AGAIN_NS;
    }
}

void control_keys_tick(struct control *control)
{
    struct control_keys *keys = &control->keys;
    uint64_t now_ns = io_now_ns(control->io);

    if (keys->dns == NULL || control->phase != CONTROL_RUNNING)
        return;
    if (keys->is_noted)
        weigh(control);
    if (keys->is_due && now_ns >= keys->retry_ns && !reload_is_under_way(&control->reload.reload)) {
        keys->is_due = !control_reload_again(control);
        keys->retry_ns = keys->is_due ? now_ns + LOOK_AGAIN_NS : 0;
    }
    if (keys->look == NULL && keys->look_at_ns != 0 && now_ns >= keys->look_at_ns) {
        keys->look_at_ns = 0;
        look(control);
    }
}

/* ---- Reloads --------------------------------------------------------------------------------- */

void control_keys_hold(struct control *control, struct conf *next)
{
    struct key_walk walk = walk_of(control->conf);

    if (control->keys.dns == NULL)
        return;
    conf_keys_hold(next, control->conf, is_seen, control);
    while (walk_next(&walk)) {
        if (walk.key->before != NULL && is_seen(control, walk.key))
            log_info("DKIM: the record of key %s,%.*s is there, it signs from now on",
                     walk.key->selector, (int)walk.key->domain.len,
                     (const char *)walk.key->domain.data);
    }
}

void control_keys_adopt(struct control *control)
{
    struct control_keys *keys = &control->keys;
    struct key_walk walk = walk_of(control->conf);

    keys->waiting = 0;
    if (keys->dns == NULL)
        return;
    unmark(keys);
    while (walk_next(&walk)) {
        struct key_fact *fact = find_fact(keys, key_check_id(walk.key));

        keys->waiting += walk.key->before != NULL;
        if (fact != NULL)
            fact->is_used = true;
    }
    sweep(keys);
    if (conf_signs(control->conf))
        keys->look_at_ns = io_now_ns(control->io);
}

/* ---- The verb -------------------------------------------------------------------------------- */

static json_t *row_tree(const struct key_row *row)
{
    json_t *tree = json_object();
    bool is_general = strcmp(row->domain, "*") == 0;
    const char *signs = row->before ? row->before : row->is_first ? row->selector : "";

    json_object_set_new(tree, "selector", control_string(row->selector));
    json_object_set_new(tree, "domain", control_string(row->domain));
    json_object_set_new(tree, "algorithm", json_string(sign_key_algorithm(row->key)));
    json_object_set_new(tree, "place", control_string(row->place));
    json_object_set_new(tree, "record",
                        json_string(is_general ? "any" : dkim_record_name(row->record)));
    json_object_set_new(tree, "signs", control_string(signs));
    json_object_set_new(tree, "testing", json_boolean(row->flags.is_testing));
    json_object_set_new(tree, "strict", json_boolean(row->flags.is_strict));
    json_object_set_new(tree, "why",
                        control_string(is_general ? "give the domain: SELECTOR,DOMAIN" : row->why));
    return tree;
}

static void text_rows(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"selector", "selector", false},
        {"domain", "domain", false},
        {"algorithm", "algorithm", false},
        {"place", "place", false},
        {"record", "record", false},
        {"signs", "signs", false},
        {"why", "why", false},
    };

    render_table(json_object_get(data, "key"), columns, sizeof(columns) / sizeof(columns[0]), out);
}

static void answer(struct control_client *client, struct key_check *check)
{
    json_t *array = json_array();
    struct control_answer answer = {.data = json_object(), .text = text_rows};
    char text[128];
    uint32_t count, bad = 0;
    const struct key_row *rows = key_check_rows(check, &count);

    for (uint32_t i = 0; i < count; i++) {
        bad += strcmp(rows[i].domain, "*") != 0 && rows[i].record != DKIM_RECORD_MATCHES;
        json_array_append_new(array, row_tree(&rows[i]));
    }
    json_object_set_new(answer.data, "key", array);
    snprintf(text, sizeof(text), "%u of %u records are not as they should be", bad, count);
    if (bad > 0)
        control_client_refuse_with(client, text, &answer);
    else
        control_client_answer(client, &answer);
    control_answer_free(&answer);
}

static void on_checked(struct key_check *check, void *context)
{
    struct control_client *client = context;

    client->key_check = NULL;
    note(client->control, check, false);
    answer(client, check);
    key_check_free(check);
}

static bool is_all(const struct verb_request *request)
{
    return request->value[0] == '\0';
}

/* Whether the line is meant; a line for any domain by the domain that was given. */
static bool is_meant(const struct verb_request *request, const struct conf_domain_key *key)
{
    if (is_all(request))
        return true;
    return slice_equal_nocase(slice_str(key->selector), slice_str(request->value)) &&
           (is_any(key) || slice_equal_nocase(key->domain, slice_str(request->domain)));
}

void control_check_verb(struct control *control, struct control_client *client)
{
    struct key_walk walk = walk_of(control->conf);
    const struct verb_request *request = &client->request;
    struct key_check *check;
    uint32_t count;

    if (control->keys.dns == NULL) {
        control_client_refuse(client, "check dkim: there is no resolver");
        return;
    }
    check = key_check_new(control->io, control->keys.dns);
    while (walk_next(&walk)) {
        if (!is_meant(request, walk.key))
            continue;
        obtain_fact(&control->keys, key_check_id(walk.key));
        key_check_add(check, walk.place, walk.key,
                      is_all(request) ? SLICE_EMPTY : slice_str(request->domain));
    }
    key_check_rows(check, &count);
    if (count == 0) {
        key_check_free(check);
        control_client_refuse(client, is_all(request)
                                          ? "check dkim: the configuration has no domain-key"
                                          : "check dkim: there is no such domain-key");
        return;
    }
    dns_doubt_denials(control->keys.dns);
    client->key_check = check;
    key_check_start(check, VERB_TIMEOUT_MS, on_checked, client);
}

void control_keys_leave(struct control_client *client)
{
    key_check_free(client->key_check);
    client->key_check = NULL;
}

/* ---- Creation -------------------------------------------------------------------------------- */

void control_keys_wire(struct control *control)
{
    const struct control_wiring *wiring = &control->wiring;
    struct control_keys *keys = &control->keys;

    slab_init(&keys->facts, sizeof(struct key_fact), FACTS_MAX);
    table_init(&keys->by_id);
    if (wiring->to_resolver == NULL)
        return;
    keys->dns = dns_create(control->io, wiring->to_resolver, wiring->from_resolver,
                           control->shard_count, CACHE_COUNT_MAX, IN_FLIGHT_MAX);
    control_keys_adopt(control);
}

void control_keys_fini(struct control *control)
{
    struct control_keys *keys = &control->keys;

    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        control_keys_leave(&control->clients[i]);
        control_domain_leave(&control->clients[i]);
    }
    key_check_free(keys->look);
    dns_destroy(keys->dns);
    table_fini(&keys->by_id);
    slab_fini(&keys->facts);
}
