#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MOST = 16, INTEGER_DIGITS_MOST = 16 };
static const int64_t INTEGER_MOST = 9007199254740991; /* 2^53 - 1 */

typedef struct {
    uint8_t *at, *end;
} input;

static bool read_value(input *in, int depth, json *out);

static void skip_space(input *in)
{
    while (in->at < in->end && memchr(" \t\n\r", *in->at, 4) != NULL)
        in->at++;
}

static bool next_is(input *in, uint8_t wanted)
{
    if (in->at == in->end || *in->at != wanted)
        return false;
    in->at++;
    return true;
}

static bool read_word(input *in, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(in->end - in->at) < size || memcmp(in->at, word, size) != 0)
        return false;
    in->at += size;
    return true;
}

static bool skip_digits(input *in)
{
    const uint8_t *start = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9')
        in->at++;
    return in->at > start;
}

static bool read_number(input *in, json *out)
{
    const char *start = (const char *)in->at;
    bool negative = next_is(in, '-');
    const uint8_t *digits = in->at;
    if (!skip_digits(in) || (*digits == '0' && in->at - digits > 1))
        return false;
    const uint8_t *end = in->at;
    out->type = JSON_INTEGER;
    if (next_is(in, '.')) {
        out->type = JSON_REAL;
        if (!skip_digits(in))
            return false;
    }
    if (next_is(in, 'e') || next_is(in, 'E')) {
        out->type = JSON_REAL;
        if (!next_is(in, '+'))
            next_is(in, '-');
        if (!skip_digits(in))
            return false;
    }
    /* It stops where the number does: nothing more can follow, and the text ends with a NUL. */
    out->number = strtod(start, NULL);
    if (out->type == JSON_REAL)
        return isfinite(out->number);
    if (end - digits > INTEGER_DIGITS_MOST)
        return false;
    for (; digits < end; digits++)
        out->integer = out->integer * 10 + (*digits - '0');
    if (out->integer > INTEGER_MOST)
        return false;
    out->integer = negative ? -out->integer : out->integer;
    return true;
}

static bool read_hex4(input *in, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, in->at++) {
        if (in->at == in->end)
            return false;
        uint8_t c = *in->at;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            *out = *out << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* Read what follows \u. A surrogate is half of a character: it must be the first, and the second must follow. */
static bool read_escaped_character(input *in, uint32_t *out)
{
    uint32_t second;
    if (!read_hex4(in, out))
        return false;
    if (*out < 0xD800 || *out > 0xDFFF)
        return true;
    if (*out > 0xDBFF || !read_word(in, "\\u") || !read_hex4(in, &second) || second < 0xDC00 || second > 0xDFFF)
        return false;
    *out = 0x10000 + ((*out - 0xD800) << 10) + (second - 0xDC00);
    return true;
}

/* An escape is never shorter than what it stands for, so that writing does not overtake reading. */
static uint8_t *write_utf8(uint8_t *to, uint32_t character)
{
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    int size = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (int i = size - 1; i > 0; i--, character >>= 6)
        to[i] = (uint8_t)(0x80 | (character & 0x3F));
    to[0] = (uint8_t)(lead[size] | character);
    return to + size;
}

/* Say how long the character of RFC 3629 at `at` is; 0 if it is none: overlong, a surrogate, beyond U+10FFFF. */
static int utf8_size(const uint8_t *at, const uint8_t *end)
{
    if (at[0] < 0x80)
        return 1;
    int size = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
    if (at[0] < 0xC2 || at[0] > 0xF4 || end - at < size)
        return 0;
    for (int i = 1; i < size; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F))
        return 0;
    return (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F) ? 0 : size;
}

static bool read_escape(input *in, uint8_t **to)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    uint32_t character;
    if (in->at == in->end)
        return false;
    uint8_t letter = *in->at++;
    if (letter == 'u') {
        if (!read_escaped_character(in, &character))
            return false;
    } else {
        const char *found = memchr(letters, letter, sizeof letters - 1);
        if (found == NULL)
            return false;
        character = (uint8_t)meanings[found - letters];
    }
    *to = write_utf8(*to, character);
    return true;
}

