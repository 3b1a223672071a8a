#include "shard/verbs.h"

#include "core/base/err.h"
#include "core/obs/acct_csv.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

enum verb_argument {
    ARGUMENT_NONE,
    ARGUMENT_SOME_QUEUES, /* may be missing; a domain alone stands for all its queues */
    ARGUMENT_DOMAIN,      /* may be missing; * for all */
    ARGUMENT_QUEUE,
    ARGUMENT_ONE_QUEUE, /* no patterns; a domain alone stands for its queue without a VMTA */
    ARGUMENT_SOURCE,    /* an address, and ARGUMENT_QUEUE */
    ARGUMENT_NAME,      /* of a sender's domain or a job, * for all */
    ARGUMENT_BREAKER,   /* provider/NAME, sender/DOMAIN or resolver/SHARD */
    ARGUMENT_REFUSALS,  /* one of the first two */
    ARGUMENT_FILE,
    ARGUMENT_KEY,     /* SELECTOR,DOMAIN; may be missing, as may "all" */
    ARGUMENT_SENDER,  /* DOMAIN, with or without a virtual MTA or pool */
    ARGUMENT_SETTING, /* a queue, and KEYWORD=VALUE */
    ARGUMENT_NUMBER,  /* may be missing */
    ARGUMENT_ONE_NUMBER,
    ARGUMENT_NUMBERS, /* up to two */
};

enum verb_value {
    VALUE_NONE,
    VALUE_COUNT,
    VALUE_BOOLEAN,
    VALUE_MODE,
    VALUE_SORT,
    VALUE_QUEUE,
    VALUE_TIME,
    VALUE_TEXT,
};

static const struct verb_row {
    const char *words;
    enum verb_argument argument;
    uint32_t options;
    uint32_t required;
    const char *help;
} verbs[] = {
#define VERB_ROW(name, words, argument, options, required, help)                                   \
    {words, argument, (options) | VERB_BIT(OPTION_JSON) | VERB_BIT(OPTION_DOM), required, help},
    VERBS(VERB_ROW)
#undef VERB_ROW
};

static const struct option_row {
    const char *word;
    enum verb_value value;
    const char *value_text;
    const char *help;
} options[] = {
#define OPTION_ROW(name, word, value, value_text, help) {word, value, value_text, help},
    VERB_OPTIONS(OPTION_ROW)
#undef OPTION_ROW
};

struct words {
    char bytes[VERB_LINE_MAX + 1];
    const char *word[VERB_WORDS_MAX];
    uint32_t count;
};

struct parse {
    struct verb_request *request;
    char *error;
    const char *plain[VERB_WORDS_MAX]; /* words that are no options */
    uint32_t plain_count;
};

__attribute__((format(printf, 2, 3))) static int refuse(char *error, const char *format, ...)
{
    char text[VERB_ERROR_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    acct_csv_escape(slice_str(text), error, VERB_ERROR_MAX);
    return E_SYNTAX;
}

/* ---- Words ---------------------------------------------------------------------------------- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/*
 * One word from the front of *line into room, quotes and backslashes undone as a shell does: all
 * stands for itself between single quotes, a backslash protects the next byte elsewhere.
 */
static int take_word(struct slice *line, char **room)
{
    uint8_t quote = 0;

    while (line->len > 0) {
        uint8_t c = line->data[0];

        if (quote == 0 && is_blank(c))
            break;
        *line = slice_after(*line, 1);
        if (c == '\\' && quote != '\'') {
            if (line->len == 0)
                return E_SYNTAX;
            *(*room)++ = (char)line->data[0];
            *line = slice_after(*line, 1);
        } else if (quote == 0 && (c == '"' || c == '\'')) {
            quote = c;
        } else if (c == quote) {
            quote = 0;
        } else {
            *(*room)++ = (char)c;
        }
    }
    return quote == 0 ? 0 : E_SYNTAX;
}

static int split_words(struct slice line, struct words *words, char *error)
{
    char *room = words->bytes;

    words->count = 0;
    if (line.len > VERB_LINE_MAX)
        return refuse(error, "the command line is too long");
    for (size_t i = 0; i < line.len; i++) {
        if (line.data[i] == 0 || (line.data[i] < ' ' && line.data[i] != '\t'))
            return refuse(error, "control bytes have no place in a command line");
    }
    for (line = slice_trim(line); line.len > 0; line = slice_trim(line)) {
        if (words->count == VERB_WORDS_MAX)
            return refuse(error, "too many words");
        words->word[words->count++] = room;
        if (take_word(&line, &room) < 0)
            return refuse(error, "a quote is open at the end of the line");
        *room++ = '\0';
    }
    return 0;
}

/* ---- Values --------------------------------------------------------------------------------- */

static int parse_count(const char *text, uint32_t *ret_count)
{
    uint64_t value;

    if (slice_to_u64(slice_str(text), UINT32_MAX, &value) < 0)
        return E_SYNTAX;
    *ret_count = (uint32_t)value;
    return 0;
}

static int parse_boolean(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"", "yes", "true", "1"};
    static const char *const no[] = {"no", "false", "0"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(text, yes[i]) == 0) {
            *ret_value = true;
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        if (strcasecmp(text, no[i]) == 0) {
            *ret_value = false;
            return 0;
        }
    }
    return E_SYNTAX;
}

