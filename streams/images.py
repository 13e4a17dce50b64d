"""Image sets: arrays of events in a NumPy archive, with labels, and perhaps held-out ones beside them."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.errors import TableError, UnknownStream

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NAMED = {"mnist": "mnist/mnist.npz"}  # below the folder that EVERLEARN_DATA names
FORMAT = ".npz"
_KEYS = (("X", "y", "X_test", "y_test"), ("x_train", "y_train", "x_test", "y_test"))


@dataclass(frozen=True)
class ImageSet:
    """Events as one array, in order: X (n, d), (n, h, w) or (n, h, w, c), and n labels.

    held_out: (n,) bool, the events of the set's own test set; None where it has none.
    """

    name: str
    X: npt.NDArray[Any]
    labels: list[int | float | str | bool]
    held_out: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def read_images(path: str | Path) -> ImageSet:
    """The image set in a `.npz` file, as `numpy.savez` writes it.

    It holds the arrays `X`, of numbers, (n, d), (n, height, width) or (n, height, width, channels), and `y`, (n,)
    labels; `X_test` and `y_test` beside them are held out. `x_train`, `y_train`, `x_test`, `y_test` say the same.
    Nothing in the file is run: arrays of Python objects are refused. Raises TableError where it cannot be read.

    >>> import tempfile
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp(), "tiny.npz")
    >>> np.savez(path, X=np.zeros((3, 8, 8), np.uint8), y=np.array([0, 1, 0]))
    >>> images = read_images(path)
    >>> images.name, images.X.shape, images.labels
    ('tiny', (3, 8, 8), [0, 1, 0])
    """
    import numpy as np

    path = Path(path)
    if not path.is_file():
        raise TableError(f"there is no file {str(path)!r}; expected a NumPy archive with arrays X and y")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for keys in _KEYS for name in keys if name in archive}
            names = list(archive)
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise TableError(
            f"{path}: not readable as a NumPy archive ({error}); expected what numpy.savez writes"
        ) from error
    keys = next((keys for keys in _KEYS if set(keys[:2]) <= set(found)), None)
    if keys is None:
        raise TableError(
            f"{path} holds the arrays {', '.join(names) or 'none'}; expected X (n, height, width) and y (n,)"
        )
    X, y, X_test, y_test = (found.get(key) for key in keys)
    assert X is not None
    assert y is not None
    _check(path, keys[0], X, keys[1], y)
    if X_test is None and y_test is None:
        return ImageSet(path.stem, X, y.tolist())
    if X_test is None or y_test is None:
        raise TableError(f"{path} holds one of {keys[2]} and {keys[3]}; expected both or neither")
    _check(path, keys[2], X_test, keys[3], y_test)
    if X_test.shape[1:] != X.shape[1:]:
        raise TableError(
            f"{path}: {keys[2]} has events of shape {X_test.shape[1:]}, {keys[0]} of {X.shape[1:]}; expected "
            "equal shapes"
        )
    held = np.repeat([False, True], [len(X), len(X_test)])
    return ImageSet(path.stem, np.concatenate([X, X_test]), [*y.tolist(), *y_test.tolist()], held)


def _check(path: Path, x_name: str, X: Any, y_name: str, y: Any) -> None:
    if X.ndim not in (2, 3, 4) or X.dtype.kind not in "biuf" or X.size == 0:
        raise TableError(
            f"{path}: {x_name} has shape {X.shape} and type {X.dtype}; expected numbers of shape (n, features), "
            "(n, height, width) or (n, height, width, channels)"
        )
    if y.shape != (len(X),) or y.dtype.kind not in "biufU":
        raise TableError(
            f"{path}: {y_name} has shape {y.shape} and type {y.dtype}; expected ({len(X)},), one label per event"
        )


def load_images(name: str) -> ImageSet:
    """The image set of a built-in name, from the folder that EVERLEARN_DATA names; UnknownStream without it."""
    folder = os.environ.get("EVERLEARN_DATA")
    file = NAMED[name]
    if not folder or not (Path(folder) / file).is_file():
        where = f"there is no file {str(Path(folder) / file)!r}" if folder else "it is not set"
        raise UnknownStream(
            f"the image set {name!r} is part of no package: set the environment variable EVERLEARN_DATA to the "
            f"folder that holds {file} ({where})"
        )
    return read_images(Path(folder) / file)
