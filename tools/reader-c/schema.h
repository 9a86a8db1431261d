/* What members an object has, and what each may be. */
#ifndef SCHEMA_H
#define SCHEMA_H

#include "json.h"

typedef bool check(const json *value);

enum presence { WANTED, OPTIONAL };

typedef struct {
    const char *name;
    check *is_valid;
    enum presence presence;
} member;

/* An object with these members and no others. */
bool has_members(const json *value, const member *members, size_t count);
#define HAS(value, members) has_members((value), (members), sizeof(members) / sizeof *(members))

/* A list, or an object that has any members, of such values. */
bool is_list_of(const json *value, check *is_valid);

/* Text that is one of these, which a NULL ends; text that fits an extended regular expression of POSIX. */
bool is_one_of(const json *value, const char *const *choices);
bool is_like(const json *value, const char *expression);

/* As `is_list_of`, and at least one of them. */
bool is_some_of(const json *value, check *is_valid);

/* No text is in the list twice, and this one is not in it; it may be NULL. */
bool texts_differ(const json *list, const json *besides);

/* The texts under that name of each object in the list, and in `besides`, which may be NULL: none is there twice. */
bool members_differ(const json *list, const char *name, const json *besides);

/* The words of "Members". */
check is_text, is_line, is_integer, is_positive, is_number, is_boolean, is_texts, is_1;

#endif
