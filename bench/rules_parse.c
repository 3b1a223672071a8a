/* The parser of the rules. Each word of the language stands in one table. */
#include "bench/rules_int.h"
#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 1024
#define NS_PER_S       1000000000.0
#define SECONDS_MAX    1e8
#define DELAY_MAX_MS   3600000

/* Stages at which something is known. */
#define STAGES_ALL  ((1u << RULE_STAGE_COUNT) - 1)
#define STAGES_RCPT (1u << RULE_RCPT)
#define STAGES_MAIL                                                                                \
    (1u << RULE_MAIL | 1u << RULE_RCPT | 1u << RULE_DATA | 1u << RULE_CONTENT | 1u << RULE_DOT)

void rule_free(struct rule *rule)
{
    mem_free(rule->reply);
    mem_free(rule->to);
    mem_free(rule->sender);
    mem_free(rule);
}

/* ---- Values ---------------------------------------------------------------------------------- */

static int take_u64(uint64_t *into, const char *value)
{
    return slice_to_u64(slice_str(value), UINT64_MAX, into);
}

/* Decimal seconds, at the pace of the rules. */
static int take_seconds(const struct rules *rules, uint64_t *into, const char *value)
{
    char *end;
    double seconds;

    if (value[0] < '0' || value[0] > '9')
        return E_SYNTAX;
    seconds = strtod(value, &end);
    if (*end != '\0')
        return E_SYNTAX;
    if (!(seconds <= SECONDS_MAX))
        return E_RANGE;
    *into = (uint64_t)(seconds / rules->pace * NS_PER_S);
    return 0;
}

static int take_text(char **into, const char *value)
{
    mem_free(*into);
    *into = mem_strdup(value);
    return 0;
}

/* ---- Conditions and modifiers ---------------------------------------------------------------- */

static int take_to(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_text(&rule->to, value);
}

static int take_sender(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_text(&rule->sender, value);
}

static int take_from(const struct rules *rules, struct rule *rule, const char *value)
{
    rule->has_from = true;
    return cidr_parse(slice_str(value), &rule->from);
}

static int take_at(const struct rules *rules, struct rule *rule, const char *value)
{
    rule->has_at = true;
    return cidr_parse(slice_str(value), &rule->at);
}

static int take_percent(const struct rules *rules, struct rule *rule, const char *value)
{
    char *end;

    rule->percent = strtod(value, &end);
    return end == value || *end != '\0' || !(rule->percent >= 0 && rule->percent <= 100) ? E_SYNTAX
                                                                                         : 0;
}

static int take_every(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_u64(&rule->every, value);
}

static int take_first(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_u64(&rule->first, value);
}

static int take_connections(const struct rules *rules, struct rule *rule, const char *value)
{
    rule->has_connections = true;
    return take_u64(&rule->connections, value);
}

static int take_total(const struct rules *rules, struct rule *rule, const char *value)
{
    rule->has_total = true;
    return take_u64(&rule->total, value);
}

static int take_messages(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_u64(&rule->messages, value);
}

static int take_commands(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_u64(&rule->commands, value);
}

static int take_recipients(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_u64(&rule->recipients, value);
}

static int take_after(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_seconds(rules, &rule->after_ns, value);
}

static int take_until(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_seconds(rules, &rule->until_ns, value);
}

static int take_period(const struct rules *rules, struct rule *rule, const char *value)
{
    int error = take_seconds(rules, &rule->period_ns, value);

    return error == 0 && rule->period_ns == 0 ? E_RANGE : error;
}

/* N/S */
static int take_rate(const struct rules *rules, struct rule *rule, const char *value)
{
    size_t len = strcspn(value, "/");
    int error = slice_to_u64(slice_of(value, len), UINT32_MAX, &rule->rate_count);

    if (error == 0)
        error = value[len] == '/' ? take_seconds(rules, &rule->rate_span_ns, value + len + 1)
                                  : E_SYNTAX;
    if (error == 0 && (rule->rate_count == 0 || rule->rate_span_ns < rule->rate_count))
        error = E_RANGE;
    return error;
}

