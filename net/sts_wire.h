/*
 * sts_wire: what the daemon and ringpost-sts, which fetches policies of MTA-STS, say to each other.
 *
 * A request is a line, "NUMBER DOMAIN"; an answer a line, "NUMBER RESULT OCTETS", and so many
 * octets: the policy, or in words why there is none. Answers come in any order. At most
 * STS_WIRE_FETCHES_MAX requests are without an answer at a time. Neither side trusts the other:
 * what is not of this form ends the talk. Pure, no allocation; built into both programs.
 */
#pragma once

#include "net/sts.h"

#define STS_WIRE_FETCHES_MAX 32u
#define STS_WIRE_FETCH_MS    30000u /* the helper has answered by then */
#define STS_WIRE_DOMAIN_MAX  253u
#define STS_WIRE_LINE_MAX    280u /* the line end included */

/* result, its word, as RFC 8460 4.3 calls it */
#define STS_WIRE_RESULTS(X)                                                                        \
    X(STS_WIRE_POLICY, "policy", "")                                                               \
    X(STS_WIRE_UNREACHED, "unreached", "sts-policy-fetch-error")                                   \
    X(STS_WIRE_DISTRUSTED, "distrusted", "sts-webpki-invalid")                                     \
    X(STS_WIRE_UNFIT, "unfit", "sts-policy-invalid")

enum sts_wire_result {
#define STS_WIRE_ENUM(name, word, report) name,
    STS_WIRE_RESULTS(STS_WIRE_ENUM)
#undef STS_WIRE_ENUM
        STS_WIRE_RESULT_COUNT,
};

struct sts_wire_answer {
    uint32_t number;
    enum sts_wire_result result;
    struct slice text; /* the policy, or why not */
};

/* An answer as it comes; zeroes at the start. */
struct sts_wire_reader {
    struct sts_wire_answer answer;
    uint32_t line_len;
    uint32_t text_len; /* of answer.text, which stands in `text`; so far */
    bool has_head;
    char line[STS_WIRE_LINE_MAX];
    uint8_t text[STS_POLICY_BYTES_MAX];
};

/* Their lengths, without a NUL. domain: at most STS_WIRE_DOMAIN_MAX. */
size_t sts_wire_print_request(uint32_t number, struct slice domain, char room[STS_WIRE_LINE_MAX]);
size_t sts_wire_print_head(uint32_t number, enum sts_wire_result result, uint32_t octets,
                           char room[STS_WIRE_LINE_MAX]);
/* A line without its end. False for what is none, or a domain that is no name. */
bool sts_wire_parse_request(struct slice line, uint32_t *ret_number, struct slice *ret_domain);
/* Takes from *octets what belongs to one answer. 1: it is complete, and valid until the next call;
 * 0: all was taken; E_SYNTAX: no answer. */
int sts_wire_read(struct sts_wire_reader *reader, struct slice *octets);
/* "sts-policy-fetch-error" and its like; "" of STS_WIRE_POLICY. Static storage. */
const char *sts_wire_result_type(enum sts_wire_result result);