static int parse_mode(const char *text, bool *ret_backoff)
{
    *ret_backoff = strcasecmp(text, "backoff") == 0;
    return *ret_backoff || strcasecmp(text, "normal") == 0 ? 0 : E_SYNTAX;
}

static int parse_sort(const char *text, enum verb_sort *ret_sort)
{
    static const char *const names[] = {
        [SORT_NAME] = "name",
        [SORT_RCPT] = "rcpt",
        [SORT_KB] = "kb",
        [SORT_CONN] = "conn",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *ret_sort = (enum verb_sort)i;
            return 0;
        }
    }
    return E_SYNTAX;
}

static uint64_t unit_ms(char unit)
{
    switch (unit) {
    case 'w':
        return 604800000;
    case 'd':
        return 86400000;
    case 'h':
        return 3600000;
    case 'm':
        return 60000;
    case 's':
        return 1000;
    default:
        return 0;
    }
}

/* "1d12h", "90s". Each number needs its unit; a hundred years are enough, and nanoseconds have room
 * for them. */
static int parse_time(const char *text, uint64_t *ret_ms)
{
    const uint64_t max_ms = 3162240000000ull;
    uint64_t total = 0;

    if (*text == '\0')
        return E_SYNTAX;
    while (*text != '\0') {
        size_t digits = strspn(text, "0123456789");
        uint64_t value;
        uint64_t unit = unit_ms(text[digits]);

        if (unit == 0 || slice_to_u64(slice_of(text, digits), max_ms / unit, &value) < 0)
            return E_SYNTAX;
        total += value * unit;
        if (total > max_ms)
            return E_SYNTAX;
        text += digits + 1;
    }
    *ret_ms = total;
    return 0;
}

static int parse_time_above_0(const char *text, uint64_t *ret_ms)
{
    return parse_time(text, ret_ms) < 0 || *ret_ms == 0 ? E_SYNTAX : 0;
}

/* Tabs become blanks: no text has them. */
static int parse_text(const char *text, char *room, size_t room_bytes)
{
    size_t len = strlen(text);

    if (len == 0 || len >= room_bytes)
        return E_SYNTAX;
    for (size_t i = 0; i <= len; i++)
        room[i] = text[i] == '\t' ? ' ' : text[i];
    return 0;
}

/* Half a pattern: "*" alone, or a name without wildcards. */
static bool is_pattern(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((uint8_t)*c <= ' ' || *c == 0x7f || *c == '/')
            return false;
    }
    return *text != '\0' && (strchr(text, '*') == NULL || strcmp(text, "*") == 0);
}

static int parse_queue(struct verb_request *request, const char *text, bool domain_is_enough)
{
    const char *slash = strchr(text, '/');
    size_t domain_len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    const char *vmta = slash != NULL ? slash + 1 : "*";

    if (slash == NULL && !domain_is_enough)
        return E_SYNTAX;
    if (domain_len >= sizeof(request->domain) || strlen(vmta) >= sizeof(request->vmta))
        return E_SYNTAX;
    for (size_t i = 0; i < domain_len; i++)
        request->domain[i] =
            text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
    request->domain[domain_len] = '\0';
    strcpy(request->vmta, vmta);
    return is_pattern(request->domain) && is_pattern(request->vmta) ? 0 : E_SYNTAX;
}

/* ---- Options -------------------------------------------------------------------------------- */

