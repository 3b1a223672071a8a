/*
 * sample: the message of `ringpost check domain --sample FILE`: its header is looked at here, the
 * daemon never sees it. Main thread, blocking I/O.
 */
#pragma once

#include "core/mail/bulk_header.h"

#include <stdbool.h>
#include <stdio.h>

#define SAMPLE_BYTES_MAX                                                                           \
    (1u << 20) /* of the file, lines ended by CRLF                                                 \
                */

/* False, told on standard error, when the file cannot be read. */
bool sample_read(const char *path, struct bulk_header *ret_header);
void sample_print(const struct bulk_header *header, FILE *to);
/* answer: of the daemon, in JSON. With "sample" as the first of its data; as it is where it has
 * none.
 */
void sample_print_json(const struct bulk_header *header, const char *answer, FILE *to);
