#include "core/conf/report.h"

#include <stdarg.h>

#define TEXT_MAX 512

static void pass_on(struct report *report, enum conf_severity severity, const char *file,
                    unsigned line, const char *text)
{
    if (report->fn != NULL)
        report->fn(report->context, severity, file, line, text);
}

void report_error(struct report *report, const char *file, unsigned line, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list arguments;

    if (report_is_full(report))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    pass_on(report, CONF_ERROR, file, line, text);
    if (++report->errors == REPORT_ERRORS_MAX)
        pass_on(report, CONF_ERROR, file, line, "too many errors; the rest is not shown");
}

void report_warning(struct report *report, const char *file, unsigned line, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list arguments;

    if (report->warnings >= REPORT_WARNINGS_MAX || report_is_full(report))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    pass_on(report, CONF_WARNING, file, line, text);
    if (++report->warnings == REPORT_WARNINGS_MAX)
        pass_on(report, CONF_WARNING, file, line, "too many warnings; the rest is not shown");
}

void report_note(struct report *report, const char *file, unsigned line, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list arguments;

    if (report_is_full(report))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    pass_on(report, CONF_NOTE, file, line, text);
}

bool report_is_full(const struct report *report)
{
    return report->errors >= REPORT_ERRORS_MAX;
}
