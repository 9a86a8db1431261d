/* Step 12: the content key, from the grant for the device's key. */
#ifndef GRANTS_H
#define GRANTS_H

#include "container.h"
#include "crypto.h"

enum { CONTENT_KEY = 32 };

/* Open what is sealed to the key: kinds 1 and 2 as HPKE says, kind 3 as OAEP does. False if it does not open, or
 * holds no 32 bytes. `info` is HPKE's info, or OAEP's label. */
bool open_grant(EVP_PKEY *key, bytes sealed, bytes info, uint8_t content_key[CONTENT_KEY]);

/* Step 12. `key` is NULL on a device that has none, `sidecar` where there is none. */
verdict find_content_key(const container *bundle, const bytes *sidecar, EVP_PKEY *key,
                         uint8_t content_key[CONTENT_KEY]);

#endif