static int find_option(const char *text, size_t len, char *error)
{
    int found = -1;

    if (len == 0)
        return refuse(error, "-- without the name of an option");
    for (int i = 0; i < VERB_OPTION_COUNT; i++) {
        if (strncasecmp(options[i].word, text, len) != 0)
            continue;
        if (options[i].word[len] == '\0')
            return i;
        if (found >= 0)
            return refuse(error, "--%.*s may be --%s or --%s", (int)len, text, options[found].word,
                          options[i].word);
        found = i;
    }
    if (found < 0)
        return refuse(error, "unknown option --%.*s", (int)len, text);
    return found;
}

static int set_option(struct verb_request *request, enum verb_option option, const char *value)
{
    switch (option) {
    case OPTION_JSON:
        request->format = FORMAT_JSON;
        return 0;
    case OPTION_DOM:
        request->format = FORMAT_DOM;
        return 0;
    case OPTION_MAXITEMS:
        return parse_count(value, &request->maxitems);
    case OPTION_PAUSED:
        return parse_boolean(value, &request->paused);
    case OPTION_CONNECTED:
        return parse_boolean(value, &request->connected);
    case OPTION_MODE:
        return parse_mode(value, &request->backoff);
    case OPTION_SORT:
        return parse_sort(value, &request->sort);
    case OPTION_QUEUE:
        return parse_queue(request, value, false);
    case OPTION_OLDER_THAN:
        return parse_time(value, &request->older_than_ms);
    case OPTION_GRACE:
        return parse_time(value, &request->grace_ms);
    case OPTION_REENABLE_AFTER:
        return parse_time_above_0(value, &request->reenable_after_ms);
    case OPTION_FOR:
        return parse_time_above_0(value, &request->for_ms);
    case OPTION_REASON:
        return parse_text(value, request->reason, sizeof(request->reason));
    case OPTION_SENDER:
        return parse_text(value, request->value, sizeof(request->value));
    case OPTION_SAMPLE:
        return parse_text(value, request->file, sizeof(request->file));
    case OPTION_CLEAR:
    case OPTION_SYNTAX:
    case VERB_OPTION_COUNT:
        return 0;
    }
    return E_SYNTAX;
}

/* What a value must be that was refused. */
static const char *wish_of(enum verb_option option)
{
    _Static_assert(VERB_TEXT_MAX == 1024, "what is said below");
    switch (option) {
    case OPTION_REENABLE_AFTER:
    case OPTION_FOR:
        return "TIME, longer than 0";
    case OPTION_REASON:
        return "TEXT of 1 to 1023 octets";
    default:
        return options[option].value_text;
    }
}

/* next: the word behind it, or NULL. 1 when that was its value, 0, or E_SYNTAX. */
static int take_option(struct parse *parse, const char *text, const char *next)
{
    const char *equals = strchr(text, '=');
    size_t len = equals != NULL ? (size_t)(equals - text) : strlen(text);
    int option = find_option(text, len, parse->error);
    const struct option_row *row;
    bool takes_next;

    if (option < 0)
        return option;
    row = &options[option];
    if (row->value == VALUE_NONE && equals != NULL)
        return refuse(parse->error, "--%s takes no value", row->word);
    /* Yes needs not be said, so the word behind a boolean is something else. */
    takes_next = equals == NULL && next != NULL && row->value != VALUE_NONE &&
                 row->value != VALUE_BOOLEAN && strncmp(next, "--", 2) != 0;
    if (set_option(parse->request, (enum verb_option)option,
                   takes_next       ? next
                   : equals != NULL ? equals + 1
                                    : "") < 0)
        return refuse(parse->error, "--%s wants %s", row->word, wish_of((enum verb_option)option));
    parse->request->given |= VERB_BIT(option);
    return takes_next;
}

/* ---- Verbs ---------------------------------------------------------------------------------- */

/* The word at this position of a verb's words; empty behind the last one. */
static struct slice word_at(enum verb verb, uint32_t position)
{
    struct slice rest = slice_str(verbs[verb].words);

    for (; position > 0 && rest.len > 0; position--) {
        size_t blank = slice_find(rest, ' ');

        rest = slice_after(rest, blank < rest.len ? blank + 1 : blank);
    }
    return slice_of(rest.data, slice_find(rest, ' '));
}

/* Among the verbs still in question, the one word at this position that text stands for; empty
 * when there is none or more than one (*ret_count). */
