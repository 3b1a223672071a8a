#include "core/conf/cold.h"

#include "core/base/err.h"

#define COUNT_MAX 1000000000000ull

static bool is_a_day(struct slice unit)
{
    return unit.len == 0 || slice_equal_nocase(unit, SLICE_LITERAL("/d")) ||
           slice_equal_nocase(unit, SLICE_LITERAL("/day"));
}

int conf_cold_ramp(struct slice text, uint64_t ret_counts[CONF_COLD_DAYS_MAX], uint32_t *ret_count)
{
    *ret_count = 0;
    do {
        size_t comma = slice_find(text, ',');
        struct slice item = slice_trim(slice_of(text.data, comma));
        size_t slash = slice_find(item, '/');
        int result;

        if (*ret_count == CONF_COLD_DAYS_MAX)
            return E_RANGE;
        if (!is_a_day(slice_after(item, slash)))
            return E_SYNTAX;
        result = slice_to_u64(slice_trim(slice_of(item.data, slash)), COUNT_MAX,
                              &ret_counts[*ret_count]);
        if (result < 0)
            return result;
        (*ret_count)++;
        text = slice_after(text, comma < text.len ? comma + 1 : comma);
    } while (text.len > 0);
    return 0;
}
