#include "shard/login.h"

#include "core/base/log.h"
#include "core/base/must.h"
#include "net/auth.h"
#include "shard/inject_int.h"

struct login_check {
    struct list link; /* in the desk's line */
    struct shard *shard;
    intake_login_fn *answer;
    void *asker;
    uint64_t cookie;
    uint32_t index;
    uint32_t extra; /* iterations behind those of the user's hash, for the time alone */
    bool is_limited;
    bool is_certified;
    bool has_key; /* made, and the rest is for the time alone */
    uint8_t key[AUTH_KEY_BYTES];
    struct ipaddr_port peer;
    const char *listener_source;
    struct conf_rate rate; /* of failures */
    struct gate_ask ask;
    struct auth_stretch stretch;
    struct conf_password_hash hash; /* iterations 0 = nothing can be right */
    uint8_t user_bytes;
    uint8_t secret_bytes;
    uint8_t challenge_bytes;
    uint8_t user[CONF_USER_TEXT_MAX];
    uint8_t secret[CONF_USER_TEXT_MAX];
    uint8_t challenge[AUTH_CHALLENGE_MAX];
    uint8_t certificate[CONF_DIGEST_BYTES]; /* with is_certified */
};

static struct slice user_of(const struct login_check *check)
{
    return slice_of(check->user, check->user_bytes);
}

