#include "core/conf/directives.h"

#include "core/base/must.h"
#include "core/conf/conf.h"
#include "core/conf/limit.h"
#include "core/conf/warmup.h"

#include <errno.h>

#define COUNT_OF(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

/* ---- The rows ------------------------------------------------------------------------------ */

#define KILO (1024ull)
#define MEGA (1024 * KILO)
#define GIGA (1024 * MEGA)
#define TERA (1024 * GIGA)

#define SECONDS (1000ull)
#define MINUTES (60 * SECONDS)
#define HOURS   (60 * MINUTES)
#define DAYS    (24 * HOURS)

#define ANY                      .max = BOUND_COUNT
#define ANY_TIME                 .max = BOUND_TIME
#define ANY_SIZE                 .max = BOUND_SIZE
#define RANGE(low, high)         .min = (low), .max = (high)
/* The words of an enumeration in the order of the enum that they become. */
#define CHOICES(words)           .choices = (words), .max = BOUND_COUNT
/* So many words, and what each of them is. */
#define WORDS(low, high, syntax) .choices = (syntax), .min = (low), .max = (high)

#define IN_GLOBAL     SCOPE_BIT(SCOPE_GLOBAL)
#define IN_SOURCE     SCOPE_BIT(SCOPE_SOURCE)
#define IN_DOMAIN     SCOPE_BIT(SCOPE_DOMAIN)
#define IN_VMTA       SCOPE_BIT(SCOPE_VMTA)
#define IN_POOL       SCOPE_BIT(SCOPE_POOL)
#define IN_SPOOL      SCOPE_BIT(SCOPE_SPOOL)
#define IN_ACCT       SCOPE_BIT(SCOPE_ACCT_FILE)
#define IN_USER       SCOPE_BIT(SCOPE_SMTP_USER)
#define IN_GROUP      SCOPE_BIT(SCOPE_SOURCE_GROUP)
#define IN_LISTENER   SCOPE_BIT(SCOPE_SMTP_LISTENER)
#define IN_BOUNCE     SCOPE_BIT(SCOPE_BOUNCE_PROCESSOR)
#define IN_FEEDBACK   SCOPE_BIT(SCOPE_FEEDBACK_LOOP_PROCESSOR)
#define IN_DNS        SCOPE_BIT(SCOPE_DNS)
#define IN_PROXY      SCOPE_BIT(SCOPE_PROXY)
#define IN_VAULT      SCOPE_BIT(SCOPE_VAULT)
#define IN_LIMIT      SCOPE_BIT(SCOPE_LIMIT)
#define IN_WARMUP     SCOPE_BIT(SCOPE_WARMUP)
#define IN_PROVIDER   SCOPE_BIT(SCOPE_PROVIDER)
#define IN_LINES      SCOPE_BIT(SCOPE_LINES)
#define IN_EVERYTHING (SCOPE_BIT(SCOPE_COUNT) - 1)

#define ONCE      0
#define REPEAT    FLAG_REPEAT
#define UNLIMITED FLAG_UNLIMITED
#define ZERO_FREE (FLAG_UNLIMITED | FLAG_ZERO_UNLIMITED)
#define AUTO      FLAG_AUTO
#define OURS      FLAG_OURS
#define SECRET    FLAG_SECRET

#define LIVE    .reload = RELOAD_LIVE
#define DRAIN   .reload = RELOAD_DRAIN
#define RESTART .reload = RELOAD_RESTART

#define LATER .effect = EFFECT_LATER
/* Said of several rows. */
#define SUITES_REASON                                                                              \
    "the TLS library offers its own suites of TLS 1.3, all of which are sound, and lets nobody "   \
    "choose"
#define IGNORED(why)    .effect = EFFECT_IGNORED, .reason = (why)
#define REFUSED(why)    .effect = EFFECT_REFUSED, .reason = (why)
#define GATHERED(where) .effect = EFFECT_DONE, .store = (where)
/* The type of the field decides how it is written. */
#define FIELD(type, field)                                                                         \
    .offset = offsetof(struct type, field),                                                        \
    .store = _Generic(((struct type *)NULL)->field,                                                \
        bool: STORE_BOOL,                                                                          \
        uint16_t: STORE_U16,                                                                       \
        uint32_t: STORE_U32,                                                                       \
        uint64_t: STORE_U64,                                                                       \
        struct conf_rate: STORE_RATE,                                                              \
        const char *: STORE_TEXT,                                                                  \
        const struct conf_certificate *: STORE_CERTIFICATE,                                        \
        const struct conf_authorities *: STORE_AUTHORITIES)
