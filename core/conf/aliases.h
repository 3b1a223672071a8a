/*
 * aliases: `alias` lines and <aliases>, addresses whose mail goes to others; private to core/conf.
 *
 * Read when the snapshot is built, which they belong to. Bad lines, targets that are aliases
 * themselves and an alias that is given twice are errors of the configuration, with file and line.
 * One thread while building, any afterwards.
 */
#pragma once

#include "core/conf/build.h"

void build_aliases(struct build *build);
void aliases_fini(struct conf *conf);
