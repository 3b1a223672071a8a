/*
 * Backoff mode of a whole provider, by standing orders: what one queue was told holds for the
 * others. Played with the whole product in the simulated world and decided by counts of the
 * receivers and by what the queues say of themselves.
 *
 * d0 to d3 are hosts of the provider p, d4 to d7 are not; d3 goes by another virtual MTA, whose
 * address is in the same /24. In the mode a queue sends one message in ten minutes.
 *
 *   backoff_scenarios        every scenario, with its figures; 1 when one fails
 */
#include "core/base/log.h"
#include "shard/orders_int.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/stage.h"

#include <stdio.h>
#include <stdlib.h>

#define SHARDS  4
#define DOMAINS 8
#define REFUSAL "451 4.7.28 Gmail has detected an unusual rate of mail from your address"

#define HOSTS    " mx d0.test\n mx d1.test\n mx d2.test\n mx d3.test\n"
#define PROVIDER "<provider p>\n" HOSTS "</provider>\n"
#define OTHER                                                                                      \
    "<virtual-mta w>\n smtp-source-host 10.9.0.2 w.test\n</virtual-mta>\n"                         \
    "<domain d3.test>\n reroute-to-virtual-mta w\n</domain>\n"
#define MODE                                                                                       \
    " retry-after 1m\n backoff-retry-after 20m\n backoff-max-msg-rate 1/10m\n"                     \
    " smtp-pattern-list l\n"

struct terms {
    const char *replies; /* lines of the list */
    const char *domain;  /* of <domain *>, besides */
    const char *global;
    const char *vmta; /* of the virtual MTA */
    bool is_unnamed;  /* there is no <provider> */
    bool is_slow;     /* the disk and the shards' turns */
};

static void with_options(void (*use)(struct stage *stage, const struct stage_options *options),
                         struct stage *stage, const struct terms *terms)
{
    char global[1024], domain[512], vmta[256];
    const struct stage_options options = {
        .shard_count = SHARDS,
        .disk_ns = terms->is_slow ? 5 * MS_NS : 0,
        .turn_ns = terms->is_slow ? MS_NS / 2 : 0,
        .global = global,
        .source = " process-x-job yes\n",
        .vmta = vmta,
        .domain = domain,
    };

    snprintf(global, sizeof(global), "%s%s%s<smtp-pattern-list l>\n%s</smtp-pattern-list>\n",
             terms->is_unnamed ? "" : PROVIDER, OTHER, terms->global ? terms->global : "",
             terms->replies);
    snprintf(vmta, sizeof(vmta), " smtp-source-host 10.9.1.3 v3.test\n%s",
             terms->vmta ? terms->vmta : "");
    snprintf(domain, sizeof(domain), "%s%s", MODE, terms->domain ? terms->domain : "");
    use(stage, &options);
}

static const char *stage_name;

static void raise_named(struct stage *stage, const struct stage_options *options)
{
    stage_raise(stage, stage_name, options);
}

static void raise_stage(struct stage *stage, const char *name, const struct terms *terms)
{
    stage_name = name;
    with_options(raise_named, stage, terms);
    for (unsigned i = 0; i < DOMAINS; i++) {
        stage_add_receiver(stage, i, KIND_SERVES, 20);
        stage->receivers[i].marked = "Subject: test";
    }
}

/* ---- What queues say ------------------------------------------------------------------------- */

static struct queue *queue_at(const struct stage *stage, uint16_t shard, uint32_t index)
{
    const struct slab *queues = &stage->product.shards[shard]->queues;
    struct queue *queue = slab_is_live(queues, index) ? slab_at(queues, index) : NULL;

    return queue && queue->stay == QUEUE_HERE && queue->site ? queue : NULL;
}

/* Those of the domain that are somewhere, by any virtual MTA; NULL = there is none. */
static struct queue *queue_of(const struct stage *stage, unsigned number)
{
    char name[16];

