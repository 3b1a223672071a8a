#include "shard/spf_out.h"

#include "core/mail/address.h"
#include "shard/shard_int.h"

#define NS_PER_MS 1000000ull
#define AGAIN_NS  (1000 * NS_PER_MS) /* until what is not known is looked at again, at least */

/* An evaluation under way. */
struct spf_out_check {
    struct list link;
    struct shard *shard;
    struct spf_fact *fact; /* stays where it is while it is open */
    struct io_timer timer;
    uint32_t index;
    struct spf_check spf;
};

void spf_out_init(struct shard *shard)
{
    spf_known_init(&shard->spf_out.known, SPF_OUT_KNOWN_MAX);
    slab_init(&shard->spf_out.checks, sizeof(struct spf_out_check), SPF_OUT_OPEN_MAX);
    list_init(&shard->spf_out.open);
}

void spf_out_fini(struct shard *shard)
{
    spf_out_stop(shard);
    slab_fini(&shard->spf_out.checks);
    spf_known_fini(&shard->spf_out.known);
}

/* ---- Finding out ----------------------------------------------------------------------------- */

static void end(struct spf_out_check *check, const struct spf_answer *answer)
{
    struct shard *shard = check->shard;

    io_timer_stop(shard->io, &check->timer);
    list_remove(&check->link);
    spf_fact_close(check->fact, answer, io_now_ns(shard->io));
    slab_free(&shard->spf_out.checks, check->index);
}

static void on_answer(void *context, const struct spf_answer *answer)
{
    end(context, answer);
}

static void give_up(struct spf_out_check *check)
{
    static const struct spf_answer late = {.result = SPF_TEMPERROR, .why = "it took too long"};

    spf_stop(&check->spf);
    end(check, &late);
}

static void on_timer(struct io_timer *timer)
{
    give_up(container_of(timer, struct spf_out_check, timer));
}

void spf_out_stop(struct shard *shard)
{
    while (!list_empty(&shard->spf_out.open))
        give_up(container_of(shard->spf_out.open.next, struct spf_out_check, link));
}

/* Without room it is asked for when it is wanted again. */
static void find_out(struct shard *shard, struct spf_fact *fact,
                     const struct spf_question *question)
{
    struct spf_out_check *check;
    uint32_t index;

    if (shard->stopping)
        return;
    check = slab_alloc(&shard->spf_out.checks, &index);
    if (!check)
        return;
    check->shard = shard;
    check->fact = fact;
    check->index = index;
    list_init(&check->link);
    list_push_back(&shard->spf_out.open, &check->link);
    spf_fact_open(fact, io_now_ns(shard->io));
    io_timer_init(&check->timer, on_timer);
    io_timer_arm(shard->io, &check->timer, io_now_ns(shard->io) + SPF_OUT_TIMEOUT_MS * NS_PER_MS);
    spf_start(&check->spf, shard->dns, question, on_answer, check);
}

/* ---- What is known --------------------------------------------------------------------------- */

static bool is_any(const struct ipaddr *ip)
{
    static const uint8_t zeros[sizeof(ip->bytes)];

    return memcmp(ip->bytes, zeros, sizeof(zeros)) == 0;
}

static struct slice helo_of(const struct shard *shard, const struct lane *lane,
                            const struct queue *queue)
{
    const struct conf_source_address *address = lane_address(lane, queue->vmta_id);

    return slice_str(address ? address->helo : conf_global(shard->conf)->host_name);
}

/* sender: room for what the question names. */
static struct spf_question question_of(const struct shard *shard, const struct lane *lane,
                                       const struct queue *queue, const struct message *message,
                                       struct address *sender)
{
    struct spf_question question = {.ip = lane->source, .helo = helo_of(shard, lane, queue)};

    question.local = SLICE_LITERAL("postmaster");
    question.domain = question.helo;
    if (message->envelope.sender.len == 0)
        return question;
    /* A sender that is none has no domain, and so no record. */
    question.domain = SLICE_EMPTY;
    if (address_parse(message->envelope.sender, ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LONG_LOCAL,
                      sender) == 0) {
        question.local = sender->local;
        question.domain = address_host(sender);
    }
    return question;
}

