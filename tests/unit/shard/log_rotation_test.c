/* The log file at midnight, on the real file system. */
#include "core/base/log.h"
#include "core/io/io_uring.h"
#include "shard/control_int.h"
#include "tests/unit/core_base/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_US 86400000000ull

static char directory[] = "/tmp/ringpost-log-XXXXXX";
static struct control control;

static void path_of(char room[256], const char *name)
{
    snprintf(room, 256, "%s/%s", directory, name);
}

static void use_conf(const char *rest)
{
    char text[512];
    static const struct conf_load_options options = {.syntax_only = true};

    conf_unref(control.conf);
    snprintf(text, sizeof(text), "log-file %s/log\n%s", directory, rest);
    assert_int_equal(conf_load_text("test", text, &options, NULL, NULL, &control.conf), 0);
}

/* The last line of a file, behind its level. */
static void assert_last(const char *name, const char *wanted)
{
    char path[256], line[1024] = "";
    FILE *file;

    path_of(path, name);
    file = fopen(path, "r");
    if (file == NULL)
        fail_msg("%s is not there", path);
    while (fgets(line, sizeof(line), file) != NULL)
        continue;
    fclose(file);
    if (strstr(line, wanted) == NULL)
        fail_msg("%s ends with \"%s\"", name, line);
}

static bool exists(const char *name)
{
    char path[256];

    path_of(path, name);
    return access(path, F_OK) == 0;
}

static void next_day(const char *word)
{
    log_info("%s", word);
    control.log_day--;
    control_log_look(&control);
}

static void rotates(void **state)
{
    struct stat status;
    char path[256];

    use_conf("log-rotate 3\n");
    control_log_look(&control);
    assert_int_equal(control.log_day, io_wall_us(control.io) / DAY_US);
    control_log_look(&control);
    assert_false(exists("log.1"));
    for (int i = 1; i <= 5; i++) {
        char word[16];

        snprintf(word, sizeof(word), "day-%d", i);
        next_day(word);
    }
    log_info("now");
    assert_last("log", "now");
    assert_last("log.1", "day-5");
    assert_last("log.2", "day-4");
    assert_last("log.3", "day-3");
    assert_false(exists("log.4"));
    path_of(path, "log");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07, 0);

    use_conf("log-rotate 3\nlog-auto-rotation no\nlog-file-world-readable yes\n");
    next_day("not rotated");
    assert_last("log", "not rotated");
    use_conf("log-rotate 0\nlog-file-world-readable yes\n");
    next_day("forgotten");
    log_info("later");
    assert_last("log", "later");
    assert_last("log.1", "day-5");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);
}

/* The folder is gone: lines go on where they went, and it is not tried all day. */
static void a_failure_loses_no_line(void **state)
{
    char path[256];

    use_conf("log-rotate 3\n");
    for (int i = 0; i < 4; i++) {
        path_of(path, (const char *[]){"log", "log.1", "log.2", "log.3"}[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(directory), 0);
    control.log_day--;
    for (int i = 0; i < 3; i++)
        control_log_look(&control);
    assert_int_equal(control.log_day, io_wall_us(control.io) / DAY_US);
    assert_true(log_has_file());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotates),
        cmocka_unit_test(a_failure_loses_no_line),
    };
    char path[256];
    int result;

    if (mkdtemp(directory) == NULL ||
        io_create(&(struct io_options){.name = "log"}, &control.io) < 0)
        return 1;
    path_of(path, "log");
    log_open(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640), LOG_INFO);
    result = cmocka_run_group_tests(tests, NULL, NULL);
    conf_unref(control.conf);
    io_destroy(control.io);
    return result;
}
