"""Folders in diffusers layout and repositories on the hub: supported layouts, refused models."""

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from diffusers_cases import SMALL_DDPM, SMALL_NCSNPP
from diffusers_models import edit, random_network, scheduler_of
from diffusers_models import save as save_pipeline
from ggf_cli.checkpoints import diffusers as reader
from ggf_cli.checkpoints import native
from ggf_cli.checkpoints.load import build, load_model
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.per_sample import repeated_labels
from ggf_cli.solvers.predictor_corrector import PredictorCorrector
from hub_server import Hub

CONFIG = {"_class_name": "UNet2DModel", **SMALL_DDPM}
INDEX = {
    "_class_name": "DDPMPipeline",
    "_diffusers_version": "0.42.0",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}
SCHEDULER = {"_class_name": "DDPMScheduler"}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def weights():
    return save(random_network(**SMALL_DDPM).state_dict())


def as_bytes(content):
    return content if isinstance(content, bytes) else json.dumps(content).encode()


class Folder:
    """Load files from a folder on this machine."""

    def __init__(self, path):
        self.path = path

    def load(self, files):
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(as_bytes(content))
        return load_model(self.path, device="cpu")


class Repository:
    """Load files from a repository on the hub."""

    def __init__(self, hub):
        self.hub = hub

    def load(self, files):
        self.hub.publish("a/b", {name: as_bytes(content) for name, content in files.items()})
        return load_model("hf:a/b", quiet=True, device="cpu")


@contextmanager
def local_hub(cache, monkeypatch):
    """A hub on this machine, for huggingface_hub in this process, with its cache in a folder."""
    from huggingface_hub import constants

    with Hub() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        # The hashes of first downloads.
        monkeypatch.setenv("GGF_HOME", str(cache / "ggf"))
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        yield hub


@pytest.fixture(params=["folder", "hub"])
def place(request, tmp_path, monkeypatch):
    """Run each test with a folder and with a repository."""
    if request.param == "folder":
        yield Folder(tmp_path)
        return
    with local_hub(tmp_path, monkeypatch) as hub:
        yield Repository(hub)


def pipeline(weights, **more):
    """The files of a pipeline, with `more` files; None removes a file."""
    files = {
        "unet/config.json": CONFIG,
        f"unet/{WEIGHTS}": weights,
        "scheduler/scheduler_config.json": SCHEDULER,
        "model_index.json": INDEX,
    } | more
    return {name: content for name, content in files.items() if content is not None}


LAYOUTS = {
    "pipeline": {},
    "no index": {"model_index.json": None},
    "empty index": {"model_index.json": {}},
    "a configuration at the root too": {"config.json": {"_class_name": "a training script"}},
    "parts left out": {"model_index.json": {**INDEX, "vae": [None, None], "text_encoder": None}},
}


@pytest.mark.parametrize("more", LAYOUTS.values(), ids=LAYOUTS)
def test_a_pipeline_of_network_and_scheduler_is_read(place, weights, more):
    assert place.load(pipeline(weights, **more)).shape == (3, 8, 8)


def test_files_at_the_root_are_read(place, weights):
    files = {"config.json": CONFIG, "scheduler_config.json": SCHEDULER, WEIGHTS: weights}
    assert place.load(files).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (
            {
                "model_index.json": {
                    **INDEX,
                    "_class_name": "LDMPipeline",
                    "vqvae": ["diffusers", "VQModel"],
                }
            },
            "latent model.*vqvae",
        ),
        (
            {"model_index.json": {**INDEX, "vae": ["diffusers", "AutoencoderKL"]}},
            "latent model.*vae",
        ),
        ({"model_index.json": None, "vae/config.json": {}}, "latent model.*vae"),
        ({"model_index.json": None, "vqvae/config.json": {}}, "latent model.*vqvae"),
        (
            {"model_index.json": {**INDEX, "text_encoder": ["transformers", "CLIPTextModel"]}},
            "text_encoder",
        ),
        ({"model_index.json": {**INDEX, "mel": ["audio_diffusion", "Mel"]}}, "mel"),
        (
            {"model_index.json": {**INDEX, "_class_name": "ConsistencyModelPipeline"}},
            "ConsistencyModelPipeline",
        ),
        (
            {"model_index.json": {**INDEX, "_class_name": ["mine", "DDPMPipeline"]}},
            "_class_name is .'mine'",
        ),
        ({"model_index.json": []}, "not a JSON object"),
    ],
)
def test_a_model_that_does_not_generate_pixels_is_refused(place, weights, more, named):
    with pytest.raises(CheckpointError, match=named):
        place.load(pipeline(weights, **more))


