#include "shard/resign.h"

#include "core/base/err.h"
#include "core/mail/dkim_claim.h"
#include "core/mail/header_scan.h"
#include "queue/signatures.h"
#include "shard/shard_int.h"
#include "shard/signing.h"

/* Of bodies, in a turn. */
#define TURN_OCTETS_MAX  262144u
#define PIECE_OCTETS     65536u
/* Room for a signature's field at first. */
#define FIELD_OCTETS     4096u
#define EMPTY_LINE_BYTES 2u

static void enter(struct resign *resign, enum resign_state next)
{
#define MAY(state) (1u << (state))
    static const unsigned allowed[RESIGN_STATE_COUNT] = {
        [RESIGN_NOT_LOOKED] = MAY(RESIGN_READING) | MAY(RESIGN_HASHING) | MAY(RESIGN_MAKING) |
                              MAY(RESIGN_DONE) | MAY(RESIGN_FAILED),
        [RESIGN_READING] =
            MAY(RESIGN_HASHING) | MAY(RESIGN_MAKING) | MAY(RESIGN_DONE) | MAY(RESIGN_FAILED),
        [RESIGN_HASHING] = MAY(RESIGN_MAKING) | MAY(RESIGN_FAILED),
        [RESIGN_MAKING] = MAY(RESIGN_DONE) | MAY(RESIGN_FAILED),
        [RESIGN_DONE] = MAY(RESIGN_NOT_LOOKED),
    };
#undef MAY

    must((allowed[resign->state] & 1u << next) != 0);
    resign->state = (uint8_t)next;
}

static struct queue *queue_of(const struct delivery *delivery)
{
    return slab_at(&delivery->shard->queues, delivery->queue);
}

/* ---- What is there --------------------------------------------------------------------------- */

/* A message on its way, while its header is looked at. */
struct look {
    struct delivery *delivery;
    struct queue *queue;
    struct slice octets; /* the content from its start, with the whole header */
    uint32_t prefix_bytes;
    struct signatures made; /* when it was accepted */
    struct signing_wish wish;
    struct signing_choice choice;
    uint32_t our_count; /* signatures of ours in the prefix, and their values */
    struct slice ours[SIGNATURES_COUNT_MAX];
    uint32_t body_at; /* of the content */
    bool ends_empty;  /* the header does */
    bool has_hash[2]; /* of the body, by enum dkim_canon, as a signature of ours says it */
    bool has_length[2];
    uint8_t hashes[2][SIGN_DIGEST_BYTES];
    uint64_t lengths[2];
};

static bool is_ours(const struct look *look, const struct header_field *field)
{
    return field->offset < look->prefix_bytes &&
           slice_equal_nocase(field->name, SLICE_LITERAL("DKIM-Signature"));
}

/* What we found out about the sender is told to whoever is next, and not vouched for. */
static bool is_result(const struct look *look, const struct header_field *field)
{
    return field->offset < look->prefix_bytes &&
           slice_equal_nocase(field->name, SLICE_LITERAL("Authentication-Results"));
}

/* All fields but our signatures, for whoever chooses and signs. False: too many. */
static bool gather(struct look *look)
{
    struct header_walk walk;
    struct header_field field;

    header_walk_init(&walk, look->octets, true);
    while (header_walk_next(&walk, &field)) {
        struct dkim_field signed_field = {field.name,
                                          slice_of(look->octets.data + field.offset, field.octets)};

        if (is_ours(look, &field)) {
            if (look->our_count < SIGNATURES_COUNT_MAX)
                look->ours[look->our_count++] = field.value;
            continue;
        }
        if (!is_result(look, &field) && !signing_add_field(&look->choice, &signed_field))
            return false;
    }
    look->ends_empty = walk.end == HEADER_ENDS_EMPTY;
    look->body_at = (uint32_t)walk.at + (look->ends_empty ? EMPTY_LINE_BYTES : 0);
    return true;
}

/* ---- Whether it holds ------------------------------------------------------------------------ */

/* Whether the queue takes out what the signature covers; From always stays covered. */
static bool is_broken(const struct look *look, const struct dkim_claim *claim)
{
    struct header_walk walk;
    struct header_field field;

    if (!heading_is_edited(look->queue))
        return false;
    header_walk_init(&walk, look->octets, true);
    while (header_walk_next(&walk, &field)) {
        if (!is_ours(look, &field) && heading_is_removed(look->queue, field.name) &&
            !slice_equal_nocase(field.name, SLICE_LITERAL("From")) &&
            conf_is_listed(claim->names, field.name))
            return true;
    }
    return false;
}

