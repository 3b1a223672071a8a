/*
 * Addresses: tables of RFC 5321 forms, a public corpus of verdicts that others made, and what must
 * hold for any input.
 */
#include "core/mail/address.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "tests/fuzz/replay.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

#define L10 "abcdefghij"
#define L60 L10 L10 L10 L10 L10 L10
#define L63 L60 "abc"
#define L64 L60 "abcd"

static struct slice host_of(const struct address *address)
{
    return address_host(address);
}

static void assert_slice(struct slice is, const char *should)
{
    if (!slice_equal(is, slice_str(should)))
        print_error("is <%.*s>, should be <%s>\n", (int)is.len, (const char *)is.data, should);
    assert_true(slice_equal(is, slice_str(should)));
}

struct row {
    const char *text;
    int rc;
    const char *local;
    const char *host;
};

static const struct row rows[] = {
    {"a@b.example", 0, "a", "b.example"},
    {"A@B.Example", 0, "A", "b.example"},
    {"first.last+tag@sub.b.example", 0, "first.last+tag", "sub.b.example"},
    {"!#$%&'*+-/=?^_`{|}~@b.example", 0, "!#$%&'*+-/=?^_`{|}~", "b.example"},
    {"a@localhost", 0, "a", "localhost"},
    {"a@xn--bcher-kva.example", 0, "a", "xn--bcher-kva.example"},
    {"a@1and1.com", 0, "a", "1and1.com"},
    {"a@123.example", 0, "a", "123.example"},
    {"\"\"@b.example", 0, "\"\"", "b.example"},
    {"\"a b\"@b.example", 0, "\"a b\"", "b.example"},
    {"\"a\\\"b\"@b.example", 0, "\"a\\\"b\"", "b.example"},
    {"\"<>,;:()[]\"@b.example", 0, "\"<>,;:()[]\"", "b.example"},
    {"a@[192.0.2.1]", 0, "a", "[192.0.2.1]"},
    {"a@[IPv6:2001:DB8::1]", 0, "a", "[2001:db8::1]"},
    {"a@[ipv6:2001:db8::1]", 0, "a", "[2001:db8::1]"},
    {"a@[IPv6:::ffff:127.0.0.1]", 0, "a", "[127.0.0.1]"},
    {L64 "@b.example", 0, L64, "b.example"},
    {"a@" L63 ".example", 0, "a", L63 ".example"},

    {"", E_SYNTAX, NULL, NULL},
    {"a", E_SYNTAX, NULL, NULL},
    {"@", E_SYNTAX, NULL, NULL},
    {"a@", E_SYNTAX, NULL, NULL},
    {"@b.example", E_SYNTAX, NULL, NULL},
    {".a@b.example", E_SYNTAX, NULL, NULL},
    {"a.@b.example", E_SYNTAX, NULL, NULL},
    {"a..b@b.example", E_SYNTAX, NULL, NULL},
    {"a b@b.example", E_SYNTAX, NULL, NULL},
    {" a@b.example", E_SYNTAX, NULL, NULL},
    {"a@b.example ", E_SYNTAX, NULL, NULL},
    {"a@b@c.example", E_SYNTAX, NULL, NULL},
    {"a@.example", E_SYNTAX, NULL, NULL},
    {"a@b.example.", E_SYNTAX, NULL, NULL},
    {"a@b..example", E_SYNTAX, NULL, NULL},
    {"a@-b.example", E_SYNTAX, NULL, NULL},
    {"a@b-.example", E_SYNTAX, NULL, NULL},
    {"a@b_c.example", E_SYNTAX, NULL, NULL},
    {"a@127.0.0.1", E_SYNTAX, NULL, NULL},
    {"a@0x7f.1", E_SYNTAX, NULL, NULL},
    {"a@b.123", E_SYNTAX, NULL, NULL},
    {"a@2130706433", E_SYNTAX, NULL, NULL},
    {"a(comment)@b.example", E_SYNTAX, NULL, NULL},
    {"\"a\"b@b.example", E_SYNTAX, NULL, NULL},
    {"\"a@b.example", E_SYNTAX, NULL, NULL},
    {"\"a\\\"@b.example", E_SYNTAX, NULL, NULL},
    {"\"a\tb\"@b.example", E_SYNTAX, NULL, NULL},
    {"\"a\\\tb\"@b.example", E_SYNTAX, NULL, NULL},
    {"a@[]", E_SYNTAX, NULL, NULL},
    {"a@[192.0.2.1", E_SYNTAX, NULL, NULL},
    {"a@[192.0.2.256]", E_SYNTAX, NULL, NULL},
    {"a@[192.0.2]", E_SYNTAX, NULL, NULL},
    {"a@[2001:db8::1]", E_SYNTAX, NULL, NULL},
    {"a@[IPv6:192.0.2.1]", E_SYNTAX, NULL, NULL},
    {"a@[tag:content]", E_SYNTAX, NULL, NULL},
    {"a@[192.0.2.1]x", E_SYNTAX, NULL, NULL},
    {"a@[192.0.2.1].example", E_SYNTAX, NULL, NULL},
    {"postmaster", E_SYNTAX, NULL, NULL},
    {L64 "x@b.example", E_TOO_LONG, NULL, NULL},
    {"a@" L64 ".example", E_TOO_LONG, NULL, NULL},
    {"a@" L63 "." L63 "." L63 "." L63 ".example", E_TOO_LONG, NULL, NULL},
    {"\xc3\xa9@b.example", E_REFUSED, NULL, NULL},
    {"\"\xc3\xa9\"@b.example", E_REFUSED, NULL, NULL},
    {"a@b\xc3\xbc.example", E_REFUSED, NULL, NULL},
};