#define SETS(type, field) .effect = EFFECT_DONE, FIELD(type, field)
/* A value that fills more than one field. */
#define SETS_BY(where, type, field)                                                                \
    .effect = EFFECT_DONE, .offset = offsetof(struct type, field), .store = (where)

#define D(name_, type_, range_, preset_, scopes_, flags_, reload_, effect_, doc_)                  \
    {.name = (name_),                                                                              \
     .type = TYPE_##type_,                                                                         \
     range_,                                                                                       \
     .preset = preset_,                                                                            \
     .scopes = (scopes_),                                                                          \
     .flags = (flags_),                                                                            \
     reload_,                                                                                      \
     effect_,                                                                                      \
     .doc = (doc_)},

static const struct directive directives[] = {
#include "core/conf/directives_domain.def"
#include "core/conf/directives_global.def"
#include "core/conf/directives_refused.def"
#include "core/conf/directives_sections.def"
#include "core/conf/directives_source.def"
};

#define S(tag_, scope_, argument_, name_, parents_, effect_, doc_)                                 \
    {.tag = (tag_),                                                                                \
     .scope = SCOPE_##scope_,                                                                      \
     .argument = (argument_),                                                                      \
     .name = SECTION_##name_,                                                                      \
     .parents = (parents_),                                                                        \
     effect_,                                                                                      \
     .doc = (doc_)},

static const struct section_kind sections[] = {
#include "core/conf/sections.def"
};

/* ---- Finding rows -------------------------------------------------------------------------- */

uint32_t directive_count(void)
{
    return COUNT_OF(directives);
}

const struct directive *directive_at(uint32_t position)
{
    must(position < directive_count());
    return &directives[position];
}

uint32_t directive_position(const struct directive *row)
{
    must(row >= directives && row < directives + directive_count());
    return (uint32_t)(row - directives);
}

struct directive_key {
    struct slice name;
    uint32_t scopes;
};

static bool match_row(uint32_t value, const void *key, void *context)
{
    const struct directive_key *wanted = key;
    const struct directive *row = &directives[value];

    return (row->scopes & wanted->scopes) != 0 &&
           slice_equal_nocase(slice_str(row->name), wanted->name);
}

static uint64_t hash_name(struct slice name)
{
    return hash_bytes_nocase(name.data, name.len);
}

int directive_index_init(struct directive_index *index)
{
    table_init(&index->table);
    for (uint32_t i = 0; i < directive_count(); i++) {
        if (!table_insert(&index->table, hash_name(slice_str(directives[i].name)), i)) {
            table_fini(&index->table);
            return -ENOMEM;
        }
    }
    return 0;
}

void directive_index_fini(struct directive_index *index)
{
    table_fini(&index->table);
}

static const struct directive *find_in(const struct directive_index *index, struct slice name,
                                       uint32_t scopes)
{
    struct directive_key key = {name, scopes};
    uint32_t position = table_find(&index->table, hash_name(name), match_row, &key, NULL);

    return position == TABLE_NONE ? NULL : &directives[position];
}

const struct directive *directive_find(const struct directive_index *index, struct slice name,
                                       enum scope scope)
{
    return find_in(index, name, SCOPE_BIT(scope));
}

const struct directive *directive_find_anywhere(const struct directive_index *index,
                                                struct slice name)
{
    return find_in(index, name, IN_EVERYTHING);
}

uint32_t section_count(void)
{
    return COUNT_OF(sections);
}

const struct section_kind *section_at(uint32_t position)
{
    must(position < section_count());
    return &sections[position];
}

uint32_t section_position(const struct section_kind *kind)
{
    must(kind >= sections && kind < sections + section_count());
    return (uint32_t)(kind - sections);
}

const struct section_kind *section_find(struct slice tag)
{
    for (uint32_t i = 0; i < section_count(); i++) {
        if (slice_equal_nocase(slice_str(sections[i].tag), tag))
            return &sections[i];
    }
    return NULL;
}

const char *scope_title(enum scope scope)
{
    static const char *const titles[SCOPE_COUNT] = {
        [SCOPE_GLOBAL] = "the top level",
        [SCOPE_SOURCE] = "<source>",
        [SCOPE_DOMAIN] = "<domain>",
        [SCOPE_VMTA] = "<virtual-mta>",
        [SCOPE_POOL] = "<virtual-mta-pool>",
        [SCOPE_SPOOL] = "<spool>",
        [SCOPE_ACCT_FILE] = "<acct-file>",
        [SCOPE_SMTP_USER] = "<smtp-user>",
        [SCOPE_SOURCE_GROUP] = "<source-group>",
        [SCOPE_SMTP_LISTENER] = "<smtp-listener>",
        [SCOPE_BOUNCE_PROCESSOR] = "<bounce-processor>",
        [SCOPE_FEEDBACK_LOOP_PROCESSOR] = "<feedback-loop-processor>",
        [SCOPE_DNS] = "<dns>",
        [SCOPE_PROXY] = "<proxy>",
        [SCOPE_VAULT] = "<vault>",
        [SCOPE_LIMIT] = "<limit>",
        [SCOPE_WARMUP] = "<warm-up>",
        [SCOPE_PROVIDER] = "<provider>",
        [SCOPE_LINES] = "a section of lines",
    };

    must(scope < SCOPE_COUNT);
    return titles[scope];
}

