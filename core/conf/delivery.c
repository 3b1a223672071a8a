#include "core/conf/delivery.h"

#define SECOND_US 1000000ull
#define DAY_S     86400ull

static struct slice user_of(struct slice address, struct slice *ret_domain)
{
    size_t at = address.len;

    while (at > 0 && address.data[at - 1] != '@')
        at--;
    *ret_domain = at > 0 ? slice_after(address, at) : SLICE_EMPTY;
    return slice_of(address.data, at > 0 ? at - 1 : address.len);
}

/* "2026-11-23T02:18:30Z"; days since 1970 become a date by counting from March (Hinnant). */
static void put_iso_date(struct text *to, uint64_t now_s)
{
    uint64_t shifted = now_s / DAY_S + 719468, era = shifted / 146097;
    uint64_t day_of_era = shifted - era * 146097;
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t from_march = (5 * day_of_year + 2) / 153;
    uint64_t month = from_march < 10 ? from_march + 3 : from_march - 9;

    text_put_u64(to, year_of_era + era * 400 + (month <= 2), 4);
    text_put_char(to, '-');
    text_put_u64(to, month, 2);
    text_put_char(to, '-');
    text_put_u64(to, day_of_year - (153 * from_march + 2) / 5 + 1, 2);
    text_put_char(to, 'T');
    text_put_u64(to, now_s % DAY_S / 3600, 2);
    text_put_char(to, ':');
    text_put_u64(to, now_s % 3600 / 60, 2);
    text_put_char(to, ':');
    text_put_u64(to, now_s % 60, 2);
    text_put_char(to, 'Z');
}

static void put_from(const struct conf_delivery_values *values, struct text *to)
{
    text_put(to, values->from);
}

static void put_to(const struct conf_delivery_values *values, struct text *to)
{
    text_put(to, values->to);
}

static void put_user(const struct conf_delivery_values *values, struct text *to)
{
    struct slice domain;

    text_put(to, user_of(values->to, &domain));
}

static void put_domain(const struct conf_delivery_values *values, struct text *to)
{
    struct slice domain;

    (void)user_of(values->to, &domain);
    text_put(to, domain);
}

static void put_envelope_id(const struct conf_delivery_values *values, struct text *to)
{
    text_put(to, values->envelope_id);
}

static void put_body_type(const struct conf_delivery_values *values, struct text *to)
{
    text_put_str(to, values->is_8bit ? "8BITMIME" : "7BIT");
}

static void put_date(const struct conf_delivery_values *values, struct text *to)
{
    put_iso_date(to, values->now_us / SECOND_US);
}

static void put_seconds(const struct conf_delivery_values *values, struct text *to)
{
    text_put_u64(to, values->now_us / SECOND_US, 0);
}

static const struct variable {
    struct slice name;
    void (*put)(const struct conf_delivery_values *values, struct text *to);
} variables[] = {
    {SLICE_LITERAL("from"), put_from},         {SLICE_LITERAL("to"), put_to},
    {SLICE_LITERAL("user"), put_user},         {SLICE_LITERAL("domain"), put_domain},
    {SLICE_LITERAL("envid"), put_envelope_id}, {SLICE_LITERAL("bodytype"), put_body_type},
    {SLICE_LITERAL("isodate"), put_date},      {SLICE_LITERAL("timet"), put_seconds},
};

static const struct variable *find_variable(struct slice name)
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        if (slice_equal_nocase(variables[i].name, name))
            return &variables[i];
    }
    return NULL;
}

static bool is_letter(uint8_t octet)
{
    return (octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z');
}

/* The name at the front of what stands behind a dollar sign. */
static struct slice name_at(struct slice rest)
{
    size_t len = 0;

    while (len < rest.len && is_letter(rest.data[len]))
        len++;
    return slice_of(rest.data, len);
}

const char *conf_delivery_check(const char *text)
{
    struct slice rest = slice_str(text);

    if (rest.len > CONF_DELIVERY_TEXT_MAX)
        return "it is longer than 1023 octets";
    for (;;) {
        rest = slice_after(rest, slice_find(rest, '$'));
        if (rest.len == 0)
            return NULL;
        rest = slice_after(rest, 1);
        if (rest.len > 0 && rest.data[0] == '$')
            rest = slice_after(rest, 1);
        else if (!find_variable(name_at(rest)))
            return "behind $ stands none of from, to, user, domain, envid, bodytype, isodate and "
                   "timet ($$ is a dollar sign)";
    }
}

/* What was put behind `start` becomes a part of a file name. */
static void tame(struct text *to, size_t start)
{
    size_t kept = start;

    for (size_t i = start; i < to->len; i++) {
        char c = to->data[i];

        if (c == '/' || (unsigned char)c < ' ' || c == 0x7f || (c == '.' && kept == start))
            continue;
        to->data[kept++] = c;
    }
    to->len = kept;
}

void conf_delivery_put(struct slice text, const struct conf_delivery_values *values, bool is_path,
                       struct text *to)
{
    while (text.len > 0) {
        size_t plain = slice_find(text, '$');
        size_t start;
        const struct variable *variable;
        struct slice name;

        text_put(to, slice_of(text.data, plain));
        text = slice_after(text, plain);
        if (text.len == 0)
            return;
        text = slice_after(text, 1);
        name = name_at(text);
        variable = find_variable(name);
        if (!variable) {
            text_put_char(to, '$');
            text = slice_after(text, text.len > 0);
            continue;
        }
        start = to->len;
        variable->put(values, to);
        if (is_path)
            tame(to, start);
        text = slice_after(text, name.len);
    }
}
