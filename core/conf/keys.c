#include "core/conf/keys.h"

#include "core/conf/field.h"
#include "core/conf/override.h"
#include "core/conf/show.h"

#include <errno.h>

/* Each virtual MTA may have a key of its own, so they are not looked through one by one. */
#define KEY_FILE_BUCKETS 4096u

/* ---- Reading --------------------------------------------------------------------------------- */

/* A line with a key, and where it stands. */
struct key_line {
    struct slice text;
    const char *file;
    unsigned line;
};

static const struct loaded_key *load_file(struct build *build, const struct key_line *line,
                                          const char *path)
{
    const struct conf_key_ops *ops = build->options->key_ops;
    struct conf *conf = build->conf;
    struct loaded_key **bucket =
        &build->key_files[hash_bytes(path, strlen(path)) % KEY_FILE_BUCKETS];
    struct loaded_key *key;
    char why[CONF_KEY_WHY_MAX] = "";

    for (key = *bucket; key != NULL; key = key->next_alike) {
        if (strcmp(key->path, path) == 0)
            return key;
    }
    key = arena_alloc(&conf->arena, sizeof(*key));
    *key = (struct loaded_key){.path = path, .next = conf->loaded_keys, .next_alike = *bucket};
    *bucket = key;
    if (ops != NULL && !build->options->syntax_only &&
        ops->load(path, &key->key, &key->algorithm, why) < 0)
        report_error(build->report, line->file, line->line, "domain-key: %s: %s", path, why);
    conf->key_ops = ops;
    conf->loaded_keys = key;
    return key;
}

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] <= ' ' || name.data[i] >= 0x7f || strchr(";=:@*/", name.data[i]) != NULL)
            return false;
    }
    return name.len > 0 && name.len <= 253;
}

/* SELECTOR,DOMAIN,FILE, of which the domain may hold macros. */
struct key_parts {
    struct slice selector;
    struct slice domain;
    struct slice path;
};

static bool split(struct slice text, struct key_parts *ret)
{
    struct slice more;

    return value_next_item(&text, &ret->selector) && value_next_item(&text, &ret->domain) &&
           value_next_item(&text, &ret->path) && !value_next_item(&text, &more);
}

static void complain(struct build *build, const struct key_line *line)
{
    report_error(build->report, line->file, line->line,
                 "domain-key wants SELECTOR,DOMAIN,FILE: names as they stand in the DNS, * for "
                 "any domain, and an absolute path");
}

struct key_adding {
    struct build *build;
    struct conf_key_place *place;
    const struct key_line *line;
    struct key_parts parts;
};

/* For one of the domains that the line names. */
static int add_key_of(void *context, struct slice domain, bool from_macro)
{
    struct key_adding *adding = context;
    struct arena *arena = &adding->build->conf->arena;
    struct conf_domain_key *key = &adding->place->keys.items[adding->place->keys.count];
    const struct loaded_key *loaded;

    if (!is_name(domain) && !slice_equal(domain, SLICE_LITERAL("*"))) {
        complain(adding->build, adding->line);
        return 0;
    }
    *key = (struct conf_domain_key){
        .selector = (const char *)arena_copy(arena, adding->parts.selector).data,
        .domain = slice_lower(domain, arena_alloc(arena, domain.len + 1)),
        .path = (const char *)arena_copy(arena, adding->parts.path).data,
    };
    loaded = load_file(adding->build, adding->line, key->path);
    key->key = loaded->key;
    key->algorithm = loaded->algorithm;
    key->id = key->key != NULL ? adding->build->conf->key_ops->id(key->key) : 0;
    adding->place->keys.count++;
    return 0;
}

static int count_one(void *context, struct slice domain, bool from_macro)
{
    ++*(uint32_t *)context;
    return 0;
}

/* How many keys a line may make; what is wrong with it is told when they are made. */
static uint32_t count_keys(struct build *build, struct slice text)
{
    struct key_parts parts;
    uint32_t count = 0;

    if (split(text, &parts))
        macro_expand(&build->macros, parts.domain, count_one, &count);
    return count;
}

static void add_keys(struct build *build, struct conf_key_place *place, const struct key_line *line)
{
    struct key_adding adding = {.build = build, .place = place, .line = line};

    if (!split(line->text, &adding.parts) || !is_name(adding.parts.selector) ||
        adding.parts.path.len == 0 || adding.parts.path.data[0] != '/')
        complain(build, line);
    else if (macro_expand(&build->macros, adding.parts.domain, add_key_of, &adding) < 0)
        build_macro_error(build, line->file, line->line, "domain-key");
}

