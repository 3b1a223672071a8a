/*
 * reply_list: <smtp-pattern-list>, what replies of receivers lead to; private to core/conf.
 *
 * Read from a tree's list lines when the snapshot is built, patterns compiled then; they belong to
 * the snapshot. Bad lines, unknown actions, actions that contradict each other and names of lists
 * that do not exist are errors of the configuration, with file and line. One thread while building,
 * any afterwards.
 */
#pragma once

#include "core/conf/build.h"

/* "reply /REGEX/ ACTIONS" taken apart, without the flag i; false when it is not of that form. */
bool reply_rule_split(struct slice text, struct slice *ret_regex, struct slice *ret_actions);
/*
 * One line, `reply` and all, of the list or provider of that name. False after an error was
 * reported. The caller sets the rule's file; the line's text must live as long as the snapshot.
 */
bool reply_rule_read(struct build *build, const char *list_name, const struct list_line *line,
                     struct conf_reply_rule *rule);
/*
 * `reaction slow:SCOPE ACTION,...` or hold:SCOPE, of <provider *>: a rule without a pattern. The
 * rest as above.
 */
bool reply_rule_read_reaction(struct build *build, const char *list_name,
                              const struct list_line *line, struct conf_reply_rule *rule,
                              bool *ret_hold);
/*
 * Gives lines that stand in the list more than once ids of their own: hits and attempts are counted
 * by id, and one id would count each of them as often as the line stands there. before: rules of
 * the same name that count besides, the pack's; may be NULL.
 */
void reply_rules_tell_apart(struct arena *arena, const struct conf_reply_list *before,
                            struct conf_reply_rule *rules, uint32_t count);
/* Every list, and every <domain> that names one. */
void build_reply_lists(struct build *build);
/* NULL when there is none of that name; ASCII case is ignored. */
const struct conf_reply_list *reply_list_find(const struct conf *conf, struct slice name);
