#include "cmd/signers.h"

#include "cmd/beside.h"
#include "cmd/threads.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM        "ringpost-sign"
#define LOOK_MS        1000
#define MEASURE_MS     40
#define START_MS       10000 /* so long a helper may take to measure itself */
#define PAUSE_MAX      60    /* rounds of LOOK_MS */
#define NO_HELPER      (-1)
/* A helper is worth its way there and back when it is so much faster. */
#define FASTER_PERCENT 110u

struct kept_helper {
    int memory_fd;
    int bell_fd; /* the helper's end */
    pid_t pid;   /* NO_HELPER = none runs */
    int pid_fd;
};

struct signers {
    struct sign_service service;
    struct kept_helper *kept;
    int stop_fd;
    bool is_missing;   /* the program, and it was said */
    bool is_told;      /* what the measures came to */
    bool is_of_no_use; /* as they were */
    uint32_t pause;    /* rounds until the next try, after one that failed */
    uint32_t pause_next;
    uint32_t lives;
    char path[PATH_MAX];
};

/* ---- One helper ------------------------------------------------------------------------------ */

/* Wakes the shard: the octet comes as if from the helper. */
static void wake(struct signers *signers, uint32_t number)
{
    (void)!send(signers->kept[number].bell_fd, ".", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* 0, or negative when the program cannot be started. */
static int spawn(struct signers *signers, uint32_t number)
{
    struct kept_helper *kept = &signers->kept[number];
    char *arguments[] = {(char[]){PROGRAM}, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int result;

    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    /* Both numbers are free here: see signers_create. */
    posix_spawn_file_actions_adddup2(&actions, kept->memory_fd, SIGN_RING_MEMORY_FD);
    posix_spawn_file_actions_adddup2(&actions, kept->bell_fd, SIGN_RING_BELL_FD);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    result = -posix_spawn(&kept->pid, signers->path, &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    kept->pid_fd = result == 0 ? (int)syscall(SYS_pidfd_open, kept->pid, 0) : -1;
    if (result < 0)
        kept->pid = NO_HELPER;
    return result;
}

static void bury(struct signers *signers, uint32_t number)
{
    struct kept_helper *kept = &signers->kept[number];

    waitpid(kept->pid, NULL, 0);
    close(kept->pid_fd);
    kept->pid = NO_HELPER;
    atomic_store_explicit(&signers->service.helpers[number].life, 0, memory_order_release);
    wake(signers, number);
}

static void end(struct signers *signers, uint32_t number)
{
    if (signers->kept[number].pid == NO_HELPER)
        return;
    kill(signers->kept[number].pid, SIGKILL);
    bury(signers, number);
}

/* Whether it ends within the time; the thread's own end wakes it as well. */
static bool wait_for_end(struct signers *signers, uint32_t number, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = signers->kept[number].pid_fd, .events = POLLIN},
                           {.fd = signers->stop_fd, .events = POLLIN}};

    return poll(fds, 2, timeout_ms) > 0;
}

/* Starts one and waits until it has measured itself. */
static bool start(struct signers *signers, uint32_t number)
{
    struct sign_helper *helper = &signers->service.helpers[number];
    int result;

    for (uint32_t i = 0; i < SIGN_RING_KINDS; i++)
        atomic_store(&helper->ring->rates[i], 0);
    /* Nothing is under way: the shard has taken back what the last one left. */
    atomic_store(&helper->ring->asked, atomic_load(&helper->asked));
    atomic_store(&helper->ring->answered, atomic_load(&helper->asked));
    atomic_store(&helper->ring->helper_sleeps, 0);
    result = spawn(signers, number);
    if (result < 0) {
        if (!signers->is_missing)
            log_info("signatures are made in the daemon: %s: %s", signers->path, err_text(result));
        signers->is_missing = true;
        return false;
    }
    for (uint32_t waited_ms = 0; atomic_load(&helper->ring->rates[SIGN_RING_KINDS - 1]) == 0;
         waited_ms += 5) {
        if (waited_ms >= START_MS || wait_for_end(signers, number, 5)) {
            end(signers, number);
            return false;
        }
    }
    signers->is_missing = false;
    atomic_store_explicit(&helper->life, ++signers->lives, memory_order_release);
    wake(signers, number);
    return true;
}

/* ---- Which of them signs --------------------------------------------------------------------- */

static void measure_daemon(struct sign_service *service)
{
    for (uint32_t i = 0; i < SIGN_RING_KINDS; i++) {
        if (atomic_load(&service->daemon_rates[i]) == 0)
            atomic_store(&service->daemon_rates[i], sign_measure(i, MEASURE_MS));
    }
}

/* By the rates of the first helper. True when helpers are of use. */
static bool choose(struct signers *signers)
{
    struct sign_service *service = &signers->service;
    bool is_asked = atomic_load(&service->with) == CONF_SIGN_HELPER;
    bool is_useful = false;
    uint32_t here[SIGN_RING_KINDS], there[SIGN_RING_KINDS];

    for (uint32_t i = 0; i < SIGN_RING_KINDS; i++) {
        bool helps;

        here[i] = atomic_load(&service->daemon_rates[i]);
        there[i] = atomic_load(&service->helpers[0].ring->rates[i]);
        helps = there[i] > 1 &&
                (is_asked || (uint64_t)there[i] * 100 > (uint64_t)here[i] * FASTER_PERCENT);
        atomic_store(&service->helper_rates[i], there[i]);
        atomic_store(&service->helps[i], helps);
        is_useful |= helps;
    }
    if (!signers->is_told)
        log_info("signatures a second of one processor: rsa-2048 %u in the daemon, %u in " PROGRAM
                 "; ed25519 %u, %u",
                 here[SIGN_RSA], there[SIGN_RSA], here[SIGN_ED25519], there[SIGN_ED25519]);
    signers->is_told = true;
    return is_useful;
}

static void end_all(struct signers *signers)
{
    for (uint32_t i = 0; i < SIGN_RING_KINDS; i++)
        atomic_store(&signers->service.helps[i], false);
    for (uint32_t i = 0; i < signers->service.helper_count; i++)
        end(signers, i);
}

/* Ended by itself, or a shard says that it does not answer. */
static void look_at(struct signers *signers, uint32_t number)
{
    struct kept_helper *kept = &signers->kept[number];
    const struct sign_helper *helper = &signers->service.helpers[number];
    uint32_t life = atomic_load(&helper->life);
    siginfo_t facts = {0};

    if (kept->pid == NO_HELPER)
        return;
    if (life > 0 && atomic_load(&helper->hung_life) == life)
        kill(kept->pid, SIGKILL);
    else if (waitid(P_PID, (id_t)kept->pid, &facts, WEXITED | WNOHANG | WNOWAIT) < 0 ||
             facts.si_pid == 0)
        return;
    log_error(PROGRAM " of shard %u has ended: the daemon signs until it runs again", number);
    atomic_fetch_add(&signers->service.restarts, 1);
    bury(signers, number);
}

/* What should run does. */
static void keep(struct signers *signers)
{
    if (signers->is_of_no_use)
        return;
    if (signers->pause > 0) {
        signers->pause--;
        return;
    }
    measure_daemon(&signers->service);
    for (uint32_t i = 0; i < signers->service.helper_count; i++) {
        if (signers->kept[i].pid == NO_HELPER && !start(signers, i)) {
            signers->pause_next =
                signers->pause_next < PAUSE_MAX ? signers->pause_next * 2 + 1 : PAUSE_MAX;
            signers->pause = signers->pause_next;
            return;
        }
        if (i == 0 && !choose(signers)) {
            signers->is_of_no_use = true;
            end_all(signers);
            return;
        }
    }
    signers->pause_next = 0;
}

static void obey(struct signers *signers, uint32_t with, bool is_new)
{
    if (is_new) {
        signers->is_of_no_use = false;
        signers->pause = 0;
    }
    if (with != CONF_SIGN_DAEMON) {
        keep(signers);
    } else if (is_new) {
        measure_daemon(&signers->service);
        end_all(signers);
    }
}

/* Until something ends, or the time is over. False: the thread is to end. */
static bool rest(struct signers *signers)
{
    uint32_t count = signers->service.helper_count;
    struct pollfd fds[THREADS_MAX + 1] = {{.fd = signers->stop_fd, .events = POLLIN}};

    for (uint32_t i = 0; i < count; i++)
        fds[i + 1] =
            (struct pollfd){.fd = signers->kept[i].pid == NO_HELPER ? -1 : signers->kept[i].pid_fd,
                            .events = POLLIN};
    poll(fds, count + 1, LOOK_MS);
    for (uint32_t i = 0; i < count; i++)
        look_at(signers, i);
    return fds[0].revents == 0;
}

void *signers_run(void *argument)
{
    struct signers *signers = argument;
    struct sign_service *service = &signers->service;
    uint32_t before = UINT32_MAX;

    pthread_setname_np(pthread_self(), "signers");
    do {
        uint32_t with = atomic_load(&service->with);

        if (!atomic_load(&service->is_wanted))
            continue;
        obey(signers, with, with != before);
        before = with;
    } while (rest(signers));
    end_all(signers);
    return NULL;
}

/* ---- Before and after ------------------------------------------------------------------------ */

/* Numbers above those that a helper finds them at: dup2 onto itself would keep close-on-exec. */
static int move_up(int fd)
{
    int moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, SIGN_RING_BELL_FD + 1);

    if (fd >= 0)
        close(fd);
    return moved;
}

static int open_ring(struct sign_helper *helper, struct kept_helper *kept)
{
    int ends[2];

    *kept = (struct kept_helper){.pid = NO_HELPER, .pid_fd = -1};
    kept->memory_fd = move_up(memfd_create("ringpost-sign", MFD_CLOEXEC));
    if (kept->memory_fd < 0 || ftruncate(kept->memory_fd, sizeof(*helper->ring)) < 0)
        return -errno;
    helper->ring =
        mmap(NULL, sizeof(*helper->ring), PROT_READ | PROT_WRITE, MAP_SHARED, kept->memory_fd, 0);
    if (helper->ring == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    helper->bell_fd = ends[0];
    kept->bell_fd = move_up(ends[1]);
    return kept->bell_fd < 0 ? -errno : 0;
}

struct signers *signers_create(uint32_t shard_count)
{
    struct signers *signers = mem_alloc(sizeof(*signers));

    signers->kept = mem_alloc(shard_count * sizeof(*signers->kept));
    signers->service.helpers = mem_alloc(shard_count * sizeof(*signers->service.helpers));
    signers->service.helper_count = shard_count;
    signers->stop_fd = eventfd(0, EFD_CLOEXEC);
    beside_path(PROGRAM, signers->path);
    for (uint32_t i = 0; i < shard_count; i++) {
        int result = open_ring(&signers->service.helpers[i], &signers->kept[i]);

        if (result < 0 || signers->stop_fd < 0) {
            log_warn("no signing helpers: %s", err_text(result));
            return NULL;
        }
    }
    return signers;
}

struct sign_service *signers_service(struct signers *signers)
{
    return signers ? &signers->service : NULL;
}

void signers_stop(struct signers *signers)
{
    uint64_t one = 1;

    (void)!write(signers->stop_fd, &one, sizeof(one));
}
