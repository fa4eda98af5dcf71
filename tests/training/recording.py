"""A stand-in for CUDA graphs on a processor: the same operations again, on the tensors that were there when it recorded.

As in a graph, nothing of Python runs at a replay: numbers stay as they were, results go where they went, and what would wait
for the device is refused.
"""

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from fewlabels.training.graph import NotRecorded

ASKS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def one_hot(labels, classes):
    """torch's, which looks at the labels on a processor alone."""
    return torch.zeros(*labels.shape, classes, dtype=torch.int64).scatter_(-1, labels.unsqueeze(-1), 1)


class _Watching(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __enter__(self):
        self.one_hot, F.one_hot = F.one_hot, one_hot
        return super().__enter__()

    def __exit__(self, *error):
        F.one_hot = self.one_hot
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if ASKS & set(func.tags) and not indexed_by_numbers(func, args):
            raise NotRecorded(f"{func} waits for the device")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out


def indexed_by_numbers(func, args):
    """Whether it is an index of numbers: one of truth values has a length that only the device knows."""
    return func == torch.ops.aten.index.Tensor and all(i is None or i.dtype == torch.int64 for i in args[1])


def tensors(tree):
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]


class Recording:
    """Records as :class:`fewlabels.training.graph.CudaRecorder` does. ``replayed`` counts."""

    replayed = recorded = 0

    def warm_up(self, function):
        function()

    def record(self, function, generators):
        with _Watching() as watching:
            function()
        self.recorded += 1

        @torch.no_grad()
        def replay():
            self.replayed += 1
            for func, args, kwargs, out in watching.calls:
                if func.is_view:  # of memory that stays where it is
                    continue
                for new, place in zip(tensors(func(*args, **kwargs)), tensors(out), strict=True):
                    if new is not place and new.data_ptr() != place.data_ptr():
                        place.copy_(new)

        return replay
