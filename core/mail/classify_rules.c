#include "core/mail/classify_rules.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/pack/pack.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

/* Generated from classify.rules. */
extern const unsigned char classify_rules_text[];
extern const size_t classify_rules_text_bytes;

struct reading {
    struct classify_rules *rules;
    struct slice rest; /* of the line */
    char *why;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct reading *reading, const char *format,
                                                        ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reading->why, CLASSIFY_WHY_MAX, format, arguments);
    va_end(arguments);
    return E_SYNTAX;
}

/* ---- Words ---------------------------------------------------------------------------------- */

static struct slice take_until(struct slice *rest, const char *ends)
{
    struct slice word = slice_of(rest->data, 0);

    while (word.len < rest->len && memchr(ends, rest->data[word.len], strlen(ends)) == NULL)
        word.len++;
    *rest = slice_after(*rest, word.len < rest->len ? word.len + 1 : word.len);
    return word;
}

/* Empty at the end of the line. */
static struct slice take_word(struct reading *reading)
{
    reading->rest = slice_trim(reading->rest);
    return take_until(&reading->rest, " \t");
}

/* Position of a word in a table of words, or count. */
static uint32_t find_word(const char *const *words, uint32_t count, struct slice word)
{
    uint32_t i = 0;

    while (i < count && !slice_equal(slice_str(words[i]), word))
        i++;
    return i;
}

#define COUNT_OF(array)         ((uint32_t)(sizeof(array) / sizeof((array)[0])))
#define FIRST(word)             word,
#define SECOND(name, word, ...) word,

static const char *const category_words[] = {CLASSIFY_CATEGORY_TABLE(FIRST)};
static const char *const class_words[] = {CLASSIFY_CLASS_TABLE(SECOND)};
static const char *const reaction_words[] = {CLASSIFY_REACTION_TABLE(SECOND)};
static const char *const scope_words[] = {CLASSIFY_SCOPE_TABLE(SECOND)};
/* In the order of enum verdict_stage. */
static const char *const stage_words[] = {"dns",  "bind", "connect", "greeting", "ehlo", "mail",
                                          "rcpt", "data", "body",    "dot",      "idle", "local"};

const char *classify_class_text(enum classify_class class)
{
    return class_words[class];
}

const char *classify_reaction_text(enum classify_reaction reaction)
{
    return reaction_words[reaction];
}

const char *classify_scope_text(enum classify_scope scope)
{
    return scope_words[scope];
}

/* ---- Conditions ----------------------------------------------------------------------------- */

static int read_provider(struct reading *reading, struct classify_rule *rule, struct slice value)
{
    struct classify_rules *rules = reading->rules;

    while (value.len > 0) {
        struct slice name = take_until(&value, ",");
        uint32_t i = 0;

        while (i < rules->provider_count && !slice_equal(rules->providers[i].name, name))
            i++;
        if (i == rules->provider_count)
            return refuse(reading, "no provider \"%.*s\" above", (int)name.len, name.data);
        rule->providers |= UINT64_C(1) << i;
    }
    return 0;
}

static int read_stage(struct reading *reading, struct classify_rule *rule, struct slice value)
{
    rule->has_stage = true;
    while (value.len > 0) {
        struct slice word = take_until(&value, ",");
        uint32_t stage = find_word(stage_words, COUNT_OF(stage_words), word);

        if (stage == COUNT_OF(stage_words))
            return refuse(reading, "no stage \"%.*s\"", (int)word.len, word.data);
        rule->stages |= (uint16_t)(1u << stage);
    }
    return 0;
}

static int read_code(struct reading *reading, struct classify_rule *rule, struct slice value)
{
    while (value.len > 0) {
        struct slice word = take_until(&value, ",");
        uint64_t low;
        uint64_t span = 1;

        if (word.len > 3 || slice_to_u64(word, 599, &low) < 0 ||
            rule->code_count == CLASSIFY_CODES_MAX)
            return refuse(reading, "\"%.*s\" is no code, or one too many", (int)word.len,
                          word.data);
        for (size_t i = word.len; i < 3; i++)
            span *= 10;
        rule->codes[rule->code_count++] =
            (struct classify_code){(uint16_t)(low * span), (uint16_t)(low * span + span - 1)};
    }
    return 0;
}

static int read_one_status(struct slice word, struct classify_status *status)
{
    int parts = 0;

    *status = (struct classify_status){{CLASSIFY_PART_ANY, CLASSIFY_PART_ANY, CLASSIFY_PART_ANY}};
    while (word.len > 0 && parts < 3) {
        struct slice part = take_until(&word, ".");
        uint64_t number;

        if (!slice_equal(part, SLICE_LITERAL("x"))) {
            if (slice_to_u64(part, 999, &number) < 0)
                return E_SYNTAX;
            status->part[parts] = (int16_t)number;
        }
        parts++;
    }
    return parts == 0 || word.len > 0 ? E_SYNTAX : 0;
}

