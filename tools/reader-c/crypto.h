/* What libcrypto gives, in the form the format needs it. False: the input is wrong. For the rest see `must`. */
#ifndef CRYPTO_H
#define CRYPTO_H

#include <openssl/evp.h>

#include "bytes.h"

enum { SHA256_SIZE = 32, GCM_KEY = 32, GCM_NONCE = 12, GCM_TAG = 16 };

void sha256(bytes data, uint8_t digest[SHA256_SIZE]);

/* RFC 5869; `hash` is EVP_sha256() or EVP_sha512(), and `prk` of the extraction is as long as its digest. */
void hkdf_extract(const EVP_MD *hash, bytes salt, bytes ikm, uint8_t *prk);
void hkdf_expand(const EVP_MD *hash, bytes prk, bytes info, uint8_t *out, size_t size);

/* AES-256-GCM without AAD: `sealed` is ciphertext and tag, `plain` as long as the ciphertext. */
bool gcm_open(const uint8_t key[GCM_KEY], const uint8_t nonce[GCM_NONCE], bytes sealed, uint8_t *plain);

/* Read a key: SubjectPublicKeyInfo, or PKCS#8, in DER. NULL if it is none, or is not written in the one way that
 * gives a key its id. */
EVP_PKEY *public_key(bytes spki);
EVP_PKEY *private_key(bytes pkcs8);

/* The SHA-256 of the key's SubjectPublicKeyInfo in DER. */
void key_id_of(EVP_PKEY *key, uint8_t id[SHA256_SIZE]);

bool is_p256(EVP_PKEY *key);

/* Ed25519, or P-256: the keys a publisher may have. */
bool may_sign(EVP_PKEY *key);

/* The two rows of the table in "Signatures". */
bool is_signed(EVP_PKEY *key, bytes signature, bytes message);

#endif
