/* Bytes: a view of somebody else's, a buffer of one's own, and the little-endian integers in them. */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *at;
    size_t size;
} bytes;

typedef struct {
    uint8_t *at;
    size_t size, room;
} buffer;

/* Take `size` bytes off the front of `rest`. False, and nothing taken, if there are fewer. */
bool cut(bytes *rest, uint64_t size, bytes *part);

bool same(bytes one, bytes other);

/* In the order of unsigned bytes, a beginning before what it begins: negative, 0 or positive. */
int compare(bytes one, bytes other);

/* Say whether no two of them are the same; they are sorted on the way. */
bool all_differ(bytes *list, size_t count);

bool all_zero(bytes found);

uint16_t u16(const uint8_t *at);
uint32_t u32(const uint8_t *at);
uint64_t u64(const uint8_t *at);

/* A buffer is empty when it is all zeros. `discard` overwrites what was in it. */
void append(buffer *to, const void *from, size_t size);
void append_text(buffer *to, const char *text);
bytes view(const buffer *of);
void discard(buffer *found);

/* A machine that has no memory left gets no verdict: the reader ends, with exit code 3. */
void *allocate(size_t size);
void must(bool condition, const char *what);

#endif
