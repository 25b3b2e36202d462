"""Six lines that send two records. `make run` starts a server and prints an API key for INGESTOR_API_KEY."""

from ingestor_client import Client

with Client("localhost:9090") as client:
    ack = client.write("orders", [{"id": 1, "total": 9.5}, {"id": 2, "total": 12.0}])
    print(f"{ack.record_count} records are on disk, log positions {ack.first_lsn} to {ack.last_lsn}")
