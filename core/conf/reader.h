/*
 * reader: the text of one file, line by line.
 *
 * Comments, carriage returns and outer blanks are taken off; lines that are too long or no UTF-8
 * are refused one by one. Text that was copied from a web page or a word processor holds characters
 * which look like blanks or like nothing at all: they count as blanks and as nothing, and are told
 * of. The reader owns a writable copy of the text and the lines point into it, so that this, and
 * joining a value which goes on in the next line, is done in place. One thread.
 */
#pragma once

#include "core/base/slice.h"

#include <sys/types.h>

#define READER_LINE_MAX  65536
#define READER_VALUE_MAX 1048576
#define READER_BYTES_MAX (256u << 20)

struct reader {
    const char *name; /* for reports; the caller keeps it alive */
    char *text;
    size_t len;
    size_t at;
    unsigned line; /* number of the line last read */
    /* Of a line that is refused as no text: its first bad octet, and where, counted from 1. */
    uint8_t bad_octet;
    size_t bad_column;
    /* Lines with characters that only look like blanks, or like nothing; the first one's first. */
    unsigned odd_lines;
    unsigned odd_line;
    uint32_t odd_code;
    bool odd_is_blank;
    dev_t device; /* which file this is; both 0 for text from memory */
    ino_t inode;
};

/*
 * 0, or -errno, or E_TOO_LONG above max_bytes. special: pipes and the like are read too; without
 * it anything but a regular file is -EINVAL.
 */
int reader_open_file(struct reader *reader, const char *name, bool special, size_t max_bytes);
int reader_open_text(struct reader *reader, const char *name, struct slice text);
void reader_close(struct reader *reader);
/*
 * 1 and the line's content (which may be empty), 0 at the end, E_TOO_LONG or E_SYNTAX for a line
 * that is refused; reading can go on behind it.
 */
int reader_next(struct reader *reader, struct slice *ret_content);
/*
 * Joins the next line that holds more than a comment to *content, which must be the end of the
 * line last read. The same returns; 0 also when that line is blank.
 */
int reader_join(struct reader *reader, struct slice *content);
