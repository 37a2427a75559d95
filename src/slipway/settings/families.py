"""Ways to make a model: what each family is told, or `off` where a pipeline does not want it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from slipway.sections import Section
from slipway.settings.kinds import Positive, Seed

OFF = "off"


def _off(value: Any) -> Any:
    """Read what YAML makes of a bare `off`."""
    return OFF if value is False else value


class NetworkConfig(Section):
    """How the network is built and trained."""

    processes: Positive
    """torchrun processes: one per GPU, or how many share the CPU."""
    threads: Positive
    """CPU threads per process. Part of the bytes: sums differ between thread counts."""
    seed: Seed
    """Seed of weights, order of rows and dropout."""
    epochs: Positive
    """Passes over the training rows, at most."""
    batch_rows: Positive
    """Rows per process and step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak of the cosine schedule."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps of linear warm-up before the cosine."""
    weight_decay: Annotated[float, Field(ge=0)]
    """Decoupled weight decay (AdamW), on matrices only."""
    average_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay per step of the moving average of the weights, which is what is kept."""
    patience: Positive
    """Evaluations without a better loss on the stop rows before training stops."""
    evaluate_every_steps: Positive
    """Steps between two evaluations on the stop rows."""
    checkpoint_every_steps: Positive
    """Steps between two checkpoints."""
    hidden: Positive
    """Width of the residual blocks."""
    blocks: Positive
    """Number of residual blocks."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Dropout inside the blocks."""
    members: Positive
    """Members of the implicit ensemble, which share all but an input scale and the last layer
    (TabM uses 32). Time grows with them."""
    number_width: Positive
    """Width of a number's embedding."""
    bins: Annotated[int, Field(ge=2, le=48)]
    """Bins of a number's piecewise-linear encoding."""
    unknown_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of training categories shown as unknown, so that unknown is learned too."""


class TreesConfig(Section):
    """How gradient-boosted trees are fitted."""

    iterations: Positive
    """Rounds of boosting, at most."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Shrinkage of each tree."""
    leaves: Annotated[int, Field(ge=2)]
    """Leaves of each tree."""
    min_leaf_rows: Positive
    """Training rows that a leaf holds at least."""
    l2: Annotated[float, Field(ge=0)]
    """L2 penalty on the leaves."""
    row_share: Annotated[float, Field(gt=0, le=1)]
    """Share of the training rows that each round looks at, drawn anew."""
    column_share: Annotated[float, Field(gt=0, le=1)]
    """Share of the columns that each tree may split by, drawn anew."""
    patience: Positive
    """Rounds without a better loss on the stop rows before the boosting stops."""
    threads: Positive
    """CPU threads; they change no byte. On a busy machine one is the fastest."""
    seed: Seed
    """Seed of its random numbers."""


Network = Annotated[NetworkConfig | Literal["off"], BeforeValidator(_off)]
Trees = Annotated[TreesConfig | Literal["off"], BeforeValidator(_off)]


class FamiliesConfig(Section):
    """The families of a table; each is trained, compared and exported unless it is off."""

    trees: Trees
    """Gradient-boosted trees."""
    network: Network
    """A neural network."""

    def on(self) -> list[str]:
        """Name the families that are wanted."""
        return [name for name in type(self).model_fields if getattr(self, name) != OFF]
