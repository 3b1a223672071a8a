/* Providers: the shipped pack, the user's sections, what counts beneath what. */
#include "core/conf/limit.h"
#include "core/conf/provider.h"

#include "core/base/hash.h"
#include "core/base/regex.h"
#include "core/pack/pack.h"
#include "tests/unit/core_conf/unit.h"

static uint64_t of_host(const struct conf *conf, const char *host)
{
    return conf_provider_of_host(conf, slice_str(host));
}

static struct conf_queue queue_at(const struct conf *conf, const char *domain, const char *provider)
{
    struct conf_queue queue;

    conf_queue_at(conf, slice_str(domain), CONF_VMTA_DEFAULT,
                  conf_provider_named(slice_str(provider)), &queue);
    return queue;
}

/* The bounds of all mail to a provider; a count of CONF_UNLIMITED: there is none. */
struct bounds {
    uint64_t max_smtp_out;
    uint64_t tenant_max_smtp_out;
    struct conf_rate max_msg_rate;
    struct conf_rate max_connect_rate;
    uint64_t queue_max_smtp_out;
};

static struct bounds limits_at(const struct conf *conf, const char *domain, const char *vmta,
                               const char *provider)
{
    const struct conf_rate free = {.count = CONF_UNLIMITED};
    struct conf_queue queue;
    const struct conf_limit **limits = queue.provider_limits;

    conf_queue_at(conf, slice_str(domain), conf_vmta_id(conf, slice_str(vmta)),
                  conf_provider_named(slice_str(provider)), &queue);
    for (unsigned i = 0; i < CONF_PROVIDER_BOUNDS; i++) {
        if (limits[i] == NULL)
            continue;
        assert_int_equal(
            limits[i]->scopes,
            CONF_SCOPE_SOURCE_IP |
                (i == CONF_PROVIDER_TENANT_CONNECTIONS ? CONF_SCOPE_TENANT : CONF_SCOPE_PROVIDER));
        assert_ptr_equal(conf_limit(conf, limits[i]->id), limits[i]);
    }
    return (struct bounds){
        .max_smtp_out = limits[CONF_PROVIDER_CONNECTIONS] == NULL
                            ? CONF_UNLIMITED
                            : limits[CONF_PROVIDER_CONNECTIONS]->max_smtp_out,
        .tenant_max_smtp_out = limits[CONF_PROVIDER_TENANT_CONNECTIONS] == NULL
                                   ? CONF_UNLIMITED
                                   : limits[CONF_PROVIDER_TENANT_CONNECTIONS]->max_smtp_out,
        .max_msg_rate = limits[CONF_PROVIDER_RECIPIENTS] == NULL
                            ? free
                            : limits[CONF_PROVIDER_RECIPIENTS]->max_msg_rate,
        .max_connect_rate = limits[CONF_PROVIDER_CONNECTS] == NULL
                                ? free
                                : limits[CONF_PROVIDER_CONNECTS]->max_connect_rate,
        .queue_max_smtp_out = queue.max_smtp_out,
    };
}

/* ---- Identity ------------------------------------------------------------------------------ */

