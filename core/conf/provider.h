/*
 * provider: who runs the receiving hosts, and what is known of them.
 *
 * A provider is named by <provider NAME>: in the pack that ships with the program
 * (core/pack/providers.conf) or in the user's file, which adds to a section of the same name there.
 * It has a number that the process gives once to its name and never to another. Hosts that no
 * provider's `mx` names are their site's own provider, whose number follows from the hash of the
 * site; no number is both. Which one it is follows from the MX hosts alone.
 *
 * What a provider's sections say counts beneath every directive of the user's: a <domain> that
 * names a keyword takes that one out of the pack. The shipped ones count with `provider-pack on`
 * alone, the user's own always. Pure functions of the snapshot; any thread. What is returned lives
 * as long as the snapshot.
 */
#pragma once

#include "core/conf/conf.h"

#define CONF_PROVIDER_NONE 0u /* not known yet */

enum conf_provider_pack {
    CONF_PACK_OFF,
    CONF_PACK_ADVISE, /* what it would change is said, and nothing done */
    CONF_PACK_ON,
};

enum conf_provider_tier {
    CONF_TIER_NEW,
    CONF_TIER_WARMING,
    CONF_TIER_ESTABLISHED,
    CONF_TIER_HIGH,
    CONF_TIERS,
};

/* ---- Identity ------------------------------------------------------------------------------ */

/* The provider that a section names for an MX host or NONE; the longest suffix decides. */
uint64_t conf_provider_of_host(const struct conf *conf, struct slice host);
/* The one by whose `domain` lines a domain is; a guess, before its MX hosts are known. */
uint64_t conf_provider_of_domain(const struct conf *conf, struct slice domain);
/* That of hosts that no section names, from mx_answer.site_hash or conf_queue.route_hash. */
uint64_t conf_provider_of_site(uint64_t site_hash);
bool conf_provider_is_site(uint64_t provider);
/* The number of a name, whether the snapshot has it or not; NONE when memory is short. */
uint64_t conf_provider_named(struct slice name);
/* NULL for a site's own and NONE; lives as long as the process. */
const char *conf_provider_name(uint64_t provider);
/* Each of its sites is a customer of its own, with limits of its own (Microsoft 365). */
bool conf_provider_has_tenants(const struct conf *conf, uint64_t provider);

/* ---- Limits -------------------------------------------------------------------------------- */

/* Whether any section has a say; without, everything here is as if there were no provider. */
bool conf_providers_act(const struct conf *conf);
/*
 * conf_queue for a queue whose MX hosts are the provider's: what its sections say in the tier of
 * the virtual MTA stands beneath the blocks, and the limits of the provider as a whole, less what a
 * block speaks of itself, are in provider_limits.
 */
void conf_queue_at(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                   uint64_t provider, struct conf_queue *ret_queue);

/* ---- Replies ------------------------------------------------------------------------------- */

/*
 * What the provider's sections say of a reply: the first line that matches, of the user's and then
 * of the pack's. NULL when there is none. To be asked when no line of the queue's own
 * <smtp-pattern-list> matches. A rule with actions 0 says that the reply means nothing. text: the
 * reply in one line (verdict_in_one_line). scratch: of the calling thread.
 */
const struct conf_reply_rule *conf_provider_reply(const struct conf *conf, uint64_t provider,
                                                  struct slice text, struct regex_scratch *scratch);
/* Whether a line of the user's ends a mode there, which a reply that takes a message may say: else
 * those need not be asked about. */
bool conf_provider_heeds_success(const struct conf *conf, uint64_t provider);
/* Tells every line that counts at the provider and asks for a share of the attempts (trigger=PCT),
 * in no order. Of none it costs nothing. */
typedef void conf_provider_share_fn(void *context, const struct conf_reply_rule *rule);
void conf_provider_shares(const struct conf *conf, uint64_t provider, conf_provider_share_fn *tell,
                          void *context);
/*
 * What <provider *> does where no line matches and the classifier advises something: its reaction
 * (hold, or else slow) and scope. NULL for nothing.
 */
const struct conf_reply_rule *conf_provider_reaction(const struct conf *conf, bool hold,
                                                     enum conf_reply_scope scope);
