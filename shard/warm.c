#include "shard/warm.h"

#include "core/base/must.h"
#include "core/conf/provider.h"
#include "core/conf/warmup.h"
#include "core/mail/classify.h"
#include "shard/planted.h"
#include "shard/report.h"
#include "shard/shard_int.h"

#include <stdio.h>

#define PAIRS_MAX         262144u /* of providers and addresses, as far as memory reaches */
#define LOG_WAIT_S        1       /* until a book is offered to the log again */
#define ANSWER_WAIT_MS    20      /* until a queue looks whether the answer is there */
#define LOOK_MAX_S        60      /* the configuration and the clock may change meanwhile */
#define SECOND_US         1000000
#define PROVIDER_TEXT_MAX 100u

_Static_assert(CONF_WARMUP_STEPS_MAX <= WARMUP_STEPS_MAX, "a step of the section is a step");

void warm_init(struct shard *shard)
{
    slab_init(&shard->warm.shares, sizeof(struct warm_share), PAIRS_MAX);
    slab_init(&shard->warm.books, sizeof(struct warm_book), PAIRS_MAX);
    table_init(&shard->warm.share_table);
    table_init(&shard->warm.book_table);
}

void warm_fini(struct shard *shard)
{
    table_fini(&shard->warm.share_table);
    table_fini(&shard->warm.book_table);
    slab_fini(&shard->warm.shares);
    slab_fini(&shard->warm.books);
}

static int64_t now_s(const struct shard *shard)
{
    return (int64_t)(io_wall_us(shard->io) / SECOND_US);
}

const struct conf_warmup *warm_section(const struct shard *shard, const struct queue *queue)
{
    if (conf_warmup_count(shard->conf) == 0)
        return NULL;
    return conf_warmup_of(shard->conf, names_text(&shard->names, queue->name), queue->vmta_id);
}

/* ---- Shares ---------------------------------------------------------------------------------- */

struct share_key {
    uint64_t section;
    uint64_t provider;
    const struct ipaddr *source;
};

static struct share_key key_of(const struct conf_warmup *section, uint64_t provider,
                               const struct ipaddr *source)
{
    struct slice name = slice_str(section->fits.name);

    return (struct share_key){hash_bytes_nocase(name.data, name.len), provider, source};
}

static uint64_t hash_of(const struct share_key *key)
{
    return hash_combine(hash_combine(key->section, key->provider), ipaddr_hash(key->source));
}

static bool share_matches(uint32_t value, const void *key, void *context)
{
    const struct warm_share *share = slab_at(&((const struct shard *)context)->warm.shares, value);
    const struct share_key *wanted = key;

    return share->section == wanted->section && share->provider == wanted->provider &&
           ipaddr_equal(&share->source, wanted->source);
}

static struct warm_share *find_share(const struct shard *shard, const struct share_key *key)
{
    uint32_t index = table_find(&shard->warm.share_table, hash_of(key), share_matches, key,
                                (void *)(uintptr_t)shard);

    return index != TABLE_NONE ? slab_at(&shard->warm.shares, index) : NULL;
}

/* The same on every shard and after a restart, unlike the number of a provider that has a name. */
static uint32_t name_book(struct shard *shard, const struct conf_warmup *section, uint64_t provider,
                          const struct ipaddr *source)
{
    const char *name = conf_provider_name(provider);
    char room[NAMES_BYTES_MAX + 1], address[IPADDR_TEXT_MAX], number[24];

    if (name == NULL || strlen(name) > PROVIDER_TEXT_MAX) {
        uint64_t hash = name == NULL ? provider : hash_bytes(name, strlen(name));

        snprintf(number, sizeof(number), "@%016llx", (unsigned long long)hash);
        name = number;
    }
    ipaddr_format(source, address);
    snprintf(room, sizeof(room), "%s/%s/%s", section->fits.name, name, address);
    return names_get(&shard->names, slice_str(room));
}

/* NULL when memory is short. */
static struct warm_share *obtain_share(struct shard *shard, const struct conf_warmup *section,
                                       uint64_t provider, const struct ipaddr *source)
{
    struct share_key key = key_of(section, provider, source);
    struct warm_share *share = find_share(shard, &key);
    uint32_t index, name;

    if (share)
        return share;
    name = name_book(shard, section, provider, source);
    if (name == NAME_NONE)
        return NULL;
    share = slab_alloc(&shard->warm.shares, &index);
    if (share == NULL || !table_insert(&shard->warm.share_table, hash_of(&key), index)) {
        if (share != NULL)
            slab_free(&shard->warm.shares, index);
        names_put(&shard->names, name);
        return NULL;
    }
    share->section = key.section;
    share->provider = provider;
    share->source = *source;
    share->key = name;
    share->index = index;
    share->again_s = INT64_MIN;
    list_init(&share->ask.link);
    return share;
}

