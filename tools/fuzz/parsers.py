"""Which parser of outside bytes is run by which target, and which code that decodes bytes is no such parser.

`tests/property/test_fuzz_parsers.py` holds both lists to the code: a module that decodes bytes and stands in neither
fails, and so does a target whose seeds do not reach the parsers it is named for.
"""

from __future__ import annotations

__all__ = ["DECODERS", "IN_A_CHILD", "NOT_OUTSIDE", "PARSERS"]

# Calls by which a module shows that it takes bytes apart; a dotted one by its whole name, as it stands in the code.
# What a framework reads in a child process (onnx.load and the like) is not among them: its crash is a typed refusal.
DECODERS = {
    "DictReader", "GetRootAs", "ZipFile", "b64decode", "from_encoded_point", "frombuffer",
    "h5py.File", "int.from_bytes", "iter_unpack", "json.loads", "load_der_public_key", "load_pem_private_key",
    "load_pem_public_key", "lzma.LZMADecompressor", "mmap.mmap", "np.load", "parse_json", "parse_toml",
    "pickletools.genops",
    "read_array_header_1_0", "read_message", "read_model_from_bytearray", "struct.unpack", "tomllib.loads",
    "unpack_from", "unquote", "unquote_to_bytes",
}  # fmt: skip

# ``module:function`` -> the targets whose seeds reach it.
PARSERS: dict[str, tuple[str, ...]] = {
    # On a device, before a signature is checked.
    "edgepack_runtime.bundlefile:BundleFile.__init__": ("bundle",),
    "edgepack_runtime.container:Preamble.parse": ("bundle", "resigned", "trust_update"),
    "edgepack_runtime.container:Container.from_front": ("bundle", "resigned", "trust_update"),
    "edgepack_runtime.container:parse_signatures": ("bundle", "blocks"),
    "edgepack_runtime.container:parse_grants": ("bundle", "blocks", "sidecar"),
    "edgepack_runtime.sidecar:read_sidecar": ("sidecar",),
    "edgepack_runtime.signing:verify_threshold": ("bundle", "resigned", "trust", "trust_update"),
    "edgepack_runtime.trust_update:provision": ("trust",),
    "edgepack_runtime.trust_update:trust_container": ("trust", "trust_update"),
    # After it.
    "edgepack_runtime.table:SignedTable.parse": ("resigned", "table"),
    "edgepack_runtime.manifest:Manifest.from_bytes": ("manifest",),
    "edgepack_runtime.golden:unpack_golden": ("golden",),
    "edgepack_runtime.compression:decompress": ("zstd",),
    "edgepack_runtime.trust_update:TrustDocument.parse": ("trust", "trust_document", "trust_update"),
    "edgepack_runtime.trust_file:update_trust": ("trust_update",),
    "edgepack_runtime.trust_update:apply_update": ("trust_update",),
    # What lies on a device.
    "edgepack_runtime.device:Device.from_file": ("device",),
    "edgepack_runtime.device:load_trust": ("trust",),
    "edgepack_runtime.trust:TrustedKeys.from_json": ("trust", "device"),
    "edgepack_runtime.state:DeviceState.from_bytes": ("state",),
    "edgepack_runtime.store:Store.from_bytes": ("store",),
    "edgepack_runtime.enrolment:Enrolment.from_json": ("enrolment",),
    "edgepack_runtime.keyfiles:load_device_key": ("key_file", "device"),
    "edgepack_runtime.keyfiles:load_signing_key": ("key_file",),
    "edgepack_runtime.keyfiles:load_verifying_key": ("key_file",),
    "edgepack.localprofile:profile_of": ("probe",),
    "edgepack.probe_import:profile_of_probe": ("probe",),
    "edgepack.probed:read_probe": ("probe",),
    "edgepack.probed:read_refusal": ("probe",),
    "edgepack_runtime.cli:_load_feeds": ("feeds",),
    "edgepack_runtime.decoding:read_sound": ("sound",),
    "edgepack_runtime._fields:parse_json": ("manifest", "trust", "device", "store", "keras_config", "wire_message"),
    # On a host.
    "edgepack._toml:parse_toml": ("profile", "recipe"),
    "edgepack.profiles:load_profile": ("profile",),
    "edgepack.micro_profile:Micro.from_fields": ("micro_profile",),
    "edgepack.statement:verify_statement": ("statement",),
    "edgepack.statement:check_folder": ("statement",),
    "edgepack.recipe:load_recipe": ("recipe",),
    "edgepack.recipe:expiry": ("recipe",),
    "edgepack.converters._options:read_options": ("options",),
    "edgepack.converters._options:named_shapes": ("options",),
    "edgepack.passoptions:read_options": ("options",),
    "edgepack.passoptions:parse_pass_options": ("pass_options",),
    "edgepack.signers.pkcs11:parse_uri": ("key_uri",),
    "edgepack.keys:read_key": ("key_info",),
    "edgepack.pkcs8:protection_in": ("key_info",),
    "edgepack.recipients:read_recipient": ("key_info",),
    "edgepack.inputs:_read_labels": ("labels",),
    "edgepack.journal:open_journal": ("journal",),
    "edgepack.journal:_parse": ("journal",),
    "edgepack.csvfile:load_csv": ("csv",),
    "edgepack.dataset:load_dataset": ("dataset", "npz_array"),
    "edgepack.source:detect": ("source", "saved_model"),
    "edgepack.source:_tflite": ("source",),
    "edgepack.source:_hdf5": ("source",),
    "edgepack.source:_zip": ("source",),
    "edgepack.source:_onnx": ("source",),
    "edgepack.source:_check_saved_model": ("saved_model",),
    "edgepack._onnx_external:external_files": ("source",),
    "edgepack._sklearnfile:is_sklearn_pickle": ("source",),
    "edgepack._sklearnfile:is_skops": ("source",),
    "edgepack._torchfile:zip_kind": ("source",),
    "edgepack._torchfile:legacy_kind": ("source",),
    "edgepack._magic:looks_like": ("source",),
    "edgepack._magic:zip_looks_like": ("source",),
    "edgepack.flatbuffer:read_model": ("flatbuffer", "model_rules", "stamp"),
    "edgepack.fit:check_fit": ("model_rules",),
    "edgepack._oprules:needed_version": ("model_rules", "stamp"),
    "edgepack._flatbuffer_edit:unpack": ("stamp",),
    "edgepack.converters._torch_archive:harmless_export": ("torch_archive",),
    "edgepack.converters._torch_archive:pickled_members": ("torch_archive",),
    "edgepack.converters._torch_archive:refuse_file_access": ("torch_archive",),
    "edgepack.converters._torch_archive:_check_shape": ("torch_archive",),
    "edgepack.converters._torch_archive:_check_tree": ("torch_archive",),
    "edgepack.converters._keras_config:_from_zip": ("keras_config", "keras_file"),
    "edgepack.converters._keras_config:_from_hdf5": ("hdf5",),
    "edgepack.converters._keras_config:_serialized": ("keras_config",),
    "edgepack.worker:_answer": ("wire_reply",),
    "edgepack._wire:read_message": ("wire_reply", "wire_message"),
    "edgepack._wire:decode": ("wire_message",),
}

