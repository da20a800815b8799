"""Read and write files: atomically, with locks, confined to a folder, with hashes."""

from cl2cm.storage.atomic import (
    atomic_file,
    atomic_folder,
    atomic_path,
    check_ending,
    check_writable,
    is_partial,
    sweep_partials,
    write_json,
)
from cl2cm.storage.confined import open_confined, open_regular, read_regular
from cl2cm.storage.failures import sqlite_error, storage_error, storage_errors
from cl2cm.storage.folders import cache_folder, config_folder, state_folder
from cl2cm.storage.hashes import row_sum, sha256_bytes, sha256_file, sha256_text
from cl2cm.storage.locks import LOCK, locked, only_writer
from cl2cm.storage.records import (
    CHECKSUM,
    ChangedError,
    checksummed,
    is_unchanged,
    parse_record,
    read_record,
    write_record,
)
from cl2cm.storage.sqlite import open_sqlite
from cl2cm.storage.verified import has_hash, hash_and_remember

__all__ = [
    "CHECKSUM",
    "LOCK",
    "ChangedError",
    "atomic_file",
    "atomic_folder",
    "atomic_path",
    "cache_folder",
    "check_ending",
    "check_writable",
    "checksummed",
    "config_folder",
    "has_hash",
    "hash_and_remember",
    "is_partial",
    "is_unchanged",
    "locked",
    "only_writer",
    "open_confined",
    "open_regular",
    "open_sqlite",
    "parse_record",
    "read_record",
    "read_regular",
    "row_sum",
    "sha256_bytes",
    "sha256_file",
    "sha256_text",
    "sqlite_error",
    "state_folder",
    "storage_error",
    "storage_errors",
    "sweep_partials",
    "write_json",
    "write_record",
]