static void hosts_have_providers(void **state)
{
    struct conf *conf = load("<provider mine>\nmx .mx.example relay.example .google.com\n"
                             "domain mine.example\n</provider>\n");
    struct conf *other = load("");
    static const char *const rows[][2] = {
        {"aspmx.l.google.com", "google"},
        {"GMAIL-SMTP-IN.L.GOOGLE.COM.", "google"},
        {"mta5.am0.yahoodns.net", "yahoo"},
        {"mx1.mail.yahoo.co.jp", "yahoo-japan"},
        {"outlook-com.olc.protection.outlook.com", "outlook"},
        {"contoso-com.mail.protection.outlook.com", "microsoft365"},
        {"contoso-com.n-v1.mx.microsoft", "microsoft365"},
        {"mx01.mail.icloud.com", "apple"},
        {"mx00.gmx.net", "gmx"},
        {"mx3.qq.com", "qq"},
        {"163mx01.mxmail.netease.com", "netease"},
        {"mx-in.t-online.de", "tonline"},
        {"mxa-001.gslb.pphosted.com", "proofpoint"},
        {"mail.protonmail.ch", "proton"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint64_t provider = of_host(other, rows[i][0]);

        assert_true(provider != CONF_PROVIDER_NONE && !conf_provider_is_site(provider));
        assert_string_equal(conf_provider_name(provider), rows[i][1]);
        assert_true(provider == conf_provider_named(slice_str(rows[i][1])));
    }
    /* Labels count whole, and a name without a dot in front stands for itself. */
    assert_true(of_host(other, "notgoogle.com") == CONF_PROVIDER_NONE);
    assert_true(of_host(other, "mx.example") == CONF_PROVIDER_NONE);
    assert_true(of_host(other, "") == CONF_PROVIDER_NONE);
    assert_string_equal(conf_provider_name(of_host(conf, "a.mx.example")), "mine");
    assert_string_equal(conf_provider_name(of_host(conf, "mx.example")), "mine");
    assert_string_equal(conf_provider_name(of_host(conf, "relay.example")), "mine");
    assert_true(of_host(conf, "a.relay.example") == CONF_PROVIDER_NONE);
    /* The user's beats the pack's, and a number is a name's in every snapshot. */
    assert_string_equal(conf_provider_name(of_host(conf, "aspmx.l.google.com")), "mine");
    assert_true(of_host(conf, "mx3.qq.com") == of_host(other, "mx3.qq.com"));
    assert_string_equal(
        conf_provider_name(conf_provider_of_domain(conf, slice_str("mine.example"))), "mine");
    assert_string_equal(conf_provider_name(conf_provider_of_domain(other, slice_str("gmail.com"))),
                        "google");
    conf_unref(conf);
    conf_unref(other);
}

static void sites_are_their_own(void **state)
{
    uint64_t one = conf_provider_of_site(hash_u64(1));
    uint64_t two = conf_provider_of_site(hash_u64(2));
    struct conf *conf = load("");

    assert_true(conf_provider_is_site(one) && one != two);
    assert_true(conf_provider_is_site(conf_provider_of_site(0)));
    assert_null(conf_provider_name(one));
    assert_null(conf_provider_name(CONF_PROVIDER_NONE));
    assert_false(conf_provider_has_tenants(conf, one));
    assert_true(conf_provider_has_tenants(conf, of_host(conf, "a.mail.protection.outlook.com")));
    assert_false(conf_provider_has_tenants(conf, of_host(conf, "a.olc.protection.outlook.com")));
    conf_unref(conf);
}

/* ---- What counts --------------------------------------------------------------------------- */

static void the_pack_counts_beneath_everything(void **state)
{
    struct conf *conf = load("provider-pack on\n"
                             "<domain busy.example>\nmax-msg-per-connection 7\nmax-smtp-out 3\n"
                             "backoff-max-msg-rate 5/h\n</domain>\n");
    struct conf *every = load("provider-pack on\n<domain *>\nmax-smtp-out 9\n</domain>\n");
    struct conf *advise = load("");
    struct conf *off = load("provider-pack off\n");

    assert_int_equal(queue_at(conf, "gmail.com", "google").max_msg_per_connection, 50);
    assert_int_equal(queue_at(conf, "gmail.com", "google").backoff_max_msg_rate.count, 60);
    assert_int_equal(limits_at(conf, "gmail.com", "", "google").max_smtp_out, 5);
    assert_true(limits_at(conf, "gmail.com", "", "google").max_msg_rate.count == CONF_UNLIMITED);
    assert_int_equal(limits_at(conf, "x", "", "microsoft365").tenant_max_smtp_out, 2);
    assert_int_equal(limits_at(conf, "x", "", "yahoo-japan").max_msg_rate.count, 2);
    assert_int_equal(limits_at(conf, "x", "", "yahoo-japan").max_msg_rate.interval_ms, 1000);
    /* The bound of the provider takes the place of the default of a queue, and of that alone. */
    assert_true(limits_at(conf, "gmail.com", "", "google").queue_max_smtp_out == CONF_UNLIMITED);
    assert_int_equal(limits_at(conf, "busy.example", "", "google").queue_max_smtp_out, 3);
    assert_int_equal(limits_at(conf, "x", "", "nobody").queue_max_smtp_out, 20);
    assert_int_equal(queue_of(conf, "gmail.com", "{default}").max_smtp_out, 20);
    /* What a block of the user's speaks of is out of the pack, and nothing else. */
    assert_int_equal(queue_at(conf, "busy.example", "google").max_msg_per_connection, 7);
    assert_int_equal(queue_at(conf, "busy.example", "google").backoff_max_msg_rate.count, 5);
    assert_true(limits_at(conf, "busy.example", "", "google").max_smtp_out == CONF_UNLIMITED);
    assert_true(limits_at(every, "x", "", "google").max_smtp_out == CONF_UNLIMITED);
    assert_true(limits_at(every, "x", "", "microsoft365").tenant_max_smtp_out == CONF_UNLIMITED);
    assert_int_equal(limits_at(every, "x", "", "yahoo-japan").max_msg_rate.count, 2);
    assert_int_equal(queue_at(every, "gmail.com", "google").max_msg_per_connection, 50);
    /* A provider of no section gets what is for everybody. */
    assert_int_equal(queue_at(conf, "x", "nobody").backoff_max_msg_rate.count, 60);
    assert_true(limits_at(conf, "x", "", "nobody").max_smtp_out == CONF_UNLIMITED);
    /* By advice alone nothing changes. */
    for (int i = 0; i < 2; i++) {
        struct conf *quiet = i == 0 ? advise : off;

        assert_false(conf_providers_act(quiet));
        assert_true(queue_at(quiet, "gmail.com", "google").max_msg_per_connection ==
                    CONF_UNLIMITED);
        assert_true(limits_at(quiet, "gmail.com", "", "google").max_smtp_out == CONF_UNLIMITED);
        assert_int_equal(conf_global(quiet)->provider_pack,
                         i == 0 ? CONF_PACK_ADVISE : CONF_PACK_OFF);
        conf_unref(quiet);
    }
    conf_unref(conf);
    conf_unref(every);
}

static void the_users_own_sections(void **state)
{
    struct conf *conf = load("<provider google>\nmax-smtp-out 1 2 3 4\nretry-after 5m,6m\n"
                             "</provider>\n"
                             "<provider *>\nmax-connect-rate 9/m\n</provider>\n"
                             "<domain *>\nmax-smtp-out 30\n</domain>\n"
                             "<domain slow>\nretry-after 1h\n</domain>\n");

    /* They are no pack: they count without it, and beside what <domain> says of each queue. */
    assert_true(conf_providers_act(conf));
    assert_int_equal(limits_at(conf, "x", "", "google").max_smtp_out, 1);
    assert_int_equal(queue_at(conf, "x", "google").max_smtp_out, 30);
    assert_int_equal(queue_at(conf, "x", "google").retry_ms[1], 360000);
    assert_int_equal(queue_at(conf, "slow", "google").retry_count, 1);
    assert_int_equal(limits_at(conf, "x", "", "apple").max_connect_rate.count, 9);
    assert_true(limits_at(conf, "x", "", "apple").max_smtp_out == CONF_UNLIMITED);
    assert_true(queue_at(conf, "x", "google").max_msg_per_connection == CONF_UNLIMITED);
    conf_unref(conf);
}

static void tiers_by_virtual_mta(void **state)
{
    struct conf *conf =
        load("provider-pack on\nprovider-tier warming\nsmtp-source-host 10.0.0.1 h\n"
             "<virtual-mta a>\nprovider-tier high\n</virtual-mta>\n"
             "<virtual-mta b>\n</virtual-mta>\n<virtual-mta c>\n</virtual-mta>\n"
             "<virtual-mta-pool p>\nvirtual-mta a\nvirtual-mta b\n"
             "provider-tier established\n</virtual-mta-pool>\n");

    assert_int_equal(limits_at(conf, "x", "a", "google").max_smtp_out, 200);
    assert_int_equal(limits_at(conf, "x", "b", "google").max_smtp_out, 100);
    assert_int_equal(limits_at(conf, "x", "c", "google").max_smtp_out, 20);
    assert_int_equal(limits_at(conf, "x", "{default}", "google").max_smtp_out, 20);
    conf_unref(conf);
}

/* ---- Replies ------------------------------------------------------------------------------- */

static const struct conf_reply_rule *said(const struct conf *conf, const char *provider,
                                          const char *text)
{
    struct regex_scratch *scratch = regex_scratch_new();
    const struct conf_reply_rule *rule = conf_provider_reply(
        conf, conf_provider_named(slice_str(provider)), slice_str(text), scratch);

    regex_scratch_free(scratch);
    return rule;
}

static void replies_lead_to_rules(void **state)
{
    static const struct {
        const char *provider;
        const char *text;
        unsigned actions;
        enum conf_reply_scope scope;
        uint64_t stop_ms;
    } rows[] = {
        {"google", "421-4.7.28 Gmail has detected an unusual rate of mail from your IP address",
         CONF_REPLY_STOP, CONF_REPLY_OF_SOURCE_IP, 600000},
        {"google", "421 4.7.28 an unusual rate of mail originating from your DKIM domain",
         CONF_REPLY_STOP, CONF_REPLY_OF_SENDER_DOMAIN, 600000},
        {"yahoo", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", CONF_REPLY_STOP,
         CONF_REPLY_OF_SOURCE_IP, 7200000},
        {"yahoo", "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred",
         CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT, CONF_REPLY_OF_SOURCE_IP, 7200000},
        {"outlook", "550 5.7.1 part of their network is on our block list (S3150).",
         CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT, CONF_REPLY_OF_SOURCE_IP, 7200000},
        {"apple", "421 4.7.1 [HCM1] message deferred", CONF_REPLY_STOP, CONF_REPLY_OF_SOURCE_IP,
         900000},
        {"qq", "550 Ip frequency limited", CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT,
         CONF_REPLY_OF_SOURCE_IP, 3600000},
        {"netease", "554 HL:ITC 163 smtp5", CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT,
         CONF_REPLY_OF_SOURCE_IP, 43200000},
        {"yahoo", "421 Max message per connection reached", 0, CONF_REPLY_OF_QUEUE, 600000},
        {"tonline", "554 IP=192.0.2.1 - None/bad reputation. (NOWL)",
         CONF_REPLY_DISABLE_SOURCE | CONF_REPLY_DEFER_RCPT, CONF_REPLY_OF_SOURCE_IP, 600000},
        {"google", "421-4.7.28 an unusual rate of mail originating from your IP Netblock",
         CONF_REPLY_STOP, CONF_REPLY_OF_NETBLOCK, 600000},
    };
    struct conf *conf = load("provider-pack on\n"
                             "<provider apple>\nreply /HCM1/ stop=2m scope=job\n</provider>\n");
    struct conf *advise = load("");

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct conf_reply_rule *rule = said(conf, rows[i].provider, rows[i].text);

        assert_non_null(rule);
        if (i == 5) {
            /* The user's line beats the pack's. */
            assert_string_equal(rule->file, "test");
            assert_int_equal(rule->stop_ms, 120000);
            assert_int_equal(rule->scope, CONF_REPLY_OF_JOB);
            continue;
        }
        assert_string_equal(rule->file, PACK_FILE);
        assert_int_equal(rule->actions, rows[i].actions);
        assert_int_equal(rule->scope, rows[i].scope);
        assert_int_equal(rule->stop_ms, rows[i].stop_ms);
        assert_null(said(advise, rows[i].provider, rows[i].text));
    }
    /* A provider's words mean nothing in another's mouth. */
    assert_null(said(conf, "apple", "550 Ip frequency limited"));
    assert_null(said(conf, "google", "250 2.0.0 OK"));
    for (int hold = 0; hold < 2; hold++) {
        /* Those that the classifier can name. */
        for (int scope = 0; scope <= CONF_REPLY_OF_JOB; scope++) {
            const struct conf_reply_rule *rule =
                conf_provider_reaction(conf, hold, (enum conf_reply_scope)scope);

            assert_non_null(rule);
            assert_true((rule->actions & CONF_REPLY_STANDING) != 0);
            assert_int_equal(rule->scope, scope);
            assert_null(conf_provider_reaction(advise, hold, (enum conf_reply_scope)scope));
        }
    }
    conf_unref(conf);
    conf_unref(advise);
}

