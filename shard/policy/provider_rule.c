#include "shard/policy/provider_rule.h"

#include "core/mail/classify.h"

/* The same scopes in the same order, so that one is the other's number. */
_Static_assert((int)CLASSIFY_QUEUE == CONF_REPLY_OF_QUEUE &&
                   (int)CLASSIFY_PROVIDER == CONF_REPLY_OF_PROVIDER &&
                   (int)CLASSIFY_SOURCE_IP == CONF_REPLY_OF_SOURCE_IP &&
                   (int)CLASSIFY_SENDER_DOMAIN == CONF_REPLY_OF_SENDER_DOMAIN &&
                   (int)CLASSIFY_JOB == CONF_REPLY_OF_JOB,
               "what a reaction is of");

const struct conf_reply_rule *provider_rule(const struct conf *conf, uint64_t provider,
                                            const struct verdict *verdict, struct slice host,
                                            struct regex_scratch *scratch)
{
    struct classify_reply reply = {.text = verdict_text(verdict),
                                   .code = verdict->code,
                                   .host = host,
                                   .stage = verdict->stage};
    const struct conf_reply_rule *rule;
    struct classify_answer answer;
    uint8_t room[VERDICT_TEXT_MAX];

    if (!conf_providers_act(conf) || (verdict->flags & VERDICT_FROM_REPLY) == 0)
        return NULL;
    rule = conf_provider_reply(conf, provider, verdict_in_one_line(verdict, room), scratch);
    if (rule != NULL || verdict->class == VERDICT_SUCCESS)
        return rule;
    classify(classify_shipped(), &reply, scratch, &answer);
    if (answer.reaction == CLASSIFY_NO_REACTION)
        return NULL;
    return conf_provider_reaction(conf, answer.reaction == CLASSIFY_HOLD,
                                  (enum conf_reply_scope)answer.scope);
}
