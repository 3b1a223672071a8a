#include "shard/notice_sign.h"

#include "core/base/log.h"
#include "shard/shard_int.h"

_Static_assert(NOTICE_SIGN_RESERVE >= SIGNATURES_BYTES_MAX, "room for what is known");

static const struct signing_wish no_wish;

static void drop(struct notice *notice)
{
    signing_free(notice->signing);
    notice->signing = NULL;
}

static bool begin_all(struct signing_choice *choice, struct notice *notice, uint32_t count,
                      uint32_t *ret_bytes)
{
    struct message *message = notice->message;
    uint32_t at = message->envelope.encoded_bytes;
    uint32_t end = at + NOTICE_SIGN_ROOM;

    for (uint32_t i = 0; i < count; i++) {
        struct slice text;

        if (signing_begin(choice, notice->signing, at, &text) < 0 || text.len > end - at)
            return false;
        memcpy(message->buffers[0].data + at, text.data, text.len);
        at += (uint32_t)text.len;
    }
    *ret_bytes = at - message->envelope.encoded_bytes;
    return true;
}

static uint32_t begin(struct shard *shard, struct notice *notice, struct slice content)
{
    const struct envelope *envelope = &notice->message->envelope;
    const uint8_t *body = memmem(content.data, content.len, "\r\n\r\n", 4);
    uint32_t bytes = 0;
    struct signing_choice choice = {
        .shard = shard,
        .vmta_id = conf_vmta_id(shard->conf, envelope->vmta),
        .message_id = envelope->message_id,
        .wall_us = envelope->accepted_us,
        .wish = &no_wish,
        .is_own = true,
    };
    int count;

    if (!body || !signing_choice_init(&choice) || !signing_add_fields(&choice, content, NULL))
        return 0;
    count = signing_choose(&choice, envelope->rcpts);
    if (count >= 0)
        signing_note(&choice, notice->message);
    notice->signing = count > 0 ? signing_new(shard, notice->message, NULL, notice) : NULL;
    if (!notice->signing)
        return 0;
    if (!begin_all(&choice, notice, (uint32_t)count, &bytes)) {
        log_error("a notice goes unsigned: its signatures do not fit");
        drop(notice);
        return 0;
    }
    body += 4;
    signing_body(notice->signing, body, content.len - (size_t)(body - content.data));
    return bytes;
}

struct slice notice_sign_reserve(uint32_t rcpt_count, uint8_t room[NOTICE_SIGN_RESERVE])
{
    return signing_reserve(&no_wish, SLICE_EMPTY, rcpt_count, room, NOTICE_SIGN_RESERVE);
}

uint32_t notice_sign_begin(struct shard *shard, struct notice *notice, struct slice content)
{
    return conf_signs(shard->conf) ? begin(shard, notice, content) : 0;
}

/* What came out wrong must not leave: its fields go, the content moves up. */
static void strip(struct message *message)
{
    struct message_buffer *buffer = &message->buffers[0];
    struct envelope *envelope = &message->envelope;
    uint8_t *at = buffer->data + envelope->encoded_bytes;
    struct wire_writer w;

    memmove(at, at + envelope->prefix_bytes, envelope->body_bytes);
    buffer->used -= envelope->prefix_bytes;
    message->bytes = buffer->used;
    envelope->prefix_bytes = 0;
    wire_writer_init(&w, buffer->data, envelope->encoded_bytes);
    envelope_encode_counts(envelope, &w);
}

static void on_signed(struct signing *signing)
{
    struct notice *notice = signing->owner;
    struct shard *shard = signing->shard;

    if (signing->is_damaged)
        strip(notice->message);
    drop(notice);
    notice->then(shard, notice);
}

void notice_sign_make(struct notice *notice, void (*then)(struct shard *, struct notice *))
{
    notice->then = then;
    notice->signing->done = on_signed;
    signing_make(notice->signing);
}
