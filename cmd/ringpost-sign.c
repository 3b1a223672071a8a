/*
 * ringpost-sign: makes signatures for one shard of ringpostd, with OpenSSL 3.
 *
 * A process of its own because OpenSSL and BoringSSL cannot be in one. ringpostd starts it with the
 * shared memory of net/sign_ring.h and one end of a pair of sockets; the end of those is its end.
 * It reads key files itself, as the user that the daemon has become, says nothing and writes no
 * file.
 */
#include "net/sign_ring.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEYS_MAX       4096u /* a power of two; emptied when three quarters are taken */
#define RSA_BITS_MAX   4096
#define FILE_BYTES_MAX 65536
#define SEED_BYTES     32u
#define SEED_DIGITS    44 /* of base64 */
/* So many answers are left unsaid while there is more to do. */
#define BELL_AFTER     8u
#define MEASURE_NS     40000000ull

struct loaded_key {
    uint64_t id;
    EVP_PKEY *key;         /* NULL = the place is free */
    EVP_PKEY_CTX *context; /* of RSA */
};

struct signing {
    struct sign_ring *ring;
    uint32_t key_count;
    uint32_t unsaid;
    struct loaded_key keys[KEYS_MAX];
};

/* ---- Keys ------------------------------------------------------------------------------------ */

static struct loaded_key *find(struct signing *signing, uint64_t id)
{
    uint32_t at = (uint32_t)id % KEYS_MAX;

    while (signing->keys[at].key && signing->keys[at].id != id)
        at = (at + 1) % KEYS_MAX;
    return &signing->keys[at];
}

static void forget(struct signing *signing)
{
    for (uint32_t i = 0; i < KEYS_MAX; i++) {
        EVP_PKEY_CTX_free(signing->keys[i].context);
        EVP_PKEY_free(signing->keys[i].key);
        signing->keys[i] = (struct loaded_key){0};
    }
    signing->key_count = 0;
}

/* A password is never asked for. */
static int no_password(char *room, int size, int is_writing, void *context)
{
    return -1;
}

static EVP_PKEY *read_seed(const char *text)
{
    uint8_t octets[SEED_BYTES + 2];
    EVP_PKEY *key = NULL;

    while (*text != '\0' && *text <= ' ')
        text++;
    /* 32 octets are 43 digits and a "=", which counts for an octet. */
    if (EVP_DecodeBlock(octets, (const uint8_t *)text, SEED_DIGITS) == SEED_BYTES + 1)
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, octets, SEED_BYTES);
    OPENSSL_cleanse(octets, sizeof(octets));
    return key;
}

static EVP_PKEY *read_key(const char *path)
{
    static char text[FILE_BYTES_MAX + 1];
    FILE *file = fopen(path, "re");
    EVP_PKEY *key = NULL;
    struct stat facts;

    if (!file)
        return NULL;
    setvbuf(file, NULL, _IONBF, 0);
    if (fstat(fileno(file), &facts) == 0 && S_ISREG(facts.st_mode) &&
        !(facts.st_mode & (S_IRWXG | S_IRWXO))) {
        size_t len = fread(text, 1, FILE_BYTES_MAX, file);
        BIO *bio = BIO_new_mem_buf(text, (int)len);

        text[len] = '\0';
        key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
        BIO_free(bio);
        if (!key && len >= SEED_DIGITS)
            key = read_seed(text);
    }
    OPENSSL_cleanse(text, sizeof(text));
    fclose(file);
    return key;
}

/* False for what is no key of ours. */
static bool name_key(EVP_PKEY *key, uint64_t *ret_id)
{
    uint8_t octets[RSA_BITS_MAX / 8];
    size_t len = sizeof(octets);
    BIGNUM *modulus = NULL;

    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) {
        if (!EVP_PKEY_get_raw_public_key(key, octets, &len))
            return false;
    } else {
        if (!EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus))
            return false;
        len = (size_t)BN_num_bytes(modulus);
        if (len <= sizeof(octets))
            BN_bn2bin(modulus, octets);
        BN_free(modulus);
        if (len > sizeof(octets))
            return false;
    }
    *ret_id = sign_ring_key_id(slice_of(octets, len));
    return true;
}

static bool prepare(struct loaded_key *place)
{
    if (EVP_PKEY_get_base_id(place->key) == EVP_PKEY_ED25519)
        return true;
    place->context = EVP_PKEY_CTX_new(place->key, NULL);
    return place->context && EVP_PKEY_sign_init(place->context) > 0 &&
           EVP_PKEY_CTX_set_rsa_padding(place->context, RSA_PKCS1_PADDING) > 0 &&
           EVP_PKEY_CTX_set_signature_md(place->context, EVP_sha256()) > 0;
}

static enum sign_ring_status load(struct signing *signing, uint64_t id, const char *path)
{
    EVP_PKEY *key = read_key(path);
    struct loaded_key *place;
    uint64_t found;

    if (!key || !name_key(key, &found) || found != id) {
        EVP_PKEY_free(key);
        return SIGN_RING_FAILED;
    }
    if (signing->key_count >= KEYS_MAX / 4 * 3)
        forget(signing);
    place = find(signing, id);
    if (place->key) {
        EVP_PKEY_free(key);
        return SIGN_RING_DONE;
    }
    *place = (struct loaded_key){.id = id, .key = key};
    signing->key_count++;
    if (prepare(place))
        return SIGN_RING_DONE;
    EVP_PKEY_CTX_free(place->context);
    EVP_PKEY_free(place->key);
    *place = (struct loaded_key){0};
    signing->key_count--;
    return SIGN_RING_FAILED;
}

