/* What the tests of core/conf share: loading text and looking at what was reported. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/err.h"
#include "core/conf/conf.h"

#include <stdio.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Everything that was reported, one "severity file:line: text" a line. */
struct findings {
    char text[65536];
    size_t len;
    unsigned errors;
    unsigned warnings;
};

static inline void collect(void *context, enum conf_severity severity, const char *file,
                           unsigned line, const char *text)
{
    struct findings *findings = context;
    size_t room = sizeof(findings->text) - findings->len;
    int len;

    assert_non_null(file);
    assert_non_null(text);
    len = snprintf(findings->text + findings->len, room, "%s %s:%u: %s\n",
                   severity == CONF_ERROR  ? "error"
                   : severity == CONF_NOTE ? "note"
                                           : "warning",
                   file, line, text);
    if ((size_t)len < room)
        findings->len += (size_t)len;
    findings->errors += severity == CONF_ERROR;
    findings->warnings += severity == CONF_WARNING;
}

/* Loads what has to be right; warnings are fine. */
static inline struct conf *load(const char *text)
{
    struct findings findings = {0};
    struct conf *conf = NULL;
    int rc = conf_load_text("test", text, NULL, collect, &findings, &conf);

    if (rc != 0)
        print_message("%s", findings.text);
    assert_int_equal(rc, 0);
    assert_int_equal(findings.errors, 0);
    assert_non_null(conf);
    return conf;
}

/* Loads what has to be wrong. */
static inline void refuse(const char *text, struct findings *findings)
{
    struct conf *conf = NULL;

    *findings = (struct findings){0};
    assert_int_equal(conf_load_text("test", text, NULL, collect, findings, &conf), E_SYNTAX);
    assert_null(conf);
    assert_true(findings->errors > 0);
}

static inline struct conf_queue queue_of(const struct conf *conf, const char *domain,
                                         const char *vmta)
{
    const struct conf_vmta *found = conf_vmta_named(conf, slice_str(vmta));
    struct conf_queue queue;

    assert_non_null(found);
    conf_queue(conf, slice_str(domain), found->id, &queue);
    return queue;
}

static inline const struct conf_source *source_of(const struct conf *conf, const char *address,
                                                  const char *name)
{
    struct ipaddr ip;

    assert_int_equal(ipaddr_parse(slice_str(address), &ip), 0);
    return conf_source(conf, &ip, name);
}
