#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>
#include <time.h>

#define DOMAINS 100000
#define VMTAS   2000
#define SOURCES 2000

/* Far above what it takes, far below what a linear scan would take. */
#ifdef __SANITIZE_ADDRESS__
#define SECONDS_MAX 10.0
#else
#define SECONDS_MAX 1.5
#endif

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Generated configurations have a block for every domain that was ever looked at by hand. */
static char *write_large(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    fprintf(out, "smtp-source-host 192.0.2.1 a\n<domain *>\nmax-smtp-out 1\n</domain>\n");
    for (unsigned i = 0; i < VMTAS; i++)
        fprintf(out, "<virtual-mta v%u>\nsmtp-source-host 10.%u.%u.1 v%u.example\n</virtual-mta>\n",
                i, i / 256, i % 256, i);
    for (unsigned i = 0; i < SOURCES; i++)
        fprintf(out, "<source 10.%u.%u.0/24>\nmax-message-hops %u\n</source>\n", i / 256, i % 256,
                i % 100 + 1);
    for (unsigned i = 0; i < DOMAINS; i++) {
        static const char *const forms[] = {"", "*.", "[*.]"};

        fprintf(out,
                "<domain %sd%u.example>\n    max-smtp-out %u # of %u\n    max-msg-rate %u/h\n"
                "    retry-after 10m,20m\n    bounce-after 1d\n</domain>\n",
                forms[i % 3], i, i % 500 + 2, i, i + 1);
    }
    assert_int_equal(fclose(out), 0);
    return text;
}

static void a_hundred_thousand_domains(void **state)
{
    char *text = write_large();
    double start = seconds();
    struct conf *conf = load(text);
    double loaded = seconds();
    uint64_t sum = 0;
    double done;

    for (unsigned i = 0; i < DOMAINS; i++) {
        struct conf_queue queue;
        char name[64];
        int len = snprintf(name, sizeof(name), "%sd%u.example", i % 3 == 1 ? "x." : "", i);

        conf_queue(conf, slice_of(name, (size_t)len), CONF_VMTA_DEFAULT, &queue);
        assert_int_equal(queue.max_smtp_out, i % 500 + 2);
        assert_int_equal(queue.retry_count, 2);
        sum += queue.max_smtp_out;
    }
    done = seconds();
    print_message("%zu octets loaded in %.3f s, %d queues looked up in %.3f s (%llu)\n",
                  strlen(text), loaded - start, DOMAINS, done - loaded, (unsigned long long)sum);
    assert_true(loaded - start < SECONDS_MAX);
    assert_true(done - loaded < SECONDS_MAX);
    assert_int_equal(conf_vmta_count(conf), VMTAS + 1);
    assert_int_equal(source_of(conf, "10.7.3.9", NULL)->max_message_hops, (7 * 256 + 3) % 100 + 1);
    conf_unref(conf);
    free(text);
}

/* What a reload reads when somebody has written such a file; `test config` looks at more of it. */
static void fifty_thousand_lines(void **state)
{
    static const struct conf_load_options lint = {.syntax_only = true, .lint = true};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct conf *checked = NULL;
    struct conf *conf;
    double start;
    double loaded;

    assert_non_null(out);
    for (unsigned i = 0; i < 50000 / 8; i++)
        fprintf(out,
                "<domain d%u.example>\nmax-smtp-out %u\nmax-msg-rate %u/h\nretry-after 10m,1h\n"
                "bounce-after 1d\nbackoff-max-msg-rate 1/h\nbackoff-retry-after 1d\n</domain>\n",
                i, i % 50 + 1, i + 2);
    assert_int_equal(fclose(out), 0);
    start = seconds();
    conf = load(text);
    loaded = seconds();
    assert_int_equal(conf_load_text("test", text, &lint, NULL, NULL, &checked), 0);
    print_message("50,000 lines loaded in %.3f s, checked in %.3f s\n", loaded - start,
                  seconds() - loaded);
    assert_int_equal(queue_of(conf, "d6249.example", "{default}").max_msg_rate.count, 6251);
    conf_unref(checked);
    conf_unref(conf);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_hundred_thousand_domains),
                                       cmocka_unit_test(fifty_thousand_lines)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
