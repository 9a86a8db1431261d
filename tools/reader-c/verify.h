/* "Reading a bundle": all the steps, in their order. */
#ifndef VERIFY_H
#define VERIFY_H

#include "device.h"
#include "table.h"

/* What a bundle that was accepted holds: the table, pointing into the file, and the SHA-256 of each entry. */
typedef struct {
    table table;
    uint8_t digests[ENTRY_COUNT_MOST][SHA256_SIZE];
} contents;

verdict read_bundle(const device *by, bytes file, contents *out);

#endif
