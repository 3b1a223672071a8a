#include "shard/key_check.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdio.h>

#define NS_PER_MS      1000000ull
#define PUBLIC_MAX     1024u /* p= of RSA-4096 */
#define PLACE_TEXT_MAX 320u

struct key_lookup {
    struct dns_lookup dns;
    struct key_check *check;
    struct key_row *row; /* NULL = free */
};

struct key_check {
    struct io *io;
    struct dns *dns;
    struct io_timer timer; /* all must be over by then; or it is, and says so */
    void (*done)(struct key_check *check, void *context);
    void *context;
    uint32_t count;
    uint32_t capacity;
    uint32_t next; /* row to ask for */
    struct key_row *rows;
    struct key_lookup lookups[KEY_CHECK_OPEN_MAX];
};

/* ---- Rows ------------------------------------------------------------------------------------ */

static void on_timer(struct io_timer *timer);

struct key_check *key_check_new(struct io *io, struct dns *dns)
{
    struct key_check *check = mem_alloc(sizeof(*check));

    check->io = io;
    check->dns = dns;
    io_timer_init(&check->timer, on_timer);
    for (uint32_t i = 0; i < KEY_CHECK_OPEN_MAX; i++)
        check->lookups[i].check = check;
    return check;
}

static void grow(struct key_check *check)
{
    uint32_t capacity = check->capacity > 0 ? check->capacity * 2 : 16;

    check->rows = mem_alloc_larger(check->rows, check->count * sizeof(*check->rows),
                                   capacity * sizeof(*check->rows));
    check->capacity = capacity;
}

uint64_t key_check_id(const struct conf_domain_key *key)
{
    uint64_t hash = hash_bytes_nocase(key->selector, strlen(key->selector));

    hash = hash_combine(hash, hash_bytes_nocase(key->domain.data, key->domain.len));
    return hash_combine(hash, key->id);
}

void key_check_add(struct key_check *check, const struct conf_key_place *place,
                   const struct conf_domain_key *key, struct slice domain)
{
    char place_text[PLACE_TEXT_MAX];
    struct conf_domain_key meant = *key;
    struct key_row *row;

    if (check->count == check->capacity)
        grow(check);
    if (domain.len > 0)
        meant.domain = domain;
    snprintf(place_text, sizeof(place_text), "%s%s%s", place->kind, place->name[0] ? " " : "",
             place->name);
    row = &check->rows[check->count++];
    *row = (struct key_row){
        .selector = mem_strdup(key->selector),
        .domain = mem_strndup(meant.domain.data, meant.domain.len),
        .place = mem_strdup(place_text),
        .before = key->before != NULL ? mem_strdup(key->before->selector) : NULL,
        .key = sign_key_ref(key->key),
        .id = key_check_id(&meant),
        .is_first = conf_key_is_first(place, key),
        .record = DKIM_RECORD_UNKNOWN,
    };
}

struct key_row *key_check_rows(struct key_check *check, uint32_t *ret_count)
{
    *ret_count = check->count;
    return check->rows;
}

static void forget_lookups(struct key_check *check)
{
    for (uint32_t i = 0; i < KEY_CHECK_OPEN_MAX; i++) {
        if (check->lookups[i].row != NULL)
            dns_forget(check->dns, &check->lookups[i].dns);
        check->lookups[i].row = NULL;
    }
}

