/*
 * The header of a message whose source has settings about it: it is held back until it is complete,
 * looked through once, and goes on without what is to be removed. Everything that the header
 * decides (route, job, envelope id, whether the message is taken at all) is decided here, before
 * the first octet of the message is appended anywhere.
 */
#include "core/base/err.h"
#include "core/obs/noted_header.h"
#include "core/obs/outcome.h"
#include "shard/inject_int.h"

/* Of a header that settings want to see; a larger one is refused (A20). */
#define HOLD_BYTES_MAX  262144u
#define HOLD_FIELDS_MAX 1000u

#define SETTINGS_BYTES_MAX    2048 /* of one field that says when and how to try */
#define JOB_ID_BYTES_MAX      255
#define ENVELOPE_ID_BYTES_MAX 100 /* RFC 3461 4.4 */

/* What each setting wants to know. Names of remove-header follow. */
enum want {
    WANT_VMTA,
    WANT_JOB,
    WANT_ENVELOPE_ID,
    WANT_SCHEDULE,
    WANT_SETTINGS,
    WANT_RECEIVED,
    WANT_MESSAGE_ID,
    WANT_DATE,
    WANT_FROM,
    WANT_FEEDBACK_ID,
    WANT_UNSUBSCRIBE,
    WANT_UNSUBSCRIBE_POST,
    WANT_DKIM_OPTIONS,
    WANT_DKIM_KEY,
    WANT_RESULTS,
    WANT_REMOVED,
    WANT_COUNT_MAX = WANT_REMOVED + CONF_REMOVE_HEADERS_MAX,
};

/* Everything that is needed while one header is looked through; nothing outlives the call. */
struct decision {
    struct intake_message *intake;
    const struct conf_source *source; /* as the newest snapshot has it */
    struct header_want wants[WANT_COUNT_MAX];
    uint32_t want_count;
    struct header_facts *facts;
    bool is_whole;
    struct slice asked; /* the name that a pattern list asked for last, and its first value */
    bool is_there;
    struct slice value;
    struct inject_settings settings;
    uint8_t terms[TERMS_BYTES_MAX]; /* encoded */
    char job_id[JOB_ID_BYTES_MAX + 1];
    char envelope_id[ENVELOPE_ID_BYTES_MAX + 1];
    uint8_t noted[OUTCOME_HEADERS_MAX];
    struct signing_wish wish;
    char dkim_options[SETTINGS_BYTES_MAX];
    size_t dkim_options_len;
};

static int refuse(struct intake_message *intake, uint16_t code, uint8_t subject, uint8_t detail,
                  const char *text)
{
    intake->refusal = (struct intake_refusal){text, code, subject, detail};
    return E_REFUSED;
}

/* ---- What is wanted -------------------------------------------------------------------------- */

static void want(struct decision *decision, enum want place, struct slice name, bool strip)
{
    decision->wants[place] = (struct header_want){.name = name, .strip = strip};
}

static const struct slice settings_name = {(const uint8_t *)"x-ringpost-set", 14};

