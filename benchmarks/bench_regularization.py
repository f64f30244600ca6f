"""Ridge and lasso on float64 rows: ours against scikit-learn, at scikit-learn's own settings of speed and accuracy."""

from collections.abc import Iterator

import numpy as np
from sklearn import linear_model
from threadpoolctl import threadpool_limits

from bench_linear_regression import apart
from harness import Row, compare
from vivace.learning import Lasso, Ridge, lasso_path


def rows() -> Iterator[Row]:
    with threadpool_limits(1):
        n, d = 100_000, 64
        generator = np.random.default_rng(0)
        X = generator.normal(size=(n, d)) @ (np.eye(d) + generator.normal(size=(d, d)) / 16) + generator.normal(size=d)
        y = X @ np.where(generator.random(d) < 0.25, generator.normal(size=d), 0) + generator.normal(size=n)
        what = f"{n:,} rows of {d} features"
        yield compare(f"ridge, {what}", lambda: Ridge(1.0).fit(X, y).coef_,
                      lambda: linear_model.Ridge(1.0).fit(X, y).coef_,
                      peer_name="scikit-learn", repeats=31, agree=apart)  # fmt: skip
        for alpha in (0.01, 0.1):
            exact = linear_model.Lasso(alpha, tol=1e-14, max_iter=10**6).fit(X, y).coef_  # its default stops at 1e-4
            yield compare(f"lasso, penalty {alpha}, {what}", lambda a=alpha: Lasso(a).fit(X, y).coef_,
                          lambda a=alpha: linear_model.Lasso(a).fit(X, y).coef_, peer_name="scikit-learn", repeats=15,
                          agree=lambda ours, _, exact=exact: apart(ours, exact))  # fmt: skip
        few, targets = X[:2000], y[:2000] - y[:2000].mean()
        few = few - few.mean(0)
        yield compare(f"lasso's path, 100 penalties, 2,000 rows of {d} features",
                      lambda: lasso_path(few, targets)[1],
                      lambda: linear_model.lasso_path(few, targets, eps=1e-3, tol=1e-10)[1].T,
                      peer_name="scikit-learn", repeats=15, agree=apart)  # fmt: skip
