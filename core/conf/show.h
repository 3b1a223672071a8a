/* show: what a file says, in messages about it; printed as %.*s and cut when it is long. */
#pragma once

#define SHOW_MAX 80

#define SHOW(slice)                                                                                \
    (int)((slice).len > SHOW_MAX ? SHOW_MAX : (slice).len), (const char *)(slice).data
