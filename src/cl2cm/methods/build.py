"""A method from a configuration: its class, fresh networks and its settings."""

import copy

from torch import nn

from cl2cm.methods.base import Method, Setup
from cl2cm.methods.protocol import check_stages
from cl2cm.methods.registry import method_class
from cl2cm.methods.settings import settings_of
from cl2cm.model.config import Config
from cl2cm.model.networks import CrossLingualNetwork, build_student, build_teacher


def build_method(
    config: Config, *, text_width: int, vision_width: int, backbone: nn.Module | None = None
) -> Method:
    """The configured method with fresh heads; set torch's seed first.

    Args:
        config: names the method, its settings and the sizes.
        text_width: D_b.
        vision_width: D_v.
        backbone: the text backbone where it is trained; each network gets its own copy.

    Raises:
        ConfigError: an unknown method, or settings that contradict each other.
    """
    cls = method_class(config.method)

    def new_teacher() -> CrossLingualNetwork:
        own = copy.deepcopy(backbone)
        return build_teacher(config.network, text_width=text_width, backbone=own)

    setup = Setup(
        student=build_student(
            config.network, text_width=text_width, vision_width=vision_width, backbone=backbone
        ),
        new_teacher=new_teacher,
        match=config.match,
        network=config.network,
        epochs=config.train.epochs,
    )
    method = cls(setup, **settings_of(config))
    check_stages(method)
    return method
