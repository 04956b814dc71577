"""Types of model documents: entries of `checkpoints.toml` and native checkpoint metadata."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ggf_cli.documents import Amount, Count, Number, Positive, about

# The kinds of places in `ModelEntry.source`.
EMBEDDED, HUB, DRIVE, WEB = "embedded", "hub", "drive", "web"
NATIVE_SCHEMA = "ggf-checkpoint/1"

SOURCE = (
    rf"{EMBEDDED}:[\w.-]+\.safetensors|{HUB}:[\w-][\w.-]*/[\w-][\w.-]*|{DRIVE}:[\w-]+"
    rf"|{WEB}:[\w-]+(\.[\w-]+)+(/[\w-][\w.-]*)*"
)
_SDE = (
    "{ name = 've' or 'edm', sigma_min, sigma_max, t_eps }"
    " or { name = 'vp' or 'subvp', beta_min, beta_max, t_eps }"
)

Text = Annotated[str, about("a string without control characters")]


# --- registry -------------------------------------------------------------------------------


class RegisteredVE(Struct, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="ve"):
    """A VE SDE in the registry."""

    sigma_min: Amount
    sigma_max: Amount
    t_eps: Amount


class RegisteredVP(Struct, kw_only=True, forbid_unknown_fields=True, tag_field="name", tag="vp"):
    """A VP SDE in the registry."""

    beta_min: Amount
    beta_max: Amount
    t_eps: Amount


class RegisteredSubVP(RegisteredVP, kw_only=True, tag="subvp"):
    """A sub-VP SDE in the registry."""


class RegisteredEDM(RegisteredVE, kw_only=True, tag="edm"):
    """EDM's SDE in the registry, whose time is the noise level."""


RegisteredSDE = RegisteredVE | RegisteredVP | RegisteredSubVP | RegisteredEDM


class ModelEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model in the registry: one block of `checkpoints.toml`.

    Attributes:
        name: The name of the block, which users type.
        summary: One line for users.
        dataset: The training data.
        sde: The SDE as in `SDE.to_dict`, without the data range: {name, t_eps, ...}.
        shape: Shape of one sample, (C, H, W).
        parameters: The number of trained parameters; 0 for exact models.
        source: The place of the weights: "embedded:FILE", "hub:OWNER/REPO", "drive:FOLDER" or
            "web:HOST/FOLDER".
        sha256: The hash of the weights file; empty if none is published.
        license: The licence of the weights.
        citation: The work to cite.
        file: The weights file in the repository or folder.
        revision: Branch or commit of the repository; empty for the newest.
        snr: Signal-to-noise ratio of the Langevin corrector in the original experiments; 0 if they
            used no corrector.
        quality: The measured quality of the samples; empty if it was not measured.
        measured_by: The command that measured the quality.
        family: The group of the model in lists; empty: given by its place, see
            `families.family_of`.
    """

    name: Text
    summary: Text
    dataset: Text
    sde: Annotated[dict[str, Any], about(_SDE)]
    shape: Annotated[
        tuple[Positive, ...], Meta(min_length=1), about("a list of positive whole numbers")
    ]
    parameters: Annotated[Count, about("a whole number, not negative")]
    source: Annotated[
        str,
        Meta(pattern=rf"^({SOURCE})\Z"),
        about(
            f"'{EMBEDDED}:FILE.safetensors', '{HUB}:OWNER/REPO', '{DRIVE}:FOLDER' or"
            f" '{WEB}:HOST/FOLDER'"
        ),
    ]
    sha256: Annotated[
        str, Meta(pattern=r"^([0-9a-f]{64})?\Z"), about("64 hexadecimal digits, or empty")
    ]
    license: Text
    citation: Text = ""
    file: Annotated[
        str,
        Meta(pattern=r"^((?:[\w-][\w.-]*/)*[\w-][\w.-]*)?\Z"),
        about("a path in the repository or folder"),
    ] = ""
    revision: Text = ""
    snr: Annotated[Amount, about("a number, not negative")] = 0.0
    quality: Text = ""
    measured_by: Text = ""
    family: Annotated[
        str,
        Meta(pattern=r"^([a-z0-9][a-z0-9-]*)?\Z"),
        about("small letters, digits and -, or empty"),
    ] = ""

    @property
    def kind(self) -> str:
        """The kind of `source`: EMBEDDED, HUB, DRIVE or WEB."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """The place in `source`: a file name, a repository, a folder or its id."""
        return self.source.partition(":")[2]


# --- native checkpoints ---------------------------------------------------------------------


class NativeNetwork(Struct, kw_only=True):
    """The network of a native checkpoint: a key of NETWORKS, and its constructor's arguments."""

    name: str
    config: dict[str, Any]


class Provenance(Struct, kw_only=True):
    """The origin of the weights; further keys are free."""

    assumptions: list[str] = []


class NativeMetadata(Struct, kw_only=True):
    """The metadata "ggf" of a native checkpoint."""

    schema: Literal["ggf-checkpoint/1"]
    network: NativeNetwork
    parametrization: str
    sde: dict[str, str | Number | list[Number]]
    shape: list[int]
    provenance: Provenance
    snr: Annotated[float, Meta(ge=0, le=1e3)] = 0.0
    parametrization_config: dict[str, Any] = {}
    classes: Annotated[int, Meta(ge=0, le=2**20)] = 0
