"""Language codes: those of a manifest (BCP 47), and what each family of models calls the same.

Every function is given the codes that a model has, and answers one of them or None, so that a
language is never sent to a model under a name that it does not know.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

# ISO 639-1 and ISO 639-3 of the same language.
_PAIRS = """
af:afr am:amh an:arg ar:ara as:asm az:aze ba:bak be:bel bg:bul bn:ben br:bre bs:bos ca:cat co:cos
cs:ces cv:chv cy:cym da:dan de:deu el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas fi:fin fo:fao
fr:fra fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin hr:hrv ht:hat hu:hun
hy:hye ia:ina id:ind ig:ibo io:ido is:isl it:ita ja:jpn jv:jav ka:kat kk:kaz km:khm kn:kan ko:kor
ku:kur kw:cor ky:kir la:lat lb:ltz lg:lug ln:lin lo:lao lt:lit lv:lav mg:mlg mi:mri mk:mkd ml:mal
mn:mon mr:mar ms:msa mt:mlt my:mya nb:nob ne:nep nl:nld nn:nno no:nor ny:nya oc:oci om:orm or:ori
pa:pan pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme
sg:sag sh:hbs si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe
sw:swa ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi
ug:uig uk:ukr ur:urd uz:uzb vi:vie wo:wol xh:xho yi:yid yo:yor zh:zho zu:zul
"""
_THREE = dict(pair.split(":") for pair in _PAIRS.split())
_TWO = {three: two for two, three in _THREE.items()}
# Where a model names the one language that a code for several stands for.
_ONE_OF_SEVERAL = {
    "ar": "arb",
    "az": "azj",
    "fa": "pes",
    "ku": "kmr",
    "lv": "lvs",
    "mg": "plt",
    "mn": "khk",
    "ms": "zsm",
    "ne": "npi",
    "no": "nob",
    "om": "gaz",
    "or": "ory",
    "ps": "pbt",
    "qu": "quy",
    "sq": "als",
    "sw": "swh",
    "uz": "uzn",
    "yi": "ydd",
    "zh": "cmn",
    "fil": "tgl",
}
_USUAL_SCRIPT = {"zho": "Hans", "cmn": "Hans", "arb": "Arab", "kas": "Arab"}
_REGION_SCRIPT = {"CN": "Hans", "SG": "Hans", "TW": "Hant", "HK": "Hant", "MO": "Hant"}
_M2M = {"nb": "no", "nn": "no", "fil": "tl", "nso": "ns"}


class Tag(NamedTuple):
    """Parts of a code such as ``zh-Hant-TW``; "" where it says nothing of one."""

    language: str
    script: str = ""
    region: str = ""


def parse_tag(code: str) -> Tag:
    """Take a code of a manifest apart; of Chinese, the script follows from the region."""
    language, *rest = code.split("-")
    script = next((part for part in rest if re.fullmatch("[A-Z][a-z]{3}", part)), "")
    region = next((part for part in rest if re.fullmatch(r"[A-Z]{2}|\d{3}", part)), "")
    if language in ("zh", "yue", "cmn") and not script:
        script = _REGION_SCRIPT.get(region, "")
    return Tag(language, script, region)


def two_letters(code: str) -> str:
    """The code of a language with two letters where it has one: ``eng`` is ``en``."""
    return _TWO.get(code, code)


def nllb_code(code: str, known: Collection[str]) -> str | None:
    """What NLLB calls a language, ``zho_Hans``."""
    tag = parse_tag(code)
    three = _THREE.get(tag.language, tag.language)
    names = (_ONE_OF_SEVERAL.get(tag.language, three), three)
    for name in names:
        scripts = sorted(c.partition("_")[2] for c in known if c.startswith(f"{name}_"))
        wanted = tag.script or _USUAL_SCRIPT.get(name, "Latn" if len(scripts) > 1 else "")
        if wanted in scripts:
            return f"{name}_{wanted}"
        if len(scripts) == 1 and not tag.script:
            return f"{name}_{scripts[0]}"
    return None


def m2m_code(code: str, known: Collection[str]) -> str | None:
    """What M2M-100 calls a language, ``zh``; it does not tell scripts apart."""
    language = parse_tag(code).language
    names = (language, _M2M.get(language, language), _TWO.get(language, language))
    return next((name for name in names if name in known), None)


def opus_code(code: str, known: Collection[str]) -> str | None:
    """What a multilingual OPUS-MT model calls a target language, ``cmn_Hans`` or ``fra``."""
    tag = parse_tag(code)
    three = _THREE.get(tag.language, tag.language)
    names = (_ONE_OF_SEVERAL.get(tag.language, three), three, tag.language)
    places = [f"_{tag.region}", f"_{tag.region.lower()}"] if tag.region else []
    usual = next((f"_{_USUAL_SCRIPT[name]}" for name in names if name in _USUAL_SCRIPT), "")
    scripts = [f"_{tag.script}"] if tag.script else [usual, ""]
    found = (name + end for end in [*places, *scripts] for name in names)
    return next((name for name in found if name in known), None)
