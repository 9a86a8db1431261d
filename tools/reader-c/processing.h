/* "What happens before and behind a model" */
#ifndef PROCESSING_H
#define PROCESSING_H

#include "schema.h"

check is_processing;

#endif
