"""EDM's checkpoints: parity with recordings of its code, and files that are refused."""

import io
import os
import pickle
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ggf_cli
from command import ggf
from edm_files import (
    RECORDED,
    EasyDict,
    Part,
    Thing,
    content,
    modules_of_edm,
    network,
    persistent,
    pickled,
    pkl_file,
    state_dict,
)
from ggf_cli import parametrizations
from ggf_cli.checkpoints import edm
from ggf_cli.checkpoints.documents import WEB
from ggf_cli.checkpoints.edm.preconditioning import iddpm_levels
from ggf_cli.checkpoints.edm.unpickle import unpickle
from ggf_cli.checkpoints.load import build, load_model, read_checkpoint
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.diffusions import CosineVPSDE, FlowMatching
from ggf_cli.errors import AssumptionWarning, CheckpointError, UsageError
from ggf_cli.noise import Noise
from ggf_cli.sde import VESDE, VPSDE, SubVPSDE

CPU = torch.device("cpu")
CONDITIONAL = [name for name, case in RECORDED.items() if case["label_dim"]]


def inputs(name):
    """States, noise levels and conditions of a recording."""
    case = RECORDED[name]
    sigma = torch.tensor(case["sigmas"], dtype=torch.float64)
    index = torch.arange(len(sigma))
    x = Noise(seed=1, shape=(3, case["size"], case["size"]))(index, 0 * index).double()
    x = x * torch.sqrt(sigma**2 + 0.25).float().double()[:, None, None, None]
    labels = (index % case["label_dim"],) if case["label_dim"] else ()
    return x, sigma, labels


def errors(name, score):
    """The relative error of the scores, for each noise level."""
    case = RECORDED[name]
    found = score[:, :, ::4, ::4].flatten(1).double()
    difference = (found - torch.tensor(case["every_4th_pixel"], dtype=torch.float64)).abs()
    return difference.amax(1) / torch.tensor(case["largest"], dtype=torch.float64)


# --- parity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
def test_the_score_is_that_of_edms_code_at_every_noise_level(name, tmp_path):
    """In float32, the last bit of the label changes the phase of fast Fourier features."""
    path = pkl_file(name, tmp_path / "net.pkl")
    x, sigma, labels = inputs(name)
    exact = load_model(path, device="cpu", dtype=torch.float64)
    assert exact.sde.name == "edm"
    assert errors(name, exact.score(x, sigma, *labels)).max() < 1e-11
    single = load_model(path, device="cpu")
    assert errors(name, single.score(x.float(), sigma, *labels)).max() < 1e-5


@pytest.mark.parametrize(
    "name", ["cifar10-cond-ve", "baseline-vp", "baseline-ve", "baseline-imagenet-adm"]
)
@pytest.mark.parametrize(
    "sde",
    [VESDE(sigma_max=90.0, sigma_min=0.001), VPSDE(), SubVPSDE(), CosineVPSDE(), FlowMatching()],
    ids=lambda sde: sde.name,
)
def test_the_same_model_is_sampled_under_any_sde(name, sde, tmp_path):
    """At x = alpha y the score is that of y at the level sigma / alpha, divided by alpha."""
    path = pkl_file(name, tmp_path / "net.pkl")
    checkpoint = replace(read_checkpoint(path), sde=sde)
    model = build(checkpoint, name, path, device=CPU, dtype=torch.float64)
    y, sigma, labels = inputs(name)
    t = sde.time_at(-sigma.log())
    alpha = sde.alpha(t)[:, None, None, None]
    # A time below the resolution of 1 - alpha^2 is not exact.
    assert errors(name, alpha * model.score(alpha * y, t, *labels)).max() < 1e-6


def test_the_labels_of_iddpm_are_interpolated_between_its_noise_levels():
    """EDM's code rounds. At a level both are the same; beyond the ends the label is constant."""
    levels = [0.1, 0.2, 0.8]
    labels = []

    def network(x, label):
        labels.append(label)
        return torch.ones_like(x)

    sde = VESDE(sigma_max=90.0, sigma_min=0.001)
    score = parametrizations.edm(network, sde, preconditioning="iddpm", noise_levels=levels)
    sigma = torch.tensor([0.05, *levels, 0.4, 50.0], dtype=torch.float64)
    found = score(torch.zeros(6, 1, dtype=torch.float64), sde.time_at(-sigma.log()))
    expected = torch.tensor([0.0, 0.0, 1.0, 2.0, 1.5, 2.0], dtype=torch.float64)
    assert torch.allclose(labels[0], expected)
    assert torch.allclose(found[:, 0], -1 / sigma)


