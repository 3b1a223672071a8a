/* Certificates, authorities, ciphers and versions for injectors; with files of paper. */
#include "core/base/err.h"
#include "tests/unit/core_conf/unit.h"

static unsigned loaded, dropped;
static char passwords[256];
static const uint8_t digest[CONF_DIGEST_BYTES] = {7};

static int load_paper(const char *path, const char *password, bool needs_key, void **ret_loaded,
                      char why[CONF_KEY_WHY_MAX])
{
    size_t len = strlen(passwords);

    snprintf(passwords + len, sizeof(passwords) - len, "%s%s;", password ? password : "-",
             needs_key ? "" : "(no key)");
    if (strstr(path, "bad")) {
        snprintf(why, CONF_KEY_WHY_MAX, "it is bad");
        return E_SYNTAX;
    }
    if (strstr(path, "missing"))
        return E_UNKNOWN;
    *ret_loaded = &loaded;
    loaded++;
    return 0;
}

static int load_trust(const char *path, void **ret_loaded, char why[CONF_KEY_WHY_MAX])
{
    return load_paper(path, "trust", true, ret_loaded, why);
}

static int check_ciphers(const char *ciphers, char why[CONF_KEY_WHY_MAX])
{
    snprintf(why, CONF_KEY_WHY_MAX, "unheard of");
    return strcmp(ciphers, "HIGH") == 0 ? 0 : E_SYNTAX;
}

static const uint8_t *digest_of(const void *certificate)
{
    return digest;
}

static void drop_paper(void *paper)
{
    assert_ptr_equal(paper, &loaded);
    dropped++;
}

static const struct conf_tls_ops paper = {
    load_paper, load_trust, check_ciphers, digest_of, drop_paper, drop_paper,
};

static struct findings findings;

static struct conf *load_as(const char *text, const struct conf_load_options *options)
{
    struct conf *conf = NULL;

    memset(&findings, 0, sizeof(findings));
    loaded = dropped = 0;
    passwords[0] = '\0';
    conf_load_text("test", text, options, collect, &findings, &conf);
    return conf;
}

static struct conf *load_paper_text(const char *text)
{
    return load_as(text, &(const struct conf_load_options){.tls_ops = &paper});
}

static const struct conf_tls_in *tls_at(const struct conf *conf, uint16_t port)
{
    struct ipaddr_port local = {.port = port};

    assert_int_equal(ipaddr_parse(SLICE_LITERAL("127.0.0.1"), &local.ip), 0);
    return conf_tls_in(conf, &local);
}

static void listeners_have_what_the_top_level_has(void **state)
{
    static const char text[] =
        "smtp-server-tls-certificate /c/one \"pass word\"\nsmtp-server-tls-ca-file /c/trust\n"
        "smtp-server-tls-ciphers HIGH\nsmtp-server-tls-allow-tlsv1.1 no\n"
        "smtp-listener 127.0.0.1:25\n"
        "<smtp-listener 127.0.0.1:465>\nimmediate-tls yes\ntls-certificate /c/two\n"
        "tls-allow-tlsv1.2 no\ntls-ciphers \"\"\n</smtp-listener>\n"
        "<smtp-listener 127.0.0.1:587>\ntls-certificate /c/one \"pass word\"\n"
        "tls-ca-file \"\"\n</smtp-listener>\n"
        "<smtp-user u>\npassword x\n</smtp-user>\n";
    struct conf *conf = load_paper_text(text);
    const struct conf_tls_in *plain, *at_once, *other;

    assert_int_equal(findings.errors, 0);
    plain = tls_at(conf, 25);
    assert_string_equal(plain->certificate->path, "/c/one");
    assert_non_null(plain->authorities->loaded);
    assert_string_equal(plain->ciphers, "HIGH");
    assert_int_equal(conf_tls_versions(plain), CONF_TLS_1_2 | CONF_TLS_1_3);
    assert_false(plain->is_immediate);
    at_once = tls_at(conf, 465);
    assert_true(at_once->is_immediate);
    assert_string_equal(at_once->certificate->path, "/c/two");
    assert_ptr_equal(at_once->authorities, plain->authorities);
    assert_string_equal(at_once->ciphers, "HIGH");
    assert_int_equal(conf_tls_versions(at_once), CONF_TLS_1_3);
    other = tls_at(conf, 587);
    assert_ptr_equal(other->certificate, plain->certificate);
    assert_ptr_equal(other->authorities, plain->authorities);
    assert_null(conf_user_of_certificate(conf, SLICE_EMPTY, digest));
    /* Each file once. */
    assert_int_equal(loaded, 3);
    assert_string_equal(passwords, "pass word;trust;-;");
    conf_unref(conf);
    assert_int_equal(dropped, 3);
}