/* ---- Signatures ------------------------------------------------------------------------------ */

static bool sign_ed25519(EVP_PKEY *key, const uint8_t digest[SHA256_BYTES], uint8_t *signature,
                         size_t *len)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_made = context && EVP_DigestSignInit(context, NULL, NULL, NULL, key) > 0 &&
                   EVP_DigestSign(context, signature, len, digest, SHA256_BYTES) > 0;

    EVP_MD_CTX_free(context);
    return is_made;
}

static bool sign(const struct loaded_key *key, const uint8_t digest[SHA256_BYTES],
                 uint8_t signature[SIGN_RING_BYTES_MAX], uint32_t *ret_len)
{
    size_t len = SIGN_RING_BYTES_MAX;
    bool is_made = key->context
                       ? EVP_PKEY_sign(key->context, signature, &len, digest, SHA256_BYTES) > 0
                       : sign_ed25519(key->key, digest, signature, &len);

    *ret_len = (uint32_t)len;
    return is_made;
}

static enum sign_ring_status answer(struct signing *signing, struct sign_ring_slot *slot)
{
    const struct loaded_key *key;

    switch (slot->ask) {
    case SIGN_RING_SIGN:
        key = find(signing, slot->key_id);
        if (!key->key)
            return SIGN_RING_UNKNOWN_KEY;
        return sign(key, slot->digest, slot->signature, &slot->len) ? SIGN_RING_DONE
                                                                    : SIGN_RING_FAILED;
    case SIGN_RING_LOAD:
        slot->path[SIGN_RING_PATH_MAX - 1] = '\0';
        return load(signing, slot->key_id, slot->path);
    case SIGN_RING_FORGET:
        forget(signing);
        return SIGN_RING_DONE;
    default:
        return SIGN_RING_FAILED;
    }
}

static void say(struct signing *signing)
{
    signing->unsaid = 0;
    if (atomic_exchange(&signing->ring->shard_sleeps, 0) != 0)
        send(SIGN_RING_BELL_FD, ".", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Everything that is asked for now. */
static void work(struct signing *signing)
{
    struct sign_ring *ring = signing->ring;
    uint32_t answered = atomic_load(&ring->answered);

    while (answered != atomic_load_explicit(&ring->asked, memory_order_acquire)) {
        struct sign_ring_slot *slot = &ring->slots[answered % SIGN_RING_SLOTS];

        slot->status = (uint32_t)answer(signing, slot);
        atomic_store(&ring->answered, ++answered);
        if (++signing->unsaid == BELL_AFTER)
            say(signing);
    }
    if (signing->unsaid > 0)
        say(signing);
}

/* Until the daemon has gone. */
static void serve(struct signing *signing)
{
    struct sign_ring *ring = signing->ring;
    char octets[64];

    while (true) {
        work(signing);
        atomic_store(&ring->helper_sleeps, 1);
        if (atomic_load(&ring->asked) != atomic_load(&ring->answered)) {
            atomic_store(&ring->helper_sleeps, 0);
            continue;
        }
        if (recv(SIGN_RING_BELL_FD, octets, sizeof(octets), 0) <= 0)
            return;
        atomic_store(&ring->helper_sleeps, 0);
    }
}

/* ---- The start ------------------------------------------------------------------------------- */

static uint64_t own_time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Signatures a second of processor time; 1 when there are none. */
static uint32_t measure(EVP_PKEY *key)
{
    struct loaded_key loaded = {.key = key};
    uint8_t digest[SHA256_BYTES] = {0}, signature[SIGN_RING_BYTES_MAX];
    uint64_t began_ns, spent_ns = 0;
    uint32_t count = 0, len;

    if (!key || !prepare(&loaded))
        return 1;
    /* The first one prepares what the others have ready. */
    began_ns = sign(&loaded, digest, signature, &len) ? own_time_ns() : 0;
    while (began_ns > 0 && spent_ns < MEASURE_NS && sign(&loaded, digest, signature, &len)) {
        count++;
        spent_ns = own_time_ns() - began_ns;
    }
    EVP_PKEY_CTX_free(loaded.context);
    EVP_PKEY_free(key);
    return spent_ns > 0 ? (uint32_t)(count * 1000000000ull / spent_ns) : 1;
}

int main(void)
{
    static struct signing signing;
    static const struct rlimit no_core = {0, 0};

    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    signing.ring = mmap(NULL, sizeof(*signing.ring), PROT_READ | PROT_WRITE, MAP_SHARED,
                        SIGN_RING_MEMORY_FD, 0);
    if (signing.ring == MAP_FAILED) {
        fputs("ringpost-sign: ringpostd starts this program; it does nothing by itself\n", stderr);
        return 2;
    }
    close(SIGN_RING_MEMORY_FD);
    atomic_store(&signing.ring->rates[0], measure(EVP_RSA_gen(2048)));
    atomic_store(&signing.ring->rates[1], measure(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")));
    serve(&signing);
    forget(&signing);
    return 0;
}