@pytest.mark.parametrize(
    "levels", [[], [1.0], [[1.0, 2.0]], [0.0, 1.0], [2.0, 1.0], [1.0, float("inf")], [1.0, "x"]]
)
def test_noise_levels_that_do_not_rise_are_refused(levels):
    with pytest.raises((ValueError, TypeError)):
        parametrizations.edm(None, None, preconditioning="iddpm", noise_levels=levels)


def test_the_noise_levels_of_iddpm_follow_from_its_arguments():
    expected = torch.tensor(RECORDED["baseline-imagenet-adm"]["table"][-2::-1])
    found = torch.tensor(iddpm_levels(levels=100))
    # EDM's code computes them in float32.
    assert torch.allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "name", ["cifar10-uncond-vp", "cifar10-cond-ve", "imagenet-cond-adm", "narrow-uncond-adm"]
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_state_dict_gives_the_same_scores(name, prefix, tmp_path):
    torch.save({prefix + n: t for n, t in state_dict(name).items()}, tmp_path / "net.pt")
    with pytest.warns(AssumptionWarning, match="net.pt does not state its preconditioning"):
        model = load_model(tmp_path / "net.pt", device="cpu", dtype=torch.float64)
    x, sigma, labels = inputs(name)
    assert errors(name, model.score(x, sigma, *labels)).max() < 1e-9


def test_a_state_dict_of_iddpm_states_its_noise_levels(tmp_path):
    name = "baseline-imagenet-adm"
    x, sigma, labels = inputs(name)
    tensors = state_dict(name)
    full = {f"model.{n}": t for n, t in tensors.items()}
    torch.save(full | {"u": torch.tensor(RECORDED[name]["table"])}, tmp_path / "net.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_model(tmp_path / "net.pt", device="cpu", dtype=torch.float64)
    assert errors(name, model.score(x, sigma, *labels)).max() < 1e-11
    assert model.sde.t_eps == sigma[0]
    torch.save(tensors, tmp_path / "net.pt")
    with pytest.warns(AssumptionWarning, match="that of iDDPM with 1000 noise levels is assumed"):
        model = load_model(tmp_path / "net.pt", device="cpu")
    assert model.sde.t_eps == pytest.approx(0.0064254, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10-cond-ve", "edm-cifar10-32x32-cond-ve"),
        ("imagenet-cond-adm", "edm-imagenet-64x64-cond-adm"),
        ("baseline-imagenet-adm", "baseline-imagenet-64x64-cond-adm"),
    ],
)
def test_a_converted_file_is_the_same_model(name, file, tmp_path):
    path = pkl_file(name, tmp_path / f"{file}.pkl")
    done = ggf("convert", path, tmp_path / "net.safetensors")
    assert done.exit_code == 0, done.stderr
    x, sigma, labels = inputs(name)
    one, two = (load_model(p, device="cpu") for p in (path, tmp_path / "net.safetensors"))
    x = x.float()
    assert torch.equal(one.score(x, sigma, *labels), two.score(x, sigma, *labels))
    assert one.provenance["origin"]["license"] == "CC BY-NC-SA 4.0"
    assert two.provenance["origin"]["license"] == "CC BY-NC-SA 4.0"
    assert two.conditional


def test_the_noise_levels_are_those_of_edms_sampler(tmp_path):
    """The limits of the network, within 0.002 and 80."""
    found = {}
    for name in ("cifar10-uncond-vp", "baseline-vp", "baseline-ve", "baseline-imagenet-adm"):
        sde = read_checkpoint(pkl_file(name, tmp_path / "net.pkl")).sde
        found[name] = (sde.t_eps, sde.T)
        assert sde.data_range == (-1.0, 1.0)
    assert found == {
        "cifar10-uncond-vp": (0.002, 80.0),
        "baseline-vp": (0.002, 80.0),
        "baseline-ve": (0.02, 80.0),
        "baseline-imagenet-adm": (RECORDED["baseline-imagenet-adm"]["sigmas"][0], 80.0),
    }


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONDITIONAL)
def test_samples_of_a_conditional_network_depend_on_their_class(name, tmp_path):
    model = load_model(pkl_file(name, tmp_path / "net.pkl"), device="cpu")
    assert model.conditional
    x, sigma, (labels,) = inputs(name)
    x = x.float()
    one, two = model.score(x, sigma, labels), model.score(x, sigma, labels + 1)
    assert all(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(one, two, strict=True))
    with pytest.raises((UsageError, ValueError), match=r"a network of 10 classes|has class labels"):
        model.score(x, sigma)
    with pytest.raises((RuntimeError, IndexError), match=r"Class values|out of range"):
        model.score(x, sigma, labels + 10)
    samples = [
        ggf_cli.sample(model, 2, solver="heun", steps=2, conditions=torch.tensor(c)).x
        for c in ([3, 4], [3, 5])
    ]
    assert torch.equal(samples[0][0], samples[1][0])
    assert not torch.equal(samples[0][1], samples[1][1])