static struct conf_key_place *new_place(struct build *build, const struct section *section,
                                        uint32_t room)
{
    struct arena *arena = &build->conf->arena;
    struct conf_key_place *place = arena_alloc(arena, sizeof(*place));
    bool is_top = section == &build->tree->top;

    *place = (struct conf_key_place){
        .kind = is_top ? "" : section->kind->tag,
        .name = is_top ? "" : (const char *)arena_copy(arena, section->name).data};
    place->keys.items = arena_alloc(arena, room * sizeof(struct conf_domain_key));
    return place;
}

/* Places with keys stand in the order of the file: *link is where the next one goes. */
static const struct conf_key_list *end_place(struct conf_key_place *place,
                                             struct conf_key_place ***link)
{
    if (place->keys.count > 0) {
        **link = place;
        *link = &place->next;
    }
    return &place->keys;
}

static const struct conf_key_list *read_section(struct build *build, const struct section *section,
                                                struct conf_key_place ***link)
{
    struct entry_list entries = build_entries(build, section, STORE_DOMAIN_KEY);
    struct conf_key_place *place;
    uint32_t room = 0;

    for (uint32_t i = 0; i < entries.count; i++)
        room += count_keys(build, slice_str(entries.items[i]->text));
    place = new_place(build, section, room);
    for (uint32_t i = 0; i < entries.count; i++) {
        const struct entry *entry = entries.items[i];

        add_keys(build, place,
                 &(struct key_line){slice_str(entry->text), entry->file, entry->line});
    }
    return end_place(place, link);
}

/* A line of a list: with the keyword in front, or without. */
static struct slice without_keyword(struct slice text)
{
    static const struct slice keyword = SLICE_LITERAL("domain-key");
    struct slice rest = slice_after(text, keyword.len < text.len ? keyword.len : text.len);

    return slice_starts_nocase(text, keyword) && rest.len > 0 &&
                   (rest.data[0] == ' ' || rest.data[0] == '\t')
               ? slice_trim(rest)
               : text;
}

static void read_list(struct build *build, const struct section *section,
                      struct conf_key_place ***link)
{
    struct conf *conf = build->conf;
    struct conf_key_place *place;
    uint32_t count = 0;

    for (const struct list_line *line = section->lines; line != NULL; line = line->next)
        count += count_keys(build, without_keyword(line->text));
    place = new_place(build, section, count);
    if (section->name.len == 0)
        report_warning(build->report, section->file, section->line,
                       "<domain-key-list> without a name: no message can ask for it");
    else if (keys_find_list(conf, section->name) != NULL)
        report_error(build->report, section->file, section->line,
                     "<domain-key-list %s> is there twice", place->name);
    for (const struct list_line *line = section->lines; line != NULL; line = line->next)
        add_keys(build, place,
                 &(struct key_line){without_keyword(line->text), line->file, line->line});
    end_place(place, link);
    place->next_list = conf->key_lists;
    conf->key_lists = place;
}

static void give_to_members(struct build *build, const struct section *section,
                            const struct conf_key_list *list)
{
    struct conf *conf = build->conf;
    uint32_t position = pool_find(conf, section->name);

    if (list->count == 0 || position == TABLE_NONE)
        return;
    /* The members are positions still. */
    for (uint32_t i = 0; i < conf->pools[position].vmta_count; i++)
        conf->vmtas[conf->pools[position].vmta_ids[i]].pool_keys = list;
}

static const struct conf_key_list *keys_of_pool(const struct conf *conf, const char *name)
{
    for (const struct conf_key_place *at = conf->key_places; at != NULL; at = at->next) {
        if (strcmp(at->kind, "virtual-mta-pool") == 0 && strcmp(at->name, name) == 0)
            return &at->keys;
    }
    return NULL;
}

/* A cold virtual MTA that a section makes signs by the keys that the section's own mail has: what
 * was signed for the one leaves by the other. */
static void give_to_made(struct conf *conf)
{
    for (uint32_t i = 0; i < conf->vmta_count; i++) {
        struct vmta_slot *slot = &conf->vmtas[i];
        uint32_t maker;

        if (slot->made_by == NULL)
            continue;
        maker = vmta_find(conf, slice_str(slot->made_by));
        if (maker == TABLE_NONE) {
            slot->pool_keys = keys_of_pool(conf, slot->made_by);
            continue;
        }
        slot->keys = conf->vmtas[maker].keys;
        slot->pool_keys = conf->vmtas[maker].pool_keys;
    }
}

