#include "net/auth.h"

#include "core/base/base64.h"
#include "core/base/err.h"
#include "core/base/must.h"

#include <openssl/digest.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>

static const char *const names[AUTH_MECHANISMS] = {
    [AUTH_PLAIN] = "PLAIN",
    [AUTH_LOGIN] = "LOGIN",
    [AUTH_CRAM_MD5] = "CRAM-MD5",
    [AUTH_EXTERNAL] = "EXTERNAL",
};

const char *auth_mechanism_name(enum auth_mechanism mechanism)
{
    must(mechanism < AUTH_MECHANISMS);
    return names[mechanism];
}

enum auth_mechanism auth_mechanism_named(struct slice name)
{
    enum auth_mechanism at = 0;

    while (at < AUTH_MECHANISMS && !slice_equal_nocase(slice_str(names[at]), name))
        at++;
    return at;
}

static struct slice encode(struct slice octets, char room[AUTH_ANSWER_MAX])
{
    int len = base64_encode(octets, room, AUTH_ANSWER_MAX);

    must(len >= 0);
    return slice_of(room, (size_t)len);
}

/* ---- The server's side ----------------------------------------------------------------------- */

void auth_server_begin(struct auth_server *server, enum auth_mechanism mechanism,
                       struct slice challenge)
{
    must(mechanism < AUTH_MECHANISMS && challenge.len <= AUTH_CHALLENGE_MAX);
    memset(server, 0, sizeof(*server));
    server->mechanism = (uint8_t)mechanism;
    server->challenge_bytes = (uint8_t)challenge.len;
    if (challenge.len > 0)
        memcpy(server->challenge, challenge.data, challenge.len);
}

static bool keep(uint8_t room[AUTH_TEXT_MAX], uint8_t *ret_bytes, struct slice text)
{
    if (text.len > AUTH_TEXT_MAX)
        return false;
    if (text.len > 0)
        memcpy(room, text.data, text.len);
    *ret_bytes = (uint8_t)text.len;
    return true;
}

static enum auth_progress complete(struct auth_server *server, struct slice user,
                                   struct slice secret)
{
    if (user.len == 0 || !keep(server->user, &server->user_bytes, user) ||
        !keep(server->secret, &server->secret_bytes, secret))
        return AUTH_MALFORMED;
    return AUTH_COMPLETE;
}

/* RFC 4616 section 2: [authzid] NUL authcid NUL passwd. Nobody acts for anybody else. */
static enum auth_progress hear_plain(struct auth_server *server, struct slice message)
{
    size_t first = slice_find(message, 0);
    struct slice other = slice_of(message.data, first), user, password;
    size_t second;

    if (first == message.len)
        return AUTH_MALFORMED;
    message = slice_after(message, first + 1);
    second = slice_find(message, 0);
    if (second == message.len)
        return AUTH_MALFORMED;
    user = slice_of(message.data, second);
    password = slice_after(message, second + 1);
    if (slice_find(password, 0) < password.len)
        return AUTH_MALFORMED;
    if (other.len > 0 && !slice_equal(other, user))
        return AUTH_REFUSED;
    return complete(server, user, password);
}

static enum auth_progress hear_login(struct auth_server *server, struct slice message)
{
    if (server->step == 0) {
        if (message.len == 0 || !keep(server->user, &server->user_bytes, message))
            return AUTH_MALFORMED;
        server->step = 1;
        return AUTH_GO_ON;
    }
    return keep(server->secret, &server->secret_bytes, message) ? AUTH_COMPLETE : AUTH_MALFORMED;
}

/* RFC 2195 section 2: the user's name, a blank, the digest. The name may have blanks too. */
static enum auth_progress hear_cram(struct auth_server *server, struct slice message)
{
    if (message.len < AUTH_DIGEST_BYTES + 2 ||
        message.data[message.len - AUTH_DIGEST_BYTES - 1] != ' ')
        return AUTH_MALFORMED;
    return complete(server, slice_of(message.data, message.len - AUTH_DIGEST_BYTES - 1),
                    slice_after(message, message.len - AUTH_DIGEST_BYTES));
}

/* RFC 4422 appendix A: who the client wants to be, or nothing. */
static enum auth_progress hear_external(struct auth_server *server, struct slice message)
{
    if (slice_find(message, 0) < message.len || !keep(server->user, &server->user_bytes, message))
        return AUTH_MALFORMED;
    return AUTH_COMPLETE;
}

