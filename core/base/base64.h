/*
 * base64: RFC 4648 section 4, strictly: whole groups of four, padding only at the end, no blanks,
 * unused bits zero. Pure functions, any thread.
 */
#pragma once

#include "core/base/slice.h"

/* Characters that so many octets become. */
#define BASE64_BYTES(octets) (((octets) + 2) / 3 * 4)

/* Octets written, or E_SYNTAX, or E_TOO_LONG when they do not fit. Empty text is no octets. */
int base64_decode(struct slice text, void *room, size_t room_bytes);
/* Characters written (no NUL), or E_TOO_LONG. */
int base64_encode(struct slice octets, char *room, size_t room_bytes);
