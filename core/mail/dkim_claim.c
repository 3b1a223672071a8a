#include "core/mail/dkim_claim.h"

#include "core/base/base64.h"
#include "core/base/must.h"
#include "core/base/text.h"
#include "core/mail/header_scan.h"

#define TAGS_MAX 32u

const char *dkim_result_name(enum dkim_result result)
{
    static const char *const names[] = {
        [DKIM_NONE] = "none",       [DKIM_PASS] = "pass",           [DKIM_FAIL] = "fail",
        [DKIM_NEUTRAL] = "neutral", [DKIM_TEMPERROR] = "temperror", [DKIM_PERMERROR] = "permerror",
    };

    return names[result];
}

/* ---- Tags ------------------------------------------------------------------------------------ */

struct tag {
    struct slice name;
    struct slice value;
};

struct tags {
    uint32_t count;
    struct tag at[TAGS_MAX];
};

static const struct slice *find_tag(const struct tags *tags, const char *name)
{
    for (uint32_t i = 0; i < tags->count; i++) {
        if (slice_equal(tags->at[i].name, slice_str(name)))
            return &tags->at[i].value;
    }
    return NULL;
}

/* RFC 6376 3.2: NAME=VALUE with semicolons between; no name twice. */
static bool parse_tags(struct slice text, struct tags *tags)
{
    tags->count = 0;
    while (text.len > 0) {
        size_t end = slice_find(text, ';');
        struct slice item = header_trim_folded(slice_of(text.data, end));
        size_t equals = slice_find(item, '=');
        struct tag *tag = &tags->at[tags->count];

        text = slice_after(text, end + (end < text.len));
        if (item.len == 0)
            continue;
        if (equals == 0 || equals == item.len || tags->count == TAGS_MAX)
            return false;
        tag->name = header_trim_folded(slice_of(item.data, equals));
        tag->value = header_trim_folded(slice_after(item, equals + 1));
        for (uint32_t i = 0; i < tags->count; i++) {
            if (slice_equal(tags->at[i].name, tag->name))
                return false;
        }
        tags->count++;
    }
    return true;
}

/* ---- Values ---------------------------------------------------------------------------------- */

/* Folds may stand anywhere in it. False when it is no base64, or more than room. */
static bool decode(struct slice text, uint8_t *room, size_t size, size_t *ret_len)
{
    char packed[BASE64_BYTES(DKIM_KEY_OCTETS_MAX)];
    size_t count = 0;
    int len;

    must(size <= DKIM_KEY_OCTETS_MAX);
    for (size_t i = 0; i < text.len; i++) {
        if (header_is_white(text.data[i]))
            continue;
        if (count == sizeof(packed))
            return false;
        packed[count++] = (char)text.data[i];
    }
    len = base64_decode(slice_of(packed, count), room, size);
    *ret_len = len > 0 ? (size_t)len : 0;
    return len > 0;
}

static bool parse_canon(struct slice name, enum dkim_canon *canon)
{
    if (slice_equal_nocase(name, SLICE_LITERAL("simple")))
        *canon = DKIM_SIMPLE;
    else if (slice_equal_nocase(name, SLICE_LITERAL("relaxed")))
        *canon = DKIM_RELAXED;
    else
        return false;
    return true;
}

/* "HEADER/BODY"; what is not said is simple. */
static bool parse_canons(const struct slice *value, struct dkim_claim *claim)
{
    size_t slash;

    claim->header_canon = DKIM_SIMPLE;
    claim->body_canon = DKIM_SIMPLE;
    if (!value)
        return true;
    slash = slice_find(*value, '/');
    return parse_canon(slice_of(value->data, slash), &claim->header_canon) &&
           (slash == value->len || parse_canon(slice_after(*value, slash + 1), &claim->body_canon));
}

static bool is_domain(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i], letter = c | 0x20;

        if ((letter < 'a' || letter > 'z') && (c < '0' || c > '9') && memchr(".-_", c, 3) == NULL)
            return false;
    }
    return name.len > 0 && name.len <= DKIM_DOMAIN_MAX;
}

/* h=: its colons become commas; From must be among them (5.4). */
static bool parse_names(struct slice value, struct dkim_claim *claim, bool *ret_has_from)
{
    struct text names = text_in(claim->names, sizeof(claim->names));

    *ret_has_from = false;
    while (value.len > 0) {
        size_t end = slice_find(value, ':');
        struct slice name = header_trim_folded(slice_of(value.data, end));

        value = slice_after(value, end + (end < value.len));
        if (name.len == 0 || memchr(name.data, ',', name.len) || memchr(name.data, '\0', name.len))
            return false;
        *ret_has_from |= slice_equal_nocase(name, SLICE_LITERAL("From"));
        if (names.len > 0)
            text_put_char(&names, ',');
        text_put(&names, name);
    }
    text_end(&names);
    return !names.is_cut && names.len > 0;
}