static int read_status(struct reading *reading, struct classify_rule *rule, struct slice value)
{
    while (value.len > 0) {
        struct slice word = take_until(&value, ",");

        if (rule->status_count == CLASSIFY_STATUSES_MAX ||
            read_one_status(word, &rule->statuses[rule->status_count]) < 0)
            return refuse(reading, "\"%.*s\" is no status, or one too many", (int)word.len,
                          word.data);
        rule->status_count++;
    }
    return 0;
}

static int read_pattern(struct reading *reading, struct classify_rule *rule)
{
    struct slice rest = slice_trim(reading->rest);
    char why[REGEX_WHY_MAX];

    if (rest.len < 3 || rest.data[rest.len - 1] != '/')
        return refuse(reading, "a pattern ends with a slash at the end of the line");
    if (regex_compile(slice_of(rest.data + 1, rest.len - 2), &rule->regex, why) < 0)
        return refuse(reading, "%s", why);
    return 0;
}

static const struct {
    struct slice key;
    int (*read)(struct reading *reading, struct classify_rule *rule, struct slice value);
} conditions[] = {
    {{(const uint8_t *)"from", 4}, read_provider},
    {{(const uint8_t *)"at", 2}, read_stage},
    {{(const uint8_t *)"code", 4}, read_code},
    {{(const uint8_t *)"status", 6}, read_status},
};

static int read_conditions(struct reading *reading, struct classify_rule *rule)
{
    for (;;) {
        struct slice word, key;
        uint32_t i = 0;
        int rc;

        reading->rest = slice_trim(reading->rest);
        if (reading->rest.len == 0)
            return 0;
        if (reading->rest.data[0] == '/')
            return read_pattern(reading, rule);
        word = take_word(reading);
        key = take_until(&word, "=");
        while (i < COUNT_OF(conditions) && !slice_equal(conditions[i].key, key))
            i++;
        if (i == COUNT_OF(conditions) || word.len == 0)
            return refuse(reading, "\"%.*s\" is no condition", (int)key.len, key.data);
        rc = conditions[i].read(reading, rule, word);
        if (rc < 0)
            return rc;
    }
}

/* ---- Lines ---------------------------------------------------------------------------------- */

static int read_reaction(struct reading *reading, struct classify_rule *rule)
{
    struct slice scope = take_word(reading);
    struct slice reaction = take_until(&scope, ":");

    rule->reaction = (uint8_t)find_word(reaction_words, COUNT_OF(reaction_words), reaction);
    rule->scope = (uint8_t)find_word(scope_words, COUNT_OF(scope_words), scope);
    if (rule->reaction == COUNT_OF(reaction_words))
        return refuse(reading, "no reaction \"%.*s\"", (int)reaction.len, reaction.data);
    if (rule->reaction == CLASSIFY_NO_REACTION && scope.len == 0)
        rule->scope = 0;
    else if (rule->reaction == CLASSIFY_NO_REACTION || rule->scope == COUNT_OF(scope_words))
        return refuse(reading, "no scope \"%.*s\"", (int)scope.len, scope.data);
    return 0;
}

static int read_rule(struct reading *reading, struct slice id, unsigned line)
{
    struct classify_rules *rules = reading->rules;
    struct classify_rule *rule = &rules->rules[rules->rule_count];
    struct slice category = take_word(reading), class = take_word(reading);
    uint32_t at = find_word(category_words, COUNT_OF(category_words), category);
    int rc;

    if (rules->rule_count == CLASSIFY_RULES_MAX)
        return refuse(reading, "more than %d rules", CLASSIFY_RULES_MAX);
    for (uint32_t i = 0; i < rules->rule_count; i++) {
        if (slice_equal(slice_str(rules->rules[i].id), id))
            return refuse(reading, "the id stands in line %u too", rules->rules[i].line);
    }
    *rule = (struct classify_rule){.line = line};
    if (at == COUNT_OF(category_words))
        return refuse(reading, "no category \"%.*s\"", (int)category.len, category.data);
    rule->id = (const char *)arena_copy(&rules->arena, id).data;
    rule->category = category_words[at];
    rule->class = (uint8_t)find_word(class_words, COUNT_OF(class_words), class);
    if (rule->class == COUNT_OF(class_words))
        return refuse(reading, "no class \"%.*s\"", (int)class.len, class.data);
    rc = read_reaction(reading, rule);
    if (rc == 0)
        rc = read_conditions(reading, rule);
    rules->rule_count += rc == 0 || rule->regex != NULL;
    return rc;
}

