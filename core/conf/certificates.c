#include "core/conf/certificates.h"

#include "core/base/err.h"

/* As Debian's ca-certificates makes it. */
#define SYSTEM_AUTHORITIES "/etc/ssl/certs/ca-certificates.crt"

/* A file that was read; several lines may name it. */
struct loaded_file {
    struct conf_certificate certificate;
    struct conf_authorities authorities;
    enum directive_store store;
    const char *words; /* as they were written: another password is another file */
    struct loaded_file *next;
};

bool certificates_are_about(const struct directive *row)
{
    return row->store == STORE_CERTIFICATE || row->store == STORE_USER_CERTIFICATE ||
           row->store == STORE_AUTHORITIES || row->store == STORE_CIPHERS;
}

static const char *copy_word(struct build *build, struct slice word)
{
    return (const char *)arena_copy(&build->conf->arena, word).data;
}

static int load(const struct build *build, struct loaded_file *loaded, const char *password,
                char why[CONF_KEY_WHY_MAX])
{
    const struct conf_tls_ops *ops = build->options->tls_ops;

    if (loaded->store == STORE_AUTHORITIES)
        return ops->load_authorities(loaded->authorities.path, &loaded->authorities.loaded, why);
    return ops->load_certificate(loaded->certificate.path, password,
                                 loaded->store == STORE_CERTIFICATE, &loaded->certificate.loaded,
                                 why);
}

static struct loaded_file *load_file(struct build *build, const struct directive *row,
                                     const char *file, unsigned line, const char *words)
{
    struct conf *conf = build->conf;
    struct slice rest = slice_str(words), path = SLICE_EMPTY, password = SLICE_EMPTY;
    struct loaded_file *loaded = arena_alloc(&conf->arena, sizeof(*loaded));
    char why[CONF_KEY_WHY_MAX] = "";
    int rc;

    *loaded = (struct loaded_file){.store = row->store, .words = words, .next = conf->loaded_files};
    conf->loaded_files = loaded;
    conf->tls_ops = build->options->tls_ops;
    if (row->type == TYPE_PATH)
        path = rest;
    else if (value_next_word(&rest, &path) > 0)
        value_next_word(&rest, &password);
    loaded->certificate.path = copy_word(build, path);
    loaded->authorities.path = loaded->certificate.path;
    if (path.len == 0 || path.data[0] != '/') {
        report_error(build->report, file, line, "%s: the file is not an absolute path", row->name);
        return loaded;
    }
    if (conf->tls_ops == NULL || build->options->syntax_only)
        return loaded;
    rc = load(build, loaded, password.len > 0 ? copy_word(build, password) : NULL, why);
    if (rc < 0)
        report_error(build->report, file, line, "%s: %s: %s", row->name, loaded->certificate.path,
                     why[0] != '\0' ? why : err_text(rc));
    return loaded;
}

static void check_ciphers(struct build *build, const struct directive *row, const char *file,
                          unsigned line, const char *ciphers)
{
    const struct conf_tls_ops *ops = build->options->tls_ops;
    char why[CONF_KEY_WHY_MAX] = "";

    if (ops != NULL && ops->check_ciphers(ciphers, why) < 0)
        report_error(build->report, file, line, "%s: %s", row->name, why);
}

void certificates_resolve(struct build *build, const struct directive *row, const char *file,
                          unsigned line, struct value *value)
{
    const char *words = value->text;
    struct loaded_file *loaded = build->conf->loaded_files;

    if (words == NULL)
        return;
    if (row->store == STORE_CIPHERS) {
        check_ciphers(build, row, file, line, words);
        return;
    }
    while (loaded != NULL && (loaded->store != row->store || strcmp(loaded->words, words) != 0))
        loaded = loaded->next;
    if (loaded == NULL)
        loaded = load_file(build, row, file, line, words);
    if (row->store == STORE_AUTHORITIES)
        value->authorities = &loaded->authorities;
    else
        value->certificate = &loaded->certificate;
}

void certificates_note(struct build *build, const struct setting *setting)
{
    build->conf->uses_mta_sts |= setting->row->store == STORE_BOOL &&
                                 (setting->row->scopes & SCOPE_BIT(SCOPE_DOMAIN)) != 0 &&
                                 setting->row->offset == offsetof(struct conf_queue, use_mta_sts) &&
                                 !setting->cleared && setting->value.number != 0;
}

void certificates_add_system(struct build *build)
{
    struct conf *conf = build->conf;
    const struct directive *row = NULL;
    struct loaded_file *loaded;

    if (!conf->uses_mta_sts || conf->global.mta_sts_authorities != NULL)
        return;
    for (uint32_t i = 0; row == NULL; i++) {
        if (strcmp(directive_at(i)->name, "mta-sts-ca-file") == 0)
            row = directive_at(i);
    }
    loaded = load_file(build, row, build->tree->top.file, 0, SYSTEM_AUTHORITIES);
    conf->global.mta_sts_authorities = &loaded->authorities;
}

void certificates_fini(struct conf *conf)
{
    for (struct loaded_file *file = conf->loaded_files; file != NULL; file = file->next) {
        if (file->certificate.loaded != NULL)
            conf->tls_ops->drop_certificate(file->certificate.loaded);
        if (file->authorities.loaded != NULL)
            conf->tls_ops->drop_authorities(file->authorities.loaded);
    }
}
