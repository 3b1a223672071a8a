/* Programs of the real world: what they are given of ours, and what they have read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/io/io.h"
#include "core/io/io_uring.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct io *io;

static int start(const char *script, int *ret_process)
{
    char text[256];
    char *arguments[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, text, NULL};
    int fd = -1;

    snprintf(text, sizeof(text), "%s", script);
    assert_int_equal(io_program_start(io, arguments, &fd, ret_process), 0);
    return fd;
}

/* Everything it writes until it ends; its exit status. */
static int read_all(int fd, int process, char *room, size_t bytes)
{
    siginfo_t about;
    size_t used = 0;
    ssize_t count;
    int status = -1;

    while ((count = read(fd, room + used, bytes - 1 - used)) > 0)
        used += (size_t)count;
    room[used] = '\0';
    assert_int_equal(waitid(P_PID, (id_t)process, &about, WEXITED | WNOWAIT), 0);
    assert_true(io_program_has_ended(io, process, &status));
    io_close_now(io, fd);
    return status;
}

static void nothing_of_ours_is_inherited(void **state)
{
    char room[4096], *ignored;
    sigset_t set, before;
    int fd, process, plain[4];

    /* Descriptors that do not close themselves, a mask, a signal that is ignored. */
    for (int i = 0; i < 4; i++)
        plain[i] = open("/dev/null", O_RDONLY);
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    signal(SIGPIPE, SIG_IGN);
    setenv("SECRET", "of ours", 1);
    fd = start("for f in /proc/$$/fd/*; do printf '%s ' \"${f##*/}\"; done; echo; set; "
               "exec /bin/grep -E '^Sig(Blk|Ign)' /proc/self/status",
               &process);
    assert_int_equal(read_all(fd, process, room, sizeof(room)), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (int i = 0; i < 4; i++)
        close(plain[i]);
    /* The fourth is the folder that the shell reads. */
    assert_true(strncmp(room, "0 1 2 \n", 7) == 0 || strncmp(room, "0 1 2 3 \n", 9) == 0);
    assert_null(strstr(room, "SECRET"));
    assert_non_null(strstr(room, "SigBlk:\t0000000000000000"));
    ignored = strstr(room, "SigIgn:\t");
    assert_non_null(ignored);
    /* Above are those that the C library keeps for itself. */
    assert_int_equal(strtoull(ignored + 8, NULL, 16) & 0x7fffffff, 0);
}

static void what_a_dead_program_left_was_not_read(void **state)
{
    siginfo_t about;
    int process, status, fd = start("exec /bin/sleep 100", &process);

    assert_int_equal(io_program_unread(io, fd), 0);
    assert_int_equal(write(fd, "row\r\n", 5), 5);
    assert_true(io_program_unread(io, fd) > 0);
    io_program_kill(io, process, true);
    assert_int_equal(waitid(P_PID, (id_t)process, &about, WEXITED | WNOWAIT), 0);
    assert_true(io_program_unread(io, fd) > 0);
    assert_true(io_program_has_ended(io, process, &status));
    assert_int_equal(status, -SIGKILL);
    io_close_now(io, fd);
}

static void what_was_read_is_known(void **state)
{
    char room[64];
    int process, fd = start("read line; echo \"$line\"; read more", &process);

    assert_int_equal(write(fd, "row\n", 4), 4);
    assert_int_equal(read(fd, room, sizeof(room)), 4);
    assert_int_equal(io_program_unread(io, fd), 0);
    io_program_end_input(io, fd);
    assert_int_equal(read_all(fd, process, room, sizeof(room)), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_of_ours_is_inherited),
        cmocka_unit_test(what_a_dead_program_left_was_not_read),
        cmocka_unit_test(what_was_read_is_known),
    };
    struct io_options options = {.name = "test"};
    int failed;

    alarm(60);
    if (io_create(&options, &io) < 0)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    io_destroy(io);
    return failed;
}
