/*
 * classify: `ringpost classify`, which says of replies on standard input what they mean.
 *
 * One line in, one line out. Needs no daemon. Main thread, blocking I/O.
 */
#pragma once

#include <stdio.h>

void classify_usage(FILE *to);
/* The words behind "classify". Returns the program's exit code: 0 all lines classified, 1 some were
 * refused or the configuration was, 2 usage. */
int classify_run(int argc, char **argv);
