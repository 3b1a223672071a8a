/* <address-list>: addresses, domains and patterns whose mail a source does not take. */
#include "core/base/err.h"
#include "core/base/regex.h"
#include "core/conf/pattern.h"
#include "core/conf/pattern_list.h"
#include "core/conf/show.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_LINE_MAX 1024

struct address_pattern {
    const struct regex *regex;
    struct address_pattern *next;
};

struct conf_address_list {
    struct slice name;
    struct table addresses; /* and domains: keys are texts, ASCII case ignored */
    struct slice *texts;    /* by the number in the table */
    uint32_t text_count;
    uint32_t text_room;
    struct address_pattern *patterns;
};

/* ---- Members --------------------------------------------------------------------------------- */

static bool match_text(uint32_t value, const void *key, void *context)
{
    const struct conf_address_list *list = context;

    return slice_equal_nocase(list->texts[value], *(const struct slice *)key);
}

static bool has_text(const struct conf_address_list *list, struct slice text)
{
    return table_find(&list->addresses, hash_bytes_nocase(text.data, text.len), match_text, &text,
                      (void *)(uintptr_t)list) != TABLE_NONE;
}

/* "a@b", "@b" for a domain, "@.b" for what lies below it. */
static int add_text(struct build *build, struct conf_address_list *list, const char *prefix,
                    struct slice text)
{
    struct arena *arena = &build->conf->arena;
    size_t prefix_len = strlen(prefix);
    uint8_t *copy = arena_alloc(arena, prefix_len + text.len);
    struct slice whole = slice_of(copy, prefix_len + text.len);

    memcpy(copy, prefix, prefix_len);
    memcpy(copy + prefix_len, text.data, text.len);
    if (has_text(list, whole))
        return 0;
    if (list->text_count == list->text_room) {
        uint32_t room = list->text_room > 0 ? list->text_room * 2 : 64;
        struct slice *texts = arena_alloc(arena, room * sizeof(*texts));

        if (list->text_count > 0)
            memcpy(texts, list->texts, list->text_count * sizeof(*texts));
        list->texts = texts;
        list->text_room = room;
    }
    list->texts[list->text_count] = whole;
    if (!table_insert(&list->addresses, hash_bytes_nocase(whole.data, whole.len), list->text_count))
        return -ENOMEM;
    list->text_count++;
    return 0;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void add_pattern(struct build *build, struct conf_address_list *list,
                        const struct list_line *line, struct slice pattern)
{
    struct address_pattern *added = arena_alloc(&build->conf->arena, sizeof(*added));

    added->regex = list_compile(build, line, pattern);
    if (added->regex == NULL)
        return;
    added->next = list->patterns;
    list->patterns = added;
}

/* One that can be that of an address: no block of addresses, and not all there are. */
static bool is_domain(struct slice text)
{
    char room[PATTERN_TEXT_MAX];
    struct pattern pattern;

    return pattern_parse(text, room, &pattern) == 0 && pattern.kind != PATTERN_ANY &&
           slice_find(text, '/') == text.len;
}

static int put_domain(struct build *build, struct conf_address_list *list, struct slice domain)
{
    int rc;

    if (slice_starts_nocase(domain, SLICE_LITERAL("*.")))
        return add_text(build, list, "@.", slice_after(domain, 2));
    if (!slice_starts_nocase(domain, SLICE_LITERAL("[*.]")))
        return add_text(build, list, "@", domain);
    rc = add_text(build, list, "@", slice_after(domain, 4));
    return rc < 0 ? rc : add_text(build, list, "@.", slice_after(domain, 4));
}

/* Of an entry without a local part: what it says of a domain, with an @ in front or not. */
static struct slice domain_alone(struct slice entry)
{
    size_t at = slice_find(entry, '@');

