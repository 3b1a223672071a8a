#include "core/conf/reader.h"

#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP 65536

/* ---- Opening ------------------------------------------------------------------------------- */

static int grow(struct reader *reader, size_t *capacity, size_t wanted)
{
    char *text = mem_try_alloc(wanted);

    if (text == NULL)
        return -ENOMEM;
    if (reader->len > 0)
        memcpy(text, reader->text, reader->len);
    mem_free(reader->text);
    reader->text = text;
    *capacity = wanted;
    return 0;
}

static int read_all(struct reader *reader, int fd, size_t expected, size_t max_bytes)
{
    size_t capacity = 0;
    int rc = grow(reader, &capacity, (expected < max_bytes ? expected : max_bytes) + 1);

    while (rc == 0) {
        ssize_t got = read(fd, reader->text + reader->len, capacity - reader->len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return 0;
        reader->len += (size_t)got;
        if (reader->len > max_bytes)
            return E_TOO_LONG;
        if (reader->len == capacity)
            rc = grow(reader, &capacity, capacity * 2 + READ_STEP);
    }
    return rc;
}

int reader_open_file(struct reader *reader, const char *name, bool special, size_t max_bytes)
{
    /* A pipe in the place of an included file must not hold us up before it is refused. */
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | (special ? 0 : O_NONBLOCK));
    struct stat status;
    int rc;

    *reader = (struct reader){.name = name};
    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) < 0)
        rc = -errno;
    else if (S_ISDIR(status.st_mode))
        rc = -EISDIR;
    else if (!S_ISREG(status.st_mode) && !special)
        rc = -EINVAL;
    else
        rc = read_all(reader, fd, (size_t)status.st_size, max_bytes);
    close(fd);
    if (rc < 0) {
        reader_close(reader);
        return rc;
    }
    reader->device = status.st_dev;
    reader->inode = status.st_ino;
    return 0;
}

int reader_open_text(struct reader *reader, const char *name, struct slice text)
{
    size_t capacity = 0;
    int rc;

    *reader = (struct reader){.name = name};
    if (text.len > READER_BYTES_MAX)
        return E_TOO_LONG;
    rc = grow(reader, &capacity, text.len + 1);
    if (rc < 0)
        return rc;
    memcpy(reader->text, text.data, text.len);
    reader->len = text.len;
    return 0;
}

void reader_close(struct reader *reader)
{
    mem_free(reader->text);
    *reader = (struct reader){.name = reader->name};
}

/* ---- Lines --------------------------------------------------------------------------------- */

/* Octets of the UTF-8 sequence at the start of s; 0 when there is none. No control octets. */
static size_t sequence_length(struct slice s, uint32_t *ret_code)
{
    uint8_t first = s.data[0];
    size_t len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t code;

    *ret_code = first;
    if (len == 1)
        return (first >= ' ' && first != 0x7f) || first == '\t' ? 1 : 0;
    if (first < 0xc2 || first > 0xf4 || s.len < len)
        return 0;
    code = first & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s.data[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s.data[i] & 0x3f);
    }
    /* Longer than need be, a surrogate, or beyond the last code point. */
    if ((len == 3 && code < 0x800) || (len == 4 && (code < 0x10000 || code > 0x10ffff)) ||
        (code >= 0xd800 && code <= 0xdfff))
        return 0;
    *ret_code = code;
    return len;
}

static bool looks_like_a_blank(uint32_t code)
{
    return code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x202f ||
           code == 0x205f || code == 0x3000;
}

/* Soft hyphens, marks of direction, blanks without width. What joins letters is none of these. */
static bool looks_like_nothing(uint32_t code)
{
    return code == 0xad || code == 0x200b || code == 0x200e || code == 0x200f ||
           (code >= 0x202a && code <= 0x202e) || (code >= 0x2060 && code <= 0x2069) ||
           code == 0xfeff;
}

/* Whether the line is text; says the first odd character in it, 0 when there is none. */
static bool is_text(struct reader *reader, struct slice line, uint32_t *ret_odd)
{
    struct slice rest = line;

    *ret_odd = 0;
    while (rest.len > 0) {
        uint32_t code;
        size_t len = sequence_length(rest, &code);

        if (len == 0) {
            reader->bad_octet = rest.data[0];
            reader->bad_column = line.len - rest.len + 1;
            return false;
        }
        if (*ret_odd == 0 && (looks_like_a_blank(code) || looks_like_nothing(code)))
            *ret_odd = code;
        rest = slice_after(rest, len);
    }
    return true;
}

/*
 * The line with blanks, or nothing, in the place of odd characters. It gets shorter and keeps its
 * end, behind which others look; the room in front of it becomes blanks.
 */
static struct slice without_odd_ones(struct reader *reader, struct slice line)
{
    char *start = reader->text + ((const char *)line.data - reader->text);
    size_t len = 0;

    for (size_t at = 0; at < line.len;) {
        uint32_t code;
        size_t octets = sequence_length(slice_after(line, at), &code);

        if (looks_like_a_blank(code)) {
            start[len++] = ' ';
        } else if (!looks_like_nothing(code)) {
            memmove(start + len, start + at, octets);
            len += octets;
        }
        at += octets;
    }
    memmove(start + line.len - len, start, len);
    memset(start, ' ', line.len - len);
    return line;
}

/* The next line with everything; false at the end. */
static bool take_line(struct reader *reader, struct slice *ret_line)
{
    struct slice rest = slice_of(reader->text + reader->at, reader->len - reader->at);
    struct slice mark = SLICE_LITERAL("\xef\xbb\xbf");
    size_t end;

    if (rest.len == 0)
        return false;
    end = slice_find(rest, '\n');
    reader->at += end < rest.len ? end + 1 : end;
    reader->line++;
    rest.len = end;
    if (reader->line == 1 && slice_starts_nocase(rest, mark))
        rest = slice_after(rest, mark.len);
    *ret_line = rest;
    return true;
}

static int content_of(struct reader *reader, struct slice line, struct slice *ret_content)
{
    uint32_t odd;

    line.len = slice_find(line, '#');
    /* Some editors write more than one. */
    while (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    if (line.len > READER_LINE_MAX)
        return E_TOO_LONG;
    if (!is_text(reader, line, &odd))
        return E_SYNTAX;
    if (odd != 0)
        line = without_odd_ones(reader, line);
    *ret_content = slice_trim(line);
    if (odd != 0 && ret_content->len > 0 && reader->odd_lines++ == 0) {
        reader->odd_line = reader->line;
        reader->odd_code = odd;
        reader->odd_is_blank = looks_like_a_blank(odd);
    }
    return 1;
}

int reader_next(struct reader *reader, struct slice *ret_content)
{
    struct slice line;

    if (!take_line(reader, &line))
        return 0;
    return content_of(reader, line, ret_content);
}

int reader_join(struct reader *reader, struct slice *content)
{
    struct slice line;
    struct slice more;
    size_t end;

    do {
        int rc;

        if (!take_line(reader, &line))
            return 0;
        rc = content_of(reader, line, &more);
        if (rc < 0)
            return rc;
        if (more.len == 0 && slice_find(line, '#') == line.len)
            return 0;
    } while (more.len == 0);
    /* What lay between, comments and line ends, becomes blanks of one long value. */
    end = (size_t)(content->data + content->len - (const uint8_t *)reader->text);
    memset(reader->text + end, ' ', (size_t)(more.data - (content->data + content->len)));
    content->len = (size_t)(more.data + more.len - content->data);
    return content->len > READER_VALUE_MAX ? E_TOO_LONG : 1;
}
