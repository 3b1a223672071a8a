/* Pattern lists and address lists: what they refuse, and what they answer. */
#include "core/base/regex.h"
#include "tests/unit/core_conf/unit.h"

#define WAYS                                                                                       \
    "smtp-source-host 192.0.2.1 a\n<virtual-mta v>\n</virtual-mta>\n"                              \
    "<virtual-mta w>\n</virtual-mta>\n"

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *text; /* lines 6 and on */
        const char *fragment;
    } rows[] = {
        {"<pattern-list l>\nrcpt-to /x/ virtual-mta=u\n</pattern-list>\n",
         "test:7: virtual-mta: there is no virtual MTA or pool \"u\""},
        {"<pattern-list l>\nrcpt-to /x/\n</pattern-list>\n", "test:7: the rule says nothing"},
        {"<pattern-list l>\nrcpt-to x virtual-mta=v\n</pattern-list>\n",
         "test:7: a pattern between slashes"},
        {"<pattern-list l>\nrcpt-to /x virtual-mta=v\n</pattern-list>\n",
         "test:7: a pattern between slashes"},
        {"<pattern-list l>\nrcpt-to /(/ virtual-mta=v\n</pattern-list>\n", "test:7: /(/: "},
        {"<pattern-list l>\nheader /x/ virtual-mta=v\n</pattern-list>\n",
         "test:7: a pattern between slashes"},
        {"<pattern-list l>\nfrom /x/ virtual-mta=v\n</pattern-list>\n", "test:7: \"from\" is"},
        {"<pattern-list l>\n* reply=v\n</pattern-list>\n", "test:7: \"reply=v\" is neither"},
        {"<pattern-list l>\n* virtual-mta=v,recipient-priority=101\n</pattern-list>\n",
         "test:7: recipient-priority: a number from 0 to 100"},
        {"<pattern-list l>\ncall-to:m\n</pattern-list>\n", "test:7: call-to: there is no"},
        {"<pattern-list l>\ncall-to:m\n</pattern-list>\n"
         "<pattern-list m>\n* call-to:l\n</pattern-list>\n",
         "or in a circle"},
        {"<pattern-list l>\n</pattern-list>\n<pattern-list L>\n</pattern-list>\n",
         "<pattern-list L> is given twice"},
        {"<source 10/8>\npattern-list l\n</source>\n",
         "test:7: pattern-list: there is no list \"l\""},
        {"<source 10/8>\nsuppression-lists l\n</source>\n",
         "test:7: suppression-lists: there is no list \"l\""},
        {"<address-list l>\naddress\n</address-list>\n", "test:7: \"address\" is none of"},
        {"<address-list l>\nmailbox a@b\n</address-list>\n", "test:7: \"mailbox a@b\" is none of"},
        {"<address-list l>\naddress /(/\n</address-list>\n", "test:7: /(/: "},
        {"<address-list l>\naddress-file /nowhere/at/all\n</address-list>\n",
         "test:7: address-file /nowhere/at/all: "},
        {"<address-list l>\naddress-file sup.txt\n</address-list>\n",
         "test:7: address-file: \"sup.txt\" is not an absolute path"},
        {"<address-list l>\naddress-file \"/nowhere/at/all\"\n</address-list>\n",
         "test:7: address-file /nowhere/at/all: "},
        {"<address-list l>\naddress-file /dev/zero\n</address-list>\n",
         "test:7: address-file /dev/zero: not a regular file"},
        {"<address-list l>\naddress bob\n</address-list>\n",
         "test:7: address: \"bob\" is not a mail address"},
        {"<address-list l>\naddress a@b c@d\n</address-list>\n", "test:7: address: \"a@b c@d\" is"},
        {"<address-list l>\naddress a@b,\"c@d\n</address-list>\n", "test:7: address: \"\"c@d\" is"},
        {"<address-list l>\ndomain *\n</address-list>\n", "test:7: domain: \"*\" is none of"},
        {"<address-list l>\ndomain a@b\n</address-list>\n", "test:7: domain: \"a@b\" is none of"},
        {"domain-macro m a.test,foo!\n<address-list l>\ndomain $m\n</address-list>\n",
         "test:8: domain: \"foo!\" is none of"},
        {"<address-list l>\ndomain [10.0.0.0/8]\n</address-list>\n", "test:7: domain: \"[10."},
        {"<address-list l>\naddress-file /proc/self/mem\n</address-list>\n",
         "test:7: address-file /proc/self/mem: "},
        {"relay-address a@b c@d\n", "test:6: "},
        {"<address-list>\n</address-list>\n", "test:6: <address-list> needs a name"},
        {"<smtp-pattern-list l>\nreply /a(b/ mode=backoff\n</smtp-pattern-list>\n",
         "error test:7: /a(b/: "},
        {"<smtp-pattern-list l>\nreply /a\n</smtp-pattern-list>\n",
         "error test:7: \"reply /a\" is not of the form"},
        {"<smtp-pattern-list l>\nreply /a/\n</smtp-pattern-list>\n",
         "error test:7: \"reply /a/\" is not of the form"},
        {"<smtp-pattern-list l>\nanswer /a/ mode=backoff\n</smtp-pattern-list>\n",
         "error test:7: \"answer /a/ mode=backoff\" is not of the form"},
        {"<smtp-pattern-list l>\nreply /a/ mode=defer\n</smtp-pattern-list>\n",
         "error test:7: unknown action \"mode=defer\""},
        {"<smtp-pattern-list l>\nreply /a/ skip-mx,\n</smtp-pattern-list>\n",
         "error test:7: unknown action \"\""},
        {"<smtp-pattern-list l>\nreply /a/ mode=backoff,mode=normal\n</smtp-pattern-list>\n",
         "error test:7: mode=backoff and mode=normal contradict each other"},
        {"<smtp-pattern-list l>\nreply /a/ skip-mx,bounce-queue\n</smtp-pattern-list>\n",
         "error test:7: skip-mx and bounce-queue contradict each other"},
        {"<smtp-pattern-list l>\nreply /a/ reenable-after=1h\n</smtp-pattern-list>\n",
         "error test:7: reenable-after does nothing without disable-source-ip"},
        {"<smtp-pattern-list l>\nreply /a/ skip-mx,backoff-to-normal-after=1h\n"
         "</smtp-pattern-list>\n",
         "error test:7: backoff-to-normal-after does nothing without mode=backoff"},
        {"<smtp-pattern-list l>\nreply /a/ mode=backoff,backoff-to-normal-after=x\n"
         "</smtp-pattern-list>\n",
         "error test:7: backoff-to-normal-after: \"x\" is no time"},
        {"<smtp-pattern-list l>\nreply /a/ bounce-rcpt,defer-rcpt\n</smtp-pattern-list>\n",
         "error test:7: bounce-rcpt and defer-rcpt contradict each other"},
        {"<smtp-pattern-list l>\nreply /a/ skip-mx scope=provider\n</smtp-pattern-list>\n",
         "error test:7: trigger and scope do nothing without mode=, stop or disable-source-ip"},
        {"<smtp-pattern-list l>\nreply /a/ trigger=3/1m\n</smtp-pattern-list>\n",
         "error test:7: trigger and scope do nothing"},
        {"<smtp-pattern-list l>\nreply /a/ stop=0\n</smtp-pattern-list>\n",
         "error test:7: stop: a stop of no time does nothing"},
        {"<smtp-pattern-list l>\nreply /a/ stop=never\n</smtp-pattern-list>\n",
         "error test:7: stop: \"never\" is no time"},
        {"<smtp-pattern-list l>\nreply /a/ stop trigger=3\n</smtp-pattern-list>\n",
         "error test:7: trigger: \"3\" is neither N/TIME nor a share"},
        {"<smtp-pattern-list l>\nreply /a/ stop trigger=0/1m\n</smtp-pattern-list>\n",
         "error test:7: trigger: \"0/1m\" is neither"},
        {"<smtp-pattern-list l>\nreply /a/ stop trigger=101%\n</smtp-pattern-list>\n",
         "error test:7: trigger: \"101%\" is neither"},
        {"<smtp-pattern-list l>\nreply /a/ stop trigger=3/0\n</smtp-pattern-list>\n",
         "error test:7: trigger: a span of no time"},
        {"<smtp-pattern-list l>\nreply /a/ stop trigger=3/x\n</smtp-pattern-list>\n",
         "error test:7: trigger: \"x\" is no time"},
        {"<smtp-pattern-list l>\nreply /a/ stop scope=ip\n</smtp-pattern-list>\n",
         "error test:7: scope: \"ip\" is none of queue,"},
        {"<smtp-pattern-list l>\nreply /a/ stop scope=job scope=job\n</smtp-pattern-list>\n",
         "error test:7: scope is given twice"},
        {"<smtp-pattern-list l>\n</smtp-pattern-list>\n"
         "<smtp-pattern-list L>\n</smtp-pattern-list>\n",
         "error test:8: <smtp-pattern-list L> is given twice"},
        {"alias a@b\n", "error test:6: alias: needs more words"},
        {"alias a@b c\n", "error test:6: \"a@b c\" is not of the form"},
        {"<aliases>\na@b\n</aliases>\n", "error test:7: \"a@b\" is not of the form"},
        {"alias a@b c@d\n<aliases>\nA@B e@f\n</aliases>\n", "test:8: alias A@B is given twice"},
        {"alias a@b c@d\nalias c@d e@f\n", "error test:6: alias a@b: c@d is an alias itself"},
        {"relay-domain a,*\n", "error test:6: relay-domain: \"*\" would take"},
        {"relay-address /(/\n", "error test:6: /(/: "},
        {"invalid-virtual-mta-fallback none\n",
         "error test:6: invalid-virtual-mta-fallback: there is no virtual MTA or pool"},
        {"<rewrite-list l>\nmail-from a@b\n</rewrite-list>\n",
         "error test:7: \"mail-from a@b\" is none of"},
        {"<rewrite-list l>\nmail-from a@b c@d e\n</rewrite-list>\n", "error test:7: "},
        {"<rewrite-list l>\nmail-from a@b d\n</rewrite-list>\n", "error test:7: "},
        {"<rewrite-list l>\nfrom-domain a@b d\n</rewrite-list>\n", "error test:7: "},
        {"<rewrite-list l>\nrcpt-to a@b c@d\n</rewrite-list>\n", "error test:7: "},
        {"<rewrite-list l>\n</rewrite-list>\n<rewrite-list L>\n</rewrite-list>\n",
         "error test:8: <rewrite-list L> is given twice"},
        {"<source 10/8>\nrewrite-list l\n</source>\n",
         "error test:7: rewrite-list: there is no list \"l\""},
        {"<virtual-mta q>\nrewrite-list l\n</virtual-mta>\n",
         "error test:7: rewrite-list: there is no list \"l\""},
        {"<domain a>\nsmtp-pattern-list none\n</domain>\n",
         "error test:7: smtp-pattern-list: there is no <smtp-pattern-list none>"},
    };
    struct findings findings;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[512];

        snprintf(text, sizeof(text), WAYS "%s", rows[i].text);
        refuse(text, &findings);
        if (strstr(findings.text, rows[i].fragment) == NULL)
            print_error("%s gave %s", rows[i].text, findings.text);
        assert_non_null(strstr(findings.text, rows[i].fragment));
    }
}