static void what_is_wrong_is_told_with_its_line(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"\nsmtp-server-tls-certificate /c/bad secret\n",
         "error test:2: smtp-server-tls-certificate: /c/bad: it is bad\n"},
        {"smtp-server-tls-ca-file /c/missing\n",
         "error test:1: smtp-server-tls-ca-file: /c/missing: "},
        {"smtp-server-tls-certificate one.pem\n",
         "error test:1: smtp-server-tls-certificate: the file is not an absolute path\n"},
        {"smtp-server-tls-ciphers LOW\n", "error test:1: smtp-server-tls-ciphers: unheard of\n"},
        {"<smtp-listener 127.0.0.1:25>\ntls-certificate /c/bad\n</smtp-listener>\n",
         "error test:2: tls-certificate: /c/bad: it is bad\n"},
        {"<smtp-listener 127.0.0.1:25>\nimmediate-tls yes\n</smtp-listener>\n",
         "error test:1: immediate-tls needs a certificate"},
        {"smtp-server-tls-allow-tlsv1.2 no\nsmtp-server-tls-allow-tlsv1.3 no\n"
         "smtp-server-tls-allow-tlsv1.1 no\n",
         "no version of TLS is left"},
        {"smtp-server-tls-allow-tlsv1.2 no\n", "have a gap"},
        {"smtp-listener 127.0.0.1:25\n<smtp-listener 127.0.0.1:25>\n"
         "tls-certificate /c/one\n</smtp-listener>\n",
         "given twice, with another source or other terms of TLS"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_null(load_paper_text(rows[i].text));
        if (strstr(findings.text, rows[i].why) == NULL)
            fail_msg("%s is not in %s", rows[i].why, findings.text);
        assert_null(strstr(findings.text, "secret"));
        assert_int_equal(loaded, dropped);
    }
}

/* Who only reads the syntax opens nothing; who loads without functions neither. */
static void without_functions_no_file_is_opened(void **state)
{
    static const char text[] = "smtp-server-tls-certificate /c/missing\n";
    struct conf *conf = load_as(text, &(const struct conf_load_options){0});

    assert_null(tls_at(conf, 25)->certificate->loaded);
    conf_unref(conf);
    conf = load_as(text, &(const struct conf_load_options){.tls_ops = &paper, .syntax_only = true});
    assert_non_null(conf);
    assert_int_equal(loaded, 0);
    conf_unref(conf);
}

/* A reload that would change listeners changes none, but what they show. */
static void kept_listeners_have_the_new_certificate(void **state)
{
    struct conf *running =
        load_paper_text("smtp-server-tls-certificate /c/one\nsmtp-listener 127.0.0.1:25\n");
    struct conf *next = NULL;
    const struct conf_load_options options = {.tls_ops = &paper};

    conf_load_text("test",
                   "smtp-server-tls-certificate /c/two\nsmtp-listener 127.0.0.1:26\n"
                   "<smtp-listener 127.0.0.1:27>\ntls-certificate /c/three\n</smtp-listener>\n",
                   &options, collect, &findings, &next);
    conf_keep_running(next, running, "test", collect, &findings);
    conf_unref(running);
    assert_int_equal(conf_global(next)->listener_count, 1);
    assert_string_equal(tls_at(next, 25)->certificate->path, "/c/two");
    conf_unref(next);
    assert_int_equal(loaded, dropped);
}

/* Its clients begin with a handshake, and a greeting in the clear would send them off. */
static void a_listener_that_goes_speaks_tls_first_until_it_is_gone(void **state)
{
    struct conf *running = load_paper_text("<smtp-listener 127.0.0.1:465>\nimmediate-tls yes\n"
                                           "tls-certificate /c/two\n</smtp-listener>\n");
    struct conf *next = NULL;
    const struct conf_load_options options = {.tls_ops = &paper};

    conf_load_text("test", "smtp-server-tls-certificate /c/one\nsmtp-listener 127.0.0.1:25\n",
                   &options, collect, &findings, &next);
    conf_keep_running(next, running, "test", collect, &findings);
    conf_unref(running);
    assert_true(tls_at(next, 465)->is_immediate);
    assert_string_equal(tls_at(next, 465)->certificate->path, "/c/one");
    conf_unref(next);
}

