#include "schema.h"

/* The extended regular expressions of POSIX, in the C locale. */
#include <regex.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MOST = 1000 };

bool has_members(const json *value, const member *members, size_t count)
{
    size_t found = 0;
    if (value->type != JSON_OBJECT)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json *one = json_member(value, members[i].name);
        if (one == NULL ? members[i].presence == WANTED : !members[i].is_valid(one))
            return false;
        found += one != NULL;
    }
    return found == json_count(value);
}

bool is_list_of(const json *value, check *is_valid)
{
    if (value->type != JSON_LIST)
        return false;
    for (const json *item = value->first; item != NULL; item = item->next)
        if (!is_valid(item))
            return false;
    return true;
}

bool is_some_of(const json *value, check *is_valid)
{
    return is_list_of(value, is_valid) && value->first != NULL;
}

/* Text without a NUL in it, so that functions for strings see all of it. */
static const char *string_of(const json *value)
{
    const char *text = (const char *)value->text.at;
    return value->type == JSON_STRING && strlen(text) == value->text.size ? text : NULL;
}

bool is_one_of(const json *value, const char *const *choices)
{
    const char *text = string_of(value);
    while (text != NULL && *choices != NULL)
        if (strcmp(text, *choices++) == 0)
            return true;
    return false;
}

bool is_like(const json *value, const char *expression)
{
    regex_t compiled;
    const char *text = string_of(value);
    if (text == NULL)
        return false;
    must(regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB) == 0, "regular expression");
    bool fits = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return fits;
}

bool texts_differ(const json *list, const json *besides)
{
    size_t count = 0;
    bytes *texts = allocate((json_count(list) + 1) * sizeof *texts);
    if (besides != NULL)
        texts[count++] = besides->text;
    for (const json *item = list->first; item != NULL; item = item->next)
        texts[count++] = item->text;
    bool differ = all_differ(texts, count);
    free(texts);
    return differ;
}

bool members_differ(const json *list, const char *name, const json *besides)
{
    size_t count = 0, others = besides == NULL ? 0 : json_count(besides);
    bytes *texts = allocate((json_count(list) + others) * sizeof *texts);
    for (const json *item = list->first; item != NULL; item = item->next)
        texts[count++] = json_member(item, name)->text;
    for (const json *item = besides == NULL ? NULL : besides->first; item != NULL; item = item->next)
        texts[count++] = item->text;
    bool differ = all_differ(texts, count);
    free(texts);
    return differ;
}

bool is_text(const json *value)
{
    return value->type == JSON_STRING;
}

bool is_line(const json *value)
{
    size_t count = 0;
    if (!is_text(value))
        return false;
    /* What a line must not have, in UTF-8. Text is well-formed and a NUL follows it: nothing beyond is looked at. */
    for (const uint8_t *at = value->text.at, *end = at + value->text.size; at < end; at++) {
        count += (*at & 0xC0) != 0x80;
        if (*at < 0x20 || *at == 0x7F)
            return false;
        if (*at == 0xC2 && at[1] < 0xA0) /* U+0080 to U+009F */
            return false;
        if (*at == 0xD8 && at[1] == 0x9C) /* U+061C */
            return false;
        if (*at == 0xE2 && at[1] == 0x80 && (at[2] == 0x8E || at[2] == 0x8F)) /* U+200E, U+200F */
            return false;
        if (*at == 0xE2 && at[1] == 0x80 && at[2] >= 0xA8 && at[2] <= 0xAE) /* U+2028 to U+202E */
            return false;
        if (*at == 0xE2 && at[1] == 0x81 && at[2] >= 0xA6 && at[2] <= 0xA9) /* U+2066 to U+2069 */
            return false;
    }
    return count >= 1 && count <= LINE_MOST;
}

bool is_integer(const json *value)
{
    return value->type == JSON_INTEGER;
}

bool is_positive(const json *value)
{
    return is_integer(value) && value->integer >= 1;
}

bool is_1(const json *value)
{
    return is_integer(value) && value->integer == 1;
}

bool is_number(const json *value)
{
    return is_integer(value) || value->type == JSON_REAL;
}

bool is_boolean(const json *value)
{
    return value->type == JSON_BOOLEAN;
}

bool is_texts(const json *value)
{
    return is_list_of(value, is_text);
}
