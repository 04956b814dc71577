"""`ggf certify`: check whether a sampler is right, on models whose distribution is known exactly.

Exit codes: 0 if the sampler is right or the result is undecided, which the output says; 4 if it is
wrong; 2 if there is no such sampler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins
from rich.table import Table
from rich.text import Text

from ggf_cli.cli import console
from ggf_cli.text import plain

if TYPE_CHECKING:
    from ggf_cli.certification.documents import Certificate

_STYLES = {"right": "green", "wrong": "bold red", "undecided": "yellow", "not applicable": "dim"}


def certify(
    sampler: Annotated[
        str,
        typer.Argument(
            help="A solver (adaptive, em:steps=200), a scheduler of diffusers"
            " (diffusers:DDIMScheduler), a function of k-diffusion (k-diffusion:sample_heun), or"
            " your function (FILE.py:FUNCTION), whose file is run.",
            show_default=False,
        ),
    ],
    n: Annotated[int, typer.Option("--n", help="Samples of each distribution.")] = 4000,
    dimension: Annotated[int, typer.Option("--dimension", help="Numbers of a sample.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Number of steps; else that of the sampler."),
    ] = None,
    order: Annotated[
        float | None, typer.Option("--order", help="The order that the sampler claims.")
    ] = None,
    nfe: Annotated[
        int | None, typer.Option("--nfe", help="The evaluations of a sample that it claims.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check whether a sampler is right, on models that are known exactly.

    ggf certify em:steps=200

    ggf certify diffusers:DPMSolverMultistepScheduler --json

    ggf certify k-diffusion:sample_dpmpp_2m_sde:solver_type=heun

    ggf certify my_sampler.py:sample --order 2
    """
    # Imported here, because it imports torch.
    from ggf_cli.certification.certify import certify as run

    with console.busy(f"certifying {sampler}", quiet=json):
        certificate = run(
            sampler, n=n, dimension=dimension, seed=seed, steps=steps, order=order, nfe=nfe
        )
    if json:
        console.result_json(to_builtins(certificate))
    else:
        console.show(_table(certificate))
        console.result(f"\n{plain(certificate.sentence)}")
    raise typer.Exit(certificate.exit_code)


def _table(certificate: Certificate) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True, style="bold")
    table.add_column("problem", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("measured", overflow="fold")
    for check in certificate.checks:
        status = Text(check.status, style=_STYLES[check.status])
        table.add_row(check.name, check.problem, status, Text(plain(check.summary)))
    return table
