"""Turns Arrow tables and DataFrames into columns of the wire.

Timestamps, event ids, attributes and payloads of bytes or text are taken over as whole buffers. Only where a payload is
made from several columns, as a JSON object a row, is there work per row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ingestor_client._columns import Blob, Columns
from ingestor_client._rows import JSONEncoder
from ingestor_client.errors import InvalidRecordError
from ingestor_client.uuid7 import uuid7_block


@dataclass(frozen=True, slots=True)
class TableMapping:
    """Which columns of a table become which part of a record.

    Attributes:
        timestamp: Column of timestamps. Without time zone: taken as UTC.
        payload: Column of bytes or text to send as it is. None: a JSON object a row, made of payload_columns.
        payload_columns: Columns of that object; None: all that are not used otherwise.
        event_id: Column of 16 bytes, or of UUIDs as text; None: new ids.
        attributes: Columns that become attributes.
    """

    timestamp: str
    payload: str | None = None
    payload_columns: Sequence[str] | None = None
    event_id: str | None = None
    attributes: Sequence[str] = ()

    def json_columns(self, names: Sequence[str]) -> list[str]:
        """The columns of the JSON payload, among all names of a table."""
        if self.payload_columns is not None:
            return list(self.payload_columns)
        used = {self.timestamp, self.event_id, *self.attributes}
        return [name for name in names if name not in used]


def arrow_table(frame: Any) -> Any:
    """The Arrow table of a pandas or polars DataFrame, or of a table or record batch itself."""
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    kind = type(frame).__module__.partition(".")[0]
    if kind == "polars":
        return frame.to_arrow()
    if kind == "pandas":
        return pa.Table.from_pandas(frame, preserve_index=False)
    raise TypeError(f"neither a DataFrame of pandas or polars nor an Arrow table: {type(frame).__name__}")


def table_columns(table: Any, mapping: TableMapping, max_rows: int, json_encoder: JSONEncoder) -> Iterator[Columns]:
    """Cuts a table into batches of at most max_rows, in the form of the wire.

    Raises:
        InvalidRecordError: a column is missing, has nulls where values are needed, or has an unusable type.
    """
    needed = [mapping.timestamp, mapping.payload, mapping.event_id, *mapping.attributes]
    for name in [*needed, *(mapping.payload_columns or ())]:
        if name is not None and name not in table.column_names:
            raise InvalidRecordError(f"there is no column {name!r}", field=name)
    for start in range(0, table.num_rows, max_rows):
        part = table.slice(start, max_rows)
        ids = uuid7_block(part.num_rows) if mapping.event_id is None else _event_ids(part, mapping.event_id)
        yield Columns(
            event_ids=ids,
            timestamps=_timestamps(part, mapping.timestamp),
            payloads=_payloads(part, mapping, json_encoder),
            attributes={name: _text(part, name, fill="") for name in mapping.attributes},
        )


def _column(table: Any, name: str, arrow_type: Any, fill: Any = None) -> Any:
    """One contiguous array of a column, cast to a type, without nulls."""
    import pyarrow as pa

    chunked = table.column(name)
    try:
        if pa.types.is_dictionary(chunked.type):
            chunked = chunked.cast(chunked.type.value_type)
        chunked = chunked.cast(arrow_type)
    except pa.ArrowException as error:
        raise InvalidRecordError(f"{chunked.type} does not cast to {arrow_type}: {error}", field=name) from None
    if fill is not None:
        chunked = chunked.fill_null(fill)
    if chunked.null_count:
        index = chunked.is_null().index(True).as_py()
        raise InvalidRecordError("is null", record_index=index, field=name)
    combined = chunked.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _timestamps(table: Any, name: str) -> bytes:
    import pyarrow as pa

    kind = table.schema.field(name).type
    # Integers are nanoseconds already. A timestamp without zone is taken as UTC by the cast.
    array = _column(table, name, pa.int64() if pa.types.is_integer(kind) else pa.timestamp("ns", tz="UTC"))
    return _fixed_width(array, 8)


def _fixed_width(array: Any, width: int) -> bytes:
    buffer = array.buffers()[1]
    start = array.offset * width
    return bytes(memoryview(buffer)[start : start + len(array) * width])


def _event_ids(table: Any, name: str) -> bytes:
    import pyarrow as pa

    kind = table.schema.field(name).type
    if isinstance(kind, pa.BaseExtensionType):  # arrow.uuid
        kind = kind.storage_type
        table = table.select([name]).cast(pa.schema([(name, kind)]))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _ids_of_text(table.column(name).to_pylist(), name)
    return _fixed_width(_column(table, name, pa.binary(16)), 16)


def _ids_of_text(values: Sequence[str | None], name: str) -> bytes:
    """The bytes of UUIDs written as text."""
    from uuid import UUID

    ids = []
    for index, value in enumerate(values):
        try:
            ids.append(UUID(value).bytes)
        except (TypeError, ValueError):
            raise InvalidRecordError(
                f"is not a UUID: {value!r}", record_index=index, field=name, record=value
            ) from None
    return b"".join(ids)


def _text(table: Any, name: str, fill: str | None = None) -> Blob:
    import pyarrow as pa

    return _blob(_column(table, name, pa.large_string(), fill))


def _payloads(table: Any, mapping: TableMapping, json_encoder: JSONEncoder) -> Blob:
    import pyarrow as pa

    if mapping.payload is None:
        return _json_rows(table.select(mapping.json_columns(table.column_names)), json_encoder)
    kind = table.schema.field(mapping.payload).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return _text(table, mapping.payload)
    return _blob(_column(table, mapping.payload, pa.large_binary()))


def _blob(array: Any) -> Blob:
    """Values and lengths of an array of type large_string or large_binary, without work per row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.binary_length(array).cast(pa.uint32())
    _, offsets, data = array.buffers()
    bounds = memoryview(offsets).cast("b").cast("q")[array.offset : array.offset + len(array) + 1]
    values = memoryview(data)[bounds[0] : bounds[-1]] if data is not None else b""
    return Blob(values, _fixed_width(lengths, 4))


def _json_rows(table: Any, json_encoder: JSONEncoder) -> Blob:
    """A JSON object a row. NaN becomes null, as there is no NaN in JSON."""
    names = [json.dumps(name, ensure_ascii=False) for name in table.column_names]
    if not names:
        return Blob.of([b"{}"] * table.num_rows)
    columns = [_json_values(column, json_encoder) for column in table.columns]
    template = "{" + ",".join(name.replace("%", "%%") + ":%s" for name in names) + "}"
    return Blob.of([(template % row).encode() for row in zip(*columns, strict=True)])


def _json_values(column: Any, json_encoder: JSONEncoder) -> list[str]:
    """The JSON text of each value of a column. Numbers and booleans are cast by Arrow, in C, where that is exact."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        texts: list[str] = pc.fill_null(column.cast(pa.string()), "null").to_pylist()
        return texts
    values = column.to_pylist()
    if pa.types.is_floating(kind):
        return [repr(value) if value is not None and value - value == 0 else "null" for value in values]
    return ["null" if value is None else _json_text(value, json_encoder) for value in values]


def _json_text(value: object, json_encoder: JSONEncoder) -> str:
    try:
        text = json_encoder(value)
    except (TypeError, ValueError) as error:
        raise InvalidRecordError(str(error), field="payload", record=value) from error
    return text if isinstance(text, str) else text.decode()
