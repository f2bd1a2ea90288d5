"""Pose-dependent correctives: the part of a body model that is linear in R − I, stored dense or sparse."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitruvian.tensors import TensorRecord, row_product


class _SparseProduct(torch.autograd.Function):
    """`matrix @ dense` for a constant sparse matrix; differentiable in `dense` to any order."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrices = (matrix, transposed)
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        matrix, transposed = ctx.matrices
        return _SparseProduct.apply(grads[0].contiguous(), transposed, matrix), None, None


@dataclass(frozen=True, eq=False)
class PoseCorrectives(TensorRecord):
    """Offsets of the vertices in the rest pose, B_P(θ) = Σ_n (R_n(θ) − R_n(0)) P_n (SMPL, eq. 9).

    Exactly one of the two forms is filled: `dense (V, 3, P)`, or `sparse` and its transpose, CSR matrices of
    `(3V, P)` and `(P, 3V)` for correctives that are local to their joints.
    """

    dense: Float[Tensor, "vertex 3 feature"] | None = None
    sparse: Tensor | None = None
    sparse_transposed: Tensor | None = None

    @staticmethod
    def from_dense(dirs: Float[Tensor, "vertex 3 feature"]) -> "PoseCorrectives":
        return PoseCorrectives(dense=dirs)

    @staticmethod
    def from_entries(
        rows: Int[Tensor, "entry"],
        columns: Int[Tensor, "entry"],
        values: Float[Tensor, "entry"],
        *,
        num_vertices: int,
        num_features: int,
    ) -> "PoseCorrectives":
        """Build from the non-zero entries of the `(3V, P)` matrix, each once; row 3v + k is axis k of vertex v."""
        key = rows * num_features + columns
        if not bool((key[1:] > key[:-1]).all()):
            order = key.argsort()
            rows, columns, values = rows[order], columns[order], values[order]
        # A stable sort by the column alone keeps the rows in order; on 16-bit keys it takes linear time.
        by_column = columns.to(torch.int16 if num_features < 2**15 else torch.int64).argsort(stable=True)
        return PoseCorrectives(
            sparse=_csr(rows, columns, values, (3 * num_vertices, num_features)),
            sparse_transposed=_csr(
                columns[by_column], rows[by_column], values[by_column], (num_features, 3 * num_vertices)
            ),
        )

    def offsets(self, features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch vertex 3"]:
        """Offsets in metres for pose features R − I (see `skinning.pose_features`)."""
        if self.dense is not None:
            flat = row_product(features, self.dense.flatten(0, 1).T)
        else:
            columns = features.reshape(-1, features.shape[-1]).T.contiguous()
            flat = _SparseProduct.apply(columns, self.sparse, self.sparse_transposed).T
        return flat.reshape(*features.shape[:-1], flat.shape[-1] // 3, 3)

    def rows(self, vertex_ids: Int[Tensor, "point"]) -> Float[Tensor, "point 3 feature"]:
        """Dense rows of a few vertices."""
        if self.dense is not None:
            return self.dense[vertex_ids]
        assert self.sparse is not None
        crow, column, values = self.sparse.crow_indices(), self.sparse.col_indices(), self.sparse.values()
        out = values.new_zeros(len(vertex_ids) * 3, self.sparse.shape[1])
        rows = (vertex_ids[:, None] * 3 + torch.arange(3, device=vertex_ids.device)).flatten()
        counts = crow[rows + 1] - crow[rows]
        target = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        first = torch.repeat_interleave(crow[rows] - (counts.cumsum(0) - counts), counts)
        source = first + torch.arange(len(target), device=rows.device)
        out[target, column[source]] = values[source]
        return out.view(len(vertex_ids), 3, -1)


def _csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """CSR matrix of entries that are sorted by row, then column, without the cost of a general conversion."""
    counts = torch.bincount(rows, minlength=shape[0])
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support is in beta|invariant checks)")
        return torch.sparse_csr_tensor(starts, columns, values, shape)
