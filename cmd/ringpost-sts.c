/*
 * ringpost-sts: fetches policies of MTA-STS (RFC 8461 3.3) and posts reports about TLS (RFC 8460
 * 5.4) for ringpostd, with libcurl.
 *
 *   ringpost-sts [--ca-file FILE] [--name-server ADDRESS[@PORT]]... [--allow-loopback]
 *                [--refuse-private]
 *
 * A process of its own because libcurl brings a library of TLS that cannot be in one with
 * BoringSSL. ringpostd starts it with a pair of sockets as its standard input and output, and says
 * by net/sts_wire.h what to fetch and to post; the end of the input is its end. Hosts are looked up
 * with libunbound by the daemon's name servers; addresses that mail would not go to are not used.
 * It follows no redirect, keeps nothing and writes no file. Reports have places of their own, so
 * that hosts that do not answer them keep no policy from being fetched.
 */
#include "core/base/ipaddr.h"
#include "net/sts_wire.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unbound.h>
#include <unistd.h>

#define FETCH_MS        25000u /* what is left of STS_WIRE_FETCH_MS is for a machine that is busy */
#define LOOK_MS         250
#define IDLE_MS         60000
#define ADDRESSES_MAX   4u  /* of a family */
#define RESOLVE_MAX     768 /* a name, a port, eight addresses */
#define WHY_MAX         256
#define RR_A            1
#define RR_AAAA         28
#define HOST_PREFIX     "mta-sts."
#define PATH            "/.well-known/mta-sts.txt"
#define HOST_BYTES_MAX  (sizeof(HOST_PREFIX) + STS_WIRE_DOMAIN_MAX)
#define INPUT_BYTES     65536u
#define PLACES_MAX      (STS_WIRE_FETCHES_MAX + STS_WIRE_REPORTS_MAX)
/* Of what a host says to a report, which nobody reads. */
#define REPLY_BYTES_MAX 65536u

enum fetch_state {
    FETCH_FREE,
    FETCH_RESOLVING, /* the questions for A and AAAA are out, or one of them */
    FETCH_READING,
};

/* A policy to fetch, or a report to post. */
struct fetch {
    enum fetch_state state;
    bool is_report;
    uint16_t port;
    uint32_t number;
    uint64_t ends_ms;
    int questions[2]; /* of libunbound */
    uint32_t open_count;
    CURL *easy;
    struct curl_slist *resolve;
    struct curl_slist *headers; /* of a report */
    uint32_t len;               /* of the policy so far, or of the report */
    uint32_t reply_len;         /* to a report */
    bool is_too_long;
    char refused[WHY_MAX]; /* an address of the host, and why; or "" */
    char host[HOST_BYTES_MAX];
    char uri[HTTPS_URI_MAX + 1];
    char addresses[RESOLVE_MAX]; /* with a comma before each */
    uint8_t text[STS_POLICY_BYTES_MAX];
};

_Static_assert(STS_WIRE_REPORT_BYTES_MAX <= STS_POLICY_BYTES_MAX, "a report fits in its place");
_Static_assert(HTTPS_HOST_MAX < HOST_BYTES_MAX, "a report's host fits");

struct fetching {
    struct ub_ctx *unbound;
    CURLM *multi;
    const char *ca_file; /* NULL = the system's */
    bool allow_loopback;
    bool refuse_private;
    uint32_t open_count;
    struct sts_wire_request_reader reader;
    uint8_t input[INPUT_BYTES];
    struct fetch fetches[PLACES_MAX]; /* behind those of policies those of reports */
};

static struct fetching fetching;

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* The daemon reads all the time; without it there is nothing more to do. */
static void say(const void *data, size_t len)
{
    while (len > 0) {
        ssize_t count = write(STDOUT_FILENO, data, len);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            exit(0);
        data = (const char *)data + count;
        len -= (size_t)count;
    }
}

static void answer(struct fetch *fetch, enum sts_wire_result result, struct slice text)
{
    char head[STS_WIRE_LINE_MAX];

    for (unsigned i = 0; fetch->state == FETCH_RESOLVING && i < 2; i++)
        ub_cancel(fetching.unbound, fetch->questions[i]);
    if (fetch->easy) {
        curl_multi_remove_handle(fetching.multi, fetch->easy);
        curl_easy_cleanup(fetch->easy);
    }
    curl_slist_free_all(fetch->resolve);
    curl_slist_free_all(fetch->headers);
    fetch->easy = NULL;
    fetch->resolve = fetch->headers = NULL;
    fetch->state = FETCH_FREE;
    fetching.open_count--;
    say(head, sts_wire_print_head(fetch->number, result, (uint32_t)text.len, head));
    say(text.data, text.len);
}

