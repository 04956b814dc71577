"""Fuzzing of untrusted files and values.

The result must be a `GGFError` or success: never another exception, a hang, or memory beyond 2 ×
the file. Here a few hundred inputs are tried, the same ones each time. The command `python
tests/checkpoints/test_fuzz.py SECONDS` tries new inputs, SECONDS for each kind, and prints their
number. `test_fuzz_corpus.py` has the inputs that failed before.
"""

import io
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

# For `python tests/checkpoints/test_fuzz.py`; pytest adds the folder by itself.
sys.path.append(str(Path(__file__).parents[1] / "support"))
import edm_files
from command import ggf
from fuzzing import NUMBER, TEXT, VALUE, as_json, edited_bytes, edited_json, kept_promise
from ggf_cli.checkpoints import native, score_sde, tensors
from ggf_cli.checkpoints.load import load_model
from ggf_cli.checkpoints.manifest import find_manifest, find_model, read_manifest
from ggf_cli.comparison.folder import read_document
from ggf_cli.files import sha256_of
from ggf_cli.metrics.reference_files import ImageFolder, read_statistics
from ggf_cli.networks.mixture import two_dimensional
from ggf_cli.networks.unet import UNet
from ggf_cli.runs.documents import FileLog
from ggf_cli.runs.load import find_record
from ggf_cli.runs.load_samples import load_samples
from ggf_cli.runs.summary import run_summary
from ggf_cli.sde import VPSDE
from png_files import png_chunk

EXIT_CODES = {0, 2, 3, 4, 5}
UNET = {
    "image_channels": 1,
    "channels": [4],
    "attention_down": [True],
    "attention_up": [False],
    "blocks": 1,
    "groups": 2,
}


# --- good files -----------------------------------------------------------------------------------


@cache
def exact_file():
    mixture = two_dimensional()
    return native.to_bytes(
        native.Checkpoint(
            network="gaussian-mixture",
            network_config=mixture.config,
            parametrization="exact",
            sde=VPSDE(),
            shape=(2,),
            tensors=mixture.state_dict(),
            provenance={"license": "MIT"},
        )
    )


@cache
def network_file():
    return native.to_bytes(
        native.Checkpoint(
            network="unet",
            network_config=UNET,
            parametrization="vp-continuous",
            sde=VPSDE(),
            shape=(1, 4, 4),
            tensors=UNet(**UNET).state_dict(),
        )
    )


@cache
def header_of(content):
    """The header and the data of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_header(header, data):
    """A safetensors file with this header and data."""
    text = as_json(header)
    return len(text).to_bytes(8, "little") + text + data


@cache
def torch_file(legacy=False):
    buffer = io.BytesIO()
    content = {
        "a.weight": torch.randn(3, 4),
        "b": torch.nn.Parameter(torch.ones(2).half()),
        "c": torch.zeros(1).long(),
    }
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def with_pickle(content, change):
    """A zip file of torch.save with its pickle changed and correct checksums."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        for record in old.infolist():
            data = old.read(record)
            new.writestr(
                record.filename, change(data) if record.filename.endswith(".pkl") else data
            )
    return result.getvalue()


@cache
def run_folder():
    folder = Path(tempfile.mkdtemp(prefix="ggf-fuzz-")) / "run"
    arguments = ["sample", "--model", "mixture", "--n", "2", "--eps-rel", "0.9", "--out", folder]
    assert ggf(*arguments).exit_code == 0
    return folder


UNENDED = [
    "sample",
    "--model",
    "mixture",
    "--n",
    "2",
    "--solver",
    "em",
    "--steps",
    "1",
    "--format",
    "none",
    "--grid",
    "1x1",
]


