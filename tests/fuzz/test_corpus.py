"""Every input that once broke a parser or reached new code: replayed without a fuzzer."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS, corpus, corpus_file


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_corpus_are_read_as_promised(name: str) -> None:
    target = TARGETS[name]
    for data in target.known():
        target.once(data)
        target.once(data[:-1])
        target.once(data + b"\0")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_good(name: str) -> None:
    target = TARGETS[name]
    for seed in target.known()[: -len(corpus(name)) or None]:
        target.run(seed)


def test_every_corpus_belongs_to_a_target() -> None:
    folder = corpus_file("any").parent
    assert {path.stem for path in folder.glob("*.hex")} <= set(TARGETS)
