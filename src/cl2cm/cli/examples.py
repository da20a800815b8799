"""The end of each command's help: notes such as supported formats, and examples."""

from typing import Any

from typer.core import TyperCommand

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("cl2cm demo --no-serve",),
    "init": ("cl2cm init photos --to de,fr --engine bergamot",),
    "prepare": (
        "cl2cm prepare folder photos data --language en",
        "cl2cm prepare multi30k downloads/multi30k data --task 2",
    ),
    "translate": (
        "cl2cm translate manifest.jsonl --to es --engine apertium --out new.jsonl",
        "cl2cm translate new.jsonl --report",
    ),
    "encode": (
        "cl2cm encode photos --encoder onnx:efficientnet-lite2 --out features",
        "cl2cm encode photos --out features --shard 3/7",
        "cl2cm encode s3://bucket/shards --out features --workers 4",
    ),
    "train": (
        "cl2cm train recipe.toml --out runs/mine",
        "cl2cm train recipe.toml --out runs/mine --resume",
        "cl2cm train recipe.toml --set train.epochs=3 --out runs/short",
    ),
    "add-language": ("cl2cm add-language runs/mine manifest.jsonl --language pt --out runs/pt",),
    "evaluate": ("cl2cm evaluate runs/mine manifest.jsonl --languages de,fr",),
    "compare": ("cl2cm compare runs/mine runs/other manifest.jsonl --split val",),
    "bench": ("cl2cm bench flickr8k-multi --data flickr8k-multi --quick",),
    "align": (
        'cl2cm align runs/mine "a dog runs" "ein Hund rennt" --html words.html',
        "cl2cm align runs/mine --gold",
    ),
    "report": (
        "cl2cm report runs/zero-shot runs/cl2cm --out report.html",
        "cl2cm report bench/flickr8k-multi --files figures --png",
    ),
    "export": ("cl2cm export runs/mine my-export --precision fp32,int8",),
    "index": (
        "cl2cm index runs/mine photos photos-index",
        "cl2cm index hf:google/siglip2-base-patch16-224 photos index --allow-hub",
    ),
    "search": (
        'cl2cm search photos-index "a dog in the snow" -k 5 --since 2024-01-31',
        "cl2cm search photos-index --image dog.jpg --media video",
    ),
    "serve": ("cl2cm serve photos-index --port 8000",),
    "models": ("cl2cm models --json",),
    "licences": ("cl2cm licences runs/mine", "cl2cm licences photos-index --json"),
    "doctor": ("cl2cm doctor --install-weights", "cl2cm doctor runs/mine --repair"),
}


class WithExamples(TyperCommand):
    """A command whose help ends with examples, after notes that a subclass may add."""

    def notes(self) -> str:
        """Return a paragraph between the options and the examples."""
        return ""

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - a context of the click in typer
        """Return the help with notes and examples."""
        lines = (f"  $ {line}" for line in EXAMPLES.get(self.name or "", ()))
        examples = "\n".join(["\b", "Examples:", *lines])  # \b: do not wrap these lines
        self.epilog = "\n\n".join(part for part in (self.notes(), examples) if part)
        return super().get_help(ctx)


class WithFormats(WithExamples):
    """A command whose help lists the supported formats of images and videos."""

    def notes(self) -> str:
        """Return the supported formats."""
        from cl2cm.media.kinds import supported

        return f"Formats: {supported()}."