/* A name that no field has, for what the source does not ask for. */
static void fill_wants(struct decision *decision)
{
    const struct conf_source *source = decision->source;
    struct slice rest = source->remove_header ? slice_str(source->remove_header) : SLICE_EMPTY;
    struct slice name;

    memset(decision->wants, 0, sizeof(decision->wants));
    if (source->process_x_virtual_mta)
        want(decision, WANT_VMTA, SLICE_LITERAL("x-virtual-mta"), !source->retain_x_virtual_mta);
    if (source->process_x_job)
        want(decision, WANT_JOB, slice_str(source->jobid_header), !source->retain_x_job);
    if (source->process_x_envid)
        want(decision, WANT_ENVELOPE_ID, SLICE_LITERAL("x-envid"), !source->retain_x_envid);
    if (source->process_x_schedule)
        want(decision, WANT_SCHEDULE, SLICE_LITERAL("x-schedule"), !source->retain_x_schedule);
    if (source->process_x_dkim_options)
        want(decision, WANT_DKIM_OPTIONS, SLICE_LITERAL("x-dkim-options"),
             !source->retain_x_dkim_options);
    if (source->process_x_dkim_key)
        want(decision, WANT_DKIM_KEY, SLICE_LITERAL("x-dkim-key"), !source->retain_x_dkim_key);
    if (source->allow_message_settings)
        want(decision, WANT_SETTINGS, settings_name, true);
    want(decision, WANT_RECEIVED, SLICE_LITERAL("received"), source->remove_received_headers);
    want(decision, WANT_MESSAGE_ID, SLICE_LITERAL("message-id"), false);
    want(decision, WANT_DATE, SLICE_LITERAL("date"),
         source->add_date_header == CONF_ADD_DATE_OVERRIDE);
    want(decision, WANT_FROM, SLICE_LITERAL("from"), false);
    want(decision, WANT_FEEDBACK_ID, SLICE_LITERAL("feedback-id"), false);
    want(decision, WANT_UNSUBSCRIBE, SLICE_LITERAL("list-unsubscribe"), false);
    want(decision, WANT_UNSUBSCRIBE_POST, SLICE_LITERAL("list-unsubscribe-post"), false);
    if (source->check_spf || source->check_dkim || source->check_iprev || source->check_mfrom) {
        want(decision, WANT_RESULTS, SLICE_LITERAL("authentication-results"), true);
        decision->wants[WANT_RESULTS].strips = inject_check_is_ours;
        decision->wants[WANT_RESULTS].context =
            conf_global(decision->intake->shard->conf)->host_name;
    }
    decision->want_count = WANT_REMOVED;
    while (source->remove_header && decision->want_count < WANT_COUNT_MAX &&
           conf_next_name(&rest, &name))
        want(decision, decision->want_count++, name, true);
}

static const struct header_want *found(const struct decision *decision, enum want place)
{
    return decision->wants[place].count > 0 ? &decision->wants[place] : NULL;
}

/* There is such a field, and whatever wants it, it is not removed. */
static bool stays(const struct decision *decision, enum want place)
{
    const struct header_want *field = found(decision, place);
    const struct header_facts *facts = decision->facts;
    uint32_t i = 0;

    while (field && i < facts->cut_count && facts->cuts[i].offset != field->first.offset)
        i++;
    return field && i == facts->cut_count;
}

/* ---- What the fields say --------------------------------------------------------------------- */

/*
 * RFC 5322 2.2.3: a field's value without its folds, blanks for tabs. Its length, or E_SYNTAX for
 * octets that no name may have (A18), or E_TOO_LONG.
 */
static int unfold(struct slice value, char *room, size_t size)
{
    size_t len = 0;

    for (size_t i = 0; i < value.len; i++) {
        uint8_t octet = value.data[i];

        if (octet == '\r' && i + 1 < value.len && value.data[i + 1] == '\n') {
            i++;
            continue;
        }
        if (octet == '\t')
            octet = ' ';
        if (octet < ' ' || octet == 0x7f)
            return E_SYNTAX;
        if (len == size)
            return E_TOO_LONG;
        room[len++] = (char)octet;
    }
    return (int)len;
}

static bool way_exists(const struct conf *conf, struct slice name)
{
    return conf_vmta_named(conf, name) != NULL || conf_pool_named(conf, name) != NULL;
}

/* The message names no way out that there is. */
static int choose_fallback(struct decision *decision)
{
    const struct conf_source *source = decision->source;

    if (!source->reject_invalid_virtual_mta) {
        if (source->invalid_vmta_fallback &&
            inject_choose_named(decision->intake, slice_str(source->invalid_vmta_fallback)))
            return 0;
        decision->intake->pool_id = CONF_NONE;
        decision->intake->vmta_id =
            conf_vmta_id(decision->intake->shard->conf, SLICE_LITERAL(CONF_VMTA_INVALID));
        return 0;
    }
    return refuse(decision->intake, 554, 3, 5, "there is no virtual MTA as the message names it");
}

/*
 * A user's list narrows that of its source and never widens it, so that no line about a user hands
 * out what the source withholds. A user whom a reload has taken away meanwhile is allowed nothing.
 */
static bool user_may_name(const struct intake_message *intake, struct slice name)
{
    const struct conf_smtp_user *user =
        intake->user ? conf_smtp_user(intake->shard->conf, slice_str(intake->user)) : NULL;

    if (!intake->user)
        return true;
    return user && (!user->allow_virtual_mta || conf_is_listed(user->allow_virtual_mta, name));
}

