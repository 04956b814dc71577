"""Documents of comparisons that were never run: realistic cases and edge cases."""

import random
from statistics import mean, stdev

DIGEST = "0123456789abcdef" * 4
METRICS = {
    "ffd": (
        "FFD",
        "Fréchet distance to Fashion-MNIST in 64 features of a small classifier (not FID)",
        True,
        2,
    ),
    "coverage": ("coverage", "share of real images with a sample nearby", False, 3),
    "frechet": ("Fréchet", "Fréchet distance to the exact mean and covariance", True, 4),
    "swd": ("SWD", "sliced Wasserstein distance to as many exact samples", True, 4),
}


def summary(values):
    """The values of a metric with their mean and standard error, as in compare.json."""
    se = stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return {"values": values, "groups": values, "mean": mean(values), "se": se}


def _floor(values):
    return {key: value for key, value in summary(values).items() if key != "groups"}


def metric(name, *, repeats=3, floor=None, what="300 real test images", dimensions=None):
    """The entry of a metric in compare.json; `floor` is the mean of its floor."""
    title, about, lower, digits = METRICS[name]
    draws = (
        None
        if floor is None
        else [floor * (1 + 0.1 * (r - (repeats - 1) / 2)) for r in range(repeats)]
    )
    return {
        "name": name,
        "title": title,
        "summary": about,
        "lower_is_better": lower,
        "digits": digits,
        "floor": draws and {**_floor(draws), "what": what},
        **({"dimensions": dimensions} if dimensions else {}),
        "notes": ["300 samples: compare at equal n only."],
    }