static int read_provider_line(struct reading *reading)
{
    struct classify_rules *rules = reading->rules;
    struct classify_provider *provider = &rules->providers[rules->provider_count];
    struct slice word = take_word(reading);

    if (rules->provider_count == CLASSIFY_PROVIDERS_MAX || word.len == 0)
        return refuse(reading, "a provider has a name, and there are %d at most",
                      CLASSIFY_PROVIDERS_MAX);
    *provider = (struct classify_provider){.name = arena_copy(&rules->arena, word)};
    while ((word = take_word(reading)).len > 0) {
        if (provider->suffix_count == CLASSIFY_SUFFIXES_MAX)
            return refuse(reading, "more than %d suffixes", CLASSIFY_SUFFIXES_MAX);
        provider->suffixes[provider->suffix_count++] = arena_copy(&rules->arena, word);
    }
    if (provider->suffix_count == 0)
        return refuse(reading, "a provider has suffixes");
    rules->provider_count++;
    return 0;
}

/* The providers of the pack, of which a file of rules may name more. */
static int read_pack(struct reading *reading)
{
    struct slice text = pack_text(), provider = SLICE_EMPTY;
    struct pack_hosts hosts;
    int rc = 0;

    while (rc == 0 && pack_next_hosts(&text, &provider, &hosts)) {
        char line[CLASSIFY_TEXT_MAX];

        must(hosts.provider.len + hosts.hosts.len + 1 < sizeof(line));
        snprintf(line, sizeof(line), "%.*s %.*s", (int)hosts.provider.len, hosts.provider.data,
                 (int)hosts.hosts.len, hosts.hosts.data);
        reading->rest = slice_str(line);
        rc = read_provider_line(reading);
    }
    return rc;
}

static int read_line(struct reading *reading, unsigned line)
{
    struct slice word = take_word(reading);

    if (word.len == 0 || word.data[0] == '#')
        return 0;
    if (slice_equal(word, SLICE_LITERAL("provider")))
        return read_provider_line(reading);
    return read_rule(reading, word, line);
}

static bool has_no_condition(const struct classify_rule *rule)
{
    return rule->regex == NULL && rule->providers == 0 && !rule->has_stage &&
           rule->code_count == 0 && rule->status_count == 0;
}

/* The last rule, and no other, decides without any condition. */
static int check_end(struct reading *reading, unsigned *ret_line)
{
    const struct classify_rules *rules = reading->rules;

    for (uint32_t i = 0; i < rules->rule_count; i++) {
        if (has_no_condition(&rules->rules[i]) == (i + 1 == rules->rule_count))
            continue;
        *ret_line = rules->rules[i].line;
        return refuse(reading, i + 1 == rules->rule_count
                                   ? "the last rule has conditions"
                                   : "no rule behind this one is ever tried");
    }
    return rules->rule_count > 0 ? 0 : refuse(reading, "there is no rule");
}

int classify_rules_new(const char *file, struct slice text, struct classify_rules **ret_rules,
                       unsigned *ret_line, char *why)
{
    struct reading reading = {.why = why};
    unsigned line = 0;
    int rc = 0;

    reading.rules = mem_alloc(sizeof(*reading.rules));
    arena_init(&reading.rules->arena);
    reading.rules->file = file;
    reading.rules->providers =
        mem_alloc((CLASSIFY_PROVIDERS_MAX + 1) * sizeof(struct classify_provider));
    reading.rules->rules = mem_alloc((CLASSIFY_RULES_MAX + 1) * sizeof(struct classify_rule));
    rc = read_pack(&reading);
    while (rc == 0 && text.len > 0) {
        reading.rest = take_until(&text, "\n");
        rc = read_line(&reading, ++line);
    }
    *ret_line = line;
    if (rc == 0)
        rc = check_end(&reading, ret_line);
    if (rc < 0)
        classify_rules_free(reading.rules);
    else
        *ret_rules = reading.rules;
    return rc;
}

void classify_rules_free(struct classify_rules *rules)
{
    if (rules == NULL)
        return;
    for (uint32_t i = 0; i < rules->rule_count; i++)
        regex_free(rules->rules[i].regex);
    mem_free(rules->rules);
    mem_free(rules->providers);
    arena_fini(&rules->arena);
    mem_free(rules);
}

/* ---- Built in ------------------------------------------------------------------------------- */

static struct classify_rules *shipped;

static void read_shipped(void)
{
    char why[CLASSIFY_WHY_MAX];
    unsigned line;

    must(classify_rules_new("core/mail/classify.rules", classify_shipped_text(), &shipped, &line,
                            why) == 0);
}

const struct classify_rules *classify_shipped(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    must(pthread_once(&once, read_shipped) == 0);
    return shipped;
}

struct slice classify_shipped_text(void)
{
    return slice_of(classify_rules_text, classify_rules_text_bytes);
}