@pytest.mark.parametrize("name", ["other.txt", "diffusion_flax_model.msgpack"])
def test_absent_weights_are_named(place, weights, name):
    with pytest.raises(CheckpointError, match="has no weights"):
        place.load(pipeline(weights, **{f"unet/{WEIGHTS}": None, f"unet/{name}": b"{}"}))


def same_scores(a, b):
    x, t = torch.randn(4, *a.shape), torch.linspace(0.1, 1, 4, dtype=torch.float64)
    return torch.equal(a.score(x, t), b.score(x, t))


def test_weights_in_several_files_are_read(place, weights, tmp_path):
    tensors = load_tensors(weights)
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    index = {"weight_map": {name: part for part, mine in parts.items() for name in mine}}
    more = {f"unet/{part}": save({n: tensors[n] for n in mine}) for part, mine in parts.items()}
    files = {f"unet/{WEIGHTS}": None, f"unet/{WEIGHTS}.index.json": index, **more}
    split = place.load(pipeline(weights, **files))
    assert same_scores(split, Folder(tmp_path / "whole").load(pipeline(weights)))


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ({}, "no weight_map"),
        ([], "no weight_map"),
        ({"weight_map": {"a": "../a.safetensors"}}, "not the name"),
        ({"weight_map": {"a": "/etc/a.bin"}}, "not the name"),
        ({"weight_map": {"a": 3}}, "not the name"),
        ({"weight_map": {"a": "a.safetensors"}}, "a.safetensors"),
        (b"{", "cannot read"),
    ],
)
def test_a_wrong_index_of_weights_is_refused(weights, index, named, tmp_path):
    files = {f"unet/{WEIGHTS}": None, f"unet/{WEIGHTS}.index.json": index}
    with pytest.raises(CheckpointError, match=named):
        Folder(tmp_path).load(pipeline(weights, **files))


@pytest.mark.filterwarnings("ignore::ggf_cli.errors.AssumptionWarning")
def test_a_half_precision_variant_is_read_if_nothing_else_is_there(place, weights):
    half = save({name: tensor.half() for name, tensor in load_tensors(weights).items()})
    variant = {"unet/diffusion_pytorch_model.fp16.safetensors": half}
    model = place.load(pipeline(weights, **{f"unet/{WEIGHTS}": None}, **variant))
    (sentence,) = model.provenance["assumptions"]
    assert "half precision" in sentence


def test_the_whole_weights_are_preferred_to_a_variant(weights, tmp_path):
    variant = {"unet/diffusion_pytorch_model.fp16.safetensors": b"never read"}
    model = Folder(tmp_path).load(pipeline(weights, **variant))
    assert model.provenance["assumptions"] == []


@pytest.mark.filterwarnings("ignore::ggf_cli.errors.AssumptionWarning")
def test_the_moving_average_of_a_training_is_preferred(place, weights):
    more = {"unet_ema/config.json": {**CONFIG, "decay": 0.99}, f"unet_ema/{WEIGHTS}": weights}
    model = place.load(pipeline(b"never read", **more, **{"model_index.json": None}))
    (sentence,) = model.provenance["assumptions"]
    assert "unet_ema" in sentence


def test_a_model_without_a_scheduler_names_the_file_to_add(place, weights):
    files = pipeline(weights, **{"scheduler/scheduler_config.json": None})
    with pytest.raises(CheckpointError, match=r"no scheduler/scheduler_config\.json") as caught:
        place.load(files)
    assert "scheduler_config.json" in caught.value.hint


def test_a_checkpoint_of_a_training_is_told_the_scheduler_of_its_pipeline(weights, tmp_path):
    Folder(tmp_path).load(pipeline(weights))
    inner = {name: content for name, content in pipeline(weights).items() if "unet/" in name}
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(CheckpointError) as caught:
        Folder(tmp_path / "checkpoint-5").load(inner)
    assert f"cp -r {tmp_path}/scheduler" in caught.value.hint
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "unet")
    assert f"give the folder of the pipeline, {tmp_path}" in caught.value.hint


