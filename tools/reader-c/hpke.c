#include "hpke.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>

const hpke_kem HPKE_X25519 = {0x0020, 32}, HPKE_P256 = {0x0010, 65};

enum { HKDF_SHA256 = 0x0001, AES_256_GCM = 0x0002, MODE_BASE = 0, HASH = 32, POINT_MOST = 65, SHARED = 32 };

static const bytes NOTHING = {(const uint8_t *)"", 0};

static void append_u16(buffer *to, unsigned value)
{
    uint8_t big_endian[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    append(to, big_endian, 2);
}

/* 4: LabeledExtract */
static void labeled_extract(bytes suite, bytes salt, const char *label, bytes ikm, uint8_t prk[HASH])
{
    buffer labeled = {0};
    append_text(&labeled, "HPKE-v1");
    append(&labeled, suite.at, suite.size);
    append_text(&labeled, label);
    append(&labeled, ikm.at, ikm.size);
    hkdf_extract(EVP_sha256(), salt, view(&labeled), prk);
    discard(&labeled);
}

/* 4: LabeledExpand */
static void labeled_expand(bytes suite, const uint8_t prk[HASH], const char *label, bytes info, uint8_t *out,
                           size_t size)
{
    buffer labeled = {0};
    append_u16(&labeled, (unsigned)size);
    append_text(&labeled, "HPKE-v1");
    append(&labeled, suite.at, suite.size);
    append_text(&labeled, label);
    append(&labeled, info.at, info.size);
    hkdf_expand(EVP_sha256(), (bytes){prk, HASH}, view(&labeled), out, size);
    discard(&labeled);
}

/* 4.1: DeserializePublicKey, with the validation of 7.1.4. NULL if it is no public key. */
static EVP_PKEY *sender_key(const hpke_kem *kem, bytes enc)
{
    if (kem->id == HPKE_X25519.id)
        return EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, enc.at, enc.size);
    /* libcrypto would take a point in hybrid form too. */
    if (enc.at[0] != 4)
        return NULL;
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)"prime256v1", 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)enc.at, enc.size),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *key = NULL;
    must(context != NULL && EVP_PKEY_fromdata_init(context) == 1, "P-256");
    /* It refuses a point that is not on the curve. */
    if (EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    return key;
}

/* 7.1.4: libcrypto refuses an X25519 whose outcome is all zeros. */
static bool diffie_hellman(EVP_PKEY *key, EVP_PKEY *sender, uint8_t shared[SHARED])
{
    size_t size = SHARED;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    must(context != NULL, "memory");
    bool good = EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, sender) == 1
        && EVP_PKEY_derive(context, shared, &size) == 1 && size == SHARED;
    EVP_PKEY_CTX_free(context);
    return good;
}

/* 4.1: Decap */
static bool decap(const hpke_kem *kem, EVP_PKEY *key, bytes enc, uint8_t secret[HASH])
{
    uint8_t shared[SHARED], prk[HASH], own[POINT_MOST];
    size_t own_size = 0;
    EVP_PKEY *sender = sender_key(kem, enc);
    bool good = sender != NULL && diffie_hellman(key, sender, shared)
        && EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, own, sizeof own, &own_size) == 1
        && own_size == kem->enc_size;
    EVP_PKEY_free(sender);
    if (good) {
        buffer suite = {0}, context = {0};
        append_text(&suite, "KEM");
        append_u16(&suite, kem->id);
        append(&context, enc.at, enc.size);
        append(&context, own, own_size);
        labeled_extract(view(&suite), NOTHING, "eae_prk", (bytes){shared, SHARED}, prk);
        labeled_expand(view(&suite), prk, "shared_secret", view(&context), secret, HASH);
        discard(&suite);
        discard(&context);
    }
    OPENSSL_cleanse(shared, sizeof shared);
    OPENSSL_cleanse(prk, sizeof prk);
    return good;
}

/* 5.1: KeySchedule, in base mode */
static void key_schedule(const hpke_kem *kem, const uint8_t shared[HASH], bytes info, uint8_t key[GCM_KEY],
                         uint8_t nonce[GCM_NONCE])
{
    uint8_t mode = MODE_BASE, psk_id_hash[HASH], info_hash[HASH], secret[HASH];
    buffer suite = {0}, context = {0};
    append_text(&suite, "HPKE");
    append_u16(&suite, kem->id);
    append_u16(&suite, HKDF_SHA256);
    append_u16(&suite, AES_256_GCM);
    labeled_extract(view(&suite), NOTHING, "psk_id_hash", NOTHING, psk_id_hash);
    labeled_extract(view(&suite), NOTHING, "info_hash", info, info_hash);
    append(&context, &mode, 1);
    append(&context, psk_id_hash, HASH);
    append(&context, info_hash, HASH);
    labeled_extract(view(&suite), (bytes){shared, HASH}, "secret", NOTHING, secret);
    labeled_expand(view(&suite), secret, "key", view(&context), key, GCM_KEY);
    labeled_expand(view(&suite), secret, "base_nonce", view(&context), nonce, GCM_NONCE);
    OPENSSL_cleanse(secret, sizeof secret);
    discard(&suite);
    discard(&context);
}

bool hpke_open(const hpke_kem *kem, EVP_PKEY *key, bytes sealed, bytes info, uint8_t plain[HPKE_PLAIN])
{
    uint8_t shared[HASH], gcm_key[GCM_KEY], nonce[GCM_NONCE];
    bytes enc, ciphertext = sealed;
    if (!cut(&ciphertext, kem->enc_size, &enc) || ciphertext.size != HPKE_PLAIN + GCM_TAG)
        return false;
    if (!decap(kem, key, enc, shared))
        return false;
    key_schedule(kem, shared, info, gcm_key, nonce);
    /* The first message: its nonce is the base nonce. */
    bool good = gcm_open(gcm_key, nonce, ciphertext, plain);
    OPENSSL_cleanse(shared, sizeof shared);
    OPENSSL_cleanse(gcm_key, sizeof gcm_key);
    return good;
}
