#include "cmd/sample.h"

#include "core/base/mem.h"

#include <errno.h>

/* A bare LF becomes CRLF. The number of octets in room. */
static size_t read_crlf(FILE *file, uint8_t *room)
{
    size_t used = 0;
    int octet, before = 0;

    while (used + 2 <= SAMPLE_BYTES_MAX && (octet = getc(file)) != EOF) {
        if (octet == '\n' && before != '\r')
            room[used++] = '\r';
        room[used++] = (uint8_t)octet;
        before = octet;
    }
    return used;
}

bool sample_read(const char *path, struct bulk_header *ret_header)
{
    FILE *file = fopen(path, "r");
    uint8_t *room = mem_alloc(SAMPLE_BYTES_MAX);
    size_t used = file != NULL ? read_crlf(file, room) : 0;
    bool is_read = file != NULL && ferror(file) == 0;

    if (is_read)
        bulk_header_read(slice_of(room, used), ret_header);
    else
        fprintf(stderr, "ringpost: %s: %s\n", path, strerror(errno));
    if (file != NULL)
        fclose(file);
    mem_free(room);
    return is_read;
}

static const char by_signatures[] = "its own signatures";
static const char by_default[] = "what ringpost signs unless told otherwise";

void sample_print(const struct bulk_header *header, FILE *to)
{
    fprintf(to, "\nSample, judged by %s: %s\n",
            header->signature_count > 0 ? by_signatures : by_default,
            header->faults == 0 ? "nothing is missing" : "");
    for (int fault = 0; fault < BULK_FAULT_COUNT; fault++) {
        if (header->faults & 1u << fault)
            fprintf(to, "  %s\n", bulk_fault_text((enum bulk_fault)fault));
    }
}

void sample_print_json(const struct bulk_header *header, const char *answer, FILE *to)
{
    static const char begin[] = "{\"data\":{";
    const char *rest = answer + strlen(begin), *comma = "";

    if (strncmp(answer, begin, strlen(begin)) != 0) {
        fputs(answer, to);
        return;
    }
    /* The texts need no escapes. */
    fprintf(to, "%s\"sample\":{\"signatures\":%u,\"wrong\":[", begin, header->signature_count);
    for (int fault = 0; fault < BULK_FAULT_COUNT; fault++) {
        if ((header->faults & 1u << fault) == 0)
            continue;
        fprintf(to, "%s\"%s\"", comma, bulk_fault_text((enum bulk_fault)fault));
        comma = ",";
    }
    fprintf(to, "]}%s%s", *rest == '}' ? "" : ",", rest);
}
