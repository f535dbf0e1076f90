"""Vectors of texts on this machine: the mean of a text's token vectors, as WordLlama's table of 256 numbers has them.

The table is read without the package that brings it: a safetensors file of 32,000 x 256 halves beside a tokenizer's
file, both held to their sha256. A thousand texts take a quarter of a second, and nothing leaves the machine.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.base.errors import RequestRefusedError
from llmlab.local.setup import GET_IT, LocalModelError, absence, checked, package_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS = "wordllama-256"
TABLE = ("wordllama", "weights/l2_supercat_256.safetensors")
_TABLE_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
TOKENS = ("wordllama", "tokenizers/l2_supercat_tokenizer_config.json")
_TOKENS_SHA256 = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"
_TOKENIZER_PACKAGE = "tokenizers"


class LocalVectors:
    """An `EmbeddingClient`: 256 numbers a text, free of charge; a text without a known token has zeros."""

    fingerprint = f"local sha256:{_TABLE_SHA256} mean of tokens"

    @property
    def absent(self) -> str:
        """What this machine lacks to make them, with the command that mends it; "" = nothing."""
        return absence(self.require_ready)

    async def embed(self, _model: Any, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in their order.

        Raises:
            LocalModelError: table or tokenizer are not installed, or not those that llmlab names.
        """
        table, zeros = self._table, np.zeros(self._table.shape[1], dtype=np.float32)
        encoded_texts = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        means = (table[ids].mean(axis=0) if (ids := encoded.ids) else zeros for encoded in encoded_texts)
        return [mean.tolist() for mean in means]

    async def complete(self, _request: Any) -> Any:
        """RequestRefusedError: it gives no answers."""
        raise RequestRefusedError(f"local/{VECTORS} makes vectors of texts, no answers: name it under `embedding`")

    def price_usd(self, _model: Any, _usage: Any) -> Decimal:
        """Nothing."""
        return Decimal(0)

    def require_ready(self) -> None:
        """Nothing, where the vectors are here; LocalModelError else."""
        _ = self._table, self._tokenizer

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """Shape (tokens, 256)."""
        content = _content(TABLE, _TABLE_SHA256)
        head = int.from_bytes(content[:8], "little")
        (tensor,) = (value for name, value in json.loads(content[8 : 8 + head]).items() if name != "__metadata__")
        first, last = tensor["data_offsets"]
        numbers = np.frombuffer(content[8 + head + first : 8 + head + last], dtype=np.float16)
        return numbers.reshape(tensor["shape"]).astype(np.float32)

    @cached_property
    def _tokenizer(self) -> Any:
        if importlib.util.find_spec(_TOKENIZER_PACKAGE) is None:
            raise LocalModelError(f"the tokenizer of {VECTORS} is not installed: {GET_IT}")
        tokenizers = importlib.import_module(_TOKENIZER_PACKAGE)
        return tokenizers.Tokenizer.from_str(_content(TOKENS, _TOKENS_SHA256).decode())


def _content(place: tuple[str, str], sha256: str) -> bytes:
    return checked(package_file(*place), sha256, name=VECTORS).read_bytes()