static bool has_some(const struct shard *shard, const struct warm_share *share)
{
    return share->left > 0 && now_s(shard) < share->until_s;
}

static void hear_ask(struct shard *shard, struct warm_ask *ask);

static void ask(struct shard *shard, struct warm_share *share, bool wants)
{
    struct slice key = names_text(&shard->names, share->key);
    uint16_t owner = (uint16_t)(hash_bytes(key.data, key.len) % shard->count);
    struct warm_ask *ask = &share->ask;

    share->is_asking = true;
    ask->key = key;
    ask->share = share->index;
    ask->wants = wants;
    ask->news = share->news;
    share->news = (struct warm_news){.day = share->news.day};
    ask->parcel.kind = SHARD_WARM_ASK;
    ask->parcel.from = shard->number;
    if (owner == shard->number)
        hear_ask(shard, ask);
    else
        shard_post(shard, owner, &ask->parcel);
}

/* The book should know soon: of a block at once, of the rest when there may be no next question, or
 * when it has become much. */
static bool has_to_report(const struct warm_share *share)
{
    const struct warm_news *news = &share->news;

    return !share->is_asking && news->used > 0 &&
           (share->left == 0 || news->blocked > 0 || news->used * 4 >= share->block);
}

static void hear_answer(struct shard *shard, const struct warm_ask *given)
{
    struct warm_share *share = slab_at(&shard->warm.shares, given->share);

    share->is_asking = false;
    if (given->wants) {
        share->day = given->day;
        share->block = given->count;
        share->left = given->count;
        share->until_s = given->until_s;
        share->again_s = given->again_s;
    }
    if (has_to_report(share))
        ask(shard, share, false);
}

/* ---- What queues do -------------------------------------------------------------------------- */

static struct warm_share *share_of(struct shard *shard, const struct lane *lane,
                                   const struct queue *queue)
{
    const struct conf_warmup *section = warm_section(shard, queue);

    return section ? obtain_share(shard, section, lane->site->provider, &lane->source) : NULL;
}

bool warm_admit(struct shard *shard, struct lane *lane, struct queue *queue)
{
    struct warm_share *share;

    if (!warm_section(shard, queue))
        return true;
    share = share_of(shard, lane, queue);
    if (share && has_some(shard, share))
        return true;
    if (share && !share->is_asking) {
        share->left = 0;
        if (now_s(shard) >= share->again_s)
            ask(shard, share, true);
    }
    /* Then it is known, and where there is nothing here another address may have some. */
    queues_wait(shard, queue, ANSWER_WAIT_MS, WAIT_WARMUP);
    return false;
}

uint32_t warm_allowed(struct shard *shard, const struct lane *lane, const struct queue *queue)
{
    const struct warm_share *share;

    if (!warm_section(shard, queue))
        return UINT32_MAX;
    share = share_of(shard, lane, queue);
    if (!share || !has_some(shard, share))
        return 0;
    return share->left < UINT32_MAX ? (uint32_t)share->left : UINT32_MAX;
}

uint32_t warm_bound(struct shard *shard, const struct lane *lane, const struct queue *queue,
                    uint32_t allowed)
{
    uint32_t left = warm_allowed(shard, lane, queue);

    return left < allowed ? left : allowed;
}

void warm_take(struct shard *shard, const struct lane *lane, const struct queue *queue,
               uint32_t count, struct warm_receipt *ret_receipt)
{
    struct warm_share *share = share_of(shard, lane, queue);

    *ret_receipt = (struct warm_receipt){0};
    if (!share)
        return;
    must(share->left >= count);
    share->left -= planted("shard/warm-up-not-counted") ? 0 : count;
    *ret_receipt = (struct warm_receipt){.share = share->index + 1, .day = share->day};
}

static void note(struct shard *shard, struct warm_share *share, int32_t day,
                 const struct warm_news *news)
{
    /* Of a day that is over: to its book it is an attempt of which nothing is known. */
    if (day != share->day)
        return;
    if (share->news.day != share->day)
        share->news = (struct warm_news){.day = share->day};
    share->news.used += news->used;
    share->news.deferred += news->deferred;
    share->news.blocked += news->blocked;
    if (has_to_report(share))
        ask(shard, share, false);
}

