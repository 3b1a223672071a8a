/* certificates: reads certificates and authorities while a snapshot is built; private to core/conf.
 * One thread. */
#pragma once

#include "core/conf/build.h"

/* Whether the row's value is a file to be loaded, or a list of cipher suites. */
bool certificates_are_about(const struct directive *row);
/* Puts what the file holds into the value; reports what is wrong with it, once for each file. */
void certificates_resolve(struct build *build, const struct directive *row, const char *file,
                          unsigned line, struct value *value);
/* A setting of queues that may want the system's authorities. */
void certificates_note(struct build *build, const struct setting *setting);
/* They are read, where somebody wants them and no others are named. */
void certificates_add_system(struct build *build);
void certificates_fini(struct conf *conf);
