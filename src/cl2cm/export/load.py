"""Models of every kind by one name: a run, an export, or an off-the-shelf model.

Nothing of torch is imported for an export.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Union

from cl2cm.errors import ConfigError, missing_extra
from cl2cm.export.contract import is_export
from cl2cm.export.model import ExportedModel, load_export
from cl2cm.types import StrPath, is_model_spec

if TYPE_CHECKING:
    from cl2cm.model.retrieval import RetrievalModel, VisualSide

AnyModel = Union["RetrievalModel", ExportedModel]
AnyVisual = Union["VisualSide", ExportedModel]


def load(run: StrPath, *, text_encoder: str = "", vision_encoder: str = "") -> AnyModel:
    """Load a finished run, an export or an off-the-shelf model for search or evaluation.

    Stored features are opened when an item is asked for: texts can be encoded without them.

    Args:
        run: the folder that ``cl2cm train`` or ``cl2cm export`` wrote, or an off-the-shelf model:
            ``hf:MODEL``. An export needs no torch.
        text_encoder: where a run's text encoder is by now, such as ``hf:DIR``; "": where it says.
        vision_encoder: the same of the vision encoder, or of features: ``features:PATH``, which
            may hold other items than the training data.

    Raises:
        CheckpointError: it is no run or export, unfinished, damaged, or its contract does not hold
            here.
        MissingExtraError: a run or off-the-shelf model, and the extra ``train`` is not installed.

    Example:
        >>> import cl2cm
        >>> model = cl2cm.load("run")
        >>> texts = model.encode_text(["red square", "blue bar"])
        >>> images = model.encode_images(["images/red-square.png", "images/blue-bar.png"])
        >>> (texts @ images.T).argmax(axis=1)
        array([0, 1])
    """
    if opens_export(run, text_encoder, vision_encoder):
        return load_export(run)
    model: AnyModel = _runs().load(run, text_encoder=text_encoder, vision_encoder=vision_encoder)
    return model


def load_visual(run: StrPath, *, vision_encoder: str = "") -> AnyVisual:
    """Load the vision side of a model, for indexing; the text side is left unread.

    Args:
        run: as for `load`.
        vision_encoder: as for `load`.

    Raises:
        CheckpointError: as `load`, but for what is known of texts alone.
    """
    if opens_export(run, "", vision_encoder):
        return load_export(run, text=False)
    side: AnyVisual = _runs().load_visual(run, vision_encoder=vision_encoder)
    return side


def _runs() -> ModuleType:
    """Return the module that loads runs.

    Raises:
        MissingExtraError: the extra ``train`` is not installed.
    """
    try:
        return import_module("cl2cm.model.checkpoint")
    except ImportError as error:
        raise (missing_extra(error) or error) from None


def opens_export(run: StrPath, text_encoder: str = "", vision_encoder: str = "") -> bool:
    """Return whether a model is an export, which has its encoders inside.

    Raises:
        ConfigError: it is, and other encoders are named.
    """
    if is_model_spec(run) or not is_export(run):
        return False
    if text_encoder or vision_encoder:
        raise ConfigError(
            "--text-encoder, --vision-encoder and --features",
            expected="no such option with an export, which contains its encoders",
            found=repr(text_encoder or vision_encoder),
            remedy="remove it, or name the run",
        )
    return True
