#include "profile.h"

#include <string.h>

#include "crypto.h"

static bool is_name(const json *value)
{
    return is_like(value, "^[a-z0-9][a-z0-9._-]{0,30}$");
}

static bool is_names(const json *value)
{
    return is_list_of(value, is_name);
}

static bool is_architecture(const json *value)
{
    static const char *const choices[] = {"aarch64", "armv7l", "x86_64", NULL};
    return is_one_of(value, choices);
}

static bool is_word(const json *value)
{
    return is_like(value, "^[!-~]{1,64}$");
}

static bool is_words(const json *value)
{
    return is_list_of(value, is_word);
}

static bool is_hardware(const json *value)
{
    static const member members[] = {
        {"board", is_line, WANTED},
        {"soc", is_line, WANTED},
        {"cpu", is_line, WANTED},
        {"arch", is_architecture, WANTED},
        {"cores", is_positive, WANTED},
        {"ram_bytes", is_positive, WANTED},
        {"cpu_features", is_words, WANTED},
    };
    return HAS(value, members);
}

static bool is_libc(const json *value)
{
    return is_like(value, "^(glibc|musl) [0-9]{1,4}\\.[0-9]{1,4}$");
}

static bool is_python(const json *value)
{
    return is_like(value, "^3\\.[0-9]{1,3}$");
}

static bool is_software(const json *value)
{
    static const member members[] = {
        {"os", is_line, WANTED},
        {"libc", is_libc, WANTED},
        {"python", is_python, WANTED},
    };
    return HAS(value, members);
}

static bool is_engine_name(const json *value)
{
    static const char *const choices[] = {"ai-edge-litert", "tflite-runtime", NULL};
    return is_one_of(value, choices);
}

static bool is_engine_version(const json *value)
{
    return is_like(value, "^[0-9]{1,8}(\\.[0-9]{1,8}){1,3}$");
}

static bool is_engine_versions(const json *value)
{
    return is_some_of(value, is_engine_version);
}

static bool is_library(const json *value)
{
    return is_like(value, "^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$");
}

static bool is_delegate(const json *value)
{
    static const member members[] = {
        {"name", is_word, WANTED},
        {"version", is_word, WANTED},
        {"library", is_library, OPTIONAL},
    };
    return HAS(value, members);
}

static bool is_delegates(const json *value)
{
    return is_some_of(value, is_delegate) && members_differ(value, "name", NULL);
}

static bool is_engine(const json *value)
{
    static const member members[] = {
        {"name", is_engine_name, WANTED},
        {"version", is_engine_version, WANTED},
        {"num_threads", is_positive, WANTED},
        {"also", is_engine_versions, OPTIONAL},
        {"delegates", is_delegates, OPTIONAL},
    };
    if (!HAS(value, members))
        return false;
    const json *also = json_member(value, "also");
    return also == NULL || texts_differ(also, json_member(value, "version"));
}

static bool is_latency(const json *value)
{
    return is_number(value) && value->number > 0;
}

static bool is_budget(const json *value)
{
    static const member members[] = {
        {"ram_bytes", is_positive, WANTED},
        {"storage_bytes", is_positive, WANTED},
        {"latency_ms", is_latency, OPTIONAL},
    };
    return HAS(value, members);
}

bool is_dtype(const json *value)
{
    static const char *const choices[] = {"float32", "float16", "float64", "int8", "uint8",
                                          "int16",   "int32",   "int64",   "bool", NULL};
    return is_one_of(value, choices);
}

bool is_scheme(const json *value)
{
    static const char *const choices[] = {"full_integer",     "dynamic_range",    "float16",      "float32",      "int16x8",
                                          "weight_only_int8", "weight_only_int4", "dynamic_int4", "dynamic_int2", NULL};
    return is_one_of(value, choices);
}

static bool is_schemes(const json *value)
{
    return is_some_of(value, is_scheme) && texts_differ(value, NULL);
}

static bool is_kind(const json *value)
{
    static const char *const choices[] = {"measured", "published", "assumed", NULL};
    return is_one_of(value, choices);
}

static bool is_source(const json *value)
{
    static const member members[] = {{"kind", is_kind, WANTED}, {"text", is_line, WANTED}};
    return HAS(value, members);
}

static bool is_wrong(const json *value)
{
    static const member members[] = {
        {"scheme", is_scheme, WANTED},
        {"reason", is_line, WANTED},
        {"source", is_source, WANTED},
    };
    return HAS(value, members);
}

static bool is_known_wrong(const json *value)
{
    return is_some_of(value, is_wrong);
}

