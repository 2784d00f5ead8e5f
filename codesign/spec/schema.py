"""Every key of a study file: its type, unit, range and meaning.  `codesign schema` prints these models as
JSON Schema.

Quantities become SI floats here.  Names of models, hardware, workloads, objectives and samplers stay text:
rooms further down know them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    StrictBool,
    model_validator,
)

from codesign.spec.clip_schema import Clip
from codesign.spec.demand import Demand
from codesign.spec.errors import BadValue
from codesign.spec.fields import (
    Bounds,
    BytesPerSecond,
    Divided,
    Integer,
    Keys,
    Kilograms,
    Number,
    Overrides,
    Seconds,
    Share,
    Tokens,
    TokensOrNone,
    UsdPerSecond,
    Watts,
)
from codesign.spec.layout_schema import Layout
from codesign.spec.lifecycle_schema import Lifecycle
from codesign.spec.reference_schema import References


class Base(Keys):
    """The design that everything not named in `space` is taken from."""

    model: str
    """Model of the catalog by name, or the path of a model file or Hugging Face `config.json`."""
    architecture: Overrides = Field(default_factory=dict)
    """Architecture values that differ from the model's, such as `{n_layers: 48}`."""
    precision: Overrides = Field(default_factory=dict)
    """`weight_bits`, `kv_bits`, `act_bits` where they differ from the model's own."""


class Hardware(Keys):
    """Which accelerator or system each pool uses: names of the catalog, or paths of files."""

    train: str | None = None
    """Pretraining pool."""
    rl: str | None = None
    """Reinforcement-learning pool; the training pool's hardware if absent."""
    serve: str | None = None
    """Serving pool when prefill and decode share it."""
    prefill: str | None = None
    """Prefill pool of disaggregated serving."""
    decode: str | None = None
    """Decode pool of disaggregated serving."""


class Serving(Keys):
    """How requests are served."""

    mode: Literal["colocated", "disaggregated"] = "colocated"
    """`colocated`: one pool prefills and decodes; `disaggregated`: two pools joined by a KV transfer."""
    engine: str | None = None
    """Serving engine whose measured constants are used; the study's `engine` if absent."""
    n_draft_tok: Annotated[Integer, Field(ge=0, le=16)] = 0
    """Draft tokens per decode step (MTP or speculative decoding); 0 means none."""
    draft_acceptance: Share = 0.8
    """Probability that a draft token is accepted, given the one before it."""
    mixing: Literal["alternating", "chunked"] | None = None
    """Prefill in a colocated pool runs in steps of its own, or as chunks inside decode steps; the engine's habit if absent."""
    batching: Literal["paged", "contiguous", "static"] = "paged"
    """`paged`: continuous batching, a sequence holds what it uses; `contiguous`: it reserves the longest request; `static`: padded batches."""
    kv_tier: str | None = None
    """Where prefixes wait for their next use: `none` (computed again), `hbm`, or a memory tier of the catalog (`codesign list memory`); may vary."""
    memory_percentile: Annotated[Number, Field(ge=0.5, lt=1)] = 0.99
    """KV memory must suffice at this percentile of occupancy."""


class VariableDefinition(Keys):
    """The values one variable may take: exactly one of `choices`, `range`, `powers_of_two`, `divisors_of`."""

    choices: list[Any] | None = None
    """The values themselves: numbers, names or quantities."""
    range: Annotated[list[Any], Field(min_length=2, max_length=2)] | None = None
    """`[low, high]`, both included where the step reaches them; with `step`, or with `n`."""
    step: Any = None
    """Distance between the values of a `range` (1 for whole numbers)."""
    log: StrictBool = False
    """Space the `n` values of a `range` by equal ratios instead of equal steps."""
    n: Annotated[Integer, Field(ge=2, le=10_000)] | None = None
    """Number of values of a `range`."""
    powers_of_two: Annotated[list[Integer], Field(min_length=2, max_length=2)] | None = None
    """`[low, high]`: all powers of two between, both included."""
    divisors_of: Divided | None = None
    """All divisors of a number, or of a variable that this space leaves at its base value."""
    min: Integer | None = None
    """Least divisor that `divisors_of` gives."""
    max: Integer | None = None
    """Largest divisor that `divisors_of` gives."""
    when: str | None = None
    """Expression over other variables; where it is false the variable is inactive and takes `else`."""
    otherwise: Annotated[Any, Field(alias="else")] = None
    """Value while inactive; the base value if absent."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if value is None:
            raise BadValue("no values are given", hint="write choices, a range, or one value")
        return value if isinstance(value, dict) else {"choices": value if isinstance(value, list) else [value]}


class Slo(Keys):
    """Latency that users must be given."""

    ttft: Seconds | None = None
    """Time to first token, queueing included, at most."""
    tpot: Annotated[Seconds | None, Field(validation_alias=AliasChoices("tpot", "itl"))] = None
    """Time per output token after the first, at most (alias `itl`)."""


class MixClass(Keys):
    """One class of requests in a mixed workload."""

    use: str
    """Workload of the catalog by name, or the path of a workload file."""
    share: Share
    """Share of the requests; the shares of a mix add up to 1."""


class Workload(Keys):
    """What is asked of the served model."""

    use: str | None = None
    """Workload of the catalog by name, or the path of a workload file; the keys below override it."""
    mix: list[MixClass] | None = None
    """Several classes of requests instead of one workload."""
    demand: Demand | None = None
    """Output tokens per second: a mean, a list for a day in equal slices, or `{life: [[0 month, 1e4 tok/s], ...]}`."""
    lifetime: Seconds | None = None
    """How long the model is served."""
    peak_to_mean: Annotated[Number, Field(ge=1)] | None = None
    """Peak demand over mean demand."""
    utilisation: Share | None = None
    """Share of the capacity in use at peak demand; the rest is head-room (0.8 if absent)."""
    isl: Tokens | None = None
    """Input tokens of a request, prefix included."""
    osl: Tokens | None = None
    """Output tokens of a request."""
    prefix: TokensOrNone | None = None
    """Input tokens already in the KV cache (part of `isl`)."""
    clip: Clip | None = None
    """Videos instead of text: the base model is a diffusion transformer that makes such clips; then nothing else here but `lifetime`,
    `peak_to_mean` and `utilisation`."""
    reuse: Seconds | None = None
    """Time until a prefix is used again, such as `5 min`; with `serving.kv_tier` it has a price and a loading time, else caches are free."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value


