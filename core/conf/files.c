#include "core/conf/files.h"

#include "core/base/arena.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/must.h"

struct file {
    const char *name;
    struct slice text;
};

struct conf_files {
    struct arena arena;
    struct file *items;
    uint32_t count;
    uint32_t capacity;
    struct table by_name;
};

struct conf_files *conf_files_new(void)
{
    struct conf_files *files = mem_alloc(sizeof(*files));

    arena_init(&files->arena);
    table_init(&files->by_name);
    return files;
}

void conf_files_free(struct conf_files *files)
{
    if (files == NULL)
        return;
    arena_fini(&files->arena);
    table_fini(&files->by_name);
    mem_free(files->items);
    mem_free(files);
}

void conf_files_add(struct conf_files *files, struct slice name, struct slice text)
{
    struct file file = {
        .name = (const char *)arena_copy(&files->arena, name).data,
    };

    if (conf_files_find(files, file.name) != UINT32_MAX)
        return;
    if (files->count == files->capacity) {
        uint32_t capacity = files->capacity * 2 + 8;

        files->items = mem_alloc_larger(files->items, files->count * sizeof(*files->items),
                                        capacity * sizeof(*files->items));
        files->capacity = capacity;
    }
    file.text = arena_copy(&files->arena, text);
    must(table_insert(&files->by_name, hash_bytes(name.data, name.len), files->count));
    files->items[files->count++] = file;
}

uint32_t conf_files_count(const struct conf_files *files)
{
    return files->count;
}

const char *conf_files_name(const struct conf_files *files, uint32_t position)
{
    must(position < files->count);
    return files->items[position].name;
}

struct slice conf_files_text(const struct conf_files *files, uint32_t position)
{
    must(position < files->count);
    return files->items[position].text;
}

static bool has_name(uint32_t value, const void *key, void *context)
{
    const struct conf_files *files = context;

    return strcmp(files->items[value].name, key) == 0;
}

uint32_t conf_files_find(const struct conf_files *files, const char *name)
{
    return table_find(&files->by_name, hash_bytes(name, strlen(name)), has_name, name,
                      (void *)(uintptr_t)files);
}

uint64_t conf_files_hash(const struct conf_files *files)
{
    uint64_t hash = hash_u64(files->count);

    for (uint32_t i = 0; i < files->count; i++) {
        const struct file *file = &files->items[i];

        hash = hash_combine(hash, hash_bytes(file->name, strlen(file->name)));
        hash = hash_combine(hash, hash_bytes(file->text.data, file->text.len));
    }
    return hash;
}