static struct slice resolve_word(const bool *open, uint32_t position, struct slice text,
                                 uint32_t *ret_count)
{
    struct slice found = SLICE_EMPTY;

    *ret_count = 0;
    for (int i = 0; i < VERB_COUNT; i++) {
        struct slice word = open[i] ? word_at((enum verb)i, position) : SLICE_EMPTY;

        if (word.len == 0 || text.len == 0 || !slice_starts_nocase(word, text))
            continue;
        if (word.len == text.len) {
            *ret_count = 1;
            return word;
        }
        if (!slice_equal(word, found))
            (*ret_count)++;
        found = word;
    }
    return *ret_count == 1 ? found : SLICE_EMPTY;
}

/* Names what could stand at this position. */
static int refuse_word(char *error, const bool *open, uint32_t position, const char *text,
                       bool ambiguous)
{
    char list[VERB_ERROR_MAX] = "";
    struct slice before = SLICE_EMPTY;
    size_t len = 0;

    for (int i = 0; i < VERB_COUNT; i++) {
        struct slice word = open[i] ? word_at((enum verb)i, position) : SLICE_EMPTY;

        if (word.len == 0 || slice_equal(word, before))
            continue;
        if (ambiguous && !slice_starts_nocase(word, slice_str(text)))
            continue;
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%.*s", len > 0 ? ", " : "",
                                (int)word.len, (const char *)word.data);
        before = word;
        if (len >= sizeof(list) - 1)
            break;
    }
    if (*text == '\0')
        return refuse(error, "one of these words is missing: %s", list);
    return refuse(error, "%s \"%.64s\"; one of: %s", ambiguous ? "ambiguous:" : "unknown:", text,
                  list);
}

/* Finds the verb that the first plain words name; *ret_used says how many. */
static int find_verb(struct parse *parse, uint32_t *ret_used)
{
    bool open[VERB_COUNT];

    memset(open, true, sizeof(open));
    for (uint32_t position = 0;; position++) {
        const char *text = position < parse->plain_count ? parse->plain[position] : "";
        uint32_t count;
        struct slice word = resolve_word(open, position, slice_str(text), &count);

        if (word.len == 0)
            return refuse_word(parse->error, open, position, text, count > 1);
        for (int i = 0; i < VERB_COUNT; i++)
            open[i] = open[i] && slice_equal(word_at((enum verb)i, position), word);
        for (int i = 0; i < VERB_COUNT; i++) {
            /* No verb's words are the beginning of another's, so the first complete one is it. */
            if (open[i] && word_at((enum verb)i, position + 1).len == 0) {
                parse->request->verb = (enum verb)i;
                *ret_used = position + 1;
                return 0;
            }
        }
    }
}

static int parse_one_queue(struct verb_request *request, const char *text)
{
    int rc = parse_queue(request, text, true);

    if (rc < 0 || strchr(request->domain, '*') != NULL)
        return E_SYNTAX;
    if (strchr(text, '/') == NULL)
        strcpy(request->vmta, "{default}");
    return strchr(request->vmta, '*') != NULL ? E_SYNTAX : 0;
}

/* How many words a verb may have behind its own. */
static uint32_t wanted_words(enum verb_argument argument)
{
    return argument == ARGUMENT_NONE ? 0
           : argument == ARGUMENT_NUMBERS || argument == ARGUMENT_SETTING ||
                   argument == ARGUMENT_SOURCE
               ? 2
               : 1;
}

static int take_numbers(struct parse *parse, uint32_t used)
{
    struct verb_request *request = parse->request;

    for (uint32_t i = used; i < parse->plain_count; i++) {
        uint32_t *number = &request->numbers[i - used];

        if (parse_count(parse->plain[i], number) < 0 || *number == 0)
            return refuse(parse->error, "%s: \"%.64s\" is no number of a configuration",
                          verbs[request->verb].words, parse->plain[i]);
    }
    return 0;
}

/* A queue is kept from a source by its name alone, so it need not exist; patterns are for `enable`.
 */
static int parse_source(struct verb_request *request, const char *address, const char *queue)
{
    if (ipaddr_parse(slice_str(address), &request->source) < 0 ||
        parse_queue(request, queue, false) < 0)
        return E_SYNTAX;
    if (request->verb == VERB_DISABLE_SOURCE &&
        (strcmp(request->domain, "*") == 0 || strcmp(request->vmta, "*") == 0))
        return E_SYNTAX;
    return 0;
}

