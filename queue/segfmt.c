#include "queue/segfmt.h"

#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/must.h"
#include "queue/planted.h"

#include <endian.h>
#include <stdio.h>

static void put16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

static uint16_t get16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

uint32_t segfmt_seed(const uint8_t *uuid, uint32_t serial)
{
    uint8_t bytes[4];
    uint32_t seed = crc32c(0, uuid, SEGFMT_UUID_BYTES);

    if (planted("queue/crc-without-serial"))
        return seed;
    put32(bytes, serial);
    return crc32c(seed, bytes, sizeof(bytes));
}

#define SUPER_IDS     64u
#define SUPER_IDS_CRC (SUPER_IDS + (SEGFMT_DEVICES - 1) * SEGFMT_ID_BYTES)

static bool has_ids(const struct segfmt_super *super)
{
    for (uint32_t i = 1; i < SEGFMT_DEVICES; i++) {
        if (!segfmt_id_is_none(super->ids[i]))
            return true;
    }
    return false;
}

void segfmt_super_encode(const struct segfmt_super *super, uint8_t *block)
{
    bool lists_devices = has_ids(super);

    memset(block, 0, SEGFMT_BLOCK);
    put32(block, SEGFMT_MAGIC_SUPER);
    put16(block + 4, lists_devices ? SEGFMT_VERSION_DEVICES : SEGFMT_VERSION);
    memcpy(block + 8, super->uuid, SEGFMT_UUID_BYTES);
    put64(block + 24, super->life);
    put32(block + 32, super->serial_limit);
    put64(block + 40, super->writes);
    put32(block + 60, crc32c(0, block, 60));
    if (!lists_devices)
        return;
    memcpy(block + SUPER_IDS, super->ids[1], (SEGFMT_DEVICES - 1) * SEGFMT_ID_BYTES);
    put32(block + SUPER_IDS_CRC, crc32c(0, block, SUPER_IDS_CRC));
}

int segfmt_super_decode(const uint8_t *block, struct segfmt_super *ret_super)
{
    bool lists_devices;

    if (get32(block) != SEGFMT_MAGIC_SUPER || get32(block + 60) != crc32c(0, block, 60))
        return E_DAMAGED;
    if (get16(block + 4) != SEGFMT_VERSION && get16(block + 4) != SEGFMT_VERSION_DEVICES)
        return E_VERSION;
    lists_devices = get16(block + 4) == SEGFMT_VERSION_DEVICES;
    if (lists_devices && get32(block + SUPER_IDS_CRC) != crc32c(0, block, SUPER_IDS_CRC))
        return E_DAMAGED;
    memset(ret_super->ids, 0, sizeof(ret_super->ids));
    if (lists_devices)
        memcpy(ret_super->ids[1], block + SUPER_IDS, (SEGFMT_DEVICES - 1) * SEGFMT_ID_BYTES);
    memcpy(ret_super->uuid, block + 8, SEGFMT_UUID_BYTES);
    ret_super->life = get64(block + 24);
    ret_super->serial_limit = get32(block + 32);
    ret_super->writes = get64(block + 40);
    return 0;
}

void segfmt_device_encode(const struct segfmt_device *device, uint8_t *block)
{
    must(device->number > 0 && device->number < SEGFMT_DEVICES);
    memset(block, 0, SEGFMT_BLOCK);
    put32(block, SEGFMT_MAGIC_DEVICE);
    put16(block + 4, SEGFMT_VERSION);
    block[6] = device->number;
    memcpy(block + 8, device->uuid, SEGFMT_UUID_BYTES);
    memcpy(block + 24, device->id, SEGFMT_ID_BYTES);
    put32(block + 60, crc32c(0, block, 60));
}

int segfmt_device_decode(const uint8_t *block, struct segfmt_device *ret_device)
{
    if (get32(block) != SEGFMT_MAGIC_DEVICE || get32(block + 60) != crc32c(0, block, 60))
        return E_DAMAGED;
    if (get16(block + 4) != SEGFMT_VERSION || block[6] == 0 || block[6] >= SEGFMT_DEVICES)
        return E_VERSION;
    ret_device->number = block[6];
    memcpy(ret_device->uuid, block + 8, SEGFMT_UUID_BYTES);
    memcpy(ret_device->id, block + 24, SEGFMT_ID_BYTES);
    return 0;
}

