"""The SDE of a run as types: the entry `model.sde` of `run.json` and of `compare.json`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ggf_cli.documents import Amount, EndTime, LateEndTime, Number, about


class SDESettings(Struct, kw_only=True, tag_field="name"):
    """The SDE of a run."""

    t_eps: EndTime
    data_range: Annotated[list[Number], Meta(min_length=2, max_length=2)]


class VESettings(SDESettings, kw_only=True, tag="ve"):
    """A VE SDE."""

    sigma_min: Number
    sigma_max: Number


class VPSettings(SDESettings, kw_only=True, tag="vp"):
    """A VP SDE."""

    beta_min: Number
    beta_max: Number


class SubVPSettings(VPSettings, kw_only=True, tag="subvp"):
    """A sub-VP SDE."""


class CosineSettings(SDESettings, kw_only=True, tag="cosine"):
    """A cosine VP SDE."""

    s: Amount
    T: Amount


class EDMSettings(SDESettings, kw_only=True, tag="edm"):
    """EDM's SDE, whose time is the noise level."""

    t_eps: LateEndTime
    sigma_min: Number
    sigma_max: Number


class FlowSettings(SDESettings, kw_only=True, tag="flow"):
    """The SDE of flow matching."""

    T: Amount


class CustomSettings(SDESettings, kw_only=True, tag="custom"):
    """An SDE of the user, which is Python code: its alpha and sigma at a few times."""

    t_eps: LateEndTime
    T: Amount
    times: Annotated[list[Number], about("from t_eps to T")]
    alpha: Annotated[list[Number], about("at these times")]
    sigma: Annotated[list[Number], about("at these times")]


AnySDESettings = (
    VESettings
    | VPSettings
    | SubVPSettings
    | CosineSettings
    | EDMSettings
    | FlowSettings
    | CustomSettings
)
