/* A second reader of edgepack bundles, written from docs/bundle-format.md; "step N" is a step of "Reading a bundle".
 *
 * It answers the requests of tests/vectors/README.md. The bundle comes through a pipe: every byte is read once, into
 * private memory, and nothing is allocated before its length was checked. The manifest is opaque here. */
#include "crypto.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PREAMBLE = 32, HEADER = 240, ENTRY = 80, NAME = 32, BUNDLE_ID = 16,
    MAX_SIGNED = 512 * 1024, MAX_SIGNATURES_BLOCK = 64 * 1024, MAX_GRANTS_BLOCK = 1024 * 1024,
    MAX_SIGNATURES = 16, MAX_ENTRIES = 64, MAX_KEYS = 64, MAX_FLOORS = 16, MAX_REVOKED = 64,
    CHUNK = 16 * 1024, SEGMENT_CHUNKS = 64, MAX_SEGMENT = ENTRY_HEADER + SEGMENT_CHUNKS * (CHUNK + TAG)
};
#define PAYLOAD_TYPE "application/vnd.edgepack.bundle.v1"
#define GRANT_INFO "edgepack/v1/grant"
#define ENTRY_CONTEXT "edgepack/v1/entry"

/* Why a bundle was refused, NULL if it was not. */
struct verdict {
    const char *outcome;
    int step;
};
#define REFUSE(verdict, why, number) return (verdict)->outcome = (why), (verdict)->step = (number), 0

struct question {
    int64_t threshold;
    EVP_PKEY *trust[MAX_KEYS];
    size_t trusted;
    char profile[NAME];
    struct { char product[NAME]; uint64_t version; } floors[MAX_FLOORS];
    size_t floor_count;
    int is_installing;
    uint64_t now;
    EVP_PKEY *device;
    uint8_t revoked_keys[MAX_REVOKED][DIGEST], revoked_bundles[MAX_REVOKED][BUNDLE_ID];
    size_t revoked_key_count, revoked_bundle_count;
    uint8_t *sidecar; /* NULL if there is none */
    size_t sidecar_size;
    int reads_manifest;
};

/* A sealed content key in a block of grants; `sealed` is NULL if there is none. */
struct grant {
    const uint8_t *sealed;
    uint16_t length;
    uint8_t kind;
};

/* The bundle on its way in: `left` bytes are still to come. */
struct source {
    FILE *stream;
    uint64_t left;
};

struct entry {
    char name[NAME];
    uint64_t stored_length, plain_length;
    uint32_t first_segment, segment_count;
    uint8_t plain_digest[DIGEST];
};

struct bundle {
    uint32_t signed_length, signatures_length, grants_length;
    uint64_t payload_length;
    uint8_t *signed_region, *signatures, *grants;
    struct grant grant; /* for this device */
    uint16_t suite;
    struct entry entries[MAX_ENTRIES];
    uint32_t entry_count;
    const uint8_t *digests;
    uint8_t content_key[CONTENT_KEY];
};

static void *need(void *memory)
{
    if (memory == NULL) {
        fputs("reader: out of memory\n", stderr);
        exit(3);
    }
    return memory;
}

static uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t u32(const uint8_t *p) { return u16(p) | (uint32_t)u16(p + 2) << 16; }
static uint64_t u64(const uint8_t *p) { return u32(p) | (uint64_t)u32(p + 4) << 32; }

/* Read up to `size` bytes; return how many there were. */
static size_t take(struct source *source, uint8_t *into, size_t size)
{
    if (size > source->left)
        size = (size_t)source->left;
    size_t found = fread(into, 1, size, source->stream);
    source->left -= found;
    return found;
}

/* Read a part of the front into memory of exactly its size, so that a checker of memory sees every byte too far. */
static uint8_t *take_part(struct source *source, uint32_t size)
{
    uint8_t *part = need(malloc(size ? size : 1));
    if (take(source, part, size) != size) {
        fputs("reader: the request ended within the bundle\n", stderr);
        exit(2);
    }
    return part;
}