    snprintf(name, sizeof(name), "d%u.test", number);
    for (uint16_t i = 0; i < SHARDS; i++)
        for (uint32_t j = 0; j < stage->product.shards[i]->queues.count_grown; j++) {
            struct queue *queue = queue_at(stage, i, j);

            if (queue &&
                slice_equal(names_text(&queue->shard->names, queue->name), slice_str(name)))
                return queue;
        }
    return NULL;
}

/* Bits: the domains whose queues are in backoff mode by an order; of their own if own. */
static unsigned in_mode(const struct stage *stage, bool own)
{
    unsigned bits = 0;

    for (unsigned i = 0; i < DOMAINS; i++) {
        const struct queue *queue = queue_of(stage, i);

        if (queue && (own ? queue->mode.is_backoff : queue->hold.is_held))
            bits |= 1u << i;
    }
    return bits;
}

static unsigned shards_of(const struct stage *stage, unsigned first, unsigned count)
{
    unsigned bits = 0, sum = 0;

    for (unsigned i = first; i < first + count; i++) {
        const struct queue *queue = queue_of(stage, i);

        bits |= queue ? 1u << queue->shard->number : 0;
    }
    for (; bits > 0; bits &= bits - 1)
        sum++;
    return sum;
}

/* Orders that every shard knows. */
static uint32_t orders_known(const struct stage *stage)
{
    uint32_t least = UINT32_MAX;

    for (uint16_t i = 0; i < SHARDS; i++) {
        uint32_t count = stage->product.shards[i]->orders.counts[ORDER_BACKOFF];

        least = count < least ? count : least;
    }
    return least;
}

static void say(struct stage *stage, const char *reply)
{
    for (unsigned i = 0; i < DOMAINS; i++)
        stage->receivers[i].refusal = reply;
}

/* Each domain has had mail, so that its queue is where it is served. */
static void warm_up(struct stage *stage)
{
    stage_inject(stage, 0, 0, DOMAINS);
    stage_run(stage, 20, DOMAINS / 4, 0);
    stage_run(stage, 50, 0, 0);
    stage_check(stage, stage_taken(stage, 0, DOMAINS) == 5 * DOMAINS, "all goes at first");
    stage_check(stage, shards_of(stage, 0, 3) > 1, "the provider's queues are at several shards");
}

/* A message for d0 is refused, from 10.9.0.1 or from anywhere. Returns how many went for it. */
static uint32_t refuse_one(struct stage *stage, uint8_t source)
{
    uint32_t count = 0;

    stage->receivers[0].refused_source = source;
    stage->receivers[0].refusal = REFUSAL;
    stage_inject(stage, 1, 0, 1);
    for (; count < 9 && stage->receivers[0].marked_refused == 0; count++) {
        stage_run(stage, 1, 0, 1);
        stage_run(stage, 30, 0, 0);
    }
    stage->receivers[0].refusal = NULL;
    return count;
}

#define OF_V     0x07u /* d0 to d2 */
#define OF_W     0x08u /* d3 */
#define OF_P     (OF_V | OF_W)
#define HALF_TEN 3000u /* tenths of a second: half of the span in which one message goes */

/* ---- Scenes ---------------------------------------------------------------------------------- */

/*
 * A refusal of d0's mail has d1's and d2's wait, at other shards, also over a restart; not that of
 * other providers, nor what goes by another address unless the scope has it too. Then it is over.
 */