static uint64_t hash_of(const struct spf_question *question)
{
    uint64_t hash = hash_bytes_nocase(question->domain.data, question->domain.len);

    hash = hash_combine(hash, hash_bytes_nocase(question->helo.data, question->helo.len));
    return hash_combine(hash, ipaddr_hash(&question->ip));
}

/* A fact that counts, or the one that is waited for; NULL when there is no room for it. */
static const struct spf_fact *look(struct shard *shard, uint64_t hash,
                                   const struct spf_question *question)
{
    struct spf_fact *fact = spf_known_obtain(&shard->spf_out.known, hash);

    if (fact && spf_fact_is_due(fact, io_now_ns(shard->io)))
        find_out(shard, fact, question);
    return fact;
}

static const struct spf_fact *fact_of(struct shard *shard, const struct spf_question *question)
{
    uint64_t hash = hash_of(question);
    const struct spf_fact *fact = look(shard, hash, question);

    if (!fact || !fact->is_of_sender || !spf_fact_counts(fact, io_now_ns(shard->io)))
        return fact;
    hash = hash_combine(hash, hash_bytes(question->local.data, question->local.len));
    return look(shard, hash, question);
}

static uint64_t look_again_us(const struct shard *shard, const struct spf_fact *fact)
{
    uint64_t wait_ns = fact && fact->is_open ? io_now_ns(shard->io) - fact->began_ns : 0;

    return io_wall_us(shard->io) + (wait_ns > AGAIN_NS ? wait_ns : AGAIN_NS) / 1000;
}

/* ---- What it means --------------------------------------------------------------------------- */

/* Codes: RFC 7372 3.2. */
static void fill_verdict(const struct spf_question *question, const struct spf_fact *fact,
                         struct verdict *ret_verdict)
{
    bool is_error = fact->result == SPF_TEMPERROR || fact->result == SPF_PERMERROR;
    bool is_over = fact->result != SPF_TEMPERROR;
    const uint8_t enhanced[3] = {is_over ? 5 : 4, 7, is_error ? 24 : 23};
    char ip[IPADDR_TEXT_MAX];

    ipaddr_format(&question->ip, ip);
    verdict_set_local(ret_verdict, VERDICT_MESSAGE, is_over ? VERDICT_PERMANENT : VERDICT_TRANSIENT,
                      VERDICT_AT_LOCAL, is_over ? 550 : 451, enhanced,
                      "not sent: SPF of %.*s for our address %s is %s%s%s%s",
                      (int)question->domain.len, (const char *)question->domain.data, ip,
                      spf_result_name((enum spf_result)fact->result),
                      fact->why[0] != '\0' ? " (" : "", fact->why, fact->why[0] != '\0' ? ")" : "");
}

enum spf_out_answer spf_out_ask(struct shard *shard, const struct lane *lane,
                                const struct queue *queue, const struct message *message,
                                struct verdict *ret_verdict, uint64_t *ret_due_us)
{
    struct address sender;
    struct spf_question question;
    const struct spf_fact *fact;

    if (is_any(&lane->source))
        return SPF_OUT_GOES;
    question = question_of(shard, lane, queue, message, &sender);
    fact = fact_of(shard, &question);
    if (!fact || !spf_fact_counts(fact, io_now_ns(shard->io))) {
        *ret_due_us = look_again_us(shard, fact);
        return SPF_OUT_WAITS;
    }
    if (fact->result == SPF_PASS)
        return SPF_OUT_GOES;
    fill_verdict(&question, fact, ret_verdict);
    return SPF_OUT_STAYS;
}

bool spf_out_goes(struct shard *shard, const struct lane *lane, const struct queue *queue,
                  const struct message *message)
{
    struct verdict verdict;
    uint64_t due_us;

    return !queue->settings.check_spf_outbound ||
           spf_out_ask(shard, lane, queue, message, &verdict, &due_us) == SPF_OUT_GOES;
}
