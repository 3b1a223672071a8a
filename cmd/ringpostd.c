/*
 * ringpostd: the daemon. Reads the configuration, starts one thread per shard, the resolver's and
 * the signal thread; the main thread is control's. Start-up goes in steps that all threads take
 * together, so that memory is touched by the thread that will use it and nothing runs before
 * everything is wired.
 */
#include "bpf/ips.h"
#include "cmd/beside.h"
#include "cmd/signers.h"
#include "cmd/threads.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/io/io_uring.h"
#include "net/resolver.h"
#include "net/sign.h"
#include "net/tls.h"
#include "shard/assembly.h"
#include "shard/overrides.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* Of the signal thread's parcels to control. */
enum signal_kind {
    SIGNAL_STOP,
    SIGNAL_RELOAD,
};

#define STOP_GRACE_MS       30000
#define LISTEN_BACKLOG      1024
#define CARRIER_END_MS      5000
#define COMMITTER_OWN_ABOVE 4 /* processors; ARCHITECTURE: below it shares a shard's thread */

struct daemon;

struct shard_thread {
    pthread_t thread;
    struct daemon *daemon;
    struct io *io;
    struct shard *shard;
    uint16_t number;
    int *listen_fds;
};

/* Everything the daemon is made of; lives in main. */
struct daemon {
    struct conf *conf;
    struct threads_plan plan;
    struct spool_options spool_options;
    struct shard_thread *shards;
    struct io *control_io;
    struct control *control;
    struct assembly *assembly;
    struct resolver *resolver;
    struct mailbox *signals;     /* signal thread to control */
    struct mailbox *to_closer;   /* control to the committer's loop */
    struct mailbox *from_closer; /* and back */
    struct parcel signal_parcel;
    struct parcel reload_parcel;
    _Atomic bool reload_is_out; /* reload_parcel is on its way */
    const char *config_path;
    struct conf_files *config_files; /* what conf was read from; control's when it has started */
    struct parcel close_parcel;
    struct signers *signers; /* NULL = the daemon signs by itself */
    struct ips *ips;         /* NULL = shards look at TCP_INFO instead */
    pthread_barrier_t step;
    pthread_t committer_thread;
    struct io *committer_io;
    bool has_committer_thread;
    pthread_barrier_t carrier_step; /* of main and the carrier's thread: it takes no other */
    pthread_t carrier_thread;
    struct io *carrier_io;
    bool foreground;
    _Atomic int failed;
};

/* ---- Steps all threads take -------------------------------------------------------------------
 */

/*
 * Waits for everybody; false when somebody failed before, and all threads end. The second wait
 * keeps a failure in the next step from being seen by a thread that is still leaving this one.
 */
static bool step(struct daemon *daemon)
{
    bool is_well;

    pthread_barrier_wait(&daemon->step);
    is_well = atomic_load(&daemon->failed) == 0;
    pthread_barrier_wait(&daemon->step);
    return is_well;
}

static void fail(struct daemon *daemon)
{
    atomic_store(&daemon->failed, 1);
}

static int open_listeners(struct shard_thread *thread)
{
    const struct conf_global *global = conf_global(thread->daemon->conf);

    thread->listen_fds = mem_alloc((global->listener_count + 1) * sizeof(int));
    for (uint32_t i = 0; i < global->listener_count; i++) {
        int result =
            io_listen(thread->io, &global->listeners[i].at, LISTEN_BACKLOG, &thread->listen_fds[i]);

        if (result < 0) {
            char ip[IPADDR_TEXT_MAX];

            ipaddr_format(&global->listeners[i].at.ip, ip);
            log_error("cannot listen on %s port %u: %s", ip, global->listeners[i].at.port,
                      err_text(result));
            return result;
        }
    }
    return 0;
}

static int create_shard(struct shard_thread *thread)
{
    struct daemon *daemon = thread->daemon;
    struct io_options io = {.name = "shard", .recv_buffer_count = 1024};
    struct shard_options options = {
        .number = thread->number,
        .count = daemon->plan.count,
        .conf = daemon->conf,
        .segment_bytes = daemon->spool_options.segment_bytes,
        .signing = signers_service(daemon->signers),
        .counts_ips = daemon->ips == NULL,
    };
    int result = io_create(&io, &thread->io);

    if (result < 0)
        return result;
    thread->shard = shard_create(thread->io, &options);
    return open_listeners(thread);
}

