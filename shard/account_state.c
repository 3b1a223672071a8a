/*
 * The state of one accounting file: two slots in one small file, written in turn, so that a torn
 * write always leaves the former state whole. Each slot lies in a block of its own:
 *
 *   u32 CRC-32C of the rest of the slot      u32 magic      u16 version
 *   u64 sequence      place: u32 serial, u32 offset, u32 bytes, u16 slot
 *   u64 bytes         u64 opened_us          str16 name     zeros
 */
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/account_int.h"

#include <errno.h>
#include <stdio.h>

#define SLOT_BYTES    ACCOUNT_SLOT_BYTES
#define SLOT_SPACING  4096u
#define STATE_MAGIC   0x54434341u /* "ACCT" */
#define STATE_VERSION 1u

static void encode_slot(const struct account_state *state, uint8_t *slot)
{
    struct wire_writer w;

    memset(slot, 0, SLOT_BYTES);
    wire_writer_init(&w, slot + sizeof(uint32_t), SLOT_BYTES - sizeof(uint32_t));
    wire_put_u32(&w, STATE_MAGIC);
    wire_put_u16(&w, STATE_VERSION);
    wire_put_u64(&w, state->sequence);
    wire_put_u32(&w, state->place.serial);
    wire_put_u32(&w, state->place.offset);
    wire_put_u32(&w, state->place.bytes);
    wire_put_u16(&w, state->place.slot);
    wire_put_u64(&w, state->bytes);
    wire_put_u64(&w, state->opened_us);
    wire_put_str16(&w, slice_str(state->name));
    wire_writer_init(&w, slot, sizeof(uint32_t));
    wire_put_u32(&w, crc32c(0, slot + sizeof(uint32_t), SLOT_BYTES - sizeof(uint32_t)));
}

/* 0, E_DAMAGED, or E_VERSION. */
static int decode_slot(const uint8_t *slot, struct account_state *ret_state)
{
    struct account_state state = {0};
    struct wire_reader r;
    struct slice name;

    wire_reader_init(&r, slot, SLOT_BYTES);
    if (wire_get_u32(&r) != crc32c(0, slot + sizeof(uint32_t), SLOT_BYTES - sizeof(uint32_t)) ||
        wire_get_u32(&r) != STATE_MAGIC)
        return E_DAMAGED;
    if (wire_get_u16(&r) != STATE_VERSION)
        return E_VERSION;
    state.sequence = wire_get_u64(&r);
    state.place.serial = wire_get_u32(&r);
    state.place.offset = wire_get_u32(&r);
    state.place.bytes = wire_get_u32(&r);
    state.place.slot = wire_get_u16(&r);
    state.bytes = wire_get_u64(&r);
    state.opened_us = wire_get_u64(&r);
    name = wire_get_str16(&r);
    if (r.failed || name.len >= sizeof(state.name) || slice_find(name, '/') < name.len)
        return E_DAMAGED;
    memcpy(state.name, name.data, name.len);
    *ret_state = state;
    return 0;
}

static int read_slots(struct account *account)
{
    int damaged = 0;

    for (uint64_t i = 0; i < 2; i++) {
        uint8_t slot[SLOT_BYTES] = {0};
        struct account_state state;
        int result;
        int64_t got =
            io_file_read_now(account->io, account->state_fd, slot, sizeof(slot), i * SLOT_SPACING);

        if (got < 0)
            return (int)got;
        if (memcmp(slot, (uint8_t[SLOT_BYTES]){0}, SLOT_BYTES) == 0)
            continue;
        result = decode_slot(slot, &state);
        if (result == E_VERSION)
            return result;
        if (result < 0)
            damaged++;
        else if (state.sequence > account->state.sequence)
            account->state = state;
    }
    if (damaged > 0 && account->state.sequence == 0)
        log_error("accounting: the state of %s is damaged; all outcomes that the spool still "
                  "holds will be written again",
                  account->path);
    return 0;
}

/*
 * Both slots lie inside the file before the first of them is written, and durably: later writes
 * need neither a new block, which a full disk would refuse, nor a new size, which a failed sync
 * might forget.
 */
static int make_slots(struct account *account)
{
    static const uint8_t zeros[SLOT_SPACING + SLOT_BYTES];
    int64_t result = io_file_truncate(account->io, account->state_fd, 0);

    if (result >= 0)
        result = io_file_write_now(account->io, account->state_fd, zeros, sizeof(zeros), 0);
    if (result >= 0 && result != sizeof(zeros))
        result = -EIO;
    if (result >= 0)
        result = io_file_sync_now(account->io, account->state_fd);
    return result < 0 ? (int)result : 0;
}

/* Named by the configured path, so that the order of the configuration does not matter. */
int account_state_open(struct account *account)
{
    const unsigned flags = IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE;
    char name[64];
    char *path;
    int result;

    snprintf(name, sizeof(name), "accounting-%08x",
             crc32c(0, account->path, strlen(account->path)));
    path = account_join(account->state_dir, name);
    result = io_file_open(account->io, path, flags, &account->state_fd);
    mem_free(path);
    if (result < 0)
        return result;
    result = read_slots(account);
    if (result < 0 || account->state.sequence > 0)
        return result;
    return make_slots(account);
}

void account_state_close(struct account *account)
{
    if (account->state_fd >= 0)
        io_close_now(account->io, account->state_fd);
    account->state_fd = -1;
}

/* Into the slot of its sequence, durably. */
static int write_slot(struct account *account, const struct account_state *state)
{
    uint8_t slot[SLOT_BYTES];
    int64_t result;

    encode_slot(state, slot);
    result = io_file_write_now(account->io, account->state_fd, slot, sizeof(slot),
                               state->sequence % 2 * SLOT_SPACING);
    if (result < 0)
        return (int)result;
    if (result != sizeof(slot))
        return -EIO;
    result = io_file_sync_now(account->io, account->state_fd);
    if (result < 0)
        return (int)result;
    if (!account->state_is_named) {
        result = io_dir_sync(account->io, account->state_dir);
        if (result < 0)
            return (int)result;
    }
    account->state_is_named = true;
    account->state_is_durable = true;
    return 0;
}

int account_state_confirm(struct account *account)
{
    if (account->state_is_durable || account->state.sequence == 0)
        return 0;
    return write_slot(account, &account->state);
}

void account_state_store_begin(struct account *account, const struct account_state *next)
{
    account->next = *next;
    account->next.sequence = account->state.sequence + 1;
    account->state_is_uncertain = true;
    encode_slot(&account->next, account->slot);
    io_write(account->io, &account->op, account->state_fd, account->slot, SLOT_BYTES,
             account->next.sequence % 2 * SLOT_SPACING, true);
}

int account_state_store_end(struct account *account, int32_t result)
{
    if (result < 0)
        return result;
    if (result != (int32_t)SLOT_BYTES)
        return -EIO;
    account->state_is_uncertain = false;
    account->state = account->next;
    return 0;
}

int account_state_store(struct account *account, const struct account_state *next)
{
    struct account_state state = *next;
    /* The other slot may be overwritten only when this one is known to be on the disk. */
    int result = account_state_confirm(account);

    if (result < 0)
        return result;
    state.sequence = account->state.sequence + 1;
    account->state_is_uncertain = true;
    result = write_slot(account, &state);
    if (result < 0)
        return result;
    account->state_is_uncertain = false;
    account->state = state;
    return 0;
}