static void answer_why(struct fetch *fetch, enum sts_wire_result result, const char *why)
{
    answer(fetch, result, slice_str(why));
}

/* ---- HTTPS ----------------------------------------------------------------------------------- */

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct fetch *fetch = context;
    size_t len = size * count;

    fetch->is_too_long = len > sizeof(fetch->text) - fetch->len;
    if (fetch->is_too_long)
        return 0;
    memcpy(fetch->text + fetch->len, data, len);
    fetch->len += (uint32_t)len;
    return len;
}

/* What counts is the status; of the rest only so much is awaited. */
static size_t on_reply(char *data, size_t size, size_t count, void *context)
{
    struct fetch *fetch = context;
    size_t len = size * count;

    (void)data;
    fetch->is_too_long = len > REPLY_BYTES_MAX - fetch->reply_len;
    if (fetch->is_too_long)
        return 0;
    fetch->reply_len += (uint32_t)len;
    return len;
}

static void set_report_options(struct fetch *fetch)
{
    CURL *easy = fetch->easy;

    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, fetch->text);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)fetch->len);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fetch->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_reply);
}

static void set_options(struct fetch *fetch)
{
    CURL *easy = fetch->easy;

    curl_easy_setopt(easy, CURLOPT_URL, fetch->uri);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_RESOLVE, fetch->resolve);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)FETCH_MS);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (fetching.ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, fetching.ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "ringpost-sts/" RINGPOST_VERSION);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, fetch);
    if (fetch->is_report)
        set_report_options(fetch);
}

static void begin_exchange(struct fetch *fetch)
{
    char resolve[RESOLVE_MAX + HOST_BYTES_MAX + 8];

    if (fetch->addresses[0] == '\0') {
        answer_why(fetch, STS_WIRE_UNREACHED,
                   fetch->refused[0] != '\0' ? fetch->refused : "the host has no address");
        return;
    }
    fetch->state = FETCH_READING;
    fetch->reply_len = 0;
    fetch->is_too_long = false;
    snprintf(resolve, sizeof(resolve), "%s:%u:%s", fetch->host, fetch->port, fetch->addresses + 1);
    fetch->resolve = curl_slist_append(NULL, resolve);
    if (fetch->is_report)
        fetch->headers = curl_slist_append(NULL, "Content-Type: application/tlsrpt+gzip");
    fetch->easy = curl_easy_init();
    if (!fetch->resolve || !fetch->easy || (fetch->is_report && !fetch->headers)) {
        answer_why(fetch, STS_WIRE_UNREACHED, "no memory");
        return;
    }
    set_options(fetch);
    curl_multi_add_handle(fetching.multi, fetch->easy);
}

/* RFC 8461 3.2: "text/plain", whatever its parameters are. */
static bool is_plain_text(CURL *easy)
{
    static const struct slice plain = SLICE_LITERAL("text/plain");
    const char *type = NULL;
    struct slice text;

    curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);
    text = slice_str(type ? type : "");
    text = slice_trim(slice_of(text.data, slice_find(text, ';')));
    return slice_equal_nocase(text, plain);
}

static void answer_failure(struct fetch *fetch, CURLcode code)
{
    answer_why(fetch,
               code == CURLE_PEER_FAILED_VERIFICATION ? STS_WIRE_DISTRUSTED : STS_WIRE_UNREACHED,
               curl_easy_strerror(code));
}

static long status_of(const struct fetch *fetch, char why[WHY_MAX])
{
    long status = 0;

    curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    snprintf(why, WHY_MAX, "the host answers with HTTP status %ld", status);
    return status;
}

static void on_fetched(struct fetch *fetch, CURLcode code)
{
    char why[WHY_MAX];

    if (fetch->is_too_long)
        answer_why(fetch, STS_WIRE_UNFIT, "the policy is longer than 65,536 octets");
    else if (code != CURLE_OK)
        answer_failure(fetch, code);
    else if (status_of(fetch, why) != 200)
        answer_why(fetch, STS_WIRE_UNREACHED, why);
    else if (!is_plain_text(fetch->easy))
        answer_why(fetch, STS_WIRE_UNFIT, "the policy is not of the type text/plain");
    else
        answer(fetch, STS_WIRE_POLICY, slice_of(fetch->text, fetch->len));
}

/* RFC 8460 5.4: what is of the class of success, typically 200 or 201. Once that is said the report
 * has been taken, though what else the host says be late, too long or broken off. */
static bool is_taken(const struct fetch *fetch, char why[WHY_MAX])
{
    return fetch->is_report && fetch->easy && status_of(fetch, why) / 100 == 2;
}

