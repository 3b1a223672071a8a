/*
 * files: the texts that a configuration is read from, the main file first.
 *
 * A load with a set adds each text to it as it was read, and reads no file twice, so that the set
 * is what the snapshot was made of whatever happens to the files meanwhile. A load from a set alone
 * opens no configuration file; what directives name (address files) is still read from the disk.
 * One thread at a time. The strings live as long as the set.
 */
#pragma once

#include "core/base/slice.h"

struct conf_files;

struct conf_files *conf_files_new(void);
/* NULL is fine. */
void conf_files_free(struct conf_files *files);
/* Both are copied; a name that is there already keeps its text. */
void conf_files_add(struct conf_files *files, struct slice name, struct slice text);
uint32_t conf_files_count(const struct conf_files *files);
const char *conf_files_name(const struct conf_files *files, uint32_t position);
struct slice conf_files_text(const struct conf_files *files, uint32_t position);
/* Its position, or UINT32_MAX. */
uint32_t conf_files_find(const struct conf_files *files, const char *name);
/* Of all names and texts in their order; the same over runs and machines. */
uint64_t conf_files_hash(const struct conf_files *files);