/* The receiver turns us away rather than the message. */
static bool is_block(struct shard *shard, const struct connection *connection,
                     const struct verdict *verdict)
{
    struct classify_reply reply = {
        .text = verdict_text(verdict), .code = verdict->code, .stage = verdict->stage};
    struct classify_answer answer;

    if ((verdict->flags & VERDICT_FROM_REPLY) == 0)
        return false;
    if (connection->host != NAME_NONE)
        reply.host = names_text(&shard->names, connection->host);
    classify(classify_shipped(), &reply, shard->category_scratch, &answer);
    return answer.reaction == CLASSIFY_HOLD;
}

void warm_note(struct shard *shard, const struct warm_receipt *receipt,
               const struct connection *connection, const struct verdict *verdict)
{
    struct warm_news news = {.used = 1};
    struct warm_share *share;

    if (receipt->share == 0)
        return;
    share = slab_at(&shard->warm.shares, receipt->share - 1);
    if (verdict->class != VERDICT_SUCCESS) {
        news.deferred = verdict->class == VERDICT_TRANSIENT;
        news.blocked = is_block(shard, connection, verdict);
    }
    note(shard, share, receipt->day, &news);
}

void warm_pass(struct shard *shard, const struct warm_receipt *receipt, uint32_t count)
{
    struct warm_share *share;

    if (receipt->share == 0)
        return;
    share = slab_at(&shard->warm.shares, receipt->share - 1);
    note(shard, share, receipt->day, &(struct warm_news){.used = count});
}

static const struct warm_share *spent_share(const struct shard *shard, const struct queue *queue,
                                            const struct ipaddr *source)
{
    const struct conf_warmup *section = warm_section(shard, queue);
    const struct warm_share *share;
    struct share_key key;

    if (!section || !queue->site)
        return NULL;
    key = key_of(section, queue->site->provider, source);
    share = find_share(shard, &key);
    if (!share || share->is_asking || has_some(shard, share) || now_s(shard) >= share->again_s)
        return NULL;
    return share;
}

bool warm_is_spent(const struct shard *shard, const struct queue *queue,
                   const struct ipaddr *source)
{
    return spent_share(shard, queue, source) != NULL;
}

bool warm_wait(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    int64_t wall_s = now_s(shard), wait_s = LOOK_MAX_S;
    bool is_spent = false;

    if (!warm_section(shard, queue))
        return false;
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct warm_share *share = spent_share(shard, queue, &vmta->addresses[i].ip);

        if (!share)
            continue;
        is_spent = true;
        if (share->again_s - wall_s < wait_s)
            wait_s = share->again_s - wall_s;
    }
    if (!is_spent)
        return false;
    queues_wait(shard, queue, (uint64_t)wait_s * 1000, WAIT_WARMUP);
    queues_expire(shard, queue);
    return true;
}

/* ---- Books ----------------------------------------------------------------------------------- */

static bool book_matches(uint32_t value, const void *key, void *context)
{
    const struct warm_book *book = slab_at(&((const struct shard *)context)->warm.books, value);

    return book->key == *(const uint32_t *)key;
}

/* NULL when memory is short. */
static struct warm_book *obtain_book(struct shard *shard, struct slice text)
{
    uint64_t hash = hash_bytes(text.data, text.len);
    uint32_t key = names_get(&shard->names, text), index;
    struct warm_book *book;

    if (key == NAME_NONE)
        return NULL;
    index = table_find(&shard->warm.book_table, hash, book_matches, &key, shard);
    if (index != TABLE_NONE) {
        names_put(&shard->names, key);
        return slab_at(&shard->warm.books, index);
    }
    book = slab_alloc(&shard->warm.books, &index);
    if (book == NULL || !table_insert(&shard->warm.book_table, hash, index)) {
        if (book != NULL)
            slab_free(&shard->warm.books, index);
        names_put(&shard->names, key);
        return NULL;
    }
    book->key = key;
    book->index = index;
    list_init(&book->asks);
    return book;
}

static const struct conf_warmup *section_of(const struct shard *shard, const struct warm_book *book)
{
    struct slice key = names_text(&shard->names, book->key);

    return conf_warmup_named(shard->conf, slice_of(key.data, slice_find(key, '/')));
}