def cell(
    id,
    label,
    *,
    series=None,
    quality=None,
    nfe=None,
    adaptive=False,
    role="contender",
    matches=None,
    status="done",
    error=None,
    repeats=3,
    n=300,
    seed=0,
    options=None,
    published=None,
):
    """A cell of compare.json; its repeats are drawn around `quality`, {metric: mean}."""
    series = series or label.split()[0]
    options = options or {}
    found = {
        "id": id,
        "label": label,
        "series": series,
        "solver": series,
        "options": options,
        "given": options,
        "adaptive": adaptive,
        "role": role,
        "matches": matches,
        "status": status,
        "error": error,
        "command": f"ggf sample --model fashion-vp --solver {series} --n {n}",
        "runs": [],
        "quality": {},
        "nfe": None,
        "nfe_counts": None,
        "steps": None,
        "lost": None,
        "utilisation": None,
        "rows_evaluated": None,
        "network_calls": None,
        "seconds": None,
        "images_per_s": None,
        "evaluations_per_s": None,
        "peak_memory_bytes": None,
        "step_sizes": None,
        "published": published,
        "best": False,
        "statement": None,
    }
    if status != "done":
        return found
    draw = random.Random(f"{id} {seed}")
    counts = [
        max(2, round(draw.gauss(nfe, nfe / 20))) if adaptive else nfe for _ in range(n * repeats)
    ]
    counts, rejected = sorted(counts), round(sum(counts) / 10) if adaptive else 0
    total, t = sum(counts), [1 - (i + 0.5) / 40 for i in range(40)]
    h = [1.5 / nfe * (0.3 + 1.4 * s) if adaptive else 1 / nfe for s in t]
    return found | {
        "runs": [f"cells/{id}/{r}" for r in range(repeats)],
        "quality": {
            name: summary([max(0, draw.gauss(value, value / 30)) for _ in range(repeats)])
            for name, value in quality.items()
        },
        "nfe": {
            "mean": total / len(counts),
            "min": counts[0],
            "p50": float(counts[len(counts) // 2]),
            "p95": float(counts[int(len(counts) * 0.95)]),
            "max": counts[-1],
            "total": total,
        },
        "nfe_counts": {str(k): counts.count(k) for k in sorted(set(counts))},
        "steps": {"accepted": total // 2, "rejected": rejected},
        "lost": 0,
        "utilisation": 0.985,
        "rows_evaluated": total,
        "network_calls": total // 64,
        "seconds": total * 1.4e-3,
        "images_per_s": len(counts) / (total * 1.4e-3),
        "evaluations_per_s": 714.3,
        "peak_memory_bytes": 812_000_000,
        "step_sizes": {
            "t": t,
            "p10": [0.6 * v for v in h] if adaptive else h,
            "p50": h,
            "p90": [1.5 * v for v in h] if adaptive else h,
        },
    }


def _statement(cell, baseline, name, sign):
    """The statement about a cell, from the means alone."""
    own, other = (c["quality"][name]["mean"] for c in (cell, baseline))
    difference, margin = sign * (own - other), 0.05 * other
    half = None if cell["quality"][name]["se"] is None else 0.1 * margin
    claim = "worse" if difference > margin else "better" if difference < -margin else "equivalent"
    claim = "undecided" if half is None else claim
    return {
        "baseline": baseline["id"],
        "claim": claim,
        "difference": difference,
        "half": half,
        "margin": margin,
        "samples": None,
    }


def comparison(cells, metrics, *, repeats=3, **changes):
    """The document of these cells; a simple rule makes the statements and the recommendation."""
    first = metrics[0]["name"]
    done = [c for c in cells if c["status"] == "done"]
    if done:
        sign = 1 if metrics[0]["lower_is_better"] else -1
        best = min(done, key=lambda c: sign * c["quality"][first]["mean"])
        best["best"] = True
        baseline = max(done, key=lambda c: c["nfe"]["mean"])
        for c in done:
            if c is not baseline:
                c["statement"] = _statement(c, baseline, first, sign)
        good = [c for c in done if (c["statement"] or {"claim": "better"})["claim"] != "worse"]
        chosen = min(good, key=lambda c: c["nfe"]["mean"])
    return {
        "schema": "ggf-compare/2",
        "status": "completed" if all(c["status"] != "pending" for c in cells) else "interrupted",
        "command": "ggf compare em adaptive --model fashion-vp --n 300 --repeats 3 "
        "--eps-rel 0.01,0.02,0.05,0.1 --seed 0",
        "started_at": "2026-11-23T09:00:00+00:00",
        "finished_at": "2026-11-23T09:11:12+00:00",
        "model": {
            "name": "fashion-vp",
            "source": "fashion-vp.safetensors",
            "sha256": DIGEST,
            "sde": {
                "name": "vp",
                "beta_min": 0.1,
                "beta_max": 20.0,
                "t_eps": 1e-3,
                "data_range": [-1.0, 1.0],
            },
            "shape": [1, 28, 28],
            "parameters": 1_234_567,
            "exact": False,
            "summary": "Fashion-MNIST, 28 × 28, shipped with ggf",
        },
        "device": "cpu (2 threads)",
        "precision": "bf16",
        "compiled": False,
        "batch_size": 64,
        "versions": {"ggf-cli": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "numpy": "2.3.1"},
        "seed": 0,
        "n": 300,
        "repeats": repeats,
        "budget_s": 600.0,
        "margin": 0.05,
        "statements": max(0, len(done) - 1),
        "preset": None,
        "notes": [
            "300 samples a repeat are what 10 minutes afford at 714 evaluations/s.",
            "For error bars half as wide: ggf compare em adaptive --n 1200.",
        ],
        "metrics": metrics,
        "cells": cells,
        "findings": [
            (
                "At the same NFE, adaptive eps-rel 0.05 is better than em nfe 139: FFD 6.4 and "
                "9.9, difference -3.5, 95 % confidence interval -4.7 to -2.3."
            ),
            ("adaptive eps-rel 0.02 is equivalent to em 1000, with 4.2 times fewer evaluations."),
        ]
        if done
        else [],
        "recommendation": {
            "overall": chosen["id"],
            "by_series": {chosen["series"]: chosen["id"]},
            "within": 0.05,
            "text": f"Use {chosen['label']}: the cheapest that is equivalent.",
        }
        if done
        else {"overall": None, "by_series": {}, "within": 0.05, "text": "Nothing is drawn yet."},
        "files": [],
        **changes,
    }


ADAPTIVE = {
    0.01: (360, 5.2, 5.5),
    0.02: (239, 5.3, 7.6),
    0.05: (139, 6.4, 9.9),
    0.1: (100, 9.1, 14.2),
}


def fashion(*, repeats=3, metrics=("ffd",), published=False):
    """Compare em and adaptive on the embedded model; one cell has failed."""
    cells, extra = [], {"coverage": 0.82} if "coverage" in metrics else {}
    for eps_rel, (nfe, ours, em) in ADAPTIVE.items():
        id = f"adaptive-eps_rel={eps_rel}"
        table = {"nfe": 274, "fid": 2.74} if published and eps_rel == 0.02 else None
        cells.append(
            cell(
                id,
                f"adaptive eps-rel {eps_rel}",
                quality={"ffd": ours, **extra},
                nfe=nfe,
                adaptive=True,
                repeats=repeats,
                options={"eps_rel": eps_rel, "norm": "l2"},
                published=table,
            )
        )
        cells.append(
            cell(
                f"em-steps={nfe - 1}",
                f"em {nfe} NFE",
                quality={"ffd": em, **extra},
                nfe=nfe,
                role="matched",
                matches=id,
                repeats=repeats,
                options={"steps": nfe - 1},
            )
        )
    cells.append(
        cell(
            "dpmpp-2m-sde",
            "dpmpp-2m-sde",
            quality={"ffd": 5.9, **extra},
            nfe=51,
            repeats=repeats,
            options={"steps": 50},
        )
    )
    cells.append(
        cell(
            "ode-rk45",
            "ode-rk45",
            status="failed",
            adaptive=True,
            options={"rtol": 1e-5},
            error="3 of 300 samples met a score or a state that is not finite, by ode-rk45; "
            "the first is index 7",
        )
    )
    cells.append(
        cell(
            "em-steps=1000",
            "em 1000",
            quality={"ffd": 5.25, **extra},
            nfe=1001,
            role="reference",
            repeats=repeats,
            options={"steps": 1000},
        )
    )
    floors = {"ffd": 2.1, "coverage": 0.93}
    return comparison(
        cells, [metric(m, repeats=repeats, floor=floors[m]) for m in metrics], repeats=repeats
    )


def pending():
    """No cell is done."""
    cells = [
        cell("adaptive", "adaptive eps-rel 0.02", status="pending", adaptive=True),
        cell("em-match", "em", status="pending", role="matched", matches="adaptive"),
    ]
    return comparison(cells, [metric("ffd")])


def single():
    """One cell only."""
    return comparison(
        [cell("em", "em 100 NFE", quality={"ffd": 12.0}, nfe=100)], [metric("ffd", floor=2.1)]
    )


def exact():
    """A model with an exact score, two metrics, and one solver that is worst in both."""
    qualities = {"adaptive": 0.011, "em": 0.4, "dpmpp-2m-sde": 0.02}
    cells = [
        cell(s, s, quality={"frechet": q, "swd": q / 3}, nfe=60, adaptive=s == "adaptive", n=500)
        for s, q in qualities.items()
    ]
    model = {
        "name": "mixture",
        "source": None,
        "sha256": None,
        "parameters": None,
        "exact": True,
        "summary": None,
        "shape": [16],
        "sde": {
            "name": "ve",
            "sigma_min": 0.01,
            "sigma_max": 50.0,
            "t_eps": 1e-5,
            "data_range": [0, 1],
        },
    }
    metrics = [
        metric("frechet", floor=0.01, what="500 exact samples"),
        metric("swd", floor=0.003, what="500 exact samples"),
    ]
    return comparison(cells, metrics, model=model, n=500, budget_s=None)


def extrapolated():
    """Fréchet distances with their values for n to infinity, one of them below the floor."""
    cells = [
        cell("adaptive", "adaptive", quality={"ffd": 2.09}, nfe=60, adaptive=True),
        cell("em", "em 1000", quality={"ffd": 2.4}, nfe=1001, role="reference"),
    ]
    for c in cells:
        c["quality"]["ffd"]["excess"] = [2.0, 2.1, 2.05]
    return comparison(cells, [metric("ffd", floor=2.17, dimensions=64)])


def many(count=30):
    """Many cells, of six solvers."""
    cells = []
    for i in range(count):
        series = ("adaptive", "em", "heun", "ddim", "dpmpp-2m", "ode-rk45")[i % 6]
        nfe = 20 + 12 * (i // 6) ** 2 + i
        cells.append(
            cell(
                f"{series}-{i}",
                f"{series} setting {i // 6}",
                quality={"ffd": 4 + 600 / nfe + i % 6},
                nfe=nfe,
                adaptive=i % 6 in (0, 5),
                options={f"option_{series}": i},
            )
        )
    return comparison(cells, [metric("ffd", floor=2.1)])


def unjudged():
    """A model without a reference: no metrics, only costs. One cell is partly drawn."""
    document = fashion()
    for c in document["cells"]:
        c.update(quality={}, best=False, statement=None)
    document["cells"][0].update(status="pending", runs=["cells/a/0", "cells/a/1"])
    return document | {
        "metrics": [],
        "findings": [],
        "recommendation": None,
        "status": "interrupted",
    }


ALL = {
    "fashion": fashion,
    "one repeat": lambda: fashion(repeats=1),
    "published": lambda: fashion(published=True, metrics=("ffd", "coverage")),
    "pending": pending,
    "single": single,
    "exact": exact,
    "extrapolated": extrapolated,
    "many": many,
    "unjudged": unjudged,
}
