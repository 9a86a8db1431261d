#include "crypto.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>

void sha256(bytes data, uint8_t digest[SHA256_SIZE])
{
    must(EVP_Digest(data.at, data.size, digest, NULL, EVP_sha256(), NULL) == 1, "SHA-256");
}

static void hmac(const EVP_MD *hash, bytes key, bytes data, uint8_t *out)
{
    /* A key at NULL would mean the one of the call before. */
    const void *at = key.size > 0 ? (const void *)key.at : "";
    must(HMAC(hash, at, (int)key.size, data.at, data.size, out, NULL) != NULL, "HMAC");
}

void hkdf_extract(const EVP_MD *hash, bytes salt, bytes ikm, uint8_t *prk)
{
    hmac(hash, salt, ikm, prk);
}

void hkdf_expand(const EVP_MD *hash, bytes prk, bytes info, uint8_t *out, size_t size)
{
    uint8_t block[EVP_MAX_MD_SIZE];
    size_t made = 0, block_size = (size_t)EVP_MD_get_size(hash);
    for (uint8_t number = 1; made < size; number++) {
        buffer input = {0};
        append(&input, block, number == 1 ? 0 : block_size);
        append(&input, info.at, info.size);
        append(&input, &number, 1);
        hmac(hash, prk, view(&input), block);
        size_t part = size - made < block_size ? size - made : block_size;
        memcpy(out + made, block, part);
        made += part;
        discard(&input);
    }
    OPENSSL_cleanse(block, sizeof block);
}

bool gcm_open(const uint8_t key[GCM_KEY], const uint8_t nonce[GCM_NONCE], bytes sealed, uint8_t *plain)
{
    if (sealed.size < GCM_TAG || sealed.size > INT32_MAX)
        return false;
    int size = (int)(sealed.size - GCM_TAG), done = 0, rest = 0;
    uint8_t tag[GCM_TAG];
    memcpy(tag, sealed.at + size, GCM_TAG);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    must(context != NULL, "memory");
    bool good = EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1
        && (size == 0 || EVP_DecryptUpdate(context, plain, &done, sealed.at, size) == 1)
        && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, tag) == 1
        && EVP_DecryptFinal_ex(context, plain + done, &rest) == 1;
    EVP_CIPHER_CTX_free(context);
    /* It decrypts before it looks at the tag. */
    if (!good)
        OPENSSL_cleanse(plain, (size_t)size);
    return good;
}

bool is_p256(EVP_PKEY *key)
{
    char group[32];
    return EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1
        && strcmp(group, "prime256v1") == 0;
}

bool may_sign(EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "ED25519") == 1 || is_p256(key);
}

bool is_signed(EVP_PKEY *key, bytes signature, bytes message)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    must(context != NULL, "memory");
    /* libcrypto refuses an ECDSA signature that is not the DER it would write itself. */
    const EVP_MD *hash = is_p256(key) ? EVP_sha256() : NULL;
    bool good = EVP_DigestVerifyInit(context, NULL, hash, NULL, key) == 1
        && EVP_DigestVerify(context, signature.at, signature.size, message.at, message.size) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

/* Return the key's SubjectPublicKeyInfo in DER. */
static buffer spki_of(EVP_PKEY *key)
{
    int size = i2d_PUBKEY(key, NULL);
    must(size > 0, "public key");
    buffer spki = {allocate((size_t)size), (size_t)size, (size_t)size};
    uint8_t *end = spki.at;
    i2d_PUBKEY(key, &end);
    return spki;
}

void key_id_of(EVP_PKEY *key, uint8_t id[SHA256_SIZE])
{
    buffer spki = spki_of(key);
    sha256(view(&spki), id);
    discard(&spki);
}

static bool has_parameter(EVP_PKEY *key, const char *name, const char *wanted)
{
    char found[32] = "";
    return EVP_PKEY_get_utf8_string_param(key, name, found, sizeof found, NULL) == 1 && strcmp(found, wanted) == 0;
}

/* "Signatures": points are uncompressed and the curve is named, so that a key has one id. */
static bool has_one_id(EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, "EC") != 1
        || (has_parameter(key, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "uncompressed")
            && has_parameter(key, OSSL_PKEY_PARAM_EC_ENCODING, "named_curve"));
}

EVP_PKEY *public_key(bytes spki)
{
    const uint8_t *at = spki.at;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)spki.size);
    if (key == NULL)
        return NULL;
    buffer again = spki_of(key);
    bool good = same(spki, view(&again)) && has_one_id(key);
    discard(&again);
    if (good)
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

EVP_PKEY *private_key(bytes pkcs8)
{
    const uint8_t *at = pkcs8.at;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, (long)pkcs8.size);
    if (key == NULL)
        return NULL;
    if (at == pkcs8.at + pkcs8.size && has_one_id(key))
        return key;
    EVP_PKEY_free(key);
    return NULL;
}
