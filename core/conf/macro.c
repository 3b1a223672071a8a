#include "core/conf/macro.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/conf/pattern.h"
#include "core/conf/show.h"
#include "core/conf/value.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define NESTING_MAX    32
#define REFERENCES_MAX 16

enum macro_state {
    MACRO_RAW,
    MACRO_AT_WORK, /* being expanded further up: meeting it again is a loop */
    MACRO_FLAT,
};

struct macro {
    struct slice name;
    struct slice items; /* as written */
    enum macro_state state;
    bool used;
    struct slice *texts; /* expanded, once it is flat */
    uint32_t count;
    uint32_t capacity;
};

static int refuse(struct macro_set *set, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int refuse(struct macro_set *set, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(set->why, sizeof(set->why), format, arguments);
    va_end(arguments);
    set->is_unknown = false;
    return E_SYNTAX;
}

/* ---- The set ------------------------------------------------------------------------------- */

void macro_set_init(struct macro_set *set, struct arena *arena)
{
    *set = (struct macro_set){.arena = arena, .left = MACRO_EXPANSION_MAX};
    table_init(&set->by_name);
}

void macro_set_fini(struct macro_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        mem_free(set->macros[i]->texts);
    mem_free(set->macros);
    table_fini(&set->by_name);
}

static bool match_name(uint32_t value, const void *key, void *context)
{
    const struct macro_set *set = context;
    const struct slice *name = key;

    return slice_equal_nocase(set->macros[value]->name, *name);
}

static uint64_t hash_name(struct slice name)
{
    return hash_bytes_nocase(name.data, name.len);
}

static struct macro *find(struct macro_set *set, struct slice name)
{
    uint32_t position = table_find(&set->by_name, hash_name(name), match_name, &name, set);

    return position == TABLE_NONE ? NULL : set->macros[position];
}

/* Grows an array of so many bytes per element by doubling. */
static int make_room(void **array, uint32_t count, uint32_t *capacity, size_t bytes)
{
    uint32_t bigger = *capacity == 0 ? 16 : *capacity * 2;
    void *copy;

    if (count < *capacity)
        return 0;
    copy = mem_try_alloc(bigger * bytes);
    if (copy == NULL)
        return -ENOMEM;
    if (count > 0)
        memcpy(copy, *array, count * bytes);
    mem_free(*array);
    *array = copy;
    *capacity = bigger;
    return 0;
}

int macro_set_add(struct macro_set *set, struct slice name, struct slice items)
{
    struct macro *macro = find(set, name);
    void *array = set->macros;
    int rc;

    if (macro != NULL) {
        macro->items = items;
        return E_EXISTS;
    }
    rc = make_room(&array, set->count, &set->capacity, sizeof(struct macro *));
    set->macros = array;
    if (rc < 0 || !table_insert(&set->by_name, hash_name(name), set->count))
        return -ENOMEM;
    macro = arena_alloc(set->arena, sizeof(*macro));
    macro->name = name;
    macro->items = items;
    set->macros[set->count++] = macro;
    return 0;
}

/* ---- Expansion ----------------------------------------------------------------------------- */

/* One text on its way: what is settled stands in room, the rest is still to be read. */
struct expansion {
    struct macro_set *set;
    macro_emit_fn *emit;
    void *context;
    char room[PATTERN_TEXT_MAX];
    unsigned references;
};

static int flatten(struct macro_set *set, struct macro *macro);

static int append(struct expansion *expansion, size_t *len, struct slice text)
{
    if (text.len >= sizeof(expansion->room) - *len)
        return refuse(expansion->set, "\"%.*s\" makes a domain that is too long", SHOW(text));
    memcpy(expansion->room + *len, text.data, text.len);
    *len += text.len;
    return 0;
}

static int expand_from(struct expansion *expansion, size_t len, struct slice rest, bool from_macro);

/* rest starts behind the dollar sign. */
static int expand_reference(struct expansion *expansion, size_t len, struct slice rest)
{
    struct slice name = slice_of(rest.data, 0);
    struct macro *macro;
    int rc;

    while (name.len < rest.len && pattern_is_macro_octet(rest.data[name.len]))
        name.len++;
    macro = find(expansion->set, name);
    if (macro == NULL) {
        refuse(expansion->set, "there is no domain-macro \"%.*s\"", SHOW(name));
        expansion->set->is_unknown = true;
        return E_SYNTAX;
    }
    if (++expansion->references > REFERENCES_MAX)
        return refuse(expansion->set, "more than %d macros in one domain", REFERENCES_MAX);
    rc = flatten(expansion->set, macro);
    rest = slice_after(rest, name.len);
    for (uint32_t i = 0; rc == 0 && i < macro->count; i++) {
        size_t longer = len;

        rc = append(expansion, &longer, macro->texts[i]);
        if (rc == 0)
            rc = expand_from(expansion, longer, rest, true);
    }
    expansion->references--;
    return rc;
}

static int expand_from(struct expansion *expansion, size_t len, struct slice rest, bool from_macro)
{
    size_t dollar = slice_find(rest, '$');
    int rc = append(expansion, &len, slice_of(rest.data, dollar));

    if (rc < 0)
        return rc;
    if (dollar < rest.len)
        return expand_reference(expansion, len, slice_after(rest, dollar + 1));
    if (from_macro && expansion->set->left-- == 0) {
        expansion->set->left = 0;
        return refuse(expansion->set, "macros stand for more than %d domains", MACRO_EXPANSION_MAX);
    }
    return expansion->emit(expansion->context, slice_of(expansion->room, len), from_macro);
}

int macro_expand(struct macro_set *set, struct slice text, macro_emit_fn *emit, void *context)
{
    struct expansion expansion = {.set = set, .emit = emit, .context = context};

    return expand_from(&expansion, 0, text, false);
}

struct flattening {
    struct macro_set *set;
    struct macro *macro;
};

static int keep_text(void *context, struct slice text, bool from_macro)
{
    struct flattening *flattening = context;
    struct macro *macro = flattening->macro;
    void *array = macro->texts;
    int rc = make_room(&array, macro->count, &macro->capacity, sizeof(*macro->texts));

    macro->texts = array;
    if (rc < 0)
        return rc;
    macro->texts[macro->count++] = arena_copy(flattening->set->arena, text);
    return 0;
}

/* Replaces the macros within a macro's items, once. */
static int flatten(struct macro_set *set, struct macro *macro)
{
    struct flattening flattening = {set, macro};
    struct slice items = macro->items;
    struct slice item;
    int rc = 0;

    if (macro->state == MACRO_FLAT)
        return 0;
    if (macro->state == MACRO_AT_WORK)
        return refuse(set, "domain-macro \"%.*s\" contains itself", SHOW(macro->name));
    if (set->depth >= NESTING_MAX)
        return refuse(set, "macros are nested deeper than %d", NESTING_MAX);
    macro->state = MACRO_AT_WORK;
    set->depth++;
    while (rc == 0 && value_next_item(&items, &item))
        rc = macro_expand(set, item, keep_text, &flattening);
    set->depth--;
    macro->state = rc == 0 ? MACRO_FLAT : MACRO_RAW;
    if (rc < 0)
        macro->count = 0;
    return rc;
}

int macro_check(struct macro_set *set, struct slice name)
{
    struct macro *macro = find(set, name);

    return macro == NULL ? E_NOT_FOUND : flatten(set, macro);
}

/* Each macro is gone into once, so loops and depth cost nothing. */
void macro_mark_used(struct macro_set *set, struct slice text)
{
    for (size_t at = slice_find(text, '$'); at < text.len; at = slice_find(text, '$')) {
        struct slice name = slice_of(text.data + at + 1, 0);
        struct macro *macro;

        text = slice_after(text, at + 1);
        while (name.len < text.len && pattern_is_macro_octet(text.data[name.len]))
            name.len++;
        macro = find(set, name);
        if (macro == NULL || macro->used)
            continue;
        macro->used = true;
        macro_mark_used(set, macro->items);
    }
}

bool macro_is_used(struct macro_set *set, struct slice name)
{
    const struct macro *macro = find(set, name);

    return macro != NULL && macro->used;
}
