#include "tests/unit/net/fake_intake.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdio.h>

/* A message between begin and finish, or abort. */
struct fake_open {
    struct fake_intake *fake;
    struct fake_open *next;
    bool body_started;
    bool write_failed;
    bool is_paused;
    uint64_t octets; /* since it was begun or resumed, or in the pause */
    size_t body_room;
    struct fake_message message;
};

static struct fake_open *open_of(struct intake_message *message)
{
    return (struct fake_open *)message;
}

static int refusal(struct fake_intake *fake, enum fake_step step, struct intake_reply *ret_reply)
{
    if (!fake->refuses[step])
        return 0;
    *ret_reply = fake->refusals[step];
    return E_REFUSED;
}

#define FAKE_PASS 77

static int fake_admit(void *taker, const struct ipaddr_port *peer, const struct ipaddr_port *local,
                      const char *listener_source, const struct conf_source **ret_source,
                      uint64_t *ret_pass, struct intake_reply *ret_reply)
{
    struct fake_intake *fake = taker;
    int rc = refusal(fake, FAKE_ADMIT, ret_reply);

    must(peer->ip.family != IPADDR_NONE && local->ip.family != IPADDR_NONE);
    if (rc < 0)
        return rc;
    fake->admitted_now++;
    *ret_source = &fake->source;
    *ret_pass = FAKE_PASS;
    return 0;
}

static void fake_leave(void *taker, uint64_t pass)
{
    struct fake_intake *fake = taker;

    must(pass == FAKE_PASS);
    must(fake->admitted_now > 0);
    fake->admitted_now--;
}

/* Who says "u" and "p" is right; by CRAM-MD5 who says 32 times "d". */
static void fake_login(void *taker, const struct intake_client *client,
                       const struct intake_login *login, intake_login_fn *answer, void *asker,
                       uint64_t cookie)
{
    static const char digest[] = "dddddddddddddddddddddddddddddddd";
    struct fake_intake *fake = taker;
    struct slice wanted = slice_str(login->challenge.len > 0 ? digest : "p");
    bool is_right =
        slice_equal(login->user, SLICE_LITERAL("u")) && slice_equal(login->secret, wanted);
    struct intake_identity identity = {.reply = {.code = 535, .enhanced = {5, 7, 8}}};

    must(client->user == NULL && client->esmtp);
    fake->logins++;
    if (is_right)
        identity = (struct intake_identity){.user = "u",
                                            .source_name = "of users",
                                            .source = &fake->source_of_users,
                                            .reply = {.code = 235, .enhanced = {2, 7, 0}}};
    answer(asker, cookie, &identity);
}

static void copy_text(char *room, size_t room_bytes, struct slice text)
{
    must(text.len < room_bytes);
    memcpy(room, text.data, text.len);
    room[text.len] = '\0';
}

static int fake_begin(void *taker, const struct intake_client *client, const struct address *sender,
                      const struct intake_params *params, struct intake_message **ret_message,
                      struct intake_reply *ret_reply)
{
    struct fake_intake *fake = taker;
    int rc = refusal(fake, FAKE_BEGIN, ret_reply);
    struct fake_open *open;

    must(client->source != NULL && client->helo.len > 0);
    if (rc < 0)
        return rc;
    open = fake->spare != NULL ? fake->spare : mem_alloc(sizeof(*open));
    fake->spare = NULL;
    open->body_started = false;
    open->write_failed = false;
    open->is_paused = false;
    open->octets = 0;
    open->body_room = 0;
    open->message.rcpt_count = 0;
    open->message.body = NULL;
    open->message.body_bytes = 0;
    open->fake = fake;
    open->next = fake->open;
    fake->open = open;
    fake->begun++;
    copy_text(open->message.sender, sizeof(open->message.sender), sender->text);
    open->message.user = client->user;
    copy_text(open->message.helo, sizeof(open->message.helo), client->helo);
    open->message.esmtp = client->esmtp;
    open->message.smtputf8 = params->smtputf8;
    open->message.body_8bitmime = params->body_8bitmime;
    open->message.size_bytes = params->size_bytes;
    *ret_message = (struct intake_message *)open;
    return 0;
}

