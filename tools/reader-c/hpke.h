/* RFC 9180, of it: base mode, single shot, receiver, HKDF-SHA256, AES-256-GCM, no AAD, 32 bytes of plaintext. */
#ifndef HPKE_H
#define HPKE_H

#include "crypto.h"

/* The key encapsulations of RFC 9180, 7.1. */
typedef struct {
    uint16_t id;
    size_t enc_size;
} hpke_kem;

extern const hpke_kem HPKE_X25519, HPKE_P256;

enum { HPKE_PLAIN = 32 };

/* Open `sealed`, which is enc and ciphertext. False if it does not open. */
bool hpke_open(const hpke_kem *kem, EVP_PKEY *key, bytes sealed, bytes info, uint8_t plain[HPKE_PLAIN]);

#endif
