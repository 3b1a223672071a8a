/* Reading of one `reply` line. */
#include "core/base/hash.h"
#include "core/conf/pattern_list.h"
#include "core/conf/reply_list.h"
#include "core/conf/show.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct reading {
    struct build *build;
    const struct list_line *line;
    struct conf_reply_rule *rule;
    bool has_trigger;
    bool has_scope;
    bool is_none; /* nothing is to be done, on purpose */
};

static bool refuse(const struct reading *reading, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(const struct reading *reading, const char *format, ...)
{
    char text[VALUE_WHY_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    report_error(reading->build->report, reading->line->file, reading->line->line, "%s", text);
    return false;
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* A time as directives have it; false after an error. */
static bool read_time(const struct reading *reading, const char *name, struct slice text,
                      bool may_be_never, uint64_t *ret_ms)
{
    const struct directive row = {.name = name,
                                  .type = TYPE_TIME,
                                  .max = may_be_never ? UINT64_MAX : BOUND_TIME,
                                  .flags = may_be_never ? FLAG_UNLIMITED : 0};
    char why[VALUE_WHY_MAX];
    struct value value;

    if (text.len == 0 || value_parse(&row, text, &reading->build->conf->arena, &value, why) < 0)
        return refuse(reading, "%s: \"%.*s\" is no time", name, SHOW(text));
    *ret_ms = value.number;
    return true;
}

static bool read_backoff(struct reading *reading, struct slice text)
{
    return read_time(reading, "backoff-to-normal-after", text, true, &reading->rule->backoff_ms);
}

static bool read_reenable(struct reading *reading, struct slice text)
{
    return read_time(reading, "reenable-after", text, true, &reading->rule->disabled_ms);
}

static bool read_stop(struct reading *reading, struct slice text)
{
    reading->rule->actions |= CONF_REPLY_STOP;
    if (!read_time(reading, "stop", text, false, &reading->rule->stop_ms))
        return false;
    return reading->rule->stop_ms > 0 || refuse(reading, "stop: a stop of no time does nothing");
}

/* "N/TIME", "P%" or "P%/TIME" */
static bool read_trigger(struct reading *reading, struct slice text)
{
    struct conf_reply_trigger *trigger = &reading->rule->trigger;
    size_t slash = slice_find(text, '/');
    struct slice number = slice_of(text.data, slash);
    bool is_share = slash > 0 && text.data[slash - 1] == '%';
    uint64_t count = 0;

    if (reading->has_trigger)
        return refuse(reading, "trigger is given twice");
    reading->has_trigger = true;
    *trigger = (struct conf_reply_trigger){.interval_ms = CONF_REPLY_SHARE_MS};
    if (is_share)
        number.len--;
    if (slice_to_u64(number, is_share ? 100 : CONF_REPLY_TRIGGER_MAX, &count) < 0 || count == 0 ||
        (slash == text.len && !is_share))
        return refuse(reading, "trigger: \"%.*s\" is neither N/TIME nor a share of 1%% to 100%%",
                      SHOW(text));
    trigger->count = is_share ? CONF_REPLY_SHARE_COUNT : (uint32_t)count;
    trigger->percent = is_share ? (uint32_t)count : 0;
    if (slash == text.len)
        return true;
    if (!read_time(reading, "trigger", slice_after(text, slash + 1), false, &trigger->interval_ms))
        return false;
    return trigger->interval_ms > 0 || refuse(reading, "trigger: a span of no time holds nothing");
}

static const char *const scopes[CONF_REPLY_SCOPES] = {
    [CONF_REPLY_OF_QUEUE] = "queue",
    [CONF_REPLY_OF_PROVIDER] = "provider",
    [CONF_REPLY_OF_SOURCE_IP] = "source-ip",
    [CONF_REPLY_OF_SENDER_DOMAIN] = "sender-domain",
    [CONF_REPLY_OF_JOB] = "job",
    [CONF_REPLY_OF_NETBLOCK] = "netblock",
};

static bool read_scope(struct reading *reading, struct slice text)
{
    if (reading->has_scope)
        return refuse(reading, "scope is given twice");
    reading->has_scope = true;
    for (unsigned i = 0; i < CONF_REPLY_SCOPES; i++) {
        if (slice_equal_nocase(text, slice_str(scopes[i]))) {
            reading->rule->scope = (enum conf_reply_scope)i;
            return true;
        }
    }
    return refuse(reading,
                  "scope: \"%.*s\" is none of queue, provider, source-ip, netblock, sender-domain "
                  "and job",
                  SHOW(text));
}

/* ---- Words ----------------------------------------------------------------------------------- */

/* Words alone. */
static const struct {
    const char *word;
    enum conf_reply_action action;
} actions[] = {
    {"mode=backoff", CONF_REPLY_BACKOFF},    {"mode=normal", CONF_REPLY_NORMAL},
    {"skip-mx", CONF_REPLY_SKIP_MX},         {"bounce-queue", CONF_REPLY_BOUNCE_QUEUE},
    {"bounce-rcpt", CONF_REPLY_BOUNCE_RCPT}, {"disable-source-ip", CONF_REPLY_DISABLE_SOURCE},
    {"defer-queue", CONF_REPLY_DEFER_QUEUE}, {"stop", CONF_REPLY_STOP},
    {"defer-rcpt", CONF_REPLY_DEFER_RCPT},
};

/* Words with a value behind them. */
static const struct {
    struct slice word;
    bool (*read)(struct reading *reading, struct slice value);
} values[] = {
    {{(const uint8_t *)"backoff-to-normal-after=", 24}, read_backoff},
    {{(const uint8_t *)"reenable-after=", 15}, read_reenable},
    {{(const uint8_t *)"stop=", 5}, read_stop},
    {{(const uint8_t *)"trigger=", 8}, read_trigger},
    {{(const uint8_t *)"scope=", 6}, read_scope},
};

static bool read_word(struct reading *reading, struct slice word)
{
    if (slice_equal_nocase(word, SLICE_LITERAL("none"))) {
        reading->is_none = true;
        return true;
    }
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (slice_equal_nocase(word, slice_str(actions[i].word))) {
            reading->rule->actions |= actions[i].action;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (slice_starts_nocase(word, values[i].word))
            return values[i].read(reading, slice_after(word, values[i].word.len));
    }
    return refuse(reading, "unknown action \"%.*s\"", SHOW(word));
}

/* An item between commas; behind blanks in it stand trigger and scope. */
static bool read_item(struct reading *reading, struct slice item)
{
    size_t at = 0;

    do {
        struct slice rest = slice_trim(slice_after(item, at));
        size_t len = 0;

        while (len < rest.len && rest.data[len] != ' ' && rest.data[len] != '\t')
            len++;
        if (!read_word(reading, slice_of(rest.data, len)))
            return false;
        at = (size_t)(rest.data - item.data) + len;
    } while (at < item.len);
    return true;
}

static const char *find_conflict(const struct reading *reading)
{
    const struct conf_reply_rule *rule = reading->rule;
    const unsigned modes = CONF_REPLY_BACKOFF | CONF_REPLY_NORMAL;
    const unsigned ways = CONF_REPLY_SKIP_MX | CONF_REPLY_BOUNCE_QUEUE;
    const unsigned fates = CONF_REPLY_BOUNCE_RCPT | CONF_REPLY_DEFER_RCPT;

    if ((rule->actions & modes) == modes)
        return "mode=backoff and mode=normal contradict each other";
    if ((rule->actions & ways) == ways)
        return "skip-mx and bounce-queue contradict each other";
    if ((rule->actions & fates) == fates)
        return "bounce-rcpt and defer-rcpt contradict each other";
    if (rule->disabled_ms != CONF_REPLY_NO_TIME && (rule->actions & CONF_REPLY_DISABLE_SOURCE) == 0)
        return "reenable-after does nothing without disable-source-ip";
    if (rule->backoff_ms != CONF_REPLY_NO_TIME && (rule->actions & CONF_REPLY_BACKOFF) == 0)
        return "backoff-to-normal-after does nothing without mode=backoff";
    if ((reading->has_trigger || reading->has_scope) && (rule->actions & CONF_REPLY_STANDING) == 0)
        return "trigger and scope do nothing without mode=, stop or disable-source-ip";
    if (reading->has_trigger && (rule->actions & CONF_REPLY_NORMAL) != 0 &&
        rule->scope != CONF_REPLY_OF_QUEUE)
        return "mode=normal with a trigger is the queue's alone";
    if (reading->is_none && rule->actions != 0)
        return "none stands alone";
    return rule->actions == 0 && !reading->is_none ? "the line asks for no action" : NULL;
}

/* ---- The line -------------------------------------------------------------------------------- */

/* Where the pattern ends: behind the last slash before a blank, since a trigger has one too; else
 * behind the last one. */
static size_t pattern_end(struct slice text)
{
    size_t end = 0;

    for (size_t i = 1; i < text.len; i++) {
        struct slice behind = slice_after(text, i);

        if (text.data[i] == '/' &&
            (behind.len == 1 || value_is_blank(behind.data[1]) ||
             (behind.len > 2 && behind.data[1] == 'i' && value_is_blank(behind.data[2]))))
            end = i + 1;
    }
    for (size_t i = 1; end == 0 && i < text.len; i++) {
        if (text.data[text.len - i] == '/')
            end = text.len - i + 1;
    }
    return end;
}

static uint64_t id_of(const char *list_name, struct slice text)
{
    return hash_combine(hash_bytes_nocase((const uint8_t *)list_name, strlen(list_name)),
                        hash_bytes(text.data, text.len));
}

static struct conf_reply_rule blank_rule(const char *list_name, const struct list_line *line)
{
    return (struct conf_reply_rule){.id = id_of(list_name, line->text),
                                    .backoff_ms = CONF_REPLY_NO_TIME,
                                    .disabled_ms = CONF_REPLY_NO_TIME,
                                    .stop_ms = CONF_REPLY_STOP_MS,
                                    .trigger = {.count = 1},
                                    .text = (const char *)line->text.data,
                                    .line = line->line};
}

static bool read_actions(struct reading *reading, struct slice text)
{
    struct slice item;

    while (value_next_item(&text, &item)) {
        if (!read_item(reading, item))
            return false;
    }
    return find_conflict(reading) == NULL || refuse(reading, "%s", find_conflict(reading));
}

bool reply_rule_split(struct slice text, struct slice *ret_regex, struct slice *ret_actions)
{
    static const struct slice reply = {(const uint8_t *)"reply", 5};
    struct slice rest = slice_trim(slice_after(text, reply.len < text.len ? reply.len : text.len));
    size_t end = pattern_end(rest);

    if (!slice_starts_nocase(text, reply) || rest.len == 0 || rest.data[0] != '/' || end < 2)
        return false;
    *ret_regex = slice_of(rest.data + 1, end - 2);
    *ret_actions = list_skip_flag(slice_after(rest, end));
    return ret_actions->len > 0;
}

bool reply_rule_read(struct build *build, const char *list_name, const struct list_line *line,
                     struct conf_reply_rule *rule)
{
    struct reading reading = {.build = build, .line = line, .rule = rule};
    struct slice regex, behind;

    *rule = blank_rule(list_name, line);
    if (!reply_rule_split(line->text, &regex, &behind))
        return refuse(&reading,
                      "\"%.*s\" is not of the form: reply /REGEX/ ACTION,... (a # starts a "
                      "comment; write \\x23)",
                      SHOW(line->text));
    rule->regex = list_compile(build, line, regex);
    return read_actions(&reading, behind) && rule->regex != NULL;
}

bool reply_rule_read_reaction(struct build *build, const char *list_name,
                              const struct list_line *line, struct conf_reply_rule *rule,
                              bool *ret_hold)
{
    static const struct slice words[] = {{(const uint8_t *)"reaction slow:", 14},
                                         {(const uint8_t *)"reaction hold:", 14}};
    struct reading reading = {.build = build, .line = line, .rule = rule};
    struct slice rest = line->text;
    size_t end;

    *rule = blank_rule(list_name, line);
    *ret_hold = slice_starts_nocase(rest, words[1]);
    if (!*ret_hold && !slice_starts_nocase(rest, words[0]))
        return refuse(&reading, "\"%.*s\" is not of the form: reaction slow:SCOPE ACTION,...",
                      SHOW(line->text));
    rest = slice_after(rest, words[0].len);
    end = slice_find(rest, ' ');
    if (!read_scope(&reading, slice_of(rest.data, end)))
        return false;
    /* The classifier names no blocks of addresses. */
    if (rule->scope == CONF_REPLY_OF_NETBLOCK)
        return refuse(&reading, "no reaction is of a netblock: write source-ip");
    if (end == rest.len)
        return refuse(&reading, "the line asks for no action");
    return read_actions(&reading, slice_trim(slice_after(rest, end)));
}

/* ---- Lines that are given again -------------------------------------------------------------- */

struct place {
    uint64_t id; /* of the line alone */
    uint32_t number;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *left = a, *right = b;

    if (left->id != right->id)
        return left->id < right->id ? -1 : 1;
    return left->number < right->number ? -1 : 1;
}

void reply_rules_tell_apart(struct arena *arena, const struct conf_reply_list *before,
                            struct conf_reply_rule *rules, uint32_t count)
{
    uint32_t earlier = before != NULL ? before->rule_count : 0, nth = 0;
    struct place *places = arena_alloc(arena, (earlier + count) * sizeof(*places));

    /* The earlier ones were told apart already, so only their texts say which are equal. */
    for (uint32_t i = 0; i < earlier; i++)
        places[i] = (struct place){id_of(before->name, slice_str(before->rules[i].text)), i};
    for (uint32_t i = 0; i < count; i++)
        places[earlier + i] = (struct place){rules[i].id, earlier + i};
    qsort(places, earlier + count, sizeof(*places), compare_places);
    for (uint32_t i = 1; i < earlier + count; i++) {
        nth = places[i].id == places[i - 1].id ? nth + 1 : 0;
        if (nth > 0 && places[i].number >= earlier)
            rules[places[i].number - earlier].id = hash_combine(places[i].id, nth);
    }
}