static void add_percent(void *context, const struct conf_reply_rule *rule)
{
    *(unsigned *)context += rule->trigger.percent;
}

static unsigned shares_at(const struct conf *conf, const char *provider)
{
    unsigned percent = 0;

    conf_provider_shares(conf, conf_provider_named(slice_str(provider)), add_percent, &percent);
    return percent;
}

/* Each attempt counts for lines that ask for a share, of the provider's own and everybody's. */
static void shares_are_told(void **state)
{
    static const char text[] =
        "provider-pack off\n<provider a>\nmx .a\nreply /x/ stop trigger=1%\n"
        "reply /y/ stop trigger=3/1m\nreply /z/ stop\n</provider>\n"
        "<provider *>\nreply /x/ stop trigger=2%\n"
        "reaction slow:job stop trigger=4%\nreaction hold:queue stop trigger=8%/1h\n</provider>\n"
        "<provider b>\nmx .b\nreply /x/ stop trigger=16%\n</provider>\n";
    struct conf *conf = load(text), *none = load("provider-pack advise\n");
    struct conf *shipped = load("provider-pack on\n");

    assert_int_equal(shares_at(conf, "a"), 1 + 2 + 4 + 8);
    assert_int_equal(shares_at(conf, "b"), 16 + 2 + 4 + 8);
    assert_int_equal(shares_at(conf, "google"), 2 + 4 + 8);
    assert_int_equal(shares_at(none, "google"), 0);
    assert_true(shares_at(shipped, "google") > 0);
    conf_unref(conf);
    conf_unref(none);
    conf_unref(shipped);
}

