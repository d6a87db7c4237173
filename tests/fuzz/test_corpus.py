"""Every input that once broke a parser or reached new code: replayed without a fuzzer."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS, corpus, corpus_file


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus_are_read_as_promised(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)
        target.once(seed[:-1])
        target.once(seed + b"\0")
    for data in corpus(name):
        target.once(data)


def test_every_corpus_belongs_to_a_target() -> None:
    folder = corpus_file("any").parent
    assert {path.stem for path in folder.glob("*.hex")} <= set(TARGETS)
