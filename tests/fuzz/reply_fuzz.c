/*
 * The reply parser against itself: the input once whole and once cut as its own bytes say must give
 * the same replies, within all bounds.
 */
#include "core/base/must.h"
#include "core/mail/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Reads up to the next complete or bad reply, in pieces of at most step bytes. */
static enum reply_event read_reply(struct reply_parser *parser, const uint8_t *data, size_t len,
                                   size_t step, size_t *at)
{
    enum reply_event event = REPLY_MORE;

    reply_start(parser);
    while (*at < len && event != REPLY_DONE && event != REPLY_BAD) {
        size_t piece = len - *at < step ? len - *at : step;
        size_t used = 0;

        event = reply_feed(parser, data + *at, piece, &used);
        must(used <= piece);
        must(event != REPLY_MORE || used == piece);
        must(parser->text_bytes <= VERDICT_TEXT_MAX);
        must(parser->line_count <= REPLY_LINE_COUNT_MAX);
        must(parser->reply_bytes <= REPLY_BYTES_MAX);
        must(reply_line(parser).len <= VERDICT_TEXT_MAX);
        *at += used;
    }
    return event;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t step = len > 0 ? 1 + data[len - 1] % 16 : 1;
    size_t whole_at = 0;
    size_t cut_at = 0;

    while (whole_at < len) {
        struct reply_parser whole;
        struct reply_parser cut;
        enum reply_event event = read_reply(&whole, data, len, len, &whole_at);

        must(read_reply(&cut, data, len, step, &cut_at) == event);
        if (event == REPLY_BAD) {
            must(whole.fault == cut.fault);
            break;
        }
        must(whole_at == cut_at && whole.code == cut.code);
        must(slice_equal(reply_text(&whole), reply_text(&cut)));
        if (event == REPLY_DONE) {
            struct verdict verdict;

            reply_to_verdict(&whole, VERDICT_MESSAGE, VERDICT_AT_DOT, &verdict);
            must(verdict.enhanced[0] == 0 || verdict.enhanced[0] == verdict.code / 100);
            must(verdict.code >= 200 && verdict.code < 600);
        }
    }
    return 0;
}
