"""Commands that make data: manifests, translations and feature stores."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import (
    CaptionLanguage,
    Exclude,
    Json,
    LeakCheck,
    SkipBad,
    Strict,
    show,
    words,
)


def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            help="Name of the data set, such as multi30k, or folder for your own images."
        ),
    ],
    source: Annotated[
        str, typer.Argument(help="Folder with the published files; - if cl2cm downloads them.")
    ],
    out: Annotated[Path, typer.Argument(help="Output folder.")],
    task: Annotated[
        int | None, typer.Option(help="Task of multi30k, coco-cn or flickr8k-cn: 1 or 2.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder with the images or videos, if not in SOURCE.")
    ] = None,
    no_images: Annotated[
        bool,
        typer.Option(
            "--no-images", help="Do not look for images: use stored features, by item id."
        ),
    ] = False,
    split: Annotated[str, typer.Option(help="Split for the items of coco-cn-ext.")] = "test",
    language: CaptionLanguage = "en",
    columns: Annotated[
        str,
        typer.Option(
            help="Column names of your table: file=photo,caption=text; also language, split and id."
        ),
    ] = "",
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="List missing or invalid items and skip them."),
    ] = False,
    allow_leaks: Annotated[
        bool,
        typer.Option(
            "--allow-leaks", help="Continue if images of your own seem to occur in two splits."
        ),
    ] = False,
    leak_check: LeakCheck = True,
    as_json: Json = False,
) -> None:
    """Convert a data set, or your own folder, into a manifest."""
    from cl2cm.data.manifest import read_manifest, summarise
    from cl2cm.data.readers.columns import parse_columns
    from cl2cm.data.readers.reading import Options
    from cl2cm.data.readers.registry import prepare_dataset

    options = Options(
        task=task,
        images=images,
        no_images=no_images,
        split=split,
        language=language,
        columns=parse_columns(columns),
    )
    manifest = prepare_dataset(
        dataset,
        None if source == "-" else Path(source),
        out,
        options,
        allow_partial=allow_partial,
        allow_leaks=allow_leaks,
        leak_check=leak_check,
    )
    counts = summarise(read_manifest(manifest))
    show(
        {"manifest": str(manifest), **counts},
        as_json=as_json,
        lines=[str(manifest), *json.dumps(counts, ensure_ascii=False, indent=2).splitlines()],
    )


def translate(
    manifest: Annotated[Path, typer.Argument(help="Manifest with captions.")],
    to: Annotated[str, typer.Option("--to", help="Target languages, such as de,fr.")] = "",
    engine: Annotated[
        str,
        typer.Option(
            help="Engine: apertium, apertium:en-ca-fr, bergamot, ct2:FOLDER, hf:NAME or "
            "file:TABLE.tsv."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Manifest to write.")] = None,
    source: Annotated[str, typer.Option(help="Language of the captions.")] = "en",
    back: Annotated[
        bool, typer.Option("--back", help="Also translate back into the source language.")
    ] = False,
    back_engine: Annotated[
        str, typer.Option(help="Engine for --back, if different from --engine.")
    ] = "",
    jobs: Annotated[
        int, typer.Option(min=0, help="Number of parallel batches; 0: chosen for the engine.")
    ] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="SQLite file that caches translations.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Score the translations and show the worst ones.")
    ] = False,
    encoder: Annotated[
        str, typer.Option(help="Text encoder for the scores, as for encode; none disables it.")
    ] = "hf:multilingual-e5-small",
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Translate captions, or score existing translations."""
    from cl2cm.translate.report import result_lines, translate_manifest

    result = translate_manifest(
        manifest,
        languages=words(to),
        engine=engine,
        out=out,
        source=source,
        back=back,
        back_engine=back_engine,
        jobs=jobs,
        cache=cache,
        report=report,
        encoder=encoder,
        skip_bad=skip_bad,
    )
    show(result, as_json=as_json, lines=result_lines(result))


def encode(
    source: Annotated[
        str,
        typer.Argument(
            help="Manifest, folder of images and videos, WebDataset tars or Parquet files; a path "
            "or a URL such as s3://bucket/photos."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Feature store to write.")],
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder: onnx:NAME, hf:NAME (a cached model or a folder) or features:PATH."
        ),
    ] = "onnx:efficientnet-lite2",
    side: Annotated[
        str,
        typer.Option(
            help="vision or text; empty: text for hf: models without an image side, else vision."
        ),
    ] = "",
    workers: Annotated[
        int, typer.Option(min=0, help="Number of worker processes; 0: chosen for the engine.")
    ] = 0,
    engine: Annotated[str, typer.Option(help="local, or ray for Ray Data.")] = "local",
    address: Annotated[
        str, typer.Option(help="Address of a Ray cluster; without it one is started here.")
    ] = "",
    shard: Annotated[
        str,
        typer.Option(help="Encode one part, such as 3/7, as one job of an array.", metavar="I/N"),
    ] = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the parts of an array without encoding.")
    ] = False,
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Encode images, videos or captions into a feature store.

    Broken files in a folder are listed and skipped; the exit code is then 1.
    """
    from cl2cm.cli.encoding import Scale, encode_store
    from cl2cm.cli.sources import finish, is_lenient
    from cl2cm.encode.clip.pairs import side_of

    lenient = is_lenient(Path(source), skip_bad=skip_bad, strict=strict)
    chosen = side or side_of(encoder)
    result = encode_store(
        source,
        out,
        encoder,
        side=chosen,
        skip_bad=lenient,
        exclude=exclude or (),
        scale=Scale(workers, engine, address, shard, merge),
    )
    show(
        result,
        as_json=as_json,
        lines=[
            f"{result['items']} items of width {result['width']} in {result.get('part', out)}, "
            f"{result['rate']:.1f}/s; {len(result['skipped'])} skipped"
        ],
    )
    finish(result, skip_bad=skip_bad)
