"""Training and prediction as scikit-learn has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fewlabels.api.fit import fit
from fewlabels.data.images import UNKNOWN
from fewlabels.data.labels import check_words, is_missing
from fewlabels.types import UserError


class FewLabelsClassifier(ClassifierMixin, BaseEstimator):
    """An image classifier that learns from a few labels, as an estimator of scikit-learn's.

    ``X`` holds N images: ``[N, H, W, C]``, ``[N, H, W]`` of grey ones, or flat, ``[N, H * W]`` or ``[N, H * W * C]``, with
    ``image_shape``. In ``y`` -1 says that an image has no label, as in scikit-learn; where labels are words, so do "" and
    None. Mistakes are ValueErrors.

    Args:
        method, model: options of ``conf/method`` and ``conf/model``, as on the command line.
        steps: updates in all; None: ``settings`` has ``epochs``.
        settings: other settings of the command line, such as ``{"optim.lr": 0.1, "views.flip": False}``.
        image_shape: (H, W) or (H, W, C) of a flat image; one of them may be -1, as in numpy.reshape.
        value_range: the values of black and white. None: 0 and 255 of uint8, 0 and 1 of fractions; a pair: these, such as
            (0, 16) of scikit-learn's digits, and no value may lie outside; ``"data"``: the least and the largest of the
            training images, at which later values are cut off. Pixels are rounded to 8 bits between them.
        device: auto, cpu, cuda or cuda:0.
        output_root: the folder of the runs; the same call is then found finished there, or goes on. None: no files are kept.
        random_state: a whole number is the seed; None, or a generator of numpy's: the seed is drawn.
        verbose: whether to show a progress bar.

    Attributes:
        classes_: the labels, sorted.
        classifier_: the trained network; see :class:`fewlabels.TrainedClassifier`. Its ``classes`` are words.
        record_: all that is known of the run.
        n_features_in_: ``X.shape[1]``.

    Example:
        >>> classifier = FewLabelsClassifier("entropy", steps=300, image_shape=(8, 8), value_range=(0, 16))
        >>> accuracy = classifier.fit(X, np.where(labelled, y, -1)).score(X_test, y_test)
    """

    def __init__(
        self,
        method: str = "fixmatch",
        model: str = "simple_cnn",
        steps: int | None = 1000,
        settings: Mapping[str, Any] | None = None,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | str | None = None,
        device: str = "auto",
        output_root: str | os.PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ) -> None:
        self.method, self.model, self.steps, self.settings = method, model, steps, settings
        self.image_shape, self.value_range, self.device = image_shape, value_range, device
        self.output_root, self.random_state, self.verbose = output_root, random_state, verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Train on these images.

        Args:
            X: N images; see the class.
            y: N labels, -1 where there is none.

        Returns:
            The estimator itself.

        Raises:
            ValueError: a mistake in the images, the labels or the settings, in the words of the command line.
        """
        X, y = validate_data(self, X, y, allow_nd=True, dtype="numeric")
        missing = np.array([is_missing(label) for label in y.tolist()])
        if missing.all():
            raise ValueError("y holds no class: every image is unlabelled")
        if len({isinstance(label, str) for label in y[~missing].tolist()}) > 1:
            raise ValueError("y holds numbers and words: classes are either")
        check_classification_targets(y[~missing])
        self.classes_, numbers = np.unique(y[~missing], return_inverse=True)
        with _as_value_errors():
            check_words(self.classes_.tolist(), "y")
        labels = np.full(len(y), UNKNOWN, np.int64)
        labels[~missing] = numbers
        self.value_range_: tuple[float, float] | None
        if isinstance(self.value_range, str):
            if self.value_range != "data":
                raise ValueError(f"value_range={self.value_range!r} is neither None, a pair of numbers, nor 'data'")
            self.value_range_ = (float(X.min()), float(X.max()))
        else:
            self.value_range_ = self.value_range
        with _as_value_errors(), self._root() as root:
            run = fit(
                self._images(X),
                labels,
                class_names=[str(each) for each in self.classes_],
                method=self.method,
                model=self.model,
                output_root=root,
                seed=self._seed(),
                **({} if self.steps is None else {"steps": self.steps}),
                **{"hardware.device": self.device, "tracking.bar": bool(self.verbose), "evaluate_test": False},
                **(self.settings or {}),
            )
            self.classifier_, self.record_ = run.classifier, run.record
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class.

        Args:
            X: N images; see the class.

        Returns:
            ``[N, classes]``, in the order of ``classes_``; the sum of each row is 1.

        Raises:
            ValueError: images of another size or range than the training images.
        """
        check_is_fitted(self)
        X = validate_data(self, X, allow_nd=True, dtype="numeric", reset=False)
        with _as_value_errors():
            return self.classifier_.predict_proba(self._images(X))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each image.

        Args:
            X: N images; see the class.

        Returns:
            ``[N]``, of ``classes_``.

        Raises:
            ValueError: as :meth:`predict_proba`.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def _images(self, X: np.ndarray) -> np.ndarray:
        """``[N, H, W]`` or ``[N, H, W, C]``, uint8 or fractions."""
        if X.ndim == 2:
            return self._scaled(self._unflattened(X))
        return self._scaled(X)

    def _unflattened(self, X: np.ndarray) -> np.ndarray:
        if self.image_shape is None:
            raise ValueError(f"X has the shape {list(X.shape)}: of flat images image_shape has to say (H, W) or (H, W, C)")
        try:
            return X.reshape(len(X), *self.image_shape)
        except ValueError as error:
            raise ValueError(f"{X.shape[1]} values an image make no image_shape={self.image_shape}") from error

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        if self.value_range_ is None:
            return X
        low, high = self.value_range_
        if self.value_range == "data":
            X = X.clip(low, high)
        elif len(X) and (X.min() < low or X.max() > high):
            raise ValueError(f"X has values from {X.min():g} to {X.max():g}, outside of value_range={self.value_range}")
        return (X - low) / (high - low if high > low else 1.0)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    @contextmanager
    def _root(self) -> Iterator[str]:
        if self.output_root is not None:
            yield os.fspath(self.output_root)
            return
        with TemporaryDirectory(prefix="fewlabels-") as root:
            yield root

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """What scikit-learn expects of a mistake."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from error
