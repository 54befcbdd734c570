"""What a detector for any rig takes of one that has weights for each camera."""

from collections.abc import Mapping

from torch import Tensor

_WEIGHTS, _OF_ANY_RIG = "cross_attention.attention_weights.", "cross_attention.scale_encoder."


def with_shared_cameras(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in which those of DETR3D's cameras are their mean, where the model to fill shares them.

    Args:
        weights: of another model, by the names of this version.
        own: of the model to fill.
    """
    shared = dict(weights)
    for name, tensor in weights.items():
        layer, found, _ = name.partition(_WEIGHTS)
        if found and name in own and any(key.startswith(layer + _OF_ANY_RIG) for key in own):
            levels = len(own[name])
            if len(tensor) % levels == 0:
                shared[name] = tensor.unflatten(0, (-1, levels)).mean(0)
    return shared
