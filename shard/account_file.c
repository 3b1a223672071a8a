#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/account_int.h"

#include <errno.h>
#include <stdio.h>

#define PRUNE_INTERVAL_US 3600000000ull
#define NAME_EXTRA_MAX    (sizeof("-YYYY-MM-DD-NNNNNNNNN-18446744073709551615") - 1)
#define COUNT_BYTES       (128u * 1024)

char *account_join(const char *directory, const char *name)
{
    size_t bytes = strlen(directory) + strlen(name) + 2;
    char *path = mem_alloc(bytes);

    snprintf(path, bytes, "%s/%s", directory, name);
    return path;
}

/* ---- Settings ------------------------------------------------------------------------------- */

/* "/var/log/acct.csv" to directory, stem "acct" and extension ".csv". */
static void split_path(struct account *account, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(base, '.');

    if (slash == NULL)
        account->directory = mem_strdup(".");
    else
        account->directory = mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (dot == NULL || dot == base)
        dot = base + strlen(base);
    account->stem = mem_strndup(base, (size_t)(dot - base));
    account->extension = mem_strdup(dot);
}

static uint64_t us_of_ms(uint64_t ms)
{
    return ms > UINT64_MAX / 1000 ? UINT64_MAX : ms * 1000;
}

static int take_layout(struct account *account, const struct conf_acct_file *settings)
{
    char why[CONF_FILTER_WHY_MAX];

    if (settings->layout != NULL)
        account->layout = *settings->layout;
    else
        acct_layout_usual(&account->layout, settings->records, settings->iso_times);
    return settings->queue_filter != NULL
               ? conf_queue_filter_new(settings->queue_filter, &account->filter, why)
               : 0;
}

int account_file_settings(struct account *account, const struct conf_acct_file *settings)
{
    const unsigned known =
        CONF_ACCT_DELIVERED | CONF_ACCT_BOUNCED | CONF_ACCT_TRANSIENT | CONF_ACCT_RECEIVED;

    split_path(account, settings->path[0] == '|' ? "program" : settings->path);
    account->path = mem_strdup(settings->path);
    if (settings->move_to != NULL)
        account->move_to = mem_strdup(settings->move_to);
    account->records = settings->records;
    account->count_moved_records = settings->count_moved_records;
    account->create_flags =
        IO_FILE_CREATE | (settings->world_readable ? IO_FILE_WORLD_READABLE : 0);
    account->move_interval_us = us_of_ms(settings->move_interval_ms);
    account->max_size_bytes = settings->max_size_bytes;
    account->delete_after_us = us_of_ms(settings->delete_after_ms);
    if ((settings->records & known) == 0)
        return E_RANGE;
    if (strlen(account->stem) + strlen(account->extension) + NAME_EXTRA_MAX >= ACCOUNT_NAME_MAX)
        return E_TOO_LONG;
    return take_layout(account, settings);
}

void account_file_free(struct account *account)
{
    mem_free(account->path);
    mem_free(account->directory);
    mem_free(account->stem);
    mem_free(account->extension);
    mem_free(account->move_to);
    conf_queue_filter_free(account->filter);
}

/* ---- Names ---------------------------------------------------------------------------------- */

/* From the formatting of time stamps, so that names and rows never disagree about the day. */
static struct account_name name_of_day(uint64_t wall_us)
{
    char text[ACCT_CSV_TIME_MAX];
    struct account_name name = {0};

    acct_csv_time(wall_us, text);
    sscanf(text, "%4u-%2u-%2u", &name.year, &name.month, &name.day);
    return name;
}

static void format_name(const struct account *account, const struct account_name *name,
                        char room[ACCOUNT_NAME_MAX])
{
    snprintf(room, ACCOUNT_NAME_MAX, "%s-%04u-%02u-%02u-%04u%s", account->stem, name->year,
             name->month, name->day, name->number, account->extension);
}

