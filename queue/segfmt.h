/*
 * segfmt: the disk format of the spool, byte by byte.
 *
 * A spool is one directory or several, each meant for a disk of its own: its *devices*, of which
 * the first has number 0. Each holds up to 9216 segment files (65534 where there is but one
 * device), "00000.seg" and so on: the number in the name is the segment's slot there. Where a
 * record names a slot it is by 9216 times the device's number more. The first device holds the
 * superblock, every other one an identity. All integers are little-endian. CRC32C means crc32c()
 * of core/base, started with 0 or with the running value that is named.
 *
 * Superblock ("super" on the first device, 8192 bytes): two blocks of 4096, write n goes to block
 * n % 2, so that the one before is never touched while the new one is written. Fields of each:
 *    0  u32  magic "RPSB"
 *    4  u16  version                     1; 2 when further devices are listed. Others are refused
 *    6  u16  zero
 *    8  u8   uuid[16]                    random, made once with the spool
 *   24  u64  life                        number of this start of the spool, from 1
 *   32  u32  serial_limit                serials below it may be in use; never given out again
 *   36  u32  zero
 *   40  u64  writes                      number of this write, from 1; the higher one counts
 *   48  u8   zero[12]
 *   60  u32  CRC32C of bytes 0 to 59
 * and with version 2 (a build that knows but one directory must not open such a spool):
 *   64  u8   id[6][16]                   of the devices 1 to 6; zeros = there is none
 *  160  u32  CRC32C of bytes 0 to 159
 *
 * Identity ("device" on every device but the first, 8192 bytes): the same block of 4096 twice,
 * written before the superblock names the device, never changed. Fields:
 *    0  u32  magic "RPDV"
 *    4  u16  version                     SEGFMT_VERSION
 *    6  u8   number                      1 to 6
 *    7  u8   zero
 *    8  u8   uuid[16]                    of the spool
 *   24  u8   id[16]                      random, made once with the device
 *   40  u8   zero[20]
 *   60  u32  CRC32C of bytes 0 to 59
 *
 * Segment (segment_bytes, a multiple of 4096): one header block, then batches. The header stands
 * twice in the block, at 0 and at 2048, so that one bad sector costs nothing. Fields of each copy:
 *    0  u32  magic "RPSG"
 *    4  u16  version
 *    6  u8   stream                      1 messages, 2 outcomes (on the first device only)
 *    7  u8   device                      number of the device it lies on
 *    8  u32  serial                      the epoch of this use of the file; unique for ever
 *   12  u16  slot
 *   14  u16  zero
 *   16  u8   uuid[16]
 *   32  u64  life                        that wrote it
 *   40  u64  segment_bytes
 *   48  u64  sequence                    the next one when the header was written
 *   56  u32  former                      serial of the segment before it in its stream and on its
 *                                      device, 0 = none
 *   60  u32  CRC32C of bytes 0 to 59
 *
 * Batch: what one commit wrote. It starts at a multiple of 4096 and is padded with zeros to the
 * next one, so that no later commit touches a block that holds acknowledged bytes.
 *    0  u32  magic "RPBT"
 *    4  u32  serial                      of the segment
 *    8  u64  sequence                    of its first record
 *   16  u32  records
 *   20  u32  bytes                       this header and all records, without the final padding
 *   24  u64  life
 *   32  u8   stream
 *   33  u8   device
 *   34  u8   zero[10]
 *   44  u32  CRC32C of bytes 0 to 43, started with the segment's seed
 * It covers the header only: each record sums up its own bytes, so a hole inside a batch of many
 * blocks is seen where it is and costs only the records it touches.
 *
 * Record: starts at a multiple of 8, is contiguous within one segment and padded with zeros to the
 * next multiple of 8.
 *    0  u32  magic "RPRC"
 *    4  u8   type                        enum record_type; an unknown one is refused (E_VERSION)
 *    5  u8   flags                       enum record_flags
 *    6  u16  zero
 *    8  u32  payload_bytes
 *   12  u32  serial                      of the segment
 *   16  u64  sequence                    one series over both streams and all devices
 *   24  u32  CRC32C of bytes 0 to 23, started with the segment's seed
 *   28  u32  CRC32C of bytes 0 to 27 and the payload, started with 0
 *   32       payload
 * The two sums serve two ends. The first says that the length can be trusted although the payload
 * is damaged, and since the seed depends on the uuid, which never leaves the spool, bytes inside
 * somebody's mail cannot pass for a record when a damaged header makes the scan look into them.
 * The second covers everything and can be checked without knowing the uuid.
 *
 * Seed of a segment: CRC32C of uuid[16] and serial (u32). The serial is therefore inside every
 * sum: what a recycled file still holds from its former use is not valid in the new one.
 *
 * Payloads by type:
 *   MESSAGE           message stream: envelope (envelope.h), header prefix, body. Flag
 *                     RECORD_RELOGGED: a copy that a recovery made of a record that it read and
 *                     that may not have been durable; it counts instead of the one before it
 *   OUTCOME           outcome.h. Flag RECORD_MESSAGE_DONE: every recipient is final with it
 *   STATE             log_message_state (spool.h)
 *   NAMED             log_named (spool.h)
 *   VOID              u32 serial, u32 offset, u64 first, u64 last: the records of that segment with
 *                     these sequences, all at or behind offset, never happened
 *   CHECKPOINT_BEGIN  u64 number, u32 serial, u32 offset: place in the first device's message
 *                     stream before which every live message gets a STATE record before
 *                     CHECKPOINT_END. Then for each further device u32 number, u32 serial, u32
 *                     offset: the same of its stream. A device that is not named is read whole
 *   CHECKPOINT_END    u64 number, u32 serial, u32 offset (of its CHECKPOINT_BEGIN)
 *   CHUNK             message stream: u64 message id, u32 number from 0, then octets of the
 *                     content. Counts for nothing unless a COMMIT names it
 *   COMMIT            message stream: envelope, u32 chunks, per chunk the 20 bytes below, then what
 *                     of the content stands in no chunk. It makes a message of its chunks, which
 *                     were durable before it was written. Flag RECORD_RELOGGED as for MESSAGE.
 *                     The chunks and the rest, one behind the other, are header prefix and body:
 *                       0  u32  serial      of the chunk's segment
 *                       4  u32  offset      of its record's header
 *                       8  u32  octets      of the content in it, at least 1
 *                      12  u32  CRC32C of these octets, started with 0
 *                      16  u16  slot        of the segment, where the COMMIT itself is kept too
 *                      18  u16  flags       1: written for this COMMIT, not taken over from the one
 *                                           before it (a message that was moved in part)
 * All but MESSAGE, CHUNK and COMMIT live in the outcome stream.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/wire.h"

#define SEGFMT_VERSION          1
#define SEGFMT_VERSION_DEVICES  2u    /* of a superblock that lists further devices */
#define SEGFMT_DEVICES          7u    /* numbers: 0 is the first */
#define SEGFMT_DEVICE_SLOTS     9216u /* of each, where there are several */
#define SEGFMT_ID_BYTES         16u
#define SEGFMT_BLOCK            4096u
#define SEGFMT_HEADER_COPY      2048u
#define SEGFMT_HEADER_BYTES     64u
#define SEGFMT_SUPER_BYTES      8192u
#define SEGFMT_BATCH_BYTES      48u
#define SEGFMT_RECORD_BYTES     32u
#define SEGFMT_RECORD_ALIGN     8u
#define SEGFMT_UUID_BYTES       16u
#define SEGFMT_SEGMENT_MIN      65536u
#define SEGFMT_SEGMENT_MAX      (1u << 30)
#define SEGFMT_VOID_BYTES       24u
#define SEGFMT_CHECKPOINT_BYTES 16u
#define SEGFMT_PLACE_BYTES      12u
#define SEGFMT_BEGIN_BYTES_MAX  88u /* 16, and a place for each but the first */

