#include "core/mail/plain_form.h"

#include <string.h>

static const char separator[] = "From ";
#define SEPARATOR_OCTETS (sizeof(separator) - 1)

static uint8_t *put_held(struct plain_form *form, uint8_t *to)
{
    memcpy(to, separator, form->matched);
    to += form->matched;
    form->matched = 0;
    form->is_open = false;
    return to;
}

static uint8_t *put_line_end(struct plain_form *form, uint8_t *to)
{
    form->is_inside = false;
    if (form->lines == PLAIN_CRLF)
        *to++ = '\r';
    *to++ = '\n';
    return to;
}

/* False when the line begins in another way. */
static bool match(struct plain_form *form, uint8_t octet, uint8_t **to)
{
    if (form->matched == 0 && octet == '>') {
        *(*to)++ = octet;
        return true;
    }
    if (octet != (uint8_t)separator[form->matched])
        return false;
    if (++form->matched == SEPARATOR_OCTETS) {
        *(*to)++ = '>';
        *to = put_held(form, *to);
    }
    return true;
}

static uint8_t *step(struct plain_form *form, uint8_t octet, uint8_t *to)
{
    if (form->has_cr) {
        form->has_cr = false;
        if (octet == '\n')
            return put_line_end(form, to);
        *to++ = '\r';
    }
    if (!form->is_inside) {
        form->is_inside = true;
        form->is_open = form->lines == PLAIN_MBOX;
        if (octet == '.')
            return to;
    }
    if (octet == '\r') {
        form->has_cr = true;
        return put_held(form, to);
    }
    if (form->is_open && match(form, octet, &to))
        return to;
    to = put_held(form, to);
    *to++ = octet;
    return to;
}

size_t plain_form_put(struct plain_form *form, struct slice *data, uint8_t *room,
                      size_t room_octets)
{
    uint8_t *to = room;

    while (data->len > 0 && room_octets - (size_t)(to - room) >= PLAIN_STEP_MAX) {
        to = step(form, data->data[0], to);
        *data = slice_after(*data, 1);
    }
    return (size_t)(to - room);
}

size_t plain_form_end(struct plain_form *form, uint8_t room[PLAIN_STEP_MAX])
{
    uint8_t *to = put_held(form, room);

    if (form->has_cr)
        *to++ = '\r';
    form->has_cr = false;
    if (form->is_inside)
        to = put_line_end(form, to);
    return (size_t)(to - room);
}