static int choose_by_header(struct decision *decision, struct slice name)
{
    const struct conf_source *source = decision->source;
    bool exists = way_exists(decision->intake->shard->conf, name);
    bool refuses = exists || source->reject_invalid_virtual_mta;

    if (refuses && source->allow_virtual_mta && !conf_is_listed(source->allow_virtual_mta, name))
        return refuse(decision->intake, 550, 7, 1,
                      "this source may not use the virtual MTA that the message names");
    if (refuses && !user_may_name(decision->intake, name))
        return refuse(decision->intake, 550, 7, 1,
                      "this user may not use the virtual MTA that the message names");
    return exists && inject_choose_named(decision->intake, name) ? 0 : choose_fallback(decision);
}

static struct slice held_octets(const struct intake_message *intake)
{
    const struct message_buffer *held = &intake->hold.octets;

    return held->used > 0 ? slice_of(held->data, held->used) : SLICE_EMPTY;
}

/* For pattern lists, whose rules mostly ask for one name many times. */
static bool find_header(void *context, struct slice name, struct slice *ret_value)
{
    struct decision *decision = context;
    struct header_walk walk;
    struct header_field field;

    if (!slice_equal_nocase(name, decision->asked)) {
        decision->asked = name;
        decision->is_there = false;
        header_walk_init(&walk, held_octets(decision->intake), decision->is_whole);
        while (!decision->is_there && header_walk_next(&walk, &field))
            decision->is_there = slice_equal_nocase(field.name, name);
        decision->value = decision->is_there ? field.value : SLICE_EMPTY;
    }
    *ret_value = decision->value;
    return decision->is_there;
}

static int choose_route(struct decision *decision)
{
    const struct header_want *named = found(decision, WANT_VMTA);

    if (named && named->first.value.len > 0)
        return choose_by_header(decision, named->first.value);
    if (named && !decision->source->allow_empty_x_virtual_mta)
        return choose_fallback(decision);
    if (decision->settings.way.len > 0)
        return choose_by_header(decision, decision->settings.way);
    if (!decision->source->patterns ||
        !inject_lists_choose(decision->intake, find_header, decision))
        inject_choose_default(decision->intake);
    return 0;
}

/* {auth} is the user, or nobody where none has logged in. */
static void put_job_prefix(const struct decision *decision, struct text *room)
{
    const char *text = decision->source->jobid_prefix, *user = decision->intake->user;
    struct slice rest = text ? slice_str(text) : SLICE_EMPTY;
    struct slice auth = SLICE_LITERAL("{auth}");

    while (rest.len > 0) {
        bool is_auth = slice_starts_nocase(rest, auth);

        if (!is_auth)
            text_put(room, slice_of(rest.data, 1));
        else if (user)
            text_put(room, slice_str(user));
        rest = slice_after(rest, is_auth ? auth.len : 1);
    }
}

static int take_job(struct decision *decision)
{
    const struct header_want *job = found(decision, WANT_JOB);
    struct text room = text_in(decision->job_id, sizeof(decision->job_id));
    char value[JOB_ID_BYTES_MAX];
    int len;

    if (!job || job->first.value.len == 0)
        return 0;
    len = unfold(job->first.value, value, sizeof(value));
    if (len >= 0) {
        put_job_prefix(decision, &room);
        text_put(&room, slice_of(value, (size_t)len));
    }
    if (len < 0 || room.is_cut)
        return refuse(decision->intake, 554, 6, 0, "the job id is too long or not printable");
    decision->intake->job_id = text_slice(&room);
    return 0;
}

static int take_envelope_id(struct decision *decision)
{
    const struct header_want *id = found(decision, WANT_ENVELOPE_ID);
    int len;

    if (!id || id->first.value.len == 0)
        return 0;
    len = unfold(id->first.value, decision->envelope_id, ENVELOPE_ID_BYTES_MAX);
    if (len < 0)
        return refuse(decision->intake, 554, 6, 0, "the envelope id is too long or not printable");
    decision->intake->envelope_id = slice_of(decision->envelope_id, (size_t)len);
    return 0;
}