/* The signature with that id is there, and good for this queue now. */
static bool is_held(const struct look *look, uint64_t id)
{
    uint64_t now_s = look->choice.wall_us / 1000000;
    enum dkim_result result;
    struct dkim_claim claim;

    if (look->made.count != look->our_count)
        return false;
    for (uint32_t i = 0; i < look->our_count; i++) {
        if (look->made.ids[i] == id && !dkim_claim_parse(look->ours[i], &claim, &result))
            return (claim.expires_s == 0 || claim.expires_s > now_s) && !is_broken(look, &claim);
    }
    return false;
}

static bool are_all_held(const struct look *look)
{
    struct signatures wanted = {.room = SIGNATURES_COUNT_MAX};

    signing_record(&look->choice, &wanted);
    for (uint32_t i = 0; i < wanted.count; i++) {
        if (!is_held(look, wanted.ids[i]))
            return false;
    }
    return true;
}

bool resign_holds(struct shard *shard, const struct queue *queue, const struct message *message)
{
    struct slice made = message->envelope.signatures;

    return made.len == 0 || !conf_signs(shard->conf) ||
           signatures_hold(made, queue->sign_rules, io_wall_us(shard->io) / 1000000);
}

/* ---- The new header -------------------------------------------------------------------------- */

/* What our own signatures say of the body. Their l= is always that of the whole. */
static void take_hashes(struct look *look)
{
    for (uint32_t i = 0; i < look->our_count; i++) {
        enum dkim_result result;
        struct dkim_claim claim;

        if (dkim_claim_parse(look->ours[i], &claim, &result))
            continue;
        if (look->has_hash[claim.body_canon] && !claim.has_length)
            continue;
        look->has_hash[claim.body_canon] = true;
        look->has_length[claim.body_canon] = claim.has_length;
        look->lengths[claim.body_canon] = claim.octets;
        memcpy(look->hashes[claim.body_canon], claim.body_hash, SIGN_DIGEST_BYTES);
    }
}

/* True when all that the signatures need of the body is known. */
static bool use_hashes(const struct look *look, struct signing *signing)
{
    bool is_known = true;

    for (unsigned canon = 0; canon < 2; canon++) {
        bool wants_length = false;

        for (uint32_t i = 0; i < signing->count; i++)
            wants_length |= signing->at[i].body_canon == canon && signing->at[i].places.length > 0;
        if (!signing->wants[canon])
            continue;
        if (look->has_hash[canon] && (look->has_length[canon] || !wants_length))
            signing_know_body(signing, (enum dkim_canon)canon, look->hashes[canon],
                              look->lengths[canon]);
        else
            is_known = false;
    }
    return is_known;
}

static int append(struct shard *shard, struct message_buffer *buffer, const void *data, size_t len)
{
    if (len > UINT32_MAX / 2 - buffer->used ||
        heading_room(shard, buffer, buffer->used + (uint32_t)len) < 0)
        return E_FULL;
    memcpy(buffer->data + buffer->used, data, len);
    buffer->used += (uint32_t)len;
    return 0;
}

/* The new signatures, where the old ones were: at the end of the prefix. */
static int append_signatures(struct look *look, struct signing *signing, uint32_t count,
                             struct message_buffer *buffer)
{
    int result = 0;

    for (uint32_t i = 0; i < count && result == 0; i++) {
        struct slice text;

        result = signing_begin(&look->choice, signing, buffer->used, &text);
        if (result == 0)
            result = append(look->delivery->shard, buffer, text.data, text.len);
    }
    return result;
}

static int append_header(struct look *look, struct signing *signing, uint32_t count,
                         struct message_buffer *buffer)
{
    struct shard *shard = look->delivery->shard;
    struct header_walk walk;
    struct header_field field;
    bool is_signed = false;
    int result = 0;

    header_walk_init(&walk, look->octets, true);
    while (result == 0 && header_walk_next(&walk, &field)) {
        if (!is_signed && field.offset >= look->prefix_bytes) {
            is_signed = true;
            result = append_signatures(look, signing, count, buffer);
        }
        if (result == 0 && !is_ours(look, &field) && !heading_is_removed(look->queue, field.name))
            result = append(shard, buffer, look->octets.data + field.offset, field.octets);
    }
    if (result == 0 && !is_signed)
        result = append_signatures(look, signing, count, buffer);
    return result == 0 ? append(shard, buffer, "\r\n", EMPTY_LINE_BYTES) : result;
}

/* ---- The body -------------------------------------------------------------------------------- */

static void on_made(struct signing *signing)
{
    struct delivery *delivery = signing->owner;
    struct resign *resign = &delivery->resign;

    resign->signing = NULL;
    if (signing->is_damaged)
        heading_reset(delivery);
    else
        delivery->shard->totals.dkim_signatures_again += signing->count;
    resign->why = "its signature came out wrong";
    enter(resign, signing->is_damaged ? RESIGN_FAILED : RESIGN_DONE);
    signing_free(signing);
    deliver_on_signed(delivery->shard, delivery);
}

