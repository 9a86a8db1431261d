#include "manifest.h"

#include <string.h>

#include "processing.h"
#include "profile.h"

enum { DIMENSIONS_MOST = 8, REQUIREMENTS_MOST = 64 };

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
    static const char *const choices[] = {"mixed", "as_is", NULL};
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

static bool is_product(const json *value)
{
    return is_like(value, "^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$");
}

static bool is_requirement(const json *value)
{
    static const member members[] = {
        {"product", is_product, WANTED},
        {"security_version", is_positive, WANTED},
    };
    return HAS(value, members);
}

static bool is_requirements(const json *value)
{
    return is_some_of(value, is_requirement) && json_count(value) <= REQUIREMENTS_MOST
        && members_differ(value, "product", NULL);
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
        {"requires", is_requirements, OPTIONAL},
        {"processing", is_processing, OPTIONAL},
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

static const json *first_requirement(const json *manifest)
{
    const json *requires = json_member(manifest, "requires");
    return requires == NULL ? NULL : requires->first;
}

/* No product requires itself. */
static bool requires_others(const json *manifest, const table *bundle)
{
    for (const json *one = first_requirement(manifest); one != NULL; one = one->next)
        if (says(json_member(one, "product"), bundle->product))
            return false;
    return true;
}

static bool has_accepted(const device *by, const json *requirement)
{
    const json *product = json_member(requirement, "product");
    uint64_t wanted = (uint64_t)json_member(requirement, "security_version")->integer;
    for (size_t i = 0; i < by->accepted_count; i++)
        if (says(product, by->accepted[i].product))
            return by->accepted[i].version >= wanted;
    return false;
}

static bool is_met(const device *by, const json *manifest)
{
    for (const json *one = first_requirement(manifest); one != NULL; one = one->next)
        if (!has_accepted(by, one))
            return false;
    return true;
}

verdict check_manifest(const device *by, const table *bundle)
{
    json_document document;
    REQUIRE(json_read(bundle->manifest, &document), META, 0);
    bool good = is_manifest(document.root) && agrees(document.root, bundle) && requires_others(document.root, bundle);
    bool met = good && is_met(by, document.root);
    json_free(&document);
    REQUIRE(good, META, 0);
    REQUIRE(met, REQUIRES, 0);
    ACCEPT;
}
