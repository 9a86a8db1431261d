"""The conformance vectors of `docs/bundle-format.md`, made from the document: nothing here imports edgepack.

`python -m tools.vectors` writes `tests/vectors/*.json`; `--check` compares instead. Everything is deterministic: keys
come from SHAKE-256 of a name, Ed25519 and RFC 6979 ECDSA need no randomness, and HPKE and OAEP are done here with
ephemeral keys and seeds from SHAKE-256, which also makes them a second opinion on the library's.
"""