/* i=: the part behind the '@' is d= or below it (3.5). */
static bool parse_identity(const struct slice *value, struct dkim_claim *claim)
{
    size_t at, more;

    claim->identity = claim->domain;
    if (!value)
        return true;
    at = value->len;
    while (at > 0 && value->data[at - 1] != '@')
        at--;
    claim->identity = slice_after(*value, at);
    if (at == 0 || claim->identity.len < claim->domain.len)
        return false;
    more = claim->identity.len - claim->domain.len;
    return slice_equal_nocase(slice_after(claim->identity, more), claim->domain) &&
           (more == 0 || claim->identity.data[more - 1] == '.');
}

static bool parse_numbers(const struct tags *tags, struct dkim_claim *claim)
{
    const struct slice *length = find_tag(tags, "l"), *time = find_tag(tags, "t"),
                       *expires = find_tag(tags, "x");
    uint64_t time_s = 0;

    claim->has_length = length != NULL;
    if (length && slice_to_u64(*length, UINT64_MAX, &claim->octets) < 0)
        return false;
    if (time && slice_to_u64(*time, UINT64_MAX, &time_s) < 0)
        return false;
    if (expires && slice_to_u64(*expires, UINT64_MAX, &claim->expires_s) < 0)
        return false;
    return !expires || claim->expires_s > time_s;
}

/* ---- The field ------------------------------------------------------------------------------- */

static const char *parse_algorithm(const struct slice *value, struct dkim_claim *claim)
{
    if (!value)
        return "there is no a=";
    claim->is_ed25519 = slice_equal_nocase(*value, SLICE_LITERAL("ed25519-sha256"));
    if (claim->is_ed25519 || slice_equal_nocase(*value, SLICE_LITERAL("rsa-sha256")))
        return NULL;
    return "its algorithm is not one of rsa-sha256 and ed25519-sha256";
}

static const char *parse_hashes(const struct tags *tags, struct dkim_claim *claim)
{
    const struct slice *signature = find_tag(tags, "b"), *body = find_tag(tags, "bh");
    size_t len;

    if (!signature ||
        !decode(*signature, claim->signature, sizeof(claim->signature), &claim->signature_bytes))
        return "b= is not there or not well-formed";
    claim->signature_text = *signature;
    if (!body || !decode(*body, claim->body_hash, sizeof(claim->body_hash), &len) ||
        len != DKIM_BODY_HASH)
        return "bh= is not there or not well-formed";
    return NULL;
}

static const char *parse_rest(const struct tags *tags, struct dkim_claim *claim,
                              enum dkim_result *result)
{
    const struct slice *domain = find_tag(tags, "d"), *selector = find_tag(tags, "s"),
                       *names = find_tag(tags, "h");
    bool has_from;

    if (!domain || !selector || !is_domain(*domain) || !is_domain(*selector))
        return "d= or s= is not there or not well-formed";
    claim->domain = *domain;
    claim->selector = *selector;
    if (!names || !parse_names(*names, claim, &has_from))
        return "h= is not there or not well-formed";
    if (!parse_canons(find_tag(tags, "c"), claim))
        return "its canonical form is not known";
    if (!parse_numbers(tags, claim))
        return "l=, t= or x= is not well-formed";
    *result = DKIM_PERMERROR;
    if (!has_from)
        return "From is not signed";
    if (!parse_identity(find_tag(tags, "i"), claim))
        return "i= is not of d=";
    return NULL;
}

const char *dkim_claim_parse(struct slice value, struct dkim_claim *ret_claim,
                             enum dkim_result *ret_result)
{
    const struct slice *version;
    struct tags tags;
    const char *why;

    *ret_result = DKIM_NEUTRAL;
    ret_claim->octets = UINT64_MAX;
    ret_claim->expires_s = 0;
    ret_claim->domain = SLICE_EMPTY;
    ret_claim->selector = SLICE_EMPTY;
    if (!parse_tags(value, &tags))
        return "its tags are not well-formed";
    version = find_tag(&tags, "v");
    if (!version || !slice_equal(*version, SLICE_LITERAL("1")))
        return "its version is not 1";
    why = parse_algorithm(find_tag(&tags, "a"), ret_claim);
    if (!why)
        why = parse_hashes(&tags, ret_claim);
    return why ? why : parse_rest(&tags, ret_claim, ret_result);
}

/* ---- The key --------------------------------------------------------------------------------- */

/* Whether one of the words between colons is one of these two. */
static bool has_word(const struct slice *value, const char *one, const char *other)
{
    struct slice rest = value ? *value : SLICE_EMPTY;

    while (rest.len > 0) {
        size_t end = slice_find(rest, ':');
        struct slice word = header_trim_folded(slice_of(rest.data, end));

        rest = slice_after(rest, end + (end < rest.len));
        if (slice_equal_nocase(word, slice_str(one)) || slice_equal_nocase(word, slice_str(other)))
            return true;
    }
    return false;
}

const char *dkim_key_parse(struct slice record, const struct dkim_claim *claim,
                           struct dkim_public_key *ret_key)
{
    const struct slice *version, *kind, *hashes, *services, *key;
    struct tags tags;