/* Steps 1 to 3. */
static int read_front(struct source *source, struct bundle *bundle, struct verdict *verdict)
{
    static const uint8_t magic[8] = {0x89, 'E', 'P', 'K', '\r', '\n', 0x1a, '\n'};
    uint8_t preamble[PREAMBLE];
    uint64_t length = source->left;
    if (take(source, preamble, PREAMBLE) != PREAMBLE || memcmp(preamble, magic, sizeof magic) != 0)
        REFUSE(verdict, "preamble", 1);
    bundle->signed_length = u32(preamble + 8);
    bundle->signatures_length = u32(preamble + 12);
    bundle->grants_length = u32(preamble + 16);
    bundle->payload_length = u64(preamble + 24);
    if (bundle->signed_length > MAX_SIGNED || bundle->signatures_length > MAX_SIGNATURES_BLOCK ||
        bundle->grants_length > MAX_GRANTS_BLOCK || u32(preamble + 20) != 0)
        REFUSE(verdict, "preamble", 2);
    uint64_t front = (uint64_t)PREAMBLE + bundle->signed_length + bundle->signatures_length + bundle->grants_length;
    if (length < front || length - front != bundle->payload_length)
        REFUSE(verdict, "preamble", 3);
    bundle->signed_region = take_part(source, bundle->signed_length);
    bundle->signatures = take_part(source, bundle->signatures_length);
    bundle->grants = take_part(source, bundle->grants_length);
    return 1;
}

struct signature {
    const uint8_t *key_id, *value;
    uint16_t length;
};

/* Step 4, signatures. */
static int split_signatures(const struct bundle *bundle, struct signature *found, size_t *count,
                            struct verdict *verdict)
{
    const uint8_t *at = bundle->signatures, *end = at + bundle->signatures_length;
    if (end - at < 2)
        REFUSE(verdict, "format", 4);
    *count = u16(at);
    at += 2;
    if (*count < 1 || *count > MAX_SIGNATURES)
        REFUSE(verdict, "format", 4);
    for (size_t i = 0; i < *count; i++) {
        if (end - at < DIGEST + 2)
            REFUSE(verdict, "format", 4);
        found[i] = (struct signature){at, at + DIGEST + 2, u16(at + DIGEST)};
        at += DIGEST + 2;
        if (end - at < found[i].length || (i > 0 && memcmp(found[i - 1].key_id, found[i].key_id, DIGEST) >= 0))
            REFUSE(verdict, "format", 4);
        at += found[i].length;
    }
    if (at != end)
        REFUSE(verdict, "format", 4);
    return 1;
}

/* Step 4, grants, of the bundle or a sidecar; remember the one for this device. 0 if the block is malformed. */
static int split_grants(const uint8_t *block, size_t size, const uint8_t *device_id, struct grant *grant)
{
    static const uint16_t sizes[] = {0, 80, 113, 384};
    const uint8_t *at = block, *end = at + size, *before = NULL;
    if (end - at < 2)
        return 0;
    size_t count = u16(at);
    at += 2;
    for (size_t i = 0; i < count; i++) {
        if (end - at < 4 + DIGEST)
            return 0;
        uint8_t kind = at[0];
        uint16_t length = u16(at + 2);
        const uint8_t *id = at + 4;
        if (at[1] != 0 || (kind >= 1 && kind <= 3 && length != sizes[kind]))
            return 0;
        at += 4 + DIGEST;
        if (end - at < length || (before && memcmp(before, id, DIGEST) >= 0))
            return 0;
        if (device_id && memcmp(device_id, id, DIGEST) == 0)
            *grant = (struct grant){at, length, kind};
        before = id;
        at += length;
    }
    return at == end;
}

static int is_revoked(const uint8_t *id, const uint8_t *revoked, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(id, revoked + i * size, size) == 0)
            return 1;
    return 0;
}

/* Steps 5 and 6. */
static int check_signatures(const struct question *question, const struct bundle *bundle,
                            const struct signature *signatures, size_t count, struct verdict *verdict)
{
    if (question->threshold < 1)
        REFUSE(verdict, "signature", 5);
    char prefix[96];
    int prefix_size = snprintf(prefix, sizeof prefix, "DSSEv1 %zu %s %" PRIu32 " ", strlen(PAYLOAD_TYPE),
                               PAYLOAD_TYPE, bundle->signed_length);
    size_t length = (size_t)prefix_size + bundle->signed_length;
    uint8_t *message = need(malloc(length));
    memcpy(message, prefix, (size_t)prefix_size);
    memcpy(message + prefix_size, bundle->signed_region, bundle->signed_length);
    int64_t signers = 0;
    int good = 1;
    /* Key ids in the file are distinct, so each signature that counts is of another key. */
    for (size_t i = 0; i < count && good; i++) {
        if (is_revoked(signatures[i].key_id, question->revoked_keys[0], question->revoked_key_count, DIGEST))
            continue;
        for (size_t k = 0; k < question->trusted; k++) {
            uint8_t id[DIGEST];
            if (key_id(question->trust[k], id) && memcmp(id, signatures[i].key_id, DIGEST) == 0) {
                good = may_sign(question->trust[k]) &&
                       is_signed(question->trust[k], signatures[i].value, signatures[i].length, message, length);
                signers += good;
                break;
            }
        }
    }
    free(message);
    if (!good || signers < question->threshold)
        REFUSE(verdict, "signature", 6);
    return 1;
}

