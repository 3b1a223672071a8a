#include "cmd/dkim_sign.h"

#include "core/base/mem.h"
#include "core/mail/dkim_field.h"
#include "core/mail/header_scan.h"
#include "net/sign.h"

#include <errno.h>
#include <stdio.h>

#define MESSAGE_BYTES_MAX (1ull << 30)

enum exit_code {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1,
    EXIT_USAGE = 2,
};

struct options {
    const char *key;
    const char *algorithm; /* NULL = the key's */
    const char *selector;
    const char *domain;
    const char *identity;
    const char *canon;
    const char *headers;
    const char *more;
    const char *oversign;
    const char *query;
    const char *time;
    const char *expires;
    const char *body_limit;
    bool adds_length;
    bool is_field_only;
    bool shows_record;
};

static void usage(FILE *to)
{
    fprintf(to,
            "usage: ringpost dkim-sign --key FILE --selector S --domain D [OPTION...] <MESSAGE\n"
            "       ringpost dkim-sign --key FILE --record\n"
            "  writes the message with a DKIM-Signature in front, its lines ended by CRLF\n"
            "  --key FILE           PEM (PKCS#8, PKCS#1), or the base64 of an Ed25519 seed\n"
            "  --algorithm A        rsa-sha256 or ed25519-sha256; refused if the key is another\n"
            "  --canon H/B          relaxed/relaxed (the default), relaxed/simple, ...\n"
            "  --headers A,B,...    h= exactly so; else the usual fields, From once more\n"
            "  --more-headers A,... besides the usual ones\n"
            "  --oversign A,...     named once more than they are there\n"
            "  --identity I         i=: [LOCAL]@DOMAIN\n"
            "  --time SECONDS       t=\n"
            "  --expires SECONDS    x=\n"
            "  --body-length        adds l= with the whole body's length\n"
            "  --body-limit N       signs N octets of the body and adds l=\n"
            "  --query METHOD       q=\n"
            "  --field-only         writes the field alone\n"
            "  --record             writes the record that belongs to the key instead\n");
}

static bool take_options(int argc, char **argv, struct options *options)
{
    const struct {
        const char *name;
        const char **value;
        bool *flag;
    } rows[] = {
        {"--key", &options->key, NULL},
        {"--algorithm", &options->algorithm, NULL},
        {"--selector", &options->selector, NULL},
        {"--domain", &options->domain, NULL},
        {"--identity", &options->identity, NULL},
        {"--canon", &options->canon, NULL},
        {"--headers", &options->headers, NULL},
        {"--more-headers", &options->more, NULL},
        {"--oversign", &options->oversign, NULL},
        {"--query", &options->query, NULL},
        {"--time", &options->time, NULL},
        {"--expires", &options->expires, NULL},
        {"--body-limit", &options->body_limit, NULL},
        {"--body-length", NULL, &options->adds_length},
        {"--field-only", NULL, &options->is_field_only},
        {"--record", NULL, &options->shows_record},
    };

    for (int i = 0; i < argc; i++) {
        size_t row = 0;

        while (row < sizeof(rows) / sizeof(rows[0]) && strcmp(argv[i], rows[row].name) != 0)
            row++;
        if (row == sizeof(rows) / sizeof(rows[0]) || (rows[row].value && i + 1 == argc)) {
            fprintf(stderr, "ringpost dkim-sign: \"%s\" is no option, or its value is missing\n",
                    argv[i]);
            return false;
        }
        if (rows[row].value)
            *rows[row].value = argv[++i];
        else
            *rows[row].flag = true;
    }
    return options->key && (options->shows_record || (options->selector && options->domain));
}

/* ---- The message ----------------------------------------------------------------------------- */

struct message {
    uint8_t *octets; /* CRLF lines, an empty line behind the header */
    size_t len;
    size_t room;
    size_t header;    /* octets of the header's fields */
    size_t body;      /* where the body begins */
    uint8_t previous; /* octet read */
};

static void put_octet(struct message *message, uint8_t octet)
{
    if (message->len == message->room) {
        size_t room = message->room > 0 ? 2 * message->room : 65536;

        message->octets = mem_alloc_larger(message->octets, message->len, room);
        message->room = room;
    }
    message->octets[message->len++] = octet;
}

