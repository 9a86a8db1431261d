#include "payload.h"

#include <string.h>

#include <openssl/crypto.h>

#include "crypto.h"

enum { SALT = 24, COMMITMENT_SIZE = 32, KEY_MATERIAL = GCM_KEY + GCM_NONCE + COMMITMENT_SIZE };

/* The keys of an entry, as HKDF gives them in a row. */
typedef struct {
    uint8_t key[GCM_KEY], nonce[GCM_NONCE], commitment[COMMITMENT_SIZE];
} entry_keys;

static void derive(const table *bundle, const entry *which, bytes salt, const uint8_t *content_key, entry_keys *out)
{
    static const char instance[] = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM"; /* and the NUL after it */
    static const char context[] = "edgepack/v1/entry";                                 /* likewise */
    uint8_t material[KEY_MATERIAL];
    buffer info = {0};
    append(&info, instance, sizeof instance);
    append(&info, salt.at, salt.size);
    append(&info, context, sizeof context);
    append(&info, bundle->bundle_id.at, bundle->bundle_id.size);
    append(&info, bundle->profile_digest.at, bundle->profile_digest.size);
    append_text(&info, which->name);
    hkdf_expand(EVP_sha512(), (bytes){content_key, 32}, view(&info), material, sizeof material);
    memcpy(out->key, material, GCM_KEY);
    memcpy(out->nonce, material + GCM_KEY, GCM_NONCE);
    memcpy(out->commitment, material + GCM_KEY + GCM_NONCE, COMMITMENT_SIZE);
    OPENSSL_cleanse(material, sizeof material);
    discard(&info);
}

/* The base nonce XOR the number of the chunk as a big-endian integer. */
static void nonce_of(const uint8_t base[GCM_NONCE], uint64_t chunk, uint8_t out[GCM_NONCE])
{
    memcpy(out, base, GCM_NONCE);
    for (int i = GCM_NONCE - 1; chunk > 0; i--, chunk >>= 8)
        out[i] ^= (uint8_t)chunk;
}

/* Step 16, for the chunks of one segment; the first of them has this number. */
static verdict decrypt(const entry_keys *keys, bytes chunks, uint64_t number, buffer *plain)
{
    uint8_t opened[CHUNK];
    bool good = true;
    for (; good && chunks.size > 0; number++) {
        uint8_t nonce[GCM_NONCE];
        bytes chunk;
        must(cut(&chunks, chunks.size < CHUNK + TAG ? chunks.size : CHUNK + TAG, &chunk), "chunk");
        nonce_of(keys->nonce, number, nonce);
        good = gcm_open(keys->key, nonce, chunk, opened);
        if (good)
            append(plain, opened, chunk.size - TAG);
    }
    OPENSSL_cleanse(opened, sizeof opened);
    REQUIRE(good, PAYLOAD, 16);
    ACCEPT;
}

/* Steps 13 and 14 of segment `i`; `rest` is what is left of the stored entry. */
static verdict next_segment(const table *bundle, const entry *which, uint32_t i, bytes *rest, bytes *segment)
{
    uint64_t size = (uint64_t)SEGMENT_CHUNKS * CHUNK;
    if (bundle->suite == SUITE_COBBLESTONE)
        size += (uint64_t)SEGMENT_CHUNKS * TAG + (i == 0 ? (uint64_t)ENTRY_HEADER : 0);
    bool is_last = i + 1 == which->segment_count;
    REQUIRE(cut(rest, is_last ? rest->size : size, segment), PAYLOAD, 13);
    uint8_t digest[SHA256_SIZE];
    sha256(*segment, digest);
    const uint8_t *wanted = bundle->digests.at + (size_t)DIGEST * (which->first_segment + i);
    REQUIRE(memcmp(digest, wanted, DIGEST) == 0, PAYLOAD, 14);
    ACCEPT;
}

static verdict read_segments(const table *bundle, const entry *which, bytes stored, const uint8_t *content_key,
                             entry_keys *keys, buffer *plain)
{
    for (uint32_t i = 0; i < which->segment_count; i++) {
        bytes segment, salt, commitment;
        TRY(next_segment(bundle, which, i, &stored, &segment));
        if (bundle->suite == SUITE_CLEAR) {
            append(plain, segment.at, segment.size);
            continue;
        }
        if (i == 0) {
            REQUIRE(cut(&segment, SALT, &salt) && cut(&segment, COMMITMENT_SIZE, &commitment), PAYLOAD, 13);
            derive(bundle, which, salt, content_key, keys);
            REQUIRE(CRYPTO_memcmp(commitment.at, keys->commitment, COMMITMENT_SIZE) == 0, COMMITMENT, 15);
        }
        TRY(decrypt(keys, segment, (uint64_t)SEGMENT_CHUNKS * i, plain));
    }
    ACCEPT;
}

verdict read_entry(const table *bundle, const entry *which, bytes payload, const uint8_t *content_key, buffer *plain)
{
    bytes stored, before;
    entry_keys keys = {0};
    REQUIRE(cut(&payload, which->offset, &before) && cut(&payload, which->stored_length, &stored), PAYLOAD, 13);
    verdict found = read_segments(bundle, which, stored, content_key, &keys, plain);
    OPENSSL_cleanse(&keys, sizeof keys);
    if (found.outcome != OK)
        discard(plain);
    return found;
}
