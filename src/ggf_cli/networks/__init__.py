"""The table of networks: the values of `network.name` in a checkpoint."""

from __future__ import annotations

from ggf_cli.registry import Entry

NETWORKS: dict[str, Entry] = {
    "unet": Entry("ggf_cli.networks.unet:UNet", "the DDPM U-Net of Ho et al. 2020"),
    "ncsnpp": Entry("ggf_cli.networks.ncsnpp:NCSNpp", "NCSN++ and DDPM++ of Song et al. 2021"),
    "lucidrains": Entry(
        "ggf_cli.networks.lucidrains:LucidrainsUNet", "the U-Net of denoising-diffusion-pytorch"
    ),
    "adm": Entry("ggf_cli.networks.adm:ADM", "the U-Net of Dhariwal and Nichol 2021 (ADM)"),
    "gaussian-mixture": Entry(
        "ggf_cli.networks.mixture:GaussianMixture", "a mixture of Gaussians with its exact score"
    ),
}
