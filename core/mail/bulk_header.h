/*
 * bulk_header: what large receivers want to see in the header of bulk mail: unsubscribing by one
 * click (RFC 8058) and Feedback-ID, both covered by a DKIM signature.
 *
 * What a signature covers is read from the message's own DKIM-Signature fields; a message without
 * one is judged by what is signed without being asked for (dkim_usual_names). Signatures are not
 * verified here. Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

#include <stdint.h>

#define BULK_FIELDS_MAX 1000u /* further fields are not looked at */

enum bulk_fault {
    BULK_NO_UNSUBSCRIBE, /* there is no List-Unsubscribe, or several */
    BULK_NO_HTTPS,       /* it names no https: URI */
    BULK_NO_POST,        /* there is no List-Unsubscribe-Post, or several */
    BULK_POST_IS_OTHER,  /* it is not "List-Unsubscribe=One-Click" */
    BULK_UNSUBSCRIBE_IS_UNSIGNED,
    BULK_POST_IS_UNSIGNED,
    BULK_NO_FEEDBACK_ID,
    BULK_FEEDBACK_ID_IS_UNSIGNED,
    BULK_FAULT_COUNT,
};

struct bulk_header {
    uint32_t signature_count; /* that can be read; 0: the usual names are taken for signed */
    uint32_t faults;          /* 1 << enum bulk_fault */
};

/* message: from its start, lines ended by CRLF. */
void bulk_header_read(struct slice message, struct bulk_header *ret_header);
/* A sentence without its full stop. */
const char *bulk_fault_text(enum bulk_fault fault);
