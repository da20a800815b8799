"""Which emojis are variants of one thing, and the split of each thing.

Variants of one thing share a split, so that no test image is a variant of a training image.
"""

import re
from collections.abc import Mapping

from cl2cm.storage import (
    sha256_text,
)

SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
# Parts that make a variant, not another thing: emoji and text style, gender, direction, hair.
_VARIANT = {"FE0F", "FE0E", "2640", "2642", "27A1", "1F9B0", "1F9B1", "1F9B2", "1F9B3"}
_ADULT, _FAMILY = "1F9D1", "1F46A"
# Variants by gender that name the same thing: first code point → code point of the neutral form.
_SAME = {
    **dict.fromkeys(("1F468", "1F469", "1F471", "1F9D4"), _ADULT),  # man, woman, blond, beard
    **dict.fromkeys(("1F466", "1F467"), "1F9D2"),  # boy, girl: child
    **dict.fromkeys(("1F474", "1F475"), "1F9D3"),  # old man, old woman: older person
    **dict.fromkeys(("1F934", "1F478"), "1FAC5"),  # prince, princess: person with crown
    **dict.fromkeys(("1F385", "1F936"), "1F9D1-1F384"),  # Santa, Mrs Claus: Mx Claus
    **dict.fromkeys(("1F930", "1FAC3"), "1FAC4"),  # pregnant
    "1F57A": "1F483",  # man dancing: woman dancing
    **dict.fromkeys(("1F46B", "1F46C", "1F46D"), "1F9D1-1F91D-1F9D1"),  # holding hands
}
# Two regional indicators, or a black flag with a region in tags.
_FLAG = re.compile(r"(1F1(E[6-9A-F]|F[0-9A-F])-?){2}|1F3F4(-E00[3-7][0-9A-F])+")
_COUPLES = {"2764-1F48B": "1F48F", "2764": "1F491"}  # between two adults: kiss, heart


def is_flag(identity: str) -> bool:
    """Tell whether an id is the flag of a country or region.

    The flag of a country never seen cannot be guessed, so results are worth reporting without.
    """
    return bool(_FLAG.fullmatch(identity))


def thing(identity: str) -> str:
    """Return the name the thing that an emoji is a variant of; variants share a split.

    Of one thing are: text and emoji style; the genders of a person (by sign, by another first
    code point, or by a name of its own, as prince and princess); the hair and beard of an adult;
    directions; all families, all couples; and what is drawn upon the same base (service dog on
    dog, heart on fire on heart, rainbow flag on white flag). A person's occupation is a thing
    of its own, and so is each country's flag.
    """
    if is_flag(identity):
        return identity
    first, *rest = identity.split("-")
    codes = "-".join([first, *(code for code in rest if code not in _VARIANT)])
    parts = [part for part in (p.strip("-") for p in codes.split("200D")) if part]
    parts = [_SAME.get(part, part) for part in parts]
    people = [part for part in parts if part in (_ADULT, "1F9D2")]
    if len(people) > 1 and people == parts:
        return _FAMILY
    between = "-".join(parts[1:-1])
    if len(people) == 2 and between in _COUPLES:
        return _COUPLES[between]
    return "-".join(parts) if parts[0] == _ADULT else parts[0]


def split_of(key: str) -> str:
    """Deal a thing to a split: 80 % train, 10 % val, 10 % test, by a hash of its name."""
    tenth = int(sha256_text(key)[:8], 16) % 10
    return {0: "test", 1: "val"}.get(tenth, "train")


def things_of(digests: Mapping[str, str]) -> dict[str, str]:
    """Return the thing of each id; images that are pixel for pixel the same are one thing too.

    So the flags of Norway and of Svalbard and Jan Mayen never end up on two sides of a split.
    """
    things = {identity: thing(identity) for identity in digests}
    by_pixels: dict[str, str] = {}
    for identity, digest in digests.items():
        here, there = things[identity], by_pixels.setdefault(digest, things[identity])
        if here != there:
            things = {other: there if key == here else key for other, key in things.items()}
            by_pixels = {d: there if key == here else key for d, key in by_pixels.items()}
    return things