    return at == 0 ? slice_after(entry, 1) : at == entry.len ? entry : SLICE_EMPTY;
}

/* An address, or a domain for all of its addresses. */
static int put_entry(struct build *build, struct conf_address_list *list, struct slice entry)
{
    struct slice domain = domain_alone(entry);

    return domain.len > 0 ? put_domain(build, list, domain) : add_text(build, list, "", entry);
}

/* Where a quoted local part ends; 0 when there is none. */
static size_t quoted_len(struct slice entry)
{
    for (size_t i = 1; entry.data[0] == '"' && i + 2 < entry.len; i++) {
        if (entry.data[i] == '"' && entry.data[i + 1] == '@')
            return i + 1;
    }
    return 0;
}

/* Anything else (a column of a table, say, or a name with its address) would stand for nobody. */
static bool is_entry(struct slice entry)
{
    size_t from = entry.len > 0 ? quoted_len(entry) : 0;

    if (entry.len == 0 || domain_alone(entry).len > 0)
        return is_domain(domain_alone(entry));
    for (size_t i = from; i < entry.len; i++) {
        if (value_is_blank(entry.data[i]) || strchr("<>,;\"", entry.data[i]) != NULL)
            return false;
    }
    return entry.data[entry.len - 1] != '@';
}

/* Who mistypes a member hears of it: mail would go to people who have asked for none. */
static int add_domain(struct build *build, struct conf_address_list *list,
                      const struct list_line *line, struct slice domain)
{
    if (is_domain(domain))
        return put_domain(build, list, domain);
    report_error(build->report, line->file, line->line,
                 "domain: \"%.*s\" is none of: example.com, *.example.com, [*.]example.com",
                 SHOW(domain));
    return 0;
}

struct domain_adding {
    struct build *build;
    struct conf_address_list *list;
    const struct list_line *line;
};

static int add_expanded(void *context, struct slice domain, bool from_macro)
{
    struct domain_adding *adding = context;

    return add_domain(adding->build, adding->list, adding->line, domain);
}

/* A domain, or those that a macro in it stands for. */
static int add_domains(struct build *build, struct conf_address_list *list,
                       const struct list_line *line, struct slice text)
{
    struct domain_adding adding = {build, list, line};
    int rc = macro_expand(&build->macros, text, add_expanded, &adding);

    if (rc == E_SYNTAX)
        build_macro_error(build, line->file, line->line, "domain");
    return rc == E_SYNTAX ? 0 : rc;
}

static int add_address(struct build *build, struct conf_address_list *list,
                       const struct list_line *line, struct slice address)
{
    if (slice_find(address, '@') < address.len && is_entry(address))
        return put_entry(build, list, address);
    report_error(build->report, line->file, line->line, "address: \"%.*s\" is not a mail address",
                 SHOW(address));
    return 0;
}

typedef int add_fn(struct build *build, struct conf_address_list *list,
                   const struct list_line *line, struct slice member);

/* One member, or several with commas between them; all of it may stand in quotes. */
static int add_each(struct build *build, struct conf_address_list *list,
                    const struct list_line *line, struct slice text, add_fn *add)
{
    struct slice rest = text, word, member;
    int rc = 0;

    /* Quotes may also belong to the address: "a b"@example.com. */
    if (text.data[0] == '"' && value_next_word(&rest, &word) > 0 && slice_trim(rest).len == 0)
        text = word;
    while (rc == 0 && value_next_item(&text, &member))
        rc = add(build, list, line, member);
    return rc;
}

/* A daemon has another working directory than whoever tests its file, so the path is absolute. */
static bool take_path(struct build *build, const struct list_line *line, struct slice *path)
{
    struct slice rest = *path;

    if (rest.data[0] == '"' && (value_next_word(&rest, path) < 0 || slice_trim(rest).len > 0))
        *path = SLICE_EMPTY;
    if (path->len > 0 && path->data[0] == '/')
        return true;
    report_error(build->report, line->file, line->line,
                 "address-file: \"%.*s\" is not an absolute path", SHOW(*path));
    return false;
}

/* One address a line; a domain alone or behind an @ stands for all of its addresses. What is
 * neither is kept as it stands, and told. */
static int add_lines(struct build *build, struct conf_address_list *list,
                     const struct list_line *line, const char *name, FILE *file)
{
    char text[FILE_LINE_MAX];
    uint32_t number = 0, odd_count = 0, odd_first = 0;
    int rc = 0;

    while (rc == 0 && fgets(text, sizeof(text), file) != NULL) {
        struct slice entry = slice_trim(slice_of(text, strcspn(text, "\r\n")));

        number++;
        if (entry.len == 0 || entry.data[0] == '#')
            continue;
        if (!is_entry(entry) && odd_count++ == 0)
            odd_first = number;
        rc = put_entry(build, list, entry);
    }
    /* Half a list would let mail through to the other half. */
    if (ferror(file))
        report_error(build->report, line->file, line->line, "address-file %s: %s", name,
                     strerror(errno));
    if (odd_count > 0)
        report_warning(build->report, line->file, line->line,
                       "address-file %s: lines that are neither an address nor a domain: %u, the "
                       "first is line %u; they stand for nobody",
                       name, odd_count, odd_first);
    return rc;
}

static int add_file(struct build *build, struct conf_address_list *list,
                    const struct list_line *line, struct slice path)
{
    char name[FILE_LINE_MAX];
    struct stat facts;
    FILE *file;
    int rc;

    snprintf(name, sizeof(name), "%.*s", (int)path.len, (const char *)path.data);
    if (build->options->no_includes) {
        report_error(build->report, line->file, line->line, "address-file cannot be used here");
        return 0;
    }
    file = fopen(name, "re");
    if (file == NULL || fstat(fileno(file), &facts) < 0 || !S_ISREG(facts.st_mode)) {
        if (!build->options->syntax_only)
            report_error(build->report, line->file, line->line, "address-file %.*s: %s", SHOW(path),
                         file == NULL ? strerror(errno) : "not a regular file");
        if (file != NULL)
            fclose(file);
        return 0;
    }
    rc = add_lines(build, list, line, name, file);
    fclose(file);
    return rc;
}

static int read_line(struct build *build, struct conf_address_list *list,
                     const struct list_line *line)
{
    static const struct slice words[] = {SLICE_LITERAL("address"), SLICE_LITERAL("domain"),
                                         SLICE_LITERAL("address-file")};
    struct slice keyword = line->text;
    struct slice rest, pattern;
    int found;

    for (size_t i = 0; i < keyword.len; i++) {
        if (keyword.data[i] == ' ' || keyword.data[i] == '\t')
            keyword.len = i;
    }
    rest = slice_trim(slice_after(line->text, keyword.len));
    if (rest.len > 0 && slice_equal_nocase(keyword, words[1]))
        return add_each(build, list, line, rest, add_domains);
    if (rest.len > 0 && slice_equal_nocase(keyword, words[2]))
        return take_path(build, line, &rest) ? add_file(build, list, line, rest) : 0;
    if (rest.len > 0 && slice_equal_nocase(keyword, words[0])) {
        found = list_next_regex(&rest, &pattern);
        if (found > 0)
            add_pattern(build, list, line, pattern);
        else if (found == 0)
            return add_each(build, list, line, rest, add_address);
        if (found >= 0)
            return 0;
    }
    report_error(build->report, line->file, line->line,
                 "\"%.*s\" is none of: address ADDRESS, address /PATTERN/, domain DOMAIN, "
                 "address-file PATH",
                 SHOW(line->text));
    return 0;
}

const struct conf_address_list *address_list_find(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->address_list_count; i++) {
        if (slice_equal_nocase(conf->address_lists[i].name, name))
            return &conf->address_lists[i];
    }
    return NULL;
}

