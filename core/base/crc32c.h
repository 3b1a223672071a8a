/*
 * crc32c: Castagnoli CRC (polynomial 0x1EDC6F41, reflected), as iSCSI and ext4 use it.
 *
 * crc32c("123456789") is 0xE3069283. Uses the SSE4.2 instruction where the CPU has it, a table
 * elsewhere. Continue a running value by passing it back in. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* crc: 0 for a new checksum, or the value so far. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
