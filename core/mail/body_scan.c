/*
 * The span scanner looks at 64 octets at a time through bit masks, one bit an octet. A block with
 * no event (a leading dot, a CR and LF that do not pair, a NUL) costs a few dozen instructions;
 * only events are looked at singly. What happens at the borders of spans and after an event is
 * decided octet by octet in lead_in().
 */
#include "core/mail/body_scan.h"

#include "core/base/must.h"

/* BODY_SCAN_PORTABLE and BODY_SCAN_NO_AVX2 let a test reach what another CPU would run. */
#if defined(__x86_64__) && !defined(BODY_SCAN_PORTABLE)
#define BODY_SCAN_X86 1
#include <immintrin.h>
#if !defined(BODY_SCAN_NO_AVX2)
#define BODY_SCAN_AVX2 1
#endif
#endif

enum scan_state {
    AT_START,    /* behind a true CRLF, or at the very beginning */
    AT_REPAIRED, /* behind a CRLF that a repair made: a dot here was never stuffed */
    IN_LINE,
    HELD_CR,     /* a CR is held back: bare, unless LF follows */
    HELD_DOT,    /* a dot at the start of a line is held back */
    HELD_DOT_CR, /* a dot at the start of a line and a CR */
};

static const struct slice nothing = SLICE_EMPTY;
static const struct slice crlf = SLICE_LITERAL("\r\n");
static const struct slice cr = SLICE_LITERAL("\r");
static const struct slice blank = SLICE_LITERAL(" ");
static const struct slice dot = SLICE_LITERAL(".");
static const struct slice dot_cr = SLICE_LITERAL(".\r");
static const struct slice two_dots = SLICE_LITERAL("..");
static const struct slice two_dots_crlf = SLICE_LITERAL("..\r\n");

#define BLOCK 64

struct block_masks {
    uint64_t cr;
    uint64_t lf;
    uint64_t dot;
    uint64_t nul;
    uint64_t high;
};

void body_scan_init(struct body_scan *scan, unsigned flags, uint32_t line_octets_max)
{
    must(line_octets_max >= BODY_LINE_OCTETS_MIN);
    *scan = (struct body_scan){
        .line_octets_max = line_octets_max,
        .flags = (uint8_t)flags,
        .state = AT_START,
    };
}

static bool repairs(const struct body_scan *scan)
{
    return (scan->flags & BODY_SCAN_REPAIR) != 0;
}

static bool is_raw(const struct body_scan *scan)
{
    return (scan->flags & BODY_SCAN_RAW) != 0;
}

/* ---- Single octets ------------------------------------------------------------------------- */

/* What lead_in() has decided: octets used and what they put into the stored form. */
struct step {
    size_t used;
    struct slice piece;
};

static struct step step_to(struct body_scan *scan, enum scan_state state, size_t used,
                           struct slice piece)
{
    scan->state = (uint8_t)state;
    return (struct step){used, piece};
}

/* The line ends; `more` octets of its CRLF are not in line_octets yet. */
static void end_line(struct body_scan *scan, uint32_t more)
{
    if (scan->line_octets + more > scan->line_octets_max)
        scan->findings |= BODY_LONG_LINE;
    scan->line_octets = 0;
}

/* A held CR turned out bare. */
static struct step bare_cr(struct body_scan *scan, struct slice repaired, struct slice as_it_was)
{
    scan->findings |= BODY_BARE_CR;
    if (!repairs(scan))
        return step_to(scan, IN_LINE, 0, as_it_was);
    end_line(scan, 1);
    return step_to(scan, AT_REPAIRED, 0, repaired);
}

