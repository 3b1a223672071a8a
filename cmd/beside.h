/* beside: where the helper programs are: in the folder of the running program. Any thread. */
#pragma once

#include <limits.h>

/* The path of that program, whether it is there or not; "" when the system does not say. */
void beside_path(const char *program, char ret_path[PATH_MAX]);
