/* The manifest: strict JSON of schema 1. */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "bytes.h"

bool manifest_is_valid(bytes text);

#endif
