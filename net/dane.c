/*
 * Usage 3 compares one certificate or key and is done. For usage 2 the certificates of the chain
 * that a record names are the only ones trusted, a record that is a whole certificate itself too,
 * and BoringSSL looks for a path from the receiver's own to one of them.
 */
#include "net/dane.h"

#include "net/dns.h"

#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define RECORD_HEAD 3 /* usage, selector, matching type */

enum usage {
    USAGE_TA = 2,
    USAGE_EE = 3,
};

enum selector {
    SELECTOR_CERTIFICATE,
    SELECTOR_KEY, /* its SubjectPublicKeyInfo */
    SELECTOR_COUNT,
};

enum matching {
    MATCHING_FULL,
    MATCHING_SHA256,
    MATCHING_SHA512,
};

static const char no_match[] = "no certificate is the one that TLSA records name";

struct record {
    uint8_t usage;
    uint8_t selector;
    uint8_t matching;
    struct slice data;
};

/* ---- Certificates as octets ------------------------------------------------------------------ */

/* RFC 5280 4.1: behind what comes before it. False when that is no certificate. */
static bool key_of(struct slice certificate, struct slice *ret_key)
{
    static const unsigned before[] = {CBS_ASN1_INTEGER, CBS_ASN1_SEQUENCE, CBS_ASN1_SEQUENCE,
                                      CBS_ASN1_SEQUENCE, CBS_ASN1_SEQUENCE};
    CBS all, outer, inner, key;

    CBS_init(&all, certificate.data, certificate.len);
    if (!CBS_get_asn1(&all, &outer, CBS_ASN1_SEQUENCE) || CBS_len(&all) > 0 ||
        !CBS_get_asn1(&outer, &inner, CBS_ASN1_SEQUENCE) ||
        !CBS_get_optional_asn1(&inner, NULL, NULL,
                               CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0))
        return false;
    for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++)
        if (!CBS_get_asn1(&inner, NULL, before[i]))
            return false;
    if (!CBS_get_asn1_element(&inner, &key, CBS_ASN1_SEQUENCE))
        return false;
    *ret_key = slice_of(CBS_data(&key), CBS_len(&key));
    return true;
}

static X509 *parse(struct slice certificate)
{
    const uint8_t *at = certificate.data;
    X509 *parsed = d2i_X509(NULL, &at, (long)certificate.len);

    if (parsed != NULL && at != certificate.data + certificate.len) {
        X509_free(parsed);
        parsed = NULL;
    }
    ERR_clear_error();
    return parsed;
}

/* One DER value from end to end, as certificates and keys are. */
static bool is_sequence(struct slice data)
{
    CBS all;

    CBS_init(&all, data.data, data.len);
    return CBS_get_asn1(&all, NULL, CBS_ASN1_SEQUENCE) == 1 && CBS_len(&all) == 0;
}

/* ---- Records --------------------------------------------------------------------------------- */

/* RFC 7671 2.1 and 7672 3.1.3. */
static bool is_usable(const struct record *record)
{
    if ((record->usage != USAGE_TA && record->usage != USAGE_EE) ||
        record->selector >= SELECTOR_COUNT)
        return false;
    switch (record->matching) {
    case MATCHING_SHA256:
        return record->data.len == SHA256_DIGEST_LENGTH;
    case MATCHING_SHA512:
        return record->data.len == SHA512_DIGEST_LENGTH;
    case MATCHING_FULL:
        return is_sequence(record->data);
    default:
        return false;
    }
}

/* The next record that we can use. */
static bool next_usable(struct slice records, uint16_t *cursor, struct record *ret_record)
{
    struct slice rdata;

    while (dns_records_next(records, cursor, &rdata)) {
        if (rdata.len <= RECORD_HEAD)
            continue;
        *ret_record = (struct record){rdata.data[0], rdata.data[1], rdata.data[2],
                                      slice_after(rdata, RECORD_HEAD)};
        if (is_usable(ret_record))
            return true;
    }
    return false;
}

/* RFC 7671 9: of one usage and selector the weaker digest counts for nothing beside the stronger
 * one. */
static bool is_outdone(struct slice records, const struct record *record)
{
    uint16_t cursor = 0;
    struct record other;

    while (record->matching == MATCHING_SHA256 && next_usable(records, &cursor, &other))
        if (other.usage == record->usage && other.selector == record->selector &&
            other.matching == MATCHING_SHA512)
            return true;
    return false;
}

static bool names_certificate(const struct record *record, struct slice certificate)
{
    uint8_t digest[SHA512_DIGEST_LENGTH];
    struct slice shown = certificate;

    if (record->selector == SELECTOR_KEY && !key_of(certificate, &shown))
        return false;
    if (record->matching == MATCHING_SHA256)
        shown = slice_of(SHA256(shown.data, shown.len, digest), SHA256_DIGEST_LENGTH);
    else if (record->matching == MATCHING_SHA512)
        shown = slice_of(SHA512(shown.data, shown.len, digest), SHA512_DIGEST_LENGTH);
    return slice_equal(shown, record->data);
}

