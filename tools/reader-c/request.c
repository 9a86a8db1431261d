#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "container.h"

static bool read_number(const char *text, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long found = strtoull(text, &end, 10);
    *out = found;
    return errno == 0 && *end == '\0' && found <= UINT64_MAX;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = c == '\0' ? NULL : strchr(digits, c);
    return found == NULL ? -1 : (int)(found - digits);
}

static bool read_hex(const char *text, buffer *out)
{
    for (; *text != '\0'; text += 2) {
        int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return false;
        uint8_t value = (uint8_t)(high << 4 | low);
        append(out, &value, 1);
    }
    return true;
}

/* Add an id of `size` bytes to those that are there. */
static bool read_id(const char *text, size_t size, buffer *out)
{
    size_t before = out->size;
    return read_hex(text, out) && out->size - before == size;
}

static char *copy_of(const char *text)
{
    return strcpy(allocate(strlen(text) + 1), text);
}

/* Return the list with room for one more. */
static void *grown(void *list, size_t count, size_t size)
{
    void *larger = allocate((count + 1) * size);
    if (count > 0)
        memcpy(larger, list, count * size);
    free(list);
    return larger;
}

static bool read_trust(const char *text, device *out)
{
    buffer der = {0};
    EVP_PKEY *key = read_hex(text, &der) ? public_key(view(&der)) : NULL;
    discard(&der);
    if (key == NULL || !may_sign(key)) {
        EVP_PKEY_free(key);
        return false;
    }
    out->trusted = grown(out->trusted, out->trusted_count, sizeof *out->trusted);
    trusted_key *last = &out->trusted[out->trusted_count++];
    last->key = key;
    key_id_of(key, last->id);
    return true;
}

static bool read_floor(const char *text, device *out)
{
    const char *space = strchr(text, ' ');
    uint64_t version;
    if (space == NULL || !read_number(space + 1, &version))
        return false;
    out->accepted = grown(out->accepted, out->accepted_count, sizeof *out->accepted);
    accepted_version *last = &out->accepted[out->accepted_count++];
    last->product = copy_of(text);
    last->product[space - text] = '\0';
    last->version = version;
    return true;
}

static bool read_device(const char *text, device *out)
{
    buffer der = {0};
    if (out->key == NULL && read_hex(text, &der))
        out->key = private_key(view(&der));
    discard(&der);
    return out->key != NULL;
}

/* One line but the last: its first word, and the rest of it. */
static bool read_field(const char *word, const char *text, device *out)
{
    if (strcmp(word, "threshold") == 0)
        return read_number(text, &out->threshold);
    if (strcmp(word, "trust") == 0)
        return read_trust(text, out);
    if (strcmp(word, "profile") == 0)
        return out->profile == NULL && (out->profile = copy_of(text)) != NULL;
    if (strcmp(word, "floor") == 0)
        return read_floor(text, out);
    if (strcmp(word, "now") == 0)
        return out->installs = read_number(text, &out->now);
    if (strcmp(word, "device") == 0)
        return read_device(text, out);
    if (strcmp(word, "revoked-key") == 0)
        return read_id(text, KEY_ID, &out->revoked_keys);
    if (strcmp(word, "revoked-bundle") == 0)
        return read_id(text, 16, &out->revoked_bundles);
    if (strcmp(word, "sidecar") == 0)
        return out->has_sidecar = read_hex(text, &out->sidecar);
    if (strcmp(word, "manifest") == 0)
        return out->reads_manifest = strcmp(text, "check") == 0;
    return false;
}

/* Read so many bytes, and make no room for what does not come. */
static bool read_body(FILE *from, uint64_t size, buffer *out)
{
    uint8_t part[65536];
    while (size > 0) {
        size_t got = fread(part, 1, size < sizeof part ? (size_t)size : sizeof part, from);
        if (got == 0)
            return false;
        append(out, part, got);
        size -= got;
    }
    return true;
}

enum reading read_request(FILE *from, request *out)
{
    *out = (request){0};
    char *line = NULL;
    size_t room = 0;
    enum reading found = REQUEST_MALFORMED;
    for (bool first = true;; first = false) {
        ssize_t size = getline(&line, &room, from);
        if (size < 0) {
            found = first && feof(from) ? REQUEST_NONE : REQUEST_MALFORMED;
            break;
        }
        char *space = strchr(line, ' ');
        if (line[size - 1] != '\n' || memchr(line, '\0', (size_t)size) != NULL || space == NULL)
            break;
        line[size - 1] = *space = '\0';
        if (strcmp(line, "bundle") == 0) {
            uint64_t length;
            if (out->device.profile != NULL && read_number(space + 1, &length)
                && read_body(from, length, &out->bundle))
                found = REQUEST_READ;
            break;
        }
        if (!read_field(line, space + 1, &out->device))
            break;
    }
    if (line != NULL)
        OPENSSL_cleanse(line, room);
    free(line);
    return found;
}

void free_request(request *found)
{
    device *known = &found->device;
    for (size_t i = 0; i < known->trusted_count; i++)
        EVP_PKEY_free(known->trusted[i].key);
    for (size_t i = 0; i < known->accepted_count; i++)
        free(known->accepted[i].product);
    free(known->trusted);
    free(known->accepted);
    free(known->profile);
    EVP_PKEY_free(known->key);
    discard(&known->revoked_keys);
    discard(&known->revoked_bundles);
    discard(&known->sidecar);
    discard(&found->bundle);
}

void write_answer(FILE *to, verdict said, const contents *found)
{
    static const char *const outcomes[] = {
        [PREAMBLE] = "preamble",     [FORMAT] = "format", [SIGNATURE] = "signature",
        [POLICY] = "policy",         [NO_GRANT] = "no-grant", [UNWRAP] = "unwrap",
        [PAYLOAD] = "payload",       [COMMITMENT] = "commitment", [META] = "meta",
        [REQUIRES] = "requires",
    };
    if (said.outcome != OK) {
        fprintf(to, "refused %s %d\n", outcomes[said.outcome], said.step);
        return;
    }
    fputs("ok", to);
    for (uint32_t i = 0; i < found->table.entry_count; i++) {
        fprintf(to, " %s=", found->table.entries[i].name);
        for (size_t j = 0; j < SHA256_SIZE; j++)
            fprintf(to, "%02x", found->digests[i][j]);
    }
    fputc('\n', to);
}
