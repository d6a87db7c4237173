"""Where a setting comes from, and what the operator is told when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import WrongFlag, load_config
from schemas.addresses import Address
from schemas.errors import Refused
from schemas.limits import MAILBOX_BYTES, MAILBOX_PARCELS


def write(folder: Path, text: str) -> Path:
    file = folder / "relay.toml"
    file.write_text(text)
    return file


def test_flag_before_environment_before_file_before_default(tmp_path: Path) -> None:
    file = write(tmp_path, "parcel_ttl_s = 100\nlisten = '127.0.0.1:1'\nmailbox_parcels = 7\n")
    environment = {"QUICNPROTOCHAT_PARCEL_TTL_S": "200", "QUICNPROTOCHAT_LISTEN": "127.0.0.1:2"}
    flags = {"listen": "127.0.0.1:3", "parcel_ttl_s": None}
    config = load_config(flags, environment, file)
    assert config.listen == Address("127.0.0.1", 3)
    assert config.parcel_ttl_s == 200
    assert config.quotas.mailbox_parcels == 7
    assert config.quotas.mailbox_bytes == MAILBOX_BYTES


def test_defaults() -> None:
    config = load_config({}, {}, None)
    assert config.listen == Address("0.0.0.0", 7000)
    assert config.parcel_ttl_s == 7 * 86400
    assert config.quotas.mailbox_parcels == MAILBOX_PARCELS
    assert config.data_dir.is_absolute()
    assert config.database == config.data_dir / "relay.db"


@pytest.mark.parametrize("word", ["sqlite", "file", "sql"])
def test_the_seed_systems_keys_are_understood(tmp_path: Path, word: str) -> None:
    text = f"listen = '[::]:7001'\ndata_dir = 'd'\nstore_backend = '{word}'\ndb_path = 'x/y.db'\n"
    config = load_config({}, {}, write(tmp_path, text))
    assert config.listen == Address("::", 7001)
    assert config.store_backend == "sqlite"
    assert config.data_dir == Path("d").absolute()
    assert config.database == Path("x/y.db").absolute()


@pytest.mark.parametrize(
    "text",
    [
        "database_url = '{}'",
        "store_backend = 'postgres'\ndatabase_url = '{}'",
        "store_backend = 'postgresql'\ndb_path = '{}'",
        "store_backend = 'sql'\ndb_path = '{}'",
        "db_path = '{}'",
    ],
)
def test_a_url_means_postgresql(tmp_path: Path, text: str) -> None:
    url = "postgres://relay:s3cret@db.example:5433/relay?sslmode=require"
    config = load_config({"data_dir": str(tmp_path)}, {}, write(tmp_path, text.format(url)))
    assert (config.store_backend, config.database_url) == ("postgres", url)
    assert config.folders == (tmp_path,), "another process may have another folder"
    assert all(file.suffix != ".db" for file in config.private_files)
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize("name", ["database_url", "db_path"])
@pytest.mark.parametrize(
    "url", ["mysql://u:s3cret@h/d", "postgresql://u:s3cret@h:port/d", "postgresql://u:s3cret@h/"]
)
def test_a_wrong_url_is_refused_without_its_password(name: str, url: str) -> None:
    for flags, environment in (({name: url}, {}), ({}, {f"QUICNPROTOCHAT_{name.upper()}": url})):
        with pytest.raises(Refused) as raised:
            load_config(flags, environment, None)
        assert raised.value.code == "bad-setting"
        assert "s3cret" not in f"{raised.value} {raised.value.hint}"


def test_a_host_alone_takes_the_default_port() -> None:
    assert load_config({"listen": "127.0.0.1"}, {}, None).listen.port == 7000


def test_what_is_wrong_on_the_command_line_is_wrong_usage() -> None:
    for name, flag in (("store_backend", "--store"), ("parcel_ttl_s", "--parcel-ttl-s")):
        with pytest.raises(WrongFlag) as raised:
            load_config({name: "mysql"}, {}, None)
        assert raised.value.message == f"{flag} cannot be 'mysql'"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("lisen = 'x'", "unknown-setting", ("lisen", "listen?")),
        ("colour = 'x'", "unknown-setting", ("colour", "known keys")),
        ("admission = 'closed'", "bad-setting", ("admission", "open, invite, token")),
        ("admission = 'token'", "bad-setting", ("admission token wants auth_token",)),
        ("admission = 'invite'\nauth_token = 'x'", "bad-setting", ("admission", "auth_token")),
        ("metrics = '0.0.0.0:9000'", "bad-setting", ("metrics", "127.0.0.1")),
        ("metrics = 'example.org:9000'", "bad-setting", ("metrics", "127.0.0.1")),
        ("strangers_share = 2", "bad-setting", ("strangers_share", "from 0 to 1")),
        ("newcomers_burst = 0", "bad-setting", ("newcomers_burst",)),
        ("log_format = 'xml'", "bad-setting", ("log_format", "json")),
        ("listen = 'no port:x'", "bad-setting", ("listen", "HOST:PORT")),
        ("listen = 'nonsense'", "bad-setting", ("listen", "IP:PORT")),
        ("listen = 7000", "bad-setting", ("listen", "text")),
        ("data_dir = ''", "bad-setting", ("data_dir", "text")),
        ("store_backend = 'postgres'", "bad-setting", ("postgres wants database_url",)),
        ("store_backend = 'oracle'", "bad-setting", ("store_backend", "sqlite", "postgres")),
        ("database_url = 'mysql://x/y'", "bad-setting", ("database_url", "postgresql://")),
        ("database_url = 'postgresql://host'", "bad-setting", ("database_url", "DATABASE")),
        ("store_backend = []", "bad-setting", ("store_backend", "sqlite")),
        ("db_path = 'mysql://x/y'", "bad-setting", ("db_path", "postgresql://")),
        (
            "store_backend = 'sqlite'\ndatabase_url = 'postgresql://h/d'",
            "bad-setting",
            ("store_backend", "database_url"),
        ),
        ("parcel_ttl_s = 1", "bad-setting", ("parcel_ttl_s", "from 60")),
        ("parcel_ttl_s = true", "bad-setting", ("parcel_ttl_s",)),
        ("parcel_ttl_s = 1.5", "bad-setting", ("parcel_ttl_s",)),
        ("mailbox_bytes = 1", "bad-setting", ("mailbox_bytes",)),
        ("log_level = 'loud'", "bad-setting", ("log_level", "debug")),
        ("listen = ", "bad-config-file", ("TOML",)),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    tmp_path: Path, text: str, code: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as raised:
        load_config({}, {}, write(tmp_path, text))
    assert raised.value.code == code
    said = f"{raised.value.message} {raised.value.hint}"
    assert all(word in said for word in words), said


def test_a_wrong_environment_variable_is_named() -> None:
    with pytest.raises(Refused) as raised:
        load_config({}, {"QUICNPROTOCHAT_PARCEL_TTL_S": "soon"}, None)
    assert "QUICNPROTOCHAT_PARCEL_TTL_S" in raised.value.message


def test_a_slip_in_the_environment_is_told_and_a_nodes_variables_are_none() -> None:
    with pytest.raises(Refused) as refused:
        load_config({}, {"QUICNPROTOCHAT_MAILBOX_PARCEL": "3"}, None)
    assert refused.value.code == "unknown-setting"
    assert refused.value.hint == "did you mean QUICNPROTOCHAT_MAILBOX_PARCELS?"
    of_nodes = (
        "HOME",
        "RELAY",
        "SERVER",
        "BOOTSTRAP",
        "PASSPHRASE_FILE",
        "DHT_VISIBILITY",
        "CONFIG",
    )
    load_config({}, {f"QUICNPROTOCHAT_{name}": "x" for name in of_nodes}, None)


def test_a_missing_or_binary_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "binary"):
        with pytest.raises(Refused) as raised:
            load_config({}, {}, tmp_path / name)
        assert raised.value.code == "bad-config-file"