static int fake_add_rcpt(struct intake_message *message, const struct intake_client *client,
                         const struct address *rcpt, const struct intake_params *params,
                         struct intake_reply *ret_reply)
{
    struct fake_open *open = open_of(message);
    struct fake_message *m = &open->message;
    int rc = refusal(open->fake, FAKE_RCPT, ret_reply);

    must(!open->body_started && rcpt->text.len > 0 && rcpt->host_bytes > 0);
    must(!rcpt->is_local_only && (!rcpt->is_utf8 || params->smtputf8));
    if (rc < 0)
        return rc;
    must(m->rcpt_count < FAKE_RCPT_COUNT_MAX);
    copy_text(m->rcpts[m->rcpt_count], sizeof(m->rcpts[0]), rcpt->text);
    copy_text(m->hosts[m->rcpt_count], sizeof(m->hosts[0]), address_host(rcpt));
    m->rcpt_count++;
    return 0;
}

static int fake_start_body(struct intake_message *message, const struct intake_client *client,
                           intake_resume_fn *resume, void *asker, uint64_t cookie,
                           struct intake_reply *ret_reply)
{
    struct fake_open *open = open_of(message);
    int rc = refusal(open->fake, FAKE_START_BODY, ret_reply);

    must(!open->body_started && open->message.rcpt_count > 0);
    if (rc == 0)
        open->body_started = true;
    open->fake->resume = resume;
    open->fake->resume_asker = asker;
    open->fake->resume_cookie = cookie;
    return rc;
}

/* What write answers. */
static int take_octets(struct fake_open *open, size_t len)
{
    struct fake_intake *fake = open->fake;

    open->octets += len;
    if (open->is_paused && open->octets > fake->octets_in_pause_max)
        fake->octets_in_pause_max = open->octets;
    if (fake->pause_octets > 0 && !open->is_paused && open->octets >= fake->pause_octets) {
        open->is_paused = true;
        open->octets = 0;
        fake->pauses++;
    }
    return open->is_paused ? INTAKE_PAUSE : 0;
}

static int fake_write(struct intake_message *message, const uint8_t *data, size_t len)
{
    struct fake_open *open = open_of(message);
    struct fake_message *m = &open->message;
    struct intake_reply unused;

    must(open->body_started && !open->write_failed && len > 0);
    open->fake->write_calls++;
    if (refusal(open->fake, FAKE_WRITE, &unused) < 0) {
        open->write_failed = true;
        return E_FULL;
    }
    open->fake->written_octets += len;
    if (!open->fake->keep_bodies)
        return take_octets(open, len);
    if (m->body_bytes + len > open->body_room) {
        uint8_t *body = mem_alloc(2 * (m->body_bytes + len));

        memcpy(body, m->body != NULL ? m->body : data, m->body_bytes);
        mem_free(m->body);
        m->body = body;
        open->body_room = 2 * (m->body_bytes + len);
    }
    memcpy(m->body + m->body_bytes, data, len);
    m->body_bytes += len;
    return take_octets(open, len);
}

/* The body is kept or freed by now. */
static void drop_open(struct fake_open *open)
{
    struct fake_open **at = &open->fake->open;

    while (*at != open)
        at = &(*at)->next;
    *at = open->next;
    mem_free(open->fake->spare);
    open->fake->spare = open;
}

static void tell(struct fake_intake *fake, uint64_t cookie, uint16_t code)
{
    struct intake_reply reply = {.code = code, .enhanced = {(uint8_t)(code / 100), 0, 0}};

    snprintf(reply.text, sizeof(reply.text), "id %u", fake->message_count);
    fake->answer(fake->asker, cookie, &reply);
}

