#include "shard/signing.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/author.h"
#include "shard/shard_int.h"

#include <stdio.h>

#define FIELDS_MAX    2048u
#define IDENTITY_MAX  (ADDRESS_LOCAL_MAX + 1 + ADDRESS_HOST_MAX + 1)
#define ALERT_SPAN_NS 10000000000ull

/* One signature that is to be made. */
struct wanted {
    struct conf_dkim dkim;
    struct sign_key *key;
    char selector[256];
    char domain[ADDRESS_HOST_MAX + 1];
    char identity[IDENTITY_MAX];
};

/* Memory for one header at a time; taken with the first message that is signed. */
struct sign_room {
    uint32_t wanted_count;
    uint32_t field_count;
    uint32_t removed_count;
    uint32_t rule_count;
    uint64_t rules[SIGNATURES_RULES_MAX + 1]; /* the last place is for looking */
    struct wanted wanted[SIGNING_COUNT_MAX];
    const char *removed[SIGNING_COUNT_MAX]; /* what queues of its recipients leave out */
    struct dkim_field fields[FIELDS_MAX];
    struct dkim_picks picks;
    char text[DKIM_TEXT_MAX];
    uint8_t prefix[SIGNING_PREFIX_MAX];
};

/* ---- The message's own wishes ---------------------------------------------------------------- */

const char *signing_wish_parse(struct slice options, struct signing_wish *wish)
{
    wish->has_options = true;
    while (options.len > 0) {
        size_t end = slice_find(options, ';');
        struct slice item = slice_trim(slice_of(options.data, end));
        size_t equals = slice_find(item, '=');
        struct slice name = slice_trim(slice_of(item.data, equals));
        struct slice value;

        options = slice_after(options, end + (end < options.len));
        if (item.len == 0)
            continue;
        if (equals == item.len)
            return "x-dkim-options is not of the form TAG=VALUE; ...";
        value = slice_trim(slice_after(item, equals + 1));
        if (slice_equal_nocase(name, SLICE_LITERAL("s")))
            wish->selector = value;
        else if (slice_equal_nocase(name, SLICE_LITERAL("d")))
            wish->domain = value;
        else if (slice_equal_nocase(name, SLICE_LITERAL("i")))
            wish->identity = value;
        else if (slice_equal_nocase(name, SLICE_LITERAL("q")))
            wish->query = value;
        else if (slice_equal_nocase(name, SLICE_LITERAL("key-list")))
            wish->list = value;
        else
            return "x-dkim-options has a tag that is not known here (s, d, i, q and key-list are)";
    }
    return NULL;
}

/* ---- The fields ------------------------------------------------------------------------------ */

bool signing_add_fields(struct signing_choice *choice, struct slice octets,
                        const struct header_facts *cuts)
{
    struct header_walk walk;
    struct header_field field;
    uint32_t cut = 0;

    header_walk_init(&walk, octets, true);
    while (header_walk_next(&walk, &field)) {
        if (cuts && cut < cuts->cut_count && cuts->cuts[cut].offset == field.offset) {
            cut++;
            continue;
        }
        if (!signing_add_field(
                choice, &(struct dkim_field){field.name,
                                             slice_of(octets.data + field.offset, field.octets)}))
            return false;
    }
    return true;
}

bool signing_add_field(struct signing_choice *choice, const struct dkim_field *field)
{
    struct sign_room *room = choice->room;

    if (room->field_count == FIELDS_MAX)
        return false;
    room->fields[room->field_count++] = *field;
    return true;
}

static struct slice value_of(const struct sign_room *room, struct slice name)
{
    for (uint32_t i = 0; i < room->field_count; i++) {
        const struct dkim_field *field = &room->fields[i];
        size_t colon = slice_find(field->octets, ':');

        if (slice_equal_nocase(field->name, name))
            return slice_after(field->octets, colon + 1);
    }
    return SLICE_EMPTY;
}

/* ---- Identities ------------------------------------------------------------------------------ */

/* "local@domain" with the domain as it stands in the DNS, "@domain" without local; false: no
 * address. */