/* Behind a held dot of DATA. */
static struct step after_dot(struct body_scan *scan, uint8_t octet)
{
    if (octet == '\r')
        return step_to(scan, HELD_DOT_CR, 1, nothing);
    scan->stuffed_dots++;
    scan->line_octets = 0;
    if (octet != '\n' || !repairs(scan))
        return step_to(scan, IN_LINE, 0, dot);
    /* Dot and bare LF: alone on a repaired line the dot would end the data, so it is doubled. */
    scan->findings |= BODY_BARE_LF;
    return step_to(scan, AT_REPAIRED, 1, two_dots_crlf);
}

static struct step after_dot_cr(struct body_scan *scan, uint8_t octet)
{
    if (octet == '\n') {
        scan->ended = true;
        return step_to(scan, AT_START, 1, nothing);
    }
    scan->stuffed_dots++;
    scan->line_octets = 1;
    return bare_cr(scan, two_dots_crlf, dot_cr);
}

/* A bare LF or a NUL at the front, with repair. */
static struct step repair_octet(struct body_scan *scan, uint8_t octet)
{
    if (octet == '\n') {
        scan->findings |= BODY_BARE_LF;
        end_line(scan, 2);
        return step_to(scan, AT_REPAIRED, 1, crlf);
    }
    scan->findings |= BODY_NUL;
    scan->line_octets++;
    return step_to(scan, IN_LINE, 1, blank);
}

/*
 * Decides what depends on the state and the first octet of a span. A step with neither octets used
 * nor a piece means: nothing special, the span scanner goes on.
 */
static struct step lead_in(struct body_scan *scan, uint8_t octet)
{
    switch ((enum scan_state)scan->state) {
    case HELD_CR:
        if (octet != '\n')
            return bare_cr(scan, crlf, cr);
        end_line(scan, 1);
        return step_to(scan, AT_START, 1, crlf);
    case HELD_DOT:
        return after_dot(scan, octet);
    case HELD_DOT_CR:
        return after_dot_cr(scan, octet);
    case AT_START:
    case AT_REPAIRED:
        if (octet == '.' && (is_raw(scan) || scan->state == AT_REPAIRED)) {
            scan->stuffed_dots++;
            scan->line_octets = 1;
            return step_to(scan, IN_LINE, 1, two_dots);
        }
        break;
    case IN_LINE:
        break;
    }
    if (repairs(scan) && (octet == '\n' || octet == '\0'))
        return repair_octet(scan, octet);
    return (struct step){0, nothing};
}

/* ---- Blocks of 64 octets ------------------------------------------------------------------- */

/* Masks of the octets at `at`; only the lowest len bits count. */
typedef void mask_fn(const uint8_t *at, struct block_masks *ret_masks);

#ifdef BODY_SCAN_AVX2

static inline uint64_t join32(int low, int high)
{
    return (uint32_t)low | (uint64_t)(uint32_t)high << 32;
}

__attribute__((target("avx2"))) static inline void masks_avx2(const uint8_t *at,
                                                              struct block_masks *ret_masks)
{
    __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)at);
    __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(at + 32));

#define EQUAL(octet)                                                                               \
    join32(_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, _mm256_set1_epi8(octet))),                    \
           _mm256_movemask_epi8(_mm256_cmpeq_epi8(b, _mm256_set1_epi8(octet))))
    ret_masks->cr = EQUAL('\r');
    ret_masks->lf = EQUAL('\n');
    ret_masks->dot = EQUAL('.');
    ret_masks->nul = EQUAL('\0');
    ret_masks->high = join32(_mm256_movemask_epi8(a), _mm256_movemask_epi8(b));
#undef EQUAL
}

#endif

#ifdef BODY_SCAN_X86

static inline uint64_t equal_sse2(const __m128i part[4], char octet)
{
    __m128i wanted = _mm_set1_epi8(octet);
    uint64_t mask = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned bits = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(part[i], wanted));

        mask |= (uint64_t)bits << (16 * i);
    }
    return mask;
}

