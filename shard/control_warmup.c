/* Books of warm-ups as rows: what is let out today, and what comes of it. */
#include "shard/control_int.h"

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *book_tree(const struct warm_row *row)
{
    json_t *object = json_object();

    json_object_set_new(object, "name", control_string(row->name));
    set_number(object, "step", row->step);
    set_number(object, "steps", row->step_count);
    set_number(object, "cap", row->cap);
    set_number(object, "granted", row->granted);
    set_number(object, "used", row->used);
    set_number(object, "deferred", row->deferred);
    set_number(object, "blocked", row->blocked);
    json_object_set_new(object, "tomorrow", control_string(row->outlook));
    return object;
}

json_t *control_warmup_tree(const struct gather *gather, uint32_t count_max)
{
    json_t *data = json_object();
    json_t *array = json_array();

    for (uint16_t i = 0; i < gather->control->shard_count; i++) {
        const struct report *report = &gather->parts[i].report;
        const struct warm_row *rows = report->rows;

        for (uint32_t k = 0; k < report->row_count && json_array_size(array) < count_max; k++)
            json_array_append_new(array, book_tree(&rows[k]));
    }
    json_object_set_new(data, "warmUp", array);
    return data;
}

void control_warmup_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"name", "warm-up/provider/ip", false},
        {"step", "step", true},
        {"steps", "of", true},
        {"cap", "cap", true},
        {"granted", "granted", true},
        {"used", "used", true},
        {"deferred", "deferred", true},
        {"blocked", "blocked", true},
        {"tomorrow", "tomorrow", false},
    };

    render_table(json_object_get(data, "warmUp"), columns, sizeof(columns) / sizeof(columns[0]),
                 out);
}