/* As everywhere: the lines before it do not count, those of other keywords and behind it do. */
static void a_cleared_line_takes_earlier_ones_out(void **state)
{
    struct conf *conf = load("<provider a>\nmx .a\nmax-smtp-out 3\nmax-msg-per-connection 5\n"
                             "max-msg-rate 7/h\nreply /x/ stop=1m\nreply /y/ stop=2m\n"
                             "max-smtp-out \"\"\nmax-msg-per-connection \"\"\n"
                             "max-msg-per-connection 6\nreply \"\"\nreply /y/ stop=3m\n"
                             "</provider>\n"
                             "<provider *>\nreaction slow:queue stop\nreaction \"\"\n"
                             "reaction hold:queue stop\n</provider>\n");
    struct regex_scratch *scratch = regex_scratch_new();
    uint64_t number = conf_provider_named(SLICE_LITERAL("a"));
    struct bounds bounds = limits_at(conf, "a", "{default}", "a");

    assert_true(bounds.max_smtp_out == CONF_UNLIMITED);
    assert_int_equal(bounds.max_msg_rate.count, 7);
    assert_int_equal(queue_at(conf, "a", "a").max_msg_per_connection, 6);
    assert_null(conf_provider_reply(conf, number, SLICE_LITERAL("x"), scratch));
    assert_int_equal(conf_provider_reply(conf, number, SLICE_LITERAL("y"), scratch)->stop_ms,
                     180000);
    assert_null(conf_provider_reaction(conf, false, CONF_REPLY_OF_QUEUE));
    assert_non_null(conf_provider_reaction(conf, true, CONF_REPLY_OF_QUEUE));
    regex_scratch_free(scratch);
    conf_unref(conf);
}

