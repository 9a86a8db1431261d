#include "processing.h"

static const double LARGE = 1e9, SMALL = 1e-9;

static bool is_from(const json *value, int64_t least, int64_t most)
{
    return is_integer(value) && value->integer >= least && value->integer <= most;
}

static bool is_offset(const json *value)
{
    return is_number(value) && value->number >= -LARGE && value->number <= LARGE;
}

static bool is_divisor(const json *value)
{
    return is_number(value) && value->number >= SMALL && value->number <= LARGE;
}

static bool is_offsets(const json *value)
{
    return is_list_of(value, is_offset);
}

static bool is_divisors(const json *value)
{
    return is_list_of(value, is_divisor);
}

static bool is_side(const json *value)
{
    return is_from(value, 0, 4096);
}

static bool is_pixel(const json *value)
{
    return is_from(value, 0, 255);
}

static bool is_top(const json *value)
{
    return is_from(value, 1, 1000);
}

static bool is_layout(const json *value)
{
    static const char *const choices[] = {"nhwc", "nchw", NULL};
    return is_one_of(value, choices);
}

static bool is_colours(const json *value)
{
    static const char *const choices[] = {"rgb", "bgr", "gray", NULL};
    return is_one_of(value, choices);
}

static bool is_fit(const json *value)
{
    static const char *const choices[] = {"stretch", "crop", "short_side", "pad", NULL};
    return is_one_of(value, choices);
}

static bool is_resize(const json *value)
{
    static const char *const choices[] = {"bilinear", "antialias", "pillow", "nearest", NULL};
    return is_one_of(value, choices);
}

static bool is_activation(const json *value)
{
    static const char *const choices[] = {"none", "softmax", "sigmoid", NULL};
    return is_one_of(value, choices);
}

/* A member that was found to be text. */
static bool says(const json *object, const char *name, const char *word)
{
    const char *const choices[] = {word, NULL};
    return is_one_of(json_member(object, name), choices);
}

static bool is_one_or_each_colour(const json *image, const char *name)
{
    size_t count = json_count(json_member(image, name));
    return count == 1 || (count == 3 && !says(image, "colours", "gray"));
}

static bool is_image(const json *value)
{
    static const member members[] = {
        {"input", is_text, WANTED},
        {"layout", is_layout, WANTED},
        {"colours", is_colours, WANTED},
        {"fit", is_fit, WANTED},
        {"short_side", is_side, WANTED},
        {"fill", is_pixel, WANTED},
        {"resize", is_resize, WANTED},
        {"divisor", is_divisor, WANTED},
        {"mean", is_offsets, WANTED},
        {"std", is_divisors, WANTED},
    };
    return HAS(value, members) && is_one_or_each_colour(value, "mean") && is_one_or_each_colour(value, "std")
        && says(value, "fit", "short_side") == (json_member(value, "short_side")->integer > 0)
        && (says(value, "fit", "pad") || json_member(value, "fill")->integer == 0);
}

static bool is_classes(const json *value)
{
    static const member members[] = {
        {"output", is_text, WANTED},
        {"activation", is_activation, WANTED},
        {"top", is_top, WANTED},
        {"threshold", is_offset, WANTED},
    };
    return HAS(value, members);
}

static bool is_table(const json *value)
{
    static const char *const choices[] = {"rows", "columns", NULL};
    return is_one_of(value, choices);
}

static bool is_corners(const json *value)
{
    static const char *const choices[] = {"xyxy", "yxyx", "xywh", "cxcywh", NULL};
    return is_one_of(value, choices);
}

static bool is_unit(const json *value)
{
    static const char *const choices[] = {"share", "pixels", NULL};
    return is_one_of(value, choices);
}

static bool is_objectness(const json *value)
{
    static const char *const choices[] = {"none", "column", NULL};
    return is_one_of(value, choices);
}

static bool is_suppress(const json *value)
{
    static const char *const choices[] = {"none", "class", "all", NULL};
    return is_one_of(value, choices);
}

static bool is_background(const json *value)
{
    return is_from(value, 0, 1);
}

static bool is_share(const json *value)
{
    return is_number(value) && value->number >= 0 && value->number <= 1;
}

