#include "container.h"

#include <string.h>

enum { PREAMBLE_SIZE = 32, SIGNED_MOST = 524288, SIGNATURES_MOST = 65536, SIGNATURE_COUNT_MOST = 16 };

static const uint8_t MAGIC[8] = {0x89, 'E', 'P', 'K', 0x0D, 0x0A, 0x1A, 0x0A};

bool next_signature(bytes *rest, record *out)
{
    bytes head;
    *out = (record){0};
    if (!cut(rest, KEY_ID + 2, &head))
        return false;
    out->key_id = (bytes){head.at, KEY_ID};
    return cut(rest, u16(head.at + KEY_ID), &out->value);
}

static bool size_fits_kind(const record *grant)
{
    switch (grant->kind) {
    case GRANT_X25519:
        return grant->value.size == 80;
    case GRANT_P256:
        return grant->value.size == 113;
    case GRANT_RSA:
        return grant->value.size == 384;
    default:
        return true;
    }
}

bool next_grant(bytes *rest, record *out)
{
    bytes head;
    *out = (record){0};
    if (!cut(rest, 4 + KEY_ID, &head) || head.at[1] != 0)
        return false;
    out->kind = head.at[0];
    out->key_id = (bytes){head.at + 4, KEY_ID};
    return cut(rest, u16(head.at + 2), &out->value) && size_fits_kind(out);
}

bytes records(bytes block)
{
    return (bytes){block.at + 2, block.size - 2};
}

static bool well_formed(bytes block, unsigned least, unsigned most, bool (*next)(bytes *, record *))
{
    if (block.size < 2)
        return false;
    unsigned count = u16(block.at);
    if (count < least || count > most)
        return false;
    bytes rest = records(block);
    const uint8_t *before = NULL;
    for (; count > 0; count--) {
        record found;
        if (!next(&rest, &found))
            return false;
        if (before != NULL && memcmp(before, found.key_id.at, KEY_ID) >= 0)
            return false;
        before = found.key_id.at;
    }
    return rest.size == 0;
}

bool grants_are_well_formed(bytes block)
{
    return block.size <= GRANTS_MOST && well_formed(block, 0, UINT16_MAX, next_grant);
}

verdict split(bytes file, container *out)
{
    bytes head, rest = file;
    /* Step 1 */
    REQUIRE(cut(&rest, PREAMBLE_SIZE, &head), PREAMBLE, 1);
    REQUIRE(memcmp(head.at, MAGIC, sizeof MAGIC) == 0, PREAMBLE, 1);
    uint32_t signed_length = u32(head.at + 8);
    uint32_t signatures_length = u32(head.at + 12);
    uint32_t grants_length = u32(head.at + 16);
    uint64_t payload_length = u64(head.at + 24);
    /* Step 2 */
    REQUIRE(signed_length <= SIGNED_MOST, PREAMBLE, 2);
    REQUIRE(signatures_length <= SIGNATURES_MOST, PREAMBLE, 2);
    REQUIRE(grants_length <= GRANTS_MOST, PREAMBLE, 2);
    REQUIRE(u32(head.at + 20) == 0, PREAMBLE, 2);
    /* Step 3: part by part, so that no sum of lengths can wrap around. */
    REQUIRE(cut(&rest, signed_length, &out->signed_region), PREAMBLE, 3);
    REQUIRE(cut(&rest, signatures_length, &out->signatures), PREAMBLE, 3);
    REQUIRE(cut(&rest, grants_length, &out->grants), PREAMBLE, 3);
    REQUIRE(cut(&rest, payload_length, &out->payload), PREAMBLE, 3);
    REQUIRE(rest.size == 0, PREAMBLE, 3);
    /* Step 4 */
    REQUIRE(well_formed(out->signatures, 1, SIGNATURE_COUNT_MOST, next_signature), FORMAT, 4);
    REQUIRE(grants_are_well_formed(out->grants), FORMAT, 4);
    ACCEPT;
}