static int take_per(const struct rules *rules, struct rule *rule, const char *value)
{
    static const char *const names[] = {
        [RULE_PER_CLIENT] = "client", [RULE_PER_DOMAIN] = "domain", [RULE_PER_RCPT] = "rcpt",
        [RULE_PER_SENDER] = "sender", [RULE_PER_ALL] = "all",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(value, names[i]) == 0) {
            rule->per = (enum rule_whom)i;
            return 0;
        }
    }
    return E_UNKNOWN;
}

static int take_penalty(const struct rules *rules, struct rule *rule, const char *value)
{
    return take_seconds(rules, &rule->penalty_ns, value);
}

static int take_grey(const struct rules *rules, struct rule *rule, const char *value)
{
    int error = take_seconds(rules, &rule->grey_ns, value);

    return error == 0 && rule->grey_ns == 0 ? E_RANGE : error;
}

/* MS or LOW-HIGH */
static int take_delay(const struct rules *rules, struct rule *rule, const char *value)
{
    size_t len = strcspn(value, "-");
    int error = slice_to_u64(slice_of(value, len), DELAY_MAX_MS, &rule->delay_low_ms);

    rule->delay_high_ms = rule->delay_low_ms;
    if (error == 0 && value[len] == '-')
        error = slice_to_u64(slice_str(value + len + 1), DELAY_MAX_MS, &rule->delay_high_ms);
    return error == 0 && rule->delay_high_ms < rule->delay_low_ms ? E_RANGE : error;
}

static int take_cut(const struct rules *rules, struct rule *rule, const char *value)
{
    uint64_t octets;
    int error = slice_to_u64(slice_str(value), RULE_REPLY_MAX, &octets);

    rule->cut = (uint32_t)octets;
    rule->decides = true;
    rule->ends = true;
    return error;
}

static const struct {
    const char *name;
    uint32_t stages;
    int (*take)(const struct rules *rules, struct rule *rule, const char *value);
} words[] = {
    {"to", STAGES_RCPT, take_to},
    {"sender", STAGES_MAIL, take_sender},
    {"from", STAGES_ALL, take_from},
    {"at", STAGES_ALL, take_at},
    {"percent", STAGES_ALL, take_percent},
    {"every", STAGES_ALL, take_every},
    {"first", STAGES_ALL, take_first},
    {"connections", STAGES_ALL, take_connections},
    {"total", STAGES_ALL, take_total},
    {"messages", STAGES_ALL, take_messages},
    {"commands", STAGES_ALL, take_commands},
    {"recipients", STAGES_MAIL, take_recipients},
    {"after", STAGES_ALL, take_after},
    {"until", STAGES_ALL, take_until},
    {"period", STAGES_ALL, take_period},
    {"rate", STAGES_ALL, take_rate},
    {"per", STAGES_ALL, take_per},
    {"penalty", STAGES_ALL, take_penalty},
    {"grey", STAGES_RCPT, take_grey},
    {"delay", STAGES_ALL, take_delay},
    {"cut", STAGES_ALL & ~(1u << RULE_CONTENT), take_cut},
};

static int set_word(const struct rules *rules, struct rule *rule, uint32_t stages, const char *name,
                    const char *value)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(name, words[i].name) != 0)
            continue;
        /* Every stage of the rule must know what the word speaks of. */
        return (stages & ~words[i].stages) != 0 ? E_SYNTAX : words[i].take(rules, rule, value);
    }
    return E_UNKNOWN;
}

/* ---- Actions --------------------------------------------------------------------------------- */

static int keep_reply(struct rule *rule, const char *text, size_t len)
{
    if (len > RULE_REPLY_MAX)
        return E_TOO_LONG;
    rule->reply = mem_alloc(len + 1);
    memcpy(rule->reply, text, len);
    rule->reply_len = len;
    return 0;
}

