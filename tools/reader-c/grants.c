#include "grants.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rsa.h>

#include "hpke.h"

enum { RSA_BITS = 3072 };

/* The kind of grant that this key demands; 0 if none can be for it. */
static uint8_t kind_for(EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "X25519") == 1)
        return GRANT_X25519;
    if (is_p256(key))
        return GRANT_P256;
    return EVP_PKEY_is_a(key, "RSA") == 1 && EVP_PKEY_get_bits(key) == RSA_BITS ? GRANT_RSA : 0;
}

static bool oaep_open(EVP_PKEY *key, bytes sealed, bytes info, uint8_t content_key[CONTENT_KEY])
{
    uint8_t plain[RSA_BITS / 8];
    size_t size = sizeof plain;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    must(context != NULL, "memory");
    /* The context takes the label over, if it takes it. */
    void *label = OPENSSL_memdup(info.at, info.size);
    bool set = EVP_PKEY_decrypt_init(context) == 1
        && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1
        && EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha256()) == 1
        && EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()) == 1
        && EVP_PKEY_CTX_set0_rsa_oaep_label(context, label, (int)info.size) == 1;
    if (!set)
        OPENSSL_free(label);
    must(set, "RSA-OAEP");
    bool good = EVP_PKEY_decrypt(context, plain, &size, sealed.at, sealed.size) == 1 && size == CONTENT_KEY;
    if (good)
        memcpy(content_key, plain, CONTENT_KEY);
    OPENSSL_cleanse(plain, sizeof plain);
    EVP_PKEY_CTX_free(context);
    return good;
}

bool open_grant(EVP_PKEY *key, bytes sealed, bytes info, uint8_t content_key[CONTENT_KEY])
{
    switch (kind_for(key)) {
    case GRANT_X25519:
        return hpke_open(&HPKE_X25519, key, sealed, info, content_key);
    case GRANT_P256:
        return hpke_open(&HPKE_P256, key, sealed, info, content_key);
    case GRANT_RSA:
        return oaep_open(key, sealed, info, content_key);
    default:
        return false;
    }
}

/* Find the grant for this key id. One of a kind that is unknown is as if it were not there. */
static bool find(bytes block, bytes key_id, record *out)
{
    bytes rest = records(block);
    while (next_grant(&rest, out))
        if (same(out->key_id, key_id) && out->kind >= GRANT_X25519 && out->kind <= GRANT_RSA)
            return true;
    return false;
}

verdict find_content_key(const container *bundle, const bytes *sidecar, EVP_PKEY *key,
                         uint8_t content_key[CONTENT_KEY])
{
    REQUIRE(key != NULL, NO_GRANT, 12);
    uint8_t id[KEY_ID], digest[SHA256_SIZE];
    key_id_of(key, id);
    record grant;
    if (!find(bundle->grants, (bytes){id, KEY_ID}, &grant)) {
        REQUIRE(sidecar != NULL, NO_GRANT, 12);
        REQUIRE(grants_are_well_formed(*sidecar), FORMAT, 12);
        REQUIRE(find(*sidecar, (bytes){id, KEY_ID}, &grant), NO_GRANT, 12);
    }
    REQUIRE(grant.kind == kind_for(key), NO_GRANT, 12);

    static const char label[] = "edgepack/v1/grant"; /* and the NUL after it */
    buffer info = {0};
    append(&info, label, sizeof label);
    sha256(bundle->signed_region, digest);
    append(&info, digest, sizeof digest);
    bool opened = open_grant(key, grant.value, view(&info), content_key);
    discard(&info);
    REQUIRE(opened, UNWRAP, 12);
    ACCEPT;
}
