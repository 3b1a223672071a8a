/*
 * noted_header: the header fields of a message that accounting files quote, as they travel with
 * its envelope and its outcomes: one after the other, u8 length and name, u16 length and value.
 *
 * Values are those of the first field of a name, without folds. Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/wire.h"

#define NOTED_VALUE_MAX 256 /* octets kept of a value */

/* Appends one; a value is cut at a whole character, and what does not fit is left out. */
void noted_header_put(struct wire_writer *w, struct slice name, struct slice value);
/* The value noted under a name (ASCII case ignored); false when there is none. */
bool noted_header_find(struct slice headers, struct slice name, struct slice *ret_value);
