#include "shard/cold.h"

#include "core/base/must.h"
#include "core/conf/cold.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

#define PAIRS_MAX   262144u /* of domains and virtual MTAs, as far as memory reaches */
#define LOG_WAIT_S  1       /* until a book is offered to the log again */
#define DAY_SECONDS 86400
#define SECOND_US   1000000

_Static_assert(CONF_COLD_DAYS_MAX <= WARMUP_STEPS_MAX, "a day of the ramp is a step");

void cold_init(struct shard *shard)
{
    slab_init(&shard->cold.shares, sizeof(struct cold_share), PAIRS_MAX);
    slab_init(&shard->cold.books, sizeof(struct cold_book), PAIRS_MAX);
    table_init(&shard->cold.share_table);
    table_init(&shard->cold.book_table);
}

void cold_fini(struct shard *shard)
{
    table_fini(&shard->cold.share_table);
    table_fini(&shard->cold.book_table);
    slab_fini(&shard->cold.shares);
    slab_fini(&shard->cold.books);
}

/* ---- What is configured ---------------------------------------------------------------------- */

/* False when nothing goes the cold way. */
static bool schedule_of(const struct shard *shard, struct slice domain, uint32_t vmta_id,
                        struct warmup_schedule *ret_schedule)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, vmta_id);
    struct conf_queue queue;

    if (vmta == NULL || vmta->cold_count == 0)
        return false;
    conf_queue(shard->conf, domain, vmta_id, &queue);
    if (queue.max_cold_msg == NULL)
        return false;
    *ret_schedule = (struct warmup_schedule){.by_day = true, .idle_days = WARMUP_IDLE_DAYS};
    return conf_cold_ramp(slice_str(queue.max_cold_msg), ret_schedule->caps,
                          &ret_schedule->step_count) == 0;
}

bool cold_is_configured(const struct shard *shard, struct slice domain, uint32_t vmta_id)
{
    struct warmup_schedule schedule;

    if (!schedule_of(shard, domain, vmta_id, &schedule))
        return false;
    return schedule.step_count > 1 || schedule.caps[0] > 0;
}

uint32_t cold_vmta(const struct shard *shard, uint32_t vmta_id, uint64_t message_id)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, vmta_id), *cold;

    if (vmta == NULL || vmta->cold_count == 0)
        return vmta_id;
    cold = conf_vmta_named(shard->conf,
                           slice_str(vmta->cold_names[hash_u64(message_id) % vmta->cold_count]));
    return cold != NULL ? cold->id : vmta_id;
}

static int64_t now_s(const struct shard *shard)
{
    return (int64_t)(io_wall_us(shard->io) / SECOND_US);
}

/* ---- Shares ---------------------------------------------------------------------------------- */

struct pair {
    uint32_t name;
    uint32_t vmta_id;
};

/* The same on every shard, unlike the number of the name. */
static uint64_t hash_of(const struct shard *shard, struct pair pair)
{
    struct slice domain = names_text(&shard->names, pair.name);

    return hash_combine(hash_bytes(domain.data, domain.len), pair.vmta_id);
}

static bool share_matches(uint32_t value, const void *key, void *context)
{
    const struct cold_share *share = slab_at(&((const struct shard *)context)->cold.shares, value);
    const struct pair *pair = key;

    return share->name == pair->name && share->vmta_id == pair->vmta_id;
}

static struct cold_share *obtain_share(struct shard *shard, struct pair pair)
{
    uint64_t hash = hash_of(shard, pair);
    uint32_t index = table_find(&shard->cold.share_table, hash, share_matches, &pair, shard);
    struct cold_share *share;

    if (index != TABLE_NONE)
        return slab_at(&shard->cold.shares, index);
    share = slab_alloc(&shard->cold.shares, &index);
    if (share == NULL)
        return NULL;
    if (!table_insert(&shard->cold.share_table, hash, index)) {
        slab_free(&shard->cold.shares, index);
        return NULL;
    }
    share->shard = shard;
    share->name = names_get(&shard->names, names_text(&shard->names, pair.name));
    must(share->name == pair.name);
    share->vmta_id = pair.vmta_id;
    share->again_s = INT64_MIN;
    share->ask.share = index;
    list_init(&share->ask.link);
    return share;
}

static void hear_ask(struct shard *shard, struct cold_ask *ask);

static void ask(struct shard *shard, struct cold_share *share)
{
    struct pair pair = {share->name, share->vmta_id};
    uint16_t owner = (uint16_t)(hash_of(shard, pair) % shard->count);
    struct cold_ask *ask = &share->ask;

    share->is_asking = true;
    ask->domain = names_text(&shard->names, share->name);
    ask->vmta_id = share->vmta_id;
    ask->parcel.kind = SHARD_COLD_ASK;
    ask->parcel.from = shard->number;
    if (owner == shard->number)
        hear_ask(shard, ask);
    else
        shard_post(shard, owner, &ask->parcel);
}

static void hear_answer(struct shard *shard, struct cold_ask *ask)
{
    struct cold_share *share = slab_at(&shard->cold.shares, ask->share);

    share->is_asking = false;
    share->day = ask->day;
    share->left = ask->count;
    share->again_s = ask->again_s;
}

bool cold_take(struct shard *shard, const struct route *route)
{
    struct cold_share *share = obtain_share(shard, (struct pair){route->name, route->vmta_id});
    int64_t wall_s = now_s(shard);

    if (share == NULL || share->is_asking)
        return false;
    /* A clock that went back over midnight shows the day before: the book's is still the one that
     * has begun, and another block of it would be of no more use than this one. */
    if (share->left > 0 && zone_day(conf_zone(shard->conf), wall_s, NULL) <= share->day) {
        share->left -= !planted("shard/cold-share-not-counted");
        shard->cold.taken++;
        return true;
    }
    share->left = 0;
    if (wall_s >= share->again_s)
        ask(shard, share);
    return false;
}

