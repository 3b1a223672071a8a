/* DKIM's canonical forms in any segmentation, the choice of fields, and the text of the field. */
#include "core/base/rng.h"
#include "core/mail/dkim_field.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

struct gathered {
    char octets[8192];
    size_t len;
};

static void gather(void *context, const uint8_t *data, size_t len)
{
    struct gathered *to = context;

    assert_true(to->len + len < sizeof(to->octets));
    memcpy(to->octets + to->len, data, len);
    to->len += len;
    to->octets[to->len] = '\0';
}

/* In pieces of at most step octets; what the sink got is in *ret. */
static uint64_t level(enum dkim_canon canon, bool is_stuffed, uint64_t max, struct slice octets,
                      size_t step, struct gathered *ret)
{
    struct dkim_sink sink = {gather, ret};
    struct dkim_body body;

    *ret = (struct gathered){.len = 0};
    dkim_body_init(&body, canon, is_stuffed, max);
    while (octets.len > 0) {
        size_t part = octets.len < step ? octets.len : step;

        dkim_body_put(&body, octets.data, part, &sink);
        octets = slice_after(octets, part);
    }
    dkim_body_end(&body, &sink);
    return body.octets;
}

static void bodies_are_levelled(void **state)
{
    static const struct {
        const char *body;
        const char *relaxed;
        const char *simple;
    } rows[] = {
        /* RFC 6376 3.4.3, 3.4.4, 3.4.5. */
        {"", "", "\r\n"},
        {"\r\n", "", "\r\n"},
        {"\r\n\r\n\r\n", "", "\r\n"},
        {" \t\r\n\r\n", "", " \t\r\n"},
        {" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n", " C \r\nD \t E\r\n"},
        {"no end", "no end\r\n", "no end\r\n"},
        {"no end  ", "no end\r\n", "no end  \r\n"},
        {"a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n"},
        {"\ta\t\tb \r\n", " a b\r\n", "\ta\t\tb \r\n"},
        {"a\rb\r\n", "a\rb\r\n", "a\rb\r\n"},
        {"a\r", "a\r\r\n", "a\r\r\n"},
        {"a\nb\r\n", "a\nb\r\n", "a\nb\r\n"},
        {"\xc3\xa4 \xff\r\n", "\xc3\xa4 \xff\r\n", "\xc3\xa4 \xff\r\n"},
    };
    struct gathered is;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t step = 1; step < 20; step++) {
            struct slice body = slice_str(rows[i].body);
            uint64_t octets;

            octets = level(DKIM_RELAXED, false, UINT64_MAX, body, step, &is);
            assert_int_equal(octets, is.len);
            assert_string_equal(is.octets, rows[i].relaxed);
            octets = level(DKIM_SIMPLE, false, UINT64_MAX, body, step, &is);
            assert_int_equal(octets, is.len);
            assert_string_equal(is.octets, rows[i].simple);
        }
    }
}

static void doubled_dots_count_once(void **state)
{
    static const char body[] = "..\r\n..a\r\n. b\r\n\r\nc..d\r\n";
    struct gathered is;

    level(DKIM_SIMPLE, true, UINT64_MAX, slice_str(body), 1, &is);
    assert_string_equal(is.octets, ".\r\n.a\r\n b\r\n\r\nc..d\r\n");
    level(DKIM_RELAXED, true, UINT64_MAX, slice_str(body), 3, &is);
    assert_string_equal(is.octets, ".\r\n.a\r\n b\r\n\r\nc..d\r\n");
}

static void a_body_limit_cuts_what_is_hashed(void **state)
{
    struct gathered is;

    for (uint64_t max = 0; max < 12; max++) {
        assert_int_equal(level(DKIM_SIMPLE, false, max, slice_str("ab\r\n\r\ncd\r\n"), 2, &is),
                         max < 10 ? max : 10);
        assert_memory_equal(is.octets, "ab\r\n\r\ncd\r\n", is.len);
    }
}

