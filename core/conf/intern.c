#include "core/conf/intern.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/conf/conf.h"

#include <errno.h>
#include <pthread.h>

/*
 * The one piece of state that belongs to the process rather than to a snapshot: numbers have to
 * stay the same from one snapshot to the next. It only grows, by names that really occur.
 */
struct names {
    struct table table;
    char **texts;
    uint32_t count;
    uint32_t capacity;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct names interned[INTERN_KINDS];

static bool match_name(uint32_t value, const void *key, void *context)
{
    const struct names *names = context;
    const struct slice *name = key;

    return slice_equal_nocase(slice_str(names->texts[value]), *name);
}

static int make_room(struct names *names)
{
    uint32_t capacity = names->capacity == 0 ? 16 : names->capacity * 2;
    char **texts;

    if (names->count < names->capacity)
        return 0;
    texts = mem_try_alloc(capacity * sizeof(*texts));
    if (texts == NULL)
        return -ENOMEM;
    if (names->count > 0)
        memcpy(texts, names->texts, names->count * sizeof(*texts));
    mem_free(names->texts);
    names->texts = texts;
    names->capacity = capacity;
    return 0;
}

static int find_or_add(struct names *names, struct slice name, uint32_t *ret_id)
{
    uint64_t hash = hash_bytes_nocase(name.data, name.len);
    uint32_t id = table_find(&names->table, hash, match_name, &name, names);
    char *text;

    if (id != TABLE_NONE) {
        *ret_id = id;
        return 0;
    }
    text = mem_try_alloc(name.len + 1);
    if (text == NULL || make_room(names) < 0 || !table_insert(&names->table, hash, names->count)) {
        mem_free(text);
        return -ENOMEM;
    }
    memcpy(text, name.data, name.len);
    names->texts[names->count] = text;
    *ret_id = names->count++;
    return 0;
}

int intern_name(enum intern_kind kind, struct slice name, uint32_t *ret_id)
{
    struct names *vmtas = &interned[INTERN_VMTA];
    uint32_t first = CONF_VMTA_DEFAULT;
    int rc = 0;

    must(kind < INTERN_KINDS && name.len > 0);
    pthread_mutex_lock(&lock);
    if (vmtas->count == 0)
        rc = find_or_add(vmtas, SLICE_LITERAL("{default}"), &first);
    must(first == CONF_VMTA_DEFAULT);
    if (rc == 0)
        rc = find_or_add(&interned[kind], name, ret_id);
    pthread_mutex_unlock(&lock);
    return rc;
}

const char *intern_text(enum intern_kind kind, uint32_t id)
{
    const struct names *names = &interned[kind];
    const char *text;

    must(kind < INTERN_KINDS);
    pthread_mutex_lock(&lock);
    text = id < names->count ? names->texts[id] : NULL;
    pthread_mutex_unlock(&lock);
    return text;
}

void intern_forget(void)
{
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < INTERN_KINDS; i++) {
        struct names *names = &interned[i];

        while (names->count > 0)
            mem_free(names->texts[--names->count]);
        mem_free(names->texts);
        table_fini(&names->table);
        *names = (struct names){0};
    }
    pthread_mutex_unlock(&lock);
}