/* "421 4.7.0 First\nsecond": every line gets the code, all but the last the hyphen. */
static int take_reply(struct rule *rule, const char *text)
{
    char room[2 * LINE_MAX_BYTES];
    size_t used = 0;

    if (text[0] < '2' || text[0] > '5' || strspn(text, "0123456789") != 3 ||
        (text[3] != ' ' && text[3] != '\0'))
        return E_SYNTAX;
    rule->action = RULE_REPLY;
    for (const char *line = text[3] == ' ' ? text + 4 : text + 3;;) {
        const char *end = strstr(line, "\\n");
        size_t len = end != NULL ? (size_t)(end - line) : strlen(line);

        if (used + len + 6 > sizeof(room))
            return E_TOO_LONG;
        memcpy(room + used, text, 3);
        room[used + 3] = end != NULL ? '-' : ' ';
        memcpy(room + used + 4, line, len);
        used += len + 4;
        if (end == NULL)
            return keep_reply(rule, room, used);
        memcpy(room + used, "\r\n", 2);
        used += 2;
        line = end + 2;
    }
}

static int hex_of(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c != '\0' ? strchr(digits, c | 0x20) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

static int take_say(struct rule *rule, const char *text)
{
    char room[LINE_MAX_BYTES];
    size_t used = 0;

    rule->action = RULE_SAY;
    while (*text != '\0') {
        char octet = *text++;

        if (octet == '\\') {
            octet = *text++;
            if (octet == 'r') {
                octet = '\r';
            } else if (octet == 'n') {
                octet = '\n';
            } else if (octet == 'x') {
                int high = hex_of(text[0]);
                int low = high < 0 ? -1 : hex_of(text[1]);

                if (low < 0)
                    return E_SYNTAX;
                octet = (char)(high << 4 | low);
                text += 2;
            } else if (octet != '\\') {
                return E_SYNTAX;
            }
        }
        room[used++] = octet;
    }
    return used == 0 ? E_SYNTAX : keep_reply(rule, room, used);
}

/* The text behind a word, NULL when the text does not begin with it. */
static const char *behind_word(const char *text, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(text, word, len) != 0 || (text[len] != '\0' && text[len] != ' '))
        return NULL;
    return text + len + strspn(text + len, " \t");
}

static int take_action(struct rule *rule, const char *rest)
{
    static const struct {
        const char *name;
        enum rule_action action;
    } plain[] = {
        {"drop", RULE_DROP}, {"reset", RULE_RESET}, {"hang", RULE_HANG}, {"flood", RULE_FLOOD}};
    const char *behind = behind_word(rest, "close");

    if (*rest == '\0')
        /* A rule that does nothing is a slip of the pen. */
        return rule->delay_high_ms == 0 && !rule->decides ? E_SYNTAX : 0;
    rule->decides = true;
    if (behind != NULL) {
        rule->ends = true;
        return *behind == '\0' ? 0 : take_reply(rule, behind);
    }
    behind = behind_word(rest, "say");
    if (behind != NULL)
        return take_say(rule, behind);
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (strcmp(rest, plain[i].name) == 0) {
            rule->action = plain[i].action;
            return rule->cut == RULE_UNCUT ? 0 : E_SYNTAX;
        }
    }
    return take_reply(rule, rest);
}

/* ---- Lines ----------------------------------------------------------------------------------- */

/* Words while they hold a '='; what follows them is the action. */
static int parse_words(const struct rules *rules, struct rule *rule, uint32_t stages, char *rest)
{
    for (;;) {
        size_t len = strcspn(rest, " \t");
        char *equals = memchr(rest, '=', len);
        char *next = rest + len;
        int error;

        /* A reply may hold a '=' too, but begins with a digit. */
        if (equals == NULL || (rest[0] >= '0' && rest[0] <= '9'))
            return take_action(rule, rest);
        next += strspn(next, " \t");
        rest[len] = '\0';
        *equals = '\0';
        error = set_word(rules, rule, stages, rest, equals + 1);
        if (error != 0)
            return error;
        rest = next;
    }
}

