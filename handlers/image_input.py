"""One instance of a request -> the pixels that a network of images takes: what tasks on one image have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from handlers import image, payload
from handlers.errors import SpecError
from handlers.loaders import LOADERS, Loader
from handlers.spec import HandlerSpec


@dataclass(frozen=True, slots=True)
class ImageInput:
    """`side` is that of the network's square input, in pixels."""

    side: int
    limits: image.Limits
    load: Loader = image.load

    def pixels(self, instance: payload.Instance) -> image.Pixels:
        """An image file, or `{"data": "<base64>"}` -> (side, side, 3), uint8 RGB. Raises RequestError."""
        data = instance if isinstance(instance, bytes) else payload.binary(instance)
        return self.load(data, self.side, self.limits)


def read_input(spec: HandlerSpec, *outputs: str) -> ImageInput:
    """The input of a network that puts out `outputs` alone. Raises SpecError where the spec's network has another."""
    network = spec.network
    if network is None:
        raise SpecError(f"{spec.task} needs a handler.network")
    if len(network.input_shape) != 3 or network.input_shape[0] != network.input_shape[1] or network.input_shape[2] != 3:
        raise SpecError(f"{spec.task} needs handler.network.input_shape [side, side, 3]")
    if network.input_type != "uint8" or network.outputs != outputs:
        raise SpecError(f"{spec.task} needs a network from uint8 pixels to {' and '.join(map(repr, outputs))}")
    if spec.preprocessing not in LOADERS:
        raise SpecError(f"handler.preprocessing must be one of {', '.join(LOADERS)}, not {spec.preprocessing!r}")
    image.use_one_thread()
    return ImageInput(network.input_shape[0], image.Limits(**asdict(spec.limits)), LOADERS[spec.preprocessing])