static int recover(struct daemon *daemon)
{
    const char *first = daemon->spool_options.directories[0].path;
    struct spool_report report;
    int result = assembly_recover(daemon->assembly, &report);

    if (result < 0) {
        /* What is wrong with which directory has been said already. */
        if (result != E_FOREIGN)
            log_error("spool %s: %s", first, err_text(result));
        return result;
    }
    /* The tables of recovery were as large as the queue. */
    mem_give_back();
    log_info("spool %s: life %llu, %llu messages and %llu recipients queued, commit mode %s, "
             "%llu torn tails cut, %llu damaged places",
             first, (unsigned long long)report.life, (unsigned long long)report.messages_live,
             (unsigned long long)report.rcpts_live, report.commit_mode,
             (unsigned long long)report.torn_tails_cut, (unsigned long long)report.damage_count);
    return 0;
}

static void *shard_main(void *argument)
{
    struct shard_thread *thread = argument;
    struct daemon *daemon = thread->daemon;
    const struct conf_global *global = conf_global(daemon->conf);
    bool hosts_committer = thread->number == 0 && !daemon->has_committer_thread;
    char name[16];

    snprintf(name, sizeof(name), "shard-%u", thread->number);
    threads_settle(daemon->plan.cpus[thread->number], name);
    if (create_shard(thread) < 0)
        fail(daemon);
    if (!step(daemon)) /* 1: loops and shards stand, ports are bound */
        return NULL;
    if (!step(daemon)) /* 2: privileges are dropped, the assembly is made */
        return NULL;
    if (hosts_committer && recover(daemon) < 0)
        fail(daemon);
    if (!step(daemon)) /* 3: recovered */
        return NULL;
    if (!step(daemon)) /* 4: wired */
        return NULL;
    for (uint32_t i = 0; i < global->listener_count; i++)
        if (shard_listen(thread->shard, thread->listen_fds[i], global->listeners[i].source_name) <
            0)
            fail(daemon);
    if (!step(daemon)) /* 5: listening */
        return NULL;
    io_run(thread->io);
    step(daemon); /* 6: nobody wakes anybody any more */
    shard_destroy(thread->shard);
    return NULL;
}

static void *committer_main(void *argument)
{
    struct daemon *daemon = argument;
    struct io_options io = {.name = "committer"};

    pthread_setname_np(pthread_self(), "committer");
    if (io_create(&io, &daemon->committer_io) < 0)
        fail(daemon);
    if (!step(daemon) || !step(daemon))
        return NULL;
    if (recover(daemon) < 0)
        fail(daemon);
    if (!step(daemon) || !step(daemon) || !step(daemon))
        return NULL;
    io_run(daemon->committer_io);
    step(daemon);
    return NULL;
}

/* Its first step is that the loop stands, the second that all is wired. It takes no part in those
 * of the others: at the end it may hang with a file system. */
static void *carrier_main(void *argument)
{
    struct daemon *daemon = argument;
    struct io_options io = {.name = "carrier", .recv_buffer_count = 64};

    pthread_setname_np(pthread_self(), "carrier");
    if (io_create(&io, &daemon->carrier_io) < 0)
        fail(daemon);
    pthread_barrier_wait(&daemon->carrier_step);
    pthread_barrier_wait(&daemon->carrier_step);
    threads_stand_back("carrier");
    io_run(daemon->carrier_io);
    return NULL;
}

static void *resolver_main(void *argument)
{
    pthread_setname_np(pthread_self(), "resolver");
    resolver_run(argument);
    return NULL;
}

/* ---- The end ----------------------------------------------------------------------------------
 */

/* Those that the signal thread waits for, blocked everywhere else. */
static void fill_signal_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

static void *signal_main(void *argument)
{
    struct daemon *daemon = argument;
    sigset_t set;
    int number;

    pthread_setname_np(pthread_self(), "signals");
    fill_signal_set(&set);
    /* A parcel travels once: a second SIGHUP that finds it on its way adds nothing. */
    while (sigwait(&set, &number) == 0 && number == SIGHUP)
        if (!atomic_exchange(&daemon->reload_is_out, true))
            mailbox_post_foreign(daemon->signals, &daemon->reload_parcel);
    mailbox_post_foreign(daemon->signals, &daemon->signal_parcel);
    return NULL;
}

static void on_signal(void *context, struct parcel *parcel)
{
    struct daemon *daemon = context;

    if (parcel->kind == SIGNAL_RELOAD) {
        /* What comes from now on means a newer file than the one about to be read. */
        atomic_store(&daemon->reload_is_out, false);
        log_info("SIGHUP: the configuration is read anew");
        control_reload(daemon->control);
        return;
    }
    log_info("asked to end: no new mail, deliveries under way finish");
    control_shutdown(daemon->control, STOP_GRACE_MS);
}

