/* The one suite that every implementation of core/io/io.h must pass. */
#include "tests/unit/core_io/conformance.h"

#include <stdio.h>

static int run(const char *name, const struct CMUnitTest *tests, size_t count)
{
    return _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}

int main(int argc, char **argv)
{
    int failed = 0;

    if (!backend_configure(argc, argv)) {
        fprintf(stderr, "unknown variant of this world\n");
        return 2;
    }
    failed += run("loop", loop_tests, loop_test_count);
    failed += run("net", net_tests, net_test_count);
    failed += run("recv", recv_tests, recv_test_count);
    failed += run("file", file_tests, file_test_count);
    failed += run("mailbox", mailbox_tests, mailbox_test_count);
    return failed == 0 ? 0 : 1;
}