void build_address_lists(struct build *build)
{
    struct conf *conf = build->conf;
    const struct section *first = build->tree->top.children;
    uint32_t most = 0;

    for (const struct section *at = first; at != NULL; at = at->next)
        most += address_list_is(at);
    conf->address_lists = arena_alloc(&conf->arena, most * sizeof(*conf->address_lists));
    for (const struct section *at = first; at != NULL; at = at->next) {
        struct conf_address_list *list = &conf->address_lists[conf->address_list_count];

        if (!address_list_is(at))
            continue;
        if (at->name.len == 0)
            report_error(build->report, at->file, at->line, "<address-list> needs a name here");
        if (address_list_find(conf, at->name) != NULL)
            report_error(build->report, at->file, at->line, "<address-list %.*s> is given twice",
                         SHOW(at->name));
        *list = (struct conf_address_list){.name = at->name};
        table_init(&list->addresses);
        conf->address_list_count++;
        for (const struct list_line *line = at->lines; line != NULL; line = line->next) {
            if (read_line(build, list, line) < 0)
                report_error(build->report, line->file, line->line, "too little memory");
        }
    }
}

/* An open relay is not to be had by a slip. */
static bool is_open_relay(struct build *build, const struct entry *entry, struct slice name)
{
    if (name.len == 0 || name.data[0] != '*' || (name.len > 1 && name.data[1] == '.'))
        return false;
    report_error(
        build->report, entry->file, entry->line,
        "relay-domain: \"%.*s\" would take everybody's mail to anywhere; who may do that is "
        "said by always-allow-relaying in a <source>",
        SHOW(name));
    return true;
}