/* All shards have stopped: the spool commits what it has and ends. */
static void on_stopped(void *context)
{
    struct daemon *daemon = context;

    mailbox_post(daemon->to_closer, &daemon->close_parcel);
}

static void on_spool_closed(void *context)
{
    struct daemon *daemon = context;

    mailbox_post(daemon->from_closer, &daemon->close_parcel);
}

static void on_close(void *context, struct parcel *parcel)
{
    struct daemon *daemon = context;

    (void)parcel;
    spool_close(assembly_spool(daemon->assembly), on_spool_closed, daemon);
}

static void on_closed(void *context, struct parcel *parcel)
{
    struct daemon *daemon = context;

    (void)parcel;
    for (uint16_t i = 0; i < daemon->plan.count; i++)
        io_stop(daemon->shards[i].io);
    if (daemon->has_committer_thread)
        io_stop(daemon->committer_io);
    io_stop(daemon->carrier_io);
    io_stop(daemon->control_io);
}

/* ---- The start --------------------------------------------------------------------------------
 */

static int drop_privileges(const struct conf_global *global)
{
    const struct passwd *user;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        log_warn("cannot set no-new-privileges: %s", err_text(-errno));
    if (geteuid() != 0 || !global->run_as_user)
        return 0;
    user = getpwnam(global->run_as_user);
    if (!user) {
        log_error("run-as-user: no user %s", global->run_as_user);
        return E_NOT_FOUND;
    }
    if (setgroups(0, NULL) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0) {
        log_error("cannot become user %s: %s", global->run_as_user, err_text(-errno));
        return -errno;
    }
    return 0;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void assemble(struct daemon *daemon)
{
    struct io *loops[THREADS_MAX];
    struct shard *shards[THREADS_MAX];
    struct assembly_options options = {
        .conf = daemon->conf,
        .shard_count = daemon->plan.count,
        .shard_loops = loops,
        .shards = shards,
        .control_loop = daemon->control_io,
        .control = daemon->control,
        .carrier_loop = daemon->carrier_io,
        .spool = &daemon->spool_options,
    };

    for (uint16_t i = 0; i < daemon->plan.count; i++) {
        loops[i] = daemon->shards[i].io;
        shards[i] = daemon->shards[i].shard;
    }
    options.committer_loop = daemon->has_committer_thread ? daemon->committer_io : loops[0];
    daemon->assembly = assembly_create(&options);
    daemon->signals = mailbox_create(2, NULL, daemon->control_io);
    daemon->reload_parcel.kind = SIGNAL_RELOAD;
    daemon->to_closer = mailbox_create(2, daemon->control_io, options.committer_loop);
    daemon->from_closer = mailbox_create(2, options.committer_loop, daemon->control_io);
    mailbox_listen(daemon->signals, on_signal, daemon);
    mailbox_listen(daemon->to_closer, on_close, daemon);
    mailbox_listen(daemon->from_closer, on_closed, daemon);
}

static int start_resolver(struct daemon *daemon, pthread_t *ret_thread)
{
    const struct conf_global *global = conf_global(daemon->conf);
    struct resolver_options options = {
        .name_servers = global->name_servers,
        .name_server_count = global->name_server_count,
        .trust_anchor_file = global->trust_anchor_file,
        .edns_udp_bytes = global->edns_udp_bytes,
        .timeout_ms = global->resolver_timeout_ms,
    };
    int result = resolver_create(&options, assembly_questions(daemon->assembly),
                                 assembly_answers(daemon->assembly), daemon->plan.count + 1u,
                                 &daemon->resolver);

    if (result < 0) {
        log_error("the resolver cannot start: %s", err_text(result));
        return result;
    }
    return -pthread_create(ret_thread, NULL, resolver_main, daemon->resolver);
}

static void fill_spool_options(struct daemon *daemon)
{
    const struct conf_global *global = conf_global(daemon->conf);

    must(global->spool_count <= SPOOL_DEVICES_MAX);
    daemon->spool_options = (struct spool_options){
        .segment_bytes = global->spools[0].segment_bytes,
        .outcome_hold_ms = (uint32_t)global->outcome_commit_ms,
        .segment_count_max = 4096,
        .calibrate_ms = 200,
    };
    for (uint32_t i = 0; i < global->spool_count; i++) {
        const struct conf_spool *spool = &global->spools[i];

        daemon->spool_options.directories[i] = (struct spool_directory){
            .path = spool->path,
            .min_free_bytes = spool->min_free_bytes,
            .priority = (uint32_t)spool->priority,
            .deliver_only = spool->deliver_only,
        };
    }
}

/* Before any socket exists. Without it the same figures come from elsewhere. */
static void open_ips(struct daemon *daemon)
{
    char why[IPS_WHY_MAX];

    if (ips_open(&daemon->ips, why) >= 0)
        log_info("figures per source address come from BPF, in cgroup %s", ips_where(daemon->ips));
    else
        log_info("figures per source address come from TCP_INFO, not from BPF: %s", why);
}

static void start_threads(struct daemon *daemon)
{
    daemon->shards = mem_alloc(daemon->plan.count * sizeof(struct shard_thread));
    for (uint16_t i = 0; i < daemon->plan.count; i++) {
        struct shard_thread *thread = &daemon->shards[i];

        thread->daemon = daemon;
        thread->number = i;
        if (pthread_create(&thread->thread, NULL, shard_main, thread) != 0) {
            log_error("cannot start a thread for shard %u", i);
            exit(1);
        }
    }
    if (daemon->has_committer_thread &&
        pthread_create(&daemon->committer_thread, NULL, committer_main, daemon) != 0) {
        log_error("cannot start the committer's thread");
        exit(1);
    }
    pthread_barrier_init(&daemon->carrier_step, NULL, 2);
    if (pthread_create(&daemon->carrier_thread, NULL, carrier_main, daemon) != 0) {
        log_error("cannot start the carrier's thread");
        exit(1);
    }
    pthread_barrier_wait(&daemon->carrier_step);
}

/* From bare threads to a running system; false when something failed (it was logged). */
static bool start(struct daemon *daemon, pthread_t *ret_resolver, pthread_t *ret_signals)
{
    const struct ip_source ip_source = {.read = ips_read, .context = daemon->ips};
    char sts_program[PATH_MAX];
    struct control_options control = {
        .conf = daemon->conf,
        .shard_count = daemon->plan.count,
        .version = RINGPOST_VERSION,
        .config_path = daemon->config_path,
        .signing = signers_service(daemon->signers),
        .ip_source = daemon->ips ? &ip_source : NULL,
        .sts_program = sts_program,
    };

    beside_path("ringpost-sts", sts_program);
    daemon->control = control_create(daemon->control_io, &control);
    if (!step(daemon))
        return false;
    if (drop_privileges(conf_global(daemon->conf)) < 0)
        fail(daemon);
    else
        assemble(daemon);
    if (!step(daemon) || !step(daemon))
        return false;
    assembly_wire(daemon->assembly);
    control_on_stopped(daemon->control, on_stopped, daemon);
    if (control_listen(daemon->control, geteuid()) < 0 ||
        control_start_accounting(daemon->control) < 0 || start_resolver(daemon, ret_resolver) < 0)
        fail(daemon);
    control_start_history(daemon->control, daemon->config_files);
    control_start_tls_reports(daemon->control);
    pthread_create(ret_signals, NULL, signal_main, daemon);
    return step(daemon) && step(daemon);
}

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    log_line(severity == CONF_ERROR ? LOG_ERROR : LOG_WARN, "%s:%u: %s", file, line, text);
}