static void make(struct delivery *delivery)
{
    enter(&delivery->resign, RESIGN_MAKING);
    if (delivery->feed)
        feed_rewind(delivery);
    signing_make(delivery->resign.signing);
}

/* The body is hashed from where it begins: what is in the look already, then as it comes. */
static void hash_body(const struct look *look)
{
    struct delivery *delivery = look->delivery;
    struct resign *resign = &delivery->resign;
    uint32_t at = look->body_at;

    enter(resign, RESIGN_HASHING);
    if (delivery->feed) {
        signing_body(resign->signing, look->octets.data + at, look->octets.len - at);
        return;
    }
    resign->hashed = at;
    list_init(&resign->link);
    list_push_back(&delivery->shard->resigns_due, &resign->link);
}

/* False when the body has been hashed to its end. */
static bool hash_piece(struct shard *shard, struct delivery *delivery, uint32_t *budget)
{
    const struct envelope *envelope = &delivery->message->envelope;
    struct resign *resign = &delivery->resign;
    uint32_t whole = envelope->prefix_bytes + envelope->body_bytes;
    uint32_t part = whole - resign->hashed;
    uint8_t *room = home_scratch(shard, PIECE_OCTETS);

    /* There is some in a turn soon. */
    if (!room) {
        *budget = 0;
        return true;
    }
    part = part < PIECE_OCTETS ? part : PIECE_OCTETS;
    part = part < *budget ? part : *budget;
    message_copy(delivery->message,
                 delivery->message->payload_offset + envelope->encoded_bytes + resign->hashed, room,
                 part);
    signing_body(resign->signing, room, part);
    resign->hashed += part;
    *budget -= part;
    return resign->hashed < whole;
}

void resign_turn(struct shard *shard)
{
    uint32_t budget = TURN_OCTETS_MAX;

    while (budget > 0 && !list_empty(&shard->resigns_due)) {
        struct list *link = shard->resigns_due.next;
        struct resign *resign = container_of(link, struct resign, link);
        struct delivery *delivery = container_of(resign, struct delivery, resign);

        if (hash_piece(shard, delivery, &budget))
            continue;
        list_remove(link);
        make(delivery);
    }
}

bool resign_is_busy(const struct shard *shard)
{
    return !list_empty(&shard->resigns_due);
}

/* ---- The decision ---------------------------------------------------------------------------- */

static void fill_verdict(const char *why, struct verdict *ret_verdict)
{
    static const uint8_t enhanced[3] = {4, 7, 0};

    verdict_set_local(ret_verdict, VERDICT_MESSAGE, VERDICT_TRANSIENT, VERDICT_AT_LOCAL, 451,
                      enhanced, "not sent: %s", why);
}

static void fill_look(struct look *look, struct delivery *delivery)
{
    const struct envelope *envelope = &delivery->message->envelope;
    int decoded;

    *look = (struct look){
        .delivery = delivery,
        .queue = queue_of(delivery),
        .octets = slice_of(delivery->heading.octets.data, delivery->heading.octets.used),
        .prefix_bytes = envelope->prefix_bytes,
    };
    decoded = signatures_decode(envelope->signatures, &look->made);
    must(decoded == 0);
    if (look->made.has_options)
        signing_wish_parse(look->made.options, &look->wish);
    look->choice = (struct signing_choice){
        .shard = delivery->shard,
        .vmta_id = look->queue->vmta_id,
        .message_id = envelope->message_id,
        .wall_us = io_wall_us(delivery->shard->io),
        .wish = &look->wish,
        .is_own = (envelope->flags & ENVELOPE_LOCAL) != 0,
        .is_late = true,
    };
}

/* The header that is to leave takes the place of the one that was looked at. */
static int renew(struct look *look, uint32_t count)
{
    struct delivery *delivery = look->delivery;
    struct shard *shard = delivery->shard;
    struct message_buffer buffer = {0};
    struct signing *signing = signing_new(shard, NULL, on_made, delivery);
    int result =
        signing ? heading_room(shard, &buffer, look->body_at + count * FIELD_OCTETS) : E_FULL;

    if (result == 0)
        result = append_header(look, signing, count, &buffer);
    if (result < 0) {
        if (buffer.size > 0)
            message_pool_give(&shard->pool, &buffer);
        if (signing)
            signing_free(signing);
        return result;
    }
    signing->octets = buffer.data;
    delivery->resign.signing = signing;
    take_hashes(look);
    if (use_hashes(look, signing))
        make(delivery);
    else
        hash_body(look);
    heading_replace(delivery, &buffer, look->body_at);
    return 0;
}

static void fail(struct delivery *delivery, const char *why)
{
    delivery->resign.why = why;
    enter(&delivery->resign, RESIGN_FAILED);
}

