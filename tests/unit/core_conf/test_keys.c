/* domain-key and dkim-*: whose key it is, what queues say, what is refused; with keys of paper. */
#include "core/base/err.h"
#include "tests/unit/core_conf/unit.h"

#include <stdio.h>
#include <string.h>

static unsigned loaded, dropped;
static char papers[256]; /* keys, by the last letter of their file's name */

/* The algorithm stands in the name. */
static int load_paper(const char *path, void **ret_key, uint32_t *ret_algorithm,
                      char why[CONF_KEY_WHY_MAX])
{
    if (strstr(path, "bad")) {
        snprintf(why, CONF_KEY_WHY_MAX, "it is bad");
        return E_SYNTAX;
    }
    *ret_key = &papers[(unsigned char)path[strlen(path) - 1]];
    *ret_algorithm = strstr(path, "ed") ? CONF_DKIM_ED25519 : CONF_DKIM_RSA_SHA256;
    loaded++;
    return 0;
}

static void drop_paper(void *key)
{
    assert_in_range((char *)key - papers, 0, 255);
    dropped++;
}

static void *share_paper(void *key)
{
    loaded++;
    return key;
}

static uint64_t id_of_paper(const void *key)
{
    return 1 + (uint64_t)((const char *)key - papers);
}

static const struct conf_key_ops paper = {load_paper, drop_paper, share_paper, id_of_paper};

struct told {
    char text[4096];
};

static void note(void *context, enum conf_severity severity, const char *file, unsigned line,
                 const char *text)
{
    struct told *told = context;
    size_t len = strlen(told->text);

    if (severity == CONF_ERROR)
        snprintf(told->text + len, sizeof(told->text) - len, "%u: %s\n", line, text);
}

static struct conf *load_text(const char *text, struct told *told)
{
    const struct conf_load_options options = {.key_ops = &paper};
    struct conf *conf = NULL;

    told->text[0] = '\0';
    conf_load_text("test", text, &options, note, told, &conf);
    return conf;
}

static const char *selector_of(const struct conf *conf, const char *vmta, const char *domain,
                               uint32_t algorithm, const char *selector)
{
    const struct conf_domain_key *key =
        conf_domain_key(conf, conf_vmta_named(conf, slice_str(vmta))->id, slice_str(domain),
                        algorithm, slice_str(selector));

    return key ? key->selector : "none";
}

static void the_nearest_key_is_taken(void **state)
{
    static const char text[] = "domain-key any,*,/k/1\n"
                               "domain-key up,Shop.Example,/k/2\n"
                               "domain-key down , news.shop.example , /k/2\n"
                               "domain-key up2,shop.example,/k/2\n"
                               "domain-key e,shop.example,/k/ed\n"
                               "<virtual-mta v>\nsmtp-source-host 127.0.0.1 a.b\n"
                               "domain-key mine,shop.example,/k/3\n</virtual-mta>\n"
                               "<virtual-mta w>\nsmtp-source-host 127.0.0.1 a.b\n</virtual-mta>\n"
                               "<virtual-mta-pool p>\nvirtual-mta v\nvirtual-mta w\n"
                               "domain-key ours,*,/k/4\n</virtual-mta-pool>\n";
    static const struct {
        const char *vmta, *domain;
        uint32_t algorithm;
        const char *selector, *wanted;
    } rows[] = {
        {"{default}", "else.example", CONF_DKIM_RSA_SHA256, "", "any"},
        {"{default}", "shop.example", CONF_DKIM_RSA_SHA256, "", "up"},
        {"{default}", "a.shop.example", CONF_DKIM_RSA_SHA256, "", "up"},
        {"{default}", "workshop.example", CONF_DKIM_RSA_SHA256, "", "any"},
        {"{default}", "example", CONF_DKIM_RSA_SHA256, "", "any"},
        {"{default}", "x.news.shop.example", CONF_DKIM_RSA_SHA256, "", "down"},
        {"{default}", "shop.example", CONF_DKIM_RSA_SHA256, "UP2", "up2"},
        {"{default}", "shop.example", CONF_DKIM_RSA_SHA256, "other", "none"},
        {"{default}", "shop.example", CONF_DKIM_ED25519, "", "e"},
        {"{default}", "else.example", CONF_DKIM_ED25519, "", "none"},
        {"v", "news.shop.example", CONF_DKIM_RSA_SHA256, "", "mine"},
        {"v", "else.example", CONF_DKIM_RSA_SHA256, "", "ours"},
        {"v", "shop.example", CONF_DKIM_ED25519, "", "e"},
        {"w", "shop.example", CONF_DKIM_RSA_SHA256, "", "ours"},
    };
    struct told told;
    struct conf *conf;

    loaded = dropped = 0;
    conf = load_text(text, &told);
    assert_string_equal(told.text, "");
    assert_non_null(conf);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(
            selector_of(conf, rows[i].vmta, rows[i].domain, rows[i].algorithm, rows[i].selector),
            rows[i].wanted);
    assert_false(conf_signs(conf));
    /* A file that several lines name is read once. */
    assert_int_equal(loaded, 5);
    conf_unref(conf);
    assert_int_equal(dropped, 5);
}

