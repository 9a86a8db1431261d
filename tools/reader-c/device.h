/* What a device knows before it is given a bundle. */
#ifndef DEVICE_H
#define DEVICE_H

#include "crypto.h"

typedef struct {
    EVP_PKEY *key;
    uint8_t id[SHA256_SIZE];
} trusted_key;

/* The highest security version accepted of a product. */
typedef struct {
    char *product;
    uint64_t version;
} accepted_version;

typedef struct {
    uint64_t threshold;
    trusted_key *trusted;
    size_t trusted_count;
    buffer revoked_keys;    /* key ids one after the other */
    buffer revoked_bundles; /* bundle ids one after the other */
    char *profile;
    accepted_version *accepted;
    size_t accepted_count;
    bool installs; /* at the time `now`; otherwise the bundle is installed and runs */
    uint64_t now;
    EVP_PKEY *key; /* NULL: none */
    bool has_sidecar;
    buffer sidecar;
    bool reads_manifest;
} device;

#endif
