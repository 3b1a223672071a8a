/* log, err and must. */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/must.h"

#include "tests/unit/core_base/unit.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static char line[4 * LOG_LINE_MAX];
static int pipe_ends[2];

/* What was written since the last call; the pipe does not block. */
static size_t read_lines(void)
{
    ssize_t len = read(pipe_ends[0], line, sizeof(line) - 1);

    line[len > 0 ? len : 0] = '\0';
    return len > 0 ? (size_t)len : 0;
}

static int open_pipe(void **state)
{
    return pipe2(pipe_ends, O_NONBLOCK);
}

static int close_pipe(void **state)
{
    log_open(2, LOG_INFO);
    log_set_sink(NULL, NULL);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return 0;
}

/* The text behind time and level. */
static const char *text_of(const char *from)
{
    return from + strlen("2024-01-02T03:04:05.678Z WARN  ");
}

static void a_line_has_time_level_and_text(void **state)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ WARN  7 words\n";

    log_open(pipe_ends[1], LOG_DEBUG);
    log_warn("%d %s", 7, "words");
    assert_int_equal(read_lines(), strlen(shape));
    for (size_t i = 0; shape[i] != '\0'; i++) {
        if (shape[i] == 'd' && i < 24)
            assert_true(isdigit((unsigned char)line[i]));
        else
            assert_int_equal(line[i], shape[i]);
    }
}

static void levels_below_the_one_in_force_are_silent(void **state)
{
    log_open(pipe_ends[1], LOG_WARN);
    log_debug("no");
    log_info("no");
    assert_int_equal(read_lines(), 0);
    log_error("yes");
    assert_true(read_lines() > 0);
    assert_non_null(strstr(line, " ERROR yes\n"));
}

static void control_bytes_cannot_forge_a_line(void **state)
{
    log_open(pipe_ends[1], LOG_INFO);
    log_info("%s", "a\r\n2024 b\t\x1b[2J\x7f\x01");
    read_lines();
    assert_string_equal(text_of(line), "a\\x0d\\x0a2024 b\\x09\\x1b[2J\\x7f\\x01\n");
    /* The controls at 0x80 to 0x9f, alone and as UTF-8; other UTF-8 stays readable. */
    log_info("%s", "x\x9b y\xc2\x9b z\xc3\x9c \xe2\x82\xac");
    read_lines();
    assert_string_equal(text_of(line), "x\\x9b y\xc2\\x9b z\xc3\x9c \xe2\x82\xac\n");
}

static void long_lines_are_cut_and_say_so(void **state)
{
    char text[3 * LOG_LINE_MAX];
    size_t len = 0;

    log_open(pipe_ends[1], LOG_INFO);
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    log_info("%s", text);
    len = read_lines();
    assert_in_range(len, LOG_LINE_MAX - 8, LOG_LINE_MAX);
    assert_string_equal(line + len - 5, "x...\n");

    /* Escapes make a short text long, and are never cut in two. */
    for (size_t bytes = 230; bytes < 260; bytes++) {
        memset(text, '\n', bytes);
        text[bytes] = '\0';
        log_info("%s", text);
        len = read_lines();
        assert_true(len <= LOG_LINE_MAX);
        assert_int_equal(line[len - 1], '\n');
        assert_true(strcmp(line + len - 5, "\\x0a\n") == 0 ||
                    strcmp(line + len - 8, "\\x0a...\n") == 0 || len < LOG_LINE_MAX);
        assert_memory_equal(line + len - (line[len - 2] == '.' ? 8 : 5), "\\x0a", 4);
    }
}

static void errno_is_kept(void **state)
{
    log_open(-1, LOG_INFO);
    errno = ENOSPC;
    log_info("into nothing");
    assert_int_equal(errno, ENOSPC);
    log_open(pipe_ends[1], LOG_INFO);
}

struct sunk {
    unsigned count;
    enum log_level level;
    char text[LOG_LINE_MAX];
};

static void sink(void *context, enum log_level level, const char *text)
{
    struct sunk *sunk = context;

    sunk->count++;
    sunk->level = level;
    snprintf(sunk->text, sizeof(sunk->text), "%s", text);
}

static void a_sink_gets_the_bare_text(void **state)
{
    struct sunk sunk = {0};

    log_open(pipe_ends[1], LOG_INFO);
    log_set_sink(sink, &sunk);
    log_debug("hidden");
    log_warn("seen\n%d", 5);
    assert_int_equal(sunk.count, 1);
    assert_int_equal(sunk.level, LOG_WARN);
    assert_string_equal(sunk.text, "seen\\x0a5");
    assert_int_equal(read_lines(), 0);
    log_set_sink(NULL, NULL);
    log_info("back");
    assert_true(read_lines() > 0);
    assert_int_equal(sunk.count, 1);
}

static void errors_have_texts(void **state)
{
    static const int codes[] = {
#define CODE(name, value, text) name,
        ERR_TABLE(CODE)
#undef CODE
    };

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_true(codes[i] < -1000);
        assert_string_not_equal(err_text(codes[i]), "unknown error");
        for (size_t other = 0; other < i; other++) {
            assert_int_not_equal(codes[i], codes[other]);
            assert_string_not_equal(err_text(codes[i]), err_text(codes[other]));
        }
    }
    assert_string_equal(err_text(E_FULL), "no room now; try again later");
    assert_string_equal(err_text(-ENOENT), "No such file or directory");
    assert_string_equal(err_text(-999), "unknown error");
    assert_string_equal(err_text(-1999), "unknown error");
    assert_string_equal(err_text(INT32_MIN), "unknown error");
    assert_string_equal(err_text(0), "no error");
    assert_string_equal(err_text(1001), "no error");
}

static void break_an_invariant(void *context)
{
    must(context != NULL);
}

static void must_stops_and_says_where(void **state)
{
    int status = 0;
    int value = 0;
    pid_t child;

    assert_false(stops(break_an_invariant, &value));
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit no_core = {0};

        setrlimit(RLIMIT_CORE, &no_core);
        dup2(pipe_ends[1], 2);
        signal(SIGABRT, SIG_DFL);
        break_an_invariant(NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    read_lines();
    assert_non_null(strstr(line, "test_log.c:"));
    assert_non_null(strstr(line, "context != NULL"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_and_text),
        cmocka_unit_test(levels_below_the_one_in_force_are_silent),
        cmocka_unit_test(control_bytes_cannot_forge_a_line),
        cmocka_unit_test(long_lines_are_cut_and_say_so),
        cmocka_unit_test(errno_is_kept),
        cmocka_unit_test(a_sink_gets_the_bare_text),
        cmocka_unit_test(errors_have_texts),
        cmocka_unit_test(must_stops_and_says_where),
    };

    return cmocka_run_group_tests(tests, open_pipe, close_pipe);
}
