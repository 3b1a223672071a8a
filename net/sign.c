#include "net/sign.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/text.h"
#include "net/sign_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/base64.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/bytestring.h>
#include <openssl/curve25519.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES_MAX 65536
#define RSA_BITS_MIN   1024u
#define RSA_BITS_MAX   4096u
#define PEM_BYTES_MAX  8192 /* twice an RSA-4096 key */
#define SEED_BYTES     32u

/* Memory of BoringSSL: zeroed when it is freed. */
struct sign_key {
    atomic_uint references;
    _Atomic bool is_kept_here;
    enum sign_kind kind;
    uint64_t id;
    char *path;
    size_t signature_bytes;
    RSA *rsa;                                /* SIGN_RSA */
    uint8_t secret[ED25519_PRIVATE_KEY_LEN]; /* SIGN_ED25519: seed and public key */
    uint8_t public_part[ED25519_PUBLIC_KEY_LEN];
};

/* ---- SHA-256 ----------------------------------------------------------------------------------
 */

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct sign_hash), "room for SHA-256");

void sign_hash_init(struct sign_hash *hash)
{
    SHA256_Init((SHA256_CTX *)(void *)hash->room);
}

void sign_hash_put(void *context, const uint8_t *data, size_t len)
{
    SHA256_Update((SHA256_CTX *)context, data, len);
}

void sign_hash_end(struct sign_hash *hash, uint8_t ret_digest[SIGN_DIGEST_BYTES])
{
    SHA256_Final(ret_digest, (SHA256_CTX *)(void *)hash->room);
}

/* ---- Keys -------------------------------------------------------------------------------------
 */

static int fail(int code, const char *text, char why[SIGN_WHY_MAX])
{
    snprintf(why, SIGN_WHY_MAX, "%s", text);
    return code;
}

static struct sign_key *new_key(enum sign_kind kind)
{
    struct sign_key *key = OPENSSL_malloc(sizeof(*key));

    must(key != NULL);
    memset(key, 0, sizeof(*key));
    atomic_init(&key->references, 1);
    key->kind = kind;
    return key;
}

static int keep_seed(const uint8_t seed[SEED_BYTES], struct sign_key **ret_key)
{
    struct sign_key *key = new_key(SIGN_ED25519);

    ED25519_keypair_from_seed(key->public_part, key->secret, seed);
    key->id = sign_ring_key_id(slice_of(key->public_part, sizeof(key->public_part)));
    key->signature_bytes = ED25519_SIGNATURE_LEN;
    *ret_key = key;
    return 0;
}

static uint64_t rsa_id(const RSA *rsa)
{
    uint8_t modulus[RSA_BITS_MAX / 8];
    size_t len = BN_bn2bin(RSA_get0_n(rsa), modulus);

    return sign_ring_key_id(slice_of(modulus, len));
}

/* Takes the reference. */
static int keep_rsa(RSA *rsa, struct sign_key **ret_key, char why[SIGN_WHY_MAX])
{
    unsigned bits = RSA_bits(rsa);
    struct sign_key *key;

    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX || !RSA_check_key(rsa)) {
        RSA_free(rsa);
        return fail(E_RANGE,
                    bits < RSA_BITS_MIN   ? "the RSA key has fewer than 1024 bits (RFC 8301)"
                    : bits > RSA_BITS_MAX ? "the RSA key has more than 4096 bits"
                                          : "the parts of the RSA key do not fit together",
                    why);
    }
    key = new_key(SIGN_RSA);
    key->rsa = rsa;
    key->signature_bytes = RSA_size(rsa);
    key->id = rsa_id(rsa);
    *ret_key = key;
    return 0;
}

static int take_pkcs8(EVP_PKEY *pkey, struct sign_key **ret_key, char why[SIGN_WHY_MAX])
{
    uint8_t seed[SEED_BYTES];
    size_t len = sizeof(seed);
    int result;

    if (EVP_PKEY_id(pkey) == EVP_PKEY_RSA)
        return keep_rsa(EVP_PKEY_get1_RSA(pkey), ret_key, why);
    if (EVP_PKEY_id(pkey) != EVP_PKEY_ED25519 || !EVP_PKEY_get_raw_private_key(pkey, seed, &len))
        return fail(E_SYNTAX, "the key is neither RSA nor Ed25519", why);
    result = keep_seed(seed, ret_key);
    OPENSSL_cleanse(seed, sizeof(seed));
    return result;
}

/* A password is never asked for. */
static int no_password(char *room, int size, int is_writing, void *context)
{
    return -1;
}

/*
 * "-----BEGIN X-----", digits, "-----END X-----" however they are broken into lines: a header field
 * folds them as it likes. The same with the line ends that PEM wants, in room; its length, or 0.
 */
static size_t mend_pem(struct slice text, char *room, size_t size)
{
    struct text out = text_in(room, size);
    bool is_marker = false;
    size_t dashes = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t octet = text.data[i];

        if (octet <= ' ' && !(is_marker && octet == ' '))
            continue;
        dashes = octet == '-' ? dashes + 1 : 0;
        if (dashes == 1 && !is_marker && out.len > 0)
            text_put_char(&out, '\n');
        text_put_char(&out, (char)octet);
        if (dashes < 5)
            continue;
        dashes = 0;
        is_marker = !is_marker;
        if (!is_marker)
            text_put_char(&out, '\n');
    }
    return out.is_cut ? 0 : out.len;
}

