/*
 * What ails the spool, for show status and for the log: its health, why, and since when.
 *
 * The log gets a line when the health changes, and one a minute at most about commits that failed:
 * never one a message. Healthy again is what stays so from one look to the next.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "shard/control_int.h"

#include <stdio.h>

#define FAILURES_LINE_NS 60000000000ull

static const struct {
    const char *name;
    const char *meaning;
} healths[] = {
    [SPOOL_HEALTHY] = {"healthy", ""},
    [SPOOL_LOW_SPACE] = {"low-space", "no new mail is accepted"},
    [SPOOL_LATE] = {"late", "no delivery is started"},
    [SPOOL_STALLED] = {"stalled", "nothing is accepted or delivered"},
    [SPOOL_POISONED] = {"poisoned", "nothing is accepted or delivered until a restart"},
};

const char *control_health_name(enum spool_health health)
{
    return healths[health].name;
}

static uint64_t lasted_ns(const struct control *control, const struct spool_trouble *trouble)
{
    uint64_t now_ns = io_now_ns(control->io);

    return now_ns > trouble->since_ns ? now_ns - trouble->since_ns : 0;
}

bool control_health_say(const struct control *control, char *room, size_t room_bytes)
{
    struct spool_trouble trouble;

    spool_trouble_read(control->wiring.spool, &trouble);
    if (trouble.health == SPOOL_HEALTHY)
        return false;
    snprintf(room, room_bytes, "the spool is %s since %llu s, %s: %s", healths[trouble.health].name,
             (unsigned long long)(lasted_ns(control, &trouble) / 1000000000),
             healths[trouble.health].meaning, err_text(trouble.error));
    return true;
}

void control_health_put(const struct control *control, json_t *spool)
{
    struct spool_trouble trouble;
    json_t *reason = json_null();
    uint64_t since_us = 0;

    spool_trouble_read(control->wiring.spool, &trouble);
    if (trouble.health != SPOOL_HEALTHY) {
        reason = json_string(err_text(trouble.error));
        since_us = io_wall_us(control->io) - lasted_ns(control, &trouble) / 1000;
    }
    json_object_set_new(spool, "health", json_string(healths[trouble.health].name));
    json_object_set_new(spool, "reason", reason);
    json_object_set_new(spool, "since", control_time(since_us));
}

static const char *const device_states[] = {
    [SPOOL_DEVICE_WELL] = "well",       [SPOOL_DEVICE_LOW_SPACE] = "low-space",
    [SPOOL_DEVICE_RESTING] = "resting", [SPOOL_DEVICE_DRAINING] = "deliver-only",
    [SPOOL_DEVICE_EMPTY] = "empty",
};

void control_directories_put(const struct control *control, json_t *spool)
{
    uint32_t count = spool_device_count(control->wiring.spool);
    json_t *array = json_array();

    json_object_set_new(spool, "dirs", json_integer(count));
    json_object_set_new(spool, "directory", array);
    for (uint32_t i = 0; i < count; i++) {
        struct spool_device_stats stats;
        json_t *object = json_object();

        spool_device_read(control->wiring.spool, i, &stats);
        json_object_set_new(object, "path", control_string(stats.path));
        json_object_set_new(object, "state", json_string(device_states[stats.state]));
        json_object_set_new(object, "files", json_integer(stats.segments_total));
        json_object_set_new(object, "filesFree", json_integer(stats.segments_free));
        json_object_set_new(object, "messages", json_integer((json_int_t)stats.messages));
        json_object_set_new(object, "commits", json_integer((json_int_t)stats.commits));
        json_object_set_new(object, "commitsFailed",
                            json_integer((json_int_t)stats.failed_commits));
        json_object_set_new(object, "kb", json_integer((json_int_t)(stats.bytes_written / 1024)));
        json_object_set_new(object, "commitMode", control_string(stats.commit_mode));
        json_array_append_new(array, object);
    }
}

void control_directories_warn(const struct control *control, json_t *warnings)
{
    for (uint32_t i = 0; i < spool_device_count(control->wiring.spool); i++) {
        struct spool_device_stats stats;
        char text[640];

        spool_device_read(control->wiring.spool, i, &stats);
        if (stats.state != SPOOL_DEVICE_LOW_SPACE && stats.state != SPOOL_DEVICE_RESTING)
            continue;
        snprintf(text, sizeof(text), "spool %s takes no mail: %s", stats.path,
                 stats.state == SPOOL_DEVICE_LOW_SPACE ? "it is short of space"
                                                       : "commits fail or do not end");
        json_array_append_new(warnings, control_string(text));
    }
}

static void tell_failures(struct control *control, uint64_t failed_commits)
{
    struct control_health *told = &control->health;
    uint64_t now_ns = io_now_ns(control->io);

    if (failed_commits == told->failed_commits ||
        (told->failed_commits > 0 && now_ns < told->failures_at_ns + FAILURES_LINE_NS))
        return;
    log_warn("the spool: the disk refused %llu commits; what was in them was refused or is written "
             "again",
             (unsigned long long)(failed_commits - told->failed_commits));
    told->failed_commits = failed_commits;
    told->failures_at_ns = now_ns;
}

void control_health_watch(struct control *control)
{
    struct control_health *told = &control->health;
    struct spool_trouble trouble;
    struct spool_stats stats;

    spool_stats_read(control->wiring.spool, &stats);
    tell_failures(control, stats.failed_commits);
    spool_trouble_read(control->wiring.spool, &trouble);
    if (trouble.health == SPOOL_HEALTHY && ++told->healthy_looks < 2)
        return;
    if (trouble.health != SPOOL_HEALTHY)
        told->healthy_looks = 0;
    if (trouble.health == told->health && trouble.error == told->error)
        return;
    told->health = trouble.health;
    told->error = trouble.error;
    if (trouble.health == SPOOL_HEALTHY)
        log_info("the spool is healthy again");
    else
        log_warn("the spool is %s, %s: %s", healths[trouble.health].name,
                 healths[trouble.health].meaning, err_text(trouble.error));
}
