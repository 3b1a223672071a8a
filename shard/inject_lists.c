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

/*
 * The address as lists have it, without quotes that need not be there and with the domain's
 * A-labels: who writes a listed address in another way means the same mailbox. Empty when the text
 * is that.
 */
static struct slice plain_form_of(const struct address *address, char room[ADDRESS_PATH_MAX])
{
    struct text plain = text_in(room, ADDRESS_PATH_MAX);
    struct slice local = address->local, host = address_host(address);
    bool is_quoted = local.len >= 2 && local.data[0] == '"';

    if (local.len == 0 || (!is_quoted && slice_equal_nocase(address->domain, host)))
        return SLICE_EMPTY;
    if (is_quoted)
        local = slice_of(local.data + 1, local.len - 2);
    for (size_t i = 0; i < local.len; i++) {
        i += is_quoted && local.data[i] == '\\';
        text_put_char(&plain, (char)local.data[i]);
    }
    text_put_char(&plain, '@');
    text_put(&plain, host);
    return plain.is_cut ? SLICE_EMPTY : text_slice(&plain);
}

bool inject_lists_suppress(const struct intake_message *intake, const struct address *rcpt)
{
    const struct conf_source *source = inject_source(intake);
    struct regex_scratch *scratch = scratch_of(intake->shard);
    char room[ADDRESS_PATH_MAX];
    struct slice plain = source->suppression_count > 0 ? plain_form_of(rcpt, room) : SLICE_EMPTY;

    for (uint32_t i = 0; i < source->suppression_count; i++) {
        if (conf_address_list_has(source->suppressions[i], rcpt->text, scratch) ||
            (plain.len > 0 && conf_address_list_has(source->suppressions[i], plain, scratch)))
            return true;
    }
    return false;
}

/* The address itself, or the first one that gets the mail of an alias; empty when none gets it. */
static struct slice first_target(const struct intake_message *intake, const struct address *rcpt)
{
    const struct slice *targets;
    uint32_t count = conf_alias(intake->shard->conf, rcpt->text, &targets);
    struct address target;

    if (inject_lists_suppress(intake, rcpt))
        return SLICE_EMPTY;
    for (uint32_t i = 0; i < count; i++) {
        if (address_parse(targets[i], ADDRESS_ALLOW_UTF8, &target) == 0 &&
            !inject_lists_suppress(intake, &target))
            return targets[i];
    }
    return count == 0 ? rcpt->text : SLICE_EMPTY;
}

/* Two recipients with the same number go the same way, and have the same turns there, whatever the
 * header will say. */
static uint64_t path_of(const struct conf_pattern_list *list,
                        const struct conf_pattern_answer *answer)
{
    struct slice way = answer->virtual_mta ? slice_str(answer->virtual_mta) : SLICE_EMPTY;
    uint64_t hash = hash_bytes_nocase(way.data, way.len);

    if (conf_patterns_use_header(list))
        return hash_combine(answer->path, answer->priority_path);
    return answer->has_priority ? hash_combine(hash, answer->priority) : hash;
}

bool inject_lists_relay(const struct intake_message *intake, struct slice rcpt)
{
    return conf_relays(intake->shard->conf, rcpt, scratch_of(intake->shard));
}

int inject_lists_rcpt(struct intake_message *intake, const struct address *rcpt,
                      struct intake_reply *ret_reply)
{
    const struct conf_source *source = inject_source(intake);
    struct conf_pattern_question question = {
        .sender = intake->sender,
        .rcpt = first_target(intake, rcpt),
    };
    struct conf_pattern_answer answer;
    uint64_t path;

    if (question.rcpt.len == 0) {
        inject_reply(ret_reply, 550, 7, 1, "this address is on a suppression list");
        return E_REFUSED;
    }
    if (!source->patterns)
        return 0;
    conf_patterns_ask(source->patterns, &question, scratch_of(intake->shard), &answer);
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
    if (answer.has_priority)
        intake->priority = answer.priority;
    return answer.virtual_mta && inject_choose_named(intake, slice_str(answer.virtual_mta));
}