static bool one_header(void *context, struct slice name, struct slice *ret_value)
{
    *ret_value = slice_str(context);
    return slice_equal_nocase(name, SLICE_LITERAL("x-stream"));
}

static const char *ask(const struct conf *conf, const char *sender, const char *rcpt,
                       const char *stream, struct regex_scratch *scratch)
{
    struct conf_pattern_question question = {
        .sender = slice_str(sender),
        .rcpt = slice_str(rcpt),
        .header = stream != NULL ? one_header : NULL,
        .context = (void *)(uintptr_t)stream,
    };
    struct conf_pattern_answer answer;

    conf_patterns_ask(source_of(conf, "10.0.0.1", NULL)->patterns, &question, scratch, &answer);
    return answer.virtual_mta != NULL ? answer.virtual_mta : "none";
}

static void the_first_rule_that_matches(void **state)
{
    struct conf *conf =
        load(WAYS "<source 10/8>\npattern-list l\n</source>\n"
                  "<pattern-list l>\nmail-from /^A@/ call-to:m\n"
                  "header x-stream: /^t/ virtual-mta=w\n"
                  "rcpt-to /\\/(?-i)X/ virtual-mta=v\n</pattern-list>\n"
                  "<pattern-list m>\nrcpt-to /b$/ virtual-mta=v\n</pattern-list>\n");
    struct regex_scratch *scratch = regex_scratch_new();

    assert_true(source_of(conf, "10.0.0.1", NULL)->has_lists);
    assert_true(source_of(conf, "10.0.0.1", NULL)->needs_header);
    assert_false(source_of(conf, "192.0.2.1", NULL)->has_lists);
    assert_string_equal(ask(conf, "a@b", "x@b", "t", scratch), "v");
    assert_string_equal(ask(conf, "a@b", "x@c", "t", scratch), "w");
    assert_string_equal(ask(conf, "a@b", "x@c", "s", scratch), "none");
    assert_string_equal(ask(conf, "a@b", "x@c", NULL, scratch), "none");
    assert_string_equal(ask(conf, "", "/Xa@c", NULL, scratch), "v");
    assert_string_equal(ask(conf, "", "/xa@c", NULL, scratch), "none");
    regex_scratch_free(scratch);
    conf_unref(conf);
}

