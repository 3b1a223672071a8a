#include "bench/rules.h"

#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/mem.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 1024

struct rule {
    struct list link;
    enum rule_action action;
    char *reply;
    char *to;
    struct cidr from;
    struct cidr at;
    bool has_from;
    bool has_at;
    bool has_connections;
    double percent; /* < 0: no matter */
    uint64_t every;
    uint64_t first;
    uint64_t connections;
    uint64_t messages;
    uint64_t after_ns;
    uint64_t until_ns;
    uint64_t delay_ms;
    uint64_t met; /* events that met the conditions before every= and first= */
};

struct rules {
    struct list by_stage[RULE_STAGES];
};

struct rules *rules_create(void)
{
    struct rules *rules = mem_alloc(sizeof(*rules));

    for (int stage = 0; stage < RULE_STAGES; stage++)
        list_init(&rules->by_stage[stage]);
    return rules;
}

static void free_rule(struct rule *rule)
{
    mem_free(rule->reply);
    mem_free(rule->to);
    mem_free(rule);
}

void rules_destroy(struct rules *rules)
{
    if (rules == NULL)
        return;
    for (int stage = 0; stage < RULE_STAGES; stage++) {
        struct list *node;

        while ((node = list_pop_front(&rules->by_stage[stage])) != NULL)
            free_rule(container_of(node, struct rule, link));
    }
    mem_free(rules);
}

/* ---- Reading ------------------------------------------------------------------------------- */

static int stage_of(const char *word)
{
    static const char *const names[RULE_STAGES] = {
        "connect", "ehlo", "mail", "rcpt", "data", "dot", "quit",
    };

    for (int stage = 0; stage < RULE_STAGES; stage++) {
        if (strcmp(word, names[stage]) == 0)
            return stage;
    }
    return E_SYNTAX;
}

static int set_seconds(uint64_t *into, const char *value)
{
    int error = slice_to_u64(slice_str(value), 1000000, into);

    *into *= 1000000000ull;
    return error;
}

static int set_percent(struct rule *rule, const char *value)
{
    char *end;

    rule->percent = strtod(value, &end);
    return end == value || *end != '\0' || !(rule->percent >= 0 && rule->percent <= 100) ? E_SYNTAX
                                                                                         : 0;
}

static int set_condition(struct rule *rule, const char *name, const char *value)
{
    struct slice text = slice_str(value);

    if (strcmp(name, "to") == 0) {
        mem_free(rule->to);
        rule->to = mem_strdup(value);
        return 0;
    }
    if (strcmp(name, "from") == 0) {
        rule->has_from = true;
        return cidr_parse(text, &rule->from);
    }
    if (strcmp(name, "at") == 0) {
        rule->has_at = true;
        return cidr_parse(text, &rule->at);
    }
    if (strcmp(name, "percent") == 0)
        return set_percent(rule, value);
    if (strcmp(name, "every") == 0)
        return slice_to_u64(text, UINT64_MAX, &rule->every);
    if (strcmp(name, "first") == 0)
        return slice_to_u64(text, UINT64_MAX, &rule->first);
    if (strcmp(name, "connections") == 0) {
        rule->has_connections = true;
        return slice_to_u64(text, UINT64_MAX, &rule->connections);
    }
    if (strcmp(name, "messages") == 0)
        return slice_to_u64(text, UINT64_MAX, &rule->messages);
    if (strcmp(name, "after") == 0)
        return set_seconds(&rule->after_ns, value);
    if (strcmp(name, "until") == 0)
        return set_seconds(&rule->until_ns, value);
    if (strcmp(name, "delay") == 0)
        return slice_to_u64(text, 3600000, &rule->delay_ms);
    return E_UNKNOWN;
}

static int set_action(struct rule *rule, const char *rest)
{
    if (*rest == '\0') {
        /* A rule that does nothing is a slip of the pen. */
        rule->action = RULE_BEHAVE;
        return rule->delay_ms == 0 ? E_SYNTAX : 0;
    }
    if (strcmp(rest, "drop") == 0)
        rule->action = RULE_DROP;
    else if (strcmp(rest, "reset") == 0)
        rule->action = RULE_RESET;
    else if (strcmp(rest, "hang") == 0)
        rule->action = RULE_HANG;
    else if (rest[0] >= '2' && rest[0] <= '5' && strlen(rest) >= 3)
        rule->action = RULE_REPLY;
    else
        return E_SYNTAX;
    if (rule->action == RULE_REPLY)
        rule->reply = mem_strdup(rest);
    return 0;
}