    if (!parse_tags(record, &tags))
        return "the key's record is not well-formed";
    version = find_tag(&tags, "v");
    kind = find_tag(&tags, "k");
    hashes = find_tag(&tags, "h");
    services = find_tag(&tags, "s");
    key = find_tag(&tags, "p");
    if (!key || (version && !slice_equal(*version, SLICE_LITERAL("DKIM1"))))
        return "the record is no key's";
    if (key->len == 0)
        return "the key is revoked";
    ret_key->is_ed25519 = kind && slice_equal_nocase(*kind, SLICE_LITERAL("ed25519"));
    if (kind && !ret_key->is_ed25519 && !slice_equal_nocase(*kind, SLICE_LITERAL("rsa")))
        return "the key is of no kind that is known here";
    if (ret_key->is_ed25519 != claim->is_ed25519)
        return "the key is of another kind than the signature";
    if ((hashes && !has_word(hashes, "sha256", "sha256")) ||
        (services && !has_word(services, "*", "email")))
        return "the key is not for this";
    if (has_word(find_tag(&tags, "t"), "s", "s") &&
        !slice_equal_nocase(claim->identity, claim->domain))
        return "the key is not for domains below its own";
    if (!decode(*key, ret_key->octets, sizeof(ret_key->octets), &ret_key->bytes))
        return "the key's record is not well-formed";
    return NULL;
}

/* ---- A key of ours --------------------------------------------------------------------------- */

/* Octets of SubjectPublicKeyInfo in front of RSAPublicKey, at most, with a modulus of 4096 bits. */
#define SPKI_FRONT_MAX 32u

const char *dkim_record_name(enum dkim_record record)
{
    static const char *const names[DKIM_RECORD_COUNT] = {
        [DKIM_RECORD_MATCHES] = "matches", [DKIM_RECORD_OTHER_KEY] = "other-key",
        [DKIM_RECORD_REVOKED] = "revoked", [DKIM_RECORD_UNFIT] = "unfit",
        [DKIM_RECORD_BROKEN] = "broken",   [DKIM_RECORD_MISSING] = "missing",
        [DKIM_RECORD_SEVERAL] = "several", [DKIM_RECORD_UNKNOWN] = "unknown",
    };

    return names[record];
}

/* Both in base64. RSAPublicKey is the end of SubjectPublicKeyInfo. */
static bool is_same_key(struct slice said, struct slice ours, bool is_ed25519)
{
    uint8_t a[DKIM_KEY_OCTETS_MAX], b[DKIM_KEY_OCTETS_MAX];
    size_t a_len, b_len, more;

    if (!decode(said, a, sizeof(a), &a_len) || !decode(ours, b, sizeof(b), &b_len) || a_len > b_len)
        return false;
    more = b_len - a_len;
    return memcmp(a, b + more, a_len) == 0 && more <= (is_ed25519 ? 0 : SPKI_FRONT_MAX);
}

static const char *why_unfit(const struct tags *tags, bool is_ed25519)
{
    const struct slice *kind = find_tag(tags, "k"), *hashes = find_tag(tags, "h"),
                       *services = find_tag(tags, "s");
    struct slice said = kind ? *kind : SLICE_LITERAL("rsa");

    if (!slice_equal_nocase(said, is_ed25519 ? SLICE_LITERAL("ed25519") : SLICE_LITERAL("rsa")))
        return is_ed25519 ? "k= is not ed25519" : "k= is not rsa";
    if (hashes && !has_word(hashes, "sha256", "sha256"))
        return "h= does not have sha256";
    return services && !has_word(services, "*", "email") ? "s= does not have email" : NULL;
}

enum dkim_record dkim_record_judge(struct slice record, bool is_ed25519, struct slice public_part,
                                   struct dkim_record_flags *ret_flags, const char **ret_why)
{
    const struct slice *version, *key;
    struct tags tags;

    *ret_flags = (struct dkim_record_flags){0};
    *ret_why = "it cannot be read";
    if (!parse_tags(record, &tags))
        return DKIM_RECORD_BROKEN;
    version = find_tag(&tags, "v");
    key = find_tag(&tags, "p");
    *ret_why = "it is no key's record";
    if (!key || (version &&
                 (!slice_equal(*version, SLICE_LITERAL("DKIM1")) || version != &tags.at[0].value)))
        return DKIM_RECORD_BROKEN;
    ret_flags->is_testing = has_word(find_tag(&tags, "t"), "y", "y");
    ret_flags->is_strict = has_word(find_tag(&tags, "t"), "s", "s");
    *ret_why = "p= is empty";
    if (key->len == 0)
        return DKIM_RECORD_REVOKED;
    *ret_why = why_unfit(&tags, is_ed25519);
    if (*ret_why)
        return DKIM_RECORD_UNFIT;
    *ret_why = "p= is of another key";
    if (!is_same_key(*key, public_part, is_ed25519))
        return DKIM_RECORD_OTHER_KEY;
    *ret_why = NULL;
    return DKIM_RECORD_MATCHES;
}
