"""The texts of the page, one TOML file per language in ``languages/``.

``name``, ``direction`` and ``thousands`` describe the language; all else are texts, with the names
of values in braces. English has every text, and the others have the same.
"""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

FALLBACK = "en"
AUTONYMS = {
    "ar": "العربية", "bg": "български", "bn": "বাংলা", "cs": "čeština", "da": "dansk",
    "de": "Deutsch", "el": "Ελληνικά", "en": "English", "es": "español", "fa": "فارسی",
    "fi": "suomi", "fr": "français", "he": "עברית", "hi": "हिन्दी", "hu": "magyar",
    "id": "Indonesia", "it": "italiano", "ja": "日本語", "ko": "한국어", "nl": "Nederlands",
    "no": "norsk", "pl": "polski", "pt": "português", "ro": "română", "ru": "русский",
    "sv": "svenska", "th": "ไทย", "tr": "Türkçe", "uk": "українська", "vi": "Tiếng Việt",
    "zh": "中文",
}  # fmt: skip


class Messages:
    """The texts of one language.

    Args:
        language: its code.
        texts: of its file.
    """

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self.name, self.direction = texts["name"], texts["direction"]
        self._thousands = texts["thousands"]
        self._texts = texts

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values filled in; numbers are written as the language does."""
        filled = {
            name: self.number(value) if type(value) is int else value
            for name, value in values.items()
        }
        return self._texts[key].format(**filled)

    def number(self, value: int) -> str:
        """Write a whole number, with the language's mark between thousands."""
        return f"{value:,}".replace(",", self._thousands)


@lru_cache(maxsize=1)
def all_messages() -> dict[str, Messages]:
    """Return the texts of every language, English first."""
    files = (resources.files("cl2cm.serve") / "languages").iterdir()
    found = {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".toml")
    }
    order = sorted(found, key=lambda code: (code != FALLBACK, code))
    return {code: Messages(code, found[code]) for code in order}


def choose(wanted: str | None, accepted: str) -> Messages:
    """Return the chosen language, or the best match for the browser's languages.

    Args:
        wanted: a code, as the page's cookie has it.
        accepted: an Accept-Language header, such as ``fr-CA, de;q=0.8``.
    """
    there = all_messages()
    if wanted in there:
        return there[wanted]
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted[:1000].split(",")):
        code, _, quality = part.strip().partition(";")
        weight = _quality(quality)
        if weight > 0:
            ranked.append((-weight, place, code.strip().lower().partition("-")[0]))
    return next((there[code] for *_, code in sorted(ranked) if code in there), there[FALLBACK])


def _quality(text: str) -> float:
    name, _, value = text.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