static bool a_refusal_counts_for_all(const char *name, const char *scope, unsigned held,
                                     uint32_t orders)
{
    static struct stage stage;
    char replies[128];
    const struct terms terms = {.replies = replies};
    uint64_t before[DOMAINS], first;

    snprintf(replies, sizeof(replies),
             " reply /4.7.28/ mode=backoff,backoff-to-normal-after=30m scope=%s\n", scope);
    raise_stage(&stage, name, &terms);
    warm_up(&stage);
    first = 5 * DOMAINS + refuse_one(&stage, 1);
    stage_check(&stage, stage.receivers[0].marked_refused == 1, "the first refusal is the last");
    stage_check(&stage, in_mode(&stage, false) == held, "its queues are in backoff mode");
    stage_check(&stage, orders_known(&stage) == orders, "all shards know");
    stage_restart(&stage);
    stage_inject(&stage, 0, 0, DOMAINS);
    for (unsigned i = 0; i < DOMAINS; i++)
        before[i] = stage.receivers[i].taken;
    stage_run(&stage, HALF_TEN / 10, DOMAINS, 0);
    stage_run(&stage, HALF_TEN, 0, 0);
    stage_check(&stage, in_mode(&stage, false) == held, "so they are after a restart");
    stage_check(&stage, in_mode(&stage, true) == 0, "none of its own mode");
    for (unsigned i = 0; i < DOMAINS; i++) {
        uint64_t more = stage.receivers[i].taken - before[i];

        stage_check(&stage, (held & 1u << i) != 0 ? more <= 1 : more >= 300,
                    "one message goes, and of others all");
    }
    stage_run(&stage, 5 * HALF_TEN, 0, 0);
    stage_check(&stage, in_mode(&stage, false) == 0 && orders_known(&stage) == 0,
                "after half an hour it is over");
    stage_run(&stage, 3000, 0, 0);
    stage_check(&stage, stage_taken(&stage, 0, DOMAINS) == first + DOMAINS * 300, "all goes then");
    return stage_strike(&stage);
}

/* One message a second. */
static void inject_slowly(struct stage *stage, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        stage_run(stage, 1, 1, 0);
        stage_run(stage, 9, 0, 0);
    }
}

/* The tenth refusal, wherever the others were, and not the ninth; then none comes for its time. */
static bool refusals_are_counted(void)
{
    static struct stage stage;
    const struct terms terms = {
        .replies = " reply /4.7.28/ mode=backoff,backoff-to-normal-after=10m trigger=10/10m"
                   " scope=provider\n",
        .domain = " backoff-max-msg-rate 0/h\n"};

    raise_stage(&stage, "refusals of a provider's are counted", &terms);
    say(&stage, REFUSAL);
    stage_inject(&stage, 0, 0, 3);
    inject_slowly(&stage, 9);
    stage_check(&stage, in_mode(&stage, false) == 0, "nine are too few");
    inject_slowly(&stage, 9);
    stage_check(&stage, in_mode(&stage, false) == OF_V, "ten are enough");
    stage_run(&stage, 3000, 1, 0);
    stage_check(&stage,
                stage.receivers[0].marked_refused + stage.receivers[1].marked_refused +
                        stage.receivers[2].marked_refused ==
                    10,
                "and there are no more");
    return stage_strike(&stage);
}

/* A delivery from there that began after the refusal ends it; one that was under way does not, nor
 * does one from another address. */
static bool a_delivery_ends_it(void)
{
    static struct stage stage;
    const struct terms terms = {.replies = " reply /4.7.28/ mode=backoff scope=provider\n",
                                .domain =
                                    " backoff-to-normal-after-delivery yes\n max-smtp-out 1\n"};
    uint64_t before;

    raise_stage(&stage, "a delivery ends it", &terms);
    warm_up(&stage);
    before = stage.receivers[1].taken;
    stage.receivers[1].reply_ms = 4000;
    stage_inject(&stage, 0, 1, 1);
    stage_run(&stage, 1, 1, 0);
    /* The greeting and the reply to EHLO come in eight seconds. */
    stage_run(&stage, 100, 0, 0);
    refuse_one(&stage, 0);
    stage_check(&stage, orders_known(&stage) == 2, "both addresses are");
    stage_run(&stage, 300, 0, 0);
    stage_check(&stage, stage.receivers[1].taken == before + 1 && orders_known(&stage) == 2,
                "what was under way ends nothing");
    stage.receivers[1].reply_ms = 20;
    stage_inject(&stage, 0, 2, 1);
    stage_run(&stage, 1, 1, 0);
    stage_run(&stage, 7000, 0, 0);
    stage_check(&stage, orders_known(&stage) == 1 && (in_mode(&stage, false) & 1u << 2) != 0,
                "a delivery from one address is of that one");
    stage_inject(&stage, 0, 1, 1);
    stage_run(&stage, 1, 3, 0);
    stage_run(&stage, 20000, 0, 0);
    stage_check(&stage, in_mode(&stage, false) == 0, "one from the other ends it");
    return stage_strike(&stage);
}

