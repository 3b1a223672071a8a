#include "bench/process.h"

#include "core/base/must.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN_MAX 64
#define FILES_WANTED 262144
#define DIRS_MAX     16

/* A signal handler and an exit handler have no other way to find these. */
static volatile sig_atomic_t stop_asked;
static pid_t children[CHILDREN_MAX];
static char dirs[DIRS_MAX][PATH_MAX];
static pid_t owner;

static void on_stop_signal(int number)
{
    stop_asked = 1;
}

void process_init(void)
{
    struct sigaction action = {.sa_handler = on_stop_signal};

    owner = getpid();
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    atexit(process_clean_up);
}

bool process_stop_asked(void)
{
    return stop_asked != 0;
}

uint64_t process_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void process_sleep_ns(uint64_t ns)
{
    struct timespec pause = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

    nanosleep(&pause, NULL);
}

void process_sleep_ms(uint32_t ms)
{
    process_sleep_ns((uint64_t)ms * 1000000);
}

/* ---- Children ------------------------------------------------------------------------------ */

static void remember_child(pid_t child)
{
    for (int i = 0; i < CHILDREN_MAX; i++) {
        if (children[i] == 0) {
            children[i] = child;
            return;
        }
    }
    must(!"too many children");
}

static void forget_child(pid_t child)
{
    for (int i = 0; i < CHILDREN_MAX; i++) {
        if (children[i] == child)
            children[i] = 0;
    }
}

/* What every child does first. */
static void begin_child(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* The parent may have died before that call. */
    if (getppid() != parent)
        _exit(1);
    memset(children, 0, sizeof(children));
    memset(dirs, 0, sizeof(dirs));
    stop_asked = 0;
}

pid_t process_fork(int (*body)(void *context), void *context)
{
    pid_t parent = getpid();
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        int answer;

        begin_child(parent);
        answer = body(context);
        fflush(NULL);
        _exit(answer < 0 ? 1 : 0);
    }
    remember_child(child);
    return child;
}

pid_t process_run(char *const argv[], const char *log_path)
{
    pid_t parent = getpid();
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        int log;

        begin_child(parent);
        log = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (log < 0)
            _exit(127);
        dup2(log, 1);
        dup2(log, 2);
        signal(SIGPIPE, SIG_DFL);
        execv(argv[0], argv);
        dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    remember_child(child);
    return child;
}

bool process_is_alive(pid_t child, int *ret_status)
{
    int status = 0;
    pid_t gone = waitpid(child, &status, WNOHANG);

    if (gone == 0 || (gone < 0 && errno == EINTR))
        return true;
    forget_child(child);
    *ret_status = status;
    return false;
}

bool process_wait(pid_t child, uint64_t timeout_ms, int *ret_status)
{
    uint64_t end_ns = process_now_ns() + timeout_ms * 1000000;

    while (process_is_alive(child, ret_status)) {
        if (process_now_ns() >= end_ns)
            return false;
        process_sleep_ms(2);
    }
    return true;
}

int process_end(pid_t child, uint32_t grace_ms)
{
    int status = 0;

    kill(child, SIGTERM);
    if (!process_wait(child, grace_ms, &status)) {
        kill(child, SIGKILL);
        process_wait(child, 10000, &status);
    }
    return status;
}

/* ---- CPU ----------------------------------------------------------------------------------- */

uint64_t process_cpu_us(pid_t pid)
{
    char path[64];
    char line[1024];
    const char *rest = NULL;
    uint64_t user = 0;
    uint64_t system = 0;
    FILE *stream;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    stream = fopen(path, "re");
    if (stream == NULL)
        return 0;
    /* The name in brackets may hold anything; the numbers begin behind the last bracket. */
    if (fgets(line, sizeof(line), stream) != NULL)
        rest = strrchr(line, ')');
    if (rest == NULL || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                               &user, &system) != 2)
        user = system = 0;
    fclose(stream);
    return (user + system) * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

uint64_t process_own_cpu_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

uint64_t process_rss_bytes(pid_t pid)
{
    char path[64];
    uint64_t pages = 0;
    FILE *stream;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    stream = fopen(path, "re");
    if (stream == NULL)
        return 0;
    if (fscanf(stream, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(stream);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void process_raise_files(void)
{
    struct rlimit limit = {.rlim_cur = FILES_WANTED, .rlim_max = FILES_WANTED};

    /* Only who may raise the hard limit gets all of it. */
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- Files --------------------------------------------------------------------------------- */

int process_temp_dir(const char *base, char *room)
{
    if (snprintf(room, PATH_MAX, "%s/ringpost-bench.XXXXXX", base) >= PATH_MAX)
        return -ENAMETOOLONG;
    if (mkdtemp(room) == NULL)
        return -errno;
    for (int i = 0; i < DIRS_MAX; i++) {
        if (dirs[i][0] == '\0') {
            memcpy(dirs[i], room, strlen(room) + 1);
            return 0;
        }
    }
    rmdir(room);
    return -EMFILE;
}

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *where)
{
    remove(path);
    return 0;
}

void process_temp_dir_remove(const char *path)
{
    for (int i = 0; i < DIRS_MAX; i++) {
        if (strcmp(dirs[i], path) == 0) {
            nftw(dirs[i], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
            dirs[i][0] = '\0';
            return;
        }
    }
}

void process_clean_up(void)
{
    /* A child that leaves by exit() must not end its siblings. */
    if (getpid() != owner)
        return;
    for (int i = 0; i < CHILDREN_MAX; i++) {
        if (children[i] > 0)
            process_end(children[i], 2000);
    }
    for (int i = 0; i < DIRS_MAX; i++) {
        if (dirs[i][0] != '\0')
            process_temp_dir_remove(dirs[i]);
    }
}

int64_t process_device_flushes(const char *path)
{
    char line[512];
    char disk[PATH_MAX];
    char link[64];
    struct stat stat_of_path;
    int64_t flushes = -1;
    const char *name;
    ssize_t len;
    FILE *stream;

    if (stat(path, &stat_of_path) != 0)
        return -1;
    snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(stat_of_path.st_dev),
             minor(stat_of_path.st_dev));
    len = readlink(link, disk, sizeof(disk) - 1);
    if (len <= 0)
        return -1;
    disk[len] = '\0';
    /* ".../block/vda" or ".../block/vda/vda1": flushes are counted for the whole disk. */
    name = strstr(disk, "/block/");
    if (name == NULL)
        return -1;
    name += strlen("/block/");
    disk[(size_t)(name - disk) + strcspn(name, "/")] = '\0';
    stream = fopen("/proc/diskstats", "re");
    if (stream == NULL)
        return -1;
    while (fgets(line, sizeof(line), stream) != NULL) {
        char device[64];
        int64_t count;

        if (sscanf(line,
                   " %*u %*u %63s %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %ld",
                   device, &count) == 2 &&
            strcmp(device, name) == 0)
            flushes = count;
    }
    fclose(stream);
    return flushes;
}
