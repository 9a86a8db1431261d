"""The size budget's own clock: it counts what an import adds, and nothing that was imported before."""

from __future__ import annotations

from tools.size_budget import Imports

BUSY = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"


def test_what_an_import_adds_is_counted(tmp_path):
    (tmp_path / "busy.py").write_text(BUSY)
    assert 180 < Imports(tmp_path, tmp_path / "cache").added_ms("json", "busy", 1) < 600


def test_what_was_imported_before_is_not_counted(tmp_path):
    (tmp_path / "busy.py").write_text(BUSY)
    assert abs(Imports(tmp_path, tmp_path / "cache").added_ms("busy", "busy", 3)) < 100
