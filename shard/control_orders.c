/* Standing orders as rows: whom a source address is kept from, whose refusals are held, why and
 * until when. */
#include "shard/control_int.h"

#include <stdio.h>

static json_t *order_tree(const struct order_row *row)
{
    json_t *object = json_object();
    char address[IPADDR_TEXT_MAX] = "-", state[64];

    if (row->source.family != 0)
        ipaddr_format(&row->source, address);
    snprintf(state, sizeof(state), "in force");
    if (row->held > 0)
        snprintf(state, sizeof(state), "in force, %llu held", (unsigned long long)row->held);
    if (row->is_probe)
        snprintf(state, sizeof(state), "probe, %u of %u connections", row->lent,
                 row->allowed > 0 ? row->allowed : 1);
    json_object_set_new(object, "kind", json_string(row->kind));
    json_object_set_new(object, "ip", json_string(address));
    json_object_set_new(object, "who", control_string(row->who));
    json_object_set_new(object, "state", json_string(state));
    json_object_set_new(object, "since", control_time(row->since_us));
    json_object_set_new(object, "until", control_time(row->until_us));
    json_object_set_new(object, "reason", control_string(row->reason));
    return object;
}

json_t *control_orders_tree(const struct gather *gather, uint32_t count_max)
{
    json_t *data = json_object();
    json_t *array = json_array();

    for (uint16_t i = 0; i < gather->control->shard_count; i++) {
        const struct report *report = &gather->parts[i].report;
        const struct order_row *rows = report->rows;

        for (uint32_t k = 0; k < report->row_count && json_array_size(array) < count_max; k++)
            json_array_append_new(array, order_tree(&rows[k]));
    }
    json_object_set_new(data, "order", array);
    return data;
}

void control_orders_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"kind", "order", false},    {"ip", "ip", false},       {"who", "who", false},
        {"state", "state", false},   {"since", "since", false}, {"until", "until", false},
        {"reason", "reason", false},
    };

    render_table(json_object_get(data, "order"), columns, sizeof(columns) / sizeof(columns[0]),
                 out);
}
