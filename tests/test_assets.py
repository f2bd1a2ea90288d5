"""Safe reading: honest arrays of every age come back, and nothing that could run is ever run."""

import copyreg
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bodies.random_models import fake_classes, instance
from vitruvian.assets import added_files, file_digest, find_added, home, read_arrays, read_pickle, register
from vitruvian.errors import ModelFileError, OutputError, UnsafeFileError, VitruvianError

ARRAYS = {
    "floats": np.arange(6.0).reshape(2, 3),
    "by column": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "slice": np.arange(20)[::3],
    "big endian": np.arange(4, dtype=">u4"),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 3)),
    "scalar array": np.array(2.5),
    "complex": np.array([1 + 2j]),
    "text": np.array(["a", "bc"]),
    "bytes": np.array([b"xy"]),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_from_every_protocol(name: str, protocol: int) -> None:
    entries = read_pickle(pickle.dumps({"a": ARRAYS[name], "n": np.float32(1.5), "k": np.int64(-3)}, protocol=protocol))
    np.testing.assert_array_equal(entries["a"], ARRAYS[name])
    assert entries["a"].dtype == ARRAYS[name].dtype
    assert (entries["n"], entries["k"]) == (1.5, -3)


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_plain_values_come_back(protocol: int) -> None:
    value = {"list": [1, (2.5, None), {"x": b"\xff\x00"}], "text": "ü", "flag": True, "set": {1, 2}, "big": 2**70}
    read = read_pickle(pickle.dumps({**value, "ordered": OrderedDict(a=1, b=[2])}, protocol=protocol))
    assert {key: read[key] for key in value if key != "set"} == {k: v for k, v in value.items() if k != "set"}
    assert set(read["set"]) == {1, 2}
    assert read["ordered"] == {"a": 1, "b": [2]}


def test_object_arrays_of_numbers_become_numbers_and_others_stay() -> None:
    rows = np.empty(3, dtype=object)
    rows[:] = [np.arange(2), np.arange(2, 4), np.arange(4, 6)]
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.arange(2), np.arange(3)]
    entries = read_pickle(pickle.dumps({"rows": rows, "ragged": ragged, "names": np.array({"a": 0}, dtype=object)}))
    np.testing.assert_array_equal(entries["rows"], np.arange(6).reshape(3, 2))
    assert entries["ragged"].dtype == object
    assert entries["names"].item() == {"a": 0}


def test_pickle_written_by_python_2_is_read() -> None:
    # {'v': numpy.array([1., -2.]), 'name': 'caf\xe9'} of Python 2 and NumPy 1.9, protocol 2: its strings are bytes.
    raw = np.array([1.0, -2.0]).tobytes()
    pickled = (
        b"\x80\x02}q\x01(U\x01vcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x10" + raw + b"tbU\x04nameU\x04caf\xe9u."
    )
    entries = read_pickle(pickled)
    np.testing.assert_array_equal(entries["v"], [1.0, -2.0])
    assert entries["name"] == "café"
    # The same array in protocol 0, where data are printed with escapes.
    printed = "".join(f"\\x{byte:02x}" for byte in raw).encode()
    pickled = (
        b"(dp0\nS'v'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
        b"(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'" + printed + b"'\ntbs."
    )
    np.testing.assert_array_equal(read_pickle(pickled)["v"], [1.0, -2.0])


