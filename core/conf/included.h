/*
 * included: header lines of files that include-headers-from names; private to core/conf.
 *
 * A file is read once for a snapshot, which its octets belong to, and checked: fields and their
 * continuations in ASCII, lines of at most 998 octets, 32 KB in all. What is wrong is an error of
 * the configuration that names the file and its line. One thread while building, any afterwards.
 */
#pragma once

#include "core/conf/build.h"

/* Every virtual MTA gets the lines of its own file, else of its pool's, else of the top level's.
 * Those of sources are found by included_find. */
void build_included(struct build *build);
/* The lines of a file that was read, each with CRLF; empty when it was not, or for NULL. */
struct slice included_find(const struct conf *conf, const char *path);