static enum auth_progress hear_decoded(struct auth_server *server, struct slice message)
{
    switch ((enum auth_mechanism)server->mechanism) {
    case AUTH_PLAIN:
        return hear_plain(server, message);
    case AUTH_LOGIN:
        return hear_login(server, message);
    case AUTH_EXTERNAL:
        return hear_external(server, message);
    default:
        return hear_cram(server, message);
    }
}

/* What we say before the client's next line. LOGIN is in no RFC; these are the words that clients
 * know. */
static struct slice prompt_of(const struct auth_server *server, char room[AUTH_ANSWER_MAX])
{
    struct slice words = SLICE_EMPTY;

    if (server->mechanism == AUTH_LOGIN)
        words = server->step == 0 ? SLICE_LITERAL("Username:") : SLICE_LITERAL("Password:");
    else if (server->mechanism == AUTH_CRAM_MD5)
        words = slice_of(server->challenge, server->challenge_bytes);
    return encode(words, room);
}

enum auth_progress auth_server_hear(struct auth_server *server, struct slice line,
                                    struct slice *ret_prompt, char room[AUTH_ANSWER_MAX])
{
    enum auth_progress progress;
    int len;

    if (slice_equal(line, SLICE_LITERAL("*")))
        return AUTH_CANCELLED;
    len = base64_decode(line, room, AUTH_ANSWER_MAX);
    if (len < 0)
        return AUTH_MALFORMED;
    progress = hear_decoded(server, slice_of(room, (size_t)len));
    auth_wipe(room, AUTH_ANSWER_MAX);
    if (progress == AUTH_GO_ON)
        *ret_prompt = prompt_of(server, room);
    return progress;
}

enum auth_progress auth_server_start(struct auth_server *server, struct slice initial,
                                     struct slice *ret_prompt, char room[AUTH_ANSWER_MAX])
{
    if (initial.data == NULL || initial.len == 0) {
        *ret_prompt = prompt_of(server, room);
        return AUTH_GO_ON;
    }
    /* Here the server speaks first, and an asterisk is no word to cancel with. */
    if (server->mechanism == AUTH_CRAM_MD5 || slice_equal(initial, SLICE_LITERAL("*")))
        return AUTH_MALFORMED;
    if (slice_equal(initial, SLICE_LITERAL("=")))
        initial = SLICE_EMPTY;
    return auth_server_hear(server, initial, ret_prompt, room);
}

/* ---- The client's side ----------------------------------------------------------------------- */

enum auth_mechanism auth_client_choose(unsigned offered, bool may_show)
{
    if (may_show && (offered & AUTH_BIT(AUTH_PLAIN)) != 0)
        return AUTH_PLAIN;
    if (may_show && (offered & AUTH_BIT(AUTH_LOGIN)) != 0)
        return AUTH_LOGIN;
    return (offered & AUTH_BIT(AUTH_CRAM_MD5)) != 0 ? AUTH_CRAM_MD5 : AUTH_MECHANISMS;
}

int auth_client_start(enum auth_mechanism mechanism, struct slice user, struct slice password,
                      char room[AUTH_ANSWER_MAX])
{
    uint8_t message[2 * AUTH_TEXT_MAX + 2];
    const char *name = auth_mechanism_name(mechanism);
    size_t len = strlen(name);
    int coded;

    must(user.len <= AUTH_TEXT_MAX && password.len <= AUTH_TEXT_MAX);
    memcpy(room, name, len);
    if (mechanism != AUTH_PLAIN)
        return (int)len;
    message[0] = 0;
    memcpy(message + 1, user.data, user.len);
    message[1 + user.len] = 0;
    memcpy(message + 2 + user.len, password.data, password.len);
    room[len++] = ' ';
    coded = base64_encode(slice_of(message, 2 + user.len + password.len), room + len,
                          AUTH_ANSWER_MAX - len);
    auth_wipe(message, sizeof(message));
    must(coded >= 0);
    return (int)len + coded;
}

