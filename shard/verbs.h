/*
 * verbs: the one table of admin verbs, their arguments and options; parsing, quoting and help.
 *
 * Control reads command lines with it, the command line tool quotes its arguments and prints its
 * help with it, tests walk it both ways. Words may be abbreviated as long as they stay unambiguous
 * ("show dom"), options stand anywhere ("--json show status"). Pure functions, any thread.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"

#define VERB_LINE_MAX    4096 /* bytes of a command line, without its LF */
#define VERB_WORDS_MAX   32
#define VERB_ERROR_MAX   256
#define VERB_DOMAIN_MAX  256  /* with NUL */
#define VERB_KEYWORD_MAX 128  /* with NUL */
#define VERB_TEXT_MAX    1024 /* with NUL */
#define VERB_VMTA_MAX    64   /* with NUL; any name that conf_load takes */

/* name, word, what follows the '=', value in the help, help. VALUE_NONE: a flag. */
#define VERB_OPTIONS(X)                                                                            \
    X(OPTION_JSON, "json", VALUE_NONE, "", "answer in JSON")                                       \
    X(OPTION_DOM, "dom", VALUE_NONE, "", "answer in lines path=\"value\"")                         \
    X(OPTION_MAXITEMS, "maxitems", VALUE_COUNT, "N", "N rows at most")                             \
    X(OPTION_PAUSED, "paused", VALUE_BOOLEAN, "yes|no", "only queues that are paused, or are not") \
    X(OPTION_CONNECTED, "connected", VALUE_BOOLEAN, "yes|no",                                      \
      "only queues with connections, or without")                                                  \
    X(OPTION_MODE, "mode", VALUE_MODE, "normal|backoff",                                           \
      "queues of this mode, or the mode to set")                                                   \
    X(OPTION_SORT, "sort", VALUE_SORT, "name|rcpt|kb|conn", "order of the rows")                   \
    X(OPTION_QUEUE, "queue", VALUE_QUEUE, "DOMAIN/VMTA", "which queues")                           \
    X(OPTION_OLDER_THAN, "older-than", VALUE_TIME, "TIME",                                         \
      "only messages accepted longer ago, as in 1d12h")                                            \
    X(OPTION_GRACE, "grace", VALUE_TIME, "TIME", "how long deliveries under way may go on")        \
    X(OPTION_REENABLE_AFTER, "reenable-after", VALUE_TIME, "TIME",                                 \
      "when the source is used again, unless told otherwise never")                                \
    X(OPTION_FOR, "for", VALUE_TIME, "TIME", "how long it holds")                                  \
    X(OPTION_REASON, "reason", VALUE_TEXT, "TEXT", "why, for those who see it later")              \
    X(OPTION_CLEAR, "clear", VALUE_NONE, "", "take away instead of set")                           \
    X(OPTION_SENDER, "sender", VALUE_TEXT, "DOMAIN",                                               \
      "domain of the envelope's sender, where it is not that of From")                             \
    X(OPTION_SAMPLE, "sample", VALUE_TEXT, "FILE",                                                 \
      "a message of this kind, whose header is looked at too")                                     \
    X(OPTION_SYNTAX, "syntax", VALUE_NONE, "",                                                     \
      "files and addresses it names need not exist on this machine")

enum verb_option {
#define VERB_OPTION_ENUM(name, word, kind, value, help) name,
    VERB_OPTIONS(VERB_OPTION_ENUM)
#undef VERB_OPTION_ENUM
        VERB_OPTION_COUNT,
};

#define VERB_BIT(option) (1u << (option))
#define VERB_ROWS                                                                                  \
    (VERB_BIT(OPTION_MAXITEMS) | VERB_BIT(OPTION_PAUSED) | VERB_BIT(OPTION_CONNECTED) |            \
     VERB_BIT(OPTION_MODE) | VERB_BIT(OPTION_SORT))

/* name, words, argument, options, options that must be given, help. Every verb has --json, --dom.
 */