/* Conditions while words hold a '='; what follows them is the action. */
static int parse(struct rule *rule, char *rest)
{
    for (;;) {
        size_t len = strcspn(rest, " \t");
        char *equals = memchr(rest, '=', len);
        char *next = rest + len;
        int error;

        /* A reply may hold a '=' too, but begins with a digit. */
        if (equals == NULL || (rest[0] >= '0' && rest[0] <= '9'))
            return set_action(rule, rest);
        next += strspn(next, " \t");
        rest[len] = '\0';
        *equals = '\0';
        error = set_condition(rule, rest, equals + 1);
        if (error != 0)
            return error;
        rest = next;
    }
}

int rules_add(struct rules *rules, const char *line)
{
    char room[LINE_MAX_BYTES];
    char *rest = room;
    size_t len = strcspn(line, "#\r\n");
    struct rule *rule;
    int stage;
    int error;

    while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
        len--;
    if (len >= sizeof(room))
        return E_TOO_LONG;
    memcpy(room, line, len);
    room[len] = '\0';
    rest += strspn(rest, " \t");
    if (*rest == '\0')
        return 0;
    len = strcspn(rest, " \t");
    if (rest[len] != '\0')
        rest[len++] = '\0';
    stage = stage_of(rest);
    if (stage < 0)
        return stage;
    rest += len;
    rule = mem_alloc(sizeof(*rule));
    rule->percent = -1;
    rule->until_ns = UINT64_MAX;
    rule->first = UINT64_MAX;
    error = parse(rule, rest + strspn(rest, " \t"));
    if (error == 0 && rule->to != NULL && stage != RULE_RCPT)
        error = E_SYNTAX;
    if (error != 0) {
        free_rule(rule);
        return error;
    }
    list_push_back(&rules->by_stage[stage], &rule->link);
    return 0;
}

int rules_load(struct rules *rules, const char *path, unsigned *ret_line)
{
    char line[LINE_MAX_BYTES];
    FILE *stream = fopen(path, "re");
    int error = 0;

    *ret_line = 0;
    if (stream == NULL)
        return -errno;
    while (error == 0 && fgets(line, sizeof(line), stream) != NULL) {
        ++*ret_line;
        error = rules_add(rules, line);
    }
    fclose(stream);
    return error;
}

/* ---- Asking -------------------------------------------------------------------------------- */

bool rules_speak_of(const struct rules *rules, enum rule_stage stage)
{
    return !list_empty(&rules->by_stage[stage]);
}

static bool glob_matches(const char *pattern, struct slice address)
{
    char room[512];

    if (address.len >= sizeof(room))
        return false;
    memcpy(room, address.data, address.len);
    room[address.len] = '\0';
    return fnmatch(pattern, room, FNM_CASEFOLD) == 0;
}

static bool is_met(struct rule *rule, const struct rule_event *event, struct rng *rng)
{
    if (event->age_ns < rule->after_ns || event->age_ns >= rule->until_ns)
        return false;
    if (rule->has_connections && event->client_connections <= rule->connections)
        return false;
    if (event->connection_messages < rule->messages)
        return false;
    if (rule->has_from && !cidr_contains(&rule->from, event->client))
        return false;
    if (rule->has_at && !cidr_contains(&rule->at, event->called))
        return false;
    if (rule->to != NULL && !glob_matches(rule->to, event->rcpt))
        return false;
    if (rule->percent >= 0 && (double)rng_below(rng, 1000000) >= rule->percent * 10000)
        return false;
    rule->met++;
    return rule->met <= rule->first && (rule->every == 0 || rule->met % rule->every == 0);
}

void rules_ask(struct rules *rules, const struct rule_event *event, struct rng *rng,
               struct rule_verdict *ret_verdict)
{
    *ret_verdict = (struct rule_verdict){.action = RULE_BEHAVE};
    list_for_each (node, &rules->by_stage[event->stage]) {
        struct rule *rule = container_of(node, struct rule, link);

        if (!is_met(rule, event, rng))
            continue;
        ret_verdict->delay_ms += rule->delay_ms;
        if (rule->action == RULE_BEHAVE)
            continue;
        ret_verdict->action = rule->action;
        ret_verdict->reply = rule->reply;
        return;
    }
}
