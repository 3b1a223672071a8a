/* field: writes a value into the field that its row names. Pure; any thread. */
#pragma once

#include "core/conf/value.h"

/* Whether the row writes a field at all. */
bool field_is_set_by(const struct directive *row);
/* target: the struct that the row's offset belongs to. */
void field_store(void *target, const struct directive *row, const struct value *value);
/* Of a row that writes one plain value: whether both structs have the same. */
bool field_is_equal(const void *a, const void *b, const struct directive *row);
/* Likewise: the value of another struct; texts are copied into the arena. */
void field_take(void *target, const void *from, const struct directive *row, struct arena *arena);
/* The defaults of all rows of a scope that write fields; presets by row. */
void field_store_presets(void *target, enum scope scope, const struct value *presets);
