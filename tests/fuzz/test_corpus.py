"""Every input that once broke a parser, and every seed: replayed without a fuzzer."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import CORPUS
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus_are_read_as_promised(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)
        target.once(seed[:-1])
        target.once(seed + b"\0")
    for path in sorted((CORPUS / name).glob("*")):
        target.once(path.read_bytes())


def test_every_folder_of_the_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(TARGETS)
