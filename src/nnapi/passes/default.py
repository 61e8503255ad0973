"""The default sequence of passes, in the order they run."""

from __future__ import annotations

from nnapi.passes.eliminate_common import eliminate_common
from nnapi.passes.fold_batch_norm import fold_batch_norm
from nnapi.passes.fold_channel_permutation import fold_channel_permutation
from nnapi.passes.fold_constants import fold_constants
from nnapi.passes.fold_padding import fold_padding
from nnapi.passes.fold_reshapes import fold_reshapes
from nnapi.passes.fold_transposes import fold_transposes
from nnapi.passes.fuse_activations import fuse_activations
from nnapi.passes.fuse_channel_shuffle import fuse_channel_shuffle
from nnapi.passes.remove_dead_code import remove_dead_code
from nnapi.passes.remove_identities import remove_identities
from nnapi.passes.sink_reshapes import sink_reshapes

DEFAULT = (
    remove_dead_code,
    fold_constants,
    fuse_channel_shuffle,
    fold_transposes,
    sink_reshapes,
    fold_reshapes,
    remove_identities,
    eliminate_common,
    fold_padding,
    fold_batch_norm,
    fold_channel_permutation,
    fuse_activations,
)
