/*
 * Canonical forms and signatures against vectors of other implementations, byte by byte:
 * /corpora/dkim beside the tree; skipped aloud where that is not there. SHA-1, which ringpost does
 * not offer, is made here: such vectors are about what is hashed.
 */
#include "core/base/err.h"
#include "core/mail/body_scan.h"
#include "core/mail/dkim_field.h"
#include "core/mail/header_scan.h"
#include "net/sign.h"
#include "tests/unit/core_base/unit.h"

#include <dirent.h>
#include <jansson.h>
#include <openssl/base64.h>
#include <openssl/bio.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <stdio.h>

#define FIELDS_MAX 64u

/* What a sink got. */
struct gathered {
    uint8_t octets[65536];
    size_t len;
};

static void gather(void *context, const uint8_t *data, size_t len)
{
    struct gathered *to = context;

    assert_true(to->len + len <= sizeof(to->octets));
    memcpy(to->octets + to->len, data, len);
    to->len += len;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    assert_non_null(text);
    return text;
}

static enum dkim_canon canon_of(const char *name)
{
    return strcmp(name, "simple") == 0 ? DKIM_SIMPLE : DKIM_RELAXED;
}

/* Fields of a header block; how many. */
static uint32_t split(struct slice header, struct dkim_field fields[FIELDS_MAX])
{
    struct header_walk walk;
    struct header_field field;
    uint32_t count = 0;

    header_walk_init(&walk, header, true);
    while (header_walk_next(&walk, &field)) {
        assert_true(count < FIELDS_MAX);
        fields[count++] =
            (struct dkim_field){field.name, slice_of(header.data + field.offset, field.octets)};
    }
    return count;
}

/* ---- Signing vectors ------------------------------------------------------------------------- */

struct vector {
    json_t *root;
    json_t *expected;
    struct gathered header;
    struct gathered hashed; /* what is signed: the header's canonical form */
    struct gathered body;   /* canonical */
    bool is_sha1;
};

static void fill_header(struct vector *vector)
{
    json_t *headers = json_object_get(vector->root, "headers"), *line;
    size_t i;

    json_array_foreach(headers, i, line)
    {
        gather(&vector->header, (const uint8_t *)json_string_value(line), json_string_length(line));
        gather(&vector->header, (const uint8_t *)"\r\n", 2);
    }
}

/* As the daemon does it: repaired and with doubled dots. */
static void put_repaired(struct dkim_body *body, struct body_scan *scan, struct slice chunk,
                         const struct dkim_sink *sink)
{
    while (chunk.len > 0) {
        struct slice piece;
        size_t used = body_scan_next(scan, chunk.data, chunk.len, &piece);

        dkim_body_put(body, piece.data, piece.len, sink);
        chunk = slice_after(chunk, used);
    }
}

static void fill_body(struct vector *vector)
{
    json_t *chunks = json_object_get(vector->root, "body_chunks"), *chunk;
    bool repair =
        json_is_true(json_object_get(json_object_get(vector->root, "options"), "fix_crlf"));
    struct dkim_sink sink = {gather, &vector->body};
    struct dkim_body body;
    struct body_scan scan;
    struct slice piece;
    size_t i;

    body_scan_init(&scan, BODY_SCAN_RAW | BODY_SCAN_REPAIR, 65536);
    dkim_body_init(&body, canon_of(text_of(vector->root, "canon_body")), repair, UINT64_MAX);
    json_array_foreach(chunks, i, chunk)
    {
        struct slice octets = slice_of(json_string_value(chunk), json_string_length(chunk));

        if (repair)
            put_repaired(&body, &scan, octets, &sink);
        else
            dkim_body_put(&body, octets.data, octets.len, &sink);
    }
    if (repair) {
        body_scan_finish(&scan, &piece);
        dkim_body_put(&body, piece.data, piece.len, &sink);
    }
    dkim_body_end(&body, &sink);
}

static void fill_hashed(struct vector *vector)
{
    json_t *names = json_object_get(vector->expected, "signed_headers"), *name;
    enum dkim_canon canon = canon_of(text_of(vector->root, "canon_header"));
    struct dkim_sink sink = {gather, &vector->hashed};
    static struct dkim_picks picks;
    struct dkim_field fields[FIELDS_MAX];
    char list[4096] = "", last[8192];
    size_t i;

    json_array_foreach(names, i, name)
    {
        strcat(list, json_string_value(name));
        strcat(list, ",");
    }
    assert_true(dkim_pick_listed(
        fields, split(slice_of(vector->header.octets, vector->header.len), fields), list, &picks));
    dkim_picks_put(&picks, fields, canon, &sink);
    snprintf(last, sizeof(last), "%s%s", text_of(vector->expected, "leading_text_of_field"),
             text_of(vector->expected, "signature_unsigned"));
    dkim_header_put(canon, slice_str(last), true, &sink);
}

static void assert_base64(const uint8_t *octets, size_t len, const char *should)
{
    uint8_t room[2048];

    assert_true(len <= SIGN_BYTES_MAX);
    EVP_EncodeBlock(room, octets, len);
    assert_string_equal((const char *)room, should);
}

static void check_hashes(const struct vector *vector)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char hex[2 * SHA256_DIGEST_LENGTH + 1];

    if (vector->is_sha1) {
        SHA1(vector->body.octets, vector->body.len, digest);
        assert_base64(digest, SHA_DIGEST_LENGTH, text_of(vector->expected, "bh"));
    } else {
        SHA256(vector->body.octets, vector->body.len, digest);
        assert_base64(digest, SHA256_DIGEST_LENGTH, text_of(vector->expected, "bh"));
    }
    SHA256(vector->hashed.octets, vector->hashed.len, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(hex, text_of(vector->expected, "hashed_header_bytes_sha256"));
}

