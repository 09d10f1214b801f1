"""The network's weights and labels, from the files that the PyPI package ``magika`` carries.

The package itself isn't imported: it would bring a runtime of its own. The weights are read with
the package ``onnx``; their names in the file are those that its exporter made.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from filetypes import FileTypesError

__all__ = ["SHA256", "Array", "Model", "model_directory", "read_model"]

Array = np.ndarray[Any, np.dtype[np.float32]]

SHA256 = "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"

_ROOT = "jax2tf_get_logits_/"
_LAYERS = f"{_ROOT}pjit_get_logits_/MagikaV2/"
_NAMES = {
    "embedding": f"{_ROOT}Const:0",
    "embedding_bias": f"{_LAYERS}Dense_0/Reshape:0",
    "first_scale": f"{_LAYERS}LayerNorm_0/Reshape_2:0",
    "first_offset": f"{_LAYERS}LayerNorm_0/Reshape_3:0",
    "filters": f"{_LAYERS}Conv_0/transpose_3:0",
    "filters_bias": "const_fold_opt__209",
    "second_scale": f"{_LAYERS}LayerNorm_1/Reshape_2:0",
    "second_offset": f"{_LAYERS}LayerNorm_1/Reshape_3:0",
    "classes": f"{_ROOT}Const_24:0",
    "classes_bias": f"{_LAYERS}Dense_1/Reshape:0",
}


@dataclass(frozen=True)
class Model:
    """What the package's files say.

    Attributes:
        weights: float32 arrays, by the names of `_NAMES`.
        labels: the file types, in the order of the network's outputs.
    """

    weights: dict[str, Array]
    labels: tuple[str, ...]


def model_directory() -> Path:
    """The directory of the model in the installed package.

    Raises:
        FileTypesError: the package isn't installed, or is of a version with another model.
    """
    found = importlib.util.find_spec("magika")
    if found is None or found.origin is None:
        raise FileTypesError("the package magika is missing: pip install 'mace-cache[file-types]'")
    directory = Path(found.origin).parent / "models" / "standard_v3_3"
    if not directory.is_dir():
        raise FileTypesError(f"{directory} is missing: pip install 'magika==1.0.3' brings it")
    return directory


def read_model(directory: Path) -> Model:
    """Read the weights and labels.

    Args:
        directory: where ``model.onnx`` and ``config.min.json`` are.

    Raises:
        FileTypesError: a file can't be read, or isn't this model.
    """
    path = directory / "model.onnx"
    try:
        data = path.read_bytes()
        labels = json.loads((directory / "config.min.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FileTypesError(f"{directory}: the model can't be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise FileTypesError(f"{path} isn't the model that this example knows")
    arrays = {
        initializer.name: onnx.numpy_helper.to_array(initializer)
        for initializer in onnx.load_from_string(data).graph.initializer
    }
    weights = {ours: arrays[theirs].astype(np.float32) for ours, theirs in _NAMES.items()}
    return Model(weights, tuple(labels["target_labels_space"]))