#define OWN_MODE " reply /4.7.1/ mode=backoff\n"
#define LINES                                                                                      \
    " reply /4.7.28/ mode=backoff scope=netblock\n"                                                \
    " reply /^250 .*thanks/ mode=normal scope=netblock\n"

/* A reply by a line of the same scope ends it; it does not end a queue's own mode. The lines stand
 * in a list or in <provider>. */
static bool a_reply_ends_it(const char *name, const struct terms *terms)
{
    static struct stage stage;

    raise_stage(&stage, name, terms);
    warm_up(&stage);
    stage.receivers[5].refusal = "450 4.7.1 later";
    stage_inject(&stage, 0, 5, 1);
    stage_run(&stage, 30, 1, 0);
    stage.receivers[5].refusal = NULL;
    refuse_one(&stage, 1);
    stage_check(&stage, in_mode(&stage, false) == OF_P, "its addresses are in backoff mode");
    stage_check(&stage, in_mode(&stage, true) == 1u << 5, "a queue of its own");
    stage.receivers[3].refusal = "250 2.0.0 taken with thanks";
    stage_inject(&stage, 0, 3, 1);
    stage_run(&stage, 1, 1, 0);
    stage_run(&stage, 7000, 0, 0);
    stage_check(&stage, in_mode(&stage, false) == 0, "another address of the block ends both");
    stage_check(&stage, in_mode(&stage, true) == 1u << 5, "that queue is not concerned");
    return stage_strike(&stage);
}

/* Hosts that no <provider> names are one of their own. A queue that comes when the order is in
 * force is in backoff mode before it sends anything. */
static bool a_queue_comes_later(void)
{
    static struct stage stage;
    const struct terms terms = {.replies = " reply /4.7.28/ mode=backoff scope=provider\n",
                                .global = "<domain d0.test>\n smtp-hosts d2.test:25\n</domain>\n"
                                          "<domain d1.test>\n smtp-hosts d2.test:25\n</domain>\n",
                                .is_unnamed = true};

    raise_stage(&stage, "a queue comes later", &terms);
    stage.receivers[2].refusal = REFUSAL;
    stage_inject(&stage, 1, 0, 1);
    stage_run(&stage, 1, 0, 1);
    stage_run(&stage, 30, 0, 0);
    stage.receivers[2].refusal = NULL;
    stage_check(&stage, orders_known(&stage) == 2, "a refusal makes its orders");
    stage_inject(&stage, 0, 1, 1);
    stage_run(&stage, 100, 1, 0);
    stage_run(&stage, HALF_TEN, 0, 0);
    stage_check(&stage, in_mode(&stage, false) == 0x3u, "another queue is in backoff mode");
    stage_check(&stage, stage.receivers[2].taken <= 1, "from its first message on");
    stage_run(&stage, 2 * HALF_TEN, 0, 0);
    stage_check(&stage, stage.receivers[2].taken > 0, "and does send");
    return stage_strike(&stage);
}

static uint64_t times_held_back(const struct stage *stage)
{
    uint64_t sum = 0;

    for (uint16_t i = 0; i < SHARDS; i++)
        sum += stage->product.shards[i]->orders.held_back;
    return sum;
}