def test_an_unconditional_network_takes_no_labels(tmp_path):
    model = load_model(pkl_file("cifar10-uncond-vp", tmp_path / "net.pkl"), device="cpu")
    assert not model.conditional
    x, sigma, _ = inputs("cifar10-uncond-vp")
    with pytest.raises(UsageError, match="a network of 0 classes"):
        model.score(x.float(), sigma, torch.zeros(len(sigma), dtype=torch.int64))


# --- nothing is run -------------------------------------------------------------------------------


def refused(tmp_path, content, message):
    path = tmp_path / "net.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickled(content))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    return caught.value


def test_the_source_code_in_the_file_is_not_run_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = pkl_file("cifar10-uncond-vp", tmp_path / "net.pkl")
    assert b"open('harmed'" in path.read_bytes()
    modules = set(sys.modules)
    found = unpickle(path)
    assert not (tmp_path / "harmed").exists()
    assert not {n for n in sys.modules.keys() - modules if "torch_utils" in n or "dnnlib" in n}
    model = found["ema"].state["_modules"]["model"]
    assert "module_src" not in model.state
    tensors = dict(edm._named_tensors(model))
    expected = state_dict("cifar10-uncond-vp")
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[n], expected[n]) for n in expected)


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "harm",
    [
        Call(os.system, "touch harmed"),
        Call(eval, "open('harmed', 'w')"),
        Call(bytearray, 10**10),
        Call(torch.FloatTensor, 10**9),
        Call(getattr, "a", "upper"),
        Call(torch.load, "x"),
        Path("x"),
    ],
    ids=["system", "eval", "bytearray", "tensor", "getattr", "load", "object"],
)
def test_a_file_that_names_another_function_is_refused(tmp_path, monkeypatch, harm, protocol):
    monkeypatch.chdir(tmp_path)
    for place in (harm, {"ema": harm}, {"ema": Thing("EDMPrecond", x=harm)}):
        with modules_of_edm():
            data = pickle.dumps(place, protocol=protocol)
        # Protocol 0 writes text, with operations that are not known.
        error = refused(tmp_path, data, "which is not a part of EDM|corrupt, or no pickle of EDM")
        assert len(error.message) < 400
    assert not (tmp_path / "harmed").exists()


def test_the_name_of_an_unknown_function_is_in_the_message(tmp_path):
    error = refused(tmp_path, {"ema": Call(os.system, "true")}, r"posix\.system|nt\.system")
    assert "never runs code" in error.hint


def bytes_of(change):
    """A small file with an operation by hand: "ema" and its value."""
    return b"\x80\x04}\x8c\x03ema" + change + b"s."


def tensor(name, arguments):
    module, attribute = name
    return b"c" + module + b"\n" + attribute + b"\n" + arguments + b"R"


REBUILD = (b"torch._utils", b"_rebuild_tensor_v2")
LOAD = (b"torch.storage", b"_load_from_bytes")


def storage(content):
    return tensor(LOAD, b"B" + len(content).to_bytes(4, "little") + content + b"\x85")


