/*
 * weather: what befalls the whole world for a while and gets better again.
 *
 * At most one spell at a time, drawn with its beginning and its end: a file system that is full, a
 * source address that is gone, a road that is closed. The test calls weather_tend between steps
 * and weather_end when it wants fair weather for good.
 */
#pragma once

#include "tests/sim/sim.h"

/* Name, what it is. */
#define WEATHER_SPELLS(X)                                                                          \
    X(disk_full, "the file system is full and says so")                                            \
    X(quota_met, "writes meet a limit that the file system does not tell")                         \
    X(disk_dead, "every write fails")                                                              \
    X(source_gone, "one of the product's addresses cannot be used")                                \
    X(road_refuses, "a receiver's address refuses every connection")                               \
    X(road_drops, "a receiver's address does not answer")                                          \
    X(road_gone, "no route to a receiver's address")

enum weather_spell {
#define WEATHER_ENUM(name, text) WEATHER_##name,
    WEATHER_SPELLS(WEATHER_ENUM)
#undef WEATHER_ENUM
        WEATHER_SPELL_COUNT,
};

struct weather {
    struct sim_world *world;
    uint32_t receiver_count; /* at 10.0.<n>.1 */
    uint32_t source_count;   /* at 10.9.0.<1…n> */
    uint64_t disk_bytes;     /* of the file system in fair weather */
    uint64_t change_ns;      /* when the spell ends, or the next one begins */
    bool is_foul;
    enum weather_spell spell;
    uint32_t place;             /* the source or the receiver of the spell */
    uint32_t write_failed;      /* the rate in fair weather */
    uint64_t disk_good_from_ns; /* the disk has room since then; UINT64_MAX while it has not */
    uint64_t counts[WEATHER_SPELL_COUNT];
};

/* The rest of *weather is set by the caller. */
void weather_begin(struct weather *weather);
void weather_tend(struct weather *weather);
/* This spell from now on. */
void weather_bring(struct weather *weather, enum weather_spell spell, uint64_t for_ns);
void weather_end(struct weather *weather);
