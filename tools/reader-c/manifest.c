#include "manifest.h"

#include <string.h>

#include "profile.h"

enum { DIMENSIONS_MOST = 8 };

static bool is_dimension(const json *value)
{
    return is_integer(value) && value->integer >= -1;
}

static bool is_shape(const json *value)
{
    return is_list_of(value, is_dimension) && json_count(value) <= DIMENSIONS_MOST;
}

static bool is_numbers(const json *value)
{
    return is_list_of(value, is_number);
}

static bool is_integers(const json *value)
{
    return is_list_of(value, is_integer);
}

static bool is_quantization(const json *value)
{
    static const member members[] = {
        {"scale", is_numbers, WANTED},
        {"zero_point", is_integers, WANTED},
        {"quantized_dimension", is_integer, OPTIONAL},
    };
    return HAS(value, members);
}

static bool is_tensor(const json *value)
{
    static const member members[] = {
        {"name", is_text, WANTED},
        {"dtype", is_dtype, WANTED},
        {"shape", is_shape, WANTED},
        {"quantization", is_quantization, OPTIONAL},
    };
    return HAS(value, members);
}

static bool is_tensors(const json *value)
{
    return is_list_of(value, is_tensor);
}

static bool is_scheme_of_model(const json *value)
{
    static const char *const choices[] = {"as_is", NULL};
    return is_scheme(value) || is_one_of(value, choices);
}

static bool is_model(const json *value)
{
    static const member members[] = {
        {"entry", is_text, WANTED},
        {"scheme", is_scheme_of_model, WANTED},
        {"inputs", is_tensors, WANTED},
        {"outputs", is_tensors, WANTED},
        {"stateful", is_boolean, WANTED},
    };
    return HAS(value, members);
}

static bool is_share(const json *value)
{
    return is_number(value) && value->number >= 0 && value->number <= 1;
}

static bool is_golden(const json *value)
{
    static const member members[] = {
        {"entry", is_text, WANTED},
        {"samples", is_positive, WANTED},
        {"tolerance", is_share, WANTED},
    };
    return HAS(value, members);
}

static bool is_step(const json *value)
{
    static const member members[] = {
        {"use", is_text, WANTED},
        {"tool", is_text, WANTED},
        {"options", is_text, WANTED},
        {"input_digest", is_text, WANTED},
        {"output_digest", is_text, WANTED},
    };
    return HAS(value, members);
}

static bool is_steps(const json *value)
{
    return is_list_of(value, is_step);
}

static bool is_provenance(const json *value)
{
    static const member members[] = {
        {"tool", is_text, WANTED},
        {"source_format", is_text, WANTED},
        {"source_digest", is_text, WANTED},
        {"calibration_digest", is_text, WANTED},
        {"evaluation_digest", is_text, WANTED},
        {"steps", is_steps, WANTED},
        {"notes", is_texts, WANTED},
    };
    return HAS(value, members);
}

static bool is_verdict(const json *value)
{
    static const char *const choices[] = {"measured", "emulated", "estimated", "unknown", NULL};
    return is_one_of(value, choices);
}

static bool is_one_evidence(const json *value)
{
    static const member members[] = {
        {"check", is_text, WANTED},
        {"holds", is_boolean, WANTED},
        {"verdict", is_verdict, WANTED},
        {"found", is_text, WANTED},
        {"wanted", is_text, WANTED},
        {"environment", is_text, WANTED},
        {"value", is_number, OPTIONAL},
        {"low", is_number, OPTIONAL},
        {"high", is_number, OPTIONAL},
    };
    return HAS(value, members);
}

static bool is_evidence(const json *value)
{
    return is_list_of(value, is_one_evidence);
}

static bool is_manifest(const json *value)
{
    static const member members[] = {
        {"manifest", is_1, WANTED},
        {"name", is_text, WANTED},
        {"version", is_text, WANTED},
        {"licence", is_text, WANTED},
        {"profile", is_profile, WANTED},
        {"model", is_model, WANTED},
        {"golden", is_golden, WANTED},
        {"labels", is_texts, WANTED},
        {"provenance", is_provenance, WANTED},
        {"evidence", is_evidence, WANTED},
    };
    return HAS(value, members);
}

static bool says(const json *value, const char *name)
{
    return same(value->text, (bytes){(const uint8_t *)name, strlen(name)});
}

/* "The manifest and the header" */
static bool agrees(const json *manifest, const table *bundle)
{
    json *profile = json_member(manifest, "profile");
    const json *engine = json_member(profile, "engine");
    uint8_t digest[DIGEST];
    profile_digest(profile, digest);
    return says(json_member(manifest, "name"), bundle->product) && says(json_member(profile, "name"), bundle->profile)
        && says(json_member(engine, "name"), bundle->engine)
        && says(json_member(engine, "version"), bundle->engine_version)
        && same((bytes){digest, DIGEST}, bundle->profile_digest);
}

bool manifest_is_valid(const table *bundle)
{
    json_document document;
    if (!json_read(bundle->manifest, &document))
        return false;
    bool good = is_manifest(document.root) && agrees(document.root, bundle);
    json_free(&document);
    return good;
}