/* A name of 1 to 31 characters, filled up with NUL. */
static int is_name(const uint8_t field[NAME])
{
    size_t length = 0;
    for (; length < NAME && field[length] != 0; length++) {
        uint8_t c = field[length];
        int is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!is_letter && (length == 0 || (c != '.' && c != '_' && c != '-')))
            return 0;
    }
    for (size_t i = length; i < NAME; i++)
        if (field[i] != 0)
            return 0;
    return length >= 1 && length < NAME;
}

/* Step 7. */
static int check_header(struct bundle *bundle, struct verdict *verdict)
{
    const uint8_t *h = bundle->signed_region;
    if (bundle->signed_length < HEADER)
        REFUSE(verdict, "format", 7);
    bundle->suite = u16(h + 14);
    if (u16(h) != 1 || u32(h + 4) != 0 || u16(h + 12) != 1 || bundle->suite > 1)
        REFUSE(verdict, "policy", 7);
    bundle->entry_count = u32(h + 224);
    uint64_t created = u64(h + 24), expires = u64(h + 32);
    if (u32(h + 236) != 0 || bundle->entry_count < 1 || bundle->entry_count > MAX_ENTRIES ||
        (expires != 0 && expires <= created) || !is_name(h + 96) || !is_name(h + 128) || !is_name(h + 160) ||
        !is_name(h + 192))
        REFUSE(verdict, "format", 7);
    return 1;
}

/* How many bytes `plain` bytes take in the payload; 0 with `fits` cleared if that is no 64-bit number. */
static uint64_t stored_length(uint16_t suite, uint64_t plain, int *fits)
{
    uint64_t tags = TAG * (plain / CHUNK + 1) + ENTRY_HEADER;
    if (suite == 0)
        return plain;
    *fits = plain <= UINT64_MAX - tags;
    return *fits ? plain + tags : 0;
}

static uint64_t segment_size(uint16_t suite) { return (uint64_t)SEGMENT_CHUNKS * (suite ? CHUNK + TAG : CHUNK); }
static uint64_t header_size(uint16_t suite) { return suite ? ENTRY_HEADER : 0; }

static uint64_t segments_of(uint16_t suite, uint64_t stored)
{
    uint64_t rest = stored - header_size(suite), size = segment_size(suite);
    return rest == 0 ? 1 : rest / size + (rest % size != 0);
}

/* Step 8. */
static int check_table(struct bundle *bundle, struct verdict *verdict)
{
    const uint8_t *h = bundle->signed_region;
    uint64_t digests = u32(h + 228), wanted = HEADER + (uint64_t)ENTRY * bundle->entry_count + DIGEST * digests;
    if (wanted + u32(h + 232) != bundle->signed_length)
        REFUSE(verdict, "format", 8);
    bundle->digests = h + HEADER + (size_t)ENTRY * bundle->entry_count;
    uint64_t offset = 0, segment = 0;
    for (uint32_t i = 0; i < bundle->entry_count; i++) {
        const uint8_t *record = h + HEADER + (size_t)ENTRY * i;
        struct entry *entry = &bundle->entries[i];
        if (!is_name(record))
            REFUSE(verdict, "format", 8);
        uint16_t role = u16(record + 32);
        if (role < 1 || role > 4 || u16(record + 34) != 0 || u32(record + 36) != 0)
            REFUSE(verdict, "policy", 8);
        memcpy(entry->name, record, NAME);
        entry->stored_length = u64(record + 48);
        entry->plain_length = u64(record + 56);
        entry->first_segment = u32(record + 72);
        entry->segment_count = u32(record + 76);
        int fits = 1;
        uint64_t stored = stored_length(bundle->suite, entry->plain_length, &fits);
        if (u64(record + 40) != offset || entry->first_segment != segment || !fits ||
            entry->stored_length != stored || u64(record + 64) != entry->plain_length ||
            entry->segment_count != segments_of(bundle->suite, stored) || entry->segment_count > digests - segment ||
            (i > 0 && memcmp(bundle->entries[i - 1].name, entry->name, NAME) >= 0))
            REFUSE(verdict, "format", 8);
        /* No overflow: the digests that exist bound what is stored. */
        offset += stored;
        segment += entry->segment_count;
    }
    if (offset != u64(h + 40) || segment != digests || offset != bundle->payload_length)
        REFUSE(verdict, "format", 8);
    return 1;
}

