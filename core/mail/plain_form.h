/*
 * plain_form: stored content (CRLF lines, dot-stuffed) as files and programs get it, in pieces.
 *
 * Dots that were doubled are single again. Lines end in CRLF, or in LF; for mailboxes a line that
 * begins with "From ", behind any number of ">", gets one ">" more, so that it can be undone
 * (mboxrd). Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

enum plain_lines {
    PLAIN_CRLF,
    PLAIN_LF,
    PLAIN_MBOX, /* LF, and quoted */
};

/* Starts as zeros but for `lines`. */
struct plain_form {
    enum plain_lines lines;
    bool is_inside;  /* a line has begun */
    bool has_cr;     /* one is held back */
    bool is_open;    /* what the line began with may still become "From " */
    uint8_t matched; /* octets of that, held back */
};

/* Octets that one octet, or the end, becomes at most. */
#define PLAIN_STEP_MAX 8u

/* Takes octets from *data while there is room for a step; returns how many were written. */
size_t plain_form_put(struct plain_form *form, struct slice *data, uint8_t *room,
                      size_t room_octets);
/* The content has ended: what was held back, and the end of a last line that has none. */
size_t plain_form_end(struct plain_form *form, uint8_t room[PLAIN_STEP_MAX]);