/* The first field of each name that accounting files quote. */
static void note_headers(struct decision *decision)
{
    struct intake_message *intake = decision->intake;
    uint32_t count;
    const struct slice *names = conf_noted_headers(intake->shard->conf, &count);
    uint32_t noted = 0; /* a bit for each name */
    struct header_walk walk;
    struct header_field field;
    struct wire_writer w;

    if (count == 0)
        return;
    wire_writer_init(&w, decision->noted, sizeof(decision->noted));
    header_walk_init(&walk, held_octets(intake), decision->is_whole);
    while (header_walk_next(&walk, &field)) {
        for (uint32_t i = 0; i < count; i++) {
            if ((noted & 1u << i) != 0 || !slice_equal_nocase(field.name, names[i]))
                continue;
            noted |= 1u << i;
            noted_header_put(&w, names[i], field.value);
        }
    }
    intake->headers = slice_of(decision->noted, wire_written(&w));
}

/* Each field of that name, as far as nothing is wrong with it. */
static int take_settings(struct decision *decision)
{
    struct intake_message *intake = decision->intake;
    struct header_walk walk;
    struct header_field field;
    const char *why = NULL;

    if (!found(decision, WANT_SETTINGS))
        return 0;
    header_walk_init(&walk, held_octets(intake), decision->is_whole);
    while (!why && header_walk_next(&walk, &field)) {
        char room[SETTINGS_BYTES_MAX];
        int len;

        if (!slice_equal_nocase(field.name, settings_name))
            continue;
        len = unfold(field.value, room, sizeof(room));
        why = len < 0 ? "x-ringpost-set is too long or not printable"
                      : inject_settings_parse(slice_of(room, (size_t)len),
                                              decision->source->allow_message_settings,
                                              intake->wall_us, &decision->settings);
    }
    return why ? refuse(intake, 554, 6, 0, why) : 0;
}

static int take_schedule(struct decision *decision)
{
    const struct header_want *schedule = found(decision, WANT_SCHEDULE);
    char room[SETTINGS_BYTES_MAX];
    const char *why;
    int len;

    if (!schedule || schedule->first.value.len == 0)
        return 0;
    len = unfold(schedule->first.value, room, sizeof(room));
    why = len < 0 ? "x-schedule is too long or not printable"
                  : inject_schedule_parse(slice_of(room, (size_t)len), decision->intake->wall_us,
                                          &decision->settings.terms);
    return why ? refuse(decision->intake, 554, 6, 0, why) : 0;
}

/* How the message itself wants to be signed. */
static int take_dkim(struct decision *decision)
{
    const struct header_want *options = found(decision, WANT_DKIM_OPTIONS);
    const struct header_want *key = found(decision, WANT_DKIM_KEY);
    char reason[SIGN_WHY_MAX];
    const char *why = NULL;
    int len;

    if (options) {
        len = unfold(options->first.value, decision->dkim_options, sizeof(decision->dkim_options));
        why = len < 0 ? "x-dkim-options is too long or not printable"
                      : signing_wish_parse(slice_of(decision->dkim_options, (size_t)len),
                                           &decision->wish);
        decision->dkim_options_len = len < 0 ? 0 : (size_t)len;
    }
    if (!why && key && sign_key_parse(key->first.value, &decision->wish.key, reason) < 0)
        why = "x-dkim-key holds no private key that can be used";
    return why ? refuse(decision->intake, 554, 6, 0, why) : 0;
}

/* Settings and schedule, for the envelope. */
static int take_terms(struct decision *decision)
{
    struct wire_writer w;
    int result = take_settings(decision);

    if (result == 0)
        result = take_schedule(decision);
    if (result < 0)
        return result;
    wire_writer_init(&w, decision->terms, sizeof(decision->terms));
    terms_encode(&decision->settings.terms, &w);
    must(!w.failed);
    decision->intake->terms = slice_of(decision->terms, wire_written(&w));
    return 0;
}

/* What is known of the header by now, for inject_require.c. */
static struct slice first_of(const struct decision *decision, enum want place)
{
    const struct header_want *field = found(decision, place);

    return field ? field->first.value : SLICE_EMPTY;
}