/* What an operator has set for a time holds from the first message on. */
static void apply_overrides(struct daemon *daemon)
{
    struct conf_load_options load = {.files = daemon->config_files,
                                     .files_only = true,
                                     .key_ops = &sign_key_ops,
                                     .tls_ops = &tls_conf_ops};
    struct conf_override *list;
    struct overrides overrides;
    struct conf *conf;

    overrides_open(&overrides, daemon->control_io, conf_global(daemon->conf)->spools[0].path);
    overrides_expire(&overrides, io_wall_us(daemon->control_io));
    list = overrides_for_load(&overrides, 0);
    load.overrides = list;
    load.override_count = overrides.count;
    if (list != NULL && conf_load(daemon->config_path, &load, report, NULL, &conf) >= 0) {
        log_info("overrides: %u are in force", overrides.count);
        conf_unref(daemon->conf);
        daemon->conf = conf;
    }
    mem_free(list);
    overrides_close(&overrides);
}

/* Everything that counts is on the disk by now. A carrier that hangs with a file system has a
 * message of a shard's in its hands: nothing may be freed then, and nobody waits for it. */
static void end_carrier(struct daemon *daemon)
{
    for (int i = 0; i < CARRIER_END_MS / 10; i++) {
        if (pthread_tryjoin_np(daemon->carrier_thread, NULL) == 0)
            return;
        poll(NULL, 0, 10);
    }
    log_warn("ended while a file system hangs that mail is written to");
    _exit(0);
}

