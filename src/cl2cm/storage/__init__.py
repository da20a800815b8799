"""Reading and writing files: whole or not at all, locked, confined to a folder, hashed."""

from cl2cm.storage.atomic import atomic_file, atomic_folder, atomic_path, write_json
from cl2cm.storage.confined import open_confined, open_regular, read_regular
from cl2cm.storage.failures import sqlite_error, storage_error, storage_errors
from cl2cm.storage.folders import cache_folder, config_folder, state_folder
from cl2cm.storage.hashes import sha256_file, sha256_text
from cl2cm.storage.locks import locked
from cl2cm.storage.sqlite import open_sqlite

__all__ = [
    "atomic_file",
    "atomic_folder",
    "atomic_path",
    "cache_folder",
    "config_folder",
    "locked",
    "open_confined",
    "open_regular",
    "open_sqlite",
    "read_regular",
    "sha256_file",
    "sha256_text",
    "sqlite_error",
    "state_folder",
    "storage_error",
    "storage_errors",
    "write_json",
]
