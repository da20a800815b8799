"""A small world for tests: coloured shapes, captions in English and in two made-up languages."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 60),
    "blue": (30, 60, 220),
    "yellow": (230, 220, 40),
    "black": (10, 10, 10),
    "pink": (250, 140, 190),
}
SHAPES = ("circle", "square", "bar", "cross")
LANGUAGES = ("xx", "yy")
SIZE = 16
WIDTH = 3 * (SIZE // 4) ** 2


def word(text: str, language: str) -> str:
    """A word in a made-up language."""
    return text if language == "en" else text[::-1] + language


def caption(colour: str, shape: str, language: str = "en", number: int = 0) -> str:
    """A caption; number 1 says the same in other words."""
    words = [colour, shape] if number == 0 else ["one", shape, "that", "is", colour]
    return " ".join(word(w, language) for w in words)


def draw(colour: str, shape: str, seed: int) -> Image.Image:
    """A picture, a little different for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIZE, SIZE), "white")
    pen = ImageDraw.Draw(image)
    x, y = rng.integers(0, 4, 2)
    box = (x, y, x + 11, y + 11)
    fill = COLOURS[colour]
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "bar":
        pen.rectangle((box[0], y + 4, box[2], y + 7), fill=fill)
    else:
        pen.rectangle((box[0], y + 4, box[2], y + 7), fill=fill)
        pen.rectangle((x + 4, box[1], x + 7, box[3]), fill=fill)
    return image


def write_pictures(folder: Path, copies: int = 6) -> Path:
    """Pictures with a manifest: four copies of each thing train, one val, one test."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for copy in range(copies):
        split = "test" if copy == copies - 1 else "val" if copy == copies - 2 else "train"
        for i, (colour, shape) in enumerate((c, s) for c in COLOURS for s in SHAPES):
            name = f"{colour}-{shape}-{copy}"
            draw(colour, shape, seed=copy * 100 + i).save(folder / "images" / f"{name}.png")
            line = {
                "id": name,
                "image": f"images/{name}.png",
                "split": split,
                "captions": {"en": [caption(colour, shape, "en", n) for n in (0, 1)]},
            }
            if split == "train":
                line["translations"] = {
                    language: {"mt": [caption(colour, shape, language, 0), None]}
                    for language in LANGUAGES
                }
            line["captions"] |= {
                language: [caption(colour, shape, language, 0)] for language in LANGUAGES
            }
            lines.append(json.dumps(line))
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_vision(folder: Path) -> Path:
    """A vision backbone in ONNX: means of 4 x 4 patches, [N, WIDTH]."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["t"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Div", ["p", "scale"], ["s"]),
        helper.make_node("Flatten", ["s"], ["features"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "patches",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", WIDTH])],
        [numpy_helper.from_array(np.float32(255), "scale")],
    )
    opset = [helper.make_opsetid("", 17)]
    folder.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    (folder / "preprocess.json").write_text(
        json.dumps({"size": SIZE, "resize": SIZE, "resample": "bicubic"})
    )
    return folder


def write_text(folder: Path) -> Path:
    """A text backbone: a random BERT of two layers over the world's words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {"one", "that", "is", *COLOURS, *SHAPES}
    vocabulary = ["<pad>", "<unk>", "<s>", "</s>"]
    vocabulary += sorted(word(w, language) for w in words for language in ("en", *LANGUAGES))
    tokenizer = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
