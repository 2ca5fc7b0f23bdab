"""What a checkpoint says of the data it was trained on."""

from __future__ import annotations

import msgspec

from model.flagnews.bank import BankConfig


class FlagNewsSampling(msgspec.Struct):
    """How samples were drawn.

    Args:
        unseen_fold: the looks that were left out; None for none.
    """

    unseen_fold: int | None


class FlagNewsFacts(msgspec.Struct):
    """The FlagNews that a checkpoint was trained on."""

    bank: BankConfig
    sampling: FlagNewsSampling

    @classmethod
    def of(cls, training: dict[str, object]) -> FlagNewsFacts:
        """Read them from `CheckpointConfig.training`.

        Raises:
            ValueError: the checkpoint was trained on something else.
        """
        try:
            return msgspec.convert(training.get("data"), cls)
        except msgspec.ValidationError as exc:
            raise ValueError(f"the checkpoint was not trained on FlagNews: {exc}") from exc
