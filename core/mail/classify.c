#include "core/mail/classify.h"

#include "core/mail/classify_rules.h"

/* ---- Codes ---------------------------------------------------------------------------------- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Length of the reply code that text begins with (3), or 0. */
static size_t code_at(struct slice text, uint16_t *ret_code)
{
    if (text.len < 3 || text.data[0] < '2' || text.data[0] > '5' || !is_digit(text.data[1]) ||
        !is_digit(text.data[2]) ||
        (text.len > 3 && !is_blank(text.data[3]) && memchr("-,:;#", text.data[3], 5) == NULL))
        return 0;
    *ret_code =
        (uint16_t)((text.data[0] - '0') * 100 + (text.data[1] - '0') * 10 + (text.data[2] - '0'));
    return 3;
}

/* Length of the enhanced status that text begins with, or 0. */
static size_t status_at(struct slice text, uint16_t ret_status[3])
{
    size_t at = 0;

    for (int part = 0; part < 3; part++) {
        unsigned number = 0;
        size_t digits = 0;

        while (at < text.len && is_digit(text.data[at]) && digits < 4) {
            number = number * 10 + (text.data[at++] - '0');
            digits++;
        }
        if (digits == 0 || digits > 3 || (part == 0 && (digits > 1 || number < 2 || number > 5)))
            return 0;
        ret_status[part] = (uint16_t)number;
        if (part < 2 && (at == text.len || text.data[at++] != '.'))
            return 0;
    }
    /* What goes on is an IP address or a version. */
    if (at < text.len && (is_digit(text.data[at]) || (text.data[at] == '.' && at + 1 < text.len &&
                                                      is_digit(text.data[at + 1]))))
        return 0;
    return at;
}

/* The first status in text of this class: at its beginning, or behind a blank, bracket or "#". */
static bool find_status(struct slice text, uint16_t class, uint16_t ret_status[3])
{
    for (size_t i = 0; i < text.len; i++) {
        uint16_t status[3];

        if (i > 0 && memchr(" \t\r\n-(#[:,;", text.data[i - 1], 11) == NULL)
            continue;
        if (status_at(slice_after(text, i), status) > 0 && (class == 0 || status[0] == class)) {
            memcpy(ret_status, status, sizeof(status));
            return true;
        }
    }
    return false;
}

void classify_codes(const struct classify_reply *reply, uint16_t *ret_code, uint16_t ret_status[3])
{
    struct slice text = slice_trim(reply->text);
    const uint16_t *given = reply->enhanced;
    uint16_t found[3] = {0};
    uint16_t code = reply->code;
    uint16_t class;

    if (code == 0)
        code_at(text, &code);
    /* The basic code decides, an enhanced one of another class is dropped (RFC 3463). */
    class = code / 100;
    memset(ret_status, 0, 3 * sizeof(*ret_status));
    if (given[0] != 0 && (class == 0 || given[0] == class))
        memcpy(ret_status, given, sizeof(reply->enhanced));
    if ((ret_status[0] == 0 || ret_status[1] == 0) &&
        find_status(text, class != 0 ? class : ret_status[0], found) &&
        (ret_status[0] == 0 || found[1] != 0))
        memcpy(ret_status, found, sizeof(found));
    *ret_code = code;
}

/* ---- The text ------------------------------------------------------------------------------- */

/* Octets of a line break at the front of text: real ones, or as logs write them. */
static size_t break_at(struct slice text)
{
    if (text.data[0] == '\r' || text.data[0] == '\n')
        return 1;
    if (text.len >= 2 && text.data[0] == '\\' && (text.data[1] == 'r' || text.data[1] == 'n'))
        return 2;
    return 0;
}

/* The codes that each line of a reply begins with: "550-5.1.1 ". */
static size_t line_codes_at(struct slice text, uint16_t code)
{
    uint16_t status[3];
    uint16_t own = 0;
    size_t at = code_at(text, &own);
    size_t more;

    if (at == 0 || (code != 0 && own != code))
        return 0;
    while (at < text.len && memchr("-,:;# ", text.data[at], 6) != NULL)
        at++;
    more = status_at(slice_after(text, at), status);
    return at + more;
}

static bool is_local_part(uint8_t c)
{
    return !is_blank(c) && memchr("<>()[]:;,\"'@", c, 12) == NULL;
}

/* Lines joined by one blank, their codes and the local parts of addresses taken out: an address
 * says nothing about what became of it, whatever words it consists of. */
static struct slice normalise(struct slice text, uint16_t code, uint8_t room[CLASSIFY_TEXT_MAX])
{
    size_t len = 0, word = 0; /* where the address would have begun */
    bool at_start = true;     /* of a word */

    while (text.len > 0 && len < CLASSIFY_TEXT_MAX) {
        size_t skip = break_at(text);
        uint8_t c = text.data[0];

        if (skip == 0 && at_start)
            skip = line_codes_at(text, code);
        if (skip == 0)
            skip = is_blank(c);
        if (skip > 0) {
            if (len > 0 && room[len - 1] != ' ')
                room[len++] = ' ';
            word = len;
            at_start = true;
            text = slice_after(text, skip);
            continue;
        }
        if (c == '@')
            len = word;
        else if (!is_local_part(c))
            word = len + 1;
        at_start = false;
        room[len++] = c;
        text = slice_after(text, 1);
    }
    return slice_of(room, len);
}

