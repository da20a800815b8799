"""The methods: each is networks + loss, and all share one loop, one data path, one evaluation."""

import copy

from torch import nn

from cl2cm.errors import ConfigError, nearest
from cl2cm.methods.base import Method
from cl2cm.methods.cl2cm import CL2CM
from cl2cm.methods.dcot import Dcot
from cl2cm.methods.nrccr import Nrccr
from cl2cm.methods.self_distill import SelfDistill
from cl2cm.methods.smoothing import Smoothing
from cl2cm.methods.supervised import Supervised
from cl2cm.methods.text_distill import TextDistill
from cl2cm.methods.translate_test import TranslateTest
from cl2cm.methods.translate_train import TranslateTrain
from cl2cm.methods.zero_shot import ZeroShot
from cl2cm.model.config import Config
from cl2cm.model.networks import build_student, build_teacher

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        ZeroShot,
        TranslateTest,
        TranslateTrain,
        TextDistill,
        Nrccr,
        Dcot,
        CL2CM,
        Supervised,
        Smoothing,
        SelfDistill,
    )
}


def method_class(name: str) -> type[Method]:
    """The method of a name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in METHODS:
        raise ConfigError(
            "method",
            expected=f"one of {', '.join(METHODS)}",
            found=repr(name),
            remedy=nearest(name, METHODS),
        )
    return METHODS[name]


def build_method(
    config: Config, *, text_width: int, vision_width: int, backbone: nn.Module | None = None
) -> Method:
    """The configured method with fresh heads; set torch's seed first.

    Args:
        config: names the method and the sizes.
        text_width: D_b.
        vision_width: D_v.
        backbone: the text backbone where it is trained; each network gets its own copy.
    """
    cls = method_class(config.method)
    student = build_student(
        config.network, text_width=text_width, vision_width=vision_width, backbone=backbone
    )
    teacher = None
    if cls.needs_teacher(config):
        teacher = build_teacher(
            config.network, text_width=text_width, backbone=copy.deepcopy(backbone)
        )
    return cls(config, student, teacher)
