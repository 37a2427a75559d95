"""Boosted trees: scikit-learn's HistGradientBoostingClassifier on codes and raw numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn import ensemble

if TYPE_CHECKING:
    from slipway.config import TreeConfig
    from tasks.shards import Rows


@dataclass(frozen=True)
class Trees:
    """Trees that were fitted."""

    classifier: ensemble.HistGradientBoostingClassifier

    def predict(
        self, categories: NDArray[np.integer[Any]], numbers: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return probabilities [N]."""
        chances: NDArray[np.float64] = self.classifier.predict_proba(_columns(categories, numbers))
        return chances[:, 1]


def fit(config: "TreeConfig", rows: "Rows") -> Trees:
    """Fit without early stopping: all rows are to learn from."""
    classifier = ensemble.HistGradientBoostingClassifier(
        max_iter=config.max_iter,
        learning_rate=config.learning_rate,
        max_leaf_nodes=config.max_leaf_nodes,
        random_state=config.seed,
        categorical_features=list(range(rows.categories.shape[1])),
        early_stopping=False,
    )
    classifier.fit(_columns(rows.categories, rows.numbers), rows.labels)
    return Trees(classifier)


def _columns(
    categories: NDArray[np.integer[Any]], numbers: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Put the categories first, where `categorical_features` says that they are."""
    return np.hstack([categories, numbers])