static void sign_sha1(const struct vector *vector, const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    RSA *rsa = PEM_read_bio_RSAPrivateKey(bio, NULL, NULL, NULL);
    uint8_t digest[SHA_DIGEST_LENGTH], signature[SIGN_BYTES_MAX];
    unsigned len = 0;

    assert_non_null(rsa);
    SHA1(vector->hashed.octets, vector->hashed.len, digest);
    assert_true(RSA_sign(NID_sha1, digest, sizeof(digest), signature, &len, rsa));
    assert_base64(signature, len, text_of(vector->expected, "b"));
    RSA_free(rsa);
    BIO_free(bio);
}

static void check_signature(const struct vector *vector, const char *key_text)
{
    static struct sign_job job;
    struct sign_key *key = NULL;
    char why[SIGN_WHY_MAX] = "";

    if (vector->is_sha1) {
        sign_sha1(vector, key_text);
        return;
    }
    assert_int_equal(sign_key_parse(slice_str(key_text), &key, why), 0);
    assert_string_equal(sign_key_algorithm(key), text_of(vector->root, "algorithm"));
    job.key = key;
    SHA256(vector->hashed.octets, vector->hashed.len, job.digest);
    assert_int_equal(sign_run(&sign_boringssl, &job, 1), 0);
    assert_base64(job.signature, sign_key_bytes(key), text_of(vector->expected, "b"));
    sign_key_unref(key);
}

/* One that cannot be: by its key, or by its tags. */
static void check_refusal(const struct vector *vector, const char *key_text)
{
    const char *identity = json_string_value(json_object_get(vector->root, "identity"));
    struct dkim_picks picks = {1, {{SLICE_LITERAL("From"), DKIM_NO_FIELD}}};
    struct dkim_signature signature = {
        .algorithm = "rsa-sha256",
        .domain = slice_str(text_of(vector->root, "domain")),
        .selector = slice_str(text_of(vector->root, "selector")),
        .identity = identity ? slice_str(identity) : SLICE_EMPTY,
        .time_s = 1,
        .signature_bytes = 128,
        .picks = &picks,
    };
    struct sign_key *key = NULL;
    char why[SIGN_WHY_MAX];
    int result = sign_key_parse(slice_str(key_text), &key, why);

    if (result == 0)
        assert_non_null(dkim_signature_check(&signature));
    else
        assert_int_equal(result, E_RANGE);
    sign_key_unref(key);
}

static void run_vector(const char *path)
{
    static struct vector vector;
    const char *key_text;

    memset(&vector, 0, sizeof(vector));
    vector.root = json_load_file(path, 0, NULL);
    assert_non_null(vector.root);
    vector.expected = json_object_get(vector.root, "expected");
    vector.is_sha1 = strcmp(text_of(vector.root, "algorithm"), "rsa-sha1") == 0;
    key_text = json_string_value(json_object_get(vector.root, "private_key_pem"));
    if (!key_text)
        key_text = text_of(vector.root, "private_key_seed_base64");
    if (json_object_get(vector.expected, "error")) {
        check_refusal(&vector, key_text);
    } else {
        fill_header(&vector);
        fill_body(&vector);
        fill_hashed(&vector);
        check_hashes(&vector);
        check_signature(&vector, key_text);
    }
    json_decref(vector.root);
}

/* ---- Canonical forms ------------------------------------------------------------------------- */

static void check_form(struct slice message, const char *name, const char *should)
{
    static struct gathered is;
    struct dkim_sink sink = {gather, &is};
    struct dkim_field fields[FIELDS_MAX];
    uint32_t count = split(message, fields);
    struct slice rest = message;
    struct dkim_body body;

    is.len = 0;
    for (uint32_t i = 0; i < count; i++) {
        dkim_header_put(canon_of(name), fields[i].octets, false, &sink);
        rest = slice_after(rest, fields[i].octets.len);
    }
    gather(&is, (const uint8_t *)"\r\n", 2);
    if (rest.len >= 2)
        rest = slice_after(rest, 2);
    dkim_body_init(&body, canon_of(name), false, UINT64_MAX);
    /* Octet by octet: no segmentation makes a difference. */
    for (size_t i = 0; i < rest.len; i++)
        dkim_body_put(&body, rest.data + i, 1, &sink);
    dkim_body_end(&body, &sink);
    assert_int_equal(is.len, strlen(should));
    assert_memory_equal(is.octets, should, is.len);
}

static void run_form(const char *path)
{
    json_t *root = json_load_file(path, 0, NULL);

    assert_non_null(root);
    check_form(slice_str(text_of(root, "message")), "simple", text_of(root, "simple"));
    /* One vector claims nothing of its relaxed form. */
    if (json_is_string(json_object_get(root, "relaxed")))
        check_form(slice_str(text_of(root, "message")), "relaxed", text_of(root, "relaxed"));
    json_decref(root);
}

/* ---- The folders ----------------------------------------------------------------------------- */

static void each_file(const char *folder, unsigned count_min, void (*run)(const char *path))
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[4096];
    unsigned count = 0;

    if (!dir) {
        print_message("SKIPPED: no vectors at %s\n", folder);
        skip();
    }
    while ((entry = readdir(dir)) != NULL) {
        if (!strstr(entry->d_name, ".json"))
            continue;
        print_message("%s\n", entry->d_name);
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        run(path);
        count++;
    }
    closedir(dir);
    assert_true(count >= count_min);
}

static void all_signatures_are_exact(void **state)
{
    each_file(DKIM_CORPUS "/sign", 30, run_vector);
}

static void all_canonical_forms_are_exact(void **state)
{
    each_file(DKIM_CORPUS "/canon", 8, run_form);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_canonical_forms_are_exact),
        cmocka_unit_test(all_signatures_are_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
