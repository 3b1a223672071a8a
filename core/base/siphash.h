/*
 * siphash: SipHash-2-4, a keyed 64-bit hash of short texts (Aumasson and Bernstein, 2012).
 *
 * Who does not have the key cannot tell which text a hash belongs to. Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

#define SIPHASH_KEY_BYTES 16

uint64_t siphash(const uint8_t key[SIPHASH_KEY_BYTES], struct slice text);
