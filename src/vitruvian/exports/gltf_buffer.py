"""The container of binary glTF 2.0: arrays packed into one buffer, JSON in front."""

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_COMPONENT = {"float32": 5126, "uint32": 5125, "uint16": 5123, "uint8": 5121}
_TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963


@dataclass
class GltfBuffer:
    """Arrays on their way into the binary chunk; each is named by the index of its accessor."""

    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def add(self, values: np.ndarray, *, target: int | None = None, bounds: bool = False) -> int:
        """Store an array of rows and return its accessor; `bounds` adds the minimum and maximum."""
        accessor = {"bufferView": self._view(values, target), **self._describe(values)}
        if bounds:
            rows = values.reshape(len(values), -1)
            accessor |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_sparse(self, values: np.ndarray, rows: np.ndarray) -> int:
        """Store only some rows of an array that is zero elsewhere."""
        low, high = (np.minimum(0, values.min(0)), np.maximum(0, values.max(0)))
        accessor = {**self._describe(values), "min": low.tolist(), "max": high.tolist()}
        if len(rows):
            kind = np.uint16 if len(values) <= 65535 else np.uint32
            index = rows.astype(kind)
            accessor["sparse"] = {
                "count": len(rows),
                "indices": {"bufferView": self._view(index, None), "componentType": _COMPONENT[index.dtype.name]},
                "values": {"bufferView": self._view(values[rows], None)},
            }
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def container(self, document: dict[str, Any]) -> bytes:
        """The bytes of a .glb file: `document` completed by the buffer, its views and accessors."""
        whole = {
            **document,
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.data)}],
        }
        text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self.data) + b"\0" * (-len(self.data) % 4)
        size = 12 + 8 + len(text) + 8 + len(binary)
        return (
            struct.pack("<4sII", b"glTF", 2, size)
            + struct.pack("<I4s", len(text), b"JSON")
            + text
            + struct.pack("<I4s", len(binary), b"BIN\0")
            + binary
        )

    def _describe(self, values: np.ndarray) -> dict[str, Any]:
        width = int(np.prod(values.shape[1:], dtype=int))
        return {"componentType": _COMPONENT[values.dtype.name], "count": len(values), "type": _TYPE[width]}

    def _view(self, values: np.ndarray, target: int | None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        raw = np.ascontiguousarray(values).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)}
        if target is not None:
            view["target"] = target
        self.data += raw
        self.views.append(view)
        return len(self.views) - 1