static bool read_string(input *in, bytes *out)
{
    if (!next_is(in, '"'))
        return false;
    uint8_t *start = in->at, *to = in->at;
    while (!next_is(in, '"')) {
        if (in->at == in->end || *in->at < 0x20)
            return false;
        if (next_is(in, '\\')) {
            if (!read_escape(in, &to))
                return false;
            continue;
        }
        int size = utf8_size(in->at, in->end);
        if (size == 0)
            return false;
        for (; size > 0; size--)
            *to++ = *in->at++;
    }
    *out = (bytes){start, (size_t)(to - start)};
    /* Where the closing quotation mark stood, or before it. */
    *to = '\0';
    return true;
}

static bool names_differ(const json *object, size_t count)
{
    bytes *names = allocate(count * sizeof *names), *next = names;
    for (const json *member = object->first; member != NULL; member = member->next)
        *next++ = member->name;
    bool differ = all_differ(names, count);
    free(names);
    return differ;
}

/* Read the items of a list, or the members of an object, up to the closing bracket. */
static bool read_items(input *in, int depth, json *out)
{
    bool is_object = out->type == JSON_OBJECT;
    uint8_t closing = is_object ? '}' : ']';
    json **last = &out->first;
    size_t count = 0;
    skip_space(in);
    if (next_is(in, closing))
        return true;
    do {
        json *item = allocate(sizeof *item);
        *last = item;
        last = &item->next;
        count++;
        skip_space(in);
        if (is_object) {
            if (!read_string(in, &item->name))
                return false;
            skip_space(in);
            if (!next_is(in, ':'))
                return false;
            skip_space(in);
        }
        if (!read_value(in, depth + 1, item))
            return false;
        skip_space(in);
    } while (next_is(in, ','));
    return next_is(in, closing) && (!is_object || names_differ(out, count));
}

/* Read a value that stands inside `depth` lists and objects. */
static bool read_value(input *in, int depth, json *out)
{
    if (in->at == in->end || depth > DEPTH_MOST)
        return false;
    switch (*in->at) {
    case '{':
    case '[':
        out->type = *in->at++ == '{' ? JSON_OBJECT : JSON_LIST;
        return read_items(in, depth, out);
    case '"':
        out->type = JSON_STRING;
        return read_string(in, &out->text);
    case 't':
    case 'f':
        out->type = JSON_BOOLEAN;
        out->integer = *in->at == 't';
        return read_word(in, out->integer ? "true" : "false");
    case 'n':
        out->type = JSON_NULL;
        return read_word(in, "null");
    default:
        return read_number(in, out);
    }
}

static void free_items(json *item)
{
    while (item != NULL) {
        json *next = item->next;
        free_items(item->first);
        free(item);
        item = next;
    }
}

void json_free(json_document *document)
{
    free_items(document->root);
    free(document->copy);
    *document = (json_document){0};
}

bool json_read(bytes text, json_document *out)
{
    out->copy = allocate(text.size + 1);
    out->root = allocate(sizeof *out->root);
    if (text.size > 0)
        memcpy(out->copy, text.at, text.size);
    input in = {out->copy, out->copy + text.size};
    skip_space(&in);
    if (read_value(&in, 0, out->root)) {
        skip_space(&in);
        if (in.at == in.end)
            return true;
    }
    json_free(out);
    return false;
}

json *json_member(const json *object, const char *name)
{
    bytes wanted = {(const uint8_t *)name, strlen(name)};
    json *member = object->first;
    while (member != NULL && !same(member->name, wanted))
        member = member->next;
    return member;
}

size_t json_count(const json *found)
{
    size_t count = 0;
    for (const json *item = found->first; item != NULL; item = item->next)
        count++;
    return count;
}
