/*
 * delivery: the variables in file-destination and command: $from $to $user $domain $envid $bodytype
 * $isodate $timet, and $$ for a dollar sign.
 *
 * Their values come from outside. In a path a value loses its slashes, control characters and the
 * dots that it begins with, so no address leads out of a folder; there is no shell anywhere. Pure;
 * any thread.
 */
#pragma once

#include "core/base/text.h"

#include <stdbool.h>
#include <stdint.h>

#define CONF_DELIVERY_TEXT_MAX 1023u /* octets of a file-destination or command */

struct conf_delivery_values {
    struct slice from; /* envelope sender; empty = none */
    struct slice to;   /* the recipient */
    struct slice envelope_id;
    bool is_8bit;
    uint64_t now_us; /* wall clock */
};

/* NULL, or why the text cannot be: a constant. */
const char *conf_delivery_check(const char *text);
/* The text with the values in their places. It was checked. */
void conf_delivery_put(struct slice text, const struct conf_delivery_values *values, bool is_path,
                       struct text *to);
