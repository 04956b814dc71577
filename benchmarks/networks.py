"""Compare full-size networks with their original implementations: outputs, time and memory.

    python benchmarks/networks.py [--song CHECKOUT] [--only NAME ...] [--out FILE]

Both networks have the same random weights. The reference is diffusers' UNet2DModel if it can
represent the model. The CIFAR-10 networks need a CHECKOUT of yang-song/score_sde_pytorch (cb1f359)
and ml_collections, and are skipped without, as is the loading of a .pth file. ffhq-1024 is
evaluated at 256 pixels. Memory is the peak resident size of a separate process during an
evaluation, with the weights.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ggf_cli.checkpoints import native, score_sde
from ggf_cli.checkpoints.diffusers.architecture import read_architecture
from ggf_cli.checkpoints.diffusers.names import native_name
from ggf_cli.checkpoints.load import load_model
from ggf_cli.sde import VESDE, VPSDE
from song import build as build_song
from song import save as save_song
from song import weights

Network = Callable[[Tensor, Tensor], Tensor]

_NCSNPP = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": True,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "mid_block_scale_factor": 1.41421356237,
    "norm_eps": 1e-6,
    "norm_num_groups": None,
    "out_channels": 3,
    "time_embedding_type": "fourier",
}
_DDPM = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "time_embedding_type": "positional",
}


def _levels(kind: str, n: int, attention: int) -> dict[str, list[str]]:
    """Return the block types of n levels, one of them with attention."""
    down = [f"{'Attn' if i == attention else ''}{kind}DownBlock2D" for i in range(n)]
    up = [f"{'Attn' if i == attention else ''}{kind}UpBlock2D" for i in reversed(range(n))]
    return {"down_block_types": down, "up_block_types": up}


# {name: (config of UNet2DModel, height of the images, labels)}
DIFFUSERS: dict[str, tuple[dict[str, Any], int, list[float]]] = {
    # fashion-vp, after its pixel_unshuffle.
    "fashion": (
        {
            **_DDPM,
            **_levels("", 2, -1),
            "block_out_channels": [64, 96],
            "in_channels": 4,
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "out_channels": 4,
            "sample_size": 14,
        },
        14,
        [0.0, 499.5, 999.0],
    ),
    "church": (
        {
            **_NCSNPP,
            **_levels("Skip", 7, 4),
            "block_out_channels": [128, 128, 256, 256, 256, 256, 256],
            "layers_per_block": 2,
            "sample_size": 256,
        },
        256,
        [0.01, 380.0],
    ),
    "ffhq-1024": (
        {
            **_NCSNPP,
            **_levels("Skip", 8, 6),
            "block_out_channels": [16, 32, 64, 128, 256, 512, 512, 512],
            "layers_per_block": 1,
            "sample_size": 1024,
        },
        256,
        [0.01, 1.0, 1348.0],
    ),
    "cifar10-ddpm": (
        {
            **_DDPM,
            **_levels("", 4, 1),
            "block_out_channels": [128, 256, 256, 256],
            "sample_size": 32,
        },
        32,
        [0.0, 17.5, 500.0, 999.0],
    ),
    "church-ddpm": (
        {
            **_DDPM,
            **_levels("", 6, 4),
            "block_out_channels": [128, 128, 256, 256, 512, 512],
            "sample_size": 256,
        },
        256,
        [0.0, 999.0],
    ),
}
SONG: dict[str, list[float]] = {
    "cifar10-ve": [0.01, 1.0, 50.0],
    "cifar10-ve-deep": [0.01, 1.0, 50.0],
    "cifar10-vp": [1.0, 499.5, 999.0],
    "cifar10-vp-deep": [1.0, 499.5, 999.0],
}


def build_theirs(name: str, song: str | None) -> tuple[Network, torch.nn.Module]:
    """Build the reference with weights that depend on their names only.

    Returns:
        The reference as a function network(x, label), and as a module.
    """
    if name not in DIFFUSERS:
        assert song is not None
        network = build_song(song, name)
        return network, network
    config, _, _ = DIFFUSERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    network = UNet2DModel(**{k: v for k, v in config.items() if k != "_class_name"}).eval()
    tensors = weights({n: t.shape for n, t in network.state_dict().items()})
    if "time_proj.weight" in tensors:
        tensors["time_proj.weight"] *= 16
    network.load_state_dict(tensors)
    return lambda x, label: network(x, label).sample, network


def to_native(name: str, theirs: torch.nn.Module, path: Path) -> Path:
    """Write the weights of the reference to a native file."""
    if name not in DIFFUSERS:
        checkpoint = score_sde.read(save_song(theirs, path.with_suffix(".pth")), config=name)
        path.write_bytes(native.to_bytes(checkpoint))
        return path
    config, size, _ = DIFFUSERS[name]
    network, network_config, _ = read_architecture({**config, "sample_size": size}, path)
    levels = len(config["block_out_channels"])
    tensors = theirs.state_dict().items()
    checkpoint = native.Checkpoint(
        network=network,
        network_config=network_config,
        parametrization="ve-continuous" if network == "ncsnpp" else "vp-discrete",
        sde=VESDE() if network == "ncsnpp" else VPSDE(),
        shape=(config["in_channels"], size, size),
        tensors={native_name(n, network, levels): t for n, t in tensors},
    )
    path.write_bytes(native.to_bytes(checkpoint))
    return path


def build_ours(path: Path) -> torch.nn.Module:
    """Load the network of a native file."""
    cells = [cell.cell_contents for cell in load_model(path, device="cpu").score.__closure__]
    return next(cell for cell in cells if isinstance(cell, torch.nn.Module))


def compare(name: str, song: str | None, repeats: int) -> dict[str, Any]:
    """Measure relative errors, memory, and the interleaved times of evaluations of one image."""
    labels = DIFFUSERS[name][2] if name in DIFFUSERS else SONG[name]
    theirs, module = build_theirs(name, song)
    with tempfile.TemporaryDirectory() as folder:
        path = to_native(name, module, Path(folder) / "model.safetensors")
        ours = build_ours(path)
        memory = {which: _peak(name, which, path, song) for which in ("ours", "theirs")}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(labels), *_shape(name), generator=generator)
    expected, found = theirs(x, torch.tensor(labels)), ours(x, torch.tensor(labels).double())
    errors = [float((f - e).norm() / e.norm()) for f, e in zip(found, expected, strict=True)]
    del expected, found
    times: dict[str, list[float]] = {"theirs": [], "ours": []}
    for _ in range(repeats):
        for key, network in (("theirs", theirs), ("ours", ours)):
            label = torch.tensor(labels[-1:])
            start = time.perf_counter()
            network(x[:1], label if key == "theirs" else label.double())
            times[key].append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in ours.parameters())
    return {
        "parameters": parameters,
        "largest_relative_error": max(errors),
        "seconds_theirs": median(times["theirs"]),
        "seconds_ours": median(times["ours"]),
        "time_ratio": median(o / t for o, t in zip(times["ours"], times["theirs"], strict=True)),
        "peak_memory_ours": memory["ours"],
        "peak_memory_theirs": memory["theirs"],
    }


def _peak(name: str, which: str, path: Path, song: str | None) -> int:
    """Measure the peak resident bytes of a process that evaluates one image."""
    command = [sys.executable, __file__, "--only", name, "--measure", which, str(path)]
    command += ["--song", song] if song else []
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(name: str, which: str, path: str, song: str | None) -> int:
    """Evaluate one image in this process; return its peak resident bytes."""
    network = build_ours(Path(path)) if which == "ours" else build_theirs(name, song)[0]
    labels = DIFFUSERS[name][2] if name in DIFFUSERS else SONG[name]
    network(torch.randn(1, *_shape(name)), torch.tensor(labels[-1:]))
    return _status("VmHWM")


def _shape(name: str) -> tuple[int, int, int]:
    if name not in DIFFUSERS:
        return 3, 32, 32
    config, size, _ = DIFFUSERS[name]
    return config["in_channels"], size, size


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def load_pth(song: str) -> dict[str, Any]:
    """Measure time and memory of loading a church checkpoint of 1 GB, with optimizer state."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        save_song(build_song(song, "church"), path)
        command = [sys.executable, __file__, "--load", str(path)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {"file_bytes": path.stat().st_size, **json.loads(out)}


def measure_load(path: str) -> dict[str, Any]:
    """Load in this process; a thread records the peak of anonymous memory."""
    torch.empty(1).normal_()
    before = peak = _status("RssAnon")
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.is_set():
            peak = max(peak, _status("RssAnon"))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model = load_model(path, config="church", device="cpu")
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    size = 4 * model.provenance["parameters"]
    return {"seconds": seconds, "model_bytes": size, "peak_over_model": (peak - before) / size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--song", help="checkout of score_sde_pytorch")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    if args.load:
        print(json.dumps(measure_load(args.load)))
        return
    if args.measure:
        print(measure(args.only[0], *args.measure, args.song))
        return
    names = args.only or [*DIFFUSERS, *(SONG if args.song else ())]
    if not args.song:
        print(
            "skipped without --song:",
            ", ".join(SONG),
            "and the loading of a .pth file",
            file=sys.stderr,
        )
    report: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    for name in names:
        report[name] = compare(name, args.song, args.repeats)
        print(name, json.dumps(report[name], indent=2), flush=True)
    if args.song and not args.only:
        report["load a .pth of 1 GB"] = load_pth(args.song)
        print(json.dumps(report["load a .pth of 1 GB"], indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
