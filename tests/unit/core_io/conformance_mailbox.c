/* Mailboxes between two loops of one thread, and from a foreign hand. */
#include "tests/unit/core_io/conformance.h"

#include "core/io/mailbox.h"

#include <string.h>

enum { PARCELS = 5000, CAPACITY = 16 };

struct letter {
    struct parcel parcel;
    uint32_t number;
};

static struct letter letters[PARCELS];
static struct mailbox *there;
static struct mailbox *back;
static uint64_t arrived;
static uint64_t returned;

static void on_arrival(void *context, struct parcel *parcel)
{
    struct letter *letter = container_of(parcel, struct letter, parcel);

    assert_ptr_equal(context, &arrived);
    assert_int_equal(letter->number, arrived);
    assert_int_equal(parcel->kind, 7);
    arrived++;
    if (back != NULL)
        mailbox_post(back, parcel);
}

static void on_return(void *context, struct parcel *parcel)
{
    struct letter *letter = container_of(parcel, struct letter, parcel);

    assert_int_equal(letter->number, returned);
    returned++;
}

static void letters_init(void)
{
    memset(letters, 0, sizeof(letters));
    for (uint32_t i = 0; i < PARCELS; i++) {
        letters[i].number = i;
        letters[i].parcel.kind = 7;
    }
    arrived = 0;
    returned = 0;
    back = NULL;
}

static void overflow_keeps_order(void **state)
{
    struct io *other = backend_loop(the_world, 1);

    letters_init();
    there = mailbox_create(CAPACITY, the_io, other);
    back = mailbox_create(CAPACITY, other, the_io);
    mailbox_listen(there, on_arrival, &arrived);
    mailbox_listen(back, on_return, &returned);
    for (uint32_t i = 0; i < PARCELS; i++)
        START(mailbox_post(there, &letters[i].parcel));
    assert_true(mailbox_backlog(there) >= PARCELS - CAPACITY);
    assert_int_equal(arrived, 0);
    run_until_count(&returned, PARCELS);
    assert_int_equal(arrived, PARCELS);
    assert_int_equal(mailbox_backlog(there), 0);
    assert_int_equal(mailbox_backlog(back), 0);
    mailbox_destroy(there);
    mailbox_destroy(back);
}

static void letters_to_oneself(void **state)
{
    letters_init();
    there = mailbox_create(CAPACITY, the_io, the_io);
    mailbox_listen(there, on_arrival, &arrived);
    for (uint32_t i = 0; i < 100; i++)
        START(mailbox_post(there, &letters[i].parcel));
    run_until_count(&arrived, 100);
    mailbox_destroy(there);
}

/* Each letter is posted by the arrival of the one before, on the other side: both loops sleep in
 * between. */
static void on_ping(void *context, struct parcel *parcel)
{
    arrived++;
    mailbox_post(back, parcel);
}

static void on_pong(void *context, struct parcel *parcel)
{
    returned++;
    if (returned < 200)
        mailbox_post(there, parcel);
}

static void a_letter_wakes_a_sleeper(void **state)
{
    struct io *other = backend_loop(the_world, 1);

    letters_init();
    there = mailbox_create(CAPACITY, the_io, other);
    back = mailbox_create(CAPACITY, other, the_io);
    mailbox_listen(there, on_ping, NULL);
    mailbox_listen(back, on_pong, NULL);
    run_for_ms(3);
    mailbox_post(there, &letters[0].parcel);
    run_until_count(&returned, 200);
    assert_int_equal(arrived, 200);
    mailbox_destroy(there);
    mailbox_destroy(back);
}

static void foreign_letters_arrive(void **state)
{
    uint32_t kept = 0;

    letters_init();
    there = mailbox_create(CAPACITY, NULL, the_io);
    mailbox_listen(there, on_arrival, &arrived);
    run_for_ms(3);
    for (uint32_t i = 0; i < 100; i++)
        kept = mailbox_post_foreign(there, &letters[i].parcel);
    assert_int_equal(kept, 100 - CAPACITY);
    while (kept > 0) {
        run_until_count(&arrived, arrived + 1);
        kept = mailbox_post_foreign(there, NULL);
    }
    run_until_count(&arrived, 100);
    assert_int_equal(mailbox_backlog(there), 0);
    mailbox_destroy(there);
}

static void foreign_hand_takes_letters(void **state)
{
    uint32_t taken = 0;

    letters_init();
    there = mailbox_create(CAPACITY, the_io, NULL);
    assert_null(mailbox_take_foreign(there));
    for (uint32_t i = 0; i < 100; i++)
        mailbox_post(there, &letters[i].parcel);
    while (taken < 100) {
        struct parcel *parcel;

        run_for_ms(2);
        while ((parcel = mailbox_take_foreign(there)) != NULL)
            assert_ptr_equal(parcel, &letters[taken++].parcel);
    }
    assert_int_equal(mailbox_backlog(there), 0);
    mailbox_destroy(there);
}

const struct CMUnitTest mailbox_tests[] = {
    TWO_LOOP_TEST(overflow_keeps_order),    TWO_LOOP_TEST(a_letter_wakes_a_sleeper),
    WORLD_TEST(letters_to_oneself),         WORLD_TEST(foreign_letters_arrive),
    WORLD_TEST(foreign_hand_takes_letters),
};
const size_t mailbox_test_count = sizeof(mailbox_tests) / sizeof(mailbox_tests[0]);