static int parse_pem(struct slice text, struct sign_key **ret_key, char why[SIGN_WHY_MAX])
{
    char room[PEM_BYTES_MAX];
    BIO *bio = BIO_new_mem_buf(room, (int)mend_pem(text, room, sizeof(room)));
    EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    int result =
        pkey ? take_pkcs8(pkey, ret_key, why)
             : fail(E_SYNTAX, "it is no private key in PEM (PKCS#8 or PKCS#1, no password)", why);

    EVP_PKEY_free(pkey);
    BIO_free(bio);
    OPENSSL_cleanse(room, sizeof(room));
    return result;
}

static int parse_seed(struct slice text, struct sign_key **ret_key, char why[SIGN_WHY_MAX])
{
    uint8_t room[64];
    size_t len = 0;
    int result = E_SYNTAX;

    /* 32 octets are 44 digits. */
    if (text.len == 44 && EVP_DecodeBase64(room, &len, sizeof(room), text.data, text.len) &&
        len == SEED_BYTES)
        result = keep_seed(room, ret_key);
    OPENSSL_cleanse(room, sizeof(room));
    return result == 0 ? 0
                       : fail(E_SYNTAX, "it is neither PEM nor the base64 of an Ed25519 seed", why);
}

int sign_key_parse(struct slice text, struct sign_key **ret_key, char why[SIGN_WHY_MAX])
{
    while (text.len > 0 && (text.data[0] <= ' '))
        text = slice_after(text, 1);
    while (text.len > 0 && text.data[text.len - 1] <= ' ')
        text.len--;
    return slice_starts_nocase(text, SLICE_LITERAL("-----BEGIN")) ? parse_pem(text, ret_key, why)
                                                                  : parse_seed(text, ret_key, why);
}

/* Who else might read it, or write another one in its place; NULL when nobody. */
static const char *find_leak(const struct stat *facts)
{
    if (!S_ISREG(facts->st_mode))
        return "it is not a regular file";
    if (facts->st_size > FILE_BYTES_MAX)
        return "it is larger than 64 KB";
    return facts->st_mode & (S_IRWXG | S_IRWXO)
               ? "others than its owner have permissions on it (chmod 600 mends that)"
               : NULL;
}

