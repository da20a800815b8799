"""The registry of methods: built-in ones and plug-ins.

No method is imported before it is asked for by its name, so that names can be listed quickly and
a package that is broken harms its own methods alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from cl2cm.plugins import Registry

if TYPE_CHECKING:
    from cl2cm.methods.base import Method

METHODS = {
    "zero-shot": "zero_shot:ZeroShot",
    "translate-test": "translate_test:TranslateTest",
    "translate-train": "translate_train:TranslateTrain",
    "text-distill": "text_distill:TextDistill",
    "nrccr": "nrccr:Nrccr",
    "dcot": "dcot:Dcot",
    "cl2cm": "cl2cm:CL2CM",
    "supervised": "supervised:Supervised",
    "smoothing": "smoothing:Smoothing",
    "self-distill": "self_distill:SelfDistill",
    "add-language": "add_language:AddLanguage",
    "text-side": "text_side:NewTextSide",
}  # name -> module of this package, and class in it


def _flaw(found: object, name: str) -> str:
    return str(import_module("cl2cm.methods.protocol").flaw(found, name))  # torch, only for them


REGISTRY = Registry("method", "cl2cm.methods", "method", __package__, METHODS, _flaw)
method_names = REGISTRY.names
plug_ins = REGISTRY.plug_ins
warn_of_shadowed = REGISTRY.warn_of_shadowed


def method_class(name: str) -> "type[Method]":
    """Return the method of a name.

    Raises:
        ConfigError: there is none of that name, or its package is broken.
    """
    return cast("type[Method]", REGISTRY.load(name))