static inline void masks_plain(const uint8_t *at, struct block_masks *ret_masks)
{
    __m128i part[4];

    ret_masks->high = 0;
    for (unsigned i = 0; i < 4; i++) {
        part[i] = _mm_loadu_si128((const __m128i *)(const void *)(at + 16 * i));
        ret_masks->high |= (uint64_t)(unsigned)_mm_movemask_epi8(part[i]) << (16 * i);
    }
    ret_masks->cr = equal_sse2(part, '\r');
    ret_masks->lf = equal_sse2(part, '\n');
    ret_masks->dot = equal_sse2(part, '.');
    ret_masks->nul = equal_sse2(part, '\0');
}

#else

static inline void masks_plain(const uint8_t *at, struct block_masks *ret_masks)
{
    struct block_masks masks = {0};

    for (unsigned i = 0; i < BLOCK; i++) {
        masks.cr |= (uint64_t)(at[i] == '\r') << i;
        masks.lf |= (uint64_t)(at[i] == '\n') << i;
        masks.dot |= (uint64_t)(at[i] == '.') << i;
        masks.nul |= (uint64_t)(at[i] == '\0') << i;
        masks.high |= (uint64_t)(at[i] >> 7) << i;
    }
    *ret_masks = masks;
}

#endif

/* How a span ended: octets used, those of them that pass, and the state behind them. */
struct span {
    size_t used;
    size_t passed;
    enum scan_state state;
};

/*
 * One event at data[at]. True when the span ends there; false when the event is only noted and the
 * scan goes on behind it.
 */
static bool event_ends_span(struct body_scan *scan, const uint8_t *data, size_t len, size_t at,
                            struct span *span)
{
    uint8_t octet = data[at];

    if (octet != '\n' && at > 0 && data[at - 1] == '\r') {
        scan->findings |= BODY_BARE_CR;
        if (repairs(scan)) {
            *span = (struct span){at, at - 1, HELD_CR};
            return true;
        }
        scan->findings |= octet == '\0' ? BODY_NUL : 0;
        return false;
    }
    if (octet != '.') {
        scan->findings |= octet == '\n' ? BODY_BARE_LF : BODY_NUL;
        *span = (struct span){at, at, IN_LINE};
        return repairs(scan);
    }
    if (is_raw(scan)) {
        *span = (struct span){at, at, AT_START};
        return true;
    }
    if (at + 1 == len || data[at + 1] == '\r' || data[at + 1] == '\n') {
        *span = (struct span){at + 1, at, HELD_DOT};
        return true;
    }
    scan->stuffed_dots++;
    return false;
}

static inline uint64_t lowest_bits(unsigned count)
{
    return count == 0 ? 0 : ~0ull >> (BLOCK - count);
}

/* Counts octets of lines; leading: dots at the start of a line, which do not count when they are
 * there for transparency (RFC 5321 4.5.3.1.6). */
static inline void count_line(struct body_scan *scan, uint64_t lf, uint64_t leading,
                              unsigned octets)
{
    uint32_t first;

    if (lf == 0) {
        scan->line_octets += octets;
        first = scan->line_octets;
    } else {
        first = scan->line_octets + (unsigned)__builtin_ctzll(lf) + 1;
        scan->line_octets = octets + (unsigned)__builtin_clzll(lf) - BLOCK;
    }
    /* Only a dot behind the last LF belongs to the line that goes on. */
    if (__builtin_expect(leading != 0, 0) && leading > lf)
        scan->line_octets--;
    if (__builtin_expect(first > scan->line_octets_max, 0))
        scan->findings |= BODY_LONG_LINE;
}

/*
 * Passes octets from the start of a span up to an event that needs a decision, or to the end. The
 * state is AT_START, AT_REPAIRED or IN_LINE, and the first octet is not one for lead_in().
 */
