/*
 * keys: reads domain-key lines while a snapshot is built; private to core/conf. One thread.
 *
 *   keys.c         the lines, and what queues say about signatures
 *   keys_choose.c  whose key signs, and which one goes on while the record of a new one is missing
 */
#pragma once

#include "core/conf/build.h"

/* Needs the virtual MTAs and the members of pools, before they have ids. 0, or -ENOMEM. */
int build_keys(struct build *build);
/* What a <domain> block, or an override, says about signatures: refuses what is not offered. */
void build_signing_check(struct build *build, const struct setting *setting);
void keys_fini(struct conf *conf);

/* A key file that was read; several lines may name it. */
struct loaded_key {
    const char *path; /* NULL = it belongs to another snapshot too, and no line names it */
    void *key;
    uint32_t algorithm;
    struct loaded_key *next;
    struct loaded_key *next_alike; /* of paths with like hashes */
};

#define CONF_KEY_LIST_TAG "domain-key-list"

/* The list is complete: it can be searched, and has its hash. False when memory is short. */
bool keys_list_seal(struct conf_key_list *list);
void keys_list_fini(struct conf_key_list *list);
/* The same of all named lists together. */
void keys_seal_lists(struct conf *conf);
/* The <domain-key-list> of that name, or NULL. */
const struct conf_key_place *keys_find_list(const struct conf *conf, struct slice name);
