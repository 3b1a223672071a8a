/*
 * What strangers say about MTA-STS. A policy that is one is the same when it is printed and read
 * again; answers of the helper are the same whole and in pieces; a record's id is a short word.
 */
#include "core/base/must.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct slice text = slice_of(data, len), domain;
    uint32_t number;

    if (len == 0)
        return 0;
    try_policy(text);
    try_record(text);
    try_answers(text);
    if (sts_wire_parse_request(text, &number, &domain))
        must(domain.len > 0 && domain.len <= STS_WIRE_DOMAIN_MAX);
    return 0;
}
