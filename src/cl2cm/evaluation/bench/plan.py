"""Benchmarks: methods x regimes x seeds on one data set, compared with statistics.

Features are made once and shared. Runs continue in parallel, one core each; a benchmark that was
stopped continues where it was, and finished runs with the same settings are not repeated. Every
choice of a suite was made on the validation split; here the test split is reported.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cl2cm.data.manifest import Skipped, read_manifest, split_of_manifest
from cl2cm.data.pairs import target_languages
from cl2cm.data.queries import caption_languages
from cl2cm.data.readers.registry import fetches, prepare_dataset
from cl2cm.errors import ConfigError, LanguageError, nearest
from cl2cm.evaluation.bench.report import report
from cl2cm.evaluation.bench.run import Job, run_job
from cl2cm.evaluation.bench.stores import make_stores
from cl2cm.evaluation.bench.suites import ABLATED, Suite, find_manifest, load_suite
from cl2cm.evaluation.bench.table import csv_text
from cl2cm.evaluation.ranks import Ranks
from cl2cm.methods.registry import method_class, method_names, warn_of_shadowed
from cl2cm.progress import track
from cl2cm.storage import atomic_file, check_writable, write_json
from cl2cm.training.noise import noise_seed
from cl2cm.translate import find_translators
from cl2cm.types import Example


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a suite shall run; empty means the suite's own choice.

    ``methods`` may name any method, also one that the suite does not list; ``settings`` such as
    ``mine.weight=0.5`` change every run.
    """

    methods: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    quick: bool = False
    single: bool = True  # the second table: one model per language
    split: str = "test"
    settings: tuple[str, ...] = ()
    skip_bad: bool = False
    against: str = ""  # the method that all others are compared with; empty: cl2cm


def bench(
    name: str,
    data: Path | None,
    out: Path,
    choice: Choice,
    *,
    jobs: int = 0,
    csv: Path | None = None,
    trec: bool = False,
) -> dict[str, Any]:
    """Run a suite and compare its methods.

    Args:
        name: of the suite, or the TOML file of one.
        data: its folder; not used where the file names a manifest.
        out: folder for runs and results; a benchmark in it continues.
        choice: what to run.
        jobs: runs at a time; 0: one for each core.
        csv: write the rows to this file, too.
        trec: write ``SPLIT.trec`` in each run's folder.

    Returns:
        The object of ``bench --json``.

    Raises:
        CL2CMError: no data, an unknown name, or a run that failed.
    """
    suite = load_suite(name)
    if suite.manifest is not None:
        data = suite.manifest
    if not suite.languages:
        suite = _with_languages(suite, choice, find_manifest(suite.name, data))
    chosen = _check(suite, choice)
    if csv is not None:
        check_writable(csv)
    source = str(suite.base.get("data", {}).get("source", "en"))
    if any(method_class(suite.method(name)).translates_queries for name in chosen.methods):
        find_translators(chosen.languages, source)  # a missing extra shows before any training
    if data is None and fetches(name):
        data = prepare_dataset(name, None, out / "data", leak_check=False)
    manifest = find_manifest(suite.name, data)
    skipped = Skipped()
    examples = list(
        read_manifest(manifest, source=source, skip_bad=chosen.skip_bad, on_skip=skipped.item)
    )
    asked = split_of_manifest(examples, chosen.split, manifest)
    planned = plan(suite, chosen, manifest, examples, out, skipped)
    results = _run_all(planned, asked, at_once=jobs or os.cpu_count() or 1, trec=trec)
    result = report(suite.name, results, source=source, against=chosen.against)
    result |= {"skipped": skipped.names}
    write_json(out / "results.json", result)
    if csv is not None:
        with atomic_file(csv) as file:
            file.write(csv_text(result["rows"]).encode())
    return result


def _with_languages(suite: Suite, choice: Choice, manifest: Path) -> Suite:
    """Return the suite with the languages that its data can be trained and tested in.

    Raises:
        LanguageError: there is none.
    """
    source = str(suite.base.get("data", {}).get("source", "en"))
    examples = list(
        read_manifest(manifest, source=source, skip_bad=choice.skip_bad, on_skip=Skipped().item)
    )
    train = [example for example in examples if example.split == "train"]
    translated = target_languages(train, source=source, chosen=())
    asked = caption_languages(split_of_manifest(examples, choice.split, manifest))
    both = tuple(code for code in translated if code in asked)
    if not both:
        raise LanguageError(
            str(manifest),
            expected=f"human captions of the split {choice.split!r} in {', '.join(translated)}",
            found=f"captions in {', '.join(asked)}",
            remedy="add some, or choose another --split",
        )
    return dataclasses.replace(suite, languages=both)