static void secrets_are_not_shown(void **state)
{
    static const struct {
        const char *line, *shown;
    } rows[] = {
        {"  smtp-server-tls-certificate /c/one word", "  smtp-server-tls-certificate"},
        {"\tPassword \"x\"", "\tPassword"},
        {"password", "password"},
        {"tls-certificate", "tls-certificate"},
        {"password-file x", "password-file x"},
        {"smtp-server-tls-ca-file /c/trust", "smtp-server-tls-ca-file /c/trust"},
        {"", ""},
        {"   ", "   "},
        /* Behind a tag, whose end may stand in the line as well. */
        {"<smtp-user panel>password geheim", "<smtp-user panel>password"},
        {"<smtp-user panel> PASSWORD geheim </smtp-user>", "<smtp-user panel> PASSWORD"},
        {"<domain a>auth-username u", "<domain a>auth-username u"},
        /* Characters that the reader takes for blanks, or takes away. */
        {"\u00a0password geheim", "\u00a0password"},
        {"password\u00a0geheim", "password"},
        {"\u200bpassword geheim", "\u200bpassword"},
        {"\ufeffpass\u200bword\u3000geheim", "\ufeffpass\u200bword"},
        {"\u00adpass", "\u00adpass"},
        /* Lines that the reader refuses are shown all the same. */
        {"password=geheim", "password"},
        {"\"password\"geheim", "\"password"},
        {"privacy-policy hmac-sha256 \"SECRET\"", "privacy-policy"},
        {"http-webhook-certificate /c/one word", "http-webhook-certificate"},
        {"http-webhook-extra-headers \"Authorization: word\"", "http-webhook-extra-headers"},
        {"access-token x", "access-token"},
        {"smtp-password x", "smtp-password x"},
        {"passwords x", "passwords x"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(conf_shown_octets(slice_str(rows[i].line)), strlen(rows[i].shown));
}

/* Nobody needs it who does not use it, and who does gets it without a word. */
static void mta_sts_has_the_authorities_of_the_system(void **state)
{
    static const struct {
        const char *text;
        const char *path; /* NULL = none is read */
    } rows[] = {
        {"", NULL},
        {"<domain *>\nuse-mta-sts no\n</domain>\n", NULL},
        {"<domain a>\nuse-mta-sts yes\n</domain>\n", "/etc/ssl/certs/ca-certificates.crt"},
        {"<virtual-mta v>\n<domain a>\nuse-mta-sts yes\n</domain>\n</virtual-mta>\n",
         "/etc/ssl/certs/ca-certificates.crt"},
        {"mta-sts-ca-file /c/trust\n<domain a>\nuse-mta-sts yes\n</domain>\n", "/c/trust"},
    };
    const struct conf_override override = {"a", "*", "use-mta-sts", "yes", "an override", true};
    const struct conf_load_options overridden = {
        .tls_ops = &paper, .overrides = &override, .override_count = 1};
    struct conf *conf;

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct conf_authorities *authorities;

        conf = load_paper_text(rows[i].text);
        assert_non_null(conf);
        authorities = conf_global(conf)->mta_sts_authorities;
        assert_int_equal(loaded, rows[i].path != NULL);
        if (rows[i].path != NULL)
            assert_string_equal(authorities->path, rows[i].path);
        else
            assert_null(authorities);
        conf_unref(conf);
        assert_int_equal(loaded, dropped);
    }
    conf = load_as("", &overridden);
    assert_non_null(conf);
    assert_non_null(conf_global(conf)->mta_sts_authorities);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mta_sts_has_the_authorities_of_the_system),
        cmocka_unit_test(listeners_have_what_the_top_level_has),
        cmocka_unit_test(what_is_wrong_is_told_with_its_line),
        cmocka_unit_test(without_functions_no_file_is_opened),
        cmocka_unit_test(kept_listeners_have_the_new_certificate),
        cmocka_unit_test(a_listener_that_goes_speaks_tls_first_until_it_is_gone),
        cmocka_unit_test(secrets_are_not_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
