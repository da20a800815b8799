"""Language codes of manifests (BCP 47), mapped to the codes of each model family.

Every function is given the codes that a model has, and answers one of them or None, so that a
language is never sent to a model under a name that it does not know.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from cl2cm.errors import LanguageError

# Language, script, region, variants, as BCP 47 writes them.
CODE = re.compile(
    r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?(-([a-z0-9]{5,8}|\d[a-z0-9]{3}))*"
)

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
_SEVERAL = {one: _THREE.get(code, code) for code, one in _ONE_OF_SEVERAL.items()}
# The other codes of ISO 639-1, and what is often written instead of one.
_OTHERS = frozenset(
    {
        *("aa", "ab", "ae", "ak", "av", "ay", "bi", "bm", "bo", "ce", "ch", "cr", "cu", "dv", "dz"),
        *("ee", "ff", "fj", "ho", "hz", "ie", "ii", "ik", "iu", "kg", "ki", "kj", "kl", "kr", "ks"),
        *("kv", "li", "lu", "mh", "na", "nd", "ng", "nr", "nv", "oj", "os", "pi", "ty", "ve", "vo"),
        *("wa", "za"),
    }
)
_MISTAKEN = {
    "cn": "zh",
    "cz": "cs",
    "dk": "da",
    "gr": "el",
    "in": "id",
    "iw": "he",
    "jp": "ja",
    "ua": "uk",
    "vn": "vi",
    "eng": "en",
    "ger": "de",
    "fre": "fr",
    "chi": "zh",
}
_OPUS_NAME = re.compile(r"opus-mt(?:-tc\w*)?(?:-big)?-([a-zA-Z]{2,3})-([a-zA-Z]{2,3})$")
_USUAL_SCRIPT = {"zho": "Hans", "cmn": "Hans", "arb": "Arab", "kas": "Arab"}
_REGION_SCRIPT = {"CN": "Hans", "SG": "Hans", "TW": "Hant", "HK": "Hant", "MO": "Hant"}
_M2M = {"nb": "no", "nn": "no", "fil": "tl", "nso": "ns"}


class Tag(NamedTuple):
    """Parts of a code such as ``zh-Hant-TW``; "" for missing parts."""

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
    """Return the code of a language with two letters where it has one: ``eng`` is ``en``."""
    return _TWO.get(code, code)


def nllb_code(code: str, known: Collection[str]) -> str | None:
    """Return the NLLB code of a language, such as ``zho_Hans``."""
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
    """Return the M2M-100 code of a language, such as ``zh``, which has no script."""
    language = parse_tag(code).language
    names = (language, _M2M.get(language, language), _TWO.get(language, language))
    return next((name for name in names if name in known), None)


def opus_code(code: str, known: Collection[str]) -> str | None:
    """Return the code of a target language in OPUS-MT, such as ``cmn_Hans`` or ``fra``."""
    tag = parse_tag(code)
    three = _THREE.get(tag.language, tag.language)
    names = (_ONE_OF_SEVERAL.get(tag.language, three), three, tag.language)
    places = [f"_{tag.region}", f"_{tag.region.lower()}"] if tag.region else []
    usual = next((f"_{_USUAL_SCRIPT[name]}" for name in names if name in _USUAL_SCRIPT), "")
    scripts = [f"_{tag.script}"] if tag.script else [usual, ""]
    found = (name + end for end in [*places, *scripts] for name in names)
    return next((name for name in found if name in known), None)


def check_code(code: str, option: str) -> None:
    """Refuse an invalid or unknown language code.

    Codes of three letters are taken on trust: there are thousands.

    Raises:
        LanguageError: it is one.
    """
    language = code.split("-", maxsplit=1)[0]
    if CODE.fullmatch(code) and (len(language) == 3 or language in _THREE or language in _OTHERS):
        return
    first, *rest = re.split("[-_]", code)
    first = _MISTAKEN.get(first.lower(), first.lower())
    near = "-".join([first, *(r.upper() if len(r) == 2 else r.title() for r in rest)])
    known = CODE.fullmatch(near) and (first in _THREE or first in _OTHERS)
    raise LanguageError(
        option,
        expected="a language code such as de, pt-BR or zh-Hans",
        found=repr(code),
        remedy=f"write {near}" if known and near != code else "use the code of ISO 639",
    )


def stated_direction(name: str) -> tuple[str, str] | None:
    """Return the source and target that the usual name of a model of one direction states."""
    match = _OPUS_NAME.search(name)
    return (match[1], match[2]) if match else None


def check_direction(engine: str, stated: tuple[str, str], source: str, target: str) -> None:
    """Refuse a model of another direction.

    A code of several languages, such as ``gmw`` or ``ROMANCE``, refuses none.

    Raises:
        LanguageError: the model says that it reads or writes another language.
    """
    if any(_is_other(*pair) for pair in zip(stated, (source, target), strict=True)):
        raise LanguageError(
            f"engine {engine}",
            expected=f"{stated[0]} to {stated[1]}, as the model says",
            found=f"{source} to {target}",
            remedy="name a model of that direction",
        )


def _is_other(stated: str, asked: str) -> bool:
    ours, theirs = _one_code(asked), _one_code(stated)
    return theirs in _TWO and ours != theirs


def _one_code(code: str) -> str:
    """Return one code of three letters for all codes of a language: ``zho`` for zh and cmn."""
    language = parse_tag(code.replace("_", "-")).language
    three = _THREE.get(language, language)
    return _SEVERAL.get(three, three)