void segfmt_header_encode(const struct segfmt_header *header, uint8_t *block)
{
    memset(block, 0, SEGFMT_BLOCK);
    put32(block, SEGFMT_MAGIC_SEGMENT);
    put16(block + 4, SEGFMT_VERSION);
    block[6] = header->stream;
    block[7] = header->device;
    put32(block + 8, header->serial);
    put16(block + 12, header->slot);
    memcpy(block + 16, header->uuid, SEGFMT_UUID_BYTES);
    put64(block + 32, header->life);
    put64(block + 40, header->segment_bytes);
    put64(block + 48, header->sequence);
    put32(block + 56, header->former);
    put32(block + 60, crc32c(0, block, 60));
    memcpy(block + SEGFMT_HEADER_COPY, block, SEGFMT_HEADER_BYTES);
}

static int header_copy_decode(const uint8_t *copy, struct segfmt_header *ret_header)
{
    if (get32(copy) != SEGFMT_MAGIC_SEGMENT || get32(copy + 60) != crc32c(0, copy, 60))
        return E_DAMAGED;
    if (get16(copy + 4) != SEGFMT_VERSION)
        return E_VERSION;
    if (copy[6] != STREAM_MESSAGES && copy[6] != STREAM_OUTCOMES)
        return E_VERSION;
    ret_header->stream = copy[6];
    ret_header->device = copy[7];
    ret_header->serial = get32(copy + 8);
    ret_header->slot = get16(copy + 12);
    memcpy(ret_header->uuid, copy + 16, SEGFMT_UUID_BYTES);
    ret_header->life = get64(copy + 32);
    ret_header->segment_bytes = get64(copy + 40);
    ret_header->sequence = get64(copy + 48);
    ret_header->former = get32(copy + 56);
    return 0;
}

int segfmt_header_decode(const uint8_t *block, struct segfmt_header *ret_header)
{
    int result = header_copy_decode(block, ret_header);

    if (result == E_DAMAGED)
        result = header_copy_decode(block + SEGFMT_HEADER_COPY, ret_header);
    return result;
}

void segfmt_batch_encode(const struct segfmt_batch *batch, uint32_t seed, uint8_t *room)
{
    memset(room, 0, SEGFMT_BATCH_BYTES);
    put32(room, SEGFMT_MAGIC_BATCH);
    put32(room + 4, batch->serial);
    put64(room + 8, batch->sequence);
    put32(room + 16, batch->records);
    put32(room + 20, batch->bytes);
    put64(room + 24, batch->life);
    room[32] = batch->stream;
    room[33] = batch->device;
    put32(room + 44, crc32c(seed, room, 44));
}

bool segfmt_batch_decode(const uint8_t *data, const uint8_t *uuid, struct segfmt_batch *ret_batch)
{
    uint32_t serial = get32(data + 4);

    if (get32(data) != SEGFMT_MAGIC_BATCH)
        return false;
    if (get32(data + 44) != crc32c(segfmt_seed(uuid, serial), data, 44))
        return false;
    ret_batch->serial = serial;
    ret_batch->sequence = get64(data + 8);
    ret_batch->records = get32(data + 16);
    ret_batch->bytes = get32(data + 20);
    ret_batch->life = get64(data + 24);
    ret_batch->stream = data[32];
    ret_batch->device = data[33];
    return ret_batch->bytes >= SEGFMT_BATCH_BYTES && ret_batch->records > 0;
}

uint32_t segfmt_record_begin(const struct segfmt_record *record, uint32_t seed, uint8_t *room)
{
    must(segfmt_type_is_known(record->type));
    put32(room, SEGFMT_MAGIC_RECORD);
    room[4] = record->type;
    room[5] = record->flags;
    put16(room + 6, 0);
    put32(room + 8, record->payload_bytes);
    put32(room + 12, record->serial);
    put64(room + 16, record->sequence);
    put32(room + 24, crc32c(seed, room, 24));
    return crc32c(0, room, 28);
}

void segfmt_record_finish(uint8_t *room, uint32_t crc)
{
    put32(room + 28, crc);
}

void segfmt_record_encode(const struct segfmt_record *record, uint32_t seed, uint8_t *room)
{
    uint32_t crc = segfmt_record_begin(record, seed, room);

    segfmt_record_finish(room, crc32c(crc, room + SEGFMT_RECORD_BYTES, record->payload_bytes));
}

