/* The corpus of the segment fuzzer, and random bytes on top of it. */
#include "tests/unit/core_base/unit.h"

#include "core/base/rng.h"
#include "tests/fuzz/replay.h"

#include <string.h>

static void the_corpus_passes(void **state)
{
    assert_true(replay_corpus(SEGMENT_CORPUS) >= 6);
}

static void changed_bytes_pass(void **state)
{
    static uint8_t bytes[65536];
    char path[512];
    struct rng rng;
    size_t len;
    FILE *file;

    snprintf(path, sizeof(path), "%s/mixed", SEGMENT_CORPUS);
    file = fopen(path, "rb");
    assert_non_null(file);
    len = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    assert_true(len > 4096);
    rng_init(&rng, 1);
    for (int i = 0; i < 3000; i++) {
        uint8_t *copy = malloc(len);

        assert_non_null(copy);
        memcpy(copy, bytes, len);
        for (uint64_t flips = rng_between(&rng, 1, 12); flips > 0; flips--)
            copy[rng_below(&rng, len)] = (uint8_t)rng_u64(&rng);
        LLVMFuzzerTestOneInput(copy, rng_between(&rng, 1, len));
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_corpus_passes),
        cmocka_unit_test(changed_bytes_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
