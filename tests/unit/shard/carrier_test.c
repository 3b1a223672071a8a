/* The carrier with real files and programs, and a shard that is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/conf/conf.h"
#include "core/io/io_uring.h"
#include "shard/carrier.h"
#include "shard/carry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define TURN_NS 1000000ull

static struct io *io;
static struct mailbox *to_shard;
static struct carrier *carrier;
static struct iovec part;
static char content[] = "Subject: x\r\n\r\nbody\r\n";

static void begin(void)
{
    carrier = carrier_create(io, &to_shard);
}

static struct carry *send_one(const char *way, bool is_program)
{
    struct carry *carry = mem_alloc(sizeof(*carry));

    part = (struct iovec){content, sizeof(content) - 1};
    carry->parcel.kind = CARRY_START;
    carry->is_program = is_program;
    carry->format = CONF_FILE_MBOX;
    carry->send_ms = carry->termination_ms = 10000;
    carry->values.to = SLICE_LITERAL("b@x.test");
    carry->values.from = SLICE_LITERAL("a@x.test");
    carry->parts = &part;
    carry->part_count = 1;
    snprintf(carry->way, sizeof(carry->way), "%s", way);
    carrier_take(carrier, &carry->parcel);
    return carry;
}

static void turn(void)
{
    carrier_turn(carrier);
    io_turn(io, TURN_NS);
}

/* A stop may come at any moment of a program's life. */
static void a_stop_meets_programs_that_end(void **state)
{
    for (int turns = 0; turns < 40; turns++) {
        struct carry *carry;
        struct parcel *home = NULL;

        begin();
        carry = send_one("/bin/true", true);
        for (int i = 0; i < turns; i++) {
            turn();
            if ((home = mailbox_take_foreign(to_shard)))
                break;
        }
        carrier_stop(carrier, 0);
        for (int i = 0; i < 5000 && !home; i++) {
            turn();
            home = mailbox_take_foreign(to_shard);
        }
        assert_ptr_equal(home, &carry->parcel);
        assert_int_equal(home->kind, CARRY_DONE);
        for (int i = 0; i < 3; i++)
            turn();
        mem_free(carry);
        carrier_destroy(carrier);
    }
}

/* A mailbox that somebody has locked keeps no daemon from its end. */
static void a_stop_waits_for_no_lock(void **state)
{
    char path[] = "/tmp/ringpost-carrier-XXXXXX";
    int fd = mkstemp(path);
    struct parcel *home = NULL;
    struct carry *carry;

    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    begin();
    carry = send_one(path, false);
    for (int i = 0; i < 100; i++)
        turn();
    assert_null(mailbox_take_foreign(to_shard));
    carrier_stop(carrier, 0);
    for (int i = 0; i < 2000 && !home; i++) {
        turn();
        home = mailbox_take_foreign(to_shard);
    }
    assert_ptr_equal(home, &carry->parcel);
    assert_int_equal(carry->verdict.class, VERDICT_TRANSIENT);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    close(fd);
    unlink(path);
    mem_free(carry);
    carrier_destroy(carrier);
}

static void wait_for(struct carry *carry, enum carry_kind kind)
{
    struct parcel *home = NULL;

    for (int i = 0; i < 60000 && !home; i++) {
        turn();
        home = mailbox_take_foreign(to_shard);
    }
    assert_ptr_equal(home, &carry->parcel);
    assert_int_equal(home->kind, kind);
}

/* Asked to end it says that all is well: nobody knows what it has done. */
static void a_program_that_had_to_be_ended_delivers_nothing(void **state)
{
    struct carry *carry;

    begin();
    carry = send_one("/bin/sh -c \"trap 'exit 0' TERM; while :; do /bin/sleep 0.01; done\"", true);
    carry->termination_ms = 300;
    wait_for(carry, CARRY_DONE);
    assert_int_equal(carry->verdict.class, VERDICT_TRANSIENT);
    mem_free(carry);
    carrier_destroy(carrier);
}

/* The end of what can be read is not the end of the message. */
static void half_a_message_is_not_delivered(void **state)
{
    struct carry *carry;

    begin();
    carry = send_one("/bin/cat", true);
    carry->goes_on = true;
    wait_for(carry, CARRY_MORE);
    carry->parcel.kind = CARRY_OFF;
    carrier_take(carrier, &carry->parcel);
    wait_for(carry, CARRY_DONE);
    assert_int_equal(carry->verdict.class, VERDICT_TRANSIENT);
    mem_free(carry);
    carrier_destroy(carrier);
}

/* The message is its owner's until it is back, though nobody reads it any more. */
static void a_program_may_end_while_more_is_fetched(void **state)
{
    struct carry *carry;

    begin();
    carry = send_one("/bin/sh -c \"read x; /bin/sleep 0.05; exit 0\"", true);
    carry->goes_on = true;
    wait_for(carry, CARRY_MORE);
    for (int i = 0; i < 300; i++)
        turn();
    assert_null(mailbox_take_foreign(to_shard));
    carry->parcel.kind = CARRY_ON;
    carry->goes_on = false;
    carrier_take(carrier, &carry->parcel);
    wait_for(carry, CARRY_DONE);
    assert_int_equal(carry->verdict.class, VERDICT_SUCCESS);
    mem_free(carry);
    carrier_destroy(carrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_meets_programs_that_end),
        cmocka_unit_test(a_stop_waits_for_no_lock),
        cmocka_unit_test(a_program_that_had_to_be_ended_delivers_nothing),
        cmocka_unit_test(half_a_message_is_not_delivered),
        cmocka_unit_test(a_program_may_end_while_more_is_fetched),
    };
    struct io_options options = {.name = "test"};
    int failed;

    alarm(280);
    if (io_create(&options, &io) < 0)
        return 1;
    to_shard = mailbox_create(64, io, NULL);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    mailbox_destroy(to_shard);
    io_destroy(io);
    return failed;
}
