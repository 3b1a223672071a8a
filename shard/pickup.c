/* The folder: which files there are, and what becomes of them. */
#include "shard/pickup.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/pickup_int.h"

#include <stdio.h>

#define NAMES_MAX  256u
#define PATH_BYTES 2048
#define FILE_BYTES (PATH_BYTES + PICKUP_NAME_MAX + 2)

struct pickup {
    struct shard *shard;
    struct io_timer timer;
    struct pickup_job *jobs;            /* [PICKUP_JOBS]; NULL until there is a folder */
    char (*names)[PICKUP_NAME_MAX + 1]; /* [NAMES_MAX], of the last look */
    uint32_t name_count;
    uint32_t name_next;
    uint32_t job_count; /* used ones */
    uint32_t ended;     /* since the last look, by being taken or moved */
    bool has_more;      /* than there was room for */
    bool is_broken;     /* a file can neither be unlinked nor moved: nothing more is taken */
    uint64_t rest_until_ns;
    int list_error;              /* the last one; 0 = none, so that one line tells of it */
    char folder[PATH_BYTES];     /* of the last look */
    char bad_folder[PATH_BYTES]; /* likewise */
};

static void arm(struct pickup *pickup, uint64_t delay_ms)
{
    io_timer_arm(pickup->shard->io, &pickup->timer,
                 io_now_ns(pickup->shard->io) + delay_ms * 1000000);
}

static void path_of(char *room, size_t room_bytes, const char *folder, const char *name)
{
    snprintf(room, room_bytes, "%s/%s", folder, name);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static void move_away(struct pickup *pickup, const struct pickup_job *job)
{
    char from[FILE_BYTES], to[FILE_BYTES];
    int rc;

    path_of(from, sizeof(from), pickup->folder, job->name);
    path_of(to, sizeof(to), pickup->bad_folder, job->name);
    rc = io_file_rename(pickup->shard->io, from, to);
    if (rc == 0) {
        log_warn("pickup: %s was moved to %s: %s", job->name, pickup->bad_folder, job->reason);
        return;
    }
    pickup->is_broken = true;
    log_error("pickup: %s cannot be moved to %s (%s); no more files are taken before a restart",
              job->name, pickup->bad_folder, err_text(rc));
}

/* It may be gone, or another file has its name by now, which is mail of its own. */
static bool is_still_there(const struct pickup *pickup, const struct pickup_job *job)
{
    char path[FILE_BYTES];

    path_of(path, sizeof(path), pickup->folder, job->name);
    return io_file_is_named(pickup->shard->io, job->fd, path) != 0;
}

static void unlink_taken(struct pickup *pickup, struct pickup_job *job)
{
    char path[FILE_BYTES];
    int rc;

    path_of(path, sizeof(path), pickup->folder, job->name);
    rc = io_file_unlink(pickup->shard->io, path);
    if (rc == 0)
        return;
    snprintf(job->reason, sizeof(job->reason), "it was taken, but cannot be removed (%s)",
             err_text(rc));
    move_away(pickup, job);
}

void pickup_end(struct pickup_job *job, enum pickup_end how)
{
    struct pickup *pickup = job->pickup;
    bool is_done = how == PICKUP_TAKEN || how == PICKUP_BAD;
    bool is_there = is_done && is_still_there(pickup, job);

    io_close_now(pickup->shard->io, job->fd);
    if (is_there && how == PICKUP_TAKEN) {
        unlink_taken(pickup, job);
    } else if (is_there) {
        move_away(pickup, job);
    } else if (how == PICKUP_LATER && !pickup->shard->stopping) {
        log_warn("pickup: %s cannot be taken now: %s", job->name, job->reason);
        pickup->rest_until_ns = io_now_ns(pickup->shard->io) + PICKUP_REST_MS * 1000000ull;
    }
    job->is_used = false;
    pickup->job_count--;
    pickup->ended += is_done;
    arm(pickup, 0);
}

/* ---- Beginnings ------------------------------------------------------------------------------ */

static bool is_busy_with(const struct pickup *pickup, const char *name)
{
    for (uint32_t i = 0; i < PICKUP_JOBS; i++)
        if (pickup->jobs[i].is_used && strcmp(pickup->jobs[i].name, name) == 0)
            return true;
    return false;
}

static void on_name(void *context, const char *name)
{
    struct pickup *pickup = context;
    size_t len = strlen(name);

    if (name[0] == '.' || len > PICKUP_NAME_MAX ||
        hash_bytes(name, len) % pickup->shard->count != pickup->shard->number ||
        is_busy_with(pickup, name))
        return;
    if (pickup->name_count == NAMES_MAX) {
        pickup->has_more = true;
        return;
    }
    memcpy(pickup->names[pickup->name_count++], name, len + 1);
}

static void look(struct pickup *pickup)
{
    const struct conf_global *global = conf_global(pickup->shard->conf);
    int rc;

    pickup->name_count = 0;
    pickup->name_next = 0;
    pickup->has_more = false;
    pickup->ended = 0;
    snprintf(pickup->folder, PATH_BYTES, "%s", global->pickup_folder);
    snprintf(pickup->bad_folder, PATH_BYTES, "%s", global->pickup_bad_folder);
    rc = io_dir_list(pickup->shard->io, pickup->folder, on_name, pickup);
    if (rc < 0 && rc != pickup->list_error)
        log_error("pickup: %s cannot be read: %s", pickup->folder, err_text(rc));
    pickup->list_error = rc < 0 ? rc : 0;
}

/* 0 and the open file, which has been left alone for long enough, and its size; else negative. */
static int open_file(struct pickup *pickup, const char *name, int *ret_fd, uint64_t *ret_bytes)
{
    struct io *io = pickup->shard->io;
    uint64_t now_us = io_wall_us(io), changed_us;
    char path[FILE_BYTES];
    int rc;

    path_of(path, sizeof(path), pickup->folder, name);
    rc = io_file_open(io, path, IO_FILE_READ | IO_FILE_REGULAR | IO_FILE_ALONE, ret_fd);
    if (rc < 0)
        return rc;
    rc = io_file_changed(io, *ret_fd, &changed_us);
    if (rc == 0 && changed_us < now_us && now_us - changed_us < PICKUP_AGE_US)
        rc = E_LOCKED;
    /* A time in the future tells nothing of its age. */
    if (rc == 0)
        rc = io_file_size(io, *ret_fd, ret_bytes);
    if (rc < 0)
        io_close_now(io, *ret_fd);
    return rc;
}

static void begin(struct pickup *pickup, const char *name)
{
    static const struct ipaddr_port loopback = {
        .ip = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}}};
    struct pickup_job *job = pickup->jobs;
    uint64_t bytes;
    int fd;

    if (open_file(pickup, name, &fd, &bytes) < 0)
        return;
    while (job->is_used)
        job++;
    memset(job, 0, offsetof(struct pickup_job, kept_text));
    job->pickup = pickup;
    job->shard = pickup->shard;
    job->fd = fd;
    job->is_used = true;
    job->client = (struct intake_client){.peer = loopback,
                                         .local = loopback,
                                         .helo = SLICE_LITERAL("pickup"),
                                         .type = SLICE_LITERAL("pickup"),
                                         .listener_source = "{pickup}"};
    snprintf(job->name, sizeof(job->name), "%s", name);
    pickup->job_count++;
    pickup_file_begin(job, bytes);
}

