"""Rows kept in memory say what the database says, also after something was undone."""

from __future__ import annotations

from contextlib import suppress

import apsw
import pytest

from node.store.database import Database, Remembered


class _Undone(Exception):
    pass


@pytest.fixture
def database() -> Database:
    database = Database(apsw.Connection(":memory:"))
    database.run("CREATE TABLE names (name TEXT)")
    return database


@pytest.fixture
def names(database: Database) -> Remembered[set[str]]:
    def load() -> set[str]:
        return {name for (name,) in database.rows("SELECT name FROM names")}

    return Remembered(database, load)


def _add(database: Database, names: Remembered[set[str]], name: str) -> None:
    database.run("INSERT INTO names VALUES (?)", name)
    names.value.add(name)


def test_a_command_that_was_undone_is_forgotten(
    database: Database, names: Remembered[set[str]]
) -> None:
    with database.transaction():
        _add(database, names, "kept")
        with suppress(_Undone), database.savepoint():
            _add(database, names, "undone")
            raise _Undone
        assert names.value == {"kept"}
    assert names.value == {"kept"}


def test_a_batch_that_was_undone_is_forgotten(
    database: Database, names: Remembered[set[str]]
) -> None:
    assert names.value == set()
    with suppress(_Undone), database.transaction():
        _add(database, names, "undone")
        raise _Undone
    assert names.value == set()


def test_it_is_read_once_until_then(database: Database, names: Remembered[set[str]]) -> None:
    assert names.value == set()
    database.run("INSERT INTO names VALUES ('behind its back')")
    assert names.value == set()
    names.forget()
    assert names.value == {"behind its back"}
