#include "core/base/mem.h"
#include "shard/control_int.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- Text that grows ------------------------------------------------------------------------ */

#define TEXT_BYTES_MAX (512u << 20)

static bool make_room(struct text_buffer *buffer, size_t len)
{
    size_t wanted = buffer->used + len;
    size_t capacity = buffer->capacity != 0 ? buffer->capacity : 4096;
    char *data;

    if (buffer->failed || wanted > TEXT_BYTES_MAX) {
        buffer->failed = true;
        return false;
    }
    if (wanted <= buffer->capacity)
        return true;
    while (capacity < wanted)
        capacity *= 2;
    data = mem_try_alloc(capacity);
    if (data == NULL) {
        buffer->failed = true;
        return false;
    }
    if (buffer->used > 0)
        memcpy(data, buffer->data, buffer->used);
    mem_free(buffer->data);
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void text_add(struct text_buffer *buffer, const char *data, size_t len)
{
    if (len == 0 || !make_room(buffer, len))
        return;
    memcpy(buffer->data + buffer->used, data, len);
    buffer->used += len;
}

void text_format(struct text_buffer *buffer, const char *format, ...)
{
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (len < 0 || !make_room(buffer, (size_t)len + 1))
        return;
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->used, (size_t)len + 1, format, arguments);
    va_end(arguments);
    buffer->used += (size_t)len;
}

void text_free(struct text_buffer *buffer)
{
    mem_free(buffer->data);
    *buffer = (struct text_buffer){0};
}

/* ---- JSON ----------------------------------------------------------------------------------- */

#define JSON_FLAGS (JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6))

static int put_chunk(const char *data, size_t len, void *context)
{
    struct text_buffer *out = context;

    text_add(out, data, len);
    return out->failed ? -1 : 0;
}

void render_json(const json_t *data, const char *status, const char *message,
                 struct text_buffer *out)
{
    json_t *text = json_string(message);

    text_format(out, "{\"data\":");
    if (data == NULL)
        text_format(out, "{}");
    else
        json_dump_callback(data, put_chunk, out, JSON_FLAGS);
    text_format(out, ",\"status\":\"%s\",\"message\":", status);
    json_dump_callback(text, put_chunk, out, JSON_FLAGS | JSON_ENCODE_ANY);
    text_format(out, "}\n");
    json_decref(text);
}

/* ---- dom: one line for each leaf ------------------------------------------------------------- */

#define DOM_PATH_MAX 512

static void put_quoted(struct text_buffer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            text_add(out, "\\", 1);
        text_add(out, text, 1);
    }
}

static void put_scalar(const json_t *value, struct text_buffer *out)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        put_quoted(out, json_string_value(value));
        break;
    case JSON_INTEGER:
        text_format(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        text_format(out, "%.1f", json_real_value(value));
        break;
    case JSON_TRUE:
        text_add(out, "true", 4);
        break;
    case JSON_FALSE:
        text_add(out, "false", 5);
        break;
    default:
        break;
    }
}

/* path is extended in place and cut back; len is its length so far. */
static void put_dom(const json_t *value, char *path, size_t len, struct text_buffer *out)
{
    if (json_is_object(value)) {
        /* jansson's walk wants a pointer to a value that may be changed; this one is only read. */
        json_t *object = (json_t *)(uintptr_t)value;
        const char *key;
        json_t *member;

        json_object_foreach(object, key, member)
        {
            size_t more =
                (size_t)snprintf(path + len, DOM_PATH_MAX - len, "%s%s", len > 0 ? "." : "", key);

            if (len + more < DOM_PATH_MAX)
                put_dom(member, path, len + more, out);
        }
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            size_t more = (size_t)snprintf(path + len, DOM_PATH_MAX - len, "[%zu]", i);

            if (len + more < DOM_PATH_MAX)
                put_dom(json_array_get(value, i), path, len + more, out);
        }
    } else {
        text_add(out, path, len);
        text_add(out, "=\"", 2);
        put_scalar(value, out);
        text_add(out, "\"\n", 2);
    }
}

void render_dom(const json_t *data, struct text_buffer *out)
{
    char path[DOM_PATH_MAX];

    if (data != NULL)
        put_dom(data, path, 0, out);
}

/* ---- Tables ---------------------------------------------------------------------------------- */

#define CELL_MAX    384
#define COLUMNS_MAX 16

/* Never empty, so that the columns of a line can be counted. */
static size_t format_cell(const json_t *value, char room[CELL_MAX])
{
    int len = 0;

    if (json_is_string(value))
        len = snprintf(room, CELL_MAX, "%s", json_string_value(value));
    else if (json_is_integer(value))
        len = snprintf(room, CELL_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        len = snprintf(room, CELL_MAX, "%.1f", json_real_value(value));
    else if (json_is_boolean(value))
        len = snprintf(room, CELL_MAX, "%s", json_is_true(value) ? "yes" : "no");
    if (len == 0)
        len = snprintf(room, CELL_MAX, "-");
    return len < CELL_MAX ? (size_t)len : CELL_MAX - 1;
}

static void put_cell(const char *text, size_t len, size_t width, bool is_right, bool is_last,
                     struct text_buffer *out)
{
    size_t fill = width > len ? width - len : 0;

    if (is_right)
        text_format(out, "%*s", (int)fill, "");
    text_add(out, text, len);
    if (is_last)
        text_add(out, "\n", 1);
    else
        text_format(out, "%*s", (int)(is_right ? 2 : fill + 2), "");
}

static void put_headings(const struct text_column *columns, size_t column_count,
                         const size_t *widths, struct text_buffer *out)
{
    char dashes[CELL_MAX];

    memset(dashes, '-', sizeof(dashes));
    for (size_t c = 0; c < column_count; c++)
        put_cell(columns[c].heading, strlen(columns[c].heading), widths[c], columns[c].is_right,
                 c + 1 == column_count, out);
    for (size_t c = 0; c < column_count; c++)
        put_cell(dashes, widths[c], widths[c], false, c + 1 == column_count, out);
}

void render_table(const json_t *array, const struct text_column *columns, size_t column_count,
                  struct text_buffer *out)
{
    size_t widths[COLUMNS_MAX];
    char cell[CELL_MAX];

    for (size_t c = 0; c < column_count; c++) {
        widths[c] = strlen(columns[c].heading);
        for (size_t i = 0; i < json_array_size(array); i++) {
            size_t len =
                format_cell(json_object_get(json_array_get(array, i), columns[c].key), cell);

            if (len > widths[c])
                widths[c] = len;
        }
    }
    put_headings(columns, column_count, widths, out);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *row = json_array_get(array, i);

        for (size_t c = 0; c < column_count; c++) {
            size_t len = format_cell(json_object_get(row, columns[c].key), cell);

            put_cell(cell, len, widths[c], columns[c].is_right, c + 1 == column_count, out);
        }
    }
}
