/* group: <source-group> sections, for those that name one. While a snapshot is built; one thread.
 */
#pragma once

#include "core/conf/build.h"

/* The id, or CONF_NONE. */
uint32_t group_find(const struct conf *conf, struct slice name);
/* Reports an entry that names a group which is not there. */
void group_check(struct build *build, const struct entry *entry, struct slice name);
