"""No command opens a connection, or resolves a name, that the user did not ask for."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cl2cm.telemetry import SWITCHES, switch_off
from fixtures.world import write_pictures, write_text, write_vision

GUARD = Path(__file__).parent / "network_guard"
SOURCE = Path(__file__).parents[1] / "src" / "cl2cm"

# Everything in one process, for each would load torch again; the service in one of its own.
COMMANDS = """
import pathlib, subprocess, sys, time, urllib.request
from cl2cm.cli.app import run
folder = pathlib.Path(sys.argv[1])
recipe = folder / "recipe.toml"
(folder / "table.tsv").write_text("a red circle\\tx\\n")
data, made = folder / "data", folder / "made"
for arguments in (
    ["--help"],
    ["doctor"],
    ["prepare", "folder", data / "images", made, "--no-leak-check"],
    ["translate", data / "manifest.jsonl", "--to", "tlh", "--engine", f"file:{folder}/table.tsv",
     "--out", folder / "translated.jsonl", "--cache", folder / "translations.sqlite"],
    ["encode", data / "manifest.jsonl", "--encoder", f"onnx:{folder}/vision", "--out",
     folder / "store"],
    ["train", recipe, "--out", folder / "run"],
    ["evaluate", folder / "run", data / "manifest.jsonl", "--languages", "en"],
    ["align", folder / "run", "red circle", "blue circle"],
    ["index", folder / "run", data / "images", folder / "index"],
    ["search", folder / "index", "red circle"],
):
    code = run([str(argument) for argument in arguments])
    print(code, arguments[0], flush=True)
server = subprocess.Popen(
    [sys.executable, "-m", "cl2cm", "serve", str(folder / "index"), "--port", "0"],
    stderr=subprocess.PIPE, text=True,
)
for line in server.stderr:
    if "http://" in line:
        address = "http://" + line.split("http://")[1].split("/")[0].strip()
        break
with urllib.request.urlopen(address + "/api/v1/search?q=red") as answer:
    print(answer.status, "serve", flush=True)
server.terminate()
server.wait()
"""

LOADERS = ("from_pretrained", "get_image_processor_dict", "from_config", "pipeline")

RECIPE = """
method = "translate-train"
[data]
manifest = "data/manifest.jsonl"
[text]
encoder = "hf:./text"
prefix = ""
max_tokens = 16
[vision]
encoder = "onnx:./vision"
[network]
dim = 16
heads = 2
[train]
epochs = 1
batch_size = 16
device = "cpu"
threads = 1
"""


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "data", copies=3)
    write_text(tmp_path / "text")
    write_vision(tmp_path / "vision")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    for image in (tmp_path / "data" / "images").glob("*.png"):
        image.with_suffix(".txt").write_text(image.stem.replace("-", " "))
    return tmp_path


def environment(folder):
    """A user's first run: no variable of ours set, no cache, and a token that must not leave."""
    ours = ("CL2CM_", "HF_", "ORT_", *SWITCHES)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    home = folder / "home"
    home.mkdir()
    paths = [GUARD, SOURCE.parent]
    return kept | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_STATE_HOME": str(home / ".state"),
        "HF_TOKEN": "hf_secret",
        "NETWORK_GUARD": str(folder / "network"),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }


def test_no_command_asks_the_network_for_anything(folder):
    command = [sys.executable, "-c", COMMANDS, str(folder)]
    traced = can_trace()
    if traced:  # sees what native code does, too
        calls = "connect,sendto,sendmsg,sendmmsg,openat"
        command = [
            "strace",
            "-f",
            "-e",
            f"trace={calls}",
            "-o",
            str(folder / "calls"),
            *command,
        ]
    told = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, env=environment(folder)
    )
    codes = [
        line.split()[0] for line in told.stdout.splitlines() if re.match(r"\d+ [a-z-]+$", line)
    ]
    assert codes == ["0"] * 10 + ["200"], told.stdout + told.stderr
    assert not (folder / "network").exists(), (folder / "network").read_text()
    home = [path.relative_to(folder / "home") for path in (folder / "home").rglob("*")]
    assert not [path for path in home if "Microsoft" in path.parts or path.name == "deviceid"]
    assert {path.parts[:2] for path in home if len(path.parts) > 1} <= {
        (".cache", "cl2cm"), (".config", "cl2cm"), (".state", "cl2cm"), (".cache", "huggingface"), (".cache", "matplotlib"),
    }  # fmt: skip
    if traced:
        calls = (folder / "calls").read_text(errors="replace").splitlines()
        assert not [line for line in calls if is_remote(line)]
        names = [line for line in calls if "/etc/resolv.conf" in line or "deviceid" in line]
        assert not names


def can_trace():
    """Return whether strace is here and the machine lets it trace; many containers do not."""
    command = ["strace", "-o", os.devnull, "true"]
    return (
        bool(shutil.which("strace"))
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )


def is_remote(call):
    """Whether a system call goes to an address that is neither loopback nor a Unix socket."""
    address = re.search(r'sin6?_addr=inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"', call)
    address = address or re.search(r'inet_pton\(AF_INET6, "([^"]+)"', call)
    return bool(address) and not address[1].startswith(("127.", "::1"))


def test_the_guard_sees_what_it_should(folder):
    code = (
        "import socket\n"
        "for call in (lambda: socket.getaddrinfo('example.org', 80),\n"
        "             lambda: socket.socket().connect(('192.0.2.1', 9)),\n"
        "             lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))):\n"
        "    try:\n        call()\n    except OSError:\n        pass\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(folder))
    log = (folder / "network").read_text()
    for seen in (
        "getaddrinfo 'example.org'",
        "connect ('192.0.2.1', 9)",
        "sendto ('192.0.2.1', 9)",
    ):
        assert seen in log
    assert is_remote(
        'connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.2")}'
    )
    assert is_remote(
        'connect(3, {sa_family=AF_INET6, inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)'
    )
    assert not is_remote('connect(3, {sa_family=AF_INET, sin_addr=inet_addr("127.0.0.1")}, 16)')
    assert not is_remote('connect(3, {sa_family=AF_UNIX, sun_path="/run/nscd"}, 110)')


def test_switches_are_set_before_anything_else_is_imported():
    code = "import cl2cm, os, json; print(json.dumps(dict(os.environ)))"
    kept = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=kept
    )
    for name, value in SWITCHES.items():
        assert f'"{name}": "{value}"' in told.stdout
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [n.module for n in imports] == ["importlib", "typing", "cl2cm.telemetry"]


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    switch_off()
    assert os.environ["DO_NOT_TRACK"] == "0"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_no_module_loads_what_could_run_code():
    """Loaders of Transformers get our options; nothing is unpickled."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"trust_remote_code(=|\W+)True|allow_pickle=True", text), path
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)\b", text, re.M), (
            path
        )
        for call in re.findall(r"torch\.load\([^)]*\)[^)]*\)", text):
            assert "weights_only=True" in call, path
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in LOADERS:
                spread = [ast.unparse(k.value) for k in call.keywords if k.arg is None]
                assert "LOADING" in spread, f"{path}:{call.lineno}"
        assert "register_custom_ops_library" not in text, path
        assert "snapshot_download(" not in text or path.name == "pretrained.py", path