static void on_posted(struct fetch *fetch, CURLcode code)
{
    char why[WHY_MAX];

    if (is_taken(fetch, why))
        answer_why(fetch, STS_WIRE_TAKEN, why);
    else if (code == CURLE_OK || fetch->is_too_long)
        answer_why(fetch, STS_WIRE_UNREACHED, why);
    else
        answer_failure(fetch, code);
}

static void on_late(struct fetch *fetch)
{
    char why[WHY_MAX];

    if (is_taken(fetch, why))
        answer_why(fetch, STS_WIRE_TAKEN, why);
    else
        answer_why(fetch, STS_WIRE_UNREACHED, "the host does not answer in time");
}

static void look_at_fetches(void)
{
    struct fetch *fetch;
    CURLMsg *message;
    int rest;

    curl_multi_perform(fetching.multi, &rest);
    while ((message = curl_multi_info_read(fetching.multi, &rest))) {
        CURLcode code = message->data.result;

        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &fetch);
        if (fetch->is_report)
            on_posted(fetch, code);
        else
            on_fetched(fetch, code);
    }
}

/* ---- Addresses ------------------------------------------------------------------------------- */

/* Why it is not used, or NULL. As mail has it (net/mx.h): strangers say where policies are, and
 * where reports go. */
static const char *refusal_of(int family, const void *octets)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct ipaddr ip = {.family = family == AF_INET ? IPADDR_V4 : IPADDR_V6};
    bool is_mapped;

    memcpy(ip.bytes, octets, family == AF_INET ? 4 : 16);
    is_mapped = family == AF_INET6 && memcmp(ip.bytes, mapped, sizeof(mapped)) == 0;
    if (is_mapped || ipaddr_is_never_unicast(&ip))
        return "no address that a host can have";
    if (ipaddr_is_loopback(&ip) && !fetching.allow_loopback)
        return "a loopback address: see allow-loopback-destinations";
    if (ipaddr_is_private(&ip) && fetching.refuse_private)
        return "a private address: see allow-private-destinations";
    return NULL;
}

static void add_address(struct fetch *fetch, int family, const void *octets)
{
    const char *refusal = refusal_of(family, octets);
    size_t used = strlen(fetch->addresses);
    char text[INET6_ADDRSTRLEN];

    if (!inet_ntop(family, octets, text, sizeof(text)))
        return;
    if (refusal)
        snprintf(fetch->refused, sizeof(fetch->refused), "%s is %s", text, refusal);
    else
        snprintf(fetch->addresses + used, sizeof(fetch->addresses) - used,
                 family == AF_INET ? ",%s" : ",[%s]", text);
}

static void add_addresses(struct fetch *fetch, const struct ub_result *result)
{
    int family = result->qtype == RR_A ? AF_INET : AF_INET6;

    for (unsigned i = 0; i < ADDRESSES_MAX && result->data[i]; i++)
        if (result->len[i] == (family == AF_INET ? 4 : 16))
            add_address(fetch, family, result->data[i]);
}

static void on_addresses(void *context, int error, struct ub_result *result)
{
    struct fetch *fetch = context;

    if (error == 0 && result->havedata)
        add_addresses(fetch, result);
    if (error == 0)
        ub_resolve_free(result);
    if (--fetch->open_count == 0)
        begin_exchange(fetch);
}

/* The daemon asks for no more than there are places. */
static struct fetch *take_place(bool is_report)
{
    struct fetch *fetch = fetching.fetches + (is_report ? STS_WIRE_FETCHES_MAX : 0);
    struct fetch *end =
        is_report ? fetching.fetches + PLACES_MAX : fetching.fetches + STS_WIRE_FETCHES_MAX;

    while (fetch->state != FETCH_FREE)
        if (++fetch == end)
            exit(1);
    fetch->state = FETCH_RESOLVING;
    fetch->is_report = is_report;
    fetch->addresses[0] = '\0';
    fetch->refused[0] = '\0';
    fetch->len = 0;
    return fetch;
}

static void take_policy(struct fetch *fetch, const struct sts_wire_request *request)
{
    fetch->port = 443;
    snprintf(fetch->host, sizeof(fetch->host), HOST_PREFIX "%.*s", (int)request->domain.len,
             (const char *)request->domain.data);
    snprintf(fetch->uri, sizeof(fetch->uri), "https://%s" PATH, fetch->host);
}

static void take_report(struct fetch *fetch, const struct sts_wire_request *request)
{
    struct https_uri uri;

    if (!https_uri_parse(request->uri, &uri))
        exit(1);
    fetch->port = uri.port;
    snprintf(fetch->host, sizeof(fetch->host), "%.*s", (int)uri.host.len,
             (const char *)uri.host.data);
    snprintf(fetch->uri, sizeof(fetch->uri), "%.*s", (int)request->uri.len,
             (const char *)request->uri.data);
    fetch->len = (uint32_t)request->report.len;
    memcpy(fetch->text, request->report.data, request->report.len);
}

