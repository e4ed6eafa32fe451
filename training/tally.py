"""What one pass over images adds up to: loss, accuracies and F1, over all processes."""

from __future__ import annotations

import torch
from sklearn.metrics import f1_score

from training import parallel


class Tally:
    """Sums that grow batch by batch. F1 needs no predictions but how often each was made of which group."""

    def __init__(self, groups: int, device: torch.device) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, classes right, images
        self._confusion = torch.zeros(groups, groups, dtype=torch.float64, device=device)  # true, predicted

    def add(
        self,
        loss: torch.Tensor,
        log_groups: torch.Tensor,
        groups: torch.Tensor,
        log_classes: torch.Tensor,
        classes: torch.Tensor,
    ) -> None:
        """A batch's mean loss, its log-probabilities and targets (B, groups) and (B, classes); of a mixed target the
        larger part counts."""
        truth, predicted = groups.argmax(1), log_groups.argmax(1)
        ones = torch.ones(len(truth), dtype=torch.float64, device=truth.device)
        self._confusion.index_put_((truth, predicted), ones, accumulate=True)
        right = (log_classes.argmax(1) == classes.argmax(1)).sum()
        self._sums += torch.stack([loss.detach() * len(truth), right, ones.sum()])

    def scores(self) -> dict[str, float]:
        """Means over the images of all processes. `class_accuracy` is of the classes, the others of the groups.

        F1 as scikit-learn's `f1_score`, over the groups that images have or that were predicted.
        """
        parallel.average([self._sums, self._confusion])
        loss, classes_right, images = self._sums.tolist()
        confusion = self._confusion.cpu()
        truth, predicted = confusion.nonzero(as_tuple=True)
        counts = confusion[truth, predicted]
        f1 = {
            name: float(f1_score(truth, predicted, sample_weight=counts, average=name, zero_division=0))
            for name in ("weighted", "macro")
        }
        return {
            "loss": loss / images,
            "accuracy": float(confusion.trace()) / images,
            "class_accuracy": classes_right / images,
            "weighted_f1": f1["weighted"],
            "macro_f1": f1["macro"],
        }
