"""Build a method from a configuration: its class, new networks and settings."""

import copy
from typing import Protocol

from torch import nn

from cl2cm.methods.base import Method, Setup
from cl2cm.methods.protocol import check_stages
from cl2cm.methods.registry import method_class
from cl2cm.methods.settings import settings_of, warm_start_of
from cl2cm.model.config import Config
from cl2cm.model.networks import CrossLingualNetwork, TextNetwork, build_student, build_teacher


class InitialWeights(Protocol):
    """The weights that a training starts from."""

    def load_student(self, student: TextNetwork) -> None:
        """Load the student's."""
        ...

    def load_teacher(self, teacher: TextNetwork) -> None:
        """Load the teacher's, where there are any."""
        ...


def build_method(
    config: Config,
    *,
    text_width: int,
    vision_width: int,
    backbone: nn.Module | None = None,
    initial: InitialWeights | None = None,
) -> Method:
    """Return the configured method with fresh heads; set torch's seed first.

    Args:
        config: names the method, its settings and the sizes.
        text_width: D_b.
        vision_width: D_v.
        backbone: the text backbone where it is trained; each network gets its own copy.
        initial: loads the weights that the networks start from; None: they stay fresh.

    Raises:
        ConfigError: an unknown method, or settings that contradict each other.
    """
    cls = method_class(config.method)

    def new_teacher() -> CrossLingualNetwork:
        own = copy.deepcopy(backbone)
        teacher = build_teacher(config.network, text_width=text_width, backbone=own)
        if initial is not None:
            initial.load_teacher(teacher)
        return teacher

    student = build_student(
        config.network, text_width=text_width, vision_width=vision_width, backbone=backbone
    )
    if initial is not None:
        initial.load_student(student)
    setup = Setup(
        student=student,
        new_teacher=new_teacher,
        match=config.match,
        network=config.network,
        epochs=config.train.epochs,
        initialised=initial is not None,
        warm_start=warm_start_of(config),
    )
    method = cls(setup, **settings_of(config))
    check_stages(method)
    return method