/* A rule that only has a priority leaves the way to the next; the first priority up to there is
 * the one, and recipients that got theirs from different rules are told apart. */
static void rules_have_priorities(void **state)
{
    struct conf *conf = load(WAYS "<source 10/8>\npattern-list l\n</source>\n"
                                  "<pattern-list l>\nmail-from /^a@/ recipient-priority=90\n"
                                  "mail-from /^b@/ recipient-priority=0\n"
                                  "rcpt-to /b$/ virtual-mta=v,recipient-priority=70\n"
                                  "rcpt-to /c$/ recipient-priority=90,virtual-mta=w\n"
                                  "* recipient-priority=20\n</pattern-list>\n");
    static const struct {
        const char *sender, *rcpt, *way;
        uint8_t priority;
    } rows[] = {
        {"a@x", "x@b", "v", 90}, {"b@x", "x@b", "v", 0},     {"c@x", "x@b", "v", 70},
        {"c@x", "x@c", "w", 90}, {"a@x", "x@d", "none", 90}, {"c@x", "x@d", "none", 20},
    };
    struct regex_scratch *scratch = regex_scratch_new();
    uint64_t paths[COUNT_OF(rows)];

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct conf_pattern_question question = {.sender = slice_str(rows[i].sender),
                                                 .rcpt = slice_str(rows[i].rcpt)};
        struct conf_pattern_answer answer;

        conf_patterns_ask(source_of(conf, "10.0.0.1", NULL)->patterns, &question, scratch, &answer);
        assert_string_equal(answer.virtual_mta != NULL ? answer.virtual_mta : "none", rows[i].way);
        assert_true(answer.has_priority);
        assert_int_equal(answer.priority, rows[i].priority);
        paths[i] = answer.priority_path;
    }
    assert_true(paths[0] == paths[4] && paths[0] != paths[1] && paths[1] != paths[2]);
    assert_true(paths[3] != paths[0]);
    regex_scratch_free(scratch);
    conf_unref(conf);
}

