"""deploy/: what systemd, Docker and Prometheus are given is what they and this program take."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.config import ENVIRONMENT_PREFIX, SETTINGS, load_config
from tests.docs.test_commands import check
from tests.relay.process import RelayProcess
from tests.relay.test_certificates import issue, unchecked

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "quicnprotochat-relay.service"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
COMPOSE = DEPLOY / "docker" / "docker-compose.yml"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
PROGRAM = "/opt/quicnprotochat/bin/quicnprotochat-relay"


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`command`, if the program is here; .ci/run installs all of them, and skips nothing."""
    program = str(command[0])
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    words: Sequence[str] = [str(word) for word in command]
    home = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(words, capture_output=True, text=True, env=home | environment)


# systemd


def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    done = run("systemd-analyze", "verify", unit)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytsem="))
    assert "Unknown" in run("systemd-analyze", "verify", unit).stderr, "this would be told"


def test_the_unit_is_hardened() -> None:
    """An exposure of 3.0 of 10 at most."""
    security = ("systemd-analyze", "security", "--offline=true", "--threshold=30", UNIT)
    done = run(*security)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_units_command_is_one_and_its_folder_is_that_which_systemd_makes() -> None:
    text = UNIT.read_text()
    [line] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *words = shlex.split(line)
    assert program == PROGRAM
    check(shlex.join(["quicnprotochat-relay", *words]))
    [folder] = re.findall(r"^StateDirectory=(.*)$", text, re.MULTILINE)
    assert words[words.index("--data-dir") + 1] == f"/var/lib/{folder}"


def test_the_example_of_settings_is_taken(tmp_path: Path) -> None:
    config = load_config({"data_dir": str(tmp_path)}, {}, DEPLOY / "relay.toml")
    assert str(config.metrics) == "127.0.0.1:9100"


# Docker


def test_compose_takes_the_file() -> None:
    given = {"POSTGRES_PASSWORD": "x", "RELAY_ADDRESS": "relay.example:7000"}
    done = run("docker-compose", "-f", COMPOSE, "config", **given)
    assert done.returncode == 0, done.stderr
    assert "relay:x@database/relay" in done.stdout
    assert "QUICNPROTOCHAT_ADVERTISE: relay.example:7000" in done.stdout
    for name in given:
        others = {other: value for other, value in given.items() if other != name}
        done = run("docker-compose", "-f", COMPOSE, "config", **others)
        assert done.returncode != 0, "no database without a password, no relay without an address"


@pytest.mark.parametrize("file", [DOCKERFILE, COMPOSE], ids=lambda file: file.name)
def test_containers_are_given_settings_that_there_are(file: Path) -> None:
    named = set(re.findall(rf"\b{ENVIRONMENT_PREFIX}(\w+)\s*[:=]", file.read_text()))
    assert named
    assert named <= {name.upper() for name in SETTINGS}


def test_the_image_is_pinned_and_has_no_root_and_no_secret() -> None:
    text = DOCKERFILE.read_text()
    images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    images += re.findall(r"^    image: (\S+:\S+)", COMPOSE.read_text(), re.MULTILINE)
    assert len(images) == 5
    assert all(re.search(r":v?\d+(\.\d+)*(-|$)|:\d", image) for image in images), images
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    assert users == ["10001:10001"]
    assert "HEALTHCHECK" in text
    assert not re.search(r"(?i)(password|secret|token)\s*=", text)


def test_the_image_gets_every_package_of_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    taken = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert taken[0] == "*", "nothing of a checkout that is not named: keys, databases, .git"
    wanted = {line[1:] for line in taken if line.startswith("!")}
    assert set(packages) <= wanted
    assert [each for each in wanted if not (ROOT / each).exists()] == []


# Prometheus


def test_prometheus_takes_the_rules() -> None:
    done = run("promtool", "check", "rules", ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("promtool", "check", "config", ALERTS.with_name("prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_an_alert_is_one_of_the_relays(tmp_path: Path) -> None:
    """An alert on a metric that there is not is never raised, and nobody notices."""
    issue(tmp_path, 1)
    names = {"metrics_tls_cert": "cert.pem", "metrics_tls_key": "key.pem"}
    lines = [f"{name} = {json.dumps(str(tmp_path / file))}" for name, file in names.items()]
    (tmp_path / "relay.toml").write_text("\n".join(lines))
    settings = ("--config", str(tmp_path / "relay.toml"), "--metrics", "127.0.0.1:0")
    with RelayProcess(tmp_path / "data", *settings) as relay:
        where = f"https://{relay.ready['metrics']}/metrics"
        with urllib.request.urlopen(where, context=unchecked()) as answer:
            told = answer.read().decode()
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", told, re.MULTILINE))
    there = set(families)
    for name, kind in families.items():
        if kind == "histogram":
            there |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    named = set(re.findall(r"\bquicnprotochat_\w+", ALERTS.read_text()))
    assert len(named) > 8
    assert named <= there


def test_every_reason_of_an_alert_is_one_that_the_relay_gives() -> None:
    sources = "\n".join(file.read_text() for file in (ROOT / "relay").rglob("*.py"))
    labels = re.findall(r'(?:reason|event|method)=~?"([^"]+)"', ALERTS.read_text())
    words = {word for label in labels for word in label.split("|")}
    assert len(words) > 5
    assert [word for word in words if f'"{word}"' not in sources] == []
