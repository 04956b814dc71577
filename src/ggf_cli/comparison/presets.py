"""Presets: published tables as line-ups, with the published numbers.

Of the GGF paper: settings are those of the official experiments (AlexiaJM/score_sde_fast_sampling,
experiments.sh at 5da8f3f): t_eps of the model, eps_abs = (y_max - y_min) / 256, baselines at the
NFE of each tolerance, Euler–Maruyama and the predictor-corrector as references. Published numbers
are from the authors' repository (the notebook with the paper's results, at 29c01ea) or quoted by
public benchmark sites; cells that are in neither have none. The published NFE of `adaptive` is that
of the slowest sample of a batch, without the denoising evaluation, so ours is lower at the same
setting.

Of EDM (Karras et al. 2022, arXiv:2206.00364, table 2): its deterministic sampler, `heun`, at its
NFE; other solvers beside it have no published number there. Its FID is the smallest of three sets
of 50,000 samples, whose spread is about 0.03. ImageNet is drawn by its stochastic sampler, with the
settings of the README of NVlabs/edm.

A preset also works for a model that is not in the paper: without published numbers, and with as
many samples as the time budget allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ggf_cli.comparison.lineup import EPS_REL, Cell, Contender
from ggf_cli.registry import lookup

Numbers = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A table of a paper.

    Attributes:
        summary: One line for help texts.
        n: The number of samples of the published FID.
        reference: Solver and options of the reference.
        contenders: The rows of the table, for any model.
        snr: {model: signal-to-noise ratio of the Langevin corrector}, where the paper's differs
            from the one in the model registry.
        published: {model: {row: numbers}}; a row is "adaptive 0.02", "em 0.02" (at the NFE of that
            tolerance), "em reference", or the name of a solver.
    """

    summary: str
    n: int
    reference: tuple[str, Mapping[str, Any]]
    contenders: tuple[Contender, ...]
    snr: Mapping[str, float]
    published: Mapping[str, Mapping[str, Numbers]]

    def line_up(self, model: str) -> list[Contender]:
        """Return the contenders for a model."""
        if model not in self.snr:
            return list(self.contenders)
        return [
            Contender(solver=c.solver, given={**c.given, "snr": self.snr[model]})
            if c.solver == "pc"
            else c
            for c in self.contenders
        ]

    def numbers(self, model: str, cells: list[Cell]) -> dict[str, Numbers]:
        """Return the published numbers of the cells, {cell id: numbers}."""
        rows = self.published.get(model, {})
        return {cell.id: rows[row] for cell in cells if (row := _row(cell, cells)) in rows}


def find_preset(name: str) -> Preset:
    """Return the preset with this name.

    Raises:
        UsageError: There is none.
    """
    return lookup(PRESETS, name, "preset", f"presets: {', '.join(PRESETS)}")


def _row(cell: Cell, cells: list[Cell]) -> str:
    """The row of a cell in `Preset.published`."""
    if cell.role == "reference":
        return f"{cell.solver} reference"
    adaptive = next((c for c in cells if c.id == cell.matches), cell)
    eps_rel = adaptive.given.get("eps_rel")
    return cell.solver if eps_rel is None else f"{cell.solver} {eps_rel:g}"


def _column(**cells: tuple[float, ...]) -> dict[str, Numbers]:
    """The rows of a model from pairs of NFE and FID.

    Args:
        cells: One pair for each tolerance of EPS_REL, adaptive=(329, 2.70, 274, 2.74, ...), or a
            single pair, pc=(1999, 4.27).
    """
    rows: dict[str, Numbers] = {}
    for name, numbers in cells.items():
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        if len(pairs) == len(EPS_REL):
            keys = [f"{name} {eps_rel:g}" for eps_rel in EPS_REL]
        else:
            keys = [{"reference": "em reference", "ode": "ode-rk45"}.get(name, name)]
        rows |= {key: {"nfe": nfe, "fid": fid} for key, (nfe, fid) in zip(keys, pairs, strict=True)}
    return rows


_ADAPTIVE, _EM = Contender(solver="adaptive", given={}), Contender(solver="em", given={})
_ODE = Contender(solver="ode-rk45", given={})