static bool put_identity(struct slice text, char identity[IDENTITY_MAX], struct slice *ret_domain)
{
    struct text room = text_in(identity, IDENTITY_MAX);
    struct address address;
    char host[ADDRESS_HOST_MAX + 1];
    int len;

    if (text.len > 0 && text.data[0] == '@') {
        len = address_domain_parse(slice_after(text, 1), ADDRESS_ALLOW_UTF8, host);
        if (len < 0)
            return false;
        text_put_char(&room, '@');
        text_put(&room, slice_of(host, (size_t)len));
    } else {
        if (address_parse(text, ADDRESS_ALLOW_UTF8, &address) < 0 || address.is_local_only)
            return false;
        text_put(&room, address.local);
        text_put_char(&room, '@');
        text_put(&room, address_host(&address));
        len = address.host_bytes;
    }
    if (room.is_cut)
        return false;
    text_end(&room);
    *ret_domain = slice_of(identity + room.len - (size_t)len, (size_t)len);
    return true;
}

static bool find_identity(const struct signing_choice *choice, struct slice said,
                          char identity[IDENTITY_MAX], struct slice *ret_domain)
{
    struct slice field = SLICE_EMPTY;

    if (slice_equal_nocase(said, SLICE_LITERAL("sender-or-from")))
        field = value_of(choice->room, SLICE_LITERAL("Sender"));
    else if (!slice_equal_nocase(said, SLICE_LITERAL("strict-from")))
        return put_identity(said, identity, ret_domain);
    field = header_trim_folded(field);
    if (field.len == 0)
        field = header_trim_folded(value_of(choice->room, SLICE_LITERAL("From")));
    return put_identity(header_trim_folded(author_mailbox(field)), identity, ret_domain);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static void put_lower(struct slice text, char *room, size_t size)
{
    size_t len = text.len < size ? text.len : size - 1;

    slice_lower(slice_of(text.data, len), room);
    room[len] = '\0';
}

/* The key that the message itself brought, or one of the configuration. False when there is none.
 */
static bool find_key(const struct signing_choice *choice, bool is_first,
                     struct slice identity_domain, struct wanted *wanted)
{
    const struct signing_wish *wish = choice->wish;
    struct slice domain = is_first && wish->domain.len > 0 ? wish->domain : identity_domain;
    struct slice selector = is_first ? wish->selector : SLICE_EMPTY;
    const struct conf_domain_key *key;

    put_lower(domain, wanted->domain, sizeof(wanted->domain));
    if (is_first && wish->key && selector.len > 0) {
        wanted->key = wish->key;
        put_lower(selector, wanted->selector, sizeof(wanted->selector));
        return true;
    }
    key = is_first && wish->list.len > 0
              ? conf_domain_key_listed(choice->shard->conf, wish->list, slice_str(wanted->domain),
                                       wanted->dkim.algorithm, selector)
              : conf_domain_key(choice->shard->conf, choice->key_vmta_id, slice_str(wanted->domain),
                                wanted->dkim.algorithm, selector);
    if (!key)
        return false;
    wanted->key = key->key;
    snprintf(wanted->selector, sizeof(wanted->selector), "%s", key->selector);
    if (!slice_equal(key->domain, SLICE_LITERAL("*")))
        put_lower(key->domain, wanted->domain, sizeof(wanted->domain));
    return true;
}

/* The first identity for which there is a key. */
static bool find_signer(struct signing_choice *choice, const struct conf_dkim *dkim, bool is_first,
                        struct wanted *wanted)
{
    const struct signing_wish *wish = choice->wish;
    struct slice said[2] = {
        is_first && wish->identity.len > 0 ? wish->identity : slice_str(dkim->identity),
        dkim->fallback ? slice_str(dkim->fallback) : SLICE_EMPTY,
    };

    wanted->dkim = *dkim;
    for (size_t i = 0; i < 2; i++) {
        struct slice domain;

        if (said[i].len == 0 || !find_identity(choice, said[i], wanted->identity, &domain))
            continue;
        if (find_key(choice, is_first, domain, wanted))
            return true;
        put_lower(domain, choice->missing_domain, sizeof(choice->missing_domain));
    }
    return false;
}

/* ---- Which signatures ------------------------------------------------------------------------ */

static bool text_equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool is_same(const struct wanted *a, const struct wanted *b)
{
    return a->key == b->key && strcmp(a->selector, b->selector) == 0 &&
           strcmp(a->domain, b->domain) == 0 && strcmp(a->identity, b->identity) == 0 &&
           a->dkim.body_canon == b->dkim.body_canon &&
           a->dkim.header_canon == b->dkim.header_canon &&
           text_equal(a->dkim.headers, b->dkim.headers) &&
           text_equal(a->dkim.closed, b->dkim.closed) &&
           text_equal(a->dkim.query_method, b->dkim.query_method) &&
           a->dkim.expire_after_ms == b->dkim.expire_after_ms &&
           a->dkim.add_timestamp == b->dkim.add_timestamp &&
           a->dkim.add_body_limit == b->dkim.add_body_limit;
}

static int refuse(struct signing_choice *choice, uint16_t code, const char *text)
{
    choice->refusal_code = code;
    choice->refusal = text;
    return E_REFUSED;
}

/* Never silent, and not a line for each of a million messages either. */
static int on_missing(struct signing_choice *choice, uint32_t missing)
{
    static const char *const fates[] = {[CONF_DKIM_REJECT] = "refused",
                                        [CONF_DKIM_DEFER] = "put off",
                                        [CONF_DKIM_SEND] = "sent without that signature"};
    struct shard *shard = choice->shard;
    uint64_t now_ns = io_now_ns(shard->io);
    char id[14];

    if (choice->is_own)
        missing = CONF_DKIM_SEND;
    else if (choice->is_late && missing == CONF_DKIM_REJECT)
        missing = CONF_DKIM_DEFER;
    shard->totals.dkim_keys_missing++;
    if (shard->key_alert_ns == 0 || now_ns - shard->key_alert_ns >= ALERT_SPAN_NS) {
        shard->key_alert_ns = now_ns;
        inject_format_id(choice->message_id, id);
        log_error("message %s: no DKIM key to sign for %s%s; it is %s (dkim-missing-key)", id,
                  choice->missing_domain[0] ? "the domain " : "whom it is from",
                  choice->missing_domain, fates[missing]);
    }
    if (missing == CONF_DKIM_SEND)
        return 0;
    return missing == CONF_DKIM_REJECT
               ? refuse(choice, 550, "there is no DKIM key for the domain it is from")
               : refuse(choice, 451, "no DKIM key for the domain it is from, try later");
}

static int add_wanted(struct signing_choice *choice, const struct conf_dkim *dkim, bool is_first,
                      uint32_t missing)
{
    struct sign_room *room = choice->room;
    struct wanted *wanted = &room->wanted[room->wanted_count];

    if (dkim->sign == CONF_DKIM_NO ||
        (dkim->sign == CONF_DKIM_IF_OPTIONS && !choice->wish->has_options))
        return 0;
    if (!find_signer(choice, dkim, is_first, wanted))
        return on_missing(choice, missing);
    for (uint32_t i = 0; i < room->wanted_count; i++) {
        if (is_same(&room->wanted[i], wanted))
            return 0;
    }
    /* The last place is for looking. */
    if (room->wanted_count + 1 == SIGNING_COUNT_MAX)
        return refuse(choice, 550,
                      "its recipients want too many different signatures, send it in parts");
    room->wanted_count++;
    return 0;
}

/* Nobody's signature speaks of fields that some recipients will not see. */
static int add_removed(struct signing_choice *choice, const char *names)
{
    struct sign_room *room = choice->room;

    for (uint32_t i = 0; i < room->removed_count; i++) {
        if (text_equal(room->removed[i], names))
            return 0;
    }
    if (!names)
        return 0;
    if (room->removed_count == SIGNING_COUNT_MAX)
        return refuse(choice, 550,
                      "its recipients' headers differ in too many ways, send it in parts");
    room->removed[room->removed_count++] = names;
    return 0;
}

uint64_t signing_rules(const struct conf *conf, const struct conf_signing *signing,
                       uint32_t vmta_id)
{
    return hash_combine(conf_signing_hash(signing), conf_keys_hash(conf, vmta_id));
}

static void add_rules(struct sign_room *room, uint64_t rules)
{
    for (uint32_t i = 0; i < room->rule_count; i++) {
        if (room->rules[i] == rules)
            return;
    }
    if (room->rule_count <= SIGNATURES_RULES_MAX)
        room->rules[room->rule_count++] = rules;
}

static int add_queue(struct signing_choice *choice, const struct conf_signing *signing,
                     uint32_t vmta_id)
{
    int result = 0;

    choice->key_vmta_id = vmta_id;
    add_rules(choice->room, signing_rules(choice->shard->conf, signing, vmta_id));
    for (unsigned i = 0; i < 2 && result == 0; i++)
        result = add_wanted(choice, &signing->each[i], i == 0, signing->missing_key);
    return result == 0 ? add_removed(choice, signing->removed) : result;
}

static void forget_wanted(struct sign_room *room)
{
    room->wanted_count = 0;
    room->removed_count = 0;
    room->rule_count = 0;
}

int signing_choose_for(struct signing_choice *choice, const struct conf_signing *signing,
                       uint32_t vmta_id)
{
    int result;

    forget_wanted(choice->room);
    result = add_queue(choice, signing, vmta_id);
    return result < 0 ? result : (int)choice->room->wanted_count;
}

/* What the queues of all recipients want. */
int signing_choose(struct signing_choice *choice, struct slice rcpts)
{
    const struct conf *conf = choice->shard->conf;
    struct slice before = SLICE_EMPTY;
    struct envelope_rcpt rcpt;
    struct wire_reader r;
    int result = 0;

    forget_wanted(choice->room);
    wire_reader_init(&r, rcpts.data, rcpts.len);
    while (result == 0 && envelope_rcpt_next(&r, &rcpt)) {
        struct slice host = envelope_rcpt_host(&rcpt);
        char domain[ADDRESS_HOST_MAX + 1];
        struct conf_signing signing;
        struct conf_way way;

        if (slice_equal_nocase(host, before))
            continue;
        before = host;
        put_lower(host, domain, sizeof(domain));
        conf_way(conf, slice_str(domain), choice->vmta_id, 0, &way);
        conf_signing(conf, way.domain, way.vmta_id, &signing);
        result = add_queue(choice, &signing, way.vmta_id);
    }
    return result < 0 ? result : (int)choice->room->wanted_count;
}

/* ---- What is known of them later ------------------------------------------------------------- */

static uint64_t expires_s(const struct signing_choice *choice, const struct wanted *wanted)
{
    return wanted->dkim.expire_after_ms == CONF_UNLIMITED
               ? 0
               : choice->wall_us / 1000000 + wanted->dkim.expire_after_ms / 1000 + 1;
}

static struct slice query_of(const struct signing_choice *choice, const struct wanted *wanted)
{
    if (choice->wish->query.len > 0)
        return choice->wish->query;
    return wanted->dkim.query_method ? slice_str(wanted->dkim.query_method) : SLICE_EMPTY;
}

static uint64_t add_text(uint64_t hash, const char *text)
{
    return hash_combine(hash, text ? hash_bytes(text, strlen(text)) : 1);
}

/* The same key and all that the field says, but for its times. */
static uint64_t id_of(const struct signing_choice *choice, const struct wanted *wanted)
{
    const struct conf_dkim *dkim = &wanted->dkim;
    struct slice query = query_of(choice, wanted);
    const uint64_t numbers[] = {sign_key_id(wanted->key), dkim->body_canon,
                                dkim->header_canon,       dkim->expire_after_ms,
                                dkim->add_timestamp,      dkim->add_body_limit};
    uint64_t hash = hash_bytes(numbers, sizeof(numbers));

    hash = add_text(hash, wanted->selector);
    hash = add_text(hash, wanted->domain);
    hash = add_text(hash, wanted->identity);
    hash = add_text(hash, dkim->headers);
    hash = add_text(hash, dkim->closed);
    return hash_combine(hash, hash_bytes(query.data, query.len));
}

void signing_record(const struct signing_choice *choice, struct signatures *signatures)
{
    const struct sign_room *room = choice->room;

    signatures->rule_count = 0;
    signatures->count = 0;
    signatures->expires_s = 0;
    if (room->rule_count <= signatures->rule_room) {
        signatures->rule_count = room->rule_count;
        memcpy(signatures->rules, room->rules, room->rule_count * sizeof(room->rules[0]));
    }
    for (uint32_t i = 0; i < room->wanted_count && i < signatures->room; i++) {
        uint64_t expires = expires_s(choice, &room->wanted[i]);

        signatures->ids[signatures->count++] = id_of(choice, &room->wanted[i]);
        if (expires > 0 && expires <= UINT32_MAX &&
            (signatures->expires_s == 0 || expires < signatures->expires_s))
            signatures->expires_s = (uint32_t)expires;
    }
}

void signing_note(const struct signing_choice *choice, struct message *message)
{
    struct slice encoded = message->envelope.signatures;
    const uint8_t *start = message->buffers[0].data + message->payload_offset;
    uint8_t room[SIGNATURES_BYTES_MAX];
    struct signatures signatures;
    struct wire_writer w;

    if (encoded.len == 0)
        return;
    must(signatures_decode(encoded, &signatures) == 0);
    signing_record(choice, &signatures);
    /* The options stand behind it, as they are. */
    signatures.options = SLICE_EMPTY;
    wire_writer_init(&w, room, sizeof(room));
    signatures_encode(&signatures, &w);
    must(!w.failed);
    message_overwrite(message, (size_t)(encoded.data - start), room,
                      wire_written(&w) - sizeof(uint16_t));
}

struct slice signing_reserve(const struct signing_wish *wish, struct slice options,
                             uint32_t rcpt_count, uint8_t *room, size_t room_bytes)
{
    struct signatures signatures = {
        .rule_room = rcpt_count == 1 ? 1 : SIGNATURES_RULES_MAX,
        .room = rcpt_count == 1 ? 2 : SIGNATURES_COUNT_MAX,
        .has_options = wish->has_options,
        .options = options,
    };
    struct wire_writer w;

    if (wish->key)
        return SLICE_EMPTY;
    wire_writer_init(&w, room, room_bytes);
    signatures_encode(&signatures, &w);
    must(!w.failed);
    return slice_of(room, wire_written(&w));
}

/* ---- Their fields ---------------------------------------------------------------------------- */

static void fill_signature(const struct signing_choice *choice, const struct wanted *wanted,
                           struct dkim_signature *signature)
{
    *signature = (struct dkim_signature){
        .algorithm = sign_key_algorithm(wanted->key),
        .header_canon = wanted->dkim.header_canon,
        .body_canon = wanted->dkim.body_canon,
        .domain = slice_str(wanted->domain),
        .selector = slice_str(wanted->selector),
        .identity = slice_str(wanted->identity),
        .query = query_of(choice, wanted),
        .has_time = wanted->dkim.add_timestamp,
        .has_length = wanted->dkim.add_body_limit,
        .time_s = choice->wall_us / 1000000,
        .expires_s = expires_s(choice, wanted),
        .signature_bytes = sign_key_bytes(wanted->key),
        .picks = &choice->room->picks,
    };
}

/* An identity of another domain than the key's is left out: it would make the signature void. */
static const char *check(struct dkim_signature *signature)
{
    const char *why = dkim_signature_check(signature);

    if (why && signature->identity.len > 0) {
        signature->identity = SLICE_EMPTY;
        why = dkim_signature_check(signature);
    }
    return why;
}

uint8_t *signing_prefix_room(struct signing_choice *choice)
{
    return choice->room->prefix;
}

/* The field's text with nothing yet where hash and signature belong. */
static int compose(const struct signing_choice *choice, const struct dkim_signature *signature,
                   struct signing_field *made, struct slice *ret_text)
{
    static const uint8_t zeros[SIGN_BYTES_MAX];
    struct text text = text_in(choice->room->text, sizeof(choice->room->text));

    dkim_signature_open(signature, zeros, 0, &text, &made->places);
    made->open_bytes = (uint32_t)text.len;
    dkim_signature_close(slice_of(zeros, signature->signature_bytes), &text);
    *ret_text = text_slice(&text);
    return text.is_cut ? E_TOO_LONG : 0;
}

int signing_begin(struct signing_choice *choice, struct signing *signing, uint32_t offset,
                  struct slice *ret_text)
{
    const struct wanted *wanted = &choice->room->wanted[signing->count];
    struct signing_field *made = &signing->at[signing->count];
    struct dkim_sink sink = {sign_hash_put, &made->header};
    struct sign_room *room = choice->room;
    struct dkim_signature signature;
    const char *why;

    if (!dkim_pick_usual(room->fields, room->field_count, wanted->dkim.headers, wanted->dkim.closed,
                         &room->picks))
        return E_TOO_LONG;
    for (uint32_t i = 0; i < room->removed_count; i++)
        dkim_picks_drop(&room->picks, room->removed[i]);
    fill_signature(choice, wanted, &signature);
    why = check(&signature);
    if (why) {
        log_error("DKIM for %s: %s", wanted->domain, why);
        return refuse(choice, 451, "it cannot be signed as the configuration has it");
    }
    made->key = sign_key_ref(wanted->key);
    made->header_canon = (uint8_t)wanted->dkim.header_canon;
    made->body_canon = (uint8_t)wanted->dkim.body_canon;
    signing->count++;
    sign_hash_init(&made->header);
    dkim_picks_put(&room->picks, room->fields, wanted->dkim.header_canon, &sink);
    if (!signing->wants[made->body_canon]) {
        signing->wants[made->body_canon] = true;
        sign_hash_init(&signing->hashes[made->body_canon]);
        dkim_body_init(&signing->bodies[made->body_canon], wanted->dkim.body_canon, true,
                       UINT64_MAX);
    }
    made->offset = offset;
    return compose(choice, &signature, made, ret_text);
}

bool signing_choice_init(struct signing_choice *choice)
{
    struct shard *shard = choice->shard;

    if (!shard->sign_room)
        shard->sign_room = mem_try_alloc(sizeof(*shard->sign_room));
    choice->room = shard->sign_room;
    if (choice->room)
        choice->room->field_count = 0;
    return choice->room != NULL;
}

/* ---- The body, and the signatures ------------------------------------------------------------ */

struct signing *signing_new(struct shard *shard, struct message *message,
                            void (*done)(struct signing *signing), void *owner)
{
    uint32_t index;
    struct signing *signing = slab_alloc(&shard->signings, &index);

    if (!signing)
        return NULL;
    signing->shard = shard;
    signing->message = message;
    signing->done = done;
    signing->owner = owner;
    signing->index = index;
    list_init(&signing->link);
    return signing;
}

void signing_free(struct signing *signing)
{
    must(list_empty(&signing->link) && signing->open == 0);
    for (uint32_t i = 0; i < signing->count; i++)
        sign_key_unref(signing->at[i].key);
    slab_free(&signing->shard->signings, signing->index);
}

void signing_body(struct signing *signing, const uint8_t *data, size_t len)
{
    for (unsigned i = 0; i < 2; i++) {
        struct dkim_sink sink = {sign_hash_put, &signing->hashes[i]};

        if (signing->wants[i] && !signing->are_known[i])
            dkim_body_put(&signing->bodies[i], data, len, &sink);
    }
}

void signing_know_body(struct signing *signing, enum dkim_canon canon,
                       const uint8_t hash[SIGN_DIGEST_BYTES], uint64_t octets)
{
    signing->are_known[canon] = true;
    memcpy(signing->known[canon], hash, SIGN_DIGEST_BYTES);
    signing->bodies[canon].octets = octets;
}

void signing_make(struct signing *signing)
{
    signing->shard->append_count++;
    list_push_back(&signing->shard->signings_due, &signing->link);
}

static void read_field(const struct signing *signing, uint32_t offset, void *room, size_t len)
{
    if (signing->octets)
        memcpy(room, signing->octets + offset, len);
    else
        message_copy(signing->message, offset, room, len);
}

static void write_field(const struct signing *signing, uint32_t offset, const void *data,
                        size_t len)
{
    if (signing->octets)
        memcpy(signing->octets + offset, data, len);
    else
        message_overwrite(signing->message, offset, data, len);
}

/* Fills bh= and l= in, and hashes what is signed. */
static void prepare(struct signing *signing, const struct signing_field *made,
                    const uint8_t body_hash[SIGN_DIGEST_BYTES], char *text,
                    uint8_t ret_digest[SIGN_DIGEST_BYTES])
{
    struct sign_hash header = made->header;
    struct dkim_sink sink = {sign_hash_put, &header};

    read_field(signing, made->offset, text, made->open_bytes);
    dkim_signature_fill(&made->places, body_hash, signing->bodies[made->body_canon].octets, text);
    write_field(signing, made->offset, text, made->open_bytes);
    dkim_header_put(made->header_canon, slice_of(text, made->open_bytes), true, &sink);
    sign_hash_end(&header, ret_digest);
}

/* Has all signatures of a message made. */
static void ask(struct shard *shard, struct signing *signing)
{
    uint8_t hashes[2][SIGN_DIGEST_BYTES], digest[SIGN_DIGEST_BYTES];

    for (unsigned i = 0; i < 2; i++) {
        struct dkim_sink sink = {sign_hash_put, &signing->hashes[i]};

        if (!signing->wants[i])
            continue;
        if (signing->are_known[i]) {
            memcpy(hashes[i], signing->known[i], sizeof(hashes[i]));
            continue;
        }
        dkim_body_end(&signing->bodies[i], &sink);
        sign_hash_end(&signing->hashes[i], hashes[i]);
    }
    signing->open = signing->count;
    for (uint32_t i = 0; i < signing->count; i++) {
        const struct signing_field *made = &signing->at[i];

        prepare(signing, made, hashes[made->body_canon], shard->sign_room->text, digest);
        signer_ask(shard->signer, made->key, digest, signing, i);
    }
}

static void write_down(const struct signing *signing, const struct sign_job *job,
                       struct sign_room *room)
{
    const struct signing_field *made = &signing->at[job->index];
    struct text text = text_in(room->text, sizeof(room->text));

    dkim_signature_close(slice_of(job->signature, sign_key_bytes(job->key)), &text);
    write_field(signing, made->offset + made->open_bytes, text.data, text.len);
}

/* One signature is made; with the last of a message, it goes on. */
static void on_signature(void *context, struct sign_job *job)
{
    struct shard *shard = context;
    struct signing *signing = job->owner;

    if (job->status < 0) {
        log_error("a DKIM signature came out wrong: the machine miscalculates");
        signing->is_damaged = true;
    } else {
        write_down(signing, job, shard->sign_room);
        shard->totals.dkim_signatures++;
    }
    must(signing->open > 0);
    if (--signing->open > 0)
        return;
    must(shard->append_count > 0);
    shard->append_count--;
    signing->done(signing);
}

void signing_turn(struct shard *shard)
{
    if (!shard->signer)
        return;
    while (signer_room(shard->signer) >= SIGNING_COUNT_MAX && !list_empty(&shard->signings_due)) {
        struct list *link = list_pop_front(&shard->signings_due);

        ask(shard, container_of(link, struct signing, link));
    }
    signer_turn(shard->signer);
    shard->totals.dkim_signatures_helped = signer_helped_count(shard->signer);
}

bool signing_is_busy(const struct shard *shard)
{
    return shard->signer &&
           (signer_is_busy(shard->signer) ||
            (signer_room(shard->signer) >= SIGNING_COUNT_MAX && !list_empty(&shard->signings_due)));
}

/* From the first configuration on that has mail signed. */
static void open_signer(struct shard *shard)
{
    struct sign_service *service = shard->sign_service;

    if (conf_signs(shard->conf) && !shard->signer)
        shard->signer =
            signer_create(shard->io, service, service ? &service->helpers[shard->number] : NULL,
                          on_signature, shard);
}

void signing_adopt(struct shard *shard)
{
    open_signer(shard);
    if (shard->signer)
        signer_adopt(shard->signer, conf_global(shard->conf)->dkim_sign_with);
}

void signing_init(struct shard *shard)
{
    slab_init(&shard->signings, sizeof(struct signing),
              shard->limits.session_count_max * 2 + NOTICES_MAX +
                  shard->limits.connection_count_max);
    list_init(&shard->signings_due);
    list_init(&shard->resigns_due);
    signing_adopt(shard);
}

void signing_fini(struct shard *shard)
{
    signer_destroy(shard->signer);
    mem_free(shard->sign_room);
    slab_fini(&shard->signings);
}
