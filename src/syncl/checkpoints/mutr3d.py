"""Tracking modules of MUTR3D checkpoints (a1600012888/MUTR3D): query interaction and memory bank."""

from collections.abc import Iterable

from syncl.checkpoints.mapping import Entry, Rule, rule_entries
from syncl.checkpoints.names import AFFINE, ATTENTION


def _perceptron(ours: str, published: str) -> tuple[Rule, Rule]:
    """Two linear layers: modules 0 and 2 here, attributes numbered 1 and 2 there."""
    return (
        Rule(rf"{ours}\.0\.{AFFINE}", rf"{published}1.\1"),
        Rule(rf"{ours}\.2\.{AFFINE}", rf"{published}2.\1"),
    )


QUERY_INTERACTION: tuple[Rule, ...] = (
    Rule(rf"attention\.{ATTENTION}", r"self_attn.\1"),
    Rule(rf"attention_norm\.{AFFINE}", r"norm1.\1"),
    *_perceptron("feed_forward", "linear"),
    Rule(rf"feed_forward_norm\.{AFFINE}", r"norm2.\1"),
    *_perceptron("position_update", "linear_pos"),
    Rule(rf"position_norm\.{AFFINE}", r"norm_pos.\1"),
    *_perceptron("content_update", "linear_feat"),
    Rule(rf"content_norm\.{AFFINE}", r"norm_feat.\1"),
)

MEMORY_BANK: tuple[Rule, ...] = (
    Rule(rf"attention\.{ATTENTION}", r"temporal_attn.\1"),
    Rule(rf"attention_norm\.{AFFINE}", r"temporal_norm1.\1"),
    *_perceptron("feed_forward", "temporal_fc"),
    Rule(rf"feed_forward_norm\.{AFFINE}", r"temporal_norm2.\1"),
    Rule(rf"save_projection\.{AFFINE}", r"save_proj.\1"),
)


def tracking_entries(names: Iterable[str]) -> list[Entry]:
    """Entries of a `Mutr3d` tracker's own parameters (state dict names)."""
    names = tuple(names)
    return [
        *rule_entries(names, QUERY_INTERACTION, "query_interaction.", "query_interact."),
        *rule_entries(names, MEMORY_BANK, "memory_bank.", "memory_bank."),
    ]
