"""Types of the compiled core: interval arithmetic, saliency, impact, annealing, merging."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__version__: str
build_profile: str

_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]

@final
class NetworkBuilder:
    """Collect the ops of a network one by one, in any topological order.

    Every method adds one node called `name`. `source` (or `sources`) name nodes added before.
    `layer` is the weight-owning layer of the model; two nodes with the same `layer` share
    their weights, and neither is pruned. It defaults to `name`. Shapes leave the batch axis out.
    """

    def __new__(cls) -> NetworkBuilder: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def input(self, name: str, shape: Sequence[int]) -> None: ...
    def dense(
        self,
        name: str,
        source: str,
        kernel: _F32,
        bias: _F32 | None = None,
        *,
        layer: str | None = None,
    ) -> None: ...
    def conv(
        self,
        name: str,
        source: str,
        kernel: _F32,
        bias: _F32 | None = None,
        *,
        strides: Sequence[int],
        dilation: Sequence[int],
        padding: str,
        groups: int = 1,
        layer: str | None = None,
    ) -> None: ...
    def depthwise_conv(
        self,
        name: str,
        source: str,
        kernel: _F32,
        bias: _F32 | None = None,
        *,
        strides: Sequence[int],
        dilation: Sequence[int],
        padding: str,
        layer: str | None = None,
    ) -> None: ...
    def batch_normalization(
        self,
        name: str,
        source: str,
        *,
        mean: _F32,
        variance: _F32,
        epsilon: float,
        gamma: _F32 | None = None,
        beta: _F32 | None = None,
        layer: str | None = None,
    ) -> None: ...
    def layer_normalization(
        self,
        name: str,
        source: str,
        *,
        epsilon: float,
        gamma: _F32 | None = None,
        beta: _F32 | None = None,
        layer: str | None = None,
    ) -> None: ...
    def affine(self, name: str, source: str, *, scale: _F64, offset: _F64) -> None: ...
    def activation(
        self, name: str, source: str, kind: str, *, parameters: Mapping[str, float] | None = None
    ) -> None: ...
    def softmax(self, name: str, source: str) -> None: ...
    def pool(
        self,
        name: str,
        source: str,
        kind: str,
        *,
        window: Sequence[int],
        strides: Sequence[int],
        padding: str,
    ) -> None: ...
    def global_pool(self, name: str, source: str, kind: str, *, keepdims: bool = False) -> None: ...
    def zero_padding(self, name: str, source: str, padding: Sequence[tuple[int, int]]) -> None: ...
    def reshape(self, name: str, source: str, shape: Sequence[int]) -> None: ...
    def add(self, name: str, sources: Sequence[str]) -> None: ...
    def concatenate(self, name: str, sources: Sequence[str], axis: int = -1) -> None: ...
    def identity(self, name: str, source: str) -> None: ...
    def opaque(
        self, name: str, sources: Sequence[str], shape: Sequence[int], reason: str
    ) -> None: ...
    def build(self, outputs: Sequence[str]) -> Network: ...

@final
class NodeInfo:
    """One op of a network: its name, kind ("Dense", "Conv", ...), layer, sources and shape."""

    name: str
    kind: str
    layer: str
    sources: list[str]
    shape: tuple[int, ...]
    parameters: int
    macs: int

@final
class GroupInfo:
    """The units of one layer: how many, who reads them, and why they cannot go, if so."""

    layer: str
    node: str
    units: int
    consumers: list[str]
    path: list[str]
    reason: str | None

@final
class Network:
    """A validated directed acyclic graph of typed ops that owns its weights."""

    @property
    def nodes(self) -> list[NodeInfo]: ...
    @property
    def groups(self) -> list[GroupInfo]: ...
    @property
    def inputs(self) -> list[str]: ...
    @property
    def outputs(self) -> list[str]: ...
    @property
    def logits(self) -> list[str]: ...
    def weights(self, name: str) -> dict[str, _F32]: ...
    def evaluate(self, inputs: Sequence[_F64]) -> list[_F64]: ...
    def forward(self, inputs: Mapping[str, _F32], nodes: Sequence[str]) -> list[_F32]:
        """Compute values of nodes for many samples at once, in float32 as the model does.

        Parameters
        ----------
        inputs : mapping of node names to float32 arrays of shape (samples, *node shape)
            The values of every input. Opaque nodes may be given, too: then what comes before
            them is not computed. All values must be finite, all arrays of one number of samples;
            contiguous arrays are not copied: no thread may write to them meanwhile.
        nodes : sequence of str
            The nodes whose values are wanted.

        Returns
        -------
        list of float32 arrays of shape (samples, *node shape)
            One for each of `nodes`, the same whatever the number of threads.

        Raises
        ------
        ConfigError
            Values are missing, not finite or of the wrong shape; the message names the node.
        ModelError
            No node has a name, or an opaque node that was not given is needed.
        """
    def gradient(self, inputs: Mapping[str, _F32], cotangents: Mapping[str, _F32]) -> list[_F32]:
        """Differentiate `sum(cotangent * node)` with respect to every input, in float32.

        Parameters
        ----------
        inputs : mapping of node names to float32 arrays of shape (samples, *node shape)
            The values of every input.
        cotangents : mapping of node names to float32 arrays of shape (samples, *node shape)
            What each of these nodes is weighed with.

        Returns
        -------
        list of float32 arrays of shape (samples, *input shape)
            One for each of `self.inputs`. Kinks are taken as TensorFlow takes them.

        Raises
        ------
        ConfigError
            Values are missing, not finite or of the wrong shape; the message names the node.
        ModelError
            No node has a name, or an opaque node is on the way.
        """
    def invert(
        self,
        starts: Mapping[str, _F32],
        lower: Sequence[_F64],
        upper: Sequence[_F64],
        *,
        images: Sequence[tuple[int, int, int] | None],
        steps: int,
        step_size: float,
        vary_steps: bool,
        confidence: float,
        temperature: float,
        smoothing: float,
        batch_statistics: bool,
        seed: int,
    ) -> list[_F32]:
        """Find inputs by gradient towards the network's own classes, drawn at random.

        Parameters
        ----------
        starts : mapping of input names to float32 arrays of shape (samples, *input shape)
            Where to start; clipped into the box.
        lower, upper : sequence of float64 arrays
            The box, one array for each of `self.inputs`.
        images : sequence of (height, width, channels) or None
            For each input, the image that its elements are, if they are one.
        steps : int
            Gradient steps.
        step_size : float
            Largest change of an element in a step, as a share of its side of the box, in (0, 1].
        vary_steps : bool
            Whether each sample takes its own number of steps, drawn from 1 to `steps`.
        confidence : float
            Probability of the drawn class in the target, in (0, 1].
        temperature : float
            What logits are divided by before their softmax.
        smoothing : float
            Standard deviation of the Gaussian that smooths gradients of images, in pixels.
        batch_statistics : bool
            Whether each step also lessens `sum((mean - m)^2 + (deviation - s)^2) / (2 v)` over the
            channels of every BatchNormalization before the logits, with its moving mean m, the
            square root s of its moving variance, and v that variance plus its epsilon. Mean and
            deviation are those of its input over all positions of all samples of this call, where
            they are before the step. The largest element of either gradient is scaled to 1 before
            they are added up. So one sample's result depends on the others; without such layers,
            none does.
        seed : int
            Seed of the classes and numbers of steps.

        Returns
        -------
        list of float32 arrays of shape (samples, *input shape)
            One for each of `self.inputs`, inside the box.

        Raises
        ------
        ConfigError
            A parameter is out of range, starts are missing, not finite or of the wrong shape, or
            an image does not fit its input.
        BoundsError
            The box does not fit the inputs.
        ModelError
            An opaque node is on the way.
        """
    def value_intervals(
        self, lower: Sequence[_F64], upper: Sequence[_F64]
    ) -> dict[str, tuple[_F64, _F64]]: ...
    def saliency(self, layer: str, *, outgoing: str = "l2", bias: str = "absolute") -> _F64: ...
    def impact(
        self,
        layer: str,
        pairs: Sequence[tuple[int, int]],
        lower: Sequence[_F64],
        upper: Sequence[_F64],
    ) -> tuple[_F64, _F64]: ...
    def joint_impact(
        self,
        layer: str,
        pairs: Sequence[tuple[int, int]],
        lower: Sequence[_F64],
        upper: Sequence[_F64],
    ) -> tuple[_F64, _F64]: ...
    def masked(self, layer: str, pairs: Sequence[tuple[int, int]]) -> Network: ...
    def removed(self, layer: str, pairs: Sequence[tuple[int, int]]) -> Network: ...

def entropy(
    lower: _F64, upper: _F64, *, similarity: float = 0.9, density: str = "inclusive"
) -> float: ...
def energy(
    lower: _F64,
    upper: _F64,
    base_lower: _F64,
    base_upper: _F64,
    *,
    reference: float,
    alpha: float = 0.75,
    similarity: float = 0.9,
    density: str = "inclusive",
    normalization: str = "scaled",
) -> float: ...
def anneal(
    pairs: Sequence[tuple[int, int]],
    energies: _F64,
    *,
    count: int,
    temperature: float,
    scale: float,
    last_energy: float | None,
    rewalks: int,
    seed: int,
) -> list[int]: ...
def set_threads(count: int) -> None:
    """Say how many threads the engine of this process is to have, from 1 to 4096.

    ConfigError if they are there already and are not so many: they are made for the first work.
    """

def threads() -> int:
    """Return how many threads the engine has or will have.

    What `set_threads` was told, else RAYON_NUM_THREADS, else one for each core that the process
    may use. ConfigError if the variable is no such number.
    """

def uniform_draws(seed: int, count: int) -> _F64: ...
def activation_range(
    kind: str, lower: _F64, upper: _F64, *, parameters: Mapping[str, float] | None = None
) -> tuple[_F64, _F64, _F64, _F64]: ...

@final
class Pruning:
    """What a run did: the smaller network, who went, who took over, and the trace."""

    @property
    def network(self) -> Network: ...
    @property
    def kept(self) -> dict[str, NDArray[np.int64]]: ...
    @property
    def merges(self) -> list[dict[str, Any]]: ...
    @property
    def trace(self) -> list[dict[str, Any]]: ...
    @property
    def impact(self) -> tuple[_F64, _F64]: ...
    @property
    def stopped_by(self) -> str: ...
    @property
    def kernel_path(self) -> str: ...

def check_options(
    *,
    target: float,
    step: float,
    method: Mapping[str, Any],
    outgoing: str,
    bias: str = "absolute",
    max_output_change: float | None = None,
    width_multiple: int = 1,
) -> None: ...
def prune(
    network: Network,
    lower: Sequence[_F64],
    upper: Sequence[_F64],
    *,
    layers: Sequence[str],
    target: float,
    step: float,
    method: Mapping[str, Any],
    outgoing: str,
    seed: int,
    on_epoch: Callable[..., bool | str | None] | None = None,
    supervised: bool = False,
    bias: str = "absolute",
    max_output_change: float | None = None,
    lossless: bool = False,
    width_multiple: int = 1,
) -> Pruning: ...

@final
class Compensation:
    """What a compensation made for one target.

    `target` is None where the kept units were given. `kept` has, for every pruned layer in forward
    order, the units that are left. `layers` has one dict each: `layer`, `kept` (how many), `loss`
    (mean squared change of the consumers' outputs on the samples, relative to their variance),
    `ridge` (the largest that a fit took; None where nothing was fitted), `fallback` (why delegates
    took the sum instead, or None), `pairs` (of nominee and delegate, where delegates took over) and
    `moves` (of the search). `loss` is that of the logits.
    """

    @property
    def network(self) -> Network: ...
    @property
    def target(self) -> float | None: ...
    @property
    def loss(self) -> float: ...
    @property
    def kept(self) -> dict[str, NDArray[np.int64]]: ...
    @property
    def layers(self) -> list[dict[str, Any]]: ...

def activation_moments(
    kind: str, mean: _F64, deviation: _F64, *, parameters: Mapping[str, float] | None = None
) -> tuple[_F64, _F64, _F64]:
    """Return what an activation makes of Gaussian variables.

    Closed forms for what is piecewise linear and for the exponential, quadrature for the rest.

    Parameters
    ----------
    kind, parameters
        The activation, as for `NetworkBuilder.activation`.
    mean, deviation : float64 arrays of shape (variables,)
        Means and standard deviations.

    Returns
    -------
    (float64 array, float64 array, float64 array)
        Means, variances and, one row a variable, `E[f(x) He_k(g)] / sqrt(k!)` for k from 1 to 12,
        with g the normalised variable and `He_k` the Hermite polynomials.

    Raises
    ------
    ConfigError
        For an unknown activation, or values that are not finite or of different numbers.
    """

def gaussian_moments(
    network: Network,
    node: str,
    lower: Sequence[_F64],
    upper: Sequence[_F64],
    *,
    images: Sequence[tuple[int, int, int] | None] | None = None,
    correlation: float = 0.0,
) -> tuple[_F64, _F64]:
    """Take means and covariances from the input box through dense layers, as if all were Gaussian.

    Activations have exact means and variances, and the covariances of the series of Wright,
    Nakahira and Moura (2024) with 12 terms. A normalization gives its units the mean and variance
    that it has stored (Nagel et al., 2019); their correlations are those of the box.

    Parameters
    ----------
    network : Network
        Dense layers, elementwise ops and changes of shape up to the node, which sums of branches,
        convolutions and the like are not.
    node : str
        The node whose values are asked for.
    lower, upper : sequences of float64 arrays
        The box that inputs are uniform in.
    images : sequence of (int, int, int) or None, optional
        Height, width and channels of the inputs that are images; none by default.
    correlation : float, optional
        Pixels over which the correlation in a channel of an image falls to 1/e (1.5 did well in
        trials); 0 for none, the default. Images then have at most 4096 elements.

    Returns
    -------
    (float64 array of shape (elements,), float64 array of shape (elements, elements))
        Means and covariances.

    Raises
    ------
    ConfigError, BoundsError
        For `images` or `correlation` that do not fit, or a box that is not finite.
    ModelError
        For a node before it that moments are not known of.
    """

def compensate(
    original: Network,
    feeds: Mapping[str, _F32] | None = None,
    *,
    layers: Sequence[str],
    targets: Sequence[float],
    allocation: str,
    width_multiple: int,
    ridge: float,
    closed_loop: bool,
    selection: Mapping[str, Any],
    seed: int,
    rule: str = "least_squares",
    threshold: float = 0.45,
    selection_ridge: float = 1e-3,
    logit_metric: bool = True,
    towards: str = "zero",
    kept: Mapping[str, Sequence[int]] | None = None,
    metrics: Mapping[str, _F64] | None = None,
    lower: Sequence[_F64] | None = None,
    upper: Sequence[_F64] | None = None,
    images: Sequence[tuple[int, int, int] | None] | None = None,
    correlation: float = 0.0,
    on_layer: Callable[[float | None, dict[str, Any]], object] | None = None,
    on_search: Callable[[int], bool | None] | None = None,
) -> list[Compensation]:
    """Prune to several sizes and refit what reads the removed units by least squares.

    Every unit of the original is regressed on the kept units of the network pruned so far, and the
    next layers' weights read the regression instead: `B = C_xK (C_KK + ridge)^-1`, `V' = V B`,
    `c' = c + V (m - B m_K)`. Convolutions that pad take the uncentred form and no correction.

    Parameters
    ----------
    original : Network
        The network f.
    feeds : mapping of node to float32 array [samples, *shape]
        Samples of every input, and of opaque nodes that are needed; at least two. None to take
        statistics from `lower` and `upper` without any, as `gaussian_moments` does: then losses,
        too, are those that the moments give.
    layers : sequence of str
        Layers to prune; every prunable one if empty.
    targets : sequence of float
        Fractions of each layer's units to remove, in (0, 1): one result each.
    allocation : {"uniform", "propagated"}
        The same fraction of every layer, or as many parameters in all, taken where the error at
        the logits grows least for the parameters saved.
    width_multiple : int
        Numbers of units left are rounded up to a multiple of this.
    ridge : float
        Added to the diagonals, relative to their mean; raised tenfold until a system is regular.
    closed_loop : bool
        Whether to regress on the pruned network's activations or on the original's own.
    selection : mapping
        `{"name": "elimination"}`: the optimal brain surgeon's backward order (Hassibi and Stork,
        1993), from the original's statistics. `{"name": "search", ...}`: simulated annealing from
        there on, with `moves` of each of `chains`, `heat` (start temperature, relative to the
        interquartile range of the moves' energies), `alpha`, `similarity` and `density` of the
        energy (eq. 5-8; `alpha` 1: the loss alone), and `seconds` (None: no limit) that all
        searches may take.
    seed : int
        Seed of the search.
    rule : {"least_squares", "scaled", "sum"}
        What the next layers' weights become: the regression; or the most similar kept unit takes
        the removed one's, times the ratio of their incoming weights' lengths (Neuron Merging, Kim
        et al., 2020; the ratio counts as 1 where an activation is not positively homogeneous); or
        the kept unit of least saliency takes them as they are.
    threshold : float
        For `scaled`: a unit whose cosine with all kept ones is less just goes.
    selection_ridge : float
        The ridge of the selection.
    logit_metric : bool
        Whether the selection weights changes by the mean of `J^T J`, J being the Jacobian of the
        logits (each head's less their mean) on up to 1500 of the samples; a tenth of it is spread
        over all directions alike.
    towards : {"zero", "unchanged"}
        What the ridge draws to: no weight at all, or the kept units' weights as they were.
    kept : mapping of layer to sequence of int, optional
        The units to keep, ascending; `targets` and `layers` are then empty, and nothing is
        selected.
    metrics : mapping of node to float64 array [any, outputs], optional
        For consumers, instead of the `logit_metric`: a matrix M; the selection measures a change z
        of its output by `|M z|^2`.
    lower, upper : sequences of float64 arrays, optional
        The input box, where no samples are given.
    images, correlation
        As in `gaussian_moments`.
    on_layer : callable, optional
        Called with the target and the layer's entry of `layers` once it is refitted.
    on_search : callable, optional
        Called every now and then with the moves that a search has made; False ends that search.

    Returns
    -------
    list of Compensation
        One for each target.

    Raises
    ------
    ConfigError
        An option or a sample is out of range.
    NothingToPruneError
        No layer can be pruned, or a target rounds to no unit at all.
    """

def solve_regularised(matrix: _F64, rows: _F64, ridge: float) -> tuple[_F64, float]:
    """Solve `X (A + ridge mean(diag A) I) = rows` by a Cholesky factor.

    Parameters
    ----------
    matrix : float64 array [n, n]
        A: symmetric, positive semi-definite.
    rows : float64 array [m, n]
        The right side.
    ridge : float
        Raised tenfold until the matrix is positive definite.

    Returns
    -------
    (float64 array [m, n], float)
        X, and the ridge it took.
    """

def eliminate(
    covariances: Sequence[_F64], weights: Sequence[_F64], ridge: float
) -> tuple[NDArray[np.int64], _F64]:
    """Order a layer's units by what removing them costs consumers that are refitted.

    Parameters
    ----------
    covariances : sequence of float64 array [n, n]
        Of the units, as each consumer reads them.
    weights : sequence of float64 array [n, outputs]
        Of each consumer.
    ridge : float
        Relative to the mean diagonal element.

    Returns
    -------
    (int64 array [n], float64 array [n + 1])
        The units in the order in which they go, and the sum of squares that the outputs are off by
        once that many are gone.
    """

def search_units(
    covariances: Sequence[_F64],
    weights: Sequence[_F64],
    start: Sequence[int],
    ridge: float,
    selection: Mapping[str, Any],
    seed: int,
) -> tuple[NDArray[np.int64], float, int]:
    """Search for the units to keep from those in `start` on; `selection` as in `compensate`.

    Returns
    -------
    (int64 array, float, int)
        The units, the sum of squares that the outputs are off by, and the moves that were made.
    """

def certify(
    original: Network,
    smaller: Network,
    lower: Sequence[_F64],
    upper: Sequence[_F64],
    merges: Sequence[tuple[str, int, int | None]],
    *,
    mean_value: bool = True,
    backward: bool = True,
    most_multiplications: float = 2e11,
) -> dict[str, _F64]:
    """Bound the change of the logits over an input box.

    Parameters
    ----------
    original, smaller : Network
        f, and g that merging made of it.
    lower, upper : sequence of float64 array
        The box, one array for each input.
    merges : sequence of (layer, nominee, delegate)
        Layer, nominee and delegate of each in order, by the original's unit numbers; no delegate
        where the nominee's outgoing weights were dropped.
    mean_value, backward : bool
        Whether to tighten the value intervals by the mean-value form, and by lines taken back.
    most_multiplications : float
        Tightening stops before it would take more of them.

    Returns
    -------
    dict
        `lower` and `upper`, float64 [logits]: bounds of g - f, the logits of all outputs side by
        side. `margins`, float64 [max(logits, 2), max(logits, 2)]: `margins[c, k]` is at least
        `(f_c - f_k) - (g_c - g_k)`; a single logit z counts as two logits 0 and z.

    Raises
    ------
    ModelError
        The networks do not belong together.
    """

def tight_bounds(
    network: Network,
    node: str,
    lower: Sequence[_F64],
    upper: Sequence[_F64],
    *,
    mean_value: bool = True,
    backward: bool = True,
    most_multiplications: float = 2e11,
) -> tuple[_F64, _F64]:
    """Bound a node's values over an input box, as tightly as it goes.

    Returns
    -------
    (lower, upper)
        float64 arrays of the node's shape.
    """

def verify(
    original: Network,
    smaller: Network,
    lower: Sequence[_F64],
    upper: Sequence[_F64],
    merges: Sequence[tuple[str, int, int | None]],
    *,
    mean_value: bool = True,
    backward: bool = True,
    most_multiplications: float = 2e11,
) -> dict[str, _F64]:
    """Bound the change of the logits along a second, plainly written path; as `certify`.

    Nothing of the first path's arithmetic is used: no matrix products and no rounding pads, but
    interval arithmetic number by number, many times slower.

    Returns
    -------
    dict
        `lower` and `upper`, float64 [logits], rounded outward.

    Raises
    ------
    ModelError
        The networks do not belong together.
    """

def certified_margins(
    network: Network, lower: _F64, upper: _F64, classes: Sequence[int] | NDArray[np.int64]
) -> _F64:
    """Bound the margins of given classes over many boxes of a network's one input.

    Parameters
    ----------
    network : Network
        The network.
    lower, upper : float64 array [boxes, *input_shape]
        The boxes.
    classes : int64 array [boxes]
        The class c of each.

    Returns
    -------
    float64 array [boxes, max(logits, 2)]
        A lower bound of `z_c - z_k` over the box for every k, infinite for c itself; a single
        logit z counts as two logits 0 and z.
    """

def kernel_path() -> str:
    """Return which matrix kernels this processor runs: avx512, fma, avx, neon or portable."""
