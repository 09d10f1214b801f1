"""The network, layer by layer, through the operators of mace-cache.

Bytes become vectors, which pairs of neighbours share with GELU between them; a convolution along
the file looks at five at a time; what is strongest anywhere decides.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from filetypes.features import FEATURES
from mace_cache import operators

if TYPE_CHECKING:
    from filetypes.features import Features
    from filetypes.model import Array, Model
    from mace_cache.operators import Runtime, Tensor

__all__ = ["Network"]

_EPSILON = 1e-6
_POSITIONS = 512  # the 2048 vectors of a file are read as 512, each four of them long


class Network:
    """The model's weights on the device, ready to run.

    Args:
        runtime: where it runs, and through which cache its programs come.
        model: what runs.
    """

    def __init__(self, runtime: Runtime, model: Model) -> None:
        self.runtime = runtime
        weights = dict(model.weights)
        # From ONNX's (outputs, inputs, height, width) to (outputs, height, width, inputs).
        weights["filters"] = weights["filters"].transpose(0, 2, 3, 1)
        for name in ("embedding_bias", "filters_bias", "classes_bias"):
            weights[name] = weights[name].ravel()
        self._weights = {name: runtime.to_device(value) for name, value in weights.items()}

    def run(self, features: Features) -> Array:
        """Tell how likely each file type is.

        Args:
            features: int32 of shape (files, 2048), as `extract_features` gives them.

        Returns:
            float32 of shape (files, types); each row adds up to 1.
        """
        runtime, weights = self.runtime, self._weights
        files = len(features)
        indices = runtime.to_device(features.reshape(files * FEATURES))
        x = operators.gather(runtime, weights["embedding"], indices)
        x = gelu(runtime, operators.bias_add(runtime, x, weights["embedding_bias"]))
        x = operators.reshape(x, (files, _POSITIONS, -1))
        x = self._normalise(x, "first")
        x = operators.reshape(x, (files, _POSITIONS, 1, -1))
        x = operators.convolution(
            runtime, x, weights["filters"], weights["filters_bias"], padding="VALID"
        )
        x = operators.global_max_pool(runtime, gelu(runtime, x))
        x = self._normalise(operators.reshape(x, (files, -1)), "second")
        x = operators.matrix_product(runtime, x, weights["classes"], bias=weights["classes_bias"])
        answers: Array = runtime.to_host(operators.softmax(runtime, x))
        return answers

    def _normalise(self, x: Tensor, name: str) -> Tensor:
        """Normalise along axis 1, with a scale and an offset for each place on that axis."""
        runtime = self.runtime
        x = operators.mean_variance_norm(runtime, x, axes=(1,), epsilon=_EPSILON)
        scaled = operators.multiply(runtime, x, self._weights[f"{name}_scale"])
        return operators.add(runtime, scaled, self._weights[f"{name}_offset"])


def gelu(runtime: Runtime, x: Tensor) -> Tensor:
    """The Gaussian error linear unit by its approximation with tanh: ONNX's Gelu, ``tanh``."""
    cubes = operators.multiply(runtime, operators.power(runtime, x, 3.0), 0.044715)
    inner = operators.multiply(runtime, operators.add(runtime, x, cubes), math.sqrt(2 / math.pi))
    gate = operators.add(runtime, operators.activate(runtime, inner, "tanh"), 1.0)
    return operators.multiply(runtime, operators.multiply(runtime, x, 0.5), gate)
