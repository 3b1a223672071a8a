#include "core/obs/privacy.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/base/sha256.h"
#include "core/base/siphash.h"

static int digit_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_key(struct slice digits, struct privacy *privacy)
{
    size_t bytes = digits.len / 2;

    if (digits.len % 2 != 0 || bytes == 0 || bytes > PRIVACY_KEY_MAX)
        return E_SYNTAX;
    for (size_t i = 0; i < bytes; i++) {
        int high = digit_value(digits.data[2 * i]), low = digit_value(digits.data[2 * i + 1]);

        if (high < 0 || low < 0)
            return E_SYNTAX;
        privacy->key[i] = (uint8_t)(high * 16 + low);
    }
    privacy->key_bytes = (uint8_t)bytes;
    return privacy->kind == PRIVACY_SIPHASH && bytes != SIPHASH_KEY_BYTES ? E_SYNTAX : 0;
}

/* A text of any length, perhaps in quotes, is the key; that of siphash has a length of its own. */
static int take_secret(struct slice text, struct privacy *privacy)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;

    if (text.len >= 2 && text.data[0] == '"' && text.data[text.len - 1] == '"')
        text = slice_of(text.data + 1, text.len - 2);
    if (text.len == 0 || text.len > PRIVACY_KEY_MAX)
        return E_SYNTAX;
    memcpy(privacy->key, text.data, text.len);
    privacy->key_bytes = (uint8_t)text.len;
    if (privacy->kind != PRIVACY_SIPHASH)
        return 0;
    sha256_init(&hash);
    sha256_put(&hash, text);
    sha256_end(&hash, digest);
    memcpy(privacy->key, digest, SIPHASH_KEY_BYTES);
    privacy->key_bytes = SIPHASH_KEY_BYTES;
    return 0;
}

/* What stands behind the name of a way that has keys. */
static int take_key(struct slice rest, struct privacy *privacy)
{
    const struct slice hexkey = SLICE_LITERAL("-hexkey");

    if (rest.len == 0)
        return 0;
    if (rest.data[0] == ' ' || rest.data[0] == '\t')
        return take_secret(slice_trim(rest), privacy);
    if (rest.data[0] != '-')
        return E_SYNTAX;
    if (slice_starts_nocase(rest, hexkey))
        return parse_key(slice_trim(slice_after(rest, hexkey.len)), privacy);
    return parse_key(slice_after(rest, 1), privacy);
}

int privacy_parse(struct slice text, struct privacy *ret_privacy)
{
    static const struct {
        struct slice name;
        enum privacy_kind kind;
    } kinds[] = {
        {SLICE_LITERAL("retain"), PRIVACY_RETAIN},
        {SLICE_LITERAL("redact"), PRIVACY_REDACT},
        {SLICE_LITERAL("siphash"), PRIVACY_SIPHASH},
        {SLICE_LITERAL("hmac-sha256"), PRIVACY_HMAC},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct privacy privacy = {.kind = kinds[i].kind};
        struct slice rest;

        if (!slice_starts_nocase(text, kinds[i].name))
            continue;
        rest = slice_after(text, kinds[i].name.len);
        if (privacy.kind < PRIVACY_SIPHASH ? rest.len > 0 : take_key(rest, &privacy) < 0)
            return E_SYNTAX;
        *ret_privacy = privacy;
        return 0;
    }
    return E_SYNTAX;
}

size_t privacy_replace(const struct privacy *privacy, struct slice address,
                       char room[PRIVACY_TEXT_MAX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_BYTES];
    size_t bytes = 0;

    must(privacy->kind != PRIVACY_RETAIN);
    if (privacy->kind == PRIVACY_SIPHASH) {
        uint64_t hash = siphash(privacy->key, address);

        for (; bytes < sizeof(hash); bytes++)
            digest[bytes] = (uint8_t)(hash >> (56 - 8 * bytes));
    } else if (privacy->kind == PRIVACY_HMAC) {
        hmac_sha256(slice_of(privacy->key, privacy->key_bytes), address, digest);
        bytes = sizeof(digest);
    }
    for (size_t i = 0; i < bytes; i++) {
        room[2 * i] = digits[digest[i] >> 4];
        room[2 * i + 1] = digits[digest[i] & 15];
    }
    room[2 * bytes] = '\0';
    return 2 * bytes;
}
