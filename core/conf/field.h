/* field: writes a value into the field that its row names. Pure; any thread. */
#pragma once

#include "core/conf/value.h"

/* Whether the row writes a field at all. */
bool field_is_set_by(const struct directive *row);
/* target: the struct that the row's offset belongs to. */
void field_store(void *target, const struct directive *row, const struct value *value);
/* The defaults of all rows of a scope that write fields; presets by row. */
void field_store_presets(void *target, enum scope scope, const struct value *presets);
