#include "shard/policy/react.h"

#define MODES (CONF_REPLY_BACKOFF | CONF_REPLY_NORMAL)
#define WAYS  (CONF_REPLY_SKIP_MX | CONF_REPLY_BOUNCE_QUEUE)

static bool is_rcpt_deferral(const struct verdict *verdict)
{
    return verdict->stage == VERDICT_AT_RCPT && verdict->class == VERDICT_TRANSIENT;
}

/* What a rule adds to what those before it said. */
static void add_rule(struct react *react, const struct conf_reply_rule *rule,
                     const struct verdict *verdict)
{
    unsigned actions = rule->actions;

    if (react->actions & MODES)
        actions &= ~(unsigned)MODES;
    if (react->actions & WAYS)
        actions &= ~(unsigned)WAYS;
    if (react->actions & CONF_REPLY_DISABLE_SOURCE)
        actions &= ~(unsigned)CONF_REPLY_DISABLE_SOURCE;
    if (!is_rcpt_deferral(verdict))
        actions &= ~(unsigned)CONF_REPLY_BOUNCE_RCPT;
    if (actions & MODES) {
        react->mode_rule = rule;
        react->backoff_ms = rule->backoff_ms;
    }
    if (actions & CONF_REPLY_DISABLE_SOURCE) {
        react->source_rule = rule;
        react->disabled_ms = rule->disabled_ms;
    }
    react->actions |= actions;
    if (react->rule == NULL)
        react->rule = rule;
}

struct react react_to(const struct conf_reply_list *list, const struct verdict *verdict,
                      struct regex_scratch *scratch)
{
    struct react react = {.backoff_ms = CONF_REPLY_NO_TIME, .disabled_ms = CONF_REPLY_NO_TIME};
    struct regex_subject subject;

    if (list == NULL || (verdict->flags & VERDICT_FROM_REPLY) == 0)
        return react;
    regex_subject_set(&subject, verdict_text(verdict));
    for (uint32_t i = 0; i < list->rule_count; i++) {
        if (regex_match(list->rules[i].regex, &subject, scratch) == REGEX_YES)
            add_rule(&react, &list->rules[i], verdict);
    }
    return react;
}