/* What was signed for the mail of a section leaves by its cold virtual MTA too. */
static void made_cold_ones_have_the_keys_of_their_section(void **state)
{
    static const char text[] = "<virtual-mta v>\nsmtp-source-host 127.0.0.1 a.b\n"
                               "auto-cold-virtual-mta 127.0.0.2 a.b\n"
                               "domain-key mine,shop.example,/k/3\n</virtual-mta>\n"
                               "<virtual-mta w>\nsmtp-source-host 127.0.0.1 a.b\n</virtual-mta>\n"
                               "<virtual-mta-pool p>\nvirtual-mta v\nvirtual-mta w\n"
                               "auto-cold-virtual-mta 127.0.0.3 a.b\n"
                               "domain-key ours,*,/k/4\n</virtual-mta-pool>\n";
    struct told told;
    struct conf *conf = load_text(text, &told);

    assert_string_equal(told.text, "");
    assert_non_null(conf);
    assert_string_equal(selector_of(conf, "v-cold", "shop.example", CONF_DKIM_RSA_SHA256, ""),
                        "mine");
    assert_string_equal(selector_of(conf, "v-cold", "else.example", CONF_DKIM_RSA_SHA256, ""),
                        "ours");
    assert_string_equal(selector_of(conf, "p-cold", "else.example", CONF_DKIM_RSA_SHA256, ""),
                        "ours");
    assert_int_equal(conf_keys_hash(conf, conf_vmta_named(conf, SLICE_LITERAL("v-cold"))->id),
                     conf_keys_hash(conf, conf_vmta_named(conf, SLICE_LITERAL("v"))->id));
    conf_unref(conf);
}

static void queues_say_how(void **state)
{
    static const char text[] =
        "<domain *>\ndkim-sign yes\nsecond-dkim-algorithm ed25519-sha256\n"
        "dkim-headers A, B\n</domain>\n"
        "<domain a.example>\ndkim-sign no\nsecond-dkim-sign if-x-dkim-options-present\n"
        "dkim-body-canon simple\ndkim-expire-after 1d\ndkim-missing-key reject\n</domain>\n";
    struct conf_signing signing;
    struct conf_queue queue;
    struct told told;
    struct conf *conf = load_text(text, &told);

    assert_true(conf_signs(conf));
    conf_signing(conf, SLICE_LITERAL("b.example"), 0, &signing);
    assert_int_equal(signing.each[0].sign, CONF_DKIM_YES);
    assert_int_equal(signing.each[1].sign, CONF_DKIM_NO);
    assert_int_equal(signing.each[1].algorithm, CONF_DKIM_ED25519);
    assert_int_equal(signing.missing_key, CONF_DKIM_DEFER);
    assert_true(signing.each[0].expire_after_ms == CONF_UNLIMITED);
    assert_string_equal(signing.each[0].identity, "sender-or-from");
    assert_null(signing.each[0].fallback);
    conf_signing(conf, SLICE_LITERAL("a.example"), 0, &signing);
    assert_int_equal(signing.each[0].sign, CONF_DKIM_NO);
    assert_int_equal(signing.each[0].body_canon, 1);
    assert_int_equal(signing.each[0].header_canon, 0);
    assert_int_equal(signing.each[1].sign, CONF_DKIM_IF_OPTIONS);
    assert_int_equal(signing.each[0].expire_after_ms, 86400000);
    assert_int_equal(signing.missing_key, CONF_DKIM_REJECT);
    /* The same by the longer way. */
    conf_queue(conf, SLICE_LITERAL("a.example"), 0, &queue);
    assert_memory_equal(&queue.signing, &signing, sizeof(signing));
    conf_unref(conf);
}

