/*
 * diff: what changed from one text to another, line by line, as people are used to read it.
 *
 * The shortest list of changes (Myers 1986) up to DIFF_CHANGES_MAX lines; beyond that the part
 * between the common beginning and the common end is told as replaced. Pure; any thread; memory of
 * some megabytes at most while it works.
 */
#pragma once

#include "core/base/slice.h"

#define DIFF_CHANGES_MAX 1000u
#define DIFF_CONTEXT     3u /* lines around each change */

/* One line of the answer without its line end: "@@ -1,2 +1,3 @@", " same", "-old", "+new". */
typedef void diff_line_fn(void *context, char mark, struct slice line);

/* Nothing comes when both are the same. mark '@': a heading. */
void diff_texts(struct slice from, struct slice to, diff_line_fn *each, void *context);