@cache
def journal_lines():
    """The journal of a run of `UNENDED` that stopped before it wrote run.json."""
    from faults import Faults

    folder = Path(tempfile.mkdtemp(prefix="ggf-fuzz-")) / "run"
    with Faults(folder, at=("open", ".run.json.part")):
        ggf(*UNENDED, "--out", folder)
    lines = (folder / "journal-0.jsonl").read_text().splitlines()
    # The settings, the start of a session, two samples, the end of the session.
    assert len(lines) == 5
    return [json.loads(line) for line in lines]


def journal(lines):
    lines = lines if isinstance(lines, list) else [lines]
    return b"".join(as_json(line) + b"\n" for line in lines)


@cache
def comparison():
    from comparisons import single as example

    return json.loads(json.dumps(example()))


def png(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


@cache
def image_file(format):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(buffer, format)
    return buffer.getvalue()


@cache
def statistics_file(compressed):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, mu=np.zeros(4), sigma=np.eye(4))
    return buffer.getvalue()


@cache
def samples_file():
    """The samples.npz file of a run in a comparison."""
    import ggf_cli
    from ggf_cli.comparison.cell_runs import plan_cell_run
    from ggf_cli.engine import Engine
    from ggf_cli.runs.execute import execute

    engine = Engine(
        ggf_cli.load_model("mixture", device="cpu"),
        ggf_cli.solvers.make_solver("em", {"steps": 2}),
        batch_size=2,
    )
    plan = plan_cell_run(engine, range(2), keep_x=True, model_argument="mixture", config=None)
    folder = run_folder().parent / "cell"
    result = execute(plan, folder)
    assert load_samples(folder, result.log.files) is not None
    return (folder / "samples.npz").read_bytes()


CONFIG = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [4],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 1,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 2,
    "out_channels": 1,
    "sample_size": 4,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D"],
}
NCSNPP = {
    **CONFIG,
    "in_channels": 3,
    "out_channels": 3,
    "time_embedding_type": "fourier",
    "mid_block_scale_factor": 1.41421356237,
    "norm_num_groups": None,
    "block_out_channels": [4, 4],
    "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"],
    "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"],
}
ADM = {
    **CONFIG,
    "block_out_channels": [4, 4],
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "downsample_type": "resnet",
    "num_class_embeds": 3,
    "resnet_time_scale_shift": "scale_shift",
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "upsample_type": "resnet",
}
SCHEDULERS = [
    {
        "_class_name": "DDPMScheduler",
        "beta_schedule": "linear",
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
    },
    {
        "_class_name": "ScoreSdeVeScheduler",
        "sigma_min": 0.01,
        "sigma_max": 50.0,
        "sampling_eps": 1e-5,
    },
    {"_class_name": "ScoreSdeVpScheduler", "beta_min": 0.1, "beta_max": 20.0, "sampling_eps": 1e-3},
]


INDEX = "diffusion_pytorch_model.safetensors.index.json"


@cache
def shards():
    """The files of a diffusers folder whose weights are in several files: name -> content."""
    from diffusers_models import quiet, random_network

    arguments = {key: value for key, value in ADM.items() if not key.startswith("_")}
    folder = Path(tempfile.mkdtemp(prefix="ggf-fuzz-"))
    quiet(random_network(**arguments).save_pretrained, folder, max_shard_size="9KB")
    (folder / "scheduler_config.json").write_bytes(as_json(SCHEDULERS[0]))
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# --- use of a changed file ------------------------------------------------------------------------


def load(content, folder):
    path = folder / "model.safetensors"
    path.write_bytes(content)
    load_model(path)


def read_torch(content, folder):
    path = folder / "weights.bin"
    path.write_bytes(content)
    tensors.read_tensors(path)


def iddpm_file():
    """A small network of ADM, in the preconditioning that has a table of noise levels."""
    content = edm_files.content("narrow-uncond-adm")
    content["ema"].part = "iDDPMPrecond"
    content["ema"].register_buffer("u", torch.tensor([90.0, 1.0, 0.01, 0.0]))
    content["ema"].sigma_min, content["ema"].sigma_max = 0.01, 90.0
    return edm_files.pickled(content)