#define VERBS(X)                                                                                   \
    X(VERB_SHOW_STATUS, "show status", ARGUMENT_NONE, 0, 0,                                        \
      "traffic, connections, queue, spool and accounting as a whole")                              \
    X(VERB_SHOW_TOPQUEUES, "show topqueues", ARGUMENT_SOME_QUEUES, VERB_ROWS, 0,                   \
      "the ten queues with the most recipients")                                                   \
    X(VERB_SHOW_QUEUES, "show queues", ARGUMENT_SOME_QUEUES, VERB_ROWS, 0,                         \
      "queues, one in each row")                                                                   \
    X(VERB_SHOW_DOMAINS, "show domains", ARGUMENT_SOME_QUEUES, VERB_ROWS, 0,                       \
      "queues summed up by domain")                                                                \
    X(VERB_SHOW_VMTAS, "show vmtas", ARGUMENT_SOME_QUEUES, VERB_ROWS, 0,                           \
      "queues summed up by virtual MTA")                                                           \
    X(VERB_SHOW_IPS, "show ips", ARGUMENT_NONE, VERB_BIT(OPTION_MAXITEMS), 0,                      \
      "TCP's figures for each of our source addresses")                                            \
    X(VERB_SHOW_ORDERS, "show orders", ARGUMENT_NONE, VERB_BIT(OPTION_MAXITEMS), 0,                \
      "sources that queues and providers are kept from, refusals that are held, why and until "    \
      "when")                                                                                      \
    X(VERB_SHOW_WARM_UP, "show warm-up", ARGUMENT_NONE, VERB_BIT(OPTION_MAXITEMS), 0,              \
      "what is let out today of each warm-up, and what comes tomorrow")                            \
    X(VERB_SHOW_TLS_REPORT, "show tls-report", ARGUMENT_DOMAIN, VERB_BIT(OPTION_MAXITEMS), 0,      \
      "how TLS went with receivers today, as it will be reported to them")                         \
    X(VERB_SHOW_SETTINGS, "show settings", ARGUMENT_ONE_QUEUE, 0, 0,                               \
      "every effective value of a queue and the line of the configuration that sets it")           \
    X(VERB_SHOW_OVERRIDES, "show overrides", ARGUMENT_NONE, 0, 0,                                  \
      "what was set for queues for a time, by whom, until when and why")                           \
    X(VERB_SHOW_MTA_STS, "show mta-sts", ARGUMENT_SOME_QUEUES, VERB_BIT(OPTION_MAXITEMS), 0,       \
      "policies of MTA-STS that are known, and why others could not be fetched")                   \
    X(VERB_SHOW_VERSION, "show version", ARGUMENT_NONE, 0, 0, "the daemon's version")              \
    X(VERB_EXPLAIN, "explain", ARGUMENT_ONE_QUEUE, 0, 0,                                           \
      "why a queue waits: now, and within the last minutes")                                       \
    X(VERB_CHECK_DKIM, "check dkim", ARGUMENT_KEY, 0, 0,                                           \
      "whether the DNS has the records of the DKIM keys: of one, as SELECTOR,DOMAIN, or of all")   \
    X(VERB_CHECK_DOMAIN, "check domain", ARGUMENT_SENDER,                                          \
      VERB_BIT(OPTION_SENDER) | VERB_BIT(OPTION_SAMPLE), 0,                                        \
      "what receivers see of mail from a domain: SPF, DKIM, DMARC and names of our addresses")     \
    X(VERB_PAUSE_QUEUE, "pause queue", ARGUMENT_QUEUE, 0, 0, "stop delivering from queues")        \
    X(VERB_RESUME_QUEUE, "resume queue", ARGUMENT_QUEUE, 0, 0, "deliver from them again")          \
    X(VERB_SET_QUEUE, "set queue", ARGUMENT_QUEUE, VERB_BIT(OPTION_MODE), VERB_BIT(OPTION_MODE),   \
      "put queues into normal or backoff mode")                                                    \
    X(VERB_DISABLE_SOURCE, "disable source", ARGUMENT_SOURCE, VERB_BIT(OPTION_REENABLE_AFTER), 0,  \
      "keep a queue from one of its source addresses; survives restarts")                          \
    X(VERB_ENABLE_SOURCE, "enable source", ARGUMENT_SOURCE, 0, 0,                                  \
      "let queues use it again; with */* providers too")                                           \
    X(VERB_ENABLE_SENDER, "enable sender-domain", ARGUMENT_NAME, 0, 0,                             \
      "end the stops that keep its mail from providers; * for all")                                \
    X(VERB_ENABLE_JOB, "enable job", ARGUMENT_NAME, 0, 0, "the same for a job's mail")             \
    X(VERB_BREAKER_RELEASE, "breaker release", ARGUMENT_BREAKER, 0, 0,                             \
      "close a breaker, and try what waits there now")                                             \
    X(VERB_BREAKER_BOUNCE, "breaker bounce", ARGUMENT_BREAKER, 0, 0,                               \
      "believe its refusals for a day, and try what waits there now")                              \
    X(VERB_BREAKER_RECLASSIFY, "breaker reclassify", ARGUMENT_REFUSALS, 0, 0,                      \
      "take refusals like the one that opened it for transient, until it is released")             \
    X(VERB_OVERRIDE, "override", ARGUMENT_SETTING,                                                 \
      VERB_BIT(OPTION_FOR) | VERB_BIT(OPTION_REASON) | VERB_BIT(OPTION_CLEAR), 0,                  \
      "set a keyword of queues above all that the configuration says, for a time; or --clear it")  \
    X(VERB_SCHEDULE, "schedule", ARGUMENT_QUEUE, 0, 0, "try what waits for its next attempt now")  \
    X(VERB_LIST, "list", ARGUMENT_NONE, VERB_BIT(OPTION_QUEUE) | VERB_BIT(OPTION_MAXITEMS),        \
      VERB_BIT(OPTION_QUEUE), "recipients in queues, 100 unless told otherwise")                   \
    X(VERB_DELETE, "delete", ARGUMENT_NONE, VERB_BIT(OPTION_QUEUE) | VERB_BIT(OPTION_OLDER_THAN),  \
      VERB_BIT(OPTION_QUEUE), "delete recipients from queues; each gets a bounce record")          \
    X(VERB_RELOAD, "reload", ARGUMENT_NONE, 0, 0,                                                  \
      "read the configuration anew; one with errors is refused and changes nothing")               \
    X(VERB_CONFIG_HISTORY, "config history", ARGUMENT_NONE, VERB_BIT(OPTION_MAXITEMS), 0,          \
      "the configurations that were in force, the newest first")                                   \
    X(VERB_CONFIG_SHOW, "config show", ARGUMENT_NUMBER, 0, 0,                                      \
      "the text of one of them, or of the one in force")                                           \
    X(VERB_CONFIG_DIFF, "config diff", ARGUMENT_NUMBERS, 0, 0,                                     \
      "what changed from one to another, or to the one in force; without numbers: what a reload "  \
      "would change")                                                                              \
    X(VERB_CONFIG_ROLLBACK, "config rollback", ARGUMENT_ONE_NUMBER, 0, 0,                          \
      "put one of them in force again, with the checks of a reload")                               \
    X(VERB_TLS_REPORT_SEND, "tls-report send", ARGUMENT_NONE, 0, 0,                                \
      "send the reports about TLS now, today's so far among them; counting begins anew")           \
    X(VERB_SHUTDOWN, "shutdown", ARGUMENT_NONE, VERB_BIT(OPTION_GRACE), 0,                         \
      "stop the daemon; what is queued stays")                                                     \
    X(VERB_VERSION, "version", ARGUMENT_NONE, 0, 0, "the daemon's version")                        \
    X(VERB_HELP, "help", ARGUMENT_NONE, 0, 0, "this list")                                         \
    X(VERB_TEST_CONFIG, "test config", ARGUMENT_FILE, VERB_BIT(OPTION_SYNTAX), 0,                  \
      "check a configuration file; needs no daemon")

