/*
 * The file: "ringpost tls-report 2 CRC" and LF (of all that follows), then the books, each with its
 * day, begin, end and number of records, a record for each count: its number, and as tlsrpt_encode
 * has it; then the number of domains whose report is begun, and of each its name, when it is due,
 * how many tries failed, and the hashes of the addresses that have it. Without these it is "1", as
 * older versions wrote it.
 */
#include "shard/tls_books.h"

#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/kept_file.h"

#include <errno.h>
#include <stdio.h>

#define FILE_NAME       "tls-report"
#define HEAD_MAX        64
#define BOOK_BYTES      24u
#define BEGUN_BYTES_MAX (1 + TLSRPT_NAME_MAX + 8 + 1 + 1 + 8 * TLSRPT_TAKEN_MAX)
#define FILE_MAX        (1ull << 30)
#define DAY_S           86400
#define DELAY_S         300 /* what shards have still to hand over is there by then */
#define SPREAD_S        14400
/* RFC 8460 5.5: for a day another attempt is made, behind the first one. */
#define KEPT_S          (DAY_S + DELAY_S + SPREAD_S)
#define GAP_MIN_S       300
#define GAP_MAX_S       14400
#define TRIES_MAX       11u
#define LOOKS_MAX       4096u

static int64_t now_s(const struct tls_books *books)
{
    return (int64_t)(io_wall_us(books->io) / 1000000);
}

void tls_books_init(struct tls_books *books, struct io *io, uint64_t seed)
{
    int64_t second = (int64_t)(io_wall_us(io) / 1000000);

    *books = (struct tls_books){.io = io, .seed = seed};
    tlsrpt_book_init(&books->open, (int32_t)(second / DAY_S), second);
}