static int check_requirements(struct decision *decision)
{
    const struct conf_source *source = decision->source;
    struct inject_fields fields = {
        .from = first_of(decision, WANT_FROM),
        .message_id = first_of(decision, WANT_MESSAGE_ID),
        .unsubscribe = first_of(decision, WANT_UNSUBSCRIBE),
        .unsubscribe_post = first_of(decision, WANT_UNSUBSCRIBE_POST),
        .from_count = decision->wants[WANT_FROM].count,
        .message_id_count = decision->wants[WANT_MESSAGE_ID].count,
    };
    const char *text;

    if (source->add_message_id_header && !stays(decision, WANT_MESSAGE_ID)) {
        fields.message_id = SLICE_LITERAL("<added@here>");
        fields.message_id_count = 1;
    }
    text = inject_require(decision->intake, source, &fields);
    return text ? refuse(decision->intake, 550, 7, 1, text) : 0;
}

static void choose_additions(struct decision *decision)
{
    const struct conf_source *source = decision->source;
    unsigned additions = 0;

    if (source->add_x_virtual_mta_header && !stays(decision, WANT_VMTA))
        additions |= INTAKE_ADD_VMTA;
    if (source->add_message_id_header && !stays(decision, WANT_MESSAGE_ID))
        additions |= INTAKE_ADD_MESSAGE_ID;
    if (source->add_date_header != CONF_ADD_DATE_NO && !stays(decision, WANT_DATE))
        additions |= INTAKE_ADD_DATE;
    if (source->feedback_id && !stays(decision, WANT_FEEDBACK_ID))
        additions |= INTAKE_ADD_FEEDBACK_ID;
    decision->intake->additions = additions;
}

static int scan(struct decision *decision)
{
    static const struct header_limits limits = {HOLD_BYTES_MAX, HOLD_FIELDS_MAX};
    struct intake_message *intake = decision->intake;
    int result = header_scan(held_octets(intake), decision->is_whole, &limits, decision->wants,
                             decision->want_count, decision->facts);

    if (result < 0)
        return refuse(intake, 554, 6, 0, "the header has too many fields");
    intake->is_looping = decision->wants[WANT_RECEIVED].count > decision->source->max_message_hops;
    return 0;
}

/* ---- On with the message --------------------------------------------------------------------- */

/*
 * What was held back, but for the cuts. The header ends with an empty line in any case, so that
 * whoever reads it finds the end where we did (A04): a From behind a line that is no field would
 * count for some.
 */
static int write_held(struct decision *decision)
{
    struct intake_message *intake = decision->intake;
    const struct message_buffer *held = &intake->hold.octets;
    const struct header_facts *facts = decision->facts;
    size_t at = 0;
    int result = 0;

    for (uint32_t i = 0; i <= facts->cut_count && result >= 0; i++) {
        size_t end = i < facts->cut_count ? facts->cuts[i].offset : facts->header_octets;

        if (end > at)
            result = inject_chunks_write(intake, held->data + at, end - at);
        if (i < facts->cut_count)
            at = end + facts->cuts[i].octets;
    }
    if (result >= 0)
        result = inject_chunks_write(intake, (const uint8_t *)"\r\n", 2);
    if (result >= 0 && held->used > facts->body_offset)
        result = inject_body_write(intake, held->data + facts->body_offset,
                                   held->used - facts->body_offset);
    return result;
}

/* All that may refuse the message, then its beginning. 0 or negative. */
static int take_all(struct decision *decision)
{
    int result = inject_check_judge(decision->intake);

    if (result == 0)
        result = scan(decision);
    if (result == 0)
        result = check_requirements(decision);
    if (result == 0)
        result = take_terms(decision);
    if (result == 0)
        result = take_dkim(decision);
    if (result == 0)
        result = choose_route(decision);
    if (result == 0)
        result = take_job(decision);
    return result == 0 ? take_envelope_id(decision) : result;
}

