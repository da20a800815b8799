"""Check that a plug-in method fulfils the protocol before training starts."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, get_args

from torch import nn

from cl2cm.errors import ConfigError
from cl2cm.methods.base import Method, Stage, Targets
from cl2cm.model.config import COMMON
from cl2cm.model.networks import TextNetwork
from cl2cm.model.values import unsupported


def flaw(found: object, name: str) -> str:
    """Return what keeps an object from being the method of a name; empty where nothing does."""
    if not isinstance(found, type) or not issubclass(found, Method):
        return f"{found!r}, which is no subclass of cl2cm.methods.base.Method"
    if found.name != name:
        return f"the name {found.name!r} in the class, {name!r} in the entry point"
    if found.targets not in get_args(Targets):
        return f"targets {found.targets!r}, not one of {', '.join(get_args(Targets))}"
    sections: object = found.sections
    if not isinstance(sections, Mapping):
        return f"sections {sections!r}, which is no mapping"
    for section, kind in sections.items():
        wrong = _flaw_of_section(section, kind)
        if wrong:
            return wrong
    try:
        inspect.signature(found).bind(None, **dict.fromkeys(found.sections))
    except TypeError as error:
        return f"an __init__ that does not take the setup and its sections ({error})"
    return ""


def _flaw_of_section(section: object, kind: Any) -> str:  # noqa: ANN401 - whatever stands there
    if not isinstance(section, str) or not section.isidentifier():
        return f"a section {section!r}, which is no identifier"
    if section in ("method", *COMMON):
        return f"a section {section!r}, which every run has"
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return f"{kind!r} for the section {section!r}, which is no dataclass"
    try:
        wrong = unsupported(kind)
    except (NameError, TypeError) as error:  # a type that is known in no module
        wrong = str(error)
    return f"a section {section!r} with {wrong}" if wrong else ""


def check_stages(method: Method) -> None:
    """Refuse stages that the loop cannot train.

    Raises:
        ConfigError: there is none, two have one name, or what one trains is not part of the method.
    """
    stages = method.all_stages()
    names = [stage.name for stage in stages]
    if not stages or len(set(names)) < len(names):
        raise _refusal(method, "stages with names of their own", f"{names}")
    for stage in stages:
        found = _flaw_of_stage(stage, list(method.children()))
        if found:
            raise _refusal(method, f"a stage {stage.name!r} that can be trained", found)


def _flaw_of_stage(stage: Stage, parts: list[nn.Module]) -> str:
    if stage.epochs < 1:
        return f"{stage.epochs} epochs"
    if not stage.trained or not isinstance(stage.trained[0], TextNetwork):
        return "no cross-modal or cross-lingual network as the first of those trained"
    if any(network not in parts for network in stage.trained):
        return "a trained network that is no attribute of the method"
    return ""


def _refusal(method: Method, expected: str, found: str) -> ConfigError:
    return ConfigError(
        f"method {method.name!r}", expected=expected, found=found, remedy="correct its stages()"
    )
