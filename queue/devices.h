/*
 * devices: which directories a spool consists of, and whether those that were named are they.
 *
 * The first directory has the superblock, which lists the ids of the others; each of these has an
 * identity, which names the spool, its number in it and its id. At a start every listed one must be
 * among the directories, or what it holds would be lost; a directory that belongs elsewhere is
 * refused; one that is empty becomes a new device. Used by the opening only, synchronous; nothing
 * on the disk is changed before devices_make.
 */
#pragma once

#include "queue/spool_int.h"

struct super_seen {
    struct segfmt_super super;
    bool found;
};

/* Segment files of one directory. */
struct listing {
    uint16_t *slots;
    uint32_t count;
    uint32_t room;
    uint32_t highest;
    bool has_identity;
};

/* What one directory shows before its segments are opened. */
struct device_seen {
    struct segfmt_device identity;
    struct listing listing;
    bool has_file; /* an identity is there */
    bool is_good;  /* ... and can be read */
};

struct opening {
    struct spool *spool;
    const struct spool_recovery *recovery;
    struct spool_report *report;
    uint64_t deadline_ns; /* for locks */
    struct super_seen super;
    struct device_seen seen[SPOOL_DEVICES_MAX];
};

/* open.c: waits until a killed life has let go of the file. */
int opening_lock(struct opening *opening, int fd);
/* Tells why the spool does not open; E_FOREIGN. */
int opening_refuse(const struct opening *opening, const char *path, const char *text);
/* open.c: damage that is found before the recovery proper. */
void opening_damage(struct opening *opening, const char *file, const char *text);

/* The directory must last, or a power cut takes the device away. */
int devices_directory_make(struct spool *spool, const char *path);
/* Lists segment files everywhere, opens, locks and reads the identities. */
int devices_look(struct opening *opening);
/* Gives each directory its number; refuses what does not belong together. */
int devices_match(struct opening *opening);
/* Once the uuid is chosen without a superblock: the identities must say the same. */
int devices_match_uuid(struct opening *opening);
/* Identities of new devices, and those that were damaged, durable. */
int devices_make(struct opening *opening);
void opening_fini(struct opening *opening);