def saved(storage, change=lambda content: content):
    """The bytes of a storage as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(storage, buffer, _use_new_zipfile_serialization=False)
    return change(buffer.getvalue())


GOOD = saved(torch.arange(6.0)._typed_storage())


def test_a_storage_is_read(tmp_path):
    path = tmp_path / "net.pkl"
    shape = b"K\x02K\x03\x86K\x03K\x01\x86"
    path.write_bytes(bytes_of(tensor(REBUILD, b"(" + storage(GOOD) + b"K\x00" + shape + b"\x89}t")))
    assert torch.equal(unpickle(path)["ema"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        # Another number of numbers than there are bytes.
        (GOOD.replace(b"K\x06", b"K\x07"), "states 7 numbers"),
        (GOOD.replace(b"K\x06", b"J\xff\xff\xff\x7f"), "states 2,147,483,647 numbers"),
        (GOOD.replace(b"K\x06", b"J\xff\xff\xff\xff"), "states -1 numbers"),
        (GOOD[:-1], "states 6 numbers"),
        (GOOD.replace(b"FloatStorage", b"QuintStorage"), "KeyError"),
        (GOOD.replace(b"storage", b"storabc"), "a storage that has other objects"),
        (GOOD[:20], "corrupt"),
        (pickle.dumps(Call(os.system, "true")), "corrupt"),
        (b"", "corrupt"),
    ],
)
def test_a_damaged_storage_is_refused(tmp_path, place, message):
    refused(tmp_path, bytes_of(storage(place)), message)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        # 2^31 numbers from one, by a stride of 0.
        (b"K\x00J\xff\xff\xff\x7f\x85K\x00\x85", "larger than the file"),
        (b"K\x04K\x03\x85K\x01\x85", "out of bounds"),
        (b"J\xff\xff\xff\xffK\x03\x85K\x01\x85", "whose shape is not valid"),
        (b"K\x00J\xff\xff\xff\xff\x85K\x01\x85", "whose shape is not valid"),
        (b"K\x00\x8c\x01a\x85K\x01\x85", "whose shape is not valid"),
        (b"K\x00K\x03K\x01", "without a shape"),
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(tmp_path, layout, message):
    place = tensor(REBUILD, b"(" + storage(GOOD) + layout + b"\x89}t")
    refused(tmp_path, bytes_of(place), message)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (b"\x8d" + (2**40).to_bytes(8, "little"), "bytes of text|ends too early"),
        (b"\x8e" + (2**62).to_bytes(8, "little"), "ends too early"),
        (b"B\xff\xff\xff\xff", "ends too early"),
        # A byte array, an integer of any length, a persistent id, an extension.
        (b"\x96" + (2**40).to_bytes(8, "little"), "operation 'BYTEARRAY8'"),
        (b"\x8b\xff\xff\xff\x7f", "operation 'LONG4'"),
        (b"Pid\n", "operation 'PERSID'"),
        (b"\x82\x01", "operation 'EXT1'"),
        (b"}K\x01\x85K\x01s", "a tuple as a key"),
        (b"K\x01K\x01R", "in the place of a tuple"),
        (b"N)R", "in the place of a Global"),
        (b"h\x07", "KeyError"),
        (b"(", "corrupt"),
        (b"\x85" * 50, "corrupt"),
        (b"", "corrupt"),
    ],
)
def test_operations_that_could_take_memory_or_are_not_known_are_refused(tmp_path, place, message):
    refused(tmp_path, bytes_of(place), message)


def test_the_number_of_operations_and_the_text_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[unpickle.__module__], "MAX_OPERATIONS", 1000)
    refused(tmp_path, b"\x80\x04" + b"}" * 2000 + b".", "more than 1,000 operations")
    monkeypatch.setattr(sys.modules[unpickle.__module__], "MAX_TEXT", 1000)
    refused(tmp_path, pickle.dumps({"ema": "x" * 2000}), "more than 1,000 bytes of text")
    monkeypatch.setattr(sys.modules[unpickle.__module__], "MAX_FILE", 1000)
    refused(tmp_path, bytes(2000), "cannot read|larger|corrupt")


def test_deeply_nested_tuples_are_harmless(tmp_path):
    refused(tmp_path, b"\x80\x04)" + b"\x85" * 500_000 + b".", "no network in 'ema'")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "net.pkl")
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        read_checkpoint(tmp_path / "net.pkl")
    with pytest.raises(CheckpointError, match="is not a file"):
        unpickle(tmp_path / "net.pkl")


# --- other networks -------------------------------------------------------------------------------


def changed(change):
    """The content of a good file after a change."""
    result = content("cifar10-uncond-vp")
    change(result)
    return result


def renamed_part(name):
    return lambda c: c["ema"].model.__dict__.update(part=name)


def edm2(**attributes):
    return lambda c: c["ema"].__dict__.update(part="Precond", **attributes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed_part("DhariwalUNet"), "lacks the tensors of a DhariwalUNet"),
        (renamed_part("UNet"), "has 'UNet', which is not supported"),
        (lambda c: c["ema"].__dict__.update(part="iDDPMPrecond"), "no table of noise levels"),
        (edm2(img_channels=3, img_resolution=64), "EDM2 for images of 64 pixels, which is not"),
        (edm2(img_channels=4, img_resolution=64), "EDM2 for latents of an autoencoder, which"),
        (edm2(img_channels=[3]), "a network of EDM2, which is not"),
        (lambda c: c["ema"].__dict__.update(part="Generator"), "'Generator', which is not"),
        (lambda c: c.pop("ema"), "no network in 'ema'"),
        (lambda c: c.update(ema=3), "no network in 'ema'"),
        (lambda c: c["ema"].__dict__.pop("sigma_data"), "sigma_data"),
        (lambda c: c["ema"].__dict__.update(sigma_data="x"), "in the place of a number"),
        (lambda c: c["ema"].__dict__.update(sigma_data=-1.0), "sigma_data is -1"),
        (lambda c: c["ema"].__dict__.update(sigma_min=90.0), "noise levels"),
        (lambda c: c["ema"].model.enc["16x16_conv"].__dict__.update(_parameters=3), "is no table"),
        (lambda c: c["ema"].model.enc.pop("16x16_conv"), "lacks the tensors of a SongUNet"),
        (lambda c: c["ema"].model.enc.pop("16x16_block0"), "levels do not halve"),
        (lambda c: c["ema"].model.dec.pop("16x16_block0"), "does not fit a 'ncsnpp'"),
        (lambda c: c["ema"].model.add_module("more", nn.ModuleDict()), None),
        (lambda c: c["ema"].model.add_module("more", network("baseline-vp")), "not a part of Song"),
    ],
)
def test_what_is_not_handled_is_refused_with_the_reason(tmp_path, change, message):
    path = tmp_path / "net.pkl"
    path.write_bytes(pickled(changed(change)))
    if message is None:
        load_model(path)
        return
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


def table_of(table):
    """A change of the noise levels of iDDPM."""
    return lambda c: c["ema"].register_buffer("u", torch.as_tensor(table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed_part("SongUNet"), "lacks the tensors of a SongUNet"),
        (lambda c: c["ema"].__dict__.update(part="VEPrecond"), "outputs for the variance, which"),
        (table_of(3.0), "a table of noise levels that is not valid"),
        (table_of([3.0, 0.0]), "a table of noise levels that is not valid"),
        (table_of([3.0, 2.0, 1.0]), "a table of noise levels that is not valid"),
        (table_of([0.0] * 20_003), "a table of noise levels that is not valid"),
        (table_of([1, 1, 0]), "no table of noise levels"),
        (table_of([2.0, 2.0, 0.0]), "each above the one before"),
        (table_of([2.0, float("nan"), 0.0]), "each above the one before"),
        (lambda c: c["ema"].model.dec.pop("8x8_in1"), "does not fit a 'adm'"),
        (lambda c: c["ema"].model.enc.pop("8x8_block0"), "does not fit a|not a part of"),
    ],
)
def test_damaged_networks_of_iddpm_are_refused(tmp_path, change, message):
    inside = content("baseline-imagenet-adm")
    change(inside)
    path = tmp_path / "net.pkl"
    path.write_bytes(pickled(inside))
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


def test_files_of_edm2_with_arrays_are_read_up_to_the_name_of_their_network(tmp_path):
    """The encoder of latents has arrays of numpy."""
    inside = content("narrow-uncond-adm")
    edm2(img_channels=4, img_resolution=64)(inside)
    inside["encoder"] = Thing("StabilityVAEEncoder", scale=np.ones(4, dtype=np.float32))
    error = refused(tmp_path, inside, "EDM2 for latents")
    assert "ScoreModel.from_edm" in error.hint


def test_a_storage_of_a_few_bytes_is_read(tmp_path):
    """Its bytes are a short string of the pickle."""
    small = saved(torch.ones(1, dtype=torch.float16)._typed_storage())
    if len(small) > 255:
        pytest.skip("this version of torch writes no short storage")
    path = tmp_path / "net.pkl"
    place = tensor(LOAD, b"C" + bytes([len(small)]) + small + b"\x85")
    path.write_bytes(bytes_of(tensor(REBUILD, b"(" + place + b"K\x00K\x01\x85K\x01\x85\x89}t")))
    assert unpickle(path)["ema"] == torch.ones(1)


def test_another_version_of_the_format_is_refused(tmp_path):
    thing = Thing("EDMPrecond")
    thing.meta = persistent("EDMPrecond", {}, version=5)
    refused(tmp_path, {"ema": thing}, "an object of version '5', not 6")


def test_a_module_that_contains_itself_is_refused(tmp_path):
    """A table of modules with itself as an entry, 1,000 times."""
    inner = b"".join(b"\x8c\x04%04dh\x00" % i for i in range(1000))
    loop = tensor(
        (b"torch_utils.persistence", b"_reconstruct_persistent_obj"),
        b"}(\x8c\x04typeX\x05\x00\x00\x00class\x8c\x07versionK\x06\x8c\x0aclass_nameX\x08\x00\x00"
        b"\x00SongUNet\x8c\x05state}\x8c\x08_modules}q\x00(" + inner + b"usu\x85",
    )
    path = tmp_path / "net.pkl"
    path.write_bytes(bytes_of(loop))
    # The entries are tables, not modules.
    assert dict(edm._named_tensors(unpickle(path)["ema"])) == {}
    record = unpickle(path)["ema"]
    record.state["_modules"] = {str(i): record for i in range(1000)}
    with pytest.raises(ValueError, match="too often"):
        dict(edm._named_tensors(record))


def test_other_state_dicts_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="does not recognise"):
        read_checkpoint(tmp_path / "net.pt")


def test_other_resampling_filters_are_refused(tmp_path):
    weights = state_dict("cifar10-cond-ve")
    for name in weights:
        if name.endswith("resample_filter"):
            weights[name] = torch.ones(1, 1, 4, 4) / 16
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="resampling filter is not supported"):
        read_checkpoint(tmp_path / "net.pt")


def test_samples_are_drawn_by_the_command_line(tmp_path):
    path = pkl_file("cifar10-uncond-vp", tmp_path / "net.pkl")
    arguments = ["--n", "2", "--solver", "heun", "--steps", "2", "--out", tmp_path / "run"]
    done = ggf("sample", "--model", path, *arguments)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "run/grid.png").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(path)


def test_files_without_the_table_of_training_are_read(tmp_path):
    """A network that was pickled on its own, and data sets with an EasyDict."""
    path = tmp_path / "net.pkl"
    path.write_bytes(pickled(network("baseline-vp")))
    assert load_model(path).name == "net.pkl"
    path.write_bytes(pickled({"ema": network("baseline-vp"), "x": EasyDict(a=EasyDict(b=[1]))}))
    assert load_model(path).sde.T == 80.0
    assert isinstance(network("baseline-vp"), Part)


# --- the registry ---------------------------------------------------------------------------------

# A recorded network like that of a file, by a part of its name.
LIKE = {
    "baseline-imagenet": "baseline-imagenet-adm",
    "adm": "imagenet-cond-adm",
    "baseline-cifar10-32x32-uncond-vp": "baseline-vp",
    "baseline-cifar10-32x32-uncond-ve": "baseline-ve",
    "uncond": "cifar10-uncond-vp",
    "cond": "cifar10-cond-ve",
}
REGISTERED = {n: e for n, e in read_manifest().items() if e.kind == WEB}


@pytest.mark.parametrize("name", REGISTERED)
def test_a_registered_network_is_used_by_name_after_it_is_converted(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GGF_HOME", str(tmp_path / "home"))
    entry = REGISTERED[name]
    assert entry.license == "CC BY-NC-SA 4.0"
    with pytest.raises(CheckpointError, match=f"https://{entry.place}/{entry.file}") as caught:
        load_model(name)
    assert entry.license in caught.value.message
    recorded = next(r for part, r in LIKE.items() if part in entry.file)
    path = pkl_file(recorded, tmp_path / entry.file)
    words = caught.value.hint.partition("run once: ")[2].split()
    assert words[:3] == ["ggf", "convert", entry.file]
    target = Path(words[3])
    target.parent.mkdir(parents=True)
    done = ggf("convert", path, target)
    assert done.exit_code == 0, done.stderr
    model = load_model(name)
    assert model.name == name
    assert model.provenance["origin"]["license"] == entry.license
