/* "The manifest": its members, and that it says what the header says. */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "device.h"
#include "table.h"
#include "verdict.h"

/* And that the device has accepted what it requires. */
verdict check_manifest(const device *by, const table *bundle);

#endif
