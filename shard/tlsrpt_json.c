#include "shard/tlsrpt_json.h"

#include "core/base/mem.h"

#include <jansson.h>
#include <stdio.h>
#include <time.h>
#include <zlib.h>

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *string_of(struct slice text)
{
    char room[1100];
    size_t len = text.len < sizeof(room) ? text.len : sizeof(room);

    for (size_t i = 0; i < len; i++)
        room[i] = text.data[i] < ' ' || text.data[i] > '~' ? '?' : (char)text.data[i];
    return json_stringn(room, len);
}

static void set(json_t *object, const char *key, struct slice text)
{
    json_object_set_new(object, key, string_of(text));
}

static void set_number(json_t *object, const char *key, uint64_t number)
{
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

/* RFC 3339. */
static void set_time(json_t *object, const char *key, int64_t wall_s)
{
    time_t second = (time_t)wall_s;
    char room[32];
    struct tm tm;

    strftime(room, sizeof(room), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&second, &tm));
    set(object, key, slice_str(room));
}

/* Each line of a policy; of STS those that name MX hosts once more, as the patterns they have. */
static void set_lines(json_t *object, const struct tlsrpt_policy *policy)
{
    static const struct slice mx = SLICE_LITERAL("mx:");
    json_t *lines = json_array(), *hosts = json_array();
    struct slice rest = policy->text;

    while (rest.len > 0) {
        size_t end = slice_find(rest, '\n');
        struct slice line = slice_of(rest.data, end);

        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        if (line.len > 0)
            json_array_append_new(lines, string_of(line));
        if (policy->type == TLSRPT_STS && slice_starts_nocase(line, mx))
            json_array_append_new(hosts, string_of(slice_trim(slice_after(line, mx.len))));
        rest = slice_after(rest, end < rest.len ? end + 1 : end);
    }
    if (policy->host.len > 0)
        json_array_append_new(hosts, string_of(policy->host));
    if (json_array_size(lines) > 0)
        json_object_set(object, "policy-string", lines);
    if (json_array_size(hosts) > 0)
        json_object_set(object, "mx-host", hosts);
    json_decref(lines);
    json_decref(hosts);
}

static json_t *detail_tree(const struct tlsrpt_detail *detail)
{
    json_t *object = json_object();
    char ip[IPADDR_TEXT_MAX];

    set(object, "result-type", slice_str(tlsrpt_result_text(detail->result)));
    if (detail->source.family != IPADDR_NONE) {
        ipaddr_format(&detail->source, ip);
        set(object, "sending-mta-ip", slice_str(ip));
    }
    if (detail->host.len > 0)
        set(object, "receiving-mx-hostname", detail->host);
    set_number(object, "failed-session-count", detail->count);
    if (detail->reason.len > 0)
        set(object, "failure-reason-code", detail->reason);
    return object;
}

static json_t *policy_tree(const struct tlsrpt_report *report, const struct tlsrpt_policy *policy)
{
    json_t *object = json_object(), *about = json_object(), *summary = json_object();
    json_t *details = json_array();

    set(about, "policy-type", slice_str(tlsrpt_type_text(policy->type)));
    set_lines(about, policy);
    set(about, "policy-domain", slice_of(report->domain->name, report->domain->name_bytes));
    json_object_set_new(object, "policy", about);
    set_number(summary, "total-successful-session-count", policy->successes);
    set_number(summary, "total-failure-session-count", policy->failures);
    json_object_set_new(object, "summary", summary);
    for (const struct tlsrpt_detail *detail = policy->details; detail && report->has_details;
         detail = detail->next)
        json_array_append_new(details, detail_tree(detail));
    if (json_array_size(details) > 0)
        json_object_set(object, "failure-details", details);
    json_decref(details);
    return object;
}

char *tlsrpt_json(const struct tlsrpt_report *report)
{
    json_t *object = json_object(), *range = json_object(), *policies = json_array();
    char *text;

    set(object, "organization-name", slice_str(report->organization));
    set_time(range, "start-datetime", report->from_s);
    set_time(range, "end-datetime",
             report->until_s > report->from_s ? report->until_s - 1 : report->until_s);
    json_object_set_new(object, "date-range", range);
    set(object, "contact-info", slice_str(report->contact));
    set(object, "report-id", slice_str(report->id));
    for (const struct tlsrpt_policy *policy = report->domain->policies; policy;
         policy = policy->next)
        json_array_append_new(policies, policy_tree(report, policy));
    json_object_set_new(object, "policies", policies);
    text = json_dumps(object, JSON_INDENT(1));
    json_decref(object);
    return text;
}

/* ---- gzip ------------------------------------------------------------------------------------ */

static void *zip_alloc(void *opaque, unsigned count, unsigned bytes)
{
    (void)opaque;
    return mem_try_alloc((size_t)count * bytes);
}

static void zip_free(void *opaque, void *block)
{
    (void)opaque;
    mem_free(block);
}

/* RFC 1952: 15 bits of window, and 16 for its header. */
uint8_t *tlsrpt_gzip(struct slice octets, size_t *ret_bytes)
{
    z_stream z = {.zalloc = zip_alloc, .zfree = zip_free};
    uint8_t *room;
    int result;

    if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    z.avail_out = (unsigned)deflateBound(&z, octets.len);
    room = mem_alloc(z.avail_out);
    z.next_in = (Bytef *)(uintptr_t)octets.data;
    z.avail_in = (unsigned)octets.len;
    z.next_out = room;
    result = deflate(&z, Z_FINISH);
    *ret_bytes = z.total_out;
    deflateEnd(&z);
    if (result == Z_STREAM_END)
        return room;
    mem_free(room);
    return NULL;
}
