#include "core/base/base64.h"
#include "core/conf/build.h"
#include "core/conf/field.h"
#include "core/conf/intern.h"
#include "core/conf/show.h"

#include <errno.h>
#include <string.h>

#define HASH_PREFIX SLICE_LITERAL("{pbkdf2-sha256}")

/* One part of "ITERATIONS$SALT$KEY". */
static struct slice next_part(struct slice *rest)
{
    struct slice part = slice_of(rest->data, slice_find(*rest, '$'));

    *rest = slice_after(*rest, part.len < rest->len ? part.len + 1 : part.len);
    return part;
}

/* Why the text behind the prefix is no hash; NULL and *ret_hash when it is one. */
static const char *parse_hash(struct slice text, struct conf_password_hash *ret_hash)
{
    struct conf_password_hash hash = {0};
    struct slice iterations = next_part(&text), salt = next_part(&text);
    uint64_t count;
    int bytes;

    if (slice_to_u64(iterations, CONF_PASSWORD_ITERATIONS_MAX, &count) < 0 || count == 0)
        return "the iterations must be a number from 1 to 1000000";
    hash.iterations = (uint32_t)count;
    bytes = base64_decode(salt, hash.salt, sizeof(hash.salt));
    if (bytes < 8)
        return "the salt must be base64 of 8 to 64 octets";
    hash.salt_bytes = (uint8_t)bytes;
    if (base64_decode(text, hash.key, sizeof(hash.key)) != (int)sizeof(hash.key))
        return "the key must be base64 of 32 octets";
    *ret_hash = hash;
    return NULL;
}

static void refuse(struct build *build, const struct section *section, const char *why)
{
    report_error(build->report, section->file, section->line, "<smtp-user %.*s>: %s",
                 SHOW(section->name), why);
}

/* A user whose settings are of no use would only be found out by its failing logins. */
static void check_user(struct build *build, const struct section *section,
                       struct conf_smtp_user *user)
{
    struct slice password = user->password ? slice_str(user->password) : SLICE_EMPTY;
    struct slice prefix = HASH_PREFIX;
    const char *why;

    if (section->name.len > CONF_USER_TEXT_MAX || password.len > CONF_USER_TEXT_MAX)
        refuse(build, section, "name and password have at most 255 octets");
    if (user->method == CONF_USER_BY_SYSTEM)
        refuse(build, section,
               "authentication-method system is not built: the daemon reads no passwords of the "
               "machine's users; give the user a password");
    else if (user->method == CONF_USER_BY_CERTIFICATE && user->certificate == NULL &&
             !section->has_errors)
        refuse(build, section, "a tls-certificate is missing");
    else if (user->method == CONF_USER_BY_CERTIFICATE && password.len > 0)
        refuse(build, section,
               "it has a password, which authentication-method certificate does not ask for");
    else if (user->method == CONF_USER_BY_PASSWORD && password.len == 0 && !section->has_errors)
        refuse(build, section, "a password is missing");
    if (!slice_starts_nocase(password, prefix))
        return;
    why = parse_hash(slice_after(password, prefix.len), &user->hash);
    if (why != NULL)
        refuse(build, section, why);
    user->password = NULL;
}

/* A name that there is not would be one that the user may never use. */
static void check_names(struct build *build, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (entry->cleared || entry->row->store != STORE_TEXT)
            continue;
        if (entry->row->offset == offsetof(struct conf_smtp_user, allow_virtual_mta))
            source_check_ways(build, entry);
        else if (entry->row->offset == offsetof(struct conf_smtp_user, source))
            source_check_name(build, entry->value.text, entry->file, entry->line);
    }
}

static int intern_for(enum intern_kind kind, struct slice name, const char **ret_text)
{
    uint32_t id;
    int rc = intern_name(kind, name, &id);

    if (rc == 0)
        *ret_text = intern_text(kind, id);
    return rc;
}

static int add_user(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_smtp_user *user = &conf->users[conf->user_count];
    int rc;

    if (conf_smtp_user(conf, section->name) != NULL)
        refuse(build, section, "it is given twice");
    field_store_presets(user, SCOPE_SMTP_USER, conf->presets);
    build_fields(build, section, user);
    check_user(build, section, user);
    check_names(build, section);
    user->rcpt_in_key =
        hash_combine(hash_bytes_nocase(section->name.data, section->name.len), INTERN_SMTP_USER);
    if (user->source == NULL && source_find_name(&conf->sources, SLICE_LITERAL("{auth}")) != 0)
        user->source = "{auth}";
    if (user->source != NULL) {
        rc = intern_for(INTERN_SOURCE, slice_str(user->source), &user->source);
        if (rc < 0)
            return rc;
    }
    rc = intern_for(INTERN_SMTP_USER, section->name, &user->name);
    if (rc < 0)
        return rc;
    if (user->method == CONF_USER_BY_CERTIFICATE)
        conf->has_certificate_users = true;
    if (user->hash.iterations > conf->login_iterations)
        conf->login_iterations = user->hash.iterations;
    if (!table_insert(&conf->user_by_name, hash_bytes_nocase(section->name.data, section->name.len),
                      conf->user_count))
        return -ENOMEM;
    conf->user_count++;
    return 0;
}

int build_users(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    uint32_t most = build_count_children(top, SCOPE_SMTP_USER);
    int rc = 0;

    conf->users = arena_alloc(&conf->arena, most * sizeof(*conf->users));
    for (const struct section *at = top->children; rc == 0 && at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_SMTP_USER)
            rc = add_user(build, at);
    }
    return rc;
}

static bool match_name(uint32_t value, const void *key, void *context)
{
    const struct conf *conf = context;

    return slice_equal_nocase(slice_str(conf->users[value].name), *(const struct slice *)key);
}

const struct conf_smtp_user *conf_smtp_user(const struct conf *conf, struct slice name)
{
    uint32_t position = table_find(&conf->user_by_name, hash_bytes_nocase(name.data, name.len),
                                   match_name, &name, (void *)(uintptr_t)conf);

    return position == TABLE_NONE ? NULL : &conf->users[position];
}

uint64_t conf_login_key(const struct conf *conf, const struct conf_smtp_user *user)
{
    struct slice password = user->password != NULL ? slice_str(user->password) : SLICE_EMPTY;
    uint64_t key = hash_combine(hash_bytes(password.data, password.len),
                                hash_bytes(user->hash.key, sizeof(user->hash.key)));

    if (user->certificate != NULL && user->certificate->loaded != NULL)
        key = hash_combine(key, hash_bytes(conf->tls_ops->digest_of(user->certificate->loaded),
                                           CONF_DIGEST_BYTES));
    return key;
}

bool conf_asks_certificates(const struct conf *conf)
{
    return conf->has_certificate_users;
}

const struct conf_smtp_user *conf_user_of_certificate(const struct conf *conf, struct slice name,
                                                      const uint8_t *digest)
{
    for (uint32_t i = 0; i < conf->user_count; i++) {
        const struct conf_smtp_user *user = &conf->users[i];

        if (user->method == CONF_USER_BY_CERTIFICATE && user->certificate->loaded != NULL &&
            (name.len == 0 || slice_equal_nocase(slice_str(user->name), name)) &&
            memcmp(conf->tls_ops->digest_of(user->certificate->loaded), digest,
                   CONF_DIGEST_BYTES) == 0)
            return user;
    }
    return NULL;
}

uint32_t conf_login_iterations(const struct conf *conf)
{
    return conf->login_iterations;
}