static bool makes_sense(const struct rule *rule, uint32_t stages)
{
    bool is_of_rcpt = rule->per == RULE_PER_DOMAIN || rule->per == RULE_PER_RCPT;
    bool is_of_mail = is_of_rcpt || rule->per == RULE_PER_SENDER;

    if (is_of_rcpt && (stages & ~STAGES_RCPT) != 0)
        return false;
    if (is_of_mail && (stages & ~STAGES_MAIL) != 0)
        return false;
    if ((rule->penalty_ns > 0 || rule->per != RULE_PER_CLIENT) && rule->rate_count == 0)
        return false;
    /* Nothing is to be answered there. */
    if ((stages & 1u << RULE_CONTENT) != 0 &&
        (rule->ends || rule->reply != NULL || rule->action == RULE_FLOOD))
        return false;
    return true;
}

/* Stages as bits, 0 when the word is none. */
static uint32_t stages_of(const char *word)
{
    static const char *const names[] = {
#define STAGE_NAME(name, text) #text,
        RULE_STAGES(STAGE_NAME)
#undef STAGE_NAME
    };

    if (strcmp(word, "any") == 0)
        return STAGES_ALL & ~(1u << RULE_CONTENT);
    for (uint32_t stage = 0; stage < RULE_STAGE_COUNT; stage++) {
        if (strcmp(word, names[stage]) == 0)
            return 1u << stage;
    }
    return 0;
}

static int add_rule(struct rules *rules, uint32_t stages, char *rest)
{
    struct rule *rule;
    int error;

    if (rules->count == RULES_MAX)
        return E_FULL;
    rule = mem_alloc(sizeof(*rule));
    rule->percent = -1;
    rule->until_ns = UINT64_MAX;
    rule->first = UINT64_MAX;
    rule->cut = RULE_UNCUT;
    error = parse_words(rules, rule, stages, rest);
    if (error == 0 && !makes_sense(rule, stages))
        error = E_SYNTAX;
    if (error != 0) {
        rule_free(rule);
        return error;
    }
    rules->wants_sender |=
        rule->sender != NULL || rule->grey_ns > 0 || rule->per == RULE_PER_SENDER;
    rule->index = rules->count;
    rules->list[rules->count++] = rule;
    for (uint32_t stage = 0; stage < RULE_STAGE_COUNT; stage++) {
        if ((stages & 1u << stage) != 0)
            rules->by_stage[stage][rules->stage_counts[stage]++] = (uint16_t)rule->index;
    }
    return 0;
}

static int set_offers(struct rules *rules, char *rest)
{
    static const char *const names[] = {
#define OFFER_NAME(name, text) #text,
        RULE_OFFERS(OFFER_NAME)
#undef OFFER_NAME
    };
    uint32_t offers = 0;
    const char *word;

    while ((word = strsep(&rest, " \t")) != NULL) {
        uint32_t bit = 0;

        while (bit < RULE_OFFER_COUNT && strcmp(word, names[bit]) != 0)
            bit++;
        if (*word != '\0' && bit == RULE_OFFER_COUNT)
            return E_UNKNOWN;
        offers |= *word != '\0' ? 1u << bit : 0;
    }
    rules->has_offers = true;
    rules->offers = offers;
    return 0;
}

int rules_add(struct rules *rules, const char *line)
{
    char room[LINE_MAX_BYTES];
    char *rest = room;
    size_t len = strcspn(line, "#\r\n");
    char *word;
    uint32_t stages;

    while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
        len--;
    if (len >= sizeof(room))
        return E_TOO_LONG;
    memcpy(room, line, len);
    room[len] = '\0';
    rest += strspn(rest, " \t");
    if (*rest == '\0')
        return 0;
    word = rest;
    rest += strcspn(rest, " \t");
    if (*rest != '\0')
        *rest++ = '\0';
    rest += strspn(rest, " \t");
    if (strcmp(word, "lag") == 0)
        return slice_to_u64(slice_str(rest), DELAY_MAX_MS, &rules->lag_ms);
    if (strcmp(word, "offer") == 0)
        return set_offers(rules, rest);
    stages = stages_of(word);
    return stages == 0 ? E_SYNTAX : add_rule(rules, stages, rest);
}

int rules_add_text(struct rules *rules, const char *text, unsigned *ret_line)
{
    int error = 0;

    *ret_line = 0;
    while (error == 0 && *text != '\0') {
        ++*ret_line;
        /* rules_add reads to the end of the line. */
        error = rules_add(rules, text);
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return error;
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