/* A bare LF becomes CRLF, a bare CR too, as `fix` has it where mail comes in. */
static void put_read(struct message *message, uint8_t octet)
{
    if (octet == '\n' && message->previous != '\r')
        put_octet(message, '\r');
    if (octet != '\n' && message->previous == '\r')
        put_octet(message, '\n');
    put_octet(message, octet);
    message->previous = octet;
}

static bool read_message(struct message *message)
{
    int octet;

    while ((octet = getchar()) != EOF && message->len < MESSAGE_BYTES_MAX)
        put_read(message, (uint8_t)octet);
    if (ferror(stdin) || octet != EOF) {
        fprintf(stderr, "ringpost dkim-sign: %s\n",
                octet != EOF ? "the message is larger than 1 GB" : strerror(errno));
        return false;
    }
    if (message->len > 0 && message->previous != '\n')
        put_read(message, message->previous == '\r' ? '\n' : '\r');
    if (message->previous == '\r')
        put_octet(message, '\n');
    return true;
}

/* Finds the fields, and ends the header by an empty line where it has none. */
static uint32_t split(struct message *message, struct dkim_field **ret_fields)
{
    struct dkim_field *fields = NULL;
    struct header_walk walk;
    struct header_field field;
    uint32_t count = 0;

    header_walk_init(&walk, slice_of(message->octets, message->len), true);
    while (header_walk_next(&walk, &field)) {
        /* Twice the room whenever count has come to a power of two. */
        if ((count & (count - 1)) == 0)
            fields = mem_alloc_larger(fields, count * sizeof(*fields),
                                      (count > 0 ? 2 * count : 1) * sizeof(*fields));
        fields[count++] =
            (struct dkim_field){field.name, slice_of(message->octets + field.offset, field.octets)};
    }
    message->header = walk.at;
    message->body = walk.at + (walk.end == HEADER_ENDS_EMPTY ? 2 : 0);
    *ret_fields = fields;
    return count;
}

/* ---- The signature --------------------------------------------------------------------------- */

static bool take_number(const char *text, uint64_t *ret_number)
{
    return text == NULL || slice_to_u64(slice_str(text), UINT64_MAX, ret_number) == 0;
}

static bool take_canon(const char *text, struct dkim_signature *signature)
{
    const char *slash = text ? strchr(text, '/') : NULL;

    if (text == NULL)
        return true;
    signature->header_canon = strncmp(text, "simple", 6) == 0 ? DKIM_SIMPLE : DKIM_RELAXED;
    signature->body_canon = slash && strcmp(slash, "/relaxed") == 0 ? DKIM_RELAXED : DKIM_SIMPLE;
    return strcmp(text, "relaxed/relaxed") == 0 || strcmp(text, "relaxed/simple") == 0 ||
           strcmp(text, "simple/relaxed") == 0 || strcmp(text, "simple/simple") == 0;
}

static struct slice slice_of_text(const char *text)
{
    return text ? slice_str(text) : SLICE_EMPTY;
}

/* What is wrong with the options, or NULL. */
static const char *fill(const struct options *options, const struct sign_key *key,
                        struct dkim_signature *signature, uint64_t *limit)
{
    *signature = (struct dkim_signature){
        .algorithm = sign_key_algorithm(key),
        .domain = slice_str(options->domain),
        .selector = slice_str(options->selector),
        .identity = slice_of_text(options->identity),
        .query = slice_of_text(options->query),
        .has_time = options->time != NULL,
        .has_length = options->adds_length || options->body_limit,
        .signature_bytes = sign_key_bytes(key),
    };
    *limit = UINT64_MAX;
    if (options->algorithm && strcmp(options->algorithm, signature->algorithm) != 0)
        return strcmp(options->algorithm, "rsa-sha1") == 0
                   ? "rsa-sha1 is worth nothing to receivers any more (RFC 8301)"
                   : "the key is not of that algorithm";
    if (!take_canon(options->canon, signature))
        return "--canon wants relaxed/relaxed, relaxed/simple, simple/relaxed or simple/simple";
    return take_number(options->time, &signature->time_s) &&
                   take_number(options->expires, &signature->expires_s) &&
                   take_number(options->body_limit, limit)
               ? NULL
               : "--time, --expires and --body-limit want a number";
}

