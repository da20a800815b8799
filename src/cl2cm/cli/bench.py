"""The command that compares methods on a benchmark."""

from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import EvaluatedSplit, Json, SkipBad, numbers, show, words


def bench(
    suite: Annotated[str, typer.Argument(help="Suite: flickr8k-multi, openmoji, or a file.")],
    data: Annotated[
        Path | None,
        typer.Option(envvar="CL2CM_DATA", help="Folder with the suite's manifest and images."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder of the runs.  [default: bench/SUITE]")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="Methods, such as cl2cm,dcot, or ablations; empty: the suite's methods."),
    ] = "",
    regimes: Annotated[
        str, typer.Option(help="Regimes, such as aligned,weak; empty: the suite's regimes.")
    ] = "",
    languages: Annotated[str, typer.Option(help="Target languages, such as de; empty: all.")] = "",
    seeds: Annotated[
        str, typer.Option(help="Seeds, such as 0,1,2; empty: the suite's seeds.")
    ] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting in every run; repeatable.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train short runs with two seeds.")
    ] = False,
    single: Annotated[
        bool, typer.Option("--single/--no-single", help="Also train one model per language.")
    ] = True,
    split: EvaluatedSplit = "test",
    against: Annotated[
        str, typer.Option(help="Compare the other methods with this one; empty: cl2cm.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=0, help="Number of parallel runs; 0: one per core.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this file.")] = None,
    trec: Annotated[
        bool, typer.Option("--trec", help="Write a TREC run file into each run folder.")
    ] = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Compare methods over languages and seeds on a data set.

    An interrupted benchmark resumes when the command is run again.
    """
    from cl2cm.evaluation.bench.plan import Choice
    from cl2cm.evaluation.bench.plan import bench as run_bench
    from cl2cm.evaluation.bench.table import table_lines

    choice = Choice(
        methods=tuple(words(methods)),
        regimes=tuple(words(regimes)),
        languages=tuple(words(languages)),
        seeds=tuple(numbers("--seeds", seeds)),
        quick=quick,
        single=single,
        split=split,
        settings=tuple(settings or ()),
        skip_bad=skip_bad,
        against=against,
    )
    name = Path(suite).stem if suite.endswith(".toml") else suite
    where = out or Path("bench") / (f"{name}-quick" if quick else name)
    result = run_bench(suite, data, where, choice, jobs=jobs, csv=csv, trec=trec)
    show(result, as_json=as_json, lines=table_lines(result))
