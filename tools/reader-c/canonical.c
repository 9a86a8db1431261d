/* "Canonical JSON": the one text for a value. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

enum { DIGITS_MOST = 17 };

/* Write the digits of a real, and a point among them: after `before` of the digits, which may be none, or too few. */
static void write_with_point(const char *digits, int before, buffer *out)
{
    int count = (int)strlen(digits);
    if (before <= 0)
        append_text(out, "0.");
    for (int i = before; i < 0; i++)
        append_text(out, "0");
    for (int i = 0; i < count || i < before; i++) {
        append(out, i < count ? &digits[i] : "0", 1);
        if (i + 1 == before)
            append_text(out, ".");
    }
    if (before >= count)
        append_text(out, "0");
}

static void write_real(double value, buffer *out)
{
    char text[40], digits[sizeof text];
    if (signbit(value))
        append_text(out, "-");
    /* The fewest digits that read back as the same number; 17 always do. */
    int count = 1;
    do
        snprintf(text, sizeof text, "%.*e", count - 1, fabs(value));
    while (strtod(text, NULL) != fabs(value) && ++count <= DIGITS_MOST);
    int exponent = atoi(strchr(text, 'e') + 1);
    char *end = digits;
    for (const char *at = text; *at != 'e'; at++)
        if (*at != '.')
            *end++ = *at;
    *end = '\0';
    if (exponent >= -4 && exponent <= 15) {
        write_with_point(digits, exponent + 1, out);
        return;
    }
    append(out, digits, 1);
    if (digits[1] != '\0') {
        append_text(out, ".");
        append_text(out, digits + 1);
    }
    snprintf(text, sizeof text, "e%+03d", exponent);
    append_text(out, text);
}

/* Take a character off the front of well-formed UTF-8. */
static uint32_t next_character(bytes *rest)
{
    uint8_t lead = *rest->at;
    size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t character = size == 1 ? lead : lead & (0x7Fu >> size);
    for (size_t i = 1; i < size; i++)
        character = character << 6 | (rest->at[i] & 0x3F);
    *rest = (bytes){rest->at + size, rest->size - size};
    return character;
}

static void write_escape(uint32_t unit, buffer *out)
{
    char text[12];
    snprintf(text, sizeof text, "\\u%04" PRIx32, unit);
    append_text(out, text);
}

static void write_string(bytes rest, buffer *out)
{
    static const char meanings[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    append_text(out, "\"");
    while (rest.size > 0) {
        uint32_t character = next_character(&rest);
        uint8_t byte = (uint8_t)character;
        const char *found = character < 0x80 ? memchr(meanings, byte, sizeof meanings - 1) : NULL;
        if (found != NULL) {
            append_text(out, "\\");
            append(out, &letters[found - meanings], 1);
        } else if (character >= 0x20 && character < 0x80) {
            append(out, &byte, 1);
        } else if (character < 0x10000) {
            write_escape(character, out);
        } else {
            write_escape(0xD800 + ((character - 0x10000) >> 10), out);
            write_escape(0xDC00 + (character & 0x3FF), out);
        }
    }
    append_text(out, "\"");
}

static int by_name(const void *one, const void *other)
{
    /* The order of UTF-8 is that of code points. */
    return compare((*(const json *const *)one)->name, (*(const json *const *)other)->name);
}

static void write_items(const json *found, buffer *out)
{
    bool is_object = found->type == JSON_OBJECT;
    size_t count = json_count(found), i = 0;
    const json **items = allocate(count * sizeof *items);
    for (const json *item = found->first; item != NULL; item = item->next)
        items[i++] = item;
    if (is_object)
        qsort(items, count, sizeof *items, by_name);
    append_text(out, is_object ? "{" : "[");
    for (i = 0; i < count; i++) {
        if (i > 0)
            append_text(out, ",");
        if (is_object) {
            write_string(items[i]->name, out);
            append_text(out, ":");
        }
        json_canonical(items[i], out);
    }
    append_text(out, is_object ? "}" : "]");
    free(items);
}

void json_canonical(const json *found, buffer *out)
{
    char text[24];
    switch (found->type) {
    case JSON_NULL:
        append_text(out, "null");
        break;
    case JSON_BOOLEAN:
        append_text(out, found->integer ? "true" : "false");
        break;
    case JSON_INTEGER:
        snprintf(text, sizeof text, "%" PRId64, found->integer);
        append_text(out, text);
        break;
    case JSON_REAL:
        write_real(found->number, out);
        break;
    case JSON_STRING:
        write_string(found->text, out);
        break;
    case JSON_LIST:
    case JSON_OBJECT:
        write_items(found, out);
        break;
    }
}