static int begin_content(struct decision *decision)
{
    struct intake_message *intake = decision->intake;
    uint8_t signatures[SIGNATURES_BYTES_MAX + SETTINGS_BYTES_MAX];
    int result;

    if (intake->source.dedup_window_ms > 0 && decision->wants[WANT_MESSAGE_ID].count == 1)
        inject_gate_note(intake, intake->job_id, first_of(decision, WANT_MESSAGE_ID));
    /* What the message says itself beats its source's list. */
    if ((decision->settings.seen & CONF_SET_PRIORITY) != 0)
        intake->priority = decision->settings.priority;
    choose_additions(decision);
    note_headers(decision);
    result = inject_verify_begin(intake, held_octets(intake), decision->is_whole);
    if (conf_signs(intake->shard->conf))
        intake->signatures = signing_reserve(
            &decision->wish, slice_of(decision->dkim_options, decision->dkim_options_len),
            intake->rcpt_count + (intake->source.bcc != NULL), signatures, sizeof(signatures));
    if (result >= 0)
        result = inject_begin_content(intake);
    /* They stand in the envelope now, and their texts here end with the call. */
    intake->headers = SLICE_EMPTY;
    intake->job_id = SLICE_EMPTY;
    intake->envelope_id = SLICE_EMPTY;
    intake->terms = SLICE_EMPTY;
    intake->signatures = SLICE_EMPTY;
    if (result >= 0)
        result = inject_sign_begin(intake, held_octets(intake), decision->facts, &decision->wish);
    return result < 0 ? result : write_held(decision);
}

static int decide(struct intake_message *intake, bool is_whole)
{
    struct shard *shard = intake->shard;
    struct decision decision = {
        .intake = intake,
        .source = inject_source(intake),
        .is_whole = is_whole,
        .facts = (struct header_facts *)home_scratch(shard, sizeof(struct header_facts)),
    };
    int result;

    if (!decision.facts)
        return E_FULL;
    fill_wants(&decision);
    result = take_all(&decision);
    if (result == 0)
        result = begin_content(&decision);
    sign_key_unref(decision.wish.key);
    return result;
}

/* The header ends in what is held, or with the message. */
static int let_go(struct intake_message *intake, bool is_whole)
{
    int result = decide(intake, is_whole);

    intake->hold.is_on = false;
    inject_hold_release(intake);
    return result;
}

/* ---- Holding --------------------------------------------------------------------------------- */

/* Room for more than is held: 0, or negative. */
static int grow(struct intake_message *intake)
{
    struct message_pool *pool = &intake->shard->pool;
    struct message_buffer *held = &intake->hold.octets;
    struct message_buffer larger;

    if (held->size >= HOLD_BYTES_MAX)
        return refuse(intake, 552, 3, 4, "the header is larger than 256 KB");
    if (message_pool_take(pool, held->size > 0 ? held->size * 4 : 1, &larger) < 0)
        return E_FULL;
    if (held->size > 0)
        memcpy(larger.data, held->data, held->used);
    larger.used = held->used;
    inject_hold_release(intake);
    *held = larger;
    return 0;
}

int inject_hold_write(struct intake_message *intake, const uint8_t *data, size_t len)
{
    struct intake_hold *hold = &intake->hold;

    while (len > 0) {
        size_t room = hold->octets.size - hold->octets.used;
        size_t part = len < room ? len : room;
        int result;

        if (part == 0) {
            result = grow(intake);
            if (result < 0)
                return result;
            continue;
        }
        memcpy(hold->octets.data + hold->octets.used, data, part);
        hold->octets.used += (uint32_t)part;
        data += part;
        len -= part;
        if (hold->is_ready ||
            !header_edge_find(&hold->edge, slice_of(hold->octets.data, hold->octets.used)))
            continue;
        if (inject_check_is_open(intake)) {
            hold->is_ready = true;
            continue;
        }
        result = let_go(intake, false);
        return result < 0 || len == 0 ? result : inject_body_write(intake, data, len);
    }
    return hold->is_ready ? INTAKE_PAUSE : 0;
}

int inject_hold_let_go(struct intake_message *intake)
{
    intake->hold.is_ready = false;
    return let_go(intake, false);
}

int inject_hold_finish(struct intake_message *intake)
{
    return let_go(intake, true);
}

void inject_hold_release(struct intake_message *intake)
{
    struct message_buffer *held = &intake->hold.octets;

    if (held->size > 0)
        message_pool_give(&intake->shard->pool, held);
    held->size = 0;
}
