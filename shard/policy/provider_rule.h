/*
 * provider_rule: what is known of a reply at the provider that gave it.
 *
 * The user's <provider> sections and the shipped ones are asked for a line that matches the reply
 * (core/conf/provider.h); where none does, the classifier says whether the reply asks for slowing
 * or holding, of what, and <provider *> what that means. To be asked when no line of the queue's
 * own <smtp-pattern-list> matches, so that the user's word beats the pack's. What is not the
 * receiver's own reply leads to nothing. Costs nothing where no section has a say, else a few
 * microseconds. Pure function of its arguments.
 */
#pragma once

#include "core/conf/provider.h"
#include "core/mail/verdict.h"

/*
 * NULL for nothing; else a rule of the snapshot's, whose actions may be 0. provider:
 * CONF_PROVIDER_NONE when it is not known. host: the MX host, may be empty. scratch: of the calling
 * thread.
 */
const struct conf_reply_rule *provider_rule(const struct conf *conf, uint64_t provider,
                                            const struct verdict *verdict, struct slice host,
                                            struct regex_scratch *scratch);