/* Steps 9 to 11. */
static int check_policy(const struct question *question, const struct bundle *bundle, struct verdict *verdict)
{
    const uint8_t *h = bundle->signed_region;
    uint64_t floor = 0, expires = u64(h + 32);
    if (memcmp(h + 128, question->profile, NAME) != 0)
        REFUSE(verdict, "policy", 9);
    if (is_revoked(h + 48, question->revoked_bundles[0], question->revoked_bundle_count, BUNDLE_ID))
        REFUSE(verdict, "policy", 10);
    for (size_t i = 0; i < question->floor_count; i++)
        if (memcmp(h + 96, question->floors[i].product, NAME) == 0)
            floor = question->floors[i].version;
    if (u64(h + 16) < floor)
        REFUSE(verdict, "policy", 10);
    if (question->is_installing && expires != 0 && expires <= question->now)
        REFUSE(verdict, "policy", 11);
    return 1;
}

/* Step 12. */
static int unwrap(const struct question *question, const uint8_t *device_id, struct bundle *bundle,
                  struct verdict *verdict)
{
    uint8_t info[sizeof GRANT_INFO + DIGEST] = GRANT_INFO;
    if (bundle->suite == 0)
        return 1;
    /* A sidecar is looked into only where the bundle has no grant for this device. */
    if (device_id && bundle->grant.sealed == NULL && question->sidecar &&
        (question->sidecar_size > MAX_GRANTS_BLOCK ||
         !split_grants(question->sidecar, question->sidecar_size, device_id, &bundle->grant)))
        REFUSE(verdict, "format", 12);
    if (bundle->grant.sealed == NULL || bundle->grant.kind != grant_kind(question->device))
        REFUSE(verdict, "no-grant", 12);
    if (EVP_Digest(bundle->signed_region, bundle->signed_length, info + sizeof GRANT_INFO, NULL, EVP_sha256(),
                   NULL) != 1 ||
        !open_grant(question->device, bundle->grant.sealed, bundle->grant.length, info, sizeof info,
                    bundle->content_key))
        REFUSE(verdict, "unwrap", 12);
    return 1;
}

/* Steps 15 and 16 for a segment that was checked: decrypt it, and hash the plaintext. */
static int open_segment(const struct bundle *bundle, const struct entry *entry, uint32_t number, const uint8_t *segment,
                        size_t size, struct entry_keys *keys, EVP_MD_CTX *plain_hash, struct verdict *verdict)
{
    uint8_t plain[CHUNK];
    size_t at = 0;
    if (bundle->suite == 0)
        return EVP_DigestUpdate(plain_hash, segment, size);
    if (number == 0) {
        uint8_t context[sizeof ENTRY_CONTEXT + 16 + 32 + NAME] = ENTRY_CONTEXT;
        size_t name = strlen(entry->name);
        /* bundle_id and profile_digest stand side by side in the header. */
        memcpy(context + sizeof ENTRY_CONTEXT, bundle->signed_region + 48, 48);
        memcpy(context + sizeof ENTRY_CONTEXT + 48, entry->name, name);
        if (!derive_entry(bundle->content_key, segment, context, sizeof ENTRY_CONTEXT + 48 + name, keys) ||
            CRYPTO_memcmp(keys->commitment, segment + SALT, COMMITMENT) != 0)
            REFUSE(verdict, "commitment", 15);
        at = ENTRY_HEADER;
    }
    for (uint64_t chunk = (uint64_t)number * SEGMENT_CHUNKS; at < size; chunk++) {
        size_t stored = size - at < CHUNK + TAG ? size - at : CHUNK + TAG;
        if (!open_chunk(keys, chunk, segment + at, stored, plain))
            REFUSE(verdict, "payload", 16);
        EVP_DigestUpdate(plain_hash, plain, stored - TAG);
        at += stored;
    }
    OPENSSL_cleanse(plain, sizeof plain);
    return 1;
}

