"""What can be known of a model before anything is paid for: asked once, before the corpus is built."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from splitray.errors import UserError
from splitray.training.family import Packing
from splitray.training.model import family_of, size, spec_of
from splitray.training.probe import PROBED_TOKENS, Probed, declared_positions, probe, probe_folder
from splitray.training.settings import ModelShape, TrainingSettings

_NAMED = 3  # parameters in one message
_OURS = ("llama",)  # tested here against every document alone


def check_model(shape: ModelShape, training: TrainingSettings, vocab: int | None = None) -> int | None:
    """Refuse a model that would not train as the settings say; the rows of its embedding table where it is loaded.

    A model from outside, or of a family of your own, is probed on the CPU: see `splitray.training.probe`.

    Args:
        vocab: token ids of the tokenizer, where it is known.

    Raises:
        UserError: with the field to change.
    """
    if shape.path is None:
        if shape.family_name not in _OURS:
            _check_family(shape, training, vocab or 256)
        return None
    from splitray.training.folder import described

    path = Path(shape.path)
    where = f"model path {path}"
    known = described(path)
    size(shape, vocab or known.table, training)
    probed = _probed(where, lambda: probe_folder(path))
    if known.plain_llama:  # its documents are kept apart by our own attention; its config may still lift the mask
        _check_causal(where, probed)
    else:
        _check(where, probed, training)
        declared = _declared(path)
        if probed.reserved is not None and declared is not None:
            most = declared - probed.reserved
            if training.sequence_length > most:
                raise UserError(
                    f"{where}: training.sequence_length is {training.sequence_length}, and the model has learned "
                    f"positions for {most}; set training.sequence_length to at most {most}"
                )
    return known.table


def _check_family(shape: ModelShape, training: TrainingSettings, vocab: int) -> None:
    where = f"model family {shape.family}"
    family, spec = family_of(shape), spec_of(shape, vocab, training)
    roomy = replace(spec, sequence_length=max(spec.sequence_length, PROBED_TOKENS))
    probed = _probed(where, lambda: probe(family.build(roomy)))
    _check(where, probed, training)
    packing = family.packing(spec)
    if not training.attention_across_documents and packing is not Packing.MASK and packing not in probed.apart:
        raise UserError(f"{where}: documents packed by {packing} do not have the losses that they have alone")


def _probed(where: str, ask: Any) -> Probed:
    try:
        found: Probed = ask()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except Exception as error:  # a model's own code raises whatever it meets
        raise UserError(f"{where}: it does not run on a CPU: {error!r}") from error
    return found


def _check_causal(where: str, probed: Probed) -> None:
    if not probed.causal:
        raise UserError(
            f"{where}: its predictions change with the tokens that come after them, so it would learn to copy the "
            'future. An encoder (BERT, RoBERTa, ...) attends causally with "is_decoder": true in its config.json, an '
            'embedding model without "is_causal": false there; else give a causal language model'
        )


def _check(where: str, probed: Probed, training: TrainingSettings) -> None:
    _check_causal(where, probed)
    if probed.idle:
        first = ", ".join(probed.idle[:_NAMED])
        raise UserError(
            f"{where}: text does not reach {len(probed.idle)} kinds of its weights ({first}, ...), such as an image "
            "encoder or the attention to an encoder; save its language model alone and give that"
        )
    if not training.attention_across_documents and not probed.apart:
        raise UserError(
            f"{where}: it cannot keep packed documents apart; set training.attention_across_documents to true"
        )


def _declared(path: Path) -> int | None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    return declared_positions(config.get_text_config(decoder=True))
