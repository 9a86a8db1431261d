#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

bool cut(bytes *rest, uint64_t size, bytes *part)
{
    if (rest->size < size)
        return false;
    *part = (bytes){rest->at, (size_t)size};
    rest->at += size;
    rest->size -= (size_t)size;
    return true;
}

bool same(bytes one, bytes other)
{
    return one.size == other.size && (one.size == 0 || memcmp(one.at, other.at, one.size) == 0);
}

int compare(bytes one, bytes other)
{
    size_t shared = one.size < other.size ? one.size : other.size;
    int order = shared == 0 ? 0 : memcmp(one.at, other.at, shared);
    return order != 0 ? order : (one.size > other.size) - (one.size < other.size);
}

static int compare_items(const void *one, const void *other)
{
    return compare(*(const bytes *)one, *(const bytes *)other);
}

bool all_differ(bytes *list, size_t count)
{
    qsort(list, count, sizeof *list, compare_items);
    for (size_t i = 1; i < count; i++)
        if (same(list[i - 1], list[i]))
            return false;
    return true;
}

bool all_zero(bytes found)
{
    for (size_t i = 0; i < found.size; i++)
        if (found.at[i] != 0)
            return false;
    return true;
}

static uint64_t little_endian(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    while (size-- > 0)
        value = value << 8 | at[size];
    return value;
}

uint16_t u16(const uint8_t *at)
{
    return (uint16_t)little_endian(at, 2);
}

uint32_t u32(const uint8_t *at)
{
    return (uint32_t)little_endian(at, 4);
}

uint64_t u64(const uint8_t *at)
{
    return little_endian(at, 8);
}

void append(buffer *to, const void *from, size_t size)
{
    if (size > to->room - to->size) {
        size_t room = (to->size + size) * 2;
        must(room / 2 >= size, "a size of memory that exists");
        /* Not realloc: it would leave a copy of what may be secret. */
        uint8_t *larger = allocate(room);
        if (to->size > 0)
            memcpy(larger, to->at, to->size);
        size_t kept = to->size;
        discard(to);
        *to = (buffer){larger, kept, room};
    }
    if (size > 0)
        memcpy(to->at + to->size, from, size);
    to->size += size;
}

void append_text(buffer *to, const char *text)
{
    append(to, text, strlen(text));
}

bytes view(const buffer *of)
{
    return (bytes){of->at, of->size};
}

void discard(buffer *found)
{
    if (found->at != NULL)
        OPENSSL_cleanse(found->at, found->room);
    free(found->at);
    *found = (buffer){0};
}

void *allocate(size_t size)
{
    void *found = calloc(1, size > 0 ? size : 1);
    must(found != NULL, "memory");
    return found;
}

void must(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "reader: no %s\n", what);
        exit(3);
    }
}
