/*
 * scene: a spool with a history on the simulator's disk, copies of it that a test hurts, and the
 * judgement over what an opening of the hurt copy shows.
 *
 * The spool lies in /spool, its state after the first life in /old, the copy that is hurt in /t.
 */
#pragma once

#include "queue/scan.h"
#include "tests/sim/sim.h"
#include "tests/unit/queue/life.h"

#define MS           1000000ull
#define FILES_MAX    40
#define RECORDS_MAX  20000
#define MESSAGES_MAX 4000
#define WOUNDS_MAX   64
#define TOLD_MAX     16

/* A record of the unhurt spool. */
struct spot {
    char path[32];
    uint32_t from;
    uint32_t to;
    uint8_t type;
    uint64_t message; /* 0 = of none */
    bool is_old;      /* of the copy that was made after the first life */
};

/* What was done to a file: [from, to) of it is no longer as it was. */
struct wound {
    char path[32];
    uint64_t from;
    uint64_t to;
    bool brings_old; /* the records of the old copy may be there now */
};

struct told_damage {
    char file[32];
    uint64_t offset;
};

struct found {
    uint64_t id;
    uint64_t digest;
};

struct shown {
    struct found messages[MESSAGES_MAX];
    uint32_t count;
    uint32_t named;
    uint32_t damage; /* lines told */
    struct told_damage told[TOLD_MAX];
    uint64_t damage_count; /* as the report counts */
    uint64_t torn;
    uint32_t invented; /* messages that were never sent, or are not as they were */
    int result;
};

struct scene {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct ledger ledger;
    struct life life;
    struct life_options options;
    char files[FILES_MAX][32];
    uint32_t file_count;
    struct spot *spots;
    uint32_t spot_count;
    struct wound wounds[WOUNDS_MAX];
    uint32_t wound_count;
    bool may_be_silent; /* a whole file is gone or another: that need not leave a trace */
    struct shown whole; /* what the unhurt spool shows */
    struct shown now;
};

/* A few lives, each closed in order, so that nothing is torn. */
struct scene *scene_make(uint64_t seed, bool with_checkpoints);
void scene_end(struct scene *scene);
/* Makes /t anew from /spool, or removes it. */
void scene_copy(struct scene *scene);
void scene_remove_copy(struct scene *scene);
/* Opens /t and notes what it shows in `now`. */
void scene_look(struct scene *scene);
/* Opening twice must show the same. */
void scene_look_again(struct scene *scene);
bool scene_shows_the_same(const struct shown *a, const struct shown *b);
void scene_flip(struct scene *scene, const char *name, uint64_t at, uint8_t mask);
uint64_t scene_size_of(struct scene *scene, const char *name);
/* Notes what was done to /t, for scene_is_touched. */
void scene_wound(struct scene *scene, const char *name, uint64_t from, uint64_t to,
                 bool brings_old);
/* A wound touched a record of this message. */
bool scene_is_touched(const struct scene *scene, uint64_t id);
/* Every difference to the unhurt spool must come from this one wound; returns how many there are.
 */
uint32_t scene_judge(struct scene *scene, const char *name, uint64_t from, uint64_t to);
const struct found *scene_find(const struct shown *shown, uint64_t id);
