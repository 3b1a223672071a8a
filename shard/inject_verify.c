#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "net/sign_verify.h"
#include "shard/inject_int.h"

#define NS_PER_MS      1000000ull
#define FIELDS_MAX     1024u
#define FIELD_OCTETS   16384u /* of one signature's field */
#define RESULT_COLUMNS 9u     /* of the longest result */

/* Memory for one header at a time; taken with the first message that is verified. */
struct verify_room {
    uint32_t field_count;
    struct dkim_field fields[FIELDS_MAX];
    struct dkim_picks picks;
    char octets[FIELD_OCTETS];
};

static void settle(struct intake_claim *claim, enum dkim_result result, const char *why)
{
    claim->result = (uint8_t)result;
    claim->why = why;
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static void conclude(struct intake_verify *verify);

static void close_claim(struct intake_claim *claim)
{
    struct intake_verify *verify = claim->verify;
    struct intake_message *intake = verify->intake;

    claim->is_open = false;
    if (--verify->open_count > 0)
        return;
    io_timer_stop(intake->shard->io, &verify->timer);
    list_remove(&verify->link);
    if (!verify->is_waiting)
        return;
    must(intake->shard->append_count > 0);
    intake->shard->append_count--;
    conclude(verify);
    inject_on_verified(intake);
}

/* The first record that is a key's counts (RFC 6376 3.6.2.2). */
static void on_key(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct intake_claim *claim = container_of(lookup, struct intake_claim, lookup);
    const char *why = "there is no key";
    uint16_t cursor = 0;
    struct slice record;

    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT) {
        settle(claim, DKIM_TEMPERROR, "the name servers did not answer");
    } else {
        while (why && dns_record_next(answer, &cursor, &record))
            why = dkim_key_parse(record, &claim->claim, &claim->key);
        if (why)
            settle(claim, DKIM_PERMERROR, why);
    }
    close_claim(claim);
}

static void ask_key(struct intake_claim *claim)
{
    struct intake_verify *verify = claim->verify;
    struct shard *shard = verify->intake->shard;
    char room[2 * DKIM_DOMAIN_MAX + 16];
    struct text name = text_in(room, sizeof(room));

    text_put(&name, claim->claim.selector);
    text_put_literal(&name, "._domainkey.");
    text_put(&name, claim->claim.domain);
    claim->is_open = true;
    claim->lookup.on_answer = on_key;
    if (verify->open_count++ == 0) {
        list_push_back(&shard->verifies_open, &verify->link);
        io_timer_arm(shard->io, &verify->timer,
                     io_now_ns(shard->io) + VERIFY_TIMEOUT_MS * NS_PER_MS);
    }
    dns_ask(shard->dns, &claim->lookup, text_slice(&name), DNS_TXT);
}

static void give_up(struct intake_verify *verify)
{
    uint32_t left = verify->open_count;

    /* The last one ends the waiting, and may end the intake. */
    for (uint32_t i = 0; left > 0; i++) {
        struct intake_claim *claim = &verify->at[i];

        if (!claim->is_open)
            continue;
        left--;
        dns_forget(verify->intake->shard->dns, &claim->lookup);
        settle(claim, DKIM_TEMPERROR, "its key did not come in time");
        close_claim(claim);
    }
}

static void on_timer(struct io_timer *timer)
{
    give_up(container_of(timer, struct intake_verify, timer));
}

/* ---- The header ------------------------------------------------------------------------------ */

static void gather_fields(struct verify_room *room, struct slice held, bool is_whole)
{
    struct header_walk walk;
    struct header_field field;

    room->field_count = 0;
    header_walk_init(&walk, held, is_whole);
    while (room->field_count < FIELDS_MAX && header_walk_next(&walk, &field))
        room->fields[room->field_count++] =
            (struct dkim_field){field.name, slice_of(held.data + field.offset, field.octets)};
}

/* The field without the value of b= and what is white around it, and without its end (3.7). False
 * when it is too long. */
static bool put_own_field(struct verify_room *room, struct slice field,
                          const struct dkim_claim *claim, const struct dkim_sink *sink)
{
    size_t start = (size_t)(claim->signature_text.data - field.data);
    size_t end = start + claim->signature_text.len;
    struct text text = text_in(room->octets, sizeof(room->octets));

    if (field.len >= 2 && field.data[field.len - 2] == '\r' && field.data[field.len - 1] == '\n')
        field.len -= 2;
    while (header_is_white(field.data[start - 1]))
        start--;
    while (end < field.len && header_is_white(field.data[end]))
        end++;
    text_put(&text, slice_of(field.data, start));
    if (end < field.len)
        text_put(&text, slice_after(field, end));
    if (text.is_cut)
        return false;
    dkim_header_put(claim->header_canon, text_slice(&text), true, sink);
    return true;
}