static void what_cannot_sign_is_refused(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } rows[] = {
        {"domain-key s,a.example\n", "1: domain-key wants SELECTOR,DOMAIN,FILE"},
        {"domain-key s,a.example,/k,x\n", "1: domain-key wants"},
        {"domain-key s,a.example,k\n", "1: domain-key wants"},
        {"domain-key s;p=,a.example,/k\n", "1: domain-key wants"},
        {"domain-key s,a.*,/k\n", "1: domain-key wants"},
        {"domain-key s,*,/k/bad\n", "1: domain-key: /k/bad: it is bad"},
        {"<domain *>\ndkim-algorithm rsa-sha1\n</domain>\n", "2: dkim-algorithm: rsa-sha1 is not"},
        {"<domain *>\nsecond-dkim-algorithm rsa-sha1\n</domain>\n",
         "2: second-dkim-algorithm: rsa"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct told told;

        assert_null(load_text(rows[i].text, &told));
        assert_non_null(strstr(told.text, rows[i].why));
    }
}

/* ---- Rotation -------------------------------------------------------------------------------- */

static bool is_seen(void *context, const struct conf_domain_key *key)
{
    return context != NULL && strcmp(key->selector, context) == 0;
}

/* The text as a reload of another: how many keys wait. */
static struct conf *reload_text(const char *text, struct conf *running, const char *seen,
                                uint32_t wanted_held)
{
    struct told told;
    struct conf *conf = load_text(text, &told);

    assert_string_equal(told.text, "");
    assert_int_equal(conf_keys_hold(conf, running, is_seen, (void *)(uintptr_t)seen), wanted_held);
    conf_unref(running);
    return conf;
}

#define SELECTOR(conf, domain, selector)                                                           \
    selector_of(conf, "{default}", domain, CONF_DKIM_RSA_SHA256, selector)

static void a_new_key_waits_for_its_record(void **state)
{
    struct told told;
    struct conf *conf;
    uint64_t hash;

    loaded = dropped = 0;
    conf = load_text("domain-key s1,a.test,/k/1\ndomain-key o,b.test,/k/7\n", &told);
    hash = conf_keys_hash(conf, CONF_VMTA_DEFAULT);
    conf = reload_text("domain-key s1,a.test,/k/1\ndomain-key o,b.test,/k/7\n", conf, NULL, 0);
    assert_int_equal(conf_keys_hash(conf, CONF_VMTA_DEFAULT), hash);
    conf = reload_text("domain-key s2,a.test,/k/2\ndomain-key o,b.test,/k/7\n", conf, NULL, 1);
    assert_string_equal(SELECTOR(conf, "a.test", ""), "s1");
    assert_string_equal(SELECTOR(conf, "x.a.test", ""), "s1");
    assert_string_equal(SELECTOR(conf, "b.test", ""), "o");
    assert_true(conf_keys_hash(conf, CONF_VMTA_DEFAULT) != hash);
    /* Who asks for one by its name gets it. */
    assert_string_equal(SELECTOR(conf, "a.test", "s2"), "s2");
    assert_string_equal(SELECTOR(conf, "a.test", "S1"), "s1");
    assert_string_equal(SELECTOR(conf, "a.test", "s3"), "none");
    /* Another one before that: the first one signs on. */
    conf = reload_text("domain-key s3,a.test,/k/3\n", conf, "s2", 1);
    assert_string_equal(SELECTOR(conf, "a.test", ""), "s1");
    conf = reload_text("domain-key s3,a.test,/k/3\n", conf, "s3", 0);
    assert_string_equal(SELECTOR(conf, "a.test", ""), "s3");
    conf = reload_text("domain-key s3,a.test,/k/3\n", conf, NULL, 0);
    assert_string_equal(SELECTOR(conf, "a.test", ""), "s3");
    /* Another key in the same record. */
    conf = reload_text("domain-key s3,a.test,/k/4\n", conf, NULL, 1);
    assert_ptr_equal(conf_domain_key(conf, CONF_VMTA_DEFAULT, SLICE_LITERAL("a.test"),
                                     CONF_DKIM_RSA_SHA256, SLICE_EMPTY)
                         ->key,
                     &papers['3']);
    conf = reload_text("dkim-wait-for-record no\ndomain-key s4,a.test,/k/4\n", conf, NULL, 0);
    assert_string_equal(SELECTOR(conf, "a.test", ""), "s4");
    conf_unref(conf);
    assert_int_equal(dropped, loaded);
}

