"""The documentation site: it builds without a warning, and nothing on it is missing or external."""

import dataclasses
import re
import subprocess
import sys
import typing
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import cl2cm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
for package in ("sphinx", "myst_parser", "furo", "latex2mathml"):
    pytest.importorskip(package, reason="pip install '.[docs]'")


class Page(HTMLParser):
    """The ids of a page, its links, and what a browser loads for it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded, self.names = set(), [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names.add(tag)
        self.ids |= {found["id"]} if found.get("id") else set()
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("index", "search", "next", "prev"):
            self.loaded.append(found["href"])
        self.loaded += [found[key] for key in ("src", "srcset", "poster") if found.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as ``make docs`` builds it."""
    out = tmp_path_factory.mktemp("site")
    (line,) = re.findall(r"python (-m sphinx .*) docs build/docs", (ROOT / "Makefile").read_text())
    command = [sys.executable, *line.split(), "-d", out / "doctrees", DOCS, out / "html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.relative_to(out / "html"): path for path in (out / "html").rglob("*.html")}
    return out / "html", {name.as_posix(): Page(path) for name, path in pages.items()}


def test_every_page_is_built(site):
    _, pages = site
    sources = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert {path.as_posix() for path in sources} <= set(pages)


def test_every_link_and_anchor_exists(site):
    folder, pages = site
    missing = []
    for name, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (folder / name).parent / unquote(parts.path) if parts.path else folder / name
            place = target.resolve().relative_to(folder.resolve()).as_posix()
            known = pages[place].ids if place in pages else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in known):
                missing.append(f"{name}: {link}")
    assert missing == []


def test_nothing_is_loaded_from_elsewhere(site):
    folder, pages = site
    loaded = {link for page in pages.values() for link in page.loaded}
    assert [link for link in loaded if urlsplit(link).scheme not in ("", "data")] == []
    for style in folder.rglob("*.css"):
        urls = re.findall(
            r"(?:url\(|@import)\s*['\"]?([^'\")]+)", style.read_text(encoding="utf-8")
        )
        assert [url for url in urls if url.startswith(("http", "//"))] == [], style


def test_equations_are_written_out(site):
    _, pages = site
    assert "math" in pages["method.html"].names
    assert {f"eq-{number}" for number in range(1, 12)} <= pages["method.html"].ids


def test_every_public_name_is_on_the_page_for_python(site):
    _, pages = site
    names = {f"cl2cm.{name}" for name in cl2cm.__all__}
    assert names - pages["python.html"].ids == set()


def test_every_command_and_setting_is_described(site):
    import typer

    from cl2cm.cli.app import app
    from cl2cm.model.config import COMMON

    folder, pages = site
    commands = (folder / "commands.html").read_text(encoding="utf-8")
    for name, command in typer.main.get_command(app).commands.items():
        assert name in pages["commands.html"].ids
        options = [p for p in command.params if p.param_type_name == "option"]
        for option in options:
            assert option.opts[-1] in commands, (name, option.name)
    assert set(COMMON) <= pages["settings.html"].ids


def test_every_setting_has_a_comment(monkeypatch):
    from cl2cm.methods.settings import section_kinds
    from cl2cm.model.config import COMMON, Config

    monkeypatch.syspath_prepend(DOCS / "site")
    from reference import field_comments

    hints = typing.get_type_hints(Config)
    for kind in [*(hints[name] for name in COMMON), *section_kinds().values()]:
        comments = field_comments(kind)
        for field in dataclasses.fields(kind):
            assert len(comments[field.name]) > 3, (kind.__name__, field.name)