def read_pkl(content, folder):
    path = folder / "network.pkl"
    path.write_bytes(content)
    load_model(path)


def read_song(content, folder):
    path = folder / "weights.pth"
    torch.save(content, path)
    score_sde.read(path)


def read_pt(value, folder):
    content, config = value
    path = folder / "weights.pt"
    torch.save(content, path)
    load_model(path, config=config)


def read_diffusers(files, folder):
    for name, content in zip(("config.json", "scheduler_config.json"), files, strict=True):
        (folder / name).write_bytes(content)
    shutil.copy(run_folder().parent / "weights.bin", folder / "diffusion_pytorch_model.bin")
    load_model(folder)


def read_shards(files, folder):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    load_model(folder, device="cpu")


def read_registry(content, folder):
    path = folder / "checkpoints.toml"
    path.write_bytes(content)
    entries = read_manifest(path)
    os.environ["GGF_MANIFEST"] = str(path)
    try:
        for command in (["list-models"], ["list-models", "--json"]):
            command_line(command, folder)
        for name in list(entries)[:3]:
            find_model(name)
    finally:
        del os.environ["GGF_MANIFEST"]


def read_run(content, folder):
    path = folder / "run.json"
    path.write_bytes(content)
    record = find_record(path)
    assert all(
        isinstance(text, str) for fact in run_summary(record.log, record.image) for text in fact
    )
    command_line(["show", str(path)], folder)
    command_line(["show", str(path), "--check"], folder)


def read_journal(content, folder):
    run = folder / "run"
    run.mkdir()
    (run / "journal-0.jsonl").write_bytes(content)
    command_line([*UNENDED, "--resume", "--out", run], folder)
    command_line([*UNENDED, "--force", "--out", run], folder)


def read_image(content, folder):
    path = folder / "grid.png"
    path.write_bytes(content)
    find_record(path)
    command_line(["show", str(path)], folder)


def read_comparison(content, folder):
    (folder / "compare.json").write_bytes(content)
    command_line(["show", str(folder)], folder)
    before = read_document(folder)
    assert before is not None
    # A resumed comparison uses these.
    assert isinstance(before["n"] + before["repeats"], int)
    assert [cell["id"] for cell in before["cells"]] != None
    assert [
        cell.get(key) for cell in before["cells"] for key in ("solver", "given", "matches")
    ] != None


def read_reference(content, folder):
    path = folder / "stats.npz"
    path.write_bytes(content)
    read_statistics(path, 4)


def read_samples(content, folder):
    (folder / "samples.npz").write_bytes(content)
    load_samples(folder, [FileLog(path="samples.npz", sha256=sha256_of(content))])


def read_images(content, folder):
    for i in range(10):
        (folder / f"{i}.png").write_bytes(content if i == 5 else image_file("PNG"))
    for batch in ImageFolder(folder, (3, 8, 8)).batches(4):
        assert batch.shape[1:] == (3, 8, 8)


def command_line(words, folder):
    """Run the program in this process; it must end with a documented exit code."""
    done = ggf(*words)
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    assert done.exit_code in EXIT_CODES
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def sample(words, folder):
    command_line(["sample", *words, "--format", "none", "--out", folder / "run"], folder)


# --- the kinds of input ---------------------------------------------------------------------------


@dataclass
class Kind:
    """A kind of input.

    Attributes:
        inputs: The strategy for inputs.
        use: Called with an input and an empty folder.
        examples: The number of inputs in an ordinary run.
    """

    inputs: Any
    use: Any
    examples: int = 40


def headers(content):
    header, data = header_of(content)
    document = json.loads(header["__metadata__"]["ggf"])
    descriptions = edited_json(document).map(
        lambda d: with_header({**header, "__metadata__": {"ggf": json.dumps(d)}}, data)
    )
    return st.one_of(descriptions, edited_json(header).map(lambda h: with_header(h, data)))