static void what_signed_before_is_looked_for_where_it_stood(void **state)
{
    static const char *const texts[] = {
        "domain-key t1,a.test,/k/1\n"
        "<virtual-mta v>\nsmtp-source-host 127.0.0.1 a.b\ndomain-key v1,a.test,/k/3\n"
        "</virtual-mta>\n<virtual-mta w>\nsmtp-source-host 127.0.0.1 a.b\n</virtual-mta>\n"
        "<virtual-mta-pool p>\nvirtual-mta w\ndomain-key p1,*,/k/5\n</virtual-mta-pool>\n",
        "domain-key t2,a.test,/k/2\ndomain-key t9,new.test,/k/2\n"
        "<virtual-mta v>\nsmtp-source-host 127.0.0.1 a.b\ndomain-key v2,a.test,/k/4\n"
        "domain-key v0,a.test,/k/0\n"
        "</virtual-mta>\n<virtual-mta w>\nsmtp-source-host 127.0.0.1 a.b\n</virtual-mta>\n"
        "<virtual-mta-pool p>\nvirtual-mta w\ndomain-key p2,a.test,/k/6\n"
        "domain-key p3,*,/k/6\n</virtual-mta-pool>\n"};
    struct told told;
    struct conf *conf = load_text(texts[0], &told);

    conf = reload_text(texts[1], conf, NULL, 3);
    assert_string_equal(SELECTOR(conf, "a.test", ""), "t1");
    assert_string_equal(SELECTOR(conf, "new.test", ""), "t9");
    assert_string_equal(selector_of(conf, "v", "a.test", CONF_DKIM_RSA_SHA256, ""), "v1");
    assert_string_equal(selector_of(conf, "w", "a.test", CONF_DKIM_RSA_SHA256, ""), "p1");
    assert_string_equal(selector_of(conf, "w", "else.test", CONF_DKIM_RSA_SHA256, ""), "p3");
    conf_unref(conf);
}

static void places_are_told(void **state)
{
    struct told told;
    struct conf *conf =
        load_text("domain-key t,a.test,/k/1\ndomain-key u,a.test,/k/1\n"
                  "<virtual-mta v>\nsmtp-source-host 127.0.0.1 a.b\ndomain-key v,a.test,/k/3\n"
                  "</virtual-mta>\n",
                  &told);
    const struct conf_key_place *place = conf_key_places(conf);

    assert_string_equal(place->kind, "");
    assert_int_equal(place->keys.count, 2);
    assert_true(conf_key_is_first(place, &place->keys.items[0]));
    assert_false(conf_key_is_first(place, &place->keys.items[1]));
    place = place->next;
    assert_string_equal(place->kind, "virtual-mta");
    assert_string_equal(place->name, "v");
    assert_null(place->next);
    conf_unref(conf);
}

/* Each domain finds its own among many, the first of them, and what is below it the nearest one. */
static void many_keys_are_found(void **state)
{
    static char text[400000];
    size_t len = 0;
    struct told told;
    struct conf *conf;

    for (unsigned i = 0; i < 3000; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                "domain-key a%u,d%u.test,/k/1\ndomain-key b%u,d%u.test,/k/2\n"
                                "domain-key e%u,d%u.test,/k/ed\n",
                                i, i, i, i, i, i);
    snprintf(text + len, sizeof(text) - len, "domain-key x,test,/k/3\n");
    conf = load_text(text, &told);
    assert_non_null(conf);
    for (unsigned i = 0; i < 3000; i++) {
        char domain[32], first[16], second[16], ed[16];

        snprintf(domain, sizeof(domain), "mail.d%u.test", i);
        snprintf(first, sizeof(first), "a%u", i);
        snprintf(second, sizeof(second), "b%u", i);
        snprintf(ed, sizeof(ed), "e%u", i);
        assert_string_equal(SELECTOR(conf, domain, ""), first);
        assert_string_equal(SELECTOR(conf, domain + 5, second), second);
        assert_string_equal(SELECTOR(conf, domain, "x"), "x");
        assert_string_equal(selector_of(conf, "{default}", domain, CONF_DKIM_ED25519, ""), ed);
    }
    assert_string_equal(SELECTOR(conf, "d3000.test", ""), "x");
    assert_string_equal(SELECTOR(conf, "xd1.test", ""), "x");
    assert_string_equal(SELECTOR(conf, "example", ""), "none");
    conf_unref(conf);
}

