/*
 * Lists that a source refers to: addresses that get no mail, and patterns that choose the way out.
 *
 * A message has one virtual MTA. Where rules look at recipients, those that different rules want to
 * send different ways cannot be recipients of one message: the second of them is told to come in a
 * transaction of its own, as RFC 5321 4.5.3.1.10 has it for recipients that are too many.
 */
#include "core/base/err.h"
#include "core/base/regex.h"
#include "shard/inject_int.h"

static struct regex_scratch *scratch_of(struct shard *shard)
{
    if (!shard->patterns_scratch)
        shard->patterns_scratch = regex_scratch_new();
    return shard->patterns_scratch;
}

static bool is_suppressed(const struct conf_source *source, struct slice rcpt,
                          struct regex_scratch *scratch)
{
    for (uint32_t i = 0; i < source->suppression_count; i++) {
        if (conf_address_list_has(source->suppressions[i], rcpt, scratch))
            return true;
    }
    return false;
}

/* Two recipients with the same number go the same way, whatever the header will say. */
static uint64_t path_of(const struct conf_pattern_list *list,
                        const struct conf_pattern_answer *answer)
{
    struct slice way = answer->virtual_mta ? slice_str(answer->virtual_mta) : SLICE_EMPTY;

    return conf_patterns_use_header(list) ? answer->path : hash_bytes_nocase(way.data, way.len);
}

bool inject_lists_relay(const struct intake_message *intake, struct slice rcpt)
{
    return conf_relays(intake->shard->conf, rcpt, scratch_of(intake->shard));
}

int inject_lists_rcpt(struct intake_message *intake, struct slice rcpt,
                      struct intake_reply *ret_reply)
{
    const struct conf_source *source = inject_source(intake);
    struct regex_scratch *scratch = scratch_of(intake->shard);
    struct conf_pattern_question question = {.sender = intake->sender, .rcpt = rcpt};
    struct conf_pattern_answer answer;
    uint64_t path;

    if (is_suppressed(source, rcpt, scratch)) {
        inject_reply(ret_reply, 550, 7, 1, "this address is on a suppression list");
        return E_REFUSED;
    }
    if (!source->patterns)
        return 0;
    conf_patterns_ask(source->patterns, &question, scratch, &answer);
    path = path_of(source->patterns, &answer);
    if (intake->rcpt_count == 0)
        intake->pattern_path = path;
    if (path == intake->pattern_path)
        return 0;
    inject_reply(ret_reply, 452, 5, 3,
                 "this recipient goes another way, send it in a transaction of its own");
    return E_REFUSED;
}

bool inject_lists_choose(struct intake_message *intake,
                         bool (*header)(void *context, struct slice name, struct slice *ret_value),
                         void *context)
{
    const struct conf_source *source = inject_source(intake);
    struct conf_pattern_question question = {
        .sender = intake->sender,
        .rcpt = inject_first_rcpt(intake),
        .header = header,
        .context = context,
    };
    struct conf_pattern_answer answer;

    if (!source->patterns)
        return false;
    conf_patterns_ask(source->patterns, &question, scratch_of(intake->shard), &answer);
    return answer.virtual_mta && inject_choose_named(intake, slice_str(answer.virtual_mta));
}
