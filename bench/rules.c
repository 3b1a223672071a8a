#include "bench/rules_int.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <fnmatch.h>
#include <string.h>

struct rules *rules_create(void)
{
    struct rules *rules = mem_alloc(sizeof(*rules));

    rules->pace = 1;
    return rules;
}

void rules_destroy(struct rules *rules)
{
    if (rules == NULL)
        return;
    for (uint32_t i = 0; i < rules->count; i++)
        rule_free(rules->list[i]);
    rules_memory_fini(&rules->memory);
    mem_free(rules);
}

void rules_set_pace(struct rules *rules, double pace)
{
    must(pace >= 1);
    rules->pace = pace;
}

bool rules_speak_of(const struct rules *rules, enum rule_stage stage)
{
    return rules->stage_counts[stage] > 0;
}

bool rules_want_sender(const struct rules *rules)
{
    return rules->wants_sender;
}

uint64_t rules_lag_ms(const struct rules *rules)
{
    return rules->lag_ms;
}

uint32_t rules_offers(const struct rules *rules, uint32_t usual)
{
    return rules->has_offers ? rules->offers : usual;
}

uint32_t rules_count(const struct rules *rules)
{
    return rules->count;
}

uint64_t rules_played(const struct rules *rules, uint32_t index)
{
    must(index < rules->count);
    return rules->list[index]->played;
}

/* ---- Conditions ------------------------------------------------------------------------------ */

static bool glob_matches(const char *pattern, struct slice address)
{
    char room[512];

    if (address.len >= sizeof(room))
        return false;
    memcpy(room, address.data, address.len);
    room[address.len] = '\0';
    return fnmatch(pattern, room, FNM_CASEFOLD) == 0;
}

static bool is_its_time(const struct rule *rule, uint64_t age_ns)
{
    uint64_t at_ns = rule->period_ns == 0 ? age_ns : age_ns % rule->period_ns;

    return at_ns >= rule->after_ns && at_ns < rule->until_ns;
}

/* What costs nothing and changes nothing. */
static bool fits(const struct rule *rule, const struct rule_event *event)
{
    if (!is_its_time(rule, event->age_ns))
        return false;
    if (rule->has_connections && event->client_connections <= rule->connections)
        return false;
    if (rule->has_total && event->all_connections <= rule->total)
        return false;
    if (event->connection_messages < rule->messages ||
        event->connection_commands < rule->commands || event->transaction_rcpts < rule->recipients)
        return false;
    if (rule->has_from && !cidr_contains(&rule->from, event->client))
        return false;
    if (rule->has_at && !cidr_contains(&rule->at, event->called))
        return false;
    if (rule->sender != NULL && !glob_matches(rule->sender, event->sender))
        return false;
    return rule->to == NULL || glob_matches(rule->to, event->rcpt);
}

static struct slice domain_of(struct slice address)
{
    size_t at = slice_find(address, '@');

    return slice_after(address, at < address.len ? at + 1 : at);
}

static uint64_t rate_key(const struct rule *rule, const struct rule_event *event)
{
    struct slice domain = domain_of(event->rcpt);
    uint64_t whom = 0;

    switch (rule->per) {
    case RULE_PER_CLIENT:
        whom = ipaddr_hash(event->client);
        break;
    case RULE_PER_DOMAIN:
        whom = hash_bytes_nocase(domain.data, domain.len);
        break;
    case RULE_PER_RCPT:
        whom = hash_bytes_nocase(event->rcpt.data, event->rcpt.len);
        break;
    case RULE_PER_SENDER:
        whom = hash_bytes_nocase(event->sender.data, event->sender.len);
        break;
    case RULE_PER_ALL:
        break;
    }
    return hash_combine(hash_u64(rule->index), whom);
}

/* Whether the triple is still too new to be let in. */
static bool is_grey(struct rules *rules, const struct rule *rule, const struct rule_event *event)
{
    uint64_t key = hash_combine(hash_u64(rule->index), ipaddr_hash(event->client));
    struct rules_note *note;
    bool is_new;

    key = hash_combine(key, hash_bytes_nocase(event->sender.data, event->sender.len));
    key = hash_combine(key, hash_bytes_nocase(event->rcpt.data, event->rcpt.len));
    note = rules_memory_note(&rules->memory, key, event->age_ns, &is_new);
    if (is_new)
        note->at_ns = event->age_ns;
    return event->age_ns - note->at_ns < rule->grey_ns;
}

/*
 * A bucket that refills evenly, kept as the one time at which it would be full again. An event
 * above the rate takes nothing from it.
 */
static bool is_above_rate(struct rules *rules, const struct rule *rule,
                          const struct rule_event *event)
{
    uint64_t now_ns = event->age_ns;
    uint64_t step_ns = rule->rate_span_ns / rule->rate_count;
    bool is_new;
    struct rules_note *note =
        rules_memory_note(&rules->memory, rate_key(rule, event), now_ns, &is_new);
    uint64_t full_ns = note->at_ns > now_ns ? note->at_ns : now_ns;

    if (now_ns < note->until_ns)
        return true;
    if (full_ns + step_ns - now_ns <= step_ns * rule->rate_count) {
        note->at_ns = full_ns + step_ns;
        return false;
    }
    if (rule->penalty_ns > 0) {
        note->until_ns = now_ns + rule->penalty_ns;
        note->at_ns = 0;
    }
    return true;
}

static bool is_met(struct rules *rules, struct rule *rule, const struct rule_event *event,
                   struct rng *rng)
{
    if (!fits(rule, event))
        return false;
    if (rule->percent >= 0 && (double)rng_below(rng, 1000000) >= rule->percent * 10000)
        return false;
    if (rule->grey_ns > 0 && !is_grey(rules, rule, event))
        return false;
    if (rule->rate_count > 0 && !is_above_rate(rules, rule, event))
        return false;
    rule->met++;
    return rule->met <= rule->first && (rule->every == 0 || rule->met % rule->every == 0);
}

/* ---- Verdicts -------------------------------------------------------------------------------- */

void rules_ask(struct rules *rules, const struct rule_event *event, struct rng *rng,
               struct rule_verdict *ret_verdict)
{
    const uint16_t *list;

    must(event->stage < RULE_STAGE_COUNT);
    list = rules->by_stage[event->stage];
    *ret_verdict = (struct rule_verdict){.action = RULE_BEHAVE, .cut = RULE_UNCUT};
    for (uint32_t i = 0; i < rules->stage_counts[event->stage]; i++) {
        struct rule *rule = rules->list[list[i]];

        if (!is_met(rules, rule, event, rng))
            continue;
        rule->played++;
        ret_verdict->delay_ms += rule->delay_low_ms == rule->delay_high_ms
                                     ? rule->delay_low_ms
                                     : rng_between(rng, rule->delay_low_ms, rule->delay_high_ms);
        if (!rule->decides)
            continue;
        ret_verdict->action = rule->action;
        ret_verdict->reply = rule->reply;
        ret_verdict->reply_len = rule->reply_len;
        ret_verdict->cut = rule->cut;
        ret_verdict->ends = rule->ends;
        return;
    }
}

char rule_verdict_class(const struct rule_verdict *verdict, const char *usual_reply)
{
    if (verdict->action == RULE_BEHAVE)
        return usual_reply[0];
    return verdict->action == RULE_REPLY ? verdict->reply[0] : '\0';
}