def test_class_labels_are_those_of_the_network(tmp_path):
    network = random_network(**SMALL_DDPM, num_class_embeds=5)
    scheduler = scheduler_of("DDPMScheduler", beta_schedule="squaredcos_cap_v2")
    model = load_model(save_pipeline(tmp_path, network, scheduler))
    assert model.conditional
    for labels in ([0, 5], torch.tensor([-1]), repeated_labels([9], "9")):
        with pytest.raises(UsageError, match="5 classes"):
            model.with_conditions(labels)
    x, t = torch.randn(2, 3, 8, 8), torch.full((2,), 0.5, dtype=torch.float64)
    scores = [model.with_conditions([k, k]).evaluate(x, t) for k in (0, 4)]
    assert not torch.equal(*scores)


@pytest.mark.parametrize(
    ("file", "changes", "named"),
    [
        ("unet/config.json", {"rotary": 1}, "rotary is 1"),
        ("scheduler/scheduler_config.json", {"snr_gamma": 5.0}, "snr_gamma is 5.0"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "KarrasVeScheduler"},
            "KarrasVeScheduler",
        ),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchEulerDiscreteScheduler"},
            "FlowMatchEulerDiscreteScheduler",
        ),
        ("unet/config.json", {"_diffusers_version": "0.0.4"}, "lacks attention_head_dim"),
        ("unet/config.json", {"in_channels": 1}, "out_channels is 3"),
        (
            "unet/config.json",
            {"block_out_channels": []},
            "block_out_channels have 2, 2 and 0 levels",
        ),
        ("unet/config.json", {"block_out_channels": None}, "is not valid"),
        (
            "unet/config.json",
            {"norm_num_groups": 10**400},
            "norm_num_groups|multiples|is not valid",
        ),
    ],
)
def test_an_unsupported_configuration_is_refused_by_its_key(
    weights, file, changes, named, tmp_path
):
    files = pipeline(weights)
    files[file] = files[file] | changes
    with pytest.raises(CheckpointError, match=named):
        Folder(tmp_path).load(files)


def test_the_network_of_a_karras_ve_pipeline_is_read_with_its_noise_levels_of_the_training(
    tmp_path,
):
    """The refusal names the file to write; the model is then that of KarrasVePipeline."""
    network = random_network(**SMALL_NCSNPP)
    folder = save_pipeline(tmp_path, network, scheduler_of("KarrasVeScheduler"))
    (folder / "model_index.json").write_text('{"_class_name": "KarrasVePipeline"}')
    with pytest.raises(CheckpointError, match="not the noise levels of the training") as caught:
        load_model(folder)
    assert "ScoreSdeVeScheduler" in caught.value.hint

    stated = {"_class_name": "ScoreSdeVeScheduler", "sigma_min": 0.01, "sigma_max": 50.0}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(stated))
    model = load_model(folder, device="cpu")
    # The estimate of the data in KarrasVePipeline, for images in [-1, 1].
    sigma, x = torch.tensor([0.1, 3.0, 90.0]), torch.randn(3, 3, 8, 8)
    level = sigma[:, None, None, None]
    x = level * x
    expected = x + level * (level / 2) * network((x + 1) / 2, sigma / 2).sample
    t = model.sde.time_at(-torch.log(sigma.double() / 2))
    y = (x + 1) / 2
    denoised = y + (level / 2) ** 2 * model.score(y, t)
    assert torch.allclose(2 * denoised - 1, expected, rtol=1e-4, atol=1e-5)


def test_absent_keys_of_a_network_have_the_defaults_of_diffusers(tmp_path):
    """A configuration written by hand, with only the arguments of `UNet2DModel`."""
    network = random_network(**SMALL_DDPM)
    folder = save_pipeline(tmp_path, network, scheduler_of("DDPMScheduler"))
    whole = load_model(folder, device="cpu")
    (folder / "unet/config.json").write_text(json.dumps(CONFIG))
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER))
    x, t = torch.randn(8, *whole.shape), torch.linspace(0.1, 1, 8, dtype=torch.float64)
    assert torch.equal(load_model(folder, device="cpu").score(x, t), whole.score(x, t))