static void take_files(struct pickup *pickup)
{
    while (pickup->job_count < PICKUP_JOBS && pickup->name_next < pickup->name_count &&
           !pickup->is_broken && pickup->rest_until_ns <= io_now_ns(pickup->shard->io))
        begin(pickup, pickup->names[pickup->name_next++]);
}

static void on_timer(struct io_timer *timer)
{
    struct pickup *pickup = container_of(timer, struct pickup, timer);
    const char *folder = conf_global(pickup->shard->conf)->pickup_folder;
    bool is_through = pickup->name_next == pickup->name_count;

    if (pickup->shard->stopping || pickup->is_broken)
        return;
    if (!folder)
        return;
    if (pickup->rest_until_ns > io_now_ns(pickup->shard->io)) {
        pickup->name_next = pickup->name_count;
        arm(pickup, PICKUP_SPAN_MS);
        return;
    }
    if (!pickup->jobs) {
        pickup->jobs = mem_alloc(PICKUP_JOBS * sizeof(*pickup->jobs));
        pickup->names = mem_alloc(NAMES_MAX * sizeof(*pickup->names));
    }
    if (is_through && pickup->job_count == 0)
        look(pickup);
    take_files(pickup);
    /* Ends come here at once; a full list that led to something is followed by the next one. */
    arm(pickup,
        pickup->has_more && pickup->ended > 0 && pickup->job_count == 0 ? 0 : PICKUP_SPAN_MS);
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct pickup *pickup_create(struct shard *shard)
{
    struct pickup *pickup = mem_alloc(sizeof(*pickup));

    pickup->shard = shard;
    io_timer_init(&pickup->timer, on_timer);
    pickup_adopt(pickup);
    return pickup;
}

void pickup_adopt(struct pickup *pickup)
{
    /* A name of the former folder is none of this one's. */
    pickup->name_next = pickup->name_count;
    if (conf_global(pickup->shard->conf)->pickup_folder && !pickup->shard->stopping &&
        !io_timer_is_armed(&pickup->timer))
        arm(pickup, PICKUP_SPAN_MS);
}

void pickup_destroy(struct pickup *pickup)
{
    io_timer_stop(pickup->shard->io, &pickup->timer);
    mem_free(pickup->jobs);
    mem_free(pickup->names);
    mem_free(pickup);
}

void pickup_stop(struct pickup *pickup)
{
    io_timer_stop(pickup->shard->io, &pickup->timer);
    for (uint32_t i = 0; pickup->jobs && i < PICKUP_JOBS; i++)
        if (pickup->jobs[i].is_used)
            pickup_file_stop(&pickup->jobs[i]);
    io_timer_stop(pickup->shard->io, &pickup->timer);
}

bool pickup_is_idle(const struct pickup *pickup)
{
    return pickup->job_count == 0;
}
