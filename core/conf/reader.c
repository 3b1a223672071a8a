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
static size_t sequence_length(struct slice s)
{
    uint8_t first = s.data[0];
    size_t len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t code;

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
    return len;
}

static bool is_text(struct slice s)
{
    while (s.len > 0) {
        size_t len = sequence_length(s);

        if (len == 0)
            return false;
        s = slice_after(s, len);
    }
    return true;
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

static int content_of(struct slice line, struct slice *ret_content)
{
    if (line.len > READER_LINE_MAX)
        return E_TOO_LONG;
    line.len = slice_find(line, '#');
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    if (!is_text(line))
        return E_SYNTAX;
    *ret_content = slice_trim(line);
    return 1;
}

int reader_next(struct reader *reader, struct slice *ret_content)
{
    struct slice line;

    if (!take_line(reader, &line))
        return 0;
    return content_of(line, ret_content);
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
        rc = content_of(line, &more);
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