static bool is_quantization(const json *value)
{
    static const member members[] = {{"supported", is_schemes, WANTED}, {"known_wrong", is_known_wrong, OPTIONAL}};
    if (!HAS(value, members))
        return false;
    const json *wrong = json_member(value, "known_wrong");
    return wrong == NULL || members_differ(wrong, "scheme", json_member(value, "supported"));
}

static bool is_dtypes(const json *value)
{
    return is_some_of(value, is_dtype) && texts_differ(value, NULL);
}

static bool is_io(const json *value)
{
    static const member members[] = {
        {"input_dtypes", is_dtypes, OPTIONAL},
        {"output_dtypes", is_dtypes, OPTIONAL},
        {"max_input_bytes", is_positive, OPTIONAL},
        {"batch", is_positive, OPTIONAL},
    };
    return HAS(value, members) && json_count(value) > 0;
}

static bool is_sources(const json *value)
{
    static const member members[] = {
        {"hardware.cores", is_source, WANTED},
        {"hardware.cpu_features", is_source, WANTED},
        {"hardware.ram_bytes", is_source, WANTED},
        {"engine.version", is_source, WANTED},
        {"engine.num_threads", is_source, WANTED},
        {"budget.ram_bytes", is_source, WANTED},
        {"budget.storage_bytes", is_source, WANTED},
        {"quantization.supported", is_source, WANTED},
        {"budget.latency_ms", is_source, OPTIONAL},
        {"engine.also", is_source, OPTIONAL},
        {"engine.delegates", is_source, OPTIONAL},
        {"io.input_dtypes", is_source, OPTIONAL},
        {"io.output_dtypes", is_source, OPTIONAL},
        {"io.max_input_bytes", is_source, OPTIONAL},
        {"io.batch", is_source, OPTIONAL},
    };
    return HAS(value, members);
}

/* A member that may be missing has a source if it is there, and only then. */
static bool has_source(const json *profile, const char *part, const char *name, const char *figure)
{
    const json *whole = json_member(profile, part);
    bool given = whole != NULL && json_member(whole, name) != NULL;
    return given == (json_member(json_member(profile, "sources"), figure) != NULL);
}

/* What the members have to do with each other; each is valid. */
static bool is_consistent(const json *profile)
{
    const json *hardware = json_member(profile, "hardware"), *engine = json_member(profile, "engine");
    const json *budget = json_member(profile, "budget");
    const json *aliases = json_member(profile, "aliases");
    if (aliases != NULL && !texts_differ(aliases, json_member(profile, "name")))
        return false;
    if (strcmp((const char *)json_member(hardware, "arch")->text.at, "armv7l") == 0
        && strcmp((const char *)json_member(engine, "name")->text.at, "ai-edge-litert") == 0)
        return false;
    return json_member(engine, "num_threads")->integer <= json_member(hardware, "cores")->integer
        && json_member(budget, "ram_bytes")->integer <= json_member(hardware, "ram_bytes")->integer
        && has_source(profile, "budget", "latency_ms", "budget.latency_ms")
        && has_source(profile, "engine", "also", "engine.also")
        && has_source(profile, "engine", "delegates", "engine.delegates")
        && has_source(profile, "io", "input_dtypes", "io.input_dtypes")
        && has_source(profile, "io", "output_dtypes", "io.output_dtypes")
        && has_source(profile, "io", "max_input_bytes", "io.max_input_bytes")
        && has_source(profile, "io", "batch", "io.batch");
}

bool is_profile(const json *value)
{
    static const member members[] = {
        {"schema", is_1, WANTED},
        {"name", is_name, WANTED},
        {"description", is_line, WANTED},
        {"aliases", is_names, OPTIONAL},
        {"hardware", is_hardware, WANTED},
        {"software", is_software, WANTED},
        {"engine", is_engine, WANTED},
        {"budget", is_budget, WANTED},
        {"quantization", is_quantization, WANTED},
        {"io", is_io, OPTIONAL},
        {"sources", is_sources, WANTED},
    };
    return HAS(value, members) && is_consistent(value);
}

void profile_digest(json *profile, uint8_t digest[32])
{
    buffer text = {0};
    json whole = *profile, aliases = {.type = JSON_LIST, .name = {(const uint8_t *)"aliases", 7}};
    if (json_member(profile, "aliases") == NULL) {
        aliases.next = whole.first;
        whole.first = &aliases;
    }
    json *latency = json_member(json_member(profile, "budget"), "latency_ms");
    if (latency != NULL)
        latency->type = JSON_REAL;
    json_canonical(&whole, &text);
    sha256(view(&text), digest);
    discard(&text);
}
