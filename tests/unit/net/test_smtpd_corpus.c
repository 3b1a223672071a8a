/*
 * The SMTP server and what fuzzing has tried on it: the corpus with every choice of settings, and
 * random changes to it.
 */
#include "core/base/rng.h"
#include "tests/fuzz/replay.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

#define CHOICES 32 /* of the first octet: enum choice in the fuzz target */

static void fuzz_corpus_is_replayed(void **state)
{
    assert_true(replay_corpus(SMTPD_CORPUS) > 0);
}

static size_t read_seed(const char *folder, uint64_t number, uint8_t *room, size_t room_bytes)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    size_t len = 0;
    char path[1024];
    FILE *file;

    assert_non_null(dir);
    for (entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] != '.' && number-- == 0)
            break;
    }
    if (entry != NULL) {
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        file = fopen(path, "rb");
        assert_non_null(file);
        len = fread(room, 1, room_bytes, file);
        fclose(file);
    }
    closedir(dir);
    return len;
}

static void changed_seeds_under_all_settings(void **state)
{
    static const char hostile[] = "\r\n.\0 <>:=@0A\x80";
    uint8_t seed[2048];
    struct rng rng;
    size_t len;

    rng_init(&rng, 35);
    for (uint64_t number = 0; (len = read_seed(SMTPD_CORPUS, number, seed, sizeof(seed))) > 1;
         number++) {
        for (unsigned choices = 0; choices < CHOICES; choices++) {
            for (unsigned round = 0; round < 4; round++) {
                uint8_t *changed = malloc(len);

                memcpy(changed, seed, len);
                changed[0] = (uint8_t)choices;
                for (unsigned i = 0; i < round; i++)
                    changed[rng_between(&rng, 1, len - 1)] =
                        (uint8_t)hostile[rng_below(&rng, sizeof(hostile) - 1)];
                LLVMFuzzerTestOneInput(changed, len);
                free(changed);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fuzz_corpus_is_replayed),
        cmocka_unit_test(changed_seeds_under_all_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