class RackLimits(Keys):
    """Racks that scale-up domains of `<unit>.scale_up_size` devices are built from; sizes beyond the hardware's own become possible."""

    use: str | None = None
    """Kind of rack: a name of the catalog (`oberon` if absent), or the path of a file."""
    medium: Literal["copper", "optical"] = "optical"
    """`copper`: a domain must fit one rack and one tier of switches; `optical`: larger ones take more racks, optics and tiers, at a price."""
    power: Watts | None = None
    """Power that one rack of the hall may draw."""
    weight: Kilograms | None = None
    """Weight that the floor carries under one rack."""
    n_cables: Annotated[Integer, Field(ge=1)] | None = None
    """Copper cables that fit behind one rack."""
    n_spare: Annotated[Integer, Field(ge=0)] | None = None
    """Devices of a domain kept idle for repairs; as many as make a working device cheapest if absent."""


class Tier(Keys):
    """Delay of messages on one tier of the network, beyond their fixed time: every exchange waits for its slowest member."""

    jitter: Seconds | None = None
    """Mean of each member's exponential delay."""
    stall: Seconds | None = None
    """Length of a rare long stall of a member."""
    stall_probability: Share | None = None
    """Probability that a member stalls in one exchange."""


class SiteLink(Keys):
    """Link between training sites."""

    bandwidth: BytesPerSecond
    """From one site to the others, all its devices together, one direction."""
    rtt: Seconds | None = None
    """Round trip between sites; 0 if absent."""
    max_devices: Annotated[Integer, Field(ge=1)] | None = None
    """Training devices that one site can hold."""


class Network(Keys):
    """What the network does beyond its bandwidth and fixed times."""

    scale_up: Tier | None = None
    """Links inside a scale-up domain."""
    scale_out: Tier | None = None
    """Links between domains."""
    site: SiteLink | None = None
    """Links between the sites of `layout.train.n_sites`."""


class Quality(Keys):
    """How quality is predicted from parameters and tokens."""

    law: str | None = None
    """Quality law by name, or the path of a file of your own; the tool's central law if absent."""
    long_context_penalty: Annotated[Number, Field(ge=0)] | None = None
    """Loss in ln(c_eq_flop) that you attach to attention with few full layers on long contexts."""
    min_full_fraction: Share | None = None
    """Least share of full-attention layers on long contexts."""


class Search(Keys):
    """How the space is searched."""

    method: Literal["auto", "exhaustive", "nested", "joint"] = "auto"
    """`exhaustive`: every design; `nested` samples designs; `joint` layouts too; `auto` chooses."""
    sampler: str = "ga"
    """Sampler by name (`codesign list samplers`), or any other of Optuna's as `optuna.samplers:Class`."""
    trials: Annotated[Integer, Field(ge=1)] = 10_000
    """Designs to sample at most (not used by `exhaustive`)."""
    flat_gain: Annotated[Number, Field(ge=0, lt=1)] = 3e-4
    """Sampling stops when the last 30 % of the designs raised the hypervolume by less than this share of it; 0: never for that."""
    seed: Annotated[Integer, Field(ge=0, lt=2**32)] = 0
    """Seed of every random choice."""
    time_limit: Seconds = 60.0
    """`auto` enumerates the whole space if that is estimated to take no longer."""
    batch: Annotated[Integer, Field(ge=1)] | None = None
    """Designs asked for at once; chosen by the method if absent."""