static void addresses_of_the_table(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct address address;
        int rc = address_parse(slice_str(rows[i].text), 0, &address);

        if (rc != rows[i].rc)
            print_error("%s: %d, should be %d\n", rows[i].text, rc, rows[i].rc);
        assert_int_equal(rc, rows[i].rc);
        if (rc < 0)
            continue;
        assert_slice(address.text, rows[i].text);
        assert_slice(address.local, rows[i].local);
        assert_slice(host_of(&address), rows[i].host);
        assert_false(address.is_utf8);
    }
}

/* Where it is allowed, as long as the path allows; quotes are for short ones. */
static void a_local_part_may_be_long(void **state)
{
    struct address address;
    size_t used = 0;

    assert_int_equal(
        address_parse(slice_str(L64 "x@b.example"), ADDRESS_ALLOW_LONG_LOCAL, &address), 0);
    assert_slice(address.local, L64 "x");
    assert_int_equal(address_parse_path(slice_str("<" L64 "." L64 "." L64 "@b.example>"),
                                        ADDRESS_ALLOW_LONG_LOCAL, &address, &used),
                     0);
    assert_slice(host_of(&address), "b.example");
    assert_int_equal(address_parse(slice_str(L64 "." L64 "." L64 "." L64 "@b.example"),
                                   ADDRESS_ALLOW_LONG_LOCAL, &address),
                     E_TOO_LONG);
    assert_int_equal(
        address_parse(slice_str("\"" L64 "\"@b.example"), ADDRESS_ALLOW_LONG_LOCAL, &address),
        E_TOO_LONG);
}

/* The whole path may have 256 octets, the mailbox in it 254. */
static void a_path_has_256_octets_at_most(void **state)
{
    char text[400];
    struct address address;
    size_t used = 0;

    for (unsigned domain = 180; domain < 200; domain++) {
        int len;

        memset(text, 0, sizeof(text));
        len = snprintf(text, sizeof(text), "<" L64 "@" L63 "." L63 ".");
        memset(text + len, 'd', domain - 128);
        if (domain - 128 > 63)
            text[len + 40] = '.';
        strcat(text, ">");
        assert_int_equal(address_parse_path(slice_str(text), 0, &address, &used),
                         strlen(text) <= ADDRESS_PATH_MAX ? 0 : E_TOO_LONG);
    }
}

