"""The reader of torch files: what it reads, what it refuses, and that it never runs anything."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from gadgets import REAL, make_gadgets
from handmade import (
    CONFIG_CLASS,
    Raw,
    assemble,
    call,
    instance,
    make_config,
    make_content,
    make_pickle,
    make_tensors,
    tensor,
    write_legacy,
    write_zip,
)

from convert.checkpoint import KNOWN_GLOBALS, read_checkpoint


def read_one(path: Path, array: np.ndarray, placed: Raw) -> np.ndarray:
    """One tensor through a whole file."""
    content = {"model_state_dict": {"w": placed}, "config": {}}
    return read_checkpoint(write_zip(path, content, [array])).tensors["w"]


# --- what it reads -------------------------------------------------------------------------------------

@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_reads_config_and_tensors(tmp_path, write):
    config, tensors = make_config(), make_tensors(make_config())
    content, storages = make_content(config, tensors, legacy=write is write_legacy)
    checkpoint = read_checkpoint(write(tmp_path / "a.pt", content, storages))
    assert checkpoint.config == config
    assert (checkpoint.epoch, checkpoint.best_val_loss) == (3, 1.25)
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], array)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_reads_every_float(tmp_path, dtype):
    array = np.array([[1.5, -2.25, 0.0], [3.0, 1e-4, 60000.0]], dtype=dtype)
    found = read_one(tmp_path / "a.pt", array, tensor("0", array))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array.astype(np.float32))


def test_reads_bfloat16(tmp_path):
    values = np.array([1.0, -2.5, 3e38, 0.0], dtype=np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    found = read_one(tmp_path / "a.pt", upper, tensor("0", upper))
    np.testing.assert_array_equal(found.view(np.uint32), upper.astype(np.uint32) << 16)


def test_reads_views(tmp_path):
    """A transposed view at an offset, and a scalar: shape, stride and offset are elements, not bytes."""
    array = np.arange(20, dtype=np.float32)
    view = tensor("0", array, offset=2, shape=(3, 4), stride=(1, 4))
    np.testing.assert_array_equal(read_one(tmp_path / "a.pt", array, view), array[2:18].reshape(4, 4).T[:3])
    scalar = tensor("0", array, offset=7, shape=(), stride=())
    assert read_one(tmp_path / "b.pt", array, scalar) == 7.0


def test_a_state_dict_with_metadata_and_an_optimizer(tmp_path):
    """As a real module's: an OrderedDict whose BUILD gives `_metadata`; the optimizer stays unread."""
    array = np.ones(3, dtype=np.float32)
    state = Raw(call("collections OrderedDict").code + b"(" + assemble("w") + tensor("0", array).code + b"u"
                + assemble({"_metadata": {"": {"version": 1}}}) + b"b")
    moments = {"state": {0: {"step": tensor("7", array), "exp_avg": tensor("8", array)}}}
    content = {"model_state_dict": state, "config": {}, "optimizer_state_dict": moments}
    checkpoint = read_checkpoint(write_zip(tmp_path / "a.pt", content, [array]))
    np.testing.assert_array_equal(checkpoint.tensors["w"], array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_torch_saves(tmp_path, protocol, zipped):
    torch = pytest.importorskip("torch", reason="needs torch to write the file")
    layer = torch.nn.Linear(3, 2).double()
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3, dtype=torch.double)).sum().backward()
    optimizer.step()
    content = {"model_state_dict": layer.state_dict(), "config": {"embed_dim": 3}, "epoch": 1,
               "optimizer_state_dict": optimizer.state_dict()}
    torch.save(content, tmp_path / "a.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "a.pt").tensors
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(found[name], value.float().numpy())


def test_reads_goldens_as_torch_does(shared):
    torch = pytest.importorskip("torch", reason="compares with torch.load")
    for path in sorted((shared / "golden").glob("*.pt")):
        expected = load_with_stand_in(torch, path)["model_state_dict"]
        found = read_checkpoint(path).tensors
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value.numpy())


def load_with_stand_in(torch, path: Path) -> dict:
    """torch.load itself, its config class replaced: the goldens are our own files."""
    class StandIn:
        pass

    class Finder(pickle.Unpickler):
        def find_class(self, module, name):
            return StandIn if module.startswith("bach_gen") else super().find_class(module, name)

    module = type("module", (), {"Unpickler": Finder, "load": pickle.load})
    return torch.load(path, weights_only=False, pickle_module=module)


# --- what it refuses -----------------------------------------------------------------------------------

GADGETS = sorted(make_gadgets(Path("x")))


