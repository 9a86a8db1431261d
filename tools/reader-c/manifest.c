#include "manifest.h"

#include "json.h"

enum { SCHEMA = 1 };

bool manifest_is_valid(bytes text)
{
    json_document document;
    if (!json_read(text, &document))
        return false;
    bool good = false;
    if (document.root->type == JSON_OBJECT) {
        const json *schema = json_member(document.root, "schema");
        /* All that the document shows of the schema is the example's manifest. */
        good = schema != NULL && schema->type == JSON_INTEGER && schema->integer == SCHEMA && schema->next == NULL
            && document.root->first == schema;
    }
    json_free(&document);
    return good;
}
