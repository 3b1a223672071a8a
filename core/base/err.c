#include "core/base/err.h"

#include <stddef.h>
#include <string.h>

const char *err_text(int code)
{
    const char *text = NULL;

    switch (code) {
#define ERR_CASE(name, value, words)                                                               \
    case name:                                                                                     \
        return words;
        ERR_TABLE(ERR_CASE)
#undef ERR_CASE
    default:
        break;
    }
    if (code >= 0)
        return "no error";
    /* The most negative int has no positive twin. */
    if (code >= -4095)
        text = strerrordesc_np(-code);
    return text != NULL ? text : "unknown error";
}