void tls_books_fini(struct tls_books *books)
{
    tlsrpt_book_fini(&books->open);
    for (uint32_t i = 0; i < books->ended_count; i++)
        tlsrpt_book_fini(&books->ended[i]);
    mem_free(books->directory);
    *books = (struct tls_books){0};
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static void drop_ended(struct tls_books *books, uint32_t which)
{
    struct tlsrpt_book *book = &books->ended[which];

    if (book->domains.count_used > 0)
        log_warn("TLS reports of %u domains were not sent in time and are dropped",
                 book->domains.count_used);
    tlsrpt_book_fini(book);
    books->ended_count--;
    memmove(book, book + 1, (books->ended_count - which) * sizeof(*book));
    books->is_changed = true;
}

/* Members of a slab may move with their book: nothing points into it but through the array. */
static struct tlsrpt_book *end_book(struct tls_books *books, int64_t until_s)
{
    struct tlsrpt_book *book;

    if (books->ended_count == TLS_BOOKS_ENDED_MAX)
        drop_ended(books, 0);
    book = &books->ended[books->ended_count++];
    *book = books->open;
    book->until_s = until_s;
    books->is_changed = true;
    if (book->left_out > 0)
        log_warn("%llu connections are in no TLS report: there was no room for their domains",
                 (unsigned long long)book->left_out);
    return book;
}

static int64_t first_due_s(const struct tls_books *books, const struct tlsrpt_book *book,
                           const struct tlsrpt_domain *domain)
{
    uint64_t hash = hash_bytes(domain->name, domain->name_bytes);

    return book->until_s + DELAY_S + (int64_t)(hash_combine(books->seed, hash) % SPREAD_S);
}

static void spread(const struct tls_books *books, struct tlsrpt_book *book)
{
    for (uint32_t i = 0; i < tlsrpt_book_places(book); i++)
        if (tlsrpt_book_at(book, i))
            tlsrpt_book_at(book, i)->due_s = first_due_s(books, book, tlsrpt_book_at(book, i));
}

void tls_books_turn(struct tls_books *books)
{
    int64_t second = now_s(books);
    int32_t day = (int32_t)(second / DAY_S);

    /* A clock that was days ahead has been set right: without this nothing would be counted for as
     * long. What goes back over midnight by a step is another matter, and is let be. */
    if (day < books->open.day - 1) {
        books->open.day = day;
        books->open.from_s = second;
    }
    if (day > books->open.day) {
        spread(books, end_book(books, ((int64_t)books->open.day + 1) * DAY_S));
        tlsrpt_book_init(&books->open, day, (int64_t)day * DAY_S);
    }
    for (uint32_t i = books->ended_count; i > 0; i--) {
        const struct tlsrpt_book *book = &books->ended[i - 1];
        bool is_done = book->domains.count_used == 0 && second > book->until_s + DELAY_S;

        if (is_done || second > book->until_s + KEPT_S)
            drop_ended(books, i - 1);
    }
}

uint32_t tls_books_end(struct tls_books *books)
{
    int64_t second = now_s(books);
    uint32_t waiting = 0;

    tls_books_turn(books);
    if (books->open.domains.count_used > 0) {
        end_book(books, second);
        tlsrpt_book_init(&books->open, (int32_t)(second / DAY_S), second);
    }
    for (uint32_t i = 0; i < books->ended_count; i++) {
        struct tlsrpt_book *book = &books->ended[i];

        for (uint32_t k = 0; k < tlsrpt_book_places(book); k++)
            if (tlsrpt_book_at(book, k))
                tlsrpt_book_at(book, k)->due_s = second;
        waiting += book->domains.count_used;
    }
    return waiting;
}

struct tlsrpt_domain *tls_books_due(struct tls_books *books, bool takes_begun,
                                    struct tlsrpt_book **ret_book)
{
    int64_t second = now_s(books);
    uint32_t places = 0;

    for (uint32_t i = 0; i < books->ended_count; i++)
        places += tlsrpt_book_places(&books->ended[i]);
    for (uint32_t looks = 0; looks < places && looks < LOOKS_MAX; looks++) {
        uint32_t place = books->look++ % places, which = 0;
        struct tlsrpt_domain *domain;

        for (; place >= tlsrpt_book_places(&books->ended[which]); which++)
            place -= tlsrpt_book_places(&books->ended[which]);
        domain = tlsrpt_book_at(&books->ended[which], place);
        if (!domain || domain->is_away || domain->due_s > second ||
            (domain->is_begun && !takes_begun))
            continue;
        *ret_book = &books->ended[which];
        return domain;
    }
    return NULL;
}

static int64_t gap_s(uint8_t tries)
{
    int64_t gap = GAP_MIN_S;

    for (uint8_t i = 1; i < tries && gap < GAP_MAX_S; i++)
        gap *= 2;
    return gap < GAP_MAX_S ? gap : GAP_MAX_S;
}

bool tls_books_put_off(struct tls_books *books, struct tlsrpt_domain *domain)
{
    books->is_changed = true;
    if (++domain->tries >= TRIES_MAX)
        return false;
    domain->due_s = now_s(books) + gap_s(domain->tries);
    return true;
}

/* ---- Counts ---------------------------------------------------------------------------------- */

/* A book that ended with its day takes what was counted before that. */
static struct tlsrpt_book *book_of(struct tls_books *books, int32_t day)
{
    if (day == books->open.day)
        return &books->open;
    for (uint32_t i = 0; i < books->ended_count; i++)
        if (books->ended[i].day == day && books->ended[i].until_s == ((int64_t)day + 1) * DAY_S)
            return &books->ended[i];
    return NULL;
}

/* Of a book that has ended, a domain may be new: it is not due before the others. */
static void add_late(const struct tls_books *books, struct tlsrpt_book *book,
                     const struct tlsrpt_count *count)
{
    struct tlsrpt_domain *domain;

    tlsrpt_book_add(book, count);
    domain = tlsrpt_book_find(book, count->domain);
    if (domain && domain->due_s == 0)
        domain->due_s = first_due_s(books, book, domain);
}

void tls_books_add(struct tls_books *books, const struct tlsrpt_batch *batch)
{
    struct tlsrpt_book *book;
    struct tlsrpt_count count;
    uint32_t place = 0;

    tls_books_turn(books);
    book = book_of(books, batch->day);
    while (tlsrpt_batch_next(batch, &place, &count)) {
        if (!book)
            books->lost += count.count;
        else if (book == &books->open)
            tlsrpt_book_add(book, &count);
        else
            add_late(books, book, &count);
        books->is_changed = true;
    }
}

/* ---- The file -------------------------------------------------------------------------------- */

struct output {
    uint8_t *data;
    size_t used;
    size_t capacity;
    uint32_t count;
};

static uint8_t *grow(struct output *out, size_t bytes)
{
    if (out->capacity - out->used < bytes) {
        size_t capacity = 2 * out->capacity + bytes + 65536;

        out->data = mem_alloc_larger(out->data, out->used, capacity);
        out->capacity = capacity;
    }
    return out->data + out->used;
}

static void put_count(void *context, const struct tlsrpt_count *count)
{
    struct output *out = context;
    uint8_t record[TLSRPT_RECORD_MAX];
    size_t len = tlsrpt_encode(count, record);
    struct wire_writer w;

    wire_writer_init(&w, grow(out, len + 10), len + 10);
    wire_put_u64(&w, count->count);
    wire_put_str16(&w, slice_of(record, len));
    out->used += wire_written(&w);
    out->count++;
}

static void put_begun(struct output *out, const struct tlsrpt_domain *domain)
{
    struct wire_writer w;

    wire_writer_init(&w, grow(out, BEGUN_BYTES_MAX), BEGUN_BYTES_MAX);
    wire_put_str8(&w, slice_of(domain->name, domain->name_bytes));
    wire_put_u64(&w, (uint64_t)domain->due_s);
    wire_put_u8(&w, domain->tries);
    wire_put_u8(&w, domain->taken_count);
    for (uint32_t i = 0; i < domain->taken_count; i++)
        wire_put_u64(&w, domain->taken[i]);
    must(!w.failed);
    out->used += wire_written(&w);
    out->count++;
}

static void put_all_begun(struct output *out, const struct tlsrpt_book *book)
{
    size_t head = out->used;
    struct wire_writer w;

    grow(out, sizeof(uint32_t));
    out->used += sizeof(uint32_t);
    out->count = 0;
    for (uint32_t i = 0; i < tlsrpt_book_places(book); i++) {
        const struct tlsrpt_domain *domain = tlsrpt_book_at(book, i);

        if (domain && domain->is_begun)
            put_begun(out, domain);
    }
    wire_writer_init(&w, out->data + head, sizeof(uint32_t));
    wire_put_u32(&w, out->count);
}

static void put_book(struct output *out, const struct tlsrpt_book *book)
{
    size_t head = out->used;
    struct wire_writer w;

    grow(out, BOOK_BYTES);
    out->used += BOOK_BYTES;
    out->count = 0;
    for (uint32_t i = 0; i < tlsrpt_book_places(book); i++)
        if (tlsrpt_book_at(book, i))
            tlsrpt_domain_walk(tlsrpt_book_at(book, i), put_count, out);
    wire_writer_init(&w, out->data + head, BOOK_BYTES);
    wire_put_u32(&w, (uint32_t)book->day);
    wire_put_u64(&w, (uint64_t)book->from_s);
    wire_put_u64(&w, (uint64_t)book->until_s);
    wire_put_u32(&w, out->count);
    put_all_begun(out, book);
}

int tls_books_store(struct tls_books *books)
{
    struct output out = {0};
    char head[HEAD_MAX];
    int head_len, result;

    if (!books->directory || !books->is_changed)
        return 0;
    for (uint32_t i = 0; i < books->ended_count; i++)
        put_book(&out, &books->ended[i]);
    put_book(&out, &books->open);
    head_len =
        snprintf(head, sizeof(head), "ringpost tls-report 2 %08x\n", crc32c(0, out.data, out.used));
    result = kept_file_store(books->io, books->directory, FILE_NAME,
                             slice_of(head, (size_t)head_len), slice_of(out.data, out.used));
    mem_free(out.data);
    books->is_changed = result < 0;
    return result;
}

static void take_counts(struct tlsrpt_book *book, struct wire_reader *r)
{
    uint32_t count = wire_get_u32(r);

    for (uint32_t i = 0; i < count && !r->failed; i++) {
        uint64_t number = wire_get_u64(r);
        struct slice record = wire_get_str16(r);
        struct tlsrpt_count read;
        struct wire_reader body;

        wire_reader_init(&body, record.data, record.len);
        tlsrpt_decode(&body, &read);
        r->failed |= body.failed;
        read.count = number;
        if (!r->failed)
            tlsrpt_book_add(book, &read);
    }
}

/* A clock that was ahead puts nothing off for longer than it could be. */
static void take_all_begun(const struct tls_books *books, struct tlsrpt_book *book,
                           struct wire_reader *r)
{
    int64_t latest_s = now_s(books) + GAP_MAX_S;
    uint32_t count = wire_get_u32(r);

    for (uint32_t i = 0; i < count && !r->failed; i++) {
        struct slice name = wire_get_str8(r);
        int64_t due_s = (int64_t)wire_get_u64(r);
        uint8_t tries = wire_get_u8(r), taken = wire_get_u8(r);
        struct tlsrpt_domain *domain = r->failed ? NULL : tlsrpt_book_find(book, name);

        if (domain) {
            domain->is_begun = true;
            domain->due_s = due_s < latest_s ? due_s : latest_s;
            domain->tries = tries;
        }
        for (uint8_t k = 0; k < taken && !r->failed; k++) {
            uint64_t hash = wire_get_u64(r);

            if (domain)
                tlsrpt_domain_note_taken(domain, hash);
        }
    }
}

static int take_book(struct tls_books *books, struct wire_reader *r, unsigned version)
{
    struct tlsrpt_book book;
    int32_t day = (int32_t)wire_get_u32(r);
    int64_t from_s = (int64_t)wire_get_u64(r);

    tlsrpt_book_init(&book, day, from_s);
    book.until_s = (int64_t)wire_get_u64(r);
    take_counts(&book, r);
    spread(books, &book);
    if (version > 1)
        take_all_begun(books, &book, r);
    if (r->failed || book.until_s < 0 || books->ended_count == TLS_BOOKS_ENDED_MAX) {
        tlsrpt_book_fini(&book);
        return E_DAMAGED;
    }
    if (book.until_s == 0) {
        tlsrpt_book_fini(&books->open);
        books->open = book;
    } else {
        books->ended[books->ended_count++] = book;
    }
    return 0;
}

static int parse(struct tls_books *books, const char *text, size_t len)
{
    unsigned version, crc;
    struct wire_reader r;
    int used = 0, result = 0;

    if (sscanf(text, "ringpost tls-report %1u %8x%n", &version, &crc, &used) != 2 || version < 1 ||
        version > 2 || text[used] != '\n')
        return E_DAMAGED;
    wire_reader_init(&r, text + used + 1, len - (size_t)used - 1);
    if (crc32c(0, r.at, wire_left(&r)) != crc)
        return E_DAMAGED;
    while (wire_left(&r) > 0 && result == 0)
        result = take_book(books, &r, version);
    return result;
}

void tls_books_load(struct tls_books *books, const char *directory)
{
    char *text = NULL;
    int64_t result;

    books->directory = mem_strdup(directory);
    result = kept_file_load(books->io, directory, FILE_NAME, FILE_MAX, &text);
    if (result >= 0)
        result = parse(books, text, (size_t)result);
    mem_free(text);
    if (result < 0 && result != -ENOENT)
        log_error("%s/" FILE_NAME ": %s; what was counted of TLS before is not reported", directory,
                  err_text((int)result));
    tls_books_turn(books);
}
