/*
 * pack: what ships with the program about receivers: one text, in the language of the
 * configuration.
 *
 * The configuration (core/conf/provider.h) reads all of it, the classifier of replies its providers
 * and their MX hosts, so that a provider's name means the same in both. Constant data; any thread.
 */
#pragma once

#include "core/base/slice.h"

/* Its name in messages: core/pack/providers.conf. */
#define PACK_FILE "core/pack/providers.conf"

struct slice pack_text(void);

/* A provider's line of MX hosts. */
struct pack_hosts {
    struct slice provider;
    struct slice hosts; /* suffixes between blanks */
};

/* Takes the next `mx` line off a pack's text and its section's name with it; false at the end.
 * *provider is the caller's, empty at first, and keeps the section between calls. */
bool pack_next_hosts(struct slice *text, struct slice *provider, struct pack_hosts *ret_hosts);