/* ---- Rules ---------------------------------------------------------------------------------- */

static bool ends_with_nocase(struct slice name, struct slice suffix)
{
    return name.len >= suffix.len &&
           slice_equal_nocase(slice_after(name, name.len - suffix.len), suffix);
}

/* A suffix with a dot in front stands for the name without it too. */
static bool is_below(struct slice name, struct slice suffix)
{
    if (suffix.data[0] == '.' && slice_equal_nocase(name, slice_after(suffix, 1)))
        return true;
    return suffix.data[0] == '.' ? ends_with_nocase(name, suffix)
                                 : slice_equal_nocase(name, suffix);
}

static uint64_t providers_of(const struct classify_rules *rules, struct slice host)
{
    uint64_t found = 0;

    if (host.len > 0 && host.data[host.len - 1] == '.')
        host.len--;
    for (uint32_t i = 0; host.len > 0 && i < rules->provider_count; i++) {
        const struct classify_provider *provider = &rules->providers[i];

        for (uint32_t j = 0; j < provider->suffix_count; j++) {
            if (is_below(host, provider->suffixes[j]))
                found |= UINT64_C(1) << i;
        }
    }
    return found;
}

/* What the conditions of rules are held against. */
struct facts {
    uint16_t code;
    uint16_t status[3];
    int stage;
    uint64_t providers;
    struct regex_subject subject;
};

/* Of a reply without a code the status tells the class of codes, and no more. */
static bool code_fits(const struct classify_rule *rule, const struct facts *facts)
{
    uint16_t low = facts->code != 0 ? facts->code : facts->status[0] * 100;
    uint16_t high = facts->code != 0 ? facts->code : low + 99;

    for (uint32_t i = 0; i < rule->code_count; i++) {
        if (low >= rule->codes[i].low && high <= rule->codes[i].high)
            return true;
    }
    return rule->code_count == 0;
}

static bool status_fits(const struct classify_rule *rule, const struct facts *facts)
{
    for (uint32_t i = 0; i < rule->status_count; i++) {
        uint32_t part = 0;

        while (part < 3 && facts->status[0] != 0 &&
               (rule->statuses[i].part[part] == CLASSIFY_PART_ANY ||
                rule->statuses[i].part[part] == facts->status[part]))
            part++;
        if (part == 3)
            return true;
    }
    return rule->status_count == 0;
}

/* Before the receiver was told of a recipient, what it calls unknown is somebody else. */
static bool is_before_recipient(int stage)
{
    static const uint32_t stages = 1u << VERDICT_AT_CONNECT | 1u << VERDICT_AT_GREETING |
                                   1u << VERDICT_AT_EHLO | 1u << VERDICT_AT_MAIL |
                                   1u << VERDICT_AT_AUTH | 1u << VERDICT_AT_TLS;

    return stage >= 0 && (stages >> stage & 1) != 0;
}

/* These codes answer an order of commands and a login, whatever words go with them. */
static bool is_of_session(uint16_t code)
{
    return code == 503 || code == 530 || code == 534 || code == 535 || code == 538;
}

static bool fits(const struct classify_rule *rule, const struct facts *facts)
{
    if (rule->class == CLASSIFY_HARD &&
        (is_before_recipient(facts->stage) || is_of_session(facts->code)))
        return false;
    if (rule->providers != 0 && (rule->providers & facts->providers) == 0)
        return false;
    if (rule->has_stage && (facts->stage < 0 || (rule->stages >> facts->stage & 1) == 0))
        return false;
    return code_fits(rule, facts) && status_fits(rule, facts);
}

static enum classify_class class_of(const struct classify_rule *rule, const struct facts *facts)
{
    uint16_t first = facts->code != 0 ? facts->code / 100 : facts->status[0];

    if (rule->class != CLASSIFY_NO_BOUNCE && first == 4)
        return CLASSIFY_TRANSIENT;
    return rule->class;
}

void classify(const struct classify_rules *rules, const struct classify_reply *reply,
              struct regex_scratch *scratch, struct classify_answer *ret_answer)
{
    uint8_t room[CLASSIFY_TEXT_MAX];
    const struct classify_rule *rule = rules->rules;
    struct facts facts = {.stage = reply->stage};
    bool gave_up = false;

    classify_codes(reply, &facts.code, facts.status);
    facts.providers = providers_of(rules, reply->host);
    regex_subject_set(&facts.subject, normalise(reply->text, facts.code, room));
    for (;; rule++) {
        enum regex_result result;

        if (!fits(rule, &facts))
            continue;
        if (rule->regex == NULL)
            break;
        result = regex_match(rule->regex, &facts.subject, scratch);
        gave_up |= result == REGEX_GAVE_UP;
        if (result == REGEX_YES)
            break;
    }
    *ret_answer = (struct classify_answer){
        .category = rule->category,
        .class = class_of(rule, &facts),
        .reaction = rule->reaction,
        .scope = rule->scope,
        .rule = rule->id,
        .file = rules->file,
        .line = rule->line,
        .gave_up = gave_up,
    };
}

bool classify_is_greylisting(const struct classify_answer *answer)
{
    return strcmp(answer->rule, "greylisted") == 0;
}