/* Against the words of the RFC done the slow way, on whole bodies. */
static size_t slow_relaxed(const char *in, size_t len, char *out)
{
    size_t used = 0;

    for (size_t i = 0; i < len; i++) {
        if (in[i] == '\r') {
            while (used > 0 && out[used - 1] == ' ')
                used--;
            out[used++] = '\r';
        } else if (in[i] == ' ' || in[i] == '\t') {
            if (used == 0 || out[used - 1] != ' ')
                out[used++] = ' ';
        } else {
            out[used++] = in[i];
        }
    }
    while (used >= 4 && memcmp(out + used - 4, "\r\n\r\n", 4) == 0)
        used -= 2;
    return used == 2 && out[0] == '\r' ? 0 : used;
}

static void random_bodies_agree_with_the_slow_way(void **state)
{
    static const char *const parts[] = {"a", "bc", " ", "\t", "\r\n", "\r\n", "x y"};
    struct rng rng;

    rng_init(&rng, 6376);
    for (unsigned round = 0; round < 3000; round++) {
        char body[600] = "", should[1200];
        struct gathered is;
        size_t len;

        for (unsigned i = 0, count = (unsigned)rng_below(&rng, 60); i < count; i++)
            strcat(body, parts[rng_below(&rng, sizeof(parts) / sizeof(parts[0]))]);
        strcat(body, "\r\n");
        len = slow_relaxed(body, strlen(body), should);
        level(DKIM_RELAXED, false, UINT64_MAX, slice_str(body), 1 + rng_below(&rng, 9), &is);
        assert_int_equal(is.len, len);
        assert_memory_equal(is.octets, should, len);
    }
}

#define FIELD(name, octets)                                                                        \
    {                                                                                              \
        SLICE_LITERAL(name), SLICE_LITERAL(octets)                                                 \
    }

static const struct dkim_field fields[] = {
    FIELD("Received", "Received: 1\r\n"),
    FIELD("Received", "Received: 2\r\n"),
    FIELD("SUBJECT", "SUBJECT:\t upper \r\n"),
    FIELD("From", "From : a@a.example\r\n"),
    FIELD("subject", "subject: two\r\n\tlines\r\n"),
    FIELD("X-Odd", "X-Odd: :\r\n"),
};
#define FIELD_COUNT ((uint32_t)(sizeof(fields) / sizeof(fields[0])))

static void assert_hashed(const struct dkim_picks *picks, enum dkim_canon canon, const char *should)
{
    struct gathered is = {.len = 0};
    struct dkim_sink sink = {gather, &is};

    dkim_picks_put(picks, fields, canon, &sink);
    assert_string_equal(is.octets, should);
}

static void listed_fields_are_found_from_the_bottom(void **state)
{
    static struct dkim_picks picks;

    assert_true(dkim_pick_listed(fields, FIELD_COUNT, "received, Subject,received,subject,received",
                                 &picks));
    assert_int_equal(picks.count, 5);
    assert_int_equal(picks.at[4].field, DKIM_NO_FIELD);
    assert_hashed(&picks, DKIM_RELAXED,
                  "received:2\r\nsubject:two lines\r\nreceived:1\r\nsubject:upper\r\n");
    assert_hashed(&picks, DKIM_SIMPLE,
                  "Received: 2\r\nsubject: two\r\n\tlines\r\nReceived: 1\r\nSUBJECT:\t upper \r\n");
}

static void usual_fields_are_all_taken_and_from_is_closed(void **state)
{
    static struct dkim_picks picks;

    assert_true(dkim_pick_usual(fields, FIELD_COUNT, "x-odd,X-None", "Subject,Cc", &picks));
    assert_hashed(&picks, DKIM_RELAXED,
                  "from:a@a.example\r\nsubject:two lines\r\nsubject:upper\r\nx-odd::\r\n");
    /* From, From, Cc, Subject three times, x-odd. */
    assert_int_equal(picks.count, 7);
    assert_true(dkim_pick_usual(fields, 0, NULL, NULL, &picks));
    assert_int_equal(picks.count, 1);
}