/* The same with the number of records behind it, as count-moved-records has it. */
static void format_counted_name(const struct account *account, const struct account_name *name,
                                uint64_t records, char room[ACCOUNT_NAME_MAX])
{
    snprintf(room, ACCOUNT_NAME_MAX, "%s-%04u-%02u-%02u-%04u-%llu%s", account->stem, name->year,
             name->month, name->day, name->number, (unsigned long long)records, account->extension);
}

/* True when text is a file name of this account. */
static bool parse_name(const struct account *account, const char *text,
                       struct account_name *ret_name)
{
    struct account_name name = {0};
    char again[ACCOUNT_NAME_MAX];
    size_t stem_len = strlen(account->stem);
    unsigned long long records = 0;
    int found;

    if (strncmp(text, account->stem, stem_len) != 0)
        return false;
    found = sscanf(text + stem_len, "-%4u-%2u-%2u-%9u-%20llu", &name.year, &name.month, &name.day,
                   &name.number, &records);
    if (found < 4)
        return false;
    /* Whatever the pattern above let through: only the very name that we would give counts. */
    if (found == 5)
        format_counted_name(account, &name, records, again);
    else
        format_name(account, &name, again);
    if (strcmp(again, text) != 0)
        return false;
    *ret_name = name;
    return true;
}

static bool is_same_day(const struct account_name *a, const struct account_name *b)
{
    return a->year == b->year && a->month == b->month && a->day == b->day;
}

struct number_search {
    const struct account *account;
    struct account_name next;
};

static void take_higher_number(struct number_search *search, const char *text)
{
    struct account_name found;

    if (parse_name(search->account, text, &found) && is_same_day(&found, &search->next) &&
        found.number >= search->next.number)
        search->next.number = found.number + 1;
}

static void on_listed_name(void *context, const char *name)
{
    take_higher_number(context, name);
}

/*
 * The first name of today that is not in use and was not in use before: a consumer that removed a
 * file remembers its name, so the state's own name counts although the file may be gone.
 */
static int next_name(const struct account *account, char room[ACCOUNT_NAME_MAX])
{
    struct number_search search = {account, name_of_day(io_wall_us(account->io))};
    int result = io_dir_list(account->io, account->directory, on_listed_name, &search);

    if (result >= 0 && account->move_to != NULL)
        result = io_dir_list(account->io, account->move_to, on_listed_name, &search);
    if (result < 0)
        return result;
    take_higher_number(&search, account->state.name);
    format_name(account, &search.next, room);
    return 0;
}

/* ---- The current file ----------------------------------------------------------------------- */

/* The state names a file that holds no row yet and may or may not exist. */
static bool is_intended(const struct account *account)
{
    return account->state.name[0] != '\0' && account->state.bytes == 0;
}

static int open_current(struct account *account, unsigned flags)
{
    char *path = account_join(account->directory, account->state.name);
    int result =
        io_file_open(account->io, path, IO_FILE_READ | IO_FILE_WRITE | flags, &account->fd);

    mem_free(path);
    if (result < 0)
        account->fd = -1;
    return result;
}

static void put_header(struct account *account)
{
    int len = acct_csv_header(&account->layout, account->buffer, ACCT_CSV_ROW_MAX);

    must(len > 0 && account->buffer_used == 0);
    account->buffer_used = (uint32_t)len;
    account->header_bytes = (uint32_t)len;
}

/* The open file, cut back to what the state covers. */
static int cut_back(struct account *account)
{
    uint64_t bytes;
    int result = io_file_size(account->io, account->fd, &bytes);

    if (result < 0)
        return result;
    if (bytes < account->state.bytes) {
        log_error("accounting: %s has lost %llu bytes that were written", account->state.name,
                  (unsigned long long)(account->state.bytes - bytes));
    } else if (bytes > account->state.bytes) {
        bytes = account->state.bytes;
        result = io_file_truncate(account->io, account->fd, bytes);
        if (result < 0)
            return result;
    }
    account->file_bytes = bytes;
    account->file_is_named = true;
    account->file_is_synced = false;
    if (bytes == 0)
        put_header(account);
    return 0;
}

static void close_current(struct account *account)
{
    if (account->fd >= 0)
        io_close_now(account->io, account->fd);
    account->fd = -1;
}

