"""Opening one model's collection behind an alias: for writing, for reading, or beside another model's."""

from __future__ import annotations

from worker.errors import ConfigError, FatalError
from worker.store.client import Store
from worker.store.layout import alias_target, check_vectors, make_collection, point_alias


def collection_name(alias: str, model_id: str) -> str:
    """The collection that holds a model's vectors."""
    return f"{alias}-{model_id}"


def served_model(store: Store, alias: str) -> str | None:
    """The id of the model whose collection the alias points at; None if there is no such alias."""
    target = alias_target(store, alias)
    return None if target is None else target.removeprefix(f"{alias}-")


class ModelCollection:
    """A model's collection and the alias that readers find it by.

    Args:
        store: open; `close` closes it.
        dim: of both named vectors.
        beside: id of another model at whose collection the alias may point too, for a writer of both.
        replication_factor: of a collection created here; writes wait for as many copies.
    """

    def __init__(
        self,
        store: Store,
        alias: str,
        model_id: str,
        dim: int,
        *,
        beside: str | None = None,
        replication_factor: int = 1,
    ) -> None:
        self._store = store
        self._alias = alias
        self._model_id = model_id
        self._dim = dim
        self._replication_factor = replication_factor
        self.collection = collection_name(alias, model_id)
        self._allowed = {None, self.collection} | ({collection_name(alias, beside)} if beside else set())

    def open_or_create(self) -> None:
        """Open for writing: make the collection, its payload indexes and the alias where missing.

        Raises:
            FatalError: the alias points at another model's collection, or the collection's vectors differ.
        """
        self._check_alias(alias_target(self._store, self._alias))
        self.create_collection()
        if alias_target(self._store, self._alias) is None:
            self.take_alias()
        self._check_alias(alias_target(self._store, self._alias))

    def open_existing(self) -> None:
        """Open for reading, through the alias.

        Raises:
            ConfigError: there is nothing to read yet.
            FatalError: the alias points at another model's collection.
        """
        target = alias_target(self._store, self._alias)
        if target is None:
            raise ConfigError(
                f"the store at {self._store.target} has no alias {self._alias!r}: index some posts first"
            )
        self._check_alias(target)
        self.open_named()

    def open_named(self) -> None:
        """Open this model's collection for reading, wherever the alias points.

        Raises:
            ConfigError: it holds no points.
            FatalError: there is no such collection, or its vectors differ.
        """
        check_vectors(self._store, self.collection, self._dim)
        if not self._store.call(self._store.client.count, self.collection, exact=True).count:
            raise ConfigError(
                f"the store at {self._store.target} holds no points yet: index some posts first"
            )

    def create_collection(self) -> None:
        """Make this model's collection and payload indexes where missing; the alias stays as it is.

        Raises:
            FatalError: a collection of that name holds other vectors.
        """
        make_collection(self._store, self.collection, self._dim, copies=self._replication_factor)

    def check_served(self) -> None:
        """Look whether the alias still names this collection, or that of the model beside it.

        Raises:
            FatalError: it was moved to another model's.
        """
        self._check_alias(alias_target(self._store, self._alias))

    def take_alias(self) -> None:
        """Point the alias at this model's collection, from wherever it points, in one step."""
        point_alias(self._store, self._alias, self.collection)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _check_alias(self, target: str | None) -> None:
        if target not in self._allowed:
            raise FatalError(
                f"the alias {self._alias!r} of the store at {self._store.target} points at {target!r}, "
                f"filled by another model than this one ({self._model_id}): use that model "
                "or name another --store"
            )