/* What it is the name of goes where a virtual MTA goes. */
static int parse_name(struct verb_request *request, const char *text)
{
    if (text[0] == '\0' || strlen(text) >= sizeof(request->domain))
        return E_SYNTAX;
    strcpy(request->vmta, request->verb == VERB_ENABLE_JOB ? "job" : "sender-domain");
    strcpy(request->domain, text);
    return 0;
}

static int parse_key(struct verb_request *request, const char *text)
{
    size_t len = strcspn(text, ",");
    const char *domain = text + len + 1;

    if (strcmp(text, "all") == 0)
        return 0;
    if (len == 0 || text[len] == '\0' || domain[0] == '\0' || len >= sizeof(request->value) ||
        strlen(domain) >= sizeof(request->domain) || strchr(domain, ',') != NULL)
        return E_SYNTAX;
    memcpy(request->value, text, len);
    request->value[len] = '\0';
    slice_lower(slice_str(domain), request->domain);
    request->domain[strlen(domain)] = '\0';
    return 0;
}

/* As `show orders` has it: the kind goes where a virtual MTA goes, the rest where a domain goes. */
static int parse_breaker(struct verb_request *request, const char *text)
{
    static const char *const kinds[] = {"provider", "sender", "resolver"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t len = strlen(kinds[i]);
        const char *name = text + len + 1;

        if (strncmp(text, kinds[i], len) != 0 || text[len] != '/' || name[0] == '\0' ||
            strlen(name) >= sizeof(request->domain))
            continue;
        strcpy(request->vmta, kinds[i]);
        strcpy(request->domain, name);
        return 0;
    }
    return E_SYNTAX;
}

static int take_breaker(struct parse *parse, const char *text)
{
    const struct verb_row *row = &verbs[parse->request->verb];
    bool is_any = row->argument == ARGUMENT_BREAKER;

    if (parse_breaker(parse->request, text) < 0)
        return refuse(parse->error, "%s wants provider/NAME%s", row->words,
                      is_any ? ", sender/DOMAIN or resolver/SHARD" : " or sender/DOMAIN");
    if (is_any || strcmp(parse->request->vmta, "resolver") != 0)
        return 0;
    return refuse(parse->error,
                  "%s: of a resolver there is nothing to reclassify; release or bounce it",
                  row->words);
}

/* "QUEUE KEYWORD=VALUE" with a time and a reason, or "QUEUE [KEYWORD]" to be cleared. */
static int take_setting(struct parse *parse, uint32_t used)
{
    struct verb_request *request = parse->request;
    bool clears = (request->given & VERB_BIT(OPTION_CLEAR)) != 0;
    const uint32_t needed = VERB_BIT(OPTION_FOR) | VERB_BIT(OPTION_REASON);
    uint32_t left = parse->plain_count - used;
    const char *text = left > 1 ? parse->plain[used + 1] : "";
    size_t len = strcspn(text, "=");

    if (left == 0 || parse_queue(request, parse->plain[used], false) < 0)
        return refuse(parse->error, "override wants a queue as DOMAIN/VMTA, * for all");
    if (clears ? text[len] == '=' || (request->given & needed) != 0 : text[len] != '=' || len == 0)
        return refuse(parse->error, "override wants %s",
                      clears ? "DOMAIN/VMTA --clear [KEYWORD]" : "KEYWORD=VALUE");
    if (!clears && (request->given & needed) != needed)
        return refuse(parse->error, "override wants --for=TIME and --reason=TEXT");
    if (len >= sizeof(request->keyword) || strlen(text + len) > sizeof(request->value))
        return refuse(parse->error, "override: \"%.64s\" is too long", text);
    memcpy(request->keyword, text, len);
    if (clears || text[len + 1] == '\0')
        return 0;
    return parse_text(text + len + 1, request->value, sizeof(request->value));
}

