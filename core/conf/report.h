/*
 * report: findings on their way to the caller, counted and bounded.
 *
 * After REPORT_ERRORS_MAX errors nothing more is passed on and report_is_full says so, so that a
 * file that is no configuration at all ends soon; after REPORT_WARNINGS_MAX warnings no more of
 * those. One thread.
 */
#pragma once

#include "core/conf/conf.h"

#define REPORT_ERRORS_MAX   100
#define REPORT_WARNINGS_MAX 1000

struct report {
    conf_report_fn *fn; /* NULL: findings are only counted */
    void *context;
    unsigned errors;
    unsigned warnings;
};

/* line 0: the file as a whole. */
void report_error(struct report *report, const char *file, unsigned line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void report_warning(struct report *report, const char *file, unsigned line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What is worth knowing and not wrong; counted among nothing. */
void report_note(struct report *report, const char *file, unsigned line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool report_is_full(const struct report *report);
