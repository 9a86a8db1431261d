/* "Strict JSON", as a tree; and the canonical text of one. */
#ifndef JSON_H
#define JSON_H

#include "bytes.h"

enum json_type { JSON_NULL, JSON_BOOLEAN, JSON_INTEGER, JSON_REAL, JSON_STRING, JSON_LIST, JSON_OBJECT };

typedef struct json json;

struct json {
    enum json_type type;
    bytes name;      /* of a member of an object, decoded; a NUL stands after it */
    bytes text;      /* of a string, likewise */
    int64_t integer; /* of an integer, or of a boolean */
    double number;   /* of an integer or a real */
    json *first;     /* of a list or an object */
    json *next;      /* in the list or object this one is in */
};

typedef struct {
    uint8_t *copy; /* the text, in which strings are decoded where they stand */
    json *root;
} json_document;

/* Read one value and nothing after it. False if it is no strict JSON; there is nothing to free then. */
bool json_read(bytes text, json_document *out);
void json_free(json_document *document);

/* The member of an object, NULL if it has none of that name. */
json *json_member(const json *object, const char *name);

/* The items of a list, or the members of an object. */
size_t json_count(const json *found);

/* "Canonical JSON": see canonical.c. */
void json_canonical(const json *found, buffer *out);

#endif
