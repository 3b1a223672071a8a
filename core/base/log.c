/* The only reader of the wall clock outside of core/io: a log line is not worth a turn's time. */
#include "core/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Process-wide, set before threads start and only read from then on. */
static int log_fd = 2;
static enum log_level log_level = LOG_INFO;
static void (*log_sink)(void *context, enum log_level level, const char *text);
static void *log_sink_context;

/* "2024-01-02T03:04:05.678Z WARN  " */
#define LOG_HEAD_MAX 40

void log_open(int fd, enum log_level level)
{
    log_fd = fd;
    log_level = level;
}

bool log_has_file(void)
{
    return log_fd > 2;
}

/* The number stays and changes what it stands for, which the kernel does in one step. */
bool log_move(int fd)
{
    return log_has_file() && dup3(fd, log_fd, O_CLOEXEC) >= 0;
}

void log_set_sink(void (*sink)(void *context, enum log_level level, const char *text),
                  void *context)
{
    log_sink = sink;
    log_sink_context = context;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "DEBUG";
    case LOG_INFO:
        return "INFO";
    case LOG_WARN:
        return "WARN";
    case LOG_ERROR:
        return "ERROR";
    }
    return "?";
}

/*
 * Besides the ASCII controls some terminals obey those at 0x80 to 0x9f, alone or as UTF-8 (behind
 * 0xc2). As a later byte of another UTF-8 character they are harmless.
 */
static bool is_control(uint8_t c, uint8_t before)
{
    if (c < 0x20 || c == 0x7f)
        return true;
    return c >= 0x80 && c <= 0x9f && (before < 0x80 || before == 0xc2);
}

/* Escapes text into room, NUL-terminated, ending in "..." where it does not fit. */
static size_t escape(const char *text, bool cut, char *room, size_t room_bytes)
{
    static const char digits[] = "0123456789abcdef";
    const size_t limit = room_bytes - sizeof("...");
    uint8_t before = 0;
    size_t len = 0;

    for (; *text != '\0'; text++) {
        uint8_t c = (uint8_t)*text;
        bool control = is_control(c, before);

        if (len + (control ? 4 : 1) > limit) {
            cut = true;
            break;
        }
        if (control) {
            room[len++] = '\\';
            room[len++] = 'x';
            room[len++] = digits[c >> 4];
            room[len++] = digits[c & 15];
        } else {
            room[len++] = (char)c;
        }
        before = c;
    }
    if (cut) {
        memcpy(room + len, "...", 3);
        len += 3;
    }
    room[len] = '\0';
    return len;
}

static size_t put_head(char *room, enum log_level level)
{
    struct timespec now = {0};
    struct tm tm = {0};
    size_t len;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    len = strftime(room, LOG_HEAD_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    len += (size_t)snprintf(room + len, LOG_HEAD_MAX - len, ".%03uZ %-5s ",
                            (unsigned)(now.tv_nsec / 1000000) % 1000, level_name(level));
    return len;
}

void log_line(enum log_level level, const char *format, ...)
{
    char text[LOG_LINE_MAX];
    char line[LOG_LINE_MAX];
    int saved_errno = errno;
    size_t len = 0;
    va_list arguments;
    int wanted;

    if (level < log_level)
        return;
    va_start(arguments, format);
    wanted = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (wanted < 0)
        text[0] = '\0';
    if (log_sink == NULL)
        len = put_head(line, level);
    /* One byte stays free for the line's end. */
    len += escape(text, wanted >= (int)sizeof(text), line + len, sizeof(line) - len - 1);
    if (log_sink != NULL) {
        log_sink(log_sink_context, level, line);
    } else {
        line[len++] = '\n';
        while (write(log_fd, line, len) < 0 && errno == EINTR)
            continue;
    }
    errno = saved_errno;
}