struct ids {
    uint64_t at[8];
    unsigned count;
};

static void note_id(void *context, const struct conf_reply_rule *rule)
{
    struct ids *ids = context;

    if (rule->trigger.percent == 7)
        ids->at[ids->count++ % COUNT_OF(ids->at)] = rule->id;
}

static struct ids ids_of(const char *text, const char *provider)
{
    struct conf *conf = load(text);
    struct ids ids = {.count = 0};

    conf_provider_shares(conf, conf_provider_named(slice_str(provider)), note_id, &ids);
    conf_unref(conf);
    return ids;
}

#define AGAIN "reply /x/ stop trigger=7%\n"
#define OTHER "reply /y/ stop trigger=7%\n"

/* By ids hits and attempts are counted: of lines that are given again each has its own, and keeps
 * it whatever else stands in the section. */
static void equal_lines_count_apart(void **state)
{
    struct ids once = ids_of("<provider a>\n" AGAIN "</provider>\n", "a");
    struct ids twice = ids_of("<provider a>\n" AGAIN OTHER AGAIN AGAIN "</provider>\n", "a");
    struct ids later = ids_of("<provider a>\n" OTHER AGAIN AGAIN AGAIN "</provider>\n", "a");
    struct conf *conf = load("<domain *>\nsmtp-pattern-list l\n</domain>\n"
                             "<smtp-pattern-list l>\n" AGAIN AGAIN "</smtp-pattern-list>\n");
    const struct conf_reply_list *list = queue_of(conf, "a", "{default}").replies;

    assert_int_equal(once.count, 1);
    assert_int_equal(twice.count, 4);
    assert_true(twice.at[0] == once.at[0]);
    assert_true(twice.at[2] != twice.at[0] && twice.at[3] != twice.at[0]);
    assert_true(twice.at[3] != twice.at[2]);
    assert_true(later.at[0] == twice.at[1]);
    for (unsigned i = 1; i < 4; i++)
        assert_true(later.at[i] == twice.at[i == 1 ? 0 : i]);
    assert_true(list->rules[0].id != list->rules[1].id);
    conf_unref(conf);
}