static void check_rewrite(const struct conf_rewrite_list *list, const char *sender,
                          const char *wanted)
{
    char room[64];
    struct slice got = conf_rewrite(list, slice_str(sender), room, sizeof(room));

    assert_true(slice_equal(got, slice_str(wanted)));
}

static const struct conf_rewrite_list *rewrites_of(const struct conf *conf, const char *vmta)
{
    return conf_vmta_named(conf, slice_str(vmta))->rewrites;
}

static void the_first_rewrite_that_fits(void **state)
{
    struct conf *conf = load(
        WAYS "<source 10/8>\nrewrite-list l\n</source>\n"
             "<virtual-mta q>\nrewrite-list m\n</virtual-mta>\n"
             "<virtual-mta-pool p>\nvirtual-mta q\nvirtual-mta v\nrewrite-list l\n"
             "</virtual-mta-pool>\n"
             "<rewrite-list l>\nmail-from \"a@one\" \"b@two\"\nfrom-domain \"one\" three.example\n"
             "from-domain two four\n</rewrite-list>\n<rewrite-list m>\n</rewrite-list>\n");
    const struct conf_rewrite_list *list = source_of(conf, "10.0.0.1", NULL)->rewrites;
    const char *long_sender = "a-sender-with-a-name-that-is-long-enough-for-the-room@one";

    assert_non_null(list);
    assert_null(source_of(conf, "192.0.2.1", NULL)->rewrites);
    check_rewrite(list, "a@one", "b@two");
    check_rewrite(list, "A@ONE", "b@two");
    check_rewrite(list, "x@One", "x@three.example");
    check_rewrite(list, "\"a@one\"@two", "\"a@one\"@four");
    check_rewrite(list, "a@sub.one", "a@sub.one");
    check_rewrite(list, "", "");
    check_rewrite(list, long_sender, long_sender);
    assert_ptr_equal(rewrites_of(conf, "v"), list);
    assert_null(rewrites_of(conf, "w"));
    assert_non_null(rewrites_of(conf, "q"));
    assert_ptr_not_equal(rewrites_of(conf, "q"), list);
    conf_unref(conf);
}