@pytest.mark.parametrize("protocol", range(5))
def test_chumpy_arrays_are_read_without_chumpy(protocol: int) -> None:
    values = np.arange(12.0).reshape(4, 3)
    with fake_classes({"chumpy.ch": ("Ch", "MatVecMult"), "chumpy.reordering": ("Select",)}) as made:
        plain = instance(made["chumpy.ch.Ch"], {"x": values, "_dirty_vars": set(), "_itr": None, "_status": "new"})
        chosen = instance(
            made["chumpy.reordering.Select"],
            {"a": plain, "idxs": np.array([5, 0, 1, 2]), "preferred_shape": (2, 2), "_dirty_vars": {"a"}},
        )
        product = instance(made["chumpy.ch.MatVecMult"], {"mtx": values, "vec": plain})
        pickled = pickle.dumps({"x": plain, "chosen": chosen, "J": product}, protocol=protocol)
    entries = read_pickle(pickled, name="hand.pkl")
    np.testing.assert_array_equal(entries["x"], values)
    np.testing.assert_array_equal(entries["chosen"], [[5, 0], [1, 2]])
    with pytest.raises(ModelFileError, match=r"hand.pkl: the entry 'J' cannot be rebuilt.*mtx.*vec"):
        entries["J"]


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("form", ["csc", "csr", "coo"])
@pytest.mark.parametrize("module", ["scipy.sparse.{}", "scipy.sparse._{}"])
def test_sparse_matrices_are_read_without_scipy(form: str, module: str, protocol: int) -> None:
    dense = np.zeros((3, 4))
    dense[0, 1], dense[2, 0], dense[2, 3] = 1.5, -2, 7
    rows, columns = dense.nonzero()
    if form == "coo":
        # The entry (2, 3) comes twice: coordinate matrices add.
        state: dict[str, Any] = {"row": np.r_[rows, 2], "col": np.r_[columns, 3], "data": np.r_[1.5, -2, 4, 3]}
    else:
        major, minor, order = (rows, columns, np.lexsort((columns, rows)))
        if form == "csc":
            major, minor, order = columns, rows, np.lexsort((rows, columns))
        size = dense.shape[1] if form == "csc" else dense.shape[0]
        counts = np.bincount(major, minlength=size)
        state = {
            "indices": minor[order].astype(np.int32),
            "indptr": np.r_[0, counts.cumsum()].astype(np.int32),
            "data": dense[rows, columns][order],
        }
    state |= {"_shape": dense.shape, "maxprint": 50}
    place = module.format(form)
    with fake_classes({place: (f"{form}_matrix",)}) as made:
        pickled = pickle.dumps({"J": instance(made[f"{place}.{form}_matrix"], state)}, protocol=protocol)
    np.testing.assert_array_equal(read_pickle(pickled)["J"], dense)


def test_sparse_matrices_of_the_installed_scipy_are_read() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.random.default_rng(0).random((5, 8)).round()
    for form in (sparse.csc_matrix, sparse.csr_matrix, sparse.coo_matrix, sparse.csc_array, sparse.coo_array):
        np.testing.assert_array_equal(read_pickle(pickle.dumps({"J": form(dense)}, protocol=2))["J"], dense)


