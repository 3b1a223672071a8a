/* keys: reads domain-key lines while a snapshot is built; private to core/conf. One thread. */
#pragma once

#include "core/conf/build.h"

/* Needs the virtual MTAs and the members of pools, before they have ids. */
void build_keys(struct build *build);
/* What a <domain> block, or an override, says about signatures: refuses what is not offered. */
void build_signing_check(struct build *build, const struct setting *setting);
void keys_fini(struct conf *conf);