static bool is_boxes(const json *value)
{
    static const member members[] = {
        {"boxes", is_text, WANTED},
        {"scores", is_text, WANTED},
        {"classes", is_text, WANTED},
        {"count", is_text, WANTED},
        {"layout", is_table, WANTED},
        {"order", is_corners, WANTED},
        {"unit", is_unit, WANTED},
        {"objectness", is_objectness, WANTED},
        {"background", is_background, WANTED},
        {"activation", is_activation, WANTED},
        {"threshold", is_offset, WANTED},
        {"suppress", is_suppress, WANTED},
        {"overlap", is_share, WANTED},
        {"top", is_top, WANTED},
    };
    /* Where the model says the classes, its scores have nothing else in them. */
    return HAS(value, members)
        && (says(value, "classes", "")
            || (says(value, "objectness", "none") && json_member(value, "background")->integer == 0));
}

static bool is_rate(const json *value)
{
    return is_from(value, 1000, 192000);
}

static bool is_samples(const json *value)
{
    return is_from(value, 1, 1 << 22);
}

static bool is_long(const json *value)
{
    return is_from(value, 2, 1 << 14);
}

static bool is_hop(const json *value)
{
    return is_from(value, 1, 1 << 14);
}

static bool is_bins(const json *value)
{
    return is_from(value, 1, 512);
}

static bool is_low(const json *value)
{
    return is_number(value) && value->number >= 0 && value->number <= 1e5;
}

static bool is_high(const json *value)
{
    return is_number(value) && value->number >= 1 && value->number <= 1e5;
}

static bool is_power(const json *value)
{
    return is_from(value, 1, 2);
}

static bool is_epsilon(const json *value)
{
    return is_number(value) && value->number >= 1e-30 && value->number <= 1;
}

static bool is_filters(const json *value)
{
    static const char *const choices[] = {"tensorflow", "librosa", "torchaudio", NULL};
    return is_one_of(value, choices);
}

static bool is_padding(const json *value)
{
    static const char *const choices[] = {"none", "zeros", "reflect", NULL};
    return is_one_of(value, choices);
}

static bool is_log(const json *value)
{
    static const char *const choices[] = {"none", "natural", "log10", "decibel", NULL};
    return is_one_of(value, choices);
}

static bool is_guard(const json *value)
{
    static const char *const choices[] = {"add", "max", NULL};
    return is_one_of(value, choices);
}

static bool is_order(const json *value)
{
    static const char *const choices[] = {"time", "mel", NULL};
    return is_one_of(value, choices);
}

static bool is_audio(const json *value)
{
    static const member members[] = {
        {"input", is_text, WANTED},
        {"rate", is_rate, WANTED},
        {"samples", is_samples, WANTED},
        {"mean", is_offset, WANTED},
        {"std", is_divisor, WANTED},
    };
    return HAS(value, members);
}

static bool is_mel(const json *value)
{
    static const member members[] = {
        {"frame", is_long, WANTED},
        {"hop", is_hop, WANTED},
        {"fft", is_long, WANTED},
        {"bins", is_bins, WANTED},
        {"low", is_low, WANTED},
        {"high", is_high, WANTED},
        {"filters", is_filters, WANTED},
        {"padding", is_padding, WANTED},
        {"power", is_power, WANTED},
        {"log", is_log, WANTED},
        {"guard", is_guard, WANTED},
        {"epsilon", is_epsilon, WANTED},
        {"order", is_order, WANTED},
    };
    return HAS(value, members) && json_member(value, "frame")->integer <= json_member(value, "fft")->integer
        && json_member(value, "low")->number + 1 <= json_member(value, "high")->number;
}

/* Features are of sound, and the highest band is in it. */
static bool is_of_audio(const json *mel, const json *audio)
{
    return mel == NULL
        || (audio != NULL && json_member(mel, "high")->number * 2 <= json_member(audio, "rate")->number);
}

bool is_processing(const json *value)
{
    static const member members[] = {
        {"image", is_image, OPTIONAL},
        {"audio", is_audio, OPTIONAL},
        {"mel", is_mel, OPTIONAL},
        {"classes", is_classes, OPTIONAL},
        {"boxes", is_boxes, OPTIONAL},
    };
    if (!HAS(value, members) || json_count(value) == 0)
        return false;
    const json *audio = json_member(value, "audio"), *image = json_member(value, "image");
    if (json_member(value, "boxes") != NULL && (image == NULL || json_member(value, "classes") != NULL))
        return false;
    return (audio == NULL || image == NULL) && is_of_audio(json_member(value, "mel"), audio);
}
