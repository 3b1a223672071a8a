/*
 * reports: the shard's answers to control: counters, rows, orders (report.h says what they hold).
 *
 * A report is control's memory, lent to the shard until it goes home. Belongs to the shard's
 * thread.
 */
#pragma once

struct report;
struct shard;

void reports_on_request(struct shard *shard, struct report *report);
/* Rows of another shard's recipients: those at home here learn where their message lies. */
void reports_on_list(struct shard *shard, struct report *report);
/* One durable order less to wait for. */
void reports_on_persisted(struct shard *shard, struct report *report);
void reports_on_stopped(struct shard *shard);