# Targets that run their parser in a child process, where the test cannot see it.
IN_A_CHILD = {"hdf5", "keras_file"}

# Modules, and a package with all of its own, that decode bytes nobody outside had a hand in, or that do so in a child
# process whose crash is the parent's refusal.
NOT_OUTSIDE = {
    "edgepack._child": "reads what the parent, edgepack.worker, wrote",
    "edgepack.cli.request": "options that edgepack.recipe wrote",
    "edgepack.cli.request_diagnose": "options that edgepack.recipe wrote",
    "edgepack.cli.show": "prints a manifest this process has parsed",
    "edgepack.conversion": "options that edgepack.recipe wrote",
    "edgepack.converters": "in the child, on what a framework read or made, but for the modules above",
    "edgepack.delegates": "a table that ships with edgepack",
    "edgepack.engine_ops": "tables that ship with edgepack",
    "edgepack.layer_probe": "in the child; constants of a model that edgepack.flatbuffer has read",
    "edgepack.opversions": "a table that ships with edgepack; models go through edgepack.flatbuffer",
    "edgepack.parity": "options that edgepack.recipe wrote",
    "edgepack.probe_ssh": "packs the runtime; what a board answers goes through edgepack.probed",
    "edgepack.profile_check": "a table that ships with edgepack",
    "edgepack.shrunk": "constants of a model that this build made",
    "edgepack.trained": "options that edgepack.training_steps wrote",
    "edgepack.training": "in the child, on options that edgepack.training_steps wrote, and what Keras saved there",
    "edgepack.training_steps": "options that it wrote itself",
    "edgepack.vela": "in the child, on what vela wrote",
    "edgepack.tensor_types": "a table that ships with edgepack",
    "edgepack_runtime.apart": "what a fork of this process wrote",
    "edgepack_runtime.encryption": "a nonce that this process derived; the chunks are authenticated first",
    "edgepack_runtime.probing": "models that ship with it; its document is read by edgepack.probed",
}