#define SEGFMT_MAGIC_SUPER   0x42535052u /* "RPSB" */
#define SEGFMT_MAGIC_DEVICE  0x56445052u /* "RPDV" */
#define SEGFMT_MAGIC_SEGMENT 0x47535052u /* "RPSG" */
#define SEGFMT_MAGIC_BATCH   0x54425052u /* "RPBT" */
#define SEGFMT_MAGIC_RECORD  0x43525052u /* "RPRC" */

enum segfmt_stream {
    STREAM_MESSAGES = 1,
    STREAM_OUTCOMES = 2,
};

enum record_type {
    RECORD_MESSAGE = 1,
    RECORD_OUTCOME = 2,
    RECORD_STATE = 3,
    RECORD_NAMED = 4,
    RECORD_VOID = 5,
    RECORD_CHECKPOINT_BEGIN = 6,
    RECORD_CHECKPOINT_END = 7,
    RECORD_CHUNK = 8,
    RECORD_COMMIT = 9,
};

enum record_flags {
    RECORD_MESSAGE_DONE = 1,
    RECORD_RELOGGED = 2,
};

struct segfmt_super {
    uint8_t uuid[SEGFMT_UUID_BYTES];
    uint64_t life;
    uint32_t serial_limit;
    uint64_t writes;
    uint8_t ids[SEGFMT_DEVICES][SEGFMT_ID_BYTES]; /* by number; zeros = none; [0] is not stored */
};

struct segfmt_device {
    uint8_t uuid[SEGFMT_UUID_BYTES];
    uint8_t id[SEGFMT_ID_BYTES];
    uint8_t number;
};

struct segfmt_header {
    uint8_t uuid[SEGFMT_UUID_BYTES];
    uint8_t stream;
    uint8_t device;
    uint16_t slot;
    uint32_t serial;
    uint64_t life;
    uint64_t segment_bytes;
    uint64_t sequence;
    uint32_t former;
};

