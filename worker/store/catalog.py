"""The collections and aliases of one folder, owned by the one process that holds its lock."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from qdrant_client.http import models as m

from worker.errors import ConfigError
from worker.store.collection import Collection
from worker.store.files import StoreFiles, replace_json, sync_folder
from worker.store.shard import EngineError
from worker.store.translate import BadRequest

ENGINE = "qdrant-edge-py"
_FORMAT = 1
_NAME = re.compile(r"(?!\.)[^<>:\"/\\|?*\x00-\x1f]{1,200}")
_MAKING, _DELETING = ".new-", ".gone-"


class NotFound(Exception):
    """No such collection or alias."""


class AlreadyExists(Exception):
    """A collection of that name is there already."""


class Catalog:
    """Thread-safe. Collections are found by name or by alias.

    A collection appears and disappears by the rename of its folder, and the alias file is replaced
    whole, so a crash leaves either the old state or the new.
    """

    def __init__(
        self, files: StoreFiles, collections: dict[str, Collection], aliases: dict[str, str]
    ) -> None:
        self._files = files
        self._collections = collections
        self._aliases = aliases
        self._lock = threading.RLock()

    @classmethod
    def open(cls, files: StoreFiles) -> Catalog:
        """Open everything in the folder; the caller holds the folder's lock.

        Raises:
            ConfigError: written by another engine, damaged, or not accessible.
        """
        try:
            files.collections.mkdir(parents=True, exist_ok=True)
            _check_format(files)
            _sweep(files.collections)
            names = sorted(folder.name for folder in files.collections.iterdir() if folder.is_dir())
            aliases = json.loads(files.aliases.read_bytes()) if files.aliases.exists() else {}
            if not isinstance(aliases, dict):
                raise ConfigError(f"{files.aliases}: not a JSON object")
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot open the store in {files.root}: {error}") from error
        collections = {name: _load(files.collections / name) for name in names}
        return cls(files, collections, {str(alias): str(name) for alias, name in aliases.items()})

    def close(self) -> None:
        """Flush and close every collection."""
        with self._lock:
            for collection in self._collections.values():
                collection.close()
            self._collections.clear()

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._collections)

    def __iter__(self) -> Iterator[Collection]:
        with self._lock:
            return iter(list(self._collections.values()))

    def exists(self, name: str) -> bool:
        with self._lock:
            return self._aliases.get(name, name) in self._collections

    def get(self, name: str) -> Collection:
        """The collection of this name or alias.

        Raises:
            NotFound: neither.
        """
        with self._lock:
            found = self._collections.get(self._aliases.get(name, name))
        if found is None:
            raise NotFound(f"Collection `{name}` doesn't exist!")
        return found

    def create(self, name: str, request: m.CreateCollection) -> None:
        """Make a collection.

        Raises:
            AlreadyExists: there is one.
            BadRequest: an unusable name, or the name of an alias.
        """
        if not _NAME.fullmatch(name):
            raise BadRequest(f"Wrong input: Collection name {name!r} is not usable")
        with self._lock:
            if name in self._collections:
                raise AlreadyExists(f"Collection `{name}` already exists!")
            if name in self._aliases:
                raise BadRequest(
                    f"Can't create collection with name {name}. Alias with the same name already exists"
                )
            making, place = self._files.collections / f"{_MAKING}{name}", self._files.collections / name
            shutil.rmtree(making, ignore_errors=True)
            Collection.create(making, request)
            making.rename(place)
            sync_folder(self._files.collections)
            self._collections[name] = Collection.load(place)

    def delete(self, name: str) -> bool:
        """Delete a collection and the aliases that point at it; whether there was one."""
        with self._lock:
            collection = self._collections.pop(name, None)
            if collection is None:
                return False
            kept = {alias: target for alias, target in self._aliases.items() if target != name}
            if kept != self._aliases:
                self._replace_aliases(kept)
            collection.close()
            gone = self._files.collections / f"{_DELETING}{name}"
            (self._files.collections / name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)  # what is left is swept at the next start
            return True

    def aliases(self) -> dict[str, str]:
        """alias -> collection."""
        with self._lock:
            return dict(self._aliases)

    def change_aliases(self, request: m.ChangeAliasesOperation) -> None:
        """Apply all actions, or none.

        Raises:
            NotFound: a collection or an alias that is not there.
            BadRequest: an alias with the name of a collection.
        """
        with self._lock:
            changed = dict(self._aliases)
            for action in request.actions:
                self._change(changed, action)
            self._replace_aliases(changed)

    def _change(self, aliases: dict[str, str], action: m.AliasOperations) -> None:
        match action:
            case m.CreateAliasOperation():
                target, alias = action.create_alias.collection_name, action.create_alias.alias_name
                if target not in self._collections:
                    raise NotFound(f"Collection `{target}` doesn't exist!")
                self._check_free(alias)
                aliases[alias] = target
            case m.DeleteAliasOperation():
                aliases.pop(action.delete_alias.alias_name, None)
            case m.RenameAliasOperation():
                old, new = action.rename_alias.old_alias_name, action.rename_alias.new_alias_name
                if old not in aliases:
                    raise NotFound(f"Alias {old} does not exists!")
                self._check_free(new)
                aliases[new] = aliases.pop(old)

    def _check_free(self, alias: str) -> None:
        if alias in self._collections:
            raise BadRequest(f"Collection `{alias}` already exists!")

    def _replace_aliases(self, aliases: dict[str, str]) -> None:
        replace_json(self._files.aliases, aliases)
        self._aliases = aliases


def engine_version() -> str:
    return importlib.metadata.version(ENGINE)


def _check_format(files: StoreFiles) -> None:
    ours = {"format": _FORMAT, "engine": ENGINE, "engine_version": engine_version()}
    if not files.format.exists():
        replace_json(files.format, ours)
        return
    found = json.loads(files.format.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{files.format}: not a JSON object")
    version = str(found.get("engine_version", ""))
    # The engine is a beta: only releases of one minor version are taken to read each other's files.
    same_minor = version.split(".")[:2] == engine_version().split(".")[:2]
    if found.get("format") != _FORMAT or found.get("engine") != ENGINE or not same_minor:
        raise ConfigError(
            f"the store in {files.root} was written by {found.get('engine')} {version} "
            f"(format {found.get('format')}), this is {ENGINE} {engine_version()} (format {_FORMAT}): "
            "install that version, or start in another folder and fill it again"
        )


def _sweep(collections: Path) -> None:
    for folder in collections.iterdir():
        if folder.name.startswith((_MAKING, _DELETING)):
            shutil.rmtree(folder)


def _load(folder: Path) -> Collection:
    try:
        return Collection.load(folder)
    except (OSError, ValueError, EngineError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"cannot open the collection in {folder}: {detail}") from error
