#include "shard/warm.h"

#include "core/base/must.h"
#include "core/base/text.h"
#include "core/conf/provider.h"
#include "core/conf/warmup.h"
#include "core/mail/classify.h"
#include "shard/author.h"
#include "shard/planted.h"
#include "shard/report.h"
#include "shard/shard_int.h"

#include <stdio.h>

#define PAIRS_MAX         262144u /* of providers and addresses, as far as memory reaches */
#define LOG_WAIT_S        1       /* until a book is offered to the log again */
#define ANSWER_WAIT_MS    20      /* until a queue looks whether the answer is there */
#define LOOK_MAX_S        60      /* the configuration and the clock may change meanwhile */
#define LOOK_OVER_S       2       /* where what comes meanwhile may have to go over */
#define PUT_OFF_MAX_S     (4 * 3600)
#define SECOND_US         1000000
#define PROVIDER_TEXT_MAX 100u
#define NEWS_PER_BLOCK    64u /* times that a block's outcomes are told while it is used up */

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

static struct slice domain_of(const struct shard *shard, const struct queue *queue)
{
    return names_text(&shard->names, queue->name);
}

static const struct conf_warmup *section_of_queue(const struct shard *shard,
                                                  const struct queue *queue)
{
    if (conf_warmup_count(shard->conf) == 0)
        return NULL;
    return conf_warmup_of(shard->conf, domain_of(shard, queue), queue->vmta_id);
}

/* ---- Shares ---------------------------------------------------------------------------------- */

/* What a section counts by; what does not count is 0 or empty. */
struct subject {
    const struct conf_warmup *section;
    uint64_t provider;
    struct ipaddr source;
    struct slice sender;
};

struct share_key {
    uint64_t section;
    uint64_t provider;
    uint64_t sender;
    struct ipaddr source;
};

static struct subject subject_of(const struct conf_warmup *section, uint64_t provider,
                                 const struct ipaddr *source, struct slice sender)
{
    struct subject subject = {.section = section, .source = {.family = IPADDR_NONE}};

    if ((section->scopes & CONF_WARMUP_PROVIDER) != 0)
        subject.provider = provider;
    if ((section->scopes & CONF_WARMUP_SOURCE_IP) != 0)
        subject.source = *source;
    if ((section->scopes & CONF_WARMUP_SENDER_DOMAIN) != 0)
        subject.sender = sender;
    return subject;
}

static uint64_t hash_of_section(const struct conf_warmup *section)
{
    struct slice name = slice_str(section->fits.name);

    return hash_bytes_nocase(name.data, name.len);
}

static struct share_key key_of(const struct subject *subject)
{
    return (struct share_key){
        .section = hash_of_section(subject->section),
        .provider = subject->provider,
        .sender =
            subject->sender.len > 0 ? hash_bytes(subject->sender.data, subject->sender.len) : 0,
        .source = subject->source,
    };
}

static uint64_t hash_of(const struct share_key *key)
{
    return hash_combine(hash_combine(hash_combine(key->section, key->provider), key->sender),
                        ipaddr_hash(&key->source));
}

static bool share_matches(uint32_t value, const void *key, void *context)
{
    const struct warm_share *share = slab_at(&((const struct shard *)context)->warm.shares, value);
    const struct share_key *wanted = key;

    return share->section == wanted->section && share->provider == wanted->provider &&
           share->sender == wanted->sender && ipaddr_equal(&share->source, &wanted->source);
}

static struct warm_share *find_share(const struct shard *shard, const struct share_key *key)
{
    uint32_t index = table_find(&shard->warm.share_table, hash_of(key), share_matches, key,
                                (void *)(uintptr_t)shard);

    return index != TABLE_NONE ? slab_at(&shard->warm.shares, index) : NULL;
}

static void put_hash(struct text *text, uint64_t hash)
{
    char number[24];

    snprintf(number, sizeof(number), "@%016llx", (unsigned long long)hash);
    text_put_str(text, number);
}

/* The same on every shard and after a restart, unlike the number of a provider that has a name. */
static uint32_t name_book(struct shard *shard, const struct subject *subject)
{
    char room[NAMES_BYTES_MAX + 1], address[IPADDR_TEXT_MAX];
    struct text text = text_in(room, sizeof(room));

    text_put_str(&text, subject->section->fits.name);
    if (subject->provider != 0) {
        const char *name = conf_provider_name(subject->provider);

        text_put_char(&text, '/');
        if (name != NULL && strlen(name) <= PROVIDER_TEXT_MAX)
            text_put_str(&text, name);
        else
            put_hash(&text, name ? hash_bytes(name, strlen(name)) : subject->provider);
    }
    if (subject->source.family != IPADDR_NONE) {
        ipaddr_format(&subject->source, address);
        text_put_char(&text, '/');
        text_put_str(&text, address);
    }
    if (subject->sender.len > 0) {
        text_put_char(&text, '/');
        if (subject->sender.len <= PROVIDER_TEXT_MAX)
            text_put(&text, subject->sender);
        else
            put_hash(&text, hash_bytes(subject->sender.data, subject->sender.len));
    }
    return names_get(&shard->names, text_slice(&text));
}

