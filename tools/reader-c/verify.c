#include "verify.h"

#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "container.h"
#include "grants.h"
#include "manifest.h"
#include "payload.h"


static bool is_listed(const buffer *ids, bytes id)
{
    bytes rest = view(ids), one;
    while (cut(&rest, id.size, &one))
        if (same(one, id))
            return true;
    return false;
}

/* The key that made a signature, if it is trusted; a revoked key is not. */
static EVP_PKEY *trusted_key_of(const device *by, bytes key_id)
{
    if (is_listed(&by->revoked_keys, key_id))
        return NULL;
    for (size_t i = 0; i < by->trusted_count; i++)
        if (same((bytes){by->trusted[i].id, SHA256_SIZE}, key_id))
            return by->trusted[i].key;
    return NULL;
}

/* "Signatures": DSSE's pre-authentication encoding of the signed region. */
static void encode_for_signature(bytes signed_region, buffer *out)
{
    char head[80];
    snprintf(head, sizeof head, "DSSEv1 34 application/vnd.edgepack.bundle.v1 %zu ", signed_region.size);
    append_text(out, head);
    append(out, signed_region.at, signed_region.size);
}

/* Steps 5 and 6. Key ids ascend, so that each signature counted is by another key. */
static verdict check_signatures(const device *by, const container *bundle)
{
    REQUIRE(by->threshold >= 1, SIGNATURE, 5);
    buffer message = {0};
    encode_for_signature(bundle->signed_region, &message);
    bytes rest = records(bundle->signatures);
    uint64_t good = 0, wrong = 0;
    record found;
    while (next_signature(&rest, &found)) {
        EVP_PKEY *key = trusted_key_of(by, found.key_id);
        if (key == NULL)
            continue;
        if (is_signed(key, found.value, view(&message)))
            good++;
        else
            wrong++;
    }
    discard(&message);
    REQUIRE(wrong == 0, SIGNATURE, 6);
    REQUIRE(good >= by->threshold, SIGNATURE, 6);
    ACCEPT;
}

/* Steps 9 to 11 */
static verdict check_policy(const device *by, const table *bundle)
{
    REQUIRE(strcmp(bundle->profile, by->profile) == 0, POLICY, 9);
    REQUIRE(!is_listed(&by->revoked_bundles, bundle->bundle_id), POLICY, 10);
    for (size_t i = 0; i < by->accepted_count; i++)
        if (strcmp(by->accepted[i].product, bundle->product) == 0)
            REQUIRE(bundle->security_version >= by->accepted[i].version, POLICY, 10);
    REQUIRE(!by->installs || bundle->expires == 0 || bundle->expires > by->now, POLICY, 11);
    ACCEPT;
}

/* Steps 13 to 16. There is no step 17: this reader lacks zstd, and step 8 has refused what needs it. */
static verdict read_entries(const container *bundle, const uint8_t *content_key, contents *out)
{
    for (uint32_t i = 0; i < out->table.entry_count; i++) {
        buffer plain = {0};
        TRY(read_entry(&out->table, &out->table.entries[i], bundle->payload, content_key, &plain));
        sha256(view(&plain), out->digests[i]);
        discard(&plain);
    }
    ACCEPT;
}

static verdict open_payload(const device *by, const container *bundle, contents *out)
{
    uint8_t content_key[CONTENT_KEY] = {0};
    bytes sidecar = view(&by->sidecar);
    if (out->table.suite == SUITE_COBBLESTONE)
        TRY(find_content_key(bundle, by->has_sidecar ? &sidecar : NULL, by->key, content_key)); /* step 12 */
    verdict found = read_entries(bundle, content_key, out);
    OPENSSL_cleanse(content_key, sizeof content_key);
    return found;
}

verdict read_bundle(const device *by, bytes file, contents *out)
{
    container bundle;
    TRY(split(file, &bundle));                                                  /* steps 1 to 4 */
    TRY(check_signatures(by, &bundle));                                         /* 5 and 6 */
    TRY(parse_header(bundle.signed_region, &out->table));                       /* 7 */
    TRY(parse_entries(bundle.signed_region, bundle.payload.size, &out->table)); /* 8 */
    TRY(check_policy(by, &out->table));                                         /* 9 to 11 */
    if (by->reads_manifest)
        TRY(check_manifest(by, &out->table));                                   /* "The manifest" */
    TRY(open_payload(by, &bundle, out));                                        /* 12 to 16 */
    ACCEPT;
}
