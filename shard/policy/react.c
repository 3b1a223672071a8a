#include "shard/policy/react.h"

#include "core/mail/classify.h"

#define MODES (CONF_REPLY_BACKOFF | CONF_REPLY_NORMAL)
#define WAYS  (CONF_REPLY_SKIP_MX | CONF_REPLY_BOUNCE_QUEUE)

static bool is_rcpt_deferral(const struct verdict *verdict)
{
    return verdict->stage == VERDICT_AT_RCPT && verdict->class == VERDICT_TRANSIENT;
}

enum react_group react_group_of(const struct conf_reply_rule *rule)
{
    return rule->scope == CONF_REPLY_OF_QUEUE           ? REACT_OF_QUEUE
           : rule->scope == CONF_REPLY_OF_SENDER_DOMAIN ? REACT_OF_SENDER_DOMAIN
           : rule->scope == CONF_REPLY_OF_JOB           ? REACT_OF_JOB
                                                        : REACT_OF_ADDRESSES;
}

/* What the line leaves standing and none before it said of the same. */
static unsigned take_standing(struct react_lines *lines, const struct conf_reply_rule *rule,
                              unsigned actions)
{
    if (lines->mode)
        actions &= ~(unsigned)MODES;
    if (lines->source)
        actions &= ~(unsigned)CONF_REPLY_DISABLE_SOURCE;
    if (lines->stop)
        actions &= ~(unsigned)CONF_REPLY_STOP;
    if (actions & MODES)
        lines->mode = rule;
    if (actions & CONF_REPLY_DISABLE_SOURCE)
        lines->source = rule;
    if (actions & CONF_REPLY_STOP)
        lines->stop = rule;
    return actions;
}

void react_add(struct react *react, const struct conf_reply_rule *rule,
               const struct verdict *verdict, react_fires_fn *fires, void *context)
{
    unsigned actions = rule->actions;

    if (fires != NULL && !fires(context, rule))
        actions &= ~(unsigned)CONF_REPLY_STANDING;
    if (react->actions & WAYS)
        actions &= ~(unsigned)WAYS;
    if (!is_rcpt_deferral(verdict))
        actions &= ~(unsigned)CONF_REPLY_BOUNCE_RCPT;
    actions = take_standing(&react->lines[react_group_of(rule)], rule, actions);
    react->actions |= actions;
    if (react->rule == NULL)
        react->rule = rule;
}

struct react react_to(const struct conf_reply_list *list, const struct verdict *verdict,
                      struct regex_scratch *scratch, react_fires_fn *fires, void *context)
{
    struct react react = {0};
    struct slice text = verdict_text(verdict), line;
    struct regex_subject as_sent, in_one_line;
    uint8_t room[VERDICT_TEXT_MAX];

    if (list == NULL || (verdict->flags & VERDICT_FROM_REPLY) == 0)
        return react;
    line = verdict_in_one_line(verdict, room);
    regex_subject_set(&as_sent, text);
    if (line.data != text.data)
        regex_subject_set(&in_one_line, line);
    for (uint32_t i = 0; i < list->rule_count; i++) {
        const struct regex *regex = list->rules[i].regex;

        if (regex_match(regex, &as_sent, scratch) == REGEX_YES ||
            (line.data != text.data && regex_match(regex, &in_one_line, scratch) == REGEX_YES))
            react_add(&react, &list->rules[i], verdict, fires, context);
    }
    return react;
}

bool react_is_greylisting(const struct verdict *verdict, struct slice host,
                          struct regex_scratch *scratch)
{
    struct classify_reply reply = {.text = verdict_text(verdict),
                                   .code = verdict->code,
                                   .host = host,
                                   .stage = verdict->stage};
    struct classify_answer answer;

    if (verdict->class != VERDICT_TRANSIENT || (verdict->flags & VERDICT_FROM_REPLY) == 0)
        return false;
    classify(classify_shipped(), &reply, scratch, &answer);
    return classify_is_greylisting(&answer);
}

bool react_only_slows(const struct react *react)
{
    unsigned said = react->rule == NULL ? 0 : react->actions | react->rule->actions;

    return said != 0 && (said & ~(unsigned)(MODES | CONF_REPLY_DEFER_QUEUE)) == 0;
}

const struct conf_reply_rule *react_unasked(const struct verdict *verdict, struct slice host,
                                            struct regex_scratch *scratch)
{
    static const struct conf_reply_rule of_source = {
        .id = 1,
        .actions = CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT,
        .stop_ms = 3600000,
        .scope = CONF_REPLY_OF_SOURCE_IP,
        .trigger = {.count = 2, .interval_ms = 600000},
        .text = "aimed at the source address",
        .file = "ringpost",
    };
    static const struct conf_reply_rule of_sender = {
        .id = 2,
        .actions = CONF_REPLY_DEFER_RCPT,
        .scope = CONF_REPLY_OF_SENDER_DOMAIN,
        .trigger = {.count = 1},
        .text = "aimed at the sender",
        .file = "ringpost",
    };
    struct classify_reply reply = {.text = verdict_text(verdict),
                                   .code = verdict->code,
                                   .host = host,
                                   .stage = verdict->stage};
    struct classify_answer answer;

    if (verdict->class != VERDICT_PERMANENT || (verdict->flags & VERDICT_FROM_REPLY) == 0 ||
        verdict->stage < VERDICT_AT_MAIL)
        return NULL;
    classify(classify_shipped(), &reply, scratch, &answer);
    if (answer.reaction != CLASSIFY_HOLD)
        return NULL;
    return answer.scope == CLASSIFY_SOURCE_IP       ? &of_source
           : answer.scope == CLASSIFY_SENDER_DOMAIN ? &of_sender
                                                    : NULL;
}
