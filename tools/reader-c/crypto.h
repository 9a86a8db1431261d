/* The primitives of docs/bundle-format.md over libcrypto. Every function returns 1 for yes, 0 for no. */
#ifndef EDGEPACK_CRYPTO_H
#define EDGEPACK_CRYPTO_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST = 32, CONTENT_KEY = 32, NONCE = 12, TAG = 16, SALT = 24, COMMITMENT = 32, ENTRY_HEADER = SALT + COMMITMENT };

/* The id of a key: SHA-256 of its SubjectPublicKeyInfo. */
int key_id(EVP_PKEY *key, uint8_t id[DIGEST]);

/* May this key sign bundles (Ed25519, P-256)? */
int may_sign(EVP_PKEY *key);

/* Is `value` the key's signature over `message`? The algorithm is the key's. */
int is_signed(EVP_PKEY *key, const uint8_t *value, size_t size, const uint8_t *message, size_t length);

/* The grant kind a device key demands, 0 if it cannot receive bundles. */
int grant_kind(EVP_PKEY *device);

/* Open a grant of that kind. `info` is HPKE's info, and OAEP's label. */
int open_grant(EVP_PKEY *device, const uint8_t *sealed, size_t size, const uint8_t *info, size_t info_size,
               uint8_t content_key[CONTENT_KEY]);

/* An entry's derived secrets. */
struct entry_keys {
    uint8_t key[CONTENT_KEY], nonce[NONCE], commitment[COMMITMENT];
};
int derive_entry(const uint8_t content_key[CONTENT_KEY], const uint8_t salt[SALT], const uint8_t *context,
                 size_t context_size, struct entry_keys *out);

/* Decrypt chunk `number`, `size` bytes with its tag, into size - TAG bytes. */
int open_chunk(const struct entry_keys *keys, uint64_t number, const uint8_t *chunk, size_t size, uint8_t *plain);

#endif