static const struct {
    const char *text;
    unsigned flags;
    int rc;
    size_t used;
    const char *wire;
} paths[] = {
    {"<a@b.example>", 0, 0, 13, "a@b.example"},
    {"<a@b.example> SIZE=1", 0, 0, 13, "a@b.example"},
    {"<\"a>b\"@c.example>", 0, 0, 17, "\"a>b\"@c.example"},
    {"<>", ADDRESS_ALLOW_NULL, 0, 2, ""},
    {"<>", 0, E_SYNTAX, 0, NULL},
    {"<Postmaster>", ADDRESS_ALLOW_POSTMASTER, 0, 12, "Postmaster"},
    {"<Postmaster>", 0, E_SYNTAX, 0, NULL},
    {"<webmaster>", ADDRESS_ALLOW_POSTMASTER, E_SYNTAX, 0, NULL},
    {"<@x.example:a@b.example>", 0, 0, 24, "a@b.example"},
    {"<@x.example,@y.example:a@b.example>", 0, 0, 35, "a@b.example"},
    {"<@x.example:>", ADDRESS_ALLOW_NULL, E_SYNTAX, 0, NULL},
    {"<@x.example a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"<@x.example,a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"<@x.example@y.example:a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"<@:a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"<@-x:a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"<@[192.0.2.1]:a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"<a@b.example", 0, E_SYNTAX, 0, NULL},
    {"a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"a@b.example", 0, E_SYNTAX, 0, NULL},
    {"< a@b.example>", 0, E_SYNTAX, 0, NULL},
    {"<a@b.example >", 0, E_SYNTAX, 0, NULL},
    {"<<a@b.example>>", 0, E_SYNTAX, 0, NULL},
    {"<", 0, E_SYNTAX, 0, NULL},
    {"", 0, E_SYNTAX, 0, NULL},
};

static void paths_of_the_table(void **state)
{
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct address address;
        size_t used = 0;
        int rc = address_parse_path(slice_str(paths[i].text), paths[i].flags, &address, &used);

        if (rc != paths[i].rc)
            print_error("%s: %d, should be %d\n", paths[i].text, rc, paths[i].rc);
        assert_int_equal(rc, paths[i].rc);
        if (rc < 0)
            continue;
        assert_int_equal(used, paths[i].used);
        assert_slice(address.text, paths[i].wire);
    }
}

