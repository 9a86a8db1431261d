/* The protocol of tests/vectors/README.md: one request, one line of answer. */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdio.h>

#include "verify.h"

typedef struct {
    device device;
    buffer bundle;
} request;

enum reading { REQUEST_READ, REQUEST_NONE, REQUEST_MALFORMED };

/* Read a request: REQUEST_NONE at the end of the input. Whatever comes back, `free_request` must follow. */
enum reading read_request(FILE *from, request *out);
void free_request(request *found);

void write_answer(FILE *to, verdict said, const contents *found);

#endif
