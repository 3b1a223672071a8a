/*
 * histogram: how often which value came, in fixed memory, for latencies and sizes.
 *
 * Log-linear: exact below 64, above that 64 buckets to each power of two, so that a quantile is
 * never more than 1/64 too high and never too low. Values from 2^42 on share the last bucket (42
 * bits of nanoseconds are 73 minutes); count, sum, min and max stay exact. No allocation: embed
 * it, or put it into shared memory. One writer; another thread reads a copy or tolerates a count
 * that is a few records behind.
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_MAX_BITS 42
#define HISTOGRAM_BUCKETS  ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t min; /* UINT64_MAX while empty */
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t value);
/* Adds what `from` holds; any number of histograms merge in any order to the same result. */
void histogram_merge(struct histogram *into, const struct histogram *from);
/*
 * The smallest known bound that at least a part q (0 … 1) of the values does not exceed: q = 0.5 is
 * the median, q = 1 the maximum. 0 while empty.
 */
uint64_t histogram_quantile(const struct histogram *histogram, double q);
/* 0 while empty. */
double histogram_mean(const struct histogram *histogram);

/* For exporters that print buckets: the highest value that falls into bucket `index`. */
uint64_t histogram_bucket_top(uint32_t index);
