/*
 * sts_wire: what the daemon and ringpost-sts, which fetches policies of MTA-STS and posts reports
 * about TLS, say to each other.
 *
 * A request is a line, "NUMBER DOMAIN" for a policy, or "NUMBER report OCTETS URI" and so many
 * octets: a report, which is posted as it is. An answer is a line, "NUMBER RESULT OCTETS", and so
 * many octets: the policy, or words about what happened. Answers come in any order. At most
 * STS_WIRE_FETCHES_MAX requests for policies and STS_WIRE_REPORTS_MAX with reports are without an
 * answer at a time. Neither side trusts the other: what is not of this form ends the talk. Pure, no
 * allocation; built into both programs.
 */
#pragma once

#include "core/mail/https_uri.h"
#include "net/sts.h"

#define STS_WIRE_FETCHES_MAX      32u
#define STS_WIRE_REPORTS_MAX      16u
#define STS_WIRE_FETCH_MS         30000u /* the helper has answered by then */
#define STS_WIRE_DOMAIN_MAX       253u
#define STS_WIRE_REPORT_BYTES_MAX 65536u
#define STS_WIRE_LINE_MAX         280u                  /* the line end included, */
#define STS_WIRE_REPORT_LINE_MAX  (HTTPS_URI_MAX + 40u) /* and of a request with a report */

/* result, its word, as RFC 8460 4.3 calls it */
#define STS_WIRE_RESULTS(X)                                                                        \
    X(STS_WIRE_POLICY, "policy", "")                                                               \
    X(STS_WIRE_TAKEN, "taken", "") /* the report */                                                \
    X(STS_WIRE_UNREACHED, "unreached", "sts-policy-fetch-error")                                   \
    X(STS_WIRE_DISTRUSTED, "distrusted", "sts-webpki-invalid")                                     \
    X(STS_WIRE_UNFIT, "unfit", "sts-policy-invalid")

enum sts_wire_result {
#define STS_WIRE_ENUM(name, word, report) name,
    STS_WIRE_RESULTS(STS_WIRE_ENUM)
#undef STS_WIRE_ENUM
        STS_WIRE_RESULT_COUNT,
};

struct sts_wire_request {
    uint32_t number;
    struct slice domain; /* whose policy; empty with a report */
    struct slice uri;    /* of the report, which https_uri_parse takes; else empty */
    struct slice report;
};

struct sts_wire_answer {
    uint32_t number;
    enum sts_wire_result result;
    struct slice text; /* the policy, or words */
};

/* A line and the octets behind it, as they come; zeroes at the start. */
struct sts_wire_progress {
    uint32_t line_len;
    uint32_t octets_len; /* so far */
    bool has_line;
};

/* A request as it comes; zeroes at the start. */
struct sts_wire_request_reader {
    struct sts_wire_request request;
    struct sts_wire_progress progress;
    char line[STS_WIRE_REPORT_LINE_MAX];
    uint8_t report[STS_WIRE_REPORT_BYTES_MAX];
};

/* An answer as it comes; zeroes at the start. */
struct sts_wire_reader {
    struct sts_wire_answer answer;
    struct sts_wire_progress progress;
    char line[STS_WIRE_LINE_MAX];
    uint8_t text[STS_POLICY_BYTES_MAX];
};

/* Their lengths, without a NUL. domain: sts_wire_is_name. */
size_t sts_wire_print_request(uint32_t number, struct slice domain, char room[STS_WIRE_LINE_MAX]);
/* The line alone. uri: https_uri_parse takes it. */
size_t sts_wire_print_report_head(uint32_t number, struct slice uri, uint32_t octets,
                                  char room[STS_WIRE_REPORT_LINE_MAX]);
size_t sts_wire_print_head(uint32_t number, enum sts_wire_result result, uint32_t octets,
                           char room[STS_WIRE_LINE_MAX]);
/* What a policy can be asked for of. */
bool sts_wire_is_name(struct slice domain);
/* Take from *octets what belongs to one request, or answer. 1: it is complete, and valid until the
 * next call; 0: all was taken; E_SYNTAX: it is none. */
int sts_wire_read_request(struct sts_wire_request_reader *reader, struct slice *octets);
int sts_wire_read(struct sts_wire_reader *reader, struct slice *octets);
/* "sts-policy-fetch-error" and its like; "" of what is none. Static storage. */
const char *sts_wire_result_type(enum sts_wire_result result);