/* All of it goes the way of the mode and stays there, for its time. */
static bool the_mail_goes_by_others(void)
{
    static struct stage stage;
    const struct terms terms = {
        .replies = " reply /4.7.28/ mode=backoff,backoff-to-normal-after=30m scope=provider\n",
        .vmta = "<domain *>\n backoff-reroute-to-virtual-mta x\n</domain>\n",
        .global = "<virtual-mta x>\n smtp-source-host 10.9.2.4 x.test\n</virtual-mta>\n"};
    uint32_t opened, elsewhere;
    uint64_t times;

    raise_stage(&stage, "the mail goes by another virtual MTA", &terms);
    warm_up(&stage);
    refuse_one(&stage, 0);
    stage_inject(&stage, 0, 0, DOMAINS);
    stage_run(&stage, 100, DOMAINS, 0);
    opened = stage.receivers[1].opened_by[1] + stage.receivers[1].opened_by[3];
    elsewhere = stage.receivers[5].opened_by[4];
    times = times_held_back(&stage);
    with_options(stage_reload, &stage, &terms);
    stage_run(&stage, 600, DOMAINS, 0);
    stage_check(&stage, times_held_back(&stage) == times, "the mode goes on without its site");
    stage_check(&stage, stage.receivers[1].opened_by[1] + stage.receivers[1].opened_by[3] == opened,
                "nothing goes by its own");
    stage_check(&stage, stage.receivers[1].opened_by[4] > 0, "it goes by the other");
    stage_check(&stage, elsewhere == 0 && stage.receivers[5].opened_by[4] == 0,
                "mail to others stays");
    stage_run(&stage, 6 * HALF_TEN, 0, 0);
    stage_check(&stage, stage_taken(&stage, 0, DOMAINS) == 41 + 700ul * DOMAINS, "all of it");
    elsewhere = stage.receivers[1].opened_by[4];
    stage_inject(&stage, 0, 0, DOMAINS);
    stage_run(&stage, 100, DOMAINS, 0);
    stage_check(&stage,
                stage.receivers[1].opened_by[1] + stage.receivers[1].opened_by[3] > opened &&
                    stage.receivers[1].opened_by[4] == elsewhere,
                "after its time new mail stays with its own");
    return stage_strike(&stage);
}

/* A queue whose mail goes to another provider's hosts is not of that provider any more. */
static bool it_follows_the_provider(void)
{
    static struct stage stage;
    const char *replies = " reply /4.7.28/ mode=backoff scope=provider\n";
    const struct terms first = {.replies = replies};
    const struct terms second = {.replies = replies,
                                 .global = "<domain d1.test>\n smtp-hosts d5.test:25\n</domain>\n"
                                           "<domain d6.test>\n smtp-hosts d2.test:25\n</domain>\n"};

    raise_stage(&stage, "it follows the provider", &first);
    warm_up(&stage);
    refuse_one(&stage, 0);
    stage_check(&stage, in_mode(&stage, false) == OF_V, "three queues");
    with_options(stage_reload, &stage, &second);
    stage_inject(&stage, 0, 0, DOMAINS);
    stage_run(&stage, 50, DOMAINS, 0);
    stage_check(&stage, in_mode(&stage, false) == 0x45u, "one is not its own now, and another is");
    with_options(stage_reload, &stage, &first);
    stage_run(&stage, 50, DOMAINS, 0);
    stage_check(&stage, in_mode(&stage, false) == OF_V, "and as before");
    return stage_strike(&stage);
}

/* ---- What happens meanwhile -------------------------------------------------------------------
 */

/* Backoff mode of p for 10.9.0.1, as a reply at that shard would begin it. */
static struct order_facts order_of_p(void)
{
    struct order_facts facts = {.kind = ORDER_BACKOFF};

