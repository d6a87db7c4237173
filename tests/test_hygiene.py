"""The hygiene check finds what it looks for: a check that cannot fail is a defect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import hygiene


def _findings_of(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, text: str) -> list[str]:
    import subprocess

    (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", name], cwd=folder, check=True)
    monkeypatch.setattr(hygiene, "ROOT", folder)
    return hygiene.findings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.lock", "a==1 @ https:" + "//example.org/a.whl\n"),
        ("requirements.lock", "--index" + "-url x\n"),
        ("README.md", "see pypi" + ".org for more\n"),
        ("Cargo.lock", 'name = "crates' + '.io"\n'),
        ("notes.md", "run /work" + "/main/x\n"),
    ],
)
def test_each_kind_of_leak_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    assert len(_findings_of(monkeypatch, tmp_path, name, text)) == 1


def test_what_cargo_itself_writes_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = 'source = "registry+https:' + "//github.com/rust-lang/crates" + '.io-index"\n'
    assert _findings_of(monkeypatch, tmp_path, "Cargo.lock", text) == []