/* Whatever looks like another address inside of a local part decides nothing. */
static void a17_the_parsed_domain_decides_routing_and_wire(void **state)
{
    static const struct {
        const char *text;
        const char *host;
    } table[] = {
        {"\"x@int.example\"@ext.example", "ext.example"},
        {"\"x@int.example> \"@ext.example", "ext.example"},
        {"\"@int.example:x\"@ext.example", "ext.example"},
        {"\"x\\\"@int.example\"@ext.example", "ext.example"},
        {"\"\\\\\"@ext.example", "ext.example"},
        {"x%int.example@ext.example", "ext.example"},
        {"int.example!x@ext.example", "ext.example"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct address address;

        assert_int_equal(address_parse(slice_str(table[i].text), 0, &address), 0);
        assert_slice(address.text, table[i].text);
        assert_slice(host_of(&address), table[i].host);
    }
}

static const struct row utf8_rows[] = {
    {"\xc3\xa9@b.example", 0, "\xc3\xa9", "b.example"},
    {"\"\xc3\xa9 \"@b.example", 0, "\"\xc3\xa9 \"", "b.example"},
    {"a@b\xc3\xbc"
     "cher.example",
     0, "a", "xn--bcher-kva.example"},
    {"a@B\xc3\xbc"
     "cher.Example",
     0, "a", "xn--bcher-kva.example"},
    {"a@b\xc3\x9c"
     "cher.example",
     0, "a", "xn--bcher-kva.example"},
    {"\xf0\x9f\x98\x80@b.example", 0, "\xf0\x9f\x98\x80", "b.example"},
    /* Not the shortest form, a surrogate, too high, cut off, a lone continuation, a C1 control. */
    {"\xc0\x80@b.example", E_SYNTAX, NULL, NULL},
    {"\xe0\x80\xaf@b.example", E_SYNTAX, NULL, NULL},
    {"\xed\xa0\x80@b.example", E_SYNTAX, NULL, NULL},
    {"\xf4\x90\x80\x80@b.example", E_SYNTAX, NULL, NULL},
    {"\xf8\x88\x80\x80\x80@b.example", E_SYNTAX, NULL, NULL},
    {"\xc3@b.example", E_SYNTAX, NULL, NULL},
    {"\xa9@b.example", E_SYNTAX, NULL, NULL},
    {"\xc2\x85@b.example", E_SYNTAX, NULL, NULL},
    {"a@\xc3.example", E_SYNTAX, NULL, NULL},
    /* Other characters that IDNA maps to a full stop, a slash or an at sign make no labels. */
    {"a@b\xe3\x80\x82"
     "c.example",
     E_SYNTAX, NULL, NULL},
    {"a@b\xef\xbc\x8e"
     "c.example",
     E_SYNTAX, NULL, NULL},
    {"a@b\xef\xbc\x8f"
     "c.example",
     E_SYNTAX, NULL, NULL},
    {"a@b\xef\xbc\xa0"
     "c.example",
     E_SYNTAX, NULL, NULL},
    {"a@\xe2\x80\x8b.example", E_SYNTAX, NULL, NULL},
};

static void utf8_addresses_of_the_table(void **state)
{
    for (size_t i = 0; i < sizeof(utf8_rows) / sizeof(utf8_rows[0]); i++) {
        struct address address;
        int rc = address_parse(slice_str(utf8_rows[i].text), ADDRESS_ALLOW_UTF8, &address);

        if (rc != utf8_rows[i].rc)
            print_error("row %zu: %d, should be %d\n", i, rc, utf8_rows[i].rc);
        assert_int_equal(rc, utf8_rows[i].rc);
        if (rc < 0)
            continue;
        assert_slice(address.text, utf8_rows[i].text);
        assert_slice(address.local, utf8_rows[i].local);
        assert_slice(host_of(&address), utf8_rows[i].host);
        assert_true(address.is_utf8);
    }
}

static void a_domain_on_its_own(void **state)
{
    char host[ADDRESS_HOST_MAX + 1];

    assert_int_equal(address_domain_parse(SLICE_LITERAL("Mail.Example"), 0, host), 12);
    assert_string_equal(host, "mail.example");
    assert_int_equal(address_domain_parse(SLICE_LITERAL("[192.0.2.1]"), 0, host), 11);
    assert_string_equal(host, "[192.0.2.1]");
    assert_int_equal(address_domain_parse(SLICE_LITERAL(""), 0, host), E_SYNTAX);
    assert_int_equal(address_domain_parse(SLICE_LITERAL("a b"), 0, host), E_SYNTAX);
    assert_int_equal(address_domain_parse(SLICE_LITERAL("a@b"), 0, host), E_SYNTAX);
    assert_int_equal(address_domain_parse(SLICE_LITERAL("a.example>"), 0, host), E_SYNTAX);
}

/* ---- The public corpus ----------------------------------------------------------------------- */

/* Undoes \\ \t \r \n \xNN. */
static size_t unescape(char *field)
{
    char *to = field;

    for (const char *from = field; *from != '\0';) {
        unsigned value = 0;

        if (*from != '\\') {
            *to++ = *from++;
            continue;
        }
        switch (from[1]) {
        case 't':
            *to++ = '\t';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case 'n':
            *to++ = '\n';
            break;
        case 'x':
            assert_int_equal(sscanf(from + 2, "%2x", &value), 1);
            *to++ = (char)value;
            from += 2;
            break;
        default:
            *to++ = from[1];
        }
        from += 2;
    }
    return (size_t)(to - field);
}

static void corpus_row(const char *id, struct slice text, const char *verdict)
{
    size_t at = text.len;
    uint8_t *path = malloc(text.len + 2);
    struct address bare;
    struct address bracketed;
    size_t used = 0;
    bool taken = address_parse(text, ADDRESS_ALLOW_UTF8, &bare) == 0;

    path[0] = '<';
    memcpy(path + 1, text.data, text.len);
    path[text.len + 1] = '>';
    assert_int_equal(address_parse_path(slice_of(path, text.len + 2), ADDRESS_ALLOW_UTF8,
                                        &bracketed, &used) == 0 &&
                         used == text.len + 2,
                     taken);
    if ((strcmp(verdict, "accept") == 0 && !taken) || (strcmp(verdict, "reject") == 0 && taken))
        fail_msg("%s should be: %s", id, verdict);
    if (taken) {
        /* All accepted rows of this corpus have their domain behind the last '@'. */
        while (text.data[at - 1] != '@')
            at--;
        assert_true(slice_equal(bare.text, text) && slice_equal(bracketed.text, text));
        assert_true(slice_equal(bare.domain, slice_after(text, at)));
        if (bare.literal.family == IPADDR_NONE)
            assert_true(slice_equal_nocase(host_of(&bare), slice_after(text, at)));
    }
    free(path);
}

static void isemail_corpus(void **state)
{
    char line[2048];
    unsigned count = 0;
    FILE *file = fopen(ISEMAIL_CORPUS, "r");

    if (file == NULL) {
        print_message("SKIPPED: no corpus of addresses at %s\n", ISEMAIL_CORPUS);
        skip();
    }
    assert_non_null(fgets(line, sizeof(line), file));
    while (fgets(line, sizeof(line), file) != NULL) {
        char *rest = line;
        const char *id = strsep(&rest, "\t");
        char *address = strsep(&rest, "\t");
        const char *verdict = NULL;
        size_t len = unescape(address);

        line[strcspn(line, "\n")] = '\0';
        strsep(&rest, "\t");
        strsep(&rest, "\t");
        verdict = strsep(&rest, "\n");
        assert_non_null(verdict);
        corpus_row(id, slice_of(address, len), verdict);
        count++;
    }
    fclose(file);
    assert_true(count > 50);
}

/* ---- Any input ------------------------------------------------------------------------------- */

static void random_text_never_breaks_the_rules_of_the_fuzz_target(void **state)
{
    static const char *const parts[] = {"a",
                                        "b.c",
                                        "@",
                                        ".",
                                        "\"",
                                        "\\",
                                        "<",
                                        ">",
                                        ":",
                                        ",",
                                        "[",
                                        "]",
                                        "IPv6:",
                                        "::1",
                                        " ",
                                        "example",
                                        "192.0.2.1",
                                        "-",
                                        "xn--",
                                        "\xc3\xbc",
                                        "\xe3\x80\x82",
                                        "postmaster",
                                        "\x7f",
                                        "\xff",
                                        "@x.example:",
                                        "0123456789012345678901234567890123456789"};
    struct rng rng;

    rng_init(&rng, 17);
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t text[512];
        uint8_t *exact;
        size_t len = 1;

        text[0] = (uint8_t)rng_below(&rng, 16);
        for (uint64_t words = rng_below(&rng, 9); words > 0; words--) {
            const char *part = parts[rng_below(&rng, sizeof(parts) / sizeof(parts[0]))];

            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        exact = malloc(len);
        memcpy(exact, text, len);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
}

static void fuzz_corpus_is_replayed(void **state)
{
    assert_true(replay_corpus(ADDRESS_CORPUS) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_of_the_table),
        cmocka_unit_test(a_local_part_may_be_long),
        cmocka_unit_test(a_path_has_256_octets_at_most),
        cmocka_unit_test(paths_of_the_table),
        cmocka_unit_test(a17_the_parsed_domain_decides_routing_and_wire),
        cmocka_unit_test(utf8_addresses_of_the_table),
        cmocka_unit_test(a_domain_on_its_own),
        cmocka_unit_test(isemail_corpus),
        cmocka_unit_test(random_text_never_breaks_the_rules_of_the_fuzz_target),
        cmocka_unit_test(fuzz_corpus_is_replayed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