static struct warmup_schedule schedule_of(const struct conf_warmup *section)
{
    struct warmup_schedule schedule = {
        .step_count = section->step_count,
        .used_percent = WARMUP_USED,
        .deferral_percent = WARMUP_DEFERRALS,
        .idle_days = WARMUP_IDLE_DAYS,
    };

    memcpy(schedule.caps, section->caps, section->step_count * sizeof(section->caps[0]));
    return schedule;
}

/* The hours of a day; without send-hours all of it. */
static void hours_of(const struct shard *shard, const struct conf_warmup *section, int32_t day,
                     int64_t *ret_from_s, int64_t *ret_until_s)
{
    const struct zone *zone = conf_zone(shard->conf);
    bool is_whole = section->until_s == 0 || section->until_s == 86400;

    *ret_from_s = zone_moment(zone, day, section->from_s);
    *ret_until_s =
        is_whole ? zone_moment(zone, day + 1, 0) : zone_moment(zone, day, section->until_s);
}

static void answer(struct shard *shard, struct warm_ask *ask, int32_t day, uint64_t count,
                   int64_t until_s, int64_t again_s)
{
    ask->day = day;
    ask->count = count;
    ask->until_s = until_s;
    ask->again_s = again_s;
    if (ask->parcel.from == shard->number) {
        hear_answer(shard, ask);
        return;
    }
    ask->parcel.kind = SHARD_WARM_ANSWER;
    shard_post(shard, ask->parcel.from, &ask->parcel);
}

/* When a book that grants nothing now may grant something again. */
static int64_t next_grant_s(const struct shard *shard, const struct conf_warmup *section,
                            const struct warmup_schedule *schedule, const struct warmup_book *book)
{
    uint64_t cap = warmup_cap(schedule, book), granted = book->counts.granted;
    uint64_t block = cap / WARMUP_BLOCKS > 0 ? cap / WARMUP_BLOCKS : 1;
    int64_t wall_s = now_s(shard), from_s, until_s, next_s;

    hours_of(shard, section, book->day, &from_s, &until_s);
    if (granted >= cap || wall_s >= until_s) {
        hours_of(shard, section, book->day + 1, &from_s, &until_s);
        return from_s;
    }
    if (wall_s < from_s)
        return from_s;
    next_s = from_s;
    if (granted >= block)
        next_s += (int64_t)((granted + 1 - block) * (uint64_t)(until_s - from_s) / cap) + 1;
    return next_s > wall_s ? next_s : wall_s + 1;
}

static bool persist(struct shard *shard, const struct warm_book *book)
{
    uint8_t value[WARMUP_BOOK_BYTES];
    size_t len = warmup_encode(&book->book, value);

    return memo_warm(shard, names_text(&shard->names, book->key), slice_of(value, len),
                     book->index);
}

static void refuse_first(struct shard *shard, struct warm_book *book, int64_t again_s)
{
    struct list *link = list_pop_front(&book->asks);

    must(link != NULL);
    answer(shard, container_of(link, struct warm_ask, link), book->book.day, 0, 0, again_s);
}

/* The first of those that ask is served, as soon as the log has what is granted to it and what it
 * reports. */
static void serve(struct shard *shard, struct warm_book *book)
{
    while (!book->is_writing && !list_empty(&book->asks)) {
        const struct warm_ask *ask = container_of(book->asks.next, struct warm_ask, link);
        const struct conf_warmup *section = section_of(shard, book);
        int64_t wall_s = now_s(shard), from_s, until_s;
        struct warmup_schedule schedule;
        bool spreads;

        if (section == NULL) {
            refuse_first(shard, book, wall_s + LOG_WAIT_S);
            continue;
        }
        schedule = schedule_of(section);
        warmup_report(&book->book, ask->news.day, ask->news.used, ask->news.deferred,
                      ask->news.blocked);
        warmup_turn_to(&schedule, &book->book, zone_day(conf_zone(shard->conf), wall_s, NULL));
        hours_of(shard, section, book->book.day, &from_s, &until_s);
        spreads = section->until_s != 0;
        book->granted = 0;
        if (ask->wants)
            book->granted = warmup_grant(&schedule, &book->book, UINT64_MAX, spreads ? wall_s : 0,
                                         spreads ? from_s : 0, spreads ? until_s : 0);
        if (book->granted == 0 && ask->news.used == 0)
            refuse_first(shard, book, next_grant_s(shard, section, &schedule, &book->book));
        else if (!(book->is_writing = persist(shard, book)))
            refuse_first(shard, book, wall_s + LOG_WAIT_S);
    }
}