struct segfmt_batch {
    uint8_t stream;
    uint8_t device;
    uint32_t serial;
    uint32_t records;
    uint32_t bytes;
    uint64_t sequence;
    uint64_t life;
};

struct segfmt_record {
    uint8_t type;
    uint8_t flags;
    uint32_t payload_bytes;
    uint32_t serial;
    uint64_t sequence;
    uint32_t crc; /* decode only: what the payload must sum up to, see segfmt_record_head_crc */
};

struct segfmt_void {
    uint32_t serial;
    uint32_t offset;
    uint64_t first;
    uint64_t last;
};

struct segfmt_checkpoint {
    uint64_t number;
    uint32_t serial;
    uint32_t offset;
};

/* A place in the message stream of one device; serial 0 = none is named. */
struct segfmt_place {
    uint32_t serial;
    uint32_t offset;
};

struct segfmt_begin {
    uint64_t number;
    struct segfmt_place places[SEGFMT_DEVICES]; /* by device number */
};

static inline uint64_t segfmt_align(uint64_t bytes, uint64_t alignment)
{
    return (bytes + alignment - 1) & ~(alignment - 1);
}

/* Room that a record takes in its batch. */
static inline uint64_t segfmt_record_room(uint64_t payload_bytes)
{
    return segfmt_align(SEGFMT_RECORD_BYTES + payload_bytes, SEGFMT_RECORD_ALIGN);
}

uint32_t segfmt_seed(const uint8_t *uuid, uint32_t serial);

/* Each writes exactly the size named above; the block versions fill a whole zeroed block. */
void segfmt_super_encode(const struct segfmt_super *super, uint8_t *block);
void segfmt_header_encode(const struct segfmt_header *header, uint8_t *block);
void segfmt_batch_encode(const struct segfmt_batch *batch, uint32_t seed, uint8_t *room);
/*
 * Writes the record's header in front of its payload, which stands contiguous at
 * room + SEGFMT_RECORD_BYTES. With payload_crc_of the payload may be elsewhere: it is the running
 * sum over the first 28 bytes that segfmt_record_begin returned, continued over the payload.
 */
void segfmt_record_encode(const struct segfmt_record *record, uint32_t seed, uint8_t *room);
uint32_t segfmt_record_begin(const struct segfmt_record *record, uint32_t seed, uint8_t *room);
void segfmt_record_finish(uint8_t *room, uint32_t crc);

/* 0, E_DAMAGED, or E_VERSION (magic and sum are right, the version is not ours). */
int segfmt_super_decode(const uint8_t *block, struct segfmt_super *ret_super);
/* Blocks of the identity. */
void segfmt_device_encode(const struct segfmt_device *device, uint8_t *block);
int segfmt_device_decode(const uint8_t *block, struct segfmt_device *ret_device);
/* Tries both copies in the block. */
int segfmt_header_decode(const uint8_t *block, struct segfmt_header *ret_header);
/* The seed follows from uuid and the batch's own serial; compare the serial where it is known. */
bool segfmt_batch_decode(const uint8_t *data, const uint8_t *uuid, struct segfmt_batch *ret_batch);
/* Checks the header's own sum; the payload must then continue segfmt_record_head_crc(data) to
 * ret_record->crc. */
bool segfmt_record_decode(const uint8_t *data, uint32_t seed, struct segfmt_record *ret_record);
uint32_t segfmt_record_head_crc(const uint8_t *data);

void segfmt_void_encode(const struct segfmt_void *gone, uint8_t *room);
int segfmt_void_decode(struct slice payload, struct segfmt_void *ret_gone);
void segfmt_checkpoint_encode(const struct segfmt_checkpoint *point, uint8_t *room);
int segfmt_checkpoint_decode(struct slice payload, struct segfmt_checkpoint *ret_point);
/* Bytes written into room of SEGFMT_BEGIN_BYTES_MAX. */
uint32_t segfmt_begin_encode(const struct segfmt_begin *begin, uint8_t *room);
int segfmt_begin_decode(struct slice payload, struct segfmt_begin *ret_begin);

static inline bool segfmt_id_is_none(const uint8_t *id)
{
    static const uint8_t none[SEGFMT_ID_BYTES];

    return memcmp(id, none, SEGFMT_ID_BYTES) == 0;
}

/* Whether this build knows the type; a valid record of another one stops the start. */
static inline bool segfmt_type_is_known(uint8_t type)
{
    return type >= RECORD_MESSAGE && type <= RECORD_COMMIT;
}

#define SEGFMT_NAME_BYTES 16
/* "00042.seg" into room of SEGFMT_NAME_BYTES. */
void segfmt_name(uint16_t slot, char *room);
/* False when name is not that of a segment file. */
bool segfmt_name_parse(const char *name, uint16_t *ret_slot);