static ssize_t read_all(int fd, uint8_t *room, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t got = read(fd, room + used, size - used);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

int sign_key_load(const char *path, struct sign_key **ret_key, char why[SIGN_WHY_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat facts;
    const char *leak;
    uint8_t *room;
    ssize_t len;
    int result;

    if (fd < 0 || fstat(fd, &facts) < 0) {
        result = -errno;
        if (fd >= 0)
            close(fd);
        return fail(result, err_text(result), why);
    }
    leak = find_leak(&facts);
    if (leak) {
        close(fd);
        return fail(E_REFUSED, leak, why);
    }
    room = mem_alloc(FILE_BYTES_MAX);
    len = read_all(fd, room, FILE_BYTES_MAX);
    close(fd);
    result = len < 0 ? fail((int)len, err_text((int)len), why)
                     : sign_key_parse(slice_of(room, (size_t)len), ret_key, why);
    OPENSSL_cleanse(room, FILE_BYTES_MAX);
    mem_free(room);
    if (result == 0)
        (*ret_key)->path = mem_strdup(path);
    return result;
}

struct sign_key *sign_key_ref(struct sign_key *key)
{
    atomic_fetch_add_explicit(&key->references, 1, memory_order_relaxed);
    return key;
}

void sign_key_unref(struct sign_key *key)
{
    if (key == NULL || atomic_fetch_sub_explicit(&key->references, 1, memory_order_acq_rel) > 1)
        return;
    RSA_free(key->rsa);
    mem_free(key->path);
    OPENSSL_cleanse(key, sizeof(*key));
    OPENSSL_free(key);
}

enum sign_kind sign_key_kind(const struct sign_key *key)
{
    return key->kind;
}

const char *sign_key_algorithm(const struct sign_key *key)
{
    return key->kind == SIGN_RSA ? "rsa-sha256" : "ed25519-sha256";
}

size_t sign_key_bytes(const struct sign_key *key)
{
    return key->signature_bytes;
}

uint64_t sign_key_id(const struct sign_key *key)
{
    return key->id;
}

const char *sign_key_path(const struct sign_key *key)
{
    return key->path;
}

void sign_key_keep_here(struct sign_key *key)
{
    atomic_store_explicit(&key->is_kept_here, true, memory_order_relaxed);
}

bool sign_key_is_kept_here(const struct sign_key *key)
{
    return atomic_load_explicit(&key->is_kept_here, memory_order_relaxed);
}

/* SubjectPublicKeyInfo, as the p= of RSA keys is in practice (RFC 6376 3.6.1, example in C). */
static uint8_t *public_octets(const struct sign_key *key, size_t *ret_len)
{
    EVP_PKEY *pkey = EVP_PKEY_new();
    uint8_t *octets = NULL;
    CBB cbb;

    if (pkey && CBB_init(&cbb, 1024)) {
        if (!EVP_PKEY_set1_RSA(pkey, key->rsa) || !EVP_marshal_public_key(&cbb, pkey) ||
            !CBB_finish(&cbb, &octets, ret_len))
            CBB_cleanup(&cbb);
    }
    EVP_PKEY_free(pkey);
    return octets;
}

int sign_key_public(const struct sign_key *key, char *room, size_t room_bytes)
{
    uint8_t *octets = NULL;
    size_t len = sizeof(key->public_part), encoded;

    if (key->kind == SIGN_RSA) {
        octets = public_octets(key, &len);
        must(octets != NULL);
    }
    if (!EVP_EncodedLength(&encoded, len) || encoded > room_bytes) {
        OPENSSL_free(octets);
        return E_TOO_LONG;
    }
    EVP_EncodeBlock((uint8_t *)room, octets ? octets : key->public_part, len);
    OPENSSL_free(octets);
    return 0;
}

static int load_for_conf(const char *path, void **ret_key, uint32_t *ret_algorithm,
                         char why[CONF_KEY_WHY_MAX])
{
    struct sign_key *key;
    int result = sign_key_load(path, &key, why);

    if (result < 0)
        return result;
    *ret_key = key;
    *ret_algorithm = key->kind == SIGN_RSA ? CONF_DKIM_RSA_SHA256 : CONF_DKIM_ED25519;
    return 0;
}

static void drop_for_conf(void *key)
{
    sign_key_unref(key);
}

static void *share_for_conf(void *key)
{
    return sign_key_ref(key);
}

static uint64_t id_for_conf(const void *key)
{
    return sign_key_id(key);
}

_Static_assert(CONF_KEY_WHY_MAX >= SIGN_WHY_MAX, "room for the reason");
const struct conf_key_ops sign_key_ops = {load_for_conf, drop_for_conf, share_for_conf,
                                          id_for_conf};

/* ---- Signatures -------------------------------------------------------------------------------
 */

static int sign_one(struct sign_job *job)
{
    const struct sign_key *key = job->key;
    unsigned len = 0;

    if (key->kind == SIGN_ED25519)
        return ED25519_sign(job->signature, job->digest, sizeof(job->digest), key->secret)
                   ? 0
                   : E_DAMAGED;
    return RSA_sign(NID_sha256, job->digest, sizeof(job->digest), job->signature, &len, key->rsa) &&
                   len == key->signature_bytes
               ? 0
               : E_DAMAGED;
}

static void run_boringssl(struct sign_job *jobs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        jobs[i].status = sign_one(&jobs[i]);
}

const struct sign_backend sign_boringssl = {"boringssl", run_boringssl};

static bool is_right(const struct sign_job *job)
{
    const struct sign_key *key = job->key;

    if (key->kind == SIGN_ED25519)
        return ED25519_verify(job->digest, sizeof(job->digest), job->signature, key->public_part);
    return RSA_verify(NID_sha256, job->digest, sizeof(job->digest), job->signature,
                      key->signature_bytes, key->rsa);
}

uint32_t sign_check(struct sign_job *jobs, uint32_t count)
{
    uint32_t failed = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct sign_job *job = &jobs[i];

        if (job->status == 0 && is_right(job))
            continue;
        OPENSSL_cleanse(job->signature, sizeof(job->signature));
        job->status = E_DAMAGED;
        failed++;
    }
    return failed;
}

uint32_t sign_run(const struct sign_backend *backend, struct sign_job *jobs, uint32_t count)
{
    backend->run(jobs, count);
    return sign_check(jobs, count);
}

/* ---- How fast ---------------------------------------------------------------------------------
 */

static struct sign_key *make_key(enum sign_kind kind)
{
    uint8_t seed[SEED_BYTES] = {1};
    char why[SIGN_WHY_MAX];
    struct sign_key *key = NULL;
    BIGNUM *exponent = BN_new();
    RSA *rsa = RSA_new();

    if (kind == SIGN_ED25519)
        keep_seed(seed, &key);
    else if (exponent && rsa && BN_set_word(exponent, RSA_F4) &&
             RSA_generate_key_ex(rsa, 2048, exponent, NULL))
        keep_rsa(RSA_up_ref(rsa) ? rsa : NULL, &key, why);
    RSA_free(rsa);
    BN_free(exponent);
    must(key != NULL);
    return key;
}

static uint64_t own_time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t sign_measure(enum sign_kind kind, uint32_t span_ms)
{
    struct sign_job job = {.key = make_key(kind)};
    uint64_t began_ns = own_time_ns(), spent_ns = 0;
    uint32_t count = 0;

    while (spent_ns < (uint64_t)span_ms * 1000000u) {
        run_boringssl(&job, 1);
        must(job.status == 0);
        count++;
        spent_ns = own_time_ns() - began_ns;
    }
    sign_key_unref((struct sign_key *)(uintptr_t)job.key);
    return (uint32_t)(count * 1000000000ull / spent_ns);
}
