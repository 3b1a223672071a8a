#include "shard/policy/category.h"

#include "core/base/text.h"
#include "core/mail/classify.h"

#define STATUS_ROOM 16

static bool ask_user(const struct category_facts *facts, struct regex_scratch *scratch,
                     struct conf_category *ret_category)
{
    char room[STATUS_ROOM + VERDICT_TEXT_MAX + 2];
    struct text subject = text_in(room, sizeof(room));

    verdict_put_status(&subject, facts->verdict);
    text_put_char(&subject, ';');
    text_put(&subject, verdict_text(facts->verdict));
    if (facts->verdict->class == VERDICT_SUCCESS)
        return conf_category_ask_success(facts->settings->categories, text_slice(&subject), scratch,
                                         ret_category);
    return conf_category_ask(facts->settings->categories, text_slice(&subject), scratch,
                             ret_category);
}

static bool has_lists(const struct conf_queue *settings)
{
    for (uint32_t i = 0; i < CONF_CATEGORY_LISTS; i++) {
        if (settings->categories[i] != NULL)
            return true;
    }
    return false;
}

static bool is_invalid_mailbox(const struct verdict *verdict, const struct conf_queue *settings)
{
    return settings->smtp_553_means_invalid_mailbox && verdict->code == 553 &&
           verdict->stage == VERDICT_AT_RCPT && (verdict->flags & VERDICT_FROM_REPLY) != 0 &&
           verdict->enhanced[0] == 0;
}

void category_put_status(struct text *text, const struct verdict *verdict,
                         const struct conf_queue *settings)
{
    if (is_invalid_mailbox(verdict, settings))
        text_put_literal(text, "5.1.1");
    else
        verdict_put_status(text, verdict);
}

const char *category_of(const struct category_facts *facts, struct regex_scratch *scratch)
{
    const struct verdict *verdict = facts->verdict;
    struct classify_reply reply = {
        .text = SLICE_EMPTY, .code = verdict->code, .host = facts->host, .stage = verdict->stage};
    struct conf_category users;
    struct classify_answer answer;

    if (has_lists(facts->settings) && ask_user(facts, scratch, &users))
        return users.name;
    if (verdict->class == VERDICT_SUCCESS)
        return "";
    /* A reply's text has its status, with numbers that a verdict has no room for. Ours may quote an
     * older reply, and its own status says it all. */
    if (verdict->flags & VERDICT_FROM_REPLY)
        reply.text = verdict_text(verdict);
    for (int part = 0; part < 3 && reply.text.len == 0; part++)
        reply.enhanced[part] = verdict->enhanced[part];
    classify(classify_shipped(), &reply, scratch, &answer);
    /* Words that say something beat the bare code. */
    if (strcmp(answer.category, "other") == 0 && is_invalid_mailbox(verdict, facts->settings))
        return "bad-mailbox";
    return answer.category;
}
