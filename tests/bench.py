"""What the tests of bad input share: a command that must be refused, and what to spoil."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import world
from cl2cm.cli.app import run
from cl2cm.model.config import Config, to_toml

ERROR = re.compile(r"error: .+: expected .+, found .+; .+")
USAGE = re.compile(r"error: .+ See: cl2cm --help")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


class Bench:
    """A folder to spoil things in, beside the small world that other tests use too."""

    def __init__(self, folder: Path, cache: Path, capfd, small: SimpleNamespace, settings, trained):
        self.folder, self.cache, self.capfd = folder, cache, capfd
        self.small, self.settings, self.trained = small, settings, trained
        self.out = folder / "out"
        self.pictures = folder / "pictures"
        self.pictures.mkdir(parents=True)
        for number, colour in enumerate(world.COLOURS):
            world.draw(colour, "circle", number).save(self.pictures / f"{colour}.png")

    @property
    def vision(self) -> str:
        return f"onnx:{self.small.vision}"

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def config(self, config: Config | None = None, **sections) -> Path:
        return self.write("config.toml", to_toml(config or self.settings("cl2cm", **sections)))

    def item(self, **changes) -> dict:
        """A good line, with changes; a key whose value is ... is left out."""
        line = {
            "id": "red",
            "image": "pictures/red.png",
            "split": "train",
            "captions": {"en": ["red circle"]},
            "translations": {"xx": {"mt": ["derxx elcricxx"]}},
            **changes,
        }
        return {key: value for key, value in line.items() if value is not ...}

    def manifest(self, *lines: dict | str | bytes, name: str = "manifest.jsonl") -> Path:
        whole = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
        return self.write(
            name, b"\n".join(x.encode() if isinstance(x, str) else x for x in whole) + b"\n"
        )

    def run(self) -> Path:
        return shutil.copytree(self.trained, self.folder / "run")

    def index(self, run: Path | None = None) -> Path:
        path = self.folder / "index"
        self.accepted("index", run or self.trained, self.pictures, path)
        return path

    def accepted(self, *arguments: object) -> None:
        assert run([str(argument) for argument in arguments]) == 0
        self.capfd.readouterr()

    def refused(
        self, arguments: list[object], *words: str, usage: bool = False, leaves: str | None = None
    ) -> str:
        """Run what must fail; exit code, the one line and the disk are checked.

        ``leaves`` names a folder that a stopped training may leave, to go on from.
        """
        before = snapshot(self.folder)
        code = run([str(argument) for argument in arguments])
        captured = self.capfd.readouterr()
        assert code == 2, captured.err
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert captured.err.endswith("\n")
        lines = captured.err.splitlines()
        assert [line for line in lines if line.startswith("error")] == lines[-1:]
        assert (USAGE if usage else ERROR).fullmatch(lines[-1]), lines[-1]
        for word in words:
            assert word in lines[-1], lines[-1]
        after = snapshot(self.folder)
        if leaves:
            after = {key: value for key, value in after.items() if key.split("/")[0] != leaves}
        assert after == before
        for folder in (self.folder, self.cache):
            assert not [path for path in folder.rglob("*") if ".partial" in path.name]
        return lines[-1]
