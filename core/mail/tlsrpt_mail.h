/*
 * tlsrpt_mail: where a domain wants reports about TLS (RFC 8460 section 3), and the mail that
 * brings one (section 5.3).
 *
 * Records come from strangers: a wrong one is none. The mail is CRLF lines as the log has them, and
 * no line begins with a dot. Pure functions of their arguments, any thread; nothing is allocated.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/text.h"

/* The addresses to which a report goes, by mail and by https; further ones are left out. */
#define TLSRPT_MAIL_TO_MAX 4u
#define TLSRPT_POST_TO_MAX 4u

enum tlsrpt_scheme {
    TLSRPT_NO_SCHEME, /* another one, or what is wrong */
    TLSRPT_MAILTO,
    TLSRPT_HTTPS,
};

/* The rua field of the one record among the texts of _smtp._tls.DOMAIN. False when there is none,
 * or more than one: the domain wants no reports then. */
bool tlsrpt_record_find(const struct slice *texts, uint32_t count, struct slice *ret_rua);
/*
 * Takes the next URI from the front of *rua. False at the end. ret_target: of TLSRPT_MAILTO what it
 * names, in room, percent-encoding undone, without what follows a question mark, and nobody has
 * checked that it is an address; of TLSRPT_HTTPS the URI itself, which https_uri_parse takes and
 * which lies where *rua did; else empty.
 */
bool tlsrpt_rua_next(struct slice *rua, char *room, size_t room_bytes,
                     enum tlsrpt_scheme *ret_scheme, struct slice *ret_target);

struct tlsrpt_mail {
    struct slice from; /* an address; its domain is the submitter */
    struct slice to;   /* "a@b, c@d" */
    struct slice domain;
    struct slice organization;
    struct slice report_id;
    struct slice host; /* ours, for the Message-ID */
    struct slice id;   /* of the message: likewise, and for the boundary */
    uint64_t now_us;
    int64_t from_s; /* the report's span, wall clock */
    int64_t until_s;
    struct slice content; /* the report in JSON, by gzip */
};

/* Room that is enough. */
size_t tlsrpt_mail_bytes_max(const struct tlsrpt_mail *mail);
void tlsrpt_mail_write(const struct tlsrpt_mail *mail, struct text *text);
