#include "cmd/beside.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void beside_path(const char *program, char ret_path[PATH_MAX])
{
    ssize_t len = readlink("/proc/self/exe", ret_path, PATH_MAX - 1);
    char *slash;

    ret_path[len > 0 ? len : 0] = '\0';
    slash = strrchr(ret_path, '/');
    if (!slash || (size_t)(slash - ret_path) + strlen(program) + 2 > PATH_MAX)
        ret_path[0] = '\0';
    else
        sprintf(slash, "/%s", program);
}
