/*
 * category_list: <bounce-category-patterns> at the top level, in a <domain>, a <virtual-mta> or a
 * pool; private to core/conf.
 *
 * Read from a tree's list lines when the snapshot is built, patterns compiled then; they belong to
 * the snapshot. Several sections in one place count as one list, in the order of the file. One
 * thread while building, any afterwards.
 */
#pragma once

#include "core/conf/build.h"

/* NULL when the section has no such list in it, or an error was reported. */
const struct conf_category_list *build_categories(struct build *build,
                                                  const struct section *section);