/* Whether what is signed of the header could be hashed. */
static bool hash_header(struct verify_room *room, struct slice field, struct intake_claim *claim)
{
    struct sign_hash hash;
    struct dkim_sink sink = {sign_hash_put, &hash};

    sign_hash_init(&hash);
    if (!dkim_pick_listed(room->fields, room->field_count, claim->claim.names, &room->picks))
        return false;
    dkim_picks_put(&room->picks, room->fields, claim->claim.header_canon, &sink);
    if (!put_own_field(room, field, &claim->claim, &sink))
        return false;
    sign_hash_end(&hash, claim->digest);
    return true;
}

/* Claims of one canonical form and length share a hash. */
static void choose_body(struct intake_verify *verify, struct intake_claim *claim)
{
    uint32_t at = 0;

    while (at < verify->body_count && (verify->bodies[at].canon != claim->claim.body_canon ||
                                       verify->bodies[at].octets_max != claim->claim.octets))
        at++;
    claim->body = (uint8_t)at;
    if (at < verify->body_count)
        return;
    verify->body_count++;
    sign_hash_init(&verify->hashes[at]);
    dkim_body_init(&verify->bodies[at], claim->claim.body_canon, true, claim->claim.octets);
}

/* The held octets go: of them only the domain, and whether i= is the same, are kept. */
static void keep_domain(struct intake_claim *claim)
{
    struct dkim_claim *said = &claim->claim;
    bool is_same = slice_equal_nocase(said->identity, said->domain);

    memcpy(claim->domain, said->domain.data, said->domain.len);
    said->domain = slice_of(claim->domain, said->domain.len);
    said->identity = is_same ? said->domain : SLICE_EMPTY;
}

static void take_claim(struct intake_verify *verify, struct verify_room *room,
                       const struct dkim_field *field)
{
    struct intake_claim *claim = &verify->at[verify->count++];
    size_t colon = slice_find(field->octets, ':');
    enum dkim_result result;

    claim->verify = verify;
    list_init(&claim->lookup.link);
    claim->why = dkim_claim_parse(slice_after(field->octets, colon + 1), &claim->claim, &result);
    claim->result = (uint8_t)result;
    if (claim->claim.domain.len > 0)
        keep_domain(claim);
    if (!claim->why && !hash_header(room, field->octets, claim))
        claim->why = "it is too long";
    if (!claim->why && claim->claim.expires_s > 0 &&
        claim->claim.expires_s < verify->intake->wall_us / 1000000)
        settle(claim, DKIM_FAIL, "it has expired");
    if (claim->why)
        return;
    claim->result = DKIM_NONE;
    choose_body(verify, claim);
    ask_key(claim);
}

int inject_verify_begin(struct intake_message *intake, struct slice held, bool is_whole)
{
    struct shard *shard = intake->shard;
    struct intake_verify *verify;
    struct verify_room *room;
    uint32_t index;

    if (!intake->verifies)
        return 0;
    if (!shard->verify_room)
        shard->verify_room = mem_try_alloc(sizeof(*shard->verify_room));
    room = shard->verify_room;
    verify = room ? slab_alloc(&shard->verifies, &index) : NULL;
    if (!verify)
        return E_FULL;
    intake->verify = verify;
    verify->intake = intake;
    verify->index = index;
    list_init(&verify->link);
    io_timer_init(&verify->timer, on_timer);
    gather_fields(room, held, is_whole);
    for (uint32_t i = 0; i < room->field_count && verify->count < VERIFY_SIGNATURES_MAX; i++) {
        if (slice_equal_nocase(room->fields[i].name, SLICE_LITERAL("DKIM-Signature")))
            take_claim(verify, room, &room->fields[i]);
    }
    return 0;
}

/* ---- The field ------------------------------------------------------------------------------- */

void inject_verify_put(struct intake_message *intake, struct text *text)
{
    struct intake_verify *verify = intake->verify;

    if (!verify)
        return;
    if (verify->count == 0)
        text_put_literal(text, ";\r\n\tdkim=none");
    for (uint32_t i = 0; i < verify->count; i++) {
        struct intake_claim *claim = &verify->at[i];
        struct slice signature = claim->claim.signature_text;

        text_put_literal(text, ";\r\n\tdkim=");
        claim->offset = intake->message->bytes + (uint32_t)text->len;
        for (unsigned column = 0; column < RESULT_COLUMNS; column++)
            text_put_char(text, ' ');
        if (claim->claim.domain.len == 0)
            continue;
        text_put_literal(text, " header.d=");
        text_put(text, claim->claim.domain);
        text_put_literal(text, " header.s=");
        text_put(text, claim->claim.selector);
        /* RFC 6008. */
        text_put_literal(text, " header.b=");
        inject_check_put_value(text,
                               slice_of(signature.data, signature.len < 8 ? signature.len : 8));
    }
}

