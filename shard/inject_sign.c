#include "core/base/err.h"
#include "shard/inject_int.h"

/* Those that we put in front, and those of the message that stay. */
static int gather_fields(struct intake_message *intake, struct signing_choice *choice,
                         struct slice held, const struct header_facts *facts)
{
    const struct message *message = intake->message;
    /* What we found out about the sender is told to whoever is next, and not vouched for. */
    uint32_t skip = intake->results_bytes;
    uint32_t bytes = message->envelope.prefix_bytes - skip;
    uint8_t *prefix;

    if (bytes > SIGNING_PREFIX_MAX)
        return E_TOO_LONG;
    prefix = signing_prefix_room(choice);
    message_copy(message, message->envelope.encoded_bytes + skip, prefix, bytes);
    return signing_add_fields(choice, slice_of(prefix, bytes), NULL) &&
                   signing_add_fields(choice, slice_of(held.data, facts->header_octets), facts)
               ? 0
               : E_TOO_LONG;
}

static void on_signed(struct signing *signing)
{
    struct intake_message *intake = signing->owner;

    if (signing->is_damaged)
        intake->failure = E_DAMAGED;
    inject_finish_signed(intake);
}

static int begin_one(struct intake_message *intake, struct signing_choice *choice)
{
    struct slice text;
    int result = signing_begin(choice, intake->signing, intake->message->bytes, &text);

    if (result == 0)
        result = inject_prefix_put(intake, text);
    if (result < 0)
        return result;
    /* What is filled in later must not be on the disk by then. */
    return inject_is_chunked(intake) ? E_TOO_LONG : 0;
}

int inject_sign_begin(struct intake_message *intake, struct slice held,
                      const struct header_facts *facts, const struct signing_wish *wish)
{
    struct signing_choice choice = {.shard = intake->shard,
                                    .vmta_id = intake->vmta_id,
                                    .message_id = intake->id,
                                    .wall_us = intake->wall_us,
                                    .wish = wish};
    int count, result;

    if (!conf_signs(intake->shard->conf))
        return 0;
    if (!signing_choice_init(&choice))
        return E_FULL;
    result = gather_fields(intake, &choice, held, facts);
    count = result < 0 ? result : signing_choose(&choice, intake->message->envelope.rcpts);
    if (count > 0) {
        intake->signing = signing_new(intake->shard, intake->message, on_signed, intake);
        result = intake->signing ? 0 : E_FULL;
    } else {
        result = count;
    }
    if (count >= 0)
        signing_note(&choice, intake->message);
    for (int i = 0; i < count && result == 0; i++)
        result = begin_one(intake, &choice);
    if (result == E_REFUSED)
        intake->refusal = (struct intake_refusal){choice.refusal, choice.refusal_code, 7, 0};
    return result;
}

void inject_sign_body(struct intake_message *intake, const uint8_t *data, size_t len)
{
    if (intake->signing)
        signing_body(intake->signing, data, len);
}

bool inject_sign_wait(struct intake_message *intake)
{
    if (!intake->signing || intake->failure < 0)
        return false;
    signing_make(intake->signing);
    return true;
}

void inject_sign_release(struct intake_message *intake)
{
    if (intake->signing)
        signing_free(intake->signing);
    intake->signing = NULL;
}
