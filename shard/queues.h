/*
 * queues: the queues that a shard owns: deferred recipients, pause, rest, expiry, local verdicts.
 *
 * Every change of a queue ends in queues_reconsider, which puts it in line at a lane, asks for a
 * resolution, or notes what it waits for. Times to wait are monotonic nanoseconds (_ns) or delays
 * in ms; _us is the wall clock. Belongs to the shard's thread. Failures are of memory alone, and
 * leave a recipient where it was.
 */
#pragma once

#include "core/base/heap.h"
#include "core/base/slice.h"
#include "core/base/text.h"
#include "shard/report.h"

struct handoff;
struct queue;
struct queued;
struct shard;
struct verdict;

enum take {
    TAKE_DONE,
    TAKE_NO_ROOM,   /* try again */
    TAKE_ELSEWHERE, /* the queue is not this shard's */
};

void queues_init(struct shard *shard);
void queues_fini(struct shard *shard);
/* Takes a recipient over from its home. *ret_owner: written for TAKE_ELSEWHERE: who to ask. */
enum take queues_take(struct shard *shard, const struct handoff *handoff, uint16_t *ret_owner);
/* The claim on the message in memory ends with the outcome on its way: what is needed of it is
 * kept. */
void queues_cool(struct queued *queued);
/* The recipient has its final outcome and is in no list any more. */
void queues_drop(struct shard *shard, uint32_t queued_index);
struct queue *queues_find(struct shard *shard, struct slice domain, uint32_t vmta_id);
/* The queue, made if need be, as this shard's; NULL when there is no room. */
struct queue *queues_obtain(struct shard *shard, struct slice domain, uint32_t vmta_id);
/* Whether the configuration gives the mail of the queue to another one, be it by the queue's MX
 * hosts or by its mode. */
bool queues_hand_on(const struct shard *shard, const struct queue *queue);
/* Nothing may keep the queue any more: it is freed in a while, unless it is needed again. */
void queues_release(struct shard *shard, struct queue *queue);
/* How long a queue or a route that nobody needs is kept at present. */
uint64_t queues_keep_ns(const struct shard *shard);
/* About the size of the next message's content, rounded up; 0 when there is none. */
uint64_t queues_next_octets(const struct queue *queue);
void queues_defer(struct shard *shard, uint32_t queued_index, uint64_t due_us);
/* The recipient that this entry of the heap is for, when the entry counts; else NULL. */
const struct queued *queues_deferred_at(const struct shard *shard, const struct heap_entry *entry);
/* Something is ready, and nothing but a connection is missing. */
bool queues_can_send(const struct shard *shard, const struct queue *queue);
/* The recipients end here by the configuration, now. */
bool queues_ends_here(const struct shard *shard, const struct queue *queue);
/* Whatever changed: waits at a lane, asks for a resolution, or says why not. */
void queues_reconsider(struct shard *shard, struct queue *queue);
void queues_set_reason(struct shard *shard, struct queue *queue, enum wait_reason reason);
/* The destination cannot be reached: no attempt before a delay that grows with each failure. */
void queues_rest(struct shard *shard, struct queue *queue, const struct verdict *verdict);
/* The same for a delay of the caller's, without counting a failure. */
void queues_rest_for(struct shard *shard, struct queue *queue, const struct verdict *verdict,
                     uint64_t delay_ms);
/* The same without counting a failure and for no reason of the destination's: at_ns. */
void queues_wait_until(struct shard *shard, struct queue *queue, uint64_t at_ns,
                       enum wait_reason reason);
/* The same without counting a failure: looked at again after delay_ms. */
void queues_wait(struct shard *shard, struct queue *queue, uint64_t delay_ms,
                 enum wait_reason reason);
/* DNS has addresses for the domain: what it said before counts no more. */
void queues_end_doubt(struct shard *shard, struct queue *queue);
void queues_note_success(struct shard *shard, struct queue *queue);
/* Looks at the queue again at rest_until_ns. */
void queues_wake_at(struct shard *shard, struct queue *queue, uint64_t at_ns);
/* Refused for ever: every ready recipient accepted before a time (0 = any). Returns how many. */
uint32_t queues_fail_all(struct shard *shard, struct queue *queue, const struct verdict *verdict,
                         uint64_t older_than_us);
/* The same for every recipient, those that wait for their next attempt too: a reply says so. */
void queues_bounce(struct shard *shard, struct queue *queue, const struct verdict *verdict);
/* Every recipient ends by operator's order; returns how many. */
uint32_t queues_delete(struct shard *shard, struct queue *queue, uint64_t older_than_us);
/* Every deferred recipient is due now and the rest is over; returns how many. */
uint32_t queues_schedule(struct shard *shard, struct queue *queue);
/* Due recipients, local work, what is idle too long; called each turn. */
void queues_turn(struct shard *shard);
/* domain/vmta; queues_name terminates it with a NUL. */
void queues_put_name(const struct shard *shard, const struct queue *queue, struct text *text);
void queues_name(const struct shard *shard, const struct queue *queue, char *room,
                 size_t room_bytes);
void queues_note_error(struct shard *shard, struct queue *queue, const struct verdict *verdict);
/* The same of a queue that need not exist. */
void queues_put_name_of(const struct shard *shard, struct slice domain, uint32_t vmta_id,
                        struct text *text);
/* Monotonic time of a wall clock time, by today's difference of the two. */
uint64_t queues_monotonic_of(const struct shard *shard, uint64_t wall_us);
/* The first in line ends when its time is over. */
void queues_expire(struct shard *shard, struct queue *queue);
