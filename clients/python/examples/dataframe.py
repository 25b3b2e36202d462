"""Sends a pandas DataFrame in columns. Needs the extra "dataframe".

INGESTOR_TARGET and INGESTOR_API_KEY say where to.
"""

import os

import pandas as pd

from ingestor_client import Client

ROWS = 100_000

frame = pd.DataFrame(
    {
        "measured_at": pd.date_range("2024-01-01", periods=ROWS, freq="s", tz="UTC"),
        "device": [f"device-{n % 10}" for n in range(ROWS)],
        "celsius": [20 + n % 70 / 10 for n in range(ROWS)],
        "battery_percent": [100 - n % 100 for n in range(ROWS)],
    }
)

with Client(os.environ.get("INGESTOR_TARGET", "localhost:9090")) as client:
    acks = client.write_dataframe(frame, "thermometers", timestamp_column="measured_at", attribute_columns=["device"])

print(f"{sum(ack.record_count for ack in acks)} rows in {len(acks)} batches are on disk")
