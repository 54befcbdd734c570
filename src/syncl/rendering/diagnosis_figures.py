"""Figures that look into a tracker: attention, decoders, matching costs, what training costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syncl.rendering.bev import footprints
from syncl.rendering.figures import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PINK,
    add_legend,
    caption,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[Any]

_KINDS = ("object queries", "track queries")
_TARGET_COLOURS = (PINK, BLUE, ORANGE, GREY)


@dataclass(frozen=True)
class DecoderView:
    """What a decoder sees in a frame.

    Attributes:
        title: whose.
        objects: [N, 9] boxes of object queries above the score.
        tracks: [N, 9] boxes of track queries above the score.
    """

    title: str
    objects: Floats
    tracks: Floats


@dataclass(frozen=True)
class MatchingCosts:
    """One-to-many candidates of a checkpoint, last decoder layer, and the mixture fitted to all together.

    Attributes:
        title: which checkpoint.
        costs: [Z] matching costs.
        kept: [Z] bool pairs that the method keeps: it fits every frame by itself.
        weights: [2] of the mixture.
        means: [2].
        variances: [2].
    """

    title: str
    costs: Floats
    kept: NDArray[np.bool_]
    weights: Floats
    means: Floats
    variances: Floats


def plot_attention_mass(mass: Floats, even: Floats, targets: Sequence[str]) -> "Figure":
    """Stacked bars: on whom object queries and track queries spend their self-attention, layer by layer.

    Args:
        mass: [L, 2, T] shares of object queries' (0) and track queries' (1) attention.
        even: [2, T] the shares if all keys were attended alike.
        targets: T names.
    """
    figure, panels = new_figure(2, columns=2, height=3.2)
    layers = len(mass)
    names = [*(str(layer + 1) for layer in range(layers)), "even"]
    places = np.array([*range(layers), layers + 0.4])
    for kind, panel in enumerate(panels):
        shares = np.concatenate([mass[:, kind], even[None, kind]])
        base = np.zeros(len(shares))
        for target, colour in zip(range(len(targets)), _TARGET_COLOURS):
            if not np.nansum(even[:, target]):
                continue
            height = np.nan_to_num(shares[:, target])
            bars = panel.bar(places, height, 0.75, base, color=colour, label=targets[target])
            for bar, share, bottom in zip(bars, height, base):
                if share >= 0.06:
                    x, y = bar.get_x() + bar.get_width() / 2, bottom + share / 2
                    panel.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=7, color="white")
            base = base + height
        across = "decoder layer (even: all keys alike)"
        caption(panel, f"attention of {_KINDS[kind]}", across, "share of attention")
        panel.set_xticks(places, names, fontsize=8)
        panel.set_ylim(0, 1.001)
        panel.grid(visible=False, axis="x")
    add_legend(figure, panels, len(targets), "to {}".format, "outside upper center")
    return figure


def plot_attention_maps(maps: Sequence[Floats], object_count: int) -> "Figure":
    """Attention maps of chosen queries, a panel a layer; a line parts object from track queries.

    Args:
        maps: L maps [R, R] of attention, rows look at columns.
        object_count: how many leading rows are object queries.
    """
    from matplotlib.colors import LogNorm

    figure, panels = new_figure(len(maps), columns=min(3, len(maps)), height=3.1)
    image = None
    count = len(maps[0])
    for layer, (panel, values) in enumerate(zip(panels, maps)):
        image = panel.imshow(
            np.clip(values, 1e-4, 1), norm=LogNorm(1e-4, 1), cmap="magma", interpolation="nearest"
        )
        panel.axhline(object_count - 0.5, color="white", linewidth=1)
        panel.axvline(object_count - 0.5, color="white", linewidth=1)
        caption(panel, f"layer {layer + 1}", "attended query", "attending query")
        middles = [(object_count - 1) / 2, (object_count + count - 1) / 2]
        words = ["object", "track"] if count > object_count else ["object"]
        panel.set_xticks(middles[: len(words)], words, fontsize=8)
        panel.set_yticks(middles[: len(words)], words, fontsize=8, rotation=90, va="center")
        panel.tick_params(length=0)
        panel.grid(visible=False)
    if image is not None:
        bar = figure.colorbar(image, ax=panels, shrink=0.85)
        bar.set_label("attention, mean over heads", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return figure


def plot_decoders(views: Sequence[DecoderView], truth: Floats, min_score: float) -> "Figure":
    """Bird's-eye views of what decoders see, side by side, over the annotated objects.

    Args:
        views: one a decoder.
        truth: [M, 9] annotated boxes.
        min_score: what was left out, for the caption.
    """
    centres = np.concatenate([truth, *(part for view in views for part in (view.objects, view.tracks))])
    # As far as there is anything, in steps, and not farther than annotations go.
    farthest = float(np.abs(centres[:, :2]).max()) if len(centres) else 0.0
    range_m = float(np.clip(10 * np.ceil((farthest + 5) / 10), 20, 60))
    figure, panels = new_figure(len(views), columns=len(views), height=5.0)
    for panel, view in zip(panels, views):
        _draw_boxes(panel, truth, GREY, 2.6, "annotated")
        _draw_boxes(panel, view.objects, BLUE, 1.2, f"object queries, score >= {min_score:g}")
        _draw_boxes(panel, view.tracks, ORANGE, 1.2, f"track queries, score >= {min_score:g}")
        panel.plot(0, 0, marker="^", color="black", markersize=7, linestyle="none")
        title = f"{view.title}\n{len(view.objects)} object, {len(view.tracks)} track queries"
        caption(panel, title, "left of the vehicle (m)", "ahead (m)")
        panel.set_xlim(range_m, -range_m)
        panel.set_ylim(-range_m, range_m)
        panel.set_aspect("equal")
    add_legend(figure, panels, 3)
    return figure


def _draw_boxes(panel: "Axes", boxes: Floats, colour: str, width: float, label: str) -> None:
    # An empty line keeps the legend complete where there is nothing to draw.
    panel.plot([], [], color=colour, linewidth=width, label=label)
    corners = footprints(boxes) if len(boxes) else np.zeros((0, 4, 2))
    for shape, box in zip(corners, boxes):
        outline = np.concatenate([shape, shape[:1]])
        panel.plot(outline[:, 1], outline[:, 0], color=colour, linewidth=width)
        nose = np.stack([box[:2], shape[:2].mean(axis=0)])
        panel.plot(nose[:, 1], nose[:, 0], color=colour, linewidth=width)


def plot_costs(found: Sequence[MatchingCosts]) -> "Figure":
    """Histograms of matching costs with the fitted mixture and its threshold, a panel a checkpoint."""
    figure, panels = new_figure(len(found), columns=min(3, len(found)), height=2.9)
    everything = np.concatenate([item.costs for item in found])
    low, high = (np.percentile(everything, (0.0, 99.0)) if len(everything) else (0.0, 1.0)) + np.array(
        [-0.2, 0.2]
    )
    edges = np.linspace(low, high, 41)
    places = np.linspace(low, high, 400)
    tallest = [1e-6]
    for panel, item in zip(panels, found):
        width, total = edges[1] - edges[0], max(len(item.costs), 1)
        kept, _ = np.histogram(item.costs[item.kept], edges)
        dropped, _ = np.histogram(item.costs[~item.kept], edges)
        middles = (edges[1:] + edges[:-1]) / 2
        panel.bar(middles, kept / total / width, width, color=GREEN, label="pairs kept")
        panel.bar(middles, dropped / total / width, width, kept / total / width, color=PALE, label="dropped")
        for weight, mean, variance, colour in zip(item.weights, item.means, item.variances, (BLUE, ORANGE)):
            if variance > 0:
                curve = weight * np.exp(-((places - mean) ** 2) / (2 * variance))
                name = "reliable" if colour == BLUE else "unreliable"
                curve = curve / np.sqrt(2 * np.pi * variance)
                panel.plot(places, curve, color=colour, linewidth=1.8, label=f"{name} component")
        if len(item.costs):
            panel.axvline(
                float(item.means.min()), color="black", linestyle="--", linewidth=1.2, label="threshold"
            )
            tallest.append((kept + dropped).max() / total / width)
        words = f"{item.title}: {int(item.kept.sum())} of {len(item.costs)} kept"
        caption(panel, words, "matching cost", "density", size=9)
        panel.set_xlim(low, high)
    for panel in panels:
        # A narrow component's curve may leave the top; the histograms are what is compared.
        panel.set_ylim(0, 1.3 * max(tallest))
    add_legend(figure, panels, 5)
    return figure


def plot_candidates(before: Floats, after: Floats) -> "Figure":
    """How many queries an object has before and after the filter.

    Args:
        before: [L, N] candidates of each persistent object of each frame, by layer.
        after: [L, N] those kept.
    """
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_figure(2, columns=2, height=2.9)
    most = int(before.max()) if before.size else 1
    places = np.arange(most + 1)
    for number, (counts, colour, name) in enumerate(
        ((before, GREY, "before the filter"), (after, GREEN, "after it"))
    ):
        last = counts[-1] if len(counts) else counts
        heights = np.bincount(last, minlength=most + 1)[: most + 1]
        panels[0].bar(places + (number - 0.5) * 0.4, heights, 0.38, color=colour, label=name)
        if counts.size:
            layers = np.arange(1, len(counts) + 1)
            panels[1].plot(layers, counts.mean(axis=1), "o-", color=colour, label=name)
    caption(panels[0], "last layer", "object queries of a persistent object", "objects (all frames)")
    panels[0].set_xticks(places)
    caption(panels[1], "every layer", "decoder layer", "mean queries an object")
    panels[1].set_ylim(bottom=0)
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, panels, 2)
    return figure


def plot_class_gradients(cosines: Floats, groups: Sequence[str]) -> "Figure":
    """Cosines between the class gradients of detecting and tracking.

    Args:
        cosines: [L, G] by layer and group of queries; nan where a group is empty.
        groups: G names.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (panel,) = new_figure(1, height=2.9)
    layers = np.arange(1, len(cosines) + 1)
    for values, name, colour in zip(cosines.T, groups, (GREY, GREEN, BLUE, PINK, ORANGE), strict=True):
        panel.plot(layers, values, "o-", color=colour, label=name)
    panel.axhline(0, color=PALE, zorder=0)
    panel.set_ylim(-1.05, 1.05)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    caption(panel, "class gradients on shared features", "decoder layer", "cosine, detecting and tracking")
    add_legend(figure, [panel], len(groups))
    return figure


def plot_training_cost(seconds: Mapping[str, float], mebibytes: Mapping[str, float], memory: str) -> "Figure":
    """Time and memory of a training clip, a bar a strategy, with the ratio to the first one.

    Args:
        seconds: of a forward and backward pass, by strategy.
        mebibytes: of memory, by strategy.
        memory: which memory that is.
    """
    figure, panels = new_figure(2, columns=2, height=2.9)
    for panel, values, name in zip(panels, (seconds, mebibytes), ("seconds a clip", f"{memory} (MiB)")):
        first = next(iter(values.values()))
        for place, (strategy, value) in enumerate(values.items()):
            panel.bar(place, value, 0.6, color=COLOURS[place])
            words = f"{value:.3g}" if place == 0 else f"{value:.3g}  (x {value / first:.2f})"
            panel.annotate(words, (place, value), (0, 3), textcoords="offset points", ha="center", fontsize=9)
            panel.text(place, 0, f"{strategy}\n", ha="center", va="bottom", color="white", fontsize=9)
        panel.set_xticks([])
        caption(panel, up=name)
        panel.margins(y=0.15)
    return figure
