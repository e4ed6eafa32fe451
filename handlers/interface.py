"""What an archive has recorded of its model at export: task, labels, and the network's inputs and outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handlers.errors import SpecError
from handlers.network import Network
from handlers.spec import HandlerSpec

METADATA, SECTION = "metadata.json", "interface"


def describe(spec: HandlerSpec, network: Network | None) -> dict[str, Any]:
    """Ready for JSON."""
    inputs, outputs = network.signature if network else ([], [])
    return {"task": spec.task, "labels": list(spec.labels), "inputs": inputs, "outputs": outputs}


def check(folder: Path, spec: HandlerSpec, network: Network | None) -> None:
    """Raises SpecError where the model is not the recorded one; archives of before have no record."""
    try:
        recorded = json.loads((folder / METADATA).read_bytes()).get(SECTION)
    except FileNotFoundError:
        return
    except (ValueError, AttributeError) as error:
        raise SpecError(f"{METADATA} is not readable: {error}") from None
    if recorded is None:
        return
    found = describe(spec, network)
    if not isinstance(recorded, dict) or recorded.keys() != found.keys():
        raise SpecError(f"{METADATA}: {SECTION} must have {', '.join(found)}")
    for name, value in found.items():
        if value != recorded[name]:
            raise SpecError(
                f"this is not the model that was exported: {name} {json.dumps(value)}, "
                f"{METADATA} has {json.dumps(recorded[name])}"
            )
