/*
 * What strangers say about MTA-STS and reports. A policy that is one is the same when it is printed
 * and read again; requests to the helper and its answers are the same whole and in pieces; a
 * record's id is a short word; where reports go is an address that holds no more than one.
 */
#include "core/base/hash.h"
#include "core/base/must.h"
#include "core/mail/tlsrpt_mail.h"
#include "net/sts_wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_policy(struct slice text)
{
    static char room[STS_TEXT_BYTES_MAX];
    struct sts_policy policy, again;
    size_t printed;

    if (sts_policy_parse(text, &policy) < 0)
        return;
    must(policy.mx_count <= STS_MX_COUNT_MAX && policy.max_age_s <= STS_MAX_AGE_MAX_S);
    must(policy.mx_count > 0 || policy.mode == STS_NONE);
    printed = sts_policy_print(&policy, room);
    must(printed < sizeof(room) - 1);
    must(sts_policy_parse(slice_of(room, printed), &again) == 0);
    must(again.mode == policy.mode && again.max_age_s == policy.max_age_s);
    must(again.mx_count == policy.mx_count);
    for (uint32_t i = 0; i < policy.mx_count; i++) {
        must(slice_equal(again.mx[i], policy.mx[i]));
        must(policy.mx[i].data[0] == '*' || sts_policy_names(&policy, policy.mx[i]));
    }
}

static void try_record(struct slice text)
{
    struct slice id;

    if (sts_id_find(&text, 1, &id))
        must(id.len > 0 && id.len <= STS_ID_BYTES_MAX && slice_find(id, ' ') == id.len);
}

/* The answers one behind the other, in octets; ends with what is none, if there is such. */
static size_t read_answers(struct slice text, size_t step, uint8_t *room, int *ret_last)
{
    struct sts_wire_reader *reader = calloc(1, sizeof(*reader));
    size_t used = 0;
    int rc = 0;

    while (text.len > 0 && rc >= 0) {
        struct slice piece = slice_of(text.data, text.len < step ? text.len : step);

        text = slice_after(text, piece.len);
        while ((rc = sts_wire_read(reader, &piece)) > 0) {
            memcpy(room + used, &reader->answer.number, sizeof(reader->answer.number));
            used += sizeof(reader->answer.number);
            room[used++] = (uint8_t)reader->answer.result;
            if (reader->answer.text.len > 0)
                memcpy(room + used, reader->answer.text.data, reader->answer.text.len);
            used += reader->answer.text.len;
        }
    }
    *ret_last = rc;
    free(reader);
    return used;
}

static void try_answers(struct slice text)
{
    /* An answer of no octets is its head alone, which is longer than what stands for it. */
    uint8_t *whole = malloc(text.len + 1), *cut = malloc(text.len + 1);
    int whole_rc, cut_rc;
    size_t whole_len, cut_len;

    must(whole && cut);
    whole_len = read_answers(text, text.len, whole, &whole_rc);
    cut_len = read_answers(text, 1 + text.data[text.len - 1] % 16, cut, &cut_rc);
    must(whole_len == cut_len && whole_rc == cut_rc && memcmp(whole, cut, cut_len) == 0);
    free(whole);
    free(cut);
}

/* The hash of the requests, one behind the other; ends with what is none, if there is such. */
static uint64_t read_requests(struct slice text, size_t step, int *ret_last)
{
    struct sts_wire_request_reader *reader = calloc(1, sizeof(*reader));
    uint64_t hash = 0;
    int rc = 0;

    while (text.len > 0 && rc >= 0) {
        struct slice piece = slice_of(text.data, text.len < step ? text.len : step);

        text = slice_after(text, piece.len);
        while ((rc = sts_wire_read_request(reader, &piece)) > 0) {
            const struct sts_wire_request *request = &reader->request;

            must(request->domain.len <= STS_WIRE_DOMAIN_MAX && request->uri.len <= HTTPS_URI_MAX);
            must((request->domain.len == 0) == (request->uri.len > 0));
            hash = hash_combine(hash, request->number);
            hash = hash_combine(hash, hash_bytes(request->domain.data, request->domain.len));
            hash = hash_combine(hash, hash_bytes(request->uri.data, request->uri.len));
            hash = hash_combine(hash, hash_bytes(request->report.data, request->report.len));
        }
    }
    *ret_last = rc;
    free(reader);
    return hash;
}

static void try_requests(struct slice text)
{
    int whole_rc, cut_rc;
    uint64_t whole = read_requests(text, text.len, &whole_rc);
    uint64_t cut = read_requests(text, 1 + text.data[text.len - 1] % 16, &cut_rc);

    must(whole == cut && whole_rc == cut_rc);
}

static void try_addresses(struct slice text)
{
    struct slice rua = text, target;
    enum tlsrpt_scheme scheme;
    struct https_uri uri;
    char room[64];

    while (tlsrpt_rua_next(&rua, room, sizeof(room), &scheme, &target)) {
        must((scheme == TLSRPT_NO_SCHEME) == (target.len == 0));
        if (scheme != TLSRPT_HTTPS)
            continue;
        must(https_uri_parse(target, &uri) && uri.host.len > 2 && uri.port > 0);
        for (size_t i = 0; i < target.len; i++)
            must(target.data[i] > ' ' && target.data[i] < 127 && target.data[i] != ';');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct slice text = slice_of(data, len);

    if (len == 0)
        return 0;
    try_policy(text);
    try_record(text);
    try_answers(text);
    try_requests(text);
    try_addresses(text);
    return 0;
}
