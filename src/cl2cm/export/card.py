"""A model card, filled in from what a run and its export know of themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from cl2cm.export.origins import Origins

LIMITS = """\
- The model ranks the images of a collection; its scores are not probabilities, and scores of
  different queries cannot be compared.
- It learned from machine translations. Languages, scripts and topics that were rare in them are
  found less well; measure on captions of your own before you rely on it.
- It repeats the associations of its captions and of the backbones. Do not use it to identify or
  judge people."""


def card(
    contract: Mapping[str, Any],
    provenance: Mapping[str, Any],
    origins: Origins,
    *,
    head: str = "",
    use: str = "",
) -> str:
    """Return the card as Markdown.

    Args:
        contract: of the export.
        provenance: of the run.
        origins: of the run.
        head: what is before it, such as the metadata of a model hub.
        use: how to use it, before the description of inputs and vectors.
    """
    data = provenance.get("data", {})
    languages = ", ".join(data.get("languages", [])) or "not recorded"
    parts = [
        f"{head}# Cross-lingual image search model\n",
        "Texts in several languages and images become unit vectors of one space; the dot product "
        "of a text and an image says how well they fit.\n",
        "## Data\n",
        f"- Manifest: SHA-256 `{data.get('manifest_sha256', 'not recorded')}`",
        f"- {_count(data, 'train_pictures')} images, {_count(data, 'caption_pairs')} captions, "
        f"{_count(data, 'texts')} texts with their translations",
        f"- Captions: {origins.source or 'language not recorded'}",
        f"- Languages learned from machine translations: {languages}",
        *_listed("Translation engines", origins.engines, "as the manifest names them"),
        *_listed("Backbones", origins.backbones, "not recorded"),
        "- Licences: the licences of the data, the translations and the backbones apply; this card "
        "does not change them.\n",
        "## Training\n",
        f"- Method: {provenance.get('method', 'not recorded')}",
        f"- Finished: {provenance.get('finished', 'not recorded')}",
        f"- SumR on the validation split: {_scores(provenance.get('validation_SumR', {}))}",
        f"- Versions: {_versions(provenance.get('versions', {}))}\n",
        "## Use\n",
        *([use] if use else []),
        *_use(contract),
        "## Measured at export\n",
        *_measured(contract),
        "## Limits\n",
        f"{LIMITS}\n",
        "## Identity\n",
        f"Model `{contract['model']}`; space of image vectors `{contract['fingerprint']}`.\n",
    ]
    return "\n".join(parts)


def _count(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return f"{value:,}" if isinstance(value, int) else "an unknown number of"


def _listed(what: str, lines: Sequence[str], otherwise: str) -> list[str]:
    if not lines:
        return [f"- {what}: {otherwise}"]
    return [f"- {what}:", *(f"  - {line}" for line in lines)]


def _scores(scores: Mapping[str, Any]) -> str:
    known = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:.1f}" for name, value in known.items()) or "not measured"


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"


def _use(contract: Mapping[str, Any]) -> list[str]:
    text, vision = contract["text"], contract["vision"]
    lines = [
        f"- Text: at most {text['max_tokens']} tokens; prefix `{text['prefix']}`; "
        f"{'lower-cased' if text['lower_case'] else 'case kept'}; Unicode "
        f"{text['normalisation']['form']} without invisible characters; {text['pooling']}",
    ]
    if vision["preprocess"] is not None:
        how = vision["preprocess"]
        lines.append(
            f"- Images: shorter side to {how['shorter_side']} pixels ({how['resample']}), the "
            f"{how['size']} x {how['size']} in the centre; transparency on white; uint8"
        )
    else:
        lines.append(f"- Images: {vision['inputs']['frames']}")
    return [*lines, f"- Vectors: float32, width {contract['dim']}, unit length\n"]


def _measured(contract: Mapping[str, Any]) -> list[str]:
    parity = contract.get("parity", {})
    lines = [
        f"- Precision: text {contract['text']['precision']}, vision "
        f"{contract['vision']['precision']}",
        f"- Largest difference to the run: {parity.get('text_difference', 0):.1e} on "
        f"{parity.get('texts', 0)} texts, {parity.get('image_difference', 0):.1e} on "
        f"{parity.get('images', 0)} images; alone and in a batch: "
        f"{parity.get('batch_difference', 0):.1e}",
    ]
    recall = contract.get("recall", {})
    if recall:
        lines += [
            "",
            "| language | SumR of the run | SumR of the export | loss |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {row['run']:.1f} | {row['export']:.1f} | {row['loss']:.1f} |"
            for name, row in recall.items()
        ]
    return [*lines, ""]
