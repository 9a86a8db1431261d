/* HPKE (RFC 9180) is written out because OpenSSL has it only since 3.2. HKDF is written as the HMACs it is. */
#include "crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

enum { X25519_SIZE = 32, POINT_SIZE = 65, RSA_SIZE = 384, MAX_LABELLED = 512 };

int key_id(EVP_PKEY *key, uint8_t id[DIGEST])
{
    uint8_t *der = NULL;
    int size = i2d_PUBKEY(key, &der);
    int done = size > 0 && EVP_Digest(der, (size_t)size, id, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(der);
    return done;
}

static int is_p256(EVP_PKEY *key)
{
    char group[32];
    size_t size = 0;
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, &size) == 1 &&
           strcmp(group, "prime256v1") == 0;
}

int may_sign(EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "ED25519") || is_p256(key);
}

int is_signed(EVP_PKEY *key, const uint8_t *value, size_t size, const uint8_t *message, size_t length)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const EVP_MD *hash = EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256();
    int good = context && EVP_DigestVerifyInit(context, NULL, hash, NULL, key) == 1 &&
               EVP_DigestVerify(context, value, size, message, length) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

int grant_kind(EVP_PKEY *device)
{
    if (EVP_PKEY_is_a(device, "X25519"))
        return 1;
    if (is_p256(device))
        return 2;
    return EVP_PKEY_is_a(device, "RSA") && EVP_PKEY_get_bits(device) == 3072 ? 3 : 0;
}

/* HPKE's suite: the bytes "KEM" id or "HPKE" ids. */
struct suite {
    uint8_t id[10];
    size_t size;
};

static int hmac256(const uint8_t *key, size_t key_size, const uint8_t *text, size_t size, uint8_t out[DIGEST])
{
    return HMAC(EVP_sha256(), key, (int)key_size, text, size, out, NULL) != NULL;
}

/* Append to a buffer of MAX_LABELLED bytes; 0 if it is full. */
static int append(uint8_t *buffer, size_t *at, const void *bytes, size_t size)
{
    if (size > MAX_LABELLED - *at)
        return 0;
    if (size > 0)
        memcpy(buffer + *at, bytes, size);
    *at += size;
    return 1;
}

static int labelled_extract(const struct suite *suite, const uint8_t *salt, size_t salt_size, const char *label,
                            const uint8_t *ikm, size_t ikm_size, uint8_t prk[DIGEST])
{
    static const uint8_t no_salt[DIGEST];
    uint8_t text[MAX_LABELLED];
    size_t at = 0;
    int done = append(text, &at, "HPKE-v1", 7) && append(text, &at, suite->id, suite->size) &&
               append(text, &at, label, strlen(label)) && append(text, &at, ikm, ikm_size) &&
               hmac256(salt_size ? salt : no_salt, salt_size ? salt_size : sizeof no_salt, text, at, prk);
    OPENSSL_cleanse(text, sizeof text);
    return done;
}

/* Up to 32 bytes, so one block of HKDF-Expand. */
static int labelled_expand(const struct suite *suite, const uint8_t prk[DIGEST], const char *label,
                           const uint8_t *info, size_t info_size, uint8_t *out, size_t size)
{
    const uint8_t length[2] = {0, (uint8_t)size}, one = 1;
    uint8_t text[MAX_LABELLED], block[DIGEST];
    size_t at = 0;
    int done = append(text, &at, length, 2) && append(text, &at, "HPKE-v1", 7) &&
               append(text, &at, suite->id, suite->size) && append(text, &at, label, strlen(label)) &&
               append(text, &at, info, info_size) && append(text, &at, &one, 1) &&
               hmac256(prk, DIGEST, text, at, block);
    if (done)
        memcpy(out, block, size);
    OPENSSL_cleanse(block, sizeof block);
    return done;
}

static int gcm_open(const uint8_t key[32], const uint8_t nonce[NONCE], const uint8_t *sealed, size_t size,
                    uint8_t *plain)
{
    if (size < TAG)
        return 0;
    int text = (int)(size - TAG), done = 0, rest = 0;
    uint8_t tag[TAG], last[TAG];
    memcpy(tag, sealed + text, TAG);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int good = context && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
               (text == 0 || EVP_DecryptUpdate(context, plain, &done, sealed, text) == 1) && done == text &&
               EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 &&
               EVP_DecryptFinal_ex(context, last, &rest) == 1 && rest == 0;
    EVP_CIPHER_CTX_free(context);
    if (!good)
        OPENSSL_cleanse(plain, (size_t)text);
    return good;
}

static EVP_PKEY *peer_of(EVP_PKEY *device, const uint8_t *enc, size_t size)
{
    if (size == X25519_SIZE)
        return EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, enc, size);
    /* RFC 9180 knows the uncompressed form only; libcrypto would take the hybrid one too. */
    EVP_PKEY *peer = enc[0] == 4 ? EVP_PKEY_new() : NULL;
    if (peer && (EVP_PKEY_copy_parameters(peer, device) != 1 || EVP_PKEY_set1_encoded_public_key(peer, enc, size) != 1)) {
        EVP_PKEY_free(peer);
        peer = NULL;
    }
    return peer;
}

/* The Diffie-Hellman of the device's key and enc; libcrypto refuses points off the curve and of low order. */
static int shared_point(EVP_PKEY *device, const uint8_t *enc, size_t enc_size, uint8_t out[DIGEST])
{
    size_t size = DIGEST;
    EVP_PKEY *peer = peer_of(device, enc, enc_size);
    EVP_PKEY_CTX *context = peer ? EVP_PKEY_CTX_new(device, NULL) : NULL;
    int good = context && EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, peer) == 1 &&
               EVP_PKEY_derive(context, out, &size) == 1 && size == DIGEST;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    return good;
}