/* NULL when memory is short. */
static struct warm_share *obtain_share(struct shard *shard, const struct subject *subject)
{
    struct share_key key = key_of(subject);
    struct warm_share *share = find_share(shard, &key);
    uint32_t index, name;

    if (share)
        return share;
    name = name_book(shard, subject);
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
    share->provider = key.provider;
    share->sender = key.sender;
    share->source = key.source;
    share->key = name;
    share->index = index;
    share->again_s = INT64_MIN;
    share->facts.rest = UINT64_MAX;
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

/* Nothing is left here: asks for more, unless it is known that there is none yet. */
static void want_more(struct shard *shard, struct warm_share *share)
{
    if (share->is_asking)
        return;
    share->left = 0;
    if (now_s(shard) >= share->again_s)
        ask(shard, share, true);
}

/* The book should know soon: of a block at once, of the rest when there may be no next question, or
 * when it is as much as may be missing from each of many shards as the day ends. */
static bool has_to_report(const struct warm_share *share)
{
    const struct warm_news *news = &share->news;

    return !share->is_asking && news->used > 0 &&
           (share->left == 0 || news->blocked > 0 || news->used * NEWS_PER_BLOCK >= share->block);
}

static void hear_answer(struct shard *shard, const struct warm_ask *given)
{
    struct warm_share *share = slab_at(&shard->warm.shares, given->share);

    share->is_asking = false;
    share->facts = given->facts;
    if (given->wants) {
        share->day = given->day;
        share->block = given->count;
        share->left = given->count;
        share->held -= given->count < share->held ? given->count : share->held;
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
    const struct conf_warmup *section = section_of_queue(shard, queue);
    struct subject subject;

    if (!section)
        return NULL;
    subject = subject_of(section, lane->site->provider, &lane->source, SLICE_EMPTY);
    return obtain_share(shard, &subject);
}

/* False when no section counts it. *ret_share: NULL when memory is short. */
static bool share_of_sender(struct shard *shard, const struct lane *lane, const struct queue *queue,
                            const struct message *message, struct warm_share **ret_share,
                            const struct conf_warmup **ret_section)
{
    const struct conf_warmup *section;
    uint8_t room[AUTHOR_BYTES_MAX];
    struct subject subject;
    struct slice sender;

    if (!conf_warmup_counts_senders(shard->conf))
        return false;
    sender = author_of(message, room);
    section = conf_warmup_of_sender(shard->conf, domain_of(shard, queue), queue->vmta_id, sender);
    if (!section || sender.len == 0)
        return false;
    subject = subject_of(section, lane->site->provider, &lane->source, sender);
    *ret_share = obtain_share(shard, &subject);
    *ret_section = section;
    return true;
}

bool warm_admit(struct shard *shard, struct lane *lane, struct queue *queue)
{
    struct warm_share *share;

    if (!section_of_queue(shard, queue))
        return true;
    share = share_of(shard, lane, queue);
    if (share && has_some(shard, share))
        return true;
    if (share)
        want_more(shard, share);
    /* Then it is known, and where there is nothing here another address may have some. */
    queues_wait(shard, queue, ANSWER_WAIT_MS, WAIT_WARMUP);
    return false;
}

static uint32_t left_of(const struct shard *shard, const struct warm_share *share)
{
    if (!share || !has_some(shard, share))
        return 0;
    return share->left < UINT32_MAX ? (uint32_t)share->left : UINT32_MAX;
}

uint32_t warm_allowed(struct shard *shard, const struct lane *lane, const struct queue *queue)
{
    return section_of_queue(shard, queue) ? left_of(shard, share_of(shard, lane, queue))
                                          : UINT32_MAX;
}

uint32_t warm_bound(struct shard *shard, const struct lane *lane, const struct queue *queue,
                    uint32_t allowed)
{
    uint32_t left = warm_allowed(shard, lane, queue);

    return left < allowed ? left : allowed;
}

uint32_t warm_sender_allowed(struct shard *shard, const struct lane *lane,
                             const struct queue *queue, const struct message *message)
{
    const struct conf_warmup *section;
    struct warm_share *share;

    if (!share_of_sender(shard, lane, queue, message, &share, &section))
        return UINT32_MAX;
    if (share && !has_some(shard, share))
        want_more(shard, share);
    return left_of(shard, share);
}

/* The time that the next one to be put off may have its turn at, in wall clock microseconds. */
static uint64_t turn_us(const struct warm_share *share)
{
    uint64_t latest_us = (uint64_t)share->held_until_s * SECOND_US;
    uint64_t due_us = (uint64_t)share->again_s * SECOND_US + share->held * share->facts.pace_us;

    return due_us < latest_us ? due_us : latest_us;
}

uint64_t warm_sender_put_off(struct shard *shard, const struct lane *lane,
                             const struct queue *queue, const struct message *message,
                             uint32_t count, bool *ret_goes_over)
{
    uint64_t wall_us = io_wall_us(shard->io);
    const struct conf_warmup *section;
    int64_t wall_s = now_s(shard);
    struct warm_share *share;

    *ret_goes_over = false;
    if (!share_of_sender(shard, lane, queue, message, &share, &section) || !share)
        return wall_us + SECOND_US;
    if (share->is_asking || wall_s >= share->again_s)
        return wall_us + ANSWER_WAIT_MS * 1000;
    if (wall_s >= share->held_until_s) {
        share->held = 0;
        share->held_until_s = wall_s + PUT_OFF_MAX_S;
    }
    *ret_goes_over = section->overflow_count > 0 && share->held + count > share->facts.rest;
    if (!*ret_goes_over)
        share->held += count;
    return turn_us(share);
}

static struct warm_part take(struct warm_share *share, uint32_t count)
{
    must(share->left >= count);
    share->left -= planted("shard/warm-up-not-counted") ? 0 : count;
    return (struct warm_part){.share = share->index + 1, .day = share->day};
}

void warm_take(struct shard *shard, const struct lane *lane, const struct queue *queue,
               const struct message *message, uint32_t count, struct warm_receipt *ret_receipt)
{
    struct warm_share *share = share_of(shard, lane, queue);
    const struct conf_warmup *section;

    *ret_receipt = (struct warm_receipt){0};
    if (share)
        ret_receipt->parts[0] = take(share, count);
    if (share_of_sender(shard, lane, queue, message, &share, &section) && share)
        ret_receipt->parts[1] = take(share, count);
}

static void note(struct shard *shard, const struct warm_receipt *receipt,
                 const struct warm_news *news)
{
    for (uint32_t i = 0; i < 2; i++) {
        const struct warm_part *part = &receipt->parts[i];
        struct warm_share *share =
            part->share > 0 ? slab_at(&shard->warm.shares, part->share - 1) : NULL;

        /* Of a day that is over: to its book it is an attempt of which nothing is known. */
        if (!share || part->day != share->day)
            continue;
        if (share->news.day != share->day)
            share->news = (struct warm_news){.day = share->day};
        share->news.used += news->used;
        share->news.deferred += news->deferred;
        share->news.blocked += news->blocked;
        if (has_to_report(share))
            ask(shard, share, false);
    }
}

static bool is_empty(const struct warm_receipt *receipt)
{
    return receipt->parts[0].share == 0 && receipt->parts[1].share == 0;
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

    if (is_empty(receipt))
        return;
    if (verdict->class != VERDICT_SUCCESS) {
        news.deferred = verdict->class == VERDICT_TRANSIENT;
        news.blocked = is_block(shard, connection, verdict);
    }
    note(shard, receipt, &news);
}

void warm_pass(struct shard *shard, const struct warm_receipt *receipt, uint32_t count)
{
    if (!is_empty(receipt))
        note(shard, receipt, &(struct warm_news){.used = count});
}

static const struct warm_share *spent_share(const struct shard *shard, const struct queue *queue,
                                            const struct ipaddr *source)
{
    const struct conf_warmup *section = section_of_queue(shard, queue);
    const struct warm_share *share;
    struct subject subject;
    struct share_key key;

    if (!section || !queue->site)
        return NULL;
    subject = subject_of(section, queue->site->provider, source, SLICE_EMPTY);
    key = key_of(&subject);
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

/* What the day has no room for any more, as far as this queue alone can tell. */
static void overflow(struct shard *shard, struct queue *queue, uint64_t rest)
{
    if (queue->ready_count > rest)
        migrate_let_over(shard, queue, queue->ready_count - (uint32_t)rest);
}

bool warm_wait(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct conf_warmup *section = section_of_queue(shard, queue);
    int64_t wall_s = now_s(shard), wait_s = LOOK_MAX_S;
    bool is_spent = false, is_all_spent = true;
    uint64_t rest = 0;

    if (!section)
        return false;
    if (section->overflow_count > 0)
        wait_s = LOOK_OVER_S;
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct warm_share *share = spent_share(shard, queue, &vmta->addresses[i].ip);

        if (!share) {
            is_all_spent = false;
            continue;
        }
        is_spent = true;
        rest = share->facts.rest < UINT64_MAX - rest ? rest + share->facts.rest : UINT64_MAX;
        if (share->again_s - wall_s < wait_s)
            wait_s = share->again_s - wall_s;
    }
    if (!is_spent)
        return false;
    queues_wait(shard, queue, (uint64_t)wait_s * 1000, WAIT_WARMUP);
    queues_expire(shard, queue);
    if (section->overflow_count > 0 && is_all_spent)
        overflow(shard, queue, rest);
    return true;
}

/* ---- What is said of them -------------------------------------------------------------------- */

static void put_share(const struct shard *shard, const struct warm_share *share, struct text *text)
{
    const struct warm_facts *facts = &share->facts;
    char line[128];
    uint32_t second;

    zone_day(conf_zone(shard->conf), share->again_s, &second);
    snprintf(line, sizeof(line),
             ": step %u, %llu of today's %llu recipients are let out, more at %02u:%02u",
             facts->step + 1, (unsigned long long)facts->granted, (unsigned long long)facts->cap,
             second / 3600, second / 60 % 60);
    if (text->len > 0)
        text_put_literal(text, "; ");
    text_put_literal(text, "<warm-up> ");
    text_put(text, names_text(&shard->names, share->key));
    text_put_str(text, line);
}

void warm_explain(const struct shard *shard, const struct queue *queue, char *room,
                  size_t room_bytes)
{
    struct slice domain = domain_of(shard, queue);
    struct text text = text_in(room, room_bytes);

    for (uint32_t i = 0; i < shard->warm.shares.count_grown; i++) {
        const struct warm_share *share =
            slab_is_live(&shard->warm.shares, i) ? slab_at(&shard->warm.shares, i) : NULL;
        const struct conf_warmup *section;
        struct slice key;

        if (!share || has_some(shard, share) || share->facts.cap == 0 ||
            now_s(shard) >= share->again_s || (share->sender != 0 && share->held == 0))
            continue;
        key = names_text(&shard->names, share->key);
        section = conf_warmup_named(shard->conf, slice_of(key.data, slice_find(key, '/')));
        if (!section || !conf_limit_fits(&section->fits, domain, queue->vmta_id) ||
            (share->provider != 0 && queue->site && queue->site->provider != share->provider))
            continue;
        put_share(shard, share, &text);
    }
    text_end(&text);
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

static struct warm_facts facts_of(const struct shard *shard, const struct warm_book *book)
{
    const struct conf_warmup *section = book ? section_of(shard, book) : NULL;
    struct warm_facts facts = {.rest = UINT64_MAX};
    struct warmup_schedule schedule;
    int64_t from_s, until_s;

    if (section == NULL)
        return facts;
    schedule = schedule_of(section);
    hours_of(shard, section, book->book.day, &from_s, &until_s);
    facts.cap = warmup_cap(&schedule, &book->book);
    facts.granted = book->book.counts.granted;
    facts.step = book->book.step;
    if (section->until_s != 0)
        facts.pace_us = (uint64_t)(until_s - from_s) * SECOND_US / facts.cap;
    facts.rest =
        facts.granted < facts.cap && now_s(shard) < until_s ? facts.cap - facts.granted : 0;
    return facts;
}

static void answer(struct shard *shard, const struct warm_book *book, struct warm_ask *ask,
                   uint64_t count, int64_t until_s, int64_t again_s)
{
    ask->facts = facts_of(shard, book);
    ask->day = book ? book->book.day : 0;
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
    answer(shard, book, container_of(link, struct warm_ask, link), 0, 0, again_s);
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
        answer(shard, book, ask, 0, 0, now_s(shard) + LOG_WAIT_S);
    else
        answer(shard, book, ask, book->granted, until_s, INT64_MIN);
    serve(shard, book);
}

static void hear_ask(struct shard *shard, struct warm_ask *ask)
{
    struct warm_book *book = obtain_book(shard, ask->key);

    if (book == NULL) {
        answer(shard, NULL, ask, 0, 0, now_s(shard) + LOG_WAIT_S);
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
    else if (counts->lost > 0)
        snprintf(room, room_bytes,
                 "the step stays: %llu of %llu used, %llu deferred, %llu unknown since a restart",
                 (unsigned long long)counts->used, cap, (unsigned long long)counts->deferred,
                 (unsigned long long)counts->lost);
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