static void fake_finish(struct intake_message *message, const struct intake_body_facts *facts,
                        intake_answer_fn *answer, void *asker, uint64_t cookie)
{
    struct fake_open *open = open_of(message);
    struct fake_intake *fake = open->fake;
    bool refused = open->write_failed || fake->refuses[FAKE_FINISH];

    must(open->body_started);
    fake->answer = answer;
    fake->asker = asker;
    fake->finished++;
    open->message.facts = *facts;
    if (!refused) {
        uint32_t slot = fake->message_count % FAKE_MESSAGE_COUNT_MAX;

        mem_free(fake->messages[slot].body);
        fake->messages[slot] = open->message;
        fake->message_count++;
    } else {
        mem_free(open->message.body);
    }
    drop_open(open);
    if (fake->hold_answers) {
        must(fake->waiting < FAKE_MESSAGE_COUNT_MAX);
        fake->cookies[fake->waiting++] = cookie;
    } else if (refused) {
        enum fake_step cause = fake->refuses[FAKE_FINISH] ? FAKE_FINISH : FAKE_WRITE;

        answer(asker, cookie, &fake->refusals[cause]);
    } else {
        tell(fake, cookie, 250);
    }
}

static void fake_abort(struct intake_message *message)
{
    struct fake_open *open = open_of(message);

    open->fake->aborted++;
    mem_free(open->message.body);
    drop_open(open);
}

static void fake_secure(void *taker, const struct ipaddr_port *local, struct intake_tls *ret_tls)
{
    const struct fake_intake *fake = taker;

    *ret_tls = fake->tls;
}

static const struct conf_source *fake_settings(void *taker, const struct ipaddr_port *peer,
                                               const char *listener_source)
{
    const struct fake_intake *fake = taker;

    return &fake->source;
}

const struct intake_ops fake_intake_ops = {
    .admit = fake_admit,
    .secure = fake_secure,
    .settings = fake_settings,
    .login = fake_login,
    .leave = fake_leave,
    .begin = fake_begin,
    .add_rcpt = fake_add_rcpt,
    .start_body = fake_start_body,
    .write = fake_write,
    .finish = fake_finish,
    .abort = fake_abort,
};

void fake_intake_init(struct fake_intake *fake)
{
    *fake = (struct fake_intake){
        .source =
            {
                .smtp_service = true,
                .always_allow_relaying = true,
                .allow_chunking = true,
                .allow_smtputf8 = true,
                .max_message_bytes = 10000000,
                .max_rcpt_per_message = 100,
                .command_timeout_ms = 300000,
                .data_timeout_ms = 180000,
                .bad_line_ends = CONF_LINE_ENDS_REJECT,
            },
        .keep_bodies = true,
    };
}

void fake_intake_fini(struct fake_intake *fake)
{
    must(fake->open == NULL && fake->admitted_now == 0);
    for (uint32_t i = 0; i < FAKE_MESSAGE_COUNT_MAX; i++)
        mem_free(fake->messages[i].body);
    mem_free(fake->spare);
}

void fake_refuse(struct fake_intake *fake, enum fake_step step, uint16_t code, uint8_t class,
                 uint8_t subject, uint8_t detail, const char *text)
{
    fake->refuses[step] = true;
    fake->refusals[step] = (struct intake_reply){
        .code = code,
        .enhanced = {class, subject, detail},
    };
    snprintf(fake->refusals[step].text, sizeof(fake->refusals[step].text), "%s", text);
}

void fake_resume(struct fake_intake *fake)
{
    for (struct fake_open *open = fake->open; open != NULL; open = open->next) {
        open->is_paused = false;
        open->octets = 0;
    }
    must(fake->resume != NULL);
    fake->resume(fake->resume_asker, fake->resume_cookie);
}

void fake_answer(struct fake_intake *fake, uint16_t code)
{
    uint64_t cookie = fake->cookies[0];

    must(fake->waiting > 0);
    fake->waiting--;
    memmove(fake->cookies, fake->cookies + 1, fake->waiting * sizeof(fake->cookies[0]));
    tell(fake, cookie, code);
}
