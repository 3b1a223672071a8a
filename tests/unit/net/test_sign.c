/* Keys: what is taken, what is refused and why; a wrong signature does not get out. */
#include "net/sign.h"

#include "core/base/err.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* RFC 8463 A.2. */
static const char seed[] = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
static const char seed_public[] = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
/* The same as PKCS#8. */
static const char seed_pem[] = "-----BEGIN PRIVATE KEY-----\n"
                               "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                               "-----END PRIVATE KEY-----\n";
static char folder[] = "/tmp/ringpost-sign-XXXXXX";

static int parse(const char *text, struct sign_key **ret_key)
{
    char why[SIGN_WHY_MAX] = "";
    int result = sign_key_parse(slice_str(text), ret_key, why);

    assert_int_equal(result < 0, why[0] != '\0');
    return result;
}

static void a_seed_and_its_pem_are_one_key(void **state)
{
    static const char *const texts[] = {
        seed,
        seed_pem,
        /* As a header field folds it. */
        " -----BEGIN PRIVATE KEY-----\r\n MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK\r\n\t"
        "9JLsLMREScVpezJpGXA7rAMcrn9g -----END PRIVATE KEY-----",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sign_key *key = NULL;
        char room[128];

        assert_int_equal(parse(texts[i], &key), 0);
        assert_int_equal(sign_key_kind(key), SIGN_ED25519);
        assert_int_equal(sign_key_public(key, room, sizeof(room)), 0);
        assert_string_equal(room, seed_public);
        assert_int_equal(sign_key_public(key, room, 8), E_TOO_LONG);
        sign_key_unref(key);
    }
}

static void what_is_no_key_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "nonsense",
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2==",
        "-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMC4C\n-----END PUBLIC KEY-----\n",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sign_key *key = NULL;

        assert_int_equal(parse(texts[i], &key), E_SYNTAX);
        assert_null(key);
    }
}

static int load_with_mode(const char *text, mode_t mode, char why[SIGN_WHY_MAX])
{
    struct sign_key *key = NULL;
    char path[128];
    FILE *file;
    int result;

    snprintf(path, sizeof(path), "%s/key", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
    result = sign_key_load(path, &key, why);
    sign_key_unref(key);
    remove(path);
    return result;
}

static void a37_a_key_that_others_may_read_is_refused(void **state)
{
    char why[SIGN_WHY_MAX];

    assert_int_equal(load_with_mode(seed, 0600, why), 0);
    assert_int_equal(load_with_mode(seed, 0400, why), 0);
    for (mode_t bit = 1; bit <= 040; bit <<= 1) {
        assert_int_equal(load_with_mode(seed, 0600 | bit, why), E_REFUSED);
        assert_non_null(strstr(why, "chmod 600"));
    }
    assert_int_equal(load_with_mode("nonsense", 0600, why), E_SYNTAX);
    assert_null(strstr(why, "nonsense"));
    assert_true(sign_key_load("/nowhere/at/all", &(struct sign_key *){NULL}, why) < 0);
    assert_int_equal(sign_key_load("/dev/null", &(struct sign_key *){NULL}, why), E_REFUSED);
}

/* A backend with a fault in one bit of one result. */
static void run_faulty(struct sign_job *jobs, uint32_t count)
{
    sign_boringssl.run(jobs, count);
    jobs[1].signature[5] ^= 4;
}

static void a_wrong_signature_does_not_get_out(void **state)
{
    static const struct sign_backend faulty = {"faulty", run_faulty};
    static const uint8_t zeros[SIGN_BYTES_MAX];
    static struct sign_job jobs[3];
    struct sign_key *key = NULL;

    assert_int_equal(parse(seed, &key), 0);
    for (size_t i = 0; i < 3; i++) {
        jobs[i].key = key;
        memset(jobs[i].digest, (int)i, sizeof(jobs[i].digest));
    }
    assert_int_equal(sign_run(&faulty, jobs, 3), 1);
    assert_int_equal(jobs[0].status, 0);
    assert_int_equal(jobs[1].status, E_DAMAGED);
    assert_memory_equal(jobs[1].signature, zeros, sizeof(zeros));
    assert_int_equal(jobs[2].status, 0);
    assert_int_equal(sign_run(&sign_boringssl, jobs, 3), 0);
    sign_key_unref(key);
}

static int make_folder(void **state)
{
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_and_its_pem_are_one_key),
        cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(a37_a_key_that_others_may_read_is_refused),
        cmocka_unit_test(a_wrong_signature_does_not_get_out),
    };

    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