void warm_on_logged(struct shard *shard, uint32_t index, int32_t status)
{
    struct warm_book *book = slab_at(&shard->warm.books, index);
    const struct conf_warmup *section = section_of(shard, book);
    struct list *link = list_pop_front(&book->asks);
    struct warm_ask *ask = container_of(link, struct warm_ask, link);
    int64_t from_s, until_s = 0;

    must(book->is_writing && link != NULL);
    book->is_writing = false;
    if (section != NULL)
        hours_of(shard, section, book->book.day, &from_s, &until_s);
    /* What the log could not take stays granted: whether a restart would know it is not known. */
    if (status < 0)
        answer(shard, ask, book->book.day, 0, 0, now_s(shard) + LOG_WAIT_S);
    else
        answer(shard, ask, book->book.day, book->granted, until_s, INT64_MIN);
    serve(shard, book);
}

static void hear_ask(struct shard *shard, struct warm_ask *ask)
{
    struct warm_book *book = obtain_book(shard, ask->key);

    if (book == NULL) {
        answer(shard, ask, 0, 0, 0, now_s(shard) + LOG_WAIT_S);
        return;
    }
    list_push_back(&book->asks, &ask->link);
    serve(shard, book);
}

void warm_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct warm_ask *ask = container_of(parcel, struct warm_ask, parcel);

    if (parcel->kind == SHARD_WARM_ASK)
        hear_ask(shard, ask);
    else
        hear_answer(shard, ask);
}

void warm_recover(struct shard *shard, struct slice key, struct slice value)
{
    struct warmup_book recovered;
    struct warm_book *book;

    if (warmup_decode(value, &recovered) < 0 ||
        hash_bytes(key.data, key.len) % shard->count != shard->number)
        return;
    book = obtain_book(shard, key);
    if (book != NULL && !planted("shard/warm-up-forgotten"))
        book->book = recovered;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* What the next day brings, as far as this one has gone. */
static void put_outlook(const struct warmup_schedule *schedule, const struct warmup_book *book,
                        char *room, size_t room_bytes)
{
    const struct warmup_counts *counts = &book->counts;
    uint32_t next = warmup_next_step(schedule, book->step, counts);
    unsigned long long cap = warmup_cap(schedule, book);

    if (counts->granted == 0)
        snprintf(room, room_bytes, "no mail today: the step stays");
    else if (counts->blocked > 0)
        snprintf(room, room_bytes, "%s: %llu replies were blocks",
                 book->step > 0 ? "one step down" : "the step stays",
                 (unsigned long long)counts->blocked);
    else if (next < book->step)
        snprintf(room, room_bytes, "one step down: %llu of %llu were deferred",
                 (unsigned long long)counts->deferred, (unsigned long long)counts->used);
    else if (next > book->step)
        snprintf(room, room_bytes, "one step up");
    else
        snprintf(room, room_bytes, "the step stays: %llu of %llu used, %llu deferred",
                 (unsigned long long)counts->used, cap, (unsigned long long)counts->deferred);
}

void warm_report(struct shard *shard, struct report *report)
{
    for (uint32_t i = 0; i < shard->warm.books.count_grown; i++) {
        const struct warm_book *book =
            slab_is_live(&shard->warm.books, i) ? slab_at(&shard->warm.books, i) : NULL;
        const struct conf_warmup *section = book ? section_of(shard, book) : NULL;
        struct warmup_schedule schedule;
        struct warmup_book today;
        struct warm_row *row;
        struct slice key;

        if (section == NULL || !book->book.is_begun)
            continue;
        row = report_row_add(report, sizeof(*row));
        if (!row)
            return;
        schedule = schedule_of(section);
        today = book->book;
        warmup_turn_to(&schedule, &today, zone_day(conf_zone(shard->conf), now_s(shard), NULL));
        key = names_text(&shard->names, book->key);
        snprintf(row->name, sizeof(row->name), "%.*s", (int)key.len, (const char *)key.data);
        row->step = today.step + 1;
        row->step_count = schedule.step_count;
        row->cap = warmup_cap(&schedule, &today);
        row->granted = today.counts.granted;
        row->used = today.counts.used;
        row->deferred = today.counts.deferred;
        row->blocked = today.counts.blocked;
        put_outlook(&schedule, &today, row->outlook, sizeof(row->outlook));
    }
}
