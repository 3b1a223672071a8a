/*
 * limits: which meters of connections a queue draws on when its mail leaves from a source.
 *
 * What is known of a queue without a message: its virtual MTA's own limit, `<limit>` blocks that
 * fit it, source-ip-max-smtp-out, and those by the hosts of its site. Which blocks fit is kept with
 * the queue while the snapshot stays the same; which hosts match is kept with the site while its
 * addresses do. What a message says besides, its job, its sender's domain and who logged in, is
 * kept as values (policy/scope.h), so that it can be known of the next one without reading it.
 * Without limits it costs a few comparisons. Belongs to the shard's thread.
 */
#pragma once

#include "shard/policy/scope.h"

struct envelope;
struct message;
struct queue;
struct shard;
struct site;

/* The queue has a site. False when the mail would draw on more meters than a claim has room for. */
bool limits_of(struct shard *shard, struct queue *queue, const struct ipaddr *source,
               struct scope_list *ret_meters);
/* What limits go by that count connections by mail. */
struct limits_mail {
    uint64_t fits; /* bit n: the snapshot's n-th block, if it is one of these, fits the message */
    struct scope_mail values;
};

struct slice limits_sender_domain(const struct envelope *envelope);
struct scope_mail limits_mail_values(const struct envelope *envelope);
/* Whether the limit, which fits the message's queue, counts the message: nobody is the user of mail
 * that came without a login. */
bool limits_fit_mail(const struct conf_limit *limit, const struct envelope *envelope);
/* Of shard->mail_slots.blocks. */
void limits_read_mail(const struct shard *shard, const struct message *message,
                      struct limits_mail *ret_mail);
/* The meters that such mail of the queue, which has a site, draws on for as long as it is under
 * way. False, and none, when they cannot be told: source is NULL, and some count by it. */
bool limits_of_mail(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                    const struct limits_mail *mail, struct scope_list *ret_meters);
/* What a queue is to scopes, but for mail. source: NULL where none counts by it. */
struct scope_facts limits_facts(const struct shard *shard, const struct queue *queue,
                                const struct ipaddr *source);
/* Bit n: the n-th of the snapshot's blocks fits the queue, as far as that is known without a
 * message. */
uint64_t limits_of_blocks(const struct shard *shard, struct queue *queue);
/* Bit n: the n-th of the snapshot's limits by host counts connections to the site. */
uint64_t limits_of_hosts(struct shard *shard, struct site *site);
/* The site's addresses have changed. */
void limits_forget_hosts(struct site *site);
