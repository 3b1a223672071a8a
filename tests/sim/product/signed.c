#include "tests/sim/product/signed.h"

#include "core/base/must.h"
#include "core/mail/dkim_field.h"
#include "core/mail/header_scan.h"

#include <stdlib.h>

#define FIELDS_MAX 32u

/* Of the test program, not of any life in it. */
static struct sign_key *the_key(void)
{
    static struct sign_key *key;
    char why[SIGN_WHY_MAX];

    if (key == NULL)
        must(sign_key_parse(SLICE_LITERAL("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="), &key,
                            why) == 0);
    return key;
}

static int load(const char *path, void **ret_key, uint32_t *ret_algorithm,
                char why[CONF_KEY_WHY_MAX])
{
    *ret_key = sign_key_ref(the_key());
    *ret_algorithm = CONF_DKIM_ED25519;
    return 0;
}

static void drop(void *key)
{
    sign_key_unref(key);
}

static void *share(void *key)
{
    return sign_key_ref(key);
}

static uint64_t id_of(const void *key)
{
    return sign_key_id(key);
}

static const struct conf_key_ops ops = {load, drop, share, id_of};
const struct conf_load_options signed_load_options = {.key_ops = &ops};

void signed_mail_put(struct signed_mail *mail, struct slice line)
{
    for (unsigned i = 0; i < 2; i++) {
        struct dkim_sink sink = {sign_hash_put, &mail->hashes[i]};

        if (mail->in_body) {
            dkim_body_put(&mail->bodies[i], line.data, line.len, &sink);
            dkim_body_put(&mail->bodies[i], (const uint8_t *)"\r\n", 2, &sink);
        } else if (line.len == 0) {
            sign_hash_init(&mail->hashes[i]);
            dkim_body_init(&mail->bodies[i], (enum dkim_canon)i, false, UINT64_MAX);
        }
    }
    if (mail->in_body || line.len == 0) {
        mail->in_body = true;
        return;
    }
    if (mail->len + line.len + 2 > sizeof(mail->header))
        return;
    memcpy(mail->header + mail->len, line.data, line.len);
    memcpy(mail->header + mail->len + line.len, "\r\n", 2);
    mail->len += line.len + 2;
}

/* The value of a tag without white space in room, whose size is large enough for a header. */
static void take_tag(struct slice field, const char *name, char *room)
{
    size_t len = 0, at = 0, name_len = strlen(name);

    while (at + name_len < field.len && memcmp(field.data + at, name, name_len) != 0)
        at++;
    for (at += name_len; at < field.len && field.data[at] != ';'; at++) {
        if (field.data[at] > ' ')
            room[len++] = field.data[at] == ':' ? ',' : (char)field.data[at];
    }
    room[len] = '\0';
}

/* The field up to b= as it must have been, from what arrived. */
static bool is_right(const struct dkim_field *fields, uint32_t count, struct slice signature,
                     const uint8_t body_hash[SIGN_DIGEST_BYTES], uint64_t octets)
{
    static struct dkim_picks picks;
    static struct sign_job job;
    char names[4096], room[4096], filled[4096], close[256];
    struct text end = text_in(close, sizeof(close));
    struct dkim_places places = {0};
    struct sign_hash hash;
    struct dkim_sink sink = {sign_hash_put, &hash};
    struct text text = text_in(room, sizeof(room));
    size_t open = signature.len;

    while (open > 2 && memcmp(signature.data + open - 2, "b=", 2) != 0)
        open--;
    if (open < 60 || open >= sizeof(filled))
        return false;
    memcpy(filled, signature.data, open);
    places.body_hash = (uint32_t)(open - strlen(";\r\n\tb=") - 44);
    for (size_t i = 0; i + 13 < open; i++)
        if (memcmp(filled + i + 1, "l=", 2) == 0 && filled[i + 13] == ';')
            places.length = (uint32_t)i + 3;
    dkim_signature_fill(&places, body_hash, octets, filled);
    text_put(&text, slice_of(filled, open));
    take_tag(signature, "h=", names);
    if (places.length == 0 || !dkim_pick_listed(fields, count, names, &picks))
        return false;
    sign_hash_init(&hash);
    dkim_picks_put(&picks, fields, DKIM_RELAXED, &sink);
    dkim_header_put(DKIM_RELAXED, text_slice(&text), true, &sink);
    sign_hash_end(&hash, job.digest);
    job.key = the_key();
    if (sign_run(&sign_boringssl, &job, 1) > 0)
        return false;
    dkim_signature_close(slice_of(job.signature, sign_key_bytes(job.key)), &end);
    text_put(&text, text_slice(&end));
    return slice_equal(text_slice(&text), signature);
}

bool signed_mail_says_so(const struct signed_mail *mail)
{
    return slice_starts_nocase(slice_of(mail->header, mail->len), SLICE_LITERAL("DKIM-Signature:"));
}

bool signed_mail_is_good(struct signed_mail *mail)
{
    struct slice header = slice_of(mail->header, mail->len), signature = SLICE_EMPTY;
    struct dkim_field fields[FIELDS_MAX];
    uint8_t digest[SIGN_DIGEST_BYTES];
    enum dkim_canon canon;
    struct dkim_sink sink;
    char form[64];
    uint32_t count = 0, signatures = 0;
    struct header_walk walk;
    struct header_field field;

    if (!mail->in_body)
        return false;
    header_walk_init(&walk, header, true);
    while (count < FIELDS_MAX && header_walk_next(&walk, &field)) {
        fields[count] =
            (struct dkim_field){field.name, slice_of(header.data + field.offset, field.octets)};
        if (slice_equal_nocase(field.name, SLICE_LITERAL("DKIM-Signature"))) {
            signature = fields[count].octets;
            signatures++;
        }
        count++;
    }
    if (signatures != 1)
        return false;
    take_tag(slice_of(signature.data, signature.len < 100 ? signature.len : 100), "c=", form);
    canon = strcmp(form, "relaxed/simple") == 0 ? DKIM_SIMPLE : DKIM_RELAXED;
    sink = (struct dkim_sink){sign_hash_put, &mail->hashes[canon]};
    dkim_body_end(&mail->bodies[canon], &sink);
    sign_hash_end(&mail->hashes[canon], digest);
    return is_right(fields, count, signature, digest, mail->bodies[canon].octets);
}