/* ---- The body, and the end ------------------------------------------------------------------- */

void inject_verify_body(struct intake_message *intake, const uint8_t *data, size_t len)
{
    struct intake_verify *verify = intake->verify;

    for (uint32_t i = 0; verify && i < verify->body_count; i++) {
        struct dkim_sink sink = {sign_hash_put, &verify->hashes[i]};

        dkim_body_put(&verify->bodies[i], data, len, &sink);
    }
}

static void judge(const struct intake_verify *verify, struct intake_claim *claim,
                  const uint8_t body_hash[SIGN_DIGEST_BYTES])
{
    const struct dkim_claim *said = &claim->claim;
    int result;

    if ((said->has_length && verify->bodies[claim->body].octets < said->octets) ||
        memcmp(body_hash, said->body_hash, SIGN_DIGEST_BYTES) != 0) {
        settle(claim, DKIM_FAIL, "the body is not the one that was signed");
        return;
    }
    result = sign_verify(said->is_ed25519 ? SIGN_ED25519 : SIGN_RSA,
                         slice_of(claim->key.octets, claim->key.bytes), claim->digest,
                         slice_of(said->signature, said->signature_bytes));
    if (result == 0)
        settle(claim, DKIM_PASS, "");
    else if (result == E_DAMAGED)
        settle(claim, DKIM_FAIL, "the header is not the one that was signed");
    else
        settle(claim, DKIM_PERMERROR, "the key cannot be used");
}

static void tell(const struct intake_verify *verify, const struct intake_claim *claim)
{
    const struct intake_message *intake = verify->intake;
    const char *name = dkim_result_name(claim->result);
    char client[IPADDR_TEXT_MAX], id[14];

    message_overwrite(intake->message, claim->offset, name, strlen(name));
    if (!intake->source.trace_dkim)
        return;
    ipaddr_format(&intake->client_ip, client);
    inject_format_id(intake->id, id);
    log_info("smtp-in %s, message %s: DKIM signature of %s: %s%s%s", client, id,
             claim->domain[0] ? claim->domain : "nobody", name, claim->why[0] ? ", " : "",
             claim->why);
}

static void conclude(struct intake_verify *verify)
{
    uint8_t hashes[VERIFY_SIGNATURES_MAX][SIGN_DIGEST_BYTES];

    for (uint32_t i = 0; i < verify->body_count; i++) {
        struct dkim_sink sink = {sign_hash_put, &verify->hashes[i]};

        dkim_body_end(&verify->bodies[i], &sink);
        sign_hash_end(&verify->hashes[i], hashes[i]);
    }
    for (uint32_t i = 0; i < verify->count; i++) {
        struct intake_claim *claim = &verify->at[i];

        if (claim->result == DKIM_NONE)
            judge(verify, claim, hashes[claim->body]);
        tell(verify, claim);
    }
}

bool inject_verify_wait(struct intake_message *intake)
{
    struct intake_verify *verify = intake->verify;

    if (!verify || intake->failure < 0)
        return false;
    if (verify->open_count == 0) {
        conclude(verify);
        return false;
    }
    verify->is_waiting = true;
    intake->shard->append_count++;
    return true;
}

/* ---- The shard's part ------------------------------------------------------------------------ */

void inject_verify_release(struct intake_message *intake)
{
    struct intake_verify *verify = intake->verify;
    struct shard *shard = intake->shard;

    if (!verify)
        return;
    for (uint32_t i = 0; i < verify->count; i++)
        dns_forget(shard->dns, &verify->at[i].lookup);
    io_timer_stop(shard->io, &verify->timer);
    list_remove(&verify->link);
    slab_free(&shard->verifies, verify->index);
    intake->verify = NULL;
}

void inject_verify_stop(struct shard *shard)
{
    while (!list_empty(&shard->verifies_open))
        give_up(container_of(shard->verifies_open.next, struct intake_verify, link));
}

void inject_verify_init(struct shard *shard)
{
    uint32_t most = shard->limits.session_count_max * 2;

    slab_init(&shard->verifies, sizeof(struct intake_verify),
              most < VERIFY_COUNT_MAX ? most : VERIFY_COUNT_MAX);
    list_init(&shard->verifies_open);
}

void inject_verify_fini(struct shard *shard)
{
    mem_free(shard->verify_room);
    slab_fini(&shard->verifies);
}