int build_keys(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    struct conf_key_place **link = &conf->key_places;

    build->key_files = arena_alloc(&conf->arena, KEY_FILE_BUCKETS * sizeof(*build->key_files));
    conf->keys = read_section(build, top, &link);
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        uint32_t position;

        if (at->kind == NULL)
            continue;
        if (strcmp(at->kind->tag, CONF_KEY_LIST_TAG) == 0)
            read_list(build, at, &link);
        if (at->kind->scope == SCOPE_POOL)
            give_to_members(build, at, read_section(build, at, &link));
        if (at->kind->scope != SCOPE_VMTA)
            continue;
        position = vmta_find(conf, at->name);
        if (position != TABLE_NONE)
            conf->vmtas[position].keys = read_section(build, at, &link);
    }
    for (struct conf_key_place *place = conf->key_places; place != NULL; place = place->next) {
        if (!keys_list_seal(&place->keys))
            return -ENOMEM;
    }
    keys_seal_lists(conf);
    give_to_made(conf);
    return 0;
}

void keys_fini(struct conf *conf)
{
    for (struct conf_key_place *place = conf->key_places; place != NULL; place = place->next)
        keys_list_fini(&place->keys);
    for (struct loaded_key *key = conf->loaded_keys; key != NULL; key = key->next) {
        if (key->key != NULL)
            conf->key_ops->drop(key->key);
    }
}

/* ---- What queues say ------------------------------------------------------------------------- */

#define SIGNING_OFFSET offsetof(struct conf_queue, signing)

static bool is_about_signing(const struct directive *row)
{
    return field_is_set_by(row) && (row->scopes & SCOPE_BIT(SCOPE_DOMAIN)) != 0 &&
           row->offset >= SIGNING_OFFSET &&
           row->offset < SIGNING_OFFSET + sizeof(struct conf_signing);
}

static void check_removed(struct build *build, const struct setting *setting)
{
    struct slice rest = slice_str(setting->value.text);
    struct slice name;
    uint32_t count = 0;

    while (conf_next_name(&rest, &name))
        count++;
    if (count > CONF_REMOVE_HEADERS_MAX)
        report_error(build->report, setting->file, setting->line, "%s: at most %u names, not %u",
                     setting->row->name, CONF_REMOVE_HEADERS_MAX, count);
}

static bool is_about(const struct setting *setting, size_t offset)
{
    return setting->row->offset == offset + offsetof(struct conf_dkim, headers) ||
           setting->row->offset == offset + offsetof(struct conf_dkim, closed);
}

/* PowerMTA takes patterns among them; one would be looked for as a name, and never found. */
static void check_header_names(struct build *build, const struct setting *setting)
{
    struct slice rest = slice_str(setting->value.text), name;

    while (value_next_item(&rest, &name)) {
        if (name.len > 0 && name.data[0] == '/')
            report_warning(build->report, setting->file, setting->line,
                           "%s: \"%.*s\" signs nothing: headers are given by their names",
                           setting->row->name, SHOW(name));
    }
}

void build_signing_check(struct build *build, const struct setting *setting)
{
    if (!is_about_signing(setting->row) || setting->cleared)
        return;
    if (setting->row->offset == offsetof(struct conf_queue, signing.removed))
        check_removed(build, setting);
    for (size_t i = 0; i < 2; i++) {
        size_t offset = SIGNING_OFFSET + i * sizeof(struct conf_dkim);

        if (setting->row->offset == offset + offsetof(struct conf_dkim, sign) &&
            setting->value.number != CONF_DKIM_NO)
            build->conf->signs = true;
        if (is_about(setting, offset))
            check_header_names(build, setting);
        if (setting->row->offset == offset + offsetof(struct conf_dkim, algorithm) &&
            setting->value.number == CONF_DKIM_RSA_SHA1)
            report_error(build->report, setting->file, setting->line,
                         "%s: rsa-sha1 is not offered, no receiver counts it any more (RFC 8301); "
                         "write rsa-sha256",
                         setting->row->name);
    }
}

bool conf_signs(const struct conf *conf)
{
    return conf->signs;
}

static void apply_signing(void *context, const struct settings *settings)
{
    /* Rows say where in a queue they write. */
    char *queue = (char *)context - SIGNING_OFFSET;

    for (uint32_t i = 0; i < settings->count; i++) {
        if (is_about_signing(settings->items[i].row))
            field_store(queue, settings->items[i].row, &settings->items[i].value);
    }
}

void conf_signing(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                  struct conf_signing *ret_signing)
{
    *ret_signing = conf->queue_preset.signing;
    conf_visit_blocks(conf, domain, vmta_id, apply_signing, ret_signing);
}
