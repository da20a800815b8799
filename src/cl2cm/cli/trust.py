"""The options ``--allow-hub`` and ``--model-root``: what a run may use besides its own files.

They are added here to all commands that open a model.
"""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cl2cm.encode.trust import MODEL_ROOTS, allowed, hub_allowed

AllowHub = Annotated[
    bool,
    typer.Option("--allow-hub", help="Allow downloading hf:OWNER/NAME; also $CL2CM_ALLOW_HUB=1."),
]
ModelRoot = Annotated[
    list[Path] | None,
    typer.Option(
        help=f"Allow a run to use models in this folder; repeatable; also ${MODEL_ROOTS}."
    ),
]


def opens_models(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--allow-hub`` and ``--model-root`` to a command."""

    @functools.wraps(command)
    def with_trust(
        *arguments: Any,  # noqa: ANN401 - whatever the command takes
        allow_hub: bool = False,
        model_root: list[Path] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        with allowed(hub=allow_hub, roots=model_root or ()):
            if not hub_allowed():  # a second lock, should a dependency not keep to the first
                os.environ.setdefault("HF_HUB_OFFLINE", "1")
            return command(*arguments, **options)

    signature = inspect.signature(command)
    added = [
        inspect.Parameter(
            "allow_hub", inspect.Parameter.KEYWORD_ONLY, annotation=AllowHub, default=False
        ),
        inspect.Parameter(
            "model_root", inspect.Parameter.KEYWORD_ONLY, annotation=ModelRoot, default=None
        ),
    ]
    with_trust.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    with_trust.__annotations__ = {
        **command.__annotations__,
        "allow_hub": AllowHub,
        "model_root": ModelRoot,
    }
    return with_trust