static void add_relay(struct build *build, const struct entry *entry, const char *keyword,
                      struct slice text)
{
    size_t keyword_len = strlen(keyword);
    char *room = arena_alloc(&build->conf->arena, keyword_len + text.len);
    struct list_line line = {
        .text = slice_of(room, keyword_len + text.len), .file = entry->file, .line = entry->line};

    memcpy(room, keyword, keyword_len);
    memcpy(room + keyword_len, text.data, text.len);
    if (read_line(build, build->conf->relay, &line) < 0)
        report_error(build->report, entry->file, entry->line, "too little memory");
}

void build_relay(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct entry_list domains = build_entries(build, top, STORE_RELAY_DOMAIN);
    struct entry_list addresses = build_entries(build, top, STORE_RELAY_ADDRESS);
    struct conf *conf = build->conf;

    if (domains.count + addresses.count == 0)
        return;
    conf->relay = arena_alloc(&conf->arena, sizeof(*conf->relay));
    *conf->relay = (struct conf_address_list){.name = SLICE_EMPTY};
    table_init(&conf->relay->addresses);
    for (uint32_t i = 0; i < domains.count; i++) {
        struct slice rest = slice_str(domains.items[i]->value.text), name;

        while (value_next_item(&rest, &name)) {
            if (!is_open_relay(build, domains.items[i], name))
                add_relay(build, domains.items[i], "domain ", name);
        }
    }
    for (uint32_t i = 0; i < addresses.count; i++)
        add_relay(build, addresses.items[i], "address ", slice_str(addresses.items[i]->value.text));
}

void address_lists_fini(struct conf *conf)
{
    if (conf->relay != NULL)
        table_fini(&conf->relay->addresses);
    for (uint32_t i = 0; i < conf->address_list_count; i++)
        table_fini(&conf->address_lists[i].addresses);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static bool has_domain_above(const struct conf_address_list *list, struct slice domain)
{
    char key[2 + 255];

    for (size_t at = 0; at < domain.len && domain.len - at < sizeof(key) - 1; at++) {
        if (domain.data[at] != '.')
            continue;
        key[0] = '@';
        memcpy(key + 1, domain.data + at, domain.len - at);
        if (has_text(list, slice_of(key, 1 + domain.len - at)))
            return true;
    }
    return false;
}

bool conf_address_list_has(const struct conf_address_list *list, struct slice address,
                           struct regex_scratch *scratch)
{
    struct regex_subject subject;
    size_t at = address.len;

    if (has_text(list, address))
        return true;
    while (at > 0 && address.data[at - 1] != '@')
        at--;
    if (at > 0 && (has_text(list, slice_after(address, at - 1)) ||
                   has_domain_above(list, slice_after(address, at))))
        return true;
    if (list->patterns == NULL)
        return false;
    regex_subject_set(&subject, address);
    for (const struct address_pattern *pattern = list->patterns; pattern != NULL;
         pattern = pattern->next) {
        if (regex_match(pattern->regex, &subject, scratch) == REGEX_YES)
            return true;
    }
    return false;
}

bool conf_relays(const struct conf *conf, struct slice address, struct regex_scratch *scratch)
{
    return conf->relay != NULL && conf_address_list_has(conf->relay, address, scratch);
}