int account_file_resume(struct account *account)
{
    int result;

    close_current(account);
    account->buffer_used = 0;
    account->file_bytes = 0;
    if (account->state.bytes == 0)
        return 0;
    result = open_current(account, 0);
    /* Moved away by us just before the end of the former life: the next row starts a new file. */
    if (result == -ENOENT)
        return 0;
    if (result >= 0)
        result = cut_back(account);
    if (result < 0)
        close_current(account);
    return result;
}

/* A name that the state holds already, but that has no row yet, is used before a new one. */
static int open_next(struct account *account)
{
    struct account_state next = account->state;
    int result;

    if (is_intended(account)) {
        result = account_state_confirm(account);
        if (result >= 0)
            result = open_current(account, account->create_flags);
        return result < 0 ? result : io_file_truncate(account->io, account->fd, 0);
    }
    result = next_name(account, next.name);
    if (result < 0)
        return result;
    next.bytes = 0;
    next.opened_us = io_wall_us(account->io);
    result = account_state_store(account, &next);
    return result < 0 ? result : open_current(account, account->create_flags | IO_FILE_EXCLUSIVE);
}

int account_file_create(struct account *account)
{
    int result = open_next(account);

    if (result < 0) {
        close_current(account);
        return result;
    }
    account->file_bytes = 0;
    account->file_is_named = false;
    account->file_is_synced = false;
    put_header(account);
    return 0;
}

/* ---- Ending and moving ---------------------------------------------------------------------- */

bool account_file_is_old(const struct account *account)
{
    uint64_t now_us = io_wall_us(account->io);

    return account->fd >= 0 && account->move_to != NULL && now_us > account->state.opened_us &&
           now_us - account->state.opened_us >= account->move_interval_us;
}

struct name_search {
    const char *wanted;
    bool found;
};

static void on_name_compared(void *context, const char *name)
{
    struct name_search *search = context;

    search->found |= strcmp(name, search->wanted) == 0;
}

/* Every record is one line; the header is one too. */
static int count_records(struct account *account, const char *path, uint64_t *ret_count)
{
    uint64_t lines = 0, offset = 0;
    char *room;
    int64_t got;
    int fd, result = io_file_open(account->io, path, IO_FILE_READ, &fd);

    if (result < 0)
        return result;
    room = mem_alloc(COUNT_BYTES);
    while ((got = io_file_read_now(account->io, fd, room, COUNT_BYTES, offset)) > 0) {
        for (int64_t i = 0; i < got; i++)
            lines += room[i] == '\n';
        offset += (uint64_t)got;
    }
    mem_free(room);
    io_close_now(account->io, fd);
    if (got < 0)
        return (int)got;
    *ret_count = lines > 0 ? lines - 1 : 0;
    return 0;
}

/*
 * The name that a finished file gets where it is moved to. The records are counted in the file
 * itself, so that the number is right for one that an earlier life left behind as well.
 */
static int moved_name(struct account *account, const char *name, const char *path,
                      char room[ACCOUNT_NAME_MAX])
{
    struct account_name parts;
    uint64_t records = 0;
    int result;

    strcpy(room, name);
    if (!account->count_moved_records || !parse_name(account, name, &parts))
        return 0;
    result = count_records(account, path, &records);
    if (result >= 0)
        format_counted_name(account, &parts, records, room);
    return result;
}

/* A move never replaces a file: what cannot be moved stays and the operator is told. */
static bool move_file(struct account *account, const char *name)
{
    char target[ACCOUNT_NAME_MAX];
    struct name_search search = {target, false};
    char *from = account_join(account->directory, name);
    int result = moved_name(account, name, from, target);
    char *to = account_join(account->move_to, target);

    if (result >= 0)
        result = io_dir_list(account->io, account->move_to, on_name_compared, &search);
    if (result >= 0 && search.found)
        result = -EEXIST;
    if (result >= 0)
        result = io_file_rename(account->io, from, to);
    if (result >= 0)
        result = io_dir_sync(account->io, account->move_to);
    if (result >= 0)
        result = io_dir_sync(account->io, account->directory);
    if (result < 0)
        log_warn("accounting: moving %s to %s: %s", from, account->move_to, err_text(result));
    mem_free(from);
    mem_free(to);
    return result >= 0;
}

