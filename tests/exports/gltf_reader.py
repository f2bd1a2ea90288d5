"""A reader of binary glTF that poses skinned meshes, for comparison with what was written."""

import json
import struct

import numpy as np


class GltfReader:
    """The few parts of the glTF 2.0 specification that posing a skinned mesh needs, written from the specification."""

    def __init__(self, data: bytes) -> None:
        magic, version, size = struct.unpack_from("<4sII", data)
        assert (magic, version, size) == (b"glTF", 2, len(data))
        length, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        self.json = json.loads(data[20 : 20 + length])
        binary_length, kind = struct.unpack_from("<I4s", data, 20 + length)
        assert kind == b"BIN\0"
        self.binary = data[28 + length : 28 + length + binary_length]

    def view(self, index: int, kind: str, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
        view = self.json["bufferViews"][index]
        start = view.get("byteOffset", 0) + offset
        count = int(np.prod(shape))
        return np.frombuffer(self.binary, kind, count, start).reshape(shape)

    def accessor(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        kinds = {5126: "<f4", 5125: "<u4", 5123: "<u2", 5121: "u1"}
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        shape = (accessor["count"], width)
        values = np.zeros(shape, kinds[accessor["componentType"]])
        if "bufferView" in accessor:
            values = self.view(accessor["bufferView"], kinds[accessor["componentType"]], shape)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            indices = sparse["indices"]
            rows = self.view(indices["bufferView"], kinds[indices["componentType"]], (sparse["count"],))
            values[rows] = self.view(sparse["values"]["bufferView"], "<f4", (sparse["count"], width))
        return values

    def world(self) -> list[np.ndarray]:
        matrices: list[np.ndarray] = [np.eye(4)] * len(self.json["nodes"])

        def visit(index: int, above: np.ndarray) -> None:
            node = self.json["nodes"][index]
            matrices[index] = above @ _local(node)
            for child in node.get("children", []):
                visit(child, matrices[index])

        for root in self.json["scenes"][0]["nodes"]:
            visit(root, np.eye(4))
        return matrices

    def posed(self, node_index: int) -> np.ndarray:
        node = self.json["nodes"][node_index]
        mesh, skin = self.json["meshes"][node["mesh"]], self.json["skins"][node["skin"]]
        primitive = mesh["primitives"][0]
        points = self.accessor(primitive["attributes"]["POSITION"]).astype(float)
        for weight, target in zip(mesh.get("weights", []), primitive.get("targets", []), strict=True):
            points = points + weight * self.accessor(target["POSITION"])
        world = self.world()
        bind = self.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1).astype(float)
        joints = np.stack([world[j] for j in skin["joints"]]) @ bind
        result = np.zeros_like(points)
        homogeneous = np.concatenate((points, np.ones((len(points), 1))), axis=1)
        for k in range(2):
            if f"JOINTS_{k}" in primitive["attributes"]:
                rows = self.accessor(primitive["attributes"][f"JOINTS_{k}"])
                weights = self.accessor(primitive["attributes"][f"WEIGHTS_{k}"])
                blended = np.einsum("vi,viab->vab", weights, joints[rows])
                result += np.einsum("vab,vb->va", blended, homogeneous)[:, :3]
        return result

    def mesh_nodes(self) -> list[int]:
        return [i for i, node in enumerate(self.json["nodes"]) if "mesh" in node]


def _local(node: dict) -> np.ndarray:
    x, y, z, w = node.get("rotation", [0, 0, 0, 1])
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix
