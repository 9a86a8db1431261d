"""Bench: a float model, its fixed precisions, what others make of it, and ``--optimize auto``, side by side."""