/* The digest of RFC 2195 in hexadecimal, lower case. */
static void make_digest(struct slice challenge, struct slice password, char hex[AUTH_DIGEST_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;

    must(HMAC(EVP_md5(), password.data, password.len, challenge.data, challenge.len, digest,
              &bytes) != NULL &&
         bytes * 2 == AUTH_DIGEST_BYTES);
    for (unsigned i = 0; i < bytes; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
}

static int answer_challenge(struct slice prompt, struct slice user, struct slice password,
                            char room[AUTH_ANSWER_MAX])
{
    char message[AUTH_TEXT_MAX + 1 + AUTH_DIGEST_BYTES];
    uint8_t challenge[AUTH_ANSWER_MAX];
    int len = base64_decode(prompt, challenge, sizeof(challenge));

    if (len <= 0)
        return E_SYNTAX;
    memcpy(message, user.data, user.len);
    message[user.len] = ' ';
    make_digest(slice_of(challenge, (size_t)len), password, message + user.len + 1);
    return base64_encode(slice_of(message, user.len + 1 + AUTH_DIGEST_BYTES), room,
                         AUTH_ANSWER_MAX);
}

int auth_client_answer(enum auth_mechanism mechanism, unsigned step, struct slice prompt,
                       struct slice user, struct slice password, char room[AUTH_ANSWER_MAX])
{
    must(user.len <= AUTH_TEXT_MAX && password.len <= AUTH_TEXT_MAX);
    if (mechanism == AUTH_LOGIN && step < 2)
        return base64_encode(step == 0 ? user : password, room, AUTH_ANSWER_MAX);
    if (mechanism == AUTH_CRAM_MD5 && step == 0)
        return answer_challenge(prompt, user, password, room);
    return E_SYNTAX;
}

/* ---- Secrets --------------------------------------------------------------------------------- */

bool auth_is_same(struct slice a, struct slice b)
{
    uint8_t of_a[SHA256_DIGEST_LENGTH], of_b[SHA256_DIGEST_LENGTH];

    SHA256(a.data, a.len, of_a);
    SHA256(b.data, b.len, of_b);
    return CRYPTO_memcmp(of_a, of_b, sizeof(of_a)) == 0;
}

bool auth_is_digest(struct slice digest, struct slice challenge, struct slice password)
{
    char right[AUTH_DIGEST_BYTES];
    uint8_t given[AUTH_DIGEST_BYTES];

    if (digest.len != AUTH_DIGEST_BYTES)
        return false;
    for (size_t i = 0; i < digest.len; i++)
        given[i] =
            digest.data[i] >= 'A' && digest.data[i] <= 'F' ? digest.data[i] | 0x20 : digest.data[i];
    make_digest(challenge, password, right);
    return CRYPTO_memcmp(given, right, sizeof(right)) == 0;
}

void auth_wipe(void *secret, size_t bytes)
{
    OPENSSL_cleanse(secret, bytes);
}

static void begin_pad(SHA256_CTX *context, const uint8_t block[SHA256_CBLOCK], uint8_t pad)
{
    uint8_t padded[SHA256_CBLOCK];

    for (size_t i = 0; i < sizeof(padded); i++)
        padded[i] = block[i] ^ pad;
    SHA256_Init(context);
    SHA256_Update(context, padded, sizeof(padded));
    auth_wipe(padded, sizeof(padded));
}

/* The rest of an HMAC whose inner hash has taken the message already. */
static void end_hmac(struct auth_stretch *stretch, SHA256_CTX *inner)
{
    uint8_t digest[AUTH_KEY_BYTES];
    SHA256_CTX outer = stretch->outer;

    SHA256_Final(digest, inner);
    SHA256_Update(&outer, digest, sizeof(digest));
    SHA256_Final(stretch->last, &outer);
}

void auth_stretch_begin(struct auth_stretch *stretch, struct slice password, struct slice salt,
                        uint32_t iterations)
{
    static const uint8_t number[4] = {0, 0, 0, 1};
    uint8_t block[SHA256_CBLOCK] = {0};
    SHA256_CTX inner;

    must(iterations > 0);
    if (password.len > sizeof(block))
        SHA256(password.data, password.len, block);
    else if (password.len > 0)
        memcpy(block, password.data, password.len);
    begin_pad(&stretch->inner, block, 0x36);
    begin_pad(&stretch->outer, block, 0x5c);
    auth_wipe(block, sizeof(block));
    inner = stretch->inner;
    SHA256_Update(&inner, salt.data, salt.len);
    SHA256_Update(&inner, number, sizeof(number));
    end_hmac(stretch, &inner);
    memcpy(stretch->key, stretch->last, sizeof(stretch->key));
    stretch->left = iterations - 1;
}

uint32_t auth_stretch_step(struct auth_stretch *stretch, uint32_t count_max)
{
    uint32_t count = stretch->left < count_max ? stretch->left : count_max;

    for (uint32_t i = 0; i < count; i++) {
        SHA256_CTX inner = stretch->inner;

        SHA256_Update(&inner, stretch->last, sizeof(stretch->last));
        end_hmac(stretch, &inner);
        for (size_t j = 0; j < sizeof(stretch->key); j++)
            stretch->key[j] ^= stretch->last[j];
    }
    stretch->left -= count;
    return count;
}
