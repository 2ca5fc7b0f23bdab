"""What the commands of `entityclip migrate` work with, opened from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.config import Config
from worker.errors import ConfigError
from worker.media import MediaStore, existing_media
from worker.migrate.collection import Route, find_route
from worker.model_info import ModelInfo, read_model
from worker.observe.logs import configure_logging
from worker.store.client import Store, open_store

if TYPE_CHECKING:
    from worker.migrate.reencode import Reencoder


@contextmanager
def open_route(config: Config, to: str) -> Iterator[tuple[Store, Route, ModelInfo]]:
    """The store, the way from the served collection to that of another model, and that model.

    Args:
        to: its checkpoint.

    Raises:
        ConfigError: no such checkpoint, no store, or nothing in it.
        TransientError: the store is away.
    """
    configure_logging(config.log_level, config.log_format)
    info = read_model(to)
    with open_store(
        config.store, api_key=config.store_api_key, timeout_s=config.store_timeout_s, create=False
    ) as opened:
        yield opened, find_route(opened, config.alias, info.id, info.dim), info


def check_target(route: Route) -> None:
    """Look whether there is a collection to go to.

    Raises:
        ConfigError: there is none.
    """
    if not route.target.exists():
        raise ConfigError(
            f"there is no collection of model {route.target_model} yet: entityclip migrate backfill"
        )


def source_model(config: Config, route: Route) -> ModelInfo:
    """The served model's checkpoint.

    Raises:
        ConfigError: it is neither of the two that the configuration names.
    """
    for name in (config.model, config.next_model):
        if name is not None and (info := read_model(name)).id == route.source_model:
            return info
    raise ConfigError(
        f"the alias names model {route.source_model}, whose checkpoint is neither `model` nor `next_model` "
        "of the configuration: name it there (--config, or ENTITYCLIP_MODEL)"
    )


def open_media(config: Config) -> MediaStore | None:
    """The media store, if there is one."""
    return existing_media(config.media_store) if config.media_store else None


def open_reencoder(config: Config, to: str, media: MediaStore | None) -> Reencoder:
    """The model that is to be served, warm; its points carry what a worker of this configuration gives them.

    Raises:
        ConfigError: there is no such checkpoint, or the device cannot be used.
    """
    from worker.matching import match_rules
    from worker.migrate.reencode import Reencoder
    from worker.serving import load_checkpoint, open_encoder
    from worker.shared_model import share_model

    checkpoint = load_checkpoint(to)
    encoder = open_encoder(checkpoint, config)
    rules = match_rules(config.match, checkpoint.config.matching, checkpoint.model_id)
    head = share_model(checkpoint, encoder, rules) if rules.asks_head else None
    resize_mode = checkpoint.config.preprocess.resize_mode
    return Reencoder(encoder, checkpoint.model_id, resize_mode, media, head=head)