static int take_argument(struct parse *parse, uint32_t used)
{
    struct verb_request *request = parse->request;
    const struct verb_row *row = &verbs[request->verb];
    uint32_t left = parse->plain_count - used;
    const char *text = left > 0 ? parse->plain[used] : "";
    uint32_t wanted = wanted_words(row->argument);

    if (left > wanted)
        return refuse(parse->error, "%s: \"%.64s\" is one word too many", row->words,
                      parse->plain[used + wanted]);
    switch (row->argument) {
    case ARGUMENT_NONE:
        return 0;
    case ARGUMENT_SOME_QUEUES:
        if (left == 0 || parse_queue(request, text, true) == 0)
            return 0;
        return refuse(parse->error, "%s wants DOMAIN or DOMAIN/VMTA, * for all", row->words);
    case ARGUMENT_DOMAIN:
        if (left == 0 || (strchr(text, '/') == NULL && parse_queue(request, text, true) == 0))
            return 0;
        return refuse(parse->error, "%s wants a domain, * for all", row->words);
    case ARGUMENT_QUEUE:
        if (left == 1 && parse_queue(request, text, false) == 0)
            return 0;
        return refuse(parse->error, "%s wants a queue as DOMAIN/VMTA, * for all", row->words);
    case ARGUMENT_ONE_QUEUE:
        if (left == 1 && parse_one_queue(request, text) == 0)
            return 0;
        return refuse(parse->error, "%s wants one queue as DOMAIN or DOMAIN/VMTA", row->words);
    case ARGUMENT_SOURCE:
        if (left == 2 && parse_source(request, text, parse->plain[used + 1]) == 0)
            return 0;
        return refuse(parse->error, "%s wants an address and a queue as DOMAIN/VMTA%s", row->words,
                      request->verb == VERB_ENABLE_SOURCE ? ", * for all" : "");
    case ARGUMENT_NAME:
        if (left == 1 && parse_name(request, text) == 0)
            return 0;
        return refuse(parse->error, "%s wants a name, * for all", row->words);
    case ARGUMENT_BREAKER:
    case ARGUMENT_REFUSALS:
        return take_breaker(parse, left == 1 ? text : "");
    case ARGUMENT_KEY:
        if (left == 0 || parse_key(request, text) == 0)
            return 0;
        return refuse(parse->error, "%s wants SELECTOR,DOMAIN or all", row->words);
    case ARGUMENT_SENDER:
        if (left == 1 && parse_queue(request, text, true) == 0 &&
            strchr(request->domain, '*') == NULL)
            return 0;
        return refuse(parse->error, "%s wants DOMAIN or DOMAIN/VMTA", row->words);
    case ARGUMENT_FILE:
        if (left == 0)
            return refuse(parse->error, "%s wants a file", row->words);
        strcpy(request->file, text);
        return 0;
    case ARGUMENT_SETTING:
        return take_setting(parse, used);
    case ARGUMENT_ONE_NUMBER:
        if (left == 0)
            return refuse(parse->error, "%s wants the number of a configuration", row->words);
        return take_numbers(parse, used);
    case ARGUMENT_NUMBER:
    case ARGUMENT_NUMBERS:
        return take_numbers(parse, used);
    }
    return E_SYNTAX;
}

static int check_options(struct parse *parse)
{
    const struct verb_row *row = &verbs[parse->request->verb];
    uint32_t missing = row->required & ~parse->request->given;
    uint32_t foreign = parse->request->given & ~row->options;

    if (foreign != 0)
        return refuse(parse->error, "%s has no option --%s", row->words,
                      options[__builtin_ctz(foreign)].word);
    if (missing != 0)
        return refuse(parse->error, "%s wants --%s=%s", row->words,
                      options[__builtin_ctz(missing)].word,
                      options[__builtin_ctz(missing)].value_text);
    return 0;
}

int verbs_parse(struct slice line, struct verb_request *ret_request, char *error)
{
    struct parse parse = {.request = ret_request, .error = error};
    struct words words;
    uint32_t used = 0;
    int result;

    *ret_request = (struct verb_request){.domain = "*", .vmta = "*"};
    result = split_words(line, &words, error);
    for (uint32_t i = 0; i < words.count && result >= 0; i++) {
        if (strncmp(words.word[i], "--", 2) != 0) {
            parse.plain[parse.plain_count++] = words.word[i];
            continue;
        }
        result =
            take_option(&parse, words.word[i] + 2, i + 1 < words.count ? words.word[i + 1] : NULL);
        i += result > 0;
    }
    if (result >= 0)
        result = find_verb(&parse, &used);
    if (result >= 0)
        result = take_argument(&parse, used);
    return result >= 0 ? check_options(&parse) : result;
}

/* ---- For the command line tool -------------------------------------------------------------- */

