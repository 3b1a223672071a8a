/*
 * Figures per source address: read from a source outside (BPF) each second, or asked of the shards.
 *
 * What the source tells may begin anew for an address that the kernel's map let go of; the totals
 * kept here go on from where they were, so that counters never fall.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/control_int.h"

struct control_ip {
    struct ip_figures total;
    struct ip_figures last; /* as it was read */
};

void control_ips_init(struct control *control, const struct ip_source *source)
{
    struct control_ips *ips = &control->ips;

    table_init(&ips->by_address);
    if (source == NULL)
        return;
    ips->source = *source;
    ips->fresh = mem_alloc(IP_FIGURES_COUNT_MAX * sizeof(ips->fresh[0]));
}

void control_ips_fini(struct control *control)
{
    table_fini(&control->ips.by_address);
    mem_free(control->ips.items);
    mem_free(control->ips.fresh);
}

/* ---- Totals ---------------------------------------------------------------------------------- */

static bool ip_matches(uint32_t value, const void *key, void *context)
{
    const struct control_ips *ips = context;

    return ipaddr_equal(&ips->items[value].total.source, key);
}

/* One item more, zeroed; NULL when memory is short or there are enough. */
static struct control_ip *add_item(struct control_ips *ips)
{
    uint32_t capacity = ips->capacity != 0 ? ips->capacity * 2 : 64;
    struct control_ip *items;

    if (ips->count < ips->capacity)
        return &ips->items[ips->count];
    if (ips->capacity >= IP_FIGURES_COUNT_MAX)
        return NULL;
    items = mem_try_alloc(capacity * sizeof(items[0]));
    if (items == NULL)
        return NULL;
    if (ips->count > 0)
        memcpy(items, ips->items, ips->count * sizeof(items[0]));
    mem_free(ips->items);
    ips->items = items;
    ips->capacity = capacity;
    return &items[ips->count];
}

static struct control_ip *obtain(struct control_ips *ips, const struct ipaddr *source)
{
    uint64_t hash = ipaddr_hash(source);
    uint32_t index = table_find(&ips->by_address, hash, ip_matches, source, ips);
    struct control_ip *item;

    if (index != TABLE_NONE)
        return &ips->items[index];
    item = add_item(ips);
    if (item == NULL || !table_insert(&ips->by_address, hash, ips->count))
        return NULL;
    ips->count++;
    item->total.source = *source;
    item->last.source = *source;
    return item;
}

static void add_row(struct control_ips *ips, const struct ip_figures *row,
                    const struct ip_figures *last)
{
    struct control_ip *item = obtain(ips, &row->source);

    if (item == NULL)
        return;
    ip_figures_add(&item->total, row, last != NULL ? last : &item->last);
    item->last = *row;
}

void control_ips_sample(struct control *control)
{
    struct control_ips *ips = &control->ips;
    int count;

    if (ips->source.read == NULL)
        return;
    count = ips->source.read(ips->source.context, ips->fresh, IP_FIGURES_COUNT_MAX);
    if (count < 0 && !ips->is_told)
        log_warn("control: figures per source address cannot be read: %s", err_text(count));
    ips->is_told = count < 0;
    for (int i = 0; i < count; i++)
        add_row(ips, &ips->fresh[i], NULL);
}

/* ---- The tree -------------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b)
{
    const struct ipaddr *left = &(*(const struct control_ip *const *)a)->total.source;
    const struct ipaddr *right = &(*(const struct control_ip *const *)b)->total.source;

    if (left->family != right->family)
        return left->family < right->family ? -1 : 1;
    return memcmp(left->bytes, right->bytes, sizeof(left->bytes));
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *ip_tree(const struct ip_figures *figures, const char *source)
{
    uint64_t samples = figures->counters[IP_SRTT_SAMPLES];
    json_t *object = json_object();
    char address[IPADDR_TEXT_MAX];

    ipaddr_format(&figures->source, address);
    json_object_set_new(object, "ip", json_string(address));
    json_object_set_new(object, "source", json_string(source));
    for (int i = 0; i < IP_COUNTER_COUNT; i++)
        set_number(object, ip_counter_key((enum ip_counter)i), figures->counters[i]);
    set_number(object, "srtt_min_us", figures->srtt_min_us);
    set_number(object, "srtt_mean_us",
               samples != 0 ? figures->counters[IP_SRTT_SUM_US] / samples : 0);
    set_number(object, "srtt_last_us", figures->srtt_last_us);
    return object;
}

static json_t *ips_array(const struct control_ips *ips, const char *source, uint32_t count_max)
{
    const struct control_ip **order = mem_try_alloc((ips->count + 1) * sizeof(order[0]));
    json_t *array = json_array();

    if (order == NULL)
        return array;
    for (uint32_t i = 0; i < ips->count; i++)
        order[i] = &ips->items[i];
    qsort(order, ips->count, sizeof(order[0]), by_address);
    for (uint32_t i = 0; i < ips->count && i < count_max; i++)
        json_array_append_new(array, ip_tree(&order[i]->total, source));
    mem_free(order);
    return array;
}

json_t *control_ips_tree(struct control *control, const struct gather *gather, uint32_t count_max)
{
    static const struct ip_figures nothing;
    bool is_bpf = control->ips.source.read != NULL;
    const char *source = is_bpf ? "bpf" : "tcp_info";
    struct control_ips sum = {0};
    json_t *data = json_object();

    table_init(&sum.by_address);
    for (uint16_t i = 0; i < control->shard_count && !is_bpf; i++) {
        const struct report *report = &gather->parts[i].report;
        const struct ip_figures *rows = report->rows;

        for (uint32_t k = 0; k < report->row_count; k++)
            add_row(&sum, &rows[k], &nothing);
    }
    json_object_set_new(data, "source", json_string(source));
    json_object_set_new(data, "ip", ips_array(is_bpf ? &control->ips : &sum, source, count_max));
    table_fini(&sum.by_address);
    mem_free(sum.items);
    return data;
}

/* ---- As text --------------------------------------------------------------------------------- */

void control_ips_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"ip", "ip", false},
#define IP_COLUMN(name, key, heading) {key, heading, true},
        IP_COUNTERS(IP_COLUMN)
#undef IP_COLUMN
            {"srtt_min_us", "srtt-min-us", true},
        {"srtt_mean_us", "srtt-mean-us", true},
        {"srtt_last_us", "srtt-last-us", true},
        {"source", "source", false},
    };
    const size_t column_count = sizeof(columns) / sizeof(columns[0]);
    struct text_column shown[sizeof(columns) / sizeof(columns[0])];
    size_t shown_count = 0;

    for (size_t i = 0; i < column_count; i++)
        if (columns[i].heading != NULL)
            shown[shown_count++] = columns[i];
    render_table(json_object_get(data, "ip"), shown, shown_count, out);
}
