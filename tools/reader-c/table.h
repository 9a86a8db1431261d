/* Steps 7 and 8: the header, the entries, the digests and the manifest of a signed region. */
#ifndef TABLE_H
#define TABLE_H

#include "bytes.h"
#include "verdict.h"

enum { ENTRY_COUNT_MOST = 64, DIGEST = 32, CHUNK = 16384, TAG = 16, ENTRY_HEADER = 56, SEGMENT_CHUNKS = 64 };
enum { SUITE_CLEAR = 0, SUITE_COBBLESTONE = 1 };

typedef struct {
    const char *name;
    uint64_t offset, stored_length, plain_length;
    uint32_t first_segment, segment_count;
} entry;

/* Everything points into the signed region. A name ends with NUL. */
typedef struct {
    uint16_t suite;
    uint64_t security_version, created, expires, payload_length;
    bytes bundle_id, profile_digest;
    const char *product, *profile, *engine, *engine_version;
    uint32_t entry_count, segment_count, manifest_length;
    entry entries[ENTRY_COUNT_MOST];
    bytes digests, manifest;
} table;

/* Step 7. */
verdict parse_header(bytes signed_region, table *out);

/* Step 8, after step 7; `payload_length` is the preamble's. */
verdict parse_entries(bytes signed_region, uint64_t payload_length, table *out);

#endif