/* How many signatures are being made; 0 = it goes as it is. */
static int choose_and_renew(struct look *look)
{
    int count, result;

    if (!signing_choice_init(&look->choice))
        return E_FULL;
    if (!gather(look))
        return 0;
    count = signing_choose_for(&look->choice, &look->queue->settings.signing, look->queue->vmta_id);
    if (count <= 0 || are_all_held(look))
        return count < 0 ? count : 0;
    result = renew(look, (uint32_t)count);
    return result < 0 ? result : count;
}

/* The header is in heading.octets. */
static enum resign_answer decide(struct delivery *delivery)
{
    struct look look;
    int result;

    fill_look(&look, delivery);
    delivery->resign.rules = look.queue->sign_rules;
    result = choose_and_renew(&look);
    if (result > 0)
        return RESIGN_WAITS;
    heading_reset(delivery);
    if (result == E_FULL)
        return RESIGN_NO_ROOM;
    if (result == 0)
        enter(&delivery->resign, RESIGN_DONE);
    else
        fail(delivery, look.choice.refusal ? look.choice.refusal : "its header is too large");
    return result == 0 ? RESIGN_GOES : RESIGN_STAYS;
}

bool resign_is_stale(const struct delivery *delivery)
{
    return delivery->message->envelope.signatures.len > 0 &&
           delivery->resign.rules != queue_of(delivery)->sign_rules;
}

enum resign_answer resign_ask(struct shard *shard, struct delivery *delivery,
                              struct verdict *ret_verdict)
{
    struct resign *resign = &delivery->resign;
    enum resign_answer answer = RESIGN_STAYS;

    if (resign->state == RESIGN_DONE && resign_is_stale(delivery)) {
        heading_reset(delivery);
        enter(resign, RESIGN_NOT_LOOKED);
    }
    if (resign->state == RESIGN_DONE)
        return RESIGN_GOES;
    resign->rules = queue_of(delivery)->sign_rules;
    if (resign_holds(shard, queue_of(delivery), delivery->message))
        return RESIGN_GOES;
    if (resign->state != RESIGN_FAILED && delivery->feed) {
        enter(resign, RESIGN_READING);
        feed_scan(shard, delivery);
        return RESIGN_WAITS;
    }
    if (resign->state != RESIGN_FAILED)
        answer = heading_copy(delivery) < 0 ? RESIGN_NO_ROOM : decide(delivery);
    if (answer == RESIGN_STAYS)
        fill_verdict(resign->why, ret_verdict);
    return answer;
}

/* ---- A message in chunks --------------------------------------------------------------------- */

bool resign_is_reading(const struct delivery *delivery)
{
    return delivery->resign.state == RESIGN_READING || delivery->resign.state == RESIGN_HASHING;
}

/* It is known what is to become of it, without signing. */
static void settle(struct delivery *delivery, enum resign_answer answer)
{
    feed_rewind(delivery);
    if (answer == RESIGN_NO_ROOM)
        fail(delivery, "too little memory to sign it");
    deliver_on_signed(delivery->shard, delivery);
}

/* More of the header. True when it is not complete. */
static bool feed_header(struct delivery *delivery, const uint8_t *data, uint32_t octets,
                        bool is_last)
{
    struct message_buffer *gathered = &delivery->heading.octets;
    struct header_edge edge = {0};
    enum resign_answer answer;

    if (octets > HEADING_BYTES_MAX - gathered->used) {
        /* None that we took has so large a header. */
        heading_reset(delivery);
        enter(&delivery->resign, RESIGN_DONE);
        settle(delivery, RESIGN_GOES);
        return false;
    }
    if (append(delivery->shard, gathered, data, octets) < 0) {
        heading_reset(delivery);
        settle(delivery, RESIGN_NO_ROOM);
        return false;
    }
    if (!is_last && !header_edge_find(&edge, slice_of(gathered->data, gathered->used)))
        return true;
    answer = decide(delivery);
    if (answer == RESIGN_WAITS && delivery->resign.state == RESIGN_HASHING) {
        if (!is_last)
            return true;
        make(delivery);
        return false;
    }
    if (answer != RESIGN_WAITS)
        settle(delivery, answer);
    return false;
}

bool resign_feed(struct delivery *delivery, const uint8_t *data, uint32_t octets, bool is_last)
{
    if (delivery->resign.state == RESIGN_READING)
        return feed_header(delivery, data, octets, is_last);
    signing_body(delivery->resign.signing, data, octets);
    if (is_last)
        make(delivery);
    return !is_last;
}

void resign_end(struct delivery *delivery)
{
    struct resign *resign = &delivery->resign;

    must(resign->state != RESIGN_MAKING);
    must(resign->state != RESIGN_HASHING || delivery->feed);
    if (resign->signing)
        signing_free(resign->signing);
    resign->signing = NULL;
}
