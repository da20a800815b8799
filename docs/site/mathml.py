"""Equations as MathML, made when the site is built: a page needs no script and no font for them."""

import html
import re
from typing import TYPE_CHECKING, Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

if TYPE_CHECKING:
    from docutils.nodes import math, math_block
    from sphinx.application import Sphinx

TAG = re.compile(r"\\tag\{([^}]*)\}")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(translator: Any, node: "math") -> None:
    """Write a formula within a sentence."""
    translator.body.append(convert(node.astext()))
    raise SkipNode


def block(translator: Any, node: "math_block") -> None:
    r"""Write a formula of its own, with the number that its ``\tag`` gives."""
    tex = node.astext()
    number = TAG.search(tex)
    formula = convert(TAG.sub("", tex).strip(), display="block")
    shown, anchor = "", ""
    if number:
        text = html.escape(number[1])
        shown = f'<span class="number">({text})</span>'
        anchor = f' id="eq-{text}"'
    translator.body.append(f'<div class="equation"{anchor}>{shown}{formula}</div>\n')
    raise SkipNode
