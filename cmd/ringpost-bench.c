/* ringpost-bench: load, receivers and measurements; everything is in bench/. */
#include "bench/command.h"

int main(int argc, char **argv)
{
    return command_main(argc, argv);
}