static void members_of_an_address_list(void **state)
{
    static const struct {
        const char *address;
        bool is_member;
    } rows[] = {
        {"a@one", true},        {"A@ONE", true},      {"b@one", false},      {"x@two", true},
        {"x@sub.two", false},   {"x@three", false},   {"x@a.b.three", true}, {"x@four", true},
        {"x@a.four", true},     {"x@notfour", false}, {"abuse1@x", true},    {"abuse@x", false},
        {"q@five", true},       {"r@five", true},     {"s@five", true},      {"t@five", false},
        {"\"u v\"@five", true}, {"x@a.ten", true},    {"x@ten", false},      {"x@six", true},
        {"x@seven", true},      {"x@eight", true},    {"x@nine", true},
    };
    struct conf *conf = load("<source 10/8>\nsuppression-lists empty,l\n</source>\n"
                             "<address-list empty>\n</address-list>\n"
                             "<address-list l>\naddress a@one\ndomain two\ndomain *.three\n"
                             "domain [*.]four\naddress /^abuse\\d/\n"
                             "address \"q@five\"\naddress r@five, s@five\ndomain \"six\"\n"
                             "domain seven,eight\naddress @nine\naddress \"u v\"@five\naddress "
                             "@*.ten\n</address-list>\n");
    const struct conf_source *source = source_of(conf, "10.0.0.1", NULL);
    struct regex_scratch *scratch = regex_scratch_new();

    assert_int_equal(source->suppression_count, 2);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice address = slice_str(rows[i].address);

        assert_false(conf_address_list_has(source->suppressions[0], address, scratch));
        if (conf_address_list_has(source->suppressions[1], address, scratch) != rows[i].is_member)
            print_error("%s\n", rows[i].address);
        assert_int_equal(conf_address_list_has(source->suppressions[1], address, scratch),
                         rows[i].is_member);
    }
    regex_scratch_free(scratch);
    conf_unref(conf);
}

