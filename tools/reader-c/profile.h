/* "Members": the profile in a manifest. */
#ifndef PROFILE_H
#define PROFILE_H

#include "schema.h"

check is_profile, is_scheme, is_dtype;

/* The SHA-256 of a valid profile's canonical JSON. The tree may be altered on the way. */
void profile_digest(json *profile, uint8_t digest[32]);

#endif
