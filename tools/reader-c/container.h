/* Steps 1 to 4: the file in its parts, and the two blocks that are not signed. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "bytes.h"
#include "verdict.h"

enum { KEY_ID = 32, GRANTS_MOST = 1048576 };

/* Views of the file. */
typedef struct {
    bytes signed_region, signatures, grants, payload;
} container;

/* A signature (kind 0) or a grant; `value` is the signature or what is sealed. */
typedef struct {
    uint8_t kind;
    bytes key_id, value;
} record;

/* Kinds of grants; another one is unknown. */
enum { GRANT_X25519 = 1, GRANT_P256 = 2, GRANT_RSA = 3 };

/* Steps 1 to 4. */
verdict split(bytes file, container *out);

/* The rules of step 4 for a grants block, which a sidecar file is too. */
bool grants_are_well_formed(bytes block);

/* Walk a well-formed block: `rest` is what `records` gave, and false is its end. */
bytes records(bytes block);
bool next_signature(bytes *rest, record *out);
bool next_grant(bytes *rest, record *out);

#endif