bool segfmt_record_decode(const uint8_t *data, uint32_t seed, struct segfmt_record *ret_record)
{
    if (get32(data) != SEGFMT_MAGIC_RECORD)
        return false;
    if (get32(data + 24) != crc32c(seed, data, 24))
        return false;
    ret_record->type = data[4];
    ret_record->flags = data[5];
    ret_record->payload_bytes = get32(data + 8);
    ret_record->serial = get32(data + 12);
    ret_record->sequence = get64(data + 16);
    ret_record->crc = get32(data + 28);
    return true;
}

uint32_t segfmt_record_head_crc(const uint8_t *data)
{
    return crc32c(0, data, 28);
}

void segfmt_void_encode(const struct segfmt_void *gone, uint8_t *room)
{
    put32(room, gone->serial);
    put32(room + 4, gone->offset);
    put64(room + 8, gone->first);
    put64(room + 16, gone->last);
}

int segfmt_void_decode(struct slice payload, struct segfmt_void *ret_gone)
{
    if (payload.len != SEGFMT_VOID_BYTES)
        return E_DAMAGED;
    ret_gone->serial = get32(payload.data);
    ret_gone->offset = get32(payload.data + 4);
    ret_gone->first = get64(payload.data + 8);
    ret_gone->last = get64(payload.data + 16);
    return 0;
}

void segfmt_checkpoint_encode(const struct segfmt_checkpoint *point, uint8_t *room)
{
    put64(room, point->number);
    put32(room + 8, point->serial);
    put32(room + 12, point->offset);
}

int segfmt_checkpoint_decode(struct slice payload, struct segfmt_checkpoint *ret_point)
{
    if (payload.len != SEGFMT_CHECKPOINT_BYTES)
        return E_DAMAGED;
    ret_point->number = get64(payload.data);
    ret_point->serial = get32(payload.data + 8);
    ret_point->offset = get32(payload.data + 12);
    return 0;
}

uint32_t segfmt_begin_encode(const struct segfmt_begin *begin, uint8_t *room)
{
    uint32_t at = SEGFMT_CHECKPOINT_BYTES;

    put64(room, begin->number);
    put32(room + 8, begin->places[0].serial);
    put32(room + 12, begin->places[0].offset);
    for (uint32_t i = 1; i < SEGFMT_DEVICES; i++) {
        if (begin->places[i].serial == 0)
            continue;
        put32(room + at, i);
        put32(room + at + 4, begin->places[i].serial);
        put32(room + at + 8, begin->places[i].offset);
        at += SEGFMT_PLACE_BYTES;
    }
    return at;
}

int segfmt_begin_decode(struct slice payload, struct segfmt_begin *ret_begin)
{
    struct segfmt_begin begin = {0};

    if (payload.len < SEGFMT_CHECKPOINT_BYTES ||
        (payload.len - SEGFMT_CHECKPOINT_BYTES) % SEGFMT_PLACE_BYTES != 0)
        return E_DAMAGED;
    begin.number = get64(payload.data);
    begin.places[0].serial = get32(payload.data + 8);
    begin.places[0].offset = get32(payload.data + 12);
    for (size_t at = SEGFMT_CHECKPOINT_BYTES; at < payload.len; at += SEGFMT_PLACE_BYTES) {
        uint32_t device = get32(payload.data + at);
        uint32_t serial = get32(payload.data + at + 4);

        if (device == 0 || device >= SEGFMT_DEVICES || serial == 0 ||
            begin.places[device].serial != 0)
            return E_DAMAGED;
        begin.places[device].serial = serial;
        begin.places[device].offset = get32(payload.data + at + 8);
    }
    *ret_begin = begin;
    return 0;
}

void segfmt_name(uint16_t slot, char *room)
{
    int written = snprintf(room, SEGFMT_NAME_BYTES, "%05u.seg", (unsigned)slot);

    must(written > 0 && written < SEGFMT_NAME_BYTES);
}

bool segfmt_name_parse(const char *name, uint16_t *ret_slot)
{
    uint32_t slot = 0;

    if (strlen(name) != 9 || strcmp(name + 5, ".seg") != 0)
        return false;
    for (int i = 0; i < 5; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        slot = slot * 10 + (uint32_t)(name[i] - '0');
    }
    if (slot >= UINT16_MAX)
        return false;
    *ret_slot = (uint16_t)slot;
    return true;
}
