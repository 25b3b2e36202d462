"""Writes the protobuf code of the package from proto/*.proto, or checks that it is current.

Usage:
    python scripts/generate_proto.py            write src/ingestor_client/_proto
    python scripts/generate_proto.py --check    exit 1 and name the files that differ

It needs grpcio-tools in the version that pyproject.toml pins (extra "test").
"""

import argparse
import filecmp
import importlib.resources
import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

CLIENT = Path(__file__).resolve().parent.parent
TARGET = CLIENT / "src" / "ingestor_client" / "_proto"
PACKAGE = "ingestor_client._proto"

# Where each source lies, and its name below that directory.
SOURCES = [
    (CLIENT.parent.parent / "proto", "storage/common.proto"),
    (CLIENT.parent.parent / "proto", "storage/ingestion.proto"),
    (CLIENT.parent.parent / "proto", "metrics/v1/metrics.proto"),
    (CLIENT / "proto", "ingestor_client/status.proto"),
]

# protoc writes absolute imports of the proto path; they must point into the private package.
IMPORT = re.compile(r"^from (storage|metrics\.v1|ingestor_client) import (\w+_pb2)", re.MULTILINE)


def generate(target: Path) -> list[Path]:
    """Writes the code below target and returns the paths written, relative to it."""
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    includes = [*sorted({str(root) for root, _ in SOURCES}), str(well_known)]
    arguments = ["protoc", *[f"-I{path}" for path in includes], f"--python_out={target}", f"--pyi_out={target}"]
    if protoc.main([*arguments, *(name for _, name in SOURCES)]) != 0:
        raise SystemExit("protoc failed")
    written = sorted(path.relative_to(target) for path in target.rglob("*_pb2.py*") if path.suffix != ".pyc")
    for name in written:
        path = target / name
        path.write_text(IMPORT.sub(rf"from {PACKAGE}.\1 import \2", path.read_text()))
    return written


def stale() -> list[str]:
    """Names the committed files that differ from freshly generated ones."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generate(Path(scratch))
        committed = {path.relative_to(TARGET) for path in TARGET.rglob("*_pb2.py*") if path.suffix != ".pyc"}
        differing = {
            name
            for name in committed & set(fresh)
            if not filecmp.cmp(TARGET / name, Path(scratch) / name, shallow=False)
        }
        return sorted(str(name) for name in differing | (committed ^ set(fresh)))


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    if not parser.parse_args().check:
        generate(TARGET)
        return 0
    differing = stale()
    for name in differing:
        print(f"not current: {TARGET / name}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