static uint64_t hash_body(const struct message *message, const struct dkim_signature *signature,
                          uint64_t limit, uint8_t ret_digest[SIGN_DIGEST_BYTES])
{
    struct sign_hash hash;
    struct dkim_sink sink = {sign_hash_put, &hash};
    struct dkim_body body;

    sign_hash_init(&hash);
    dkim_body_init(&body, signature->body_canon, false, limit);
    dkim_body_put(&body, message->octets + message->body, message->len - message->body, &sink);
    dkim_body_end(&body, &sink);
    sign_hash_end(&hash, ret_digest);
    return body.octets;
}

static const char *sign(const struct message *message, const struct dkim_signature *signature,
                        const struct dkim_field *fields, uint64_t limit, struct sign_job *job,
                        struct text *text)
{
    struct sign_hash hash;
    struct dkim_sink sink = {sign_hash_put, &hash};
    uint8_t digest[SIGN_DIGEST_BYTES];
    uint64_t octets = hash_body(message, signature, limit, digest);

    dkim_signature_open(signature, digest, octets, text, NULL);
    sign_hash_init(&hash);
    dkim_picks_put(signature->picks, fields, signature->header_canon, &sink);
    dkim_header_put(signature->header_canon, text_slice(text), true, &sink);
    sign_hash_end(&hash, job->digest);
    if (sign_run(&sign_boringssl, job, 1) > 0)
        return "the signature came out wrong and is not shown";
    dkim_signature_close(slice_of(job->signature, sign_key_bytes(job->key)), text);
    return text->is_cut ? "the field would be longer than 16 KB" : NULL;
}

static int print(const struct message *message, const struct text *text, bool is_field_only)
{
    fwrite(text->data, 1, text->len, stdout);
    if (!is_field_only) {
        fwrite(message->octets, 1, message->header, stdout);
        fputs("\r\n", stdout);
        fwrite(message->octets + message->body, 1, message->len - message->body, stdout);
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_DONE : EXIT_USAGE;
}

static int refuse(const char *text)
{
    fprintf(stderr, "ringpost dkim-sign: %s\n", text);
    return EXIT_REFUSED;
}

static int sign_input(const struct options *options, const struct sign_key *key)
{
    static struct dkim_picks picks;
    static struct sign_job job;
    static char room[DKIM_TEXT_MAX];
    struct text text = text_in(room, sizeof(room));
    struct message message = {0};
    struct dkim_field *fields = NULL;
    struct dkim_signature signature;
    uint64_t limit;
    const char *why = fill(options, key, &signature, &limit);
    uint32_t count;
    int code;

    if (why)
        return refuse(why);
    if (!read_message(&message))
        return EXIT_USAGE;
    count = split(&message, &fields);
    if (options->headers
            ? !dkim_pick_listed(fields, count, options->headers, &picks)
            : !dkim_pick_usual(fields, count, options->more, options->oversign, &picks))
        why = "there are too many header fields to sign";
    signature.picks = &picks;
    job.key = key;
    if (why == NULL)
        why = dkim_signature_check(&signature);
    if (why == NULL)
        why = sign(&message, &signature, fields, limit, &job, &text);
    code = why ? refuse(why) : print(&message, &text, options->is_field_only);
    mem_free(fields);
    mem_free(message.octets);
    return code;
}

/* RFC 6376 3.6.1. */
static int print_record(const struct sign_key *key)
{
    char room[2048];

    if (sign_key_public(key, room, sizeof(room)) < 0)
        return refuse("the key is too large");
    printf("v=DKIM1; k=%s; p=%s\n", sign_key_kind(key) == SIGN_RSA ? "rsa" : "ed25519", room);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_USAGE;
}

int dkim_sign_run(int argc, char **argv)
{
    struct options options = {0};
    struct sign_key *key = NULL;
    char why[SIGN_WHY_MAX];
    int code;

    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (!take_options(argc, argv, &options)) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (sign_key_load(options.key, &key, why) < 0) {
        fprintf(stderr, "ringpost dkim-sign: %s: %s\n", options.key, why);
        return EXIT_REFUSED;
    }
    code = options.shows_record ? print_record(key) : sign_input(&options, key);
    sign_key_unref(key);
    return code;
}