enum verb {
#define VERB_ENUM(name, words, argument, options, required, help) name,
    VERBS(VERB_ENUM)
#undef VERB_ENUM
        VERB_COUNT,
};

enum verb_format {
    FORMAT_TEXT,
    FORMAT_JSON,
    FORMAT_DOM,
};

enum verb_sort {
    SORT_NAME,
    SORT_RCPT,
    SORT_KB,
    SORT_CONN,
};

struct verb_request {
    enum verb verb;
    enum verb_format format;
    uint32_t given; /* VERB_BIT of each option that stood there */
    uint32_t maxitems;
    bool paused;
    bool connected;
    bool backoff; /* OPTION_MODE */
    enum verb_sort sort;
    uint32_t numbers[2]; /* of configurations; 0 = not given */
    uint64_t older_than_ms;
    uint64_t grace_ms;
    uint64_t reenable_after_ms;
    struct ipaddr source; /* ARGUMENT_SOURCE */
    uint64_t for_ms;
    char keyword[VERB_KEYWORD_MAX];
    /* Or a key's selector, and domain its domain; "" = all. Or OPTION_SENDER. */
    char value[VERB_TEXT_MAX];
    char reason[VERB_TEXT_MAX];
    /* Lower case, or "*"; of a job, a sender's domain or a breaker as typed. */
    char domain[VERB_DOMAIN_MAX];
    char vmta[VERB_VMTA_MAX];     /* or "*" */
    char file[VERB_LINE_MAX + 1]; /* ARGUMENT_FILE, OPTION_SAMPLE */
};

/*
 * One command line. 0, or E_SYNTAX with a sentence in error (VERB_ERROR_MAX bytes, printable). The
 * request's format is set also then, as far as it could be read.
 */
int verbs_parse(struct slice line, struct verb_request *ret_request, char *error);
/* The words as one line that verbs_parse reads back as they are. Its length without NUL, or
 * E_TOO_LONG. */
int verbs_quote(const char *const *words, uint32_t count, char *room, size_t room_bytes);
/* Verbs and options, one in a line, NUL-terminated; cut when the room is short. Returns the length.
 */
size_t verbs_help(char *room, size_t room_bytes);
#define VERB_HELP_MAX 12288
/* "show status" for VERB_SHOW_STATUS. */
const char *verbs_words(enum verb verb);