/* A line that the user has from the pack is not the pack's own, which counts besides. */
static void a_line_of_the_pack_counts_apart(void **state)
{
    static const char text[] = "provider-pack on\n<provider google>\n%s\n</provider>\n";
    struct regex_scratch *scratch = regex_scratch_new();
    struct conf *pack = load("provider-pack on\n"), *both;
    uint64_t google = conf_provider_named(SLICE_LITERAL("google"));
    const struct slice said = SLICE_LITERAL(
        "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your "
        "IP address");
    const struct conf_reply_rule *shipped = conf_provider_reply(pack, google, said, scratch);
    char room[2000];

    assert_non_null(shipped);
    snprintf(room, sizeof(room), text, shipped->text);
    both = load(room);
    assert_string_equal(conf_provider_reply(both, google, said, scratch)->text, shipped->text);
    assert_true(conf_provider_reply(both, google, said, scratch)->id != shipped->id);
    regex_scratch_free(scratch);
    conf_unref(both);
    conf_unref(pack);
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text;
        const char *finding;
    } rows[] = {
        {"<provider>\n</provider>\n", "error test:1: <provider> needs an argument"},
        {"<provider a>\n</provider>\n<provider A>\n</provider>\n",
         "error test:3: <provider A> is given twice"},
        {"<provider a>\nmax-smtp-out 1 2\n</provider>\n",
         "error test:2: max-smtp-out: one value, or four"},
        {"<provider a>\nmax-smtp-out 1 2 x 4\n</provider>\n", "error test:2: max-smtp-out: "},
        {"<provider a>\nmax-msg-rate 1\n</provider>\n", "error test:2: max-msg-rate: "},
        {"<provider a>\nreply /a/ nothing\n</provider>\n",
         "error test:2: unknown action \"nothing\""},
        {"<provider a>\nreply /a/ none,stop\n</provider>\n", "error test:2: none stands alone"},
        {"<provider a>\nreaction slow:queue stop\n</provider>\n",
         "error test:2: reaction stands in no provider but <provider *>"},
        {"<provider *>\nmx .a\n</provider>\n", "error test:2: mx stands in any but <provider *>"},
        {"<provider *>\nreaction fast:queue stop\n</provider>\n",
         "error test:2: \"reaction fast:queue stop\" is not of the form"},
        {"<provider *>\nreaction slow:ip stop\n</provider>\n",
         "error test:2: scope: \"ip\" is none of"},
        {"<provider *>\nreaction hold:netblock stop\n</provider>\n",
         "error test:2: no reaction is of a netblock"},
        {"<provider *>\nreaction slow:job stop scope=queue\n</provider>\n",
         "error test:2: scope is given twice"},
        {"<provider *>\nreaction slow:job\n</provider>\n",
         "error test:2: the line asks for no action"},
        {"<provider a>\nmx .\n</provider>\n", "error test:1: <provider a>: \".\" is no name"},
        {"provider-pack maybe\n", "error test:1: provider-pack: "},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct findings findings;

        refuse(rows[i].text, &findings);
        if (strstr(findings.text, rows[i].finding) == NULL)
            fail_msg("\"%s\" gives \"%s\"", rows[i].text, findings.text);
    }
}

