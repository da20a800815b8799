"""The command ``train``."""

from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.examples import WithExamples
from cl2cm.cli.options import Json, Resume, SkipBad, show


class WithMethods(WithExamples):
    """A command whose help lists all methods, plug-ins included."""

    def notes(self) -> str:
        """Return the names of the methods."""
        from cl2cm.methods.registry import method_names

        return f"Methods: {', '.join(method_names())}."


def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="Recipe: a TOML file, or 'own' for the packaged recipe for your own images."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Override a setting: train.epochs=3, data.languages=de,fr; repeatable."
        ),
    ] = None,
    resume: Resume = False,
    init_from: Annotated[
        Path | None, typer.Option(help="Start from the weights of this finished run.")
    ] = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Train a model from a recipe.

    On several processes: torchrun --nproc-per-node N -m cl2cm train RECIPE.
    """
    from cl2cm.cli.own_data import RECIPES, packaged
    from cl2cm.methods.settings import load_config
    from cl2cm.training.loop import train as train_run
    from cl2cm.training.processes import joined

    lenient = ["data.skip_bad=true"] if skip_bad else []
    if str(config) in RECIPES and not config.exists():
        config = packaged(str(config))
    chosen = config
    with joined() as processes:
        loaded = processes.together(lambda: load_config(chosen, [*(settings or ()), *lenient]))
        provenance = train_run(loaded, out, resume=resume, init_from=init_from)
    if not processes.first:
        return
    best = ", ".join(
        f"{stage} {'not measured' if value is None else f'{value:.1f}'}"
        for stage, value in provenance["validation_SumR"].items()
    )
    show({"run": str(out), **provenance}, as_json=as_json, lines=[f"{out}: SumR on val: {best}"])
