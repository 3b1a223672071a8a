/*
 * process: children, their CPU time, temporary directories, and the promise that none of them
 * outlives the bench.
 *
 * Whatever is started or made here is entered in a list; process_clean_up (also run at exit) ends
 * and removes what is left. A parent that dies without that takes its children along, because each
 * asked the kernel to be killed with it. One thread; a forked child begins with an empty list.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* SIGINT, SIGTERM and SIGHUP only set a flag from now on; SIGPIPE is ignored. */
void process_init(void);
bool process_stop_asked(void);

/* Monotonic, for parents that run no loop. */
uint64_t process_now_ns(void);
void process_sleep_ms(uint32_t ms);
void process_sleep_ns(uint64_t ns);

/* A child that runs body(context) and exits with 0, or with 1 when body returns negative. Its pid,
 * or -errno. */
pid_t process_fork(int (*body)(void *context), void *context);
/* A child that becomes the program argv[0]; standard error (and output) go to the file log_path. */
pid_t process_run(char *const argv[], const char *log_path);
/* False once it ended; then *ret_status is its wait status. */
bool process_is_alive(pid_t child, int *ret_status);
/* SIGTERM, then SIGKILL after grace_ms; gathers the child. Returns its wait status. */
int process_end(pid_t child, uint32_t grace_ms);
/* Waits up to timeout_ms for a child that ends by itself; false when it did not. */
bool process_wait(pid_t child, uint64_t timeout_ms, int *ret_status);

/* CPU time of a process with all its threads, user and system, in microseconds; 0 when gone. */
uint64_t process_cpu_us(pid_t pid);
/* User and system time of the calling process. */
uint64_t process_own_cpu_us(void);
/* Memory of a process that is in RAM, in bytes; 0 when gone. */
uint64_t process_rss_bytes(pid_t pid);
/* As many open files as the system allows to this process and its children. */
void process_raise_files(void);

/* base/ringpost-bench.XXXXXX; room takes PATH_MAX bytes. 0 or -errno. */
int process_temp_dir(const char *base, char *room);
void process_temp_dir_remove(const char *path);
void process_clean_up(void);

/* Flush requests that the device under `path` has completed since boot; -1 when unknown. */
int64_t process_device_flushes(const char *path);
