#include "core/conf/rollup.h"

#include "core/base/must.h"
#include "core/conf/build.h"
#include "core/conf/intern.h"
#include "core/conf/show.h"

#include <errno.h>

#define FORM "mx PATTERN NAME [rollup-by-ip]"

/* One line. */
struct rollup_line {
    struct pattern pattern;
    uint32_t rollup; /* position */
};

struct rollup {
    const char *name;
    struct value_route route; /* of the hosts that lines name in full */
    bool acts;
    bool by_ip;                   /* some line says rollup-by-ip */
    const struct list_line *line; /* the first one */
};

/* ---- Asking ---------------------------------------------------------------------------------- */

bool conf_has_rollups(const struct conf *conf)
{
    return conf->rollup_line_count > 0;
}

const char *conf_rollup_of_host(const struct conf *conf, struct slice host)
{
    char room[PATTERN_TEXT_MAX];
    struct slice name = slice_of(room, host.len);

    if (host.len >= sizeof(room))
        return NULL;
    for (size_t i = 0; i < host.len; i++)
        room[i] =
            (char)(host.data[i] >= 'A' && host.data[i] <= 'Z' ? host.data[i] + 32 : host.data[i]);
    for (uint32_t i = 0; i < conf->rollup_line_count; i++) {
        const struct rollup *rollup = &conf->rollups[conf->rollup_lines[i].rollup];

        if (rollup->acts && pattern_matches(&conf->rollup_lines[i].pattern, name))
            return rollup->name;
    }
    return NULL;
}

static bool match_name(uint32_t value, const void *key, void *context)
{
    const struct conf *conf = context;

    return slice_equal_nocase(slice_str(conf->rollups[value].name), *(const struct slice *)key);
}

static struct rollup *find(const struct conf *conf, struct slice name)
{
    uint32_t position = table_find(&conf->rollup_by_name, hash_bytes_nocase(name.data, name.len),
                                   match_name, &name, (void *)(uintptr_t)conf);

    return position == TABLE_NONE ? NULL : &conf->rollups[position];
}

bool conf_is_rollup(const struct conf *conf, struct slice domain)
{
    const struct rollup *rollup = find(conf, domain);

    return rollup != NULL && rollup->acts;
}

void rollup_apply(const struct conf *conf, struct slice domain, struct conf_queue *queue)
{
    const struct rollup *rollup = queue->route_count > 0 ? NULL : find(conf, domain);

    if (rollup == NULL)
        return;
    queue->route = rollup->route.hosts;
    queue->route_count = rollup->route.count;
    queue->route_hash = rollup->route.hash;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static int add_rollup(struct build *build, const struct list_line *line, struct slice name,
                      uint32_t *ret_position)
{
    struct conf *conf = build->conf;
    struct rollup *known = find(conf, name);
    char room[PATTERN_TEXT_MAX];
    uint32_t id;

    if (known == NULL) {
        for (size_t i = 0; i < name.len; i++)
            room[i] = (char)(name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] + 32
                                                                        : name.data[i]);
        if (intern_name(INTERN_QUEUE, slice_of(room, name.len), &id) < 0 ||
            !table_insert(&conf->rollup_by_name, hash_bytes_nocase(name.data, name.len),
                          conf->rollup_count))
            return -ENOMEM;
        known = &conf->rollups[conf->rollup_count++];
        *known = (struct rollup){.name = intern_text(INTERN_QUEUE, id), .line = line};
    }
    *ret_position = (uint32_t)(known - conf->rollups);
    return 0;
}