/* ---- Advice -------------------------------------------------------------------------------- */

static void advice_is_given(void **state)
{
    static const struct conf_load_options lint = {.lint = true};
    static const char with_rate[] = "smtp-source-host 10.0.0.1 h\n"
                                    "<domain gmail.com>\nmax-smtp-out 30\n</domain>\n";
    static struct findings findings;
    struct conf *conf = NULL;

    findings = (struct findings){0};
    assert_int_equal(conf_load_text("test", with_rate, &lint, collect, &findings, &conf), 0);
    assert_non_null(strstr(findings.text, "note test:0: provider-pack on would, at yahoo, from "
                                          "virtual MTAs of tier new (as {default}): max-smtp-out 5 "
                                          "a source address, max-msg-per-connection 20, and act "));
    /* What a block says is none of the pack's business. */
    assert_non_null(strstr(findings.text, "at google, from virtual MTAs of tier new (as "
                                          "{default}): max-msg-per-connection 50, and act "));
    conf_unref(conf);
    findings = (struct findings){0};
    assert_int_equal(conf_load_text("test", "provider-pack off\nsmtp-source-host 10.0.0.1 h\n",
                                    &lint, collect, &findings, &conf),
                     0);
    assert_string_equal(findings.text, "");
    conf_unref(conf);
}

struct told {
    const char *section;
    const char *keyword;
    char value[200];
    char from[200];
    enum conf_setting_effect effect;
    unsigned count;
};

static void note_setting(void *context, const struct conf_setting *setting)
{
    struct told *told = context;

    if (strcmp(setting->section, told->section) != 0 ||
        strcmp(setting->keyword, told->keyword) != 0)
        return;
    if (told->count++ > 0)
        return;
    snprintf(told->value, sizeof(told->value), "%s", setting->value);
    snprintf(told->from, sizeof(told->from), "%s", setting->file == NULL ? "" : setting->file);
    told->effect = setting->effect;
}