_TENSOR = st.sampled_from(
    [
        torch.zeros(2, 3),
        torch.zeros(()),
        torch.zeros(3).long(),
        torch.zeros(2).expand(4, 2),
        torch.zeros(2, 2).T,
    ]
)
_CONTENT = st.recursive(
    st.one_of(_TENSOR, st.none(), st.integers(-5, 5), TEXT.filter(lambda t: "\ud800" not in t)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "model",
                    "ema",
                    "shadow_params",
                    "step",
                    "module.all_modules.54.weight",
                    "all_modules.0.W",
                    "all_modules.76.bias",
                    "sigmas",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)
_SONG = st.fixed_dictionaries(
    {
        "model": st.dictionaries(
            st.sampled_from(
                [
                    f"module.all_modules.{i}.{part}"
                    for i in (0, 1, 2, 3, 54, 58, 76)
                    for part in ("W", "weight", "bias", "Conv_0.weight", "NIN_0.W")
                ]
                + ["sigmas"]
            ),
            _TENSOR,
            max_size=12,
        ),
        "ema": st.fixed_dictionaries({"shadow_params": st.lists(_TENSOR, max_size=12)}),
    }
)


def tables_of_openai():
    """A table of tensors of OpenAI's code with a few changes, and a `config`."""
    from adm_files import RECORDED, adm_config, weights

    good = weights(RECORDED["plain"]["shapes"])
    names = st.sampled_from([*sorted(good), "label_emb.weight", "output_blocks.9999.1.conv.weight"])
    tensor = st.one_of(_TENSOR, st.sampled_from([torch.zeros(0), *good.values()]), st.none())
    changes = st.dictionaries(names, tensor, max_size=3)
    removed = st.sets(names, max_size=2)
    config = st.sampled_from(
        [adm_config("plain"), None, "lsun_cat", "image_size=8,num_heads=3,noise_schedule=cosine"]
    )
    table = st.builds(
        lambda c, r: {n: t for n, t in (good | c).items() if n not in r}, changes, removed
    )
    return st.tuples(table, config)


_OPTIONS = [
    "--n",
    "--indices",
    "--seed",
    "--batch-size",
    "--device",
    "--precision",
    "--solver",
    "--t-eps",
    "--max-nfe",
    "--grid",
    "--eps-rel",
    "--eps-abs",
    "--steps",
    "--nfe",
    "--norm",
    "--reference",
    "--snr",
    "--h-init",
    "--safety",
    "--exponent",
    "--schedule",
    "--intervals",
    "--rho",
    "--order",
    "--model",
]
_WORDS = st.one_of(
    TEXT,
    NUMBER.map(str),
    st.sampled_from(
        [
            "em",
            "pc",
            "heun",
            "restart",
            "ode-rk45",
            "unipc",
            "auto",
            "cpu",
            "bf16",
            "0-3,7",
            "2x2",
            "1e-3",
            "2,1",
            "hf:a/b@../c",
            "0.06-0.30:2x2",
            "mixture",
        ]
    ),
)
# These options accept large counts, which take long: only refused values are tried here.
_PATIENT = {"--n", "--max-nfe", "--steps", "--nfe", "--batch-size", "--indices", "--intervals"}


def affordable(pairs):
    """Whether the counts are small, or so large that they are refused."""
    return all(name not in _PATIENT or len(value) <= 3 or len(value) >= 12 for name, value in pairs)


_COMMANDS = (
    st.lists(st.tuples(st.sampled_from(_OPTIONS), _WORDS), min_size=1, max_size=3)
    .filter(affordable)
    .map(
        lambda pairs: ["--model", "mixture", "--n", "2", "--max-nfe", "6", *itertools.chain(*pairs)]
    )
)
_OTHERS = st.one_of(
    st.tuples(
        st.sampled_from(["show", "convert", "inspect", "list-solvers", "download"]),
        st.lists(_WORDS, max_size=3),
    ),
    st.tuples(
        st.just("compare"),
        st.lists(
            st.one_of(
                _WORDS,
                st.sampled_from(
                    [
                        "--n",
                        "--nfe",
                        "--eps-rel",
                        "--metric",
                        "--repeats",
                        "--preset",
                        "--budget",
                        "--seed",
                    ]
                ),
            ),
            max_size=4,
        ).map(lambda words: ["em:steps=2", *words, "--model", "nope"]),
    ),
).map(lambda pair: [pair[0], *pair[1]])


@cache
def kinds():
    registry = find_manifest().read_bytes()
    block = b"[mixture]" + registry.split(b"[mixture]")[1].split(b"\n\n")[0]
    log = json.loads((run_folder() / "run.json").read_text())
    grid = (run_folder() / "grid.png").read_bytes()
    (run_folder().parent / "weights.bin").write_bytes(torch_file())
    bytes_or_text = st.one_of(
        st.binary(max_size=40), TEXT.map(lambda t: t.encode(errors="replace"))
    )
    chunks = st.lists(
        st.tuples(
            st.sampled_from([b"tEXt", b"iTXt", b"zTXt", b"IHDR", b"IEND"]),
            bytes_or_text.map(lambda b: b"ggf\0" + b),
        ),
        max_size=4,
    )
    return {
        "safetensors": Kind(
            st.one_of(*(edited_bytes(f) for f in (exact_file(), network_file()))), load
        ),
        "safetensors-header": Kind(
            st.one_of(*(headers(f) for f in (exact_file(), network_file()))), load, 80
        ),
        "torch-zip": Kind(edited_bytes(torch_file()), read_torch),
        "torch-pickle": Kind(pickles(), read_torch, 60),
        "torch-legacy": Kind(edited_bytes(torch_file(legacy=True)), read_torch),
        "torch-content": Kind(st.one_of(_CONTENT, _SONG), read_song),
        "lucidrains": Kind(trainer_files(), read_pt, 20),
        "adm": Kind(tables_of_openai(), read_pt),
        "edm": Kind(edited_bytes(edm_files.pickled(edm_files.content("skip"))), read_pkl, 60),
        "edm-adm": Kind(edited_bytes(iddpm_file()), read_pkl, 60),
        "diffusers": Kind(
            st.tuples(
                st.one_of(
                    *(edited_json(c).map(as_json) for c in (CONFIG, NCSNPP, ADM)),
                    edited_bytes(as_json(CONFIG)),
                ),
                st.sampled_from(SCHEDULERS).map(as_json),
            ),
            read_diffusers,
        ),
        "diffusers-scheduler": Kind(
            st.tuples(
                st.sampled_from([CONFIG, NCSNPP]).map(as_json),
                st.sampled_from(SCHEDULERS).flatmap(edited_json).map(as_json),
            ),
            read_diffusers,
        ),
        "diffusers-shards": Kind(edited_shards(), read_shards, 60),
        "png": Kind(st.one_of(edited_bytes(grid), chunks.map(png)), read_image),
        "run.json": Kind(
            st.one_of(edited_json(log).map(as_json), edited_bytes(as_json(log))), read_run, 30
        ),
        "journal": Kind(
            st.one_of(
                edited_json(journal_lines()).map(journal), edited_bytes(journal(journal_lines()))
            ),
            read_journal,
            30,
        ),
        "compare.json": Kind(
            st.one_of(edited_json(comparison()).map(as_json), edited_bytes(as_json(comparison()))),
            read_comparison,
        ),
        "registry": Kind(
            st.one_of(edited_bytes(block), edited_bytes(registry), registries()), read_registry
        ),
        "statistics": Kind(
            st.one_of(*(edited_bytes(statistics_file(c)) for c in (False, True))),
            read_reference,
            60,
        ),
        "samples": Kind(edited_bytes(samples_file()), read_samples, 30),
        "images": Kind(
            st.one_of(*(edited_bytes(image_file(f)) for f in ("PNG", "JPEG", "GIF", "TIFF"))),
            read_images,
            30,
        ),
        "sample": Kind(_COMMANDS, sample, 40),
        "commands": Kind(_OTHERS, command_line, 40),
    }


def pickles():
    """Edits of the pickle inside the archive, with correct checksums."""
    with zipfile.ZipFile(io.BytesIO(torch_file())) as file:
        (name,) = [name for name in file.namelist() if name.endswith("data.pkl")]
        pickle = file.read(name)
    return edited_bytes(pickle).map(lambda p: with_pickle(torch_file(), lambda _: p))


@st.composite
def edited_shards(draw):
    """The folder of `shards` with its index or one of its weights files edited."""
    files = dict(shards())
    index = json.loads(files[INDEX])
    parts = sorted(set(index["weight_map"].values()))
    part, tensor = draw(st.sampled_from(parts)), draw(st.sampled_from([*index["weight_map"], "x"]))
    match draw(st.sampled_from(["index", "bytes", "move", "part", "header", "remove"])):
        case "index":
            files[INDEX] = as_json(draw(edited_json(index)))
        case "bytes":
            files[INDEX] = draw(edited_bytes(files[INDEX]))
        case "move":
            index["weight_map"][tensor] = draw(st.one_of(st.sampled_from([*parts, INDEX]), TEXT))
            files[INDEX] = as_json(index)
        case "part":
            files[part] = draw(edited_bytes(files[part]))
        case "header":
            header, data = header_of(files[part])
            files[part] = with_header(draw(edited_json(header)), data)
        case "remove":
            del files[part]
    return files


@st.composite
def trainer_files(draw):
    """A file of denoising-diffusion-pytorch with a few tensors changed, and a `--config`."""
    from lucidrains_files import content_of

    content = content_of(draw(st.sampled_from(["default", "data"])))
    values = st.one_of(
        st.just(torch.zeros(0)),
        st.just(torch.full((40,), torch.nan)),
        st.just(torch.zeros(2, 2, 2, 2)),
        st.just(torch.ones(1, 9, 1, 1).long()),
        VALUE,
    )
    for _ in range(draw(st.integers(0, 3))):
        state = content[draw(st.sampled_from(["model", "ema"]))]
        name = draw(st.sampled_from([*state, "ema_model.model.downs.7.3.weight", "x"]))
        if draw(st.booleans()):
            state.pop(name, None)
        else:
            state[name] = draw(values)
    configs = [
        None,
        "image_size=8",
        "image_size=8,sinusoidal_pos_emb_theta=nan",
        "image_size=99999",
    ]
    return content, draw(st.sampled_from(configs))


def registries():
    """A registry with one block of any values, written as TOML."""
    keys = [
        "summary",
        "dataset",
        "sde",
        "shape",
        "parameters",
        "source",
        "sha256",
        "license",
        "revision",
        "file",
        "snr",
        "x",
    ]
    good = {
        "summary": "s",
        "dataset": "d",
        "shape": [1, 2],
        "parameters": 3,
        "source": "embedded:a.safetensors",
        "sha256": "",
        "license": "MIT",
        "sde": {"name": "vp", "beta_min": 0.1, "beta_max": 20, "t_eps": 0.001},
    }

    def write(changes, name):
        def value(v):
            if isinstance(v, dict):
                return "{" + ", ".join(f"{json.dumps(k)} = {value(i)}" for k, i in v.items()) + "}"
            if isinstance(v, list):
                return "[" + ", ".join(map(value, v)) + "]"
            return (
                "0" if v is None else json.dumps(v).replace("NaN", "nan").replace("Infinity", "inf")
            )

        lines = [f"{key} = {value(v)}" for key, v in {**good, **changes}.items()]
        return "\n".join([f"[{json.dumps(name)}]", *lines]).encode(errors="replace")

    changes = st.dictionaries(st.sampled_from(keys), VALUE, max_size=2)
    return st.builds(write, changes, st.one_of(st.just("a"), TEXT))


# --- the tests ------------------------------------------------------------------------------------


def attempt(kind, value):
    """Use an input and check time, memory and errors; whether it was accepted."""
    with tempfile.TemporaryDirectory(prefix="ggf-fuzz-") as folder, kept_promise(_size(value)):
        kind.use(value, Path(folder))
        return True
    return False


def _size(value):
    return len(value) if isinstance(value, bytes) else 10_000


NAMES = [
    "safetensors",
    "safetensors-header",
    "torch-zip",
    "torch-pickle",
    "torch-legacy",
    "torch-content",
    "lucidrains",
    "adm",
    "edm",
    "edm-adm",
    "diffusers",
    "diffusers-scheduler",
    "diffusers-shards",
    "png",
    "run.json",
    "journal",
    "compare.json",
    "registry",
    "statistics",
    "samples",
    "images",
    "sample",
    "commands",
]


def fuzz(name, examples, *, derandomize, use=attempt):
    kind = kinds()[name]

    @settings(
        max_examples=examples or kind.examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.inputs)
    def run(value):
        use(kind, value)

    run()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_accepted_or_refused_with_an_error(name):
    fuzz(name, None, derandomize=True)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_many_inputs_are_accepted_or_refused_with_an_error(name):
    fuzz(name, 2000, derandomize=False)


def test_all_kinds_are_tried():
    assert list(kinds()) == NAMES


def test_unchanged_files_are_read(tmp_path):
    """The edits start from files that are accepted; others would be refused at once."""
    load(exact_file(), tmp_path)
    load(network_file(), tmp_path)
    for legacy in (False, True):
        read_torch(torch_file(legacy), tmp_path)
    read_torch(with_pickle(torch_file(), lambda pickle: pickle), tmp_path)
    read_run((run_folder() / "run.json").read_bytes(), tmp_path)
    read_comparison(as_json(comparison()), tmp_path)
    for compressed in (False, True):
        read_reference(statistics_file(compressed), tmp_path)
    read_images(image_file("JPEG"), tmp_path)
    (tmp_path / "shards").mkdir()
    read_shards(shards(), tmp_path / "shards")
    assert len(shards()) > 4
    with safe_open(Path(shutil.copy(tmp_path / "model.safetensors", tmp_path / "m")), "pt") as file:
        assert "ggf" in file.metadata()


def main(seconds):
    """Try new inputs of each kind for some seconds; print their number and the failures."""
    found, total = {}, 0
    for name in NAMES:
        outcomes, clock, seen = Counter(), time.monotonic(), set()

        def use(kind, value, name=name, outcomes=outcomes, clock=clock, seen=seen):
            if time.monotonic() - clock > seconds:
                return
            outcomes["inputs"] += 1
            try:
                outcomes["accepted"] += attempt(kind, value)
            # Failures are counted and printed.
            except BaseException as error:  # noqa: BLE001
                import traceback

                where = traceback.extract_tb(error.__traceback__)[-1]
                key = f"{type(error).__name__} {where.filename.rsplit('/', 2)[-2:]} {where.lineno}"
                if key not in seen:
                    seen.add(key)
                    found[f"{name}: {key}: {str(error)[:150]}"] = repr(value)[:3000]

        while time.monotonic() - clock < seconds:
            fuzz(name, 400, derandomize=False, use=use)
        total += outcomes["inputs"]
        counts = f"{outcomes['inputs']:7,} inputs {outcomes['accepted']:7,} accepted"
        sys.stdout.write(f"{name:22} {counts} {len(seen):3} kinds of crash\n")
        sys.stdout.flush()
    sys.stdout.write(f"{total:,} inputs in {len(NAMES) * seconds} s\n")
    for crash, value in found.items():
        sys.stdout.write(f"\n{crash}\n    {value}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