/* 0, also after a warning; or -ENOMEM. */
static int add_line(struct build *build, const struct list_line *line)
{
    struct conf *conf = build->conf;
    struct rollup_line *added = &conf->rollup_lines[conf->rollup_line_count];
    struct slice rest = line->text, words[4];
    char *room = arena_alloc(&conf->arena, PATTERN_TEXT_MAX);
    uint32_t count = 0;

    while (count < 4 && value_next_word(&rest, &words[count]) > 0)
        count++;
    if (count < 3 || (count == 4 && !slice_equal_nocase(words[3], SLICE_LITERAL("rollup-by-ip"))) ||
        slice_trim(rest).len > 0 || !slice_equal_nocase(words[0], SLICE_LITERAL("mx")) ||
        words[1].len >= PATTERN_TEXT_MAX || words[2].len >= PATTERN_TEXT_MAX ||
        slice_find(words[2], '/') < words[2].len ||
        pattern_parse(words[1], room, &added->pattern) < 0) {
        report_warning(build->report, line->file, line->line, "the line is not of the form: " FORM);
        return 0;
    }
    if (add_rollup(build, line, words[2], &added->rollup) < 0)
        return -ENOMEM;
    conf->rollups[added->rollup].by_ip |= count == 4;
    conf->rollup_line_count++;
    return 0;
}

static bool is_ours(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "mx-rollup-list") == 0;
}

static bool names_host(const struct rollup_line *line)
{
    return line->pattern.kind == PATTERN_EXACT;
}

/* Hosts that are named in full are as good as each other. */
static void make_routes(struct build *build)
{
    struct conf *conf = build->conf;
    struct conf_route_host **hosts = arena_alloc(&conf->arena, conf->rollup_count * sizeof(*hosts));

    for (uint32_t i = 0; i < conf->rollup_line_count; i++)
        conf->rollups[conf->rollup_lines[i].rollup].route.count +=
            names_host(&conf->rollup_lines[i]);
    for (uint32_t i = 0; i < conf->rollup_count; i++) {
        struct value_route *route = &conf->rollups[i].route;

        hosts[i] = arena_alloc(&conf->arena, route->count * sizeof(*hosts[i]));
        *route = (struct value_route){.hosts = hosts[i], .hash = hash_u64(i)};
    }
    for (uint32_t i = 0; i < conf->rollup_line_count; i++) {
        const struct rollup_line *line = &conf->rollup_lines[i];
        struct value_route *route = &conf->rollups[line->rollup].route;
        struct slice name = line->pattern.name;

        if (!names_host(line))
            continue;
        hosts[line->rollup][route->count++] = (struct conf_route_host){
            .kind = CONF_ROUTE_HOST, .name = (const char *)arena_copy(&conf->arena, name).data};
        route->hash = hash_combine(route->hash, hash_bytes(name.data, name.len));
    }
}

/* Whether mail that comes there has a way on. */
static void check_route(struct build *build, struct rollup *rollup)
{
    struct conf_queue queue;

    conf_queue(build->conf, slice_str(rollup->name), CONF_VMTA_DEFAULT, &queue);
    rollup->acts = queue.route_count > 0;
    if (rollup->acts)
        return;
    report_warning(build->report, rollup->line->file, rollup->line->line,
                   "nothing rolls up to %.80s: its <domain> has no smtp-hosts, and no line of it "
                   "names a host in full%s",
                   rollup->name,
                   rollup->by_ip ? "; rollup-by-ip is accepted and ignored, write `smtp-hosts "
                                   "lookup-mx:DOMAIN` in that <domain>"
                                 : "");
}

int build_rollups(struct build *build)
{
    struct conf *conf = build->conf;
    uint32_t most = 0;
    int rc = 0;

    for (const struct section *at = build->tree->top.children; at != NULL; at = at->next)
        for (const struct list_line *line = is_ours(at) ? at->lines : NULL; line != NULL;
             line = line->next)
            most++;
    conf->rollups = arena_alloc(&conf->arena, most * sizeof(*conf->rollups));
    conf->rollup_lines = arena_alloc(&conf->arena, most * sizeof(*conf->rollup_lines));
    for (const struct section *at = build->tree->top.children; at != NULL; at = at->next)
        for (const struct list_line *line = is_ours(at) ? at->lines : NULL; rc == 0 && line != NULL;
             line = line->next)
            rc = add_line(build, line);
    if (rc == 0)
        make_routes(build);
    for (uint32_t i = 0; rc == 0 && i < conf->rollup_count; i++)
        check_route(build, &conf->rollups[i]);
    return rc;
}
