#include "table.h"

#include <string.h>

enum { HEADER_SIZE = 240, ENTRY_SIZE = 80, NAME_SIZE = 32 };
enum { MAJOR = 1, ROLE_BUNDLE = 1, KNOWN_CRITICAL_FLAGS = 0, KNOWN_ENTRY_FLAGS = 0 };

/* isalnum would ask the locale. */
static bool is_letter_or_digit(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Return the name in a field of 32 bytes, NULL if it is none: at least one NUL must be left to end it. */
static const char *name_in(const uint8_t *field)
{
    const char *name = (const char *)field;
    size_t size = strnlen(name, NAME_SIZE);
    if (size == 0 || size == NAME_SIZE || !is_letter_or_digit(name[0]))
        return NULL;
    for (size_t i = 1; i < size; i++)
        if (!is_letter_or_digit(name[i]) && strchr("._-", name[i]) == NULL)
            return NULL;
    return all_zero((bytes){field + size, NAME_SIZE - size}) ? name : NULL;
}

verdict parse_header(bytes signed_region, table *out)
{
    const uint8_t *at = signed_region.at;
    *out = (table){0};
    REQUIRE(signed_region.size >= HEADER_SIZE, FORMAT, 7);
    /* What is unknown. The minor version at 2 and the flags at 8 may be anything. */
    REQUIRE(u16(at) == MAJOR, POLICY, 7);
    REQUIRE((u32(at + 4) & ~(uint32_t)KNOWN_CRITICAL_FLAGS) == 0, POLICY, 7);
    REQUIRE(u16(at + 12) == ROLE_BUNDLE, POLICY, 7);
    out->suite = u16(at + 14);
    REQUIRE(out->suite == SUITE_CLEAR || out->suite == SUITE_COBBLESTONE, POLICY, 7);
    /* What is malformed. */
    out->product = name_in(at + 96);
    out->profile = name_in(at + 128);
    out->engine = name_in(at + 160);
    out->engine_version = name_in(at + 192);
    REQUIRE(out->product != NULL && out->profile != NULL, FORMAT, 7);
    REQUIRE(out->engine != NULL && out->engine_version != NULL, FORMAT, 7);
    REQUIRE(u32(at + 236) == 0, FORMAT, 7);
    out->entry_count = u32(at + 224);
    REQUIRE(out->entry_count >= 1 && out->entry_count <= ENTRY_COUNT_MOST, FORMAT, 7);
    out->created = u64(at + 24);
    out->expires = u64(at + 32);
    REQUIRE(out->expires == 0 || out->expires > out->created, FORMAT, 7);

    out->security_version = u64(at + 16);
    out->payload_length = u64(at + 40);
    out->bundle_id = (bytes){at + 48, 16};
    out->profile_digest = (bytes){at + 64, 32};
    out->segment_count = u32(at + 228);
    out->manifest_length = u32(at + 232);
    ACCEPT;
}

/* Say how many segments an entry of `plain` bytes has. In suite 1 the last chunk is never full, so that a plaintext
 * of whole chunks has one more; in suite 0 it has not, and an empty one has one. */
static uint64_t segments_of(uint16_t suite, uint64_t plain)
{
    uint64_t chunks = plain / CHUNK + (suite == SUITE_COBBLESTONE || plain % CHUNK != 0 || plain == 0 ? 1 : 0);
    return chunks / SEGMENT_CHUNKS + (chunks % SEGMENT_CHUNKS != 0 ? 1 : 0);
}

/* Say how long an entry of `plain` bytes is in the payload. */
static uint64_t stored_length_of(uint16_t suite, uint64_t plain)
{
    return suite == SUITE_CLEAR ? plain : ENTRY_HEADER + plain + TAG * (plain / CHUNK + 1);
}

/* Where the next entry must begin. */
typedef struct {
    uint64_t offset, segment;
} place;

/* Parse entry `i`, which must come after the one before, and move `next` to its end. */
static verdict parse_entry(const uint8_t *at, const table *header, uint32_t i, place *next, entry *out)
{
    uint16_t suite = header->suite;
    out->name = name_in(at);
    REQUIRE(out->name != NULL, FORMAT, 8);
    /* What is unknown. A reader without zstd knows no compression. */
    uint16_t role = u16(at + 32);
    REQUIRE(role >= 1 && role <= 4, POLICY, 8);
    REQUIRE(u16(at + 34) == 0, POLICY, 8);
    REQUIRE((u32(at + 36) & ~(uint32_t)KNOWN_ENTRY_FLAGS) == 0, POLICY, 8);
    /* Whatever else. Names have no NUL in them, so that strcmp compares all their bytes. */
    REQUIRE(i == 0 || strcmp(header->entries[i - 1].name, out->name) < 0, FORMAT, 8);
    out->offset = u64(at + 40);
    out->stored_length = u64(at + 48);
    out->plain_length = u64(at + 56);
    out->first_segment = u32(at + 72);
    out->segment_count = u32(at + 76);
    REQUIRE(out->offset == next->offset && out->first_segment == next->segment, FORMAT, 8);
    /* First the segments: an entry of no more of them than there are digests is so short that nothing below wraps. */
    REQUIRE(out->segment_count == segments_of(suite, out->plain_length), FORMAT, 8);
    next->segment += out->segment_count;
    REQUIRE(next->segment <= header->segment_count, FORMAT, 8);
    REQUIRE(out->stored_length == stored_length_of(suite, out->plain_length), FORMAT, 8);
    REQUIRE(u64(at + 64) == out->plain_length, FORMAT, 8);
    next->offset += out->stored_length;
    ACCEPT;
}

verdict parse_entries(bytes signed_region, uint64_t payload_length, table *out)
{
    bytes rest = signed_region, header, records;
    REQUIRE(cut(&rest, HEADER_SIZE, &header), FORMAT, 8);
    REQUIRE(cut(&rest, (uint64_t)ENTRY_SIZE * out->entry_count, &records), FORMAT, 8);
    REQUIRE(cut(&rest, (uint64_t)DIGEST * out->segment_count, &out->digests), FORMAT, 8);
    REQUIRE(cut(&rest, out->manifest_length, &out->manifest) && rest.size == 0, FORMAT, 8);

    place next = {0, 0};
    for (uint32_t i = 0; i < out->entry_count; i++)
        TRY(parse_entry(records.at + (size_t)ENTRY_SIZE * i, out, i, &next, &out->entries[i]));
    REQUIRE(next.offset == out->payload_length && out->payload_length == payload_length, FORMAT, 8);
    REQUIRE(next.segment == out->segment_count, FORMAT, 8);
    ACCEPT;
}
