/*
 * rewrite_list: <rewrite-list>, other senders in place of those that messages come with; private to
 * core/conf.
 *
 * Read from a tree's list lines when the snapshot is built, which they belong to. Bad lines, two
 * lists of one name and names of lists that do not exist are errors of the configuration, with file
 * and line. One thread while building, any afterwards.
 */
#pragma once

#include "core/conf/build.h"

/* Every list, and every <virtual-mta> and <virtual-mta-pool> that names one. */
void build_rewrite_lists(struct build *build);
/* NULL when there is none of that name; ASCII case is ignored. */
const struct conf_rewrite_list *rewrite_list_find(const struct conf *conf, struct slice name);