/* ---- Books ----------------------------------------------------------------------------------- */

static bool book_matches(uint32_t value, const void *key, void *context)
{
    const struct cold_book *book = slab_at(&((const struct shard *)context)->cold.books, value);
    const struct pair *pair = key;

    return book->name == pair->name && book->vmta_id == pair->vmta_id;
}

/* NULL when memory is short. */
static struct cold_book *obtain_book(struct shard *shard, struct slice domain, uint32_t vmta_id)
{
    struct pair pair = {names_get(&shard->names, domain), vmta_id};
    struct cold_book *book;
    uint32_t index;

    if (pair.name == NAME_NONE)
        return NULL;
    index = table_find(&shard->cold.book_table, hash_of(shard, pair), book_matches, &pair, shard);
    if (index != TABLE_NONE) {
        names_put(&shard->names, pair.name);
        return slab_at(&shard->cold.books, index);
    }
    book = slab_alloc(&shard->cold.books, &index);
    if (book == NULL || !table_insert(&shard->cold.book_table, hash_of(shard, pair), index)) {
        if (book != NULL)
            slab_free(&shard->cold.books, index);
        names_put(&shard->names, pair.name);
        return NULL;
    }
    book->name = pair.name;
    book->vmta_id = vmta_id;
    book->index = index;
    list_init(&book->asks);
    return book;
}

static void answer(struct shard *shard, struct cold_ask *ask, int32_t day, uint64_t count,
                   int64_t again_s)
{
    ask->day = day;
    ask->count = count;
    ask->again_s = again_s;
    if (ask->parcel.from == shard->number) {
        hear_answer(shard, ask);
        return;
    }
    ask->parcel.kind = SHARD_COLD_ANSWER;
    shard_post(shard, ask->parcel.from, &ask->parcel);
}

/* Nothing more today. */
static void refuse_all(struct shard *shard, struct cold_book *book, int32_t day, int64_t again_s)
{
    struct list *link;

    while ((link = list_pop_front(&book->asks)) != NULL)
        answer(shard, container_of(link, struct cold_ask, link), day, 0, again_s);
}

static bool persist(struct shard *shard, const struct cold_book *book)
{
    uint8_t value[WARMUP_BOOK_BYTES];
    size_t len = warmup_encode(&book->book, value);

    return memo_cold(shard, names_text(&shard->names, book->name), book->vmta_id,
                     slice_of(value, len), book->index);
}

/* The first of those that ask gets a block, as soon as the log has it. */
static void serve(struct shard *shard, struct cold_book *book)
{
    const struct zone *zone = conf_zone(shard->conf);
    struct warmup_schedule schedule;
    int64_t wall_s = now_s(shard);
    int32_t day = zone_day(zone, wall_s, NULL);

    if (book->is_writing || list_empty(&book->asks))
        return;
    if (!schedule_of(shard, names_text(&shard->names, book->name), book->vmta_id, &schedule)) {
        refuse_all(shard, book, day, wall_s + LOG_WAIT_S);
        return;
    }
    warmup_turn_to(&schedule, &book->book, day);
    book->granted = warmup_grant(&schedule, &book->book, UINT64_MAX, 0, 0, 0);
    if (book->granted == 0) {
        refuse_all(shard, book, book->book.day, zone_moment(zone, book->book.day + 1, 0));
        return;
    }
    book->is_writing = persist(shard, book);
    if (!book->is_writing)
        refuse_all(shard, book, day, wall_s + LOG_WAIT_S);
}

void cold_on_logged(struct shard *shard, uint32_t index, int32_t status)
{
    struct cold_book *book = slab_at(&shard->cold.books, index);
    struct list *link = list_pop_front(&book->asks);
    struct cold_ask *ask = container_of(link, struct cold_ask, link);

    must(book->is_writing && link != NULL);
    book->is_writing = false;
    /* What the log could not take stays granted: whether a restart would know it is not known. */
    if (status < 0)
        answer(shard, ask, book->book.day, 0, now_s(shard) + LOG_WAIT_S);
    else
        answer(shard, ask, book->book.day, book->granted, INT64_MIN);
    serve(shard, book);
}

static void hear_ask(struct shard *shard, struct cold_ask *ask)
{
    struct cold_book *book = obtain_book(shard, ask->domain, ask->vmta_id);

    if (book == NULL) {
        answer(shard, ask, 0, 0, now_s(shard) + LOG_WAIT_S);
        return;
    }
    list_push_back(&book->asks, &ask->link);
    serve(shard, book);
}

void cold_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct cold_ask *ask = container_of(parcel, struct cold_ask, parcel);

    if (parcel->kind == SHARD_COLD_ASK)
        hear_ask(shard, ask);
    else
        hear_answer(shard, ask);
}

void cold_recover(struct shard *shard, struct slice name, struct slice value)
{
    size_t slash = slice_find(name, '/');
    struct slice domain = slice_of(name.data, slash);
    struct warmup_book recovered;
    struct cold_book *book;
    uint32_t vmta_id;

    if (slash == name.len || warmup_decode(value, &recovered) < 0)
        return;
    vmta_id = conf_vmta_id(shard->conf, slice_after(name, slash + 1));
    if (hash_combine(hash_bytes(domain.data, domain.len), vmta_id) % shard->count != shard->number)
        return;
    book = obtain_book(shard, domain, vmta_id);
    if (book != NULL && !planted("shard/cold-book-forgotten"))
        book->book = recovered;
}