/* Words of these bytes alone need no quotes. */
static bool is_plain_word(const char *word)
{
    return *word != '\0' && word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                              "0123456789-_=./@:*{}+%,~")] == '\0';
}

int verbs_quote(const char *const *words, uint32_t count, char *room, size_t room_bytes)
{
    size_t len = 0;

    for (uint32_t i = 0; i < count; i++) {
        bool is_plain = is_plain_word(words[i]);

        if (len + strlen(words[i]) * 2 + 4 > room_bytes)
            return E_TOO_LONG;
        if (i > 0)
            room[len++] = ' ';
        if (!is_plain)
            room[len++] = '"';
        for (const char *c = words[i]; *c != '\0'; c++) {
            if (*c == '"' || *c == '\\')
                room[len++] = '\\';
            room[len++] = *c;
        }
        if (!is_plain)
            room[len++] = '"';
    }
    if (len >= room_bytes)
        return E_TOO_LONG;
    room[len] = '\0';
    return (int)len;
}

const char *verbs_words(enum verb verb)
{
    return verbs[verb].words;
}

struct help {
    char *room;
    size_t bytes;
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void help_put(struct help *help, const char *format,
                                                           ...)
{
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(help->room + help->len, help->bytes - help->len, format, arguments);
    va_end(arguments);
    help->len += (size_t)len;
    if (help->len >= help->bytes)
        help->len = help->bytes - 1;
}

static void help_verb(struct help *help, const struct verb_row *row)
{
    static const char *const arguments[] = {
        [ARGUMENT_NONE] = "",
        [ARGUMENT_SOME_QUEUES] = " [DOMAIN[/VMTA]]",
        [ARGUMENT_DOMAIN] = " [DOMAIN]",
        [ARGUMENT_QUEUE] = " DOMAIN/VMTA",
        [ARGUMENT_ONE_QUEUE] = " DOMAIN[/VMTA]",
        [ARGUMENT_SOURCE] = " IP DOMAIN/VMTA",
        [ARGUMENT_NAME] = " NAME",
        [ARGUMENT_BREAKER] = " provider/NAME|sender/DOMAIN|resolver/SHARD",
        [ARGUMENT_REFUSALS] = " provider/NAME|sender/DOMAIN",
        [ARGUMENT_FILE] = " FILE",
        [ARGUMENT_KEY] = " [SELECTOR,DOMAIN]",
        [ARGUMENT_SENDER] = " DOMAIN[/VMTA]",
        [ARGUMENT_SETTING] = " DOMAIN/VMTA KEYWORD=VALUE --for=TIME --reason=TEXT\n"
                             "  override DOMAIN/VMTA --clear [KEYWORD]",
        [ARGUMENT_NUMBER] = " [N]",
        [ARGUMENT_ONE_NUMBER] = " N",
        [ARGUMENT_NUMBERS] = " [N [M]]",
    };
    /* Which options a setting has depends on its form, so they stand there already. */
    const uint32_t told = row->argument == ARGUMENT_SETTING
                              ? row->options
                              : VERB_BIT(OPTION_JSON) | VERB_BIT(OPTION_DOM);

    help_put(help, "  %s%s", row->words, arguments[row->argument]);
    for (int i = 0; i < VERB_OPTION_COUNT; i++) {
        bool required = (row->required & VERB_BIT(i)) != 0;

        if ((row->options & ~told & VERB_BIT(i)) == 0)
            continue;
        help_put(help, " %s--%s%s%s%s", required ? "" : "[", options[i].word,
                 options[i].value == VALUE_NONE ? "" : "=", options[i].value_text,
                 required ? "" : "]");
    }
    help_put(help, "\n      %s\n", row->help);
}

size_t verbs_help(char *room, size_t room_bytes)
{
    struct help help = {room, room_bytes, 0};

    help_put(&help, "Verbs; words may be abbreviated, * stands for any domain or virtual MTA:\n");
    for (int i = 0; i < VERB_COUNT; i++)
        help_verb(&help, &verbs[i]);
    help_put(&help, "Options:\n");
    for (int i = 0; i < VERB_OPTION_COUNT; i++) {
        char left[64];

        snprintf(left, sizeof(left), "--%s%s%s", options[i].word,
                 options[i].value == VALUE_NONE ? "" : "=", options[i].value_text);
        help_put(&help, "  %-24s %s\n", left, options[i].help);
    }
    return help.len;
}