    must(ipaddr_parse(SLICE_LITERAL("10.9.0.1"), &facts.source) == 0);
    snprintf(facts.who, sizeof(facts.who), "p");
    snprintf(facts.reason, sizeof(facts.reason), "of the test");
    return facts;
}

/* Queues of no mail, until there is one place more for queues than there was. */
static void grow(struct shard *shard, uint32_t vmta_id)
{
    static unsigned number;
    uint32_t before = shard->queues.count_grown;
    char name[32];

    while (shard->queues.count_grown == before) {
        snprintf(name, sizeof(name), "n%u.test", number++);
        must(queues_obtain(shard, slice_str(name), vmta_id));
    }
}

/* All queues are looked at, however many more there are before the walk is over. */
static bool queues_come_meanwhile(void)
{
    static struct stage stage;
    const struct terms terms = {.replies = " reply /4.7.28/ mode=backoff scope=source-ip\n"};
    const struct order_facts wanted = order_of_p();

    raise_stage(&stage, "queues come while others are looked at", &terms);
    warm_up(&stage);
    for (uint16_t i = 0; i < SHARDS; i++) {
        struct shard *shard = stage.product.shards[i];
        struct queue *queue = queue_of(&stage, 0);

        /* The last walk ended behind the first places. */
        shard->orders.walk_cursor = shard->queues.count_grown;
        grow(shard, queue->vmta_id);
        orders_back_off(shard, &wanted, 3600000);
        grow(shard, queue->vmta_id);
    }
    stage_run(&stage, 20, 0, 0);
    stage_check(&stage, orders_known(&stage) == 1, "all shards know");
    stage_check(&stage, in_mode(&stage, false) == OF_V, "its queues are in backoff mode");
    return stage_strike(&stage);
}

/* Replies of a receiver that changes its mind, at one shard: the mode begins and ends in turn. */
struct changes {
    struct shard *shard; /* where */
    struct io_timer timer;
    uint64_t step_ns;
    struct order_facts wanted;
    unsigned left;
    unsigned lost; /* steps at which it was not */
};

static void change(struct io_timer *timer)
{
    struct changes *changes = container_of(timer, struct changes, timer);
    struct shard *shard = changes->shard;

    changes->left--;
    if (changes->left % 2 == 1)
        orders_back_off(shard, &changes->wanted, 3600000);
    else
        orders_let_end(shard, &changes->wanted, UINT64_MAX);
    if (changes->left > 0)
        io_timer_arm(shard->io, timer, io_now_ns(shard->io) + changes->step_ns);
}

/* After each step of the world: what the shard began is in force there until it ended that. */
static bool watch(void *context)
{
    struct changes *changes = context;

    changes->lost += changes->left % 2 == 1 && changes->shard->orders.counts[ORDER_BACKOFF] == 0;
    return false;
}

/* Begun, ended, begun and ended again before the log has the first end: its answers to each find
 * the order, and it is over when it has the last. */
static bool it_ends_twice(void)
{
    static struct stage stage;
    const struct terms terms = {.replies = " reply /4.7.28/ mode=backoff scope=source-ip\n",
                                .is_slow = true};

    raise_stage(&stage, "it ends twice", &terms);
    warm_up(&stage);
    for (unsigned i = 0; i < 80; i++) {
        struct changes changes = {.shard = stage.product.shards[i % SHARDS],
                                  .step_ns = MS_NS * (1 + i / SHARDS),
                                  .wanted = order_of_p(),
                                  .left = 20};

        io_timer_init(&changes.timer, change);
        io_timer_arm(changes.shard->io, &changes.timer, io_now_ns(changes.shard->io));
        sim_run_until(stage.world, watch, &changes, 2 * SECOND_NS, UINT64_MAX);
        stage_check(&stage, changes.lost == 0, "what began anew goes on");
        stage_check(&stage,
                    changes.left == 0 && orders_known(&stage) == 0 && in_mode(&stage, false) == 0,
                    "then it is over");
    }
    return stage_strike(&stage);
}