def test_a_configuration_with_keys_of_the_moving_average_is_read(tmp_path):
    folder = save_pipeline(tmp_path, random_network(**SMALL_DDPM), scheduler_of("DDPMScheduler"))
    more = {"decay": 0.9999, "optimization_step": 5, "power": 0.75, "use_ema_warmup": True}
    edit(folder / "unet/config.json", **more)
    assert load_model(folder).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("config", "scheduler"),
    [
        (SMALL_NCSNPP, "ScoreSdeVeScheduler"),
        (
            {
                **SMALL_DDPM,
                "attn_norm_num_groups": 2,
                "mid_block_scale_factor": 2.0,
                "center_input_sample": True,
                "attention_head_dim": 5,
            },
            "DDPMScheduler",
        ),
    ],
    ids=["ncsnpp", "ddpm"],
)
def test_a_native_file_keeps_all_settings_of_the_folder(config, scheduler, tmp_path):
    folder = save_pipeline(tmp_path / "a", random_network(**config), scheduler_of(scheduler))
    checkpoint = reader.read(folder)
    file = tmp_path / "a.safetensors"
    file.write_bytes(native.to_bytes(checkpoint))
    x, t = torch.randn(8, *checkpoint.shape), torch.linspace(0.1, 1, 8, dtype=torch.float64)
    cpu = torch.device("cpu")
    before, after = (build(c, "m", file, device=cpu) for c in (checkpoint, native.read(file)))
    assert torch.equal(before.score(x, t), after.score(x, t))


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("DDPMScheduler", {}, []),
        (
            "DDPMScheduler",
            {"beta_start": 0.001, "beta_end": 0.004},
            ["x(T) still contains 29% of the data"],
        ),
        ("DDPMScheduler", {"prediction_type": "v_prediction"}, []),
        ("DDPMScheduler", {"rescale_betas_zero_snr": True}, ["the last 1 of 1000 noise levels"]),
        ("ScoreSdeVpScheduler", {}, ["label of time t is assumed to be 999 t"]),
        ("ScoreSdeVpScheduler", {"beta_max": 5}, ["999 t", "x(T) still contains 28% of the data"]),
    ],
)
def test_assumptions_are_reported(kind, settings, expected, tmp_path):
    folder = save_pipeline(tmp_path, random_network(**SMALL_DDPM), scheduler_of(kind, **settings))
    sentences = reader.read(folder).assumptions
    assert len(sentences) == len(expected)
    for sentence, words in zip(sentences, expected, strict=True):
        assert words in sentence


def test_a_fourier_network_with_a_label_0_is_refused(tmp_path):
    folder = save_pipeline(tmp_path, random_network(**SMALL_NCSNPP), scheduler_of("DDPMScheduler"))
    with pytest.raises(CheckpointError, match="time_embedding_type 'fourier'"):
        load_model(folder)


def test_absent_files_of_a_given_commit_are_requested_only_once(weights, tmp_path, monkeypatch):
    with local_hub(tmp_path, monkeypatch) as hub:
        files = {"config.json": CONFIG, "scheduler_config.json": SCHEDULER, WEIGHTS: weights}
        commit = hub.publish("a/b", {name: as_bytes(content) for name, content in files.items()})
        load_model(f"hf:a/b@{commit}", quiet=True)
        requests = len(hub.requests)
        load_model(f"hf:a/b@{commit}", quiet=True)
        assert len(hub.requests) == requests


@pytest.mark.parametrize(("file", "snr"), [({"snr": 0.075}, 0.075), ({}, None)])
def test_the_corrector_uses_the_snr_of_the_scheduler(file, snr, tmp_path):
    """The SNR is read from the folder, and from a native file converted from it."""
    folder = save_pipeline(
        tmp_path / "a", random_network(**SMALL_NCSNPP), scheduler_of("ScoreSdeVeScheduler")
    )
    scheduler = {"_class_name": "ScoreSdeVeScheduler", "sigma_max": 90.0, **file}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    native_file = tmp_path / "a.safetensors"
    native_file.write_bytes(native.to_bytes(reader.read(folder)))
    for path in (folder, native_file):
        model = load_model(path, device="cpu")
        assert PredictorCorrector().advised(model.recommended).snr == snr
        assert PredictorCorrector(snr=0.2).advised(model.recommended).snr == 0.2


@pytest.mark.parametrize("snr", ["0.1", -1, 1e9, None, True])
def test_an_invalid_snr_is_refused(snr, tmp_path):
    folder = save_pipeline(
        tmp_path, random_network(**SMALL_NCSNPP), scheduler_of("ScoreSdeVeScheduler")
    )
    edit(folder / "scheduler/scheduler_config.json", snr=snr)
    with pytest.raises(CheckpointError, match="snr"):
        load_model(folder)
