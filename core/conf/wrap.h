/*
 * wrap: regular expressions that a line end has got into; private to core/conf.
 *
 * Files have been handed on through mails and editors that break long lines, and the programs that
 * read them took no offence. One thread.
 */
#pragma once

#include "core/base/arena.h"
#include "core/conf/reader.h"

/* Whether the text is "/PATTERN/ CATEGORY"; the pattern ends at the last slash, so that it may hold
 * some. */
bool wrap_split(struct slice text, struct slice *ret_pattern, struct slice *ret_category);
/*
 * first: a line of the reader that is no such text. True when it is one together with the lines
 * that follow, which are read then; *ret_whole is in the arena, and *ret_seam is what of it lies
 * around the first end of a line.
 */
bool wrap_join(struct reader *reader, struct arena *arena, struct slice first,
               struct slice *ret_whole, struct slice *ret_seam);
