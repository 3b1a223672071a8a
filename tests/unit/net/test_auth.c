/*
 * SASL mechanisms: the examples of their RFCs, hostile base64, both sides against each other.
 */
#include "net/auth.h"

#include "core/base/base64.h"
#include "core/base/err.h"
#include "core/base/rng.h"

#include <openssl/digest.h>
#include <openssl/evp.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void expect_octets(const char *text, int wanted)
{
    char room[64];

    assert_int_equal(base64_decode(slice_str(text), room, sizeof(room)), wanted);
}

/* RFC 4648 section 10, and what is not quite base64. */
static void base64(void **state)
{
    static const char *const whole[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                        "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    char room[64];

    for (int i = 0; i < 7; i++) {
        expect_octets(whole[i], i);
        assert_int_equal(base64_encode(slice_of("foobar", (size_t)i), room, sizeof(room)),
                         strlen(whole[i]));
        assert_memory_equal(room, whole[i], strlen(whole[i]));
    }
    expect_octets("Zg=", E_SYNTAX);
    expect_octets("Zg", E_SYNTAX);
    expect_octets("Zh==", E_SYNTAX); /* bits that mean nothing */
    expect_octets("Zg==Zg==", E_SYNTAX);
    expect_octets("=", E_SYNTAX);
    expect_octets("====", E_SYNTAX);
    expect_octets("Z===", E_SYNTAX);
    expect_octets("Zm 9", E_SYNTAX);
    expect_octets("Zm9-", E_SYNTAX);
    expect_octets("\xc3\xbcYg", E_SYNTAX);
    assert_int_equal(base64_decode(SLICE_LITERAL("Zm9v"), room, 2), E_TOO_LONG);
    assert_int_equal(base64_encode(SLICE_LITERAL("foo"), room, 3), E_TOO_LONG);
}

static enum auth_progress start(struct auth_server *server, enum auth_mechanism mechanism,
                                const char *initial)
{
    struct slice prompt, text = initial != NULL ? slice_str(initial) : SLICE_EMPTY;
    char room[AUTH_ANSWER_MAX];

    auth_server_begin(server, mechanism, SLICE_EMPTY);
    return auth_server_start(server, text, &prompt, room);
}

static void plain(void **state)
{
    struct auth_server server;

    /* RFC 4616 section 4: "tim", "tanstaaftanstaaf". */
    assert_int_equal(start(&server, AUTH_PLAIN, "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"), AUTH_COMPLETE);
    assert_true(slice_equal(auth_server_user(&server), SLICE_LITERAL("tim")));
    assert_true(slice_equal(auth_server_secret(&server), SLICE_LITERAL("tanstaaftanstaaf")));
    /* "tim NUL tim NUL x" asks for itself, "Ursel NUL Kurt NUL x" for somebody else. */
    assert_int_equal(start(&server, AUTH_PLAIN, "dGltAHRpbQB4"), AUTH_COMPLETE);
    assert_int_equal(start(&server, AUTH_PLAIN, "VXJzZWwAS3VydAB4"), AUTH_REFUSED);
    assert_int_equal(start(&server, AUTH_PLAIN, NULL), AUTH_GO_ON);
    assert_int_equal(start(&server, AUTH_PLAIN, "="), AUTH_MALFORMED);
    assert_int_equal(start(&server, AUTH_PLAIN, "*"), AUTH_MALFORMED);
    assert_int_equal(start(&server, AUTH_PLAIN, "AAA="), AUTH_MALFORMED);     /* no name */
    assert_int_equal(start(&server, AUTH_PLAIN, "AHRpbQ=="), AUTH_MALFORMED); /* no password */
    assert_int_equal(start(&server, AUTH_PLAIN, "AHQAYQBi"), AUTH_MALFORMED); /* three zeros */
}

static void external(void **state)
{
    struct auth_server server;

    assert_int_equal(start(&server, AUTH_EXTERNAL, "="), AUTH_COMPLETE);
    assert_true(slice_equal(auth_server_user(&server), SLICE_EMPTY));
    assert_int_equal(start(&server, AUTH_EXTERNAL, "dGlt"), AUTH_COMPLETE);
    assert_true(slice_equal(auth_server_user(&server), SLICE_LITERAL("tim")));
    assert_int_equal(start(&server, AUTH_EXTERNAL, NULL), AUTH_GO_ON);
    assert_int_equal(start(&server, AUTH_EXTERNAL, "*"), AUTH_MALFORMED);
    assert_int_equal(start(&server, AUTH_EXTERNAL, "dABp"), AUTH_MALFORMED); /* a zero */
}

/* Every length of what is and is not base64, and texts that are too long. */
static void hostile_answers(void **state)
{
    char text[AUTH_ANSWER_MAX * 2], room[AUTH_ANSWER_MAX];
    struct auth_server server;
    struct slice prompt;
    struct rng rng;

    rng_init(&rng, 7);
    for (unsigned mechanism = 0; mechanism < AUTH_MECHANISMS; mechanism++) {
        for (size_t len = 0; len < sizeof(text); len += len < 70 ? 1 : 97) {
            memset(text, 'A', sizeof(text));
            auth_server_begin(&server, mechanism, SLICE_EMPTY);
            /* Saying nothing is all that EXTERNAL wants. */
            assert_int_equal(auth_server_hear(&server, slice_of(text, len), &prompt, room) ==
                                 AUTH_COMPLETE,
                             mechanism == AUTH_EXTERNAL && len == 0);
            for (size_t i = 0; i < len; i++)
                text[i] = (char)rng_below(&rng, 256);
            auth_server_begin(&server, mechanism, SLICE_EMPTY);
            auth_server_hear(&server, slice_of(text, len), &prompt, room);
        }
    }
}

static void names_at_their_bounds(void **state)
{
    uint8_t message[2 * AUTH_TEXT_MAX + 4] = {0};
    char coded[AUTH_ANSWER_MAX];
    struct auth_server server;

    for (size_t extra = 0; extra < 2; extra++) {
        size_t user_bytes = AUTH_TEXT_MAX + extra;
        int len;

        memset(message + 1, 'u', user_bytes);
        message[1 + user_bytes] = 0;
        memset(message + 2 + user_bytes, 'p', AUTH_TEXT_MAX);
        len = base64_encode(slice_of(message, 2 + user_bytes + AUTH_TEXT_MAX), coded,
                            sizeof(coded) - 1);
        assert_true(len > 0);
        coded[len] = '\0';
        assert_int_equal(start(&server, AUTH_PLAIN, coded),
                         extra == 0 ? AUTH_COMPLETE : AUTH_MALFORMED);
    }
}

#define CHALLENGE SLICE_LITERAL("<1896.697170952@postoffice.reston.mci.net>")
#define TIM       SLICE_LITERAL("tim")
#define PASSWORD  SLICE_LITERAL("tanstaaftanstaaf")

/* RFC 2195 section 2. */
static void cram_md5(void **state)
{
    static const char prompt[] = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+";
    static const char answer[] = "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw";
    char room[AUTH_ANSWER_MAX];
    struct auth_server server;
    struct slice said;
    int len;

    auth_server_begin(&server, AUTH_CRAM_MD5, CHALLENGE);
    assert_int_equal(auth_server_start(&server, SLICE_LITERAL("dGlt"), &said, room),
                     AUTH_MALFORMED);
    assert_int_equal(auth_server_start(&server, SLICE_EMPTY, &said, room), AUTH_GO_ON);
    assert_true(slice_equal(said, slice_str(prompt)));
    len = auth_client_answer(AUTH_CRAM_MD5, 0, slice_str(prompt), TIM, PASSWORD, room);
    assert_true(slice_equal(slice_of(room, (size_t)len), slice_str(answer)));
    assert_int_equal(auth_server_hear(&server, slice_str(answer), &said, room), AUTH_COMPLETE);
    assert_true(slice_equal(auth_server_user(&server), TIM));
    assert_true(auth_is_digest(auth_server_secret(&server), CHALLENGE, PASSWORD));
    assert_false(auth_is_digest(auth_server_secret(&server), CHALLENGE, TIM));
    assert_false(auth_is_digest(auth_server_secret(&server), PASSWORD, PASSWORD));
    assert_false(auth_is_digest(TIM, CHALLENGE, PASSWORD));
    assert_int_equal(auth_client_answer(AUTH_CRAM_MD5, 0, TIM, TIM, PASSWORD, room), E_SYNTAX);
    assert_int_equal(auth_client_answer(AUTH_CRAM_MD5, 1, slice_str(prompt), TIM, PASSWORD, room),
                     E_SYNTAX);
}

/* Both sides talk to each other until the server knows. */
static void both_sides(void **state)
{
    for (unsigned mechanism = 0; mechanism < AUTH_EXTERNAL; mechanism++) {
        char ours[AUTH_ANSWER_MAX], theirs[AUTH_ANSWER_MAX];
        int len = auth_client_start(mechanism, TIM, PASSWORD, ours);
        struct slice prompt = SLICE_EMPTY, command = slice_of(ours, (size_t)len), initial;
        size_t word = slice_find(command, ' ');
        struct auth_server server;
        enum auth_progress progress;

        assert_int_equal(auth_mechanism_named(slice_of(command.data, word)), mechanism);
        initial = word < command.len ? slice_after(command, word + 1) : SLICE_EMPTY;
        auth_server_begin(&server, mechanism, CHALLENGE);
        progress = auth_server_start(&server, initial, &prompt, theirs);
        for (unsigned step = 0; progress == AUTH_GO_ON; step++) {
            len = auth_client_answer(mechanism, step, prompt, TIM, PASSWORD, ours);
            assert_true(len >= 0);
            progress = auth_server_hear(&server, slice_of(ours, (size_t)len), &prompt, theirs);
        }
        assert_int_equal(progress, AUTH_COMPLETE);
        assert_true(slice_equal(auth_server_user(&server), TIM));
        if (mechanism == AUTH_CRAM_MD5)
            assert_true(auth_is_digest(auth_server_secret(&server), CHALLENGE, PASSWORD));
        else
            assert_true(slice_equal(auth_server_secret(&server), PASSWORD));
    }
    assert_int_equal(auth_mechanism_named(SLICE_LITERAL("cram-md5")), AUTH_CRAM_MD5);
    assert_int_equal(auth_mechanism_named(SLICE_LITERAL("CRAM-MD")), AUTH_MECHANISMS);
}

static void the_client_chooses(void **state)
{
    unsigned all = AUTH_BIT(AUTH_MECHANISMS) - 1;

    assert_int_equal(auth_client_choose(all, true), AUTH_PLAIN);
    assert_int_equal(auth_client_choose(all, false), AUTH_CRAM_MD5);
    assert_int_equal(auth_client_choose(AUTH_BIT(AUTH_LOGIN), true), AUTH_LOGIN);
    assert_int_equal(auth_client_choose(AUTH_IN_THE_CLEAR, false), AUTH_MECHANISMS);
    assert_int_equal(auth_client_choose(0, true), AUTH_MECHANISMS);
}

/* In whatever steps, the key is BoringSSL's own. */
static void stretched_keys(void **state)
{
    char password[100];
    struct auth_stretch stretch;
    uint8_t key[AUTH_KEY_BYTES];
    struct rng rng;

    rng_init(&rng, 3);
    memset(password, 'p', sizeof(password));
    for (uint32_t i = 0; i < 40; i++) {
        uint32_t iterations = 1 + (uint32_t)rng_below(&rng, 50);
        size_t len = rng_below(&rng, sizeof(password));

        auth_stretch_begin(&stretch, slice_of(password, len), SLICE_LITERAL("salt"), iterations);
        while (stretch.left > 0)
            assert_true(auth_stretch_step(&stretch, 1 + (uint32_t)rng_below(&rng, 9)) > 0);
        assert_int_equal(PKCS5_PBKDF2_HMAC(password, len, (const uint8_t *)"salt", 4, iterations,
                                           EVP_sha256(), sizeof(key), key),
                         1);
        assert_memory_equal(stretch.key, key, sizeof(key));
    }
    assert_true(auth_is_same(TIM, TIM));
    assert_false(auth_is_same(TIM, SLICE_LITERAL("tin")));
    assert_false(auth_is_same(TIM, SLICE_LITERAL("timm")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64),
        cmocka_unit_test(plain),
        cmocka_unit_test(external),
        cmocka_unit_test(hostile_answers),
        cmocka_unit_test(names_at_their_bounds),
        cmocka_unit_test(cram_md5),
        cmocka_unit_test(both_sides),
        cmocka_unit_test(the_client_chooses),
        cmocka_unit_test(stretched_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