static void rules_of_replies(void **state)
{
    struct conf *conf =
        load("<smtp-pattern-list l>\n"
             "reply /http://help/x/ mode=backoff,backoff-to-normal-after=2h\n"
             "REPLY /b/ Skip-MX, defer-queue\n"
             "reply /c/ disable-source-ip,reenable-after=never,bounce-rcpt\n"
             "reply /d/ bounce-queue,mode=normal\n"
             "</smtp-pattern-list>\n"
             "<domain *>\nsmtp-pattern-list L\nmax-msg-rate 5/h\n</domain>\n"
             "<domain a>\nsmtp-pattern-list \"\"\nbackoff-max-msg-rate 2/h\n"
             "backoff-max-smtp-out 3\nbackoff-retry-after 2h,3h\nbackoff-to-normal-after 1d\n"
             "backoff-to-normal-after-delivery yes\n</domain>\n");
    struct conf_queue queue = queue_of(conf, "b", "{default}");
    const struct conf_reply_list *list = queue.replies;

    assert_non_null(list);
    assert_int_equal(list->rule_count, 4);
    assert_int_equal(list->rules[0].actions, CONF_REPLY_BACKOFF);
    assert_int_equal(list->rules[0].backoff_ms, 7200000);
    assert_int_equal(list->rules[1].actions, CONF_REPLY_SKIP_MX | CONF_REPLY_DEFER_QUEUE);
    assert_true(list->rules[1].backoff_ms == CONF_REPLY_NO_TIME);
    assert_int_equal(list->rules[2].actions, CONF_REPLY_DISABLE_SOURCE | CONF_REPLY_BOUNCE_RCPT);
    assert_true(list->rules[2].disabled_ms == CONF_UNLIMITED);
    assert_int_equal(list->rules[3].actions, CONF_REPLY_BOUNCE_QUEUE | CONF_REPLY_NORMAL);
    assert_int_equal(list->rules[3].line, 5);
    assert_string_equal(list->rules[3].file, "test");
    /* Twins that nobody gave are the normal ones, but for the time to the next attempt. */
    assert_int_equal(queue.backoff_max_msg_rate.count, 5);
    assert_true(queue.backoff_max_connect_rate.count == CONF_UNLIMITED);
    assert_int_equal(queue.backoff_max_smtp_out, 20);
    assert_int_equal(queue.backoff_retry_count, 1);
    assert_int_equal(queue.backoff_retry_ms[0], 3600000);
    assert_true(queue.backoff_to_normal_after_ms == CONF_UNLIMITED);
    queue = queue_of(conf, "a", "{default}");
    assert_null(queue.replies);
    assert_int_equal(queue.backoff_max_msg_rate.count, 2);
    assert_int_equal(queue.backoff_max_smtp_out, 3);
    assert_int_equal(queue.backoff_retry_count, 2);
    assert_int_equal(queue.backoff_retry_ms[1], 10800000);
    assert_int_equal(queue.backoff_to_normal_after_ms, 86400000);
    assert_true(queue.backoff_to_normal_after_delivery);
    conf_unref(conf);
}