static const char *listed(const struct conf *conf, const char *list, const char *domain)
{
    const struct conf_domain_key *key = conf_domain_key_listed(
        conf, slice_str(list), slice_str(domain), CONF_DKIM_RSA_SHA256, SLICE_EMPTY);

    return key ? key->selector : "none";
}

/* A list signs what asks for it; its keys wait for their records like others. */
static void lists_are_apart(void **state)
{
    static const char text[] = "domain-key t,a.test,/k/1\n"
                               "<domain-key-list One>\ndomain-key l1 , a.test, /k/2\n"
                               "l2,*,/k/3\n</domain-key-list>\n"
                               "<domain-key-list two>\n</domain-key-list>\n";
    struct told told;
    struct conf *conf = load_text(text, &told);
    uint64_t hash;

    assert_string_equal(told.text, "");
    assert_string_equal(SELECTOR(conf, "a.test", ""), "t");
    assert_string_equal(SELECTOR(conf, "b.test", ""), "none");
    assert_string_equal(listed(conf, "one", "x.a.test"), "l1");
    assert_string_equal(listed(conf, "one", "b.test"), "l2");
    assert_string_equal(listed(conf, "two", "a.test"), "none");
    assert_string_equal(listed(conf, "three", "a.test"), "none");
    hash = conf_keys_hash(conf, CONF_VMTA_DEFAULT);
    conf = reload_text("domain-key t,a.test,/k/1\n<domain-key-list ONE>\nl3,a.test,/k/4\n"
                       "</domain-key-list>\n<domain-key-list two>\nn,a.test,/k/5\n"
                       "</domain-key-list>\n",
                       conf, NULL, 1);
    assert_string_equal(listed(conf, "one", "a.test"), "l1");
    assert_string_equal(listed(conf, "two", "a.test"), "n");
    assert_true(conf_keys_hash(conf, CONF_VMTA_DEFAULT) != hash);
    conf_unref(conf);
    assert_null(load_text("<domain-key-list x>\n</domain-key-list>\n"
                          "<domain-key-list X>\n</domain-key-list>\n",
                          &told));
    assert_non_null(strstr(told.text, "is there twice"));
    assert_null(load_text("<domain-key-list x>\nnonsense\n</domain-key-list>\n", &told));
    assert_non_null(strstr(told.text, "2: domain-key wants"));
}

static void what_counts_is_in_the_hash(void **state)
{
    struct conf_signing plain = {0}, other = {0};

    plain.each[0].identity = other.each[0].identity = "a";
    assert_int_equal(conf_signing_hash(&plain), conf_signing_hash(&other));
    other.removed = "X-A";
    assert_true(conf_signing_hash(&plain) != conf_signing_hash(&other));
    other.removed = NULL;
    other.each[1].add_timestamp = true;
    assert_true(conf_signing_hash(&plain) != conf_signing_hash(&other));
    other.each[1].add_timestamp = false;
    other.each[1].headers = "a";
    assert_true(conf_signing_hash(&plain) != conf_signing_hash(&other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_key_is_taken),
        cmocka_unit_test(made_cold_ones_have_the_keys_of_their_section),
        cmocka_unit_test(queues_say_how),
        cmocka_unit_test(a_new_key_waits_for_its_record),
        cmocka_unit_test(what_signed_before_is_looked_for_where_it_stood),
        cmocka_unit_test(places_are_told),
        cmocka_unit_test(lists_are_apart),
        cmocka_unit_test(many_keys_are_found),
        cmocka_unit_test(what_counts_is_in_the_hash),
        cmocka_unit_test(what_cannot_sign_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
