/*
 * state: what the room adds to the codecs of spool.h: reading named state back. Pure functions.
 */
#pragma once

#include "queue/spool.h"

/* Slices point into data. 0, or E_DAMAGED. */
int log_named_decode(struct slice data, struct log_named *ret_named);