void account_file_end(struct account *account)
{
    close_current(account);
    account->file_bytes = 0;
    if (account->move_to != NULL)
        move_file(account, account->state.name);
}

/* ---- Files of former days ------------------------------------------------------------------- */

/* One round of a clean-up takes so many files at most; the next one comes soon enough. */
#define CLEAN_UP_COUNT_MAX 64

struct file_search {
    const struct account *account;
    const char *except; /* NULL = none */
    char found[ACCOUNT_NAME_MAX];
};

static bool is_earlier_day(const struct account_name *name, const struct account_name *day)
{
    if (name->year != day->year)
        return name->year < day->year;
    if (name->month != day->month)
        return name->month < day->month;
    return name->day < day->day;
}

static void on_searched_name(void *context, const char *text)
{
    struct file_search *search = context;
    struct account_name name;

    if (search->found[0] != '\0' || !parse_name(search->account, text, &name))
        return;
    if (search->except != NULL && strcmp(text, search->except) == 0)
        return;
    strcpy(search->found, text);
}

/* True and the first name that matches. */
static bool find_file(const char *directory, struct file_search *search)
{
    search->found[0] = '\0';
    return io_dir_list(search->account->io, directory, on_searched_name, search) >= 0 &&
           search->found[0] != '\0';
}

void account_file_sweep(struct account *account)
{
    struct file_search search = {.account = account};

    if (account->move_to == NULL)
        return;
    if (account->fd >= 0 || is_intended(account))
        search.except = account->state.name;
    for (int i = 0; i < CLEAN_UP_COUNT_MAX && find_file(account->directory, &search); i++) {
        if (!move_file(account, search.found))
            return;
    }
}

/* The two oldest files there are. */
struct age_search {
    const struct account *account;
    uint32_t count; /* 2 at most */
    struct account_name names[2];
    char oldest[ACCOUNT_NAME_MAX];
};

static bool is_older(const struct account_name *a, const struct account_name *b)
{
    return is_same_day(a, b) ? a->number < b->number : is_earlier_day(a, b);
}

static void on_aged_name(void *context, const char *text)
{
    struct age_search *search = context;
    struct account_name name;

    if (!parse_name(search->account, text, &name))
        return;
    if (search->count == 0 || is_older(&name, &search->names[0])) {
        search->names[1] = search->names[0];
        search->names[0] = name;
        strcpy(search->oldest, text);
    } else if (search->count == 1 || is_older(&name, &search->names[1])) {
        search->names[1] = name;
    } else {
        return;
    }
    search->count += search->count < 2;
}

/* The last row of a file is older than the file behind it, whose name has the day of its first one:
 * where that day is over for so long, so is what the older file holds. */
static bool find_aged_file(const struct account *account, const struct account_name *day,
                           struct age_search *search)
{
    *search = (struct age_search){.account = account};
    return io_dir_list(account->io, account->directory, on_aged_name, search) >= 0 &&
           search->count == 2 && is_earlier_day(&search->names[1], day) &&
           strcmp(search->oldest, account->state.name) != 0;
}

void account_file_prune(struct account *account)
{
    struct age_search search;
    struct account_name day;
    uint64_t now_us = io_wall_us(account->io);

    /* What has been moved is somebody else's. */
    if (account->move_to != NULL || now_us < account->prune_next_us ||
        account->delete_after_us >= now_us)
        return;
    account->prune_next_us = now_us + PRUNE_INTERVAL_US;
    day = name_of_day(now_us - account->delete_after_us);
    for (int i = 0; i < CLEAN_UP_COUNT_MAX && find_aged_file(account, &day, &search); i++) {
        char *path = account_join(account->directory, search.oldest);
        int result = io_file_unlink(account->io, path);

        if (result < 0)
            log_warn("accounting: removing %s: %s", path, err_text(result));
        mem_free(path);
        if (result < 0)
            return;
    }
}