void key_check_free(struct key_check *check)
{
    if (check == NULL)
        return;
    forget_lookups(check);
    io_timer_stop(check->io, &check->timer);
    for (uint32_t i = 0; i < check->count; i++) {
        mem_free(check->rows[i].selector);
        mem_free(check->rows[i].domain);
        mem_free(check->rows[i].place);
        mem_free(check->rows[i].before);
        sign_key_unref(check->rows[i].key);
    }
    mem_free(check->rows);
    mem_free(check);
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void say(struct key_row *row, enum dkim_record record, const char *why)
{
    row->record = record;
    snprintf(row->why, sizeof(row->why), "%s", why);
}

static void judge_record(struct key_row *row, struct slice record)
{
    char public_part[PUBLIC_MAX];
    const char *why;
    int result = sign_key_public(row->key, public_part, sizeof(public_part));
    enum dkim_record judged;

    must(result == 0);
    judged = dkim_record_judge(record, sign_key_kind(row->key) == SIGN_ED25519,
                               slice_str(public_part), &row->flags, &why);
    say(row, judged, why != NULL ? why : "");
}

static void judge(struct key_row *row, const struct dns_query *answer)
{
    struct slice record = SLICE_EMPTY, other;
    uint16_t cursor = 0;

    switch ((enum dns_status)answer->status) {
    case DNS_OK:
        break;
    case DNS_NO_DATA:
    case DNS_NO_NAME:
        say(row, DKIM_RECORD_MISSING, "there is no such record");
        return;
    case DNS_FAILURE:
        say(row, DKIM_RECORD_UNKNOWN, "the DNS does not answer soundly");
        return;
    case DNS_TIMEOUT:
        say(row, DKIM_RECORD_UNKNOWN, "the DNS does not answer");
        return;
    }
    if (!dns_record_next(answer, &cursor, &record))
        say(row, DKIM_RECORD_MISSING, "there is no such record");
    else if (dns_record_next(answer, &cursor, &other))
        say(row, DKIM_RECORD_SEVERAL, "the name has several records");
    else
        judge_record(row, record);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static void ask_more(struct key_check *check);

static void on_answer(struct dns_lookup *dns, const struct dns_query *answer)
{
    struct key_lookup *lookup = container_of(dns, struct key_lookup, dns);
    struct key_check *check = lookup->check;

    judge(lookup->row, answer);
    lookup->row = NULL;
    ask_more(check);
}

static bool is_any(const struct key_row *row)
{
    return strcmp(row->domain, "*") == 0;
}

static void ask(struct key_lookup *lookup, struct key_row *row)
{
    char name[DNS_NAME_MAX + 32];

    lookup->row = row;
    lookup->dns = (struct dns_lookup){.on_answer = on_answer};
    /* One that is too long for the DNS is answered like one that is not there. */
    snprintf(name, sizeof(name), "%s._domainkey.%s", row->selector, row->domain);
    dns_ask(lookup->check->dns, &lookup->dns, slice_str(name), DNS_TXT);
}

/* The end comes by the timer, so never from inside. */
static void ask_more(struct key_check *check)
{
    bool is_open = false;

    for (uint32_t i = 0; i < KEY_CHECK_OPEN_MAX; i++) {
        struct key_lookup *lookup = &check->lookups[i];

        while (check->next < check->count && is_any(&check->rows[check->next]))
            check->next++;
        if (lookup->row == NULL && check->next < check->count)
            ask(lookup, &check->rows[check->next++]);
        is_open |= lookup->row != NULL;
    }
    if (!is_open)
        io_timer_arm(check->io, &check->timer, io_now_ns(check->io));
}

static void on_timer(struct io_timer *timer)
{
    struct key_check *check = container_of(timer, struct key_check, timer);

    for (uint32_t i = 0; i < check->count; i++) {
        struct key_row *row = &check->rows[i];

        if (row->record == DKIM_RECORD_UNKNOWN && row->why[0] == '\0' && !is_any(row))
            say(row, DKIM_RECORD_UNKNOWN, "the DNS did not answer in time");
    }
    forget_lookups(check);
    check->next = check->count;
    check->done(check, check->context);
}

void key_check_start(struct key_check *check, uint32_t timeout_ms,
                     void (*done)(struct key_check *check, void *context), void *context)
{
    check->done = done;
    check->context = context;
    io_timer_arm(check->io, &check->timer, io_now_ns(check->io) + timeout_ms * NS_PER_MS);
    ask_more(check);
}
