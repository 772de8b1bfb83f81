"""Independent units of a split: rows that share a group or a cluster of duplicates count as one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from scipy import sparse
from scipy.sparse import csgraph

from common import storage
from common.storage import Storage
from provenance.keys import record_keys
from schemas.manifest import Manifest


class UnknownUnits(Exception):
    """Silver, which tells the rows that belong together, cannot be read."""


def units_of(
    manifest: Manifest, split: str, keys: npt.NDArray[np.uint64], options: Storage
) -> npt.NDArray[np.int64] | None:
    """Return the number of each row's unit, (rows,), for `keys`, (rows, 2); None where each row is one of its own.

    Groups and clusters are not in the shards: they are read from silver, at the versions that the manifest names.
    Raises UnknownUnits where that is not possible.
    """
    group = manifest.content.configuration["columns"]["group"]
    versions = manifest.provenance.silver_versions
    if group is None and "ledger" not in versions:
        return None
    try:
        table = _read(manifest, "ledger", ["record_id", "cluster_id"], options, pc.field("split") == split)
        columns = ["cluster_id"]
        if group is not None:
            wanted = pc.field("record_id").isin(table["record_id"])
            fields = _read(manifest, "fields", ["record_id", group], options, wanted)
            fields = fields.rename_columns(["record_id", "the group"])
            table, columns = table.join(fields, "record_id"), ["cluster_id", "the group"]
    except (KeyError, DeltaError, OSError, pa.ArrowException) as error:
        raise UnknownUnits((str(error).splitlines() or [""])[0]) from error
    table = table.sort_by("record_id")
    found = connected([table[name].to_pylist() for name in columns])
    if len(np.unique(found)) == len(found):
        return None
    return _in_order(record_keys(table["record_id"].to_pylist()), found, keys)


def connected(columns: Sequence[Sequence[str | None]]) -> npt.NDArray[np.int64]:
    """Return the component of each row, (rows,): rows that share a value of a column are connected; None connects none.

    The order of the rows decides the numbers.
    """
    rows, edges, nodes = len(columns[0]), [], len(columns[0])
    for column in columns:
        names = sorted({value for value in column if value is not None})
        place = {name: nodes + number for number, name in enumerate(names)}
        edges += [(row, place[value]) for row, value in enumerate(column) if value is not None]
        nodes += len(names)
    ends = np.asarray(edges, np.int64).reshape(-1, 2)
    graph = sparse.csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(nodes, nodes))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1][:rows], np.int64)


def _read(
    manifest: Manifest, name: str, columns: Sequence[str], options: Storage, wanted: pc.Expression
) -> pa.Table:
    uri = storage.join(manifest.dataset_uri, "silver", name)
    version = manifest.provenance.silver_versions[name]
    table = DeltaTable(uri, version=version, storage_options=storage.delta_options(options))
    return table.to_pyarrow_dataset().to_table(columns=list(columns), filter=wanted)


def _in_order(
    known: npt.NDArray[np.uint64], units: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Return the units of `keys` from those of `known`; a key that is not known is a unit of its own."""
    by_key = {key.tobytes(): int(unit) for key, unit in zip(known, units, strict=True)}
    next_unit = max(units.tolist(), default=-1) + 1
    return np.asarray([by_key.get(key.tobytes(), next_unit + row) for row, key in enumerate(keys)], np.int64)