def _check(suite: Suite, choice: Choice) -> Choice:
    """Return the choice with what it leaves open, every name known to the suite."""
    runnable = tuple(dict.fromkeys((*suite.methods, *suite.ablations, *method_names())))
    methods = choice.methods
    if methods == ("ablations",):
        methods = (ABLATED, *suite.ablations)
    for what, names, known in (
        ("--methods", methods, runnable),
        ("--regimes", choice.regimes, suite.regimes),
        ("--languages", choice.languages, suite.languages),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(
                    what,
                    expected=f"some of {', '.join(known)}",
                    found=repr(name),
                    remedy=nearest(name, known, listed=True),
                )
    warn_of_shadowed(methods)
    methods = methods or tuple(suite.methods)
    if choice.against and choice.against not in methods:
        raise ConfigError(
            "--against",
            expected=f"one of the methods that run: {', '.join(methods)}",
            found=repr(choice.against),
            remedy=nearest(choice.against, methods),
        )
    return dataclasses.replace(
        choice,
        methods=methods,
        regimes=choice.regimes or suite.default_regimes,
        languages=choice.languages or suite.languages,
        seeds=choice.seeds or tuple(range(2 if choice.quick else suite.seeds)),
        single=choice.single and not choice.quick,
    )


def plan(
    suite: Suite,
    choice: Choice,
    manifest: Path,
    examples: Sequence[Example],
    out: Path,
    skipped: Skipped | None = None,
) -> list[Job]:
    """Return all runs of a benchmark; the features of every regime are made on the way."""
    jobs = []
    for regime in choice.regimes:
        whole = [(choice.languages, method) for method in choice.methods]
        alone = [
            ((language,), method)
            for method in suite.single
            if choice.single and method in choice.methods and len(choice.languages) > 1
            for language in choice.languages
        ]
        stores: dict[tuple[float, str, int], tuple[Path, Path | None]] = {}
        for seed in choice.seeds:
            for languages, method in [*whole, *alone]:
                config = suite.config(
                    regime,
                    method,
                    manifest=manifest,
                    seed=seed,
                    languages=languages,
                    quick=choice.quick,
                    settings=choice.settings,
                )
                if choice.skip_bad:
                    data = dataclasses.replace(config.data, skip_bad=True)
                    config = dataclasses.replace(config, data=data)
                share = config.data.noise
                noise = (share, config.data.noise_kind, noise_seed(config) if share else 0)
                if noise not in stores:
                    stores[noise] = make_stores(config, examples, skipped)
                table = "all" if languages == choice.languages else "+".join(languages)
                folder = out / regime / table / method / str(seed)
                jobs.append(
                    Job(
                        regime,
                        method,
                        seed,
                        languages,
                        config,
                        folder,
                        *stores[noise],
                        choice.split,
                    )
                )
    return jobs


def _run_all(
    jobs: Sequence[Job], examples: Sequence[Example], *, at_once: int, trec: bool
) -> list[tuple[Job, dict[str, Ranks]]]:
    """Return every run's ranks, in the order of the plan."""
    results: dict[int, dict[str, Ranks]] = {}
    context = multiprocessing.get_context("spawn")
    with (
        track("runs", len(jobs)) as advance,
        ProcessPoolExecutor(min(at_once, len(jobs)), context, _start_worker) as pool,
    ):
        futures = {
            pool.submit(_work, job, examples, trec=trec): number for number, job in enumerate(jobs)
        }
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [(job, results[number]) for number, job in enumerate(jobs)]


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """End a worker whose benchmark was killed; its run is to be resumed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job, examples: Sequence[Example], *, trec: bool) -> dict[str, Ranks]:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    log = job.folder.with_name(f"{job.folder.name}.log")
    with log.open("a", encoding="utf-8") as file, contextlib.redirect_stderr(file):
        return run_job(job, examples, trec=trec)
