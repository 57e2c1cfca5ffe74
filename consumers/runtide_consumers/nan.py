"""One NaN: stores do not keep its payload, so neither store is given one.

DuckDB writes a segment that holds nothing but NaNs as one constant (seen with 2.0), and PostgreSQL takes all NaNs for
equal; which payload survived would depend on how the log was cut into batches. All other bits are kept, the sign of zero
among them.
"""

import numpy as np
from numpy.typing import NDArray


def with_one_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values with every NaN as the quiet NaN without payload (bits 7ff8000000000000)."""
    strange = np.isnan(values)
    return np.where(strange, np.nan, values) if strange.any() else values