class Uncertainty(Keys):
    """How uncertain what the study assumes is: one standard deviation of the natural logarithm (0.2 is about 20 %) unless said otherwise."""

    samples: Annotated[Integer, Field(ge=2, le=100_000)] = 2000
    """Draws of everything uncertain, for `codesign decide`."""
    level: Annotated[Number, Field(gt=0, lt=1)] = 0.8
    """Probability inside the printed intervals."""
    model: Annotated[Number, Field(ge=0)] = 1.0
    """Factor on the errors of predicted times, which are measured (docs/accuracy.md); 0 takes predictions as exact."""
    quality: Annotated[Number, Field(ge=0)] = 1.0
    """Factor on the errors of the quality law; 0 takes the law as exact."""
    price: Annotated[Number, Field(ge=0)] = 0.2
    """Rent of each accelerator: the spread of the catalog's dated 3-year rents of one chip."""
    demand: Annotated[Number, Field(ge=0)] = 0.3
    """Tokens per second that the service must carry; our estimate of what a forecast is worth."""
    utilisation: Annotated[Number, Field(ge=0)] = 0.1
    """Share of the capacity in use at peak; our estimate."""
    drafts: Annotated[Number, Field(ge=0)] = 0.15
    """Tokens gained per step by drafts (speculative decoding, MTP), where the study has them; our estimate."""
    power: Annotated[Number, Field(ge=0)] = 0.1
    """All-in power of each accelerator, where the study reads energy or power; our estimate."""


class Study(Keys):
    """A question about architecture and deployment: what is fixed, what may vary, what counts."""

    version: Literal[1] = 1
    """Version of this file format."""
    name: Annotated[str, Field(pattern=r"^\w[\w.-]{0,99}$")]
    """Short name; results go to `runs/<name>`.  The file's name if absent."""
    question: str = ""
    """The question in one sentence; it heads the report."""
    base: Base
    """Model and overrides that everything not varied is taken from."""
    hardware: Hardware = Hardware()
    """Accelerator or system of each pool."""
    engine: str = "generic"
    """Software stack whose measured constants are used; `ideal` is the bare roofline."""
    serving: Serving = Serving()
    """How requests are served."""
    space: dict[str, VariableDefinition] = Field(default_factory=dict)
    """What may vary: dotted variable names and their values; `from: FILE` starts from another file."""
    derived: dict[str, str] = Field(default_factory=dict)
    """Names defined by expressions over variables; a variable's own name here ties it to others."""
    where: Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = Field(default_factory=list)
    """Expressions that every design must satisfy."""
    layout: Layout = Layout()
    """Candidate layouts by unit."""
    workload: Workload | None = None
    """Requests to serve: the name of a workload, or its details."""
    slo: Slo = Slo()
    """Latency limits."""
    lifecycle: Lifecycle = Lifecycle()
    """Tokens, budget and balance over the life of the model."""
    rack: RackLimits | None = None
    """Racks of scale-up domains: cables, power, weight, switches, optics and spares limit and price a domain of any size."""
    network: Network = Network()
    """Jitter of links, and links between sites."""
    quality: Quality = Quality()
    """How quality is predicted."""
    objectives: dict[str, Literal["minimize", "maximize"]]
    """Two to five columns and their direction."""
    constraints: dict[str, Bounds] = Field(default_factory=dict)
    """Columns and their bounds, such as `"<= 120 day"`."""
    search: Search = Search()
    """Method, sampler, effort."""
    prices: dict[str, UsdPerSecond] = Field(default_factory=dict)
    """Prices per accelerator that differ from the catalog's, such as `{h100_sxm: 1.80 USD/h}`."""
    uncertainty: Uncertainty = Uncertainty()
    """Intervals."""
    references: References = Field(default_factory=list)
    """Designs that exist, to show beside the front: names of models, files, `FILE.csv#ID` of a measured deployment."""
    scenarios: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Named sets of changes, `{name: {dotted key: value}}`, applied by `--scenario`."""


def json_schema() -> dict[str, Any]:
    """JSON Schema of a study file, for editors."""
    schema = Study.model_json_schema(by_alias=True)
    schema["required"] = [key for key in schema["required"] if key != "name"]  # it defaults to the file's name
    short = {"anyOf": [{"$ref": "#/$defs/VariableDefinition"}, {"type": ["string", "number", "boolean", "array"]}]}
    space = schema["properties"]["space"]
    space["additionalProperties"] = short
    space["properties"] = {"from": {"type": "string", "description": "File or name in `spaces/` to start from."}}
    for section, kinds in {
        "Workload": ["string"],
        "Budget": ["string"],
        "PretrainTokens": ["string", "number"],
        "RlTokens": ["string", "number"],
        "Demand": ["string", "number", "array"],
    }.items():
        whole = schema["$defs"][section]
        schema["$defs"][section] = {
            "anyOf": [{"type": kinds}, whole],
            "description": whole.get("description", ""),
        }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "codesign study"}
