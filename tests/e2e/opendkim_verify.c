/*
 * What libopendkim says of signed messages: a program of its own, for ci/dkim, since it brings
 * OpenSSL. Reads messages on standard input, each behind its length in decimal and LF; writes a
 * line for each: one letter per signature, in order: P passed, F failed, U of an algorithm that
 * this build does not know. usage: opendkim_verify RECORDS (lines "NAME RECORD").
 */
#include <dkim.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *text)
{
    fprintf(stderr, "opendkim_verify: %s\n", text);
    exit(1);
}

/* Fields without their last CRLF. Returns the body, or NULL when the header was refused. */
static unsigned char *put_header(DKIM *dkim, unsigned char *message, const unsigned char *end)
{
    unsigned char *field = message;

    while (field < end && memcmp(field, "\r\n", 2) != 0) {
        unsigned char *next = field;

        do {
            next = memchr(next, '\n', (size_t)(end - next));
            if (next == NULL)
                return NULL;
            next++;
        } while (next < end && (*next == ' ' || *next == '\t'));
        if (dkim_header(dkim, field, (size_t)(next - field - 2)) != DKIM_STAT_OK)
            return NULL;
        field = next;
    }
    return field + 2;
}

static char verdict(DKIM_SIGINFO *signature)
{
    return (dkim_sig_getflags(signature) & DKIM_SIGFLAG_PASSED) != 0 &&
                   dkim_sig_getbh(signature) == DKIM_SIGBH_MATCH
               ? 'P'
               : 'F';
}

static void verify(DKIM_LIB *lib, unsigned char *message, size_t len)
{
    DKIM_STAT status;
    DKIM *dkim = dkim_verify(lib, (const unsigned char *)"id", NULL, &status);
    DKIM_SIGINFO **signatures;
    unsigned char *body;
    int count = 0;

    if (dkim == NULL)
        die("no handle");
    body = put_header(dkim, message, message + len);
    if (body != NULL && dkim_eoh(dkim) <= DKIM_STAT_NOSIG) {
        if (body < message + len)
            dkim_body(dkim, body, (size_t)(message + len - body));
        dkim_eom(dkim, NULL);
    }
    if (dkim_getsiglist(dkim, &signatures, &count) != DKIM_STAT_OK)
        count = 0;
    for (int i = 0; i < count; i++)
        putchar(verdict(signatures[i]));
    putchar('\n');
    dkim_free(dkim);
}

int main(int argc, char **argv)
{
    DKIM_LIB *lib = dkim_init(NULL, NULL);
    dkim_query_t method = DKIM_QUERY_FILE;
    size_t len;

    if (argc != 2 || lib == NULL)
        die("usage: opendkim_verify RECORDS");
    if (dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_QUERYMETHOD, &method, sizeof(method)) !=
            DKIM_STAT_OK ||
        dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_QUERYINFO, argv[1], strlen(argv[1])) !=
            DKIM_STAT_OK)
        die("the records cannot be used");
    while (scanf("%zu", &len) == 1) {
        unsigned char *message = malloc(len + 1);

        if (message == NULL || getchar() != '\n' || fread(message, 1, len, stdin) != len)
            die("a message is cut short");
        verify(lib, message, len);
        free(message);
    }
    dkim_close(lib);
    return fflush(stdout) == 0 ? 0 : 1;
}
