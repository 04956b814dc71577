"""The table of solvers: a new solver is one file and one entry here. Does not import torch."""

from __future__ import annotations

from ggf_cli.registry import Entry

SOLVERS: dict[str, Entry] = {
    "adaptive": Entry(
        "ggf_cli.solvers.adaptive:Adaptive",
        "the paper's adaptive step-size solver, error control for each sample",
    ),
    "adaptive-multistep": Entry(
        "ggf_cli.solvers.adaptive_multistep:AdaptiveMultistep",
        "adaptive steps at one evaluation each, none rejected",
    ),
    "em": Entry(
        "ggf_cli.solvers.euler_maruyama:EulerMaruyama",
        "Euler–Maruyama, the fixed-step baseline",
    ),
    "heun": Entry(
        "ggf_cli.solvers.heun:Heun",
        "EDM's second-order solver, optionally with churn",
    ),
    "restart": Entry(
        "ggf_cli.solvers.restart:Restart",
        "Heun, going back up through some noise levels",
    ),
    "reverse-diffusion": Entry(
        "ggf_cli.solvers.reverse_diffusion:ReverseDiffusion",
        "Song's predictor: the forward discretisation, reversed",
    ),
    "ancestral": Entry(
        "ggf_cli.solvers.ancestral:Ancestral",
        "DDPM's step: a draw of x_next given x and the denoised image",
    ),
    "pc": Entry(
        "ggf_cli.solvers.predictor_corrector:PredictorCorrector",
        "reverse diffusion with a Langevin corrector",
    ),
    "ddim": Entry(
        "ggf_cli.solvers.ddim:DDIM",
        "deterministic, order 1: same noise, next level",
    ),
    "lamba": Entry(
        "ggf_cli.solvers.lamba:Lamba",
        "Lamba's adaptive Euler–Maruyama, the drift's error alone",
    ),
    "ode-rk45": Entry(
        "ggf_cli.solvers.ode_rk45:OdeRK45",
        "Dormand–Prince on the probability flow ODE, as in scipy",
    ),
    "dpm-adaptive": Entry(
        "ggf_cli.solvers.dpm_adaptive:DPMAdaptive",
        "DPM-Solver-12 or -23 with k-diffusion's PID controller",
    ),
    "sra1": Entry(
        "ggf_cli.solvers.sra:SRA1",
        "Rößler's SRA1, strong order 1.5, adaptive",
    ),
    "sra3": Entry(
        "ggf_cli.solvers.sra:SRA3",
        "Rößler's SRA3, strong order 1.5, adaptive",
    ),
    "dpmpp-2m": Entry(
        "ggf_cli.solvers.dpmpp_2m:DPMpp2M",
        "DPM-Solver++(2M): deterministic, order 2 at one evaluation a step",
    ),
    "dpmpp-2m-sde": Entry(
        "ggf_cli.solvers.dpmpp_2m_sde:DPMpp2MSDE",
        "SDE-DPM-Solver++(2M): the same with noise",
    ),
    "unipc": Entry(
        "ggf_cli.solvers.unipc:UniPC",
        "predictor and corrector from one evaluation",
    ),
    "er-sde-3": Entry(
        "ggf_cli.solvers.er_sde:ERSDE3",
        "ER-SDE-Solver-3: stochastic, multistep, less noise",
    ),
}