static struct slice secret_of(const struct login_check *check)
{
    return slice_of(check->secret, check->secret_bytes);
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void finish(struct login_check *check, const struct intake_identity *identity)
{
    struct shard *shard = check->shard;
    intake_login_fn *answer = check->answer;
    void *asker = check->asker;
    uint64_t cookie = check->cookie;
    uint32_t index = check->index;

    auth_wipe(check, sizeof(*check));
    slab_free(&shard->logins.checks, index);
    answer(asker, cookie, identity);
}

static void refuse(struct login_check *check, uint16_t code, uint8_t subject, uint8_t detail,
                   const char *text)
{
    struct intake_identity identity = {0};

    inject_reply(&identity.reply, code, subject, detail, text);
    finish(check, &identity);
}

void login_bound(const struct conf_smtp_user *user, struct conf_source *source)
{
    if (user->max_rcpt_in_rate.count == CONF_UNLIMITED)
        return;
    source->max_rcpt_in_rate = user->max_rcpt_in_rate;
    source->rcpt_in_key = user->rcpt_in_key;
}

static void welcome(struct login_check *check, const struct conf_smtp_user *user)
{
    const struct conf *conf = check->shard->conf;
    const char *source_name = user->source ? user->source : check->listener_source;
    struct conf_source source = *conf_source(conf, &check->peer.ip, source_name);
    struct intake_identity identity = {
        .user = user->name,
        .source_name = source_name,
        .source = &source,
    };

    source.login_key = conf_login_key(conf, user);
    login_bound(user, &source);
    inject_reply(&identity.reply, 235, 7, 0, "logged in");
    finish(check, &identity);
}

/* ---- The rate of failures -------------------------------------------------------------------- */

static void check_secret(struct login_check *check);

static void on_gate(struct gate_ask *ask)
{
    struct login_check *check = container_of(ask, struct login_check, ask);
    char client[IPADDR_TEXT_MAX];

    if (ask->kind == GATE_COUNT) {
        refuse(check, 535, 7, 8, "user or password is wrong");
        return;
    }
    if (ask->answer == GATE_YES) {
        check_secret(check);
        return;
    }
    ipaddr_format(&check->peer.ip, client);
    if (ask->answer == GATE_NO_FIRST)
        log_warn("%s: more failed logins than smtp-max-auth-failure-rate of its source allows",
                 client);
    refuse(check, 454, 7, 0, "too many failed logins, try again later");
}

/* Who has IPv6 has a whole /64 of addresses. */
static uint64_t hash_client(const struct ipaddr *ip)
{
    struct ipaddr wide = *ip;

    if (wide.family == IPADDR_V6)
        memset(wide.bytes + 8, 0, 8);
    return ipaddr_hash(&wide);
}

static void ask_gate(struct login_check *check, enum gate_kind kind)
{
    check->ask = (struct gate_ask){
        .on_answer = on_gate,
        .kind = (uint8_t)kind,
        .is_login = true,
        .rcpt_count = 1,
        .limit = check->rate.count,
        .span_ms = check->rate.interval_ms,
        .limit_key = hash_combine(hash_client(&check->peer.ip), check->rate.interval_ms),
    };
    inject_gate_dispatch(check->shard, &check->ask, check->ask.limit_key);
}

static void decide(struct login_check *check, bool is_right)
{
    const struct conf_smtp_user *user =
        is_right ? conf_smtp_user(check->shard->conf, user_of(check)) : NULL;

    if (user)
        welcome(check, user);
    else if (check->is_limited)
        ask_gate(check, GATE_COUNT);
    else
        refuse(check, 535, 7, 8, "user or password is wrong");
}

/* ---- Secrets --------------------------------------------------------------------------------- */

static void stretch_later(struct login_check *check, const struct conf_smtp_user *user,
                          uint32_t iterations)
{
    static const struct slice no_salt = SLICE_LITERAL("nobody's salt");
    struct shard *shard = check->shard;
    struct slice salt = no_salt;

    /* Who logs in by a certificate has neither. */
    if (user && user->hash.iterations > 0) {
        check->hash = user->hash;
        salt = slice_of(check->hash.salt, check->hash.salt_bytes);
        check->extra = iterations > user->hash.iterations ? iterations - user->hash.iterations : 0;
        iterations = user->hash.iterations;
    }
    auth_stretch_begin(&check->stretch, secret_of(check), salt, iterations);
    list_push_back(&shard->logins.line, &check->link);
    if (!io_timer_is_armed(&shard->logins.timer))
        io_timer_arm(shard->io, &shard->logins.timer, 0);
}

static bool is_right(const struct login_check *check, const struct conf_smtp_user *user)
{
    if (check->hash.iterations == 0 && user && user->password)
        return auth_is_same(slice_str(user->password), secret_of(check));
    return check->hash.iterations > 0 && auth_is_same(slice_of(check->hash.key, AUTH_KEY_BYTES),
                                                      slice_of(check->key, AUTH_KEY_BYTES));
}

static void keep(uint8_t *room, uint8_t *ret_bytes, size_t room_bytes, struct slice text)
{
    must(text.len <= room_bytes);
    if (text.len > 0)
        memcpy(room, text.data, text.len);
    *ret_bytes = (uint8_t)text.len;
}

static void check_certificate(struct login_check *check)
{
    const struct conf_smtp_user *user =
        conf_user_of_certificate(check->shard->conf, user_of(check), check->certificate);

    if (user)
        keep(check->user, &check->user_bytes, sizeof(check->user), slice_str(user->name));
    decide(check, user != NULL);
}

static void check_secret(struct login_check *check)
{
    const struct conf *conf = check->shard->conf;
    const struct conf_smtp_user *user = conf_smtp_user(conf, user_of(check));
    struct slice password = user && user->password ? slice_str(user->password) : SLICE_EMPTY;
    bool matches;

    if (check->is_certified) {
        check_certificate(check);
    } else if (check->challenge_bytes > 0) {
        matches = auth_is_digest(secret_of(check),
                                 slice_of(check->challenge, check->challenge_bytes), password);
        decide(check, matches && password.len > 0);
    } else if (conf_login_iterations(conf) > 0) {
        stretch_later(check, user, conf_login_iterations(conf));
    } else {
        matches = auth_is_same(password, secret_of(check));
        decide(check, matches && password.len > 0);
    }
}

/* The iterations of the check are made, or have a part behind them that is for the time alone. */
static void on_stretched(struct login_check *check)
{
    if (check->extra > 0) {
        memcpy(check->key, check->stretch.key, sizeof(check->key));
        check->stretch.left = check->extra;
        check->extra = 0;
        check->has_key = true;
        return;
    }
    if (!check->has_key)
        memcpy(check->key, check->stretch.key, sizeof(check->key));
    list_remove(&check->link);
    decide(check, is_right(check, conf_smtp_user(check->shard->conf, user_of(check))));
}

static void on_timer(struct io_timer *timer)
{
    struct login_desk *desk = container_of(timer, struct login_desk, timer);
    uint32_t left = LOGIN_ITERATIONS_PER_TURN;

    while (left > 0 && !list_empty(&desk->line)) {
        struct login_check *check = container_of(desk->line.next, struct login_check, link);

        left -= auth_stretch_step(&check->stretch, left);
        if (check->stretch.left == 0)
            on_stretched(check);
    }
    if (!list_empty(&desk->line))
        io_timer_arm(container_of(desk->line.next, struct login_check, link)->shard->io, timer, 0);
}

/* ---- The desk -------------------------------------------------------------------------------- */

void login_ask(void *taker, const struct intake_client *client, const struct intake_login *login,
               intake_login_fn *answer, void *asker, uint64_t cookie)
{
    struct shard *shard = taker;
    struct intake_identity identity = {0};
    struct login_check *check;
    uint32_t index;

    check = slab_alloc(&shard->logins.checks, &index);
    if (!check) {
        inject_reply(&identity.reply, 454, 3, 0, "too many logins at once, try again later");
        answer(asker, cookie, &identity);
        return;
    }
    check->shard = shard;
    check->index = index;
    check->answer = answer;
    check->asker = asker;
    check->cookie = cookie;
    check->peer = client->peer;
    check->listener_source = client->listener_source;
    check->rate = client->source->auth_failure_rate;
    check->is_limited = check->rate.count != CONF_UNLIMITED;
    keep(check->user, &check->user_bytes, sizeof(check->user), login->user);
    keep(check->secret, &check->secret_bytes, sizeof(check->secret), login->secret);
    check->is_certified = login->certificate != NULL;
    if (check->is_certified)
        memcpy(check->certificate, login->certificate, sizeof(check->certificate));
    keep(check->challenge, &check->challenge_bytes, sizeof(check->challenge), login->challenge);
    if (check->is_limited)
        ask_gate(check, GATE_LOOK);
    else
        check_secret(check);
}

void login_init(struct shard *shard)
{
    slab_init(&shard->logins.checks, sizeof(struct login_check),
              shard->limits.session_count_max * 2);
    list_init(&shard->logins.line);
    io_timer_init(&shard->logins.timer, on_timer);
}

void login_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->logins.timer);
    slab_fini(&shard->logins.checks);
}