/* ---- Types --------------------------------------------------------------------------------- */

struct type_text {
    const char *title;
    const char *doc;
};

static const struct type_text types[TYPE_COUNT_OF_TYPES] = {
    [TYPE_BOOLEAN] = {"boolean", "`yes`, `no`, `true`, `false`, `on` or `off`"},
    [TYPE_TIME] = {"time", "numbers with the units `w d h m s`, as in `1d12h`; `ms` too where the "
                           "keyword is ringpost's own"},
    [TYPE_TIME_LIST] = {"times", "up to 30 times between commas, as in `10m,30m,1h`"},
    [TYPE_SIZE] = {"size", "a number with one of the units `b k m g t` (of 1024); bytes when there "
                           "is none"},
    [TYPE_RATE] = {"rate", "`COUNT/UNIT` or `COUNT/nUNIT` with the units `d day h hr m min s sec`, "
                           "`unlimited` or `0`; behind a blank `burst=K` lets up to K be saved "
                           "up, else they are paced evenly"},
    [TYPE_VOLUME_RATE] = {"volume rate", "a rate whose count is a size, as in `20m/15min`"},
    [TYPE_COUNT] = {"number", "decimal digits"},
    [TYPE_PER_HOUR] = {"number per hour", "decimal digits"},
    [TYPE_STRING] = {"string", "one word, or text in double quotes"},
    [TYPE_NAME] = {"name", "one word without blanks and commas"},
    [TYPE_NAME_LIST] = {"names", "names between commas"},
    [TYPE_TEXT] = {"text", "the rest of the line, or text in double quotes"},
    [TYPE_WORDS] = {"words", "as shown"},
    [TYPE_PATH] = {"path", "an absolute path"},
    [TYPE_ADDRESS] = {"address", "a mail address, `local@domain`"},
    [TYPE_ADDRESS_LIST] = {"addresses", "mail addresses between commas"},
    [TYPE_ENUM] = {"choice", "one of the words shown"},
    [TYPE_ENUM_LIST] = {"choices", "some of the words shown, between commas"},
    [TYPE_HOST] = {"host", "a host name or an address"},
    [TYPE_DOMAIN_LIST] = {"domains", "domains or domain patterns between commas"},
    [TYPE_IP_PORT] = {"address[:port]", "an IP address; `[address]:port` for IPv6 with a port"},
    [TYPE_LISTENER] = {"listener", "`CIDR:PORT [source=NAME]`; `0/0` stands for every address of "
                                   "the machine"},
    [TYPE_SOURCE_HOST] = {"source host", "`IP HELO` or `CIDR HELO`; a block stands for those of "
                                         "its addresses that the machine has"},
    [TYPE_CIDR_ACCESS] = {"CIDR access",
                          "an address block and `none`, `monitor`, `monitor,deny-logs`, `operator` "
                          "or `admin`"},
    [TYPE_CIDR_COUNT] = {"CIDR number", "an address block and a number"},
    [TYPE_CIDR_RATE] = {"CIDR rate", "an address block and a rate"},
    [TYPE_CIDR_VOLUME_RATE] = {"CIDR volume rate", "an address block and a volume rate"},
    [TYPE_CPU_LIST] = {"CPU list", "CPU numbers and ranges, as in `0-3,8`"},
    [TYPE_ROUTE_LIST] = {"route", "`host`, `host:port`, `[ip]:port` or `lookup-mx:domain`; `,` "
                                  "between equals, `;` before the next choice"},
    [TYPE_NO_YES_TIME] = {"no, yes or time", "`no`, `never`, `yes` or a time"},
    [TYPE_MACRO] = {"macro", "`NAME item,item,...`; a line that ends in a comma goes on in the "
                             "next"},
    [TYPE_INCLUDE] = {"file", "a path or a glob pattern; relative ones start at the folder of the "
                              "file that includes"},
};

const char *type_title(enum directive_type type)
{
    must(type < TYPE_COUNT_OF_TYPES);
    return types[type].title;
}

const char *type_doc(enum directive_type type)
{
    must(type < TYPE_COUNT_OF_TYPES);
    return types[type].doc;
}