static struct told told_of(const char *text, const char *section, const char *keyword)
{
    struct told told = {.section = section, .keyword = keyword};
    struct conf *conf = load(text);
    struct conf_way way;

    assert_true(conf_settings_tell(conf, slice_str("gmail.com"), slice_str("{default}"),
                                   note_setting, &told, &way));
    conf_unref(conf);
    return told;
}

static void settings_name_the_pack(void **state)
{
    const char *on = "provider-pack on\n", *off = "provider-pack off\n";
    const char *beaten = "provider-pack on\n<domain *>\nmax-smtp-out 9\n"
                         "max-msg-per-connection 8\n</domain>\n";
    struct told told = told_of(on, "domain", "max-msg-per-connection");

    assert_string_equal(told.value, "50");
    assert_string_equal(told.from, PACK_FILE);
    assert_string_equal(told_of("", "domain", "max-msg-per-connection").value, "0");
    assert_string_equal(told_of(beaten, "domain", "max-msg-per-connection").value, "8");
    told = told_of(on, "provider google", "max-smtp-out");
    assert_string_equal(told.value, "5");
    assert_int_equal(told.effect, CONF_SETTING_ACTS);
    told = told_of("", "provider google", "max-smtp-out");
    assert_string_equal(told.value, "5");
    assert_int_equal(told.effect, CONF_SETTING_ADVISED);
    assert_int_equal(told_of("", "provider google", "max-msg-per-connection").count, 1);
    assert_int_equal(told_of(beaten, "provider google", "max-smtp-out").count, 0);
    assert_int_equal(told_of(off, "provider google", "max-smtp-out").count, 0);
    assert_int_equal(told_of(on, "provider google", "reply").count, 12);
    assert_true(told_of(on, "provider *", "reply").count == 0);
    told = told_of("<provider google>\nmax-smtp-out 3\n</provider>\n"
                   "<domain *>\nmax-smtp-out 9\n</domain>\n",
                   "provider google", "max-smtp-out");
    assert_string_equal(told.value, "3");
    assert_string_equal(told.from, "test");
    assert_int_equal(told.effect, CONF_SETTING_ACTS);
}

/* ---- The file ------------------------------------------------------------------------------ */

/* Every line has its source beside it, or above it in the section. */
static void every_line_has_a_source(void **state)
{
    struct slice text = pack_text();
    bool has_source = false;
    unsigned line = 0, seen = 0;

    while (text.len > 0) {
        size_t end = slice_find(text, '\n');
        struct slice at = slice_trim(slice_of(text.data, end));
        size_t comment = slice_find(at, '#');
        struct slice words = slice_after(at, comment);

        text = slice_after(text, end < text.len ? end + 1 : end);
        line++;
        if (slice_starts_nocase(at, SLICE_LITERAL("<provider")))
            has_source = false;
        if (slice_find(words, '[') < words.len)
            has_source = true;
        if (comment == 0 || at.len == 0 || at.data[0] == '<')
            continue;
        seen++;
        if (!has_source)
            fail_msg("%s:%u has no source", PACK_FILE, line);
    }
    assert_true(seen > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_have_providers),
        cmocka_unit_test(sites_are_their_own),
        cmocka_unit_test(the_pack_counts_beneath_everything),
        cmocka_unit_test(the_users_own_sections),
        cmocka_unit_test(tiers_by_virtual_mta),
        cmocka_unit_test(replies_lead_to_rules),
        cmocka_unit_test(shares_are_told),
        cmocka_unit_test(a_cleared_line_takes_earlier_ones_out),
        cmocka_unit_test(equal_lines_count_apart),
        cmocka_unit_test(a_line_of_the_pack_counts_apart),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(advice_is_given),
        cmocka_unit_test(settings_name_the_pack),
        cmocka_unit_test(every_line_has_a_source),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
