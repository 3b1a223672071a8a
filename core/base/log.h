/*
 * log: lines for the operator, written by programs and shards, never by library rooms.
 *
 * One line a call: time, level, text; control bytes in the text are escaped, so remote words
 * cannot forge a line. Thread-safe by a single write(2) per line. No line is longer than
 * LOG_LINE_MAX bytes. Lines below the level in force cost one comparison.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_MAX 1024

enum log_level {
    LOG_DEBUG,
    LOG_INFO,
    LOG_WARN,
    LOG_ERROR,
};

/* fd: where lines go (2 and LOG_INFO until set). Call before threads start. */
void log_open(int fd, enum log_level level);
/* Lines go to the file behind fd from now on, which becomes the caller's to close; any thread,
 * while others write. False, and nothing happened, when they go to standard error or that fails. */
bool log_move(int fd);
/* They go to a file. */
bool log_has_file(void);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/*
 * Replaces the source of the time stamp and the destination: the simulator keeps lines in its
 * trace. NULL restores the standard. Called by one thread before others start.
 */
void log_set_sink(void (*sink)(void *context, enum log_level level, const char *text),
                  void *context);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