/* An order whose name is too long for the log ends as others do. */
static bool its_name_is_long(void)
{
    static struct stage stage;
    const struct terms terms = {.replies = " reply /4.7.28/ mode=backoff scope=source-ip\n"};
    struct changes changes = {.step_ns = SECOND_NS, .wanted = order_of_p(), .left = 4};

    raise_stage(&stage, "its name is too long for the log", &terms);
    memset(changes.wanted.who, 'x', 250);
    changes.shard = stage.product.shards[0];
    io_timer_init(&changes.timer, change);
    io_timer_arm(changes.shard->io, &changes.timer, io_now_ns(changes.shard->io));
    stage_run(&stage, 5, 0, 0);
    stage_check(&stage, orders_known(&stage) == 1, "it begins");
    stage_run(&stage, 35, 0, 0);
    stage_check(&stage, changes.left == 0, "and once more");
    for (uint16_t i = 0; i < SHARDS; i++)
        stage_check(&stage, stage.product.shards[i]->orders.slab.count_used == 0, "and is over");
    return stage_strike(&stage);
}

/* The shard that owns the order has no room for it: it leads to nothing anywhere. */
static bool there_is_no_room(void)
{
    static struct stage stage;
    const struct terms terms = {.replies = " reply /4.7.28/ mode=backoff scope=source-ip\n"};
    const struct order_facts wanted = order_of_p();
    const struct order_key key = orders_key_of(&wanted);
    uint64_t owner = orders_hash_of(&key) % SHARDS;
    struct changes changes = {.step_ns = 3600 * SECOND_NS, .wanted = wanted, .left = 2};
    struct slab *orders;
    uint32_t index;

    raise_stage(&stage, "there is no room", &terms);
    warm_up(&stage);
    orders = &stage.product.shards[owner]->orders.slab;
    while (slab_alloc(orders, &index))
        ;
    changes.shard = stage.product.shards[(owner + 1) % SHARDS];
    io_timer_init(&changes.timer, change);
    io_timer_arm(changes.shard->io, &changes.timer, io_now_ns(changes.shard->io));
    stage_run(&stage, 20, 0, 0);
    stage_check(&stage, stage.product.shards[owner]->orders.forgotten == 1,
                "it is not known there");
    stage_check(&stage, changes.shard->orders.slab.count_used == 0, "nor where it began");
    stage_check(&stage, in_mode(&stage, false) == 0, "no queue is in backoff mode");
    io_timer_stop(changes.shard->io, &changes.timer);
    for (index = 0; index < ORDER_COUNT_MAX; index++)
        slab_free(orders, index);
    return stage_strike(&stage);
}

int main(void)
{
    const struct terms by_list = {.replies = LINES OWN_MODE};
    const struct terms by_provider = {.replies = OWN_MODE,
                                      .is_unnamed = true,
                                      .global = "<provider p>\n" HOSTS LINES "</provider>\n"};
    bool ok = true;

    quiet_log();
    ok &= a_refusal_counts_for_all("one address is in backoff mode", "source-ip", OF_V, 1);
    ok &= a_refusal_counts_for_all("each of a virtual MTA is", "provider", OF_V, 2);
    ok &= a_refusal_counts_for_all("each of a netblock is", "netblock", OF_P, 2);
    ok &= refusals_are_counted();
    ok &= a_delivery_ends_it();
    ok &= a_reply_ends_it("a reply ends it", &by_list);
    ok &= a_reply_ends_it("a reply ends it, by <provider>", &by_provider);
    ok &= a_queue_comes_later();
    ok &= the_mail_goes_by_others();
    ok &= it_follows_the_provider();
    ok &= queues_come_meanwhile();
    ok &= it_ends_twice();
    ok &= there_is_no_room();
    ok &= its_name_is_long();
    return ok ? 0 : 1;
}