def _edm(
    nfe: int, size: str, published: Mapping[str, float], churn: Mapping[str, float] | None = None
) -> Preset:
    """EDM's result at one NFE.

    Args:
        nfe: The evaluations of its sampler.
        size: The data set.
        published: The FID of each model.
        churn: The noise of its sampler, for the options of `heun`; other solvers then have the NFE
            of its deterministic sampler for 64 x 64 pixels.
    """
    given = {"nfe": 79 if churn else nfe}
    tolerance = {"eps_rel": 0.02}
    what = "by heun with noise and" if churn else "by heun with"
    return Preset(
        summary=f"EDM's {'README' if churn else 'table 2'}: {size}, FID of 50,000 samples {what}"
        f" {nfe} evaluations",
        n=50_000,
        reference=("heun", {"nfe": 2 * nfe + 1}),
        contenders=(
            Contender(solver="heun", given={"nfe": nfe, **(churn or {})}),
            Contender(solver="dpmpp-2m", given=given),
            Contender(solver="adaptive-multistep", given=tolerance),
            Contender(solver="adaptive", given=tolerance),
        ),
        snr={},
        published={model: {"heun": {"nfe": nfe, "fid": fid}} for model, fid in published.items()},
    )


PRESETS: dict[str, Preset] = {
    "paper-cifar10": Preset(
        summary="table 1: CIFAR-10, FID of 50,000 samples",
        n=50_000,
        reference=("em", {"nfe": 1000}),
        contenders=(_ADAPTIVE, _EM, _ODE, Contender(solver="pc", given={"nfe": 1999})),
        snr={"cifar10-vp": 0.16, "cifar10-vp-deep": 0.16},
        published={
            "cifar10-vp": _column(
                pc=(1999, 4.27), reference=(1000, 2.55), ode=(142, 3.11),
                adaptive=(329, 2.70, 274, 2.74, 179, 2.59, 147, 2.95),
                em=(329, 10.28, 274, 14.18, 179, 25.49, 147, 31.38),
            ),
            "cifar10-vp-deep": _column(
                pc=(1999, 4.69), reference=(1000, 2.49), ode=(145, 2.86),
                adaptive=(330, 2.56, 274, 2.60, 180, 2.44, 151, 2.73),
                em=(330, 10.00, 274, 13.67, 180, 25.05, 151, 31.93),
            ),
            "cifar10-ve": _column(
                pc=(1999, 2.40), ode=(183, 7.64),
                adaptive=(738, 2.91, 490, 2.87, 271, 3.23, 170, 8.85),
                em=(738, 2.99, 490, 3.05, 271, 3.48, 170, 5.12),
            ),
            "cifar10-ve-deep": _column(
                pc=(1999, 2.21), reference=(1000, 3.14), ode=(181, 5.53),
                adaptive=(736, 3.06, 488, 2.99, 270, 3.40, 170, 10.15),
                em=(736, 3.17, 488, 3.21, 270, 3.76, 170, 5.56),
            ),
        },
    ),
    "paper-256": Preset(
        summary="table 2: 256 x 256 pixels, FID of 5,000 samples",
        n=5_000,
        reference=("em", {"nfe": 2000}),
        contenders=(_ADAPTIVE, _EM, _ODE, Contender(solver="pc", given={"steps": 2000})),
        snr={},
        published={
            # For most cells the sources have only the NFE.
            "church": {
                "adaptive 0.01": {"nfe": 1104}, "adaptive 0.02": {"nfe": 1030, "fid": 26.46},
                "adaptive 0.05": {"nfe": 648}, "adaptive 0.1": {"nfe": 201},
                "em 0.01": {"nfe": 1104}, "em 0.02": {"nfe": 1030}, "em 0.05": {"nfe": 648},
                "em 0.1": {"nfe": 201},
            },
            "ffhq-256": {
                "adaptive 0.01": {"nfe": 1020}, "adaptive 0.02": {"nfe": 643, "fid": 15.67},
                "adaptive 0.05": {"nfe": 336}, "adaptive 0.1": {"nfe": 198},
                "em 0.01": {"nfe": 1020}, "em 0.02": {"nfe": 643}, "em 0.05": {"nfe": 336},
                "em 0.1": {"nfe": 198},
            },
        },
    ),
    "edm-cifar10": _edm(35, "CIFAR-10", {"edm-cifar10-vp": 1.97}),
    "edm-64": _edm(
        79, "FFHQ 64", {"edm-ffhq-vp": 2.39, "edm-ffhq-ve": 2.53}
    ),
    "edm-imagenet": _edm(
        511, "ImageNet 64", {"edm-imagenet": 1.36},
        churn={"s_churn": 40.0, "s_min": 0.05, "s_max": 50.0, "s_noise": 1.003},
    ),
}  # fmt: skip
