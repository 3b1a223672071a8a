/* Verdicts of ours about recipients that end without a connection. */
#include "shard/shard_int.h"

/* Behind "550 5.1.2 ", which a verdict of ours begins with; of a receiver's the second may miss. */
static const char *without_codes(const char *text)
{
    for (int i = 0; i < 2 && *text >= '0' && *text <= '9'; i++) {
        const char *blank = strchr(text, ' ');

        text = blank ? blank + 1 : text;
    }
    return text;
}

void deliver_local_verdict(const struct delivery *delivery, struct verdict *verdict)
{
    static const uint8_t expired[3] = {4, 4, 7}, deleted[3] = {5, 0, 0}, discarded[3] = {2, 0, 0};
    const struct queue *queue = slab_at(&delivery->shard->queues, delivery->queue);
    bool as_bounce = queue->settings.discard_as_bounce;

    switch (delivery->local) {
    case LOCAL_FAIL:
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS,
                          delivery->local_code, delivery->local_enhanced, "%s",
                          without_codes(delivery->local_error));
        break;
    case LOCAL_DELETE:
        /* No receiver has said anything: a status that puts it into no receiver's category. */
        verdict_set_local(verdict, VERDICT_RECIPIENT, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 550,
                          deleted, "deleted by an operator");
        break;
    case LOCAL_DISCARD:
        verdict_set_local(verdict, VERDICT_RECIPIENT,
                          as_bounce ? VERDICT_PERMANENT : VERDICT_SUCCESS, VERDICT_AT_LOCAL,
                          as_bounce ? 550 : 250, as_bounce ? deleted : discarded,
                          "discarded by the configuration");
        break;
    default:
        verdict_set_local(verdict, VERDICT_RECIPIENT, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 554,
                          expired, "expired in the queue; last error: %s", delivery->local_error);
    }
}