static void begin(const struct sts_wire_request *request)
{
    static const int types[] = {RR_A, RR_AAAA};
    struct fetch *fetch = take_place(request->uri.len > 0);
    int error = 0;

    fetching.open_count++;
    fetch->number = request->number;
    fetch->ends_ms = now_ms() + FETCH_MS;
    fetch->open_count = 2;
    if (fetch->is_report)
        take_report(fetch, request);
    else
        take_policy(fetch, request);
    for (unsigned i = 0; i < 2 && error == 0; i++)
        error = ub_resolve_async(fetching.unbound, fetch->host, types[i], 1, fetch, on_addresses,
                                 &fetch->questions[i]);
    if (error != 0)
        answer_why(fetch, STS_WIRE_UNREACHED, ub_strerror(error));
}

static void end_late_ones(void)
{
    for (unsigned i = 0; i < PLACES_MAX; i++) {
        struct fetch *fetch = &fetching.fetches[i];

        if (fetch->state != FETCH_FREE && now_ms() >= fetch->ends_ms)
            on_late(fetch);
    }
}

/* ---- Requests -------------------------------------------------------------------------------- */

/* False: the daemon has gone, or says what it never says. */
static bool read_requests(void)
{
    ssize_t count = read(STDIN_FILENO, fetching.input, sizeof(fetching.input));
    struct slice rest;
    int rc;

    if (count <= 0)
        return count < 0 && errno == EINTR;
    rest = slice_of(fetching.input, (size_t)count);
    while ((rc = sts_wire_read_request(&fetching.reader, &rest)) > 0)
        begin(&fetching.reader.request);
    return rc == 0;
}

static void serve(void)
{
    struct curl_waitfd fds[] = {
        {.fd = STDIN_FILENO, .events = CURL_WAIT_POLLIN},
        {.fd = ub_fd(fetching.unbound), .events = CURL_WAIT_POLLIN},
    };

    for (;;) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

        curl_multi_poll(fetching.multi, fds, 2, fetching.open_count > 0 ? LOOK_MS : IDLE_MS, NULL);
        ub_process(fetching.unbound);
        look_at_fetches();
        end_late_ones();
        if (poll(&input, 1, 0) > 0 && !read_requests())
            return;
    }
}

/* ---- The start ------------------------------------------------------------------------------- */

static bool open_unbound(void)
{
    fetching.unbound = ub_ctx_create();
    /* A thread of this process, instead of another process. */
    return fetching.unbound && ub_ctx_async(fetching.unbound, 1) == 0 &&
           ub_ctx_set_option(fetching.unbound, "use-syslog:", "no") == 0 &&
           ub_ctx_set_option(fetching.unbound, "module-config:", "iterator") == 0 &&
           ub_ctx_set_option(fetching.unbound, "cache-max-ttl:", "60") == 0 &&
           ub_ctx_set_option(fetching.unbound, "cache-max-negative-ttl:", "10") == 0 &&
           ub_ctx_set_option(fetching.unbound, "infra-host-ttl:", "5") == 0 &&
           ub_ctx_set_option(fetching.unbound, "do-not-query-localhost:", "no") == 0;
}

static bool take_arguments(int count, char **arguments)
{
    static const struct option options[] = {{"ca-file", required_argument, NULL, 'c'},
                                            {"name-server", required_argument, NULL, 'n'},
                                            {"allow-loopback", no_argument, NULL, 'l'},
                                            {"refuse-private", no_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    bool has_server = false;
    int option;

    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        if (option == 'c')
            fetching.ca_file = optarg;
        else if (option == 'l')
            fetching.allow_loopback = true;
        else if (option == 'p')
            fetching.refuse_private = true;
        else if (option != 'n' || ub_ctx_set_fwd(fetching.unbound, optarg) != 0)
            return false;
        has_server |= option == 'n';
    }
    return optind == count && (has_server || ub_ctx_resolvconf(fetching.unbound, NULL) == 0) &&
           /* Names of tests are looked up as others are. */
           ub_ctx_zone_remove(fetching.unbound, "test.") == 0;
}

/* Libraries write about their troubles there, in the midst of answers: it is the same socket. */
static void silence_libraries(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
        exit(1);
    close(fd);
}

int main(int count, char **arguments)
{
    static const struct rlimit no_core = {0, 0};

    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !open_unbound() ||
        !take_arguments(count, arguments)) {
        fputs("ringpost-sts: ringpostd starts this program; it does nothing by itself\n", stderr);
        return 2;
    }
    silence_libraries();
    fetching.multi = curl_multi_init();
    if (!fetching.multi)
        return 1;
    serve();
    return 0;
}