static void rules_with_triggers_and_scopes(void **state)
{
    struct conf *conf =
        load("<smtp-pattern-list l>\n"
             "reply /^421 4\\.7\\.28 / or \"x\"/ stop=10m scope=source-ip\n"
             "reply /b/ mode=backoff,backoff-to-normal-after=1h trigger=5/10m scope=Provider\n"
             "reply /c/ defer-rcpt, stop trigger=20% scope=job\n"
             "reply /d/ disable-source-ip scope=sender-domain trigger=30%/1h, reenable-after=1d\n"
             "reply /e/mode=backoff\n"
             "</smtp-pattern-list>\n"
             "<domain *>\nsmtp-pattern-list l\n</domain>\n");
    struct conf *again = load("<smtp-pattern-list l>\n"
                              "reply /b/ skip-mx\n"
                              "reply /e/mode=backoff\n"
                              "</smtp-pattern-list>\n"
                              "<domain *>\nsmtp-pattern-list l\n</domain>\n");
    const struct conf_reply_rule *rules = queue_of(conf, "b", "{default}").replies->rules;
    const struct conf_reply_rule *others = queue_of(again, "b", "{default}").replies->rules;

    assert_int_equal(rules[0].actions, CONF_REPLY_STOP);
    assert_int_equal(rules[0].stop_ms, 600000);
    assert_int_equal(rules[0].scope, CONF_REPLY_OF_SOURCE_IP);
    assert_int_equal(rules[0].trigger.count, 1);
    assert_int_equal(rules[0].trigger.interval_ms, 0);
    assert_string_equal(rules[1].text,
                        "reply /b/ mode=backoff,backoff-to-normal-after=1h trigger=5/10m "
                        "scope=Provider");
    assert_int_equal(rules[1].backoff_ms, 3600000);
    assert_int_equal(rules[1].scope, CONF_REPLY_OF_PROVIDER);
    assert_int_equal(rules[1].trigger.count, 5);
    assert_int_equal(rules[1].trigger.percent, 0);
    assert_int_equal(rules[1].trigger.interval_ms, 600000);
    assert_int_equal(rules[2].actions, CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT);
    assert_int_equal(rules[2].stop_ms, CONF_REPLY_STOP_MS);
    assert_int_equal(rules[2].trigger.percent, 20);
    assert_int_equal(rules[2].trigger.count, CONF_REPLY_SHARE_COUNT);
    assert_int_equal(rules[2].trigger.interval_ms, CONF_REPLY_SHARE_MS);
    assert_int_equal(rules[2].scope, CONF_REPLY_OF_JOB);
    assert_int_equal(rules[3].trigger.interval_ms, 3600000);
    assert_int_equal(rules[3].disabled_ms, 86400000);
    assert_int_equal(rules[4].actions, CONF_REPLY_BACKOFF);
    /* The same line is the same rule; another one is not. */
    assert_true(rules[4].id == others[1].id);
    assert_true(rules[1].id != others[0].id);
    conf_unref(conf);
    conf_unref(again);
}

static void quoted_aliases(void **state)
{
    struct conf *conf = load("alias \"a@x\" \"b@y, c@y\"\nalias d@x e@y,f@y\n");
    struct findings findings;
    const struct slice *targets;

    assert_int_equal(conf_alias(conf, SLICE_LITERAL("a@x"), &targets), 2);
    assert_true(slice_equal(targets[0], SLICE_LITERAL("b@y")));
    assert_true(slice_equal(targets[1], SLICE_LITERAL("c@y")));
    assert_int_equal(conf_alias(conf, SLICE_LITERAL("d@x"), &targets), 2);
    conf_unref(conf);
    refuse("<aliases>\na@x \"b@y\" c@y\n</aliases>\n", &findings);
    refuse("<aliases>\na@x \"b@y\n</aliases>\n", &findings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(the_first_rule_that_matches),
        cmocka_unit_test(rules_have_priorities),
        cmocka_unit_test(the_first_rewrite_that_fits),
        cmocka_unit_test(members_of_an_address_list),
        cmocka_unit_test(quoted_aliases),
        cmocka_unit_test(rules_of_replies),
        cmocka_unit_test(rules_with_triggers_and_scopes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
