"""What the rules of the house are held against, as data: the tiers, the plug-ins, the core, what is light."""

from __future__ import annotations

from collections.abc import Mapping

HOST, DEVICE = "edgepack", "edgepack_runtime"
MAX_LINES = 400

# A module imports modules of lower tiers only. Names are without the package; "" is the package itself.
DEVICE_TIERS: tuple[frozenset[str], ...] = (
    frozenset({"_crypto", "_data", "", "_ahead", "_room", "errors"}),
    frozenset({"_fields", "_files", "apart", "compression", "container", "encryption", "latency", "observe"}),
    frozenset({"capabilities", "processing"}),
    frozenset({"_folders", "bundlefile", "moments", "plaintext", "profile", "signing", "table", "tensors"})
    | {"engines._distributions"},
    frozenset({"engines", "engines._interpreter", "golden", "grants", "manifest", "slots", "state", "trust"})
    | {"decoding", "pictures", "sound"},
    frozenset(
        {
            "engines.ai_edge_litert",
            "engines.tflite_runtime",
            "keyfiles",
            "op_table",
            "boxes",
            "pool",
            "probe",
            "protection",
            "sidecar",
            "statefile",
            "store",
            "trust_update",
        }
        | {"verify"}
    ),
    frozenset({"prediction", "probing", "slotcopy", "storefile", "trust_file"}),
    frozenset({"device", "enrolment", "selftest"}),
    frozenset({"admission"}),
    frozenset({"loading"}),
    frozenset({"session"}),
    frozenset({"activation", "trial"}),
    frozenset({"acceptance", "installation", "live"}),
    frozenset({"cli_model", "cli_probe", "cli_state", "cli_store"}),
    frozenset({"cli"}),
)
# The host stands on the whole device package.
HOST_TIERS: tuple[frozenset[str], ...] = (
    frozenset({"", "_confine", "_magic", "_zips", "errors", "pkcs8", "reporter", "signers"}),
    frozenset({"truth"}),
    frozenset({"_toml", "_wire", "dataset", "evaluate", "flatbuffer", "keys", "model", "pack", "passphrase"})
    | {"localprofile", "probed", "profile_text"}
    | {"_onnx_external", "_sklearnfile", "_torchfile", "edgecases", "recipients", "usercode"}
    | {"c_source", "signers.file", "statement", "tflm", "toolchain", "vela"}
    | {
        "boxmetric",
        "greedy",
        "intervals",
        "layer_sums",
        "metrics",
        "optimize",
        "pareto",
        "recordings",
        "scoring",
        "timing",
    }
    | {"_flatbuffer_share", "training", "training._maths", "training._settings"},
    frozenset({"detector", "passoptions", "preparation", "reading", "training_steps", "unseen"}),
    frozenset({"_flatbuffer_edit", "_oprules", "csvfile", "keydoctor", "profiles", "schemes", "source"})
    | {
        "gate",
        "journal",
        "layer_effect",
        "layer_facts",
        "layer_island",
        "micro_profile",
        "probe_ssh",
        "signers.pkcs11",
        "worker",
    },
    frozenset({"converters._hdf5_links", "converters._saved_model_ops", "decisions", "micro_text", "recipe"})
    | {"folders", "layer_match", "owndata", "layer_measure", "untrained"},
    frozenset({"converters._edges", "converters._onnx_engine", "converters._onnx_float32"})
    | {"converters._onnx_advice", "converters._onnx_disputed", "converters._onnx_recurrent"}
    | {"converters._onnx_products"}
    | {"converters._onnx_tf_shim", "_layout_graph", "converters._bisect", "converters._tf_float32"}
    | {"layer_probe", "lean", "pairing"}
    | {"_child", "amend", "trustdoc", "inputs", "lab", "opversions", "project", "toolchaindoctor", "userland"},
    frozenset({"converters", "converters._interface", "converters._keras_config", "converters._options"})
    | {"converters._torch_archive"}
    | {"budgets", "drop", "layer_plan", "trials"},
    frozenset({"converters._onnx_ml_writer", "converters._sklearn_files", "converters._sklearn_prepare"})
    | {"converters._keras_load", "layer_error", "ownmetric"},
    frozenset({"converters._onnx_ml_svm", "converters._onnx_ml_trees", "converters._sklearn_outputs"})
    | {"layer_reason", "training._graph", "training._opened"},
    frozenset({"converters._onnx_ml", "converters._onnx_select"})
    | {"diagnosis", "training._fakequant", "training._losses"},
    frozenset(
        {"converters._onnx_graph", "converters._parity", "engine_ops", "passes", "passes._ranges", "passes._repair"}
        | {"passes._biases", "passes._ranks"}
        | {"layout", "passes._halves", "passes._layouts", "tensor_types"}
        | {"training._fit"}
    ),
    frozenset({"delegates", "training._step"}),
    frozenset({"converters._onnx_batch", "converters._onnx_raise", "converters._tensorflow", "fit", "passes._expand"})
    | {"passes._forms", "training.cluster", "training.distil", "training.prune", "training.quantize_aware"}
    | {"converters._onnx_classes"}
    | {"profile_check", "tolerances"}
    | {"converters._torch"},
    frozenset({"converters._onnx_reference", "layers", "limits", "passes._values"}),
    frozenset(
        {"candidate", "converters._onnx_bisect", "converters._tf_bisect"}
        | {"converters._torch_sources", "passes._choose", "passes._quantizer", "proof"}
    ),
    frozenset({"holdout", "micro_judge", "parity", "variance", "passes._static", "passes._weights", "roads"}),
    frozenset(
        {"converters.keras", "converters.onnx", "converters.onnx_tf", "converters.saved_model", "converters.tflite"}
        | {"passes.dynamic_range", "passes.float16", "passes.float32", "passes.full_integer", "passes.mixed"}
        | {"passes.dynamic_int2", "passes.dynamic_int4", "passes.int16x8"}
        | {"passes.weight_only_int4", "passes.weight_only_int8"}
        | {"converters.sklearn", "converters.torch_litert", "converters.torch_onnx", "release", "validation"}
    ),
    frozenset({"conversion", "mixing", "offline", "probe_import", "shrunk"}),
    frozenset({"auto", "foreseen", "trained"}),
    frozenset({"builder", "micro"}) | {"diagnose"},
    frozenset({"cli.options", "cli.request", "cli.show"}) | {"cli.request_diagnose"},
    frozenset({"cli.request_trust", "cli.show_keys", "cli.show_micro", "cli.show_profiles", "cli.show_toolchains"})
    | {"cli.show_diagnose", "cli.show_search"},
    frozenset(
        {
            "cli.commands_build",
            "cli.commands_device",
            "cli.commands_diagnose",
            "cli.commands_grant",
            "cli.commands_keys",
            "cli.commands_micro",
            "cli.commands_profiles",
            "cli.commands_toolchain",
            "cli.commands_trust",
        }
    ),
    frozenset({"cli.commands_probe"}),
    frozenset({"cli.app"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
TIERS: Mapping[str, tuple[frozenset[str], ...]] = {DEVICE: DEVICE_TIERS, HOST: HOST_TIERS}

# Packages whose public modules are plug-ins: found by name at run time, known to nobody.
PLUGIN_PACKAGES = (f"{DEVICE}.engines", f"{HOST}.converters", f"{HOST}.passes", f"{HOST}.signers", f"{HOST}.training")

# What may be imported at the top of a module, beside the standard library and our own packages.
LIGHT = {DEVICE: {"numpy", "cryptography"}, HOST: {"numpy", "cryptography"}}
# The terminal's libraries stay where the terminal is.
LIGHT_IN_CLI = {"typer", "rich", "click"}
ENGINES = {"ai_edge_litert", "tflite_runtime"}
# Optional on a device, and imported by one module, inside a function.
OPTIONAL = {"zstandard": f"{DEVICE}.compression", "PIL": f"{DEVICE}.decoding"}
# Python 3.10 is supported on the device.
NEWER_THAN_3_10 = {"tomllib"}

# No I/O, no clock, no environment, no randomness of its own: paths and figures are passed in.
CORE = tuple(
    f"{DEVICE}.{name}"
    for name in (
        "_crypto", "_fields", "boxes", "capabilities", "compression", "container", "encryption", "golden",
        "grants", "manifest", "pictures", "processing", "profile", "signing", "slots", "sound", "state", "store",
        "table", "tensors", "trust", "trust_update", "verify",
    )
)  # fmt: skip
IMPURE_MODULES = {
    "asyncio", "builtins", "ctypes", "datetime", "fcntl", "fileinput", "glob", "http", "importlib", "io", "logging",
    "mmap", "multiprocessing", "os", "pathlib", "platform", "random", "resource", "secrets", "select", "shutil",
    "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid", "zipfile",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
IMPURE_NUMPY = {
    "DataSource", "fromfile", "fromregex", "genfromtxt", "load", "loadtxt", "memmap", "random", "save", "savetxt",
    "savez", "savez_compressed", "tofile",
}  # fmt: skip
# The writing half needs salts, and `os.urandom` is the one thing it takes from `os`.
MAY_DRAW_RANDOM_BYTES = {f"{DEVICE}.encryption"}

# Raised to say that the programmer erred or that typer shall stop: no part of a function's contract.
NO_CONTRACT = {"AssertionError", "NotImplementedError", "Exit"}
