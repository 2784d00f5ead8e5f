"""Keys of `layout` in a study file: candidates of each unit's layout."""

from __future__ import annotations

from codesign.spec.fields import Counts, Degrees, Keys, Offload, Overlap, Recompute


class LayoutChoices(Keys):
    """Candidates of one unit's layout; what is absent is enumerated by the tool."""

    n_tp: Degrees | None = None
    """Tensor-parallel degrees of attention."""
    n_cp: Degrees | None = None
    """Context-parallel degrees."""
    n_dp: Degrees | None = None
    """Data-parallel degrees inside one replica (data-parallel attention when serving)."""
    n_pp: Degrees | None = None
    """Pipeline stages."""
    n_etp: Degrees | None = None
    """Tensor-parallel degrees inside an expert."""
    n_ep: Degrees | None = None
    """Expert-parallel degrees."""
    batch: Degrees | None = None
    """Sequences in flight per attention rank (one of `n_dp`), all pipeline stages together."""
    n_devices: Degrees | None = None
    """Devices of a training job."""
    micro_batch: Degrees | None = None
    """Sequences per micro-batch of training."""
    recompute: Recompute | None = None
    """Activation recomputation in training: `none`, `selective`, `full`; `reversible` takes an architecture of reversible blocks."""
    offload: Offload | None = None
    """State of training kept in the host's memory: `none`, `optimizer`, `activations`, `both`."""
    n_sites: Degrees | None = None
    """Sites over which the data-parallel copies of training are spread (`network.site` joins them)."""
    sync_every: Degrees | None = None
    """Optimizer steps between exchanges of the sites: 1 is ordinary data parallelism, hundreds is DiLoCo."""
    zero: Degrees | None = None
    """ZeRO stages, 0 to 3."""


class ServingChoices(LayoutChoices):
    """Candidates of one serving pool's layout; what is absent is enumerated by the tool, and the last five stay at their plain values."""

    overlap: Overlap | None = None
    """`none`, or `two_batch`, two halves of the batch in turn, one computing while the messages of the other travel."""
    n_ffn: Degrees | None = None
    """Devices of a stage that hold its FFNs and nothing else, beside those of attention; divides the experts; 0 is one group for both."""
    n_micro: Counts | None = None
    """Micro-batches between attention and FFN devices, where `n_ffn` is above 0."""
    n_ffn_x: Counts | None = None
    """Cuts of a dense FFN's weights along d_model, out of n_tp; 1 cuts them along d_ff alone."""
    n_gather: Counts | None = None
    """Devices over which prompts gather the weights of a dense FFN; 1 leaves them where they are."""


class Layout(Keys):
    """Candidate layouts by unit, where the tool's own enumeration is not wanted."""

    train: LayoutChoices | None = None
    """Pretraining."""
    rl: LayoutChoices | None = None
    """Reinforcement learning."""
    serve: ServingChoices | None = None
    """Colocated serving."""
    prefill: ServingChoices | None = None
    """Prefill pool."""
    decode: ServingChoices | None = None
    """Decode pool."""
