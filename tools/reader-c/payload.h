/* Steps 13 to 16: an entry's bytes. */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include "table.h"

/* Hand out the plaintext of an entry, in a buffer of the caller's, whole or not at all. In suite 0 nobody looks at
 * `content_key`. */
verdict read_entry(const table *bundle, const entry *which, bytes payload, const uint8_t *content_key, buffer *plain);

#endif
