/*
 * kept_file: a small file that is read as a whole and written anew as a whole.
 *
 * It is written under another name (".new" behind its own), synced and renamed, and its folder is
 * synced, so that a power cut leaves the file of before or the new one, never a part. What does not
 * come to its end leaves no draft behind. What stands in the file, and a checksum of it, is the
 * caller's. Synchronous: for control, at its start, for what an operator asks, and for figures that
 * are written now and then; never on the way of a message.
 */
#pragma once

#include "core/base/slice.h"
#include "core/io/io.h"

/* head and body, one behind the other. 0, or negative: the older file, if there is one, stays. */
int kept_file_store(struct io *io, const char *directory, const char *name, struct slice head,
                    struct slice body);
/*
 * *ret_text: the whole file with a NUL behind it, for mem_free. Its length; -ENOENT without such a
 * file, E_DAMAGED when it is larger than bytes_max, -ENOMEM, or another error of reading.
 */
int64_t kept_file_load(struct io *io, const char *directory, const char *name, uint64_t bytes_max,
                       char **ret_text);