static int hpke_open(EVP_PKEY *device, int kind, const uint8_t *sealed, size_t size, const uint8_t *info,
                     size_t info_size, uint8_t content_key[CONTENT_KEY])
{
    const uint8_t kem = kind == 1 ? 0x20 : 0x10;
    const size_t enc_size = kind == 1 ? X25519_SIZE : POINT_SIZE;
    const struct suite of_kem = {{'K', 'E', 'M', 0, kem}, 5}, of_hpke = {{'H', 'P', 'K', 'E', 0, kem, 0, 1, 0, 2}, 10};
    uint8_t kem_context[2 * POINT_SIZE], schedule[1 + 2 * DIGEST] = {0}; /* mode_base is 0 */
    uint8_t shared[DIGEST], prk[DIGEST], key[32], nonce[NONCE];
    size_t own = 0;
    if (size != enc_size + CONTENT_KEY + TAG)
        return 0;
    memcpy(kem_context, sealed, enc_size);
    int good = shared_point(device, sealed, enc_size, shared) &&
               EVP_PKEY_get_octet_string_param(device, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, kem_context + enc_size,
                                               enc_size, &own) == 1 && own == enc_size &&
               labelled_extract(&of_kem, NULL, 0, "eae_prk", shared, DIGEST, prk) &&
               labelled_expand(&of_kem, prk, "shared_secret", kem_context, 2 * enc_size, shared, DIGEST) &&
               labelled_extract(&of_hpke, NULL, 0, "psk_id_hash", NULL, 0, schedule + 1) &&
               labelled_extract(&of_hpke, NULL, 0, "info_hash", info, info_size, schedule + 1 + DIGEST) &&
               labelled_extract(&of_hpke, shared, DIGEST, "secret", NULL, 0, prk) &&
               labelled_expand(&of_hpke, prk, "key", schedule, sizeof schedule, key, sizeof key) &&
               labelled_expand(&of_hpke, prk, "base_nonce", schedule, sizeof schedule, nonce, sizeof nonce) &&
               gcm_open(key, nonce, sealed + enc_size, size - enc_size, content_key);
    OPENSSL_cleanse(shared, sizeof shared);
    OPENSSL_cleanse(prk, sizeof prk);
    OPENSSL_cleanse(key, sizeof key);
    return good;
}

static int oaep_open(EVP_PKEY *device, const uint8_t *sealed, size_t size, const uint8_t *info, size_t info_size,
                     uint8_t content_key[CONTENT_KEY])
{
    uint8_t plain[RSA_SIZE];
    size_t found = sizeof plain;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(device, NULL);
    void *label = OPENSSL_memdup(info, info_size);
    int good = context && label && EVP_PKEY_decrypt_init(context) == 1 &&
               EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1 &&
               EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha256()) == 1 &&
               EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()) == 1;
    if (good && EVP_PKEY_CTX_set0_rsa_oaep_label(context, label, (int)info_size) == 1)
        label = NULL; /* the context owns it now */
    else
        good = 0;
    good = good && EVP_PKEY_decrypt(context, plain, &found, sealed, size) == 1 && found == CONTENT_KEY;
    if (good)
        memcpy(content_key, plain, CONTENT_KEY);
    OPENSSL_cleanse(plain, sizeof plain);
    OPENSSL_free(label);
    EVP_PKEY_CTX_free(context);
    return good;
}

int open_grant(EVP_PKEY *device, const uint8_t *sealed, size_t size, const uint8_t *info, size_t info_size,
               uint8_t content_key[CONTENT_KEY])
{
    int kind = grant_kind(device);
    if (kind == 3)
        return oaep_open(device, sealed, size, info, info_size, content_key);
    return kind != 0 && hpke_open(device, kind, sealed, size, info, info_size, content_key);
}

int derive_entry(const uint8_t content_key[CONTENT_KEY], const uint8_t salt[SALT], const uint8_t *context,
                 size_t context_size, struct entry_keys *out)
{
    /* HKDF-Expand-SHA-512: T(1) = HMAC(info 1), T(2) = HMAC(T(1) info 2); the literal's own NUL is part of info. */
    static const char label[] = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM";
    uint8_t text[64 + MAX_LABELLED], okm[128];
    size_t at = 0;
    uint8_t *info = text + 64;
    uint8_t count = 1;
    int good = append(info, &at, label, sizeof label) && append(info, &at, salt, SALT) &&
               append(info, &at, context, context_size) && append(info, &at, &count, 1) &&
               HMAC(EVP_sha512(), content_key, CONTENT_KEY, info, at, okm, NULL) != NULL;
    if (good) {
        memcpy(text, okm, 64);
        info[at - 1] = 2;
        good = HMAC(EVP_sha512(), content_key, CONTENT_KEY, text, 64 + at, okm + 64, NULL) != NULL;
    }
    memcpy(out->key, okm, 32);
    memcpy(out->nonce, okm + 32, NONCE);
    memcpy(out->commitment, okm + 44, COMMITMENT);
    OPENSSL_cleanse(okm, sizeof okm);
    OPENSSL_cleanse(text, sizeof text);
    return good;
}

int open_chunk(const struct entry_keys *keys, uint64_t number, const uint8_t *chunk, size_t size, uint8_t *plain)
{
    uint8_t nonce[NONCE];
    memcpy(nonce, keys->nonce, NONCE);
    for (int i = 0; i < 8; i++)
        nonce[NONCE - 1 - i] ^= (uint8_t)(number >> (8 * i));
    return gcm_open(keys->key, nonce, chunk, size, plain);
}
