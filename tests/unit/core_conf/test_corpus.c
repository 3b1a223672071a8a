#include "tests/fuzz/replay.h"
#include "tests/unit/core_conf/unit.h"

/* What fuzzing starts from, and what it once found, stays fine with every compiler. */
static void corpus_is_replayed(void **state)
{
    assert_true(replay_corpus(CONF_CORPUS) >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(corpus_is_replayed)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