/* Steps 13 to 16 for one entry. Only the digest of the plaintext is kept, and told only after the last entry. */
static int read_entry(struct source *source, const struct bundle *bundle, struct entry *entry, struct verdict *verdict)
{
    uint64_t left = entry->stored_length;
    struct entry_keys keys;
    EVP_MD_CTX *plain_hash = need(EVP_MD_CTX_new());
    int good = EVP_DigestInit_ex(plain_hash, EVP_sha256(), NULL);
    for (uint32_t i = 0; i < entry->segment_count && good; i++) {
        uint64_t size = segment_size(bundle->suite) + (i == 0 ? header_size(bundle->suite) : 0);
        size = size < left ? size : left;
        uint8_t *segment = need(malloc(size ? (size_t)size : 1)), digest[DIGEST];
        const uint8_t *signed_digest = bundle->digests + (size_t)DIGEST * (entry->first_segment + i);
        left -= size;
        if (take(source, segment, (size_t)size) != size) {
            *verdict = (struct verdict){"payload", 13};
            good = 0;
        } else if (EVP_Digest(segment, (size_t)size, digest, NULL, EVP_sha256(), NULL) != 1 ||
                   memcmp(digest, signed_digest, DIGEST) != 0) {
            *verdict = (struct verdict){"payload", 14};
            good = 0;
        } else {
            good = open_segment(bundle, entry, i, segment, (size_t)size, &keys, plain_hash, verdict);
        }
        free(segment);
    }
    good = good && EVP_DigestFinal_ex(plain_hash, entry->plain_digest, NULL) == 1;
    EVP_MD_CTX_free(plain_hash);
    OPENSSL_cleanse(&keys, sizeof keys);
    return good;
}

static int read_bundle(struct source *source, const struct question *question, struct bundle *bundle,
                       struct verdict *verdict)
{
    struct signature signatures[MAX_SIGNATURES];
    size_t count = 0;
    uint8_t id[DIGEST];
    const uint8_t *device_id = question->device && key_id(question->device, id) ? id : NULL;
    if (!read_front(source, bundle, verdict) || !split_signatures(bundle, signatures, &count, verdict))
        return 0;
    if (!split_grants(bundle->grants, bundle->grants_length, device_id, &bundle->grant))
        REFUSE(verdict, "format", 4);
    if (!check_signatures(question, bundle, signatures, count, verdict) || !check_header(bundle, verdict) ||
        !check_table(bundle, verdict) || !check_policy(question, bundle, verdict) ||
        !unwrap(question, device_id, bundle, verdict))
        return 0;
    for (uint32_t i = 0; i < bundle->entry_count; i++)
        if (!read_entry(source, bundle, &bundle->entries[i], verdict))
            return 0;
    return 1;
}

static void answer(struct source *source, const struct question *question)
{
    struct bundle *bundle = need(calloc(1, sizeof *bundle));
    struct verdict verdict = {NULL, 0};
    if (question->reads_manifest) {
        puts("skip");
    } else if (read_bundle(source, question, bundle, &verdict)) {
        fputs("ok", stdout);
        for (uint32_t i = 0; i < bundle->entry_count; i++) {
            printf(" %s=", bundle->entries[i].name);
            for (int k = 0; k < DIGEST; k++)
                printf("%02x", bundle->entries[i].plain_digest[k]);
        }
        putchar('\n');
    } else {
        printf("refused %s %d\n", verdict.outcome ? verdict.outcome : "internal", verdict.step);
    }
    OPENSSL_cleanse(bundle->content_key, CONTENT_KEY);
    free(bundle->signed_region);
    free(bundle->signatures);
    free(bundle->grants);
    free(bundle);
    ERR_clear_error();
    /* What was refused is not read to its end by the steps above; the next request stands behind it. */
    uint8_t sink[4096];
    while (source->left > 0 && take(source, sink, sizeof sink) > 0)
        continue;
    fflush(stdout);
}

/* The rest is the protocol, which only the tests speak: a request that is malformed ends the process. */
static void die(const char *what)
{
    fprintf(stderr, "reader: malformed request: %s\n", what);
    exit(2);
}

static size_t from_hex(char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t size = strlen(text) / 2;
    for (size_t i = 0; i < size; i++) {
        const char *high = memchr(digits, text[2 * i], 16), *low = memchr(digits, text[2 * i + 1], 16);
        if (high == NULL || low == NULL)
            die("hex");
        text[i] = (char)((high - digits) << 4 | (low - digits));
    }
    return size;
}

