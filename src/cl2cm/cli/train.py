"""The command that trains a model."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cl2cm.cli.options import Json, SkipBad, show


class WithMethods(TyperCommand):
    """A command whose help ends with the names of all methods, those of other packages too."""

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - a context of the click in typer
        """Return the help, with the names of the methods of today at its end."""
        from cl2cm.methods.registry import method_names

        self.epilog = f"Methods: {', '.join(method_names())}."
        return super().get_help(ctx)


def train(
    config: Annotated[
        Path, typer.Argument(help="Recipe, a TOML file; or own, for one's own images.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to make.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting: train.epochs=3, data.languages=de,fr; repeatable."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    init_from: Annotated[
        Path | None, typer.Option(help="Finished run whose weights to start from.")
    ] = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Train a model by cl2cm, translate-train, or another method."""
    from cl2cm.cli.own_data import RECIPES, packaged
    from cl2cm.methods.settings import load_config
    from cl2cm.training.loop import train as train_run

    lenient = ["data.skip_bad=true"] if skip_bad else []
    if str(config) in RECIPES and not config.exists():
        config = packaged(str(config))
    loaded = load_config(config, [*(settings or ()), *lenient])
    provenance = train_run(loaded, out, resume=resume, init_from=init_from)
    best = ", ".join(
        f"{stage} {'not measured' if value is None else f'{value:.1f}'}"
        for stage, value in provenance["validation_SumR"].items()
    )
    show({"run": str(out), **provenance}, as_json=as_json, lines=[f"{out}: SumR on val: {best}"])