/* The loops have ended, or do so now. A signal that comes while memory goes must meet nobody: its
 * thread is told to end as by a signal, and what it posts then is not read. */
static void end_threads(struct daemon *daemon, pthread_t signals)
{
    pthread_kill(signals, SIGTERM);
    pthread_join(signals, NULL);
    end_carrier(daemon);
    step(daemon);
    for (uint16_t i = 0; i < daemon->plan.count; i++)
        pthread_join(daemon->shards[i].thread, NULL);
    if (daemon->has_committer_thread)
        pthread_join(daemon->committer_thread, NULL);
}

static int run(struct daemon *daemon)
{
    struct io_options io = {.name = "control", .recv_buffer_count = 64};
    pthread_t resolver, signals, signing;

    if (io_create(&io, &daemon->control_io) < 0)
        return 1;
    apply_overrides(daemon);
    fill_spool_options(daemon);
    open_ips(daemon);
    daemon->signers = signers_create(daemon->plan.count);
    start_threads(daemon);
    if (!start(daemon, &resolver, &signals)) {
        ips_close(daemon->ips);
        return 1;
    }
    /* What a reload replaces must not live on here. */
    conf_unref(daemon->conf);
    daemon->conf = NULL;
    if (daemon->signers)
        pthread_create(&signing, NULL, signers_run, daemon->signers);
    pthread_barrier_wait(&daemon->carrier_step);
    log_info("ringpostd %s: %u shards, ready", RINGPOST_VERSION, daemon->plan.count);
    if (daemon->foreground)
        dprintf(STDERR_FILENO, "ready\n");
    threads_stand_back("control");
    io_run(daemon->control_io);
    resolver_stop(daemon->resolver);
    pthread_join(resolver, NULL);
    if (daemon->signers) {
        signers_stop(daemon->signers);
        pthread_join(signing, NULL);
    }
    end_threads(daemon, signals);
    control_destroy(daemon->control);
    ips_close(daemon->ips);
    log_info("ended in order");
    return 0;
}

/* The child goes on; the parent's exit tells the caller that the configuration loaded. */
static int daemon_in_background(void)
{
    pid_t child = fork();

    if (child < 0) {
        log_error("cannot fork: %s", err_text(-errno));
        return -errno;
    }
    if (child > 0)
        _exit(0);
    return setsid() < 0 ? -errno : 0;
}

static void usage(FILE *to)
{
    fputs("usage: ringpostd --config FILE [--foreground]\n"
          "  --config FILE   configuration, in PowerMTA's language\n"
          "  --foreground    stay in the foreground; prints \"ready\" once mail is accepted\n"
          "  --version       print the version\n",
          to);
}

static void block_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    fill_signal_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void open_log(const struct conf_global *global, bool foreground)
{
    int fd = STDERR_FILENO;

    if (global->log_file && !foreground) {
        fd = open(global->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                  global->log_world_readable ? 0644 : 0640);
        if (fd < 0) {
            log_error("cannot open log-file %s: %s", global->log_file, err_text(-errno));
            exit(1);
        }
    }
    log_open(fd, LOG_INFO);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"foreground", no_argument, NULL, 'f'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct conf_load_options load = {
        .files = conf_files_new(), .key_ops = &sign_key_ops, .tls_ops = &tls_conf_ops};
    static struct daemon daemon;
    const char *config = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "c:fvh", options, NULL)) != -1) {
        if (option == 'c')
            config = optarg;
        else if (option == 'f')
            daemon.foreground = true;
        else if (option == 'v')
            return puts("ringpostd " RINGPOST_VERSION) < 0;
        else {
            usage(option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    if (!config || optind < argc) {
        usage(stderr);
        return 2;
    }
    daemon.config_path = config;
    daemon.config_files = load.files;
    if (conf_load(config, &load, report, NULL, &daemon.conf) < 0)
        return 1;
    open_log(conf_global(daemon.conf), daemon.foreground);
    /* Before any thread or ring exists. */
    if (!daemon.foreground && daemon_in_background() < 0)
        return 1;
    block_signals();
    raise_descriptor_limit();
    if (threads_plan(conf_global(daemon.conf), &daemon.plan) < 0)
        return 1;
    daemon.has_committer_thread =
        conf_global(daemon.conf)->committer_thread || daemon.plan.count > COMMITTER_OWN_ABOVE;
    pthread_barrier_init(&daemon.step, NULL,
                         daemon.plan.count + 1u + (daemon.has_committer_thread ? 1 : 0));
    return run(&daemon);
}