__attribute__((always_inline)) static inline struct span
scan_span(struct body_scan *scan, const uint8_t *data, size_t len, mask_fn *masks_of)
{
    uint64_t after_cr = 0;
    uint64_t line_start = scan->state == AT_START;
    uint64_t high = 0;
    struct span span = {0};
    uint8_t tail[BLOCK] = {0};

    for (size_t base = 0; base < len; base += BLOCK) {
        unsigned octets = len - base < BLOCK ? (unsigned)(len - base) : BLOCK;
        uint64_t valid = lowest_bits(octets);
        const uint8_t *at = data + base;
        struct block_masks masks;
        uint64_t lf_behind_cr;
        uint64_t leading;
        uint64_t events;

        if (octets < BLOCK)
            at = memcpy(tail, at, octets);
        masks_of(at, &masks);
        masks.nul &= valid;
        after_cr |= masks.cr << 1;
        lf_behind_cr = masks.lf & after_cr;
        line_start |= lf_behind_cr << 1;
        leading = masks.dot & line_start;
        events = ((after_cr ^ masks.lf) & valid) | leading | masks.nul;
        for (; __builtin_expect(events != 0, 0); events &= events - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(events);

            if (!event_ends_span(scan, data, len, base + bit, &span))
                continue;
            /* Octets behind the event count when they are read again. */
            octets = (unsigned)(span.used - base);
            count_line(scan, masks.lf & lowest_bits(octets), leading & lowest_bits(octets), octets);
            scan->findings |= ((high | (masks.high & lowest_bits(octets))) != 0) * BODY_8BIT;
            return span;
        }
        high |= masks.high;
        count_line(scan, masks.lf, leading, octets);
        after_cr = masks.cr >> (BLOCK - 1);
        line_start = lf_behind_cr >> (BLOCK - 1);
    }
    span = (struct span){len, len, IN_LINE};
    if (data[len - 1] == '\r') {
        span.passed--;
        span.state = HELD_CR;
    } else if (data[len - 1] == '\n' && len > 1 && data[len - 2] == '\r') {
        span.state = AT_START;
    }
    scan->findings |= (high != 0) * BODY_8BIT;
    return span;
}

#ifdef BODY_SCAN_AVX2
__attribute__((target("avx2"))) static struct span scan_avx2(struct body_scan *scan,
                                                             const uint8_t *data, size_t len)
{
    return scan_span(scan, data, len, masks_avx2);
}
#endif

static struct span scan_plain(struct body_scan *scan, const uint8_t *data, size_t len)
{
    return scan_span(scan, data, len, masks_plain);
}

static struct span scan_on(struct body_scan *scan, const uint8_t *data, size_t len)
{
#ifdef BODY_SCAN_AVX2
    if (__builtin_cpu_supports("avx2"))
        return scan_avx2(scan, data, len);
#endif
    return scan_plain(scan, data, len);
}

/* ---- The way in ---------------------------------------------------------------------------- */

size_t body_scan_next(struct body_scan *scan, const uint8_t *data, size_t len,
                      struct slice *ret_piece)
{
    size_t used = 0;

    *ret_piece = nothing;
    while (used < len && !scan->ended && ret_piece->len == 0) {
        struct step step = lead_in(scan, data[used]);

        if (step.used == 0 && step.piece.len == 0) {
            struct span span = scan_on(scan, data + used, len - used);

            must(span.used > 0);
            scan->state = (uint8_t)span.state;
            step.used = span.used;
            step.piece = slice_of(data + used, span.passed);
        }
        used += step.used;
        *ret_piece = step.piece;
    }
    scan->stored_octets += ret_piece->len;
    return used;
}

void body_scan_finish(struct body_scan *scan, struct slice *ret_piece)
{
    must(is_raw(scan));
    *ret_piece = nothing;
    if (scan->state == AT_START || scan->state == AT_REPAIRED)
        return;
    if (scan->state == HELD_CR)
        scan->findings |= BODY_BARE_CR;
    end_line(scan, scan->state == HELD_CR ? 1 : 2);
    scan->state = AT_START;
    scan->stored_octets += crlf.len;
    *ret_piece = crlf;
}