@pytest.mark.parametrize("place", ["bare", "config field", "state dict", "optimizer", "legacy"])
@pytest.mark.parametrize("name", GADGETS)
def test_hostile_pickles_run_nothing(tmp_path, name, place):
    marker = tmp_path / "created"
    code, named = make_gadgets(marker)[name]
    gadget = Raw(code)
    array = np.ones(2, dtype=np.float32)
    content = {"model_state_dict": {"w": tensor("0", array)}, "config": instance(CONFIG_CLASS, {})}
    if place == "config field":
        content["config"] = instance(CONFIG_CLASS, {"embed_dim": gadget})
    elif place == "state dict":
        content["model_state_dict"]["w"] = gadget
    elif place == "optimizer":
        content["optimizer_state_dict"] = gadget
    else:
        content = gadget
    write = write_legacy if place == "legacy" else write_zip
    path = write(tmp_path / "a.pt", content, [array])
    with pytest.raises(ValueError, match=named.replace(".", r"\.")) as refusal:
        read_checkpoint(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
    assert not marker.exists()


@pytest.mark.parametrize("name", REAL)
def test_the_gadgets_are_real(tmp_path, name):
    """Python's own unpickler does create the file: what the test above refuses is dangerous."""
    marker = tmp_path / "created"
    pickle.loads(make_pickle(Raw(make_gadgets(marker)[name][0])))
    assert marker.exists()


def test_every_global_is_a_row():
    """The whole list of names a file may use: adding one is a decision, not an accident."""
    assert {name for name in KNOWN_GLOBALS if not name.endswith("Storage")} == {
        "torch._utils._rebuild_tensor_v2", "collections.OrderedDict", "bach_gen.model.config.ModelConfig"}


F4 = np.arange(12, dtype=np.float32)
BROKEN_TENSORS = {
    "longer than its storage": (tensor("0", F4, shape=(13,), stride=(1,)), "reaches outside"),
    "offset past the end": (tensor("0", F4, offset=10, shape=(4,), stride=(1,)), "reaches outside"),
    "stride past the end": (tensor("0", F4, shape=(3, 4), stride=(5, 1)), "reaches outside"),
    "one number, a million times": (tensor("0", F4, shape=(1000, 1000), stride=(0, 0)), "reaches outside"),
    "negative stride": (tensor("0", F4, shape=(12,), stride=(-1,)), "storage, offset, shape or stride"),
    "negative offset": (tensor("0", F4, offset=-1), "storage, offset, shape or stride"),
    "fractional shape": (tensor("0", F4, shape=(2.0,), stride=(1,)), "storage, offset, shape or stride"),
    "true as a size": (tensor("0", F4, shape=(True,), stride=(1,)), "storage, offset, shape or stride"),
    "stride of other rank": (tensor("0", F4, shape=(12,), stride=(1, 1)), "storage, offset, shape or stride"),
    "shape of 10^30": (tensor("0", F4, shape=(10**30,), stride=(0,)), "storage, offset, shape or stride"),
    "count other than the bytes": (tensor("0", F4, count=11, shape=(11,), stride=(1,)), "has 48 bytes"),
    "absent storage": (tensor("9", F4), "data/9"),
    "storage above": (tensor("../data.pkl", F4), "data/../data.pkl"),
    "whole numbers": (tensor("0", np.zeros(6, dtype=np.int64)), "LongStorage"),
    "not a tensor": ("weights", "expected a tensor"),
}


@pytest.mark.parametrize("name", sorted(BROKEN_TENSORS))
def test_broken_tensors(tmp_path, name):
    placed, message = BROKEN_TENSORS[name]
    with pytest.raises(ValueError, match=message):
        read_one(tmp_path / "a.pt", F4, placed)


def test_small_files_do_not_fill_the_memory(tmp_path):
    """Many names for one storage, or many storages over the same bytes, would be copied into gigabytes."""
    array = np.zeros(100_000, dtype=np.float32)
    state = {f"w{number}": tensor("0", array) for number in range(1000)}
    path = write_zip(tmp_path / "a.pt", {"model_state_dict": state, "config": {}}, [array])
    with pytest.raises(ValueError, match="claim 400000000 bytes"):
        read_checkpoint(path)


def test_a_compressed_entry_is_refused(tmp_path):
    content, storages = make_content(make_config(), make_tensors(make_config()))
    path = write_zip(tmp_path / "a.pt", content, storages, compress=True)
    with pytest.raises(ValueError, match="compressed"):
        read_checkpoint(path)


def test_a_nest_of_tuples_is_no_key(tmp_path):
    """Hashing it would take 2^200 steps; printing it would, too."""
    nest = assemble(()) + b"q\x00" + b"h\x00h\x00\x86q\x00" * 200
    weight = {"model_state_dict": {"w": Raw(nest)}, "config": {}}
    for value in (Raw(b"}(" + nest + assemble(1) + b"u"), weight):
        with pytest.raises(ValueError, match="a tuple"):
            read_checkpoint(write_zip(tmp_path / "a.pt", value, []))


def test_an_enormous_pickle_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.pt", b"\x80\x02" + b"]" * (3 << 20) + b".", [])
    with pytest.raises(ValueError, match="3145731 bytes"):
        read_checkpoint(path)


def test_another_byte_order_is_refused(tmp_path):
    content, storages = make_content(make_config(), make_tensors(make_config()))
    path = write_zip(tmp_path / "a.pt", content, storages)
    path.write_bytes(path.read_bytes().replace(b"little", b"bigbig"))
    with pytest.raises(ValueError, match="byteorder"):
        read_checkpoint(path)