/* Keys by the line that named them: libcrypto takes milliseconds to decode one, and requests repeat them. */
static struct { char *line; EVP_PKEY *key; } known[MAX_KEYS];
static size_t known_next;

static EVP_PKEY *key_of(const char *line)
{
    for (size_t i = 0; i < MAX_KEYS; i++)
        if (known[i].line && strcmp(known[i].line, line) == 0 && EVP_PKEY_up_ref(known[i].key))
            return known[i].key;
    char *copy = need(strdup(line)), *hex = need(strdup(strchr(line, ' ') + 1));
    long size = (long)from_hex(hex);
    const uint8_t *der = (const uint8_t *)hex;
    EVP_PKEY *key = *line == 't' ? d2i_PUBKEY(NULL, &der, size) : d2i_AutoPrivateKey(NULL, &der, size);
    if (key == NULL || (*line == 'd' && grant_kind(key) == 0) || !EVP_PKEY_up_ref(key))
        die("key");
    OPENSSL_cleanse(hex, (size_t)size);
    free(hex);
    free(known[known_next].line);
    EVP_PKEY_free(known[known_next].key);
    known[known_next].line = copy;
    known[known_next].key = key;
    known_next = (known_next + 1) % MAX_KEYS;
    return key;
}

static void set_name(char field[NAME], const char *name)
{
    if (strlen(name) >= NAME)
        die("name");
    memset(field, 0, NAME);
    memcpy(field, name, strlen(name));
}

static void set_id(uint8_t *ids, size_t *count, size_t size, char *hex)
{
    if (*count == MAX_REVOKED || strlen(hex) != 2 * size || from_hex(hex) != size)
        die("revoked");
    memcpy(ids + size * (*count)++, hex, size);
}

static void set_line(struct question *question, char *line)
{
    char *rest = strchr(line, ' ');
    if (rest == NULL)
        die(line);
    if (strncmp(line, "trust ", 6) == 0 && question->trusted < MAX_KEYS) {
        question->trust[question->trusted++] = key_of(line);
        return;
    }
    if (strncmp(line, "device ", 7) == 0 && question->device == NULL) {
        question->device = key_of(line);
        return;
    }
    *rest++ = 0;
    if (strcmp(line, "threshold") == 0) {
        question->threshold = strtoll(rest, NULL, 10);
    } else if (strcmp(line, "profile") == 0) {
        set_name(question->profile, rest);
    } else if (strcmp(line, "floor") == 0 && question->floor_count < MAX_FLOORS) {
        char *version = strchr(rest, ' ');
        if (version == NULL)
            die("floor");
        *version++ = 0;
        set_name(question->floors[question->floor_count].product, rest);
        question->floors[question->floor_count++].version = strtoull(version, NULL, 10);
    } else if (strcmp(line, "now") == 0) {
        question->is_installing = 1;
        question->now = strtoull(rest, NULL, 10);
    } else if (strcmp(line, "revoked-key") == 0) {
        set_id(question->revoked_keys[0], &question->revoked_key_count, DIGEST, rest);
    } else if (strcmp(line, "revoked-bundle") == 0) {
        set_id(question->revoked_bundles[0], &question->revoked_bundle_count, BUNDLE_ID, rest);
    } else if (strcmp(line, "sidecar") == 0 && question->sidecar == NULL) {
        question->sidecar_size = from_hex(rest);
        question->sidecar = need(malloc(question->sidecar_size ? question->sidecar_size : 1));
        memcpy(question->sidecar, rest, question->sidecar_size);
    } else if (strcmp(line, "manifest") == 0) {
        question->reads_manifest = 1;
    } else {
        die(line);
    }
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    struct question *question = need(calloc(1, sizeof *question));
    while ((length = getline(&line, &room, stdin)) > 0) {
        if (line[length - 1] != '\n')
            die("cut short");
        line[length - 1] = 0;
        if (strncmp(line, "bundle ", 7) != 0) {
            set_line(question, line);
            continue;
        }
        struct source source = {stdin, strtoull(line + 7, NULL, 10)};
        answer(&source, question);
        for (size_t i = 0; i < question->trusted; i++)
            EVP_PKEY_free(question->trust[i]);
        EVP_PKEY_free(question->device);
        free(question->sidecar);
        memset(question, 0, sizeof *question);
    }
    if (line)
        OPENSSL_cleanse(line, room);
    free(line);
    for (size_t i = 0; i < MAX_KEYS; i++) {
        free(known[i].line);
        EVP_PKEY_free(known[i].key);
    }
    free(question);
    return 0;
}
