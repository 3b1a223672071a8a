#include "core/mail/bulk_header.h"

#include "core/mail/dkim_claim.h"
#include "core/mail/header_scan.h"

const char *bulk_fault_text(enum bulk_fault fault)
{
    static const char *const texts[BULK_FAULT_COUNT] = {
        [BULK_NO_UNSUBSCRIBE] = "there is not one List-Unsubscribe field",
        [BULK_NO_HTTPS] = "List-Unsubscribe has no https: URI, which one click needs",
        [BULK_NO_POST] = "there is not one List-Unsubscribe-Post field",
        [BULK_POST_IS_OTHER] = "List-Unsubscribe-Post is not List-Unsubscribe=One-Click",
        [BULK_UNSUBSCRIBE_IS_UNSIGNED] = "no signature covers List-Unsubscribe",
        [BULK_POST_IS_UNSIGNED] = "no signature covers List-Unsubscribe-Post",
        [BULK_NO_FEEDBACK_ID] = "there is not one Feedback-ID field",
        [BULK_FEEDBACK_ID_IS_UNSIGNED] = "no signature covers Feedback-ID",
    };

    return texts[fault];
}

/* The fields that are looked at. */
enum field {
    FIELD_UNSUBSCRIBE,
    FIELD_POST,
    FIELD_FEEDBACK,
    FIELD_COUNT,
};

static const struct slice names[FIELD_COUNT] = {
    [FIELD_UNSUBSCRIBE] = SLICE_LITERAL("List-Unsubscribe"),
    [FIELD_POST] = SLICE_LITERAL("List-Unsubscribe-Post"),
    [FIELD_FEEDBACK] = SLICE_LITERAL("Feedback-ID"),
};

struct reading {
    uint32_t counts[FIELD_COUNT];
    struct slice values[FIELD_COUNT];
    bool is_covered[FIELD_COUNT];
    uint32_t signature_count;
};

static void note_covered(const char *list, struct reading *reading)
{
    struct slice rest = slice_str(list);

    while (rest.len > 0) {
        size_t end = slice_find(rest, ',');
        struct slice name = slice_trim(slice_of(rest.data, end));

        for (int i = 0; i < FIELD_COUNT; i++)
            reading->is_covered[i] |= slice_equal_nocase(name, names[i]);
        rest = slice_after(rest, end < rest.len ? end + 1 : end);
    }
}

static void note_field(const struct header_field *field, struct reading *reading)
{
    struct dkim_claim claim;
    enum dkim_result result;

    for (int i = 0; i < FIELD_COUNT; i++) {
        if (!slice_equal_nocase(field->name, names[i]))
            continue;
        reading->counts[i]++;
        reading->values[i] = field->value;
    }
    if (slice_equal_nocase(field->name, SLICE_LITERAL("DKIM-Signature")) &&
        dkim_claim_parse(field->value, &claim, &result) == NULL) {
        reading->signature_count++;
        note_covered(claim.names, reading);
    }
}

/* RFC 2369: URIs in angle brackets, between commas. */
static bool names_https(struct slice value)
{
    while (value.len > 0) {
        size_t begin = slice_find(value, '<');

        value = slice_after(value, begin < value.len ? begin + 1 : begin);
        if (slice_starts_nocase(header_trim_folded(value), SLICE_LITERAL("https://")))
            return true;
    }
    return false;
}

static uint32_t faults_of(const struct reading *reading)
{
    static const uint32_t missing[] = {BULK_NO_UNSUBSCRIBE, BULK_NO_POST, BULK_NO_FEEDBACK_ID};
    static const uint32_t unsigned_[] = {BULK_UNSUBSCRIBE_IS_UNSIGNED, BULK_POST_IS_UNSIGNED,
                                         BULK_FEEDBACK_ID_IS_UNSIGNED};
    uint32_t faults = 0;

    for (int i = 0; i < FIELD_COUNT; i++) {
        if (reading->counts[i] != 1)
            faults |= 1u << missing[i];
        else if (!reading->is_covered[i])
            faults |= 1u << unsigned_[i];
    }
    if (reading->counts[FIELD_UNSUBSCRIBE] == 1 && !names_https(reading->values[FIELD_UNSUBSCRIBE]))
        faults |= 1u << BULK_NO_HTTPS;
    if (reading->counts[FIELD_POST] == 1 &&
        !slice_equal_nocase(reading->values[FIELD_POST],
                            SLICE_LITERAL("List-Unsubscribe=One-Click")))
        faults |= 1u << BULK_POST_IS_OTHER;
    return faults;
}

void bulk_header_read(struct slice message, struct bulk_header *ret_header)
{
    struct reading reading = {0};
    struct header_walk walk;
    struct header_field field;

    header_walk_init(&walk, message, true);
    for (uint32_t count = 0; count < BULK_FIELDS_MAX && header_walk_next(&walk, &field); count++)
        note_field(&field, &reading);
    if (reading.signature_count == 0)
        note_covered(dkim_usual_names, &reading);
    *ret_header = (struct bulk_header){
        .signature_count = reading.signature_count,
        .faults = faults_of(&reading),
    };
}
