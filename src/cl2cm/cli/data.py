"""Commands that make data: from published files to a manifest, its translations and features."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cl2cm.cli.options import Exclude, Json, SkipBad, Strict, show, words


def prepare(
    dataset: Annotated[
        str, typer.Argument(help="Name of the data set, such as multi30k; or folder.")
    ],
    source: Annotated[
        str, typer.Argument(help="Its files as published; '-' where cl2cm fetches them.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    task: Annotated[
        int | None, typer.Option(help="Of multi30k, coco-cn and flickr8k-cn: 1 or 2.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures or films, where it is another.")
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Items stand for stored features of their ids.")
    ] = False,
    split: Annotated[str, typer.Option(help="Of coco-cn-ext: the split to put it in.")] = "test",
    language: Annotated[str, typer.Option(help="Language of captions that name none.")] = "en",
    columns: Annotated[
        str,
        typer.Option(
            help="Columns of your own table: file=photo,caption=text; also language, split, id."
        ),
    ] = "",
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial", help="Name what is missing or does not fit, leave it out, and go on."
        ),
    ] = False,
    allow_leaks: Annotated[
        bool,
        typer.Option(
            "--allow-leaks", help="Go on where images of your own seem to be in two splits."
        ),
    ] = False,
    leak_check: Annotated[
        bool, typer.Option("--leak-check/--no-leak-check", help="Look for pictures in two splits.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Turn an official data set, or a folder of your own, into a manifest."""
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
    to: Annotated[str, typer.Option("--to", help="Languages, such as de,fr.")] = "",
    engine: Annotated[
        str,
        typer.Option(
            help="apertium, apertium:en-ca-fr, bergamot, ct2:FOLDER, hf:NAME or file:TABLE.tsv."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Manifest to write.")] = None,
    source: Annotated[str, typer.Option(help="Language of the captions.")] = "en",
    back: Annotated[bool, typer.Option("--back", help="Also translate back.")] = False,
    back_engine: Annotated[
        str, typer.Option(help="Engine of the way back, where it is another.")
    ] = "",
    jobs: Annotated[
        int, typer.Option(min=0, help="Batches at a time; 0: as suits the engine.")
    ] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="SQLite file of what was translated before.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Score the translations and show the worst.")
    ] = False,
    encoder: Annotated[
        str, typer.Option(help="Of the scores' cosines, as for encode; none leaves them out.")
    ] = "hf:multilingual-e5-small",
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Translate captions into a new manifest, or score the translations that it has."""
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
    source: Annotated[Path, typer.Argument(help="Manifest, or folder of images and videos.")],
    out: Annotated[Path, typer.Option(help="Feature store to make.")],
    encoder: Annotated[
        str, typer.Option(help="onnx:NAME, hf:NAME (of the cache, or a folder), features:PATH.")
    ] = "onnx:efficientnet-lite2",
    side: Annotated[
        str,
        typer.Option(
            help="vision | text; by default text for hf: models of text alone, else vision."
        ),
    ] = "",
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Run a backbone over images, videos or captions and keep its features.

    Broken files of a folder are named and left out, and the exit code is then 1.
    """
    from cl2cm.cli.encoding import encode_store
    from cl2cm.cli.sources import finish, is_lenient
    from cl2cm.encode.clip.pairs import side_of

    lenient = is_lenient(source, skip_bad=skip_bad, strict=strict)
    chosen = side or side_of(encoder)
    result = encode_store(
        source, out, encoder, side=chosen, skip_bad=lenient, exclude=exclude or ()
    )
    show(
        result,
        as_json=as_json,
        lines=[
            f"{result['items']} items of width {result['width']} in {out}, "
            f"{result['rate']:.1f}/s; {len(result['skipped'])} skipped"
        ],
    )
    finish(result, skip_bad=skip_bad)
