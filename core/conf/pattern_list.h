/*
 * pattern_list: the lists of rules that sources refer to by name; private to core/conf.
 *
 * <pattern-list> chooses virtual MTAs, <address-list> names addresses that get no mail. Both are
 * read from a tree's list lines when the snapshot is built; patterns are compiled then and belong
 * to the snapshot. Findings go to the report of the build. One thread while building, any
 * afterwards.
 */
#pragma once

#include "core/conf/build.h"

/* A compiled pattern that the snapshot frees. */
struct conf_regex {
    struct regex *regex;
    struct conf_regex *next;
};

/* Takes "/pattern/" off the front of *rest. 1; 0 when something else stands there; E_SYNTAX when
 * the closing slash is missing. A slash inside the pattern is written \/. */
int list_next_regex(struct slice *rest, struct slice *ret_pattern);
/* What stands behind a pattern, without the flag i, which says again that case is ignored. */
struct slice list_skip_flag(struct slice behind);
/* NULL after an error was reported. */
struct regex *list_compile(struct build *build, const struct list_line *line, struct slice pattern);

static inline bool pattern_list_is(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "pattern-list") == 0;
}
void build_pattern_lists(struct build *build);
const struct conf_pattern_list *pattern_list_find(const struct conf *conf, struct slice name);

static inline bool address_list_is(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "address-list") == 0;
}
void build_address_lists(struct build *build);
void build_relay(struct build *build);
void address_lists_fini(struct conf *conf);
const struct conf_address_list *address_list_find(const struct conf *conf, struct slice name);
