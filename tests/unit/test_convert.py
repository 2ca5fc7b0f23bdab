"""Published state dicts become checkpoint directories; anything else is one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model import checkpoint
from model.entityclip import EntityClip
from model.sources.convert import convert
from tests.unit.test_entityclip import build, texts

_GROUPS = {
    "image_experts": "vision_expert",
    "explanation_experts": "share_expert",
    "text_experts": "text_expert",
}
_HEADS = {
    "image_gate": "weight_attn_vis",
    "text_gate": "weight_attn_txt",
    "pair_gate": "weight_full",
    "itm_head": "itm_head",
}
_PARTS = {
    "out_": "attn.out_proj.",
    "norm1_": "ln_1.",
    "norm2_": "ln_2.",
    "fc_": "mlp.c_fc.",
    "proj_": "mlp.c_proj.",
}


def published_names(model: EntityClip) -> dict[str, Tensor]:
    """Our weights under the published names: the inverse of what is tested."""
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        head, _, rest = name.partition(".")
        if head == "backbone":
            state[rest] = tensor
        elif head in _HEADS:
            state[f"{_HEADS[head]}.{rest}"] = tensor
        else:
            for index, part in enumerate(tensor):
                for ours, theirs in _PARTS.items():
                    if rest.startswith(ours):
                        state[f"{_GROUPS[head]}_{index}.{theirs}{rest.removeprefix(ours)}"] = part
    for head, group in _GROUPS.items():
        experts = getattr(model, head)
        for index in range(experts.count):
            weights = (experts.query_weight, experts.key_weight, experts.value_weight)
            zero = torch.zeros_like(experts.query_bias[index])
            biases = (experts.query_bias[index], zero, experts.value_bias[index])
            state[f"{group}_{index}.attn.in_proj_weight"] = torch.cat([w[index] for w in weights])
            state[f"{group}_{index}.attn.in_proj_bias"] = torch.cat(biases)
    return state


def test_a_published_state_dict_gives_the_same_outputs(tmp_path: Path) -> None:
    model, ids, image = build(attend_padding=True), texts(4), torch.randn(4, 3, 32, 32)
    state = {f"module.{name}": tensor.detach() for name, tensor in published_names(model).items()}
    torch.save({"state_dict": state}, tmp_path / "published.pt")
    convert(tmp_path / "published.pt", tmp_path / "out", experts="212")
    # heads are counted from the width, 64 to a head, which is what the published sizes have
    loaded = checkpoint.load(tmp_path / "out").model
    assert loaded.config.experts.attend_padding
    with torch.no_grad():
        expected, actual = model(image, ids, ids), loaded(image, ids, ids)
    torch.testing.assert_close(actual.image_tokens, expected.image_tokens, atol=1e-5, rtol=0)


def test_another_number_of_experts_is_refused(tmp_path: Path) -> None:
    torch.save(published_names(build(attend_padding=True)), tmp_path / "published.pt")
    with pytest.raises(ValueError, match="the weights hold 212 experts, not 444"):
        convert(tmp_path / "published.pt", tmp_path / "out", "444")


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    state = published_names(build(attend_padding=True))
    del state["visual.conv1.weight"]
    torch.save(state, tmp_path / "published.pt")
    with pytest.raises(ValueError, match=r"visual\.conv1\.weight is missing"):
        convert(tmp_path / "published.pt", tmp_path / "out", "212")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("unpickled",)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps(Malicious(), protocol=2)])
def test_other_files_are_one_line(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"no file of plain tensors") as error:
        convert(tmp_path / "file.pt", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        convert(tmp_path / "none.pt", tmp_path / "out")
