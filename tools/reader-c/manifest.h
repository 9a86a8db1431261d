/* "The manifest": its members, and that it says what the header says. */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "table.h"

bool manifest_is_valid(const table *bundle);

#endif