enum dane_worth dane_worth_of(struct slice records)
{
    uint16_t cursor = 0;
    struct record record;

    if (next_usable(records, &cursor, &record))
        return DANE_USABLE;
    return records.len > 0 ? DANE_UNUSABLE : DANE_NOTHING;
}

/* ---- Usage 2 --------------------------------------------------------------------------------- */

/* A certificate of the chain or of a record, put on a stack; one that cannot be read is left out.
 */
static void push(STACK_OF(X509) * stack, struct slice certificate)
{
    X509 *parsed = parse(certificate);

    if (parsed != NULL && sk_X509_push(stack, parsed) == 0)
        X509_free(parsed);
}

/* Those above the receiver's own that usage 2 names, and whole ones from records. */
static void push_trusted(STACK_OF(X509) * trusted, struct slice records,
                         const struct dane_peer *peer, uint32_t chain_count)
{
    uint16_t cursor = 0;
    struct record record;

    while (next_usable(records, &cursor, &record)) {
        if (record.usage != USAGE_TA || is_outdone(records, &record))
            continue;
        if (record.selector == SELECTOR_CERTIFICATE && record.matching == MATCHING_FULL)
            push(trusted, record.data);
        for (uint32_t i = 1; i < chain_count; i++)
            if (names_certificate(&record, peer->chain[i]))
                push(trusted, peer->chain[i]);
    }
}

/* NULL when there is a path, otherwise what is in its way. */
static const char *find_path(X509 *own, STACK_OF(X509) * chain, STACK_OF(X509) * trusted,
                             uint64_t now_s)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *path = X509_STORE_CTX_new();
    const char *trouble = "no memory";

    if (store != NULL && path != NULL && X509_STORE_CTX_init(path, store, own, chain) == 1) {
        X509_STORE_CTX_trusted_stack(path, trusted);
        /* What a record names is trusted whether it is a root or not. */
        X509_STORE_CTX_set_flags(path, X509_V_FLAG_PARTIAL_CHAIN);
        X509_STORE_CTX_set_time(path, 0, (time_t)now_s);
        X509_STORE_CTX_set_purpose(path, X509_PURPOSE_SSL_SERVER);
        trouble = X509_verify_cert(path) == 1
                      ? NULL
                      : X509_verify_cert_error_string(X509_STORE_CTX_get_error(path));
    }
    X509_STORE_CTX_free(path);
    X509_STORE_free(store);
    ERR_clear_error();
    return trouble;
}

static bool is_for_name(X509 *own, const struct dane_peer *peer)
{
    for (uint32_t i = 0; i < peer->name_count; i++)
        if (X509_check_host(own, peer->names[i], strlen(peer->names[i]), 0, NULL) == 1)
            return true;
    return false;
}

static const char *judge_stacks(STACK_OF(X509) * chain, STACK_OF(X509) * trusted,
                                const struct dane_peer *peer)
{
    X509 *own = sk_X509_value(chain, 0);
    const char *trouble;

    if (sk_X509_num(trusted) == 0)
        return no_match;
    trouble = find_path(own, chain, trusted, peer->now_s);
    if (trouble == NULL && !is_for_name(own, peer))
        trouble = DANE_WRONG_NAME;
    return trouble;
}

static const char *judge_authority(struct slice records, const struct dane_peer *peer,
                                   uint32_t chain_count)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    STACK_OF(X509) *trusted = sk_X509_new_null();
    const char *trouble = "no memory";

    if (chain != NULL && trusted != NULL) {
        push(chain, peer->chain[0]);
        trouble = "the certificate cannot be read";
    }
    if (chain != NULL && sk_X509_num(chain) == 1) {
        for (uint32_t i = 1; i < chain_count; i++)
            push(chain, peer->chain[i]);
        push_trusted(trusted, records, peer, chain_count);
        trouble = judge_stacks(chain, trusted, peer);
    }
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(trusted, X509_free);
    return trouble;
}

/* ---- The judgement --------------------------------------------------------------------------- */

bool dane_minds_names(struct slice records)
{
    uint16_t cursor = 0;
    struct record record;

    while (next_usable(records, &cursor, &record))
        if (record.usage == USAGE_TA)
            return true;
    return false;
}

static bool names_own(struct slice records, struct slice own)
{
    uint16_t cursor = 0;
    struct record record;

    while (next_usable(records, &cursor, &record))
        if (record.usage == USAGE_EE && !is_outdone(records, &record) &&
            names_certificate(&record, own))
            return true;
    return false;
}

const char *dane_judge(struct slice records, const struct dane_peer *peer)
{
    uint32_t chain_count =
        peer->chain_count < DANE_CHAIN_COUNT_MAX ? peer->chain_count : DANE_CHAIN_COUNT_MAX;

    if (chain_count == 0)
        return "the receiver shows no certificate";
    if (names_own(records, peer->chain[0]))
        return NULL;
    if (dane_minds_names(records))
        return judge_authority(records, peer, chain_count);
    return no_match;
}