class Attack:
    """Reduces to a call, as a malicious pickle does."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def _touch(path: Path) -> list[tuple[str, Any]]:
    """Pickled objects that would create `path` if they ran, and what of them must be named."""
    code = f"open({str(path)!r}, 'w').close()"
    loader = np.load
    return [
        ("posix.system", Attack(os.system, f"touch {path}")),
        ("builtins.eval", Attack(eval, code)),
        ("builtins.exec", Attack(exec, code)),
        ("builtins.getattr", Attack(getattr, {}, "get")),
        ("builtins.open", Attack(open, str(path), "w")),
        ("builtins.__import__", Attack(__import__, "os")),
        ("numpy.save", Attack(np.save, str(path), np.zeros(1))),
        ("load", Attack(loader, str(path))),
        ("fromfile", Attack(np.fromfile, str(path))),
        ("runstring", Attack(_runstring(), code, {})),
        ("pathlib", Path(path)),
    ]


def _runstring() -> Any:
    """`numpy.testing` holds a function that executes text; where it is gone, compile is as bad."""
    from numpy.testing import _private

    return getattr(_private.utils, "runstring", compile)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("case", range(11))
def test_code_is_refused_by_name_and_not_run(tmp_path: Path, case: int, protocol: int) -> None:
    target = tmp_path / "touched"
    name, attack = _touch(target)[case]
    seen = {"posix.system": "system", "builtins.open": "open"}.get(name, name.removeprefix("builtins."))
    for content in (attack, {"v": attack}, {"v": [np.zeros(2), (attack,)]}, np.array([attack], dtype=object)):
        pickled = pickle.dumps(content, protocol=protocol)
        with pytest.raises(UnsafeFileError, match=seen if name != "runstring" else "refused|executed"):
            read_pickle(pickled, name="model.pkl")
    assert not target.exists()


HAND_WRITTEN = {
    "inst": b"(S'touch /nonexistent/x'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'true'\no.",
    "global and reduce": b"cos\nsystem\n(S'true'\ntR.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
    "attribute of an allowed module": b"cnumpy\nload\n(S'x'\ntR.",
    "module of chumpy itself": b"cchumpy.ch\nos\n(S'true'\ntR.",
    "chumpy, dotted": b"\x80\x04\x8c\x09chumpy.ch\x8c\x09Ch.system\x93.",
    "sub-module that is not listed": b"cchumpy.utils\nCh\n.",
    "persistent id": b"Pidentity\n.",
    "binary persistent id": b"K\x01Q.",
    "extension": b"\x80\x02\x82\xf0.",
    "reconstructor of a foreign class": b"ccopy_reg\n_reconstructor\n(c__builtin__\ndict\nc__builtin__\nobject\nNtR.",
    "reconstructor of a value": b"ccopy_reg\n_reconstructor\n(S'abc'\nc__builtin__\nobject\nNtR.",
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_pickles_are_refused(name: str) -> None:
    with pytest.raises(UnsafeFileError):
        read_pickle(HAND_WRITTEN[name])


def test_extension_codes_of_the_running_program_are_out_of_reach() -> None:
    ran = []
    called = type("Called", (), {"__module__": __name__, "__new__": lambda cls, *args: ran.append(args)})
    globals()["Called"] = called
    copyreg.add_extension(__name__, "Called", 0xF1)
    try:
        pickle.loads(b"\x80\x02\x82\xf1.")  # the running program has it in its cache now
        with pytest.raises(UnsafeFileError, match="extension code 241"):
            read_pickle(b"\x80\x02\x82\xf1(U\x01xtR.")
    finally:
        copyreg.remove_extension(__name__, "Called", 0xF1)
        del globals()["Called"]
    assert not ran


DAMAGED = {
    "an attribute set on a class of the reader": b"cnumpy\nndarray\n}(S'__setstate__'\nI1\nub.",
    "an attribute set on a class by slots": b"cnumpy\ndtype\nN}(S'x'\nI1\nu\x86b.",
    "appending to an array": b"(cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntRI1\na.",
    "a value called": b"S'abc'\n(I1\ntR.",
    "no stop": b"\x80\x02}q\x00",
    "text": b"hello, this is no pickle",
    "a length beyond the end": b"\x80\x04\x8e\xff\xff\xff\xff\x00\x00\x00\x00abc.",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_pickles_are_named_as_such(name: str) -> None:
    with pytest.raises(ModelFileError, match=r"body.pkl"):
        read_pickle(DAMAGED[name], name="body.pkl")


def array_pickle(shape: tuple[int, ...], code: str, raw: Any) -> bytes:
    """A pickle of an array whose shape, type and data need not fit."""
    honest = pickle.dumps({"v": np.zeros(1)}, protocol=2)
    assert b"f8" in honest
    with fake_classes({"numpy_fake": ("ndarray", "dtype")}) as made:
        dtype = Attack(made["numpy_fake.dtype"], code, False, True)
        array = Attack(made["numpy_fake.ndarray"], 0)
        array.call = (*array.call, (1, shape, dtype, False, raw))  # type: ignore[assignment]
        return pickle.dumps({"v": array}, protocol=2).replace(b"numpy_fake", b"numpy")


@pytest.mark.parametrize(
    ("shape", "code", "raw"),
    [
        ((4,), "f8", b"\0" * 31),
        ((2**40,), "f8", b"\0" * 8),
        ((-1,), "f8", b""),
        ((-2, -2), "f8", b"\0" * 32),
        ((1,), "M8[s]", b"\0" * 8),
        ((1,), "V8", b"\0" * 8),
        ((1,), "f8,f8", b"\0" * 16),
        ((2,), "O", [1]),
        ((1,), "O", b"\0" * 8),
        ((1,), "f8", [1.0]),
        (("a",), "f8", b"\0" * 8),
    ],
)
def test_arrays_whose_data_do_not_fit_are_refused(shape: tuple[int, ...], code: str, raw: Any) -> None:
    np.testing.assert_array_equal(read_pickle(array_pickle((1,), "f8", b"\0" * 8))["v"], [0.0])
    entries = read_pickle(array_pickle(shape, code, raw), name="body.pkl")
    with pytest.raises(ModelFileError, match=r"body.pkl: the entry 'v' cannot be rebuilt"):
        entries["v"]


@pytest.mark.parametrize(
    "change",
    [
        {"indices": np.array([0, 9])},
        {"indices": np.array([0, -1])},
        {"indptr": np.array([0, 1])},
        {"indptr": np.array([0, 2, 1])},
        {"data": np.ones(3)},
        {"_shape": (2**20, 2**20)},
        {"_shape": (-1, 2)},
        {"indptr": None},
    ],
)
def test_sparse_matrices_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    state = {"_shape": (3, 2), "indices": np.array([0, 2]), "indptr": np.array([0, 1, 2]), "data": np.ones(2)} | change
    state = {key: value for key, value in state.items() if value is not None}
    with fake_classes({"scipy.sparse.csc": ("csc_matrix",)}) as made:
        pickled = pickle.dumps({"J": instance(made["scipy.sparse.csc.csc_matrix"], state)}, protocol=2)
    with pytest.raises(ModelFileError, match="'J' cannot be rebuilt"):
        read_pickle(pickled)["J"]


def test_npz_files_are_read_with_object_arrays_inside(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez_compressed(path, v=ARRAYS["by column"], names=np.array({"pelvis": 0}, dtype=object), n=np.array(3))
    entries = read_arrays(path)
    np.testing.assert_array_equal(entries["v"], ARRAYS["by column"])
    assert entries["names"].item() == {"pelvis": 0}
    assert entries["n"] == 3
    assert sorted(entries) == ["n", "names", "v"]
    assert len(entries) == 3
    assert "w" not in entries


def test_npz_files_with_code_inside_are_refused(tmp_path: Path) -> None:
    target, path = tmp_path / "touched", tmp_path / "model.npz"
    np.savez(path, v=np.zeros(3), bad=np.array([Attack(os.system, f"touch {target}")], dtype=object))
    entries = read_arrays(path)
    np.testing.assert_array_equal(entries["v"], np.zeros(3))
    with pytest.raises(UnsafeFileError, match=r"model.npz: 'bad' .*system"):
        entries["bad"]
    assert not target.exists()


def test_truncated_files_say_so(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, v=np.arange(1000.0))
    whole = path.read_bytes()
    for size in (4, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match="truncated or damaged"):
            read_arrays(path)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="is empty"):
        read_arrays(path)
    pickled = pickle.dumps({"v": np.arange(1000.0)}, protocol=2)
    for size in (1, len(pickled) // 2, len(pickled) - 1):
        path.write_bytes(pickled[:size])
        with pytest.raises(ModelFileError, match="no readable pickle"):
            read_arrays(path)["v"]
    with pytest.raises(ModelFileError, match=r"cannot read .*absent"):
        read_arrays(tmp_path / "absent.npz")
    with pytest.raises(ModelFileError, match="cannot read"):
        read_arrays(tmp_path)


def test_arrays_shorter_than_their_headers_are_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(100.0))
    path = tmp_path / "model.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("v.npy", buffer.getvalue()[:-16])
        archive.writestr("w.npy", b"not an array at all")
    with pytest.raises(ModelFileError, match=r"'v' is truncated.*784 bytes.*expected: 800 bytes"):
        read_arrays(path)["v"]
    with pytest.raises(ModelFileError, match="'w' is no array"):
        read_arrays(path)["w"]


def test_bits_that_flip_never_end_in_a_foreign_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "model"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, v=np.arange(50.0), names=np.array({"a": 0}, dtype=object))
    with fake_classes({"chumpy.ch": ("Ch",)}) as made:
        content = {
            "v": np.arange(9.0),
            "c": instance(made["chumpy.ch.Ch"], {"x": np.ones(3)}),
            "s": "text",
            "l": [1, 2],
        }
        pickled = [pickle.dumps(content, protocol=protocol) for protocol in (0, 2, 4)]
    for whole in (buffer.getvalue(), *pickled):
        for _ in range(80):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data)
            try:
                entries = read_arrays(path)
                for key in entries:
                    entries[key]
            except VitruvianError:
                pass


def test_npy_files_with_a_dictionary_are_read_and_bare_arrays_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "embedding.npy", np.array({"lmk": [np.arange(3)] * 2}, dtype=object))  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.array(read_arrays(tmp_path / "embedding.npy")["lmk"]), [[0, 1, 2]] * 2)
    np.save(tmp_path / "bare.npy", np.zeros(3))
    with pytest.raises(ModelFileError, match="no named arrays"):
        read_arrays(tmp_path / "bare.npy")


def test_registry_keeps_a_copy_and_forgets_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRUVIAN_HOME", str(tmp_path / "home"))
    assert home() == tmp_path / "home"
    assert added_files() == ()
    file = tmp_path / "SMPLX_FEMALE.npz"
    file.write_bytes(b"first")
    register(file, family="smplx", variant="female")
    register(file, family="smplx", variant="male")
    file.write_bytes(b"second")
    entry = register(file, family="smplx", variant="female")
    file.unlink()
    assert entry.path.read_bytes() == b"second"
    assert entry.digest == file_digest(entry.path)
    assert find_added("smplx", "female") == entry
    assert find_added("smplx", "neutral") is None
    assert len(added_files()) == 2
    assert register(entry.path, family="smplx", variant="female") == entry
    assert sorted(path.name for path in entry.path.parent.iterdir()) == [
        "bodies.json", "smplx_female.npz", "smplx_male.npz",
    ]  # fmt: skip
    (home() / "bodies" / "bodies.json").write_text("[{]")
    with pytest.raises(ModelFileError, match=r"registry of body models .* is damaged"):
        added_files()


def test_registry_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("VITRUVIAN_HOME", str(blocked))
    with pytest.raises(OutputError, match="VITRUVIAN_HOME"):
        register(blocked, family="smpl", variant="neutral")
    with pytest.raises(ModelFileError, match="cannot read"):
        register(tmp_path / "absent", family="smpl", variant="neutral")