static struct dkim_signature a_signature(const struct dkim_picks *picks)
{
    return (struct dkim_signature){
        .algorithm = "rsa-sha256",
        .domain = SLICE_LITERAL("a.example"),
        .selector = SLICE_LITERAL("s1"),
        .identity = SLICE_LITERAL("j=o;e@news.a.example"),
        .has_time = true,
        .has_length = true,
        .time_s = 1700000000,
        .expires_s = 1700086400,
        .signature_bytes = 256,
        .picks = picks,
    };
}

static void the_text_is_folded_and_of_one_length(void **state)
{
    static const uint8_t zeros[256];
    static struct dkim_picks picks;
    struct dkim_signature signature;
    char room[2][4096], filled[4096];
    size_t lens[2];

    dkim_pick_usual(fields, FIELD_COUNT, "x-odd", "Subject,To,Cc,Date,Message-ID,Sender,Reply-To",
                    &picks);
    signature = a_signature(&picks);
    assert_null(dkim_signature_check(&signature));
    for (size_t i = 0; i < 2; i++) {
        struct text text = text_in(room[i], sizeof(room[i]));
        size_t line = 0;

        struct dkim_places places;

        /* Once from the start, once filled in later: the same. */
        dkim_signature_open(&signature, zeros, i * 1234567890, &text, &places);
        memcpy(filled, text.data, text.len);
        filled[text.len] = '\0';
        memset(filled + places.length, 'x', 10);
        memset(filled + places.body_hash, 'x', 44);
        dkim_signature_fill(&places, zeros, i * 1234567890, filled);
        assert_memory_equal(filled, text.data, text.len);
        dkim_signature_close(slice_of(zeros, sizeof(zeros)), &text);
        assert_false(text.is_cut);
        lens[i] = text_end(&text);
        for (size_t at = 0; at < lens[i]; at++) {
            line = room[i][at] == '\n' ? 0 : line + 1;
            assert_true(line <= 78);
        }
    }
    assert_int_equal(lens[0], lens[1]);
    assert_non_null(strstr(room[1], "l=1234567890;"));
    assert_non_null(strstr(room[0], "t=1700000000;"));
    assert_non_null(strstr(room[0], "i=j=3Do=3Be@news.a.example;"));
    assert_non_null(strstr(room[0], "\r\n\th=From:From:"));
}

static void what_no_signature_may_say_is_refused(void **state)
{
    static struct dkim_picks picks;
    struct dkim_signature signature;

    dkim_pick_usual(fields, FIELD_COUNT, NULL, NULL, &picks);
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        signature = a_signature(&picks);                                                           \
        signature.field = value;                                                                   \
        assert_non_null(dkim_signature_check(&signature));                                         \
    } while (false)
    REFUSED(domain, SLICE_LITERAL("a.example;x"));
    REFUSED(domain, SLICE_EMPTY);
    REFUSED(domain, SLICE_LITERAL("a..example"));
    REFUSED(selector, SLICE_LITERAL("s 1"));
    REFUSED(identity, SLICE_LITERAL("x@b.example"));
    REFUSED(identity, SLICE_LITERAL("x@xa.example"));
    REFUSED(identity, SLICE_LITERAL("a.example"));
    REFUSED(expires_s, 1700000000);
    REFUSED(time_s, 10000000000);
    REFUSED(signature_bytes, 513);
    REFUSED(query, SLICE_LITERAL("dns\r\n"));
#undef REFUSED
    signature = a_signature(&picks);
    picks.at[0].name = picks.at[1].name = SLICE_LITERAL("To");
    assert_non_null(dkim_signature_check(&signature));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_levelled),
        cmocka_unit_test(doubled_dots_count_once),
        cmocka_unit_test(a_body_limit_cuts_what_is_hashed),
        cmocka_unit_test(random_bodies_agree_with_the_slow_way),
        cmocka_unit_test(listed_fields_are_found_from_the_bottom),
        cmocka_unit_test(usual_fields_are_all_taken_and_from_is_closed),
        cmocka_unit_test(the_text_is_folded_and_of_one_length),
        cmocka_unit_test(what_no_signature_may_say_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
